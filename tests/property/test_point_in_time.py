"""Features see what was known when they were asked for, and no engine disagrees: the laws of time."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import icekeel as ik
from icekeel.core.frames import NO_TIME, Array, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, History
from icekeel.data.relations import create_table
from icekeel.define.expressions import expression
from icekeel.define.nodes import Node, RequestField, walk
from icekeel.features.live import EventFeed, LiveFeatures, all_views
from icekeel.features.offline import EventStore, historical_features
from icekeel.features.online import LmdbWindows, TextCodes, open_environment
from icekeel.features.plan import Plan, make_plan

Answer = float | str | None
BEGIN = 1_700_000_000_000_000 // DAY * DAY


class Ask(ik.Request):
    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    x: ik.Num


class Things(ik.Events, time="happened_at", available="known_at", id="thing"):
    thing: ik.Id
    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    amount: ik.Num = ik.optional()
    good: ik.Flag = ik.optional()
    label: ik.Cat = ik.optional()


his = Things.where(who=Ask.who)
good = Things.where(Things.good | (Things.amount > 3), who=Ask.who)
both = Things.where(who=Ask.who, sort=Ask.sort)
sort = Things.where(sort=Ask.sort, label="a")


class Past(ik.Features):
    count = his.last("6h").count()
    sum_2d = his.last("2d").amount.sum()
    mean_2d = his.last("2d").amount.mean(empty=-1)
    std_2d = his.last("2d").amount.std()
    least = his.last("2d").amount.min()
    most = his.last("6h").amount.max()
    first = his.last("2d").amount.first()
    last = his.last("2d").amount.last()
    label_first = his.last("6h").label.first()
    label_last = his.last("2d").label.last(empty="none")
    labels = his.last("2d").label.distinct()
    amounts = both.last("2d").amount.distinct()
    crossed = ik.cross(both.last("2d").label.last(), Ask.sort)
    since = his.last("2d").hours_since()
    share = his.last("2d").good.mean()
    mean_last_3 = his.last("2d").amount.mean_of_last(3)
    change = his.last("2d").amount.change_over_last(2)
    good_count = good.last("2d").count()
    sum_good = good.last("2d")[Things.amount * 2 + 1].sum()
    count_sort = sort.last("2d").count()
    mean_times_x = his.last("6h").amount.mean(empty=0) * Ask.x


class Anyone(ik.Features):
    count = Things.where().last("6h").count()
    label = Things.where().last("6h").label.last()
    std = Things.where().last("2d").amount.std()


class Ahead(ik.Features):
    planned = his.next("6h").count()
    label = both.next("2d").label.first()
    sum_planned = his.next("2d").amount.sum()


FIELDS = tuple(Ask.icekeel_fields.values())
TABLE = Things.icekeel_table
COLUMNS = (
    *(Column(field.name, field.kind) for field in TABLE.fields.values()),
    *(Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME)),
)


def plan_of(*sets: type[ik.Features]) -> Plan:
    named = [replace(f, name=f"{s.__name__}.{f.name}") for s in sets for f in s.icekeel_features]
    return make_plan(FIELDS, named)


@dataclass(frozen=True)
class Asked:
    who: str | None
    sort: str | None
    x: float
    at: int


Row = dict[str, Any]


def pick(rng: np.random.Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def history(rng: np.random.Generator, n: int = 140, *, deletions: bool = True) -> list[Row]:
    """Versions in the order they came: late, announced, corrected, moved, deleted, repeated, tied, null."""
    rows: list[Row] = []
    for sequence in range(n):
        fresh = not rows or rng.random() < 0.7
        known_at = BEGIN + int(rng.integers(0, 3 * 24 * 60)) * MINUTE
        row: Row = {
            "thing": f"t{sequence}" if fresh else rows[int(rng.integers(len(rows)))]["thing"],
            "who": pick(rng, "a", "b", "ü'", None),
            "sort": pick(rng, "u", "v", None),
            "amount": pick(rng, None, float(rng.integers(-9, 9)), float(rng.integers(-50, 50)) * 0.37),
            "good": pick(rng, None, 0.0, 1.0),
            "label": pick(rng, "a", "b", "é\U0001f642", None),
            "happened_at": known_at + int(rng.integers(-14 * 6, 6)) * 10 * MINUTE,
            "known_at": known_at,
            AVAILABLE: known_at,
            DELETED: float(deletions and not fresh and rng.random() < 0.2),
            SEQUENCE: sequence,
        }
        if rng.random() < 0.05 and rows:
            row = {**rows[-1], SEQUENCE: sequence}
        rows.append(row)
    return rows


def questions(rng: np.random.Generator, n: int = 40, *, at: int | None = None) -> list[Asked]:
    return [
        Asked(
            pick(rng, "a", "b", "ü'", "stranger", None),
            pick(rng, "u", "v", "w", None),
            float(rng.integers(1, 4)),
            at if at is not None else BEGIN + 2 * DAY + int(rng.integers(1, 2 * 24 * 6)) * 10 * MINUTE,
        )
        for _ in range(n)
    ]


def columns_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Frame:
    def array(column: Column) -> Array:
        values = [row[column.name] for row in rows]
        if column.kind is Kind.TIME:
            return np.array([NO_TIME if value is None else value for value in values], dtype=np.int64)
        return np.array(values, dtype=object if column.kind.is_text else np.float64)

    return Frame({column.name: array(column) for column in columns})


def offline(plan: Plan, rows: Sequence[Row], asked: Sequence[Asked], *, files: int = 2) -> list[list[Answer]]:
    """Through Parquet files as `History` keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        kept = History(Path(folder))
        with duckdb.connect() as connection, kept.adding() as manifest:
            added = []
            for part in range(files):
                create_table(connection, "part", COLUMNS, columns_of(rows[part::files], COLUMNS))
                draft = Path(folder) / "draft"
                connection.execute(f"COPY (SELECT * EXCLUDE (_row) FROM part) TO '{draft}' (FORMAT parquet)")
                added.append(kept.adopt("Things", draft, len(rows[part::files]), str(part)))
            kept.replace(manifest, {"Things": added})
        store = EventStore({"Things": TABLE}, {"Things": kept.files("Things")}, threads=1)
        requests = columns_of([vars(one) for one in asked], [Column(f.name, f.kind) for f in FIELDS])
        frame = historical_features(
            plan, requests, np.array([one.at for one in asked], dtype=np.int64), store
        )
        store.close()
    assert len(frame) == len(asked)
    listed = [frame[column.name].tolist() for column in plan.columns]
    return [[None if v != v else v for v in line] for line in zip(*listed, strict=True)]  # noqa: PLR0124


