"""Each audit finds what is planted and stays quiet where nothing is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import icekeel as ik
from icekeel.core.time import DAY
from icekeel.training import Linear
from icekeel.training.audits import AUDITS, Finding, examine, gates_of, out_of_time, under
from icekeel.training.audits.leakage import leakage
from icekeel.training.audits.representation import representation
from icekeel.training.audits.subgroups import subgroups

from .simulated import World, given, planted, world

RECENT = 48
"""The fifth of sixty days that counts as recent."""


def test_quiet_data_raise_no_alarm() -> None:
    # Of 300 such worlds 2 were told by representation (rate 0.05 allowed), none by the others.
    told = Counter[str]()
    for seed in range(20):
        for name in ("representation", "leakage", "subgroups"):
            told[name] += AUDITS[name](given(world(seed), seed=seed)).verdict != "pass"
    assert told == {"representation": 0, "leakage": 0, "subgroups": 0}


@pytest.mark.parametrize("error", ["mae", "rmse"])
def test_quiet_numbers_raise_no_alarm(error: str) -> None:
    for seed in range(5):
        found = examine(given(world(seed, error=error), error, seed=seed), ["leakage", "subgroups"])
        assert [one.verdict for one in found] == ["pass", "pass"]


# Representation


def changed(finding: Finding) -> list[str]:
    return [one["feature"] for one in finding.evidence["changed"]]


def lately(simulated: World) -> np.ndarray:
    return np.asarray(simulated.day >= RECENT)


def test_a_feature_that_moved_is_named() -> None:
    simulated = world(1)
    size = simulated.columns["size"] * np.where(lately(simulated), 1.5, 1.0)
    found = representation(given(planted(simulated, {"size": size})))
    assert (found.verdict, changed(found)) == ("warn", ["size"])
    assert found.what.startswith("since 1970-02-1") and "size changed" in found.what
    assert found.evidence["classifier"]["by"][0][0] == "size"
    assert found.todo


def test_a_category_that_is_new_is_named_with_examples_nobody_may_not_see() -> None:
    simulated = world(2)
    new = lately(simulated) & (np.random.default_rng(0).random(len(simulated.day)) < 0.3)
    found = representation(
        given(planted(simulated, {"route": np.where(new, "f", simulated.columns["route"])}))
    )
    assert (found.verdict, changed(found)) == ("warn", ["route"])
    assert "other categories: 2" in found.evidence["changed"][0]["most"]
    examples = found.evidence["least_represented"]
    assert [one["route"] for one in examples] == ["f", "f", "f"]
    assert all("owner" not in one for one in examples)


def test_a_feature_that_became_null_blocks() -> None:
    simulated = world(3)
    load = np.where(lately(simulated), np.nan, simulated.columns["load"])
    found = representation(given(planted(simulated, {"load": load})))
    assert found.verdict == "block"
    assert found.what.startswith("load became null: 100% since")


def test_a_change_of_what_comes_together_is_told_by_the_classifier_alone() -> None:
    simulated = world(4)
    extra = np.where(lately(simulated), _like(simulated.columns["size"]), simulated.columns["extra"])
    found = representation(given(planted(simulated, {"extra": extra})))
    assert (found.verdict, changed(found)) == ("warn", [])
    assert found.evidence["classifier"]["low"] > 0.75
    assert {name for name, _ in found.evidence["classifier"]["by"][:2]} == {"extra", "size"}


def _like(values: np.ndarray) -> np.ndarray:
    """Normal values in the order of others."""
    ordered = np.sort(np.random.default_rng(0).normal(size=len(values)))
    return np.asarray(ordered[np.argsort(np.argsort(values))])


def test_a_harmless_shift_of_many_rows_passes() -> None:
    simulated = world(5, n=100_000)
    extra = simulated.columns["extra"] + 0.02 * lately(simulated)
    found = representation(given(planted(simulated, {"extra": extra})))
    assert (found.verdict, changed(found)) == ("pass", [])


def test_a_feature_that_comes_and_goes_is_not_called_changed() -> None:
    simulated = world(5, n=20_000)
    # Every other stretch of twelve days lies a standard deviation higher, the recent one too.
    extra = simulated.columns["extra"] + (simulated.day // 12 % 2 == 0)
    found = representation(given(planted(simulated, {"extra": extra})))
    assert (found.verdict, changed(found)) == ("pass", [])


def test_the_weather_of_a_day_does_not_give_it_away() -> None:
    simulated = world(5)
    extra = np.random.default_rng(0).normal(size=60)[simulated.day]
    found = representation(given(planted(simulated, {"extra": extra})))
    assert found.verdict == "pass"
    assert found.evidence["classifier"]["auc"] < 0.75


def test_a_change_that_costs_less_than_simplicity_is_worth_passes() -> None:
    simulated = world(5, n=20_000)
    data = given(planted(simulated, {"extra": simulated.columns["extra"] + lately(simulated)}))
    found = representation(data)
    assert (found.verdict, changed(found)) == ("warn", ["extra"])
    data.model.choose = ik.Simplest(within=ik.usd_per_year(50_000, error_point=10_000))
    found = representation(data)
    assert (found.verdict, changed(found), found.todo) == ("pass", ["extra"], "")
    assert found.what.endswith("which is within the tolerance")


def test_what_it_costs_is_the_error_of_recent_rows() -> None:
    simulated = world(6, n=20_000)
    size = simulated.columns["size"] * np.where(lately(simulated), 1.5, 1.0)
    wrong = replace(planted(simulated, {"size": size}), said=np.where(lately(simulated), 0.5, simulated.said))
    data = given(wrong)
    found = representation(data)
    tested = data.tested
    recent = data.rows.asked_at[tested] >= data.recent_from
    errors = data.errors(tested)
    assert found.cost == pytest.approx((errors[recent].mean() - errors[~recent].mean()) * 100 * 10_000)
    assert found.evidence["higher_error"]["difference"] > 0.02


def test_without_recent_outcomes_earlier_rows_stand_for_recent_ones() -> None:
    simulated = world(7, n=20_000)
    # Large parcels, of which the model knows nothing, become common; nothing is known of them yet.
    rng = np.random.default_rng(0)
    large = rng.random(len(simulated.day)) < np.where(lately(simulated), 0.8, 0.1)
    size = np.where(large, 9.0 + rng.random(len(large)), simulated.columns["size"])
    ignorant = replace(
        planted(simulated, {"size": size}),
        target=np.where(large, rng.random(len(large)) < 0.5, simulated.target).astype(float),
        known=simulated.day < RECENT,
    )
    found = representation(given(ignorant))
    assert found.verdict == "warn"
    assert found.evidence["higher_error"]["difference"] > 0.02
    assert found.cost is not None and found.cost > 0


# Leakage


def kinds(finding: Finding) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["subject"], one["verdict"]) for one in finding.evidence["leaks"]]


def test_a_feature_that_is_the_outcome_blocks() -> None:
    simulated = world(1)
    noise = np.random.default_rng(0).normal(0, 0.1, len(simulated.target))
    found = leakage(given(planted(simulated, {"extra": simulated.target + noise})))
    assert found.verdict == "block"
    assert kinds(found) == [("outcome", "extra", "block")]
    assert found.todo.startswith("Take extra out")


def test_a_number_that_is_the_outcome_in_other_units_blocks() -> None:
    simulated = world(1, error="mae")
    found = leakage(given(planted(simulated, {"extra": simulated.target / 60 + 3}), "mae"))
    assert kinds(found) == [("outcome", "extra", "block")]


def test_a_number_that_tells_much_is_no_leak() -> None:
    simulated = world(1, error="mae")
    extra = simulated.target + np.random.default_rng(0).normal(0, 0.5, len(simulated.target))
    assert leakage(given(planted(simulated, {"extra": extra}), "mae")).verdict == "pass"


def test_a_field_far_above_the_others_is_suspected() -> None:
    simulated = world(1)
    wrong = np.random.default_rng(0).random(len(simulated.target)) < 0.12
    extra = np.where(wrong, 1 - simulated.target, simulated.target)
    found = leakage(given(planted(simulated, {"extra": extra})))
    assert kinds(found) == [("suspect", "extra", "warn")]
    assert "known when the question is asked" in found.todo


def test_columns_that_name_rows_are_told() -> None:
    simulated = world(1)
    n = len(simulated.target)
    names = np.array([f"c{at % 5_000}" for at in range(n)], dtype=object)
    found = leakage(given(planted(simulated, {"code": names, "extra": np.arange(n) + 17.0})))
    assert kinds(found) == [("identifier", "extra", "warn"), ("identifier", "code", "warn")]


def test_rare_values_that_are_memorised_are_told() -> None:
    simulated = world(1, n=20_000)
    owners = np.random.default_rng(0).integers(2_000, size=len(simulated.target))
    code = np.array([f"c{at}" for at in owners], dtype=object)
    found = leakage(given(planted(simulated, {"code": code})))
    assert kinds(found) == [("memorised", "code", "warn")]


@pytest.mark.parametrize(("share", "verdict"), [(0.05, "warn"), (0.3, "block")])
def test_rows_that_stand_there_twice_are_told(share: float, verdict: str) -> None:
    simulated = world(1)
    cut = int(len(simulated.target) * 0.65)
    rng = np.random.default_rng(0)
    later = np.flatnonzero(
        (np.arange(len(simulated.target)) >= cut) & (rng.random(len(simulated.target)) < share)
    )
    source = np.arange(len(simulated.target))
    source[later] = rng.integers(0, cut, len(later))
    columns = {name: values[source] for name, values in simulated.columns.items()}
    columns["parcel"] = simulated.columns["parcel"]
    found = leakage(given(replace(simulated, columns=columns, target=simulated.target[source])))
    assert kinds(found) == [("same_rows", "rows", verdict)]


def test_rows_of_a_few_categories_have_their_like_without_a_leak() -> None:
    simulated = world(1)
    same, columns = np.zeros(len(simulated.target)), simulated.columns
    target = (np.isin(columns["route"], ["a", "b"]) != (columns["service"] == "express")).astype(float)
    few = planted(simulated, {"size": same, "load": same, "extra": same, "owner": columns["code"]})
    assert leakage(given(replace(few, target=target))).verdict == "pass"


def test_features_that_are_all_strong_are_not_suspected() -> None:
    simulated = world(1)
    rng = np.random.default_rng(0)
    copies = {
        name: np.where(rng.random(len(simulated.target)) < 0.12, 1 - simulated.target, simulated.target)
        for name in ("size", "load", "extra")
    }
    copies["code"] = np.where(copies["size"] > 0, "x", "y").astype(object)
    found = leakage(given(planted(simulated, copies)))
    assert min(dict(found.evidence["strengths"])[name] for name in copies) > 0.6
    assert found.verdict == "pass"


# Subgroups


def worse(simulated: World, rows: np.ndarray) -> World:
    """Rows of which the model knows nothing: their outcomes are another's."""
    target = simulated.target.copy()
    target[rows] = np.random.default_rng(5).random(int(rows.sum())) > simulated.said[rows]
    return replace(simulated, target=target)


