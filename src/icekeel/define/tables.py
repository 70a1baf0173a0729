"""Requests and events: classes whose annotations are their fields.

Access on the class gives expressions (`Quote.colors`), an instance is one row of test data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar, get_type_hints

from icekeel.core.errors import Fault, ProjectError, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.patterns import read_pattern

from .columns import keyed
from .expressions import KINDS, Expression, Flag, expression, invalid, is_number, is_text, lift
from .fields import BREACHES, ORDINARY, QUARANTINE, Contract, Field, Limits
from .freshness import Fresh, read_fresh
from .nodes import EventField, Invalid, Node, RequestField
from .sources import Source, Sql, source_faults
from .windows import EVER, Reference, Selection, Window

RESERVED = {"count", "minutes_since", "hours_since", "days_since", "where", "of", "asked_at", "available_at"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition every row of an event table must meet, with the sentence that says so; `breach` where it is its own."""

    sentence: str
    condition: Node
    breach: str = ""


_RowCheck = TypeVar("_RowCheck", bound=Callable[[Any], Flag])


def rule(sentence: str, *, breach: str = "") -> Callable[[_RowCheck], _RowCheck]:
    """Make a row rule of a function in the class body; rows that break it go to quarantine, or as `breach=` says.

    A row for which the condition is null passes: missing values are the business of `optional`.
    """

    def mark(check: _RowCheck) -> _RowCheck:
        check._icekeel_rule = (sentence, breach)  # type: ignore[attr-defined]
        return check

    return mark


def _read_fields(owner: type, namespace: Mapping[str, Any]) -> tuple[dict[str, Field], list[Fault]]:
    fields: dict[str, Field] = {}
    faults: list[Fault] = []
    inherited: dict[str, Field] = {}
    for base in owner.__mro__[:0:-1]:
        table = vars(base).get("icekeel_table")
        inherited |= vars(base).get("icekeel_fields", {}) if table is None else table.fields
    try:
        hints = get_type_hints(owner)
    except (NameError, AttributeError) as error:
        return {}, [Fault("unknown_type", str(error), owner.__name__)]
    for name, annotation in hints.items():
        if name.startswith("_") or annotation is ClassVar:
            continue
        where = f"{owner.__name__}.{name}"
        kind = KINDS.get(annotation)
        limits = namespace.get(name, inherited[name].limits if name in inherited else Limits())
        if kind is None:
            allowed = ", ".join(f"ik.{cls.__name__}" for cls in KINDS)
            faults.append(Fault("unknown_type", "not a field type", where, str(annotation), allowed))
        elif not isinstance(limits, Limits):
            allowed = (
                "ik.between, ik.at_least, ik.at_most, ik.one_of, ik.matches, ik.length, ik.unique, ik.references, "
                "ik.optional, ik.private, and several joined by &"
            )
            faults.append(Fault("bad_limits", "not a limit of a field", where, shorten(limits), allowed))
        elif name in RESERVED:
            faults.append(Fault("reserved_name", "this name has a meaning in Icekeel", where, name))
        else:
            faults += _limits_fit(where, kind, limits)
            if any(name != other and name.lower() == other.lower() for other in fields):
                faults.append(Fault("twice", "two fields differ only in upper and lower case", where, name))
            fields[name] = Field(name, kind, limits)
    return fields, faults


def _limits_fit(where: str, kind: Kind, limits: Limits) -> list[Fault]:
    numeric = limits.low is not None or limits.high is not None
    if numeric and kind is not Kind.NUM:
        return [Fault("bad_limits", "only an ik.Num has a range", where, f"a {kind}")]
    if limits.allowed is not None and kind is not Kind.CAT:
        return [Fault("bad_limits", "only an ik.Cat has allowed values", where, f"a {kind}")]
    if limits.private and kind is not Kind.ID:
        hint = "declare what names the person as an ik.Id, and leave out of the project what else is personal"
        return [Fault("bad_private", "only an ik.Id can be private", where, f"a {kind}", hint=hint)]
    if limits.entity and not (is_text(limits.entity) and limits.entity.isidentifier()):
        return [Fault("bad_name", "an entity's name is an identifier", where, shorten(limits.entity))]
    if wrong := _text_limits_fit(where, kind, limits) or _set_limits_fit(where, kind, limits):
        return [wrong]
    ends = [end for end in (limits.low, limits.high) if end is not None]
    if odd := [end for end in ends if not is_number(end)]:
        return [Fault("bad_limits", "a range has numbers for ends", where, shorten(odd[0]))]
    if strange := [value for value in limits.allowed or () if not is_text(value)]:
        return [Fault("bad_limits", "allowed values are texts", where, shorten(strange[0]))]
    if len(ends) == 2 and ends[0] > ends[1]:
        return [Fault("bad_limits", "the range is empty", where, f"{limits.low} to {limits.high}")]
    return []


