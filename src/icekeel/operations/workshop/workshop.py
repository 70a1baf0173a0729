"""Training and admission: from past questions to a version that serves, is tried, or is blocked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault, TrainingError
from icekeel.core.frames import Floats, Frame, Ints
from icekeel.core.ids import digest
from icekeel.data import Snapshot, Vault
from icekeel.data.answers import ANSWERS
from icekeel.data.history import QUESTIONS
from icekeel.data.labels import label_table, read_labels
from icekeel.define import Model
from icekeel.define.features import Feature
from icekeel.engines.similar import SIMILAR_FILE
from icekeel.features.offline import historical_features
from icekeel.features.plan import make_plan
from icekeel.journal import Decided, Writer
from icekeel.operations.ledger import ALIVE, alive
from icekeel.operations.monitors.baselines import learn_baseline
from icekeel.operations.monitors.streams import Streams
from icekeel.operations.snapshots import TRAINING
from icekeel.operations.workspace import Workspace
from icekeel.registry import (
    CHALLENGER,
    CHAMPION,
    PROFILE_FILE,
    SHADOW,
    Decision,
    Registry,
    Version,
    read,
    write,
)
from icekeel.serving import load_version
from icekeel.training import Problem, Rung
from icekeel.training.audits import ALWAYS, AuditInput, Finding, examine, out_of_time
from icekeel.training.catalog import full_ladder, rungs_up_to, with_settings
from icekeel.training.dataset import (
    Learnable,
    declared_questions,
    event_store,
    feature_cache,
    learnable,
    past_questions,
    store_questions,
    stored_questions,
)
from icekeel.training.pipeline import Recipe, Standing, Trained, rows_with_outcome, train
from icekeel.training.problem import TrainingSet

from .lineage import code_digest, definitions_of, lineage_of

COMPARED = "no_worse_than_champion"
"""The gate that holds a candidate against the champion; absent where there is nothing to compare on."""
Say = Callable[[str], None]
Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Order:
    """What to train.

    Attributes:
        model: Name of the model.
        baseline: The baseline's features instead of the model's.
        rung: Fit this rung only; empty climbs the whole ladder.
        now: Time up to which anything is known, microseconds UTC.
        reason, by: Why, and who asked, for the record.
    """

    model: str
    now: int
    baseline: bool = False
    rung: str = ""
    reason: str = "asked for"
    by: str = "train"


class Workshop:
    """Trains models of a project and registers what comes out.

    Args:
        workspace: The definitions, where data come from, and where versions go.
        registry: What knows the versions.
        threads: Of training.
        core_hour: Dollars that an hour of one core costs.
        vault: Gives the pseudonyms of private fields in declared histories.
    """

    def __init__(
        self,
        workspace: Workspace,
        registry: Registry,
        *,
        threads: int,
        core_hour: float = 0.05,
        vault: Vault | None = None,
    ) -> None:
        self._workspace = workspace
        self._registry = registry
        self._threads = threads
        self._core_hour = core_hour
        self._vault = vault
        self._prepared: dict[tuple[str, int], tuple[Snapshot, Learnable]] = {}

    def prepare(self, name: str, now: int, say: Say) -> tuple[Snapshot, Learnable]:
        """The snapshot and everything known of a model's past questions at `now`; kept while this lives."""
        if (name, now) not in self._prepared:
            snapshot, declared = self.snapshot(name, now)
            self._prepared[name, now] = (snapshot, self._learnable(snapshot, declared, say))
        return self._prepared[name, now]

    def snapshot(self, name: str, now: int, *, pin: bool = False) -> tuple[Snapshot, Frame]:
        """What a training of a model would see, and its declared questions; one that is not pinned may lose files."""
        project, history = self._workspace.project, self._workspace.history
        model, plan = project.models[name], self._workspace.plans[name]
        declared = declared_questions(model, plan, project.folder, history, self._vault)
        self._workspace.compact()
        with history.adding() as listed:
            known = listed.known(now).tables
            own = (f"{ANSWERS}/{name}", label_table(name).name)
            tables = {table: known.get(table, []) for table in (*project.tables, *own)}
            tables[f"{QUESTIONS}/{name}"] = [store_questions(history, model, plan, declared)]
            snapshot = Snapshot(name, now, tables)
            if pin:
                history.pin(snapshot)
        return snapshot, declared

    def remake(self, snapshot: Snapshot, say: Say) -> Learnable:
        """What a training saw, made again from its pinned snapshot by the present definitions."""
        model, plan = self._workspace.project.models[snapshot.model], self._workspace.plans[snapshot.model]
        declared = stored_questions(self._workspace.history, model, plan, snapshot.manifest)
        return self._learnable(snapshot, declared, say)

    def _learnable(self, snapshot: Snapshot, declared: Frame, say: Say) -> Learnable:
        name, now, manifest = snapshot.model, snapshot.now, snapshot.manifest
        project, history = self._workspace.project, self._workspace.history
        model, plan = project.models[name], self._workspace.plans[name]
        questions = past_questions(model, plan, declared, history, manifest, now=now)
        say(
            f"{len(plan.features)} features of {len(questions):,} past questions, {int(questions.served.sum()):,} as served"
        )
        labels = read_labels(history.paths(manifest, label_table(name).name), now)
        with closing(event_store(project.tables, history, manifest)) as store:
            cache = feature_cache(name, plan, questions, project.tables, history, manifest)
            return learnable(model, plan, questions, store, cache, now=now, labels=labels)

    def compute(self, name: str, features: Sequence[Feature], data: Learnable, now: int) -> Frame:
        """Features that the model does not have, for the past questions of `prepare` as of `now`."""
        plan = make_plan(self._workspace.plans[name].fields, features)
        manifest = self._workspace.history.manifest().known(now)
        with closing(event_store(self._workspace.project.tables, self._workspace.history, manifest)) as store:
            return historical_features(plan, data.requests, data.asked_at, store)

    def rung(self, name: str) -> Rung:
        """The rung of the champion; the uppermost where there is none, or one that reads categories alone."""
        ladder = full_ladder(self._workspace.project.models[name], self._threads)
        found, settings = self._standing_rung(name)
        rung = next((rung for rung in ladder[1:] if rung.name == found), ladder[-1])
        return with_settings(rung, settings if rung.name == found else {})

    def _standing_rung(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """The champion's rung and its settings; empty where there is no champion, or a damaged one."""
        alias = self._registry.aliases(name).get(CHAMPION)
        if alias is None:
            return "", {}
        version = self._registry.version(alias.version)
        with suppress(BundleError):  # a damaged bundle is the server's trouble
            rung = str(read(self._workspace.bundles, version.digest, but=[SIMILAR_FILE]).meta["rung"])
            return rung, version.metrics.get("settings", {})
        return "", {}

    def train(self, order: Order, say: Say) -> tuple[Version, Trained]:
        """Train, gate, write the bundle and register it; the run and the snapshot that it pins are kept in any case.

        Raises:
            TrainingError: no model can be trained on these data; nothing is registered.
        """
        rungs = self._rungs(order)  # before hours of work, since there may be no such rung
        snapshot, declared = self.snapshot(order.model, order.now, pin=True)
        details = {"model": order.model, "snapshot": snapshot.digest, "reason": order.reason}
        with alive(self._workspace.runs, order.now) as lock:
            run = self._registry.start_run(TRAINING, details={**details, ALIVE: lock}, at=order.now)
            try:
                data = self._learnable(snapshot, declared, say)
                self._prepared[order.model, order.now] = (snapshot, data)
                version, trained = self._train(order, rungs, snapshot, data, say)
            except BaseException as error:
                status = "failed" if isinstance(error, Exception) else "interrupted"
                why = {"why": str(error)} if status == "failed" else {}
                self._registry.finish_run(run, status, details={**details, **why}, at=order.now)
                raise
            done = {**details, "version": version.name}
            self._registry.finish_run(run, "done", details=done, at=order.now)
        return version, trained

    def _rungs(self, order: Order) -> Sequence[Rung]:
        model = self._workspace.project.models[order.model]
        if not order.rung:
            return full_ladder(model, self._threads)
        standing, settings = self._standing_rung(order.model)
        return rungs_up_to(model, order.rung, self._threads, settings if order.rung == standing else {})

    def _train(
        self, order: Order, rungs: Sequence[Rung], snapshot: Snapshot, data: Learnable, say: Say
    ) -> tuple[Version, Trained]:
        model = self._workspace.project.models[order.model]
        features = model.baseline if order.baseline and model.baseline is not None else model.features
        recipe = Recipe(
            model,
            features.__name__,
            features.icekeel_features,
            rungs,
            order.rung,
            threads=self._threads,
            core_hour=self._core_hour,
        )
        champion = self._champion(model)

        def audit(known: Ints, rows: TrainingSet, said: Floats) -> list[Finding]:
            return examine(self._audit_input(snapshot, data, known, rows, said), ALWAYS)

        streams = Streams(model, self._workspace.plans[order.model], self._workspace.project)

        def describe(known: Ints, rows: TrainingSet, said: Floats, found: Mapping[str, Any]) -> Files:
            past = (self._workspace.history, snapshot.manifest)
            made = learn_baseline(streams, data, known, rows, said, found, *past)
            return {PROFILE_FILE: msgspec.json.encode(made, order="sorted")}

        trained = train(recipe, data, say=say, champion=champion, describe=describe, audit=audit)
        bundle = write(self._workspace.bundles, trained.files, msgspec.to_builtins(trained.contents))
        version = self._registry.register(
            order.model,
            bundle.digest,
            snapshot=snapshot.digest,
            code=code_digest(model, self._workspace.plans[order.model]),
            features=features.__name__,
            metrics=trained.metrics,
            gates=[asdict(gate) for gate in trained.gates],
            ladder=asdict(trained.ladder),
            trained_from=trained.contents.trained_from,
            trained_to=trained.contents.trained_to,
            reason=order.reason,
            by=order.by,
            lineage=msgspec.to_builtins(lineage_of(self._workspace.project.folder, model, "train")),
            definitions=definitions_of(features.icekeel_features),
            at=order.now,
        )
        say(
            f"registered {version.name}: {trained.contents.rung} on {trained.contents.rows:,} rows, {features.__name__}"
        )
        return version, trained

    def audit(self, name: str, names: Collection[str], now: int, say: Say) -> list[Finding]:
        """What the audits of these names find in a model's training set as of `now`.

        Raises:
            TrainingError: there is nothing to learn from; then nothing can be audited.
        """
        features = self._workspace.project.models[name].features.icekeel_features
        snapshot, data = self.prepare(name, now, say)
        known, rows = rows_with_outcome(features, data)
        given = self._audit_input(snapshot, data, known, rows, np.full(len(rows), np.nan))
        given.problem.check(rows)
        rung = self.rung(name)
        say(f"{rung.name}, learnt from earlier rows, predicts the later ones")
        return examine(replace(given, predictions=out_of_time(given.problem, rows, rung)), names)

    def _audit_input(
        self, snapshot: Snapshot, data: Learnable, known: Ints, rows: TrainingSet, said: Floats
    ) -> AuditInput:
        project, history = self._workspace.project, self._workspace.history
        model = project.models[snapshot.model]
        return AuditInput(
            model=model,
            problem=Problem(model.task, model.error),  # type: ignore[arg-type]  # checked with the project
            plan=self._workspace.plans[model.name],
            asked=data,
            known=known,
            rows=rows,
            predictions=said,
            open_store=lambda delay: event_store(project.tables, history, snapshot.manifest, delay=delay),
            now=snapshot.now,
            rng=np.random.default_rng(0),
            threads=self._threads,
        )

    def _champion(self, model: Model) -> Standing | None:
        alias = self._registry.aliases(model.name).get(CHAMPION)
        if alias is None:
            return None
        plan = self._workspace.plans[model.name]
        loaded = load_version(self._registry.version(alias.version), self._workspace.bundles, plan)
        return Standing(loaded.engine, loaded.contents.trained_to)


def admit(
    registry: Registry, journal: Writer, model: Model, version: Version, *, at: int, by: str
) -> Decision:
    """Decide what becomes of a new version, and do it.

    A failed gate blocks it. The first version becomes champion. Where only a split may tell (`tested_by_split`), it becomes
    challenger at the first step, after a time in shadow where that is declared; otherwise it answers in shadow until paired
    answers decide (`paired_plan`); where neither `retrain=` nor `rollout=` says how, its gates alone promote it, provided that
    one of them held it against the champion.
    """
    champion = registry.aliases(model.name).get(CHAMPION)
    standing = registry.version(champion.version) if champion is not None else None
    alias, share = CHAMPION, 1.0
    if version.failed:
        kind, alias, reason = "block", "", f"{version.name} failed its gates: {', '.join(version.failed)}"
    elif standing is None:
        kind, reason = "promote", f"{version.name} is the first version and passed every gate"
    elif standing.name == version.name:
        kind, alias, reason = "unchanged", "", f"{version.name} serves already"
    elif tested_by_split(model, standing, version):
        kind, alias, share, reason = _first_step(model, standing, version)
    elif model.retrain is not None or model.rollout is not None:
        kind, alias, share = "start_shadow", SHADOW, 0.0
        reason = f"{version.name} answers in shadow, paired with {standing.name}"
    elif all(gate.get("name") != COMPARED for gate in version.gates):
        kind, alias = "block", ""
        reason = (
            f"{version.name} cannot be held against {standing.name}: too few outcomes since that was trained"
        )
    else:
        kind, reason = "promote", f"{version.name} passed every gate"

    def change() -> None:
        if alias == CHAMPION:
            crown(registry, model.name, version.name, reason=reason, by=by, at=at)
        elif alias:
            registry.set_alias(model.name, alias, version.name, share=share, reason=reason, by=by, at=at)

    return decide(registry, journal, model.name, kind, version.name, reason=reason, at=at, change=change)


def allow_training(
    registry: Registry, journal: Writer, model: str, *, override: str, by: str, at: int
) -> None:
    """Let a model be trained unless an open alert says that its data are wrong; an override is a decision.

    Raises:
        TrainingError: `training_blocked`, one for each such alert, and no override is given.
    """
    wrong = registry.blocks(model)
    if wrong and not override.strip():
        hint = f"icekeel alerts show {wrong[0].id}; resolve it, or train with --override REASON"
        raise TrainingError(
            *(
                Fault(
                    "training_blocked", "bad data: no version is trained", alert.cause, alert.title, hint=hint
                )
                for alert in wrong
            )
        )
    if wrong:
        evidence = {"alerts": [alert.id for alert in wrong]}
        reason = f"by {by}, although {', '.join(alert.cause for alert in wrong)}: {override}"
        decide(registry, journal, model, "override_block", "", reason=reason, at=at, evidence=evidence)


def _first_step(model: Model, standing: Version, version: Version) -> tuple[str, str, float, str]:
    """Where a rollout begins: kind of the decision, alias, share, reason."""
    rollout = model.rollout
    if rollout is not None and rollout.shadow:
        return "start_shadow", SHADOW, 0.0, f"{version.name} answers in shadow for {rollout.shadow} first"
    share = rollout.stages[0] if rollout is not None else 0.0
    names = f"{version.name} ({version.features})", f"{standing.name} ({standing.features})"
    return (
        "start_experiment",
        CHALLENGER,
        share,
        f"{names[0]} answers {share:.0%} of units against {names[1]}",
    )


def tested_by_split(model: Model, standing: Version, version: Version) -> bool:
    """Whether units are split: the answer changes what happens, or `split=True` and the versions read other features."""
    rollout = model.rollout
    return rollout is not None and (
        model.influences or (rollout.split and standing.features != version.features)
    )


def start(
    registry: Registry,
    journal: Writer,
    model: Model,
    version: str,
    *,
    reason: str,
    at: int,
    by: str,
    share: float | None = None,
) -> Decision:
    """Begin an experiment, at the first step unless another share is given; one that runs ends.

    Raises:
        RegistryError: the version cannot be challenger, see `Registry.set_alias`.
    """
    first = model.rollout.stages[0] if model.rollout is not None else 0.5
    part = first if share is None else share

    def change() -> None:
        aliases = registry.aliases(model.name)
        if SHADOW in aliases and aliases[SHADOW].version == version:
            registry.drop_alias(model.name, SHADOW, reason=reason, by=by, at=at)
        registry.set_alias(model.name, CHALLENGER, version, share=part, reason=reason, by=by, at=at)

    said = f"{version} answers {part:.3g} of units: {reason}"
    return decide(
        registry, journal, model.name, "start_experiment", version, reason=said, at=at, change=change
    )


def decide(
    registry: Registry,
    journal: Writer,
    model: str,
    kind: str,
    version: str,
    *,
    reason: str,
    at: int,
    evidence: Mapping[str, object] | None = None,
    change: Callable[[], object] = lambda: None,
) -> Decision:
    """Record a decision, once, in the registry together with what it changes, and then in the journal.

    Args:
        change: What the decision does to the registry; in the same transaction, and not again for a decision
            that was recorded before.
    """
    decision = _decision(model, kind, version, reason, at, evidence)
    with registry.atomically():
        fresh = registry.record(decision)
        if fresh:
            change()
    if fresh:
        journal.append(decided(decision))
    return decision


def crown(
    registry: Registry,
    model: str,
    version: str,
    *,
    reason: str,
    by: str,
    at: int,
    evidence: Mapping[str, object] | None = None,
    override: str = "",
) -> None:
    """Make a version champion, and end its own trial: it would be compared with itself."""
    why: Any = {"reason": reason, "by": by, "at": at, "evidence": evidence}
    with registry.atomically():
        registry.set_alias(model, CHAMPION, version, override=override, **why)
        for name in (CHALLENGER, SHADOW):
            alias = registry.aliases(model).get(name)
            if alias is not None and alias.version == version:
                registry.drop_alias(model, name, **why)


def roll_back(
    registry: Registry, journal: Writer, model: str, *, expected: str = "", reason: str, by: str, at: int
) -> Version:
    """Go back to the champion before the one expected, and record it, both or neither.

    Raises:
        RegistryError: there is none to go back to, or another one serves already.
    """
    with registry.atomically():
        version = registry.rollback(model, expected=expected, reason=reason, by=by, at=at)
        decision = _decision(model, "rollback", version.name, f"by {by}: {reason}", at, None)
        registry.record(decision)
    journal.append(decided(decision))
    return version


def _decision(
    model: str, kind: str, version: str, reason: str, at: int, evidence: Mapping[str, object] | None
) -> Decision:
    identifier = digest(f"{model}/{kind}/{version}/{at}".encode())[:16]
    return Decision(
        id=identifier, at=at, model=model, kind=kind, version=version, reason=reason, evidence=evidence or {}
    )


def decided(decision: Decision) -> Decided:
    """A decision as the journal has it."""
    return Decided(
        at=decision.at,
        id=decision.id,
        model=decision.model,
        kind=decision.kind,
        version=decision.version,
        reason=decision.reason,
        evidence=dict(decision.evidence),
    )
