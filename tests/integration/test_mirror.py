"""MLflow follows the registry: the real client writes, and loads what was written.

With `MLFLOW_PYTHON` (`make test-mlflow`) the interpreter of another environment, which has all of MLflow and no Icekeel,
runs MLflow's server and its client. Else the client of the extra `icekeel[mlflow]` writes files, where it is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from icekeel.app import App
from icekeel.engines import Golden, load_engine
from icekeel.operations.workshop.workshop import crown
from icekeel.registry import read
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project

from .commands import PATIENCE_S

OTHER = os.environ.get("MLFLOW_PYTHON", "")
SITE = str(Path(msgspec.__file__).parents[1])
SOURCE = str(Path(__file__).parents[2] / "src")
pytestmark = pytest.mark.skipif(
    not OTHER and importlib.util.find_spec("mlflow") is None,
    reason="no MLflow here: make test-mlflow, or pip install 'icekeel[mlflow]'",
)
COMMAND = """
import sys
sys.path.append(sys.argv.pop(1))  # behind what MLflow's own environment has
from icekeel.cli.main import main
main()
"""
LOOK = """
import json, sys
import mlflow
import pandas
given = json.loads(sys.stdin.read())
mlflow.set_tracking_uri(given["uri"])
client = mlflow.MlflowClient()
versions = {int(one.version): one for one in client.search_model_versions("name = 'late'")}
run = client.get_run(versions[1].run_id)
loaded = [
    mlflow.pyfunc.load_model(f"models:/late{one}" if one[0] == "@" else f"models:/late/{one}") for one in given["models"]
]
frame = pandas.DataFrame(given["rows"])
import icekeel
print(json.dumps({
    "aliases": {name: int(one) for name, one in client.get_registered_model("late").aliases.items()},
    "descriptions": {number: one.description for number, one in versions.items()},
    "runs": len(client.search_runs([run.info.experiment_id])),
    "run": {"params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags, "status": run.info.status},
    "files": sorted(one.path for one in client.list_artifacts(run.info.run_id)),
    "predictions": [list(map(float, one.predict(frame))) for one in loaded],
    "icekeel": icekeel.__file__,
}))
"""


@dataclass(frozen=True)
class MLflow:
    """Where MLflow is, and how it is called."""

    uri: str
    environment: Mapping[str, str]

    def mirror(self, folder: Path) -> list[dict[str, Any]]:
        called = [
            OTHER or sys.executable,
            "-c",
            COMMAND,
            SITE,
            "models",
            "mirror",
            "--to",
            self.uri,
            "--json",
        ]
        environment = {**self.environment, "PYTHONPATH": SOURCE}
        done = subprocess.run(
            [*called, "--project", str(folder)], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def look(self, models: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What somebody finds who has MLflow, and in another environment no Icekeel."""
        given = json.dumps({"uri": self.uri, "models": models, "rows": rows})
        command = [OTHER or sys.executable, "-c", LOOK]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=self.environment
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    folder = tmp_path_factory.mktemp("mlflow")
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_PYTHON")}
    environment = {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    if not OTHER:
        yield MLflow((folder / "files").as_uri(), {**environment, "MLFLOW_ALLOW_FILE_STORE": "true"})
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = (
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    )
    command = [OTHER, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield MLflow(f"http://127.0.0.1:{port}", environment)
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.2)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model as champion, trees as challenger."""
    folder = tmp_path_factory.mktemp("projects") / "small"
    write_small_project(folder)
    train_small(folder, baseline=True)
    train_small(folder, rung="lightgbm")
    return folder


def test_mlflow_shows_each_version_and_its_models_predict_our_numbers(
    small: Path, mlflow: MLflow, tmp_path: Path
) -> None:
    app = App(small, clock=lambda: TRAINED_TO)
    registry = app.registry()
    linear, trees = (registry.version(f"late-{number}") for number in (1, 2))
    engines = [load_engine(read(app.places.bundles, one.digest).files) for one in (linear, trees)]
    files = read(app.places.bundles, trees.digest).files
    golden = msgspec.json.decode(files["golden.json"], type=Golden)
    rows = [dict(zip((c.name for c in golden.columns), row, strict=True)) for row in golden.rows]

    first = mlflow.mirror(small)
    assert [(row["version"], row["model_version"], row["why_not"]) for row in first] == [
        ("late-1", 1, ""),
        ("late-2", 2, ""),
    ]
    # What happens later is followed; what is there is left; a version whose bundle is damaged is left out.
    crown(registry, "late", "late-2", reason="better", by="ann", at=TRAINED_TO + 1)
    registry.register(
        "late", "d" * 64, snapshot="s", code="c", features="F", metrics={}, gates=[], ladder={}, trained_from=0,
        trained_to=1, reason="r",
    )  # fmt: skip
    registry.close()
    *again, damaged = mlflow.mirror(small)
    assert again == first
    assert (damaged["model_version"], "missing" in damaged["why_not"]) == (None, True)

    found = mlflow.look(["1", "@champion"], rows)
    assert found["predictions"] == [one.predict_many(golden.frame()).tolist() for one in engines]
    assert found["aliases"] == {"champion": 2}
    assert "set champion by ann: better" in found["descriptions"]["2"]
    assert "/code/icekeel/" in found["icekeel"] or not OTHER
    run = found["run"]
    assert (found["runs"], run["status"]) == (2, "FINISHED")
    assert (run["params"]["rung"], run["params"]["error"]) == ("linear", "log_loss")
    assert run["params"]["package.numpy"]
    error = linear.metrics["errors"]["linear"]
    assert run["metrics"]["log_loss"] == run["metrics"]["log_loss.linear"] == pytest.approx(error)
    assert run["metrics"]["gate.parity.passed"] == 1.0
    assert run["metrics"]["importance.depot"] > 0
    assert run["tags"]["icekeel.snapshot"] == linear.snapshot
    assert run["tags"]["icekeel.bundle"] == linear.digest
    assert found["files"] == ["gates.json", "ladder.json", "model", "version.json"]

    # A name that another project has is left alone.
    shutil.copytree(small, tmp_path / "other")
    with pytest.raises(AssertionError, match="belongs to another project"):
        mlflow.mirror(tmp_path / "other")
