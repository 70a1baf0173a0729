"""Bulk data into history: files are read, checked against their contract and stored, good rows and bad.

One statement checks all rows. Good rows become a Parquet file of the table's history; bad ones go to
quarantine with every rule they break and their values as they came. A file that was taken in before is
recognised by its content and skipped.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, SourceError
from icekeel.core.frames import Array, Frame
from icekeel.core.ids import file_digest
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER
from icekeel.define.tables import EventTable

from .batches import Known, admit, checked, known_of
from .checks import NOTHING, Check, column_faults, columns_of, text_checks, time_checks
from .history import AVAILABLE, DELETED, SEQUENCE, History, StoredFile
from .relations import SPILL, connect, create_table
from .vault import HideMany, Vault

QUARANTINE = "quarantine"
_READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one source file.

    Attributes:
        file: The stored file; None when the content was known already.
        reasons: Rule -> rows that broke it; a row may break several.
        warned: Rule -> rows that broke it and were kept, as it says.
        notes: What was out of the ordinary about the file as a whole, such as a column of another type.
    """

    table: str
    source: Path
    file: StoredFile | None
    kept: int
    quarantined: int
    reasons: Mapping[str, int]
    warned: Mapping[str, int]
    notes: Sequence[str]

    @property
    def skipped(self) -> bool:
        """Whether the content had been taken in before."""
        return self.file is None


def find_sources(folder: Path, pattern: str) -> list[Path]:
    """The files that a `source=` names, sorted.

    Raises:
        SourceError: there are none.
    """
    found = sorted(Path(path) for path in glob.glob(str(folder / pattern)))
    if not found:
        raise SourceError(
            Fault(
                "no_source", "no such file", str(folder / pattern), hint="is source= relative to the project?"
            )
        )
    return found


def ingest(
    history: History,
    table: EventTable,
    sources: Sequence[Path],
    *,
    announce: Callable[[Ingested], None] = lambda one: None,
    now: int = FOREVER,
    ahead: bool = False,
    vault: Vault | None = None,
) -> list[Ingested]:
    """Take files into a table's history.

    Args:
        now: No row can be known from a later time.
        ahead: Whether rows may be about times that lie after the one from which they are known.
        vault: Gives the pseudonyms of private columns.
        announce: Told of each stored file before the manifest lists it. If the process dies in between, the file
            is not listed, so the next run stores and announces it again.

    Raises:
        SourceError: a file that cannot be read, or whose columns are not the table's. Nothing of that file
            is kept; files before it are.
        ContractError: the same of a file that breaks something whose policy is `block`.
    """
    results = []
    for source in sources:
        with history.adding() as manifest:
            content = file_digest(source)
            if any(file.source == content for file in manifest.tables.get(table.name, ())):
                results.append(Ingested(table.name, source, None, 0, 0, {}, {}, ()))
                continue
            sequence = manifest.sequence
            limits = time_checks(table, now, ahead=ahead)
            known = known_of(history, manifest, table, source.suffix.lower())
            loaded, added, types = _take(
                history, table, source, content, sequence, limits, vault, known=known
            )
            announce(loaded)
            history.replace(manifest, added, types={table.name + known.form: types})
            results.append(loaded)
    return results


def _take(
    history: History,
    table: EventTable,
    source: Path,
    content: str,
    sequence: int,
    limits: Sequence[Check],
    vault: Vault | None,
    *,
    known: Known,
) -> tuple[Ingested, dict[str, list[StoredFile]], dict[str, str]]:
    draft = history.folder / f"{table.name}.draft"
    shutil.rmtree(history.folder / SPILL, ignore_errors=True)  # what a crash left
    connection = connect(threads=2, reads=[source], folder=history.folder)
    try:
        texts = [field.name for field in table.fields.values() if field.kind.is_text]
        relation = read_source(connection, source, texts)
        held = held_columns(connection, relation, table)
        if wrong := column_faults(table.fields.values(), str(source), held):
            raise SourceError(*wrong)
        relation = hidden(connection, table, relation, vault.hide_many if vault else None)
        notes = admit(connection, table, relation, limits, known, held=held, where=str(source))
        statement = checked(connection, table, relation, sequence, limits, known)
        connection.execute(f"CREATE TEMP TABLE checked AS {statement}")
        reasons, warned = (
            dict(
                connection.execute(
                    f"SELECT fault, count(*) FROM (SELECT unnest({name}) AS fault FROM checked) GROUP BY 1 ORDER BY 2 DESC, 1"
                ).fetchall()
            )
            for name in ("_faults", "_warned")
        )
        fields = ", ".join(quote(name) for name in table.fields)
        columns = f"{fields}, {AVAILABLE}, {DELETED}, {SEQUENCE}"
        raw = ", ".join(
            f"{quote(name)} := {quote(name)}" for name in columns_of(connection, relation) if name != "_wrong"
        )
        good = _copy(connection, f"SELECT {columns} FROM checked WHERE len(_faults) = 0", draft)
        first = connection.execute(f"SELECT min({AVAILABLE}) FROM checked WHERE len(_faults) = 0").fetchone()
        known_from = FOREVER if first is None or first[0] is None else int(first[0])
        added = {table.name: [history.adopt(table.name, draft, good, content, known_from=known_from)]}
        bad = _copy(
            connection,
            f"SELECT raw AS row, _faults AS faults FROM checked JOIN (SELECT row_number() OVER () + {sequence} AS _place, "
            f"to_json(struct_pack({raw})) AS raw FROM {relation}) ON _place = {SEQUENCE} WHERE len(_faults) > 0 ORDER BY _place",
            draft,
        )
        if bad:
            name = f"{QUARANTINE}/{table.name}"
            added[name] = [history.adopt(name, draft, bad, content)]
    except duckdb.Error as error:
        raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
    finally:
        connection.close()
        draft.unlink(missing_ok=True)
    kept = Ingested(table.name, source, added[table.name][0], good, bad, reasons, warned, notes)
    return kept, added, known.types_after(table, held)


