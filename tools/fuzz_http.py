"""Fuzz a project's whole HTTP interface with Schemathesis, and validate its OpenAPI document.

    python tools/fuzz_http.py FOLDER --peer VENV [--cases 10000]

FOLDER is a trained project, copied first; VENV an environment with `schemathesis` and `openapi-spec-validator`. Prints
one JSON object: `cases` sent, `fuzz_5xx` server errors, `failures` of every check,
`valid` whether the document is one. Exit status 1 unless all is well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIG = """
[checks]
positive_data_acceptance.enabled = false  # a schema cannot say all: that an event has happened, a category is known
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 408, 413, 415, 422]

[[operations]]
include-path-regex = "/v1/(events|predict)/|/v1/outcomes|/v1/features/.*/online"
checks.negative_data_rejection.enabled = false  # a bad row is told of, and does not spoil the others: HTTP 200

[[operations]]
include-path-regex = "/v1/features/.*/historical"
generation.max-examples = 200
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print what was found, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(given.folder, Path(scratch) / "project"))
        found = fuzz(folder, given.peer, cases=given.cases, seed=given.seed)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["valid"] and not found["fuzz_5xx"] and not found["failures"] else 1


def fuzz(folder: Path, peer: Path, *, cases: int, seed: int) -> dict[str, Any]:
    """Serve the project and fuzz it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    icekeel = [sys.executable, "-m", "icekeel"]
    made = [*icekeel, "token", "fuzz", "--scope", "admin", "--json", "--project", str(folder)]
    token = json.loads(subprocess.run(made, capture_output=True, text=True, check=True).stdout)["token"]
    serve = [*icekeel, "serve", "--port", "0", "--project", str(folder)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        said = server.stdout.readline() if server.stdout else ""
        if not said:
            raise SystemExit((folder / "server.log").read_text())
        port = json.loads(said)["listening"]
        document = folder / "openapi.json"
        subprocess.run(
            ["curl", "-s", "--fail", "-H", f"Authorization: Bearer {token}", "-o", str(document),
             f"http://127.0.0.1:{port}/v1/openapi.json"], check=True,
        )  # fmt: skip
        validated = subprocess.run(
            [str(peer / "bin" / "python"), "-m", "openapi_spec_validator", str(document)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = _run(folder, peer, document, port, token, cases=cases, seed=seed)
        return {"valid": validated.returncode == 0, **found, "alive": server.poll() is None}
    finally:
        server.terminate()
        server.wait(20)


def _run(
    folder: Path, peer: Path, document: Path, port: int, token: str, *, cases: int, seed: int
) -> dict[str, Any]:
    paths = json.loads(document.read_text())["paths"]
    operations = sum("post" in paths[path] for path in paths if not path.endswith("/historical"))
    config, events = folder / "schemathesis.toml", folder / "events.ndjson"
    config.write_text(CONFIG)
    called = [str(peer / "bin" / "schemathesis"), "--config-file", str(config), "run", str(document)]
    called += ["--url", f"http://127.0.0.1:{port}", "-H", f"Authorization: Bearer {token}"]
    called += ["-n", str(-(-cases // operations)), "--seed", str(seed), "--continue-on-failure", "--no-color"]
    called += [
        "--phases",
        "examples,coverage,fuzzing",
        "--report",
        "ndjson",
        "--report-ndjson-path",
        str(events),
    ]
    called += ["--generation-database", "none", "--suppress-health-check", "all"]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    lines = [line[:300] for line in (done.stdout + done.stderr).splitlines()]
    sys.stderr.write("\n".join(lines) + "\n")
    return _counted(events)


def _counted(events: Path) -> dict[str, Any]:
    """Cases, server errors and failed checks of a run."""
    statuses: Counter[int] = Counter()
    failures: Counter[str] = Counter()
    with events.open() as lines:
        for event in map(json.loads, lines):
            _count(event, statuses, failures)
    errors = sum(count for status, count in statuses.items() if status >= 500)
    by_status = {str(status): count for status, count in sorted(statuses.items())}
    return {"cases": statuses.total(), "fuzz_5xx": errors, "failures": dict(failures), "statuses": by_status}


def _count(event: Any, statuses: Counter[int], failures: Counter[str]) -> None:
    for recorded in event.get("ScenarioFinished", {}).get("recorder", {}).get("interactions", {}).values():
        if recorded.get("response"):
            statuses[recorded["response"]["status_code"]] += 1
    checks = event.get("ScenarioFinished", {}).get("recorder", {}).get("checks", {})
    for one in (check for listed in checks.values() for check in listed):
        if one["status"] == "failure":
            failures[one["name"]] += 1


if __name__ == "__main__":
    raise SystemExit(main())
