"""What is kept of past questions is, to the last bit, what computing them anew would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import icekeel as ik
from icekeel.core.frames import Array, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, History
from icekeel.data.relations import create_table
from icekeel.define.features import Feature
from icekeel.define.nodes import Windowed
from icekeel.features.offline import EventStore, historical_features
from icekeel.features.plan import Plan, make_plan
from icekeel.training.cache import FeatureCache, Work

BEGIN = parse_time("2024-01-10")
MARCH = parse_time("2024-03-01")


class Ask(ik.Request):
    who: ik.Id = ik.optional()
    x: ik.Num


class Things(ik.Events, time="happened_at", available="known_at", id="thing"):
    thing: ik.Id
    who: ik.Id
    amount: ik.Num = ik.optional()
    label: ik.Cat = ik.optional()


his = Things.where(who=Ask.who)


class Past(ik.Features):
    count = his.last("6h").count()
    sum_20d = his.last("20d").amount.sum()
    std = his.last("9d").amount.std()
    mean_times_x = his.last("20d").amount.mean(empty=0) * Ask.x
    label = his.last("2d").label.last(empty="none")
    everybody = Things.where().last("1d").amount.sum()
    planned = his.next("2d").count()


class More(ik.Features):
    most = his.last("20d").amount.max()
    labels = his.last("20d").label.distinct()
    change = his.last("20d").amount.change_over_last(2)


def relative(name: str, like: str, function: str, of: Any) -> Feature:
    """A feature about a value of the request."""
    window = next(f.node for f in (*Past.icekeel_features, *More.icekeel_features) if f.name == like)
    assert isinstance(window, Windowed)
    return Feature(name, replace(window, function=function, of=of, kind=Kind.NUM, k=0))


FIRST = (*Past.icekeel_features, relative("rank", "most", "rank_of", Ask.x.node))
SECOND = (*FIRST, *More.icekeel_features, relative("own", "labels", "share_of", None))
FIELDS = tuple(Ask.icekeel_fields.values())
TABLES = {"Things": Things.icekeel_table}
STAMPS = (Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME))
COLUMNS = (*(Column(f.name, f.kind) for f in TABLES["Things"].fields.values()), *STAMPS)
Row = dict[str, Any]


def events(rng: np.random.Generator, n: int = 300) -> list[Row]:
    """Versions over ten weeks, as they became known: on time, late, announced, corrected, deleted."""
    rows: list[Row] = []
    for at in np.sort(rng.integers(0, 70 * 24 * 60, n)).tolist():
        known = BEGIN + at * 60_000_000
        again = bool(rows) and rng.random() < 0.3
        name = rows[int(rng.integers(len(rows)))]["thing"] if again else f"t{len(rows)}"
        late = int(rng.choice([0, 0, 1, 30, -20])) * HOUR
        row = {"thing": name, "who": "abc"[int(rng.integers(3))], "amount": float(rng.normal()) * 10.0**9}
        known -= known % (8 * HOUR)  # so that many events are of the same time
        row |= {"label": [None, "a", "é\0", ""][int(rng.integers(4))], "happened_at": known - late}
        row |= {"known_at": known, AVAILABLE: known, DELETED: float(again and rng.random() < 0.2)}
        rows.append(row | {SEQUENCE: len(rows)})
    return rows


def questions(rng: np.random.Generator, n: int, begin: int, end: int) -> tuple[Frame, Ints]:
    who = rng.choice(np.array(["a", "b", "c", "stranger", None], dtype=object), n)
    frame = Frame({"who": who, "x": rng.integers(-9, 9, n).astype(np.float64) * 10.0**8})
    return frame, np.sort(rng.integers(begin, end, n))


def store_rows(history: History, rows: Sequence[Row]) -> None:
    def array(column: Column) -> Array:
        kinds = {Kind.TIME: np.int64, Kind.NUM: np.float64, Kind.FLAG: np.float64}
        return np.array([row[column.name] for row in rows], dtype=kinds.get(column.kind, np.object_))

    with duckdb.connect() as connection, history.adding() as manifest:
        create_table(connection, "part", COLUMNS, Frame({column.name: array(column) for column in COLUMNS}))
        draft = history.folder / "draft"
        connection.execute(f"COPY (SELECT * EXCLUDE (_row) FROM part) TO '{draft}' (FORMAT parquet)")
        known_from = min(row[AVAILABLE] for row in rows)
        history.replace(
            manifest, {"Things": [history.adopt("Things", draft, len(rows), known_from=known_from)]}
        )


@dataclass
class World:
    """A history that grows, and features of it kept in one folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.history = History(self.folder / "history")

    def cache(self, plan: Plan, asked: tuple[Frame, Ints], kept: str = "kept") -> FeatureCache:
        return FeatureCache(self.folder / kept, plan, TABLES, self.history.manifest(), *asked)

    def store(self, **options: Any) -> EventStore:
        return EventStore(TABLES, {"Things": self.history.files("Things")}, threads=1, **options)

    def check(self, plan: Plan, asked: tuple[Frame, Ints], *, scratch: str) -> dict[str, int]:
        """Compute by what is kept, anew, and all at once; gives how many parts were missing, by reason."""
        cache = self.cache(plan, asked)
        missing: dict[str, int] = {}
        for part in cache.parts:
            if part.why:
                missing[part.why] = missing.get(part.why, 0) + 1
        store, split = self.store(), self.store(part_bytes=4000)
        got, anew = cache.features(store), self.cache(plan, asked, scratch).features(split)
        identical(got, anew)
        close(got, historical_features(plan, *asked, store))
        store.close()
        split.close()
        assert not [part for part in self.cache(plan, asked).parts if part.why]
        return missing


