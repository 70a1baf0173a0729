"""The only wiring: a project folder and settings in, working objects out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lmdb

from icekeel.core.errors import Fault, ProjectError, nearest
from icekeel.core.ids import digest
from icekeel.core.kinds import Column
from icekeel.core.time import Clock, format_time, wall_clock
from icekeel.data import History, Ingested, Manifest, find_sources, ingest
from icekeel.data.compaction import answer_columns, compact
from icekeel.define import Model, Project, load_project
from icekeel.define.windows import EVER
from icekeel.features.live import LiveFeatures, all_views
from icekeel.features.online.chunks import FORMAT
from icekeel.features.online.lmdb import open_environment
from icekeel.features.plan import Lookup, Plan, make_plan
from icekeel.journal import Ingested as IngestedRecord
from icekeel.journal import Writer
from icekeel.operations.audit import SAMPLE, Auditor, AuditResult
from icekeel.operations.keeper import Keeper
from icekeel.operations.loop import Loop
from icekeel.operations.projections import LAYOUT
from icekeel.operations.retraining import Job, Retraining
from icekeel.operations.workshop import Workshop
from icekeel.registry import Registry
from icekeel.serving import Access, Answerer, Intake, OnlineReader, Router

from .settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Places:
    """Where a project keeps what.

    Attributes:
        state: Folder of everything.
        views: Digest of the windows that are kept online.
    """

    state: Path
    views: str = ""

    @property
    def journal(self) -> Path:
        """Segments of the journal."""
        return self.state / "journal"

    @property
    def history(self) -> Path:
        """Parquet files and their manifest."""
        return self.state / "history"

    @property
    def online(self) -> Path:
        """The LMDB environment of all projections; other windows find none here and have it made."""
        return self.state / "online" / self.views

    @property
    def bundles(self) -> Path:
        """One folder per bundle."""
        return self.state / "bundles"

    @property
    def registry(self) -> Path:
        """The registry's SQLite file."""
        return self.state / "registry.db"

    @property
    def tokens(self) -> Path:
        """Hashes of the access tokens."""
        return self.state / "tokens.json"


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
        self.plans: Mapping[str, Plan] = {name: _plan(model) for name, model in self.project.models.items()}
        views = [lookup.view for lookup in self.lookups]
        made_for = digest(repr((FORMAT, LAYOUT, views)).encode())[:16]
        self.places = Places((folder / self.settings.state).resolve(), made_for)

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

    @property
    def lookups(self) -> list[Lookup]:
        """Every view that the keeper keeps."""
        return all_views(list(self.plans.values()))

    @property
    def ahead(self) -> frozenset[str]:
        """Tables that may hold plans: a window looks ahead in them, or looks up the newest row of an id."""
        return frozenset(
            lookup.view.table
            for lookup in self.lookups
            for one in lookup.view.aggregates
            if one.span.low <= 0 or one.span.high >= EVER
        )

    def history(self) -> History:
        """The Parquet files."""
        return History(self.places.history)

    def ingest(self, names: Sequence[str]) -> list[Ingested]:
        """Take the declared files of some tables (all by default) into history, and say so in the journal.

        Raises:
            ProjectError: there is no such table.
            SourceError: a file that cannot be read; files before it are kept.
        """
        tables = self.project.tables
        unknown = [name for name in names if name not in tables]
        if unknown:
            hint = nearest(unknown[0], tables)
            raise ProjectError(
                Fault("unknown_table", f'no event table "{unknown[0]}"', "", "", ", ".join(tables), hint)
            )
        results: list[Ingested] = []
        with self.journal("ingest") as journal:

            def announce(one: Ingested) -> None:
                if one.file is not None:
                    name = one.file.name
                    digest = name.split(".")[0]
                    journal.append(IngestedRecord(self.clock(), one.table, name, digest, one.kept))

            for table in (tables[name] for name in names or tables):
                if table.source:
                    sources = find_sources(self.folder, table.source)
                    results += ingest(
                        self.history(),
                        table,
                        sources,
                        announce=announce,
                        now=self.clock(),
                        ahead=table.name in self.ahead,
                    )
        return results

    def audit(self, model: str, limit: int = SAMPLE) -> AuditResult:
        """Recompute the features of a sample of all answers; see `Auditor.audit`.

        Answers that were asked before the keeper had read all there was are left out where they differ, unless
        they are of the keeper's own daily audit, which knows how far it had read.
        """
        return self._auditor().audit(self.model(model).name, limit)

    def registry(self) -> Registry:
        """Versions, aliases, decisions, alerts."""
        self.places.state.mkdir(parents=True, exist_ok=True)
        return Registry(self.places.registry, clock=self.clock)

    def journal(self, process: str) -> Writer:
        """This process's writer."""
        return Writer(self.places.journal, process, clock=self.clock)

    def access(self) -> Access:
        """The tokens."""
        return Access(self.places.tokens)

    def online(self, *, readonly: bool) -> lmdb.Environment:
        """The environment of the projections.

        Raises:
            StateError: the keeper has not made it.
        """
        return open_environment(self.places.online, readonly=readonly)

    def answerers(self, registry: Registry, journal: Writer, online: lmdb.Environment) -> dict[str, Answerer]:
        """What answers requests, by model."""
        views = [lookup.view for lookup in self.lookups]
        found = {}
        for name, model in self.project.models.items():
            plan = self.plans[name]
            router = Router(name, registry, self.places.bundles, plan.definitions)
            router.refresh()
            features = LiveFeatures(online, plan, views)
            found[name] = Answerer(
                model,
                plan,
                features,
                router,
                journal=journal,
                clock=self.clock,
                rehearsal=self.settings.rehearsal,
            )
        return found

    def readers(self, online: lmdb.Environment) -> dict[str, OnlineReader]:
        """What reads the features of single requests, by model."""
        views = [lookup.view for lookup in self.lookups]
        return {
            name: OnlineReader(
                plan,
                lambda part: LiveFeatures(online, part, views),
                self.clock,
                rehearsal=self.settings.rehearsal,
            )
            for name, plan in self.plans.items()
        }

    def compact(self) -> Manifest:
        """Move what is new in the journal into history; gives the manifest afterwards."""
        return compact(self.history(), self.places.journal, self.project.tables, self._answers())

    def _answers(self) -> dict[str, Sequence[Column]]:
        """The columns of each model's table of answers."""
        return {name: answer_columns(plan.inputs, plan.columns) for name, plan in self.plans.items()}

    def intake(self, journal: Writer) -> Intake:
        """What takes pushed events."""
        return Intake(
            self.project.tables,
            journal,
            self.clock,
            ahead=self.ahead,
            rehearsal=self.settings.rehearsal,
        )

    def workshop(self, registry: Registry) -> Workshop:
        """What trains and admits versions."""
        return Workshop(
            self.project,
            self.plans,
            history=self.history(),
            journal=self.places.journal,
            bundles=self.places.bundles,
            registry=registry,
            answers=self._answers(),
            threads=self.settings.threads,
        )

    def _auditor(self) -> Auditor:
        return Auditor(
            self.project,
            self.plans,
            history=self.history(),
            journal=self.places.journal,
            answers=self._answers(),
        )

    def keeper(self, registry: Registry, journal: Writer) -> Keeper:
        """What makes every projection, from the journal and history where there are none for these definitions.

        At most one may run.
        """
        if not (self.places.online / "data.mdb").exists():
            self._rebuild(registry, journal)
        return self._keeper(self.online(readonly=False), registry, journal)

    def _rebuild(self, registry: Registry, journal: Writer) -> None:
        """Make the projections beside their place, and put them there when they are whole."""
        folder = self.places.online
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        with open_environment(draft) as online:
            self._keeper(online, registry, journal).rebuild()
            online.sync(True)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def _keeper(self, online: lmdb.Environment, registry: Registry, journal: Writer) -> Keeper:
        environment = {f"ICEKEEL_{name.upper()}": str(value) for name, value in asdict(self.settings).items()}
        retraining = Retraining(
            registry,
            self.places.state / "train.lock",
            lambda job: train_command(self.folder, job),
            environment=environment,
            wait=self.settings.rehearsal,
        )
        loop = Loop(
            self.project,
            self.plans,
            registry=registry,
            bundles=self.places.bundles,
            journal=journal,
            retraining=retraining,
        )
        return Keeper(
            self.project,
            self.plans,
            self.lookups,
            journal=self.places.journal,
            history=self.history(),
            online=online,
            registry=registry,
            bundles=self.places.bundles,
            loop=loop,
            auditor=self._auditor(),
            clock=self.clock,
            rehearsal=self.settings.rehearsal,
        )


def train_command(folder: Path, job: Job) -> list[str]:
    """The command line that trains and admits."""
    command = [sys.executable, "-m", "icekeel", "train", job.model, "--project", str(folder)]
    command += ["--now", format_time(job.at), "--reason", job.reason, "--json"]
    return command + (["--rung", job.rung] if job.rung else [])


def _plan(model: Model) -> Plan:
    """All features of a model, those of its baseline included."""
    features = {feature.name: feature for feature in model.features.icekeel_features}
    if model.baseline is not None:
        for feature in model.baseline.icekeel_features:
            features.setdefault(feature.name, feature)
    return make_plan(tuple(model.request.icekeel_fields.values()), tuple(features.values()))
