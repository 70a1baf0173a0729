from __future__ import annotations

from pathlib import Path

from icekeel.app import App
from icekeel.testing.small import TRAINED_TO, small_world, train_small, write_small_project


def test_a_first_version_on_each_feature_set_passes_its_gates(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    plain, windowed = train_small(tmp_path, baseline=True), train_small(tmp_path)
    assert (plain.failed, windowed.failed) == ([], [])
    assert windowed.metrics["errors"]["linear"] < plain.metrics["errors"]["linear"]
    aliases = App(tmp_path).registry().aliases("late")
    assert (aliases["champion"].version, aliases["challenger"].version) == (plain.name, windowed.name)


def test_a_longer_world_begins_with_the_shorter() -> None:
    short, longer = small_world(3), small_world(4)
    assert longer.questions[: len(short.questions)] == short.questions
    assert longer.scans[: len(short.scans)] == short.scans
    assert max(row["asked_at"] for row in small_world(60).questions) < TRAINED_TO
