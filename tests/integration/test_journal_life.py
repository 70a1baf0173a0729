"""Real processes, one day: answers, an outcome by its answer's id, midnight, and the segments are gone."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.time import DAY, MINUTE, SECOND
from icekeel.journal.segments import segment_sizes
from icekeel.testing.small import REQUEST, TRAINED_TO, train_small, write_small_project

from .commands import call, command, icekeel, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


class Caller:
    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    def __call__(self, path: str, body: Any = None) -> Any:
        status, text = call(self._port, self._token, path, body)
        assert status == 200, text
        return json.loads(text) if path.startswith("/v1") else text


def test_a_day_is_traced_after_its_segments_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICEKEEL_KEEP_JOURNAL", "1s")
    folder = tmp_path / "small"
    write_small_project(folder)
    train_small(folder)
    app = App(folder)
    token = app.access().create("test", ("predict", "outcome", "ingest", "read"))
    now = TRAINED_TO + DAY - 8 * SECOND
    with command(folder, "keep", now=now), command(folder, "serve", "--port", "0", now=now) as (server, said):
        ask = Caller(said["listening"], token)
        until(lambda: not ask("/v1/status")["problems"], "the server does not find the keeper")
        ids = [
            ask("/v1/predict/late", {**REQUEST, "parcel_id": f"n{at}"})["prediction_id"] for at in range(20)
        ]
        row = {"depot": "north", "minutes_late": 31.5, "delivered_at": now + MINUTE}
        outcomes = [{"prediction_id": one, **row} for one in ids[:10]]
        # The first ones may not be projected yet: they are found all the same.
        assert ask("/v1/outcomes", {"rows": outcomes})["kept"] == 10
        assert ask("/v1/outcomes", {"rows": outcomes})["kept"] == 10
        assert [one["id"] for one in ask("/v1/answers?limit=5")["answers"]] == sorted(ids)[:-6:-1]
        before = set(segment_sizes(app.places.journal))
        server.send_signal(signal.SIGKILL)
        server.wait()
        removed = until(
            lambda: [one for one in icekeel(folder, "decisions") if one["decision"] == "retention"],
            "nothing was removed",
        )
        gone = set(removed[0]["evidence"]["segments"])
        until(lambda: not gone & set(segment_sizes(app.places.journal)), "it was only said so")
        assert gone <= before
        assert any("serve" in name for name in gone)
    with (
        command(folder, "keep", now=now + DAY),
        command(folder, "serve", "--port", "0", now=now + DAY) as (_, said),
    ):
        ask = Caller(said["listening"], token)
        assert {one["id"] for one in ask("/v1/answers")["answers"]} == set(ids)
        until(lambda: not ask("/v1/status")["problems"], "the server does not find the keeper")
        found = ask(f"/v1/trace/{ids[0]}")
        assert (found["outcome"]["status"], found["outcome"]["target"]) == ("known", 1.0)
        assert found["audit"].startswith("all 7 features are equal")
        assert len(found["outcome"]["versions"]) == 1
        assert ask("/v1/outcomes", {"rows": outcomes})["kept"] == 10
        assert ask(f"/v1/trace/{ids[15]}")["outcome"]["status"] == "pending"
        assert f"Answer {ids[0]}" in ask(f"/trace/{ids[0]}")
