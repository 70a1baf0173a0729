"""The figures of the feature store and their bars."""

from __future__ import annotations

from bench.figures import Figure, plain, ratio

_WINDOWS = ("windows", "cpu_s")
FIGURES: tuple[Figure, ...] = (
    ratio(
        "asof_vs_duckdb", "10 last values, 5M events x 500k questions: ours / DuckDB ASOF by hand", 1.2,
        of=("newest", "cpu_s"), to=("newest_by_sql", "cpu_s"), most=True,
    ),
    ratio(
        "windows_vs_sql", "12 windows over 3 keys, one with 30 %, 10M x 500k: ours / the best SQL found", 0.7,
        of=_WINDOWS, to=("windows_by_sql", "cpu_s"), most=True,
    ),
    plain("windows_peak_gb", "their peak memory, GB", 3, of=("windows", "peak_gb")),
    ratio("windows_late", "CPU with 5 % late rows / without", 3, of=("windows_of_late", "cpu_s"), to=_WINDOWS, most=True),
    ratio("windows_skewed", "CPU with the 30 % key / with uniform keys", 1.5, of=_WINDOWS, to=("windows_of_uniform", "cpu_s"), most=True),
    ratio(
        "vs_feast_cpu", "10 last values, 1.5M x 150k: Feast's duckdb store / ours", 8,
        of=("feast", "cpu_s"), to=("newest_beside_feast", "cpu_s"), most=False,
    ),
    plain("peak_gb_100m", "100M events x 1M questions x 12 windows: peak memory, GB", 4, of=("windows_of_100m", "peak_gb")),
    plain("cpu_s_100m", "the same: CPU seconds", 300, of=("windows_of_100m", "cpu_s")),
    plain("closure_us", "20 row-level features of one request, p50 us", 10, of=("closure", "p50_us")),
    plain("online_read_us", "12 windows over 3 keys of 300 events each, one request, p50 us", 50, of=("reads", "read_us")),
    plain("online_hot_us", "the same, one key holding 100,000 events, p50 us", 150, of=("reads", "hot_us")),
    plain("amend_hot_us", "a late event for that key, committed, p50 us", 1_000, of=("reads", "amend_us")),
    ratio(
        "online_vs_feast", "Feast's SQLite look-up of 12 stored values / our 12 exact windows, p50", 4.5,
        of=("feast_online", "p50_us"), to=("reads", "read_us"), most=False,
    ),
    plain("ingest_per_s", "events per CPU second, journal to LMDB, five views", 25_000, of=("ingest", "per_s"), most=False),
    ratio("ingest_hot_ratio", "rate on one hot key / that", 0.5, of=("ingest_hot", "per_s"), to=("ingest", "per_s"), most=False),
    plain("mismatches", "fuzzed values that differ from the oracle", 0, of=("fuzz", "mismatches")),
)  # fmt: skip

CHECKS = {
    "newest_by_sql": "newest",
    "windows_by_sql": "windows",
    "feast": "newest_beside_feast",
    "feast_of_sparse": "newest_of_sparse",
}
"""Peer's task -> ours that must give the same values."""

NOTES = {
    "vs_feast_cpu": "10,000 customers evenly, which is kind to Feast's range join: it does not end on Zipf's law; "
    "`feast_of_sparse` beside `newest_of_sparse` is the other end, 200,000 customers of 7.5 events",
    "windows_vs_sql": "bench/features/sql/windows.sql names what else was tried, with its time",
    "online_vs_feast": "Feast looks up twelve values of one customer that were computed beforehand",
}
EXTRAS = {"vs_feast_cpu": ("feast_of_sparse", "newest_of_sparse")}
"""Tasks that are measured for a note beside a figure."""
