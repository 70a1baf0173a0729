"""Errors as HTTP: one shape, RFC 9457, with every fault."""

from __future__ import annotations

import msgspec

from icekeel.core.errors import (
    AuthError,
    Fault,
    IcekeelError,
    JournalError,
    OverloadError,
    RequestError,
    StateError,
)

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    500: "Internal error",
    503: "Service unavailable",
}
_NOT_FOUND = ("unknown_model", "unknown_table", "unknown_path", "unknown_prediction", "unknown_version")


class Reply(msgspec.Struct, frozen=True):
    """Status, body and further headers of an HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


def status_of(error: IcekeelError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, AuthError):
        return 403 if error.code == "wrong_scope" else 401
    if isinstance(error, OverloadError | StateError | JournalError):
        return 503
    if error.code in _NOT_FOUND:
        return 404
    if error.code == "too_large":
        return 413
    if error.code in ("not_json", "not_an_object"):
        return 400
    return 422 if isinstance(error, RequestError) else 500


def problem(error: IcekeelError, status: int | None = None) -> Reply:
    """An error as a problem document."""
    status = status or status_of(error)
    document = {
        "type": f"urn:icekeel:{error.code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": error.faults[0].what if error.faults else "",
        "faults": [fault.as_dict() for fault in error.faults],
    }
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status == 401:
        headers = ((b"www-authenticate", b"Bearer"),)
    if status == 503:
        headers = ((b"retry-after", b"1"),)
    return Reply(status, msgspec.json.encode(document), headers, b"application/problem+json")


def failure(code: str, what: str, status: int, hint: str = "") -> Reply:
    """A problem that no exception stands for."""
    return problem(RequestError(Fault(code, what, hint=hint)), status)
