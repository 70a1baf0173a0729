"""The figures of alarms, experiments and the loop, and their bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.figures import Figure, plain, ratio

_WRONG = "A/A, conversion 3 %, looked at every 100 users to 50,000: share of runs rolled back"
FIGURES: tuple[Figure, ...] = (
    plain("faults_found", "quotes: share of the fault library that is found", 1, of=("rehearsal", "found"), most=False),
    plain("cause_right", "of those found, share whose cause is named", 0.9, of=("rehearsal", "cause_right"), most=False),
    plain("minutes_median", "virtual minutes from a fault's first effect to its alert, median", 10, of=("rehearsal", "minutes_median")),
    plain("minutes_worst", "the same, worst", 60, of=("rehearsal", "minutes_worst")),
    plain("flights_faults_found", "the same library on the flights, share found", 0.9, of=("rehearsal_flights", "found"), most=False),
    plain("flights_minutes_median", "flights: virtual minutes, median", math.inf, of=("rehearsal_flights", "minutes_median")),
    plain("quiet_alerts_per_month", "alerts in two quiet virtual years of quotes, a month", 0.2, of=("quiet", "per_month")),
    plain("false_rollback_5050", _WRONG, 0.05, of=("false_rollbacks", "fifty")),
    plain("false_rollback_canary10", "the same with a canary of 10 %", 0.05, of=("false_rollbacks", "canary")),
    plain("false_rollback_ramp", "the same, ramp 5-20-50 % while the base rate falls 5 to 2 %", 0.05, of=("false_rollbacks", "ramp")),
    plain("false_rollback_10_guardrails", "the same with ten guardrails", 0.05, of=("false_rollbacks", "guardrails")),
    plain("false_promotion_margin", "true effect at the margin: share of runs promoted", 0.05, of=("false_promotions", "share")),
    plain("stop_minus50", "conversion halved: mean users until roll-back at 50/50", 4_500, of=("stops", "minus50")),
    plain("stop_minus20", "conversion -20 %: mean users until roll-back", 24_000, of=("stops", "minus20")),
    plain("power_plus10", "conversion +10 %: share found by 250,000 users", 0.9, of=("stops", "plus10"), most=False),
    plain("paired_gain", "flights: answers a split test needs / a paired shadow test", 5, of=("paired", "gain"), most=False),
    plain("paired_false_promotions", "paired test under A/A with real day-to-day dependence", 0.05, of=("paired", "false_promotions")),
    plain("revenue_canary", "lognormal revenue, sigma 2, canary of 10 %: false roll-backs", 0.06, of=("revenue", "false_rollbacks")),
    plain("naive", "false alarms of `below 0.95 x control` on the same data", math.inf, of=("naive", "false_alarms")),
    plain("oracles", "largest relative difference from published figures and independent libraries", 1e-5, of=("oracles", "worst")),
    plain("moved_on_growth", "units that change arms when coverage rises", 0, of=("assignment", "moved")),
    plain("joint_chi2_p", "independence of two layers, p of chi squared", 1e-4, of=("assignment", "joint_p"), most=False),
    plain("assign_us", "assignment of a unit, us", 8, of=("assignment", "us")),
    plain("drift_cpu_s", "shape of 30 features in 10,000 rows, CPU s", 0.015, of=("drift", "cpu_s")),
    ratio("vs_evidently_cpu", "CPU: Evidently's default / ours", 200, of=("drift_evidently", "cpu_s"), to=("drift", "cpu_s"), most=False),
    plain("null_flagged", "share of 500 null batches flagged", 0.05, of=("drift_power", "null_flagged")),
    plain("found_0_1sd", "shift of 0.1 sd in 10,000 rows: share found", 0.99, of=("drift_power", "found_0_1sd"), most=False),
    plain("flagged_0_02sd", "harmless shift of 0.02 sd in 100,000 rows: share flagged", 0.01, of=("drift_power", "flagged_0_02sd")),
    plain("delay_min_025", "shift of 0.25 sd at 20 observations a minute: minutes", 70, of=("delay", "quarter")),
    plain("delay_min_05", "shift of 0.5 sd: minutes", 12, of=("delay", "half")),
    plain("replay_rps", "replayed requests per real second through HTTP, monitors on", 800, of=("rehearsal", "rps"), most=False),
    plain("chaos_lost", "answers and events lost by 20 minutes of random kills under load", 0, of=("chaos", "lost")),
    plain("chaos_doubled", "and doubled", 0, of=("chaos", "doubled")),
)  # fmt: skip

NOTES: Mapping[str, str] = {
    "paired_gain": "engineered against static features, days as observations of both tests; retrained_gain in the file is the "
    "one of a retrained version against the version that it was retrained from, which is what goes into shadow",
}
EXTRAS: Mapping[str, Sequence[str]] = {}
