"""Who may do what: tokens with scopes, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

import msgspec

from icekeel.core.errors import AuthError, Fault, StateError, nearest, shorten
from icekeel.core.files import write_whole

SCOPES = ("predict", "ingest", "outcome", "read", "review", "admin")
"""`admin` includes all others."""


class _Token(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    scopes: list[str]


class Access:
    """The tokens of a project, in one file that only its owner can read; `refresh` follows that file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: list[_Token] = []
        self._stamp = -1
        self.refresh()

    def create(self, name: str, scopes: tuple[str, ...]) -> str:
        """A new token; it is shown this once, only its hash is kept. A token of that name is replaced."""
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown:
            raise AuthError(
                Fault("unknown_scope", "unknown scope", got=unknown[0], allowed=", ".join(SCOPES))
            )
        token = "ik_" + secrets.token_urlsafe(32)
        hashed = hashlib.sha256(token.encode()).hexdigest()
        self._replace(name, [_Token(name, hashed, list(scopes))])
        return token

    def revoke(self, name: str) -> None:
        """Let a token open nothing any more; servers notice within a second.

        Raises:
            AuthError: there is none of that name.
        """
        known = self.named()
        if name not in known:
            fault = Fault(
                "unknown_token", "no such token", "", shorten(name), ", ".join(known), nearest(name, known)
            )
            raise AuthError(fault)
        self._replace(name, [])

    def named(self) -> dict[str, list[str]]:
        """Name of each token -> its scopes."""
        self.refresh()
        return {token.name: token.scopes for token in self._tokens}

    def _replace(self, name: str, by: list[_Token]) -> None:
        self.refresh()
        kept = [known for known in self._tokens if known.name != name] + by
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._path, msgspec.json.encode(kept), private=True)
        self.refresh()

    def check(self, header: str | None, scope: str) -> str:
        """Let a request pass, given its `Authorization` header; gives the name of its token.

        Of `one|other` either scope will do.

        Raises:
            AuthError: `no_token` or `wrong_token` (401), `wrong_scope` (403).
        """
        if not header or not header.startswith("Bearer "):
            hint = "send the header Authorization: Bearer TOKEN; icekeel token makes one"
            raise AuthError(Fault("no_token", "a token is needed", hint=hint))
        given = hashlib.sha256(header[7:].encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, given):
                found = token
        if found is None:
            raise AuthError(Fault("wrong_token", "this token is not known"))
        if not {*scope.split("|"), "admin"} & {*found.scopes}:
            allowed = scope.replace("|", " or ")
            fault = Fault(
                "wrong_scope", f"this token may not {allowed}", "", ", ".join(found.scopes), allowed
            )
            raise AuthError(fault)
        return found.name

    def refresh(self) -> None:
        """Take over what another process wrote.

        Raises:
            StateError: the file is damaged; the tokens known before stay.
        """
        try:
            stamp = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._tokens, self._stamp = [], -1
            return
        if stamp != self._stamp:
            try:
                self._tokens = msgspec.json.decode(self._path.read_bytes(), type=list[_Token])
            except msgspec.MsgspecError as error:
                raise StateError(Fault("bad_tokens", str(error), str(self._path))) from error
            self._stamp = stamp