def identical(one: Frame, other: Frame) -> None:
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def close(one: Frame, other: Frame) -> None:
    for name in one:
        if one[name].dtype == object:
            assert one[name].tolist() == other[name].tolist(), name
        else:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-11, atol=1e-2, err_msg=name)


@pytest.mark.parametrize("seed", range(2))
def test_only_what_changed_is_computed_and_nothing_differs(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world, rows = World(tmp_path), events(rng)
    late = [row for row in rows if rng.random() < 0.1 and row[AVAILABLE] >= MARCH]
    early = [row for row in rows if row not in late and row[AVAILABLE] < MARCH]
    rest = [row for row in rows if row not in late and row[AVAILABLE] >= MARCH]
    first, more = make_plan(FIELDS, FIRST), make_plan(FIELDS, SECOND)
    asked = questions(rng, 90, BEGIN, MARCH)
    windows, added = len(first.slots), len(more.slots) - len(first.slots)

    store_rows(world.history, early)
    assert world.check(first, asked, scratch="one") == {"new window": 2 * windows}
    assert world.check(first, asked, scratch="two") == {}
    assert world.check(more, asked, scratch="three") == {"new window": 2 * added}

    store_rows(world.history, rest)  # what became known in March changes no question of January or February
    assert world.check(more, asked, scratch="four") == {}
    since = questions(rng, 40, MARCH, MARCH + 15 * DAY)
    grown = Frame.stack([asked[0], since[0]]), np.concatenate([asked[1], since[1]])
    assert world.check(more, grown, scratch="five") == {"new questions": len(more.slots)}

    store_rows(world.history, late)
    (reason, parts), *others = world.check(more, grown, scratch="six").items()
    assert reason.startswith("new events in Things since 2024-03") and parts == len(more.slots) and not others
    store_rows(world.history, events(rng, 40))  # a file that says what was known from January on
    assert sum(world.check(more, grown, scratch="seven").values()) == 3 * len(more.slots)
    kept = {path.name for path in (tmp_path / "kept").glob("*.npz")}
    assert len(kept) == 3 * len(more.slots)  # what nothing needs any more is gone
    assert world.check(first, grown, scratch="eight") == {}
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 3 * windows


@pytest.mark.parametrize("seed", range(3))
def test_a_state_of_last_march_is_rebuilt_as_it_was_known(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world, rows, plan = World(tmp_path), events(rng), make_plan(FIELDS, SECOND)
    asked = questions(rng, 60, BEGIN, MARCH)
    store_rows(world.history, [row for row in rows if row[AVAILABLE] <= MARCH])
    then = world.store()
    before = historical_features(plan, *asked, then)
    store_rows(world.history, [row for row in rows if row[AVAILABLE] > MARCH])
    now = world.store()
    identical(historical_features(plan, *asked, now), before)
    then.close()
    now.close()


@pytest.mark.parametrize("damage", [b"", b"PK and nothing else", None])
def test_a_damaged_part_is_computed_again_and_kept(tmp_path: Path, damage: bytes | None) -> None:
    rng = np.random.default_rng(0)
    world, plan, asked = World(tmp_path), make_plan(FIELDS, FIRST), questions(rng, 50, BEGIN, MARCH)
    store_rows(world.history, events(rng))
    store = world.store()
    first = world.cache(plan, asked).features(store)
    for path in (tmp_path / "kept").glob("*.npz"):
        content, middle = path.read_bytes(), len(path.read_bytes()) // 2
        bitten = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(bitten if damage is None else damage)
    (tmp_path / "kept" / "seen.json").write_bytes(b"{")
    identical(world.cache(plan, asked).features(store), first)
    identical(world.cache(plan, asked).features(store), first)
    store.close()


def test_each_feature_says_why_it_would_be_computed(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    world, asked = World(tmp_path), questions(rng, 50, BEGIN, MARCH)
    store_rows(world.history, events(rng))

    def works(features: Sequence[Feature], asked: tuple[Frame, Ints] = asked) -> dict[str, Work]:
        cache = world.cache(make_plan(FIELDS, features), asked)
        return {feature.name: cache.work(feature) for feature in features}

    plain, parts = Feature("x", Ask.x.node), tmp_path / "kept"
    assert works([plain])["x"] == Work(50, 0, ("reads no events: never kept",))
    assert set(works(FIRST).values()) == {Work(50, 0, ("new",))}
    store = world.store()
    world.cache(make_plan(FIELDS, FIRST), asked).features(store)
    store.close()
    assert set(works(FIRST).values()) == {Work(0, 50, ("unchanged",))}
    longer = [replace(FIRST[0], node=his.last("5h").count().node), *FIRST[1:]]
    assert works(longer)["count"] == Work(50, 0, ("changed definition",))
    assert works(longer)["std"] == Work(0, 50, ("unchanged",))
    since = questions(rng, 7, MARCH, MARCH + DAY)
    grown = Frame.stack([asked[0], since[0]]), np.concatenate([asked[1], since[1]])
    assert set(works(FIRST, grown).values()) == {Work(7, 50, ("new questions",))}
    for path in parts.glob("*.npz"):
        path.unlink()
    assert set(works(FIRST).values()) == {Work(50, 0, ("not kept",))}
