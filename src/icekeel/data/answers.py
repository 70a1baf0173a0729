"""Answers, found again wherever they are: in segments of the journal, or in history as Parquet.

An id begins with the time of its question, so ids sort by time, a stretch of time is a range of ids, and an id alone
tells which files can hold it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec

from icekeel.compile import literal
from icekeel.core.errors import Fault, IcekeelError, RequestError, first_faults, nearest, shorten
from icekeel.core.ids import id_range, time_of
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER, parse_time
from icekeel.define.policies import KINDS
from icekeel.journal import Positions, Predicted, scan

from .history import History, Manifest
from .relations import connect, parquet

Found = TypeVar("Found")
ANSWERS = "answers"
FEATURE = "feature."
"""What the columns of logged features begin with, in a table of answers."""
FEW = 8
"""Ids that are looked for as text in the journal; of more, every answer is decoded."""
MOST = 1_000
"""Answers on one page."""
VERDICTS = ("flagged", "pass", "refused", *KINDS)
"""By what answers can be found; `flagged` is all but `pass`."""

_OWN = {
    "id": Kind.ID,
    "at": Kind.TIME,
    "version": Kind.CAT,
    "arm": Kind.CAT,
    "share": Kind.NUM,
    "unit": Kind.ID,
    "prediction": Kind.NUM,
    "answer": Kind.NUM,
    "action": Kind.CAT,
    "verdict": Kind.CAT,
    "position": Kind.TIME,
    "cpu_us": Kind.NUM,
    "served_at": Kind.TIME,
    "definitions": Kind.ID,
    "key": Kind.ID,
    "low": Kind.NUM,
    "high": Kind.NUM,
    "reasons": Kind.TEXT,
    "codes": Kind.TEXT,
    "degraded": Kind.TEXT,
    "source": Kind.CAT,
    "trace": Kind.ID,
    "phase": Kind.ID,
}
_OLDER = "SELECT NULL::VARCHAR AS _key, NULL::VARCHAR AS _codes WHERE false"
"""Older files lack these columns."""
_LISTS = ("reasons", "codes", "degraded")
_ABSENT: Mapping[str, Any] = {
    "key": "",
    "source": "model",
    "trace": "",
    "phase": "",
    **dict.fromkeys(_LISTS, "[]"),
}
"""What a file has that was written before there was such a column."""


def _column(name: str) -> str:
    return "_asked_at" if name == "at" else f"_{name}"


ANSWER_COLUMNS = tuple(Column(_column(name), kind) for name, kind in _OWN.items())
"""The columns of every table of answers, lists as JSON; the request's fields and the logged features follow."""


def answer_columns(request: Sequence[Column], features: Sequence[Column]) -> tuple[Column, ...]:
    """All columns of a model's table of answers."""
    logged = [Column(FEATURE + column.name, column.kind) for column in features]
    return (*ANSWER_COLUMNS, *request, *logged)


def answer_row(record: Predicted) -> dict[str, Any]:
    """An answer as a row of its table."""
    own = {_column(name): getattr(record, name) for name in _OWN}
    own |= {f"_{name}": msgspec.json.encode(getattr(record, name)).decode() for name in _LISTS}
    return own | record.request | {FEATURE + name: value for name, value in record.features.items()}


def answer_of(model: str, row: Mapping[str, Any]) -> Predicted:
    """The answer that `answer_row` made a row of; its columns are those of one file."""
    own: dict[str, Any] = {name: row.get(_column(name)) for name in _OWN}
    own = {name: _ABSENT.get(name) if value is None else value for name, value in own.items()}
    own |= {name: msgspec.json.decode(own[name]) for name in _LISTS} | {"cpu_us": int(own["cpu_us"] or 0)}
    request = {name: value for name, value in row.items() if name[0] != "_" and not name.startswith(FEATURE)}
    features = {name.removeprefix(FEATURE): value for name, value in row.items() if name.startswith(FEATURE)}
    return Predicted(model=model, request=request, features=features, **own)


