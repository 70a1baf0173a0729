"""Feature sets: classes whose attributes are named expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icekeel.core.errors import Fault, nearest
from icekeel.core.ids import digest
from icekeel.core.kinds import Column, Kind

from .expressions import Expression, invalid
from .nodes import Invalid, Literal, Node, Outcome, walk

_ALLOWED = (Kind.NUM, Kind.FLAG, Kind.CAT)


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
    icekeel_faults: list[Fault]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> FeaturesMeta:
        """Create the class and collect its features."""
        cls = super().__new__(mcs, name, bases, namespace)
        found: dict[str, Feature] = {}
        faults: list[Fault] = []
        for base in bases:
            found |= {feature.name: feature for feature in getattr(base, "icekeel_features", ())}
        for key, value in namespace.items():
            if key.startswith("_"):
                continue
            if isinstance(value, Expression):
                found[key] = Feature(key, value.node)
                faults += _check(f"{name}.{key}", value.node)
            else:
                faults.append(
                    Fault(
                        "not_a_feature",
                        "expected an expression",
                        f"{name}.{key}",
                        repr(value)[:60],
                        hint=_hint(value),
                    )
                )
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
    return "aggregate the window: .count(), .column.mean()" if hasattr(value, "_keyed") else ""


def _check(where: str, node: Node) -> list[Fault]:
    faults = []
    for below in walk(node):
        if isinstance(below, Invalid):
            for fault in below.faults:
                place = f"{where}: {fault.where}" if fault.where else where
                faults.append(Fault(fault.code, fault.what, place, fault.got, fault.allowed, fault.hint))
        elif isinstance(below, Outcome):
            faults.append(
                Fault("needs_outcome", "a feature cannot use what happened after the question", where)
            )
    if faults:
        return list(dict.fromkeys(faults))
    if node.kind not in _ALLOWED:
        return [Fault("wrong_kind", "a feature is a Num, Flag or Cat", where, f"a {node.kind}")]
    if isinstance(node, Literal):
        return [Fault("constant_feature", "a constant says nothing", where, repr(node.value))]
    return []


class Features(metaclass=FeaturesMeta):
    """A set of features; subclass it and assign expressions. Names that begin with `_` are intermediate."""
