"""Errors as HTTP: one shape, RFC 9457, with every fault."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec

from icekeel.core.errors import AuthError, Fault, IcekeelError, RefusedError, RequestError

_STATUS = {
    "not_json": 400,
    "too_deep": 400,
    "duplicate_key": 400,
    "disconnected": 400,
    "wrong_scope": 403,
    "wrong_origin": 403,
    "wrong_form_token": 403,
    "already_resolved": 409,
    "unknown_model": 404,
    "unknown_table": 404,
    "unknown_prediction": 404,
    "unknown_alert": 404,
    "unknown_path": 404,
    "no_case": 404,
    "wrong_method": 405,
    "too_slow": 408,
    "too_large": 413,
    "wrong_content": 415,
    "wrong_host": 421,
    "overload": 503,
    "internal": 500,
}
"""Status by code; other faults of the caller are 422, faults of the server's own state 503."""


class Reply(msgspec.Struct, frozen=True):
    """Status, body and further headers of an HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


def problem(error: IcekeelError, *headers: tuple[bytes, bytes]) -> Reply:
    """An error as a problem document; 401, 408 and 503 say what a client does next.

    A fault of the server's own state says neither where nor what was found: those are paths and texts of the system,
    which the log and `GET /v1/status` have.
    """
    own = not isinstance(error, RequestError)
    otherwise = 401 if isinstance(error, AuthError) else 503 if own else 422
    status = HTTPStatus(_STATUS.get(error.code, otherwise))
    faults = [replace(fault, where="", got="") if own else fault for fault in error.faults]
    document: dict[str, Any] = {
        "type": f"urn:icekeel:{error.code}",
        "title": status.phrase,
        "status": status.value,
        "detail": faults[0].what if faults else "",
        "faults": [fault.as_dict() for fault in faults],
    }
    if isinstance(error, RefusedError):
        document["prediction_id"] = error.prediction_id
    further = {
        401: ((b"www-authenticate", b"Bearer"),),
        408: ((b"connection", b"close"),),
        503: ((b"retry-after", b"1"),),
    }
    body = msgspec.json.encode(document)
    return Reply(status.value, body, (*further.get(status.value, ()), *headers), b"application/problem+json")


def internal(identifier: str) -> Reply:
    """An error that nobody foresaw; its trace is in the log under `identifier`."""
    return problem(RequestError(Fault("internal", f"an internal error; the log has it under {identifier}")))
