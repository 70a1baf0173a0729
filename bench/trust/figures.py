"""The figures of trust in data and models, and their bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.figures import Figure, plain, ratio

FIGURES: tuple[Figure, ...] = (
    ratio("contract_vs_polars", "CPU of 56 checks of 5M rows: ours / one Polars query", 6, of=("contract", "cpu_s"), to=("contract_polars", "cpu_s"), most=True),
    plain("contract_peak_gb", "memory of that at most, GB", 0.6, of=("contract", "peak_gb")),
    plain("contract_found", "share of planted faults found, at least 25 kinds", 1, of=("contract_faults", "found"), most=False),
    plain("contract_false", "faults found that were not planted", 0, of=("contract_faults", "false")),
    plain("label_recovered", "15 % wrong labels, 20 % reviewed: share of the lost F1 won back", 0.8, of=("labels", "recovered"), most=False),
    ratio("subgroup_vs_fairlearn", "CPU of 1M rows in 144 cells: fairlearn / ours", 50, of=("subgroups_fairlearn", "cpu_s"), to=("subgroups", "cpu_s"), most=False),
    plain("audit_s", "all audits of the flights training set, s", 20, of=("audits", "s")),
    plain("ingest_crash_lost", "rows lost by 100 kills of ingestion", 0, of=("ingest_crashes", "lost")),
    plain("ingest_crash_doubled", "rows doubled by them", 0, of=("ingest_crashes", "doubled")),
    plain("ladder_s", "whole ladder with 5 backtests on flights, s", 90, of=("ladder", "s")),
    plain("retrain_s", "the champion's rung fitted again with its gates, s", 30, of=("retrain", "s")),
    plain("similar_vs_model", "error of the similar cases / the model's, hotel prices", 1.15, of=("similar", "ratio")),
    plain("similar_us", "embedding and look-up among 100k cases, p50, us", 500, of=("similar", "us")),
    plain("parity", "serving against training engine, 100k fuzzed rows, relative", 1e-6, of=("parity", "worst")),
    plain("bundle_load_ms", "load of a bundle, ms", 500, of=("bundles", "load_ms")),
    plain("rollback_ms", "roll-back, ms", 1_000, of=("bundles", "rollback_ms")),
    plain("hotel_mape", "hotel prices with history features; raw and ids beside it", math.inf, of=("hotel", "history")),
    plain("bad_inputs", "bad inputs without a clear error or finding, or with a loss", 0, of=("bad_inputs", "wrong")),
)  # fmt: skip

NOTES: Mapping[str, str] = {
    "label_recovered": "learnt by what a notebook begins with, TF-IDF and logistic regression; by the rung `text`: labels_own",
}
EXTRAS: Mapping[str, Sequence[str]] = {
    "contract_vs_polars": ("contract_ingestion",),
    "label_recovered": ("labels_own",),
}
