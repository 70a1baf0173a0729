"""What the registry keeps, as values. Times are microseconds UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from icekeel.core.time import DAY

Json = Mapping[str, Any]
"""Evidence that the registry keeps without reading it: JSON values only; NaN comes back as None."""
GRADES = ("unknown", "minor", "major", "critical")
"""Severities of alerts in a word, see `Alert.grade`."""
AlertState = Literal["open", "acknowledged", "muted", "resolved"]
LONGEST_MUTE = 366 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One trained bundle of a model.

    Attributes:
        name: `<model>-<number>`; numbers of a model count from 1.
        digest: Digest of its bundle, see `bundles`.
        snapshot, code: Digests of the data and of the model's definition that it was made from.
        features: Name of its feature set.
        metrics, ladder: What training measured.
        gates: Each with at least `name` and `passed`.
        trained_from, trained_to: Times of the first and last question it learnt from.
        reason, at, by: Why it was trained, when it was registered, and by whom.
        lineage: What else it was made with: settings, packages, the commit of the project.
        definitions: Feature -> `kind`, `digest` and `expression` of its definition.
    """

    name: str
    model: str
    number: int
    digest: str
    snapshot: str
    code: str
    features: str
    metrics: Json
    gates: list[Json]
    ladder: Json
    trained_from: int
    trained_to: int
    reason: str
    at: int
    by: str = ""
    lineage: Json = field(default_factory=dict)
    definitions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the gates it did not pass; a version that was never checked fails `gates`."""
        if not self.gates:
            return ["gates"]
        return [str(gate.get("name", "unnamed")) for gate in self.gates if not gate.get("passed")]

    @property
    def rung(self) -> str:
        """What was fitted: the ladder's winner, unless another rung was asked for; empty where it is not known."""
        return str(self.metrics.get("rung") or self.ladder.get("winner", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """The version a name stands for at present.

    Attributes:
        share: Share of the traffic, 0 to 1.
        since: When this version took this share.
        salt: Key of the traffic split; the same for as long as the alias keeps its version.
    """

    version: str
    share: float
    since: int
    reason: str
    salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the history of aliases, which is only ever added to.

    Attributes:
        version: What the alias stands for from here on; of a drop, what it stood for.
        override: Why failed gates were passed over; empty where none were.
    """

    model: str
    alias: str
    action: Literal["set", "drop", "rollback"]
    version: str
    share: float
    salt: str
    reason: str
    by: str
    at: int
    evidence: Json
    override: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A promotion, roll-back, block or retrain with its reason."""

    id: str
    at: int
    model: str
    kind: str
    version: str
    reason: str
    evidence: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """One line of an alert's history, which is only ever added to.

    Attributes:
        state: What the alert is from here on: `acknowledged`, `muted`, `open` or `resolved`.
        until: When a mute ends; None for other states.
    """

    alert: str
    state: AlertState
    by: str
    reason: str
    at: int
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One cause with its evidence.

    Attributes:
        cost: Severity in the project's money per day; None where nobody can say.
        todo: The first thing to do.
        resolved_at: None while the alert is open.
        changes: What people and the keeper made of it, oldest first.
    """

    id: str
    at: int
    model: str
    cause: str
    todo: str
    cost: float | None = None
    evidence: Json = field(default_factory=dict)
    resolved_at: int | None = None
    resolution: str = ""
    changes: tuple[AlertChange, ...] = ()

    def state(self, now: int) -> AlertState:
        """What it is at a time: a mute that has ended leaves it open."""
        if self.resolved_at is not None:
            return "resolved"
        last = self.changes[-1] if self.changes else None
        if last is None or (last.state == "muted" and (last.until or 0) <= now):
            return "open"
        return last.state

    @property
    def diagnosis(self) -> str:
        """What kind of cause it is: `bad data`, `shift`, `changed truth`, `capacity` or `code`."""
        return str(self.evidence.get("diagnosis", ""))

    @property
    def title(self) -> str:
        """One line."""
        return str(self.evidence.get("title") or self.cause)

    @property
    def grade(self) -> str:
        """Its severity in a word: dollars a day below 10 are `minor`, from 1,000 on `critical`."""
        if self.cost is None:
            return "unknown"
        return "minor" if self.cost < 10 else "major" if self.cost < 1_000 else "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One line of what was told to whom, which is only ever added to.

    Attributes:
        message: Id of the message, the same at each attempt.
        channel: To whom, with no secret in it.
        event: `opened` or `resolved`.
        status: `begun` before an attempt, `delivered` or `failed` after it, `given up` after the last.
        note: What came of the attempt, in words.
        alerts: Ids of the alerts in the message.
    """

    message: str
    channel: str
    event: str
    status: str
    alerts: list[str]
    at: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a person decided about a flagged answer; a projection of the journal's `Reviewed`.

    Attributes:
        decision: `accepted`: the model's answer stands, and such requests are ordinary until `until`, if another
            person has accepted such a case too. `rejected`: they are not; `answer` is the person's own, or None.
        findings: Code of each finding -> the values of its columns, in their order.
    """

    id: str
    at: int
    prediction: str
    model: str
    decision: str
    by: str
    reason: str
    answer: float | None
    findings: Json
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One piece of scheduled or requested work; `finished_at` None and `running` until it ends."""

    id: str
    kind: str
    started_at: int
    finished_at: int | None
    status: str
    details: Json
