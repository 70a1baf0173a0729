"""What the server counts, in Prometheus' text format. Counting costs a dictionary entry; the rest waits for a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1.0)
_ENDS = (*map(str, BUCKETS_S), "+Inf")


class Counters(Collector):
    """The metrics of one serving process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, list[int]] = {}
        self._total_s: dict[str, float] = {}
        self._answers: Counter[tuple[str, str, str, str]] = Counter()
        self._degraded: Counter[tuple[str, str]] = Counter()
        self._findings: Counter[tuple[str, str, str]] = Counter()
        self._rows: Counter[tuple[str, str]] = Counter()
        self._swaps: Counter[str] = Counter()
        self._gauges: Mapping[str, tuple[str, float]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count(self, kind: str, status: int, seconds: float) -> None:
        """One request answered, and the time from its headers to its answer."""
        self._requests[kind, status] += 1
        buckets = self._seconds.get(kind)
        if buckets is None:
            buckets, self._total_s[kind] = self._seconds.setdefault(kind, [0] * len(_ENDS)), 0.0
        buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._total_s[kind] += seconds

    def answered(self, model: str, version: str, arm: str, verdict: str) -> None:
        """One prediction given, or refused by the guard."""
        self._answers[model, version, arm, verdict] += 1

    def degraded(self, model: str, reason: str) -> None:
        """One prediction whose features lacked something."""
        self._degraded[model, reason] += 1

    def found(self, model: str, codes: Iterable[str], policy: str) -> None:
        """What the guard found in one request, by the codes of its findings, and what became of it."""
        for kind in {code.partition(":")[0] for code in codes}:
            self._findings[model, kind, policy] += 1

    def pushed(self, table: str, kept: int, quarantined: int) -> None:
        """Rows pushed."""
        self._rows[table, "kept"] += kept
        self._rows[table, "quarantined"] += quarantined

    def swapped(self, model: str) -> None:
        """Other versions serve."""
        self._swaps[model] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> bytes:
        """All metrics as text.

        Args:
            gauges: What is measured now: name -> what it is, value.
        """
        self._gauges = gauges
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The metrics in the client library's words."""
        counted: list[tuple[str, str, tuple[str, ...], Mapping[Any, int]]] = [
            ("http_requests", "HTTP requests by kind and status.", ("kind", "status"), self._requests),
            (
                "answers",
                "Answers by model, version, arm and verdict.",
                ("model", "version", "arm", "verdict"),
                self._answers,
            ),
            (
                "degraded",
                "Answers by model and what their features lacked.",
                ("model", "reason"),
                self._degraded,
            ),
            (
                "guard_findings",
                "Requests in which the guard found something, by model, kind and what became of them.",
                ("model", "kind", "policy"),
                self._findings,
            ),
            ("events", "Pushed rows by table and fate.", ("table", "fate"), self._rows),
            ("swaps", "Changes of the serving versions.", ("model",), self._swaps),
        ]
        for name, text, labels, values in counted:
            family = CounterMetricFamily(f"icekeel_{name}", text, labels=labels)
            for key, number in values.items():
                family.add_metric([str(part) for part in (key if isinstance(key, tuple) else (key,))], number)
            yield family
        yield self._latency()
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(f"icekeel_{name}", text, value=value)

    def _latency(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "icekeel_http_seconds", "Time from a request's headers to its answer.", labels=["kind"]
        )
        for kind, buckets in self._seconds.items():
            total, cumulative = 0, []
            for end, count in zip(_ENDS, buckets, strict=True):
                total += count
                cumulative.append((end, float(total)))
            family.add_metric([kind], cumulative, self._total_s[kind])
        return family
