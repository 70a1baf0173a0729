"""What is measured, each in a process of its own: `python -m bench.serving.tasks TASK` prints one JSON object."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import python_of
from bench.report import ROOT, Result
from icekeel.journal import Predicted, scan
from icekeel.operations.workshop.workshop import crown, roll_back

from . import crashes, guards, peers, shop
from .load import Load, result_of
from .system import PATH, System, copied, cpu_s, running

ROUNDS = 3
SECONDS = 5
BATCH = 1_000
SWAPS = 20
CASES = 10_000
COLD_STARTS = 9


def wrk(
    port: int, bodies: Path, path: str, token: str = "", seconds: int = SECONDS, *, method: str = "POST"
) -> Result:
    """wrk with 8 keep-alive connections, another body each time: requests a second, all of them good."""
    command = [
        "wrk",
        "-t1",
        "-c8",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(Path(__file__).with_name("varied.lua")),
    ]
    command += [f"http://127.0.0.1:{port}", "--", str(bodies), token, path, method]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done, per_s = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    if done is None or per_s is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk found failures: {said}")
    return {"requests": int(done[1]), "per_s": float(per_s[1])}


def requests() -> Result:
    """CPU of the serving process for a request, the most that one worker answers, and how late at half of that.

    `inside_us` is what the journal says that the answer itself took, `http_us` what `/healthz` takes.
    """
    rounds = []
    with running() as system:
        serve, keep = system.pid("serve"), system.pid("keep")
        wrk(system.port, system.bodies, PATH, system.token, 1)
        for _ in range(ROUNDS):
            before, kept, began = cpu_s(serve), cpu_s(keep), time.time()
            found = wrk(system.port, system.bodies, PATH, system.token)
            keeper = (cpu_s(keep) - kept) / (time.time() - began)
            rounds.append(
                found | {"cpu_us": (cpu_s(serve) - before) / found["requests"] * 1e6, "keeper_cpu": keeper}
            )
        best = min(rounds, key=lambda one: float(one["cpu_us"]))
        rate = max(one["per_s"] for one in rounds)
        before = cpu_s(serve)
        bare = wrk(system.port, system.bodies, "/healthz", method="GET")
        http_us = (cpu_s(serve) - before) / bare["requests"] * 1e6
        half = min((Load.on(system, SECONDS, rate=rate / 2).run() for _ in range(ROUNDS)), key=_p99)
        records = list(scan(system.folder / ".icekeel" / "journal", kinds=Predicted))
    inside = sorted(record.cpu_us for record in records)
    return best | {
        "per_s": rate,
        "p99_ms": half["p99_ms"],
        "at_half": half,
        "rounds": rounds,
        "http_us": http_us,
        "inside_us": inside[len(inside) // 2],
        "flagged": sum(record.verdict != "pass" for record in records) / len(records),
    }


def _p99(found: Result) -> float:
    return float(found["p99_ms"])


def batches() -> Result:
    """Rows of batches of 1,000: a CPU second of the server, and a second of one client that waits for each."""
    rows = shop.requests(20 * BATCH)
    bodies = [{"rows": rows[at : at + BATCH]} for at in range(0, len(rows), BATCH)]
    found = []
    with running() as system:
        serve = system.pid("serve")
        system.send(PATH, bodies[0])
        for _ in range(ROUNDS):
            before, spent = cpu_s(serve), 0.0
            for body in bodies:
                began = time.perf_counter()
                said = system.send(PATH, body)
                spent += time.perf_counter() - began
                if said.count(b'"prediction_id"') != BATCH:
                    raise RuntimeError(f"a batch was not answered in full: {said[:300]!r}")
            found.append({"per_cpu_s": len(rows) / (cpu_s(serve) - before), "per_s": len(rows) / spent})
    return {name: max(one[name] for one in found) for name in ("per_cpu_s", "per_s")} | {"rounds": found}


def swaps() -> Result:
    """Failed requests over 20 promotions and roll-backs under full load, and how long the old version still answered."""
    with running(workers=2) as system:
        app, log = system.app(), system.folder / "answers.log"
        registry, journal = app.registry(), app.journal("bench")
        registry.drop_alias("cost", "challenger", reason="one version answers", by="bench")
        time.sleep(1)
        load = Load.on(system, SWAPS * 1.5 + 3, log=str(log)).start()
        time.sleep(2)
        done: list[tuple[float, str]] = []
        for swap in range(SWAPS):
            to = f"cost-{2 - swap % 2}"
            if swap % 2:
                roll_back(registry, journal, "cost", reason="bench", by="bench", at=app.clock())
            else:
                crown(registry, "cost", to, reason="bench", by="bench", at=app.clock())
            done.append((time.time(), to))
            time.sleep(1.5)
        found = result_of(load)
        lines = [line.split() for line in log.read_text().splitlines()]
        journal.close()
        registry.close()
    late = [
        late_by(lines, at, to, end)
        for (at, to), (end, _) in zip(done, [*done[1:], (np.inf, "")], strict=True)
    ]
    bad = sum(count for status, count in found["statuses"].items() if status != "200")
    return found | {"failures": bad + found["lost"], "swaps": SWAPS, "slowest_s": max(late), "late_s": late}


def late_by(lines: list[list[str]], at: float, to: str, end: float) -> float:
    """Seconds after a swap at which the last request was sent that another version answered."""
    sent = [
        float(line[0]) for line in lines if at < float(line[0]) < end and line[2] == "200" and line[5] != to
    ]
    return max(sent, default=at) - at


def overload() -> Result:
    """What three times the capacity does to those who are answered."""
    with running() as system:
        capacity = max(wrk(system.port, system.bodies, PATH, system.token)["per_s"] for _ in range(2))
        half = Load.on(system, SECONDS, rate=capacity / 2).run()
        before = cpu_s(system.pid("serve"))
        over = Load.on(system, 2 * SECONDS, rate=capacity * 3, connections=500).run()
        over["server_cpu_s"] = cpu_s(system.pid("serve")) - before
        after = Load.on(system, SECONDS, rate=capacity / 2).run()
    return {
        "p99_ratio": over["p99_ms"] / half["p99_ms"],
        "goodput": over["per_s"] / capacity,
        "capacity": capacity,
        "half": half,
        "over": over,
        "after": after,
    }


def cold_start() -> Result:
    """From the start of `icekeel serve` to its first good answer, the keeper being there."""
    body = shop.requests(1)[0]
    spent = []
    with copied() as folder:
        system = System(folder, workers=1)
        system.start("keep")
        time.sleep(3)
        for _ in range(COLD_STARTS):
            began = time.perf_counter()
            system.start("serve")
            while True:
                try:
                    system.send(PATH, body)
                    break
                except OSError as error:
                    if isinstance(error, urllib.error.HTTPError) and error.code != 503:
                        raise
                    time.sleep(0.002)
            spent.append((time.perf_counter() - began) * 1e3)
            cpu_ms = cpu_s(system.pid("serve")) * 1e3
            os.kill(system.pid("serve"), 15)
            system.wait("serve")
        system.stop()
    return {"ms": sorted(spent)[len(spent) // 2], "best_ms": min(spent), "cpu_ms": cpu_ms, "all_ms": spent}


def fuzzed() -> Result:
    """Schemathesis over every operation of the OpenAPI document."""
    with copied() as folder:
        command = [sys.executable, str(ROOT / "tools" / "fuzz_http.py"), str(folder)]
        peer = python_of("schemathesis").parent.parent
        said = subprocess.run(
            [*command, "--peer", str(peer), "--cases", str(CASES)],
            capture_output=True,
            text=True,
            check=False,
        )
    if not said.stdout.strip():
        raise RuntimeError(said.stderr[-2000:])
    found = dict(json.loads(said.stdout.strip().splitlines()[-1]))
    if found["cases"] < CASES or not found["valid"] or not found["alive"]:
        raise RuntimeError(f"too few cases, an invalid document or a dead server: {found}")
    return found


BAD: Mapping[str, tuple[str, Any]] = {
    "no JSON": (PATH, b"{"),
    "no object": (PATH, b"[]"),
    "nothing": (PATH, b"{}"),
    "unknown field": (PATH, {"colour_": "red"}),
    "text for a number": (PATH, {"quantity": "many"}),
    "out of its limits": (PATH, {"quantity": -1}),
    "not finite": (PATH, b'{"quantity": 1e999}'),
    "deeply nested": (PATH, b"[" * 100_000),
    "too many rows": (PATH, {"rows": [{}] * 1_001}),
    "unknown model": ("/v1/predict/costs", {}),
    "too large": (PATH, b'"' + b"x" * 2_000_000 + b'"'),
}
"""Where what is sent; a dict is laid over a good request."""


def bad_inputs() -> Result:
    """Status and code that each malformed request gets."""
    good, found = shop.requests(1)[0], {}
    with running() as system:
        for name, (path, sent) in BAD.items():
            body = (
                sent
                if isinstance(sent, bytes)
                else json.dumps(sent if "rows" in sent else good | sent).encode()
            )
            command = ["curl", "-s", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {system.token}"]
            command += ["-H", "Content-Type: application/json", "--data-binary", "@-", system.address + path]
            said = subprocess.run(command, input=body, capture_output=True, check=True).stdout.decode()
            text, _, status = said.rpartition("\n")
            code = re.search(r'"code":"(\w+)"', text)
            found[name] = f"{status} {code[1] if code else text[:80]}"
    return {"answers": found, "wrong": sum(not said.startswith("4") for said in found.values())}


TASKS: Mapping[str, Callable[[], Result]] = {
    "requests": requests,
    **{name: partial(peers.measure, name, wrk) for name in peers.PEERS},
    "batches": batches,
    "guard": guards.speed,
    "quotes_120k": partial(guards.quotes, 120_000),
    "quotes_8k": partial(guards.quotes, 8_000),
    "flights": guards.flights,
    "crashes": crashes.measure,
    "swaps": swaps,
    "overload": overload,
    "fuzz": fuzzed,
    "cold_start": cold_start,
    "bad_inputs": bad_inputs,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
