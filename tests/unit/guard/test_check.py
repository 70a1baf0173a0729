"""The words, order and limits of verdicts, on tables written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.frames import Column, Kind
from icekeel.guard import Category, Combinations, Guard, Number, Scale, Tables
from icekeel.guard.check import MOST_COMBINATIONS
from icekeel.guard.tables import MISSING, UNSEEN_PAIR, UNSEEN_TRIPLE

Row = list[float | str | None]


def category(at: int, name: str, effect: float) -> Category:
    values = ("common", "rare", None)
    return Category(name, Kind.CAT, at, values, (1, 2, 3), (0, 60, 30, 10), (0.0, 0.1, effect, 0.0), True)


def guard(
    n: int = 3,
    *,
    scale: Scale = "log",
    flagged: dict[tuple[int, ...], int] | None = None,
    effect: float = math.log(2),
    predicted: bool = True,
) -> Guard:
    """`n` categories, every combination ordinary but for `flagged` ones of rare values, one number."""
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    triples = [(i, j, k) for i, j in pairs for k in range(j + 1, n)]
    cells = Combinations.of([*pairs, *triples], [4] * n)
    flags = np.zeros(cells.starts[-1], dtype=np.uint8)
    for members, flag in (flagged or {}).items():
        cells.split(flags)[members][(2,) * len(members)] = flag
    counts = np.full(16 * len(pairs), 5, dtype="<i4")
    number = Number("size", n, 0, (1.0, 2.0, 1.0, 1.0), (90.0, 8.0, 90.0, 90.0), (False, True, False, False), (4.0,) * 4, True, True)  # fmt: skip
    categories = tuple(category(at, "abcdefg"[at], effect) for at in range(n))
    price = Number("price", n + 1, 0, (10.0,) * 4, (40.0,) * 4, (False, True, False, False), (4.0,) * 4, True, False)  # fmt: skip
    tables = Tables(
        rows=100,
        target="price",
        scale=scale,
        categories=categories,
        numbers=(number,),
        combinations=(*pairs, *triples),
        pair_counts=counts.tobytes(),
        flags=flags.tobytes(),
        prediction=price if predicted else None,
    )
    return Guard.load(tables.encode())


def test_an_ordinary_request_has_no_verdict() -> None:
    assert guard().check(["common", "rare", None, 5.0]) == []
    assert guard().check(["common", float("nan"), "rare", 5]) == []


def test_columns_are_in_the_order_of_the_values() -> None:
    assert guard(1).columns == (Column("a", Kind.CAT), Column("size", Kind.NUM))


def test_an_unseen_value_is_named_once_and_hides_its_combinations() -> None:
    (verdict,) = guard(flagged={(0, 1): UNSEEN_PAIR}).check(["rare", "odd", "rare", 5.0])
    assert (verdict.kind, verdict.code, verdict.columns) == ("unseen_value", "unseen_value:b", ("b",))
    assert verdict.reason == "never seen in 100 rows: b=odd"


def test_a_null_never_seen_is_an_unseen_value() -> None:
    (verdict,) = guard().check(["common", "common", "common", None])
    assert (verdict.kind, verdict.columns) == ("unseen_value", ("size",))


@pytest.mark.parametrize(
    ("scale", "clause"),
    [
        ("log", "each alone moves the price by 2.00x or more"),
        ("logit", "each alone moves the odds of price by 2.00x or more"),
        ("plain", "each alone moves price by 0.693 or more"),
    ],
)
def test_a_triple_says_what_its_values_move(scale: Scale, clause: str) -> None:
    (verdict,) = guard(scale=scale, flagged={(0, 1, 2): UNSEEN_TRIPLE}).check(["rare", "rare", "rare", 5.0])
    assert verdict.reason == f"never seen together: a=rare + b=rare + c=rare; {clause}"
    assert verdict.score == pytest.approx(math.log(2))


def test_combinations_that_ought_to_exist_say_how_often() -> None:
    (pair,) = guard(flagged={(0, 2): UNSEEN_PAIR}).check(["rare", "common", "rare", 5.0])
    assert pair.code == "unseen_pair:a+c"
    assert pair.score == 9.0  # 30 * 30 / 100
    assert pair.reason.endswith("about 9 such rows were to be expected")
    (triple,) = guard(flagged={(0, 1, 2): MISSING}).check(["rare", "rare", "rare", 5.0])
    assert triple.kind == "missing_combination"
    assert triple.score == pytest.approx(5 * 5 / 30)


def test_verdicts_on_combinations_are_limited() -> None:
    triples = [(i, j, k) for i in range(6) for j in range(i + 1, 6) for k in range(j + 1, 6)]
    watcher = guard(6, flagged={**dict.fromkeys(triples, MISSING), (3, 4, 5): UNSEEN_TRIPLE})
    verdicts = watcher.check(["rare"] * 6 + [5.0])
    assert len(verdicts) == MOST_COMBINATIONS
    assert verdicts[0].kind == "unseen_triple"


@pytest.mark.parametrize("value", [2.0, 8.0])
def test_ends_of_a_range_are_ordinary(value: float) -> None:
    assert guard().check(["common", "rare", "rare", value]) == []


def test_a_number_outside_names_the_range_and_where_it_holds() -> None:
    (verdict,) = guard().check(["common", "rare", "rare", 16.0])
    assert verdict.reason == "size=16 is outside 2 to 8, its ordinary range where a=common"
    assert verdict.code == "out_of_range:size+a:above"
    assert verdict.score == pytest.approx(math.log(2) / 4)
    (verdict,) = guard().check(["rare", "rare", "rare", -1.0])
    assert verdict.reason == "size=-1 is outside 1 to 90, its ordinary range"
    assert verdict.code == "out_of_range:size:below"
    assert verdict.score == math.inf


def test_a_prediction_outside_its_range_is_said_to_be_predicted() -> None:
    row: Row = ["common", "rare", "rare", 5.0]
    assert guard().check(row) == guard().check(row, 20.0) == guard().check(row, math.nan) == []
    (verdict,) = guard().check(row, 41.0)
    assert (verdict.kind, verdict.code) == ("odd_prediction", "odd_prediction:price+a:above")
    assert verdict.reason == "the predicted price=41 is outside 10 to 40, its ordinary range where a=common"
    # Without a prediction, or without ranges, nothing is said of it.
    assert guard(predicted=False).check(row, 41.0) == []


def test_rows_together_have_the_verdicts_that_each_has_alone() -> None:
    watcher = guard(flagged={(0, 1): UNSEEN_PAIR, (0, 1, 2): UNSEEN_TRIPLE})
    rows: list[Row] = [
        ["common", "rare", None, 5.0],
        ["rare", "rare", "rare", 5.0],
        ["odd", "rare", "rare", None],
        ["common", math.nan, "rare", math.nan],
        ["common", "rare", "rare", 16],
        ["common", "rare", "rare", 5],
    ]
    said = [20.0, 20.0, 20.0, math.nan, 20.0, math.inf]
    columns = [list(column) for column in zip(*rows, strict=True)]
    alone = {at: watcher.check(row, said[at]) for at, row in enumerate(rows)}
    assert watcher.check_many(columns, said) == {at: found for at, found in alone.items() if found}
    assert sorted(watcher.check_many(columns, said)) == [1, 2, 3, 4, 5]
    assert sorted(watcher.check_many(columns)) == [1, 2, 3, 4]
    assert watcher.check_many([[]] * 4, []) == {}


def test_a_reason_does_not_speak_of_effects_that_are_none() -> None:
    triple: dict[tuple[int, ...], int] = {(0, 1, 2): UNSEEN_TRIPLE}
    (verdict,) = guard(scale="plain", flagged=triple, effect=0.01).check(["rare", "rare", "rare", 5.0])
    assert verdict.reason == "never seen together in 100 rows: a=rare + b=rare + c=rare"
