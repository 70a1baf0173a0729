"""Inputs that no system may swallow: each must end in a clear error or finding, with nothing lost or half registered."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

import icekeel as ik
from bench.report import Result
from icekeel.app import App
from icekeel.core.errors import IcekeelError
from icekeel.data import History, ingest
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.testing.small import PROJECT, TRAINED_TO, write_small_project

ROWS = 200


class Orders(ik.Events, time="ordered_at", id="order_id"):
    """What the files hold."""

    order_id: ik.Id
    net: ik.Num
    note: ik.Text = ik.optional()


TABLE = Orders.icekeel_table
HEADER = "order_id,net,note,ordered_at"
LINES = tuple(f"o{at},{at}.5,grün,2025-03-01T00:00:00Z" for at in range(ROWS))


def _csv(*lines: str) -> bytes:
    return "\n".join([HEADER, *(lines or LINES), ""]).encode()


def _parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "one.parquet"
        row = "'o' || i AS order_id, i / 2 AS net, 'x' AS note, TIMESTAMP '2025-03-01' AS ordered_at"
        connection.execute(f"COPY (SELECT {row} FROM range({ROWS}) t(i)) TO '{path}'")
        return path.read_bytes()


def _files() -> Mapping[str, tuple[str, bytes, int]]:
    """Kind -> ending, content, and rows that it holds, good or bad."""
    ragged = [*LINES[:50], "o50,1.5", *LINES[51:80], "o80,1.5,x,2025-03-01T00:00:00Z,and more", *LINES[81:]]
    mixed = _csv(*LINES[:-1]) + LINES[-1].encode("latin-1") + b"\n"
    whole = _parquet()
    return {
        "truncated Parquet": (".parquet", whole[: len(whole) // 2], 0),
        "Parquet without its end": (".parquet", whole[:-8], 0),
        "ragged CSV": (".csv", _csv(*ragged), ROWS),
        "mixed encodings": (".csv", mixed, ROWS),
        "a header twice": (".csv", _csv(*LINES[:90], HEADER, *LINES[90:]), ROWS + 1),
        "an empty file": (".csv", b"", 0),
        "an empty Parquet": (".parquet", b"", 0),
        "a header alone": (".csv", f"{HEADER}\n".encode(), 0),
        "an open quote": (
            ".csv",
            _csv(*LINES[:150], 'o150,1.5,"open,2025-03-01T00:00:00Z', *LINES[151:]),
            ROWS,
        ),
        "no text at all": (".csv", bytes(range(256)) * 40, 0),
    }


def _file(kind: str, ending: str, content: bytes, rows: int) -> tuple[bool, str]:
    """Whether a file went wrong, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "history")
        first, source = Path(folder) / "first.csv", Path(folder) / f"bad{ending}"
        first.write_bytes(_csv(*(line.replace("o", "p", 1) for line in LINES)))
        source.write_bytes(content)
        list(ingest(history, TABLE, [first]))
        before = (history.folder / "manifest.json").read_bytes()
        try:
            (taken,) = ingest(history, TABLE, [source])
        except IcekeelError as error:
            said = str(error)
            whole = (history.folder / "manifest.json").read_bytes() == before
            clear = bool(error.code and error.faults[0].what and error.faults[0].where)
            return not (whole and clear and not list(history.folder.glob("*.draft"))), said
        complete = taken.kept + taken.quarantined == rows and (taken.quarantined > 0 or not rows)
        return not complete, f"{taken.kept} kept, {taken.quarantined} in quarantine: {dict(taken.reasons)}"


def _vanished() -> tuple[bool, str]:
    """A table whose source is a database that is not there any more."""
    with tempfile.TemporaryDirectory() as folder:
        write_small_project(
            Path(folder), PROJECT.replace('"scans.csv"', 'ik.sql("scans", url="sqlite:///gone/scans.db")')
        )
        app = None
        try:
            app = App(Path(folder), clock=lambda: TRAINED_TO)
            app.ingest(["Scans"])
        except IcekeelError as error:
            kept = app is not None and app.history().manifest().rows("Scans")
            return bool(kept) or not error.faults[0].what, str(error)
        return True, "nothing was said"


Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class World:
    """The rows of a small project, to be spoilt."""

    questions: Rows
    deliveries: Rows


def _one_class(world: World) -> None:
    for row in world.deliveries:
        row["minutes_late"] = 0


