"""The duties of a day, on fabricated answers: what is decided, once, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, MINUTE, parse_time
from icekeel.experiments import PairedDays, RolloutPlan, RolloutState, Tally, Verdict
from icekeel.journal import Alerted, Decided, Writer, scan
from icekeel.monitoring import Finding, Signal
from icekeel.operations.loop.loop import Loop
from icekeel.operations.monitors import watch as watching
from icekeel.operations.monitors.watch import Duty, costs
from icekeel.operations.projections.projections import UNSCORED, Settled
from icekeel.operations.trials import trials as trialing
from icekeel.operations.workshop.retraining import Job
from icekeel.operations.workshop.workshop import admit, crown, roll_back
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Registry, Version, write
from icekeel.testing.small import write_small_project

T0 = parse_time("2024-03-01")


class Trainer:
    """Stands in for training in a child process: notes what it was told to do."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def last(self, model: str, now: int) -> int:
        return max((job.at for job in self.jobs), default=0)

    def begin(self, job: Job) -> bool:
        self.jobs.append(job)
        return True


class World:
    """A loop over a registry and answers made up."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_small_project(folder)
        self.app = App(folder, clock=lambda: T0)
        self.registry: Registry = self.app.registry()
        self.journal: Writer = self.app.journal("test")
        self.trainer = Trainer()
        self.model = self.app.model("late")
        self.rows: list[Settled] = []
        self.failures: dict[tuple[str, str, float], tuple[int, int]] = {}
        monkeypatch.setattr(watching.Watch, "_baseline", lambda watch, model: None)
        self.loop = self.fresh_loop()

    def fresh_loop(self) -> Loop:
        app, trainer = self.app, self.trainer
        return Loop(
            app.workspace, registry=self.registry, journal=self.journal,
            retraining=trainer,  # type: ignore[arg-type]  # the two methods that the loop calls
        )  # fmt: skip

    def version(self, number: int, *, at: int = T0, passed: bool = True) -> Version:
        return self.registry.register(
            "late", f"d{number}", snapshot="s", code="c", features=f"F{number}", metrics={},
            gates=[{"name": "parity", "passed": passed}], ladder={"winner": "linear"}, trained_from=0, trained_to=1,
            reason="r", at=at,
        )  # fmt: skip

    def alias(self, alias: str, number: int, *, share: float = 1.0, at: int = T0) -> None:
        self.registry.set_alias("late", alias, f"late-{number}", share=share, reason="r", by="t", at=at)

    def between(self, since: int, until: int) -> Iterable[Settled]:
        return [row for row in self.rows if since <= row.settled_at < until]

    def day(self, day: int, *, times: int = 1) -> None:
        duty = Duty(T0 // DAY + day, T0 + (day + 1) * DAY)
        for _ in range(times):
            self.loop.do(duty, "late", self, None)

    def settled(self, metric: str, since: int, until: int) -> Iterable[Settled]:
        return self.between(since, until)

    def fresh(self, metric: str) -> list[Settled] | None:
        return None

    def struck(self) -> dict[tuple[str, str, float], tuple[int, int]]:
        return self.failures

    def decisions(self) -> list[tuple[str, str]]:
        return [(one.kind, one.version) for one in self.registry.decisions("late")]

    def told(self, kind: type[Any]) -> list[str]:
        return [record.id for record in scan(self.app.places.journal, kinds=kind)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path / "small", monkeypatch)
    yield made
    made.journal.close()
    made.registry.close()


def answers(
    days: range,
    *,
    arms: Sequence[str] = (CHAMPION,),
    wrong: Sequence[float] = (0.1,),
    per_day: int = 40,
    seed: int = 1,
) -> Iterator[Settled]:
    """Answers of arm `i` (version late-<i+1>), wrong with the probability `wrong[i]`."""
    rng = np.random.default_rng(seed)
    for day in days:
        for number in range(per_day):
            arm = number % len(arms)
            target = float(rng.random() < 0.3)
            mistaken = rng.random() < wrong[arm]
            prediction = 0.95 if (target > 0.5) != mistaken else 0.05
            asked = T0 + day * DAY + number * 60_000_000
            yield Settled(
                asked + HOUR, asked, f"{day}-{number}", f"u{day}-{number}", f"late-{arm + 1}", arms[arm],
                1 / len(arms), prediction, prediction, {}, target, phase=PHASE if len(arms) > 1 else "",
            )  # fmt: skip


BOTH = (CHAMPION, CHALLENGER)
PHASE = "late-2/1@0.5"
"""Of an experiment that begins with the second change of an alias."""


def experiment(world: World, wrong: tuple[float, float], days: int, **kind: Any) -> None:
    world.version(1)
    world.version(2)
    world.alias(CHAMPION, 1)
    world.alias(CHALLENGER, 2, share=0.5)
    world.rows = list(answers(range(days), arms=BOTH, wrong=wrong, **kind))
    for day in range(days):
        if CHALLENGER in world.registry.aliases("late"):
            world.day(day, times=2)


def test_a_better_challenger_is_promoted_once(world: World) -> None:
    experiment(world, (0.5, 0.02), 20)
    assert world.decisions() == [("promote", "late-2")]
    assert {name: alias.version for name, alias in world.registry.aliases("late").items()} == {
        CHAMPION: "late-2"
    }
    assert world.told(Decided) == [one.id for one in world.registry.decisions()]


def test_a_worse_challenger_is_stopped(world: World) -> None:
    experiment(world, (0.02, 0.5), 20)
    assert world.decisions() == [("stop", "late-2")]
    assert world.registry.aliases("late")[CHAMPION].version == "late-1"


def test_no_difference_goes_on(world: World) -> None:
    experiment(world, (0.1, 0.1), 8)
    assert world.decisions() == []


def test_an_experiment_without_answers_ends_at_the_longest_time(world: World) -> None:
    experiment(world, (0.1, 0.1), 0)
    for day in (1, 30, 60):
        world.day(day)
    assert world.decisions() == [("stop", "late-2")]


def test_answers_from_before_the_server_knew_of_the_experiment_do_not_count(world: World) -> None:
    experiment(world, (0.5, 0.02), 0)
    rows = list(answers(range(8), arms=BOTH, wrong=(0.5, 0.02)))
    world.rows = [msgspec.structs.replace(row, phase="") for row in rows]
    for day in range(8):
        world.day(day)
    assert world.decisions() == []


def shadowed(world: World, champion: float, shadow: float, days: int) -> None:
    world.model.rollout = None
    world.version(1)
    world.version(2)
    world.alias(CHAMPION, 1)
    world.alias(SHADOW, 2, share=0.0)
    pairs = zip(
        answers(range(days), wrong=(champion,), seed=2),
        answers(range(days), wrong=(shadow,), seed=2),
        strict=True,
    )
    world.rows = [
        msgspec.structs.replace(a, shadows={"late-2": b.prediction}) for a, b in pairs if a.target == b.target
    ]
    for day in range(days):
        if SHADOW in world.registry.aliases("late"):
            world.day(day, times=2)


def test_a_shadow_that_is_no_worse_is_promoted_after_a_week(world: World) -> None:
    shadowed(world, 0.4, 0.05, 30)
    assert world.decisions() == [("promote", "late-2")]
    assert world.registry.decisions()[0].at >= T0 + 7 * DAY


def test_a_shadow_that_is_worse_is_dropped(world: World) -> None:
    shadowed(world, 0.02, 0.4, 30)
    assert world.decisions() == [("stop", "late-2")]


def test_a_day_on_which_some_were_not_asked_in_shadow_is_left_out_whole(world: World) -> None:
    """Where the keeper had time only for what the shadow got right, the rest of that day must not speak for it."""
    shadowed(world, 0.3, 0.6, 0)
    for at, row in enumerate(answers(range(40), wrong=(0.3,))):
        said = UNSCORED if at % 2 else abs(row.target - 0.05)
        world.rows.append(msgspec.structs.replace(row, shadows={"late-2": said}))
    for day in range(40):
        if SHADOW in world.registry.aliases("late"):
            world.day(day, times=2)
    assert world.decisions() == []


def risen(world: World, day: int) -> None:
    """The minutes of a day found that the error has risen."""
    signal = Signal("outcome", "log_loss", "log_loss: mean 2, was 0.3", 20.0, "error")
    for hour in range(24):
        world.loop.watch.report(T0 + day * DAY + hour * HOUR, "late", [signal])


def test_an_error_that_has_risen_raises_one_alert_that_closes_when_it_is_over(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    for day in range(6):
        risen(world, day)
        world.day(day, times=2)
    (alert,) = world.registry.alerts("late")
    assert (alert.cause, alert.resolved_at) == ("outcome", None)
    assert alert.evidence["times"] == 6 * 24
    assert alert.evidence["last_seen"] > alert.at
    assert world.told(Alerted) == [alert.id]
    for day in range(6, 12):
        world.day(day, times=2)
    (closed,) = world.registry.alerts("late")
    assert closed.resolved_at is not None
    assert 0 < closed.resolved_at - closed.evidence["last_seen"] < 4 * DAY


def test_a_version_that_failed_a_gate_is_blocked(world: World) -> None:
    version = world.version(1, passed=False)
    admit(world.registry, world.journal, world.model, version, at=T0, by="t")
    assert world.decisions() == [("block", "late-1")]
    assert world.registry.aliases("late") == {}


def test_a_version_left_unadmitted_by_a_crash_is_admitted_a_day_later(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    world.version(2, at=T0 + DAY)
    world.day(0)
    assert world.decisions() == []
    world.day(1, times=2)
    assert world.decisions() == [("start_experiment", "late-2")]


def test_nothing_happens_without_a_champion_or_answers(world: World) -> None:
    world.day(0)
    world.version(1)
    world.alias(CHAMPION, 1)
    world.day(0)
    assert (world.decisions(), world.registry.alerts(), world.trainer.jobs) == ([], [], [])


def test_targets_that_are_all_the_same_are_no_trouble(world: World) -> None:
    experiment(world, (0.1, 0.1), 0)
    rows = answers(range(8), arms=BOTH, wrong=(0.0, 0.0))
    world.rows = [msgspec.structs.replace(row, target=0.0, prediction=0.05) for row in rows]
    for day in range(8):
        world.day(day)
    assert world.decisions() == []


def test_one_retrain_a_month_with_the_rung_of_the_champion(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    for day in range(62):
        world.day(day, times=2)
    assert [(job.at, job.rung) for job in world.trainer.jobs] == [
        (parse_time("2024-04-01"), "linear"),
        (parse_time("2024-05-01"), "linear"),
    ]


def test_an_audit_that_blocks_blocks_the_scheduled_training_once_on_record_and_until_it_is_mended(
    world: World,
) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)

    def audited(at: int, verdict: str) -> None:
        found = {"model": "late", "findings": [{"audit": "leakage", "verdict": verdict}]}
        world.registry.finish_run(world.registry.start_run("audit", details=found, at=at), "done", at=at)

    audited(T0 + 27 * DAY, "block")
    for day in range(28, 40):
        world.day(day)
    assert world.trainer.jobs == []
    (decision,) = [one for one in world.registry.decisions("late") if one.kind == "block"]
    assert decision.reason == "scheduled: every month; not trained, since these audits block: leakage"
    assert decision.version == ""
    audited(T0 + 39 * DAY + HOUR, "pass")
    world.day(40)
    assert len(world.trainer.jobs) == 1


def test_a_retrain_that_an_experiment_put_off_is_made_up_for(world: World) -> None:
    world.version(1)
    world.version(2)
    world.alias(CHAMPION, 1)
    world.alias(CHALLENGER, 2, share=0.5)
    for day in range(28, 34):
        world.day(day)
    assert world.trainer.jobs == []
    world.registry.drop_alias("late", CHALLENGER, reason="r", by="t", at=T0 + 34 * DAY)
    world.day(34)
    world.day(35)
    assert [job.at for job in world.trainer.jobs] == [T0 + 35 * DAY]


def test_an_alarm_retrains_at_most_once_a_week(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    for day in range(20):
        risen(world, day)
        world.day(day)
    gaps = np.diff([T0, *(job.at for job in world.trainer.jobs)])
    assert len(gaps) == 2
    assert min(gaps) >= 7 * DAY
    assert {job.reason for job in world.trainer.jobs} == {"the error of the answers raised an alarm"}


def test_after_a_pause_each_day_is_looked_at_and_at_most_a_month(world: World) -> None:
    assert [duty.at for duty in world.loop.due(T0 + HOUR, T0 + 2 * DAY)] == [T0 + DAY, T0 + 2 * DAY]
    assert world.loop.due(0, T0) == []
    assert len(world.loop.due(T0, T0 + 400 * DAY)) == 31


def wrong_ones(rows: Iterable[Settled], arm: str, **changes: Any) -> list[Settled]:
    """The rows, with changes to the mistaken ones of an arm."""
    return [
        msgspec.structs.replace(row, **changes)
        if row.arm == arm and (row.prediction > 0.5) is not (row.target > 0.5)
        else row
        for row in rows
    ]


@pytest.mark.parametrize("kept_back", [{"verdict": "refused"}, {"source": "similar_cases"}])
def test_a_version_gains_nothing_from_a_guard_that_keeps_back_its_mistakes(
    world: World, kept_back: dict[str, str]
) -> None:
    experiment(world, (0.05, 0.05), 0)
    rows = answers(range(8), arms=BOTH, wrong=(0.05, 0.05), per_day=400)
    world.rows = wrong_ones(rows, CHALLENGER, **kept_back)
    for day in range(8):
        world.day(day)
    assert world.decisions() == []


@pytest.mark.parametrize("kept_back", [{"verdict": "refused"}, {"source": "similar_cases"}])
def test_what_the_guard_kept_from_callers_raises_no_alarm(world: World, kept_back: dict[str, str]) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    rows = list(answers(range(2), wrong=(0.5,)))
    wrong = wrong_ones(rows, CHAMPION, **kept_back)
    assert watching.shown(rows, "late-1") == rows
    left = watching.shown(wrong, "late-1")
    assert 0 < len(left) < len(rows)
    assert watching.row_errors(world.model, [row.prediction for row in left], left).max() < 0.1
    assert watching.shown(rows, "late-2") == []


def measured(error: str) -> Any:
    """As much of a regression's model as its errors need."""
    return SimpleNamespace(name="late", task="regression", error=error, action=None)


