"""What a version's monitors hold for usual, learnt from the past at its training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from icekeel.compile import quote
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind
from icekeel.core.time import DAY
from icekeel.data import AVAILABLE, History, Manifest
from icekeel.data.quarantine import QUARANTINE
from icekeel.data.relations import connect, fetch, parquet
from icekeel.define import EventTable
from icekeel.monitoring import (
    HEARTBEATS,
    MINUTES,
    PROFILE_DAYS,
    Baseline,
    Cells,
    Monitored,
    Stream,
    cells_of,
    declared,
    learn,
    learn_heartbeat,
    learn_rate,
    log_bar,
)
from icekeel.training.dataset import Learnable
from icekeel.training.problem import Problem, TrainingSet

from .streams import ANSWERS, INTAKE, OUTCOMES, REFUSED, REQUESTS, Streams

MOST_ROWS = 100_000
"""Latest rows of each stream that are learnt from."""
MOST_SEGMENTS, VALUES = 24, 4
LEAST_ROWS, LEAST_PART = 200, 0.02
"""Rows and share of a segment that is watched by itself."""
RARE = 0.002
"""Share that is ordinary of what the past does not tell: answers asked twice, degraded, or slow."""


def learn_baseline(
    streams: Streams,
    data: Learnable,
    known: Ints,
    rows: TrainingSet,
    said: Floats,
    metrics: Mapping[str, Any],
    history: History,
    manifest: Manifest,
) -> Baseline:
    """Everything that is watched of a version.

    Args:
        streams: What there is to watch of its model.
        data: Past questions.
        known: Places of those with an outcome; `rows` are these, `said` what the backtest predicted for each, NaN for
            those that it did not test.
        metrics: Of the version; the report on its guard is read.
        history, manifest: The event tables.
    """
    parts = [
        (REQUESTS, *_asked(streams, data, rows), ()),
        (ANSWERS, *_answered(streams, data, known, rows, said), tuple(_declared(metrics))),
        (OUTCOMES, *_came(streams, rows, said), ()),
    ]
    accepted = declared("field", REFUSED, {"accepted": 1 - RARE})
    parts.append((INTAKE + streams.model.name, Frame({}), np.zeros(0, np.int64), (accepted,)))
    came = dict[str, Ints]()
    for name, table in streams.tables.items():
        frame, at, share = _events(streams, table, history, manifest)
        parts.append((f"table {name}", frame, at, ()))
        rules = declared("source", f"{name}.quarantine", {"kept": 1 - max(share, RARE / 4)})
        parts.append((INTAKE + name, Frame({}), np.zeros(0, np.int64), (rules,)))
        came[name] = at
    made = [(_stream(streams, name, frame, more), frame, at) for name, frame, at, more in parts]
    budget = streams.model.watch.false_alarms_per_year
    bar = log_bar(sum(len(stream.drafts()) + 1 for stream, _, _ in made), budget * MINUTES)
    beats = budget * HEARTBEATS / (1 + len(streams.tables))
    asked_at = data.asked_at
    monitored = []
    for stream, frame, at in made:
        series = tuple(learn(stream, frame, at, bar))
        arrivals = heartbeat = None
        if stream.name.startswith(INTAKE):
            name = stream.name.removeprefix(INTAKE)
            times = asked_at if name == streams.model.name else came[name]
            subject = "traffic" if name == streams.model.name else "source"
            arrivals, heartbeat = learn_rate(subject, name, times, bar), learn_heartbeat(times, beats)
        monitored.append(Monitored(stream, series, arrivals, heartbeat, tuple(_days(stream, frame, at))))
    return Baseline(tuple(monitored))


def _asked(streams: Streams, data: Learnable, rows: TrainingSet) -> tuple[Frame, Ints]:
    """Questions of the past with the features that the version reads."""
    last = slice(-MOST_ROWS, None)
    reads = {column.name for column in rows.columns}
    columns = {f"field.{one.name}": data.requests[one.name][last] for one in streams.fields}
    columns |= {f"feature.{c.name}": data.features[c.name][last] for c in streams.features if c.name in reads}
    return Frame(columns), data.asked_at[last]


def _answered(
    streams: Streams, data: Learnable, known: Ints, rows: TrainingSet, said: Floats
) -> tuple[Frame, Ints]:
    """What the backtest answered."""
    tested = np.flatnonzero(~np.isnan(said))[-MOST_ROWS:]
    fields = {one.name: data.requests[one.name][known[tested]] for one in streams.fields}
    return streams.predicted(said[tested], fields), rows.asked_at[tested]


def _came(streams: Streams, rows: TrainingSet, said: Floats) -> tuple[Frame, Ints]:
    """What came of the answers of the backtest, in the order in which it became known."""
    tested = np.flatnonzero(~np.isnan(said))
    tested = tested[np.argsort(rows.known_at[tested], kind="stable")][-MOST_ROWS:]
    model = streams.model
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    with np.errstate(all="ignore"):
        error = problem.row_errors(rows.target[tested], said[tested])
    return streams.came(said[tested], rows.target[tested], error), rows.known_at[tested]


def _declared(metrics: Mapping[str, Any]) -> Iterator[Cells]:
    """What no past row tells: the guard's flags by its report, and that answers are rarely slow or degraded."""
    report = metrics.get("guard")
    flagged = float(report["flag_rate"]) if report else 0.0
    if report:
        rates = {kind["kind"]: float(kind["rate"]) for kind in report["kinds"]}
        yield declared("guard", "verdict", {"pass": 1 - flagged, **rates})
    yield declared("answer", "source", {"model": 1 - flagged - RARE})
    for subject, name in (("answer", "degraded"), ("traffic", "duplicates"), ("latency", "answers")):
        yield declared(subject, name, {"none": 1 - RARE})


