from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.testing.small import TRAINED_TO, write_small_project

PLAN = """
warm = "3h"
gap = "30m"

[[fault]]
kind = "feed_reordered"
where = "Scans"
lasts = "3h"

[[fault]]
kind = "keeper_killed"

[[fault]]
kind = "worker_killed"

[[fault]]
kind = "challenger_broken"

[[fault]]
kind = "challenger_equal"
lasts = "3h"

[[fault]]
kind = "request_type"
lasts = "2h"

[[fault]]
kind = "feed_unit"
lasts = "4h"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("rehearsed") / "small"
    write_small_project(folder)
    App(folder, clock=lambda: TRAINED_TO).ingest([])
    (folder / "plan.toml").write_text(PLAN)
    yield folder


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def rehearse(project: Path, work: Path, *more: str) -> dict[str, Any]:
    out = work / "page.html"
    line = [sys.executable, "-m", "icekeel", "rehearse", "--project", str(project), "--faults"]
    line += [
        str(project / "plan.toml"),
        "--folder",
        str(work),
        "--out",
        str(out),
        "--rung",
        "linear",
        "--json",
    ]
    done = subprocess.run([*line, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rehearsed" in out.read_text()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_rehearsal_injects_finds_and_leaves_the_project_alone(project: Path, tmp_path: Path) -> None:
    before = content(project)
    found = rehearse(project, tmp_path)
    assert content(project) == before
    by_kind = {one["kind"]: one for one in found["outcomes"]}
    for kind in ("feed_reordered", "keeper_killed", "worker_killed"):
        assert (by_kind[kind]["status"], by_kind[kind]["differ"]) == ("absorbed", 0), by_kind[kind]
    broken = by_kind["challenger_broken"]
    assert (broken["status"], broken["called"], broken["differ"]) == ("found", "challenger", 0), broken
    assert by_kind["challenger_equal"]["status"] == "absorbed"  # nothing was decided in three hours
    assert by_kind["challenger_equal"]["differ"] > 0
    assert by_kind["request_type"]["unanswered"] > 0  # every request was refused, and that is told
    assert by_kind["feed_unit"]["differ"] > 0
    assert by_kind["feed_unit"]["shown"] >= by_kind["feed_unit"]["start"]
    again = rehearse(project, tmp_path)  # of the same seed
    for one in (found, again):
        assert one.pop("walls")["requests_per_second"] > 0
    for one, other in zip(found["outcomes"], again["outcomes"], strict=True):
        assert one == other
    assert again == found
