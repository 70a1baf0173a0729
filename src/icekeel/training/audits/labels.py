"""Labels that are wrong, as far as models of other rows can tell.

For flags and classes this is confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating
Uncertainty in Dataset Labels", JAIR 70): a row counts as truly of a class when a model that has not seen it is as sure
of that class as it is of the rows that are labelled so, on average. For numbers it is the residual, in units of what is
ordinary among rows of a like prediction. Both take for granted that the truth can be told from the features: whatever
cannot be foreseen looks like a wrong label too. How often the surest predictions are contradicted bounds that, and
people who look at the rows of the list decide it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import numpy as np

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.statistics import wilson

from ..days import day_codes
from ..ladder import Difference, difference
from ..linear import Linear
from ..problem import Problem, TrainingSet
from ..rungs import Rung
from .findings import Finding, Verdict
from .input import AuditInput
from .leakage import row_hashes

FEWEST = 200
"""Rows with a prediction below which nothing is said."""
FAR = 5.0
"""Robust standard deviations beyond which a number counts as wrong; of normal residuals one in two million lies there."""
SUREST = 0.05
"""Share of the rows whose predictions are surest of a class, on which its noise is bounded."""
FEWEST_REVIEWED = 30
TOLERATED = 0.02
"""Share of wrong labels that is not worth a warning."""
BLOCKING = 0.05
"""The same, once people have confirmed that what is in doubt is wrong, that is too much to learn from."""
MOST, LATER = 40_000, 0.3
"""Rows, evenly over time, on which the cost is measured, and the share of them that it is measured on."""
FEWEST_DAYS = 5
BINS, DRAWS, FOLDS = 20, 500, 5
OWN = 0.5
"""Share of different rows from which on two that are alike are taken for one that is there twice."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How many labels are wrong.

    Attributes:
        wrong: Estimated share; `low` and `high` are a 95 % interval.
        matrix: Share of the rows truly of a class (column) that is labelled as each (row), shape `(k, k)`; none of numbers.
    """

    wrong: float
    low: float
    high: float
    matrix: Floats | None = None


def thresholds(labels: Ints, probabilities: Floats) -> Floats:
    """Mean probability of each class over the rows labelled so, shape `(k,)`; 1 of a class without rows.

    Args:
        labels: Class of each row, shape `(n,)`.
        probabilities: Of rows that their model had not seen, shape `(n, k)`.
    """
    k = probabilities.shape[1]
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=k)
    counts = np.bincount(labels, minlength=k)
    return np.where(counts > 0, own / np.maximum(counts, 1), 1.0)


def confident_counts(labels: Ints, probabilities: Floats) -> Ints:
    """Rows by given label (row) and by the class they confidently belong to (column), shape `(k, k)`.

    The confident joint of Northcutt et al. 2021, equations 1 and 2: among the classes whose threshold a row reaches, the
    likeliest; a row that reaches none is not counted.
    """
    k = probabilities.shape[1]
    reached = probabilities >= thresholds(labels, probabilities) - 1e-6
    counted = reached.any(axis=1)
    true = np.where(reached, probabilities, -1.0).argmax(axis=1)
    cells = labels[counted] * k + true[counted]
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def calibrated(counts: Array, given: Array) -> Floats:
    """The joint distribution of given and true labels, rows made to sum to the shares `given`; `(..., k, k)`.

    Equation 3 of Northcutt et al. 2021. Of a class that no row is confidently of, every label counts as right.
    """
    k = counts.shape[-1]
    counts = np.where(np.eye(k, dtype=np.bool_), np.maximum(counts, 1), counts)
    joint = counts / counts.sum(axis=-1, keepdims=True) * given[..., None]
    return np.asarray(joint / joint.sum(axis=(-2, -1), keepdims=True), dtype=np.float64)


def class_noise(labels: Ints, probabilities: Floats, *, rng: np.random.Generator) -> Noise:
    """The share of wrong labels and the noise matrix.

    The interval is of a bootstrap of the rows, which is one of the cells they fall in, with thresholds held fixed. The
    estimate is held to what the surest predictions leave room for: where the noise depends on the class alone, a class is
    mislabelled no more often than rows that surely are of it (Menon, van Rooyen, Ong and Williamson 2015, "Learning from
    Corrupted Binary Labels via Class-Probability Estimation").
    """
    k, n = probabilities.shape[1], len(labels)
    counts = confident_counts(labels, probabilities)
    given = np.bincount(labels, minlength=k)
    cells = np.append(counts, given - counts.sum(axis=1)) / n  # and of each label those that are not counted
    drawn = rng.multinomial(n, cells / cells.sum(), size=DRAWS)
    sampled = drawn[:, : k * k].reshape(-1, k, k)
    many = calibrated(sampled, sampled.sum(axis=-1) + drawn[:, k * k :])
    joint = calibrated(counts, given)
    found = float(1 - np.trace(joint))
    ends = [found, *np.quantile(1 - np.trace(many, axis1=-2, axis2=-1), (0.025, 0.975))]
    true = joint.sum(axis=0)
    room = true @ [_contradicted(labels, probabilities, one) for one in range(k)]
    wrong, low, high = np.minimum(ends, room).tolist()
    return Noise(wrong, low, high, _scaled(joint / np.maximum(true, 1e-12), wrong / found if found else 1.0))


def _scaled(matrix: Floats, by: float) -> Floats:
    """A noise matrix with so many times the noise."""
    return np.asarray(np.eye(len(matrix)) * (1 - by) + matrix * by, dtype=np.float64)


def _contradicted(labels: Ints, probabilities: Floats, of: int) -> Floats:
    """How often the rows whose predictions are surest of a class are labelled otherwise, and its 95 % interval."""
    surest = np.argsort(-probabilities[:, of], kind="stable")[: max(50, int(SUREST * len(labels)))]
    wrong = labels[surest] != of
    return np.array([wrong.mean(), *wilson(wrong.sum(), len(wrong))])


def margins(labels: Ints, probabilities: Floats) -> Floats:
    """How well each label stands up to the likeliest other class: 0 to 1, least first in a review; shape `(n,)`.

    The normalised margin `(p_given - max p_other + 1) / 2` (Northcutt et al. 2021, section 3.3; Wei et al. 2018) of
    class-adjusted probabilities `p - t + max t`, made to sum to 1: a class that the model is seldom sure of asks for less.
    """
    limits = thresholds(labels, probabilities)
    adjusted = probabilities - limits + limits.max()
    adjusted /= adjusted.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    own = adjusted[rows, labels]
    adjusted[rows, labels] = -np.inf
    return np.asarray((own - adjusted.max(axis=1) + 1) / 2, dtype=np.float64)


def deviations(problem: Problem, target: Floats, prediction: Floats) -> Floats:
    """How far each number lies from its prediction, in robust standard deviations; shape `(n,)`.

    Residuals (of logarithms where the model learns those) are centred and scaled by median and 1.4826 times the median
    absolute deviation among rows of a like prediction: what is cheap errs by less than what is dear.
    """
    residual = np.log(target / prediction) if problem.log_target else target - prediction
    scaled = np.zeros(len(residual))
    floor = 1e-3 * float(np.median(np.abs(residual - np.median(residual)))) or 1e-12
    parts = max(1, min(BINS, len(residual) // 50))
    for part in np.array_split(np.argsort(prediction, kind="stable"), parts):
        centre = np.median(residual[part])
        scale = 1.4826 * max(float(np.median(np.abs(residual[part] - centre))), floor)
        scaled[part] = (residual[part] - centre) / scale
    return scaled


def two_classes(probability: Floats) -> Floats:
    """Probabilities of false and true, shape `(n, 2)`."""
    return np.stack([1 - probability, probability], axis=1)


def suspicion(problem: Problem, target: Floats, prediction: Floats) -> Floats:
    """How likely each label is wrong, from 0 to 1; above 1/2 what the audit counts as suspect."""
    if problem.task == "probability":
        return 1 - margins(target.astype(np.int64), two_classes(prediction))
    far = np.abs(deviations(problem, target, prediction))
    return np.asarray(far / (far + FAR), dtype=np.float64)


def label_noise(problem: Problem, target: Floats, prediction: Floats, *, rng: np.random.Generator) -> Noise:
    """How many labels are wrong, by predictions of rows that their model had not seen."""
    if problem.task == "probability":
        return class_noise(target.astype(np.int64), two_classes(prediction), rng=rng)
    wrong = int((np.abs(deviations(problem, target, prediction)) > FAR).sum())
    low, high = wilson(wrong, len(target))
    return Noise(wrong / len(target), float(low), float(high))


def learnt_from_reviews(noise: Noise, reviews: Ints) -> Noise:
    """The estimate, once enough suspects were looked at, times the share of them that was wrong.

    Those looked at were the likeliest of all, so it stays an upper estimate.

    Args:
        reviews: Of each row: 0 nobody has looked at it, 1 its label was confirmed, 2 corrected.
    """
    looked_at, corrected = int((reviews > 0).sum()), int((reviews == 2).sum())
    if looked_at < FEWEST_REVIEWED:
        return noise
    low, high = wilson(corrected, looked_at)
    share = corrected / looked_at
    matrix = None if noise.matrix is None else _scaled(noise.matrix, share)
    return Noise(noise.wrong * share, noise.low * float(low), noise.high * float(high), matrix)


def out_of_fold(
    problem: Problem, rows: TrainingSet, rung: Rung, groups: Ints, *, rng: np.random.Generator
) -> Floats:
    """What models of other rows say to each, shape `(n_rows,)`.

    Folds are drawn, not cut by time: nothing is forecast here, and what came later may vouch for what came before. Rows
    of a group are in one fold, so that no label vouches for itself by way of a twin.

    Raises:
        TrainingError: no model can be fitted to the rows of a fold.
    """
    fold = rng.permutation(groups.max() + 1)[groups] % FOLDS
    predictions = np.full(len(rows), np.nan)
    for one in range(FOLDS):
        tested = fold == one
        fitted = rung.fit(problem, rows.take(~tested))
        predictions[tested] = fitted.engine.predict_many(rows.frame.take(tested))
    return predictions


def twins(frame: Frame, outcomes: Frame) -> Ints:
    """The group of each row, shape `(n_rows,)`: rows of the same outcome, or with the same features, are of one group.

    The latter only where most rows have features of their own: of a few categories each row has its like.
    """
    group, before = np.arange(len(frame)), np.zeros(0, dtype=np.int64)
    ties = [
        np.unique(row_hashes([*one.columns.values()], len(one)), return_inverse=True)[1]
        for one in (outcomes, frame)
    ]
    if ties[1].max() + 1 < OWN * len(frame):
        del ties[1]
    while not np.array_equal(group, before):
        before = group
        for tie in ties:
            least = np.full(len(group), len(group))
            np.minimum.at(least, tie, group)
            group = least[tie]
    return np.asarray(np.unique(group, return_inverse=True)[1], dtype=np.int64)


def labels(given: AuditInput) -> Finding:
    """How many labels are wrong, by rows that were predicted unseen, and what learning from them costs."""
    places = given.tested
    if len(places) < FEWEST:
        return Finding("labels", "pass", f"{len(places)} predicted labels are too few to judge labels by")
    target, said = given.rows.target[places], given.predictions[places]
    reviews = given.asked.reviews[given.known]
    looked_at, corrected = int((reviews > 0).sum()), int((reviews == 2).sum())
    fresh = reviews[places] == 0
    if fresh.sum() < FEWEST:
        return Finding("labels", "pass", f"people have looked at {looked_at:,} of {len(reviews):,} labels")
    estimate = label_noise(given.problem, target[fresh], said[fresh], rng=given.rng)
    noise = learnt_from_reviews(estimate, reviews)
    harm = _harm(given, places[fresh], noise)
    cost = None if harm is None else max(given.usd_a_year(harm.gain), 0.0)
    evidence = {
        "wrong": noise.wrong,
        "interval": [noise.low, noise.high],
        "labelled_by_truth": None if noise.matrix is None else noise.matrix.T.tolist(),
        "judged": int(fresh.sum()),
        "reviewed": looked_at,
        "corrected": corrected,
        "error_cost": None if harm is None else asdict(harm),
    }
    found = f"{noise.wrong:.1%} of the labels ({noise.low:.1%} to {noise.high:.1%})"
    confirmed = looked_at >= FEWEST_REVIEWED
    tolerance = given.model.choose.within.tolerance
    harmless = not confirmed and harm is not None and harm.gain <= tolerance
    if noise.low < TOLERATED or harmless:
        costs = ", which costs less than simplicity is worth" if harmless else ""
        what = f"{found} contradict what models of other rows say{costs}"
        return Finding("labels", "pass", what, cost=cost, evidence=evidence)
    what = f"{found} may be wrong"
    if confirmed:
        what = f"people corrected {corrected:,} of {looked_at:,} labels in doubt; {found} not yet looked at may be wrong"
    if harm is not None and harm.low > 0:
        what += f", which costs {harm.gain:.3g} of {given.model.error} [{harm.low:.3g}, {harm.high:.3g}]"
    # Without a review nobody can tell a wrong label from an outcome that nobody could foresee.
    verdict: Verdict = "block" if confirmed and noise.wrong >= BLOCKING else "warn"
    todo = f"icekeel labels list {given.model.name} --out review.csv"
    return Finding("labels", verdict, what, todo, cost, evidence)


def _harm(given: AuditInput, places: Ints, noise: Noise) -> Difference | None:
    """What wrong labels do to the error of later rows; None where that cannot be measured.

    Learning from as much noise again raises the error by about what the noise that is there has raised it: the first step
    of simulation extrapolation (Cook and Stefanski 1994; of classes Kuechenhoff, Mwalili and Lesaffre 2006).

    Args:
        places: Rows with a prediction and without a review.
    """
    earlier, later = given.rows.thinned(MOST).split(LATER)
    few = min(len(earlier), len(later)) < FEWEST or day_codes(later.asked_at)[0] < FEWEST_DAYS
    if few or noise.wrong == 0:
        return None
    noisier = replace(earlier, target=_noisier(given, earlier.target, places, noise))
    with suppress(TrainingError):
        fits = (Linear().fit(given.problem, one).engine for one in (noisier, earlier))
        spoilt, clean = (
            given.problem.row_errors(later.target, fit.predict_many(later.frame)) for fit in fits
        )
        return difference(given.problem, spoilt, clean, later.asked_at, rng=given.rng)
    return None


def _noisier(given: AuditInput, target: Floats, places: Ints, noise: Noise) -> Floats:
    """The labels with as much noise again as they are thought to have."""
    drawn = given.rng.random(len(target))
    if noise.matrix is not None:
        spoilt = np.array([noise.matrix[1, 0], noise.matrix[0, 1]])
        return np.where(drawn < spoilt[target.astype(np.int64)], 1 - target, target)
    far = np.abs(deviations(given.problem, given.rows.target[places], given.predictions[places])) > FAR
    known, said = given.rows.target[places][far], given.predictions[places][far]
    moved = given.rng.integers(0, len(known), len(target))
    spoilt = target * (known / said)[moved] if given.problem.log_target else target + (known - said)[moved]
    return np.where(drawn < noise.wrong, spoilt, target)
