"""Outcomes of answers, told by the answer's id or by the outcome's own key.

An outcome is a row of the event table that its model's `target=` names, so windows, trainings and the keeper see it as
any other: told again it changes nothing, told otherwise it is a correction, and it may come before its answer is
projected. Who knows only the id of an answer need not know the key: the answer has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from icekeel.core.errors import Fault, RequestError, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.data import Hide
from icekeel.data.answers import Answers
from icekeel.define import EventTable, Model, Project
from icekeel.define.fields import Field
from icekeel.journal import Positions, Value

from .asked import Asked
from .intake import Accepted, Intake, check_lists

ID = "prediction_id"
UNPLACED = "outcomes"
"""Where rows are set aside of which it cannot be said which table they are of."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller tells: rows, and what is deleted, both named by an answer's id or their own key.

    Attributes:
        model: Whose outcomes these are; needed for rows without an answer's id where models have several tables.
        ids: The answers they are of.
    """

    rows: Sequence[Any]
    delete: Sequence[Any]
    model: str | None
    ids: Collection[str]


@dataclass(slots=True)
class _Part:
    """The rows of one table."""

    rows: list[Any] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    filled: list[Mapping[str, Value]] = field(default_factory=list)
    delete: list[Any] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    erased: list[Mapping[str, Value]] = field(default_factory=list)


class _Placed(NamedTuple):
    table: EventTable
    row: dict[str, Any]
    filled: Mapping[str, Value]


class Outcomes:
    """Takes outcomes.

    Args:
        project: The definitions.
        intake: Takes the rows that they are.
        seek: Knows the pseudonyms of private fields.
    """

    def __init__(self, project: Project, intake: Intake, seek: Hide | None = None) -> None:
        self._models = project.models
        self._tables = project.tables
        self._intake = intake
        self._seek = seek
        self._only = {model.outcome.keyed.table for model in project.models.values()}

    def read(self, body: Any) -> Told:
        """What a body tells.

        Raises:
            RequestError: it is none, or names a model that there is not.
        """
        if not isinstance(body, dict) or not body or not set(body) <= {"rows", "delete", "model"}:
            what = 'expected {"rows": [...]}, {"delete": [...]} or both, and "model" where it is not plain'
            raise RequestError(Fault("no_rows", what, got=shorten(body)))
        rows, delete, model = body.get("rows", ()), body.get("delete", ()), body.get("model")
        check_lists(rows, delete)
        if model is not None and (not isinstance(model, str) or model not in self._models):
            hint = nearest(str(model), self._models)
            raise RequestError(Fault("unknown_model", "no such model", "model", shorten(model), "", hint))
        ids = {row[ID] for row in (*rows, *delete) if isinstance(row, dict) and isinstance(row.get(ID), str)}
        return Told(rows, delete, model, ids)

    def found(
        self, answers: Answers, ids: Collection[str], since: Positions | None = None
    ) -> dict[str, Asked]:
        """The answers of some ids, wherever they are, as `Answers.many`; one that was given is found from then on."""
        return {
            one: Asked.of(record, self._models[record.model])
            for one, record in answers.many(ids, since).items()
            if record.model in self._models
        }

    def take(self, told: Told, asked: Mapping[str, Asked]) -> Accepted:
        """Journal what is good, set aside the rest.

        Args:
            asked: The answers that there are.

        Raises:
            JournalError: nothing can be journaled.
        """
        parts: dict[str, _Part] = {}
        faults: dict[int, Sequence[Fault]] = {}
        wrong: dict[int, Sequence[Fault]] = {}
        for where, sent, found in (("rows", told.rows, faults), ("delete", told.delete, wrong)):
            for place, row in enumerate(sent):
                placed = self._place(row, f"{where}[{place}]", told.model, asked)
                if isinstance(placed, Fault):
                    found[place] = [placed]
                    continue
                part = parts.setdefault(placed.table.name, _Part())
                if where == "rows":
                    part.rows.append(placed.row)
                    part.places.append(place)
                    part.filled.append(placed.filled)
                else:
                    part.delete.append(placed.row.get(placed.table.id))
                    part.gone.append(place)
                    part.erased.append(
                        {key: one for key, one in placed.filled.items() if key == placed.table.id}
                    )
        kept = deleted = 0
        warned = Counter[str]()
        for table, part in parts.items():
            places, filled = (part.places, part.gone), (part.filled, part.erased)
            taken = self._intake.push(table, part.rows, part.delete, places=places, filled=filled)
            kept, deleted = kept + taken.kept, deleted + taken.deleted
            faults |= taken.faults
            wrong |= taken.wrong_ids
            warned.update(taken.warned)
        unplaced = [
            (told.rows[place], found) for place, found in faults.items() if place not in _places(parts, 0)
        ]
        unplaced += [
            ({"delete": told.delete[place]}, found)
            for place, found in wrong.items()
            if place not in _places(parts, 1)
        ]
        if unplaced:
            self._intake.set_aside(self._aside(told.model), unplaced)
        return Accepted(kept, deleted, dict(sorted(faults.items())), dict(sorted(wrong.items())), warned)

    def _aside(self, model: str | None) -> str:
        """The table in whose quarantine rows go that cannot be placed."""
        if model is not None:
            return self._models[model].outcome.keyed.table
        return next(iter(self._only)) if len(self._only) == 1 else UNPLACED

    def _place(self, row: Any, where: str, model: str | None, asked: Mapping[str, Asked]) -> _Placed | Fault:
        """The table that a row belongs to, and the whole row; or why it cannot be said."""
        if not isinstance(row, dict):
            return Fault("not_an_object", "expected an object", where, type(row).__name__)
        if ID not in row:
            table = self._aside(model)
            if table in self._tables and (model is not None or len(self._only) == 1):
                return _Placed(self._tables[table], row, {})
            what = f'expected "{ID}", or "model" beside the rows'
            return Fault("which_model", what, where, "", ", ".join(self._models))
        answer = asked.get(row[ID]) if isinstance(row[ID], str) else None
        if answer is None:
            hint = "an answer is found from the moment it is given"
            got = "" if self._seek else shorten(row[ID])  # it is kept, and may be anything
            return Fault("unknown_prediction", "no such answer", f"{where}.{ID}", got, "", hint)
        return self._complete(self._models[answer.model], answer, row, where)

    def _complete(self, model: Model, answer: Asked, row: Mapping[str, Any], where: str) -> _Placed | Fault:
        """The row with the key of its answer; under the answer's id where its table has one of its own."""
        keyed = model.outcome.keyed
        table = self._tables[keyed.table]
        filled = {column: value for (column, _), value in zip(keyed.keys, answer.key, strict=True)}
        own = {name: value for name, value in row.items() if name != ID}
        for column, value in filled.items():
            if value is None:
                what = "the answer has no key, so it has no outcome"
                return Fault("no_key", what, f"{where}.{column}")
            given, entity = own.get(column, value), table.fields[column].entity
            if column in own and entity and self._seek and isinstance(given, str):
                given = self._seek(entity, given)
            if given != value:
                what = "another key than that of the answer"
                return Fault("other_key", what, f"{where}.{column}", "" if entity else shorten(given))
        sent = {name: _sent(table.fields[name], value) for name, value in filled.items()}
        return _Placed(table, {table.id: row[ID], **own, **sent}, filled)


def _sent(field: Field, value: Value) -> Value:
    """What a caller would send for a stored value; anything for a pseudonym, which is filled in behind the contract."""
    if field.entity:
        return "?"
    return value == 1.0 if field.kind is Kind.FLAG else value


def _places(parts: Mapping[str, _Part], which: int) -> set[int]:
    return {place for part in parts.values() for place in (part.gone if which else part.places)}
