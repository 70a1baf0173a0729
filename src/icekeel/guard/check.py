"""Checking one request: a lookup in the compiled tables, then words for what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from icekeel.core.frames import Column, Floats

from .tables import (
    MISSING,
    ORDINARY,
    UNSEEN_PAIR,
    UNSEEN_TRIPLE,
    Category,
    Combinations,
    Number,
    Scale,
    Tables,
)
from .verdicts import Verdict, VerdictKind

MOST_COMBINATIONS = 5
"""Verdicts on combinations given for one request: pairs first, then the most unusual."""

LEAST_TOLD = 0.05
"""Effect below which a reason does not speak of it, on the target's scale."""

Value = float | str | None
KIND_OF: dict[int, VerdictKind] = {
    UNSEEN_PAIR: "unseen_pair",
    UNSEEN_TRIPLE: "unseen_triple",
    MISSING: "missing_combination",
}
"""What a cell of `Tables.flags` says."""


class Guard:
    """The compiled guard of one bundle. Immutable, so threads may share it.

    Attributes:
        columns: The columns that `check` expects, in order.
    """

    def __init__(self, tables: Tables) -> None:
        self.columns: tuple[Column, ...] = tables.columns
        self._tables = tables
        self._lookups = [(c.at, dict(zip(c.values, c.codes, strict=True))) for c in tables.categories]
        cells = Combinations.of(tables.combinations, [len(c.counts) for c in tables.categories])
        self._weights = cells.weights
        self._flags = np.frombuffer(tables.flags, dtype=np.uint8)
        self._all_ordinary = bytes([ORDINARY]) * len(tables.combinations)
        self._pairs = cells.split(np.frombuffer(tables.pair_counts, dtype="<i4"))

    @classmethod
    def load(cls, data: bytes) -> Guard:
        """The guard whose tables `data` holds.

        Raises:
            BundleError: `data` is damaged, cut short or of another format.
        """
        return cls(Tables.decode(data))

    def check(self, values: Sequence[Value], prediction: float | None = None) -> list[Verdict]:
        """What is unlike the training data, an empty list for an ordinary request.

        Args:
            values: One value for each of `columns`, in order; None or NaN for null.
            prediction: What the model says to it, before any postprocessor.
        """
        given = [value if value == value else None for value in values]  # noqa: PLR0124 (NaN)
        codes = [lookup.get(given[at], 0) for at, lookup in self._lookups]
        verdicts = self._unseen_values(given, codes) if 0 in codes else []
        cells = self._weights.dot(np.array([*codes, 1.0])).astype(np.int64)
        flags = self._flags.take(cells).tobytes()
        if flags != self._all_ordinary:
            verdicts += self._unseen_combinations(given, codes, flags)
        for number in self._tables.numbers:
            value = given[number.at]
            code = codes[number.group] if number.group >= 0 else 0
            if isinstance(value, int | float):
                if not number.low[code] <= value <= number.high[code]:
                    verdicts.append(self._outside("out_of_range", number, value, code, given))
            elif number.watched:
                reason = f"{number.name} is missing, which it never was in {self._tables.rows:,} rows"
                verdicts.append(_verdict("unseen_value", reason, (number.name,), 1.0))
        said = self._tables.prediction
        if prediction is not None and said is not None:
            code = codes[said.group] if said.group >= 0 else 0
            if prediction < said.low[code] or prediction > said.high[code]:
                verdicts.append(self._outside("odd_prediction", said, prediction, code, given))
        return verdicts

    def check_many(
        self, columns: Sequence[Sequence[Value]], predictions: Sequence[float] | Floats | None = None
    ) -> dict[int, list[Verdict]]:
        """The verdicts of the rows that have any, by place: the same that `check` gives for each.

        Args:
            columns: For each of `columns` the values of all rows.
            predictions: What the model says to each row.
        """
        given = [predictions] if predictions is not None else []
        n_rows = len([*columns, *given][0]) if columns or given else 0
        codes = np.ones((len(self._lookups) + 1, n_rows))
        for row, (at, lookup) in enumerate(self._lookups):
            codes[row] = [lookup.get(value if value == value else None, 0) for value in columns[at]]  # noqa: PLR0124
        watched = np.array([category.watched for category in self._tables.categories], dtype=np.bool_)
        odd = ((codes[:-1] == 0) & watched[:, None]).any(axis=0)
        cells = self._weights.dot(codes).astype(np.int64)
        odd |= (self._flags.take(cells) != ORDINARY).any(axis=0)
        numbers = [(number, columns[number.at]) for number in self._tables.numbers]
        if predictions is not None and self._tables.prediction is not None:
            numbers.append((self._tables.prediction, predictions))  # type: ignore[arg-type]  # numbers, either way
        for number, column in numbers:
            values = np.array(column, dtype=np.float64)
            code = codes[number.group].astype(np.int64) if number.group >= 0 else np.zeros(n_rows, np.int64)
            odd |= number.outside(values, code) | (np.isnan(values) & number.watched)
        said = [None] * n_rows if predictions is None else np.asarray(predictions).tolist()
        return {
            at: found
            for at in np.flatnonzero(odd).tolist()
            if (found := self.check([column[at] for column in columns], said[at]))
        }

    def _unseen_values(self, values: Sequence[Value], codes: Sequence[int]) -> list[Verdict]:
        return [
            _verdict(
                "unseen_value",
                f"never seen in {self._tables.rows:,} rows: {_words(category, values)}",
                (category.name,),
                1.0,
            )
            for category, code in zip(self._tables.categories, codes, strict=True)
            if not code and category.watched and values[category.at] not in category.tolerated
        ]

    def _unseen_combinations(
        self, values: Sequence[Value], codes: Sequence[int], flags: bytes
    ) -> list[Verdict]:
        found = []
        for at in np.frombuffer(flags, dtype=np.uint8).nonzero()[0].tolist():
            flag, members = flags[at], self._tables.combinations[at]
            score = self._effect(members, codes) if flag == UNSEEN_TRIPLE else self._expected(members, codes)
            found.append((flag, -score, members))
        found.sort()
        return [
            self._unseen(flag, -score, members, values, codes)
            for flag, score, members in found[:MOST_COMBINATIONS]
        ]

    def _unseen(
        self, flag: int, score: float, members: tuple[int, ...], values: Sequence[Value], codes: Sequence[int]
    ) -> Verdict:
        categories = [self._tables.categories[member] for member in members]
        effect = self._effect(members, codes)
        among, clause = "", f"; about {score:,.0f} such rows were to be expected"
        if flag == UNSEEN_TRIPLE or score < 1:
            clause = f"; {_moves(effect, self._tables.target, self._tables.scale)}"
            if effect < LEAST_TOLD:
                among, clause = f" in {self._tables.rows:,} rows", ""
        together = " + ".join([_words(category, values) for category in categories])
        names = tuple([category.name for category in categories])
        return _verdict(KIND_OF[flag], f"never seen together{among}: {together}{clause}", names, score)

    def _effect(self, members: tuple[int, ...], codes: Sequence[int]) -> float:
        return min([self._tables.categories[member].effects[codes[member]] for member in members])

    def _expected(self, members: tuple[int, ...], codes: Sequence[int]) -> float:
        """The rows expected in a combination, as `icekeel.training.guarding` defines it."""
        counts = [self._tables.categories[member].counts[codes[member]] for member in members]
        if len(members) == 2:
            return counts[0] * counts[1] / self._tables.rows
        i, j, k = members
        ij, ik, jk = (
            int(self._pairs[pair][codes[pair[0]], codes[pair[1]]]) for pair in ((i, j), (i, k), (j, k))
        )
        return min(ij * ik / counts[0], ij * jk / counts[1], ik * jk / counts[2])

    def _outside(
        self, kind: VerdictKind, number: Number, value: float, code: int, values: Sequence[Value]
    ) -> Verdict:
        low, high = number.low[code], number.high[code]
        where, names = "", [number.name]
        if number.own[code] and code:
            group = self._tables.categories[number.group]
            where, names = f" where {_words(group, values)}", [number.name, group.name]
        subject = "the predicted " * (kind == "odd_prediction") + number.name
        reason = f"{subject}={value:,.6g} is outside {_end(low)} to {_end(high)}, its ordinary range{where}"
        side = "above" if value > high else "below"
        return _verdict(kind, reason, tuple(names), number.distance(value, code), f":{side}")


def _verdict(
    kind: VerdictKind, reason: str, columns: tuple[str, ...], score: float, side: str = ""
) -> Verdict:
    return Verdict(kind, f"{kind}:{'+'.join(columns)}{side}", reason, columns, score)


def _words(category: Category, values: Sequence[Value]) -> str:
    return in_words(category.name, values[category.at])


def in_words(name: str, value: Value) -> str:
    """A field's value as reasons have it: `die_cut=custom`, `note missing`."""
    if value is None:
        return f"{name} missing"
    return f"{name}={value:g}" if isinstance(value, int | float) else f"{name}={value}"


def _end(value: float) -> str:
    """An end of a range for reading: four digits at least."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.4g}"


def _moves(effect: float, target: str, scale: Scale) -> str:
    if scale == "plain":
        return f"each alone moves {target} by {effect:.3g} or more"
    subject = f"the odds of {target}" if scale == "logit" else f"the {target}"
    return f"each alone moves {subject} by {math.exp(effect):.2f}x or more"
