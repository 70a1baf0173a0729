"""The only wiring: a project folder and settings in, working objects out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lmdb

from icekeel.core.errors import Fault, ProjectError, RequestError, StateError, nearest
from icekeel.core.ids import digest
from icekeel.core.time import SECOND, Clock, wall_clock
from icekeel.data import (
    History,
    Ingested,
    Receipt,
    StoredFile,
    Taking,
    Vault,
    find_sources,
    ingest,
    ingest_table,
)
from icekeel.data.answers import Answers, Wanted
from icekeel.data.labels import label_tables
from icekeel.data.quarantine import Desk
from icekeel.define import EventTable, Fresh, Model, Project, load_project
from icekeel.define.windows import EVER
from icekeel.features.freshness import TableAge, table_age
from icekeel.features.live import StateCell, all_views
from icekeel.features.online.chunks import FORMAT
from icekeel.features.online.lmdb import open_environment
from icekeel.features.plan import Plan, make_plan
from icekeel.journal import Ingested as IngestedRecord
from icekeel.journal import Predicted, Writer
from icekeel.operations.accounts.briefing import Briefing, briefing
from icekeel.operations.accounts.explain import Explanation, explain
from icekeel.operations.accounts.readiness import Answered, Circumstances, readiness
from icekeel.operations.accounts.trace import Standing, Trace, trace
from icekeel.operations.alerts.channels import channels
from icekeel.operations.alerts.notices import Teller
from icekeel.operations.loop.keeper import Keeper
from icekeel.operations.loop.loop import Loop
from icekeel.operations.loop.renewal import Renewal
from icekeel.operations.loop.reviews import Reviews
from icekeel.operations.loop.schedule import Cadence, Schedule, tasks_of
from icekeel.operations.projections.projections import LAYOUT
from icekeel.operations.runs import Runs
from icekeel.operations.skew.skew import SAMPLE, Auditor, AuditResult
from icekeel.operations.snapshots import Snapshots
from icekeel.operations.upkeep.backup import finish_restore
from icekeel.operations.upkeep.forgetting import Forgetting, as_stored, check_marks, entities
from icekeel.operations.upkeep.retention import Kept, Retention
from icekeel.operations.workshop.audits import Audited, audit_model
from icekeel.operations.workshop.labelling import Labelling
from icekeel.operations.workshop.retraining import Retraining, train_command
from icekeel.operations.workshop.study import Study
from icekeel.operations.workshop.workshop import Say, Workshop
from icekeel.operations.workspace import Workspace
from icekeel.registry import Registry
from icekeel.serving import Access, Answerer, Intake, OnlineReader, Router, Windows
from icekeel.serving.conduct import reads_last_champion
from icekeel.training.cache import FeatureCache
from icekeel.training.dataset import declared_questions, event_store, feature_cache, past_questions

from .settings import Places, Settings, lasting, load_settings, pace

log = logging.getLogger(__name__)


class App:
    """A project, opened.

    Args:
        folder: Where `project.py` lies.
        settings: Read from the folder where not given.
        clock: The time; a rehearsal gives its own.
    """

    def __init__(self, folder: Path, settings: Settings | None = None, *, clock: Clock = wall_clock) -> None:
        self.folder = folder
        self.settings = settings or load_settings(folder)
        self.project: Project = load_project(folder)
        self.clock = clock
        self.plans: Mapping[str, Plan] = {
            name: _plan(model, self.project) for name, model in self.project.models.items()
        }
        views = [lookup.view for lookup in all_views(list(self.plans.values()))]
        made_for = digest(repr((FORMAT, LAYOUT, views)).encode())[:16]
        self.places = Places((folder / self.settings.state).resolve(), made_for)
        finish_restore(self.places.state)
        folders = (self.places.journal, self.places.bundles, self.places.runs)
        self.workspace = Workspace(self.project, self.plans, self.history(), *folders)

    def model(self, name: str) -> Model:
        """A model by name.

        Raises:
            ProjectError: there is none of that name.
        """
        if name not in self.project.models:
            hint = nearest(name, self.project.models)
            known = ", ".join(self.project.models)
            raise ProjectError(Fault("unknown_model", f'no model "{name}"', "", "", known, hint))
        return self.project.models[name]

    def table(self, name: str) -> EventTable:
        """An event table by name.

        Raises:
            ProjectError: there is none of that name.
        """
        tables = self.project.tables
        if name not in tables:
            hint = nearest(name, tables)
            known = ", ".join(tables)
            raise ProjectError(Fault("unknown_table", f'no event table "{name}"', "", "", known, hint))
        return tables[name]

    @property
    def ahead(self) -> frozenset[str]:
        """Tables that may hold plans: a window looks ahead in them, or looks up the newest row of an id.

        Rows that must be fresh say what holds now: of such a table only a window that looks ahead makes plans.
        """
        fresh = {name for name, table in self.project.tables.items() if table.fresh != Fresh()}
        return frozenset(
            lookup.view.table
            for lookup in self.workspace.lookups
            for one in lookup.view.aggregates
            if one.span.low <= 0 or (one.span.high >= EVER and lookup.view.table not in fresh)
        )

    def history(self) -> History:
        """The Parquet files."""
        return History(self.places.history)

    def ingest(
        self, names: Sequence[str], progress: Callable[[str], None] = lambda line: None
    ) -> list[Ingested]:
        """Take the declared sources of some tables (all by default) into history, and say so in the journal.

        Raises:
            ProjectError: there is no such table.
            SourceError: a source that cannot be read; sources before it are kept.
        """
        tables = self.project.tables
        chosen = [self.table(name) for name in names] or list(tables.values())
        results: list[Ingested] = []
        for table in chosen:
            if table.source:
                with self._taking(table, progress) as how:
                    results += ingest(self.history(), table, find_sources(self.folder, table.source), how)
        return results

    def ingest_table(self, name: str, given: Any) -> Ingested:
        """Take a data frame, an Arrow table or a list of dicts into the history of an event table, as `ingest` a file.

        Raises:
            ProjectError: there is no such table.
            SourceError: it cannot be read as rows of it; nothing is kept.
        """
        table = self.table(name)
        with self._taking(table) as how:
            return ingest_table(self.history(), table, given, how)

    @contextmanager
    def _taking(
        self, table: EventTable, progress: Callable[[str], None] = lambda line: None
    ) -> Iterator[Taking]:
        """How rows are taken: what is stored is journaled, so that the keeper projects it."""
        with self.journal("ingest") as journal:

            def announce(name: str, file: StoredFile) -> None:
                digest = file.name.split(".")[0]
                journal.append(IngestedRecord(self.clock(), name, file.name, digest, file.rows))

            yield Taking(announce, progress, self.clock(), table.name in self.ahead, self.vault)

    def desk(self, *, by: str, reason: str) -> Desk:
        """Where rows in quarantine are repaired or dismissed."""
        return Desk(self.history(), self.places.journal, by, reason, self.clock(), self.ahead)

    def freshness(self, names: Sequence[str] = ()) -> list[TableAge]:
        """How old the rows of each table are (all by default), those that are in the journal alone included.

        Raises:
            ProjectError: there is no such table.
        """
        tables = [self.table(name) for name in names or self.project.tables]
        with self.workspace.view() as manifest:
            store = event_store(self.project.tables, self.history(), manifest)
            with closing(store):
                return [table_age(store, table, self.clock()) for table in tables]

    def feature_cache(self, name: str) -> FeatureCache:
        """What training would find kept of a model's features, and what it would compute, were it to begin now.

        Raises:
            SourceError, TrainingError: the past questions cannot be read, or there are none.
        """
        model, plan, now = self.model(name), self.plans[name], self.clock()
        manifest = self.workspace.compact().known(now)
        declared = declared_questions(model, plan, self.folder, self.history(), self.vault)
        questions = past_questions(model, plan, declared, self.history(), manifest, now=now)
        return feature_cache(name, plan, questions, self.project.tables, self.history(), manifest)

    def audit(self, model: str, limit: int = SAMPLE) -> AuditResult:
        """Recompute the features of a sample of all answers; see `Auditor.audit`.

        Without an online state nothing is known of how far it was when they were answered, so none is compared.
        """
        name = self.model(model).name
        with self.projected() as online:
            return Auditor(self.workspace, online).audit(name, limit)

    def audit_all(
        self, registry: Registry, model: str, only: Sequence[str], *, sample: int, now: int, say: Say
    ) -> Audited:
        """Make the audits named, all by default, of a model's training set and answers; see `audit_model`."""
        return audit_model(
            self.model(model),
            self.workshop(registry),
            registry,
            partial(self.audit, model, sample),
            only=only,
            now=now,
            say=say,
        )

    def answers(self) -> Answers:
        """What finds answers that were given, wherever they are."""
        return Answers(self.history(), self.places.journal)

    @cached_property
    def vault(self) -> Vault | None:
        """Who is behind pseudonyms; None where no field of the project is private, or ever was.

        Raises:
            StateError: it is missing or damaged, or what is stored of a field does not fit its present privacy.
        """
        if not entities(self.project) and not (self.places.state / "vault.db").exists():
            return None
        vault = Vault(self.places.state, self.settings.vault_key)
        check_marks(self.workspace, vault)
        return vault

    def forget(self, entity: str, value: str, *, by: str, reason: str) -> Receipt | None:
        """Forget who a value names, and say what is left; None where nothing is known of it. See `Forgetting`."""
        if self.vault is None:
            hint = "mark what names people: customer: ik.Id = ik.private()"
            raise RequestError(Fault("unknown_entity", "no field of this project is private", hint=hint))
        with self.journal("forget") as journal:
            forgetting = Forgetting(self.workspace, self.vault, journal, self.clock)
            return forgetting.forget(entity, value, by=by, reason=reason)

    def find_answers(self, wanted: Wanted) -> list[Predicted]:
        """Answers, the newest first; a private key or unit is asked for by its value."""
        if self.vault is not None:
            wanted = as_stored(self.project, self.vault, wanted)
        return self.answers().find(wanted)

    def explain(self, identifier: str) -> Explanation:
        """Why an answer is what it is; see `operations.accounts.explain`.

        Raises:
            RequestError: `unknown_prediction`.
            ProjectError: its model is not in the project any more.
            RegistryError, BundleError: its version is gone, or damaged.
        """
        record = self.answers().one(identifier)
        with closing(self.registry()) as registry:
            return explain(record, self.model(record.model), registry, self.places.bundles)

    def briefing(self, name: str) -> Briefing:
        """What there is to say of a version, or of a model's champion; see `operations.accounts.briefing`.

        Raises:
            RegistryError: `unknown_name`; `no_champion`, no version of the model serves.
            ProjectError: its model is not in the project any more.
            BundleError: its bundle is damaged.
        """
        with closing(self.registry()) as registry, self.projected() as online:
            version = registry.named(name, self.project.models)
            self.model(version.model)
            return briefing(self.workspace, registry, version, online, now=self.clock())

    def readiness(self, about: Briefing, *, words: int) -> list[Answered]:
        """The five questions before a version is trusted; `words` are those of its page. See `operations.accounts.readiness`."""
        try:
            with self.online(readonly=True) as online, online.begin() as txn:
                seen = StateCell(online).read(txn).seen
        except (StateError, lmdb.Error):
            seen = 0
        standing = Circumstances(self.history().manifest(), seen, words, self.clock())
        plan = self.plans[about.definition.name]
        with closing(self.registry()) as registry:
            return readiness(about, self.project, plan, registry, standing)

    def trace(self, identifier: str) -> Trace:
        """All that stands behind an answer; see `operations.accounts.trace`.

        Raises:
            RequestError: `unknown_prediction`.
        """
        record = self.answers().one(identifier)
        with self.projected() as online:
            standing = Standing.of(online, record.position)
        with closing(self.registry()) as registry:
            return trace(self.workspace, registry, record, standing, now=self.clock())

    def reviews(self, registry: Registry) -> Reviews:
        """The flagged requests that wait for a person."""
        return Reviews(self.project, self.answers(), registry, self.clock)

    def registry(self) -> Registry:
        """Versions, aliases, decisions, alerts."""
        self.places.make()
        return Registry(self.places.registry, clock=self.clock)

    def journal(self, process: str) -> Writer:
        """This process's writer."""
        self.places.make()
        return Writer(self.places.journal, process, clock=self.clock)

    def access(self) -> Access:
        """The tokens."""
        return Access(self.places.tokens)

    def online(self, *, readonly: bool) -> lmdb.Environment:
        """The environment of the projections.

        Raises:
            StateError: the keeper has not made it, or it is damaged.
        """
        return open_environment(self.places.online, readonly=readonly)

    @contextmanager
    def projected(self) -> Iterator[lmdb.Environment | None]:
        """The same, to look at; None where there is none that can be opened."""
        try:
            online = self.online(readonly=True)
        except StateError:
            yield None
            return
        with online:
            yield online

    def answerers(
        self, registry: Registry, journal: Writer, online: lmdb.Environment | None
    ) -> dict[str, Answerer]:
        """What answers requests, by model; without an online state as each model's `stale=` says."""
        found = {}
        for name, model in self.project.models.items():
            plan = self.plans[name]
            previous = reads_last_champion(model)
            rollout = model.rollout
            router = Router(name, registry, self.places.bundles, plan, previous=previous, rollout=rollout)
            with suppress(StateError):  # a registry that cannot be read now may be later: refresh it again
                router.refresh()
            windows = self._windows(model, plan, online=online)
            hide = self.vault.hide if self.vault else None
            found[name] = Answerer(model, plan, windows, router, journal=journal, clock=self.clock, hide=hide)
        return found

    def readers(self, online: lmdb.Environment | None) -> dict[str, OnlineReader]:
        """What reads the features of single requests, by model; without an online state as `stale=` says."""
        seek = self.vault.seek if self.vault else None
        return {
            name: OnlineReader(
                self.plans[name], partial(self._windows, model, online=online), self.clock, seek
            )
            for name, model in self.project.models.items()
        }

    def _windows(self, model: Model, plan: Plan, *, online: lmdb.Environment | None) -> Windows:
        views = [lookup.view for lookup in self.workspace.lookups]
        fresh = {lookup.view.table: self.project.tables[lookup.view.table].fresh for lookup in plan.lookups}
        windows = Windows(
            model, plan, views, fresh=fresh, clock=self.clock, rehearsal=self.settings.rehearsal
        )
        windows.connect(online, "" if online is not None else "it is being opened")
        return windows

    def intake(self, journal: Writer) -> Intake:
        """What takes pushed events."""
        return Intake(
            self.project.tables,
            journal,
            self.clock,
            ahead=self.ahead,
            rehearsal=self.settings.rehearsal,
            hide=self.vault.hide if self.vault else None,
        )

    def teller(self, registry: Registry) -> Teller:
        """What tells people of alerts."""
        to = channels(self.settings.notify, self.settings.notify_key)
        return Teller(registry, to, self.places.state / "tell.lock", self.clock)

    def workshop(self, registry: Registry) -> Workshop:
        """What trains and admits versions."""
        settings = self.settings
        return Workshop(
            self.workspace, registry, threads=settings.threads, core_hour=settings.core_hour, vault=self.vault
        )

    @property
    def kept(self) -> Kept:
        """How long what is kept."""
        durations = (self.settings.keep_journal, self.settings.keep_answers, self.settings.keep_snapshots)
        return Kept(*map(lasting, durations))

    @property
    def cadence(self) -> Cadence:
        """How often what is done; see `Cadence`."""
        settings, to = self.settings, self.settings.backup_to
        return Cadence(
            pace(settings.ingest_every),
            pace(settings.audit_every),
            pace(settings.backup_every),
            backup_to=to if not to or "://" in to else str((self.folder / to).resolve()),
            keep_backups=settings.keep_backups,
            mirrored=bool(settings.mlflow),
            ingest_limit_s=pace(settings.longest_ingest) / SECOND,
            limit_s=pace(settings.longest_run) / SECOND,
        )

    def snapshots(self, registry: Registry) -> Snapshots:
        """The pinned snapshots."""
        workshop = self.workshop(registry)
        return Snapshots(
            self.history(),
            registry,
            {**self.project.tables, **label_tables(self.project.models)},
            lambda model: workshop.snapshot(model, self.clock())[0],
        )

    def labelling(self, registry: Registry) -> Labelling:
        """What lists labels in doubt, and takes in what people say of them."""
        return Labelling(self.workspace, self.workshop(registry), self.clock)

    def study(self, registry: Registry) -> Study:
        """What measures the worth of features."""
        return Study(
            self.project,
            self.plans,
            self.workshop(registry),
            projected=self.projected,
            views=[lookup.view for lookup in self.workspace.lookups],
            now=self.clock(),
        )

    def keeper(self, registry: Registry, journal: Writer) -> Keeper:
        """What makes every projection, from the journal and history where there are none for these definitions.

        They are made anew too where those that there are cannot be read, and where `ask_anew` was called. At most one
        keeper may run.
        """
        return self._renewal(registry, journal).keeper()

    def keep(
        self, registry: Registry, journal: Writer, stop: threading.Event, *, ready: Callable[[], None]
    ) -> None:
        """Run the keeper until told to stop, and another after it wherever the projections are made anew.

        Args:
            ready: Told once the first one stands.
        """
        self._renewal(registry, journal).keep(stop, ready=ready)

    def ask_anew(self, damage: str = "") -> None:
        """Have the keeper make all projections anew, now or when it next starts; see `Places.ask_anew`."""
        self.places.ask_anew(damage)

    def _renewal(self, registry: Registry, journal: Writer) -> Renewal:
        return Renewal(self.places, lambda online: self._keeper(online, registry, journal))

    def _keeper(self, online: lmdb.Environment, registry: Registry, journal: Writer) -> Keeper:
        environment = {f"ICEKEEL_{name.upper()}": str(value) for name, value in asdict(self.settings).items()}
        runs = Runs(registry, self.places.runs, environment, clock=self.clock)
        cadence, wait = self.cadence, self.settings.rehearsal
        retraining = Retraining(
            registry, runs, partial(train_command, self.folder), limit_s=cadence.limit_s, wait=wait
        )
        loop = Loop(self.workspace, registry=registry, journal=journal, retraining=retraining)
        teller = self.teller(registry) if self.settings.notify else None
        tasks = [] if wait else list(tasks_of(self.workspace, registry, cadence, teller))
        retention = Retention(self.workspace, registry, journal, kept=self.kept)
        try:
            return Keeper(
                self.workspace,
                online=online,
                registry=registry,
                loop=loop,
                retention=retention,
                schedule=Schedule(tasks, runs, registry, loop.alerting, self.clock),
                clock=self.clock,
                rehearsal=self.settings.rehearsal,
            )
        except BaseException:
            online.close()
            raise


def _plan(model: Model, project: Project) -> Plan:
    """All features of a model, those of its baseline included."""
    features = {feature.name: feature for feature in model.features.icekeel_features}
    if model.baseline is not None:
        for feature in model.baseline.icekeel_features:
            features.setdefault(feature.name, feature)
    fresh = {name: table.fresh for name, table in project.tables.items()}
    return make_plan(tuple(model.request.icekeel_fields.values()), tuple(features.values()), fresh)
