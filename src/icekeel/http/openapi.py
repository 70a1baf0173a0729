"""The OpenAPI document, made of the project's definitions: what may be sent, within which limits, by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from icekeel.core.kinds import Kind
from icekeel.data.answers import MOST, Wanted
from icekeel.data.contracts import LONGEST_ID, LONGEST_TEXT
from icekeel.data.vault import Receipt
from icekeel.define import EventTable, Model, Project
from icekeel.define.fields import Field
from icekeel.journal import Predicted
from icekeel.operations.accounts.explain import Explanation
from icekeel.operations.upkeep.forgetting import entities
from icekeel.serving import SCOPES, Answer, OnlineFeatures
from icekeel.serving.intake import LARGEST_PUSH

LARGEST_BATCH = 1_000
"""Most requests in one body."""
LARGEST_HISTORY = 10_000
"""Most questions of the past in one body."""
Json = dict[str, Any]
_SCHEMAS: Mapping[Kind, Json] = {
    Kind.NUM: {"type": "number"},
    Kind.FLAG: {"type": "boolean"},
    Kind.TIME: {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]},
    Kind.ID: {"type": "string", "minLength": 1, "maxLength": LONGEST_ID},
    Kind.CAT: {"type": "string", "maxLength": LONGEST_TEXT},
    Kind.TEXT: {"type": "string", "maxLength": LONGEST_TEXT},
}
_EXAMPLES: Mapping[Kind, Any] = {Kind.FLAG: True, Kind.TIME: "2024-01-31T12:00:00Z"}


def openapi(project: Project, *, auth: bool, local: bool = True) -> Json:
    """The document, of OpenAPI 3.1.

    Args:
        project: Whose models and tables are served.
        auth: Whether requests need a token.
        local: Whether pages are open to all, since only this machine can ask.
    """
    paths: Json = {}
    for model in project.models.values():
        paths[f"/v1/predict/{model.name}"] = {"post": _predict(model, auth)}
        paths[f"/v1/features/{model.name}/online"] = {"post": _online(model, auth)}
        paths[f"/v1/features/{model.name}/historical"] = {"post": _historical(model, auth)}
    for table in project.tables.values():
        paths[f"/v1/events/{table.name}"] = {"post": _push(table, auth)}
    paths["/v1/outcomes"] = {"post": _outcomes(project, auth)}
    paths |= _looked_up("read" if auth else "")
    clock = _object({"now": _SCHEMAS[Kind.TIME]})
    paths["/v1/clock"] = {
        "post": _operation("Move the clock; in a rehearsal only.", "admin" if auth else "", clock, {})
    }
    paths["/v1/forget"] = {"post": _forget(project, auth)}
    paths |= _reviews(auth)
    paths |= _alerts(auth)
    for path, (summary, kind, answer) in _PAGES.items():
        closed = path == "/v1/status" or not (local or path in ("/healthz", "/readyz"))
        scope = "read" if auth and closed else ""
        paths[path] = {"get": _operation(summary, scope, None, answer, kind)}
    for path, operations in paths.items():
        _complete(path, operations)
    kinds = [Answer, Explanation, OnlineFeatures, Receipt]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Icekeel: {project.folder.name}",
            "version": "1",
            "description": "Answers of models, features, and the events they are made of. Every fault is told at "
            "once, as a problem document (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Predicted": _predicted(), "Problem": _PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": ", ".join(SCOPES)}
            },
        },
    }


_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_LIST: Json = {"type": "array", "items": _TEXT}


def _object(properties: Json, required: Iterable[str] | None = None) -> Json:
    """A closed object; all of its members are required unless it is said which."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


