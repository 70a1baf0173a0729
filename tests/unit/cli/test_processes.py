"""Children that are kept alive, without the real server: any Python program stands in."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from icekeel.cli.processes import MOST_DEATHS, Child, example_request
from icekeel.core.errors import StateError
from icekeel.data import RecordParser
from icekeel.define import load_project

READY = "print('{\"listening\": 1}', flush=True); "


def child(program: str, *, vital: bool = True) -> Child:
    made = Child("serve", [], vital=vital)
    made._command = [sys.executable, "-c", program]
    return made


def test_a_child_is_ready_once_it_says_so_and_stops_when_asked() -> None:
    one = child(READY + "import time; time.sleep(60)")
    one.start()
    one.wait_ready(threading.Event())
    assert one.ready == {"listening": 1}
    one.stop()
    assert one._ended() == -15
    one.stop()


def test_a_child_that_ends_before_it_is_ready_is_an_error() -> None:
    one = child("raise SystemExit(3)")
    one.start()
    with pytest.raises(StateError) as caught:
        one.wait_ready(threading.Event())
    assert caught.value.faults[0].got == "exit status 3"


def test_a_child_that_keeps_dying_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = child("pass")
    one.start()
    pids = {one.pid}
    with pytest.raises(StateError) as caught:
        for _ in range(10_000):
            assert one._process is not None
            one._process.wait()
            one.revive()
            now[0] += 0.5
            pids.add(one.pid)
    assert caught.value.code == "keeps_dying"
    assert len(pids) == MOST_DEATHS + 1
    assert "starting it again in 16 s" in capsys.readouterr().err


def test_a_child_that_was_ready_once_is_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever kills it again and again will end: the worker is there again then, at most a minute later."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = child("print('{\"listening\": 1}')")
    one.start()
    one.wait_ready(threading.Event())
    one._command = child("pass")._command
    for _ in range(2 * (MOST_DEATHS + 4)):
        assert one._process is not None
        one._process.wait()
        one.revive()
        now[0] += 60.0 if one._again else 0.0
    one.stop()
    assert one._deaths > MOST_DEATHS


def test_a_child_that_is_not_vital_is_tried_for_ever_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = child("raise SystemExit(3)", vital=False)
    one.start()
    for _ in range(2 * (MOST_DEATHS + 4)):  # its death is noted, and then it is started
        assert one._process is not None
        one._process.wait()
        one.revive()
        now[0] += 60.0 if one._again else 0.0
    one.stop()
    said = capsys.readouterr().err
    assert said.count("runs again") == MOST_DEATHS + 4
    assert "the rest goes on; starting it again in 60 s" in said
    assert "in 64 s" not in said


def test_the_example_request_passes_the_contract(shop: Path) -> None:
    model = load_project(shop).models["minutes"]
    parser = RecordParser(tuple(model.request.icekeel_fields.values()))
    assert parser.parse(json.loads(example_request(model)))[1] == []
