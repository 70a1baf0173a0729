"""Many rows held against a contract in one pass: against their table's rules, other rows, and the batches before.

`checked` gives all rows with what is wrong with each, for who takes them; `count` only counts, and keeps nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from icekeel.compile import literal, quote
from icekeel.core.errors import ContractError, Fault
from icekeel.core.kinds import Kind
from icekeel.core.time import FIRST_TIME, LAST_TIME, format_time
from icekeel.define.fields import BLOCK, QUARANTINE, WARN, policy
from icekeel.define.nodes import EventField, walk
from icekeel.define.tables import EventTable

from .checks import (
    NOTHING,
    NUMERIC,
    Check,
    Staged,
    row_checks,
    rule_checks,
    stage,
    strict,
    text_checks,
    time_checks,
)
from .contracts import CLOCK_SKEW
from .history import AVAILABLE, DELETED, SEQUENCE, History, Manifest
from .relations import columns_of, one_row, parquet

BATCHES = 10
"""Batches before this one that its volume is compared with."""
FEWEST_BATCHES = 3
TYPED = ("parquet",)
"""Kinds of files that say the types of their columns; of others they are guesses, in which a number is a number."""
UNREAD = "unread"
"""Code of the check of `_wrong`: values that do not read as declared, each with a text of its own."""
_FIRST = 1 << 62


@dataclass(frozen=True, slots=True)
class Known:
    """What a batch is held against.

    Attributes:
        files: Table -> its stored files: of this table, and of those it refers to.
        volumes: Rows of the batches before, the newest last.
        types: Column -> SQL type in the batch before.
        form: `csv`, `json` or `parquet`.
    """

    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    volumes: Sequence[int] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    form: str = ""

    def types_after(self, table: EventTable, held: Mapping[str, str]) -> dict[str, str]:
        """Of the columns of this batch; of one without values what is known of it."""
        guessed = self.form not in TYPED
        found = {name: kind for name, kind in held.items() if name in table.fields}
        return {
            name: self.types.get(name, NOTHING)
            if kind == NOTHING
            else "number"
            if guessed and kind in NUMERIC
            else kind
            for name, kind in found.items()
        }


def known_of(history: History, manifest: Manifest, table: EventTable, form: str, content: str = "") -> Known:
    """What a batch of a table, read from a file of such a form, is held against; `content` is its own source."""
    others = (one.limits.references.table for one in table.fields.values() if one.limits.references)
    files = {name: history.paths(manifest, name) for name in {table.name, *others}}
    volumes = Counter[str]()
    for name in (table.name, f"quarantine/{table.name}"):
        for one in manifest.origins(name):
            volumes[one.source.partition(":")[0]] += one.rows
    for other in ("", "admitted", content):  # rows that were pushed, and that were repaired
        del volumes[other]
    types = manifest.types.get(f"{table.name}.{form}", {})
    return Known(files, list(volumes.values())[-BATCHES:], types, form)


def checked(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    sequence: int,
    limits: Sequence[Check],
    known: Known | None = None,
) -> str:
    """A statement that gives all rows in stored form, and beside each what is wrong with it.

    `_faults` lists the rules that keep the row out, `_warned` those that do not.

    Args:
        relation: May have a column `_wrong`, a list of what was found wrong with a row when it was read.
        sequence: `SEQUENCE` of the row before the first one.
    """
    staged = _staged(connection, table, relation, limits, known)
    fields = ", ".join(quote(name) for name in table.fields)
    return (
        f"SELECT {fields}, {AVAILABLE}, {DELETED}, _at + {sequence} AS {SEQUENCE}, "
        f"{_listed(table, staged, QUARANTINE, BLOCK)} AS _faults, {_listed(table, staged, WARN)} AS _warned FROM {staged.source}"
    )


def _staged(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    limits: Sequence[Check],
    known: Known | None,
    *,
    numbered: bool = True,
) -> Staged:
    """Every row with every check; those that needed the texts of private columns stand in `_wrong` already."""
    held = "_wrong" in columns_of(connection, relation)
    number = "row_number() OVER ()" if numbered or _unique(table) else ""
    further = ", _wrong" if held else ""
    staged = stage(connection, table, relation, limits, further=further, hidden=held, numbered=number)
    if held:
        texts = _private_checks(table)
        found = [replace(check, condition=f"list_contains(_wrong, {literal(check.text)})") for check in texts]
        unread = f"len({_unread(table)}) > 0"
        check = Check(UNREAD, "", "", "every value reads as declared", unread, strict(table))
        staged = Staged(staged.source, [check, *found, *staged.checks])
    return among_others(connection, table, staged, known) if known is not None else staged


def _private_checks(table: EventTable) -> list[Check]:
    private = (one for one in table.fields.values() if one.entity)
    return [check for one in private for check in text_checks(one, "", table.contract.breach)]


def _unread(table: EventTable) -> str:
    """SQL of what stands in `_wrong` beside breaches of the limits of private texts."""
    named = "".join(f" AND fault <> {literal(check.text)}" for check in _private_checks(table))
    return f"list_filter(_wrong, lambda fault: fault IS NOT NULL{named})"


def _listed(table: EventTable, staged: Staged, *breaches: str) -> str:
    """SQL of the list of a row's broken rules of these policies."""
    unread, cases = "", []
    for check in staged.checks:
        condition = check.condition
        if check.breach not in breaches:
            continue
        if check.code == UNREAD:
            unread = f"{_unread(table)} || "
            continue
        if check.code == "missing_field" and unread:  # it is there, and was not read
            start = literal(f"{check.field}: ")
            read = f"starts_with(fault, {start}) OR starts_with(fault, 'line: ')"
            condition += f" AND len(list_filter(_wrong, lambda fault: {read})) = 0"
        cases.append(f"CASE WHEN {condition} THEN {literal(check.text)} END")
    if not cases:
        return "CAST([] AS VARCHAR[])"
    named = f"list_filter([{', '.join(cases)}], lambda fault: fault IS NOT NULL)"
    return f"CASE WHEN {staged.any_of(*breaches)} THEN {unread}{named} ELSE [] END"