def test_a_target_that_admits_no_error_is_left_out_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    model = measured("mape")
    rows = list(answers(range(1), per_day=2))
    rows = [msgspec.structs.replace(row, target=t) for row, t in zip(rows, (0.0, 2.0), strict=True)]
    assert watching.scored(model, rows) == rows[1:]
    assert [(r.message, vars(r)["answers"]) for r in caplog.records] == [("answers_not_scored", 1)]


def test_the_error_of_one_answer_under_rmse_is_called_squared(world: World) -> None:
    assert watching.error_name(measured("rmse")) == "squared error"
    assert watching.error_name(world.model) == "log_loss"


def judged(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the last judgement of the third day was shown."""
    states: list[RolloutState] = []

    def note(plan: RolloutPlan, state: RolloutState) -> Verdict:
        states.append(state)
        return Verdict("continue", "", {})

    monkeypatch.setattr(trialing, "judge", note)
    world.day(3)
    return states[-1]


def test_a_unit_counts_once_with_all_its_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment(world, (0.1, 0.1), 0)
    wrong, right = (
        next(answers(range(day, day + 1), wrong=(probability,), per_day=1))
        for day, probability in ((0, 1.0), (1, 0.0))
    )
    world.rows = [msgspec.structs.replace(row, unit="u", share=0.5, phase=PHASE) for row in (wrong, right)]
    cost = float(costs(world.model, [wrong.prediction], [wrong])[0])
    state = judged(world, monkeypatch)
    assert cost > 0
    champion = state.primary.whole.phases[PHASE].a
    assert (champion.n, champion.y, champion.d) == (1, cost, 2)


@pytest.mark.parametrize("trial", [CHALLENGER, SHADOW])
def test_nothing_counts_from_before_the_champion_was_champion(
    world: World, monkeypatch: pytest.MonkeyPatch, trial: str
) -> None:
    world.version(1)
    world.version(2)
    if trial == SHADOW:
        world.model.rollout = None
    world.alias(trial, 2, share=0.5)
    world.alias(CHAMPION, 1, at=T0 + 2 * DAY)
    world.rows = [
        msgspec.structs.replace(row, shadows={"late-2": 0.5})
        for row in answers(range(2), arms=BOTH, wrong=(0.1, 0.1))
    ]
    state = judged(world, monkeypatch)
    assert state.days == 2
    assert state.primary == (Tally() if trial == CHALLENGER else PairedDays())


def test_a_failed_training_raises_an_alert_that_only_a_success_closes(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)

    def trained(day: int, status: str) -> None:
        details = {"model": "late", "reason": "scheduled", "output": "no rows"}
        run = world.registry.start_run("train", details=details, at=T0 + day * DAY)
        world.registry.finish_run(run, status, at=T0 + day * DAY)

    trained(1, "failed")
    for day in range(1, 9):
        world.day(day, times=2)
    (alert,) = world.registry.alerts("late", open_only=True)
    assert (alert.cause, alert.evidence["times"], alert.evidence["sentences"][-1]) == (
        "training",
        1,
        "no rows",
    )
    assert alert.todo == "Run `icekeel train late` and read the error."
    assert world.told(Alerted) == [alert.id]
    trained(9, "done")
    world.day(9)
    assert world.registry.alerts("late", open_only=True) == []


def test_a_training_by_hand_closes_the_alert_too(world: World) -> None:
    world.version(1)
    world.alias(CHAMPION, 1)
    run = world.registry.start_run("train", details={"model": "late"}, at=T0 + DAY)
    world.registry.finish_run(run, "failed", at=T0 + DAY)
    world.day(1)
    world.version(2, at=T0 + 2 * DAY)
    world.day(2)
    (alert,) = world.registry.alerts("late")
    assert alert.resolved_at == T0 + 2 * DAY


@pytest.mark.parametrize("trial", [CHALLENGER, SHADOW])
def test_a_version_made_champion_is_on_trial_no_more(world: World, trial: str) -> None:
    experiment(world, (0.1, 0.1), 0)
    world.registry.drop_alias("late", CHALLENGER, reason="r", by="t", at=T0)
    world.alias(trial, 2, share=0.5)
    crown(world.registry, "late", "late-2", reason="r", by="hand", at=T0 + DAY)
    assert {name: alias.version for name, alias in world.registry.aliases("late").items()} == {
        CHAMPION: "late-2"
    }


def test_a_roll_back_and_its_decision_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment(world, (0.1, 0.1), 0)
    crown(world.registry, "late", "late-2", reason="r", by="hand", at=T0 + DAY)

    def broken(*_: Any) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "record", broken)
        with pytest.raises(OSError):
            roll_back(world.registry, world.journal, "late", reason="r", by="hand", at=T0 + 2 * DAY)
    assert world.registry.aliases("late")[CHAMPION].version == "late-2"
    assert (
        roll_back(world.registry, world.journal, "late", reason="r", by="hand", at=T0 + 2 * DAY).name
        == "late-1"
    )
    assert world.decisions() == [("rollback", "late-1")]
    assert world.told(Decided) == [one.id for one in world.registry.decisions()]


def test_a_version_whose_bundle_is_damaged_is_told_and_not_tried_on(world: World) -> None:
    def bundle(number: int) -> Path:
        made = write(world.app.places.bundles, {"model.txt": b"%d" % number}, {})
        world.registry.register(
            "late", made.digest, snapshot="s", code="c", features="F", metrics={},
            gates=[{"name": "parity", "passed": True}], ladder={}, trained_from=0, trained_to=1, reason="r", at=T0,
        )  # fmt: skip
        return made.path / "model.txt"

    files = [bundle(1), bundle(2)]
    world.alias(CHAMPION, 1)
    world.alias(CHALLENGER, 2, share=0.5)
    at = T0 + HOUR
    look = partial(world.loop.look, source={"late": world}, hour=False)
    look(at)
    assert world.decisions() == []
    for file in files:
        file.chmod(0o600)
        file.write_bytes(b"rotten")
    look(at + 59 * MINUTE)
    assert world.decisions() == []
    look(at + HOUR)
    assert [one for one in world.decisions() if one[1]] == [("stop", "late-2")]
    assert CHALLENGER not in world.registry.aliases("late")
    told = {one.cause: one.evidence["title"] for one in world.registry.alerts("late")}
    assert told == {
        CHAMPION: "late-1, the champion, cannot be loaded: its bundle is damaged",
        CHALLENGER: "late-2, the challenger, cannot be loaded: its bundle is damaged",
    }


@pytest.mark.parametrize(
    ("column", "larger", "change"),
    [("Scans.lateness", True, "late"), ("Scans.lateness", False, "shape"), ("Scans.load", True, "shape")],
)
def test_days_on_which_rows_came_late_are_about_their_source(column: str, larger: bool, change: str) -> None:
    """Rows that come sooner than they did are not wrong."""
    key = f"table Scans|source.{column}"
    moved = Finding(key, 0.2, 0.1, 1e-9, True, f"{key}: moved", larger)
    found = watching._shape(moved, Duty(3, 4 * DAY))
    assert (found.subject, found.name, found.change) == ("source", "Scans", change)
    assert (found.sentence, found.since) == (f"{column}: moved", 3 * DAY)
