"""The server as a process: it listens, says so, and ends when told to."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from icekeel.app import App
from icekeel.core.errors import Fault, SettingsError

from .connections import BoundedProtocol, hang_up
from .incoming import Visitors
from .server import Server

SWITCH_S = 0.0005
"""Longest that a thread that loads a version or traces an answer keeps the interpreter from the one that answers."""
STOP_S = 5
"""Seconds that requests under way get to finish once the process is told to end."""


def serve(
    app: App,
    *,
    worker: str = "",
    listening: socket.socket | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are finished, the journal is synced.

    Args:
        app: The project.
        worker: Name of this process among the workers of a server, as `RUN.NUMBER`; empty where it is alone.
        listening: Where to accept connections; by default the settings' address.
        ready: Told the port once the server listens.

    Raises:
        SettingsError: others could reach a server that asks nobody for a token.
        IcekeelError: the registry, the journal or the tokens cannot be opened.
    """
    if not app.settings.auth and not Visitors(app.settings.host).local:
        what, hint = "a server that others reach asks for tokens", "auth = true, or host = 127.0.0.1"
        raise SettingsError(Fault("open_to_all", what, "auth", "false", hint=hint))
    application = Server(app, worker=worker)
    config = uvicorn.Config(
        application,
        host=app.settings.host,
        port=app.settings.port,
        http=partial(  # type: ignore[arg-type]  # which uvicorn calls like the class
            BoundedProtocol, full=application.admission.full, shed=application.service.counters.shed
        ),
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
        date_header=False,
    )
    server = _Process(config, ready)
    server.run(None if listening is None else [listening])


class _Process(uvicorn.Server):
    """A server that says on which port it listens, and for which a signal to end is no failure."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # what is loaded stays: looking through it again and again takes a quarter of a batch's time
        if self.started and self._ready:
            self._ready((sockets or self.servers[0].sockets)[0].getsockname()[1])

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Stop listening, and let go of what was kept out of the collections: else DuckDB reports leaks at the end."""
        await super().shutdown(sockets)
        gc.unfreeze()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; a second is soon enough for callers who are too slow."""
        if counter % 10 == 0:
            hang_up(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at once if told twice: what the journal has been given is with the operating system already."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn does, but a signal that ended the server is not raised again: the process exits with 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
