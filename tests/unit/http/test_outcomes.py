"""What came of answers, told over HTTP; and answers found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.ids import new_id
from icekeel.core.time import HOUR
from icekeel.journal import Predicted, Pushed, Quarantined
from icekeel.operations.projections.projections import AnswerProjection
from icekeel.testing.small import REQUEST, TRAINED_TO

from .conftest import NOW, Client

Start = Callable[..., Client]
LATE = {"depot": "north", "minutes_late": 40.0, "delivered_at": NOW + 60_000_000}


def answered(client: Client, parcel: str = "new") -> str:
    return str(client.predict({**REQUEST, "parcel_id": parcel}).json["prediction_id"])


def tell(client: Client, *rows: Any, **others: Any) -> Any:
    got = client.call("POST", "/v1/outcomes", {"rows": list(rows), **others})
    assert got.status == 200, got.body
    return got.json


def keep(client: Client) -> dict[str, Any]:
    """What the keeper makes of it all; the server reads the same environment in the end."""
    client.server.service._connect(None)
    app = App(client.folder, clock=lambda: NOW)
    registry = app.registry()
    with app.journal("keep") as journal:
        keeper = app.keeper(registry, journal)
        while keeper.step():
            pass
        answers: AnswerProjection = keeper._answers["late"]
        with keeper._online.begin() as txn:
            found = {row.id: (row.target, row.settled_at) for row in answers.settled(txn, 0, NOW + 10**15)}
        keeper.close()
    registry.close()
    client.server.service._connect(client.server.service.app.online(readonly=True))
    return found


def told_of(client: Client, one: str) -> list[float | None]:
    """What each version of an answer's outcome says; None of its deletion."""
    versions = client.call("GET", f"/v1/trace/{one}").json["outcome"]["versions"]
    return [said["fields"] and said["fields"]["minutes_late"] for said in versions]


@pytest.mark.parametrize("projected", [False, True], ids=["before its answer is projected", "after"])
def test_an_outcome_is_told_by_the_id_alone(client: Client, projected: bool) -> None:
    one = answered(client)
    if projected:
        keep(client)
    told = tell(client, {"prediction_id": one, **LATE})
    assert told == {"kept": 1, "deleted": 0, "quarantined": []}
    (entry,) = client.journaled(Pushed)
    assert (entry.table, entry.rows) == ("Deliveries", [{"parcel_id": "new", **LATE}])
    assert keep(client) == {one: (1.0, NOW)}


def test_an_outcome_by_its_own_key_is_an_event_of_its_table(client: Client) -> None:
    one = answered(client)
    assert tell(client, {"parcel_id": "new", **LATE})["kept"] == 1
    assert keep(client) == {one: (1.0, NOW)}


def test_told_again_it_changes_nothing_and_told_otherwise_it_is_a_version(client: Client) -> None:
    one = answered(client)
    row = {"prediction_id": one, **LATE}
    tell(client, row)
    settled = keep(client)
    assert tell(client, row) == {"kept": 1, "deleted": 0, "quarantined": []}
    assert tell(client, {"parcel_id": "new", **LATE})["kept"] == 1
    assert told_of(client, one) == [40.0]
    tell(client, {**row, "minutes_late": 3.0})
    for _ in range(2):
        assert tell(client, delete=[{"prediction_id": one}])["deleted"] == 1
    assert keep(client) == settled  # the first that is known settles this target
    assert tell(client, delete=[{"parcel_id": "new"}])["deleted"] == 1
    assert told_of(client, one) == [40.0, 3.0, None]


def test_what_is_told_otherwise_and_back_before_the_keeper_saw_it_holds_as_told_last(client: Client) -> None:
    one = answered(client)
    row = {"prediction_id": one, **LATE}
    tell(client, row)
    keep(client)
    tell(client, {**row, "minutes_late": 3.0})
    tell(client, row)
    assert told_of(client, one) == [40.0, 3.0, 40.0]


def test_told_again_before_the_keeper_saw_it_settles_once_as_first_told(start: Start) -> None:
    client = start()
    one = answered(client)
    for _ in range(3):
        tell(client, {"prediction_id": one, **LATE})
    settled = keep(client)
    assert settled == {one: (1.0, NOW)}
    assert told_of(client, one) == [40.0]


