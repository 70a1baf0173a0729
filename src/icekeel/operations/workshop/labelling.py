"""Labels in doubt, out to people and back in: the likeliest to be wrong first, and what they said of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icekeel.compile import quote, select
from icekeel.core.errors import Fault, RequestError, first_faults, shorten
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import Clock
from icekeel.data import DELETED, EventContract
from icekeel.data.contracts import RecordParser
from icekeel.data.labels import Label, label_table, question_ids
from icekeel.data.relations import create_table
from icekeel.define import EventTable, Model
from icekeel.define.fields import Field, Limits
from icekeel.define.nodes import EventField, Node, Outcome
from icekeel.features.outcomes import Status
from icekeel.journal import Pushed, Value, Writer
from icekeel.operations.projections.outcome import plain
from icekeel.operations.workspace import Workspace
from icekeel.registry import Registry
from icekeel.training import Problem
from icekeel.training.audits.labels import (
    label_noise,
    learnt_from_reviews,
    out_of_fold,
    suspicion,
    twins,
)
from icekeel.training.dataset import Learnable, event_store
from icekeel.training.pipeline import rows_with_outcome

from .workshop import Say, Workshop, decide

LABEL = "label"
FLAGS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_AT_ONCE = 1_000
"""Rows of one record of the journal."""
_FORMULA = ("=", "+", "-", "@")
"""What begins a text that a spreadsheet would compute."""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Labels to review.

    Attributes:
        rows: The likeliest to be wrong first, as CSV has them: `id`, when it was asked, the request's public fields,
            `given` (the outcome as it is recorded), `means` (the target that makes, where that is another), what models
            of other rows `model_says`, `score` (0 to 1; above 1/2 it is suspect) and `label`, for the reviewer to fill.
        labels, reviewed, corrected: Questions with an outcome, those that people looked at, those they corrected.
        wrong: Share of the other labels that may be wrong; `low` and `high` are a 95 % interval.
    """

    rows: list[dict[str, Any]]
    labels: int
    reviewed: int
    corrected: int
    wrong: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a review.

    Attributes:
        confirmed, corrected: Labels.
        events: Of the corrected, those that were written as a new version of their event.
        unchanged: Labels that say what an earlier review said.
        left: Rows without a label.
    """

    confirmed: int
    corrected: int
    events: int
    unchanged: int
    left: int


@dataclass(frozen=True, slots=True)
class _Said:
    """A label in a review: of which row of the file, and of which past question."""

    place: int
    where: str
    label: float


class Labelling:
    """The review of labels of one project.

    Args:
        workspace: The definitions and the data.
        workshop: Prepares past questions, and knows which rung the champion is of.
        clock: The time.
    """

    def __init__(self, workspace: Workspace, workshop: Workshop, clock: Clock) -> None:
        self._workspace = workspace
        self._workshop = workshop
        self._clock = clock

    def in_doubt(self, name: str, budget: float, say: Say) -> InDoubt:
        """The labels that most likely are wrong and nobody has looked at.

        Args:
            budget: How many: a share of all labels below 1, else a number of them.

        Raises:
            RequestError: no such budget.
            TrainingError: too few labels to learn from.
        """
        if not (0 < budget < 1 or (budget >= 1 and budget == int(budget))):
            allowed = "a share between 0 and 1, or a whole number of labels"
            raise RequestError(Fault("bad_budget", "no such budget", "budget", f"{budget:g}", allowed))
        model = self._workspace.project.models[name]
        problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
        _, data = self._workshop.prepare(name, self._clock(), say)
        known, rows = rows_with_outcome(model.features.icekeel_features, data)
        problem.check(rows)
        rung, rng = self._workshop.rung(name), np.random.default_rng(problem.seed)
        say(f"{rung.name}: what models of the other rows say to each of {len(rows):,}")
        features = rows.frame.select([column.name for column in rows.columns])
        outcomes = data.requests.take(known).select(_keys(model))
        outcomes = outcomes.with_columns({"_value": rows.target, "_known_at": rows.known_at})
        said = out_of_fold(problem, rows, rung, twins(features, outcomes), rng=rng)
        score, reviews = suspicion(problem, rows.target, said), data.reviews[known]
        waiting = np.flatnonzero(reviews == 0)
        count = math.ceil(budget * len(rows)) if budget < 1 else int(budget)
        chosen = waiting[np.argsort(-score[waiting], kind="stable")[:count]]
        noise = label_noise(problem, rows.target[waiting], said[waiting], rng=rng)
        noise = learnt_from_reviews(noise, reviews)
        listed = [_listed(model, data, int(known[at]), model_says=said[at], score=score[at]) for at in chosen]
        looked_at, corrected = int((reviews > 0).sum()), int((reviews == 2).sum())
        return InDoubt(listed, len(rows), looked_at, corrected, noise.wrong, noise.low, noise.high)

    def take(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        registry: Registry,
        journal: Writer,
        *,
        by: str,
        reason: str,
        say: Say,
    ) -> Taken:
        """Record what a reviewer said: all of it or nothing; the same again changes nothing.

        A corrected label becomes a new version of the event that decides it, known from now on, where there is one
        such event; beside it, and for every other label, what was said is kept with who, when and why, and holds in
        training until its event becomes known anew.

        Args:
            rows: As `InDoubt.rows`, `label` filled; only `id`, `label` and `given` are read.

        Raises:
            RequestError: a fault for each row that cannot be taken.
        """
        model, now = self._workspace.project.models[name], self._clock()
        faults = [
            Fault("bad_review", "a review needs who made it, and why", place)
            for place, text in (("by", by), ("reason", reason))
            if not text.strip()
        ]
        if faults:
            raise RequestError(*faults)
        _, data = self._workshop.prepare(name, now, say)
        present = data.outcomes.value
        ids = list(question_ids(data.requests, data.asked_at, _keys(model)))
        filled = {f"row {at}": row for at, row in enumerate(rows, 2) if str(row.get(LABEL) or "").strip()}
        said = list(self._read(model, data, ids, filled, faults))
        fresh = [one for one in said if one.label != present[one.place] or not data.reviews[one.place]]
        wrong = [one for one in fresh if one.label != present[one.place]]
        events = self._corrected(model, data, wrong, now, faults)
        if faults:
            raise RequestError(*first_faults(faults, len(faults)))
        known_at, labels = data.outcomes.known_at.tolist(), []
        for one in fresh:
            given = float(present[one.place])
            label = Label(ids[one.place], one.label, given, known_at[one.place], by, reason, now)
            labels.append(asdict(label))
        journal.append_many(
            Pushed(at=now, table=table, rows=listed[first : first + _AT_ONCE])
            for table, listed in ((model.outcome.keyed.table, events), (label_table(name).name, labels))
            for first in range(0, len(listed), _AT_ONCE)
        )
        if fresh:
            why = f"{len(fresh):,} labels reviewed, {len(wrong):,} corrected, by {by}: {reason}"
            decide(registry, journal, name, "labels", "", reason=why, at=now)
        unchanged, left = len(said) - len(fresh), len(rows) - len(filled)
        return Taken(len(fresh) - len(wrong), len(wrong), len(events), unchanged, left)

    def _read(
        self,
        model: Model,
        data: Learnable,
        ids: Sequence[str],
        rows: Mapping[str, Mapping[str, Any]],
        faults: list[Fault],
    ) -> Iterator[_Said]:
        """What was said in rows that can be read; the faults of the others are added."""
        known = np.flatnonzero(data.outcomes.status == Status.KNOWN)
        places, seen = {ids[place]: place for place in known.tolist()}, dict[int, float]()
        parser, reader = self._parser(model), RecordParser([Field(LABEL, model.outcome.kind)])
        for where, row in rows.items():
            place = places.get(str(row.get("id")))
            if place is None:
                what = "no question with an outcome has this id"
                faults.append(Fault("unknown_label", what, f"{where}, id", shorten(row.get("id"))))
                continue
            label, given = _value(row[LABEL], parser), _value(row.get("given"), reader)
            present = float(data.outcomes.value[place])
            if isinstance(label, Fault):
                faults.append(label.at(f"{where}, {LABEL}"))
            elif not isinstance(given, Fault) and present not in (given, label):
                what, got = (
                    "the outcome has changed since the list was made",
                    f"was {given:g}, is {present:g}",
                )
                hint = "icekeel labels list makes a new one"
                faults.append(Fault("label_changed", what, where, got, hint=hint))
            elif seen.setdefault(place, label) != label:
                faults.append(Fault("label_twice", "this label is given twice, differently", where))
            else:
                yield _Said(place, where, label)

    def _field(self, model: Model) -> Field | None:
        """The event's column that is the outcome, if it is one."""
        value = model.outcome.value
        table = self._workspace.project.tables[model.outcome.keyed.table]
        return table.fields[value.name] if isinstance(value, EventField) else None

    def _parser(self, model: Model) -> RecordParser:
        """Reads a label, within what its column allows where it is the value of one event."""
        field = self._field(model)
        limits = field.limits if field and model.outcome.function in ("first", "last") else Limits()
        return RecordParser([Field(LABEL, model.outcome.kind, limits)])

    def _corrected(
        self, model: Model, data: Learnable, said: Sequence[_Said], now: int, faults: list[Fault]
    ) -> list[dict[str, Value]]:
        """The event behind each label, where there is one, as it ought to have been told."""
        field, table = self._field(model), self._workspace.project.tables[model.outcome.keyed.table]
        if field is None or not said:
            return []
        contract = EventContract(table, stamped=True, ahead=True, hide=lambda _, value: value)
        found = []
        for one, events in zip(said, self._events(model, table, data, said, now), strict=True):
            if not events or (len(events) > 1 and model.outcome.function not in ("first", "last")):
                continue
            stored = events[0 if model.outcome.function == "first" else -1] | {field.name: one.label}
            sent = {
                name: value == 1.0 if table.fields[name].kind is Kind.FLAG and value is not None else value
                for name, value in stored.items()
            }
            if table.available != table.time:
                del sent[table.available]
                stored[table.available] = now
            faults += contract.parse(sent, one.where, now)[1]
            found.append(stored)
        return found

    def _events(
        self, model: Model, table: EventTable, data: Learnable, said: Sequence[_Said], now: int
    ) -> list[list[dict[str, Value]]]:
        """The events that each label is made of as they are known now, in order of time."""
        outcome, history = model.outcome, self._workspace.history
        places = np.array([one.place for one in said])
        asked = data.requests.take(places).select(_keys(model))
        columns = {field.name: Column(field.name, field.kind) for _, field in outcome.keyed.keys}
        columns["_asked"] = Column("_asked", Kind.TIME)
        nodes = [node for node in (outcome.value, outcome.keyed.where) if node is not None]
        meets = [f"v.{quote(column)} = r.{quote(field.name)}" for column, field in outcome.keyed.keys]
        with closing(event_store({table.name: table}, history, history.manifest().known(now))) as store:
            relation, _ = store.versions(table.name)
            known = f"(SELECT * FROM {relation} WHERE {DELETED} = 0 AND _start <= {now} AND _end > {now})"
            statement, names = select(nodes, _column, known)
            meets += [f"v.{names[0]} IS NOT NULL", *(f"v.{name} = 1" for name in names[1:])]
            asked = asked.with_columns({"_asked": data.asked_at[places]})
            create_table(store.connection, "_reviewed", list(columns.values()), asked)
            rows = store.connection.execute(
                f"SELECT r._row, {', '.join(f'v.{quote(name)}' for name in table.fields)} "
                f"FROM _reviewed r JOIN ({statement}) v ON {' AND '.join(meets)} "
                f"AND v._time >= r._asked AND v._time < r._asked + {outcome.within} "
                f"ORDER BY r._row, v._time, v.{quote(table.id)}"
            ).fetchall()
        found: list[list[dict[str, Value]]] = [[] for _ in said]
        for place, *values in rows:
            found[place].append(dict(zip(table.fields, values, strict=True)))
        return found


