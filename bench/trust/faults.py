"""Faults planted in a file at known rows: each must be found by the rule that is about it, and nothing else may be."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

import icekeel as ik
from bench.report import Result
from icekeel.core.errors import IcekeelError
from icekeel.core.time import parse_time
from icekeel.data import History, Taking, ingest
from icekeel.data.batches import Counted
from icekeel.data.trial import try_source

ROWS, EACH = 20_000, 7
NOW = parse_time("2026-01-01")


class Shops(ik.Events, time="since", id="shop"):
    """What sales refer to."""

    shop: ik.Id


class Sales(
    ik.Events, time="sold_at", available="booked_at", id="sale_id", deleted="void",
    contract=ik.Contract(rows=(1_000, 100_000), change=(0.5, 2.0), unique=("shop", "receipt"), types="block"),
):  # fmt: skip
    """A contract that uses every word there is."""

    sale_id: ik.Id = ik.matches(r"S-\d+")
    shop: ik.Id = ik.references(Shops.shop)
    receipt: ik.Id
    region: ik.Cat = ik.one_of("north", "south", "west")
    sku: ik.Text = ik.matches(r"[A-Z]{2}\d{4}", breach="warn")
    note: ik.Text = ik.length(3, 30)
    story: ik.Text = ik.optional()
    net: ik.Num = ik.at_least(0)
    gross: ik.Num
    share: ik.Num = ik.between(0, 1)
    weight: ik.Num = ik.at_most(50) & ik.optional(most=0.1)
    token: ik.Id = ik.unique()
    void: ik.Flag = ik.optional()

    @ik.rule("gross is at least net")
    def sane(row: Any) -> Any:
        """Tax is never negative."""
        return row.gross >= row.net


SALES, SHOPS = Sales.icekeel_table, Shops.icekeel_table
DAY = "TIMESTAMP '2025-03-01'"
COLUMNS = {
    "sale_id": "'S-' || i", "shop": "'k' || (i % 9)", "receipt": "'r' || i", "region": "'north'", "sku": "'AB1234'",
    "note": "'left there'", "story": "'x'", "net": "(i % 90)::DOUBLE", "gross": "(i % 90 + 1)::DOUBLE",
    "share": "0.5::DOUBLE", "weight": "5.0::DOUBLE", "token": "'t' || i", "void": "false",
    "sold_at": f"{DAY} + to_seconds(i)", "booked_at": f"{DAY} + to_seconds(i + 60)",
}  # fmt: skip
ROW_FAULTS: Mapping[str, tuple[str, str, str]] = {
    "id null": ("sale_id", "NULL", "sale_id: missing"),
    "id empty": ("receipt", "''", "receipt: empty"),
    "id with NUL": ("receipt", "'r' || i || chr(0)", "receipt: holds NUL"),
    "id too long": ("receipt", "repeat('é', 129) || i", "receipt: over 256 bytes"),
    "id of another shape": ("sale_id", "'T-' || i", r"sale_id: does not match S-\d+"),
    "id with a blank behind it": ("sale_id", "'S-' || i || ' '", r"sale_id: does not match S-\d+"),
    "look-alike letter": ("region", "'nоrth'", "region: not an allowed value"),  # a Cyrillic o
    "other case": ("region", "'North'", "region: not an allowed value"),
    "category null": ("region", "NULL", "region: missing"),
    "unknown shop": ("shop", "'k99'", "shop: not known in Shops.shop"),
    "shop not yet known": ("shop", "'late'", "shop: not known in Shops.shop"),
    "pattern with look-alike digit": ("sku", "'AB123٤'", r"sku: does not match [A-Z]{2}\d{4}"),
    "pattern with a line end": ("sku", "'AB1234' || chr(10)", r"sku: does not match [A-Z]{2}\d{4}"),
    "text too short": ("note", "'ab'", "note: not 3 to 30 characters"),
    "text too long": ("note", "repeat('é', 31)", "note: not 3 to 30 characters"),
    "text without end": ("story", "repeat('x', 10001)", "story: over 10,000 characters"),
    "negative": ("net", "-1e-300", "net: not 0 or more"),
    "number null": ("gross", "NULL", "gross: missing"),
    "NaN": ("share", "'nan'::DOUBLE", "share: not a finite number"),
    "infinity": ("share", "'inf'::DOUBLE", "share: not a finite number"),
    "minus infinity": ("gross", "'-inf'::DOUBLE", "gross: not a finite number"),
    "per cent for share": ("share", "50.0", "share: not 0 to 1"),
    "over the limit": ("weight", "50.001", "weight: not 50 or less"),
    "row rule": ("gross", "-1.0", "rule: gross is at least net"),
    "time null": ("sold_at", "NULL", "sold_at: missing"),
    "known in the future": ("booked_at", "TIMESTAMP '2026-01-02'", "booked_at: in the future"),
    "after it is known": ("sold_at", f"{DAY} + to_days(9)", "sold_at: after booked_at"),
    "outside the calendar": ("sold_at", "TIMESTAMP '12025-01-01'", "sold_at: outside the calendar"),
    "value of another event": ("token", "'t5'", "token: another event has it"),
    "value of an event in history": ("token", "'old'", "token: another event has it"),
    "two columns of another event": ("receipt", "'r' || (i % 9)", "shop + receipt: another event has it"),
}
"""Kind -> column, the SQL of its wrong value, and the rule that must find it."""
TYPES: Mapping[str, tuple[str, str, str]] = {
    "DOUBLE comes as DECIMAL": ("net", "(i % 90)::DECIMAL(18, 2)", "wrong_type"),
    "number comes as text": ("net", "'5'", "wrong_type"),
    "text comes as number": ("note", "12345", "wrong_type"),
    "flag comes as number": ("void", "0", "wrong_type"),
    "time comes as text": ("sold_at", "'2025-03-01'", "wrong_type"),
    "column gone": ("region", "", "missing_column"),
    "DOUBLE comes as INTEGER": ("gross", "100", "gross: INTEGER, was DOUBLE"),
    "DOUBLE comes as FLOAT": ("share", "0.5::FLOAT", "share: FLOAT, was DOUBLE"),
    "id comes as INTEGER": ("receipt", "i::INTEGER", "receipt: INTEGER, was VARCHAR"),
    "time comes with a zone": (
        "booked_at", f"({DAY} + to_seconds(i + 60))::TIMESTAMPTZ", "booked_at: TIMESTAMP WITH TIME ZONE, was TIMESTAMP",
    ),
    "optional column gone": ("story", "", "story: no such column, was VARCHAR"),
    "too many nulls": ("weight", "CASE WHEN i % 5 > 0 THEN 5.0::DOUBLE END", "weight: null in 20.00% of the rows, over 10.00%"),
}  # fmt: skip
VOLUMES = {
    "too few rows": (500, "500 rows, not 1,000 to 100,000"),
    "half of it missing": (9_000, "usual"),
    "twice": (45_000, "usual"),
}


def contract_faults() -> Result:
    """Share of the planted kinds that were found at just their rows, and faults that were found elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        history = _past(place)
        missed, false = _rows(place, history)
        for more in (_types(place, history), _volumes(place, history)):
            missed, false = missed + more[0], false + more[1]
    kinds = len(ROW_FAULTS) + len(TYPES) + len(VOLUMES)
    return {
        "found": 1 - len(missed) / kinds,
        "false": len(false),
        "kinds": kinds,
        "missed": missed,
        "wrong": false,
    }


