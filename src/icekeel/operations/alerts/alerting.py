"""Keeping alerts: one for each cause, opened, renewed, closed, each with a decision on what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from icekeel.core.ids import digest
from icekeel.core.time import DAY, HOUR
from icekeel.define import Model
from icekeel.define.nodes import RequestField, Windowed, shallow, walk
from icekeel.features.plan import Plan
from icekeel.journal import Alerted, Writer
from icekeel.monitoring import BAD_DATA, Origins, Signal, alert_id, diagnose, group
from icekeel.monitoring import Alert as Finding
from icekeel.operations.monitors.watch import Between
from icekeel.operations.runs import KINDS
from icekeel.operations.workshop.retraining import KIND
from icekeel.operations.workshop.workshop import decided
from icekeel.operations.workspace import Workspace
from icekeel.registry import Alert, Decision, Registry

from .severity import Recent, course, reckon

SKEW = "skew"
TRAINING = "training"
"""Cause of an alert that only the next success closes; so are the kinds of runs."""
OVER, SKEW_OVER = 3 * DAY, 8 * DAY
"""An alert whose cause was not found for so long is over; shapes are looked at once a day, skew once a week at least."""
RESOLVED_BY_HAND = HOUR
"""What a person has resolved opens no new alert for so long: those signals were on their way."""
RECKONED = HOUR
"""What an alert costs is reckoned anew after so long."""
MOST_SENTENCES = 30


class Alerting:
    """Keeps the alerts of all models.

    Args:
        workspace: The definitions.
        registry, journal: Where alerts and decisions are recorded.
    """

    def __init__(self, workspace: Workspace, registry: Registry, journal: Writer) -> None:
        self._models = workspace.project.models
        self._origins = {name: origins(plan, self._models[name]) for name, plan in workspace.plans.items()}
        self._registry = registry
        self._journal = journal
        self.recent = {name: Recent() for name in self._models}
        self.settled: Callable[[str], Between] | None = None
        """Gives the settled answers of a model; the keeper sets it."""

    def report(self, at: int, model: str, signals: Sequence[Signal]) -> None:
        """Open an alert for each cause, renew those found again, close those that are over.

        Args:
            at: Time of the look, microseconds UTC; may be any, and looks may follow each other every minute.
        """
        known = self._registry.alerts(model, open_only=True)
        if not known and not signals:
            return
        found = group(
            signals,
            model=model,
            at=at,
            origins=self._origins[model],
            open_alerts=[_finding(alert) for alert in known],
        )
        stored = {alert.id: alert for alert in known}
        causes = {finding.cause for finding in found}
        absorbed = {one: finding for finding in found for one in finding.absorbed}
        for finding in found:
            before = stored.get(finding.id)
            if before is None and self._resolved_by_hand(finding, at):
                continue
            mine = [signal for signal in signals if signal.sentence in finding.evidence]
            self._keep(finding, before, mine)
        for alert in known:
            if alert.id in absorbed:
                cause = absorbed[alert.id].cause
                self._registry.resolve(alert.id, resolution=f"the same cause as {cause}", at=at)
            elif alert.cause not in {*causes, TRAINING} and alert.cause.partition(" ")[0] not in KINDS:
                quiet = SKEW_OVER if alert.cause == SKEW else OVER
                if at - int(alert.evidence.get("last_seen", alert.at)) >= quiet:
                    self._registry.resolve(alert.id, resolution=f"not found for {quiet // DAY} days", at=at)

    def warn(self, at: int, model: str, cause: str, title: str, sentences: Sequence[str], todo: str) -> None:
        """Keep one alert of a model and a cause: opened the first time, renewed while it is open."""
        known = {alert.cause: alert for alert in self._registry.alerts(model, open_only=True)}
        stored = known.get(cause)
        finding = Finding(
            id=stored.id if stored else alert_id(model, cause, at),
            at=stored.at if stored else at,
            model=model,
            cause=cause,
            title=title,
            evidence=tuple(sentences),
            todo=todo,
            last_seen=at,
            times=_finding(stored).times + 1 if stored else 1,
            diagnosis=diagnose(cause, ()),
        )
        self._keep(finding, stored, ())

    def trainings(self, model: str) -> None:
        """Keep an alert while the last training of a model failed; a success, by hand too, closes it."""
        ended = [
            run
            for run in self._registry.runs(KIND)
            if run.details.get("model") == model and run.status in ("done", "failed")
        ]
        if not ended:
            return
        last, versions = ended[-1], self._registry.versions(model)
        made = max((version.at for version in versions), default=0)
        at = last.started_at if last.finished_at is None else last.finished_at
        if last.status == "failed" and made <= last.started_at:
            said = str(last.details.get("output", "")) or "it said nothing"
            sentences = [f"it was begun for this reason: {last.details.get('reason', '')}", said]
            todo = f"Run `icekeel train {model}` and read the error."
            self.warn(at, model, TRAINING, f"the training of {model} failed", sentences, todo)
            return
        for alert in self._registry.alerts(model, open_only=True):
            if alert.cause == TRAINING:
                self._registry.resolve(alert.id, resolution="a training succeeded", at=max(at, made))

    def _resolved_by_hand(self, finding: Finding, at: int) -> bool:
        since = at - RESOLVED_BY_HAND
        return any(
            alert.cause == finding.cause
            and (alert.resolved_at or 0) > since
            and bool(alert.changes and alert.changes[-1].by != "keeper")
            for alert in self._registry.alerts(finding.model, since - 90 * DAY)
        )

    def _keep(self, finding: Finding, stored: Alert | None, signals: Sequence[Signal]) -> None:
        last = int(stored.evidence.get("last_seen", stored.at)) if stored is not None else 0
        if stored is not None and last >= finding.last_seen and finding.cause == stored.cause:
            return
        before = dict(stored.evidence) if stored is not None else {}
        evidence: dict[str, object] = {
            **before,
            "title": finding.title,
            "sentences": list(finding.evidence)[:MOST_SENTENCES],
            "last_seen": finding.last_seen,
            "times": finding.times,
            "diagnosis": finding.diagnosis,
            "since": finding.since or finding.at,
            "examples": list(finding.examples),
            "changes": sorted({*before.get("changes", ()), *(signal.change for signal in signals)}),
        }
        if any(signal.subject == "outcome" for signal in signals):
            evidence["error_alarm_at"] = finding.last_seen
        cost = None if stored is None else stored.cost
        if finding.last_seen - int(before.get("reckoned_at", 0)) >= RECKONED:
            cost = self._reckon(finding, signals, evidence)
        if stored is not None:
            same = {"cause": finding.cause, "todo": finding.todo, "cost": cost}
            self._registry.renew(finding.id, evidence, **same)
            if finding.diagnosis != stored.diagnosis:
                self._decide(finding)
            return
        alert = Alert(
            id=finding.id,
            at=finding.at,
            model=finding.model,
            cause=finding.cause,
            todo=finding.todo,
            cost=cost,
            evidence=evidence,
        )
        if self._registry.record(alert):
            self._journal.append(alerted(alert))
        self._decide(finding)

    def _reckon(
        self, finding: Finding, signals: Sequence[Signal], evidence: dict[str, object]
    ) -> float | None:
        """Add what the alert costs, how that was reckoned, a picture and examples to its evidence."""
        model, recent = self._models[finding.model], self.recent[finding.model]
        between = None if self.settled is None else self.settled(finding.model)
        since, at = finding.since or finding.at, finding.last_seen
        kind, _, name = finding.cause.partition(" ")
        segment = name if kind == "segment" else ""
        reckoned = reckon(model, recent, between, since=since, at=at, segment=segment)
        evidence |= {"reckoning": reckoned.sentence, "reckoned_at": at}
        if signals:
            weightiest = max(signals, key=lambda signal: (signal.subject == kind, signal.size))
            evidence["series"] = course(model, weightiest, recent, between, since=since, at=at)
        if not finding.examples and signals:
            shown = recent.between(since, at, segment)[-10:]
            evidence["examples"] = [record.id for record in shown]
        return reckoned.usd_per_day

    def _decide(self, finding: Finding) -> None:
        """Record what follows from a diagnosis, once for each alert and diagnosis."""
        kind, reason = _follows(finding, self._models[finding.model])
        decision = Decision(
            id=digest(f"{finding.id}/{kind}".encode())[:16],
            at=finding.last_seen,
            model=finding.model,
            kind=kind,
            version="",
            reason=f"{finding.cause}: {reason}",
            evidence={"alert": finding.id, "diagnosis": finding.diagnosis},
        )
        if self._registry.record(decision):
            self._journal.append(decided(decision))


def _follows(finding: Finding, model: Model) -> tuple[str, str]:
    """What is decided about an alert, by its diagnosis."""
    if finding.diagnosis == BAD_DATA:
        return "block_training", "bad data; no version is trained until the alert is resolved"
    if finding.diagnosis == "changed truth":
        if model.retrain is not None and model.retrain.on_alarm:
            return "retrain", "changed truth; the next daily look trains a version, unless one is on trial"
        return "watch", "changed truth; retrain= does not train on alarms, so a person has to"
    if finding.diagnosis == "capacity":
        return "add_capacity", f"capacity; {finding.todo}"
    if finding.diagnosis == "code":
        return "repair", f"code; {finding.todo}"
    return "watch", "a shift; nothing is blocked, and trainings go on as scheduled"


def alerted(alert: Alert) -> Alerted:
    """An alert as the journal has it."""
    return Alerted(
        at=alert.at,
        id=alert.id,
        model=alert.model,
        cause=alert.cause,
        severity=severity(alert),
        title=alert.title,
        evidence=dict(alert.evidence),
    )


def severity(alert: Alert) -> str:
    """What an alert costs, in words."""
    return "cost unknown" if alert.cost is None else f"${alert.cost:,.0f} a day"


def _finding(alert: Alert) -> Finding:
    evidence = alert.evidence
    return Finding(
        id=alert.id,
        at=alert.at,
        model=alert.model,
        cause=alert.cause,
        title=alert.title,
        evidence=tuple(evidence.get("sentences", ())),
        todo=alert.todo,
        last_seen=int(evidence.get("last_seen", alert.at)),
        times=int(evidence.get("times", 1)),
        diagnosis=evidence.get("diagnosis", "shift"),
        since=int(evidence.get("since", alert.at)),
        examples=tuple(evidence.get("examples", ())),
        severity_usd_per_day=alert.cost,
    )


def origins(plan: Plan, model: Model) -> Origins:
    """What each feature is computed from, and where outcomes come from."""
    return Origins(
        {
            one.name: sorted({node.keyed.table for node in walk(one.node) if isinstance(node, Windowed)})
            for one in plan.features
        },
        {
            one.name: sorted({node.name for node in shallow(one.node) if isinstance(node, RequestField)})
            for one in plan.features
        },
        model.outcome.keyed.table,
    )
