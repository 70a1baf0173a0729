"""The same trees served by others, for predicting alone: each as its documentation starts it, with one worker."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.children import CACHE
from bench.peers import HERE, python_of
from bench.report import Result
from icekeel.app import App
from icekeel.engines import Encoder, load_engine
from icekeel.engines.lightgbm import MODEL_FILE, LightGBMSpec
from icekeel.engines.loading import ENGINE_FILE
from icekeel.registry import read

from . import shop
from .system import copied, cpu_s, free_port

ROWS = 5_000
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """How one is started and asked.

    Attributes:
        environment: Where it lives: a file of `bench/peers`.
        command: Its program and arguments; PORT is replaced, and so is MODEL where `prepare` made one.
        path: Where predictions are asked for.
        body: A request about one row.
        prepare: A script of `bench/peers` that makes MODEL of the trees; empty where none is needed.
    """

    environment: str
    command: Sequence[str]
    path: str
    body: Callable[[Sequence[float]], Any]
    prepare: str = ""


def _columns(row: Sequence[float]) -> list[str]:
    return [f"v{at}" for at in range(len(row))]


def _named(row: Sequence[float]) -> dict[str, float]:
    return dict(zip(_columns(row), row, strict=True))


_MLFLOW = [
    "mlflow",
    "models",
    "serve",
    "-m",
    "MODEL",
    "-h",
    "127.0.0.1",
    "-p",
    "PORT",
    "-w",
    "1",
    "--env-manager",
    "local",
]
_BENTOML = [
    "bentoml",
    "serve",
    "bentoml_service:Cost",
    "--host",
    "127.0.0.1",
    "-p",
    "PORT",
    "--api-workers",
    "1",
]
_FASTAPI = ["uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "PORT", "--no-access-log"]
PEERS: Mapping[str, Peer] = {
    "mlflow": Peer("mlflow", _MLFLOW, "/invocations", lambda row: {"inputs": [list(row)]}, "mlflow_model.py"),
    "mlflow_table": Peer(
        "mlflow",
        _MLFLOW,
        "/invocations",
        lambda row: {"dataframe_split": {"columns": _columns(row), "data": [list(row)]}},
        "mlflow_model.py",
    ),
    "bentoml": Peer("bentoml", _BENTOML, "/predict", lambda row: {"row": list(row)}),
    "fastapi": Peer("fastapi", _FASTAPI, "/lean", _named),
    "fastapi_plain": Peer("fastapi", _FASTAPI, "/plain", _named),
    "fastapi_table": Peer("fastapi", _FASTAPI, "/table", _named),
}


def measure(name: str, wrk: Callable[[int, Path, str], Result]) -> Result:
    """CPU microseconds for a request of all processes of a peer, the best of three rounds."""
    peer, port = PEERS[name], free_port()
    python = python_of(peer.environment)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        folder = Path(scratch)
        rows, said = _inputs(folder)
        bodies = folder / "bodies.jsonl"
        bodies.write_text("".join(json.dumps(peer.body(row)) + "\n" for row in rows))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TREES": str(folder / MODEL_FILE)}
        environment |= {"PATH": f"{python.parent}:{os.environ['PATH']}", "BENTOML_DO_NOT_TRACK": "True"}
        environment.pop("PYTHONPATH", None)
        if peer.prepare:
            make = [str(python), str(HERE / peer.prepare), str(folder / MODEL_FILE), str(folder / "model")]
            subprocess.run(make, check=True, env=environment, capture_output=True)
        names = {"PORT": str(port), "MODEL": str(folder / "model")}
        command = [names.get(word, word) for word in peer.command]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [str(python.parent / command[0]), *command[1:]],
                cwd=HERE,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            first = _first_answer(f"http://127.0.0.1:{port}{peer.path}", peer.body(rows[0]))
            wrk(port, bodies, peer.path)
            rounds = []
            for _ in range(ROUNDS):
                before = cpu_s(process.pid)
                found = wrk(port, bodies, peer.path)
                rounds.append(found | {"cpu_us": (cpu_s(process.pid) - before) / found["requests"] * 1e6})
        finally:
            process.terminate()
            process.wait()
    best = min(rounds, key=lambda one: float(one["cpu_us"]))
    return best | {
        "rounds": rounds,
        "differ": int(not abs(number_in(first) - said) < 1e-6),
        "packages": _pins(peer.environment),
    }


def _inputs(folder: Path) -> tuple[list[list[float]], float]:
    """Rows of 30 numbers as the trees read them, beside the trees; and the sum of the trees for the first."""
    with copied() as project:
        app = App(project, clock=lambda: shop.END)
        registry = app.registry()
        files = read(app.places.bundles, registry.version("cost-1").digest).files
        _, data = app.workshop(registry).prepare("cost", shop.END, lambda line: None)
        registry.close()
    (folder / MODEL_FILE).write_bytes(files[MODEL_FILE])
    spec = msgspec.json.decode(files[ENGINE_FILE], type=LightGBMSpec)
    matrix = Encoder(spec.columns, spec.categories, spec.fills).encode_many(data.features)
    whole = np.flatnonzero(~np.isnan(matrix).any(axis=1))[:ROWS]
    price = load_engine(files).predict_many(data.features.take(whole[:1]))[0]
    return matrix[whole].tolist(), math.log(price)


def _first_answer(address: str, body: Any) -> str:
    """Once it answers at all."""
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return str(reply.read().decode())
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer")


def number_in(text: str) -> float:
    """The first number of an answer."""
    found = re.search(r"-?\d+\.\d+", text)
    return float(found[0]) if found else math.nan


def _pins(name: str) -> list[str]:
    return [line for line in (HERE / f"{name}.txt").read_text().splitlines() if "==" in line]
