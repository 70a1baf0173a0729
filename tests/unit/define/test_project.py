"""A project file that cannot hold is refused with every fault, its line and how to mend it."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

import icekeel as ik
from icekeel import guard
from icekeel.core.errors import Fault, ProjectError
from icekeel.core.time import HOUR
from icekeel.define import load_project, policies
from icekeel.define.nodes import Windowed, walk
from icekeel.examples import flights

GOOD = """
import icekeel as ik

class Quote(ik.Request):
    quote_id: ik.Id
    customer: ik.Id
    substrate: ik.Cat
    colors: ik.Num = ik.between(1, 12)

class Orders(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id
    customer: ik.Id
    revenue: ik.Num
    paper: ik.Cat

class Results(ik.Events, time="decided_at", id="quote_id"):
    quote_id: ik.Id
    price: ik.Num
    won: ik.Flag

mine = Orders.where(customer=Quote.customer)

class Features(ik.Features):
    colors = Quote.colors
    orders = mine.last("30d").count()

result = Results.where(quote_id=Quote.quote_id).within("30d")
same = dict(
    history=ik.table_of(Quote, "quotes.parquet", asked_at="sent_at"),
    choose=ik.Simplest(within=ik.usd_per_year(5_000, error_point=40_000)),
)
price = ik.Model("price", Quote, Features, target=result.price.latest(absent=None), error="mape", **same)
"""


LATEST = "leave it out to ask about the window's latest value: .{}()"


def faults(folder: Path, more: str = "", *, source: str = GOOD) -> list[Fault]:
    (folder / "project.py").write_text(source + textwrap.dedent(more), encoding="utf-8")
    with pytest.raises(ProjectError) as caught:
        load_project(folder)
    return list(caught.value.faults)


def line_of(folder: Path, text: str) -> str:
    lines = (folder / "project.py").read_text(encoding="utf-8").splitlines()
    return f"project.py:{next(at for at, line in enumerate(lines, 1) if text in line)} "


def test_a_good_project_is_read(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(GOOD, encoding="utf-8")
    project = load_project(tmp_path)
    assert list(project.tables) == ["Orders", "Results"]
    assert project.models["price"].task == "number"


def test_the_flights_project_is_read() -> None:
    project = load_project(Path(flights.__path__[0]))
    assert list(project.tables) == ["Schedule", "Arrivals", "Weather", "Planes"]
    assert [feature.name for feature in project.models["late"].features.icekeel_features][:3] == [
        "carrier",
        "origin",
        "dest",
    ]


def test_every_mistake_is_reported_at_once_with_its_place(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
        class Wrong(ik.Features):
            column = mine.last("7d").revenu.sum()
            asked = Quote.colour * 2
            kind = Quote.substrate + 1
            horizon = mine.last("1hour").count()
            endless = mine.last("").count()
            future = result.price.latest(absent=0) * 2
            no_default = ik.table(Quote.substrate, {"vinyl": 1.5})
            number_key = ik.table(Quote.colors, {"vinyl": 1.5}, default=1)
            bare = Orders.revenue * 2
            season = ik.cyclic(ik.asked_at, "month", tz="UTC")
            window = mine.last("7d")
            part = ik.part(ik.asked_at, "minutes", tz="Europe/Zurch")
            text_sum = mine.last("7d").paper.sum()
            identity = Quote.customer
            constant = Quote.colors * float("nan")
            key = Orders.where(custmer=Quote.customer).last("7d").count()
            key_kind = Orders.where(paper=5).last("7d").count()


        twin = ik.Model("price", Quote, Wrong, target=result.price.latest(absent=0), error="mea", **same)
        """,
    )
    by_place = {match[0]: fault for fault in found if (match := re.findall(r"Wrong\.\w+", fault.where))}
    wanted = {
        "Wrong.column": ("unknown_column", 'did you mean "revenue"?'),
        "Wrong.asked": ("unknown_field", 'did you mean "colors"?'),
        "Wrong.kind": ("wrong_kind", "ik.table makes numbers of categories"),
        "Wrong.horizon": ("bad_duration", 'did you mean "1h"?'),
        "Wrong.endless": ("no_horizon", '.last("30d")'),
        "Wrong.future": ("needs_outcome", ""),
        "Wrong.no_default": ("missing_default", "default=0, or what suits an unknown text"),
        "Wrong.number_key": ("wrong_kind", ""),
        "Wrong.bare": ("bare_event_column", 'aggregate it: Table.where(...).last("7d").column.mean()'),
        "Wrong.season": ("not_a_feature", "write `sine, cosine = ik.cyclic(...)`"),
        "Wrong.window": ("not_a_feature", "aggregate the window: .count(), .column.mean()"),
        "Wrong.text_sum": ("wrong_kind", ""),
        "Wrong.identity": ("wrong_kind", ""),
        "Wrong.constant": ("bad_constant", ""),
        "Wrong.key": ("unknown_column", 'did you mean "customer"?'),
        "Wrong.key_kind": ("bad_key", ""),
    }
    assert {place: (by_place[place].code, by_place[place].hint) for place in wanted} == wanted
    for place in wanted:
        assert by_place[place].where.startswith(line_of(tmp_path, f"    {place.split('.')[1]} = ")), by_place[
            place
        ]
    assert by_place["Wrong.column"].allowed == "order_id, customer, revenue, paper, ordered_at"
    codes = {fault.code for fault in found}
    assert codes >= {"bad_part", "bad_zone", "bad_error", "twice"}
    assert {fault.hint for fault in found} >= {'did you mean "minute"?', 'did you mean "mae"?'}


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ('"a model", Quote, Features, target=target, error="mape", **same', "bad_name"),
        ('"m", Features, Features, target=target, error="mape", **same', "bad_request"),
        ('"m", Quote, Quote, target=target, error="mape", **same', "bad_features"),
        ('"m", Quote, Features, target=5, error="mape", **same', "bad_target"),
        ('"m", Quote, Features, target=target - Quote.colors, error="mape", **same', "bad_target"),
        ('"m", Quote, Features, target=loose, error="mape", **same', "bad_target"),
        ('"m", Quote, Features, target=target, error="log_loss", **same', "bad_error"),
        ('"m", Quote, Features, target=target, error="mape", guard=0.01, **same', "wrong_type"),
        ('"m", Quote, Features, target=target, error="mape", guard=ik.Guard(2.0), **same', "out_of_range"),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=5), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(kinds={"unseen_valu": ik.refuse()}), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(kinds=ik.refuse()), **same',
            "wrong_type",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(kinds={"unseen_value": "refuse"}), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=20_000), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=(float("nan"), ik.refuse())), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=(20_000, 5)), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(stake=Quote.colors), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=(1, ik.refuse()), stake=mine.last("7d").count()), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=(1, ik.refuse()), stake=Quote.substrate), **same',
            "wrong_kind",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(above=(1, ik.refuse()), stake=Quote.colour), **same',
            "unknown_field",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.similar_cases(k=1)), **same',
            "out_of_range",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.similar_cases(otherwise=5)), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.last_champion(otherwise=ik.similar_cases(otherwise="x"))), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.rule_of_thumb(mine.last("7d").count())), **same',
            "bad_guard",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.rule_of_thumb(Quote.substrate)), **same',
            "wrong_kind",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(otherwise=ik.rule_of_thumb(Quote.colour)), **same',
            "unknown_field",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", guard=ik.Guard(review="soon"), **same',
            "bad_duration",
        ),
        ('"m", Quote, Features, target=target, error="mape", stale="10m", **same', "wrong_type"),
        ('"m", Quote, Features, target=target, error="mape", audits="leakage", **same', "wrong_type"),
        (
            '"m", Quote, Features, target=target, error="mape", audits=ik.Audits(off=("leak",)), **same',
            "bad_audits",
        ),
        ('"m", Quote, Features, target=target, error="mape", stale=ik.Stale("ten"), **same', "bad_duration"),
        (
            '"m", Quote, Features, target=target, error="mape", stale=ik.Stale(otherwise=5), **same',
            "bad_stale",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", stale=ik.Stale(unreadable=ik.similar_cases()), **same',
            "bad_stale",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", stale=ik.Stale(otherwise=ik.rule_of_thumb(Quote.colour)), **same',
            "unknown_field",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", rollout=ik.Rollout(unit=Quote.quote_id, alpha=0.5), **same',
            "out_of_range",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", rollout=ik.Rollout(unit=Quote.quote_id, minimum_days=60), **same',
            "out_of_range",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", retrain=ik.Retrain(margin=-0.1), **same',
            "out_of_range",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", watch=ik.Watch(false_alarms_per_year=0), **same',
            "out_of_range",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", influences=True, retrain=ik.Retrain(), **same',
            "needs_rollout",
        ),
        ('"m", Quote, Features, target=target, error="mape", after=[5], **same', "wrong_type"),
        ('"m", Quote, Features, target=target, error="mape", after=[ik.round_to(0)], **same', "bad_step"),
        (
            '"m", Quote, Features, target=target, error="mape", after=[ik.floor(Quote.colours)], **same',
            "unknown_field",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", after=[ik.floor(Quote.substrate)], **same',
            "wrong_kind",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", after=[ik.after(lambda a: Results.where(quote_id='
            'Quote.quote_id).last("1d").count())], **same',
            "bad_after",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", after=[ik.after(lambda a: "x")], **same',
            "bad_after",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", model=ik.sklearn("Ridges"), **same',
            "bad_estimator",
        ),
        ('"m", Quote, Features, target=target, error="mape", model="Ridge", **same', "wrong_type"),
        (
            '"m", Quote, Features, target=target, error="mape", rollout=ik.Rollout(Quote.colors), **same',
            "bad_unit",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", retrain=ik.Retrain(every="2h"), **same',
            "bad_duration",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", action=ik.Act("warn", 1, 1), **same',
            "bad_action",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", history="q.parquet", choose=same["choose"]',
            "wrong_type",
        ),
        (
            '"m", Quote, Features, target=target, error="mape", history=same["history"], choose=5',
            "wrong_type",
        ),
    ],
)
def test_a_model_that_cannot_hold_is_refused(tmp_path: Path, model: str, code: str) -> None:
    targets = 'target = result.price.latest(absent=0)\nloose = Results.where().within("1d").price.latest(absent=0)\n'
    found = faults(tmp_path, targets + f"m = ik.Model({model})\n")
    assert [fault.code for fault in found] == [code], found
    assert found[0].where.startswith(line_of(tmp_path, "m = ik.Model"))


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ('class T(ik.Events, time="at"):\n    t: ik.Id\n', "missing_option"),
        ('class T(ik.Events, time="at", id="u"):\n    t: ik.Id\n', "bad_id"),
        ('class T(ik.Events, time="t", id="t"):\n    t: ik.Id\n', "wrong_kind"),
        ('class T(ik.Events, time="at", id="t", sources="x"):\n    t: ik.Id\n', "unknown_option"),
        ('class T(ik.Events, time="at", id="t"):\n    t: ik.Id = ik.optional()\n', "bad_limits"),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    at: ik.Time = ik.optional()\n',
            "bad_limits",
        ),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: ik.Cat = ik.between(1, 2)\n',
            "bad_limits",
        ),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: ik.Num = ik.between(2, 1)\n',
            "bad_limits",
        ),
        ('class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: ik.Num = 5\n', "bad_limits"),
        ('class T(ik.Request):\n    x: ik.Num = ik.at_least("5")\n', "bad_limits"),
        ('class T(ik.Request):\n    x: ik.Num = ik.between("5", 6)\n', "bad_limits"),
        ('class T(ik.Request):\n    x: ik.Cat = ik.one_of("a", 6)\n', "bad_limits"),
        ('class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: int\n', "unknown_type"),
        ('class T(ik.Request):\n    t: ik.Id\n    x: "ik.Numb"\n', "unknown_type"),
        ('class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    count: ik.Num\n', "reserved_name"),
        ('class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    T: ik.Num\n', "twice"),
        ('class T(ik.Events, time="at", id="t", fresh="3 hours"):\n    t: ik.Id\n', "bad_duration"),
        ('class T(ik.Events, time="at", id="t", fresh=3):\n    t: ik.Id\n', "bad_fresh"),
        ('class T(ik.Events, time="at", id="t", fresh=ik.Fresh()):\n    t: ik.Id\n', "bad_fresh"),
        ('class T(ik.Events, time="at", id="t", fresh=ik.Fresh(warn=6)):\n    t: ik.Id\n', "bad_duration"),
        ('class T(ik.Events, time="at", id="t", fresh=ik.Fresh("2d", "1d")):\n    t: ik.Id\n', "bad_fresh"),
        ('class T(ik.Events, time="at", id="t", fresh=ik.market(by="x")):\n    t: ik.Id\n', "bad_fresh"),
        (
            'class T(ik.Events, time="at", id="t", fresh=ik.market(by=("t", "at"))):\n    t: ik.Id\n',
            "bad_fresh",
        ),
        ('class T(ik.Events, time="at", id="t", deleted="gone"):\n    t: ik.Id\n', "bad_deleted"),
        ('class T(ik.Events, time="at", id="t", deleted="x"):\n    t: ik.Id\n    x: ik.Num\n', "bad_deleted"),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: ik.Num\n    c: ik.Cat\n'
            '    @ik.rule("r")\n    def r(row):\n        return row.x > row.c\n',
            "wrong_kind",
        ),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    @ik.rule("r")\n    def r(row):\n'
            "        return row.x > 1\n",
            "bad_rule",
        ),
        (
            'class T(ik.Events, time="at", id="t"):\n    t: ik.Id\n    x: ik.Num\n    @ik.rule("r")\n'
            "    def r(row):\n        return row.x + 1\n",
            "bad_rule",
        ),
    ],
)
def test_a_table_that_cannot_hold_is_refused(tmp_path: Path, table: str, code: str) -> None:
    found = faults(tmp_path, table)
    assert [fault.code for fault in found] == [code], found
    assert found[0].where.startswith("project.py:")


