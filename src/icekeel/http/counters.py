"""What the server counts, in Prometheus' text format."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Counters:
    """The metrics of one serving process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "icekeel_http_requests",
            "HTTP requests by kind and status.",
            ["kind", "status"],
            registry=self._registry,
        )
        self._answers = Counter(
            "icekeel_answers",
            "Answers by model, version, arm and verdict.",
            ["model", "version", "arm", "verdict"],
            registry=self._registry,
        )
        self._events = Counter(
            "icekeel_events", "Pushed rows by table and fate.", ["table", "fate"], registry=self._registry
        )
        self._swaps = Counter(
            "icekeel_swaps", "Changes of the serving versions.", ["model"], registry=self._registry
        )
        self._known_until = Gauge(
            "icekeel_known_until_seconds",
            "Availability of the newest event the features can see, Unix time.",
            registry=self._registry,
        )

    def count(self, path: str, status: int) -> None:
        """One request answered."""
        parts = path.split("/")
        kind = parts[2] if len(parts) > 2 and parts[2] in ("predict", "events", "status", "clock") else "page"
        self._requests.labels(kind, str(status)).inc()

    def answered(self, model: str, version: str, arm: str, verdict: str) -> None:
        """One prediction given."""
        self._answers.labels(model, version, arm, verdict).inc()

    def pushed(self, table: str, kept: int, quarantined: int) -> None:
        """Rows pushed."""
        self._events.labels(table, "kept").inc(kept)
        self._events.labels(table, "quarantined").inc(quarantined)

    def swapped(self, model: str) -> None:
        """Another version serves."""
        self._swaps.labels(model).inc()

    def text(self, status: dict[str, Any]) -> bytes:
        """All metrics as text."""
        self._known_until.set(status["keeper"]["known_until"] / 1e6)
        return generate_latest(self._registry)
