"""The whole life of one model on the real flights of 2013, by the real processes, in virtual time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from icekeel.app import App
from icekeel.core.ids import digest, unit_interval
from icekeel.core.time import DAY, HOUR, format_time, parse_time
from icekeel.examples import sources
from icekeel.operations.rehearsal.replay import Played, Replay, Step
from icekeel.operations.rehearsal.system import System
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.registry import Registry, Version
from icekeel.settings import SETTINGS_FILE, load_settings

from .measure import Run, measure
from .prepare import AVAILABLE, Prepared, prepare
from .report import summary, write_report

MODEL = "late"
START = parse_time("2013-03-01")
END = parse_time("2013-10-01")
SAMPLE = 0.45
"""Share of flights that are asked about, by salted hash of their id, declared before the replay."""
STEP = 6 * HOUR
"""Events are pushed this far ahead of the questions, which still see only what was known when they were asked."""
TABLES = {"flights": "Schedule", "arrivals": "Arrivals", "weather": "Weather", "planes": "Planes"}
FINISHED = "finished.json"
Say = Callable[[str], None]


def run(folder: Path, *, fresh: bool, say: Say, end: int = END) -> Path:
    """Prepare, train, replay March to September, measure, and write the report; gives its path.

    A second run reuses the prepared data, what was ingested and trained, and, when nothing at all has changed,
    the whole replay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    seconds: dict[str, float] = {}
    with _timed(seconds, "data"):
        prepared = prepare(folder / "source", progress=say)
    if prepared.reused:
        say("data: unchanged, reused")
    marker = _marker(prepared, end)
    finished = folder / FINISHED
    if not fresh and finished.exists() and report.exists() and finished.read_text() == marker:
        say("nothing has changed since the last run: its report stands (--fresh replays)")
        return report
    if (folder / ".icekeel").exists():
        shutil.rmtree(folder / ".icekeel")
    with _timed(seconds, "project"):
        lay_out(folder, prepared)
    # Ingestion happens on the day the model goes live: the online windows reach back from there.
    app = App(folder, load_settings(folder, {"rehearsal": True}), clock=lambda: START)
    with _timed(seconds, "ingest"):
        say("ingesting what was known on 1 March 2013")
        ingested = app.ingest([])
    registry = app.registry()
    with _timed(seconds, "train"):
        notebook, engineered = train_both(app, registry, say)
    cpu: dict[str, float] = {}
    with _timed(seconds, "replay"):
        played = _replay(app, prepared.folder, say, cpu, end)
    with _timed(seconds, "measure"):
        say("recomputing every served feature from history, and measuring")
        findings = measure(app, MODEL, registry, now=end + 2 * DAY, frozen=[engineered.name, notebook.name])
    done = Run(prepared, ingested, notebook, engineered, played, findings, seconds, cpu)
    write_report(done, app, report)
    for line in summary(done, app):
        say(line)
    finished.write_text(marker)
    return report


class _timed:
    """Adds the wall seconds of a block to a table."""

    def __init__(self, table: dict[str, float], name: str) -> None:
        self._table, self._name = table, name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._table[self._name] = time.monotonic() - self._began


def _marker(prepared: Prepared, end: int) -> str:
    """Changes with the data, the project file and the package."""
    package = Path(__file__).parents[2]
    code = digest(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    return msgspec.json.encode({"data": prepared.digest, "code": code, "end": end}).decode()


def lay_out(folder: Path, prepared: Prepared) -> None:
    """Make a project of the folder: its file, and as sources what was known when the model first went live."""
    shutil.copy(Path(__file__).with_name("project.py"), folder / "project.py")
    (folder / SETTINGS_FILE).write_text(
        "threads = 2  # virtual time waits for each training: both cores are free\n"
    )
    sources.lay_out(prepared.folder, folder, AVAILABLE, START)


def train_both(app: App, registry: Registry, say: Say) -> tuple[Version, Version]:
    """The notebook's model as first champion, the engineered one as the first to challenge it, in shadow."""
    workshop = app.workshop(registry)
    with app.journal("train") as journal:
        found = []
        for baseline, reason in ((True, "the notebook's model"), (False, "engineered features")):
            say(f"training: {reason}")
            version, _ = workshop.train(Order(MODEL, START, baseline=baseline, reason=reason), say)
            decision = admit(registry, journal, app.model(MODEL), version, at=START, by="demo")
            say(f"{decision.kind}: {decision.reason}")
            found.append(version)
    return found[0], found[1]


def steps(app: App, data: Path, start: int, end: int) -> Iterator[Step]:
    """Stretches of history: what became known in each, and the sampled questions."""
    fields = {table: list(app.project.tables[name].fields) for table, name in TABLES.items()}
    for batch in sources.batches(data, AVAILABLE, start, end, STEP):
        events: dict[str, list[dict[str, Any]]] = {
            TABLES[table]: [{name: row[name] for name in fields[table]} for row in rows]
            for table, rows in batch.tables.items()
            if table in TABLES
        }
        questions = [
            (int(row.pop("asked_at")), row)  # type: ignore[arg-type]  # a time is an int
            for row in batch.tables.get("questions", [])
            if unit_interval("sample", str(row["flight_id"])) < SAMPLE
        ]
        yield Step(batch.start, batch.end, events, questions)


def _replay(app: App, data: Path, say: Say, cpu: dict[str, float], end: int) -> Played:
    token = app.access().create("replay", ("admin",))
    registry = app.registry()
    told = 0
    with System(app.folder) as system:
        replay = Replay(MODEL, system.port, token, alive=system.alive)
        before = {name: system.cpu_seconds(name) for name in ("serve", "keep")}

        def on_day(at: int, played: Played) -> None:
            nonlocal told
            decisions = registry.decisions(MODEL)
            for decision in decisions[told:]:
                if decision.at > START:
                    say(f"{format_time(decision.at)[:10]} {decision.kind}: {decision.reason}")
            told = len(decisions)
            if (at // DAY) % 7 == 0:
                say(f"{format_time(at)[:10]} {played.answered:,} answered, {played.pushed:,} events")

        played = replay.play(steps(app, data, START, end), on_day)
        cpu.update({name: system.cpu_seconds(name) - before[name] for name in before})
    return played
