"""The ASGI application: plain routes over the serving room.

POST /v1/predict/{model}     one request, or {"rows": [...]}        scope predict
POST /v1/features/{model}/online       {"rows": [...], "features": [...]}, as of now          scope read
POST /v1/features/{model}/historical   the same, each row with its asked_at: as of then   scope read
POST /v1/events/{table}      {"rows": [...], "delete": [id, ...]}   scope ingest
POST /v1/forget              {"entity": "customer", "value": ..., "reason": ...}   scope admin
POST /v1/outcomes            the same, of answers by prediction_id       scope outcome or ingest
GET  /v1/answers             the newest, by ?model, key, unit, since, until, verdict, before, limit    scope read
GET  /v1/answers/{id}        one answer, whole                   scope read
GET  /v1/explain/{id}        why it is what it is                scope read
GET  /v1/trace/{id}, and the page /trace/{id}    what stands behind it, and what came of it   scope read
POST /v1/clock               {"now": ...}, in a rehearsal only      scope admin
GET  /v1/reviews             flagged requests that wait for a person                        scope review
GET, POST /v1/reviews/{prediction_id}   what a person decided (scope predict), deciding     scope review
GET  /alerts, /alerts/{id}   the pages about alerts              scope read
GET  /experiments            the page that lists experiments
POST /alerts/{id}            a form of that page: acknowledge, mute, resolve              scope review
GET  /v1/status              versions, keeper, problems             scope read
GET  /v1/openapi.json, /metrics and / (the status page)             scope read unless on loopback
GET  /healthz, /readyz                                              open
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from icekeel.app import App
from icekeel.console import experiments_page, status_page, trace_page
from icekeel.core.errors import (
    AuthError,
    Fault,
    IcekeelError,
    RefusedError,
    RequestError,
    first_faults,
    nearest,
    shorten,
)
from icekeel.core.ids import new_id
from icekeel.core.time import parse_time
from icekeel.data.answers import as_dict, wanted
from icekeel.journal import Ticked
from icekeel.operations.accounts.explain import explain
from icekeel.operations.accounts.trace import Trace, trace
from icekeel.registry import all_trials
from icekeel.serving import Accepted, Answer, Draft

from . import reviews
from .admission import Admission, overload
from .alerts import AlertPages, as_page
from .counters import CONTENT_TYPE
from .incoming import SLOWEST_BODY_S, Headers, Receive, Visitors, read_body, request_id, token_of
from .lookups import LookUps
from .openapi import LARGEST_BATCH, LARGEST_HISTORY, openapi
from .problems import Reply, internal, problem
from .service import Service
from .tracing import TRACE, trace_of

POLL_S = 0.2
PAGE = "page"
LOGIN = (b"www-authenticate", b'Basic realm="any name, and a token as the password"')
"""Has a browser ask for a token."""
CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Name of the token of the request that is being answered."""
MOST_SLOW = 2
"""Slow requests at work at a time; beyond, they are shed."""
TOGETHER = 250
"""Rows of a batch that are answered in one go, in some 30 ms; others are answered in between."""
_encode = msgspec.json.Encoder().encode
Scope = Mapping[str, Any]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Handler = Callable[[Any], Reply | Awaitable[Reply]]
Done = TypeVar("Done")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path answers to.

    Attributes:
        kind: Its name in the metrics.
        method: `POST` reads a JSON body and may change something; `GET` answers `HEAD` too.
        scope: That a token needs; empty where none is needed.
        handler: Gives the reply to the decoded body.
        slow: Whether that takes seconds: it then runs in a thread, at most `MOST_SLOW` at a time.
        whole: Whether the handler is given the whole `Call`, not its body alone.
        post: What the same path does with a `POST`, where it answers to `GET`.
    """

    kind: str
    method: str
    scope: str
    handler: Handler
    slow: bool = False
    whole: bool = False
    post: Route | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request as those routes are given it that ask for more than its body.

    Attributes:
        last: The last part of a path that is declared with `*` there; else empty.
        query: The parameters behind the path.
        body: Decoded JSON; None of a `GET`.
    """

    last: str
    query: Mapping[str, str]
    body: Any


