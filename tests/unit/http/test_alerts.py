"""The pages about alerts, their forms, and what Prometheus and Grafana are given."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from icekeel.app import App
from icekeel.core.time import HOUR
from icekeel.operations.alerts.prometheus import write_files
from icekeel.operations.monitors.monitor import monitor
from icekeel.registry import Alert, Delivery, Registry
from icekeel.testing.small import REQUEST, keep_up
from tests.unit.http.conftest import NOW, Client

HOSTILE = "</p><script>alert(1)</script>"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def registry(client: Client) -> Registry:
    registry = client.server.service.registry
    series = {
        "name": "load",
        "at": [NOW - n * HOUR for n in range(9, 0, -1)],
        "values": [1.0] * 6 + [4.0] * 3,
    }
    evidence = {
        "title": "Scans: late", "sentences": [f"nothing for 30 min {HOSTILE}"], "diagnosis": "bad data", "since": NOW - 3 * HOUR,
        "reckoning": "at the most $120 a day.", "series": {**series, "low": 0.5, "high": 1.5}, "examples": ["0123abc"],
    }  # fmt: skip
    registry.record(
        Alert(
            id="a1b2",
            at=NOW,
            model="late",
            cause="source Scans",
            todo="look at the feed",
            cost=120.0,
            evidence=evidence,
        )
    )
    registry.delivered(
        Delivery(
            message="m",
            channel="https://hook/...",
            event="opened",
            status="failed",
            alerts=["a1b2"],
            at=NOW,
            note="HTTP status 500",
        )
    )
    return registry


def send(client: Client, token: str, **fields: str) -> Any:
    body = urlencode({"token": token, "reason": "known", **fields}).encode()
    return client.call("POST", "/alerts/a1b2", body, content_type=FORM)


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="(\w+)"', page)
    assert found
    return found[1]


@pytest.mark.usefixtures("registry")
def test_the_page_of_an_alert_shows_all_that_is_known_and_runs_nothing(client: Client) -> None:
    got = client.call("GET", "/alerts/a1b2")
    page = got.body.decode()
    for text in (
        "Scans: late",
        "look at the feed",
        "at the most $120 a day.",
        "bad data",
        'href="/trace/0123abc"',
        "HTTP status 500",
        "seems to begin",
    ):
        assert text in page, text
    assert "<script" not in page
    assert "form-action 'self'" in got.headers["content-security-policy"]
    listed = client.call("GET", "/alerts")
    assert 'href="/alerts/a1b2"' in listed.body.decode()
    assert "form-action 'none'" in listed.headers["content-security-policy"]
    assert client.call("GET", "/alerts/nope").status == 404


def test_a_form_changes_the_alert_and_names_who_did(client: Client, registry: Registry) -> None:
    token = token_of(client.call("GET", "/alerts/a1b2").body.decode())
    got = send(client, token, action="muted", hours="24")
    assert (got.status, got.headers["location"]) == (303, "/alerts/a1b2")
    (change,) = registry.alert("a1b2").changes
    assert (change.state, change.by, change.until) == ("muted", "token test", NOW + 24 * HOUR)
    assert send(client, token, action="resolved").status == 303
    assert registry.alert("a1b2").state(NOW) == "resolved"
    assert "<form" not in client.call("GET", "/alerts/a1b2").body.decode()
    again = send(client, token, action="acknowledged")  # from a page that was open before
    assert (again.status, again.codes) == (409, ["already_resolved"])


def test_a_form_that_is_not_ours_changes_nothing(client: Client, registry: Registry) -> None:
    token = token_of(client.call("GET", "/alerts/a1b2").body.decode())
    for wrong in ("", "0" * 64, "é"):
        assert send(client, wrong, action="resolved").codes == ["wrong_form_token"]
    registry.record(Alert(id="c3", at=NOW, model="late", cause="prediction", todo="look"))
    body = urlencode({"token": token, "action": "resolved", "reason": "r"}).encode()
    assert client.call("POST", "/alerts/c3", body, content_type=FORM).status == 403  # of another alert
    other = client.server.service.app.access().create("other", ("read",))
    assert client.call(
        "POST", "/alerts/a1b2", body, content_type=FORM, authorization=f"Bearer {other}"
    ).status in (401, 403)
    assert (
        client.call("POST", "/alerts/a1b2", body, content_type=FORM, origin="https://evil.example").status
        == 403
    )
    assert client.call("POST", "/alerts/a1b2", {"token": token}).status == 415
    faulty = send(client, token, action="closed", hours="99999", reason=" ", more="x")
    assert (faulty.status, faulty.codes) == (422, ["bad_form"] * 4)
    assert client.call("POST", "/alerts/a1b2", b"token=a&token=b", content_type=FORM).codes == ["bad_form"]
    assert registry.alert("a1b2").changes == ()
    assert (client.folder / ".icekeel" / "forms.key").stat().st_mode & 0o777 == 0o600


def test_metrics_tell_of_alerts(client: Client, registry: Registry) -> None:
    text = client.call("GET", "/metrics").body.decode()
    assert 'icekeel_alerts_open{model="late",severity="major"} 1.0' in text
    assert 'icekeel_alerts_open{model="late",severity="critical"} 0.0' in text
    assert 'icekeel_alerts_usd_per_day{model="late"} 120.0' in text
    assert 'icekeel_training_blocked{model="late"} 1.0' in text
    assert "icekeel_notices_undelivered 1.0" in text
    registry.resolve("a1b2", resolution="r", at=NOW)
    assert (
        'icekeel_alerts_open{model="late",severity="major"} 0.0'
        in client.call("GET", "/metrics").body.decode()
    )


def test_rules_and_dashboard_name_only_what_there_is(
    client: Client, registry: Registry, tmp_path: Path
) -> None:
    rules, dashboard = write_files(tmp_path / "out")
    families = list(text_string_to_metric_families(client.call("GET", "/metrics").body.decode()))
    # A counter is `_total` and a histogram has `_bucket`, whether or not anything has been counted yet.
    there = {
        f"{one.name}{end}"
        for one in families
        for end in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(one.type, ("",))
    }
    board = json.loads(dashboard.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = set(re.findall(r"icekeel_\w+", "\n".join([rules.read_text(), *asked])))
    assert len(named) > 12
    assert named <= there, named - there
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt install prometheus"
)
def test_promtool_accepts_the_rules_and_they_fire(tmp_path: Path) -> None:
    rules, _ = write_files(tmp_path)
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert (done.returncode, "11 rules found" in done.stdout) == (0, True), done.stderr
    (tmp_path / "test.yml").write_text(
        f"""