def set_checks(table: EventTable) -> list[Check]:
    """All that needs other rows, each over a column that `among_others` joins: `_other0`, `_other1` ..."""
    found = list[Check]()
    for one in table.fields.values():
        if (node := one.limits.references) is not None:
            since, target = f"_other{len(found)}", f"{node.table}.{node.name}"
            late = f"coalesce({since} > {AVAILABLE}::HUGEINT + {CLOCK_SKEW}, true)"
            breach = policy(one.limits, "no_reference", table.contract.breach)
            text, demand = f"{one.name}: not known in {target}", f"{one.name} is known in {target}"
            condition = f"{quote(one.name)} IS NOT NULL AND {late}"
            found.append(Check("no_reference", one.name, text, demand, condition, breach))
    for names, breach in _unique(table):
        listed = [quote(name) for name in names]
        there = " AND ".join([f"{DELETED} = 0", *(f"{one} IS NOT NULL" for one in listed)])
        condition = f"{there} AND _other{len(found)} <> {quote(table.id)}"
        what, field = " + ".join(names), names[0] if len(names) == 1 else ""
        text, demand = f"{what}: another event has it", f"{what} is of one event alone"
        found.append(Check("not_unique", field, text, demand, condition, breach))
    return found


def _unique(table: EventTable) -> list[tuple[Sequence[str], str]]:
    """Columns that no two events share all of, and what becomes of a row that does."""
    default = table.contract.breach
    single = [
        ([one.name], policy(one.limits, "not_unique", default))
        for one in table.fields.values()
        if one.limits.unique
    ]
    return [*single, *([(table.contract.unique, default)] if table.contract.unique else [])]


def among_others(
    connection: duckdb.DuckDBPyConnection, table: EventTable, staged: Staged, known: Known
) -> Staged:
    """With `set_checks`. A unique value belongs to its first event: of those in history, else of the good rows."""
    checks = set_checks(table)
    unique = iter(_unique(table))
    for place, check in enumerate(checks):
        if check.code == "no_reference":
            key = quote(check.field)
            others = _since(known, table.fields[check.field].limits.references)
        else:
            columns, _ = next(unique)
            listed = [quote(column) for column in columns]
            key = (
                listed[0]
                if len(listed) == 1
                else f"struct_pack({', '.join(f'{one} := {one}' for one in listed)})"
            )
            there = " AND ".join([f"{DELETED} = 0", *(f"{one} IS NOT NULL" for one in listed)])
            others = _owners(table, staged, known, key, there)
        name = f"_other{place}"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {others}")
        rows = f"(SELECT *, {key} AS _key FROM {staged.source})"
        joined = (
            f"SELECT rows.* EXCLUDE (_key), other.found AS {name} FROM {rows} rows LEFT JOIN {name} other"
        )
        staged = Staged(f"({joined} ON rows._key = other.value)", [*staged.checks, check])
    return staged


def _since(known: Known, node: EventField) -> str:
    """Values of a column of a table, and when each was first known."""
    files = known.files.get(node.table, ())
    if not files:
        return "SELECT '' AS value, 0 AS found WHERE false"
    column = quote(node.name)
    return (
        f"SELECT {column} AS value, min({AVAILABLE}) AS found FROM {parquet(files, union=True)} "
        f"WHERE {column} IS NOT NULL AND {DELETED} = 0 GROUP BY 1"
    )


