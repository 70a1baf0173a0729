"""Every error that Icekeel raises on purpose.

    IcekeelError
    ├── ProjectError   (ValueError)    the project file says something that cannot hold
    ├── SettingsError  (ValueError)    icekeel.toml, an environment variable or a flag
    ├── ContractError  (ValueError)    rows that break their contract and may not be set aside
    ├── RequestError   (ValueError)    what a caller sent (HTTP 4xx)
    │   ├── AuthError                  no token, a wrong one, or one without the scope (401, 403)
    │   ├── RefusedError               the guard keeps the answer back (422)
    │   └── OverloadError              the server sheds load (503)
    ├── SourceError    (ValueError)    a file or table that cannot be read as declared
    ├── TrainingError  (ValueError)    data that no model can be trained on
    ├── BundleError    (ValueError)    a bundle that is missing, damaged or of another format
    ├── RegistryError  (LookupError)   a version, alias or decision that does not exist or may not be
    ├── JournalError   (OSError)       the journal cannot be written or read
    └── StateError     (RuntimeError)  stored state that is missing, locked or of another format

An error carries `Fault`s, all that were found at once, so that the command line, HTTP and the console
render the same fields.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and how to mend it.

    Attributes:
        code: Stable name of the kind of fault, for programs: `unknown_field`.
        what: What is wrong, in a few words: `expected a duration`.
        where: Path to the place: `Features.origin_delay.last`, `rows[3].price`.
        got: The offending value as text, shortened.
        allowed: What would have been accepted.
        hint: The nearest match or the next command.
        policy: Of a row's fault, what becomes of the row where it is not set aside: `warn` (it is kept) or `block`.
    """

    code: str
    what: str
    where: str = ""
    got: str = ""
    allowed: str = ""
    hint: str = ""
    policy: str = ""

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" @ {self.where}"
        if self.got:
            text += f", got {self.got}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def at(self, where: str) -> Fault:
        """The same fault at another place."""
        return replace(self, where=where)

    def inside(self, place: str) -> Fault:
        """The same fault as part of a larger place: `Features.load: Orders.where`."""
        return self.at(f"{place}: {self.where}" if self.where else place)

    def as_dict(self) -> dict[str, str]:
        """The fields that are not empty, for JSON."""
        return {name: value for name, value in asdict(self).items() if value}


class IcekeelError(Exception):
    """Base of all errors; `faults` holds every fault that was found."""

    def __init__(self, *faults: Fault | str) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            fault if isinstance(fault, Fault) else Fault(code="error", what=fault) for fault in faults
        )
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @property
    def code(self) -> str:
        """Code of the first fault."""
        return self.faults[0].code if self.faults else "error"


class ProjectError(IcekeelError, ValueError):
    """The project file says something that cannot hold."""


class SettingsError(IcekeelError, ValueError):
    """A setting is unknown or out of range."""


class ContractError(IcekeelError, ValueError):
    """Rows break their contract and the policy does not allow setting them aside."""


class RequestError(IcekeelError, ValueError):
    """What a caller sent cannot be answered (HTTP 4xx)."""


class AuthError(RequestError):
    """No token, a wrong one, or one without the scope that is needed."""


class RefusedError(RequestError):
    """An answer is kept back, by the guard or for stale features; `prediction_id` is that of what the journal holds."""

    def __init__(self, prediction_id: str, *faults: Fault | str) -> None:
        super().__init__(*faults)
        self.prediction_id = prediction_id


class OverloadError(RequestError):
    """The server is at its limit and sheds this request (HTTP 503)."""


class SourceError(IcekeelError, ValueError):
    """A file or table cannot be read as declared."""


class TrainingError(IcekeelError, ValueError):
    """No model can be trained on these data."""


class BundleError(IcekeelError, ValueError):
    """A bundle is missing, damaged or of another format."""


class RegistryError(IcekeelError, LookupError):
    """A version, alias or decision does not exist or may not be."""


class JournalError(IcekeelError, OSError):
    """The journal cannot be written or read."""


class StateError(IcekeelError, RuntimeError):
    """Stored state is missing, locked or of another format."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """A hint that names the candidate nearest to `word`, or an empty string.

    >>> nearest("pric", ["price", "won"])
    'did you mean "price"?'
    """
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else ""


def without_path(address: str) -> str:
    """The kind and the host of an address, all else being secret in many; six letters tell it from others alike."""
    kind, _, rest = address.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    host = re.match(r"[\w.-]+", place) if kind in ("http", "https") else None
    short = hashlib.sha256(address.encode()).hexdigest()[:6]
    return f"{kind}://{host[0] if host else ''}... ({short})"


def without_passwords(text: str) -> str:
    """The text, with what stands before the `@` of addresses hidden."""
    return re.sub(r"//(?:[^/:@\s]*:[^@\s]*|[^/@\s]*)@", "//(secret)@", text)  # a password may hold a slash


def first_faults(faults: Iterable[Fault], total: int, most: int = 50) -> list[Fault]:
    """The first `most` of `total` faults, and one that counts the others; those are never made."""
    named = list(islice(faults, most))
    return named if total <= most else [*named, Fault("more_faults", f"and {total - most:,} more")]


def shorten(value: object, limit: int = 60) -> str:
    """`repr(value)` cut to `limit` characters, for the `got` of a fault."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number too long to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"
