from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.errors import SettingsError
from icekeel.core.time import DAY, HOUR
from icekeel.experiments import Arm, Arms
from icekeel.http import serve
from icekeel.http.admission import overload
from icekeel.journal import Predicted, Pushed, Quarantined, Ticked
from icekeel.registry import Registry
from icekeel.serving import Router
from icekeel.settings import Settings
from icekeel.testing.small import REQUEST, TRAINED_TO, train_small

from .conftest import NOW, Client

Start = Callable[..., Client]
SCAN = {"scan_id": "s1", "depot": "north", "backlog": 3.0, "scanned_at": TRAINED_TO}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in REQUEST.items() if key != name}


def test_an_answer_says_what_the_journal_says(client: Client) -> None:
    got = client.predict(dict(REQUEST))
    assert got.status == 200
    (entry,) = client.journaled(Predicted)
    assert got.json["prediction_id"] == entry.id
    assert (got.json["prediction"], got.json["version"]) == (entry.answer, "late-1")
    assert (entry.at, entry.request, entry.share) == (NOW, REQUEST, 1.0)
    assert entry.features["delivered_1d"] > 0
    assert got.json["action"] in ("warn", "none")
    assert got.json["features_age_s"] == pytest.approx(
        (NOW - client.server.service.state().known_until) / 1e6
    )


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({**REQUEST, "parcel": "x"}, ["unknown_field"]),
        ({}, ["missing_field"] * 3),
        ({**without("depot"), "service": 3, "weight": True}, ["missing_field", "wrong_type", "wrong_type"]),
        ({**REQUEST, "service": "expres", "weight": 51}, ["not_allowed", "out_of_range"]),
        ({**REQUEST, "weight": 10**400}, ["wrong_type"]),
        ({**REQUEST, "depot": "x" * 10_001}, ["wrong_type"]),
        ({**REQUEST, "depot": {"deep": [1, {"er": 2}]}}, ["wrong_type"]),
        ({**REQUEST, "asked_at": NOW}, ["clock_refused"]),
        ([], ["not_an_object"]),
        (None, ["not_json"]),
        ("text", ["not_an_object"]),
        ({"rows": []}, ["bad_batch"]),
        ({"rows": [dict(REQUEST)] * 1_001}, ["bad_batch"]),
        ({"rows": [dict(REQUEST)], "row": 1}, ["unknown_field"]),
    ],
)
def test_a_faulty_request_is_told_every_fault(client: Client, body: Any, codes: list[str]) -> None:
    got = client.predict(body)
    assert got.codes == codes
    assert got.status == (400 if codes == ["not_json"] else 422)
    assert got.headers["content-type"] == "application/problem+json"
    assert got.json["status"] == got.status
    assert client.journaled(Predicted) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"weight": NaN}', "not_json"),
        (b'{"weight": Infinity}', "not_json"),
        (b'{"weight": 1e999}', "not_json"),
        (b'{"weight": ' + b"9" * 5_000 + b"}", "not_json"),
        (b'{"depot": "\xff"}', "not_json"),
        (b'{"depot": "\\ud800"}', "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
        (b'{"depot": ' + b"[" * 64 + b"]" * 64 + b"}", "too_deep"),
        (b'{"depot": "north"', "not_json"),
        (b'{"weight": 1, "weight": 2}', "duplicate_key"),
        (b'{"rows": [{"weight" : 1, "weight":2, "depot": "a"}]}', "duplicate_key"),
        (b'{"weight": 1, "depot": {"a": 1, "a": 2}}', "duplicate_key"),
    ],
)
def test_broken_json_is_400(client: Client, body: bytes, code: str) -> None:
    got = client.call("POST", "/v1/predict/late", body)
    assert (got.status, got.codes) == (400, [code])
    assert client.journaled(Predicted) == []


def test_colons_in_texts_and_times_are_no_members(client: Client) -> None:
    assert client.predict({**REQUEST, "parcel_id": "a:b::"}).status == 200