def _owners(table: EventTable, staged: Staged, known: Known, key: str, there: str) -> str:
    """Values that more than one event has, and whose each is."""
    taken = f"SELECT {key} AS value, {quote(table.id)} AS id"
    rows = f"{taken}, _at FROM {staged.source} WHERE {there} AND NOT {staged.any_of(QUARANTINE, BLOCK)}"
    if files := known.files.get(table.name, ()):
        rows += f" UNION ALL {taken}, {SEQUENCE} - {_FIRST} FROM {parquet(files, union=True)} WHERE {there}"
    return f"SELECT value, arg_min(id, _at) AS found FROM ({rows}) GROUP BY value HAVING min(id) <> max(id)"


@dataclass(frozen=True, slots=True)
class Breach:
    """What a batch as a whole breaks; `breach` is `block` or `warn`."""

    code: str
    text: str
    breach: str


def batch_demands(table: EventTable) -> list[tuple[str, str]]:
    """What is demanded of a batch, in words, and what becomes of one that breaks it."""
    contract, found = table.contract, []
    for ends, unit in ((contract.rows, "rows"), (contract.change, "times the usual rows")):
        if ends != (None, None):
            found.append((f"a batch has {_ends(ends)} {unit}", contract.volume))
    for one in table.fields.values():
        if one.limits.most_null is not None:
            share = f"{one.name} is null in at most {one.limits.most_null:.2%} of a batch"
            found.append((share, _of_batch(table, one.name)))
    return [*found, ("columns keep their types", contract.types)]


def _ends(ends: tuple[float | None, float | None]) -> str:
    low, high = (None if end is None else f"{end:,}" for end in ends)
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"


def _of_batch(table: EventTable, name: str) -> str:
    default = WARN if table.contract.breach == WARN else BLOCK
    return policy(table.fields[name].limits, "nulls", default)


def batch_breaches(
    table: EventTable, known: Known, held: Mapping[str, str], rows: int, nulls: Mapping[str, float]
) -> list[Breach]:
    """What is wrong with a batch as a whole.

    Args:
        held: Column -> SQL type.
        nulls: Column with a limit on nulls -> share of rows in which it is null.
    """
    contract = table.contract
    found = []
    if not _within(rows, contract.rows):
        text = f"{rows:,} rows, not {_ends(contract.rows)}"
        found.append(Breach("volume", text, contract.volume))
    if contract.change != (None, None) and len(known.volumes) >= FEWEST_BATCHES:
        usual = median(known.volumes)
        if not _within(rows, tuple(None if end is None else end * usual for end in contract.change)):
            text = f"{rows:,} rows, not {_ends(contract.change)} times the usual {usual:,.0f}"
            found.append(Breach("volume", text, contract.volume))
    for name, share in nulls.items():
        most = table.fields[name].limits.most_null
        if most is not None and share > most:
            text = f"{name}: null in {share:.2%} of the rows, over {most:.2%}"
            found.append(Breach("nulls", text, _of_batch(table, name)))
    return found + [Breach("type_changed", text, contract.types) for text in _changed(table, known, held)]


def _within(value: float, ends: Iterable[float | None]) -> bool:
    low, high = ends
    return (low is None or value >= low) and (high is None or value <= high)


def _changed(table: EventTable, known: Known, held: Mapping[str, str]) -> Iterator[str]:
    types = known.types_after(table, held)
    for name in dict.fromkeys((*known.types, *types)) if known.types else ():
        before, after = known.types.get(name, "no such column"), types.get(name, "no such column")
        if before != after and NOTHING not in (before, after):
            yield f"{name}: {after}, was {before}"


def _null_sums(table: EventTable) -> dict[str, str]:
    """Column with a limit on nulls -> SQL of the share of rows in which it is null."""
    limited = (one.name for one in table.fields.values() if one.limits.most_null is not None)
    return {
        name: f"coalesce(avg(CAST({quote(name)} IS NULL AS DOUBLE)) FILTER ({DELETED} = 0), 0)"
        for name in limited
    }


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule, how many rows break it, and some of them: row number (from 1) and value."""

    check: Check
    rows: int
    examples: Sequence[tuple[int, Any]] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a contract finds in a batch.

    Attributes:
        set_aside: Rows that would not be kept.
        broken: Every rule that is checked, broken or not.
    """

    rows: int
    set_aside: int
    broken: Sequence[Broken]
    breaches: Sequence[Breach]

    @property
    def verdict(self) -> str:
        """`block`, `quarantine`, `warn` or `pass`: the worst that would happen."""
        found = {one.check.breach for one in self.broken if one.rows} | {one.breach for one in self.breaches}
        return next((one for one in (BLOCK, QUARANTINE, WARN) if one in found), "pass")


