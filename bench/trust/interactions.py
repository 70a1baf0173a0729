"""Which plays of short videos are meant: definitions tried on KuaiRand-Pure, 222,869 videos shown in two weeks of 2022."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from shutil import copy

import duckdb

from bench.children import CACHE
from bench.report import Result
from icekeel.app import App
from icekeel.core.time import parse_time

from .plays import project

NOW = parse_time("2022-05-12")
SHOWN = """
    SELECT *, 's' || row_number() OVER (ORDER BY time_ms, user_id, video_id) AS show_id, 'u' || user_id AS user,
        'v' || video_id AS video, 'a' || author_id AS author, 't' || tab AS place, duration_ms / 1000 AS seconds,
        least(play_time_ms / greatest(duration_ms, 1), 10) AS share, play_time_ms / 1000 AS watched,
        make_timestamp(time_ms * 1000) AS asked_at, asked_at + INTERVAL 1 second AS seen_at,
        seen_at + to_milliseconds(1000 + least(play_time_ms, 3600000)) AS known_at
    FROM read_parquet('{source}')
"""


def plays() -> Result:
    """What each definition does to wrongly ranked pairs, by both truths; without the data only why there is nothing."""
    source = Path(os.environ.get("BENCH_DATA", "")) / "kuairand_pure_0425_0508.parquet"
    if not source.is_file():
        return {
            "skipped": "set BENCH_DATA to a folder with kuairand_pure_0425_0508.parquet, see bench/README.md"
        }
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(project.__file__), folder / "project.py")
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE shown AS {SHOWN.format(source=source)}")
            for table, columns in (
                ("shows", "show_id, user, video, author, tag, place, seconds, asked_at FROM shown"),
                (
                    "clicks",
                    "show_id, user, video, author, tag, share, watched, seen_at, known_at FROM shown WHERE is_click = 1",
                ),
            ):
                connection.execute(f"COPY (SELECT {columns}) TO '{folder}/{table}.parquet' (FORMAT parquet)")
        app = App(folder, clock=lambda: NOW)
        app.ingest([])
        registry = app.registry()
        (finding,) = app.workshop(registry).audit("watch", ["interactions"], NOW, lambda line: None)
        registry.close()
    return {"verdict": finding.verdict, "what": finding.what, **finding.evidence}