def online(plan: Plan, rows: Sequence[Row], asked: Sequence[Asked]) -> list[list[Answer]]:
    """Through the keeper's feed, in batches, into LMDB, and one question at a time out of it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = open_environment(Path(folder), map_size=1 << 26)
        lookups = all_views([plan])
        windows = LmdbWindows(environment, [lookup.view for lookup in lookups])
        feed = EventFeed({"Things": TABLE}, lookups, TextCodes(environment))
        for start in range(0, len(rows), 33):
            with environment.begin(write=True) as txn:
                windows.apply(txn, "Things", feed.versions(txn, "Things", rows[start : start + 33], 0))
        live = LiveFeatures(environment, plan, [lookup.view for lookup in lookups])
        answers = [live.read([one.who, one.sort, one.x], one.at).values for one in asked]
        environment.close()
    return answers


def same(plan: Plan, got: Sequence[Sequence[Answer]], wanted: Sequence[Sequence[Answer]]) -> None:
    """Sums, means and deviations within rounding, everything else identical."""
    assert len(got) == len(wanted)
    for mine, yours in zip(got, wanted, strict=True):
        for feature, a, b in zip(plan.features, mine, yours, strict=True):
            short = feature.name.split(".")[1]
            if short.startswith(("sum", "mean", "std", "share")) and a is not None and b is not None:
                assert math.isclose(float(a), float(b), rel_tol=1e-12, abs_tol=1e-12 * 3000), (
                    feature.name,
                    a,
                    b,
                )
            else:
                assert a == b and type(a) is type(b), (feature.name, a, b)


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
law = settings(max_examples=6, deadline=None, derandomize=True)


@law
@given(seeds)
def test_rows_out_are_rows_in_and_keep_their_order(rng: np.random.Generator) -> None:
    plan, rows, asked = plan_of(Past, Anyone, Ahead), history(rng), questions(rng)
    answers = offline(plan, rows, asked)
    order = rng.integers(0, len(asked), 70)  # some twice, some not at all
    same(plan, offline(plan, rows, [asked[at] for at in order]), [answers[at] for at in order])
    assert offline(plan, rows, []) == []


def falsified(rng: np.random.Generator, row: Row) -> Row:
    lies = {
        "who": "a",
        "sort": "u",
        "amount": 1e6,
        "good": 1.0,
        "label": "LIE",
        DELETED: float(rng.integers(2)),
    }
    return {**row, **{name: lie for name, lie in lies.items() if rng.random() < 0.7}}


@law
@given(seeds)
def test_what_is_not_yet_known_changes_nothing(rng: np.random.Generator) -> None:
    plan, rows = plan_of(Past, Anyone, Ahead), history(rng)
    at = BEGIN + int(rng.integers(DAY, 2 * DAY))
    asked = questions(rng, at=at)
    known = [row for row in rows if row[AVAILABLE] <= at]
    unknown = [row for row in rows if row[AVAILABLE] > at]
    lies = [
        {
            **falsified(rng, row),
            "happened_at": at - int(rng.integers(0, DAY)),
            "thing": rows[int(rng.integers(len(rows)))]["thing"],
        }
        for row in unknown
        if rng.random() < 0.8
    ]
    assert len(unknown) > 5
    world: list[Row] = list(rng.permutation(np.array([*known, *lies], dtype=object)))
    same(plan, offline(plan, world, asked, files=3), offline(plan, rows, asked))


@law
@given(seeds)
def test_what_has_not_happened_changes_no_window_of_the_past(rng: np.random.Generator) -> None:
    plan, rows = plan_of(Past, Anyone), history(rng)
    at = BEGIN + int(rng.integers(DAY, 2 * DAY))
    asked = questions(rng, at=at)
    later = [row["happened_at"] >= at for row in rows]
    world = [
        {**falsified(rng, row), "happened_at": row["happened_at"] + int(rng.integers(0, DAY))}
        if is_later
        else row
        for row, is_later in zip(rows, later, strict=True)
    ]
    assert any(later)
    same(plan, offline(plan, world, asked), offline(plan, rows, asked))


@law
@given(seeds)
def test_files_strangers_and_the_year_change_nothing(rng: np.random.Generator) -> None:
    plan, rows, asked = plan_of(Past, Ahead), history(rng), questions(rng)
    answers = offline(plan, rows, asked)
    permuted: list[Row] = list(rng.permutation(np.array(rows, dtype=object)))
    same(plan, offline(plan, permuted, asked, files=5), answers)
    strangers = [{**row, "thing": row["thing"] + "!", "who": "zz", "sort": "zz"} for row in history(rng)]
    same(plan, offline(plan, [*strangers, *rows], asked), answers)
    shift = 364 * DAY * int(rng.integers(-60, 60))
    times = ("happened_at", "known_at", AVAILABLE)
    moved = [{**row, **{name: row[name] + shift for name in times}} for row in rows]
    same(plan, offline(plan, moved, [replace(one, at=one.at + shift) for one in asked]), answers)


@law
@given(seeds)
def test_online_equals_offline(rng: np.random.Generator) -> None:
    plan, rows = plan_of(Past, Anyone, Ahead), history(rng)
    asked = [replace(one, at=one.at + 12 * HOUR) for one in questions(rng)]  # within a day of the newest
    same(plan, online(plan, rows, asked), offline(plan, rows, asked))


@law
@given(seeds)
def test_given_equals_offline(rng: np.random.Generator) -> None:
    plan, rows = plan_of(Past, Anyone, Ahead), history(rng, 60, deletions=False)
    asked = questions(rng, 3)
    world = ik.given(*(Things(**{name: row[name] for name in TABLE.fields}) for row in rows))

    def ask(one: Asked, node: Node) -> Answer:
        used = {below.name for below in walk(node) if isinstance(below, RequestField)}
        value: Answer = world.at(one.at)[expression(node)](**{name: getattr(one, name) for name in used})
        return value

    answers = [[ask(one, feature.node) for feature in plan.features] for one in asked]
    same(plan, answers, offline(plan, rows, asked))