def _column(node: Node) -> str | None:
    return quote(node.name) if isinstance(node, EventField) else None


def _keys(model: Model) -> list[str]:
    """The request's fields by which the outcome is found."""
    return [field.name for _, field in model.outcome.keyed.keys]


def _listed(model: Model, data: Learnable, place: int, *, model_says: float, score: float) -> dict[str, Any]:
    """A label in doubt as a row of the list."""
    here, fields = np.array([place]), model.request.icekeel_fields.values()
    request = data.requests.take(here)
    given = {"given": (data.outcomes.value, model.outcome.kind)}
    if not isinstance(model.target, Outcome):
        given["means"] = (data.outcomes.target, model.target.kind)
    return {
        "id": next(question_ids(request, data.asked_at[here], _keys(model))),
        "asked_at": plain(int(data.asked_at[place]), Kind.TIME),
        **{one.name: _cell(request[one.name][0], one.kind) for one in fields if not one.limits.private},
        **{name: plain(float(values[place]), kind) for name, (values, kind) in given.items()},
        "model_says": float(f"{model_says:.4g}"),
        "score": round(float(score), 4),
        LABEL: "",
    }


def _cell(value: Any, kind: Kind) -> Any:
    """A value of a request; a text that a spreadsheet would compute is not one any more."""
    shown = plain(value, kind)
    return f"'{shown}" if isinstance(shown, str) and shown.startswith(_FORMULA) else shown


def _value(cell: Any, parser: RecordParser) -> float | Fault:
    """The outcome's value in a cell."""
    text = str(cell).strip().lower()
    value: Any = FLAGS.get(text, text)
    if parser.fields[0].kind is not Kind.FLAG:
        value = text
        with suppress(ValueError):
            value = float(text)
    values, faults = parser.parse({LABEL: value})
    return faults[0] if faults else float(values[0] or 0.0)
