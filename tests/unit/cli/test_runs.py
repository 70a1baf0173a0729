"""What `icekeel runs` lists."""

from __future__ import annotations

from pathlib import Path

import msgspec

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.testing.small import write_small_project

from .conftest import Call

AT = parse_time("2024-04-01")


def test_runs_of_every_kind_with_what_they_did(tmp_path: Path, call: Call) -> None:
    write_small_project(tmp_path)
    registry = App(tmp_path).registry()

    def kept(kind: str, at: int, status: str, **details: object) -> None:
        registry.finish_run(registry.start_run(kind, at=at), status, details=details, at=at + HOUR)

    kept("ingest", AT, "done", of="Scans", did="5 kept")
    kept("ingest", AT + 1, "failed", of="Scans", output="first\ncannot read scans.csv")
    kept("audit", AT + 2, "done", model="late", findings=[{"audit": "leakage", "verdict": "block"}])
    kept("training", AT + 3, "done", model="late", version="late-3", reason="asked for")
    kept("daily", AT + DAY, "done", day=AT // DAY)
    registry.start_run("backup", details={"of": ""}, at=AT + 2 * DAY)
    registry.close()
    rows = msgspec.json.decode(call("runs", "--project", tmp_path, "--json").out)
    assert [(one["kind"], one["of"], one["status"], one["did"]) for one in rows] == [
        ("ingest", "Scans", "done", "5 kept"),
        ("ingest", "Scans", "failed", "cannot read scans.csv"),
        ("audit", "late", "done", "audits: 1, blocked by leakage"),
        ("training", "late", "done", "late-3; reason: asked for"),
        ("daily", "", "done", "duties of 2024-04-01"),
        ("backup", "", "running", ""),
    ]
    assert (rows[0]["started"], rows[0]["ended"], rows[-1]["ended"]) == (
        "2024-04-01T00:00:00Z", "2024-04-01T01:00:00Z", None
    )  # fmt: skip
    one = msgspec.json.decode(call("runs", "ingest", "--latest", "1", "--project", tmp_path, "--json").out)
    assert [run["status"] for run in one] == ["failed"]


def test_a_kind_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path, call: Call) -> None:
    write_small_project(tmp_path)
    said = call("runs", "ingst", "--project", tmp_path)
    assert said.status == 1
    assert 'no kind of run "ingst"' in said.err
    assert "ingest" in said.err
