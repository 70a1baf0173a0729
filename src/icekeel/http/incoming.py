"""What comes in: whether it may, and the JSON it carries. Everything here costs a few microseconds a request."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from icekeel.core.errors import Fault, RequestError, first_faults, shorten

Headers = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
SLOWEST_BODY_S = 10.0
DEEPEST = 64
"""Levels of objects and arrays in a body; a batch of requests has three."""
FORM = b"application/x-www-form-urlencoded"
_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
_decode = msgspec.json.Decoder().decode


class Visitors:
    """Refuses callers who reach this server by another name, and browsers sent here by another site.

    A page of another site cannot send JSON here: its `Origin` is not ours. Nor can it point a name of its own
    at this machine (DNS rebinding): its `Host` is neither a loopback name nor the configured one.

    Args:
        host: The configured address. One that means every address allows any name, since callers then know
            the machine by names that it cannot know itself; tokens protect it.
    """

    def __init__(self, host: str) -> None:
        self.local = host in LOOPBACK or host == "::1"
        names = {*LOOPBACK, host.lower(), f"[{host.lower()}]"}
        self._names = None if host in EVERYWHERE else frozenset(name.encode() for name in names)

    def check(self, headers: Headers, *, changes: bool) -> None:
        """Let a request pass.

        Args:
            headers: Of the request, names in lower case.
            changes: Whether it may change something.

        Raises:
            RequestError: `wrong_host` (421), `wrong_origin` (403).
        """
        host = headers.get(b"host", b"")
        if self._names is not None and _name_of(host) not in self._names:
            allowed = ", ".join(sorted(name.decode() for name in self._names))
            raise RequestError(
                Fault("wrong_host", "this server has another name", "Host", shorten(_text(host)), allowed)
            )
        origin = headers.get(b"origin")
        if changes and origin is not None and urlsplit(origin).netloc != host:
            what = "a page of another site may not change anything here"
            raise RequestError(Fault("wrong_origin", what, "Origin", shorten(_text(origin)), _text(host)))


def _name_of(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()


def _text(header: bytes) -> str:
    return header.decode("latin-1")


def token_of(headers: Headers, *, page: bool) -> str | None:
    """The caller's `Authorization` header; of a page's Basic one, which browsers can send, its password as a token.

    Nothing but pages takes that: browsers send it by themselves, also where another site made them ask.
    """
    given = headers.get(b"authorization")
    if page and given is not None and given[:6].lower() == b"basic ":
        try:
            return "Bearer " + b64decode(given[6:], validate=True).partition(b":")[2].decode("latin-1")
        except ValueError:
            return None
    return None if given is None else given.decode("latin-1")


def request_id(headers: Headers) -> bytes | None:
    """The caller's `X-Request-Id`, if it is one that may be repeated."""
    given = headers.get(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


async def read_body(
    headers: Headers, receive: Receive, *, largest: int, slowest_s: float, form: bool = False
) -> Any:
    """The decoded body of a request: JSON, or what a page's form holds.

    Args:
        headers: Of the request, names in lower case.
        receive: Of ASGI.
        largest: Most bytes that are read.
        slowest_s: Most seconds until the whole body is there.
        form: Read what a browser sends of a form, as text by name.

    Raises:
        RequestError: `wrong_content` (415), `too_large` (413), `too_slow` (408), `not_json` (400: malformed, not
            UTF-8, a number that JSON or a double does not have), `too_deep` (400), `duplicate_key` (400).
    """
    expected = FORM if form else b"application/json"
    kind = headers.get(b"content-type", expected)
    if kind != expected and kind.partition(b";")[0].strip().lower() != expected:
        what, allowed = f"expected {'a form' if form else 'JSON'}", _text(expected)
        raise RequestError(Fault("wrong_content", what, "Content-Type", shorten(_text(kind)), allowed))
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RequestError(Fault("wrong_content", "encoded bodies are not read", "Content-Encoding"))
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > largest:
        raise _too_large(largest)
    try:
        async with asyncio.timeout(slowest_s):
            body = await _read(receive, largest)
    except TimeoutError as error:
        raise RequestError(
            Fault("too_slow", "the body did not arrive in time", allowed=f"{slowest_s:g} s")
        ) from error
    return parse_form(body) if form else parse_json(body)


def parse_form(body: bytes) -> dict[str, str]:
    """What a form holds, each name once.

    Raises:
        RequestError: `bad_form`.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError as error:
        raise RequestError(Fault("bad_form", "the form cannot be read", got=shorten(str(error)))) from error
    if len(dict(pairs)) < len(pairs):
        raise RequestError(Fault("bad_form", "a name comes twice"))
    return dict(pairs)


async def _read(receive: Receive, largest: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(Fault("disconnected", "the caller went away"))
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
            raise _too_large(largest)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(largest: int) -> RequestError:
    return RequestError(Fault("too_large", "the body is too large", allowed=f"{largest:,} bytes"))


def parse_json(body: bytes) -> Any:
    """The value of a JSON text, where no object names a member twice.

    Raises:
        RequestError: `not_json`, `too_deep`, `duplicate_key`.
    """
    try:
        value = _decode(body)
        if body.count(b"{") + body.count(b"[") > DEEPEST:
            _check_depth(value)
        # A member has a colon of its own. Where there are more colons they are in texts, in deeper objects or in
        # members that came twice, and only a slower parser tells.
        if body.count(b":") != _members(value):
            json.loads(body, object_pairs_hook=_unique)
    except RequestError:  # which is a ValueError as well
        raise
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise RequestError(Fault("not_json", f"the body is no JSON: {error}")) from error
    return value


def _check_depth(value: Any) -> None:
    """Refuse a value of too many levels, one level at a time, so that no depth exhausts the stack."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> RequestError:
    return RequestError(Fault("too_deep", "the body is nested too deep", allowed=f"{DEEPEST} levels"))


def _members(value: Any) -> int:
    """Members of an object, with those of the rows in it where it is a batch."""
    if not isinstance(value, dict):
        return 0
    rows = value.get("rows")
    inner = sum(len(row) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else 0
    return len(value) + inner


def _unique(pairs: list[tuple[str, Any]]) -> None:
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        twice = sorted(name for name, count in counts.items() if count > 1)
        faults = (Fault("duplicate_key", "named twice", shorten(name)) for name in twice)
        raise RequestError(*first_faults(faults, len(twice)))
