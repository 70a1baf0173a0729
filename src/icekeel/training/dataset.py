"""From past questions to rows to learn from: features as they were, outcomes as they are known now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icekeel.core.errors import Fault, SourceError, TrainingError
from icekeel.core.frames import NO_TIME, Bools, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY
from icekeel.data import History, Manifest, StoredFile, Vault
from icekeel.data.answers import ANSWERS, FEATURE
from icekeel.data.history import QUESTIONS
from icekeel.data.labels import Label, question_ids
from icekeel.data.questions import read_questions
from icekeel.data.relations import SQL_TYPES, connect, create_table, fetch, parquet, selected, write_parquet
from icekeel.data.spines import hide_columns
from icekeel.define import EventTable, Field, Model
from icekeel.features.events import EventStore, same_rows
from icekeel.features.outcomes import Outcomes, Status, historical_outcomes, target_function
from icekeel.features.plan import Plan

from .cache import FeatureCache

_ASKED = Column("_asked_at", Kind.TIME)


@dataclass(frozen=True, slots=True)
class Questions:
    """Past requests, in the order in which they were asked.

    Attributes:
        logged: Features as they were served, NaN or None where a question was not served under the
            present definitions.
        served: Whether `logged` holds the row's features.
    """

    requests: Frame
    asked_at: Ints
    logged: Frame
    served: Bools
    flagged: Bools

    def __len__(self) -> int:
        return len(self.asked_at)


@dataclass(frozen=True, slots=True)
class Learnable:
    """Everything known of past questions.

    Attributes:
        requests, features: One row per question.
        outcomes: Their targets; pending and absent ones are for the trainer to leave out.
        served: Rows whose features were taken from the journal instead of being computed.
        reviews: Whether a person has looked at its label: 0 no, 1 confirmed, 2 corrected.
    """

    requests: Frame
    asked_at: Ints
    features: Frame
    outcomes: Outcomes
    flagged: Bools
    served: int
    reviews: Ints

    def counts(self) -> dict[str, int]:
        """Questions by status of their outcome."""
        status = self.outcomes.status
        return {
            "questions": len(status),
            "known": int((status == Status.KNOWN).sum()),
            "absent": int((status == Status.ABSENT).sum()),
            "pending": int((status == Status.PENDING).sum()),
            "features_from_journal": self.served,
        }


def declared_questions(
    model: Model, plan: Plan, folder: Path, history: History, vault: Vault | None = None
) -> Frame:
    """The questions of a model's declared history: the request's fields, and when each was asked as `_asked_at`.

    Args:
        history: Beside which copies of objects are kept while they are read.

    Raises:
        SourceError: it cannot be read, or its columns are not the request's.
    """
    asked = Field(model.history.asked_at, Kind.TIME)
    fields = [*(field for field in plan.fields if field.name != asked.name), asked]
    frame = read_questions(history, model.history.source, folder, fields)
    if wrong := int((frame[asked.name] == NO_TIME).sum()):
        what = f'no time in "{asked.name}" of {wrong:,} rows'
        raise SourceError(Fault("bad_time", what, str(model.history.source)))
    declared = frame.with_columns({_ASKED.name: frame[asked.name]})
    return hide_columns(declared, plan.fields, None if vault is None else vault.hide_many)


def store_questions(history: History, model: Model, plan: Plan, declared: Frame) -> StoredFile:
    """Declared questions as a file of history, for a snapshot; the same questions are the same file. Inside `adding`."""
    columns = [*plan.inputs, _ASKED]
    draft = history.folder / f"{QUESTIONS}-{model.name}.draft"
    with connect(folder=history.folder) as connection:
        create_table(connection, "_new", columns, declared)
        write_parquet(connection, "SELECT * EXCLUDE (_row) FROM _new ORDER BY _row", draft)
    return history.adopt(f"{QUESTIONS}/{model.name}", draft, len(declared))


def stored_questions(history: History, model: Model, plan: Plan, manifest: Manifest) -> Frame:
    """What `store_questions` wrote; a field that the request got since is null."""
    return _rows_of(history.paths(manifest, f"{QUESTIONS}/{model.name}"), [*plan.inputs, _ASKED])


def past_questions(
    model: Model, plan: Plan, declared: Frame, history: History, manifest: Manifest, *, now: int
) -> Questions:
    """The questions of the model's declared history and those it has answered since, up to `now`.

    Args:
        declared: See `declared_questions`.
        manifest: The files of the answers.

    Raises:
        TrainingError: there are none.
    """
    fields = list(plan.inputs)
    known = declared.take(np.flatnonzero(declared["_asked_at"] <= now))
    never = np.zeros(len(known), dtype=np.bool_)
    requests = known.select([column.name for column in fields])
    answered = _answered(model, plan, fields, history, manifest, now)
    asked = Questions(requests, known["_asked_at"], Frame({}), never, never)
    if answered is not None:
        asked = _without_served(asked, answered, [field.name for _, field in model.outcome.keyed.keys])
    parts = [part for part in (asked, answered) if part is not None and len(part)]
    if not parts:
        what, where = "there are no past questions", f'Model "{model.name}"'
        raise TrainingError(Fault("no_history", what, where, str(model.history.source)))
    requests = Frame.stack([part.requests for part in parts])
    asked_at = np.concatenate([part.asked_at for part in parts])
    served, flagged = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("served", "flagged")
    )
    logged = _stack_logged(plan, parts)
    order = np.argsort(asked_at, kind="stable")
    return Questions(requests.take(order), asked_at[order], logged.take(order), served[order], flagged[order])


def _without_served(declared: Questions, answered: Questions, keys: list[str]) -> Questions:
    """The declared questions without those that were answered too: a file exported again holds both.

    The same question has the same outcome key and was asked within a day.
    """
    served: dict[tuple[object, ...], list[int]] = {}
    for *key, at in zip(*(answered.requests[name] for name in keys), answered.asked_at.tolist(), strict=True):
        served.setdefault(tuple(key), []).append(at)
    again = np.array(
        [
            any(abs(at - other) <= DAY for other in served.get(tuple(key), ()))
            for *key, at in zip(
                *(declared.requests[name] for name in keys), declared.asked_at.tolist(), strict=True
            )
        ],
        dtype=np.bool_,
    )
    kept = np.flatnonzero(~again)
    return Questions(
        declared.requests.take(kept),
        declared.asked_at[kept],
        declared.logged,
        declared.served[kept],
        declared.flagged[kept],
    )


def _answered(
    model: Model, plan: Plan, fields: list[Column], history: History, manifest: Manifest, now: int
) -> Questions | None:
    files = history.paths(manifest, f"{ANSWERS}/{model.name}")
    if not files:
        return None
    logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
    own = [_ASKED, Column("_definitions", Kind.ID), Column("_verdict", Kind.CAT)]
    frame = _rows_of(files, [*fields, *own, *logged], f" WHERE _asked_at <= {now}")
    served = np.array(frame["_definitions"] == plan.digest, dtype=np.bool_)
    flagged = np.array([verdict not in ("pass", None) for verdict in frame["_verdict"]], dtype=np.bool_)
    values = Frame({column.name: frame[FEATURE + column.name] for column in plan.columns})
    return Questions(frame.select([c.name for c in fields]), frame["_asked_at"], values, served, flagged)


def _rows_of(files: Sequence[Path], columns: Sequence[Column], condition: str = "") -> Frame:
    """Rows of stored files, in order; a column that they lack is null."""
    source, types = parquet(files, union=True), {column.name: SQL_TYPES[column.kind] for column in columns}
    with connect(threads=2, reads=files) as connection:
        listed = ", ".join(selected(connection, source, types))
        return fetch(connection, f"SELECT {listed} FROM {source}{condition}", columns)


def _stack_logged(plan: Plan, parts: list[Questions]) -> Frame:
    stacked = {}
    for column in plan.columns:
        blank = None if column.kind.is_text else np.nan
        pieces = [
            part.logged[column.name]
            if len(part.logged)
            else np.full(len(part), blank, dtype=object if blank is None else np.float64)
            for part in parts
        ]
        stacked[column.name] = np.concatenate(pieces)
    return Frame(stacked)


def learnable(
    model: Model,
    plan: Plan,
    questions: Questions,
    store: EventStore,
    cache: FeatureCache,
    *,
    now: int,
    labels: Mapping[str, Label],
) -> Learnable:
    """Features and outcomes of past questions, as they were known at `now`.

    Features that were served under the present definitions are taken as they were served; the skew audit
    vouches that they equal recomputed ones. All others are those of `cache`. Outcomes are those of the events, but
    for what people said of them, `labels`, unless an event became known since.
    """
    frame = questions.logged
    missing = np.flatnonzero(~questions.served)
    if len(missing):
        computed = cache.features(store)
        columns = {name: frame[name].copy() for name in frame}
        for name, values in columns.items():
            values[missing] = computed[name]
        frame = Frame(columns)
    outcomes = historical_outcomes(
        model.target, model.outcome, questions.requests, questions.asked_at, store, now=now
    )
    same_rows(len(outcomes.target), len(questions))
    reviews = _reviewed(model, questions, outcomes, labels)
    served = int(questions.served.sum())
    return Learnable(
        questions.requests, questions.asked_at, frame, outcomes, questions.flagged, served, reviews
    )


def _reviewed(model: Model, questions: Questions, outcomes: Outcomes, labels: Mapping[str, Label]) -> Ints:
    """Put what people said in place of the outcomes; gives whether they looked at each."""
    reviews = np.zeros(len(questions), dtype=np.int64)
    if not labels:
        return reviews
    compute = target_function(model.target)
    keys = [field.name for _, field in model.outcome.keyed.keys]
    for place, question in enumerate(question_ids(questions.requests, questions.asked_at, keys)):
        label = labels.get(question)
        if label is None or outcomes.status[place] != Status.KNOWN:
            continue
        target = compute(label.label)
        if target is None or outcomes.known_at[place] > label.reviewed_at:
            continue
        reviews[place] = 1 if label.label == label.given else 2
        outcomes.value[place], outcomes.target[place] = label.label, target
        outcomes.known_at[place] = label.known_at
    return reviews


def feature_cache(
    model: str,
    plan: Plan,
    questions: Questions,
    tables: Mapping[str, EventTable],
    history: History,
    manifest: Manifest,
) -> FeatureCache:
    """What is kept of a model's features, and what is not, of the questions whose features were not served."""
    missing = np.flatnonzero(~questions.served)
    requests, asked_at = questions.requests.take(missing), questions.asked_at[missing]
    return FeatureCache(history.folder / "features" / model, plan, tables, manifest, requests, asked_at)


def event_store(
    tables: Mapping[str, EventTable], history: History, manifest: Manifest, *, delay: int = 0
) -> EventStore:
    """The events of a manifest, all of them available `delay` microseconds later than they were."""
    files = {name: history.paths(manifest, name) for name in tables}
    return EventStore(tables, files, folder=history.folder, delay=delay)