def _text_limits_fit(where: str, kind: Kind, limits: Limits) -> Fault | None:
    sizes = [size for size in (limits.shortest, limits.longest) if size is not None]
    if (sizes or limits.pattern is not None) and not kind.is_text:
        return Fault("bad_limits", "only texts have a pattern or a length", where, f"a {kind}")
    if any(type(size) is not int or size < 0 for size in sizes) or sizes != sorted(sizes):
        return Fault("bad_limits", "a length is from so many to so many characters", where, shorten(sizes))
    try:
        if limits.pattern is not None:
            read_pattern(limits.pattern)
    except (TypeError, ValueError) as error:
        return Fault("bad_pattern", f"not a pattern: {error}", where, shorten(limits.pattern))
    return None


def _set_limits_fit(where: str, kind: Kind, limits: Limits) -> Fault | None:
    if limits.references is not None and not (
        isinstance(limits.references, EventField) and limits.references.kind is kind
    ):
        what = (
            "a reference is to a column of the same kind of another table: ik.references(Customers.customer)"
        )
        return Fault("bad_limits", what, where, shorten(limits.references))
    if limits.most_null is not None and not (is_number(limits.most_null) and 0 <= limits.most_null <= 1):
        return Fault("bad_limits", "most= is a share from 0 to 1", where, shorten(limits.most_null))
    return None


def _about_batches(owner: str, fields: Mapping[str, Field]) -> list[Fault]:
    """The limits of a request that only events can have."""
    return [
        Fault("bad_limits", "a request has no batch: this is for events", f"{owner}.{field.name}")
        for field in fields.values()
        if field.limits.unique
        or field.limits.references is not None
        or field.limits.most_null is not None
        or field.limits.breach
    ]


class RequestMeta(type):
    """Turns the annotations of a `Request` class into fields."""

    icekeel_fields: dict[str, Field]
    icekeel_faults: list[Fault]

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> RequestMeta:
        """Create the class and read its fields."""
        cls = super().__new__(mcs, name, bases, dict(namespace))
        if bases:
            cls.icekeel_fields, cls.icekeel_faults = _read_fields(cls, namespace)
            cls.icekeel_faults += _about_batches(name, cls.icekeel_fields)
            for option in options:
                cls.icekeel_faults.append(Fault("unknown_option", "a request takes no options", name, option))
            for field in cls.icekeel_fields.values():
                setattr(cls, field.name, expression(RequestField(name, field.name, field.kind)))
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or "icekeel_fields" not in cls.__dict__:
            raise AttributeError(name)
        return _unknown_field(cls.__name__, name, cls.icekeel_fields)


class Request(metaclass=RequestMeta):
    """The typed fields that a caller sends; subclass it and annotate them."""


def _unknown_field(owner: str, name: str, fields: Mapping[str, Field]) -> Expression:
    hint = nearest(name, fields)
    near = fields.get(hint.split('"')[1]) if hint else None
    kind = near.kind if near else Kind.NUM
    fault = Fault("unknown_field", f'no field "{name}"', f"{owner}.{name}", "", ", ".join(fields), hint)
    return invalid(kind, fault)


@dataclass(frozen=True, slots=True)
class EventTable:
    """The definition of an event table.

    Attributes:
        fields: All columns, time columns included, in order.
        time: Column of the event time.
        available: Column of the time from which a row is known; the event time where none is declared.
        id: Column that identifies the event; rows of equal id are versions of one event.
        source: What `icekeel ingest` reads; empty for pushed events only.
        deleted: Flag column whose true rows say that the event of their id does not hold any more; may be empty.
        fresh: How old its rows may be.
        contract: What becomes of rows that break a rule, and what is demanded of a batch as a whole.
    """

    name: str
    fields: Mapping[str, Field]
    time: str
    available: str
    id: str
    source: Source
    rules: tuple[Rule, ...]
    deleted: str = ""
    fresh: Fresh = field(default_factory=Fresh)
    contract: Contract = ORDINARY