def needs_whole(table: EventTable) -> bool:
    """Whether something may refuse a batch, which is then counted before any row of it is taken."""
    contract = table.contract
    some = (contract.rows, contract.change) != ((None, None), (None, None)) or _null_sums(table)
    return bool(some) or any(check.breach == BLOCK for check in all_checks(table))


def all_checks(table: EventTable, *, ahead: bool = False) -> list[Check]:
    """Everything that is checked of a row, without what it would take to compute it."""
    rules = rule_checks(table, [""] * len(table.rules))
    return [*row_checks(table, time_checks(table, 0, ahead=ahead)), *rules, *set_checks(table)]


def admit(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    limits: Sequence[Check],
    known: Known,
    *,
    held: Mapping[str, str],
    where: str,
) -> list[str]:
    """What a batch as a whole breaks and only warns of; before any row of it is taken.

    Args:
        held: Column -> SQL type, of the batch as it came.
        where: Names the batch in faults.

    Raises:
        ContractError: something blocks; nothing of the batch may be taken.
    """
    if needs_whole(table):
        counted = count(connection, table, relation, limits, known, held=held, examples=0)
    else:
        counted = Counted(0, 0, (), batch_breaches(table, known, held, 0, {}))
    wrong = [
        (one.check.text or one.check.demand, f"{one.rows:,} rows")
        for one in counted.broken
        if one.rows and one.check.breach == BLOCK
    ]
    wrong += [(one.text, "") for one in counted.breaches if one.breach == BLOCK]
    if wrong:
        hint = f"nothing of it is kept; icekeel contract check {table.name} FILE shows the rows"
        raise ContractError(*(Fault("blocked", text, where, got, "", hint, BLOCK) for text, got in wrong))
    return [one.text for one in counted.breaches]


def count(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    limits: Sequence[Check],
    known: Known,
    *,
    held: Mapping[str, str],
    examples: int = 3,
) -> Counted:
    """How many rows break which rule, in one pass; further ones look for examples of those that some do."""
    staged, nulls = _staged(connection, table, relation, limits, known, numbered=False), _null_sums(table)
    sums = [
        "count(*)",
        f"count_if({staged.any_of(QUARANTINE, BLOCK)})",
        *(f"count_if({check.condition})" for check in staged.checks),
        *nulls.values(),
    ]
    found = one_row(connection, f"SELECT {', '.join(sums)} FROM {staged.source}")
    rows, set_aside, *counts = (number or 0 for number in found)  # of no rows, sums are null
    shares = dict(zip(nulls, counts[len(staged.checks) :], strict=True))
    broken = [Broken(check, number) for check, number in zip(staged.checks, counts, strict=False)]
    if examples and any(one.rows for one in broken):
        staged = _staged(connection, table, relation, limits, known)
        broken = [
            Broken(check, one.rows, _examples(connection, table, staged.source, check, examples))
            if one.rows
            else one
            for one, check in zip(broken, staged.checks, strict=True)
        ]
    return Counted(rows, set_aside, broken, batch_breaches(table, known, held, rows, shares))


def _examples(
    connection: duckdb.DuckDBPyConnection, table: EventTable, source: str, check: Check, most: int
) -> list[tuple[int, Any]]:
    """The first rows that break a rule: their numbers and values, of a private field none."""
    if check.code == UNREAD:
        statement = (
            f"SELECT _at, {_unread(table)} FROM {source} WHERE {check.condition} ORDER BY _at LIMIT {most}"
        )
        return connection.execute(statement).fetchall()
    names = [check.field] if check.field else _read(table, check)
    listed = (
        ", ".join("'(private)'" if table.fields[name].entity else quote(name) for name in names) or "NULL"
    )
    statement = f"SELECT _at, {listed} FROM {source} WHERE {check.condition} ORDER BY _at LIMIT {most}"
    found = []
    for at, *values in connection.execute(statement).fetchall():
        shown = {name: _shown(table, name, value) for name, value in zip(names, values, strict=False)}
        found.append((at, shown.get(check.field) if check.field else shown))
    return found


def _read(table: EventTable, check: Check) -> list[str]:
    """The columns that a rule reads."""
    for rule in table.rules:
        if check.demand == rule.sentence:
            return list(
                dict.fromkeys(one.name for one in walk(rule.condition) if isinstance(one, EventField))
            )
    return list(table.contract.unique)


def _shown(table: EventTable, name: str, value: Any) -> Any:
    if table.fields[name].kind is Kind.TIME and isinstance(value, int) and FIRST_TIME <= value <= LAST_TIME:
        return format_time(value)
    return value
