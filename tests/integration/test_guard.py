"""The print shop's never-seen job: refused, told of, reviewed over HTTP, taught by two people, and forgotten in time."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.errors import StateError
from icekeel.core.time import DAY, SECOND, parse_time
from icekeel.examples import quotes
from icekeel.examples.quotes.cases import BOX
from icekeel.examples.quotes.simulate import NEVER_SEEN, simulate
from icekeel.guard import Verdict
from icekeel.http import Server
from icekeel.journal import Reviewed, scan
from icekeel.operations.accounts.guard_report import Guarding, growth_of, guarding
from icekeel.operations.workshop.workshop import Order
from icekeel.registry import PROFILE_FILE, Registry, read
from icekeel.serving import Router
from icekeel.settings import Settings
from icekeel.testing.small import keep_up, train_once
from tests.unit.http.conftest import Client, Got

NEVER = {**BOX, **NEVER_SEEN}
DAYS = 400
TRAINED_AT = parse_time("2023-01-01") + (DAYS + 40) * DAY
CODE = "unseen_triple:die_cut+ink+turnaround"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of the example, trained on 5,000 quotes."""
    folder = tmp_path_factory.mktemp("shop")
    shutil.copy(Path(str(quotes.__file__)).with_name("project.py"), folder)
    simulate(folder, n=5_000, seed=1, days=DAYS)
    app = App(folder, clock=lambda: TRAINED_AT)
    app.ingest([])
    train_once(app, "price")
    keep_up(app)
    return folder


@dataclass
class Shop:
    """A server over a copy of the project, with a clock that can be moved, and people with tokens."""

    folder: Path
    now: int = TRAINED_AT
    tokens: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def open(self) -> None:
        self.app = App(self.folder, Settings(), clock=lambda: self.now)
        self.server = Server(self.app)

    def client(self, name: str, scope: str = "review") -> Client:
        if name not in self.tokens:
            self.tokens[name] = self.app.access().create(name, (scope, "predict"))
        self.server.service.refresh()
        return Client(self.server, self.tokens[name], self.folder)

    def ask(self, **changes: Any) -> Got:
        self.asked += 1
        job = {**NEVER, **changes, "quote_id": f"q{self.asked}", "customer": "new"}
        return self.client("sales", "predict").call("POST", "/v1/predict/price", job)

    def refused(self, **changes: Any) -> str:
        """The id of a job that is refused."""
        got = self.ask(**changes)
        assert got.status == 422, got.body
        return str(got.json["prediction_id"])

    def decide(self, who: str, prediction: str, decision: str, **more: Any) -> Got:
        self.now += SECOND
        body = {"decision": decision, "reason": "looked at it", **more}
        return self.client(who).call("POST", f"/v1/reviews/{prediction}", body)


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    shutil.copytree(trained, folder)
    opened = Shop(folder)
    opened.open()
    yield opened
    opened.server.service.close()


def report(shop: Shop) -> Guarding:
    registry, answers = shop.server.service.registry, shop.app.answers()
    since = shop.now - 30 * DAY
    return guarding(shop.app.model("price"), registry, answers, since=since, until=shop.now + 1)


def test_the_report_tells_of_training_until_there_are_answers(shop: Shop) -> None:
    found = report(shop)
    assert (found.source, found.version, found.weeks) == ("training", "price-1", [])
    assert found.answers > 900
    assert found.flagged <= found.budget == 0.01
    gap = found.missing[0]
    assert gap.together == "die_cut=custom + ink=metallic + turnaround=rush"
    assert gap.flagged_as == "unseen_triple"
    # Of 5,000 quotes in 400 days 0.13 * 0.12 * 0.13 were custom, metallic and rush, and went for fast instead.
    assert 2 < gap.a_year < 20
    version = shop.server.service.registry.version("price-1")
    share = gap.a_year * (version.trained_to - version.trained_from) / (365.25 * DAY)
    rows = version.metrics["guard"]["rows"]
    assert gap.usd_per_year == pytest.approx(share / rows * gap.error * 100 * 40_000)
    money = [one.usd_per_year for one in found.missing]
    assert money == sorted(money, reverse=True)
    assert list(found.growth) == ["1,000", "2,000", "4,000", "8,000 (extrapolated)"]


