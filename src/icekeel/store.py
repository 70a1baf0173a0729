"""The feature store for other programs: features of now and of then, and events in.

    store = ik.open_store("shop")
    store.get_online_features("minutes", [{"order_id": "new-1", "kitchen": "market", ...}])
    store.get_historical_features("minutes", questions, asked_at="asked_at")

The numbers are those of serving and of training: the same plan, read from the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import lmdb
import numpy as np

from icekeel.app import App
from icekeel.compile import quote
from icekeel.core.errors import Fault, RequestError, SourceError, StateError, first_faults
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import format_time, parse_time
from icekeel.data import Ingested
from icekeel.data.answers import FEATURE, wanted
from icekeel.data.relations import create_table
from icekeel.data.spines import ASKED_AT, Spine, add_columns, as_table, decoded, plain, read_rows, read_spine
from icekeel.define.fields import Field
from icekeel.features.offline import historical_features
from icekeel.features.outcomes import Outcomes, Status, historical_outcomes
from icekeel.features.plan import Plan, select_features
from icekeel.journal import Predicted, Writer
from icekeel.serving import Accepted, OnlineFeatures, OnlineReader
from icekeel.training.dataset import event_store

OUTCOME = (Column("_target", Kind.NUM), Column("_status", Kind.CAT))
"""What came of a question: the target, null unless known, and `known`, `absent` or `pending`."""


def open_store(folder: str | Path = ".") -> FeatureStore:
    """The feature store of the project in a folder; reads `project.py`, opens nothing else yet.

    Raises:
        ProjectError: with every fault of the project file.
    """
    return FeatureStore(App(Path(folder)))


class FeatureStore:
    """The features of a project's models, and the events that they are made of.

    Use it as a context manager, or close it. It may be used beside a running server and keeper.

    Args:
        app: The project.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._online: lmdb.Environment | None = None
        self._stamp = 0
        self._readers: Mapping[str, OnlineReader] = {}
        self._journal: Writer | None = None
        self._closed = False

    def get_online_features(
        self, model: str, rows: Sequence[Mapping[str, Any]], features: Sequence[str] | None = None
    ) -> list[OnlineFeatures]:
        """The features of each request as of now, each with its age.

        Args:
            model: Name of a model.
            rows: Requests; fields that the features do not read may be left out.
            features: Names; all of the model and its baseline by default.

        Raises:
            RequestError: every fault of every request; an unknown feature.
            StateError: the keeper has not made the online state.
        """
        reader = self._reader(self.app.model(model).name)
        found = reader.read([decoded(row) for row in rows], features)
        errors = [one for one in found if isinstance(one, RequestError)]
        if errors:
            faults = [fault for error in errors for fault in error.faults]
            raise RequestError(*first_faults(faults, len(faults)))
        return [one for one in found if isinstance(one, OnlineFeatures)]

    def get_historical_features(
        self,
        model: str,
        table: Any,
        *,
        asked_at: str,
        features: Sequence[str] | None = None,
        outcome: bool = False,
        now: Any = None,
    ) -> Any:
        """The same table with the features of each row, exactly as they were known when it was asked.

        Args:
            model: Name of a model.
            table: A data frame of pandas or Polars, an Arrow table, a list of dicts, or the path of a Parquet, CSV
                or JSON-lines file. Further columns are kept; columns that the features do not read may be missing.
            asked_at: Column that tells when each question was asked; UTC where it names no zone.
            features: Names; all by default.
            outcome: Add what came of each question: `_target` and `_status`.
            now: Nothing that became known later is seen; the present by default.

        Returns:
            As many rows in the same order, with a column `feature.NAME` for each feature: the same kind of table, or
            a DuckDB relation for a path, which becomes what you need: `.df()`, `.arrow()`, `.write_parquet(path)`.

        Raises:
            SourceError, RequestError: the table cannot be read as questions; all faults at once.
        """
        plan = self._plan(model, features)
        table = as_table(table)
        fields = self._fields(model, plan, outcome=outcome)
        spine = read_spine(table, fields, asked_at, self.app.vault)
        at = self._time(now)
        if late := _asked_after(spine, at, asked_at):
            raise SourceError(late)
        columns, found = self._historical(model, plan, spine, at if outcome else None)
        return add_columns(table, fields, found, columns)

    def historical_rows(
        self, model: str, rows: Sequence[Any], features: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The features of decoded JSON objects, each a request with its `asked_at`."""
        plan = self._plan(model, features)
        spine = read_rows(rows, plan.fields, "asked_at", self.app.vault)
        if late := _asked_after(spine, self.app.clock(), "asked_at"):
            raise RequestError(late)
        columns, found = self._historical(model, plan, spine, None)
        lists = {column.name.removeprefix(FEATURE): plain(found[column.name]) for column in columns}
        return [{name: values[at] for name, values in lists.items()} for at in range(len(rows))]

    def get_training_set(
        self,
        model: str,
        *,
        now: Any = None,
        snapshot: str = "",
        features: Sequence[str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> duckdb.DuckDBPyRelation:
        """What `icekeel train` would learn from at `now`: past questions, their features and what came of them.

        With `snapshot` it is the very set that a training learnt from, by the present definitions of the features.

        Args:
            model: Name of a model.
            now: Time up to which anything is known; the present by default.
            snapshot: A version, or the beginning of a digest, instead of `now`.
            features: Names; all by default.
            say: Told of the progress.

        Returns:
            A row for each question, oldest first: the request, `_asked_at`, `feature.NAME`, `_target`, `_status`.

        Raises:
            SourceError: the declared history cannot be read.
            TrainingError: there are no past questions.
            RequestError, StateError: there is no such snapshot of this model.
        """
        plan = self._plan(model, features)
        with closing(self.app.registry()) as registry:
            workshop = self.app.workshop(registry)
            if snapshot:
                data = workshop.remake(self.app.snapshots(registry).find(snapshot, model), say)
            else:
                _, data = workshop.prepare(model, self._time(now), say)
        inputs = (*plan.inputs, Column(ASKED_AT, Kind.TIME))
        frame = data.requests.with_columns({ASKED_AT: data.asked_at})
        frame = frame.with_columns({FEATURE + one.name: data.features[one.name] for one in plan.columns})
        frame = frame.with_columns(_outcome_columns(data.outcomes).columns)
        return _relation(inputs, (*_feature_columns(plan), *OUTCOME), frame)

    def get_answers(
        self,
        model: str | None = None,
        *,
        key: str | None = None,
        unit: str | None = None,
        since: Any = None,
        until: Any = None,
        verdict: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Predicted]:
        """Answers that were given, the newest first, wherever they are; see `data.answers.Wanted`.

        Args:
            since, until: Times, or None for the first and the last.

        Raises:
            RequestError: every argument that cannot be, as over HTTP.
            StateError: the store is closed.
        """
        self._open()
        first, last = (None if at is None else parse_time(at) for at in (since, until))
        given = {"model": model, "key": key, "unit": unit, "since": first, "until": last, "verdict": verdict}
        given |= {"before": before, "limit": limit}
        return self.app.find_answers(
            wanted({name: str(value) for name, value in given.items() if value is not None})
        )

    def push_events(self, table: str, rows: Sequence[Mapping[str, Any]]) -> Accepted:
        """Journal rows of an event table, as over HTTP; a row of a known id corrects that event.

        Rows that break their contract are set aside with their faults; `icekeel quarantine` shows them.

        Raises:
            RequestError: an unknown table, no rows, or more than 10,000: `icekeel ingest` takes files of any size.
            JournalError: the journal cannot be written; nothing is kept.
        """
        listed = (
            [decoded(row) for row in rows] if isinstance(rows, list | tuple) else rows
        )  # a data frame is refused
        return self._push(table, listed, [])

    def ingest(self, table: str, rows: Any) -> Ingested:
        """Take rows of any number straight into history, as `icekeel ingest` a file: contract, quarantine, versions.

        Rows that were taken before are recognised, so doing it again does nothing.

        Args:
            table: Name of an event table.
            rows: A data frame of pandas or Polars, an Arrow table, or a list of dicts; with the types of the fields.

        Returns:
            What became of them: `kept`, `changed`, `quarantined`, `skipped`, `reasons`.

        Raises:
            ProjectError: there is no such table.
            SourceError: the columns are not the table's; nothing is kept.
            StateError: the store is closed.
        """
        self._open()
        return self.app.ingest_table(table, rows)

    def delete_events(self, table: str, ids: Sequence[str]) -> Accepted:
        """Journal that events of these ids do not hold any more; from now on they count nowhere.

        Raises:
            RequestError: an unknown table, no ids, or more than 10,000.
            JournalError: as `push_events`.
        """
        return self._push(table, [], ids if isinstance(ids, str) else list(ids))  # not each letter of one id

    def close(self) -> None:
        """Sync the journal and close everything; nothing can be asked or pushed afterwards."""
        self._closed = True
        if self._online is not None:
            self._online.close()
        self._online, self._readers, self._stamp = None, {}, 0
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reader(self, model: str) -> OnlineReader:
        """Reads from the online state that there is now: the keeper may have made it anew."""
        self._open()
        path = self.app.places.online / "data.mdb"
        stamp = path.stat().st_ino if path.exists() else 0
        if not stamp:
            what, hint = "there is no online state yet", "is the keeper running? icekeel up starts it"
            raise StateError(Fault("no_online_state", what, str(path.parent), hint=hint))
        if stamp != self._stamp:
            if self._online is not None:
                self._online.close()
                self._online, self._stamp = None, 0
            self._online = self.app.online(readonly=True)
            self._readers, self._stamp = self.app.readers(self._online), stamp
        return self._readers[model]

    def _plan(self, model: str, features: Sequence[str] | None) -> Plan:
        self._open()
        plan = self.app.plans[self.app.model(model).name]
        return select_features(plan, list(plan.definitions) if features is None else features)

    def _fields(self, model: str, plan: Plan, *, outcome: bool) -> list[Field]:
        """The fields of a table of questions; those by which an answer meets its outcome must be there for that."""
        keys = [field.name for _, field in self.app.model(model).outcome.keyed.keys] if outcome else []
        declared = {field.name: field for field in self.app.plans[model].fields}
        return [declared[field.name] if field.name in keys else field for field in plan.fields]

    def _open(self) -> None:
        if self._closed:
            raise StateError(Fault("store_closed", "the store is closed", hint="ik.open_store opens another"))

    def _time(self, now: Any) -> int:
        return self.app.clock() if now is None else parse_time(now)

    def _historical(
        self, model: str, plan: Plan, spine: Spine, now: int | None
    ) -> tuple[Sequence[Column], Frame]:
        """Columns of features and, where `now` is given, of outcomes."""
        definition, workspace = self.app.model(model), self.app.workspace
        with (
            workspace.view() as manifest,
            closing(event_store(workspace.project.tables, workspace.history, manifest)) as events,
        ):
            computed = historical_features(plan, spine.requests, spine.asked_at, events)
            found = Frame({FEATURE + name: computed[name] for name in computed})
            if now is None:
                return _feature_columns(plan), found
            outcomes = historical_outcomes(
                definition.target, definition.outcome, spine.requests, spine.asked_at, events, now=now
            )
        return (*_feature_columns(plan), *OUTCOME), found.with_columns(_outcome_columns(outcomes).columns)

    def _push(self, table: str, rows: Sequence[Any], delete: Sequence[Any]) -> Accepted:
        self._open()
        if self._journal is None:
            self._journal = self.app.journal("store")
        return self.app.intake(self._journal).push(table, rows, delete)


def _asked_after(spine: Spine, at: int, column: str) -> Fault | None:
    """The fault of questions that are asked after a time; None where there are none."""
    late = int((spine.asked_at > at).sum())
    what = f"{late:,} rows are asked later than {format_time(at)}: nobody knows then"
    return Fault("asked_later", what, column) if late else None


def _feature_columns(plan: Plan) -> tuple[Column, ...]:
    return tuple(Column(FEATURE + column.name, column.kind) for column in plan.columns)


def _outcome_columns(outcomes: Outcomes) -> Frame:
    names = np.array([status.name.lower() for status in sorted(Status)], dtype=object)
    return Frame({"_target": outcomes.target, "_status": names[outcomes.status]})


def _relation(inputs: Sequence[Column], found: Sequence[Column], frame: Frame) -> duckdb.DuckDBPyRelation:
    """A relation for people: times as timestamps in UTC, flags of the request as booleans."""
    connection = duckdb.connect(config={"threads": 2})
    create_table(connection, "stored", (*inputs, *found), frame)
    shown = {Kind.TIME: "make_timestamp({0}) AS {0}", Kind.FLAG: "({0} = 1) AS {0}"}
    listed = [shown.get(column.kind, "{0}").format(quote(column.name)) for column in inputs]
    listed += [quote(column.name) for column in found]
    connection.execute(f"CREATE TEMP TABLE questions AS SELECT {', '.join(listed)} FROM stored ORDER BY _row")
    return connection.table("questions")