def test_a_body_has_a_largest_size_however_it_comes(client: Client) -> None:
    big = b" " * 10_000_000
    assert client.call("POST", "/v1/predict/late", b"", content_length=str(len(big))).status == 413
    got = client.call("POST", "/v1/predict/late", b"", chunks=[big[:600_000], big[:600_000], big])
    assert (got.status, got.codes) == (413, ["too_large"])


def test_a_body_that_does_not_arrive_is_given_up(client: Client) -> None:
    got = client.call("POST", "/v1/predict/late", b"", chunks=[b"..."])
    assert (got.status, got.headers["connection"]) == (408, "close")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_content_is_not_read(client: Client, kind: str) -> None:
    got = client.call("POST", "/v1/predict/late", dict(REQUEST), content_type=kind)
    assert (got.status, got.codes) == (415, ["wrong_content"])
    zipped = client.call("POST", "/v1/predict/late", dict(REQUEST), content_encoding="gzip")
    assert zipped.status == 415


def test_json_may_name_its_encoding(client: Client) -> None:
    kind = "Application/JSON; charset=utf-8"
    assert client.call("POST", "/v1/predict/late", dict(REQUEST), content_type=kind).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/predict/late", "POST"),
        ("HEAD", "/v1/clock", "POST"),
        ("POST", "/v1/status", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("OPTIONS", "/v1/events/Scans", "POST"),
    ],
)
def test_a_wrong_method_names_the_right_one(client: Client, method: str, path: str, allow: str) -> None:
    got = client.call(method, path)
    assert (got.status, got.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("path", "code", "hint"),
    [
        ("/v1/predict/latex", "unknown_model", 'did you mean "late"?'),
        ("/v1/events/Scan", "unknown_table", 'did you mean "Scans"?'),
        ("/v1/nothing", "unknown_path", None),
        ("/v1/predict/late/", "unknown_model", 'did you mean "late"?'),
    ],
)
def test_an_unknown_path_is_404(client: Client, path: str, code: str, hint: str | None) -> None:
    got = client.call("POST", path, {})
    assert (got.status, got.codes) == (404, [code])
    assert got.json["faults"][0].get("hint") == hint


def test_head_is_answered_like_get(client: Client) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/status", "/v1/openapi.json"):
        assert client.call("HEAD", path).status == client.call("GET", path).status == 200, path


def test_one_bad_row_does_not_spoil_a_batch(client: Client) -> None:
    got = client.predict({"rows": [dict(REQUEST), {}, "x", {**REQUEST, "parcel_id": "b"}]})
    first, empty, text, last = got.json["answers"]
    assert [fault["code"] for fault in empty["faults"]] == ["missing_field"] * 3
    assert text["faults"][0]["code"] == "not_an_object"
    ids = [entry.id for entry in client.journaled(Predicted)]
    assert [first["prediction_id"], last["prediction_id"]] == ids


# Who may


