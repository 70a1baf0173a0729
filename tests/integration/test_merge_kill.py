"""Killed with -9 at random moments while it takes rows in, merges files and sweeps: no row is lost or there twice.

Run as a program, this file is what gets killed: `python -m tests.integration.test_merge_kill FOLDER`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

import icekeel as ik
from icekeel.core.ids import file_digest
from icekeel.data import History, Snapshot, history, ingest_table
from icekeel.data.merging import merge

KILLS = int(os.environ.get("MERGE_KILLS", "6"))
"""`MERGE_KILLS=200 pytest tests/integration/test_merge_kill.py` is the long run."""
PATIENCE_S = 60.0


class Sales(ik.Events, time="moment", id="sale"):
    sale: ik.Id
    net: ik.Num


def work(folder: Path) -> None:
    """Numbered rows without end, two at a time; a snapshot now and then, whose files alone outlive the merging."""
    history.LINGER = 0
    place = History(folder)
    while True:
        first = place.manifest().rows("Sales")
        rows = [{"sale": f"{at}", "net": at, "moment": "2025-03-01"} for at in (first, first + 1)]
        ingest_table(place, Sales.icekeel_table, rows)
        merge(place, 3)
        with place.adding() as manifest:
            if first % 14 == 0:
                place.pin(Snapshot("late", first, manifest.tables))
            place.sweep(manifest)
        print(first + 2, flush=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9")
def test_whatever_moment_it_is_killed_at_every_row_is_there_once(tmp_path: Path) -> None:
    rng, said, place = random.Random(3), tmp_path / "said", History(tmp_path / "history")
    for _ in range(KILLS):
        size = said.stat().st_size if said.exists() else 0
        with said.open("ab") as output:
            command = [sys.executable, "-m", "tests.integration.test_merge_kill", str(place.folder)]
            child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=output)
        deadline = time.monotonic() + PATIENCE_S
        while said.stat().st_size == size and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has done something
        time.sleep(rng.uniform(0, 0.5))
        assert child.poll() is None
        child.kill()
        child.wait()
        promised = int(said.read_text().split()[-1])
        with duckdb.connect() as connection:
            found = connection.execute(
                f"SELECT sale, _sequence FROM read_parquet({[str(one) for one in place.files('Sales')]}, union_by_name = true)"
            ).fetchall()
        assert [sale for sale, _ in found] == [str(at) for at in range(len(found))]  # each once, and in order
        assert [at for _, at in found] == sorted({at for _, at in found})
        assert len(found) in (promised, promised + 2)
        for snapshot in place.snapshots():
            paths = place.paths(snapshot.manifest, "Sales")
            assert [file_digest(path) for path in paths] == [path.stem for path in paths]
    assert any(len(file.origins) > 3 for file in place.manifest().tables["Sales"])
    assert len(place.files("Sales")) < 20


if __name__ == "__main__":
    work(Path(sys.argv[1]))
