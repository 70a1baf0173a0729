"""`icekeel up` with everything on, under load, whose processes are killed at random: what was acknowledged is there once.

Clients ask, push events and send outcomes; files to be ingested come every other second; trainings run one after the other. A
worker, the keeper, a child of the keeper, a training or `up` itself gets SIGKILL, or `up` SIGTERM, and is started again.
In the end every answer and event that a client has a reply for, and every row of the files, is looked for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from bench.report import Result
from bench.serving.system import family, free_port
from icekeel.app import App
from icekeel.cli.scaffold import scaffold
from icekeel.core.time import SECOND, format_time, wall_clock
from icekeel.data import History
from icekeel.journal import Predicted, Pushed, scan
from icekeel.registry import read

MINUTES = 20
CLIENTS = 3
ROWS = 400
FILE_EVERY_S = 2.0
"""Of a file to be ingested."""
PATIENCE_S = 120.0
SETTINGS = 'ingest_every = "1s"\naudit_every = "1m"\nbackup_every = "1m"\nworkers = 2\n'
VICTIMS = ("worker", "worker", "keeper", "keeper", "child", "child", "child", "training", "up", "stop")


def measure(seconds: float = MINUTES * 60, pause_s: float = 4.0, seed: int = 1) -> Result:
    """What was acknowledged and is missing, or there twice, after so many seconds of kills.

    Args:
        pause_s: Mean pause between two kills; the next one may come while processes still start.
    """
    with tempfile.TemporaryDirectory(prefix="icekeel-chaos-") as place:
        chaos = Chaos(Path(place) / "shop", random.Random(seed))
        try:
            chaos.run(seconds, pause_s)
            return chaos.found()
        finally:
            chaos.end()


class Client(threading.Thread):
    """Asks, pushes an event, sends an outcome, again and again; keeps the ids of what was acknowledged."""

    def __init__(self, name: str, port: int, token: str) -> None:
        super().__init__(name=name)
        self.port, self.over = port, threading.Event()
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.answers: list[str] = []
        self.events: list[str] = []
        self.outcomes: list[str] = []
        self.statuses: Counter[str] = Counter()

    def run(self) -> None:
        """Until told to stop."""
        number = 0
        while not self.over.wait(0.005):
            number += 1
            order, now = f"{self.name}-{number}", format_time(wall_clock() - SECOND)
            asked = {
                "order_id": order,
                "kitchen": "market",
                "district": "east",
                "items": 3,
                "distance_km": 4.5,
            }
            said = self.send("/v1/predict/minutes", asked)
            if said is not None:
                self.answers.append(said["prediction_id"])
                done = {
                    "prediction_id": said["prediction_id"],
                    "kitchen": "market",
                    "district": "east",
                    "minutes": 30,
                    "delivered_at": now,
                }
                if (told := self.send("/v1/outcomes", {"rows": [done]})) and told["kept"] == 1:
                    self.outcomes.append(order)
            event = {"order_id": order, "kitchen": "market", "items": 3, "ordered_at": now}
            if (told := self.send("/v1/events/Orders", {"rows": [event]})) and told["kept"] == 1:
                self.events.append(order)

    def send(self, path: str, body: Any) -> Any:
        """What is answered with 2xx; None where something else came, or nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(body), self.headers)
            reply = connection.getresponse()
            said, status = reply.read(), reply.status
        except (OSError, http.client.HTTPException):
            said, status = b"", 0
            time.sleep(0.1)
        finally:
            connection.close()
        self.statuses[f"{path} {status}"] += 1
        return json.loads(said) if status in (200, 201, 202) else None