_ROLES = {name: {"type": ["string", "null"]} for name in ("champion", "challenger")}
_SERVING = _object(
    {**_ROLES, "problems": {"type": "object", "additionalProperties": _TEXT}, "workers": _TEXT}
)
_WORKER = _object({"pid": _COUNT, "serving": {"type": "object", "additionalProperties": _TEXT}})
_KEEPER = {name: {"type": "integer"} for name in ("now", "seen", "known_until", "pushed", "serial")}
_STATUS = _object(
    {
        "now": {"type": "integer"},
        "models": {"type": "object", "additionalProperties": _SERVING},
        "workers": {"type": "array", "items": _WORKER},
        "keeper": _object(_KEEPER),
        "problems": _LIST,
    }
)
_READY = _object({"status": {"const": "ready"}, "degraded": _LIST})
_JSON = "application/json"
_PAGES: Mapping[str, tuple[str, str, Json]] = {
    "/v1/status": ("What serves, how far the keeper is, what is wrong and why.", _JSON, _STATUS),
    "/v1/openapi.json": ("This document.", _JSON, {"type": "object"}),
    "/metrics": ("Counters in Prometheus' text format.", "text/plain", _TEXT),
    "/": ("The status page.", "text/html", _TEXT),
    "/experiments": ("The page that lists experiments.", "text/html", _TEXT),
    "/healthz": ("Whether the process answers.", _JSON, _object({"status": {"const": "alive"}})),
    "/readyz": ("Whether every model can be answered for, and what is degraded.", _JSON, _READY),
}
_FAULT = _object(
    dict.fromkeys(("code", "what", "where", "got", "allowed", "hint", "policy"), _TEXT), ["code", "what"]
)
_FAULTS: Json = {"type": "array", "items": _FAULT}
_PROBLEM = {
    **_object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": _COUNT,
            "detail": _TEXT,
            "faults": _FAULTS,
            "prediction_id": _TEXT,
        },
        ["type", "title", "status", "detail", "faults"],
    ),
    "examples": [
        {
            "type": "urn:icekeel:out_of_range",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": "out of range",
            "faults": [{"code": "out_of_range", "what": "out of range", "where": "weight", "got": "51"}],
        }
    ],
}
_ALWAYS = (421, 500)
_WITH_BODY = (400, 403, 408, 413, 415, 422, 503)
_WITH_TOKEN = (401, 403)
_MEANS: Mapping[int, str] = {
    400: "The body is no JSON.",
    401: "A token is needed, or this one is not known.",
    403: "The token may not do this, or another site sent the browser here.",
    404: "There is none of this name.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is of another kind than JSON.",
    421: "The server has another name.",
    422: "Every fault of what was sent.",
    500: "An internal error; the log has it.",
    503: "Nothing can be answered now; try again later.",
}


def _predict(model: Model, auth: bool) -> Json:
    one = _record(model.request.icekeel_fields.values())
    batch = _object(
        {"rows": {"type": "array", "items": one, "minItems": 1, "maxItems": LARGEST_BATCH}}, ["rows"]
    )
    answer = {"$ref": "#/components/schemas/Answer"}
    failed = _object({"faults": _FAULTS, "prediction_id": _TEXT}, ["faults"])
    answers = _object({"answers": {"type": "array", "items": {"oneOf": [answer, failed]}}})
    return _operation(
        f"An answer of {model.name}, or one for each row.",
        "predict" if auth else "",
        {"oneOf": [one, batch], "examples": one["examples"]},
        {"oneOf": [answer, answers]},
    )


def _forget(project: Project, auth: bool) -> Json:
    named = sorted(entities(project))
    text = {"type": "string", "minLength": 1}
    body = _object(
        {"entity": {**text, **({"enum": named} if named else {})}, "value": text, "reason": text},
        ["entity", "value", "reason"],
    )
    receipt = {"oneOf": [{"$ref": "#/components/schemas/Receipt"}, {"type": "null"}]}
    done = _object({"forgotten": {"type": "boolean"}, "receipt": receipt}, ["forgotten", "receipt"])
    return _operation("Forget whom a private value names.", "admin" if auth else "", body, done)


def _online(model: Model, auth: bool) -> Json:
    row = _record(model.request.icekeel_fields.values())
    found = {"oneOf": [{"$ref": "#/components/schemas/OnlineFeatures"}, _object({"faults": _FAULTS})]}
    summary = f"Features of {model.name} as of now; a row need hold only the fields that they read."
    return _features(summary, auth, {**row, "required": []}, found, LARGEST_BATCH)


def _historical(model: Model, auth: bool) -> Json:
    asked_at = Field("asked_at", Kind.TIME)
    row = _record([*model.request.icekeel_fields.values(), asked_at])
    found = _object({"features": {"type": "object"}})
    summary = f"Features of {model.name} as they were known when each row was asked; takes seconds."
    return _features(summary, auth, {**row, "required": ["asked_at"]}, found, LARGEST_HISTORY)


def _features(summary: str, auth: bool, row: Json, found: Json, most: int) -> Json:
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
    body = _object({"rows": rows, "features": names}, ["rows"])
    answer = _object({"rows": {"type": "array", "items": found}})
    body["examples"] = [{"rows": row["examples"]}]
    return _operation(summary, "read" if auth else "", body, answer)