def words(finding: Finding) -> list[str]:
    return [one["words"] for one in finding.evidence["slices"]]


def test_a_group_that_is_served_worse_is_found_and_priced() -> None:
    simulated = world(1, n=20_000)
    data = given(worse(simulated, simulated.columns["route"] == "d"))
    found = subgroups(data)
    assert found.verdict == "warn"
    assert words(found)[0] == "route = d"
    (first, *_) = found.evidence["slices"]
    tested = data.tested
    errors, inside = data.errors(tested), data.requests["route"][tested] == "d"
    assert first["rows"] == inside.sum()
    assert (first["error"], first["overall"]) == pytest.approx((errors[inside].mean(), errors.mean()))
    share = (errors[inside].mean() - errors.mean()) * inside.mean()
    assert found.cost == pytest.approx(share * 100 * 10_000)


def test_a_pair_and_a_stretch_of_a_number_are_found() -> None:
    simulated = world(2, n=20_000)
    pair = (simulated.columns["route"] == "b") & (simulated.columns["service"] == "express")
    assert words(subgroups(given(worse(simulated, pair))))[0] == "route = b, service = express"
    stretch = simulated.columns["size"] > np.quantile(simulated.columns["size"], 0.8)
    assert words(subgroups(given(worse(simulated, stretch))))[0].startswith("size above")


