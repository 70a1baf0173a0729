"""The registry: versions, what serves and why, decisions, alerts and runs, in one small database."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql

from icekeel.core.errors import Fault, RegistryError, nearest, shorten
from icekeel.core.ids import new_id
from icekeel.core.time import Clock

from . import records, tables
from .changes import CHAMPION, failures, misfits, promoted, unreasoned
from .records import Alert, AlertChange, Alias, Change, Decision, Delivery, Json, Review, Run, Version

RowT = TypeVar("RowT", Version, Change, Decision, Alert, AlertChange, Delivery, Review, Run)


class Registry:
    """Every version of every model and what was decided about them.

    Threads and processes may share one database. Writers take turns on the row that holds the revision;
    readers never wait. Each method is one transaction; `atomically` makes one of several. Where a method
    takes `at` it is the time to record, in microseconds UTC, and the clock's by default. Any of them may raise a
    `StateError`: the database is locked, damaged or gone (`registry_unreadable`), or of another format (`bad_format`).
    """

    def __init__(self, place: str | Path, *, clock: Clock) -> None:
        """Of the database at a URL, or the SQLite file at a path; the first call opens it, and makes it where absent."""
        self._database = tables.Database(place)
        self._clock = clock
        self._local = threading.local()

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def changed(self) -> int:
        """A number that grows with every version, change of an alias, decision and review: the same means none is new.

        Runs and alerts do not count: nobody serves otherwise because of them.
        """
        kept = (tables.versions, tables.changes, tables.decisions, tables.reviews)
        with self._reading() as connection:
            return sum(
                connection.scalar(sql.select(sql.func.count()).select_from(table)) or 0 for table in kept
            )

    @contextmanager
    def atomically(self) -> Iterator[None]:
        """Makes one transaction of all that this thread does inside: all of it is kept, or none."""
        with self._writing():
            yield

    # Versions

    def register(
        self,
        model: str,
        digest: str,
        *,
        snapshot: str,
        code: str,
        features: str,
        metrics: Json,
        gates: Sequence[Json],
        ladder: Json,
        trained_from: int,
        trained_to: int,
        reason: str,
        by: str = "",
        lineage: Json | None = None,
        definitions: Mapping[str, Mapping[str, str]] | None = None,
        at: int | None = None,
    ) -> Version:
        """The version of this bundle: a new one, or the one registered before under the same digest.

        The bundle must be on disk by now: a crash before this leaves a folder that nobody knows of, never a version
        without its bundle.
        """
        table = tables.versions
        with self._writing() as connection:
            of_model = self._rows(Version, sql.select(table).where(table.c.model == model))
            for version in of_model:
                if version.digest == digest:
                    return version
            number = 1 + max((version.number for version in of_model), default=0)
            version = Version(
                name=f"{model}-{number}",
                model=model,
                number=number,
                digest=digest,
                snapshot=snapshot,
                code=code,
                features=features,
                metrics=metrics,
                gates=list(gates),
                ladder=ladder,
                trained_from=trained_from,
                trained_to=trained_to,
                reason=reason,
                by=by,
                lineage=lineage or {},
                definitions=definitions or {},
                at=self._time(at),
            )
            connection.execute(sql.insert(table), asdict(version))
            return self.version(version.name)

    def versions(self, model: str | None = None) -> list[Version]:
        """All versions, of one model or of all, oldest first."""
        table = tables.versions
        query = sql.select(table).order_by(table.c.model, table.c.number)
        return self._rows(Version, query if model is None else query.where(table.c.model == model))

    def version(self, name: str) -> Version:
        """The version of this name.

        Raises:
            RegistryError: `unknown_version`.
        """
        table = tables.versions
        found = self._rows(Version, sql.select(table).where(table.c.name == name))
        if found:
            return found[0]
        with self._reading() as connection:
            names = connection.scalars(sql.select(table.c.name)).all()
        raise RegistryError(
            Fault("unknown_version", "no such version", got=f'"{name}"', hint=nearest(name, names))
        )

    # Aliases

    def aliases(self, model: str) -> dict[str, Alias]:
        """What serves now: "champion", "challenger", "shadow:1" or any other name -> its version."""
        table = tables.changes
        newest = (
            sql.select(sql.func.max(table.c.position)).where(table.c.model == model).group_by(table.c.alias)
        )
        current = sql.select(table).where(table.c.position.in_(newest), table.c.action != "drop")
        return {row.alias: _as_alias(row) for row in self._rows(Change, current.order_by(table.c.position))}

    def history(self, model: str) -> list[Change]:
        """Every change of an alias, oldest first."""
        table = tables.changes
        return self._rows(Change, sql.select(table).where(table.c.model == model).order_by(table.c.position))

    def overrides(self) -> dict[str, list[Change]]:
        """Version -> the promotions that passed over gates it had failed, whatever serves today."""
        table, found = tables.changes, dict[str, list[Change]]()
        query = sql.select(table).where(table.c.override != "").order_by(table.c.position)
        for change in self._rows(Change, query):
            found.setdefault(change.version, []).append(change)
        return found

    def set_alias(
        self,
        model: str,
        alias: str,
        version: str,
        *,
        share: float = 1.0,
        reason: str,
        by: str,
        evidence: Json | None = None,
        override: str = "",
        at: int | None = None,
    ) -> Alias:
        """Makes an alias stand for a version; nothing is written where it does already, with that share.

        Args:
            share: Share of the traffic, 0 to 1.
            override: Why a version is taken although it failed gates; kept for ever.

        Raises:
            RegistryError: `unknown_version`; `wrong_model`; `bad_share`; `no_reason`; `gate_failed`, one for each gate.
        """
        with self._writing():
            checked = self.version(version)
            passed_over = [] if override.strip() else failures(checked)
            faults = [*misfits(model, checked, share), *unreasoned(reason), *passed_over]
            if faults:
                raise RegistryError(*faults)
            current = self.aliases(model).get(alias)
            same = current is not None and current.version == version
            if current is not None and same and current.share == share:
                return current
            salt = current.salt if current is not None and same else self._salt(model, version)
            line = self._line(model, alias, reason, by, evidence, at)
            given = override if checked.failed else ""
            return self._append(line(action="set", version=version, share=share, salt=salt, override=given))

    def drop_alias(
        self,
        model: str,
        alias: str,
        *,
        reason: str,
        by: str,
        evidence: Json | None = None,
        at: int | None = None,
    ) -> None:
        """Makes an alias stand for nothing.

        Raises:
            RegistryError: `unknown_alias`; `champion_stays`, since a champion is only ever replaced.
        """
        if alias == CHAMPION:
            what, hint = "a champion is replaced, not dropped", "promote or roll back"
            raise RegistryError(Fault("champion_stays", what, model, hint=hint))
        with self._writing():
            current = self._alias(model, alias)
            line = self._line(model, alias, reason, by, evidence, at)
            self._append(line(action="drop", version=current.version, share=0.0, salt=current.salt))

    def rollback(
        self, model: str, *, expected: str = "", reason: str, by: str, at: int | None = None
    ) -> Version:
        """Makes the champion the version that was promoted before it, and gives that version.

        A second roll-back goes one further back, never forward again.

        Args:
            expected: The champion that is to go; whichever it is by default.

        Raises:
            RegistryError: `unknown_alias`, there is no champion; `no_previous`, it was the first; `no_reason`;
                `changed`, it is not the one expected.
        """
        with self._writing():
            if faults := [*unreasoned(reason)]:
                raise RegistryError(*faults)
            champion = self._alias(model, CHAMPION).version
            if expected not in ("", champion):
                what, hint = "another version serves already", f"icekeel models list; {champion} serves"
                raise RegistryError(Fault("changed", what, model, champion, expected, hint))
            past = promoted(self.history(model))
            if len(past) < 2:
                what, hint = "no champion before this one", "promote another"
                raise RegistryError(Fault("no_previous", what, model, past[-1], hint=hint))
            line, salt = self._line(model, CHAMPION, reason, by, None, at), self._salt(model, past[-2])
            self._append(line(action="rollback", version=past[-2], share=1.0, salt=salt))
            return self.version(past[-2])

    def previous_champion(self, model: str) -> str | None:
        """The version that a roll-back would go back to; None where there is none."""
        past = promoted(self.history(model))
        return past[-2] if len(past) > 1 else None

    def champion(self, model: str) -> Version:
        """The version that serves a model.

        Raises:
            RegistryError: `no_champion`.
        """
        alias = self.aliases(model).get(CHAMPION)
        if alias is None:
            hint = f"icekeel train {model}"
            raise RegistryError(Fault("no_champion", f'no version serves "{model}"', hint=hint))
        return self.version(alias.version)

    def named(self, name: str, models: Collection[str]) -> Version:
        """The champion of one of some models, or a version.

        Raises:
            RegistryError: `unknown_name`, nothing is called so; `no_champion`.
        """
        known = [*models, *(one.name for one in self.versions())]
        if name not in known:
            hint = nearest(name, known) or "an answer has 28 hexadecimal digits; icekeel answers lists them"
            what, allowed = "no model, version or answer is called so", ", ".join(models)
            raise RegistryError(Fault("unknown_name", what, "", shorten(name), allowed, hint))
        return self.champion(name) if name in models else self.version(name)

    # Decisions, alerts, runs

    def record(self, what: Decision | Alert | Review) -> bool:
        """Keeps what is given; False if one with its id is kept already, which then stays as it is."""
        table = {Decision: tables.decisions, Alert: tables.alerts, Review: tables.reviews}[type(what)]
        with self._writing() as connection:
            if connection.scalar(sql.select(table.c.id).where(table.c.id == what.id)) is not None:
                return False
            values = {name: value for name, value in asdict(what).items() if name in table.c}
            connection.execute(sql.insert(table), values)
            return True

    def decisions(self, model: str | None = None, since: int | None = None) -> list[Decision]:
        """Decisions with `at >= since`, oldest first."""
        return self._rows(Decision, _selected(tables.decisions, model, since))

    def alerts(
        self, model: str | None = None, since: int | None = None, *, open_only: bool = False
    ) -> list[Alert]:
        """Alerts with `at >= since`, oldest first, each with its history."""
        table, changes = tables.alerts, tables.alert_changes
        query = _selected(table, model, since)
        with self._reading() as connection:
            rows = connection.execute(
                query.where(table.c.resolved_at.is_(None)) if open_only else query
            ).mappings()
            found = [Alert(**row) for row in rows]
        of_these = sql.select(changes).where(changes.c.alert.in_([alert.id for alert in found]))
        history: dict[str, list[AlertChange]] = {}
        for change in self._rows(AlertChange, of_these.order_by(changes.c.position)) if found else ():
            history.setdefault(change.alert, []).append(change)
        return [replace(alert, changes=tuple(history.get(alert.id, ()))) for alert in found]

    def alert(self, identifier: str) -> Alert:
        """The alert whose id this is, or begins so.

        Raises:
            RegistryError: `unknown_alert`, there is none, or there are several.
        """
        found = [alert for alert in self.alerts() if identifier and alert.id.startswith(identifier)]
        if len(found) != 1:
            what = "no such alert" if not found else "several alerts begin so"
            allowed = ", ".join(alert.id for alert in found[:5])
            raise RegistryError(
                Fault("unknown_alert", what, "", f'"{identifier}"', allowed, "icekeel alerts list")
            )
        return found[0]

    def blocks(self, model: str) -> list[Alert]:
        """Open alerts about wrong data: nothing is learnt from those while they are open."""
        return [alert for alert in self.alerts(model, open_only=True) if alert.diagnosis == "bad data"]

    def change_alert(self, change: AlertChange) -> None:
        """Acknowledges, mutes, resolves or opens again.

        Raises:
            RegistryError: `unknown_alert`; `already_resolved`; `no_reason`; `bad_until`, of a mute beyond `LONGEST_MUTE` too.
        """
        table = tables.alerts
        with self._writing() as connection:
            asked = sql.select(table.c.resolved_at).where(table.c.id == change.alert)
            found = connection.execute(asked).first()
            if found is None:
                raise RegistryError(Fault("unknown_alert", "no such alert", got=change.alert))
            faults = [*unreasoned(change.reason)]
            ends = change.until is not None and 0 < change.until - change.at <= records.LONGEST_MUTE
            if (change.state == "muted") is not ends:
                what, allowed = "a mute needs a time to come at which it ends", "within a year"
                faults.append(Fault("bad_until", what, "until", allowed=allowed))
            if found.resolved_at is not None:
                what, hint = "the alert is resolved: what comes after is another", "icekeel alerts --open"
                faults.append(Fault("already_resolved", what, got=change.alert, hint=hint))
            if faults:
                raise RegistryError(*faults)
            connection.execute(sql.insert(tables.alert_changes), asdict(change))
            if change.state == "resolved":
                ended = sql.update(table).where(table.c.id == change.alert)
                connection.execute(ended.values(resolved_at=change.at, resolution=change.reason))

    def resolve(self, alert: str, *, resolution: str, by: str = "keeper", at: int | None = None) -> None:
        """Closes an alert; one that is closed stays as it is.

        Raises:
            RegistryError: `unknown_alert`.
        """
        change = AlertChange(alert=alert, state="resolved", by=by, reason=resolution, at=self._time(at))
        try:
            self.change_alert(change)
        except RegistryError as error:
            if error.code != "already_resolved":
                raise

    def renew(self, alert: str, evidence: Json, **changes: Any) -> None:
        """Replaces the evidence of an open alert that was found again; one that is closed stays as it is.

        Args:
            changes: What else is known better by now: `cause`, `todo` or `cost`.

        Raises:
            RegistryError: `unknown_alert`.
        """
        table = tables.alerts
        with self._writing() as connection:
            if connection.scalar(sql.select(table.c.id).where(table.c.id == alert)) is None:
                raise RegistryError(Fault("unknown_alert", "no such alert", got=alert))
            still_open = sql.update(table).where(table.c.id == alert, table.c.resolved_at.is_(None))
            connection.execute(still_open.values(evidence=evidence, **changes))

    def delivered(self, line: Delivery) -> None:
        """Adds a line to what was told to whom."""
        with self._writing() as connection:
            connection.execute(sql.insert(tables.deliveries), asdict(line))

    def deliveries(self, since: int = 0) -> list[Delivery]:
        """What was told to whom from a time on, oldest first."""
        table = tables.deliveries
        return self._rows(Delivery, sql.select(table).where(table.c.at >= since).order_by(table.c.position))

    def reviews(self, model: str | None = None) -> list[Review]:
        """What people decided, oldest first."""
        return self._rows(Review, _selected(tables.reviews, model, None))

    def start_run(self, kind: str, *, details: Json | None = None, at: int | None = None) -> str:
        """The id of a new run, kept with the status `running`."""
        now = self._time(at)
        run = Run(
            id=new_id(now),
            kind=kind,
            started_at=now,
            finished_at=None,
            status="running",
            details=details or {},
        )
        with self._writing() as connection:
            connection.execute(sql.insert(tables.runs), asdict(run))
        return run.id

    def finish_run(
        self, run: str, status: str, *, details: Json | None = None, at: int | None = None
    ) -> None:
        """Ends a run; details given replace those it was started with.

        Raises:
            RegistryError: `unknown_run`, there is none of that id that still runs.
        """
        values: dict[str, Any] = {"finished_at": self._time(at), "status": status}
        if details is not None:
            values["details"] = details
        table = tables.runs
        running = sql.update(table).where(table.c.id == run, table.c.finished_at.is_(None))
        with self._writing() as connection:
            if connection.execute(running.values(values)).rowcount == 0:
                raise RegistryError(Fault("unknown_run", "no such run is under way", got=run))

    def runs(self, kind: str | None = None, *, latest: int | None = None) -> list[Run]:
        """All runs, of one kind or of all, or so many of the latest; oldest first."""
        table = tables.runs
        query = sql.select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(latest)
        return self._rows(Run, query if kind is None else query.where(table.c.kind == kind))[::-1]

    def forget_runs(self, kind: str, *, before: int) -> None:
        """Removes the runs of a kind that ended before a time: of what is done every few minutes many come together."""
        table = tables.runs
        with self._writing() as connection:
            connection.execute(sql.delete(table).where(table.c.kind == kind, table.c.finished_at < before))

    # Transactions

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        outer: sql.Connection | None = getattr(self._local, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._database.connect(write=True) as connection:
            # Comes first: it makes writers wait for each other before any of them has read.
            connection.execute(sql.update(tables.state).values(revision=tables.state.c.revision + 1))
            self._local.connection = connection
            try:
                yield connection
            finally:
                self._local.connection = None

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        outer: sql.Connection | None = getattr(self._local, "connection", None)
        with self._database.connect() if outer is None else nullcontext(outer) as connection:
            yield connection

    def _rows(self, kind: type[RowT], query: sql.Select[Any]) -> list[RowT]:
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [kind(**{name: row[name] for name in kind.__dataclass_fields__}) for row in rows]

    def _line(
        self, model: str, alias: str, reason: str, by: str, evidence: Json | None, at: int | None
    ) -> partial[Change]:
        """A line of the history of aliases, but for what becomes of the alias."""
        line = partial(Change, model=model, alias=alias, reason=reason, by=by)
        return partial(line, evidence=evidence or {}, at=self._time(at))

    def _append(self, change: Change) -> Alias:
        with self._writing() as connection:
            connection.execute(sql.insert(tables.changes), asdict(change))
        return _as_alias(change)

    def _alias(self, model: str, alias: str) -> Alias:
        aliases = self.aliases(model)
        if alias not in aliases:
            raise RegistryError(
                Fault("unknown_alias", "no such alias", model, f'"{alias}"', hint=nearest(alias, aliases))
            )
        return aliases[alias]

    def _salt(self, model: str, version: str) -> str:
        """Follows from the history alone, so that a rehearsal splits traffic alike each time."""
        return f"{version}/{len(self.history(model))}"

    def _time(self, at: int | None) -> int:
        return self._clock() if at is None else at


def _selected(table: sql.Table, model: str | None, since: int | None) -> sql.Select[Any]:
    query = sql.select(table).order_by(table.c.at, table.c.id)
    if model is not None:
        query = query.where(table.c.model == model)
    return query if since is None else query.where(table.c.at >= since)


def _as_alias(change: Change) -> Alias:
    return Alias(
        version=change.version, share=change.share, since=change.at, reason=change.reason, salt=change.salt
    )
