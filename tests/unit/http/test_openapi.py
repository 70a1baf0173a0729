from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from icekeel.http.openapi import openapi
from icekeel.testing.small import TRAINED_TO

from .conftest import Client


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    got: dict[str, Any] = client.call("GET", "/v1/openapi.json").json
    return got


def test_every_route_is_in_it_with_its_method_and_scope(client: Client, document: dict[str, Any]) -> None:
    paths = {re.sub(r"{\w+}", "*", path): operations for path, operations in document["paths"].items()}
    assert paths.keys() == client.server.routes.keys()
    for path, first in client.server.routes.items():
        routes = {route.method.lower(): route for route in (first, first.post) if route is not None}
        assert paths[path].keys() - {"parameters"} == routes.keys()
        for method, route in routes.items():
            security = paths[path][method].get("security")
            scopes = [{"token": [one]} for one in route.scope.split("|") if one]
            assert security == (scopes or None), path


def test_its_examples_are_accepted(client: Client, document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/predict/late"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    for example in body["examples"]:
        assert client.predict(example).status == 200
    rows = document["paths"]["/v1/events/Scans"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    (row,) = rows["properties"]["rows"]["items"]["examples"]
    assert "booked_at" not in row
    pushed = client.call("POST", "/v1/events/Scans", {"rows": [row | {"scanned_at": TRAINED_TO}]})
    assert pushed.json["kept"] == 1

    for kind in ("online", "historical"):
        path = f"/v1/features/late/{kind}"
        features = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for example in features["examples"]:
            got = client.call("POST", path, example)
            assert (got.status, list(got.json["rows"][0]["features"])[:2]) == (200, ["depot", "service"])


def test_limits_are_in_it(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/predict/late"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    one = body["oneOf"][0]
    assert one["required"] == ["parcel_id", "depot", "service"]
    assert one["additionalProperties"] is False
    assert one["properties"]["service"]["enum"] == ["express", "standard"]
    weight, null = one["properties"]["weight"]["oneOf"]
    assert (weight["minimum"], weight["maximum"], null) == (0, 50, {"type": "null"})


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', msgspec.json.encode(document).decode()))
    assert named == document["components"]["schemas"].keys()
    assert named == {
        *("Alike", "Answer", "Explanation", "OnlineFeatures", "Predicted", "Problem", "Reason", "Receipt")
    }


def test_a_server_of_all_addresses_asks_for_a_token_to_look(client: Client) -> None:
    document = openapi(client.server.service.app.project, auth=True, local=False)
    assert document["paths"]["/metrics"]["get"]["security"] == [{"token": ["read"]}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_the_status_has_what_the_document_says_and_no_more(client: Client, document: dict[str, Any]) -> None:
    schema = document["paths"]["/v1/status"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    said, known = client.call("GET", "/v1/status").json, schema["properties"]
    assert said.keys() == known.keys()
    model = known["models"]["additionalProperties"]["properties"]
    assert said["models"]["late"].keys() == model.keys()
    assert said["keeper"].keys() == known["keeper"]["properties"].keys()
    assert said["workers"][0].keys() == known["workers"]["items"]["properties"].keys()


def test_what_names_a_model_may_name_one_that_there_is_not(client: Client, document: dict[str, Any]) -> None:
    listed = client.call("GET", "/v1/reviews?model=nobody")
    told = client.call("POST", "/v1/outcomes", {"rows": [{"prediction_id": "x"}], "model": "nobody"})
    assert listed.status == told.status == 404
    assert "404" in document["paths"]["/v1/reviews"]["get"]["responses"]
    assert "404" in document["paths"]["/v1/outcomes"]["post"]["responses"]