def as_dict(record: Predicted) -> dict[str, Any]:
    """An answer by the names of its fields, for JSON; times are microseconds UTC."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def columns_for(rows: Sequence[dict[str, Any]], declared: Sequence[Column]) -> list[Column]:
    """Columns that hold all that these rows have: they may have been written under other definitions."""
    kinds = {column.name: column.kind for column in declared}
    seen: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            types = seen.setdefault(name, set())
            if value is not None:
                types.add(type(value))
    found = []
    for name in dict.fromkeys([*kinds, *seen]):
        kind, types = kinds.get(name), seen.get(name, set())
        if kind is None or not types <= _HELD[kind]:
            kind = next((one for one in (Kind.TIME, Kind.NUM, Kind.TEXT) if types <= _HELD[one]), None)
        if kind is None:  # a field that was of one kind and is of another
            kind = Kind.TEXT
            for row in rows:
                row[name] = None if row.get(name) is None else str(row[name])
        found.append(Column(name, kind))
    return found


_HELD: Mapping[Kind, set[type]] = {
    **{kind: {float, int, bool} for kind in (Kind.NUM, Kind.FLAG)},
    **{kind: {str} for kind in (Kind.ID, Kind.CAT, Kind.TEXT)},
    Kind.TIME: {int},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers are looked for; what is None does not matter.

    Attributes:
        key: By which the answer meets its outcome.
        unit: That was assigned to an arm.
        since, until: Asked in `[since, until)`, microseconds UTC.
        verdict: Of the guard: `pass`, `refused`, or a kind of finding; `flagged` is all but `pass`.
        before: Only answers before this id: the last one of the page before.
    """

    model: str | None = None
    key: str | None = None
    unit: str | None = None
    since: int = 0
    until: int = FOREVER
    verdict: str | None = None
    before: str | None = None
    limit: int = 100

    @property
    def ids(self) -> tuple[str, str]:
        """The ids from the first on, and before the second."""
        low, high = id_range(self.since, self.until)
        return low, high if self.before is None else min(high, self.before)

    def fits(self, record: Predicted) -> bool:
        """Whether an answer is wanted."""
        low, high = self.ids
        verdicts = (
            record.verdict != "pass" if self.verdict == "flagged" else self.verdict in (None, record.verdict)
        )
        return (
            low <= record.id < high
            and self.model in (None, record.model)
            and self.key in (None, record.key)
            and self.unit in (None, record.unit)
            and verdicts
        )

    @property
    def condition(self) -> str:
        """The same in SQL, but for the model."""
        low, high = self.ids
        parts = [f"_id >= {literal(low)} AND _id < {literal(high)}"]
        parts += [f"_key = {literal(self.key)}"] if self.key is not None else []
        parts += [f"_unit = {literal(self.unit)}"] if self.unit is not None else []
        if self.verdict is not None:
            parts.append(
                "_verdict <> 'pass'" if self.verdict == "flagged" else f"_verdict = {literal(self.verdict)}"
            )
        return " AND ".join(parts)


def wanted(texts: Mapping[str, str]) -> Wanted:
    """Which answers parameters in texts ask for: times as ISO 8601 or microseconds.

    Raises:
        RequestError: every parameter that there is not or that cannot be read.
    """
    names, faults = list(Wanted.__dataclass_fields__), []
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in names:
            hint = nearest(name, names)
            faults.append(
                Fault("unknown_field", "no such parameter", shorten(name), "", ", ".join(names), hint)
            )
            continue
        try:
            values[name] = _READ.get(name, str)(text)
        except (IcekeelError, ValueError):
            faults.append(Fault("wrong_type", "cannot be read", name, shorten(text), _ALLOWED[name]))
    if not 0 < (limit := values.get("limit", 1)) <= MOST:
        faults.append(Fault("out_of_range", "out of range", "limit", shorten(limit), _ALLOWED["limit"]))
    if faults:
        raise RequestError(*first_faults(faults, len(faults)))
    return Wanted(**values)


