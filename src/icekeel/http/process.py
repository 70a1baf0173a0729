"""The server as a process: it listens, says so, and ends when told to."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from icekeel.app import App
from icekeel.core.errors import Fault, SettingsError

from .connections import BoundedProtocol, hang_up
from .incoming import Visitors
from .server import Server

STOP_S = 5
"""Seconds that requests under way get to finish once the process is told to end."""
MOST_CONNECTIONS = 1_000


def serve(app: App, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are finished, the journal is synced.

    Args:
        app: The project.
        ready: Told the port once the server listens.

    Raises:
        SettingsError: others could reach a server that asks nobody for a token.
        IcekeelError: the registry, the journal or the tokens cannot be opened.
    """
    if not app.settings.auth and not Visitors(app.settings.host).local:
        what, hint = "a server that others reach asks for tokens", "auth = true, or host = 127.0.0.1"
        raise SettingsError(Fault("open_to_all", what, "auth", "false", hint=hint))
    application = Server(app)
    config = uvicorn.Config(
        application,
        host=app.settings.host,
        port=app.settings.port,
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
        date_header=False,
    )
    server = _Process(config, ready)
    application.waiting = lambda: len(server.server_state.tasks)
    server.run()


class _Process(uvicorn.Server):
    """A server that says on which port it listens, and for which a signal to end is no failure."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        if self.started and self._ready:
            self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; a second is soon enough for callers who are too slow."""
        if counter % 10 == 0:
            hang_up(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

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
