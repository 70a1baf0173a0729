"""The pages about alerts, and what people decide on them: forms that prove that they were ours."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from icekeel.console import alert_page, alerts_page
from icekeel.core.errors import Fault, RegistryError, RequestError, shorten
from icekeel.core.time import DAY, HOUR, Clock
from icekeel.registry import Alert, AlertChange, Registry

from .problems import Reply

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; form-action"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_FIELDS = {"token", "action", "reason", "hours"}
_ACTIONS = ("acknowledged", "muted", "resolved")
MOST_HOURS = 24 * 31


def as_page(page: str, *, form: bool = False) -> Reply:
    """A page runs nothing, fetches nothing and stands in no frame, whatever a value in it may hold.

    Args:
        form: Whether it may send its forms, to this server alone; others send nothing.
    """
    sends = "'self'" if form else "'none'"
    policy = f"{_POLICY} {sends}".encode()
    headers = ((b"content-security-policy", policy), *_HEADERS)
    return Reply(200, page.encode(), headers, b"text/html; charset=utf-8")


class AlertPages:
    """The pages, and the forms on them.

    A form carries a token that only the page for this caller and this alert held: HMAC-SHA256 under a key of this
    installation, so that every worker knows it, valid on the day and the day after.

    Args:
        registry: Where alerts are.
        key: File of that key; made where there is none.
        clock: The time.
    """

    def __init__(self, registry: Registry, key: Path, clock: Clock) -> None:
        self._registry = registry
        self._key = key
        self._clock = clock

    def all(self) -> str:
        """The page about all alerts."""
        return alerts_page(self._registry.alerts(), self._clock())

    def one(self, identifier: str, caller: str) -> str:
        """The page about one alert, with a form for this caller.

        Raises:
            RequestError: `unknown_alert`.
        """
        alert, now = self._alert(identifier), self._clock()
        told = [line for line in self._registry.deliveries() if alert.id in line.alerts]
        return alert_page(alert, told, now, token=self._token(alert.id, caller, now // DAY))

    def decide(self, identifier: str, form: Mapping[str, Any], caller: str) -> Reply:
        """Take what a form says, and send the browser back to the page.

        Raises:
            RequestError: `unknown_alert`; `wrong_form_token` (403), the form is not of this page; `bad_form`;
                `already_resolved` (409).
        """
        alert, now = self._alert(identifier), self._clock()
        tokens = [self._token(alert.id, caller, now // DAY - ago) for ago in (0, 1)]
        given = str(form.get("token", ""))
        if not any(hmac.compare_digest(given.encode(), token.encode()) for token in tokens):
            what = "this form is not of the page of this alert, or too old: load the page again"
            raise RequestError(Fault("wrong_form_token", what))
        action, hours = form.get("action"), form.get("hours", "4")
        faults = [Fault("bad_form", "no such field", shorten(name)) for name in form if name not in _FIELDS]
        if action not in _ACTIONS:
            faults.append(Fault("bad_form", "no such action", "action", shorten(action), ", ".join(_ACTIONS)))
        if not (hours.isascii() and hours.isdigit() and len(hours) < 5 and 0 < int(hours) <= MOST_HOURS):
            faults.append(Fault("bad_form", "out of range", "hours", shorten(hours), f"1 to {MOST_HOURS}"))
        if not str(form.get("reason", "")).strip():
            faults.append(Fault("bad_form", "a change needs a reason", "reason"))
        if faults:
            raise RequestError(*faults)
        change = AlertChange(
            alert=alert.id,
            state=action,  # type: ignore[arg-type]  # one of the actions
            by=f"token {caller}" if caller else "browser",
            reason=form["reason"],
            at=now,
            until=now + int(hours) * HOUR if action == "muted" else None,
        )
        try:
            self._registry.change_alert(change)
        except RegistryError as error:
            raise RequestError(*error.faults) from error
        return Reply(303, b"", ((b"location", f"/alerts/{alert.id}".encode()),))

    def _alert(self, identifier: str) -> Alert:
        try:
            return self._registry.alert(identifier)
        except RegistryError as error:
            raise RequestError(Fault("unknown_alert", "no such alert", got=shorten(identifier))) from error

    def _token(self, alert: str, caller: str, day: int) -> str:
        if not self._key.exists():
            with tempfile.NamedTemporaryFile(dir=self._key.parent) as made:  # its owner's alone
                made.write(secrets.token_bytes(32))
                made.flush()
                with suppress(FileExistsError):  # another worker was first
                    os.link(made.name, self._key)
        return hmac.new(self._key.read_bytes(), f"{caller}\n{alert}\n{day}".encode(), "sha256").hexdigest()