def test_names_that_are_not_ours_are_refused(client: Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:8000", ""):
        assert client.call("GET", "/v1/status", host=host).status == 421, host
    for host in ("localhost", "LOCALHOST:9", "[::1]:8000", "127.0.0.1"):
        assert client.call("GET", "/v1/status", host=host).status == 200, host


def test_a_configured_host_is_ours_and_every_name_is_where_every_address_is(start: Start) -> None:
    named, everywhere = start(host="keel.internal"), start(host="0.0.0.0")
    assert named.call("GET", "/v1/status", host="keel.internal:80").status == 200
    assert named.call("GET", "/v1/status", host="other.internal").status == 421
    assert everywhere.call("GET", "/v1/status", host="any.name").status == 200


def test_pages_of_other_sites_change_nothing(client: Client) -> None:
    got = client.call("POST", "/v1/predict/late", dict(REQUEST), origin="http://evil.example")
    assert (got.status, got.codes) == (403, ["wrong_origin"])
    assert client.call("POST", "/v1/predict/late", dict(REQUEST), origin="null").status == 403
    own = client.call("POST", "/v1/predict/late", dict(REQUEST), origin="http://127.0.0.1:8000")
    assert own.status == 200


def test_tokens_and_scopes(client: Client) -> None:
    reader = client.server.service.app.access().create("reader", ("read",))
    client.server.service.refresh()
    missing = client.call("GET", "/v1/status", authorization="")
    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert client.call("GET", "/v1/status", authorization="Bearer ik_wrong").status == 401
    assert client.call("GET", "/v1/status", authorization="Bearer \xff\xfe").status == 401
    assert client.call("GET", "/v1/status", authorization=f"Bearer {reader}").status == 200
    denied = client.call("POST", "/v1/predict/late", dict(REQUEST), authorization=f"Bearer {reader}")
    assert (denied.status, denied.codes) == (403, ["wrong_scope"])
    assert client.journaled(Predicted) == []


def test_pages_are_open_on_loopback_only(start: Start) -> None:
    near, far = start(), start(host="0.0.0.0")
    for path in ("/", "/metrics", "/v1/openapi.json"):
        assert near.call("GET", path, authorization="").status == 200
        assert far.call("GET", path, authorization="").status == 401
        assert far.call("GET", path).status == 200
    assert far.call("GET", "/healthz", authorization="").status == 200


def test_a_request_id_is_passed_back_if_it_is_one(client: Client) -> None:
    assert client.call("GET", "/healthz", x_request_id="a-1").headers["x-request-id"] == "a-1"
    assert "x-request-id" not in client.call("GET", "/healthz", x_request_id="a\r\nset-cookie: b").headers


def test_the_trace_of_a_request_is_in_the_journal_and_in_its_answer(client: Client) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    got = client.call(
        "POST", "/v1/predict/late", dict(REQUEST), traceparent=f"00-{trace}-00f067aa0ba902b7-01"
    )
    assert got.headers["traceresponse"].startswith(f"00-{trace}-")
    client.call("POST", "/v1/predict/late", dict(REQUEST), x_request_id="a-1")
    client.predict(dict(REQUEST))
    assert [record.trace for record in client.journaled(Predicted)] == [trace, "a-1", ""]


def test_load_is_shed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late() -> None:
        raise overload()

    monkeypatch.setattr(client.server.admission, "turn", late)
    got = client.predict(dict(REQUEST))
    assert (got.status, got.codes, got.headers["retry-after"]) == (503, ["overload"], "1")
    assert client.call("GET", "/healthz").status == 200
    assert client.journaled(Predicted) == []


# Features


ONLINE, HISTORICAL = "/v1/features/late/online", "/v1/features/late/historical"


def test_features_of_now_are_those_an_answer_is_made_of(client: Client) -> None:
    assert client.predict(dict(REQUEST)).status == 200
    (entry,) = client.journaled(Predicted)
    got = client.call("POST", ONLINE, {"rows": [dict(REQUEST), {}, "x"]})
    first, empty, text = got.json["rows"]
    assert first["features"] == entry.features
    assert (first["asked_at"], first["degraded"]) == (NOW, [])
    assert first["features_age_s"] == pytest.approx((NOW - client.server.service.state().known_until) / 1e6)
    assert [(fault["code"], fault["where"]) for fault in empty["faults"]] == [
        ("missing_field", f"rows[1].{name}") for name in ("depot", "service")
    ]
    assert text["faults"][0]["code"] == "not_an_object"
    assert len(client.journaled(Predicted)) == 1


def test_features_of_then_are_those_of_now(client: Client) -> None:
    names = ["late_1d", "backlog", "depot"]
    body: dict[str, Any] = {"rows": [{"depot": "north"}, {"depot": "never seen"}], "features": names}
    now = client.call("POST", ONLINE, body).json["rows"]
    rows = [
        {**row, "asked_at": at} for row, at in zip(body["rows"], (NOW, "2024-03-01T00:00:30Z"), strict=True)
    ]
    then = client.call("POST", HISTORICAL, {"rows": rows, "features": names}).json["rows"]
    assert [list(one["features"]) for one in then] == [names] * 2
    for name in names[:2]:
        assert then[0]["features"][name] == pytest.approx(now[0]["features"][name], rel=1e-12)
    assert then[1]["features"] == {"late_1d": None, "backlog": None, "depot": "never seen"}
    assert then[0]["features"]["late_1d"] is not None


BAD_FEATURES: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("both", {}, [("bad_batch", "rows")]),
    ("both", [], [("bad_batch", "rows")]),
    ("both", {"rows": []}, [("bad_batch", "rows")]),
    ("both", {"rows": {}}, [("bad_batch", "rows")]),
    ("both", {"rows": [{}], "a": 1, "b": 2}, [("unknown_field", "")] * 2),
    ("both", {"rows": [{}], "features": "late_1d"}, [("wrong_type", "features")]),
    ("both", {"rows": [{}], "features": [1]}, [("wrong_type", "features")]),
    ("both", {"rows": [{}], "features": []}, [("no_features", "features")]),
    ("both", {"rows": [{}], "features": ["x", "late1d"]}, [("unknown_feature", "features")] * 2),
    (ONLINE, {"rows": [{}] * 1_001}, [("bad_batch", "rows")]),
    (ONLINE, {"rows": [{}], "asked_at": NOW}, [("clock_refused", "asked_at")]),
    (HISTORICAL, {"rows": [{}] * 10_001}, [("bad_batch", "rows")]),
    (HISTORICAL, {"rows": [{}], "asked_at": NOW}, [("unknown_field", "")]),
    (
        HISTORICAL,
        {"rows": [{"depot": 5, "asked_at": "soon", "x": 1}, {}], "features": ["depot"]},
        [
            ("wrong_type", "rows[0].depot"),
            ("bad_time", "rows[0].asked_at"),
            ("unknown_field", "rows[0]"),
            ("missing_field", "rows[1].depot"),
            ("missing_field", "rows[1].asked_at"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        (path, body, wanted)
        for paths, body, wanted in BAD_FEATURES
        for path in ((ONLINE, HISTORICAL) if paths == "both" else (paths,))
    ],
)
def test_a_faulty_question_for_features_is_told_every_fault(
    client: Client, path: str, body: Any, wanted: list[tuple[str, str]]
) -> None:
    got = client.call("POST", path, body)
    assert got.status == 422
    assert [(fault["code"], fault.get("where", "")) for fault in got.json["faults"]] == wanted


def test_an_unknown_model_has_no_features(client: Client) -> None:
    got = client.call("POST", "/v1/features/lat/online", {})
    assert (got.status, got.codes) == (404, ["unknown_model"])
    assert (got.json["faults"][0]["allowed"], got.json["faults"][0]["hint"]) == (
        "late",
        'did you mean "late"?',
    )


def test_slow_questions_are_bounded_and_hold_up_nothing_else(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(*_: Any) -> list[Any]:
        begun.release()
        assert go_on.wait(30)
        return [{}]

    monkeypatch.setattr(client.server.service.store, "historical_rows", slow)
    body = {"rows": [{"asked_at": NOW}]}
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.call, "POST", HISTORICAL, body) for _ in range(2)]
        for _ in waiting:
            assert begun.acquire(timeout=30)
        shed = client.call("POST", HISTORICAL, body)
        assert (shed.status, shed.codes, shed.headers["retry-after"]) == (503, ["overload"], "1")
        assert client.call("POST", ONLINE, {"rows": [dict(REQUEST)]}).status == 200
        go_on.set()
        assert [got.result(30).status for got in waiting] == [200, 200]
    assert client.call("POST", HISTORICAL, body).status == 200


# Events


def test_rows_are_kept_or_set_aside(client: Client) -> None:
    rows = [
        SCAN,
        {**SCAN, "backlog": -1},
        {**SCAN, "backlog": 2**70, "more": [2**70]},
        7,
        {**SCAN, "scan_id": "s2"},
    ]
    got = client.call("POST", "/v1/events/Scans", {"rows": rows})
    assert (got.status, got.json["kept"]) == (200, 2)
    assert [one["row"] for one in got.json["quarantined"]] == [1, 2, 3]
    (pushed,), (aside,) = client.journaled(Pushed), client.journaled(Quarantined)
    assert [row["scan_id"] for row in pushed.rows] == ["s1", "s2"]
    assert [row["booked_at"] for row in pushed.rows] == [NOW, NOW]
    assert aside.rows[0].row == rows[1]
    assert str(2**70) in aside.rows[1].row["json"]
    assert aside.rows[2].row == {"value": 7}


def test_events_are_deleted_by_id(client: Client) -> None:
    got = client.call("POST", "/v1/events/Scans", {"rows": [SCAN], "delete": ["s1", 7, "s0"]})
    assert (got.json["kept"], got.json["deleted"]) == (1, 2)
    ((wrong),) = got.json["quarantined"]
    assert (wrong["delete"], wrong["faults"][0]["where"]) == (1, "delete[1].scan_id")
    (pushed,) = client.journaled(Pushed)
    assert [(row["scan_id"], row.get("_deleted")) for row in pushed.rows] == [
        ("s1", None),
        ("s1", 1.0),
        ("s0", 1.0),
    ]
    assert client.call("POST", "/v1/events/Scans", {"delete": ["s1"]}).json["deleted"] == 1


def test_what_has_not_happened_is_set_aside(client: Client) -> None:
    got = client.call("POST", "/v1/events/Scans", {"rows": [{**SCAN, "scanned_at": NOW + HOUR}]})
    assert [fault["code"] for fault in got.json["quarantined"][0]["faults"]] == ["in_the_future"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rows": []},
        {"rows": "x"},
        {"rows": [SCAN], "at": 1},
        [],
        {"rows": [{}] * 10_001},
        {"delete": "s1"},
        {"delete": {}},
        {"rows": [], "delete": []},
    ],
)
def test_a_push_without_rows_is_refused(client: Client, body: Any) -> None:
    assert client.call("POST", "/v1/events/Scans", body).status == 422
    assert client.journaled(Pushed) == client.journaled(Quarantined) == []


