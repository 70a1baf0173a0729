"""A row-level expression gives the same bits as a Python closure and as DuckDB SQL, whatever it is made of."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icekeel as ik
from icekeel.compile import compile_event, quote, select
from icekeel.compile.calendar import part
from icekeel.core.frames import NO_TIME, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, FIRST_TIME, HOUR, LAST_TIME, SECOND, parse_time
from icekeel.data.relations import create_table, fetch
from icekeel.define.functions import PARTS
from icekeel.define.nodes import EventField, Invalid, Node

Value = float | int | str | None


class Row(ik.Events, time="at", id="row_id"):
    """One column of each kind and a few more."""

    row_id: ik.Id
    a: ik.Num = ik.optional()
    b: ik.Num = ik.optional()
    f: ik.Flag = ik.optional()
    g: ik.Flag = ik.optional()
    c: ik.Cat = ik.optional()
    d: ik.Cat = ik.optional()
    note: ik.Text = ik.optional()
    then: ik.Time = ik.optional()
    at: ik.Time = ik.optional()


FIELDS = tuple(Row.icekeel_table.fields.values())
NUMBERS = (
    *(None, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 7.25, 0.1, -0.3, 1e-3, 12345.678),
    *(0.49999999999999994, 4503599627370495.5, 9007199254740993.0, 1e15, 1e16, -1e16, 709.782712893384),
    *(709.7827128933841, -745.2, 1e100, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2e-308),
)
TEXTS = (
    None,
    "",
    "a",
    "A",
    "it's",
    '"q"',
    "é",
    "e\u0301",
    "日本",
    "🙂",
    "a x b",
    "?",
    "x\\n'; --",
    " a",
    "%s{}",
    "-",
    "--a--b-",
    "aaa",
    "a\vb\fc d",
    "a\0b - c",
    "\0",
    " \t two\nlines\r\n",
    "nb\u00a0sp em\u2003sp nel\x85 fs\x1cgs\x1d line\u2028x\ufeff",
    "İıSSßſK\u212a Ω Äö",
    "ABCXYZ abcxyz @[`{",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 one",
    "x" * 300 + " y",
)
ZONES = (
    *("UTC", "America/New_York", "Europe/Zurich", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"),
    *("Africa/Casablanca", "America/Sao_Paulo", "Asia/Kathmandu", "Antarctica/Troll"),
)
_TURNS = [
    "1918-03-31T07:00:00", "1942-02-09T07:00:00", "1969-10-26T06:00:00", "1970-01-01", "1981-03-29T01:00:00",
    "2011-12-30T10:00:00", "2013-03-10T07:00:00", "2013-11-03T06:00:00", "2024-03-31T01:00:00",
    "2024-10-27T01:00:00", "2024-02-29", "2100-03-01", "1900-02-28", "2000-12-31T23:59:59",
]  # fmt: skip
TIMES = (
    *(None, FIRST_TIME, LAST_TIME, -1, 0, 1),
    *(random.Random(seed).randrange(FIRST_TIME, LAST_TIME) for seed in range(60)),
    *(
        parse_time(f"{year}-{day}")
        for year in range(2015, 2025)
        for day in ("01-01", "01-04", "12-28", "12-31")
    ),
    *(parse_time(turn) + shift for turn in _TURNS for shift in (-SECOND, -1, 0, HOUR)),
)


def _row(random_: random.Random) -> list[Value]:
    pools: dict[Kind, Sequence[Value]] = {Kind.NUM: NUMBERS, Kind.FLAG: (None, 0.0, 1.0), Kind.TIME: TIMES}
    return [random_.choice(pools.get(field.kind, TEXTS)) for field in FIELDS]


ROWS = [_row(random.Random(seed)) for seed in range(300)]


@pytest.fixture(scope="module")
def table() -> duckdb.DuckDBPyConnection:
    """A connection that holds `ROWS` as the table `rows`, put there as the offline store does."""
    nulls = {Kind.NUM: np.nan, Kind.FLAG: np.nan, Kind.TIME: NO_TIME}
    dtypes = {Kind.NUM: np.float64, Kind.FLAG: np.float64, Kind.TIME: np.int64}
    columns = {}
    for at, field in enumerate(FIELDS):
        values = [nulls.get(field.kind) if row[at] is None else row[at] for row in ROWS]
        columns[field.name] = np.array(values, dtype=dtypes.get(field.kind, object))
    connection = duckdb.connect(config={"threads": 1})
    create_table(connection, "rows", [Column(f.name, f.kind) for f in FIELDS], Frame(columns))
    return connection


def by_sql(connection: duckdb.DuckDBPyConnection, nodes: Sequence[Node]) -> list[list[Value]]:
    """Each row's values, null as None."""
    statement, names = select(
        nodes, lambda node: quote(node.name) if isinstance(node, EventField) else None, "rows"
    )
    columns = [Column(f"v{at}", node.kind) for at, node in enumerate(nodes)]
    frame = fetch(connection, f"SELECT {', '.join(names)} FROM ({statement}) ORDER BY _row", columns)
    listed = [[None if v != v else v for v in frame[c.name].tolist()] for c in columns]  # noqa: PLR0124
    return [list(row) for row in zip(*listed, strict=True)]


