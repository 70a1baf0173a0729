"""Compiling the guard: what was seen together, what moves the target, and how much may be flagged.

Every kind of verdict gets a threshold on rows later than those counted, so that all kinds together stay within
one budget of flags on ordinary traffic. What does not fit becomes a blind spot of the report. With the thresholds
set, all rows are counted again: what the model learnt from is not to be called unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind
from icekeel.guard import Evidence, Guard, Number, Scale, Tables, Verdict, VerdictKind
from icekeel.guard.tables import MISSING, ORDINARY, UNSEEN_PAIR, UNSEEN_TRIPLE

from .counting import Counted
from .flag_budget import (
    PAIR_EFFECT,
    PAIR_EXPECTED,
    PREDICTION,
    RANGE,
    TRIPLE_EFFECT,
    TRIPLE_EXPECTED,
    Calibration,
    Step,
)
from .gaps import Growth, Missing, growth, missing
from .ranges import distances, number_ranges, widened

SEASON = 1.0
"""Widths, of log-odds, by which the probabilities of a segment may leave their range: they move with the seasons."""
FEWEST_ROWS = 1_000
"""Rows of an earlier window from which on the thresholds are to keep the budget there too."""
MOST_EXAMPLES = 3
"""Reasons kept for each kind."""


@dataclass(frozen=True, slots=True)
class KindReport:
    """How one kind of verdict behaves on the later window.

    Attributes:
        rate: Share of later rows that it flags; a row may be flagged by several kinds.
        thresholds: What is compared -> above which it flags. Effects are on the target's scale.
        examples: Reasons that were given to later rows.
    """

    kind: VerdictKind
    rate: float
    thresholds: tuple[tuple[str, float], ...]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What was compiled, what it flags and what it cannot see.

    Attributes:
        rows: Training rows counted, the calibration window among them.
        later_rows: Rows of the calibration window; rates are of these rows, held against the rows before them.
        budget: Share of ordinary requests that may be flagged.
        flag_rate: Share of later rows flagged by any kind.
        blind_spots: What goes unseen, in words, with the share of later rows that would have been flagged for it.
        missing: Combinations that the rows lack although they have their parts, the most harmful first.
        growth: How many ordinary requests held something never seen, had there been fewer rows.
    """

    rows: int
    later_rows: int
    budget: float
    flag_rate: float
    kinds: tuple[KindReport, ...]
    blind_spots: tuple[str, ...]
    missing: tuple[Missing, ...]
    growth: tuple[Growth, ...]


def compile_guard(
    frame: Frame,
    columns: Sequence[Column],
    target: Floats,
    *,
    scale: Scale,
    later: Frame,
    budget: float,
    asked: Frame | None = None,
    predictions: Floats | None = None,
    max_values: int = 64,
    target_name: str = "target",
) -> tuple[bytes, GuardReport]:
    """The guard of these training rows as bytes for `Guard.load`, and what it flags and cannot see.

    Args:
        frame: Earlier training rows.
        columns: Columns to guard, in the order in which `Guard.check` gets their values: categories, flags, numbers.
        target: What is predicted, for every row of `frame` and then of `later`.
        scale: `log` for amounts above 0, `logit` for 0 or 1, `plain` for any number.
        later: Training rows later than all of `frame`; they are counted too once the thresholds are set.
        budget: Largest share of ordinary requests to be flagged, by all kinds together.
        asked: All requests of that later time, in order, whatever came of them: thresholds are set on these. The
            same as `later` where not given.
        predictions: What a model said to each row of `frame` and then of `asked` that it had not learnt from; NaN
            for the others. Without any, predictions are not checked.
        max_values: Values of a category from which on those that do not move the target are pooled.
        target_name: The target in the sentences.

    Raises:
        TrainingError: with every fault of the arguments.
    """
    asked = later if asked is None else asked
    _refuse(frame, columns, target, scale=scale, later=later, budget=budget)
    names = [column.name for column in columns]
    early = Counted.of(frame, columns, target[: len(frame)], scale, max_values)
    whole = Frame.stack([frame.select(names), later.select(names)])
    every = Counted.of(whole, columns, target, scale, max_values)
    said = np.full(len(frame) + len(asked), np.nan) if predictions is None else predictions
    codes = early.encode(asked)
    far = _beyond(early, codes, target[: len(frame)], said, scale)
    before = _before(frame, columns, target, scale, max_values, budget)
    trial = Calibration.of(early, asked, far, budget, before=before)
    odd = None
    if not np.isnan(said).all():
        margin = trial.thresholds[PREDICTION]
        odd = _predicted(every, early.rows, asked, target, said, scale=scale, name=target_name, margin=margin)
    made = _tables(every, trial, odd, scale, target_name)
    rows = [asked[name].tolist() for name in names]
    flagged = [
        Guard(_tables(early, trial, None, scale, target_name)).check_many(rows),
        Guard(made).check_many(rows, said[len(frame) :]),
    ]
    report = GuardReport(
        rows=len(whole),
        later_rows=len(asked),
        budget=budget,
        flag_rate=float(trial.flagged.mean()),
        kinds=_kinds(trial, [verdict for found in flagged for row in found.values() for verdict in row]),
        blind_spots=(*_unseeable(every.evidence), *trial.blind_spots),
        missing=tuple(missing(every, scale, np.frombuffer(made.flags, dtype=np.uint8))),
        growth=tuple(growth(early, codes, len(asked))),
    )
    return made.encode(), report


