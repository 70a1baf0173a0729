"""The command line as a newcomer uses it: processes that are interrupted, killed and stopped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.core.time import wall_clock
from icekeel.registry import Registry

ICEKEEL = [sys.executable, "-m", "icekeel"]
REQUEST = {"order_id": "n1", "kitchen": "market", "district": "north", "items": 3, "distance_km": 2.5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shop(home: Path) -> Path:
    folder = home / "shop"
    token = icekeel(home, "init", "shop").strip()
    assert token.startswith("ik_")
    (home / "token").write_text(token)
    icekeel(folder, "ingest")
    return folder


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ICEKEEL_")}
    return {**kept, "HOME": str(home), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(
        [*ICEKEEL, *arguments], cwd=folder, env=environment(folder), text=True, bufsize=1, **pipes
    )


def icekeel(folder: Path, *arguments: str) -> str:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    """What `holds` gives once it gives something; fails where it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("this did not come about in time")


def answer(address: str, path: str, token: str = "", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(address + path, data, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def champion(folder: Path) -> str | None:
    registry = Registry(folder / ".icekeel" / "registry.db", clock=wall_clock)
    alias = registry.aliases("minutes").get("champion")
    registry.close()
    return alias.version if alias else None


def test_training_that_is_interrupted_leaves_nothing_half_done(shop: Path) -> None:
    process = start(shop, "train", "minutes")
    assert process.stderr is not None
    said = ""
    while "past questions" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert champion(shop) is None
    icekeel(shop, "train", "minutes")
    assert champion(shop) == "minutes-1"


def test_ingestion_that_is_killed_is_done_again(home: Path) -> None:
    icekeel(home, "init", "killed")
    folder = home / "killed"
    orders = (folder / "data" / "orders.csv").read_text()
    header, _, rows = orders.partition("\n")
    (folder / "data" / "orders.csv").write_text(header + "\n" + rows * 40)
    process = start(folder, "ingest", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history = folder / ".icekeel" / "history"
    until(lambda: (history / "Orders.draft").exists() or process.poll() is not None)
    process.kill()
    process.wait()
    results = json.loads(icekeel(folder, "ingest", "--json"))
    assert results[0]["kept"] == rows.count("\n") * 40 or results[0]["skipped"]
    files = json.loads((history / "manifest.json").read_text())["tables"]["Orders"]
    assert [file["rows"] for file in files] == [rows.count("\n") * 40]


@pytest.fixture(scope="module")
def running(shop: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`icekeel up`, its clock started in 2050."""
    if champion(shop) is None:
        icekeel(shop, "train", "minutes")
    process = start(shop, "up", "--port", "0", "--now", "2050-01-01", "--json", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield process, json.loads(line)
    finally:
        process.terminate()
        process.communicate(timeout=60)


Running = tuple[subprocess.Popen[str], dict[str, Any]]


def test_up_answers_and_its_clock_runs_on_from_where_it_was_started(shop: Path, running: Running) -> None:
    address, token = running[1]["address"], (shop.parent / "token").read_text()
    assert answer(address, "/readyz")["status"] == "ready"
    first = answer(address, "/v1/predict/minutes", token, REQUEST)
    second = answer(address, "/v1/predict/minutes", token, REQUEST)
    assert 5 < first["prediction"] < 120
    assert first["features_age_s"] > 20 * 365 * 86400
    assert first["features_age_s"] < second["features_age_s"] < first["features_age_s"] + 60


def test_a_second_keeper_is_refused(shop: Path, running: Running) -> None:
    process = start(shop, "keep")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a keeper runs here already" in err


def test_up_fails_as_a_whole_where_the_port_is_taken(home: Path, running: Running) -> None:
    icekeel(home, "init", "other")
    port = running[1]["address"].rpartition(":")[2]
    process = start(home / "other", "up", "--port", port)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (1, "")
    assert f"cannot listen on 127.0.0.1, port {port}" in err
    with (home / "other" / ".icekeel" / "keep.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where a keeper of it runs


def test_a_killed_keeper_comes_back_and_ctrl_c_stops_both(shop: Path, running: Running) -> None:
    process, said = running
    address, token = said["address"], (shop.parent / "token").read_text()
    os.kill(said["keep"], signal.SIGKILL)
    row = {"order_id": "n1", "kitchen": "market", "items": 3, "ordered_at": "2020-01-01T00:00:00Z"}
    assert answer(address, "/v1/events/Orders", token, {"rows": [row]})["kept"] == 1
    until(lambda: answer(address, "/v1/status", token)["keeper"]["pushed"] == 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not alive(said["serve"])
    assert not alive(said["keep"])
