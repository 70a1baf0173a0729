"""Experiments on fabricated answers: steps, harm, failures, and what is held since the data cannot be vouched for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest

from icekeel.console import experiments_page
from icekeel.console.experiments import experiment_page
from icekeel.console.report import render
from icekeel.core.errors import IcekeelError, RegistryError
from icekeel.core.time import DAY, HOUR
from icekeel.define import Rollout
from icekeel.experiments import Metric, PairedDays, RolloutPlan, paired_days_needed
from icekeel.monitoring import Signal
from icekeel.operations.projections.projections import Settled
from icekeel.operations.trials.desk import start_by_hand, step_by_hand, stop_by_hand
from icekeel.operations.trials.report import analyse, paired_sentences, power_of, report_of
from icekeel.operations.trials.rows import MOST_GROUPS
from icekeel.operations.trials.trials import Trials, plan_of
from icekeel.operations.workshop.workshop import admit
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, all_trials, trials

from .test_loop import BOTH, T0, World, answers

STEPS = (0.1, 0.5)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path / "small", monkeypatch)
    unit = made.model.rollout.unit  # type: ignore[union-attr]  # the small project has one
    made.model.rollout = Rollout(unit=unit, steps=STEPS, minimum_days=1, segments=())
    yield made
    made.journal.close()
    made.registry.close()


def ramped(world: World, wrong: tuple[float, float], days: int, *, count: int = 40) -> None:
    """Both versions, the challenger at the first step, and answers of the phases as they are reached."""
    world.version(1)
    world.version(2)
    world.alias(CHAMPION, 1)
    world.alias(CHALLENGER, 2, share=STEPS[0])
    for day in range(days):
        alias = world.registry.aliases("late").get(CHALLENGER)
        if alias is None:
            return
        phase = f"{alias.salt}@{alias.share:g}"
        rows = answers(range(day, day + 1), arms=BOTH, wrong=wrong, per_day=count, seed=day)
        world.rows += [msgspec.structs.replace(row, phase=phase) for row in rows]
        world.day(day, times=2)


def test_a_good_challenger_goes_through_its_steps_one_a_day_at_the_most(world: World) -> None:
    ramped(world, (0.5, 0.05), 30)
    assert [kind for kind, _ in world.decisions()] == ["advance", "promote"]
    shares = [change.share for change in world.registry.history("late") if change.alias == CHALLENGER]
    assert shares[:2] == list(STEPS)
    advance, promote = world.registry.decisions()
    assert promote.at - advance.at >= DAY


def test_a_harmful_challenger_never_leaves_its_first_step_for_good(world: World) -> None:
    ramped(world, (0.02, 0.6), 30)
    assert world.decisions()[-1] == ("stop", "late-2")
    assert world.registry.aliases("late")[CHAMPION].version == "late-1"


def test_a_challenger_that_fails_is_stopped_within_the_minute_without_an_outcome(world: World) -> None:
    ramped(world, (0.1, 0.1), 0)
    salt = world.registry.aliases("late")[CHALLENGER].salt
    look = world.loop.trials.look_for_failures
    world.failures = {(f"{salt}@0.1", "no finite answer", 0.5): (2, 3)}
    look(T0 + HOUR, world.model, world)
    assert world.decisions() == []
    world.failures = {(f"{salt}@0.1", "no finite answer", 0.5): (0, 40)}
    look(T0 + 2 * HOUR, world.model, world)
    assert world.decisions() == [("stop", "late-2")]
    assert "no finite answer" in world.registry.decisions()[0].reason
    look(T0 + 3 * HOUR, world.model, world)
    assert len(world.decisions()) == 1


@pytest.mark.parametrize("change", ["skew", "missing", "rate"])
def test_nothing_is_decided_while_the_data_cannot_be_vouched_for(world: World, change: str) -> None:
    """Of a source that is only busier than it was nothing is wrong: that is a shift, as for trainings."""
    ramped(world, (0.5, 0.05), 0)
    if change == "skew":
        world.loop.alerting.warn(T0, "late", "skew", "Scans differ", ["x"], "look")
    else:
        world.loop.watch.report(T0, "late", [Signal("source", "Scans", "Scans: few", 9.0, change)])
    world.rows = list(answers(range(20), arms=BOTH, wrong=(0.5, 0.05)))
    world.rows = [msgspec.structs.replace(row, phase="late-2/1@0.1") for row in world.rows]
    at, trial = T0 + 20 * DAY, trials(world.registry.history("late"))[-1]
    found = Trials(world.registry).standing(at, world.model, world, trial)
    assert found.verdict.kind == ("advance" if change == "rate" else "continue")
    assert ("Scans" in found.held) is (change != "rate")
    world.registry.resolve(world.registry.alerts("late")[0].id, resolution="mended", at=T0)
    assert Trials(world.registry).standing(at, world.model, world, trial).verdict.kind == "advance"


@pytest.mark.parametrize("failed", [0, 3])
def test_a_version_answers_in_shadow_before_it_answers_anybody(world: World, failed: int) -> None:
    unit = world.model.rollout.unit  # type: ignore[union-attr]  # the small project has one
    world.model.rollout = Rollout(unit=unit, steps=STEPS, shadow="2d")
    world.model.influences = True
    world.version(1)
    version = world.version(2)
    world.alias(CHAMPION, 1)
    assert admit(world.registry, world.journal, world.model, version, at=T0, by="t").kind == "start_shadow"
    if failed:
        world.failures = {("shadow of late-2", "no finite answer", 1.0): (0, failed)}
    for day in range(3):
        world.day(day, times=2)
        if not failed:
            assert (CHALLENGER in world.registry.aliases("late")) == (day >= 1)
    assert SHADOW not in world.registry.aliases("late")
    last = world.decisions()[-1][0]
    assert last == ("stop" if failed else "start_experiment")
    if not failed:
        assert world.registry.aliases("late")[CHALLENGER].share == STEPS[0]


def test_a_unit_seen_in_both_arms_counts_in_neither(world: World) -> None:
    ramped(world, (0.1, 0.1), 0)
    rows = list(answers(range(2), arms=BOTH, wrong=(0.1, 0.1)))
    world.rows = [
        msgspec.structs.replace(row, phase="late-2/1@0.1", unit="both" if n < 2 else row.unit)
        for n, row in enumerate(rows)
    ]
    trial = trials(world.registry.history("late"))[-1]
    units = Trials(world.registry).standing(T0 + 9 * DAY, world.model, world, trial).units["cost per answer"]
    assert (units.crossed, len(units.value)) == (1, len(rows) - 2)


class Growing:
    """Some rows, and those that a test lets follow, each of these given once."""

    def __init__(self, rows: list[Settled]) -> None:
        self.rows = rows
        self.fresh_rows: list[Settled] | None = None

    def grow(self, rows: list[Settled]) -> None:
        self.rows, self.fresh_rows = [*self.rows, *rows], rows

    def settled(self, metric: str, since: int, until: int) -> list[Settled]:
        return self.rows

    def fresh(self, metric: str) -> list[Settled] | None:
        found, self.fresh_rows = self.fresh_rows, []
        return found

    def struck(self) -> dict[tuple[str, str, float], tuple[int, int]]:
        return {}


@pytest.mark.parametrize("fails", [False, True], ids=["well", "after a look that failed"])
def test_what_settles_between_two_looks_is_added_once(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    ramped(world, (0.1, 0.1), 0)
    rows = [
        msgspec.structs.replace(row, phase="late-2/1@0.1")
        for row in answers(range(4), arms=BOTH, wrong=(0.2, 0.2))
    ]

    source, looked = Growing(rows[:100]), Trials(world.registry)
    trial = trials(world.registry.history("late"))[-1]
    looked.standing(T0 + 9 * DAY, world.model, source, trial)
    source.grow(rows[100:])
    if fails:
        with monkeypatch.context() as once, pytest.raises(ArithmeticError):
            once.setattr("icekeel.operations.trials.trials.costs", Mock(side_effect=ArithmeticError))
            looked.standing(T0 + 9 * DAY, world.model, source, trial)
    grown = looked.standing(T0 + 9 * DAY, world.model, source, trial)
    whole = Trials(world.registry).standing(T0 + 9 * DAY, world.model, world_of(world, rows), trial)
    assert grown.state.primary == whole.state.primary


def world_of(world: World, rows: list[Settled]) -> World:
    world.rows = rows
    return world


def test_a_version_withdrawn_in_the_middle_ends_its_experiment(world: World) -> None:
    ramped(world, (0.5, 0.05), 0)
    world.registry.drop_alias("late", CHALLENGER, reason="withdrawn", by="t", at=T0 + DAY)
    world.rows = list(answers(range(20), arms=BOTH, wrong=(0.5, 0.02)))
    for day in range(20):
        world.day(day)
    assert world.decisions() == []
    (trial,) = trials(world.registry.history("late"))
    assert (trial.ended, trial.why) == (T0 + DAY, "withdrawn")


def test_by_hand_start_step_and_stop_are_recorded_with_their_reason(world: World) -> None:
    for number in (1, 2, 3):
        world.version(number)
    world.alias(CHAMPION, 1)
    why: Any = {"share": None, "by": "ann", "at": T0}
    start_by_hand(world.registry, world.journal, world.model, "late-2", reason="new", **why)
    with pytest.raises(RegistryError, match="another experiment runs"):
        start_by_hand(world.registry, world.journal, world.model, "late-3", reason="x", **why)
    step_by_hand(world.registry, world.journal, world.model, share=None, reason="fine", by="ann", at=T0 + 1)
    assert world.registry.aliases("late")[CHALLENGER].share == STEPS[1]
    with pytest.raises(RegistryError, match="last step"):
        step_by_hand(world.registry, world.journal, world.model, share=None, reason="x", by="ann", at=T0 + 2)
    stop_by_hand(world.registry, world.journal, world.model, reason="enough", by="ann", at=T0 + 3)
    assert [kind for kind, _ in world.decisions()] == ["start_experiment", "step", "stop"]
    with pytest.raises(RegistryError, match="no experiment runs"):
        stop_by_hand(world.registry, world.journal, world.model, reason="x", by="ann", at=T0 + 4)


def test_the_report_has_the_finding_the_course_and_the_sizes(world: World) -> None:
    ramped(world, (0.5, 0.05), 30)
    trial = trials(world.registry.history("late"))[-1]
    found = report_of(
        world.model, Trials(world.registry).standing(trial.ended or 0, world.model, world, trial)
    )
    told = found.as_dict()
    assert told["verdict"] == "ended"
    assert told["metrics"]["cost per answer"]["e_better"] > 20
    assert [one["share"] for one in told["sizes"]] == [0.5, 0.5]
    assert len(told["course"]) > 5
    page = render(experiment_page(found))
    for words in ("The course", "Sizes of the arms", "<svg", "would never have stopped it"):
        assert words in page


def test_power_agrees_with_the_normal_approximation_within_what_looking_costs() -> None:
    """A fixed test at 5 % one-sided with 80 % power needs `(1.645 + 0.842)^2 * 4 p (1 - p) / (e p)^2` units."""
    rng = np.random.default_rng(1)
    value = (rng.random(40_000) < 0.2).astype(float)
    unit = np.arange(40_000).astype(str)
    metric = Metric("won", "conversion", lower_is_better=False)
    found = power_of(metric, RolloutPlan(metric), unit, value, 20.0, (0.05,), "users")
    fixed = (1.645 + 0.842) ** 2 * 4 * 0.8 / 0.2 / 0.05**2
    assert 1.0 < found.needed[0][1] / fixed < 3.0
    assert found.units_per_day == 2_000
    assert "at 2,000 a day" in found.sentences[0]
    stated = re.search(r"tuned_for=([\d_]+)\) it needs (\d+)%", found.sentences[1])
    assert stated is not None
    plan = RolloutPlan(metric, tuned_for=int(stated[1]))
    tuned = power_of(metric, plan, unit, value, 20.0, (0.05,), "users")
    assert tuned.needed[0][1] / found.needed[0][1] == pytest.approx(int(stated[2]) / 100, abs=0.02)
    assert int(stated[2]) < 100
    with pytest.raises(IcekeelError, match="no past outcomes"):
        power_of(metric, RolloutPlan(metric), unit, np.full(40_000, np.nan), 20.0, (0.05,), "users")


def test_power_in_shadow_is_told_in_days_of_the_version_that_was_there_last() -> None:
    rng = np.random.default_rng(3)
    day, a = np.repeat(np.arange(60), 50), rng.gamma(2.0, 1.0, 3_000)
    past = PairedDays.of(day, a, a + rng.normal(0, 0.5, 3_000))
    plan = RolloutPlan(Metric("cost"), steps=())
    few = PairedDays({at: past.days[at] for at in range(5)})
    assert "on 10 days" in paired_sentences(plan, few, (0.05,))[0]
    days = paired_days_needed(past, 0.05, plan.claim(plan.primary))
    assert paired_sentences(plan, past, (0.05,)) == [f"In shadow +5.0% takes {days} days."]
    assert "more than 1,000 days" in paired_sentences(plan, past, (0.0001,))[0]


def test_a_table_served_elsewhere_is_analysed(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arms = ["champion" if rng.random() < 0.5 else "challenger" for _ in range(6_000)]
    won = [int(rng.random() < (0.2 if arm == "champion" else 0.3)) for arm in arms]
    rows = [
        f"u{n},{arm},{hit},2025-01-{1 + n // 300:02d}"
        for n, (arm, hit) in enumerate(zip(arms, won, strict=True))
    ]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["unit,arm,won,at", *rows]))
    columns = {"unit": "unit", "arm": "arm", "value": "won", "time": "at"}
    found = analyse(table, columns, Metric("won", "conversion", lower_is_better=False), 0.5, 0.05)
    hits = [sum(h for a, h in zip(arms, won, strict=True) if a == arm) for arm in ("champion", "challenger")]
    sizes = arms.count("champion"), arms.count("challenger")
    assert found.evidence["won"].estimate == pytest.approx(hits[1] / sizes[1] - hits[0] / sizes[0])
    assert found.verdict == "promote"
    with pytest.raises(IcekeelError) as error:
        analyse(table, {**columns, "value": "lost"}, Metric("lost"), 0.5, 0.05)
    assert error.value.code == "unknown_column"
    with pytest.raises(IcekeelError) as error:
        analyse(table, {**columns, "arm": "unit"}, Metric("won"), 0.5, 0.05)
    assert error.value.code == "bad_arms"


def test_a_hundred_thousand_groups_are_the_largest_and_the_others(tmp_path: Path) -> None:
    table, rng = tmp_path / "t.csv", np.random.default_rng(4)
    groups = [f"g{n}" if n % 2 else f"common{n % 7}" for n in range(100_000)]
    arms = np.where(rng.random(len(groups)) < 0.5, "a", "b")
    rows = [f"u{n},{arm},{n % 3},{g}" for n, (arm, g) in enumerate(zip(arms, groups, strict=True))]
    table.write_text("\n".join(["unit,arm,won,group", *rows]))
    columns = {"unit": "unit", "arm": "arm", "value": "won", "segment": "group"}
    found = analyse(table, columns, Metric("won"), 0.5, 0.05).segments["group"]
    assert len(found) == MOST_GROUPS + 1
    assert {f"common{one}" for one in range(7)} < set(found)
    assert sum(one.n_a + one.n_b for one, _ in found.values()) == len(groups)
    assert not any(counts for _, counts in found.values())


ROWS = "unit,arm,won,at\nu1,{0},1,2025-01-01\nu2,{1},0,2025-01-02\n"


@pytest.mark.parametrize(
    ("text", "share", "challenger", "code"),
    [
        (ROWS.format("a", "b"), 1.5, "", "bad_share"),
        (ROWS.format("a", "b"), 0.0, "", "bad_share"),
        ("", 0.5, "", "no_file"),
        (ROWS.format("a", "b").replace("won", "one"), 0.5, "", "unknown_column"),
        (ROWS.format("a", "b").replace("1,2025", "yes,2025"), 0.5, "", "bad_table"),
        (ROWS.format("a", "b") + ",b,1,2025-01-02\n", 0.5, "", "missing_values"),
        (ROWS.format("a", "b") + "u3,,1,2025-01-02\n", 0.5, "", "missing_values"),
        (ROWS.format("a", "b") + "u3,b,1,\n", 0.5, "", "missing_values"),
        (ROWS.format("a", "a"), 0.5, "", "bad_arms"),
        (ROWS.format("x", "y"), 0.5, "", "which_arm"),
        (ROWS.format("x", "y"), 0.5, "z", "which_arm"),
        (ROWS.format("test", "new"), 0.5, "", "which_arm"),
    ],
)
def test_a_table_that_cannot_be_vouched_for_has_a_code(
    tmp_path: Path, text: str, share: float, challenger: str, code: str
) -> None:
    table = tmp_path / "t.csv"
    if text:
        table.write_text(text)
    columns = {"unit": "unit", "arm": "arm", "value": "won", "time": "at"}
    with pytest.raises(IcekeelError) as error:
        analyse(table, columns, Metric("won"), share, 0.05, challenger)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("arms", "named", "title"),
    [
        (("baseline", "alternative"), "", "alternative against baseline"),
        (("control", "blue"), "", "blue against control"),
        (("A", "B"), "", "B against A"),
        (("red", "blue"), "red", "red against blue"),
    ],
)
def test_the_challenger_is_not_mistaken_for_the_champion(
    tmp_path: Path, arms: tuple[str, str], named: str, title: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_text(ROWS.format(*arms))
    columns = {"unit": "unit", "arm": "arm", "value": "won"}
    assert analyse(table, columns, Metric("won"), 0.5, 0.05, named).title == f"{title} in t.csv"


def test_an_experiment_as_before_is_judged_by_its_cost(world: World) -> None:
    assert plan_of(world.model).primary == Metric("cost per answer", "ratio")


def test_the_console_lists_what_runs_and_what_is_over(world: World) -> None:
    assert "There was none yet" in experiments_page([])
    ramped(world, (0.02, 0.6), 30)
    world.version(3)
    world.alias(CHALLENGER, 3, share=STEPS[0], at=T0 + 40 * DAY)
    page = experiments_page(trials(world.registry.history("late")))
    for words in ("1 running, 1 over", "late-2", "late-3", "does harm", "icekeel experiment report late"):
        assert words in page


@pytest.mark.parametrize(("wrong", "decision"), [((0.5, 0.05), "promote"), ((0.02, 0.4), "stop")])
def test_other_features_are_judged_in_shadow_where_the_answer_changes_nothing(
    world: World, wrong: tuple[float, float], decision: str
) -> None:
    """By the terms of the rollout: it must be better, not just no worse than the margin of a retrained version."""
    world.version(1)
    world.version(2)
    version = world.registry.version("late-2")
    world.alias(CHAMPION, 1)
    assert admit(world.registry, world.journal, world.model, version, at=T0, by="t").kind == "start_shadow"
    for day in range(40):
        if SHADOW not in world.registry.aliases("late"):
            break
        pairs = zip(*(answers(range(day, day + 1), wrong=(one,), seed=day) for one in wrong), strict=True)
        world.rows += [
            msgspec.structs.replace(a, shadows={"late-2": b.prediction})
            for a, b in pairs
            if a.target == b.target
        ]
        world.day(day, times=2)
    assert [kind for kind, _ in world.decisions()] == ["start_shadow", decision]
    (trial,) = all_trials(world.registry.history("late"))
    assert trial.in_shadow
    found = report_of(
        world.model, Trials(world.registry).standing(trial.ended or 0, world.model, world, trial)
    )
    assert (found.plan.alpha, found.plan.primary.margin, found.sizes) == (0.05, 0.0, ())
    assert found.looks[-1].evidence == found.evidence["cost per answer"]
    assert len(found.looks) >= 10
    page = render(experiment_page(found))
    assert "in shadow" in page
    assert "Sizes of the arms" not in page
    assert "in shadow" in experiments_page([trial])


def test_a_version_in_shadow_is_stopped_by_hand(world: World) -> None:
    ramped(world, (0.1, 0.1), 0)
    world.registry.drop_alias("late", CHALLENGER, reason="r", by="t", at=T0)
    world.alias(SHADOW, 2, share=0.0)
    stop_by_hand(world.registry, world.journal, world.model, reason="enough", by="ann", at=T0 + 3)
    assert SHADOW not in world.registry.aliases("late")
