"""Outcomes by the id of their answer: which table, which key, which id of the event."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.core.errors import RequestError
from icekeel.core.time import HOUR, parse_time
from icekeel.define import Project, load_project
from icekeel.journal import Pushed, Quarantined, Writer, scan
from icekeel.serving import Asked, Intake, Outcomes

NOW = parse_time("2025-03-01T12:00:00Z")
PROJECT = '''
import icekeel as ik


class Visit(ik.Request):
    visitor: ik.Id
    vip: ik.Flag


class Sales(ik.Events, time="sold_at", id="sale_id"):
    """Several may follow from one visit."""

    sale_id: ik.Id
    visitor: ik.Id
    vip: ik.Flag
    amount: ik.Num


class Ratings(ik.Events, time="rated_at", available="entered_at", id="visitor"):
    visitor: ik.Id
    stars: ik.Num = ik.between(1, 5)


class Features(ik.Features):
    vip = Visit.vip


def model(name, target):
    return ik.Model(
        name,
        Visit,
        Features,
        history=ik.table_of(Visit, "visits.csv", asked_at="asked_at"),
        target=target,
        error="mae",
        choose=ik.Simplest(within=ik.usd_per_year(1, error_point=1)),
    )


spend = model("spend", Sales.where(visitor=Visit.visitor, vip=Visit.vip).within("1d").amount.sum(absent=0))
stars = model("stars", Ratings.where(visitor=Visit.visitor).within("1d").stars.latest(absent=ik.UNKNOWN))
'''
ASKED = {"a": Asked("spend", [1.0, "ann"]), "b": Asked("stars", ["ann"]), "c": Asked("stars", [None])}
SALE = {"amount": 5.0, "sold_at": NOW}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("visits")
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    return load_project(folder)


class Office:
    def __init__(self, project: Project, folder: Path) -> None:
        self.folder = folder
        self.writer = Writer(folder, "serve", clock=lambda: NOW)
        self.outcomes = Outcomes(project, Intake(project.tables, self.writer, lambda: NOW))

    def tell(self, *rows: Any, **others: Any) -> list[str]:
        """Codes of what was set aside."""
        told = self.outcomes.read({"rows": list(rows), **others})
        taken = self.outcomes.take(told, {one: ASKED[one] for one in told.ids if one in ASKED})
        return [faults[0].code for found in (taken.faults, taken.wrong_ids) for faults in found.values()]

    def pushed(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one.table, row) for one in scan(self.folder, kinds=Pushed) for row in one.rows]

    def aside(self) -> list[str]:
        return [one.table for one in scan(self.folder, kinds=Quarantined) for _ in one.rows]


@pytest.fixture
def office(project: Project, tmp_path: Path) -> Iterator[Office]:
    found = Office(project, tmp_path)
    yield found
    found.writer.close()


def test_the_answer_says_the_table_and_every_part_of_the_key(office: Office) -> None:
    assert (
        office.tell({"prediction_id": "a", **SALE}, {"prediction_id": "b", "stars": 4.0, "rated_at": NOW})
        == []
    )
    # The event has an id of its own, which nobody said: it is that of the answer.
    assert office.pushed() == [
        ("Sales", {"sale_id": "a", "visitor": "ann", "vip": 1.0, **SALE}),
        ("Ratings", {"visitor": "ann", "stars": 4.0, "rated_at": NOW, "entered_at": NOW}),
    ]


def test_several_events_of_one_answer_say_their_own_ids(office: Office) -> None:
    rows = [{"prediction_id": "a", "sale_id": one, **SALE} for one in ("s1", "s2")]
    assert office.tell(*rows, delete=[{"prediction_id": "a", "sale_id": "s1"}]) == []
    assert [(row["sale_id"], row.get("_deleted", 0.0)) for _, row in office.pushed()] == [
        ("s1", 0.0),
        ("s2", 0.0),
        ("s1", 1.0),
    ]


def test_a_row_without_an_id_needs_its_model_where_there_are_several_tables(office: Office) -> None:
    row = {"visitor": "bob", "stars": 3.0, "rated_at": NOW}
    assert office.tell(row) == ["which_model"]
    assert office.aside() == ["outcomes"]
    assert office.tell(row, model="stars") == []
    assert office.pushed()[0][0] == "Ratings"


def test_an_answer_without_a_key_has_no_outcome(office: Office) -> None:
    assert office.tell({"prediction_id": "c", "stars": 3.0, "rated_at": NOW}) == ["no_key"]


def test_what_the_contract_forbids_is_set_aside_under_its_place(office: Office) -> None:
    good = {"prediction_id": "a", **SALE}
    bad = {"prediction_id": "b", "stars": 9.0, "rated_at": NOW}
    late = {"prediction_id": "a", **SALE, "sold_at": NOW + HOUR}
    told = office.outcomes.read({"rows": [good, bad, {"prediction_id": "x"}, late]})
    taken = office.outcomes.take(told, ASKED)
    assert {at: (faults[0].code, faults[0].where) for at, faults in taken.faults.items()} == {
        1: ("out_of_range", "rows[1].stars"),
        2: ("unknown_prediction", "rows[2].prediction_id"),
        3: ("in_the_future", "rows[3].sold_at"),
    }
    assert (taken.kept, sorted(office.aside())) == (1, ["Ratings", "Sales", "outcomes"])


def test_a_model_that_is_none_is_refused(office: Office) -> None:
    with pytest.raises(RequestError, match="no such model"):
        office.tell({"visitor": "bob"}, model="star")
