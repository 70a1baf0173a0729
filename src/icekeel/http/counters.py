"""What the server counts, in Prometheus' text format. Counting costs a dictionary entry; the rest waits for a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

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
_FAMILIES = {
    "http_requests": ("HTTP requests by kind and status.", ("kind", "status")),
    "answers": ("Answers by model, version, arm and verdict.", ("model", "version", "arm", "verdict")),
    "degraded": ("Answers by model and what their features lacked.", ("model", "reason")),
    "guard_findings": (
        "Requests in which the guard found something, by model, kind and what became of them.",
        ("model", "kind", "policy"),
    ),
    "events": ("Pushed rows by table and fate.", ("table", "fate")),
    "swaps": ("Changes of the serving versions, in each worker.", ("model",)),
}
_BUCKET, _SUM = "http_seconds_bucket", "http_seconds_sum"
Labelled = tuple[tuple[str, ...], Mapping[tuple[str, ...], float]]
"""Names of labels, and the value for each of their values."""
Gauges = Mapping[str, tuple[str, float | Labelled]]


class Counters:
    """What one serving process counts.

    Attributes:
        tally: Name of a metric and its labels -> the count.
    """

    def __init__(self, former: Mapping[tuple[str, ...], float] | None = None) -> None:
        self.tally: Counter[tuple[str, ...]] = Counter(former)

    def count(self, kind: str, status: int, seconds: float) -> None:
        """One request answered, and the time from its headers to its answer."""
        tally = self.tally
        tally["http_requests", kind, str(status)] += 1
        tally[_BUCKET, kind, _ENDS[bisect_left(BUCKETS_S, seconds)]] += 1
        tally[_SUM, kind] += seconds  # type: ignore[assignment]

    def answered(self, model: str, version: str, arm: str, verdict: str) -> None:
        """One prediction given, or refused by the guard."""
        self.tally["answers", model, version, arm, verdict] += 1

    def degraded(self, model: str, reason: str) -> None:
        """One prediction whose features lacked something."""
        self.tally["degraded", model, reason] += 1

    def found(self, model: str, codes: Iterable[str], policy: str) -> None:
        """What the guard found in one request, by the codes of its findings, and what became of it."""
        for kind in {code.partition(":")[0] for code in codes}:
            self.tally["guard_findings", model, kind, policy] += 1

    def pushed(self, table: str, kept: int, quarantined: int, warned: int) -> None:
        """Rows pushed; `warned` counts the rules that kept rows broke and that only warn."""
        self.tally["events", table, "warned"] += warned
        self.tally["events", table, "kept"] += kept
        self.tally["events", table, "quarantined"] += quarantined

    def swapped(self, model: str) -> None:
        """Other versions serve."""
        self.tally["swaps", model] += 1

    def shed(self) -> None:
        """One request refused before it was read."""
        self.tally["http_requests", "shed", "503"] += 1


def exposition(tallies: Iterable[Mapping[tuple[str, ...], float]], gauges: Gauges) -> bytes:
    """All metrics as text.

    Args:
        tallies: Of each worker; they are added up.
        gauges: What is measured now: name -> what it is, and its value or those by label.
    """
    total: Counter[tuple[str, ...]] = Counter()
    for tally in tallies:
        total.update(tally)
    registry = CollectorRegistry()
    registry.register(_Collected(total, gauges))
    return generate_latest(registry)


class _Collected(Collector):
    """Counts and gauges in the client library's words."""

    def __init__(self, total: Mapping[tuple[str, ...], float], gauges: Gauges) -> None:
        self._total, self._gauges = total, gauges

    def collect(self) -> Iterable[Metric]:
        """One family after another."""
        for name, (text, labels) in _FAMILIES.items():
            family = CounterMetricFamily(f"icekeel_{name}", text, labels=labels)
            for (metric, *key), number in self._total.items():
                if metric == name:
                    family.add_metric(key, number)
            yield family
        yield self._latency()
        for name, (text, value) in self._gauges.items():
            if isinstance(value, tuple):
                gauge = GaugeMetricFamily(f"icekeel_{name}", text, labels=value[0])
                for labelled, number in value[1].items():
                    gauge.add_metric(labelled, number)
                yield gauge
            else:
                yield GaugeMetricFamily(f"icekeel_{name}", text, value=value)

    def _latency(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "icekeel_http_seconds", "Time from a request's headers to its answer.", labels=["kind"]
        )
        for (metric, *kind), seconds in self._total.items():
            if metric == _SUM:
                total, cumulative = 0.0, []
                for end in _ENDS:
                    total += self._total.get((_BUCKET, *kind, end), 0)
                    cumulative.append((end, total))
                family.add_metric(kind, cumulative, seconds)
        return family