def _events(
    streams: Streams, table: EventTable, history: History, manifest: Manifest
) -> tuple[Frame, Ints, float]:
    """The latest rows of a table in the order in which they became known, and the share that was set aside."""
    columns = [*(Column(one.name, one.kind) for one in table.fields.values()), Column(AVAILABLE, Kind.TIME)]
    files = history.paths(manifest, table.name)
    total = sum(file.rows for file in manifest.tables.get(table.name, ()))
    aside = sum(file.rows for file in manifest.tables.get(f"{QUARANTINE}/{table.name}", ()))
    if not files:
        nothing = Frame({c.name: np.empty(0, object if c.kind.is_text else np.float64) for c in columns})
        frame, _ = streams.events(table, nothing, np.zeros(0, np.int64), np.zeros(0, np.int64))
        return frame, np.zeros(0, np.int64), 0.0
    listed = ", ".join(quote(column.name) for column in columns)
    with connect(reads=files) as connection:
        inner = (
            f"SELECT {listed} FROM {parquet(files, union=True)} ORDER BY {AVAILABLE} DESC LIMIT {MOST_ROWS}"
        )
        found = fetch(connection, f"SELECT * FROM ({inner}) ORDER BY {AVAILABLE}, {quote(table.id)}", columns)
    at = np.asarray(found[AVAILABLE], dtype=np.int64)
    frame, _ = streams.events(table, found, at, np.zeros(0, np.int64))
    return frame, at, aside / max(1, total + aside)


def _stream(streams: Streams, name: str, frame: Frame, more: Sequence[Cells]) -> Stream:
    columns: list[Cells] = []
    if len(frame):
        for subject, column in streams.columns(name):
            if f"{subject}.{column.name}" in frame:
                made = cells_of(subject, column, frame[f"{subject}.{column.name}"])
                columns += [made] if made is not None else []
        if name == ANSWERS:
            columns += _segments(streams, frame)
    return Stream(name, (*columns, *more))


def _segments(streams: Streams, frame: Frame) -> list[Cells]:
    """The predictions of the segments that are watched by themselves: those declared, else the larger categories."""
    column = Column(streams.model.name, Kind.NUM)
    values, found = frame[f"prediction.{column.name}"], list[Cells]()
    for name in streams.segments:
        own: Array = frame[f"field.{name}"]
        counts = Counter(value for value in own.tolist() if value is not None)
        least = max(LEAST_ROWS, LEAST_PART * len(own))
        ranked = sorted(counts, key=lambda value: (-counts[value], value))[:VALUES]
        for value in ranked if len(counts) > 1 else ():
            if counts[value] >= least and len(found) < MOST_SEGMENTS:
                made = cells_of("prediction", column, values[own == value], (f"field.{name}", value))
                found += [made] if made is not None else []
    return found


def _days(stream: Stream, frame: Frame, at: Ints) -> Iterator[tuple[int, ...]]:
    """Counts of past days, spread evenly over the past, so that its seasons are among what is usual."""
    if not len(at):
        return
    days = np.unique(at // DAY)
    chosen = days[np.unique(np.linspace(0, len(days) - 1, min(PROFILE_DAYS, len(days))).astype(np.int64))]
    for day in chosen:
        rows = np.arange(*np.searchsorted(at, [day * DAY, (day + 1) * DAY]))
        yield tuple(stream.count(frame.take(rows)).counts.tolist())