class Server:
    """The ASGI application of one serving process.

    Args:
        app: The project.
        worker: Name of this process among the workers of a server; empty where it is alone.
        slowest_body_s: Most seconds a body may take to arrive.
    """

    def __init__(
        self,
        app: App,
        *,
        worker: str = "",
        slowest_body_s: float = SLOWEST_BODY_S,
    ) -> None:
        self.service = Service(app, worker=worker)
        self._alerts = AlertPages(self.service.registry, app.places.state / "forms.key", app.clock)
        self.admission = Admission()
        self._lookups = LookUps(self.service.looking_for)
        self._settings = app.settings
        self._slowest_body_s = slowest_body_s
        self._visitors = Visitors(app.settings.host)
        self.routes = self._make_routes(app)
        self._poller: asyncio.Task[None] | None = None
        self._slow = 0

    def _make_routes(self, app: App) -> Mapping[str, Route]:
        """Every path there is, so that finding one is a lookup."""
        look = "" if self._visitors.local else "read"
        routes = {
            "/v1/outcomes": Route("outcomes", "POST", "outcome|ingest", self._outcomes),
            "/v1/answers": Route("answers", "GET", "read", self._answers, slow=True, whole=True),
            "/v1/answers/*": Route("answers", "GET", "read", self._answer, slow=True, whole=True),
            "/v1/explain/*": Route("explain", "GET", "read", self._explain, slow=True, whole=True),
            "/v1/trace/*": Route("trace", "GET", "read", self._trace, whole=True),
            "/trace/*": Route(PAGE, "GET", "read", self._trace_page, whole=True),
            "/experiments": Route(PAGE, "GET", look, self._experiments, slow=True),
            "/v1/clock": Route("clock", "POST", "admin", self._tick),
            "/v1/forget": Route("forget", "POST", "admin", self._forget, slow=True),
            "/v1/status": Route("status", "GET", "read", self._status),
            "/v1/openapi.json": Route("openapi", "GET", look, self._openapi),
            "/v1/reviews": Route("reviews", "GET", "review", self._reviews, slow=True, whole=True),
            "/v1/reviews/*": Route(
                "review",
                "GET",
                "predict|review",
                lambda call: reviews.decision(self.service.reviews, call.last),
                slow=True,
                whole=True,
                post=Route("review", "POST", "review", self._review, slow=True, whole=True),
            ),
            "/alerts": Route(PAGE, "GET", "read", lambda _: as_page(self._alerts.all()), slow=True),
            "/alerts/*": Route(
                PAGE,
                "GET",
                "read",
                lambda call: as_page(self._alerts.one(call.last, CALLER.get()), form=True),
                slow=True,
                whole=True,
                post=Route(
                    PAGE,
                    "POST",
                    "review",
                    lambda call: self._alerts.decide(call.last, call.body, CALLER.get()),
                    slow=True,
                    whole=True,
                ),
            ),
            "/metrics": Route("metrics", "GET", look, self._metrics),
            "/": Route(PAGE, "GET", look, self._page, slow=True),
            "/healthz": Route("health", "GET", "", lambda _: Reply(200, b'{"status":"alive"}')),
            "/readyz": Route("health", "GET", "", self._ready),
        }
        for model in app.project.models:
            routes[f"/v1/predict/{model}"] = Route("predict", "POST", "predict", _of(self._predict, model))
            features = f"/v1/features/{model}"
            routes[f"{features}/online"] = Route("features", "POST", "read", _of(self._online, model))
            routes[f"{features}/historical"] = Route(
                "history", "POST", "read", _of(self._historical, model), slow=True
            )
        for table in app.project.tables:
            routes[f"/v1/events/{table}"] = Route("events", "POST", "ingest", _of(self._push, table))
        return routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            began = perf_counter()
            headers = dict(scope["headers"])
            trace, told = trace_of(headers)
            TRACE.set(trace)
            route = self.routes.get(scope["path"]) or self.routes.get(_wide(scope["path"]))
            if route is not None and route.post is not None and scope["method"] == "POST":
                route = route.post
            reply = await self._reply(route, scope, headers, receive)
            seconds = perf_counter() - began
            self.service.counters.count(route.kind if route else "unknown", reply.status, seconds)
            await send(
                {
                    "type": "http.response.start",
                    "status": reply.status,
                    "headers": _head(reply, headers, told),
                }
            )
            await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, route: Route | None, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        try:
            method = scope["method"]
            self._visitors.check(headers, changes=method not in ("GET", "HEAD"))
            if route is None:
                raise self._no_route(scope["path"])
            if method != route.method and not (method == "HEAD" and route.method == "GET"):
                return _wrong_method(method, route)
            if route.scope and self._settings.auth:
                given = token_of(headers, page=route.kind == PAGE)
                CALLER.set(self.service.access.check(given, route.scope))
            body = None
            if route.method == "POST":
                largest = self._settings.largest_body
                slowest, form = self._slowest_body_s, route.kind == PAGE
                body = await read_body(headers, receive, largest=largest, slowest_s=slowest, form=form)
                if not route.slow:
                    await self.admission.turn()
            if route.whole:
                body = Call(*_asked(scope), body)
            reply = await self._slowly(route.handler, body) if route.slow else route.handler(body)
            return reply if isinstance(reply, Reply) else await reply
        except IcekeelError as error:
            login = isinstance(error, AuthError) and route is not None and route.kind == PAGE
            return problem(error, *([LOGIN] if login else []))
        except Exception:  # a process boundary: the caller gets a 500, the log the trace
            identifier = new_id(self.service.app.clock())
            log.exception(
                "request_failed", extra={"path": scope["path"], "id": identifier, "trace": TRACE.get()}
            )
            return internal(identifier)

    async def _slowly(self, work: Callable[[Any], Done], given: Any) -> Done:
        """Work in a thread, while the others go on being answered here."""
        if self._slow >= MOST_SLOW:
            raise overload("too many slow requests at once")
        self._slow += 1
        try:
            return await asyncio.to_thread(work, given)
        finally:
            self._slow -= 1

    def _no_route(self, path: str) -> RequestError:
        for prefix, kind in _NAMED.items():
            if path.startswith(prefix):
                rest = (route.removeprefix(prefix) for route in self.routes if route.startswith(prefix))
                known = list(dict.fromkeys(one.partition("/")[0] for one in rest))
                name = path.removeprefix(prefix)
                what = f"no such {kind}"
                return RequestError(
                    Fault(f"unknown_{kind}", what, "", shorten(name), ", ".join(known), nearest(name, known))
                )
        return RequestError(Fault("unknown_path", "no such path", "", shorten(path), ", ".join(self.routes)))

    # Life

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._poller = asyncio.create_task(self._poll())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._poller:
                    self._poller.cancel()
                self.service.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _poll(self) -> None:
        """Follow registry, tokens and keeper: a new version serves within a fraction of a second."""
        while True:
            await asyncio.sleep(POLL_S)
            self.service.follow_files()
            await asyncio.to_thread(self.service.follow_registry)
            self.service.tell_others()

    # What each path answers

    def _predict(self, model: str, body: Any) -> Reply | Awaitable[Reply]:
        answerer = self.service.answerer(model)
        asked_at = None
        if isinstance(body, dict) and "asked_at" in body:
            asked_at = self._time(body, "asked_at")
            body = {name: value for name, value in body.items() if name != "asked_at"}
        if isinstance(body, dict) and isinstance(body.get("rows"), list):
            return self._predict_rows(model, body, asked_at)
        try:
            answer = answerer.answer(body, asked_at=asked_at, trace=TRACE.get())
        except RequestError as error:
            self._note(model, error)
            raise
        self._note(model, answer)
        return Reply(200, _encode(answer))

    async def _predict_rows(self, model: str, body: Mapping[str, Any], asked_at: int | None) -> Reply:
        """Answer a batch, and between its parts whoever else has come."""
        rows = _rows(body, LARGEST_BATCH)
        answerer = self.service.answerer(model)
        drafts: list[Draft] = []
        for start in range(0, len(rows), TOGETHER):
            if start:
                await asyncio.sleep(0)
            drafts += answerer.draft_many(
                rows[start : start + TOGETHER], asked_at=asked_at, trace=TRACE.get()
            )
        answers = answerer.give(drafts)
        for answer in answers:
            self._note(model, answer)
        found = [_faults(answer) if isinstance(answer, RequestError) else answer for answer in answers]
        return Reply(200, _encode({"answers": found}))

    def _online(self, model: str, body: Any) -> Reply:
        rows = _rows(body, LARGEST_BATCH, "features", "asked_at")
        asked_at = self._time(body, "asked_at") if "asked_at" in body else None
        found = self.service.reader(model).read(rows, _features(body), asked_at=asked_at)
        return Reply(
            200, _encode({"rows": [_faults(one) if isinstance(one, RequestError) else one for one in found]})
        )

    def _historical(self, model: str, body: Any) -> Reply:
        rows = _rows(body, LARGEST_HISTORY, "features")
        found = self.service.store.historical_rows(model, rows, _features(body))
        return Reply(200, _encode({"rows": [{"features": features} for features in found]}))

    def _note(self, model: str, answer: Answer | RequestError) -> None:
        if isinstance(answer, Answer):
            self.service.counters.answered(model, answer.version, answer.arm, answer.verdict)
            for reason in answer.degraded:
                self.service.counters.degraded(model, reason.partition(": ")[0])
            if answer.codes:
                self.service.counters.found(model, answer.codes, answer.source)
        elif isinstance(answer, RefusedError):
            self.service.counters.answered(model, "", "", "refused")
            codes = [fault.got for fault in answer.faults if fault.code == "refused"]
            self.service.counters.found(model, codes, "refused")

    def _push(self, table: str, body: Any) -> Reply:
        if not isinstance(body, dict) or not body or not set(body) <= {"rows", "delete"}:
            what = 'expected {"rows": [...]}, {"delete": [id, ...]} or both'
            raise RequestError(Fault("no_rows", what, got=shorten(body)))
        accepted = self.service.intake.push(table, body.get("rows", ()), body.get("delete", ()))
        return self._taken(table, accepted)

    async def _outcomes(self, body: Any) -> Reply:
        """Of answers given a moment ago, or long ago, the keeper has nothing at hand: they are looked for elsewhere."""
        outcomes = self.service.outcomes
        told = outcomes.read(body)
        asked = self.service.asked(told.ids)
        if others := [one for one in told.ids if one not in asked]:
            asked |= await self._lookups.find(others)
        return self._taken("outcomes", outcomes.take(told, asked))

    def _taken(self, table: str, accepted: Accepted) -> Reply:
        aside = [("row", *one) for one in accepted.faults.items()]
        aside += [("delete", *one) for one in accepted.wrong_ids.items()]
        warned = dict(accepted.warned)
        self.service.counters.pushed(
            table, accepted.kept + accepted.deleted, len(aside), sum(warned.values())
        )
        bad = [
            {kind: place, "faults": [fault.as_dict() for fault in faults]} for kind, place, faults in aside
        ]
        told = {"kept": accepted.kept, "deleted": accepted.deleted, "quarantined": bad}
        return Reply(200, _encode({**told, "warned": warned} if warned else told))

    def _answers(self, call: Call) -> Reply:
        found = self.service.app.find_answers(wanted(call.query))
        more = found[-1].id if found else None
        return Reply(200, _encode({"answers": [as_dict(one) for one in found], "before": more}))

    def _answer(self, call: Call) -> Reply:
        return Reply(200, _encode(as_dict(self.service.answers.one(call.last))))

    def _explain(self, call: Call) -> Reply:
        record, app = self.service.answers.one(call.last), self.service.app
        model = app.model(record.model)
        return Reply(200, _encode(explain(record, model, self.service.registry, app.places.bundles)))

    async def _trace(self, call: Call) -> Reply:
        return Reply(200, _encode((await self._traced(call)).as_dict()))

    def _experiments(self, call: Call) -> Reply:
        registry = self.service.registry
        found = [
            one for name in self.service.status()["models"] for one in all_trials(registry.history(name))
        ]
        return as_page(experiments_page(sorted(found, key=lambda one: one.since, reverse=True)))

    async def _trace_page(self, call: Call) -> Reply:
        return as_page(trace_page(await self._traced(call)))

    async def _traced(self, call: Call) -> Trace:
        """The online state is read in the thread that may close it, all else in another."""
        service, app = self.service, self.service.app
        record = await self._slowly(service.answers.one, call.last)
        standing = service.standing(record.position)
        return await self._slowly(
            lambda one: trace(app.workspace, service.registry, one, standing, now=app.clock()), record
        )

    def _reviews(self, call: Call) -> Reply:
        model = call.query.get("model")
        if model is not None:
            self.service.app.model(model)
        return reviews.waiting(self.service.reviews, model)

    def _review(self, call: Call) -> Reply:
        journal = self.service.journal
        return reviews.decide(self.service.reviews, journal, call.last, call.body, by=CALLER.get())

    def _tick(self, body: Any) -> Reply:
        if not isinstance(body, dict) or set(body) != {"now"}:
            raise RequestError(Fault("no_time", 'expected {"now": time}', got=shorten(body)))
        self.service.journal.append(Ticked(at=self._time(body, "now")))
        return Reply(200, b"{}")

    def _forget(self, body: Any) -> Reply:
        names = ("entity", "value", "reason")
        if (
            not isinstance(body, dict)
            or set(body) != set(names)
            or not all(isinstance(one, str) for one in body.values())
        ):
            raise RequestError(Fault("bad_forget", f"expected {', '.join(names)}, each a text"))
        receipt = self.service.app.forget(
            body["entity"], body["value"], by=f"token {CALLER.get()}", reason=body["reason"]
        )
        return Reply(200, _encode({"forgotten": receipt is not None, "receipt": receipt}))

    def _time(self, body: Mapping[str, Any], name: str) -> int:
        """A time that the caller sets, which is for rehearsals only."""
        if not self._settings.rehearsal:
            raise RequestError(Fault("clock_refused", "callers do not set the time", name))
        try:
            return parse_time(body[name])
        except IcekeelError as error:
            fault = error.faults[0]
            raise RequestError(Fault(fault.code, fault.what, name, fault.got, fault.allowed)) from error

    def _status(self, _: Any) -> Reply:
        if self._settings.rehearsal:  # a replay waits here for the version that answers its next day
            self.service.refresh()
        return Reply(200, _encode(self.service.status()))

    def _openapi(self, _: Any) -> Reply:
        project, auth = self.service.app.project, self._settings.auth
        return Reply(200, _encode(openapi(project, auth=auth, local=self._visitors.local)))

    def _metrics(self, _: Any) -> Reply:
        return Reply(200, self.service.metrics(), (), CONTENT_TYPE)

    def _page(self, _: Any) -> Reply:
        service = self.service
        return as_page(status_page(service.status(), service.registry, service.app.places.runs))

    def _ready(self, _: Any) -> Reply:
        return Reply(200, _encode({"status": "ready", "degraded": self.service.ready()}))