def _before(
    frame: Frame, columns: Sequence[Column], target: Floats, scale: Scale, max_values: int, budget: float
) -> Calibration | None:
    """What keeps the budget on the last quarter of the earlier rows, held against those before; None of few rows.

    One window knows nothing of a schedule or a season that changes after it: two of them know a little more.
    """
    cut = len(frame) * 3 // 4
    if len(frame) - cut < FEWEST_ROWS:
        return None
    first, second = frame.take(np.arange(cut)), frame.take(np.arange(cut, len(frame)))
    counted = Counted.of(first, columns, target[:cut], scale, max_values)
    return Calibration.of(counted, second, np.full(len(second), np.nan), budget)


def _beyond(early: Counted, codes: Sequence[Ints], target: Floats, said: Floats, scale: Scale) -> Floats:
    """How far each later prediction lies outside what was ordinary before; NaN where nothing can be said.

    A number ordinarily lies where outcomes have lain, a probability where earlier probabilities have; where there are
    only later ones, those of the first half of them.

    Args:
        codes: Of the later rows.
        target, said: Of the earlier rows; of these, then of the later ones.
    """
    said = _log_odds(said) if scale == "logit" else said
    before, after = said[: early.rows], said[early.rows :].copy()
    ordinary, where = (before, early.codes) if scale == "logit" else (target, early.codes)
    if scale == "logit" and np.isnan(before).all():
        known = np.flatnonzero(~np.isnan(after))
        first = known[: len(known) // 2]
        ordinary, where = after[first], [code[first] for code in codes]
        after[first] = np.nan
    if np.isnan(ordinary).all():
        return np.full(len(after), np.nan)
    far = distances(number_ranges(ordinary, 0, "", early.categories, where), after, codes)
    return np.where(np.isnan(after), np.nan, far - SEASON if scale == "logit" else far)


def _predicted(
    every: Counted,
    n_early: int,
    asked: Frame,
    target: Floats,
    said: Floats,
    *,
    scale: Scale,
    name: str,
    margin: float,
) -> Number:
    """Where predictions ordinarily lie, by all there is now; its position is that behind all columns."""
    at = len(every.categories) + len(every.numbers)
    if scale != "logit":
        number = number_ranges(target, at, name, every.categories, every.codes)
        return replace(widened(number, margin), watched=False)
    later = every.encode(asked)
    codes = [np.concatenate([one[:n_early], new]) for one, new in zip(every.codes, later, strict=True)]
    number = widened(number_ranges(_log_odds(said), at, name, every.categories, codes), margin + SEASON)
    low, high = (_probability(np.array(ends)) for ends in (number.low, number.high))
    return replace(
        number,
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        width=tuple(np.maximum(high - low, 1e-9).tolist()),
        logarithmic=False,
        watched=False,
    )


def _probability(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))))


def _log_odds(probability: Floats) -> Floats:
    inside = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside)))