def test_code_that_does_not_run_is_reported_with_its_line(tmp_path: Path) -> None:
    for wrong in ("broken = (1,", "broken = 1 / 0", "broken = ik.Model('x')", "def f(): return nil\nf()"):
        found = faults(tmp_path, wrong)
        last = (tmp_path / "project.py").read_text(encoding="utf-8").count("\n") + 1 - wrong.count("\n")
        assert [fault.code for fault in found] == ["broken_project"]
        assert found[0].where == f"project.py:{last}", (wrong, found)


def test_a_project_needs_a_file_and_a_model(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert caught.value.code == "no_project"
    assert [fault.code for fault in faults(tmp_path, source="import icekeel as ik\n")] == ["no_model"]


class Parent(ik.Request):
    colors: ik.Num = ik.between(1, 12)


class Child(Parent):
    width: ik.Num = ik.optional()


def test_a_derived_class_keeps_the_limits_of_its_fields() -> None:
    assert Child.icekeel_fields["colors"] == Parent.icekeel_fields["colors"]
    assert list(Child.icekeel_fields) == ["colors", "width"]


def test_names_used_too_early_are_reported_with_all_else(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
        class Wrong(ik.Features):
            growth = trend * 2
            trend = growth + Quote.colors
            itself = itself + 1
            early = later + later
            later = Quote.colors * 2
            typo = Qote.colors * 2
            own = Wrong.later
            window = late.revenue.mean() + sum(late.count() for _ in range(2))
            column = mine.last("7d").revenu.sum()

        late = mine.last("1d")
        other = ik.Model("other", Quot, Wrong, target=result.price.latest(absent=0), error="mae", **same)
        """,
    )
    lines = (tmp_path / "project.py").read_text(encoding="utf-8").splitlines()

    def place(name: str, start: str = "    ") -> str:
        return f"project.py:{next(at for at, line in enumerate(lines, 1) if line.startswith(start + name + ' = '))}"

    later, late = (place(name, start).partition(":")[2] for name, start in (("later", "    "), ("late", "")))
    assert [(fault.code, fault.where, fault.got, fault.hint) for fault in found[:6]] == [
        (
            "cyclic_definition",
            place("growth") + " Wrong.growth",
            "growth -> trend -> growth",
            "give what they share a name of its own, above both",
        ),
        (
            "cyclic_definition",
            place("itself") + " Wrong.itself",
            "itself -> itself",
            "give what they share a name of its own, above both",
        ),
        (
            "used_before_defined",
            place("early") + " Wrong.early",
            "later",
            f"it is defined on line {later}: move that above",
        ),
        ("unknown_name", place("typo") + " Wrong.typo", "Qote", 'did you mean "Quote"?'),
        (
            "used_before_defined",
            place("own") + " Wrong.own",
            "Wrong",
            "inside the class write the bare name, without Wrong.",
        ),
        (
            "used_before_defined",
            place("window") + " Wrong.window",
            "late",
            f"it is defined on line {late}: move that above",
        ),
    ]
    assert [(fault.code, fault.hint) for fault in found[6:]] == [
        ("unknown_name", 'did you mean "Quote"?'),
        ("unknown_column", 'did you mean "revenue"?'),
    ]
    assert found[6].where == place("other", "") + " other"


def test_names_of_a_star_import_are_not_doubted(tmp_path: Path) -> None:
    found = faults(tmp_path, "from icekeel import *\nx = exp(Quote.colors)\ny = late + 1\nlate = x\n")
    assert [(fault.code, fault.got) for fault in found] == [("used_before_defined", "late")]
    found = faults(tmp_path, "from icekeel import *\nx = nil(Quote.colors)\n")
    assert [fault.code for fault in found] == ["broken_project"]


def test_classes_made_of_each_other_are_a_ring(tmp_path: Path) -> None:
    more = """
    class One(ik.Features):
        a = Two.b * 2

    class Two(ik.Features):
        b = Three.c + 1
        own = Quote.colors

    class Three(ik.Features):
        c = One.a
        d = mine.count()
    """
    found = faults(tmp_path, more)
    assert [(fault.code, fault.got) for fault in found] == [
        ("cyclic_definition", "One -> Two -> Three -> One"),
        ("no_horizon", ""),
    ]
    assert found[0].where == line_of(tmp_path, "    a = Two") + "One.a"


@pytest.mark.parametrize(
    ("feature", "code", "hint"),
    [
        ("mine.count()", "no_horizon", 'write .last("30d") or .next("30d") before it'),
        ("mine.revenue.mean()", "no_horizon", 'write .last("30d") or .next("30d") before it'),
        ("mine[Orders.revenue * 2].sum()", "no_horizon", 'write .last("30d") or .next("30d") before it'),
        ("mine.last().count()", "no_horizon", '.last("30d")'),
        ("mine.next().revenue.max()", "no_horizon", '.next("30d")'),
        ("Orders.revenue.sum()", "no_horizon", 'Orders.where(...).last("30d").revenue.sum()'),
        ('Orders.last("3d").count()', "no_horizon", 'Orders.where(...).last("30d")'),
        ("Orders.count()", "no_horizon", 'Orders.where(...).last("30d")'),
        ('mine.last("1001w").last("3d").count()', "unknown_column", ""),
        ('mine.last("99999w").count()', "bad_duration", ""),
        ('mine.last("999999999999d").count()', "bad_duration", ""),
        ("mine.last(5).count()", "bad_duration", ""),
        ("mine.last(None).count()", "bad_duration", ""),
        ("week.revenue.avg()", "unknown_aggregate", 'did you mean "mean"?'),
        ("week.revenue.rolling(3)", "unknown_aggregate", 'did you mean "mean_of_last"?'),
        ("Quote.colors.rounds()", "unknown_method", 'did you mean "round"?'),
        ("week.revenue()", "not_aggregated", "aggregate it: window.count(), window.column.mean()"),
        ("week + 1", "not_aggregated", "aggregate it: window.count(), window.column.mean()"),
        ("1 - week.revenue", "not_aggregated", "aggregate it: window.count(), window.column.mean()"),
        ("Quote.colors * mine", "not_aggregated", "aggregate it: window.count(), window.column.mean()"),
        ("week.revenue", "not_a_feature", "aggregate the window: .count(), .column.mean()"),
        ("mine", "not_a_feature", "aggregate the window: .count(), .column.mean()"),
        ("5", "not_a_feature", ""),
        ("result.price.latest(absent=0)", "needs_outcome", ""),
        ("Orders.where(Orders.revenue > result.count()).last('3d').count()", "needs_outcome", ""),
        ("week.revenue.rank_of(result.price.latest(absent=0))", "needs_outcome", ""),
        ("week.revenue.rank_of(week.revenue.mean())", "not_of_the_request", LATEST.format("rank_of")),
        ("week.revenue.share_of(Orders.revenue)", "not_of_the_request", LATEST.format("share_of")),
        ("week.revenue.rank_of(Quote.substrate)", "wrong_kind", ""),
        ("week.paper.rank_of()", "wrong_kind", ""),
        ("week.paper.rank_of(Quote.substrate)", "wrong_kind", ""),
        ("week.paper.share_of(Quote.colors)", "wrong_kind", ""),
        ("week.ordered_at.share_of()", "wrong_kind", ""),
        ("week.revenue.share_of(ik.asked_at)", "wrong_kind", ""),
        ("week.revenue.share_of(Quote.colour)", "unknown_field", 'did you mean "colors"?'),
        ("week.revenu.share_of(1)", "unknown_column", 'did you mean "revenue"?'),
        (
            "week.revenue.share()",
            "wrong_kind",
            'make a flag of it: window[Orders.column == "a"].share(), or .share_of("a")',
        ),
        ("week.revenue.acceleration_over_last(0)", "bad_k", ""),
        ("week.revenue.mean_of_last('3')", "bad_k", ""),
        ("week.ordered_at.last()", "wrong_kind", ""),
        (
            "ik.table(Quote.substrate, {'vinyl': 1})",
            "missing_default",
            "default=0, or what suits an unknown text",
        ),
        (
            "Orders.revenue + 1",
            "bare_event_column",
            'aggregate it: Table.where(...).last("7d").column.mean()',
        ),
        ("Quote.colors * 10**400", "bad_constant", ""),
        ("big(Quote.colors)", "too_large", "make it two features"),
        ("mine.last('1d')[big(Orders.revenue)].sum()", "too_large", "make it two features"),
        ("week[Results.price].sum()", "foreign_column", ""),
    ],
)
def test_a_feature_that_cannot_hold_is_refused(tmp_path: Path, feature: str, code: str, hint: str) -> None:
    more = """
    week = mine.last("7d")

    def big(x):
        for _ in range(9):
            x = x * x
        return x

    class Wrong(ik.Features):
        f = """
    found = faults(tmp_path, textwrap.dedent(more) + feature + "\n")
    assert [fault.code for fault in found] == [code], found
    assert found[0].hint == hint
    assert found[0].where.startswith(line_of(tmp_path, "    f = ") + "Wrong.f"), found


def test_an_intermediate_that_cannot_hold_is_reported_once_where_it_is_made(tmp_path: Path) -> None:
    more = """
    class Wrong(ik.Features):
        _shared = mine.last("7d").revenu.sum()
        one = _shared + 1
        two = _shared + one
    """
    found = faults(tmp_path, more)
    assert [fault.where.split()[1] for fault in found] == ["Wrong._shared:"]
    outside = """
    theirs = Orders.where(custmer=Quote.customer).last("7d")
    ratio = Quote.colour / 2
    added = Quote.substrate + 1

    class Wrong(ik.Features):
        one = theirs.count()
        two = theirs.revenue.mean() * ratio
        three = Quote.colour
    """
    found = faults(tmp_path, outside)
    assert [fault.where for fault in found] == [
        line_of(tmp_path, "theirs = ") + "theirs: Orders.where(custmer=)",
        line_of(tmp_path, "ratio = ") + "ratio: Quote.colour",
        line_of(tmp_path, "added = ") + "added",
        line_of(tmp_path, "    three = ") + "Wrong.three: Quote.colour",
    ]


@pytest.mark.parametrize("function", ["latest", "first", "sum", "mean", "max"])
def test_an_outcome_must_say_what_it_means_that_nothing_came(function: str) -> None:
    class Question(ik.Request):
        question_id: ik.Id

    class Results(ik.Events, time="decided_at", id="question_id"):
        question_id: ik.Id
        price: ik.Num

    later = Results.where(question_id=Question.question_id).within("30d")
    node = getattr(later.price, function)().node
    assert [(fault.code, fault.hint) for fault in node.faults] == [
        ("missing_absent", "absent=ik.UNKNOWN leaves such questions out, absent=0 counts them as 0")
    ]


def test_a_file_that_was_changed_in_the_same_second_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = (Path(flights.__file__).parent / "project.py").read_text()
    for hours in (1, 2, 1):
        changed = source.replace('last("1h")', f'last("{hours}h")')
        (tmp_path / "project.py").write_text(changed)
        os.utime(tmp_path / "project.py", (1e9, 1e9))
        model = load_project(tmp_path).models["late"]
        windows = [
            below
            for one in model.features.icekeel_features
            for below in walk(one.node)
            if isinstance(below, Windowed)
        ]
        assert any(window.high == hours * HOUR for window in windows)
        assert not any(window.high == (3 - hours) * HOUR for window in windows)


def test_all_that_is_wrong_in_a_guard_is_said_at_once(tmp_path: Path) -> None:
    written = (
        'ik.Guard(2, otherwise=ik.similar_cases(k=1, otherwise=5), kinds={"odd": ik.mark()}, above=(9, "x"), '
        'stake=Quote.substrate, review="1 month")'
    )
    target = "result.price.latest(absent=0)"
    model = f'm = ik.Model("m", Quote, Features, target={target}, error="mape", guard={written}, **same)'
    where = {fault.where.split("guard, ")[-1]: fault.code for fault in faults(tmp_path, model)}
    assert where == {
        "budget": "out_of_range",
        "kinds": "bad_guard",
        "otherwise, k": "out_of_range",
        "otherwise.otherwise": "bad_guard",
        "above": "bad_guard",
        "stake": "wrong_kind",
        "review": "bad_duration",
    }


def test_the_guard_can_find_what_policies_may_name() -> None:
    assert set(guard.KINDS) <= set(policies.KINDS)


def test_every_policy_of_a_guard_is_named_with_its_place() -> None:
    made = ik.Guard(
        otherwise=ik.similar_cases(otherwise=ik.last_champion(otherwise=ik.rule_of_thumb(5))),
        kinds={"unseen_pair": ik.mark()},
        above=(9, ik.refuse()),
    )
    assert [where for where, _ in made.policies()] == [
        "otherwise",
        'kinds["unseen_pair"]',
        "above",
        "otherwise.otherwise",
        "otherwise.otherwise.otherwise",
        "otherwise.otherwise.otherwise.otherwise",
    ]


def test_a_wrong_argument_hides_no_other_fault(tmp_path: Path) -> None:
    model = """m = ik.Model("m", Quote, Features, target=result.price.latest(absent=0), error="mea", guard=0.1,
        rollout=5, influences=True, retrain=ik.Retrain(margin=-1), after=[5, ik.round_to(0)],
        history=5, choose=ik.Simplest(within=1000))
    """
    found = faults(tmp_path, model)
    assert [(fault.code, fault.what.split("=")[0]) for fault in found if fault.code != "wrong_type"] == [
        ("bad_error", "this error does not fit a num target"),
        ("out_of_range", "out of range"),
    ]
    assert {fault.what.split("=")[0] for fault in found if fault.code == "wrong_type"} == {
        *("history", "guard", "rollout", "after", "within")
    }


def test_a_request_of_another_type_hides_no_fault_that_does_not_depend_on_it(tmp_path: Path) -> None:
    model = 'm = ik.Model("m", 5, Features, target=result.price.latest(absent=0), error="mea", **same)'
    assert [fault.code for fault in faults(tmp_path, model)] == ["bad_request", "bad_error"]


def test_words_of_other_languages_are_all_told_with_what_they_are_called_here(tmp_path: Path) -> None:
    more = "class More(ik.Features):\n    a = ik.log(Quote.colors)\n    b = ik.sqr(Quote.colors)\n"
    found = faults(tmp_path, more)
    assert [(fault.code, fault.what, fault.hint) for fault in found] == [
        ("unknown_word", "there is no ik.log", "did you mean ik.ln?"),
        ("unknown_word", "there is no ik.sqr", 'did you mean "sqrt"?'),
    ]
    assert [fault.where for fault in found] == [
        line_of(tmp_path, f"    {name} = ").rstrip(" ") for name in "ab"
    ]


@pytest.mark.parametrize("code", ["1 if Quote.colors > 3 else 0", "Quote.colors > 3 and Quote.colors < 5"])
def test_a_condition_of_python_is_told_what_to_write(tmp_path: Path, code: str) -> None:
    (found,) = faults(tmp_path, f"class More(ik.Features):\n    heavy = {code}\n")
    assert (found.code, found.where) == ("no_truth_value", line_of(tmp_path, "    heavy = ").rstrip(" "))
    assert "ik.when" in found.hint


def test_a_ladder_and_requirements_that_cannot_hold_are_refused(tmp_path: Path) -> None:
    more = """
    again = dict(same, target=result.price.latest(absent=None), error="mape")
    a = ik.Model("a", Quote, Features, **again, ladder=ik.Ladder(trees="catboost", tune_s=-1))
    b = ik.Model("b", Quote, Features, **again, ladder="deep")
    money = ik.usd_per_year(5_000, error_point=40_000)
    c = ik.Model("c", Quote, Features, **dict(again, choose=ik.Simplest(within=money, at_most=0, group_worse="a lot")))
    d = ik.Model("d", Quote, Features, **again, ladder=ik.Ladder(trees="xgboost", tune_s=60))
    """
    found = {(fault.code, fault.where.partition(" ")[2]) for fault in faults(tmp_path, more)}
    assert found == {
        ("bad_trees", 'Model "a", ladder'),
        ("out_of_range", 'Model "a", ladder, tune_s'),
        ("wrong_type", 'Model "b"'),
        ("out_of_range", 'Model "c", choose, at_most'),
        ("out_of_range", 'Model "c", choose, group_worse'),
    }