class Chaos:
    """One project at work, and what is done to it."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng, self.port = folder, rng, free_port()
        token = scaffold(folder, lambda line: None)
        project = folder / "project.py"
        project.write_text(re.sub(r'source="data/(\w+).csv"', r'source="data/\1*.csv"', project.read_text()))
        (folder / "icekeel.toml").write_text(SETTINGS + f'port = {self.port}\nbackup_to = "../backup"\n')
        self.icekeel("ingest")
        self.icekeel("train", "minutes", "--rung", "linear")
        self.clients = [Client(f"client{number}", self.port, token) for number in range(CLIENTS)]
        self.up: subprocess.Popen[bytes] | None = None
        self.training: subprocess.Popen[bytes] | None = None
        self.rows: list[str] = []
        self.killed: Counter[str] = Counter()
        self.unclean: list[int] = []

    def icekeel(self, *arguments: str) -> None:
        """A command that must go well."""
        self.begun(*arguments, check=True)

    def begun(self, *arguments: str, check: bool = False) -> subprocess.Popen[bytes]:
        """A command in a process of its own."""
        command = [sys.executable, "-m", "icekeel", *arguments, "--project", str(self.folder)]
        with (self.folder / "log.txt").open("a") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        if check and process.wait():
            raise RuntimeError(f"{arguments} failed: {(self.folder / 'log.txt').read_text()[-2_000:]}")
        return process

    def run(self, seconds: float, pause_s: float) -> None:
        """Load and kills for so long; then nothing is under way any more."""
        self.wait_ready()
        end = time.monotonic() + seconds
        for client in self.clients:
            client.start()
        kill_at = file_at = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= file_at:
                self.drop_file()
                file_at = time.monotonic() + FILE_EVERY_S
            self.keep_going()
            if time.monotonic() >= kill_at:
                self.kill(self.rng.choice(VICTIMS))
                kill_at = time.monotonic() + self.rng.uniform(0, 2 * pause_s)
            time.sleep(0.2)
        self.wait_ready()
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join()
        if self.training is not None:
            self.training.wait()

    def keep_going(self) -> None:
        """Start what has ended: `up` also where one that was killed has not let go of port and lock yet."""
        if self.up is None or self.up.poll() is not None:
            self.up = self.begun("up", "--json")
        if self.training is None or self.training.poll() is not None:
            self.training = self.begun("train", "minutes", "--rung", "linear", "--by", "chaos")

    def wait_ready(self) -> None:
        """Until the server answers, and the keeper follows."""
        end = time.monotonic() + PATIENCE_S
        while self.pushed() is None:
            if time.monotonic() > end:
                raise RuntimeError(f"up is not ready: {(self.folder / 'log.txt').read_text()[-3_000:]}")
            self.keep_going()
            time.sleep(0.2)

    def pushed(self) -> int | None:
        """Events that the keeper has projected; None while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/v1/status", headers=self.clients[0].headers)
            found = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return int(found.get("keeper", {}).get("pushed", 0)) if found.get("models") else None

    def kill(self, victim: str) -> None:
        """Kill one, if it is there."""
        if self.up is None or self.up.poll() is not None:
            return
        if victim == "stop":
            self.up.terminate()
            self.ended_well()
            self.killed["stop"] += 1
            return
        pids = {
            "up": [self.up.pid],
            "training": [self.training.pid] if self.training and self.training.poll() is None else [],
            "worker": list(self.pids(" serve ")),
            "keeper": list(self.pids(" keep ")),
            "child": list(self.pids(" ingest ", " compact ", " audit ", " backup ")),
        }[victim]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)
            self.killed[victim] += 1

    def pids(self, *commands: str) -> Iterator[int]:
        """Of `up`'s processes those whose command is one of these."""
        for pid in family(self.up.pid)[1:] if self.up else ():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if any(f" icekeel{command}" in line for command in commands):
                    yield pid

    def drop_file(self) -> None:
        """One more file of orders, there as a whole or not at all."""
        number = len(self.rows) // ROWS
        ids, at = [f"file{number}-{row}" for row in range(ROWS)], format_time(wall_clock() - SECOND)
        lines = [f"{one},market,east,3,4.5,{at}\n" for one in ids]
        draft = self.folder / "draft"
        draft.write_text("order_id,kitchen,district,items,distance_km,ordered_at\n" + "".join(lines))
        draft.rename(self.folder / "data" / f"orders-{number:06}.csv")
        self.rows += ids

    def found(self) -> Result:
        """What is lost and what is doubled."""
        app = App(self.folder)
        rows = sum(len(one.rows) for one in scan(app.places.journal, kinds=Pushed))
        end = time.monotonic() + PATIENCE_S
        while (projected := self.pushed() or 0) < rows and time.monotonic() < end:
            time.sleep(0.2)
        self.stop()
        self.icekeel("ingest")
        manifest = app.workspace.compact()

        def told(what: str) -> list[str]:
            return [one for client in self.clients for one in getattr(client, what)]

        pushed = Counter(
            (one.table, str(row["order_id"]))
            for one in scan(app.places.journal, kinds=Pushed)
            for row in one.rows
        )
        predicted = Counter(one.id for one in scan(app.places.journal, kinds=Predicted))
        orders = _column(app.history(), manifest.tables["Orders"], "Orders", "order_id")
        delivered = _column(app.history(), manifest.tables["Deliveries"], "Deliveries", "order_id")
        answered = _column(app.history(), manifest.tables["answers/minutes"], "answers/minutes", "_id")
        checks = {
            "answers, journal": (told("answers"), predicted),
            "answers, history": (told("answers"), answered),
            "events, journal": (
                told("events"),
                Counter({one: n for (t, one), n in pushed.items() if t == "Orders"}),
            ),
            "events, history": (told("events"), orders),
            "outcomes, history": (told("outcomes"), delivered),
            "rows of files": (self.rows, orders),
        }
        lost = {name: sum(one not in there for one in wanted) for name, (wanted, there) in checks.items()}
        doubled = {name: sum(there[one] > 1 for one in wanted) for name, (wanted, there) in checks.items()}
        lost["online state"], doubled["online state"] = max(0, rows - projected), max(0, projected - rows)
        return {
            "lost": sum(lost.values()),
            "doubled": sum(doubled.values()),
            "lost_in": lost,
            "doubled_in": doubled,
            "acknowledged": {name: len(wanted) for name, (wanted, _) in checks.items()},
            "kills": dict(self.killed),
            "unclean_stops": self.unclean,
            **_ledger(app),
            "replies": dict(sum((client.statuses for client in self.clients), Counter[str]())),
        }

    def stop(self) -> None:
        """Stop `up` as a person does."""
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            self.ended_well()

    def ended_well(self) -> None:
        """Wait for the end of `up`; where it had not begun anything yet SIGTERM ends it at once."""
        if self.up is not None and (status := self.up.wait(PATIENCE_S)) not in (0, -signal.SIGTERM):
            self.unclean.append(status)

    def end(self) -> None:
        """Leave no process behind, whatever went wrong."""
        for client in self.clients:
            client.over.set()
        left = [one.pid for one in (self.up, self.training) if one is not None and one.poll() is None]
        for pid in [each for one in left for each in family(one)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder / ".icekeel", ignore_errors=True)


def _column(history: History, files: Iterable[Any], table: str, name: str) -> Counter[str]:
    paths = [str(history.folder / table / file.name) for file in files]
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {name} FROM read_parquet(?, union_by_name=true)", [paths]
        ).fetchall()
    return Counter(str(row[0]) for row in rows)


def _ledger(app: App) -> Result:
    """What the ledger says, and that every version has its bundle."""
    registry = app.registry()
    runs = Counter(f"{run.kind} {run.status}" for run in registry.runs())
    versions = registry.versions()
    for version in versions:
        read(app.places.bundles, version.digest)
    registry.close()
    return {"runs": dict(runs), "versions": len(versions)}