# The clock


def test_the_clock_is_not_the_callers(client: Client) -> None:
    got = client.call("POST", "/v1/clock", {"now": NOW})
    assert (got.status, got.codes) == (422, ["clock_refused"])


def test_a_rehearsal_sets_the_time(start: Start) -> None:
    client = start(rehearsal=True)
    assert client.call("POST", "/v1/clock", {"now": "2024-03-02"}).status == 200
    assert [tick.at for tick in client.journaled(Ticked)] == [TRAINED_TO + DAY]
    wrong: list[Any] = ["soon", 1.5, None, 2**70, [], True]
    for bad in wrong:
        got = client.call("POST", "/v1/clock", {"now": bad})
        assert (got.status, got.json["faults"][0]["where"]) == (422, "now"), bad
        assert client.predict({**REQUEST, "asked_at": bad}).codes == ["bad_time"]
    assert client.predict({**REQUEST, "asked_at": TRAINED_TO + HOUR}).status == 200
    assert client.predict({"rows": [dict(REQUEST)], "asked_at": TRAINED_TO}).status == 200
    assert [entry.at for entry in client.journaled(Predicted)] == [TRAINED_TO + HOUR, TRAINED_TO]


def test_a_version_whose_guard_reads_a_field_that_is_gone_does_not_serve(client: Client) -> None:
    """Else every request would be refused by a server that says it is ready."""
    app, registry = client.server.service.app, client.server.service.registry
    for gone, serves in ((0, True), (1, False)):
        plan = app.plans["late"]
        left = dataclasses.replace(plan, fields=plan.fields[: len(plan.fields) - gone])
        router = Router("late", registry, app.places.bundles, left)
        router.refresh()
        assert (router.current.champion is not None) is serves
    assert '"weight"' in (router.current.problems or {})["champion"]


