"""What flagged quotes get, on the trained print shop over HTTP: each policy, each source, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.time import HOUR
from icekeel.examples.quotes.cases import BOX
from icekeel.examples.quotes.demo import LIVE, _lay_out, _simulated, _trained
from icekeel.examples.quotes.simulate import NEVER_SEEN
from icekeel.http import Server
from icekeel.journal import Predicted
from icekeel.settings import Settings
from icekeel.testing.small import keep_up
from tests.unit.http.conftest import Client

from .commands import icekeel, run

SETTINGS = Settings(rehearsal=True, auth=False)
NEW_INK = {"ink": "glow"}
LARGE = {"quantity": 60_000.0, "material_cost": 412_346.0}
Asks = Callable[..., tuple[Any, Predicted]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two champions after each other, on raw and on engineered features, and windows up to date."""
    folder = tmp_path_factory.mktemp("shop")
    _, key = _simulated(folder / "source", 8_000, lambda _: None, fresh=True)
    _lay_out(folder, folder / "source", key, fresh=True)
    app = App(folder, SETTINGS, clock=lambda: LIVE)
    app.ingest([])
    registry = app.registry()
    for baseline in (True, False):
        _trained(app, registry, lambda _: None, baseline=baseline)
    keep_up(app)
    registry.close()
    return folder


@contextmanager
def serving(shop: Path) -> Iterator[Client]:
    server = Server(App(shop, SETTINGS, clock=lambda: LIVE))
    try:
        yield Client(server, "", shop)
    finally:
        server.service.close()


@pytest.fixture
def ask(shop: Path) -> Iterator[Asks]:
    """`ask(guard, changes)`: the reply to a box with changes under a guard, and its record in the journal."""
    text = (shop / "project.py").read_text()
    before, _, rest = text.partition("    guard=ik.Guard(")
    _, _, after = rest.partition("\n)\n")
    asked = 0

    def make(guard: str, changes: dict[str, Any]) -> tuple[Any, Predicted]:
        nonlocal asked
        (shop / "project.py").write_text(f"{before}    guard=ik.Guard({guard}),\n)\n{after}")
        asked += 1
        request = {**BOX, **changes, "quote_id": f"case-{asked}", "customer": "N1", "asked_at": LIVE + HOUR}
        with serving(shop) as client:
            reply = client.call("POST", "/v1/predict/price", request)
            return reply, client.journaled(Predicted)[-1]

    yield make
    (shop / "project.py").write_text(text)


def test_by_default_it_is_marked(ask: Asks) -> None:
    reply, record = ask("", NEW_INK)
    assert (reply.status, reply.json["verdict"], reply.json["source"]) == (200, "unseen_value", "model")
    assert record.source == "model" and record.reasons


def test_refused_says_codes_and_never_reasons(ask: Asks) -> None:
    reply, record = ask("otherwise=ik.refuse()", NEW_INK)
    assert reply.status == 422 and record.verdict == "refused"
    assert "unseen_value" in reply.body.decode()
    assert not any(reason in reply.body.decode() for reason in record.reasons)


def test_similar_cases_answer_after_the_postprocessors_within_their_range(ask: Asks) -> None:
    reply, record = ask("otherwise=ik.similar_cases(k=10)", NEW_INK)
    answer = reply.json
    assert (reply.status, answer["source"], record.source) == (200, "similar_cases", "similar_cases")
    low, high = answer["interval"]
    assert BOX["material_cost"] <= low <= answer["prediction"] <= high
    assert answer["prediction"] % 5 == low % 5 == high % 5 == 0
    assert (record.answer, record.low, record.high) == (answer["prediction"], low, high)
    model, _ = ask("", NEW_INK)
    assert record.prediction == pytest.approx(model.json["prediction"], abs=2.5)


def test_no_past_case_is_like_the_job_never_seen_so_it_is_passed_on(ask: Asks) -> None:
    guard = "otherwise=ik.similar_cases(otherwise=ik.rule_of_thumb(Quote.material_cost * 9))"
    reply, record = ask(guard, dict(NEVER_SEEN))
    assert (reply.json["source"], record.answer) == ("rule_of_thumb", BOX["material_cost"] * 9)
    reply, record = ask("otherwise=ik.similar_cases()", dict(NEVER_SEEN))
    assert (reply.status, record.verdict) == (422, "refused")


def test_a_rule_of_thumb_reads_the_request_and_features(ask: Asks) -> None:
    reply, record = ask("otherwise=ik.rule_of_thumb(Engineered.complexity * 100 + Quote.colors)", NEW_INK)
    complexity = record.features["complexity"]
    assert isinstance(complexity, float)
    assert reply.json["prediction"] == pytest.approx(complexity * 100 + 4, abs=2.5)
    assert reply.json["interval"] is None
    reply, record = ask("otherwise=ik.rule_of_thumb(1 / (Quote.colors - 4), otherwise=ik.mark())", NEW_INK)
    assert (reply.status, record.source) == (200, "model")


def test_the_last_champion_answers_unless_its_guard_finds_something_too(ask: Asks) -> None:
    reply, record = ask("otherwise=ik.last_champion()", NEW_INK)
    assert (reply.status, record.verdict, record.version) == (422, "refused", "price-2")


def test_kinds_and_stakes_decide_and_the_strictest_counts(ask: Asks) -> None:
    by_kind = 'otherwise=ik.similar_cases(), kinds={"unseen_value": ik.refuse()}'
    assert ask(by_kind, NEW_INK)[0].status == 422
    assert ask(by_kind, {**LARGE, **NEW_INK})[0].status == 422
    above = "otherwise=ik.mark(), above=(20_000, ik.refuse())"
    assert ask(above, NEW_INK)[0].status == 200
    assert ask(above, LARGE)[0].status == 422
    stake = "otherwise=ik.mark(), above=(2_000, ik.refuse()), stake=Quote.material_cost * 10"
    assert ask(stake, NEW_INK)[0].status == 422
    assert ask(stake, {**NEW_INK, "material_cost": 199.0})[0].status == 200


def test_an_answer_is_explained_over_http_and_in_the_trace(ask: Asks, shop: Path) -> None:
    _, record = ask("otherwise=ik.similar_cases(k=10)", NEW_INK)
    with serving(shop) as client:
        got = client.call("GET", f"/v1/explain/{record.id}")
        missing = client.call("GET", "/v1/explain/none")
    assert (got.status, missing.status) == (200, 404)
    found = got.json
    assert found["source"] == "similar_cases" and len(found["similar"]) == 10
    assert found["answer"] == record.answer and found["prediction"] == record.prediction
    assert "in place of price-2" in found["sentence"] and "never seen in" in found["sentence"]
    assert {"ink", "material_cost"} <= set(found["similar"][0]["request"])
    assert "customer" not in found["similar"][0]["request"]
    outcomes = [case["outcome"] for case in found["similar"]]
    assert f"{min(outcomes):,.4g}" in found["sentence"] or f"{min(outcomes):,.0f}" in found["sentence"]
    assert found["reasons"][0]["unit"] == "share"
    assert icekeel(shop, "explain", record.id) == found
    said = run(shop, "explain", record.id)
    assert said.stdout.startswith(found["sentence"]) and found["similar"][9]["id"] in said.stdout
    why = App(shop, SETTINGS, clock=lambda: LIVE).trace(record.id).why
    assert why is not None and why.sentence == found["sentence"]
