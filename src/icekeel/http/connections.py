"""Connections whose callers cannot make the server hold or do more than it wants to.

Heads of requests have a size and a time, answers a time until they are taken; uvicorn bounds none of these. Bodies are
bounded where they are read (`incoming`), idle connections by uvicorn itself. What is too much is refused here, as soon
as its head has been read, which costs a fifth of an answer, nearly all of it system calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .admission import overload
from .incoming import request_id
from .problems import problem

LARGEST_HEAD = 32_768
"""Bytes of a request line and its headers."""
MOST_CONNECTIONS = 900
"""Of one process, which may have 1,024 files open where nobody has said otherwise; who comes beside so many is told
that it is too much, and hung up on."""
SLOWEST_HEAD_S = 10.0
"""Seconds from the opening of a connection, or from the first byte of a later request, to the end of its headers."""
SLOWEST_READER_S = 10.0
"""Seconds in which a caller must take some of an answer that is larger than what the sockets hold."""


def _overloaded() -> tuple[bytes, bytes]:
    """Head, without its end, and body of the answer to who comes when there is too much; the same for all of them."""
    reply = problem(overload())
    lines = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    return b"HTTP/1.1 503 Service Unavailable\r\n" + b"".join(
        b"%s: %s\r\n" % line for line in lines
    ), reply.body


_SHED_HEAD, _SHED_BODY = _overloaded()


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one connection; a head that is too large or too slow ends it with 431 or 408.

    Args:
        full: Whether no more work is taken on now.
        shed: Told of each request that is refused therefore.
    """

    began_s = 0.0
    stalled_s = 0.0
    _read, _end = 0, b""
    _body = False
    _shed = False

    def __init__(
        self, *arguments: Any, full: Callable[[], bool], shed: Callable[[], None], **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._full, self._note = full, shed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from now on."""
        super().connection_made(transport)
        self.began_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has become too large."""
        if not self._body:
            there = self._end + data  # the empty line may come in two parts
            end = there.find(b"\r\n\r\n")
            self._read += (len(there) if end < 0 else end) - len(self._end)
            self._end = there[-3:]
            if self._read > LARGEST_HEAD:
                self.refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.began_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """It is whole: have it answered, or refuse it where it asks for work and there is too much of it."""
        self.began_s, self._read, self._end, self._body = 0.0, 0, b"", True
        idle = self.cycle is None or self.cycle.response_complete
        asks = self.parser.get_method() == b"POST" and not self.expect_100_continue
        if idle and (self._crowded() or (asks and self._full())):
            self._shed = True
            return
        super().on_headers_complete()

    def _crowded(self) -> bool:
        """Whether there are too many connections. Not uvicorn's count, which takes ended tasks for running ones."""
        return len(self.connections) > MOST_CONNECTIONS

    def on_body(self, body: bytes) -> None:
        """Some of a body; that of a refused request is read over, since the next request is behind it."""
        if not self._shed:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request; one that was refused is told now."""
        self._body = False
        if not self._shed:
            super().on_message_complete()
            return
        self._shed = False
        self._note()
        identifier = request_id(dict(self.headers))
        lines = b"" if identifier is None else b"x-request-id: %s\r\n" % identifier
        keep_alive = self.parser.should_keep_alive() and not self._crowded()
        if not keep_alive:
            lines += b"connection: close\r\n"
        self.transport.write(b"%s%s\r\n%s" % (_SHED_HEAD, lines, _SHED_BODY))
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def pause_writing(self) -> None:
        """The caller does not take what it asked for."""
        super().pause_writing()
        self.stalled_s = self.loop.time()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self.stalled_s = 0.0

    def refuse(self, status: bytes) -> None:
        """Say why, and hang up."""
        self.began_s = 0.0
        self.transport.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()


def hang_up(connections: Iterable[object], now_s: float) -> None:
    """End the connections whose callers are too slow; `now_s` is the time of their loop."""
    for one in list(connections):
        if isinstance(one, BoundedProtocol):
            if 0 < one.began_s < now_s - SLOWEST_HEAD_S:
                one.refuse(b"408 Request Timeout")
            elif 0 < one.stalled_s < now_s - SLOWEST_READER_S:
                one.transport.abort()
