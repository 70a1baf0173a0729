"""From feature definitions to work: which windows to keep, how each feature follows from them.

Windows over the same events by the same key become one `View`; equal windows are computed once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from icekeel.compile.closure import Row, compile_row
from icekeel.core.errors import Fault, RequestError, first_faults, nearest, shorten
from icekeel.core.frames import Column
from icekeel.core.ids import digest
from icekeel.core.kinds import Kind
from icekeel.core.time import FOREVER
from icekeel.define import Fresh
from icekeel.define.features import Feature
from icekeel.define.fields import Field
from icekeel.define.nodes import AskedAt, Keyed, Node, RequestField, Windowed, walk

from .aggregates import EMPTY, Aggregate, Function, Span, View

LONGEST_NAME = 100
"""Characters of an unknown name that are held against the known ones."""
_NEVER_NULL = (Function.COUNT, Function.DISTINCT)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One view and how a question finds its key there.

    Attributes:
        key_fields: Request fields that make the key, in the order of `view.keys`.
        values: The expressions over event columns behind `view.columns`, in that order.
        params: The expressions over the request and the time asked that `Aggregate.of` counts; those of a
            text kind are compared with texts. Evaluate them with `Plan.compile_params`.
    """

    view: View
    key_fields: tuple[str, ...]
    values: tuple[Node, ...]
    params: tuple[Node, ...] = ()

    @property
    def texts(self) -> list[int]:
        """Places of the aggregates whose number is the code of a text."""
        return [
            at
            for at, one in enumerate(self.view.aggregates)
            if one.function in (Function.FIRST, Function.LAST) and self.values[one.column].kind.is_text
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is needed to compute a feature set.

    Attributes:
        features: The features, in order.
        lookups: The views to read; their aggregates, one after the other, are the plan's *slots*.
        slots: Place of each window among the slots.
        ages: Windows that tell how old the newest row of a key is that must be fresh, see `define.Fresh.by`; the time in
            microseconds, null for none in the reach of the window.
    """

    fields: tuple[Field, ...]
    features: tuple[Feature, ...]
    lookups: tuple[Lookup, ...]
    slots: Mapping[Windowed, int]
    ages: tuple[Windowed, ...] = ()

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Names and kinds of the request's fields, in order."""
        return tuple(Column(field.name, field.kind) for field in self.fields)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and kinds of the features, in order."""
        return tuple(feature.column for feature in self.features)

    @property
    def definitions(self) -> dict[str, str]:
        """Feature -> digest of its definition, in order."""
        return {feature.name: feature.digest for feature in self.features}

    @property
    def digest(self) -> str:
        """Digest of all definitions together."""
        return digest(repr(sorted(self.definitions.items())).encode())

    @property
    def text_slots(self) -> list[int]:
        """Slots whose number is the code of a text."""
        return [slot for window, slot in self.slots.items() if window.kind is Kind.CAT]

    @property
    def windows(self) -> list[Windowed]:
        """The windows that features are made of, in the order of their slots."""
        read = {node for one in self.features for node in walk(one.node) if isinstance(node, Windowed)}
        return [window for window in self.slots if window in read]

    def readers(self, age: Windowed) -> list[str]:
        """The features that are made of the events of one of the `ages`."""
        events = (age.keyed.table, age.keyed.keys)
        return [
            feature.name
            for feature in self.features
            if any(
                isinstance(node, Windowed) and (node.keyed.table, node.keyed.keys) == events
                for node in walk(feature.node)
            )
        ]

    def windows_of(self, lookup: Lookup) -> list[Windowed]:
        """The windows that one of the lookups gives."""
        start = 0
        for one in self.lookups:
            end = start + len(one.view.aggregates)
            if one is lookup:
                return [node for node, slot in self.slots.items() if start <= slot < end]
            start = end
        return []

    def compile(self) -> Row:
        """`row(r, t, w)`: features of one request.

        `r` holds the request's values in field order, `t` is the time asked, `w` the slots (NaN for null,
        texts decoded). Null is None, flags are 1.0 and 0.0.
        """
        return compile_row([feature.node for feature in self.features], self._leaf, "r, t, w")

    def unseen(self) -> list[float]:
        """The slots of a request whose keys were never seen: 0 for counts and sums, else null."""
        functions = (one.function for lookup in self.lookups for one in lookup.view.aggregates)
        return [EMPTY.get(function, float("nan")) for function in functions]

    def compile_params(self, lookup: Lookup) -> Row:
        """`row(r, t)`: the parameters of one lookup for one request, in the order of `lookup.params`."""
        return compile_row(list(lookup.params), self._leaf, "r, t")

    def _leaf(self, node: Node) -> tuple[str, bool] | None:
        if isinstance(node, RequestField):
            place = [field.name for field in self.fields].index(node.name)
            return f"r[{place}]", self.fields[place].limits.optional
        if isinstance(node, AskedAt):
            return "t", False
        if isinstance(node, Windowed):
            return f"w[{self.slots[node]}]", Function(node.function) not in _NEVER_NULL
        return None


def make_plan(
    fields: Sequence[Field], features: Sequence[Feature], fresh: Mapping[str, Fresh] | None = None
) -> Plan:
    """The plan of a feature set over a request's fields.

    Args:
        fresh: Tables whose keys must be fresh, and how fresh.
    """
    windows = dict.fromkeys(
        node for feature in features for node in walk(feature.node) if isinstance(node, Windowed)
    )
    groups: dict[tuple[str, tuple[tuple[str, RequestField], ...]], list[Windowed]] = {}
    for window in windows:
        groups.setdefault((window.keyed.table, window.keyed.keys), []).append(window)
    lookups: list[Lookup] = []
    slots: dict[Windowed, int] = {}
    ages: list[Windowed] = []
    for (table, keys), members in groups.items():
        age = _age((fresh or {}).get(table, Fresh()), Keyed(table, keys), members)
        if age is not None:
            ages.append(age)
            members.extend([age] if age not in members else [])
        lookups.append(_lookup(members[0].keyed, members))
        for window in members:
            slots[window] = len(slots)
    return Plan(tuple(fields), tuple(features), tuple(lookups), slots, tuple(ages))


def _age(fresh: Fresh, keyed: Keyed, windows: Sequence[Windowed]) -> Windowed | None:
    """The window that tells how old the newest row of a key is, reaching as far as any of these windows or limits."""
    if not fresh.keys or tuple(column for column, _ in keyed.keys) != fresh.keys:
        return None
    limits = [limit for limit in fresh.limits if limit < FOREVER]
    if not limits:
        return None
    reach = max(*limits, *(window.high for window in windows))
    return Windowed(Function.SINCE.value, keyed, 1, reach, None, Kind.NUM)


def _lookup(keyed: Keyed, windows: Sequence[Windowed]) -> Lookup:
    parts = [part for window in windows for part in (window.value, window.keyed.where)]
    values = tuple(dict.fromkeys(part for part in parts if part is not None))
    places = {node: at for at, node in enumerate(values)}
    params = tuple(dict.fromkeys(window.of for window in windows if window.of is not None))
    aggregates = tuple(
        Aggregate(
            Function(window.function),
            Span(window.low, window.high),
            -1 if window.value is None else places[window.value],
            -1 if window.keyed.where is None else places[window.keyed.where],
            window.k,
            -1 if window.of is None else params.index(window.of),
        )
        for window in windows
    )
    back = max(0, *(window.high for window in windows))
    ahead = max(0, *(-window.low for window in windows))
    columns = tuple(column for column, _ in keyed.keys)
    name = digest(repr((keyed.table, columns, values, aggregates)).encode())[:16]
    names = tuple(f"c{at}" for at in range(len(values)))
    view = View(name, keyed.table, columns, names, aggregates, back, ahead)
    return Lookup(view, tuple(field.name for _, field in keyed.keys), values, params)


def select_features(plan: Plan, names: Sequence[str]) -> Plan:
    """The part of a plan that computes these features, in this order, from the views that the whole plan keeps.

    Fields of the request that none of them reads become optional, so that a request may leave them out.

    Raises:
        RequestError: a feature that there is not, or one asked for twice.
    """
    known = {feature.name: feature for feature in plan.features}
    if not names:
        raise RequestError(Fault("no_features", "expected names of features", "features"))
    unknown = [name for name in names if name not in known]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if unknown or twice:
        faults = chain(
            (_no_feature(name, known) for name in unknown),
            (Fault("twice", f"{shorten(name)} is asked for twice", "features") for name in twice),
        )
        raise RequestError(*first_faults(faults, len(unknown) + len(twice)))
    features = tuple(known[name] for name in names)
    nodes = [below for feature in features for below in walk(feature.node)]
    read = {node.name for node in nodes if isinstance(node, RequestField)}
    fields = tuple(
        field if field.name in read else replace(field, limits=replace(field.limits, optional=True))
        for field in plan.fields
    )
    lookups, slots = _needed(plan, {plan.slots[node] for node in nodes if isinstance(node, Windowed)})
    places = {window: slots[slot] for window, slot in plan.slots.items() if slot in slots}
    ages = tuple(window for window in plan.ages if window in places)
    return Plan(fields, features, lookups, places, ages)


def _no_feature(name: str, known: Collection[str]) -> Fault:
    hint = nearest(name[:LONGEST_NAME], known)
    return Fault("unknown_feature", f"no feature {shorten(name)}", "features", "", ", ".join(known), hint)


def _needed(plan: Plan, wanted: Container[int]) -> tuple[tuple[Lookup, ...], dict[int, int]]:
    """The lookups that give any of these slots, and the new place of each of their slots."""
    lookups: list[Lookup] = []
    places: dict[int, int] = {}
    start = 0
    for lookup in plan.lookups:
        end = start + len(lookup.view.aggregates)
        if any(slot in wanted for slot in range(start, end)):
            lookups.append(lookup)
            places |= {slot: len(places) + at for at, slot in enumerate(range(start, end))}
        start = end
    return tuple(lookups), places
