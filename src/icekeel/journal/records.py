"""The kinds of record and their encoding.

A record is a msgpack array `[tag, at, ...]`: field names are not repeated in each record, and its kind is
known from the first bytes. So the format stays compatible in both directions under one rule: **a field is
only ever added at the end, with a default, and never removed, moved or given another type**. An older
reader ignores fields it does not know and skips kinds it does not know.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

Value = float | int | str | bool | None
"""A value of a field or a feature; times are integer microseconds UTC."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What every record has.

    Attributes:
        at: When it happened, microseconds UTC: of a push when it was committed, of a prediction `asked_at`.
    """

    at: int


class Pushed(Entry, frozen=True, tag="pushed"):
    """Rows of an event table that passed their contract; `at` is the time they became available."""

    table: str
    rows: list[dict[str, Value]]
    source: str = ""


class Ingested(Entry, frozen=True, tag="ingested"):
    """Rows taken in bulk: `rows` of them, in a Parquet `file` named by its content, `sha256`."""

    table: str
    file: str
    sha256: str
    rows: int


class QuarantinedRow(msgspec.Struct, frozen=True, array_like=True):
    """A row set aside as it came (any JSON), and every fault that was found in it."""

    row: dict[str, Any]
    faults: list[str]


class Quarantined(Entry, frozen=True, tag="quarantined"):
    """Rows that broke the contract of their table."""

    table: str
    rows: list[QuarantinedRow]


class Predicted(Entry, frozen=True, tag="predicted"):
    """One answer, with all that is needed to walk back to its causes and on to its outcome.

    Attributes:
        share: Probability of that arm that was in force.
        unit: What was assigned: the value of the rollout's unit.
        key: Joins the outcome.
        prediction: What the model said; `low` and `high` bound its interval where there is one.
        answer: What the caller got, after the postprocessors.
        position: Serial of the projection that the features were read at.
        degraded: What was missing or replaced.
        cpu_us: Processor time of the request in microseconds.
        served_at: The machine's time when it was answered, microseconds UTC; `at` may be a rehearsal's.
        definitions: Digest of the definitions of `features`.
        codes: The guard's findings as callers may see them, beside `reasons` for operators.
        source: What gave the answer: `model`, or the fall-back that stood in for it.
        trace: Trace id of the caller's W3C trace context, or its request id; empty where it sent none.
        phase: Stretch of the experiment in which the unit was exposed, `share` being the probability of its arm; empty
            where it took no part, `forced` where the project names its arm.
    """

    id: str
    model: str
    version: str
    arm: str
    share: float
    unit: str
    key: str
    request: dict[str, Value]
    features: dict[str, Value]
    prediction: float
    answer: float
    low: float | None
    high: float | None
    action: str
    verdict: str
    reasons: list[str]
    position: int
    degraded: list[str]
    cpu_us: int
    served_at: int
    definitions: str = ""
    codes: list[str] = []
    source: str = "model"
    trace: str = ""
    phase: str = ""


class Decided(Entry, frozen=True, tag="decided"):
    """A promotion, roll-back, block, registration, retrain or start of an experiment, and why."""

    id: str
    model: str
    kind: str
    version: str
    reason: str
    evidence: dict[str, Any]


class Alerted(Entry, frozen=True, tag="alerted"):
    """One cause for concern with its evidence."""

    id: str
    model: str
    cause: str
    severity: str
    title: str
    evidence: dict[str, Any]


class Reviewed(Entry, frozen=True, tag="reviewed"):
    """What a person decided about a request that the guard had flagged.

    Attributes:
        prediction: Id of the answer.
        decision: `accepted`: the model's answer stands, and such requests are ordinary until `until` if another person
            accepted such a case too; `rejected`: they are not.
        answer: What the person answers in the model's place, where it was rejected; None where nothing is answered.
        findings: Code of each finding -> the values of its columns, in their order.
        until: When what is taught expires, microseconds UTC.
    """

    id: str
    prediction: str
    model: str
    decision: str
    answer: float | None
    findings: dict[str, list[Value]]
    until: int
    by: str
    reason: str


class Forgotten(Entry, frozen=True, tag="forgotten"):
    """An entity that was forgotten, by the pseudonym that now stands for nobody.

    Attributes:
        id: Of the receipt.
        entity: What kind of entity it was: `customer`.
        pseudonym: What stands in all records for its private value.
    """

    id: str
    entity: str
    pseudonym: str
    by: str
    reason: str


class Ticked(Entry, frozen=True, tag="ticked"):
    """The clock of a rehearsal moved to `at`."""


class Refused(Entry, frozen=True, tag="refused"):
    """Requests that were asked together and refused for faults of their own: nothing of them is kept but what was wrong.

    Attributes:
        asked: How many there were.
        faults: Code of a fault and the declared field that has it, `missing_field distance`, or the code alone -> how
            many requests had it.
    """

    model: str
    asked: int
    faults: dict[str, int]


Record = (
    Pushed | Ingested | Quarantined | Predicted | Decided | Alerted | Reviewed | Forgotten | Ticked | Refused
)
KINDS: tuple[type[Entry], ...] = get_args(Record)

encode = msgspec.msgpack.Encoder().encode
"""The bytes of a record."""

decode = msgspec.msgpack.Decoder(Record).decode
"""The record in bytes whose tag is known; `msgspec.DecodeError` if they hold something else."""


def tag_of(payload: bytes) -> bytes:
    """The tag of an encoded record without decoding it; of other bytes, something that is no known tag.

    Follows the msgpack specification: an array's header has 1 byte below 16 elements and 3 below 65,536;
    a text shorter than 32 bytes has a header of 1 byte, whose low 5 bits are its length.
    """
    start = 4 if payload[:1] == b"\xdc" else 2
    return payload[start : start + (payload[start - 1] & 0x1F)] if len(payload) >= start else b""


def kind_name(kind: type[Entry]) -> str:
    """The name of a kind of record."""
    return str(kind.__struct_config__.tag)


def tags_of(kinds: tuple[type[Entry], ...]) -> frozenset[bytes]:
    """The tags of these kinds of record."""
    return frozenset(kind_name(kind).encode() for kind in kinds)