def bits(value: Value) -> object:
    return struct.pack("<d", value) if isinstance(value, float) else value


def check(connection: duckdb.DuckDBPyConnection, *expressions: ik.define.expressions.Expression) -> None:
    nodes = [one.node for one in expressions]
    row = compile_event(FIELDS, nodes)
    for inputs, wanted in zip(ROWS, by_sql(connection, nodes), strict=True):
        got = row(inputs)
        assert [bits(v) for v in got] == [bits(v) for v in wanted], (inputs, got, wanted)
        assert all(
            v is None or isinstance(v, str if n.kind.is_text else float)
            for v, n in zip(got, nodes, strict=True)
        )


BINARY: tuple[Callable[[ik.Num, ik.Num], ik.Num], ...] = (
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: x**y,
    lambda x, y: x % y,
    lambda x, y: x < y,
    lambda x, y: x <= y,
    lambda x, y: x == y,
    lambda x, y: x != y,
    lambda x, y: x.fill(y),
    ik.least,
    ik.greatest,
    lambda x, y: ik.greatest(x, y, 2.0),
)
UNARY: tuple[Callable[[ik.Num], ik.Num], ...] = (
    *(lambda x: -x, abs, ik.exp, ik.ln, ik.sqrt),
    *(lambda x: x.round(), lambda x: x.floor(), lambda x: x.known(), lambda x: x.clip(-1, 3.5)),
    *(
        lambda x: x.sign(),
        lambda x: x % 3,
        lambda x: x % -0.1,
        lambda x: 7.5 % x,
        lambda x: x.one_of(0, 2.5, 1e16),
    ),
)
WORDS: tuple[Callable[[ik.define.expressions.Words], ik.define.expressions.Expression], ...] = (
    *(
        lambda t: t.length(),
        lambda t: t.words(),
        lambda t: t == "",
        lambda t: t.known(),
        lambda t: t.fill("é-"),
    ),
    *(lambda t: t.lower(), lambda t: t.upper(), lambda t: t.upper().lower().length()),
    *(lambda t: t.strip(), lambda t: t.replace("a", "é").strip(), lambda t: t.replace("aa", "a").length()),
    *(lambda t: t.replace("\0", ""), lambda t: t.group({"x": ["a", "-"]}, otherwise="y")),
    *(
        lambda t: t.contains("a"),
        lambda t: t.contains(""),
        lambda t: t.contains("\0"),
        lambda t: t.contains(Row.d),
    ),
    *(lambda t: t.starts_with(" "), lambda t: t.starts_with("e"), lambda t: t.starts_with(Row.d)),
    *(lambda t: t.ends_with("\u0301"), lambda t: t.ends_with("本"), lambda t: t.ends_with(Row.d)),
    *(
        lambda t, n=n, s=s: t.piece(s, n)
        for n in (0, 1, 2, -1, -3, 1000)
        for s in ("-", " ", "--", "aa", "\0", "é", "'")
    ),
    *(lambda t: t.one_of("a"), lambda t: t.one_of("it's", "\0", "日本", "", "\u0301"), lambda t: t != "\0"),
    lambda t: ik.table(t, {"": 1, "\0": 2, "it's": 3.5}, default=0),
    lambda t: ik.case((t.starts_with("a"), t.length()), (t.contains("b"), -1), otherwise=t.words()),
)


def test_every_function_agrees_on_every_row(table: duckdb.DuckDBPyConnection) -> None:
    a, b, f, g = Row.a, Row.b, Row.f, Row.g
    check(
        table,
        *(one(a) for one in UNARY),
        *(one(a, b) for one in BINARY),
        *(one(f, b) for one in BINARY),
        *(f & g, f | g, ~f, ik.when(f, a, b), ik.when(f, Row.c, "other"), ik.when(f, g, 2)),
        *(Row.c == Row.d, Row.c != "it's", Row.c == Row.row_id, Row.c.fill("né"), ik.cross(Row.c, Row.d)),
        ik.table(Row.c, {"it's": 1.5, '"q"': -0.0, "日本": 1e308, "": 3}, default=-7),
        ik.table(Row.row_id, {}, default=2),
        *(ik.minutes_between(Row.at, Row.then), ik.hours_between(Row.at, Row.then)),
        ik.days_between(Row.then, Row.at),
        *(ik.case((f, a), (g, b), otherwise=0.5), ik.case((f, "one"), (Row.c == "a", Row.d), otherwise="x")),
        *(ik.case((f, g), (g, 2), otherwise=f), f.one_of(True), ik.cross(Row.c.piece("-", 1), Row.d.lower())),
    )