@pytest.mark.parametrize("page", ["/", "/trace/{id}"])
def test_a_page_can_run_nothing_and_stands_in_no_frame(client: Client, page: str) -> None:
    head = client.call("GET", page.format(id=client.predict(REQUEST).json["prediction_id"])).headers
    assert head["content-security-policy"].startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in head["content-security-policy"]
    assert "script" not in head["content-security-policy"]
    assert (head["x-content-type-options"], head["cache-control"]) == ("nosniff", "no-store")


@pytest.mark.parametrize("path", ["/v1/answers/{id}", "/v1/explain/{id}", "/v1/trace/{id}", "/trace/{id}"])
def test_who_may_ask_does_not_see_why_it_was_answered_so(client: Client, path: str) -> None:
    identifier = client.predict(REQUEST).json["prediction_id"]
    for scope in ("predict", "ingest", "outcome", "review"):
        token = client.server.service.access.create(scope, (scope,))
        for given in ("", f"Bearer {token}"):
            got = client.call("GET", path.format(id=identifier), authorization=given)
            assert got.status == (403 if given else 401), got.body


def test_a_browser_may_look_at_a_page_with_a_token_as_password_and_do_nothing_else(client: Client) -> None:
    identifier = client.predict(REQUEST).json["prediction_id"]
    basic = "Basic " + b64encode(f"ann:{client.token}".encode()).decode()
    asked = client.call("GET", f"/trace/{identifier}", authorization="")
    assert (asked.status, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    assert client.call("GET", f"/trace/{identifier}", authorization=basic).status == 200
    for wrong in ("Basic", "Basic %", "Basic " + b64encode(b"ann:ik_wrong").decode()):
        assert client.call("GET", f"/trace/{identifier}", authorization=wrong).status == 401
    assert client.call("GET", f"/v1/trace/{identifier}", authorization=basic).status == 401
    assert client.call("POST", "/v1/predict/late", dict(REQUEST), authorization=basic).status == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example"])
def test_a_server_that_others_reach_does_not_start_without_tokens(trained: Path, host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        serve(App(trained, Settings(host=host, port=0, auth=False)))
    assert caught.value.code == "open_to_all"


# What fails


def test_nothing_is_answered_unlogged(client: Client) -> None:
    client.server.service.journal.close()
    for body in (dict(REQUEST), {"rows": [dict(REQUEST)]}):
        got = client.predict(body)
        assert (got.status, got.headers["retry-after"]) == (503, "1")
    assert client.call("POST", "/v1/events/Scans", {"rows": [SCAN]}).status == 503
    assert client.call("GET", "/readyz").status == 503
    assert client.call("GET", "/healthz").status == 200


def test_a_server_that_answers_unlogged_is_ready(start: Start) -> None:
    def answer_unlogged(folder: Path) -> None:
        project = folder / "project.py"
        project.write_text(
            project.read_text().replace("    retrain=", "    unlogged=ik.mark(),\n    retrain=")
        )

    client = start(answer_unlogged)
    client.server.service.journal.close()
    assert client.predict(dict(REQUEST)).json["degraded"][-1] == "unlogged"
    assert client.call("POST", "/v1/events/Scans", {"rows": [SCAN]}).status == 503
    assert client.call("GET", "/readyz").status == 200


def test_a_damaged_version_is_refused_and_told(start: Start) -> None:
    client = start()
    folder = client.folder
    train_small(folder, rung="lightgbm")
    with_app = App(folder)
    registry = with_app.registry()
    second = registry.versions("late")[-1]
    file = folder / ".icekeel" / "bundles" / second.digest[:16] / "model.txt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"~")
    registry.set_alias("late", "champion", second.name, reason="test", by="test", override="test")
    registry.close()
    client.server.service.refresh()
    assert client.predict(dict(REQUEST)).json["version"] == "late-1"
    status = client.call("GET", "/v1/status").json
    assert status["models"]["late"]["champion"] == "late-1"
    assert "a file has changed" in status["models"]["late"]["problems"]["champion"]
    ready = client.call("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["degraded"] == ["late, champion: its version cannot be loaded"]
    file.write_bytes(whole)
    for _ in range(25):
        client.server.service.refresh()
    assert client.predict(dict(REQUEST)).json["version"] == second.name
    assert client.call("GET", "/v1/status").json["models"]["late"]["problems"] == {}


def test_without_the_registry_it_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Registry) -> int:
        raise OSError("the registry is away")

    monkeypatch.setattr(Registry, "changed", gone)
    client.server.service.refresh()
    assert client.predict(dict(REQUEST)).status == 200
    assert client.call("GET", "/readyz").json["degraded"] == ["registry: it cannot be followed"]
    (problem,) = client.call("GET", "/v1/status").json["problems"]
    assert "the registry is away" in problem
    monkeypatch.undo()
    client.server.service.refresh()
    assert client.call("GET", "/readyz").json["degraded"] == []


def test_without_online_state_it_starts_and_says_so(start: Start) -> None:
    def take_away(folder: Path) -> None:
        os.rename(folder / ".icekeel" / "online", folder / "away")

    client = start(take_away)
    got = client.predict(dict(REQUEST))
    assert (got.status, got.codes) == (503, ["no_online_state"])
    got = client.call("POST", ONLINE, {"rows": [dict(REQUEST)]})
    assert (got.status, got.codes, got.headers["retry-after"]) == (503, ["no_online_state"], "1")
    assert got.json["faults"][0]["hint"].startswith("is the keeper running? icekeel up starts it")
    then = {"rows": [{**REQUEST, "asked_at": NOW}]}
    assert client.call("POST", HISTORICAL, then).status == 200
    assert client.call("GET", "/readyz").status == 503
    assert client.call("GET", "/v1/status").status == client.call("GET", "/").status == 200
    os.rename(client.folder / "away", client.folder / ".icekeel" / "online")
    client.server.service.refresh()
    assert client.predict(dict(REQUEST)).status == 200


def test_online_state_made_anew_is_read(client: Client) -> None:
    online = client.folder / ".icekeel" / "online"
    shutil.copytree(online, client.folder / "copy")
    shutil.rmtree(online)
    os.rename(client.folder / "copy", online)
    client.server.service.refresh()
    client.server.service.refresh()
    assert client.predict(dict(REQUEST)).status == 200


def test_a_keeper_that_stopped_is_told(start: Start) -> None:
    client = start()
    assert client.call("GET", "/readyz").json["degraded"] == []
    client.server.service.app.clock = lambda: NOW + HOUR
    assert "keeper: behind by 3,6" in client.call("GET", "/readyz").json["degraded"][0]


def test_an_unforeseen_error_is_a_500_that_tells_where_to_look(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client.server.service.intake, "push", lambda *_: 1 / 0)
    got = client.call("POST", "/v1/events/Scans", {"rows": [SCAN]})
    assert (got.status, got.codes) == (500, ["internal"])
    (line,) = [record for record in caplog.records if record.message == "request_failed"]
    assert vars(line)["id"] in got.json["detail"]


def test_the_version_of_a_challenger_answers_its_units(client: Client) -> None:
    train_small(client.folder, baseline=True)
    client.server.service.refresh()
    alias = client.server.service.registry.aliases("late")["challenger"]
    arms = Arms(alias.salt, (Arm("champion", 1 - alias.share), Arm("challenger", alias.share)))
    answers = {name: client.predict({**REQUEST, "parcel_id": name}).json for name in "abcdefgh"}
    assert {answer["arm"] for answer in answers.values()} == {"champion", "challenger"}
    assert all(answer["arm"] == arms.assign(name).arm for name, answer in answers.items())
    assert all(
        (answer["version"] == "late-2") is (answer["arm"] == "challenger") for answer in answers.values()
    )


def test_experiments_split_and_in_shadow_are_listed(client: Client) -> None:
    train_small(client.folder, baseline=True)
    registry = client.server.service.registry
    page = client.call("GET", "/experiments")
    assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"1 running, 0 over" in page.body
    why: Any = {"reason": "withdrawn", "by": "ann", "at": TRAINED_TO + HOUR}
    registry.drop_alias("late", "challenger", **why)
    registry.set_alias("late", "shadow", "late-2", share=0.0, **why)
    page = client.call("GET", "/experiments")
    assert b"1 running, 1 over" in page.body
    assert b"in shadow" in page.body