def _push(table: EventTable, auth: bool) -> Json:
    # Where rows are pushed, their availability is the moment they are: it is stamped, not sent.
    stamped = table.available if table.available != table.time else ""
    row = _record(field for field in table.fields.values() if field.name != stamped)
    identifier = _field(table.fields[table.id])
    sent = _object(
        {
            "rows": {"type": "array", "items": row, "maxItems": LARGEST_PUSH},
            "delete": {"type": "array", "items": identifier, "maxItems": LARGEST_PUSH},
        },
        [],
    )
    kept = _taken()
    summary = f"Take rows of {table.name} and delete by id; what breaks its contract is set aside."
    sent |= {"minProperties": 1, "examples": [{"rows": row["examples"]}]}
    return _operation(summary, "ingest" if auth else "", sent, kept)


def _predicted() -> Json:
    """An answer by the names of its fields: in the journal it is an array."""
    schema = msgspec.json.schema(Predicted)["$defs"]["Predicted"]
    _, *types = schema["prefixItems"]
    names = list(Predicted.__struct_fields__)
    return _object(dict(zip(names, types, strict=True)), names)


def _taken() -> Json:
    """What became of rows that were pushed."""
    bad = _object({"row": _COUNT, "delete": _COUNT, "faults": _FAULTS}, ["faults"])
    taken = {**dict.fromkeys(("kept", "deleted"), _COUNT), "quarantined": {"type": "array", "items": bad}}
    return _object({**taken, "warned": {"type": "object", "additionalProperties": _COUNT}}, taken)


def _outcomes(project: Project, auth: bool) -> Json:
    """Rows of any outcome's table, with an answer's id in place of the key, or beside it."""
    tables = {model.outcome.keyed.table for model in project.models.values()}
    fields = {
        field.name: _field(field) for name in sorted(tables) for field in project.tables[name].fields.values()
    }
    identifier = {"prediction_id": {"type": "string"}}
    row = {**_object({**identifier, **fields}, []), "minProperties": 1}
    rows = {"type": "array", "items": row, "maxItems": LARGEST_PUSH}
    sent = _object({"rows": rows, "delete": rows, "model": {"enum": list(project.models)}}, [])
    summary = "Take what came of answers; told again it changes nothing, told otherwise it is a correction."
    return _operation(summary, "outcome|ingest" if auth else "", {**sent, "minProperties": 1}, _taken())


def _looked_up(scope: str) -> Json:
    """What is asked for by an answer's id, and the list of answers."""
    answer = {"$ref": "#/components/schemas/Predicted"}
    kinds = {"since": _SCHEMAS[Kind.TIME], "until": _SCHEMAS[Kind.TIME], "limit": _LIMIT}
    query = [
        {"name": name, "in": "query", "schema": kinds.get(name, {"type": "string"})}
        for name in Wanted.__dataclass_fields__
    ]
    page = _object(
        {"answers": {"type": "array", "items": answer}, "before": {"type": ["string", "null"]}}, ["answers"]
    )
    page["properties"]["before"]["description"] = "The last id of this page: `before` of the next one."
    found = _operation("Answers, the newest first.", scope, None, page)
    paths: Json = {"/v1/answers": {"get": {**found, "parameters": query}}}
    identifier = {"name": "prediction_id", "in": "path", "required": True, "schema": {"type": "string"}}
    why = "Why an answer is what it is; it tells of other customers' cases."
    explanation = {"$ref": "#/components/schemas/Explanation"}
    behind = "What stands behind an answer, and what came of it."
    for path, summary, given, kind in (
        ("/v1/answers", "One answer, whole.", answer, "application/json"),
        ("/v1/trace", behind, {"type": "object"}, "application/json"),
        ("/v1/explain", why, explanation, "application/json"),
        ("/trace", "The same as a page.", {}, "text/html"),
    ):
        operation = _operation(summary, scope, None, given, kind)
        paths[f"{path}/{{prediction_id}}"] = {"get": {**operation, "parameters": [identifier]}}
    return paths


_LIMIT = {"type": "integer", "minimum": 1, "maximum": MOST}