_NAMED = {"/v1/predict/": "model", "/v1/features/": "model", "/v1/events/": "table"}
"""What the last part of a path names."""


def _wide(path: str) -> str:
    """The path under which a route for every last part is declared."""
    return path[: path.rfind("/") + 1] + "*"


def _asked(scope: Scope) -> tuple[str, dict[str, str]]:
    """The last part of the path, and the parameters behind it.

    Raises:
        RequestError: `bad_query`, a parameter comes twice or cannot be read.
    """
    try:
        text = scope.get("query_string", b"").decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=50
        )
    except ValueError as error:
        raise RequestError(
            Fault("bad_query", "the parameters cannot be read", got=shorten(str(error)))
        ) from error
    query = dict(pairs)
    if len(query) < len(pairs):
        raise RequestError(Fault("bad_query", "a parameter comes twice", got=shorten(text)))
    return scope["path"].rpartition("/")[2], query


def _of(handler: Callable[[str, Any], Reply | Awaitable[Reply]], name: str) -> Handler:
    return lambda body: handler(name, body)


def _rows(body: Any, most: int, *others: str) -> list[Any]:
    """The rows of a body that may have other members too.

    Raises:
        RequestError: `bad_batch`, and `unknown_field` for each other member.
    """
    rows = body.get("rows") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not 0 < len(rows) <= most:
        got = str(len(rows)) if isinstance(rows, list) else shorten(body)
        raise RequestError(Fault("bad_batch", 'expected {"rows": [...]}', "rows", got, f"1 to {most:,}"))
    allowed = ", ".join(("rows", *others))
    faults = [
        Fault("unknown_field", f"unknown field {shorten(name)}", "", "", allowed)
        for name in body
        if name not in ("rows", *others)
    ]
    if faults:
        raise RequestError(*first_faults(faults, len(faults)))
    return rows


def _features(body: Mapping[str, Any]) -> list[str] | None:
    if "features" not in body:
        return None
    names = body["features"]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise RequestError(Fault("wrong_type", "expected names of features", "features", shorten(names)))


def _faults(error: RequestError) -> dict[str, Any]:
    found: dict[str, Any] = {"faults": [fault.as_dict() for fault in error.faults]}
    return found | {"prediction_id": error.prediction_id} if isinstance(error, RefusedError) else found


def _wrong_method(method: str, route: Route) -> Reply:
    allowed = "GET, HEAD" if route.method == "GET" else route.method
    allowed += ", POST" if route.post is not None else ""
    error = RequestError(
        Fault("wrong_method", "this method is not offered here", "", shorten(method), allowed)
    )
    return problem(error, (b"allow", allowed.encode()))


def _head(reply: Reply, headers: Headers, told: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    head = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
        *told,
    ]
    identifier = request_id(headers)
    if identifier is not None:
        head.append((b"x-request-id", identifier))
    return head