def test_a_version_from_before_the_guard_was_declared_has_no_report(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(shop.server.service.registry.version("price-1"), metrics={})
    monkeypatch.setattr(Registry, "version", lambda self, name: older)
    with pytest.raises(StateError, match="price-1 was trained without a guard"):
        report(shop)


def test_what_more_rows_would_buy_is_one_more_step_of_the_last_doubling() -> None:
    points = [{"rows": 25, "unseen": 0.3}, {"rows": 50, "unseen": 0.2}, {"rows": 100, "unseen": 0.1}]
    assert growth_of(points)["200 (extrapolated)"] == pytest.approx(0.05)
    rising = [{"rows": 50, "unseen": 0.1}, {"rows": 100, "unseen": 0.2}]
    assert growth_of(rising)["200 (extrapolated)"] == 0.2
    assert growth_of([{"rows": 50, "unseen": 0.0}, {"rows": 100, "unseen": 0.0}])["200 (extrapolated)"] == 0
    assert growth_of([]) == {}


def test_the_report_tells_of_answers_where_there_are_some(shop: Shop) -> None:
    client = shop.client("sales", "predict")
    for week in range(2):
        rows = [{**BOX, "quote_id": f"b{week}-{n}", "customer": "new"} for n in range(90)]
        rows += [{**NEVER, "quote_id": f"n{week}-{n}", "customer": "new"} for n in range(5 * (week + 1))]
        assert client.call("POST", "/v1/predict/price", {"rows": rows}).status == 200
        shop.now += 7 * DAY
    found = report(shop)
    assert (found.source, found.answers) == ("journal", 195)
    assert found.flagged == pytest.approx(15 / 195)
    rates = {one.kind: one for one in found.kinds}
    assert rates["unseen_triple"].rate == pytest.approx(15 / 195)
    assert rates["unseen_value"].rate == 0
    (reason,) = rates["unseen_triple"].examples
    assert reason.startswith(
        "never seen together: die_cut=custom + ink=metallic + turnaround=rush; each alone"
    )
    assert [week.answers for week in found.weeks] == [95, 100]
    assert [week.flagged for week in found.weeks] == pytest.approx([5 / 95, 10 / 100])
    shop.app.workspace.compact()
    assert report(shop) == found  # wherever the answers lie


def test_jobs_that_are_refused_all_the_time_do_not_talk_the_next_guard_into_letting_them_pass(
    shop: Shop,
) -> None:
    """They are a seventh of what was asked since the latest fifth of the rows, and the budget is a hundredth."""
    rows = [{**NEVER, "quote_id": f"n{n}", "customer": "new"} for n in range(150)]
    client = shop.client("sales", "predict")
    assert client.call("POST", "/v1/predict/price", {"rows": rows}).status == 200
    shop.now += DAY
    said: list[str] = []
    workshop = shop.app.workshop(shop.server.service.registry)
    version, trained = workshop.train(Order("price", shop.now, False, "linear"), said.append)
    assert trained.metrics["counts"]["questions"] == 5_150
    assert trained.metrics["guard"]["blind_spots"] == ()
    before = shop.server.service.registry.version("price-1")
    old, new = (read(shop.app.places.bundles, one.digest).files for one in (before, version))
    # Nothing was learnt but what is usual of requests.
    assert {name for name in old if old[name] != new[name]} <= {PROFILE_FILE}


def test_a_refused_job_waits_and_the_caller_fetches_what_a_person_answers(shop: Shop) -> None:
    prediction = shop.refused()
    boss, sales = shop.client("boss"), shop.client("sales", "predict")
    (case,) = boss.call("GET", "/v1/reviews").json["waiting"]
    assert (case["prediction_id"], case["status"], case["refused"]) == (prediction, "waiting", True)
    assert case["codes"] == [CODE]
    counted = shop.client("watch", "read").call("GET", "/metrics").body.decode()
    labels = 'kind="unseen_triple",model="price",policy="refused"'
    assert f"icekeel_guard_findings_total{{{labels}}} 1.0" in counted
    assert case["reasons"][0].startswith(
        "never seen together: die_cut=custom + ink=metallic + turnaround=rush"
    )
    path = f"/v1/reviews/{prediction}"
    waiting = {"prediction_id": prediction, "status": "waiting", "answer": None}
    assert sales.call("GET", path).json == waiting  # no reasons: they tell of other customers
    assert sales.call("GET", "/v1/reviews").status == sales.call("POST", path, {}).status == 403
    assert shop.decide("boss", prediction, "rejected", answer=50_000).status == 200
    assert sales.call("GET", path).json == {**waiting, "status": "rejected", "answer": 50_000}
    assert boss.call("GET", "/v1/reviews").json == {"waiting": [], "more": 0}
    assert shop.ask().status == 422


def test_two_people_teach_it_in_every_worker_until_it_expires(shop: Shop) -> None:
    first, second = shop.refused(), shop.refused(quantity=300.0, material_cost=220.0)
    worker = Router("price", shop.app.registry(), shop.app.places.bundles, shop.app.plans["price"])
    worker.refresh()
    assert shop.decide("ann", first, "accepted").status == 200
    assert shop.decide("ann", second, "accepted").status == 200
    assert shop.ask().status == 422  # the same person twice is one
    case = shop.decide("bob", second, "accepted").json
    assert [one["by"] for one in case["decisions"]] == ["ann", "bob"]
    got = shop.ask()
    assert (got.status, got.json["verdict"], got.json["codes"]) == (200, "pass", [])
    # Only these three together: any other finding is one as before.
    assert shop.ask(substrate="velvet").json["faults"][0]["got"] == "unseen_value:substrate"
    verdict = Verdict("unseen_triple", CODE, "", tuple(NEVER_SEEN), 0.1)
    assert worker.current.taught.remaining([verdict], NEVER_SEEN, 0.0, shop.now) == [verdict]
    worker.refresh()
    assert worker.current.taught.remaining([verdict], NEVER_SEEN, 0.0, shop.now) == []
    (lesson,) = shop.server.service.reviews.lessons("price")
    assert (lesson.code, lesson.values, lesson.by) == (CODE, NEVER_SEEN, ["ann", "bob"])
    shop.server.service.close()
    shop.open()
    assert shop.ask().status == 200  # a restart changes nothing
    assert lesson.until is not None
    shop.now = lesson.until - 1
    assert shop.ask().status == 200
    shop.now = lesson.until
    assert shop.ask().status == 422


def test_a_rejection_ends_what_was_accepted(shop: Shop) -> None:
    first = shop.refused()
    for who in ("ann", "bob"):
        shop.decide(who, first, "accepted")
    assert shop.ask().status == 200
    shop.decide("ann", first, "rejected")
    assert shop.ask().status == 422


def test_a_number_is_taught_up_to_what_both_accepted(shop: Shop) -> None:
    cases = [
        shop.refused(die_cut="none", quantity=quantity, material_cost=210.0)
        for quantity in (80_000.0, 120_000.0)
    ]
    for who, case in zip(("ann", "bob"), cases, strict=True):
        assert shop.decide(who, case, "accepted").status == 200
    quiet: dict[str, Any] = {"die_cut": "none", "material_cost": 210.0}
    found = {
        quantity: shop.ask(**quiet, quantity=quantity).status for quantity in (70_000.0, 80_000.0, 81_000.0)
    }
    assert found == {70_000.0: 200, 80_000.0: 200, 81_000.0: 422}


def test_a_decision_said_twice_is_one_and_the_journal_alone_brings_it_back(shop: Shop) -> None:
    prediction = shop.refused()
    for _ in range(2):
        shop.decide("ann", prediction, "accepted")
    shop.decide("bob", prediction, "accepted")
    assert shop.ask().status == 200
    records = list(scan(shop.folder / ".icekeel" / "journal", kinds=Reviewed))
    assert [(one.by, one.decision, one.findings) for one in records] == [
        (who, "accepted", {CODE: ["custom", "metallic", "rush"]}) for who in ("ann", "bob")
    ]
    kept = shop.server.service.registry.reviews("price")
    shop.server.service.close()
    with sqlite3.connect(shop.folder / ".icekeel" / "registry.db") as database:
        database.execute("DELETE FROM reviews")
    keep_up(shop.app)
    shop.open()
    assert shop.server.service.registry.reviews("price") == kept
    assert shop.ask().status == 200


def test_the_queue_begins_with_what_is_dear_and_has_waited(shop: Shop) -> None:
    cheap = shop.refused(material_cost=150.0)
    shop.now += DAY
    dear, middling = shop.refused(material_cost=900.0), shop.refused(material_cost=150.0)
    shop.now += DAY
    listed = shop.client("boss").call("GET", "/v1/reviews?model=price").json["waiting"]
    assert [one["prediction_id"] for one in listed] == [dear, cheap, middling]
    assert [one["stake"] for one in listed] == [4_500, 750, 750]  # what the project says, not the model
    rows = [{**NEVER, "quote_id": f"n{n}", "customer": "new"} for n in range(120)]
    shop.client("sales", "predict").call("POST", "/v1/predict/price", {"rows": rows})
    got = shop.client("boss").call("GET", "/v1/reviews").json
    assert (len(got["waiting"]), got["more"]) == (100, 23)
    assert shop.client("boss").call("GET", "/v1/reviews?model=prize").status == 404


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"decision": "perhaps", "reason": "x"}, [("bad_review", "decision")]),
        ({"decision": "accepted", "reason": " "}, [("bad_review", "reason")]),
        ({"decision": "accepted", "reason": "x", "answer": 3}, [("bad_review", "answer")]),
        ({"decision": "rejected", "reason": "x", "answer": "3"}, [("bad_review", "answer")]),
        ({"decision": "rejected", "reason": "x", "answer": -1}, [("bad_review", "answer")]),
        ({"decision": "accepted", "reason": "x", "by": "someone else"}, [("bad_review", "'by'")]),
        ([], [("bad_review", "decision"), ("bad_review", "reason")]),
    ],
)
def test_a_decision_that_cannot_be_taken_names_every_fault(
    shop: Shop, body: Any, faults: list[tuple[str, str]]
) -> None:
    prediction = shop.refused()
    got = shop.client("ann").call("POST", f"/v1/reviews/{prediction}", body)
    assert got.status == 422
    listed = [(one["code"], one["where"] or one["what"].split()[-1]) for one in got.json["faults"]]
    assert [code for code, _ in listed] == [code for code, _ in faults]
    assert list(scan(shop.folder / ".icekeel" / "journal", kinds=Reviewed)) == []


def test_only_what_was_flagged_can_be_decided(shop: Shop) -> None:
    ordinary = shop.ask(die_cut="none").json["prediction_id"]
    boss = shop.client("boss")
    body = {"decision": "accepted", "reason": "x"}
    assert boss.call("POST", f"/v1/reviews/{ordinary}", body).codes == ["no_case"]
    assert boss.call("GET", f"/v1/reviews/{'0' * 28}").codes == ["unknown_prediction"]
    assert boss.call("GET", "/v1/reviews/x").status == 404
    assert boss.call("PUT", f"/v1/reviews/{ordinary}", body).status == 405
    waits = shop.refused()
    assert [one["prediction_id"] for one in boss.call("GET", "/v1/reviews").json["waiting"]] == [waits]
    shop.now += 31 * DAY
    assert boss.call("GET", "/v1/reviews").json == {
        "waiting": [],
        "more": 0,
    }  # nobody waits for an answer any more