class EventsMeta(type):
    """Turns an `Events` class into an `EventTable`."""

    icekeel_table: EventTable
    icekeel_faults: list[Fault]

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> EventsMeta:
        """Create the class and read its fields, times, id and rules."""
        rules = {key: value for key, value in namespace.items() if hasattr(value, "_icekeel_rule")}
        cls = super().__new__(
            mcs, name, bases, {key: value for key, value in namespace.items() if key not in rules}
        )
        if bases:
            fields, faults = _read_fields(cls, namespace)
            faults += _check_options(name, options, fields)
            time = str(options.get("time", "event_time"))
            available = str(options.get("available", time))
            for column in (time, available):
                fields.setdefault(column, Field(column, Kind.TIME))
            for field in fields.values():
                setattr(cls, field.name, expression(EventField(name, field.name, field.kind)))
            checks, rule_faults = _read_rules(name, fields, rules)
            given, id_column = options.get("source", ""), str(options.get("id", ""))
            faults += source_faults(f"class {name}", given, fields)
            source = given if isinstance(given, Sql) else str(given)
            deleted = str(options.get("deleted", ""))
            fresh, unfresh = Fresh(), list[Fault]()
            if "fresh" in options:
                fresh, unfresh = read_fresh(options["fresh"], fields, f"class {name}")
            contract = options.get("contract", ORDINARY)
            faults += _check_contract(name, contract, fields)
            cls.icekeel_table = EventTable(
                name, fields, time, available, id_column, source, checks, deleted, fresh, contract
            )
            cls.icekeel_faults = faults + unfresh + rule_faults
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or "icekeel_table" not in cls.__dict__:
            raise AttributeError(name)
        if hasattr(Window, name) or hasattr(Selection, name):
            hint = f'{cls.__name__}.where(...).last("30d")'
            what = "events are asked about in a window"
            return invalid(Kind.NUM, Fault("no_horizon", what, f"{cls.__name__}.{name}", hint=hint))
        return _unknown_field(cls.__name__, name, cls.icekeel_table.fields)


_OPTIONS = ("time", "available", "id", "source", "deleted", "fresh", "contract")


def _check_options(name: str, options: Mapping[str, Any], fields: Mapping[str, Field]) -> list[Fault]:
    place = f"class {name}"
    faults = list[Fault]()
    for one in options:
        if one not in _OPTIONS:
            what, near = f'unknown option "{one}"', nearest(one, _OPTIONS)
            faults.append(Fault("unknown_option", what, place, "", ", ".join(_OPTIONS), near))
    faults += [
        Fault("missing_option", f"an event table needs {one}=", place, hint=f'{one}="column"')
        for one in ("time", "id")
        if one not in options
    ]
    for option in ("time", "available"):
        field = fields.get(str(options.get(option, "")))
        if field is not None and field.kind is not Kind.TIME:
            what = f"{option}= names a column that is no ik.Time"
            faults.append(Fault("wrong_kind", what, place, f"a {field.kind}"))
        if field is not None and field.limits.optional:
            faults.append(Fault("bad_limits", f"the column of {option}= cannot be optional", place))
    for option, kind, code in (("id", Kind.ID, "bad_id"), ("deleted", Kind.FLAG, "bad_deleted")):
        column = options.get(option)
        field = fields.get(str(column))
        if option in options and (field is None or field.kind is not kind):
            what = f"{option}= names no ik.{kind.capitalize()} of this table"
            faults.append(Fault(code, what, place, shorten(column), hint=nearest(str(column), fields)))
        elif field is not None and option == "id" and field.limits.optional:
            faults.append(Fault("bad_limits", "the column of id= cannot be optional", place))
    return faults