def _no_weight(world: World) -> None:
    for row in world.questions:
        row["weight"] = ""


def _three_rows(world: World) -> None:
    del world.questions[3:]


def _many_depots(world: World) -> None:
    questions, deliveries = list(world.questions), {row["parcel_id"]: row for row in world.deliveries}
    for copy in (1, 2):
        for row in questions:
            again = f"{row['parcel_id']}-{copy}"
            world.questions.append({**row, "parcel_id": again})
            if row["parcel_id"] in deliveries:
                world.deliveries.append({**deliveries[row["parcel_id"]], "parcel_id": again})
    for place, row in enumerate(world.questions):
        row["depot"] = f"depot-{place % 10_000}"


def _infinite(world: World) -> None:
    for row in world.deliveries[::10]:
        row["minutes_late"] = "inf"


def _no_outcome(world: World) -> None:
    for row in world.deliveries:
        row["parcel_id"] = f"other-{row['parcel_id']}"


NUMBER = PROJECT.replace(
    ".latest(absent=ik.UNKNOWN) > 15", ".latest(absent=ik.UNKNOWN)"
).replace('error="log_loss"', 'error="mae"').replace('    action=ik.Act("warn", missed=4, false=1),\n', "")  # fmt: skip
WORLDS: Mapping[str, tuple[str, Callable[[World], None], str]] = {
    "one class only": (PROJECT, _one_class, ""),
    "constant target": (NUMBER, _one_class, ""),
    "all-null column": (PROJECT, _no_weight, "weight"),
    "three rows": (PROJECT, _three_rows, ""),
    "10,000 categories": (PROJECT, _many_depots, "depot"),
    "infinite target": (NUMBER, _infinite, "minutes_late: not a finite number"),
    "outcomes that never arrived": (PROJECT, _no_outcome, ""),
}
"""Kind -> project, how its rows are spoilt, and what a finding must name where a version is registered."""


def _world(project: str, spoil: Callable[[World], None], named: str) -> tuple[bool, str]:
    """Whether a training went wrong, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_small_project(place, project)
        world = World(*(_read(place / f"{name}.csv") for name in ("questions", "deliveries")))
        spoil(world)
        _write(place / "questions.csv", world.questions)
        _write(place / "deliveries.csv", world.deliveries)
        app = App(place, clock=lambda: TRAINED_TO)
        lost, reasons = 0, list[str]()
        registry = app.registry()
        try:
            taken = app.ingest([])
            reasons = [reason for one in taken for reason in one.reasons]
            lost = sum(one.kept + one.quarantined for one in taken if one.table == "Deliveries") - len(
                world.deliveries
            )
            version, _ = app.workshop(registry).train(
                Order("late", TRAINED_TO, rung="linear"), lambda line: None
            )
            with app.journal("train") as journal:
                decision = admit(registry, journal, app.model("late"), version, at=TRAINED_TO, by="bench")
            findings = str(version.metrics["audits"])
            found = bool(version.failed) or (bool(named) and (named in findings or named in reasons))
            return bool(lost) or not found, f"{decision.kind}: {decision.reason}; {reasons} {findings[:200]}"
        except IcekeelError as error:
            half = bool(registry.versions("late")) or any(app.places.bundles.glob("*"))
            return bool(lost or half) or not error.faults[0].what, str(error)
        finally:
            registry.close()


def _read(path: Path) -> Rows:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def _write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def bad_inputs() -> Result:
    """How many kinds went wrong, and what was said to each; an error that is none of ours is wrong too."""
    kinds: dict[str, Callable[[], tuple[bool, str]]] = {"a vanished database": _vanished}
    for kind, (ending, content, rows) in _files().items():
        kinds[kind] = lambda kind=kind, given=(ending, content, rows): _file(kind, *given)  # type: ignore[misc]
    for kind, world in WORLDS.items():
        kinds[kind] = lambda world=world: _world(*world)  # type: ignore[misc]
    said: dict[str, str] = {}
    wrong: list[str] = []
    for kind, judged in kinds.items():
        try:
            failed, text = judged()
        except Exception as error:  # a fault of ours must not keep the others from being measured
            failed, text = True, f"{type(error).__name__}: {error}"
        said[kind] = text[:300]
        wrong += [kind] if failed else []
    return {"wrong": len(wrong), "kinds": len(kinds), "which": wrong, "said": said}