def test_a_group_that_is_hard_to_foresee_is_not_served_worse() -> None:
    simulated = world(3, n=20_000)
    hard = simulated.columns["route"] == "a"
    said = np.where(hard, 0.5, 0.05)
    target = (np.random.default_rng(0).random(len(said)) < said).astype(float)
    found = subgroups(given(replace(simulated, said=said, target=target)))
    assert found.verdict == "pass"
    errors = {one["group"]: one["error"][0] for one in found.evidence["groups"]}
    assert errors["route = a"] > 3 * errors["route = b"]


def test_declared_groups_are_the_ones_told() -> None:
    from .simulated import Parcel

    found = subgroups(given(world(1), audits=ik.Audits(groups=(Parcel.service,))))
    groups = {one["group"] for one in found.evidence["groups"]}
    assert groups == {"service is null", "service = express", "service = plain"}


# What the policy makes of findings


def test_the_policy_overrules_by_name() -> None:
    simulated = world(1)
    leak = planted(simulated, {"extra": simulated.target})
    names = ["leakage", "subgroups"]
    (found, _) = examine(given(leak), names)
    assert found.verdict == "block"
    (found, _) = examine(given(leak, audits=ik.Audits(warn=("leakage",))), names)
    assert found.verdict == "warn"
    (found,) = examine(given(leak, audits=ik.Audits(off=("leakage",))), names)
    assert found.audit == "subgroups"
    warned = Finding("subgroups", "warn", "worse")
    assert under(ik.Audits(block=("subgroups",)), warned).verdict == "block"
    assert under(ik.Audits(block=("leakage",)), warned).verdict == "warn"


