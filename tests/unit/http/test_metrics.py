"""What `/metrics` says after a day's work, as Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from icekeel.testing.small import REQUEST, TRAINED_TO

from .conftest import Client


@pytest.fixture
def metrics(client: Client) -> str:
    """Every kind of thing that is counted has happened."""
    client.predict(dict(REQUEST))
    client.predict({"rows": [dict(REQUEST), {**REQUEST, "weight": 99}]})
    client.predict({})
    client.call("GET", '/no"such\npath\\')
    row = {"scan_id": "s1", "depot": "north", "backlog": 3.0, "scanned_at": TRAINED_TO}
    client.call("POST", "/v1/events/Scans", {"rows": [row, {}]})
    client.call("GET", "/healthz")
    got = client.call("GET", "/metrics")
    assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return got.body.decode()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt install prometheus"
)
def test_promtool_has_nothing_to_say(metrics: str) -> None:
    def check(text: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert check(metrics) == (0, "", "")
    assert check(metrics + "# TYPE badCounter counter\nbadCounter 1\n")[0] != 0


def test_every_metric_is_named_and_explained_as_prometheus_asks(metrics: str) -> None:
    families = list(text_string_to_metric_families(metrics))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) > 8
    for family in families:
        assert family.name.startswith("icekeel_") and family.name.islower()
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert (family.type == "counter") == (f"# TYPE {family.name}_total counter" in metrics)
        assert not family.name.endswith(("_ms", "_us", "_milliseconds", "_count", "_sum", "_bucket", "_info"))
        lines = [(one.name, tuple(sorted(one.labels.items()))) for one in family.samples]
        assert len(lines) == len(set(lines))
        for one in family.samples:
            assert one.value == one.value, one.name
            if family.type == "histogram":
                assert one.name.removeprefix(family.name) in ("_bucket", "_count", "_sum")


def test_buckets_grow_up_to_the_count(metrics: str) -> None:
    for family in text_string_to_metric_families(metrics):
        if family.type != "histogram":
            continue
        series: dict[tuple[tuple[str, str], ...], list[float]] = {}
        counts = {}
        for one in family.samples:
            labels = tuple(sorted((name, value) for name, value in one.labels.items() if name != "le"))
            if one.name.endswith("_bucket"):
                series.setdefault(labels, []).append(one.value)
            elif one.name.endswith("_count"):
                counts[labels] = one.value
        assert series
        assert all(
            values == sorted(values) and values[-1] == counts[labels] for labels, values in series.items()
        )


def test_no_value_of_a_request_is_a_label(metrics: str) -> None:
    """A label that callers choose would grow without end."""
    families = text_string_to_metric_families(metrics)
    labels = {value for family in families for one in family.samples for value in one.labels.values()}
    assert "predict" in labels
    assert not labels & {"north", "s1", *map(str, REQUEST.values())}
    assert "such" not in metrics
