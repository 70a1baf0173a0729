"""The figures of serving and their bars."""

from __future__ import annotations

from bench.figures import Figure, Measured, plain, ratio

PEERS = ("mlflow", "bentoml", "fastapi")


def _least_recall(found: Measured) -> float:
    return float(min(found["quotes_120k"]["recall"].values()))


def _peer(name: str, bar: float) -> Figure:
    what = f"CPU of a request: {name}, predicting only / ours, everything"
    return ratio(f"vs_{name}", what, bar, of=(name, "cpu_us"), to=("requests", "cpu_us"), most=False)


FIGURES: tuple[Figure, ...] = (
    plain("cpu_us", "CPU of the serving process a request, HTTP and auth included, us", 300, of=("requests", "cpu_us")),
    plain("rps_core", "requests a second of one worker, 8 connections", 3_000, of=("requests", "per_s"), most=False),
    plain("p99_ms", "p99 at half of that rate, ms", 4, of=("requests", "p99_ms")),
    _peer("mlflow", 6),
    _peer("bentoml", 7),
    _peer("fastapi", 2.8),
    plain("batch_rows_s", "rows in batches of 1,000 a CPU second, whole path", 12_000, of=("batches", "per_cpu_s"), most=False),
    plain("guard_us_p50", "a check of 12 categories and 4 numbers, one in ten flagged, us", 25, of=("guard", "p50_us")),
    plain("guard_us_p99", "the same, p99", 60, of=("guard", "p99_us")),
    Figure("guard_recall", "least recall of a kind, 120k training rows", 1, False, ("quotes_120k",), _least_recall),
    plain("guard_flags", "share flagged of quotes after 120k training rows", 0.01, of=("quotes_120k", "flags")),
    plain("guard_flags_8k", "share flagged of quotes after 8k training rows", 0.015, of=("quotes_8k", "flags")),
    plain("guard_real", "share flagged of a later month's flights, the worst of three", 0.01, of=("flights", "flags")),
    plain("journal_lost", "answers lost by 200 kills of workers and keeper under load", 0, of=("crashes", "lost")),
    plain("journal_doubled", "answers doubled by them", 0, of=("crashes", "doubled")),
    plain("swap_failed", "failed requests over 20 swaps under full load, 2 workers", 0, of=("swaps", "failures")),
    plain("swap_s", "the longest until every worker answered with the new version, s", 1, of=("swaps", "slowest_s")),
    plain("shed_p99_ratio", "p99 of the answered at 3x overload / at half load", 4, of=("overload", "p99_ratio")),
    plain("shed_goodput", "good answers a second at 3x overload / capacity", 0.5, of=("overload", "goodput"), most=False),
    plain("fuzz_5xx", "server errors in 10,000 cases of schemathesis", 0, of=("fuzz", "fuzz_5xx")),
    plain("cold_start_ms", "process start to first good answer, median, ms", 800, of=("cold_start", "ms")),
    plain("bad_inputs", "malformed requests not answered with a 4xx", 0, of=("bad_inputs", "wrong")),
)  # fmt: skip

NOTES = {
    "p99_ms": "open loop: requests are due at moments of a Poisson process, and waiting for a connection counts",
    "guard_recall": "by kind, also with 8k rows, in `quotes_120k` and `quotes_8k`",
    "shed_p99_ratio": "p99 counts from when a request was due, at both loads",
    **{
        f"vs_{name}": "the same trees, 30 numbers in, one number out, wrk with 8 connections; each peer's leanest way"
        for name in PEERS
    },
}
EXTRAS = {
    "guard_recall": ("quotes_8k",),
    "vs_mlflow": ("mlflow_table",),
    "vs_fastapi": ("fastapi_plain", "fastapi_table"),
}