def hidden(
    connection: duckdb.DuckDBPyConnection, table: EventTable, relation: str, hide: HideMany | None
) -> str:
    """The relation with pseudonyms in place of private values, and in `_wrong` what was wrong with those.

    Of a file with private columns only the declared ones go on from here: another may hold the same values.
    """
    columns = columns_of(connection, relation)
    declared = [field for field in table.fields.values() if field.name in columns]
    private = [field for field in declared if field.entity]
    if not any(field.entity for field in table.fields.values()):
        return relation
    if hide is None:
        raise ValueError("private columns are not read without a vault")
    texts = ", ".join(f"CAST({quote(one.name)} AS VARCHAR) AS {quote(one.name)}" for one in private)
    given = f"SELECT *{f' REPLACE ({texts})' if texts else ''}, row_number() OVER () AS _at FROM {relation}"
    listed, joins = [], ""
    for place, field in enumerate(private):
        name = quote(field.name)
        found = connection.execute(
            f"SELECT DISTINCT {name} FROM ({given}) WHERE {name} IS NOT NULL"
        ).fetchall()
        known = hide(field.entity, (value for (value,) in found))
        values = Frame({"_value": _texts(known), "_hidden": _texts(known.values())})
        create_table(connection, f"_p{place}", [Column(one, Kind.ID) for one in values], values)
        listed.append(f"_p{place}._hidden AS {name}")
        joins += f" LEFT JOIN _p{place} ON given.{name} = _p{place}._value"
    listed += [f"given.{quote(field.name)}" for field in declared if not field.entity]
    checks = [check for field in private for check in text_checks(table, field, f"given.{quote(field.name)}")]
    wrong = ", ".join(f"CASE WHEN {check.condition} THEN {literal(check.text)} END" for check in checks)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _given AS SELECT {', '.join(listed)}, [{wrong}]::VARCHAR[] AS _wrong "
        f"FROM ({given}) given{joins} ORDER BY _at"
    )
    return "_given"


def _texts(values: Iterable[str]) -> Array:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _copy(connection: duckdb.DuckDBPyConnection, statement: str, target: Path) -> int:
    connection.execute(f"COPY ({statement}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    count = connection.execute(f"SELECT count(*) FROM ({statement})").fetchone()
    return int(count[0]) if count else 0


def read_source(connection: duckdb.DuckDBPyConnection, source: Path, texts: Collection[str] = ()) -> str:
    """The relation that reads a file, by its ending.

    Columns named in `texts` are read as they are written, not as what they look like: "007" is no number.

    Raises:
        SourceError: an ending that is not read, or a file DuckDB cannot make sense of.
    """
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise SourceError(
            Fault("unknown_format", "unknown kind of file", str(source), source.suffix, ", ".join(_READERS))
        )
    relation = f"{reader}({literal(str(source))})"
    try:
        columns = columns_of(connection, relation)
    except duckdb.Error as error:
        raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
    if reader == "read_parquet" or not columns.keys() & set(texts):
        return relation
    typed = {name: "VARCHAR" if name in texts else kind for name, kind in columns.items()}
    listed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in typed.items())
    option = "types" if reader == "read_csv" else "columns"
    return f"{reader}({literal(str(source))}, {option} = {{{listed}}})"


def held_columns(connection: duckdb.DuckDBPyConnection, relation: str, table: EventTable) -> dict[str, str]:
    """Columns and types of a relation; of those that are said to hold texts and hold nothing, `NOTHING`."""
    columns = columns_of(connection, relation)
    names = [
        name
        for name, field in table.fields.items()
        if columns.get(name) == "VARCHAR" and not field.kind.is_text
    ]
    if not names:
        return columns
    counts = ", ".join(f"count({quote(name)})" for name in names)
    found = connection.execute(f"SELECT {counts} FROM {relation}").fetchone() or ()
    return columns | {name: NOTHING for name, count in zip(names, found, strict=True) if not count}