def _write(path: Path, columns: Mapping[str, str], rows: str) -> Path:
    listed = ", ".join(f"{value} AS {name}" for name, value in columns.items() if value)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY (SELECT {listed} FROM {rows} t(i)) TO '{path}' (FORMAT parquet)")
    return path


def _past(place: Path) -> History:
    """Shops, and three batches of ordinary sales."""
    history = History(place / "history")
    since = {"shop": "CASE WHEN i = 9 THEN 'late' ELSE 'k' || i END", "since": f"{DAY} - to_days(1)"}
    since["since"] = f"CASE WHEN i = 9 THEN {DAY} + to_days(9) ELSE {since['since']} END"
    list(ingest(history, SHOPS, [_write(place / "shops.parquet", since, "range(10)")]))
    for batch in range(1, 4):
        rows = f"range({-batch * ROWS}, {-batch * ROWS + ROWS})"
        columns = {**COLUMNS, "sale_id": "'S-' || (1000000 - i)"}
        columns["token"] = f"CASE WHEN i = {-batch * ROWS} AND {batch} = 1 THEN 'old' ELSE 't' || i END"
        columns |= {name: f"{DAY} - to_days(1)" for name in ("sold_at", "booked_at")}
        columns |= {"shop": "'k1'", "net": "5.0::DOUBLE", "gross": "6.0::DOUBLE"}
        columns["booked_at"] = f"{DAY} - to_days(1) + to_seconds(60)"
        (taken,) = ingest(
            history, SALES, [_write(place / f"{batch}.parquet", columns, rows)], Taking(now=NOW)
        )
        if taken.quarantined or taken.warned or taken.notes:
            raise AssertionError(f"the past is not clean: {taken}")
    return history


