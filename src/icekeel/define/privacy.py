"""What a project may do with private fields: join and compare them. What they say is known to nobody but the caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from icekeel.core.errors import Fault

from .expressions import lift
from .features import FeaturesMeta
from .model import Model
from .nodes import Call, EventField, Node, Op, Outcome, RequestField, Windowed, walk
from .policies import RuleOfThumb
from .tables import EventsMeta, RequestMeta

_SAME = (Op.EQ, Op.NE)
_AGGREGATES = ("distinct", "share_of")
"""Aggregates that ask only which values are equal."""
_HINT = "a private field can be a key, compared with another, counted (distinct, share_of), or asked whether it is known"

Entities = Mapping[tuple[str, str], str]
"""Owner and name of each private field -> its entity."""


def private_faults(
    requests: Sequence[RequestMeta],
    events: Sequence[EventsMeta],
    features: Sequence[FeaturesMeta],
    models: Sequence[Model],
) -> list[Fault]:
    """Every use of a private field that its pseudonym cannot serve, and every join of one with what it is not."""
    fields = [(one.__name__, field) for one in requests for field in one.icekeel_fields.values()]
    fields += [
        (one.icekeel_table.name, field) for one in events for field in one.icekeel_table.fields.values()
    ]
    entities = {(owner, field.name): field.entity for owner, field in fields if field.entity}
    placed = [(f"{one.__name__}.{own.name}", own.node) for one in features for own in one.icekeel_features]
    placed += [
        (f"{one.__name__}: {rule.sentence}", rule.condition)
        for one in events
        for rule in one.icekeel_table.rules
    ]
    placed += [(f'Model "{model.name}"', node) for model in models for node in _of_model(model)]
    found = (
        fault for where, node in placed for below in walk(node) for fault in _faults(below, entities, where)
    )
    return list(dict.fromkeys(found))


def _of_model(model: Model) -> Iterator[Node]:
    """The expressions of a model beside its features."""
    yield model.target
    guarded = model.guard.policies() if model.guard is not None else ()
    policies = (policy for _, policy in (*guarded, *model.stale.policies()))
    yield from (policy.node for policy in policies if isinstance(policy, RuleOfThumb))
    if model.guard is not None and model.guard.stake is not None:
        yield lift(model.guard.stake)


def _faults(node: Node, entities: Entities, where: str) -> Iterator[Fault]:
    if isinstance(node, Windowed | Outcome):
        for column, field in node.keyed.keys:
            pair = (
                _entity(EventField(node.keyed.table, column, field.kind), entities),
                _entity(field, entities),
            )
            if pair[0] != pair[1]:
                yield _unlike(f"{node.keyed.table}.{column}", _shown(field), pair, where)
    used: list[Node] = []
    if isinstance(node, Call):
        same = node.op in _SAME and len({_entity(one, entities) for one in node.args}) == 1
        used = [] if same or node.op is Op.KNOWN else [*node.args]
    elif isinstance(node, Outcome) and node.value is not None:
        used = [node.value]
    elif isinstance(node, Windowed) and node.value is not None:
        used = [part for part in (node.value, node.of) if part is not None]
        if node.function in _AGGREGATES and len({_entity(one, entities) for one in used}) == 1:
            used = []
    for one in used:
        if _entity(one, entities):
            what = "what a private field says is not known here, only whom it is the same as"
            yield Fault("private_value", what, where, _shown(one), hint=_HINT)


def _unlike(column: str, field: str, pair: tuple[str, str], where: str) -> Fault:
    what = "both sides of a join name the same entity, or neither is private"
    told = [f"{name} ({entity or 'not private'})" for name, entity in zip((column, field), pair, strict=True)]
    owner = field if pair[0] else column
    other = pair[0] or pair[1]
    hint = f"{owner}: ik.Id = ik.private({'' if owner.endswith(f'.{other}') else repr(other)})".replace(
        "'", '"'
    )
    return Fault("bad_private", what, where, " = ".join(told), hint=hint)


def _entity(node: Node, entities: Entities) -> str:
    if isinstance(node, RequestField):
        return entities.get((node.request, node.name), "")
    if isinstance(node, EventField):
        return entities.get((node.table, node.name), "")
    return ""


def _shown(node: Node) -> str:
    owner = node.request if isinstance(node, RequestField) else getattr(node, "table", "")
    return f"{owner}.{getattr(node, 'name', '')}"
