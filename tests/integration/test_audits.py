"""Audits of a real project: rows that came too soon, a gate that fails, what is kept."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.errors import ProjectError
from icekeel.core.time import DAY, MINUTE
from icekeel.operations.workshop.audits import Audited, findings_of
from icekeel.registry import CHAMPION, Version
from icekeel.testing.small import PROJECT, TRAINED_TO, small_world, train_small, write_small_project
from icekeel.training.audits import ALWAYS, AUDITS

HINTS = '''
class Hints(ik.Events, time="hinted_at", id="hint_id", source="hints.csv"):
    """What a driver says of a parcel."""

    hint_id: ik.Id
    parcel_id: ik.Id
    value: ik.Num


here = Scans'''
FEATURE = """
    hint = Hints.where(parcel_id=Parcel.parcel_id).last("3d").value.last()


late = ik.Model"""


def project(folder: Path, lead: int, wrong: float = 0.1) -> Path:
    """The small project with a feature that is nearly the outcome, in rows that come `lead` before the question."""
    text = PROJECT.replace("\nhere = Scans", HINTS, 1).replace("\n\n\nlate = ik.Model", FEATURE, 1)
    write_small_project(folder, text)
    world = small_world(60)
    late = {row["parcel_id"]: row["minutes_late"] > 15 for row in world.deliveries}
    rng = np.random.default_rng(0)
    with (folder / "hints.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["hint_id", "parcel_id", "value", "hinted_at"])
        for row in world.questions:
            told = late[row["parcel_id"]] is not (rng.random() < wrong)
            writer.writerow([f"h{row['parcel_id']}", row["parcel_id"], float(told), row["asked_at"] - lead])
    return folder


def leakage(version: Version) -> dict[str, object]:
    return next(one for one in version.metrics["audits"] if one["audit"] == "leakage")


def test_a_feature_that_lives_from_rows_that_come_too_soon_fails_a_gate(tmp_path: Path) -> None:
    version = train_small(project(tmp_path / "leaky", lead=5 * MINUTE))
    assert version.failed == ["audit_leakage"]
    found = leakage(version)
    assert (found["verdict"], found["evidence"]["leaks"][0]["kind"]) == ("block", "suspect")  # type: ignore[index]
    assert str(found["what"]).endswith("0% where rows come 130m later")
    assert "rows of Hints" in str(found["todo"])
    registry = App(tmp_path / "leaky").registry()
    try:
        assert CHAMPION not in registry.aliases("late")
        (decision,) = registry.decisions("late")
        assert (decision.kind, decision.reason) == ("block", "late-1 failed its gates: audit_leakage")
    finally:
        registry.close()


def test_a_feature_as_strong_whose_rows_were_there_long_before_is_no_leak(tmp_path: Path) -> None:
    version = train_small(project(tmp_path / "sound", lead=DAY))
    assert (version.failed, leakage(version)["verdict"]) == ([], "pass")
    strengths = dict(leakage(version)["evidence"]["strengths"])  # type: ignore[index]
    assert strengths["hint"] > 0.7


def test_what_is_turned_off_is_not_made_and_said_so_when_asked_for(tmp_path: Path) -> None:
    folder = project(tmp_path / "off", lead=5 * MINUTE)
    text = (folder / "project.py").read_text()
    (folder / "project.py").write_text(
        text.replace(
            'error="log_loss",',
            'error="log_loss",\n    audits=ik.Audits(off=("leakage",), block=("subgroups",)),',
        )
    )
    version = train_small(folder)
    assert version.failed == []
    assert "leakage" not in [one["audit"] for one in version.metrics["audits"]]
    app = App(folder, clock=lambda: TRAINED_TO)
    registry = app.registry()
    try:
        with pytest.raises(ProjectError) as raised:
            app.audit_all(registry, "late", ["leakage"], sample=10, now=TRAINED_TO, say=lambda line: None)
        assert [fault.code for fault in raised.value.faults] == ["audit_off"]
        assert registry.runs("audit") == []
    finally:
        registry.close()


def test_what_was_audited_later_takes_the_place_of_what_training_found(tmp_path: Path) -> None:
    folder = project(tmp_path / "later", lead=DAY)
    version = train_small(folder)
    app = App(folder, clock=lambda: TRAINED_TO)
    registry = app.registry()
    try:
        assert [one["audit"] for one in findings_of(registry, version)] == [
            name for name in ALWAYS if name in AUDITS
        ]
        found = app.audit_all(
            registry, "late", ["skew", "leakage"], sample=10, now=TRAINED_TO + 1, say=lambda line: None
        )
        assert (found.version, found.blocked) == (version.name, False)
        assert [one.audit for one in found.findings] == ["leakage", "skew"]
        kept = {one["audit"]: one for one in findings_of(registry, version)}
        assert set(kept) == {*ALWAYS, "skew"} & {*AUDITS, "skew"}
        assert kept["leakage"]["evidence"]["strengths"] == leakage_of(found)
    finally:
        registry.close()


def leakage_of(audited: Audited) -> list[list[object]]:
    return [list(one) for one in audited.findings[0].evidence["strengths"]]