rule_files: [{rules.name}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: icekeel_keeper_lag_seconds
        values: 5 5 120x20
      - series: icekeel_alerts_open{{model="late",severity="critical"}}
        values: 0x5 1x20
      - series: up{{job="icekeel"}}
        values: 1x30
    alert_rule_test:
      - {{eval_time: 1m, alertname: IcekeelKeeperBehind, exp_alerts: []}}
      - eval_time: 10m
        alertname: IcekeelCostlyAlert
        exp_alerts:
          - exp_labels: {{severity: page, model: late}}
            exp_annotations:
              summary: "late: an open alert costs $1,000 a day or more"
              todo: icekeel alerts list --open
"""
    )
    fired = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert fired.returncode == 0, fired.stdout + fired.stderr


def test_metrics_tell_how_near_the_detectors_are(client: Client) -> None:
    for _ in range(5):
        assert client.predict(dict(REQUEST)).status == 200
    service, app = client.server.service, App(client.folder, clock=lambda: NOW + HOUR)
    service._connect(None)  # a process opens the environment once
    keep_up(app)
    service.follow_files()
    assert service._online is not None
    families = text_string_to_metric_families(client.call("GET", "/metrics").body.decode())
    (family,) = [one for one in families if one.name == "icekeel_detector_evidence"]
    shares = {one.labels["kind"]: one.value for one in family.samples}
    with closing(app.registry()) as registry:
        told = monitor(app.workspace, registry, "late", service._online, NOW + HOUR)
    seen = [row for row in told["series"] if not row["blind"]]
    assert {row["change"] for row in seen} <= set(shares)
    assert shares and all(share >= 0 for share in shares.values())
    for kind in {row["change"] for row in seen}:
        most = max(row["evidence"] / row["bar"] for row in seen if row["change"] == kind)
        assert shares[kind] == pytest.approx(most)
