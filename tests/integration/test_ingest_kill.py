"""`icekeel ingest` killed with -9 while it reads files and a database: nothing is lost, nothing comes twice."""

from __future__ import annotations

from bench.trust.ingestion import ingest_crashes


def test_whatever_moment_a_run_is_killed_at_the_next_ones_end_with_every_row_once() -> None:
    found = ingest_crashes(kills=6, seed=2)
    assert {name: found[name] for name in ("lost", "doubled", "unannounced", "damaged")} == {
        "lost": 0,
        "doubled": 0,
        "unannounced": 0,
        "damaged": 0,
    }
    assert found["kills"] == 6
    assert int(str(found["rows"])) > 1_900