def test_a_bad_row_goes_to_quarantine_with_its_faults_and_place_and_the_good_ones_are_kept(
    client: Client,
) -> None:
    one, unknown = answered(client), new_id(NOW)
    told = tell(
        client,
        {"prediction_id": unknown, **LATE},
        {"prediction_id": one, **LATE, "minutes_late": "many"},
        {"prediction_id": one, **LATE},
        {"prediction_id": one, **LATE, "parcel_id": "another"},
        {"prediction_id": 7},
        "row",
        {**LATE},
        delete=[{"prediction_id": unknown}, {"parcel_id": None}],
    )
    assert (told["kept"], told["deleted"]) == (1, 0)
    assert [
        (bad.get("row", bad.get("delete")), bad["faults"][0]["code"], bad["faults"][0]["where"])
        for bad in told["quarantined"]
    ] == [
        (0, "unknown_prediction", "rows[0].prediction_id"),
        (1, "wrong_type", "rows[1].minutes_late"),
        (3, "other_key", "rows[3].parcel_id"),
        (4, "unknown_prediction", "rows[4].prediction_id"),
        (5, "not_an_object", "rows[5]"),
        (6, "missing_field", "rows[6].parcel_id"),
        (0, "unknown_prediction", "delete[0].prediction_id"),
        (1, "missing_field", "delete[1].parcel_id"),
    ]
    kept = [row.row for entry in client.journaled(Quarantined) for row in entry.rows]
    assert len(kept) == 8
    assert {"prediction_id": unknown, **LATE} in kept
    assert {entry.table for entry in client.journaled(Quarantined)} == {"Deliveries"}


@pytest.mark.parametrize(
    "identifier", ["", "x" * 10_000, "a\0b", "é" * 200, "\ud7ff", None, [], {"a": 1}, 1e300]
)
def test_whatever_is_sent_as_an_id_is_no_more_than_unknown(client: Client, identifier: Any) -> None:
    keep(client)
    told = tell(client, {"prediction_id": identifier, **LATE}, delete=[{"prediction_id": identifier}])
    assert [bad["faults"][0]["code"] for bad in told["quarantined"]] == ["unknown_prediction"] * 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "no_rows"),
        ({"rows": []}, "no_rows"),
        ({"rows": {}}, "no_rows"),
        ({"rows": [{}] * 10_001}, "too_many_rows"),
        ({"rows": [{}], "more": 1}, "no_rows"),
        ({"rows": [{}], "model": "early"}, "unknown_model"),
        ({"rows": [{}], "model": 3}, "unknown_model"),
        ([], "no_rows"),
    ],
)
def test_a_body_that_tells_nothing_is_refused(client: Client, body: Any, code: str) -> None:
    got = client.call("POST", "/v1/outcomes", body)
    assert got.codes == [code]
    assert client.journaled(Quarantined) == []


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(("outcome",), 200), (("ingest",), 200), (("admin",), 200), (("predict", "read"), 403)],
)
def test_the_scope_outcome_or_ingest_is_needed(client: Client, scopes: tuple[str, ...], status: int) -> None:
    one = answered(client)
    token = client.server.service.access.create("other", scopes)
    got = client.call(
        "POST", "/v1/outcomes", {"rows": [{"prediction_id": one, **LATE}]}, authorization=f"Bearer {token}"
    )
    assert got.status == status


def test_an_answer_is_found_by_id_key_and_time_and_page_by_page(client: Client) -> None:
    ids = [answered(client, f"p{number % 3}") for number in range(7)]
    whole = client.call("GET", f"/v1/answers/{ids[2]}").json
    (entry,) = [entry for entry in client.journaled(Predicted) if entry.id == ids[2]]
    assert whole["request"] == entry.request
    assert (whole["key"], whole["features"], whole["answer"]) == ("p2", entry.features, entry.answer)

    def found(query: str) -> list[str]:
        got = client.call("GET", f"/v1/answers{query}")
        assert got.status == 200, got.body
        return [answer["id"] for answer in got.json["answers"]]

    newest = sorted(ids, reverse=True)
    assert found("") == newest
    assert found("?key=p1&model=late") == [one for one in newest if one in (ids[1], ids[4])]
    assert found(f"?before={newest[1]}&limit=2") == newest[2:4]
    assert found(f"?since={NOW + 1}") == found("?model=early") == found("?verdict=refused") == []
    assert found("?since=2024-01-01&until=2030-01-01T00:00:00Z") == newest


@pytest.mark.parametrize(
    ("path", "status", "codes"),
    [
        ("/v1/answers/nobody", 404, ["unknown_prediction"]),
        (f"/v1/answers/{'0' * 28}", 404, ["unknown_prediction"]),
        ("/v1/answers?limit=0&since=soon&who=me", 422, ["wrong_type", "unknown_field", "out_of_range"]),
        ("/v1/answers?limit=1001", 422, ["out_of_range"]),
        ("/v1/answers?verdict=bad&before=zz", 422, ["wrong_type", "wrong_type"]),
        ("/v1/answers?limit=1&limit=2", 422, ["bad_query"]),
        ("/v1/answers?%ff", 422, ["bad_query"]),
        ("/v1/answers?key=%ff", 422, ["bad_query"]),
    ],
)
def test_what_cannot_be_found_says_why(client: Client, path: str, status: int, codes: list[str]) -> None:
    got = client.call("GET", path)
    assert (got.status, sorted(got.codes)) == (status, sorted(codes))


def test_an_outcome_may_lie_after_the_answer_as_long_as_the_clock_allows(client: Client) -> None:
    one = answered(client)
    told = tell(client, {"prediction_id": one, **LATE, "delivered_at": TRAINED_TO + 10 * HOUR})
    assert told["quarantined"][0]["faults"][0]["code"] == "in_the_future"
