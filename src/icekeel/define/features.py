"""Feature sets: classes whose attributes are named expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icekeel.core.errors import Fault, nearest, shorten
from icekeel.core.ids import digest
from icekeel.core.kinds import Column, Kind

from .expressions import Expression, Unfinished, invalid
from .nodes import EventField, Invalid, Literal, Node, Outcome, shallow, walk

_ALLOWED = (Kind.NUM, Kind.FLAG, Kind.CAT, Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Feature:
    """A named expression over the request and windows of events."""

    name: str
    node: Node

    @property
    def digest(self) -> str:
        """SHA-256 of the definition: equal definitions, equal values."""
        return digest(repr(self.node).encode())

    @property
    def column(self) -> Column:
        """Name and kind, as engines see it."""
        return Column(self.name, self.node.kind)


class FeaturesMeta(type):
    """Collects the expressions of a class body, those of its bases first."""

    icekeel_features: tuple[Feature, ...]
    icekeel_faults: list[tuple[str, Fault]]
    """What cannot hold, each with the attribute where it shows; one that came with a shared expression shows often."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> FeaturesMeta:
        """Create the class and collect its features."""
        cls = super().__new__(mcs, name, bases, namespace)
        found: dict[str, Feature] = {}
        faults: list[tuple[str, Fault]] = []
        for base in bases:
            found |= {feature.name: feature for feature in getattr(base, "icekeel_features", ())}
        for key, value in namespace.items():
            here: list[Fault] = []
            if isinstance(value, Expression):
                here = _wrong(value.node)
                if not key.startswith("_"):
                    found[key] = Feature(key, value.node)
                    here = here or _unfit(value.node)
            elif not key.startswith("_"):
                here = [
                    Fault("not_a_feature", "expected an expression", "", _shown(value), hint=_hint(value))
                ]
            faults += [(f"{name}.{key}", fault) for fault in here]
        cls.icekeel_features = tuple(found.values())
        cls.icekeel_faults = faults
        return cls

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        names = [feature.name for feature in cls.icekeel_features]
        where = f"{cls.__name__}.{name}"
        return invalid(
            Kind.NUM, Fault("unknown_feature", f'no feature "{name}"', where, "", "", nearest(name, names))
        )


def _hint(value: object) -> str:
    if isinstance(value, tuple):
        return "write `sine, cosine = ik.cyclic(...)`"
    return "aggregate the window: .count(), .column.mean()" if isinstance(value, Unfinished) else ""


def _shown(value: object) -> str:
    return f"a {type(value).__name__}" if isinstance(value, Unfinished) else shorten(value)


def _wrong(node: Node) -> list[Fault]:
    faults: list[Fault] = []
    for below in walk(node):
        if isinstance(below, Invalid):
            faults += below.faults
        elif isinstance(below, Outcome):
            faults.append(Fault("needs_outcome", "a feature cannot use what happened after the question"))
    return list(dict.fromkeys(faults))


def _unfit(node: Node) -> list[Fault]:
    if node.kind not in _ALLOWED:
        what = "a feature is a Num, Flag, Cat or Text"
        return [Fault("wrong_kind", what, "", f"a {node.kind}")]
    if isinstance(node, Literal):
        return [Fault("constant_feature", "a constant says nothing", "", repr(node.value))]
    if any(isinstance(below, EventField) for below in shallow(node)):
        hint = 'aggregate it: Table.where(...).last("7d").column.mean()'
        return [Fault("bare_event_column", "an event column stands outside a window", hint=hint)]
    return []


class Features(metaclass=FeaturesMeta):
    """A set of features; subclass it and assign expressions. Names that begin with `_` are intermediate."""