@pytest.mark.parametrize("column", ["c", "note", "row_id"])
def test_every_function_of_texts_agrees_on_every_row(table: duckdb.DuckDBPyConnection, column: str) -> None:
    check(table, *(one(getattr(Row, column)) for one in WORDS))


@pytest.mark.parametrize("zone", ZONES)
def test_calendar_parts_agree_with_sql_and_with_zoneinfo(table: duckdb.DuckDBPyConnection, zone: str) -> None:
    cycles = [one for name, period in PARTS.items() if period for one in ik.cyclic(Row.at, name, tz=zone)]
    check(table, *(ik.part(Row.at, name, tz=zone) for name in PARTS), *cycles)
    random_ = random.Random(zone)
    moments = [random_.randrange(parse_time("1900-01-02"), parse_time("2099-12-30")) for _ in range(500)]
    known = [time for time in TIMES if time is not None and abs(time) < 120 * 365 * DAY]
    for time in [*moments, *(time for time in known if parse_time("1900-01-02") < time)]:
        local = datetime.fromtimestamp(time // SECOND, UTC).astimezone(ZoneInfo(zone))
        hour = (
            local.hour * 60 + local.minute,
            local.hour,
            local.weekday(),
            24 * local.weekday() + local.hour,
        )
        day = (local.day, int(local.strftime("%j")), local.isocalendar().week, local.month)
        parts = (*hour, *day, -(-local.month // 3), local.year)
        assert tuple(part(time, name, zone) for name in PARTS) == parts, (time, zone)


def _numbers(inner: st.SearchStrategy[ik.Num]) -> st.SearchStrategy[ik.Num]:
    flags = st.builds(lambda op, x, y: op(x, y), st.sampled_from(BINARY[6:10]), inner, inner)
    return st.one_of(
        st.builds(lambda op, x, y: op(x, y), st.sampled_from(BINARY), inner, inner),
        st.builds(lambda op, x: op(x), st.sampled_from(UNARY), inner),
        st.builds(ik.when, flags, inner, inner),
        st.builds(lambda x, y, z: ik.when((x & y) | ~x, z, 0.5), flags, flags, inner),
    )


TEXT = st.recursive(
    st.sampled_from([Row.c, Row.d, Row.note.piece(" ", 0), Row.note.fill("")]),
    lambda inner: st.one_of(
        st.builds(ik.cross, inner, inner),
        st.builds(
            lambda t, s, n: t.piece(s, n),
            inner,
            st.sampled_from(["-", " ", "a", "é", "x"]),
            st.integers(-2, 2),
        ),
        st.builds(lambda t: t.lower(), inner),
        st.builds(lambda t: t.replace(" ", "--").strip(), inner),
        st.builds(
            lambda t, u: ik.case((t.starts_with(u), t), (t == "a", "b"), otherwise=u.upper()), inner, inner
        ),
    ),
    max_leaves=3,
)
COUNTED = (
    lambda t: t.length(),
    lambda t: t.words(),
    lambda t: t.contains("a"),
    lambda t: t.one_of("a", "? x a", ""),
)
TREES = st.recursive(
    st.one_of(
        st.sampled_from([Row.a, Row.b, Row.f, Row.g, ik.part(Row.at, "week", tz="Asia/Kolkata")]),
        st.sampled_from([number for number in NUMBERS if number is not None]).map(Row.a.fill),
        st.just(ik.table(ik.cross(Row.c, Row.d), {"a x A": 1.0, "? x it's": 0.3}, default=9.0)),
        st.builds(lambda count, text: count(text), st.sampled_from(COUNTED), TEXT),
    ),
    _numbers,
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trees=st.lists(TREES, min_size=3, max_size=6))
def test_random_trees_agree(table: duckdb.DuckDBPyConnection, trees: list[ik.Num]) -> None:
    check(table, *trees)


def test_the_largest_expressions_agree_and_larger_ones_are_refused(table: duckdb.DuckDBPyConnection) -> None:
    wide, high, doubled = Row.a, Row.b, Row.a
    for step in range(60):
        wide = wide * 0.5 + float(step) if step % 2 else wide.fill(Row.b)
    while not isinstance(high.node, Invalid):
        last, high = high, abs(high)
    check(table, wide, last)
    for _ in range(40):
        doubled = doubled + doubled
    assert isinstance(doubled.node, Invalid)
    assert {fault.code for fault in doubled.node.faults} == {"too_large"}
