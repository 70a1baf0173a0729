from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.http import Server
from icekeel.journal import Record, scan
from icekeel.settings import Settings
from icekeel.testing.small import TRAINED_TO, keep_up, train_small, write_small_project

NOW = TRAINED_TO + 30_000_000
EVERYTHING = ("predict", "ingest", "read", "admin")


@dataclass(frozen=True)
class Got:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        return [fault["code"] for fault in self.json["faults"]]


@dataclass(eq=False)
class Client:
    """Calls an ASGI application as a server would, without one."""

    server: Server
    token: str
    folder: Path

    def call(
        self, method: str, path: str, body: Any = None, *, chunks: list[bytes] | None = None, **headers: str
    ) -> Got:
        """Send `body`, as JSON unless it is bytes; headers by name, `_` for `-`."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {"host": "127.0.0.1:8000", "authorization": f"Bearer {self.token}"}
        given |= {"content-type": "application/json"} if raw else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        parts = [raw] if chunks is None else chunks
        return asyncio.run(_call(self.server, method, path, given, parts))

    def predict(self, body: Any) -> Got:
        return self.call("POST", "/v1/predict/late", body)

    def journaled(self, kind: type[Record]) -> list[Any]:
        found = scan(self.folder / ".icekeel" / "journal")
        return [record for record in found if isinstance(record, kind)]


async def _call(server: Server, method: str, path: str, headers: dict[str, str], parts: list[bytes]) -> Got:
    sent: list[Any] = []
    waiting = list(parts)

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()  # nothing more comes
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or part == b"..."}

    async def send(message: Any) -> None:
        sent.append(message)

    listed = [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value]
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": listed,
    }
    await server(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], head, sent[1]["body"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained small project whose windows are up to date; to be copied, not to be written to."""
    folder = tmp_path_factory.mktemp("small")
    write_small_project(folder)
    train_small(folder)
    app = App(folder, clock=lambda: NOW)
    keep_up(app)
    return folder


@pytest.fixture
def start(trained: Path, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Opens a server over a copy of the project; settings as keywords."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    opened: list[Server] = []

    def make(prepare: Callable[[Path], None] = lambda folder: None, **settings: Any) -> Client:
        prepare(folder)
        app = App(folder, Settings(**settings), clock=lambda: NOW)
        token = app.access().create("test", EVERYTHING)
        opened.append(Server(app, slowest_body_s=0.05))
        return Client(opened[-1], token, folder)

    yield make
    for server in opened:
        server.service.close()


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()
