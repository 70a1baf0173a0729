"""To whom alerts are told: signed webhooks, and every service that Apprise knows (Slack, Teams, e-mail, SMS, ...)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from icekeel.core.errors import without_path

TIMEOUT_S = 10.0
"""Most seconds that a webhook may keep silent."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_USER = re.compile(r"(?<=://)[^/?#]*(?=@)")
"""Name and password of an address."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: a title and text for people, facts for programs, and an id that stays the same when told again."""

    id: str
    title: str
    body: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """One address of the setting `notify`.

    Attributes:
        address: As it is declared; `${NAME}` stands for a variable of the environment.
        key: With which webhooks are signed.
    """

    address: str = field(repr=False)
    key: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The address without its secrets."""
        return without_path(self.address)

    def send(self, message: Message) -> str:
        """Tell; gives what went wrong in words without secrets, empty where nothing did."""
        missing = [name for name in _VARIABLE.findall(self.address) if name not in os.environ]
        if missing:
            return f"not set in the environment: {', '.join(missing)}"
        if not self.address.startswith(("http://", "https://")):
            return _apprise(_filled(self.address), message)
        address = _USER.sub(lambda found: _filled(found[0], quoted=True), self.address, count=1)
        return _post(_filled(address), self.key, message)


def channels(setting: str, key: str) -> list[Channel]:
    """The channels of the setting `notify`, which parts addresses by white space."""
    return [Channel(address, key) for address in setting.split()]


def _filled(text: str, *, quoted: bool = False) -> str:
    """The text with the variables it names; `quoted`, so that a slash or an `@` in one parts no address."""
    return _VARIABLE.sub(
        lambda found: quote(os.environ[found[1]], safe="") if quoted else os.environ[found[1]], text
    )


def signature(key: str, timestamp: str, body: bytes) -> str:
    """What the header `Icekeel-Signature` holds: HMAC-SHA256 (RFC 2104) of `timestamp.body`, in hexadecimal digits."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _post(address: str, key: str, message: Message) -> str:
    """Send JSON to a webhook; nothing is followed or resolved beyond the address itself."""
    if not key:
        return "webhooks are signed: set ICEKEEL_NOTIFY_KEY in the environment"
    parts = urlsplit(address)
    body = msgspec.json.encode({"id": message.id, **message.facts, "text": message.body})
    stamp = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "user-agent": "icekeel",
        "idempotency-key": message.id,
        "icekeel-timestamp": stamp,
        "icekeel-signature": signature(key, stamp, body),
    }
    if "@" in parts.netloc:  # RFC 7617; a variable may hold both, and a name holds no colon
        user = unquote(parts.netloc.rpartition("@")[0])
        user += "" if ":" in user else ":"
        headers["authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
        return "" if 200 <= status < 300 else f"HTTP status {status}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "strerror", None) or type(error).__name__)
    finally:
        connection.close()


def _apprise(address: str, message: Message) -> str:
    # Loaded where it is used: it knows a hundred services, and only the child that tells needs it.
    import apprise

    asset = apprise.AppriseAsset(app_id="Icekeel", app_desc="", app_url="", async_mode=False)
    service = apprise.Apprise(asset=asset)
    if not service.add(address):
        return "Apprise does not know this kind of address, or a part of it is missing"
    told = service.notify(title=message.title, body=f"{message.body}\n\n[{message.id}]")
    return "" if told else "the service did not take it"
