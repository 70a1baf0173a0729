"""Connections whose callers cannot make the server hold more than it wants to: heads of requests have a size and a time.

uvicorn bounds neither. Bodies are bounded where they are read (`incoming`), idle connections by uvicorn itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 32_768
"""Bytes of a request line and its headers, and what comes with their last ones."""
SLOWEST_HEAD_S = 10.0
"""Seconds from the opening of a connection, or from the first byte of a later request, to the end of its headers."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one connection; a head that is too large or too slow ends it with 431 or 408."""

    began_s = 0.0
    _read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from now on."""
        super().connection_made(transport)
        self.began_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has become too large."""
        if self.began_s:
            if self._read > LARGEST_HEAD:  # before these, which may hold the end of the head and the body
                self.refuse(b"431 Request Header Fields Too Large")
                return
            self._read += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.began_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """It is whole."""
        self.began_s, self._read = 0.0, 0
        super().on_headers_complete()

    def refuse(self, status: bytes) -> None:
        """Say why, and hang up."""
        self.began_s = 0.0
        self.transport.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()


def hang_up(connections: Iterable[object], now_s: float) -> None:
    """End the connections whose callers are too slow; `now_s` is the time of their loop."""
    for one in list(connections):
        if isinstance(one, BoundedProtocol) and 0 < one.began_s < now_s - SLOWEST_HEAD_S:
            one.refuse(b"408 Request Timeout")
