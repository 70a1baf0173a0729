"""The founding case on a print shop whose true prices are known: features, guard and postprocessors at work."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from icekeel.app import App
from icekeel.core.ids import digest
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.examples import sources
from icekeel.journal import Predicted, Writer, scan
from icekeel.operations.rehearsal.replay import Step
from icekeel.operations.rehearsal.system import System
from icekeel.operations.workshop.workshop import Order, admit, crown, decide
from icekeel.registry import CHAMPION, Registry, Version
from icekeel.settings import Settings

from .cases import MODEL, Desk
from .measure import Run, measure
from .report import summary, write_report
from .simulate import Truth, simulate

SEED = 7
LIVE = parse_time("2024-11-01")
END = parse_time("2025-01-01")
STEP = 6 * HOUR
"""Events are pushed up to two steps ahead of the questions; the online windows allow for a day."""
AVAILABLE = {
    "quotes": "sent_at",
    "results": "decided_at",
    "orders": "booked_at",
    "capacity": "measured_at",
}
"""For each file, the column that says when a row became available (a quote: when it is asked for)."""
TABLES = {"results": "Results", "orders": "Orders", "capacity": "Capacity"}
Say = Callable[[str], None]


class _Kept(msgspec.Struct, frozen=True):
    """The truth of an earlier run, and digest of what it was made from."""

    key: str
    rows: dict[str, int]
    noise_error: float
    expected: list[float]


def run(folder: Path, *, fresh: bool, say: Say, n: int = 40_000) -> Path:
    """Simulate, train with raw and with engineered features, serve two months, and write the report; gives its path.

    A second run reuses the simulation, what was ingested, trained and answered where nothing has changed.

    Args:
        fresh: Forget an earlier run.
        n: Number of simulated quotes, over two years.
    """
    began = time.monotonic()
    truth, key = _simulated(folder / "source", n, say, fresh=fresh)
    _lay_out(folder, folder / "source", key, fresh=fresh)
    app = App(folder, Settings(rehearsal=True, port=0), clock=lambda: LIVE)
    for one in app.ingest([]):
        became = (
            "unchanged, reused" if one.known else f"{one.kept:,} rows kept, {one.quarantined:,} in quarantine"
        )
        say(f"ingest: {one.table}: {became}")
    registry = app.registry()
    raw, engineered = (_trained(app, registry, say, baseline=baseline) for baseline in (True, False))
    token = app.access().create("demo", ("admin",))
    with System(folder) as system:
        desk = Desk(system, token, truth, app.places.journal)
        desk.play(_traffic(app, folder / "source", say))
        cases, twice = desk.ask_cases(at=END + DAY // 2), desk.ask_twice(at=END + DAY // 2)
    later = measure(app, truth, folder / "source" / "results.parquet", raw, until=END)
    done = Run(truth, raw, engineered, later, cases, twice, time.monotonic() - began)
    report = folder / "report.html"
    write_report(done, registry, report)
    registry.close()
    for line in summary(done):
        say(line)
    say(f"report: {report}")
    return report


def _simulated(data: Path, n: int, say: Say, *, fresh: bool) -> tuple[Truth, str]:
    """The truth, and the digest of all that the demo's data are made from."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("simulate.py", "customers.py"))
    key = digest(code + f"{n}/{SEED}".encode())
    kept = data / "truth.json"
    if kept.exists() and not fresh:
        found = msgspec.json.decode(kept.read_bytes(), type=_Kept)
        if found.key == key:
            say(f"simulation: unchanged, {found.rows['quotes']:,} quotes reused")
            return Truth(found.rows, np.array(found.expected), found.noise_error), key
    kept.unlink(missing_ok=True)
    truth = simulate(data, n=n, seed=SEED)
    kept.write_bytes(msgspec.json.encode(_Kept(key, truth.rows, truth.noise_error, truth.expected.tolist())))
    say(f"simulation: {', '.join(f'{rows:,} {name}' for name, rows in truth.rows.items())}")
    return truth, key


def _lay_out(folder: Path, data: Path, key: str, *, fresh: bool) -> None:
    """Make a project of the folder: its file, and as sources what was known on the day the system goes live.

    What was kept from other data or other code is forgotten.
    """
    package = Path(__file__).parents[2]
    made_from = digest(key.encode() + b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    marker = folder / "made_from"
    if marker.exists() and marker.read_text() == made_from and not fresh:
        return
    shutil.rmtree(folder / ".icekeel", ignore_errors=True)
    shutil.copy(Path(__file__).with_name("project.py"), folder)
    sources.lay_out(data, folder, AVAILABLE, LIVE)
    marker.write_text(made_from)


def _trained(app: App, registry: Registry, say: Say, *, baseline: bool) -> Version:
    """The version on these features, trained if it is not there yet, and admitted."""
    model = app.model(MODEL)
    features = (model.baseline if baseline else model.features).__name__
    version = next((one for one in registry.versions(MODEL) if one.features == features), None)
    if version is not None:
        say(f"training: {version.name} on {features} features unchanged, reused")
    else:
        say(f"training: {features} features")
        order = Order(MODEL, LIVE, baseline=baseline, reason=f"{features} features")
        version, _ = app.workshop(registry).train(order, say)
    champion = registry.aliases(MODEL).get(CHAMPION)
    if champion is None or registry.version(champion.version).number < version.number:
        with app.journal("train") as journal:
            decision = admit(registry, journal, model, version, at=LIVE, by="demo")
            say(f"{decision.kind}: {decision.reason}")
            if decision.kind == "block" and not version.failed and champion is not None:
                _by_hand(registry, journal, registry.version(champion.version), version, say)
    return version


def _by_hand(registry: Registry, journal: Writer, standing: Version, version: Version, say: Say) -> None:
    """What a person does where both were trained on the same day, so that no later rows can compare them."""
    before, now = (one.metrics["errors"]["lightgbm"] for one in (standing, version))
    reason = f"by hand: MAPE {now:.2%} against {before:.2%} of {standing.name}, backtested on the same quotes"

    def change() -> None:
        crown(registry, MODEL, version.name, reason=reason, by="demo", at=LIVE)

    decide(registry, journal, MODEL, "promote", version.name, reason=reason, at=LIVE, change=change)
    say(f"promote: {reason}")


def _traffic(app: App, data: Path, say: Say) -> list[Step]:
    """What is left to serve between going live and the end: all of it, the rest after an interruption, or nothing."""
    steps = []
    for batch in sources.batches(data, AVAILABLE, LIVE, END, STEP):
        asked: list[Any] = [(row.pop("sent_at"), row) for row in batch.tables.pop("quotes", [])]
        events = {TABLES[name]: rows for name, rows in batch.tables.items()}
        steps.append(Step(batch.start, batch.end, events, asked))
    known = {record.key for record in scan(app.places.journal, kinds=Predicted)}
    done = [
        place + 1
        for place, step in enumerate(steps)
        if step.questions and known.issuperset(row["quote_id"] for _, row in step.questions)
    ]
    first = max(done, default=0)
    left = sum(len(step.questions) for step in steps[first:])
    if first:
        answered = sum(len(step.questions) for step in steps[:first])
        say(f"serving: {answered:,} later quotes were answered before, reused from the journal")
    if left:
        say(f"serving: {left:,} later quotes over HTTP, with what became known in between")
    return steps[first:] or [Step(END, END, {}, [])]