def _rows(place: Path, history: History) -> tuple[list[str], list[str]]:
    """Every kind at rows of its own, all in one file."""
    columns, planted = dict(COLUMNS), dict[str, set[int]]()
    for kind, (name, value, rule) in enumerate(ROW_FAULTS.values()):
        rows = {100 + kind * EACH + at for at in range(EACH)}
        planted.setdefault(rule, set()).update(row + 1 for row in rows)
        columns[name] = (
            f"CASE WHEN i BETWEEN {min(rows)} AND {max(rows)} THEN {value} ELSE {columns[name]} END"
        )
    source = _write(place / "rows.parquet", columns, f"range({ROWS})")
    counted = try_source(history, SALES, source, now=NOW, ahead=False, examples=1_000)
    return _compared(counted, planted)


def _compared(counted: Counted, planted: Mapping[str, set[int]]) -> tuple[list[str], list[str]]:
    found = {one.check.text: {row for row, _ in one.examples} for one in counted.broken if one.rows}
    missed = [rule for rule, rows in planted.items() if not rows <= found.get(rule, set())]
    false = [f"{rule}, row {row}" for rule, rows in found.items() for row in rows - planted.get(rule, set())]
    return missed, false + [one.text for one in counted.breaches]


def _types(place: Path, history: History) -> tuple[list[str], list[str]]:
    """Each kind in a file of its own."""
    missed, false = list[str](), list[str]()
    for kind, (name, value, wanted) in TYPES.items():
        source = _write(place / "types.parquet", {**COLUMNS, name: value}, f"range({ROWS})")
        try:
            counted = try_source(history, SALES, source, now=NOW, ahead=False)
            said = [one.text for one in counted.breaches] + [
                one.check.text for one in counted.broken if one.rows
            ]
        except IcekeelError as error:
            said = [fault.code for fault in error.faults]
        missed += [kind] if wanted not in said else []
        false += [f"{kind}: {one}" for one in said if one != wanted]
    return missed, false


def _volumes(place: Path, history: History) -> tuple[list[str], list[str]]:
    missed, false = list[str](), list[str]()
    for kind, (rows, wanted) in VOLUMES.items():
        counted = try_source(
            history, SALES, _write(place / "v.parquet", COLUMNS, f"range({rows})"), now=NOW, ahead=False
        )
        said = [one.text for one in counted.breaches] + [one.check.text for one in counted.broken if one.rows]
        missed += [] if any(wanted in one for one in said) else [kind]
        false += [f"{kind}: {one}" for one in said if wanted not in one and "usual" not in one]
    return missed, false
