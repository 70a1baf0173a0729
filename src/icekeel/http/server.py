"""The server process: one plain ASGI application over the serving room.

POST /v1/predict/{model}     one request, or {"rows": [...]}        scope predict
POST /v1/events/{table}      {"rows": [...]}                        scope ingest
POST /v1/clock               {"now": ...}, in a rehearsal only      scope admin
GET  /v1/status              versions, keeper, alerts, decisions    scope read
GET  /                       the status page
GET  /metrics, /healthz, /readyz
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import uvicorn

from icekeel.app import App
from icekeel.console.status import status_page
from icekeel.core.errors import Fault, IcekeelError, JournalError, RequestError, StateError, shorten
from icekeel.core.time import parse_time
from icekeel.journal import Ticked

from .counters import Counters
from .problems import Reply, failure, problem

POLL_S = 0.2
LARGEST_BATCH = 1_000
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
log = logging.getLogger(__name__)


class Server:
    """The ASGI application of one serving process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._registry = app.registry()
        self._journal = app.journal("serve")
        self._online = app.online(readonly=True)
        self._answerers = app.answerers(self._registry, self._journal, self._online)
        self._intake = app.intake(self._journal)
        self._access = app.access()
        self._counters = Counters()
        self._poller: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Finish what was begun; the journal is synced."""
        self._journal.close()
        self._online.close()
        self._registry.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        try:
            if path.startswith("/v1/"):
                reply = await self._api(path, scope, receive)
            else:
                reply = self._page(path, scope["method"])
        except IcekeelError as error:
            reply = problem(error)
        except Exception:  # a process boundary: the caller gets a 500, the log the trace
            log.exception("request_failed", extra={"path": path})
            reply = failure("internal", "an internal error; it is in the server's log", 500)
        self._counters.count(path, reply.status)
        headers = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": [*headers, *reply.headers]}
        )
        await send({"type": "http.response.body", "body": reply.body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._poller = asyncio.create_task(self._poll())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._poller:
                    self._poller.cancel()
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _poll(self) -> None:
        """Follow the registry: a new version serves within a fraction of a second."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                self.refresh()
            except Exception:  # a process boundary: what serves goes on serving
                log.exception("refresh_failed")

    def refresh(self) -> None:
        """Take over what the registry says now."""
        for answerer in self._answerers.values():
            if answerer.router.refresh():
                self._counters.swapped(answerer.model.name)

    async def _api(self, path: str, scope: Scope, receive: Receive) -> Reply:
        method = scope["method"]
        headers = dict(scope["headers"])
        parts = path.split("/")[2:]
        if parts[0] == "predict" and len(parts) == 2:
            self._allow(method, "POST", headers, "predict")
            return self._predict(parts[1], await self._json(headers, receive))
        if parts[0] == "events" and len(parts) == 2:
            self._allow(method, "POST", headers, "ingest")
            return self._push(parts[1], await self._json(headers, receive))
        if parts == ["clock"]:
            self._allow(method, "POST", headers, "admin")
            return self._tick(await self._json(headers, receive))
        if parts == ["status"]:
            self._allow(method, "GET", headers, "read")
            return Reply(200, _encode(self.status()))
        raise RequestError(Fault("unknown_path", f"no such path {shorten(path)}"))

    def _allow(self, method: str, needed: str, headers: Mapping[bytes, bytes], scope: str) -> None:
        if method != needed:
            raise RequestError(Fault("wrong_method", f"{method} is not offered here", allowed=needed))
        if self._app.settings.auth:
            given = headers.get(b"authorization")
            self._access.check(None if given is None else given.decode("latin-1"), scope)

    async def _json(self, headers: Mapping[bytes, bytes], receive: Receive) -> Any:
        largest = self._app.settings.largest_body
        too_large = RequestError(Fault("too_large", "the body is too large", allowed=f"{largest:,} bytes"))
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > largest:
            raise too_large
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(Fault("disconnected", "the caller went away"))
            body += message.get("body", b"")
            if len(body) > largest:
                raise too_large
            if not message.get("more_body"):
                break
        try:
            return _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(Fault("not_json", f"the body is no JSON: {error}")) from error

    def _predict(self, model: str, body: Any) -> Reply:
        answerer = self._answerers.get(model)
        if answerer is None:
            self._app_model(model)
            raise StateError(Fault("no_model", "this model is not served"))
        asked_at = None
        if isinstance(body, dict) and "asked_at" in body:
            if not self._app.settings.rehearsal:
                raise RequestError(Fault("clock_refused", "callers do not set the time", "asked_at"))
            asked_at = parse_time(body.pop("asked_at"))
        if isinstance(body, dict) and isinstance(body.get("rows"), list):
            rows = body["rows"]
            if not 0 < len(rows) <= LARGEST_BATCH:
                raise RequestError(
                    Fault("bad_batch", "expected rows", "rows", str(len(rows)), f"1 to {LARGEST_BATCH}")
                )
            return Reply(200, _encode({"answers": [_one(answerer.answer, row, asked_at) for row in rows]}))
        answer = answerer.answer(body, asked_at=asked_at)
        self._counters.answered(model, answer.version, answer.arm, answer.verdict)
        return Reply(200, _encode(answer))

    def _app_model(self, model: str) -> None:
        try:
            self._app.model(model)
        except IcekeelError as error:
            raise RequestError(*error.faults) from error

    def _push(self, table: str, body: Any) -> Reply:
        if not isinstance(body, dict) or set(body) != {"rows"}:
            raise RequestError(Fault("no_rows", 'expected {"rows": [...]}', got=shorten(body)))
        accepted = self._intake.push(table, body["rows"])
        self._counters.pushed(table, accepted.kept, len(accepted.faults))
        rows = [
            {"row": place, "faults": [fault.as_dict() for fault in faults]}
            for place, faults in accepted.faults.items()
        ]
        return Reply(200, _encode({"kept": accepted.kept, "quarantined": rows}))

    def _tick(self, body: Any) -> Reply:
        if not self._app.settings.rehearsal:
            raise RequestError(Fault("clock_refused", "callers do not set the time", "now"))
        if not isinstance(body, dict) or "now" not in body:
            raise RequestError(Fault("no_time", 'expected {"now": time}'))
        self._journal.append(Ticked(at=parse_time(body["now"])))
        return Reply(200, b"{}")

    def status(self) -> dict[str, Any]:
        """What serves, how far the keeper is, what is wrong."""
        self.refresh()
        models = {}
        for name, answerer in self._answerers.items():
            routing = answerer.router.current
            state = answerer.state()
            models[name] = {
                "champion": routing.champion.name if routing.champion else None,
                "challenger": routing.challenger.name if routing.challenger else None,
                "problems": dict(routing.problems or {}),
            }
        return {
            "models": models,
            "keeper": {
                "now": state.now,
                "known_until": state.known_until,
                "pushed": state.pushed,
                "serial": state.serial,
            },
        }

    def _page(self, path: str, method: str) -> Reply:
        if method not in ("GET", "HEAD"):
            return failure("wrong_method", f"{method} is not offered here", 405)
        if path == "/":
            return Reply(
                200, status_page(self.status(), self._registry).encode(), (), b"text/html; charset=utf-8"
            )
        if path == "/metrics":
            return Reply(
                200, self._counters.text(self.status()), (), b"text/plain; version=0.0.4; charset=utf-8"
            )
        if path == "/healthz":
            return Reply(200, b'{"status": "alive"}')
        if path == "/readyz":
            return self._ready()
        return failure("unknown_path", f"no such path {shorten(path)}", 404)

    def _ready(self) -> Reply:
        missing = [
            name for name, answerer in self._answerers.items() if answerer.router.current.champion is None
        ]
        try:
            self._journal.check()
        except JournalError as error:
            return problem(error)
        if missing:
            return failure("not_ready", f"no version serves {', '.join(missing)}", 503)
        return Reply(200, b'{"status": "ready"}')


def _one(answer: Callable[..., Any], row: Any, asked_at: int | None) -> Any:
    """One row of a batch: its answer, or its faults."""
    try:
        return answer(row, asked_at=asked_at)
    except RequestError as error:
        return {"faults": [fault.as_dict() for fault in error.faults]}


def serve(app: App, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are finished.

    Args:
        ready: Told the port once the server listens.
    """
    config = uvicorn.Config(
        Server(app),
        host=app.settings.host,
        port=app.settings.port,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        server_header=False,
        date_header=False,
    )
    server = _Announced(config, ready)
    server.run()


class _Announced(uvicorn.Server):
    """A server that says on which port it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        if self.started and self._ready:
            self._ready(self.servers[0].sockets[0].getsockname()[1])
