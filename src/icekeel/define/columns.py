"""Which events belong to a question, and the columns they are asked about by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icekeel.core.errors import Fault, nearest
from icekeel.core.kinds import Kind

from .expressions import Unfinished, Wrong, invalid, lift
from .fields import Field
from .nodes import Call, EventField, Invalid, Keyed, Literal, Node, Op, Outcome, RequestField, shallow

NO_OUTCOME = "a feature cannot use what happened after the question"

Fields = Mapping[str, Field]


def keyed(
    table: str, fields: Fields, filters: tuple[Any, ...], keys: Mapping[str, Any]
) -> tuple[Keyed, list[Fault]]:
    """Read `where(...)`: request fields are keys, constants and flags are filters."""
    faults: list[Fault] = []
    pairs: list[tuple[str, RequestField]] = []
    conditions: list[Node] = []
    for column, value in sorted(keys.items()):
        where = f"{table}.where({column}=)"
        field = fields.get(column)
        if field is None:
            faults.append(no_column(where, column, fields))
            continue
        node = lift(value)
        if isinstance(node, Invalid):
            faults += node.faults
        elif isinstance(node, RequestField):
            if node.kind.is_text != field.kind.is_text or field.kind in (Kind.NUM, Kind.TIME, Kind.TEXT):
                allowed = "an Id, Cat or Flag on both sides"
                faults.append(
                    Fault("bad_key", "these cannot be joined", where, f"{field.kind} = {node.kind}", allowed)
                )
            pairs.append((column, node))
        elif isinstance(node, Literal):
            if node.kind.is_text != field.kind.is_text or field.kind is Kind.TIME:
                got = f"{field.kind} = {node.value!r}"
                faults.append(Fault("bad_key", "these cannot be compared", where, got))
            event = EventField(table, column, field.kind)
            conditions.append(Call(Op.EQ, (event, node), Kind.FLAG))
        else:
            faults.append(
                Fault("bad_key", "a key is a field of the request or a constant", where, repr(value))
            )
    for condition in filters:
        node = lift(condition)
        faults += event_only(node, table, f"{table}.where", Kind.FLAG)
        conditions.append(node)
    combined: Node | None = None
    for node in conditions:
        combined = node if combined is None else Call(Op.AND, (combined, node), Kind.FLAG)
    return Keyed(table, tuple(pairs), combined), faults


def no_column(where: str, column: str, fields: Fields) -> Fault:
    """The fault of a column that the table does not have."""
    what, near = f'no column "{column}"', nearest(column, fields)
    return Fault("unknown_column", what, where, "", ", ".join(fields), near)


def event_only(node: Node, table: str, where: str, kind: Kind | None = None) -> list[Fault]:
    """What keeps an expression from being one over the columns of `table` alone (and of `kind`)."""
    faults: list[Fault] = []
    for below in shallow(node):
        if isinstance(below, Invalid):
            faults += below.faults
        elif isinstance(below, Outcome):
            faults.append(Fault("needs_outcome", NO_OUTCOME, where))
        elif isinstance(below, EventField) and below.table != table:
            what, got = f"only columns of {table} may stand here", f"{below.table}.{below.name}"
            faults.append(Fault("foreign_column", what, where, got))
        elif not isinstance(below, EventField | Literal | Call):
            faults.append(Fault("not_of_the_event", f"only columns of {table} may stand here", where))
    if kind is not None and not isinstance(node, Invalid) and node.kind is not kind:
        faults.append(Fault("wrong_kind", f"expected a {kind}", where, f"a {node.kind}"))
    return faults


class Columns(Unfinished):
    """Attribute access to the columns of a table, with a fault for names it does not have."""

    __slots__ = ("_faults", "_fields", "_keyed")

    def __init__(self, keyed: Keyed, fields: Fields, faults: list[Fault]) -> None:
        self._keyed = keyed
        self._fields = fields
        self._faults = faults

    def _node(self, name: str) -> Node:
        if name.startswith("_"):
            raise AttributeError(name)
        field = self._fields.get(name)
        if field is None:
            return Invalid((no_column(f"{self._keyed.table}.{name}", name, self._fields),))
        return EventField(self._keyed.table, name, field.kind)


def no_aggregate(values: object, name: str, where: str) -> Wrong:
    """What stands for an aggregate that does not exist, with the nearest that does."""
    if name.startswith("_"):
        raise AttributeError(name)
    known = [one for one in dir(type(values)) if not one.startswith("_")]
    near = nearest(_NAMES_ELSEWHERE.get(name, name), known)
    fault = Fault("unknown_aggregate", f"no aggregate {name}()", where, "", ", ".join(known), near)
    return invalid(Kind.NUM, fault)


_NAMES_ELSEWHERE = {
    **{"avg": "mean", "average": "mean", "nunique": "distinct", "diff": "change_over_last", "stddev": "std"},
    **{"rolling": "mean_of_last", "latest": "last", "percent_rank": "rank_of", "total": "sum"},
}
"""What pandas and SQL call them."""
