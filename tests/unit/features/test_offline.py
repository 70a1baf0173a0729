"""The offline store on small tables: what a question asks about, ties, versions, files of several ages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import icekeel as ik
from icekeel.core.errors import StateError
from icekeel.core.frames import Array, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY
from icekeel.data import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import create_table
from icekeel.define.features import Feature
from icekeel.define.nodes import Keyed, Node, RequestField, Windowed
from icekeel.features.events import EventStore, same_rows
from icekeel.features.offline import historical_features
from icekeel.features.plan import Plan, make_plan


class Ask(ik.Request):
    who: ik.Id = ik.optional()
    label: ik.Cat = ik.optional()
    x: ik.Num = ik.optional()


class Things(ik.Events, time="at", id="thing"):
    thing: ik.Id
    who: ik.Id
    label: ik.Cat = ik.optional()
    amount: ik.Num = ik.optional()
    note: ik.Cat = ik.optional()


WHO = Ask.who.node
assert isinstance(WHO, RequestField)
OWN = Keyed("Things", (("who", WHO),))
LABEL, AMOUNT, NOTE = (
    Things.where().last("1d")[column] for column in (Things.label, Things.amount, Things.note)
)


def window(function: str, value: Any, of: Node | None = None, keyed: Keyed = OWN, k: int = 0) -> Windowed:
    node = value.last().node.value
    kind = node.kind if function in ("first", "last") else Kind.NUM
    return Windowed(function, keyed, 1, DAY, node, kind, k, of)


def plan(**windows: Windowed) -> Plan:
    return make_plan(
        tuple(Ask.icekeel_fields.values()), [Feature(name, node) for name, node in windows.items()]
    )


KINDS = {
    "thing": Kind.ID,
    "who": Kind.ID,
    "label": Kind.CAT,
    "amount": Kind.NUM,
    "at": Kind.TIME,
    "note": Kind.CAT,
}
KINDS |= {AVAILABLE: Kind.TIME, DELETED: Kind.FLAG, SEQUENCE: Kind.TIME}


def row(thing: str, at: int, label: str | None, amount: float | None, **more: Any) -> dict[str, Any]:
    own = {
        "thing": thing,
        "who": "a",
        "label": label,
        "amount": math.nan if amount is None else amount,
        "at": at,
    }
    return own | {AVAILABLE: at, DELETED: 0.0, SEQUENCE: int(thing[1:])} | more


def write(folder: Path, rows: Sequence[dict[str, Any]], name: str = "one") -> Path:
    path = folder / f"{name}.parquet"
    columns = [Column(column, KINDS[column]) for column in rows[0]]
    frame = {
        c.name: np.array([r[c.name] for r in rows], dtype=object if c.kind.is_text else None) for c in columns
    }
    with duckdb.connect() as connection:
        create_table(connection, "rows", columns, Frame(frame))
        connection.execute(f"COPY (SELECT * EXCLUDE (_row) FROM rows) TO '{path}' (FORMAT parquet)")
    return path


@pytest.fixture
def stores() -> Iterator[Any]:
    opened: list[EventStore] = []

    def open_store(*files: Path, **options: Any) -> EventStore:
        opened.append(
            EventStore({"Things": Things.icekeel_table}, {"Things": list(files)}, threads=1, **options)
        )
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def ask(
    store: EventStore, wanted: Plan, *asked: tuple[str | None, str | None, float | None, int]
) -> list[list[Any]]:
    def texts(place: int) -> Array:
        return np.array([one[place] for one in asked], dtype=object)

    x = np.array([math.nan if one[2] is None else one[2] for one in asked])
    frame = Frame({"who": texts(0), "label": texts(1), "x": x})
    found = historical_features(wanted, frame, np.array([one[3] for one in asked], dtype=np.int64), store)
    return [list(line) for line in zip(*(found[name].tolist() for name in found), strict=True)]


ROWS = [
    row("t1", 1, "red", 1.0),
    row("t2", 2, "red", 2.0),
    row("t3", 3, "blue", 2.0),
    row("t4", 4, None, None),
    row("t5", 5, "red", 5.0, who="b"),
]


def test_shares_and_ranks_compare_with_what_the_request_says(tmp_path: Path, stores: Any) -> None:
    label, x = Ask.label.node, Ask.x.node
    wanted = plan(
        share=window("share_of", LABEL, label),
        rank=window("rank_of", AMOUNT, x),
        own=window("share_of", LABEL),
    )
    store = stores(write(tmp_path, ROWS))
    got = ask(
        store,
        wanted,
        ("a", "red", 2.0, 9),
        ("a", "green", 0.0, 9),
        ("a", None, None, 9),
        ("b", "blue", 9.0, 9),
    )
    expected = [[2 / 3, 2 / 3, 1 / 3], [0.0, 0.0, 1 / 3], [math.nan, math.nan, 1 / 3], [0.0, 1.0, 1.0]]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(
        ask(store, wanted, ("nobody", "red", 1.0, 9), (None, "red", 1.0, 9)), [[math.nan] * 3] * 2
    )


def test_ties_go_by_id_whatever_the_order_of_files(tmp_path: Path, stores: Any) -> None:
    rows = [row(f"t{n}", 5, f"l{n}", float(n)) for n in (3, 1, 9, 2)]
    wanted = plan(
        first=window("first", LABEL), last=window("last", AMOUNT), change=window("last_change", AMOUNT, k=1)
    )
    files = [write(tmp_path, [one], one["thing"]) for one in rows]
    for some in (files, files[::-1]):
        assert ask(stores(*some), wanted, ("a", None, None, 9)) == [["l1", 9.0, 6.0]]


def test_a_version_counts_until_the_next_one_even_where_that_belongs_elsewhere(
    tmp_path: Path, stores: Any
) -> None:
    rows = [
        *ROWS,
        row("t1", 1, "red", 7.0, **{AVAILABLE: 10, SEQUENCE: 6}),
        row("t2", 2, "red", 2.0, who="b", **{AVAILABLE: 20, SEQUENCE: 7}),
    ]
    rows.append(row("t3", 3, "blue", 2.0, **{AVAILABLE: 30, DELETED: 1.0, SEQUENCE: 8}))
    wanted = plan(sum=window("sum", AMOUNT))
    file = write(tmp_path, rows)
    times = [9, 10, 20, 30]
    assert [ask(stores(file), wanted, ("a", None, None, at))[0][0] for at in times] == [5.0, 11.0, 9.0, 7.0]
    store = stores(file)
    store.forget_after(25)
    assert ask(store, wanted, ("a", None, None, 40), ("b", None, None, 40)) == [[9.0], [7.0]]
    store.forget_after(15)
    assert ask(store, wanted, ("a", None, None, 40)) == [[11.0]]


def test_a_column_that_older_files_lack_is_null_there(tmp_path: Path, stores: Any) -> None:
    files = [write(tmp_path, ROWS[:2], "old"), write(tmp_path, [ROWS[2] | {"note": "n"}], "new")]
    assert ask(
        stores(*files), plan(last=window("last", NOTE)), ("a", None, None, 3), ("a", None, None, 9)
    ) == [[None], ["n"]]
    assert ask(stores(files[0]), plan(last=window("last", NOTE)), ("a", None, None, 9)) == [[None]]
    assert ask(stores(), plan(count=window("sum", AMOUNT)), ("a", None, None, 9)) == [[0.0]]


def test_parts_on_disk_change_nothing_and_leave_nothing(tmp_path: Path, stores: Any) -> None:
    rows = [row(f"t{n}", n % 50, f"l{n % 7}", float(n), who=f"k{n % 11}") for n in range(400)]
    wanted = plan(
        last=window("last", LABEL),
        sum=window("sum", AMOUNT),
        everybody=window("sum", AMOUNT, keyed=Keyed("Things", ())),
    )
    asked = [(f"k{n % 12}", None, None, n) for n in range(60)]
    file = write(tmp_path, rows)
    (tmp_path / "spill-999999999-a").mkdir()  # of a process that was killed
    whole, split = stores(file), stores(file, part_bytes=2000, folder=tmp_path)
    assert str(ask(split, wanted, *asked)) == str(ask(whole, wanted, *asked))
    split.close()
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]


def test_rows_lost_or_doubled_are_a_fault() -> None:
    same_rows(3, 3)
    with pytest.raises(StateError) as caught:
        same_rows(2, 3)
    assert (caught.value.code, caught.value.faults[0].got) == ("rows_differ", "2 of 3")
