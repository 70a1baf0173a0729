"""What each feature of a model is, holds, is worth and costs, and which of them can go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icekeel.core.binning import Binning, distance
from icekeel.core.frames import Array, Bools, Column, Frame, Kind
from icekeel.core.time import format_time
from icekeel.define import Model
from icekeel.define.features import Feature
from icekeel.define.reading import built_on, kind_of, reads_of, sources_of
from icekeel.training import Bench, Difference, Problem, Rung, TrainingSet, shares

from .reading_cost import ReadingCosts

BINS = 24
ALMOST_ALL = 0.99
TWINS = 0.999
"""Correlation above which two features are called the same."""
MOST_COMPARED = 5_000
"""Rows, evenly spread, on which features are held against each other for that."""
QUANTILES = {"min": 0.0, "p1": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99, "max": 1.0}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Worth:
    """How much lower the error is with something than without, its 95 % interval, and that gain in money."""

    gain: float
    low: float
    high: float
    usd_per_year: float

    @classmethod
    def of(cls, difference: Difference, model: Model) -> Worth:
        """A difference in the money that the model states for an error point."""
        usd = difference.gain / 0.01 * model.choose.within.error_point
        return cls(difference.gain, difference.low, difference.high, usd)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The known values of one feature.

    Attributes:
        quantiles: Of numbers and flags; empty for categories and where nothing is known.
        top: Share of each of the most frequent categories; empty for numbers.
        edges, counts: A histogram of numbers between the 1 % and 99 % quantiles, what lies beyond in the outer cells.
    """

    quantiles: dict[str, float] = field(default_factory=dict)
    top: dict[str, float] = field(default_factory=dict)
    edges: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FeatureFinding:
    """One feature.

    Attributes:
        kind: See `define.reading.kind_of`.
        type: `num`, `flag`, `cat` or `text`; of a text its length is told.
        request, windows, sources, built_on: What it reads, see `define.reading`.
        nulls: Share of the later rows.
        drift: Distance between the earlier and the later rows, see `monitoring.profiles.distance`.
        share: Of what all features save by not being shuffled.
        shuffled: What it saves by not being shuffled, with the same model.
        dropped: What it saves by being there: a model learnt without it against one learnt with it.
        cost_us: CPU of reading it online; None where its windows are not kept there.
        delete: Whether it is among those that can go together.
    """

    name: str
    kind: str
    type: str
    request: list[str]
    windows: list[str]
    sources: dict[str, list[str]]
    built_on: list[str]
    nulls: float
    distribution: Distribution
    drift: float
    share: float
    shuffled: Worth
    dropped: Worth
    cost_us: float | None
    delete: bool
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a stretch of time: ISO 8601 of the first and the last, and how many."""

    start: str
    end: str
    rows: int

    @classmethod
    def of(cls, rows: TrainingSet) -> Stretch:
        """The stretch of some rows."""
        return cls(format_time(int(rows.asked_at[0])), format_time(int(rows.asked_at[-1])), len(rows))


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """A model's features, the one that carries most first.

    Attributes:
        error, error_value: Which error, and what it is with all features on the later rows.
        fifth, fifth_share: How many features are a fifth, and what share the best fifth carries.
        four_fifths: How many of the best features carry four fifths.
        tolerance: Error that simplicity is worth, as the project states it.
        deletion: What the features to delete save together by being there; None where none can go.
        saved_us, read_us: CPU of a request that deleting them saves, and of all features of one request.
    """

    model: str
    rung: str
    error: str
    error_value: float
    earlier: Stretch
    later: Stretch
    fifth: int
    fifth_share: float
    four_fifths: int
    tolerance: float
    deletion: Worth | None
    saved_us: float | None
    read_us: float | None
    features: list[FeatureFinding]

    @property
    def deletable(self) -> list[str]:
        """The features that can go together."""
        return [one.name for one in self.features if one.delete]

    @property
    def carriers(self) -> str:
        """Which fifth carries four fifths, in a sentence."""
        carried = sum(one.share for one in self.features[: self.four_fifths])
        return (
            f"{self.four_fifths} of {len(self.features)} features carry {carried:.0%}; "
            f"the best fifth ({self.fifth}) carries {self.fifth_share:.0%}"
        )

    @property
    def money(self) -> str:
        """What the features that can go cost or save, being gone."""
        usd = 0.0 if self.deletion is None else self.deletion.usd_per_year
        return f"{'costing' if usd > 0 else 'saving'} {abs(usd):,.0f} $ a year"

    @property
    def advice(self) -> str:
        """How many features can go and what that does, in a sentence."""
        gone = self.deletion
        if gone is None:
            return "none can go: without any of them the loss may be more than the project tolerates"
        us = "" if self.saved_us is None else f"; a request is read in {self.saved_us:.0f} us less"
        return (
            f"{len(self.deletable)} of {len(self.features)} can go: without them together {self.error} changes by "
            f"{gone.gain:+.3g} [{gone.low:+.3g}, {gone.high:+.3g}], {self.money}{us}"
        )


def report_features(
    model: Model, features: Sequence[Feature], rows: TrainingSet, rung: Rung, costs: ReadingCosts, say: Say
) -> FeatureReport:
    """The report on these features, from rows with known outcomes.

    Cost: a fit for each feature and some more.

    Raises:
        TrainingError: the rows are too few, or of one class.
    """
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    bench = Bench(problem, rung, rows, rng=np.random.default_rng(0))
    earlier, later = bench.earlier[0], bench.later[0]
    values = later.frame.select([one.name for one in features])
    say(f"{rung.name}: {len(earlier):,} rows learnt from, {len(later):,} later ones judged on")
    alone = {}
    for at, one in enumerate(features, 1):
        alone[one.name], _ = bench.without([one.name])
        say(f"{at} of {len(features)}, without {one.name}: {model.error} {alone[one.name].gain:+.3g}")
    shuffled = bench.shuffled()
    delete, together = bench.deletable(alone, model.choose.within.tolerance)
    order = shares({name: rise.gain for name, rise in shuffled.items()})
    carried = np.cumsum([share for _, share in order])
    fifth = max(1, round(len(order) / 5))
    named, inner = {one.name: one for one in features}, built_on(features)
    gone = [named[name] for name in delete]
    return FeatureReport(
        model=model.name,
        rung=rung.name,
        error=model.error,
        error_value=bench.error,
        earlier=Stretch.of(earlier),
        later=Stretch.of(later),
        fifth=fifth,
        fifth_share=float(carried[fifth - 1]),
        four_fifths=min(len(order), int(np.searchsorted(carried, 0.8)) + 1),
        tolerance=model.choose.within.tolerance,
        deletion=None if together is None else Worth.of(together, model),
        saved_us=costs.saved([one for one in features if one not in gone], gone),
        read_us=costs.request,
        features=[
            FeatureFinding(
                name=name,
                kind=kind_of(named[name].node),
                type=named[name].node.kind,
                request=reads_of(named[name].node)["request"],
                windows=reads_of(named[name].node)["windows"],
                sources=sources_of(named[name].node),
                built_on=inner[name],
                **_held(named[name].column, earlier.frame[name], values),
                share=share,
                shuffled=Worth.of(shuffled[name], model),
                dropped=Worth.of(alone[name], model),
                cost_us=costs.of(named[name]),
                delete=name in delete,
            )
            for name, share in order
        ],
    )


def nulls_of(values: Array) -> Bools:
    """Which values are null."""
    return np.asarray(values == None if values.dtype == object else np.isnan(values))  # noqa: E711  (elementwise)


def _held(column: Column, before: Array, now: Frame) -> dict[str, Any]:
    """What the later rows hold of a feature; of a text how long it is."""
    values = now[column.name]
    null = nulls_of(values)
    counted = values
    if column.kind is Kind.TEXT:
        column = Column(column.name, Kind.NUM)
        before, counted = (
            np.array([np.nan if text is None else len(text) for text in texts], dtype=np.float64)
            for texts in (before, values)
        )
    known = counted[~null]
    binning = Binning.of(column, before)
    rows = np.arange(0, len(values), 1 + (len(values) - 1) // MOST_COMPARED)
    others = [name for name in now if name != column.name]
    twins = [name for name in others if same(now[name][rows], values[rows])]
    warnings = [f"{null.mean():.1%} of its values are null"] if null.mean() >= ALMOST_ALL else []
    if len(known) and (known == known[0]).all():
        warnings.append("constant: all known values are the same")
    return {
        "nulls": float(null.mean()),
        "distribution": _distribution(known),
        "drift": distance(binning, binning.count(before), binning.count(counted)),
        "warnings": warnings + [f"says the same as {', '.join(twins)}"] * bool(twins),
    }


def _distribution(known: Array) -> Distribution:
    if not len(known):
        return Distribution()
    if known.dtype == object:
        counts = Counter(known.tolist())
        return Distribution(top={name: count / len(known) for name, count in counts.most_common(10)})
    found = dict(zip(QUANTILES, np.quantile(known, list(QUANTILES.values())).tolist(), strict=True))
    low, high = found["p1"], found["p99"]
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, high + 0.5])
    counted, _ = np.histogram(np.clip(known, edges[0], edges[-1]), edges)
    return Distribution(quantiles=found, edges=edges.tolist(), counts=counted.tolist())


def same(one: Array, other: Array) -> bool:
    """Whether two columns say the same: equal texts, or numbers null together and all but perfectly correlated."""
    if one.dtype != other.dtype:
        return False
    if one.dtype == object:
        return bool(np.mean(one == other) >= TWINS)
    both = ~np.isnan(one) & ~np.isnan(other)
    if not both.any() or np.mean(np.isnan(one) == np.isnan(other)) < TWINS:
        return False
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return spread > 0 and abs(float(a @ b)) >= TWINS * spread