def _refuse(
    frame: Frame, columns: Sequence[Column], target: Floats, *, scale: Scale, later: Frame, budget: float
) -> None:
    """Raises all that is wrong with the arguments of `compile_guard` at once."""
    faults = [
        Fault("guard_column", "the guard takes no such column", c.name, got=c.kind, allowed="cat, flag, num")
        for c in columns
        if c.kind not in (Kind.CAT, Kind.FLAG, Kind.NUM)
    ]
    for rows, data in (("training", frame), ("later", later)):
        absent = [c.name for c in columns if c.name not in data]
        faults += [Fault("guard_column", f"no such column in the {rows} rows", name) for name in absent]
    if not len(frame) or not len(later) or len(target) != len(frame) + len(later):
        got = f"{len(frame)} training rows, {len(target)} targets, {len(later)} later rows"
        faults.append(Fault("guard_rows", "expected rows, later rows, and a target for each", got=got))
    if not 0 < budget < 1:
        faults.append(Fault("guard_budget", "expected a share", "budget", f"{budget}", "above 0, below 1"))
    good = {"log": target > 0, "logit": (target == 0) | (target == 1)}.get(scale, True) & np.isfinite(target)
    if not good.all():
        allowed = {"log": "above 0", "logit": "0 or 1", "plain": "finite"}[scale]
        got = f"{int((~good).sum())} others"
        faults.append(Fault("guard_target", f"no targets for scale {scale}", "target", got, allowed))
    if faults:
        raise TrainingError(*faults)


def _tables(
    counted: Counted, trial: Calibration, prediction: Number | None, scale: Scale, target_name: str
) -> Tables:
    """What was counted, with these thresholds."""
    margin = trial.thresholds[RANGE]
    return Tables(
        rows=counted.rows,
        target=target_name,
        scale=scale,
        categories=tuple(trial.watched(category) for category in counted.categories),
        numbers=tuple(replace(widened(n, margin), watched=trial.watches(n)) for n in counted.numbers),
        combinations=counted.evidence.cells.members,
        pair_counts=counted.evidence.pair_counts.astype("<i4").tobytes(),
        flags=_flags(counted.evidence, trial.thresholds).tobytes(),
        prediction=prediction,
    )


def _flags(evidence: Evidence, thresholds: Mapping[Step, float]) -> Array:
    """The verdict of every cell."""
    table = np.full(evidence.cells.starts[-1], ORDINARY, dtype=np.uint8)
    views = evidence.cells.split(table)
    for members, effect, expected in evidence.unseen():
        if len(members) == 2:
            unseen = (effect > thresholds[PAIR_EFFECT]) | (expected > thresholds[PAIR_EXPECTED])
            views[members][unseen] = UNSEEN_PAIR
        else:
            views[members][expected > thresholds[TRIPLE_EXPECTED]] = MISSING
            views[members][effect > thresholds[TRIPLE_EFFECT]] = UNSEEN_TRIPLE
            # A flagged pair says it all: the triples around it would only repeat it.
            i, j, k = members
            pairs = views[i, j][:, :, None] | views[i, k][:, None, :] | views[j, k][None, :, :]
            views[members][pairs != ORDINARY] = ORDINARY
    return table


def _unseeable(evidence: Evidence) -> Iterator[str]:
    """What no budget would let the tables see."""
    for category in evidence.categories:
        pooled = len(category.values) - len(set(category.codes))
        if pooled:
            yield f"which of {pooled + 1} rare values of {category.name}, that do not move the target, is in a combination"
    if evidence.skipped:
        named = ", ".join(" + ".join(names) for names in evidence.skipped[:3])
        yield f"{len(evidence.skipped)} combinations of columns with too many values, such as {named}"


def _kinds(trial: Calibration, verdicts: Sequence[Verdict]) -> tuple[KindReport, ...]:
    """One report for each kind, with reasons from these."""
    return tuple(
        KindReport(
            kind,
            float(mask.mean()),
            tuple((step.measure, t) for step, t in trial.thresholds.items() if step.kind == kind),
            tuple(dict.fromkeys(v.reason for v in verdicts if v.kind == kind))[:MOST_EXAMPLES],
        )
        for kind, mask in trial.by_kind.items()
    )
