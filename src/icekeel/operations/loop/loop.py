"""The duties of each day: watch, judge, retrain, and decide with a reason.

Every duty may be done again: a crash in its middle is mended by doing the whole day once more, and what was done
stays as it was. A decision and what it changes are one transaction of the registry; the journal is told afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from icekeel.core.errors import BundleError, JournalError, StateError
from icekeel.core.time import DAY, HOUR, roughly
from icekeel.define import Model
from icekeel.journal import Writer
from icekeel.monitoring import Profile
from icekeel.operations.alerts.alerting import SKEW, Alerting, alerted
from icekeel.operations.monitors.watch import Duty, Watch
from icekeel.operations.skew.skew import AuditResult
from icekeel.operations.trials.trials import Source, Trials
from icekeel.operations.workshop.audits import blocked_by
from icekeel.operations.workshop.retraining import Job, Retraining, scheduled
from icekeel.operations.workshop.workshop import admit, decide, decided
from icekeel.operations.workspace import Workspace
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Registry, Version, read
from icekeel.training.catalog import full_ladder

KIND = "daily"
MOST_DAYS = 31
"""Days made up for after a long pause: the latest ones."""
ALARM_PAUSE = 7 * DAY
"""An alarm retrains no sooner after the last training."""
_AGAIN = "It is not tried any more; look at the disk, and train the version again."
FIRST_THING = {
    CHAMPION: "Workers that run go on with it, none can be started: icekeel rollback, or restore from a backup.",
    CHALLENGER: _AGAIN,
    SHADOW: _AGAIN,
}
"""What is to be done first about a version that cannot be loaded, by its alias."""
log = logging.getLogger(__name__)


class Loop:
    """Does, for every model, what is due when a day has passed.

    Args:
        workspace: The definitions.
        registry, journal: Where decisions are made and recorded.
        retraining: How a version is trained and admitted.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        registry: Registry,
        journal: Writer,
        retraining: Retraining,
    ) -> None:
        self._project = workspace.project
        self._bundles = workspace.bundles
        self._checked: dict[tuple[str, str], tuple[str, int]] = {}
        self._registry = registry
        self._journal = journal
        self._retraining = retraining
        self.alerting = Alerting(workspace, registry, journal)
        self.watch = Watch(workspace, registry, report=self.alerting.report)
        self.trials = Trials(registry, journal)

    def done(self) -> int:
        """The end of the last day whose duties are done, by the registry's ledger; 0 before the first."""
        return max((run.started_at for run in self._registry.runs(KIND) if run.status == "done"), default=0)

    def due(self, last: int, now: int) -> list[Duty]:
        """The midnights in `(last, now]`; only the latest after a long pause, since each looks at all there is."""
        if not last:
            return []
        days = range(last // DAY + 1, now // DAY + 1)
        return [Duty(day - 1, day * DAY) for day in days][-MOST_DAYS:]

    def finish(self, duty: Duty) -> None:
        """Note that all duties of a day are done: they are never done again, whatever becomes of the projections."""
        with self._registry.atomically():
            run = self._registry.start_run(KIND, details={"day": duty.day}, at=duty.at)
            self._registry.finish_run(run, "done", at=duty.at)

    def tell_missing(self, told: frozenset[str]) -> None:
        """Tell the journal of decisions and alerts that a crash kept from it.

        Args:
            told: Ids of those that it holds.
        """
        for decision in self._registry.decisions():
            if decision.id not in told:
                self._journal.append(decided(decision))
        for alert in self._registry.alerts():
            if alert.id not in told:
                self._journal.append(alerted(alert))

    def do(self, duty: Duty, name: str, source: Source, profile: Profile | None) -> None:
        """Watch, judge and retrain one model.

        Args:
            source: Its settled answers.
            profile: How the requests of the day looked; None without any.
        """
        model = self._project.models[name]
        self._admit_left(duty, model)
        self.alerting.trainings(name)
        aliases = self._registry.aliases(name)
        if CHAMPION not in aliases:
            return
        alarmed = self.watch.look(duty, model, profile)
        self.trials.look(duty.at, model, source)
        self._retrain(duty, model, alarmed)

    def look(self, at: int, source: Mapping[str, Source], *, hour: bool) -> None:
        """Look at what is on trial: every time for failures, and on the hour for outcomes.

        Args:
            source: Settled answers by model.
        """
        for name, model in self._project.models.items():
            try:
                self._check_bundles(at, model)
                self.trials.look_for_failures(at, model, source[name])
                if hour:
                    self.trials.look(at, model, source[name])
            except (JournalError, StateError):
                raise
            except Exception as error:  # one bad outcome must not end the keeper
                self.failed(Duty(at // DAY, at), name, "the look at the experiment", error)

    def _check_bundles(self, at: int, model: Model) -> None:
        """Look at the bundles that serve or are tried, each when it comes and every hour: a damaged one is not tried on."""
        for name, alias in self._registry.aliases(model.name).items():
            version, last = self._checked.get((model.name, name), ("", 0))
            if name not in FIRST_THING or (version == alias.version and at < last + HOUR):
                continue
            self._checked[model.name, name] = alias.version, at
            try:
                read(self._bundles, self._registry.version(alias.version).digest)
            except BundleError as error:
                title = f"{alias.version}, the {name}, cannot be loaded: its bundle is damaged"
                self.alerting.warn(at, model.name, name, title, [str(error)], FIRST_THING[name])
                if name != CHAMPION:
                    self.trials.stop(
                        at, model, name, alias, f"Its bundle is damaged: {error.faults[0].what}."
                    )

    def failed(self, duty: Duty, name: str, step: str, error: Exception) -> None:
        """Keep an alert that a duty could not be done, and leave its trace in the log."""
        log.error("duty_failed", exc_info=error, extra={"model": name, "step": step, "day": duty.day})
        title = f"{step} of {name} failed"
        todo = "Look at the keeper's log: the entry duty_failed has the trace."
        self.alerting.warn(duty.at, name, "duty", title, [f"{type(error).__name__}: {error}"], todo)

    def audited(self, duty: Duty, name: str, result: AuditResult) -> None:
        """Keep an alert where features were served other than they are recomputed."""
        if result.differences:
            self.alerting.warn(duty.at, name, SKEW, result.title, result.sentences(), result.todo)

    def full(self, at: int, *, size: int, free: int) -> None:
        """Keep an alert that the online state cannot grow: answers go on, with features of before."""
        title = "the online state is full: no new event reaches the features"
        sentence = f"it holds {size >> 20:,} MB at the most, and the disk has {free >> 20:,} MB left"
        for name in self._project.models:
            todo = "Free space on the disk; the keeper tries again every few seconds and loses nothing."
            self.alerting.warn(at, name, "disk", title, [sentence], todo)

    def stepped(self, at: int, behind: int) -> None:
        """Keep an alert that the clock was set back: nothing is done twice, so all that is due waits."""
        title = f"the clock stepped back by {roughly(behind)}"
        sentence = "Nothing is looked at, trained or decided until it is again as late as it has been."
        todo = "Set the machine's time. If that is right now, it was ahead before, and so are times in the journal."
        for name in self._project.models:
            self.alerting.warn(at, name, "clock", title, [sentence], todo)

    def damaged(self, at: int, why: str) -> None:
        """Keep an alert that the online state was damaged and made anew: a disk that did it once may do it again."""
        title = "the online state was damaged, and is made anew from the journal"
        todo = "Nothing is lost; look at the disk and at how the keeper ended: icekeel doctor."
        for name in self._project.models:
            self.alerting.warn(at, name, "store", title, [why], todo)

    def _admit_left(self, duty: Duty, model: Model) -> None:
        """Decide about a version whose training ended between its registration and its admission."""
        versions = self._registry.versions(model.name)
        if not versions or duty.at - versions[-1].at < DAY:
            return
        known = {decision.version for decision in self._registry.decisions(model.name)}
        used = {change.version for change in self._registry.history(model.name)}
        if versions[-1].name not in known | used:
            admit(self._registry, self._journal, model, versions[-1], at=duty.at, by="loop")

    # Retraining

    def _retrain(self, duty: Duty, model: Model, alarmed: bool) -> None:
        """Start a training that is due, unless a version is on trial or data are wrong: it is made up for afterwards.

        A version born now would be judged against a champion that may change any day, and one that replaced an
        undecided version in shadow every month might keep all of them from ever being decided.
        """
        retrain = model.retrain
        aliases = self._registry.aliases(model.name)
        if retrain is None or CHALLENGER in aliases or SHADOW in aliases:
            return
        versions = self._registry.versions(model.name)
        newest = max(self._retraining.last(model.name, duty.at), *(version.at for version in versions))
        if scheduled(retrain.every, newest, duty.at):
            reason = f"scheduled: every {retrain.every}"
        elif alarmed and retrain.on_alarm and duty.at - newest >= ALARM_PAUSE:
            reason = "the error of the answers raised an alarm"
        else:
            return
        if wrong := self._registry.blocks(model.name):
            titles = [alert.title for alert in wrong]
            log.warning("training_blocked", extra={"model": model.name, "reason": reason, "alerts": titles})
            return
        champion = self._registry.version(aliases[CHAMPION].version)
        at, blocking = blocked_by(self._registry, model.name)
        if blocking:
            why = f"{reason}; not trained, since these audits block: {', '.join(blocking)}"
            decide(self._registry, self._journal, model.name, "block", "", reason=why, at=at)
            return
        job = Job(model.name, _rung(model, champion), duty.at, reason)
        if not self._retraining.begin(job):
            log.warning("training_waits", extra={"model": model.name})


def _rung(model: Model, champion: Version) -> str:
    """The champion's rung; empty, for the whole ladder, where the model has it no longer."""
    return champion.rung if champion.rung in {one.name for one in full_ladder(model)} else ""
