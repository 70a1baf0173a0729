"""From past questions to rows to learn from: features as they were, outcomes as they are known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile import quote
from icekeel.core.errors import Fault, SourceError, TrainingError, nearest
from icekeel.core.frames import Bools, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY
from icekeel.data import History, Manifest, Vault, find_sources
from icekeel.data.answers import ANSWERS, FEATURE
from icekeel.data.ingest import read_source
from icekeel.data.relations import connect, fetch, parquet
from icekeel.data.spines import hide_columns
from icekeel.define import EventTable, Model
from icekeel.features.events import EventStore, same_rows
from icekeel.features.outcomes import Outcomes, Status, historical_outcomes
from icekeel.features.plan import Plan

from .cache import FeatureCache


@dataclass(frozen=True, slots=True)
class Questions:
    """Past requests, in the order in which they were asked.

    Attributes:
        requests: The request's fields.
        asked_at: When each was asked.
        logged: Features as they were served, NaN or None where a question was not served under the
            present definitions.
        served: Whether `logged` holds the row's features.
        flagged: Whether the guard flagged it.
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
        flagged: Whether the guard flagged the question.
        served: Rows whose features were taken from the journal instead of being computed.
    """

    requests: Frame
    asked_at: Ints
    features: Frame
    outcomes: Outcomes
    flagged: Bools
    served: int

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


def past_questions(
    model: Model, plan: Plan, folder: Path, history: History, *, now: int, vault: Vault | None = None
) -> Questions:
    """The questions of the model's declared history and those it has answered since, up to `now`.

    Args:
        vault: Gives the pseudonyms of private fields in the declared history; answers hold them already.

    Raises:
        SourceError: the declared history cannot be read, or its columns are not the request's.
    """
    fields = [Column(field.name, field.kind) for field in plan.fields]
    declared = _declared(model, fields, folder, now)
    hide = None if vault is None else vault.hide_many
    declared = replace(declared, requests=hide_columns(declared.requests, plan.fields, hide))
    answered = _answered(model, plan, fields, history, now)
    if answered is not None:
        declared = _without_served(declared, answered, [field.name for _, field in model.outcome.keyed.keys])
    parts = [part for part in (declared, answered) if part is not None and len(part)]
    if not parts:
        raise TrainingError(
            Fault("no_history", "there are no past questions", f'Model "{model.name}"', model.history.source)
        )
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


def _declared(model: Model, fields: list[Column], folder: Path, now: int) -> Questions:
    sources = find_sources(folder, model.history.source)
    connection = connect(threads=2, reads=sources)
    try:
        relations = [f"(SELECT * FROM {read_source(connection, source)})" for source in sources]
        relation = " UNION ALL BY NAME ".join(f"SELECT * FROM {one}" for one in relations)
        described = connection.execute(f"DESCRIBE {relation}").fetchall()
        columns = {row[0]: row[1] for row in described}
        wanted = [*(column.name for column in fields), model.history.asked_at]
        faults = [
            Fault(
                "missing_column",
                f'no column "{name}"',
                model.history.source,
                "",
                ", ".join(columns),
                nearest(name, columns),
            )
            for name in wanted
            if name not in columns
        ]
        if faults:
            raise SourceError(*faults)
        listed = ", ".join(_micros(name, columns[name]) for name in wanted)
        asked = Column("_asked_at", Kind.TIME)
        frame = fetch(
            connection,
            f"SELECT * FROM (SELECT {listed} FROM ({relation})) WHERE {quote(model.history.asked_at)} <= {now}",
            [*fields, asked],
        )
    except duckdb.Error as error:
        raise SourceError(Fault("unreadable", str(error).splitlines()[0], model.history.source)) from error
    finally:
        connection.close()
    never = np.zeros(len(frame), dtype=np.bool_)
    requests = frame.select([column.name for column in fields])
    return Questions(requests, frame["_asked_at"], Frame({}), never, never)


def _micros(name: str, sql_type: str) -> str:
    timed = sql_type.startswith("TIMESTAMP")
    return f"epoch_us({quote(name)}) AS {quote(name)}" if timed else quote(name)


def _answered(model: Model, plan: Plan, fields: list[Column], history: History, now: int) -> Questions | None:
    manifest = history.manifest()
    files = history.paths(manifest, f"{ANSWERS}/{model.name}")
    if not files:
        return None
    logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
    own = [Column("_asked_at", Kind.TIME), Column("_definitions", Kind.ID), Column("_verdict", Kind.CAT)]
    columns = [*fields, *own, *logged]
    source = parquet(files, union=True)
    connection = connect(threads=2, reads=files)
    try:
        held = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        listed = ", ".join(quote(c.name) if c.name in held else f"NULL AS {quote(c.name)}" for c in columns)
        frame = fetch(connection, f"SELECT {listed} FROM {source} WHERE _asked_at <= {now}", columns)
    finally:
        connection.close()
    served = np.array(frame["_definitions"] == plan.digest, dtype=np.bool_)
    flagged = np.array([verdict not in ("pass", None) for verdict in frame["_verdict"]], dtype=np.bool_)
    values = Frame({column.name: frame[FEATURE + column.name] for column in plan.columns})
    return Questions(frame.select([c.name for c in fields]), frame["_asked_at"], values, served, flagged)


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
) -> Learnable:
    """Features and outcomes of past questions, as they were known at `now`.

    Features that were served under the present definitions are taken as they were served; the skew audit
    vouches that they equal recomputed ones. All others are those of `cache`.
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
    served = int(questions.served.sum())
    return Learnable(questions.requests, questions.asked_at, frame, outcomes, questions.flagged, served)


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
    tables: Mapping[str, EventTable], history: History, manifest: Manifest, *, threads: int = 2
) -> EventStore:
    """The events of a manifest."""
    files = {name: history.paths(manifest, name) for name in tables}
    return EventStore(tables, files, threads=threads, folder=history.folder)