def test_a_finding_that_blocks_is_a_failed_gate() -> None:
    gates = gates_of(
        [Finding("leakage", "block", "x is the outcome", "Take x out."), Finding("labels", "warn", "odd")]
    )
    assert [(gate.name, gate.passed, gate.measured, gate.required) for gate in gates] == [
        ("audit_leakage", False, 2.0, 1.0),
        ("audit_labels", True, 1.0, 1.0),
    ]
    assert gates[0].why == "x is the outcome; Take x out."


def test_too_few_rows_pass_and_say_so() -> None:
    few = given(world(1, n=80))
    for name in ("representation", "leakage", "subgroups"):
        found = AUDITS[name](few)
        assert found.verdict == "pass"
        assert "too few" in found.what


def test_outcomes_that_all_come_late_leave_nothing_to_predict_by() -> None:
    asked = given(world(1))
    late = replace(asked.rows, known_at=asked.rows.known_at + 100 * DAY)
    assert np.isnan(out_of_time(asked.problem, late, Linear())).all()


def odd(name: str) -> World:
    simulated = world(1, error="mae" if "number" in name else "log_loss")
    n = len(simulated.target)
    changes = {
        "null columns": lambda: planted(
            simulated, {"load": np.full(n, np.nan), "code": np.full(n, None, dtype=object)}
        ),
        "one class": lambda: replace(simulated, target=np.ones(n), said=np.full(n, 0.9)),
        "constant number": lambda: replace(simulated, target=np.zeros(n), said=np.zeros(n)),
        "all at once": lambda: replace(
            simulated, asked_at=np.zeros(n, dtype=np.int64), known=simulated.day >= 0
        ),
        "one day": lambda: replace(simulated, asked_at=simulated.asked_at // 60, known=simulated.day >= 0),
        "no predictions": lambda: replace(simulated, said=np.full(n, np.nan)),
        "never an outcome": lambda: replace(simulated, known=simulated.day < 0),
        "constant features": lambda: planted(
            simulated, dict.fromkeys(("size", "load", "extra"), np.zeros(n))
        ),
        "perfect predictions": lambda: replace(simulated, said=simulated.target),
    }
    return changes[name]()


@pytest.mark.parametrize(
    "name",
    [
        *("null columns", "one class", "constant number", "all at once", "one day", "no predictions"),
        *("never an outcome", "constant features", "perfect predictions"),
    ],
)
def test_odd_data_are_no_error(name: str) -> None:
    for audit in ("representation", "leakage", "subgroups"):
        found = AUDITS[audit](given(odd(name), "mae" if "number" in name else "log_loss"))
        assert (found.verdict, found.audit) == ("pass", audit)
        assert "nan" not in found.what