def _time(text: str) -> int:
    return parse_time(int(text) if text.isdigit() else text)


def _id(text: str) -> str:
    if time_of(text) is None:
        raise ValueError
    return text


def _verdict(text: str) -> str:
    if text not in VERDICTS:
        raise ValueError
    return text


_READ: Mapping[str, Callable[[str], Any]] = {
    "since": _time,
    "until": _time,
    "limit": int,
    "before": _id,
    "verdict": _verdict,
}
_MOMENT = "ISO 8601, or microseconds since 1970 UTC"
_ALLOWED = {
    "since": _MOMENT,
    "until": _MOMENT,
    "limit": f"1 to {MOST:,}",
    "before": "the id of an answer, 28 hexadecimal digits",
    "verdict": ", ".join(VERDICTS),
}


class Answers:
    """Finds answers that were given, by any process, up to the moment.

    Args:
        history: Where they are in the end.
        journal: Folder of the segments, where they are first.
    """

    def __init__(self, history: History, journal: Path) -> None:
        self._history = history
        self._journal = journal

    def one(self, identifier: str) -> Predicted:
        """The answer of an id.

        Raises:
            RequestError: `unknown_prediction`.
        """
        found = self.many([identifier])
        if not found:
            hint = "ids are 28 hexadecimal digits; icekeel answers lists them"
            raise RequestError(
                Fault("unknown_prediction", "no such answer", "prediction_id", shorten(identifier), hint=hint)
            )
        return found[identifier]

    def many(self, identifiers: Collection[str], since: Positions | None = None) -> dict[str, Predicted]:
        """The answers there are of some ids.

        Args:
            since: Where in the journal they are looked for first, since most of them stand behind it.
        """
        wanted = {one: time for one in identifiers if (time := time_of(one)) is not None}
        found: dict[str, Predicted] = {}
        if since is not None and wanted:
            found = self._stable(lambda _: self._journaled(since, wanted))
        rest = {one: time for one, time in wanted.items() if one not in found}
        return found | (self._stable(lambda manifest: self._many(manifest, rest)) if rest else {})

    def find(self, wanted: Wanted) -> list[Predicted]:
        """Answers, the newest first."""
        return self._stable(lambda manifest: self._find(manifest, wanted))

    def tally(self, wanted: Wanted, period: int) -> Counter[tuple[int, frozenset[str]]]:
        """How many answers there are by the stretch of `period` microseconds they were asked in, and the kinds found."""
        return self._stable(lambda manifest: self._tally(manifest, wanted, period))

    def _stable(self, look: Callable[[Manifest], Found]) -> Found:
        """What was seen while nothing moved from the journal into history, or out of it."""
        manifest = self._history.manifest()
        while True:
            before, failed = manifest, None
            try:
                found = look(before)
            except (
                duckdb.IOException,
                FileNotFoundError,
            ) as error:  # what was listed may be removed meanwhile
                failed = error
            manifest = self._history.manifest()
            if manifest == before:
                if failed is not None:
                    raise failed
                return found

    def _journaled(self, since: Positions, wanted: Collection[str]) -> dict[str, Predicted]:
        holding = [one.encode() for one in wanted] if len(wanted) <= FEW else ()
        read = scan(self._journal, kinds=Predicted, since=since, holding=holding)
        return {record.id: record for record in read if record.id in wanted}

    def _many(self, manifest: Manifest, wanted: Mapping[str, int]) -> dict[str, Predicted]:
        found = self._journaled(Positions(manifest.journal), wanted)
        with connect(folder=self._history.folder) as connection:
            for model, table in _tables(manifest, None):
                for file in manifest.tables[table]:
                    ids = [
                        one
                        for one, time in wanted.items()
                        if one not in found and file.known_from <= time <= file.known_until
                    ]
                    if ids:
                        path = self._history.folder / table / file.name
                        found |= {record.id: record for record in _read(connection, model, path, ids)}
        return found

    def _tally(self, manifest: Manifest, wanted: Wanted, period: int) -> Counter[tuple[int, frozenset[str]]]:
        found = Counter[tuple[int, frozenset[str]]]()
        for record in scan(self._journal, kinds=Predicted, since=Positions(manifest.journal)):
            if wanted.fits(record):
                found[record.at // period * period, _kinds(record.codes)] += 1
        paths = [path for _, path in self._files(manifest, wanted)]
        if paths:
            with connect(reads=paths) as connection:
                rows = connection.execute(
                    f"SELECT _asked_at // {period} * {period}, coalesce(_codes, '[]'), count(*) FROM "
                    f"({_OLDER} UNION ALL BY NAME FROM {parquet(paths, union=True)}) WHERE {wanted.condition} GROUP BY ALL"
                ).fetchall()
            for at, codes, count in rows:
                found[at, _kinds(msgspec.json.decode(codes))] += count
        return found

    def _files(self, manifest: Manifest, wanted: Wanted) -> Iterator[tuple[str, Path]]:
        """The files that can hold what is wanted, with their model."""
        low, high = wanted.ids
        for model, table in _tables(manifest, wanted.model):
            for file in manifest.tables[table]:
                first, last = id_range(file.known_from, file.known_until + 1)
                if low < last and first < high:
                    yield model, self._history.folder / table / file.name

    def _find(self, manifest: Manifest, wanted: Wanted) -> list[Predicted]:
        new = scan(self._journal, kinds=Predicted, since=Positions(manifest.journal))
        found = {record.id: record for record in new if wanted.fits(record)}
        paths = {str(path): (model, path) for model, path in self._files(manifest, wanted)}
        with connect(reads=[path for _, path in paths.values()]) as connection:
            rows = []
            if paths:
                source = parquet(list(paths), union=True).removesuffix(")") + ", filename = true)"
                rows = connection.execute(
                    f"SELECT filename, _id FROM ({_OLDER} UNION ALL BY NAME FROM {source}) WHERE {wanted.condition} ORDER BY _id DESC LIMIT {wanted.limit}"
                ).fetchall()
            newest = sorted([*found, *(one for _, one in rows)], reverse=True)[: wanted.limit]
            by_file: dict[str, list[str]] = {}
            for path, one in rows:
                by_file.setdefault(path, []).append(one)
            for name, ids in by_file.items():
                found |= {record.id: record for record in _read(connection, *paths[name], ids)}
        return [found[one] for one in newest]


def _kinds(codes: Sequence[str]) -> frozenset[str]:
    """The kinds of the guard's findings."""
    return frozenset(code.partition(":")[0] for code in codes)


def _tables(manifest: Manifest, model: str | None) -> list[tuple[str, str]]:
    """Models and their tables of answers."""
    prefix = f"{ANSWERS}/"
    names = [name for name in manifest.tables if name.startswith(prefix)]
    return [(name.removeprefix(prefix), name) for name in names if model in (None, name.removeprefix(prefix))]


def answers_in(model: str, file: Path) -> Iterator[list[Predicted]]:
    """All answers of a stored file, in order of their ids."""
    with connect(reads=[file]) as connection:
        result = connection.execute(f"SELECT * FROM {parquet([file])} ORDER BY _id")
        names = [column[0] for column in result.description or ()]
        while rows := result.fetchmany(2_000):
            yield [answer_of(model, dict(zip(names, row, strict=True))) for row in rows]


def _read(
    connection: duckdb.DuckDBPyConnection, model: str, file: Path, ids: Sequence[str]
) -> list[Predicted]:
    listed = ", ".join(map(literal, ids))
    result = connection.execute(f"SELECT * FROM {parquet([file])} WHERE _id IN ({listed})")
    names = [column[0] for column in result.description or ()]
    return [answer_of(model, dict(zip(names, row, strict=True))) for row in result.fetchall()]
