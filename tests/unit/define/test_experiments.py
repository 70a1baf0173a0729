"""What a project may say of its experiments: sound ones are kept, and every fault is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.core.errors import ProjectError
from icekeel.define import Project, load_project
from icekeel.testing.small import PROJECT

SOUND = """ik.Rollout(unit=Parcel.parcel_id, steps=(.01, .1, .5), shadow="1d",
    primary=ik.Metric(came.minutes_late.mean(absent=0), better="lower"),
    not_worse=[(came.count(), .02), ik.Metric(came.minutes_late.max(absent=0), name="p95", level=60, margin=.1, better="lower")],
    layer=ik.Layer("doors", 0, .5), only=Parcel.service == "express", forced={"p1": "challenger"},
    segments=[Parcel.depot], covariate=Windowed.late_1d)"""
PLAIN = "ik.Rollout(unit=Parcel.parcel_id, share=0.5, minimum_days=1, split=True)"


def read(folder: Path, rollout: str, more: str = "") -> Project:
    text = PROJECT.replace(PLAIN, f"{rollout}, influences=True").replace(
        "late = ik.Model(",
        'came = Deliveries.where(parcel_id=Parcel.parcel_id).within("3d")\n\nlate = ik.Model(',
    )
    (folder / "project.py").write_text(text + more)
    return load_project(folder)


def codes(folder: Path, rollout: str, more: str = "") -> list[str]:
    with pytest.raises(ProjectError) as error:
        read(folder, rollout, more)
    return sorted(fault.code for fault in error.value.faults)


def test_a_sound_rollout_says_what_is_measured(tmp_path: Path) -> None:
    rollout = read(tmp_path, SOUND).models["late"].rollout
    assert rollout is not None
    kinds = [(one.called, one.kind, one.margin) for one in rollout.metrics]
    assert kinds == [("minutes_late", "mean", 0.0), ("events", "mean", 0.02), ("p95", "quantile", 0.1)]
    assert rollout.stages == (0.01, 0.1, 0.5)
    assert rollout.segment_fields == ("depot",)


def test_a_flag_is_a_conversion_and_a_cap_cuts(tmp_path: Path) -> None:
    rollout = (
        read(
            tmp_path,
            "ik.Rollout(unit=Parcel.parcel_id, primary=came.minutes_late.max(absent=0) > 15, "
            'not_worse=[ik.Metric(came.minutes_late.sum(absent=0), cap=90, per="answer", margin=.1, name="sum")])',
        )
        .models["late"]
        .rollout
    )
    assert rollout is not None
    assert [one.kind for one in rollout.metrics] == ["conversion", "capped"]


@pytest.mark.parametrize(
    ("rollout", "code"),
    [
        ("ik.Rollout(unit=Parcel.parcel_id, steps=(.5, .1))", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, steps=(.5, 1))", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, step_days=0.5)", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, tuned_for=0)", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, shadow='soon')", "bad_duration"),
        ("ik.Rollout(unit=Parcel.parcel_id, layer=ik.Layer('a', .6, .5))", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, only=Parcel.weight)", "bad_targeting"),
        ("ik.Rollout(unit=Parcel.parcel_id, only=came.count() > 1)", "bad_targeting"),
        ("ik.Rollout(unit=Parcel.parcel_id, forced={'p': 'b'})", "bad_arm"),
        ("ik.Rollout(unit=Parcel.parcel_id, segments=[Parcel.weight])", "bad_segment"),
        ("ik.Rollout(unit=Parcel.parcel_id, covariate=Parcel.weight * 2)", "bad_covariate"),
        ("ik.Rollout(unit=Parcel.parcel_id, primary=5)", "bad_metric"),
        ("ik.Rollout(unit=Parcel.parcel_id, primary=Parcel.weight)", "bad_metric"),
        ("ik.Rollout(unit=Parcel.parcel_id, not_worse=[came.count()])", "bad_guardrail"),
        ("ik.Rollout(unit=Parcel.parcel_id, not_worse=[(came.count(), 1.5)])", "out_of_range"),
        ("ik.Rollout(unit=Parcel.parcel_id, not_worse=[(came.count(), .1), (came.count(), .2)])", "twice"),
        ("ik.Rollout(unit=Parcel.parcel_id, primary=came.minutes_late.sum())", "missing_absent"),
        ("ik.Rollout(unit=Parcel.parcel_id, primary=came.minute_late.sum(absent=0))", "unknown_column"),
        (
            "ik.Rollout(unit=Parcel.parcel_id, primary=Deliveries.where(parcel_id=Parcel.parcel_id).count())",
            "no_horizon",
        ),
    ],
)
def test_each_fault_has_its_code(tmp_path: Path, rollout: str, code: str) -> None:
    assert code in codes(tmp_path, rollout)


def test_all_faults_of_a_rollout_are_told_at_once(tmp_path: Path) -> None:
    found = codes(
        tmp_path,
        "ik.Rollout(unit=Parcel.depot, steps=(.5, .1), alpha=1, forced={'p': 'b'}, not_worse=[(came.count(), 2)])",
    )
    assert found == ["bad_arm", "bad_unit", "out_of_range", "out_of_range", "out_of_range"]


SECOND = """
early = ik.Model("early", Parcel, Plain, history=late.history, target=came.minutes_late.latest(absent=ik.UNKNOWN),
    error="mae", choose=late.choose, rollout=ik.Rollout(unit=Parcel.parcel_id, layer=ik.Layer("doors", {part})))
"""


def test_experiments_of_one_layer_may_not_overlap(tmp_path: Path) -> None:
    assert codes(tmp_path, SOUND, SECOND.format(part="0.4, 1")) == ["layers_overlap"]
    assert len(read(tmp_path, SOUND, SECOND.format(part="0.5, 1")).models) == 2


@pytest.mark.parametrize("more", ["primary=came.count()", "not_worse=[(came.count(), .1)]"])
def test_a_metric_of_outcomes_needs_an_answer_that_changes_them(tmp_path: Path, more: str) -> None:
    rollout = f"ik.Rollout(unit=Parcel.parcel_id, {more})"
    text = PROJECT.replace(PLAIN, rollout).replace(
        "late = ik.Model(",
        'came = Deliveries.where(parcel_id=Parcel.parcel_id).within("3d")\n\nlate = ik.Model(',
    )
    (tmp_path / "project.py").write_text(text)
    with pytest.raises(ProjectError) as error:
        load_project(tmp_path)
    assert [fault.code for fault in error.value.faults] == ["needs_split"]
    split = text.replace(rollout, rollout[:-1] + ", split=True)")
    (tmp_path / "project.py").write_text(split)
    assert load_project(tmp_path).models["late"].rollout is not None
