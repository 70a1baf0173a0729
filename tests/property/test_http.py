"""Whatever is sent, the answer is one that the OpenAPI document names, and never a fault of the server's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icekeel.app import App
from icekeel.http import Server
from icekeel.testing.small import PROJECT, REQUEST, TRAINED_TO, keep_up, train_small, write_small_project

from ..unit.http.conftest import Client

POSTPROCESSED = (
    PROJECT.replace("ik.between(0, 50, optional=True)", "ik.optional()")
    .replace('error="log_loss"', 'error="mae"')
    .replace(" > 15,\n", ",\n")
    .replace(
        '    action=ik.Act("warn", missed=4, false=1),\n',
        "    after=[ik.floor(Parcel.weight), ik.round_to(5)],\n",
    )
)
EXTREMES = [
    1e308,
    -1e308,
    5e-324,
    -0.0,
    2**53 + 1,
    2**63,
    2**64,
    -(10**30),
    1e29,
    "",
    "\0",
    "x" * 10_001,
    "1e9",
    "é😀",
]
text = st.text(st.characters(codec="utf-8"), max_size=5)
scalars = st.sampled_from(EXTREMES) | st.none() | st.booleans() | st.integers() | text
scalars |= st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    ["2024-03-01T00:00:00Z", TRAINED_TO]
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(text, scalars, max_size=2)
names = st.sampled_from(
    [*REQUEST, "asked_at", "scan_id", "backlog", "scanned_at", "minutes_late", "delivered_at", "now", "x"]
)
records = st.dictionaries(names, values, max_size=5).map(lambda changed: {**REQUEST, **changed})
records |= st.dictionaries(names, values, max_size=8)
rows = st.lists(records | values, max_size=3) | values
features = st.lists(st.sampled_from(["backlog", "late_1d", "none"]) | values, max_size=3) | values
bodies = (
    records
    | values
    | st.fixed_dictionaries(
        {}, optional={"rows": rows, "features": features, "delete": rows, "asked_at": values, "y": values}
    )
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    write_small_project(folder, POSTPROCESSED)
    train_small(folder)
    app = App(folder, clock=lambda: TRAINED_TO)
    keep_up(app)
    token = app.access().create("fuzz", ("admin",))
    server = Server(app)
    yield Client(server, token, folder)
    server.service.close()


@cache
def documented(client: Client) -> Any:
    return client.call("GET", "/v1/openapi.json").json["paths"]


def send(client: Client, path: str, body: bytes) -> None:
    got = client.call("POST", path, body)
    assert str(got.status) in documented(client)[path]["post"]["responses"], (got.status, got.body)
    assert got.status < 500, got.body
    kind = "application/json" if got.status == 200 else "application/problem+json"
    assert got.headers["content-type"] == kind


PATHS = [
    "/v1/predict/late",
    "/v1/events/Scans",
    "/v1/events/Deliveries",
    "/v1/features/late/online",
    "/v1/clock",
]


@settings(max_examples=600, deadline=None, derandomize=True)
@example("/v1/predict/late", {**REQUEST, "weight": 1e29})
@example("/v1/predict/late", {"rows": [{**REQUEST, "weight": 1e308}, {**REQUEST, "weight": 0}]})
@given(st.sampled_from(PATHS), bodies)
def test_no_body_is_a_fault_of_the_server(client: Client, path: str, body: Any) -> None:
    send(client, path, json.dumps(body).encode())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(bodies)
def test_no_question_about_the_past_is_a_fault_of_the_server(client: Client, body: Any) -> None:
    send(client, "/v1/features/late/historical", json.dumps(body).encode())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(PATHS), st.binary(max_size=40))
def test_no_bytes_are_a_fault_of_the_server(client: Client, path: str, body: bytes) -> None:
    send(client, path, body)