def _check_contract(name: str, contract: Any, fields: Mapping[str, Field]) -> list[Fault]:
    where = f"class {name}, contract"
    if not isinstance(contract, Contract):
        return [Fault("bad_contract", "contract= takes an ik.Contract(...)", where, shorten(contract))]
    wrong = [
        Fault("bad_limits", "nulls of a whole batch block or warn", f"{name}.{field.name}", QUARANTINE)
        for field in fields.values()
        if ("nulls", QUARANTINE) in field.limits.breach
    ]
    return contract.faults(where, list(fields)) + wrong


def _read_rules(
    name: str, fields: Mapping[str, Field], rules: Mapping[str, Any]
) -> tuple[tuple[Rule, ...], list[Fault]]:
    row = SimpleNamespace(
        **{field.name: expression(EventField(name, field.name, field.kind)) for field in fields.values()}
    )
    checks: list[Rule] = []
    faults: list[Fault] = []
    for key, check in rules.items():
        try:
            node = lift(check(row))
        except (AttributeError, ProjectError, TypeError) as error:
            faults.append(Fault("bad_rule", f"the rule cannot be read: {error}", f"{name}.{key}"))
            continue
        if isinstance(node, Invalid):
            faults += [fault.inside(f"{name}.{key}") for fault in node.faults]
        elif node.kind is not Kind.FLAG:
            faults.append(Fault("bad_rule", "a rule gives a flag", f"{name}.{key}", f"a {node.kind}"))
        sentence, breach = check._icekeel_rule
        if breach and breach not in BREACHES:
            what, allowed = "breach= is none of these", ", ".join(BREACHES)
            faults.append(Fault("bad_rule", what, f"{name}.{key}", shorten(breach), allowed))
        checks.append(Rule(sentence, node, breach))
    return tuple(checks), faults


class Events(metaclass=EventsMeta):
    """A table of things that happened; subclass it and annotate its columns.

    Class options: `time=` column of the event time, `available=` column of the time from which a row was
    known (default: the event time), `id=` column that identifies the event, `source=` what to ingest: a path, a
    glob, a URL of object storage or `ik.sql(...)`,
    `deleted=` a flag column: a row in which it is true says that the event of this id holds no more,
    `fresh=` how old its rows may be: a duration, or an `ik.Fresh`, `contract=` an `ik.Contract`.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        table = type(self).icekeel_table
        names = [name for name in table.fields if name not in (table.time, table.available)]
        names += [name for name in (table.time, table.available) if name in table.fields]
        if len(values) > len(names):
            raise TypeError(f"{table.name} has {len(names)} columns, got {len(values)} values")
        row = dict(zip(names, values, strict=False)) | named
        for name in row:
            if name not in table.fields:
                raise TypeError(f'{table.name} has no column "{name}"; {nearest(name, table.fields)}')
        row.setdefault(table.available, row.get(table.time))
        self.icekeel_row = row

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.icekeel_row.items())
        return f"{type(self).__name__}({inside})"

    @classmethod
    def where(cls, *filters: Flag, **keys: Any) -> Selection:
        """Events that belong to a question.

        Args:
            filters: Flags over the event's own columns.
            keys: `column=Request.field` joins; `column=constant` filters.
        """
        table = cls.icekeel_table
        selected, faults = keyed(table.name, table.fields, filters, keys)
        return Selection(selected, table.fields, faults)

    @classmethod
    def of(cls, **keys: Any) -> Any:
        """The newest row of a reference table for its id: `Planes.of(tail=Flight.tail).seats`.

        A value older than `expire=` of the table's `fresh=` is null.
        """
        table = cls.icekeel_table
        selected, faults = keyed(table.name, table.fields, (), keys)
        if [column for column, _ in selected.keys] != [table.id]:
            what, got = "a reference is looked up by its id", ", ".join(keys)
            faults.append(Fault("bad_key", what, f"{table.name}.of", got, f"{table.id}="))
        return Reference(selected, table.fields, faults, min(EVER, table.fresh.expires))


def deleted(events: Any, id: str, *, at: Any) -> Events:
    """Test data for `ik.given`: from `at` on it is known that the event of this id does not hold.

    Args:
        events: The class of events: `Orders`.
        id: Which event.
        at: The time from which that is known.
    """
    version: Events = events.__new__(events)
    table: EventTable = events.icekeel_table
    version.icekeel_row = {table.id: id, table.available: at, DELETED: True}
    return version


DELETED = "_deleted"
"""Name of the mark of a version that deletes; no column begins with an underscore."""