def _reviews(auth: bool) -> Json:
    text, number = {"type": "string", "minLength": 1}, {"type": ["number", "null"]}
    found = {"prediction_id": text, "status": {"enum": ["waiting", "accepted", "rejected"]}, "answer": number}
    outcome, case = _object(found, list(found)), {"type": "object", "required": list(found)}
    body = {"decision": {"enum": ["accepted", "rejected"]}, "reason": text, "answer": number}
    body |= {} if auth else {"by": text}
    needed = ["decision", "reason"] if auth else ["decision", "reason", "by"]
    one = {"name": "prediction_id", "in": "path", "required": True, "schema": {"type": "string"}}
    model = {"name": "model", "in": "query", "schema": {"type": "string"}}
    look, judge = ("predict|review", "review") if auth else ("", "")
    waiting = _object(
        {"waiting": {"type": "array", "items": case}, "more": {"type": "integer"}}, ["waiting", "more"]
    )
    listed = _operation("Flagged requests that wait for a person.", judge, None, waiting)
    asked = _operation("What a person decided about a flagged request.", look, None, outcome)
    decided = _operation("Accept the model's answer, or reject it.", judge, _object(body, needed), case)
    return {
        "/v1/reviews": {"get": {**listed, "parameters": [model]}},
        "/v1/reviews/{prediction_id}": {"parameters": [one], "get": asked, "post": decided},
    }


def _alerts(auth: bool) -> Json:
    """The pages about alerts; what is decided comes as a form of the page."""
    look, judge, kind = ("read", "review", "text/html") if auth else ("", "", "text/html")
    one = {"name": "alert", "in": "path", "required": True, "schema": {"type": "string"}}
    decided = _operation("Take the form of that page, and lead back to it.", judge, None, {}, kind)
    decided["responses"] = {"303": {"description": "Done."}}
    form = _object(
        dict.fromkeys(("token", "action", "reason", "hours"), _TEXT), ["token", "action", "reason"]
    )
    content = {"application/x-www-form-urlencoded": {"schema": form}}
    return {
        "/alerts": {"get": _operation("The page about all alerts.", look, None, {}, kind)},
        "/alerts/{alert}": {
            "parameters": [one],
            "get": _operation("The page about one alert.", look, None, {}, kind),
            "post": {**decided, "requestBody": {"required": True, "content": content}},
        },
    }


def _operation(summary: str, scope: str, body: Json | None, answer: Json, kind: str = _JSON) -> Json:
    """What a path does with a method; which problems it has, `_complete` adds."""
    operation: Json = {
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": {kind: {"schema": answer}}}},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    if scope:
        operation["security"] = [{"token": [one]} for one in scope.split("|")]
    return operation


def _complete(path: str, operations: Json) -> None:
    """Give each operation of a path a name and every status that it may answer with."""
    named = "{" in path or path == "/v1/outcomes"  # whose body names a model
    for method, operation in operations.items():
        if method == "parameters":
            continue
        operation["operationId"] = f"{method} {path}"
        statuses = {*_ALWAYS, *(_WITH_TOKEN if "security" in operation else ())}
        statuses |= {*_WITH_BODY} if "requestBody" in operation else set() if path == "/healthz" else {503}
        asked = [one["name"] for one in operation.get("parameters", ())]
        statuses |= {404, 422} if named or "model" in asked else {422} if asked else set()
        problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for status in sorted(statuses):
            operation["responses"][str(status)] = {"description": _MEANS[status], "content": problem}


def _record(fields: Iterable[Field]) -> Json:
    """Declared fields as a closed object with one example."""
    listed = list(fields)
    required = [field.name for field in listed if not field.limits.optional]
    schema = _object({field.name: _field(field) for field in listed}, required)
    return {**schema, "examples": [{field.name: _example(field) for field in listed}]}


def _field(field: Field) -> Json:
    schema, limits = dict(_SCHEMAS[field.kind]), field.limits
    for name, limit in (("minimum", limits.low), ("maximum", limits.high)):
        if limit is not None:
            schema[name] = limit
    if limits.allowed is not None:
        schema["enum"] = list(limits.allowed)
    for name, limit in (("minLength", limits.shortest), ("maxLength", limits.longest)):
        if limit is not None:
            schema[name] = limit
    if limits.pattern is not None:
        schema["pattern"] = f"^({limits.pattern.removeprefix('^').removesuffix('$')})$"
    return {"oneOf": [schema, {"type": "null"}]} if limits.optional else schema


def _example(field: Field) -> Any:
    limits = field.limits
    if limits.allowed:
        return limits.allowed[0]
    if field.kind is Kind.NUM:
        return next((limit for limit in (limits.low, limits.high) if limit is not None), 1.0)
    return _EXAMPLES.get(field.kind, "a")
