"""How fresh the rows of a table must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icekeel.core.errors import Fault, IcekeelError, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.time import FOREVER, parse_duration

from .fields import Field


@dataclass(frozen=True, slots=True)
class Fresh:
    """How old rows may be. Ages count from a row's event time, those of a whole table from when its newest came.

    Attributes:
        warn: Beyond it, answers say so.
        error: Beyond it, `stale=` of a model says what happens too.
        by: Column, or columns, whose every value must be fresh by itself; by default the table is judged as a whole.
        expire: Beyond it, a look-up (`Prices.of(...)`) gives null, in training and serving alike.
    """

    warn: str = ""
    error: str = ""
    by: str | tuple[str, ...] = ()
    expire: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of `by`, sorted."""
        return (self.by,) if isinstance(self.by, str) else tuple(sorted(self.by))

    @property
    def limits(self) -> tuple[int, int]:
        """`warn` and `error` in microseconds; FOREVER where there is none."""
        return _micros(self.warn), _micros(self.error)

    @property
    def expires(self) -> int:
        """`expire` in microseconds; FOREVER where nothing expires."""
        return _micros(self.expire)


def _micros(text: str) -> int:
    return parse_duration(text) if text else FOREVER


def market(*, warn: str = "6h", error: str = "1d", by: str | tuple[str, ...] = (), expire: str = "") -> Fresh:
    """Prices, rates, stock: good for hours."""
    return Fresh(warn, error, by, expire)


def preferences(
    *, warn: str = "2w", error: str = "6w", by: str | tuple[str, ...] = (), expire: str = ""
) -> Fresh:
    """What people like and do: good for weeks."""
    return Fresh(warn, error, by, expire)


def demographics(
    *, warn: str = "180d", error: str = "365d", by: str | tuple[str, ...] = (), expire: str = ""
) -> Fresh:
    """Who people are, what a place is like: good for months."""
    return Fresh(warn, error, by, expire)


def read_fresh(given: object, fields: Mapping[str, Field], place: str) -> tuple[Fresh, list[Fault]]:
    """What `fresh=` of a table says, a text being its `error`; what cannot hold counts as not said."""
    where = f"{place}, fresh"
    fresh = Fresh(error=given) if isinstance(given, str) else given
    if not isinstance(fresh, Fresh):
        allowed = '"3h", ik.Fresh(warn=, error=, by=, expire=), ik.market(by=)'
        return Fresh(), [
            Fault("bad_fresh", "fresh= says how old rows may be", where, shorten(given), allowed)
        ]
    short = isinstance(given, str)
    faults, micros = [], {}
    for name in ("error",) if short else ("warn", "error", "expire"):
        text: object = getattr(fresh, name)
        if text == "" and not short:
            continue
        try:
            micros[name] = parse_duration(text)  # type: ignore[arg-type]  # whatever the project says
        except IcekeelError as error:
            faults += [fault.at(where if short else f"{where}, {name}") for fault in error.faults]
    if micros.get("warn", 0) >= micros.get("error", FOREVER):
        faults.append(Fault("bad_fresh", "warn= comes before error=", where, f"{fresh.warn}, {fresh.error}"))
    if not micros and not faults:
        faults.append(Fault("bad_fresh", "fresh= has no limit", where, allowed='warn="6h", error="1d"'))
    by = fresh.by if isinstance(fresh.by, tuple) else (fresh.by,)
    for column in by:
        field = fields.get(column) if isinstance(column, str) else None
        if field is None or field.kind not in (Kind.ID, Kind.CAT):
            what = "by= names no ik.Id or ik.Cat of this table"
            faults.append(Fault("bad_fresh", what, where, shorten(column), hint=nearest(str(column), fields)))
    return (Fresh() if faults else fresh), faults
