"""Confident learning against the paper's formulas written out, and against noise that was put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind
from icekeel.core.statistics import auc
from icekeel.training import Difference, LightGBM, Linear, Problem, TrainingSet
from icekeel.training.audits.interactions import ALL, Variant, compare, ranking_errors
from icekeel.training.audits.labels import (
    Noise,
    calibrated,
    class_noise,
    confident_counts,
    deviations,
    label_noise,
    learnt_from_reviews,
    margins,
    out_of_fold,
    suspicion,
    twins,
    two_classes,
)

from .cases import DELAY, LATE, PRICE, training_set


def noisy(k: int, seed: int = 0, share: float = 0.2) -> tuple[Ints, Ints, Floats]:
    """True and given classes, and probabilities that know the truth fairly well."""
    rng = np.random.default_rng(seed)
    n = 1_500
    true = rng.integers(k, size=n)
    given = np.where(rng.random(n) < share, (true + 1) % k, true)
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), true] += 2.5
    probabilities = np.exp(scores)
    return true, given, probabilities / probabilities.sum(axis=1, keepdims=True)


def joint_by_the_book(labels: Ints, probabilities: Floats) -> Floats:
    """Equations 1 to 3 of Northcutt, Jiang and Chuang 2021, row by row."""
    k = probabilities.shape[1]
    limits = [
        np.mean([p[one] for p, y in zip(probabilities, labels, strict=True) if y == one]) for one in range(k)
    ]
    counts = np.zeros((k, k))
    for p, y in zip(probabilities, labels, strict=True):
        candidates = [one for one in range(k) if p[one] >= limits[one]]
        if candidates:
            counts[y, max(candidates, key=lambda one: p[one])] += 1
    joint = np.array([counts[y] / counts[y].sum() * (labels == y).sum() for y in range(k)])
    return np.asarray(joint / joint.sum())


@pytest.mark.parametrize("k", [2, 4])
def test_the_joint_of_given_and_true_labels_is_that_of_the_paper(k: int) -> None:
    _, given, probabilities = noisy(k)
    counts = confident_counts(given, probabilities)
    joint = calibrated(counts, np.bincount(given, minlength=k))
    assert np.allclose(joint, joint_by_the_book(given, probabilities), atol=1e-12)
    noise = class_noise(given, probabilities, rng=np.random.default_rng(1))
    assert noise.low < 0.2 < noise.high + 0.02 and noise.low <= noise.wrong <= noise.high
    assert noise.matrix is not None and np.allclose(noise.matrix.sum(axis=0), 1)
    wrong = np.array([noise.matrix[(true + 1) % k, true] for true in range(k)])
    assert (np.abs(wrong - 0.2) < 0.06).all(), "who is truly of a class is labelled as the next one"


def test_margins_put_wrong_labels_first_and_adjust_for_what_a_model_is_seldom_sure_of() -> None:
    true, given, probabilities = noisy(3)
    assert auc((true != given).astype(float), -margins(given, probabilities)) > 0.95
    labels = np.array([0] * 8 + [1] * 2)
    p = np.array(
        [0.1] * 8 + [0.45, 0.35]
    )  # never sure of the rare class, but surer of it where it is labelled
    assert (margins(labels, two_classes(p)) > 0.5).all(), "unadjusted, both rare labels would be in doubt"


def test_a_class_without_rows_or_without_confident_ones_is_no_accident() -> None:
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.4, 0.6, 0.0], [0.1, 0.9, 0.0]])
    noise = class_noise(labels, p, rng=np.random.default_rng(0))
    assert noise.wrong == 0 and np.isfinite(margins(labels, p)).all()


def test_what_cannot_be_foreseen_is_bounded_by_what_the_surest_leave_room_for() -> None:
    """Outcomes drawn from the very probabilities: nothing is wrong, and the surest of either kind err one time in twenty."""
    rng = np.random.default_rng(3)
    p = rng.beta(0.5, 0.5, 20_000) * 0.96 + 0.02
    labels = (rng.random(len(p)) < p).astype(np.int64)
    counts = confident_counts(labels, two_classes(p))
    joint = calibrated(counts, np.bincount(labels))
    noise = class_noise(labels, two_classes(p), rng=rng)
    assert 1 - np.trace(joint) > 0.08
    assert noise.high < 0.04


@pytest.mark.parametrize("problem", [PRICE, DELAY])
def test_numbers_far_from_their_prediction_are_in_doubt(problem: Problem) -> None:
    rng = np.random.default_rng(2)
    prediction = rng.uniform(10, 1_000, 4_000)
    spread = 0.05 * prediction  # what is dear errs by more
    target = np.maximum(prediction + rng.normal(size=4_000) * spread, 0.1)
    wrong = rng.random(4_000) < 0.03
    target[wrong] *= rng.choice([0.1, 10.0], wrong.sum())
    noise = label_noise(problem, target, prediction, rng=rng)
    assert noise.low < 0.03 < noise.high and noise.matrix is None
    assert auc(wrong.astype(float), suspicion(problem, target, prediction)) > 0.999
    scaled = deviations(problem, target, prediction)[~wrong]
    assert abs(np.median(np.abs(scaled)) * 1.4826 - 1) < 0.1


def test_twins_are_rows_of_the_same_features_or_outcome_however_far_the_chain_goes() -> None:
    features = Frame(
        {"x": np.array([1.0, 1.0, 2.0, 3.0, np.nan, np.nan]), "c": texts("a", "a", "b", None, None, None)}
    )
    outcomes = Frame({"key": texts("k1", "k2", "k2", "k3", "k4", "k3")})
    groups = twins(features, outcomes)
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[5] == groups[4] != groups[0]
    few = Frame({"c": texts("a", "a", "a", "b", "b", "b")})
    assert twins(few, outcomes).max() == 3, "where rows have few features, to be alike is no accident"


def texts(*values: str | None) -> Array:
    return np.array(values, dtype=object)


def test_no_label_vouches_for_itself_by_way_of_a_twin() -> None:
    """Labels are drawn by chance; every row is there twice, so a model that saw its twins would know its label."""
    rng = np.random.default_rng(4)
    x, y = np.tile(rng.normal(size=500), 2), np.tile((rng.random(500) < 0.5).astype(float), 2)
    at = np.arange(1_000)
    rows = TrainingSet((Column("x", Kind.NUM),), Frame({"x": x}), y, at, at)
    rung = LightGBM(trees=100, leaves=255)
    alone, together = (
        auc(y, out_of_fold(LATE, rows, rung, groups, rng=np.random.default_rng(0)))
        for groups in (at, twins(rows.frame, Frame({"key": texts(*map(str, at))})))
    )
    assert alone > 0.62 and abs(together - 0.5) < 0.08


def test_every_row_is_judged_by_models_of_others() -> None:
    rows = training_set(LATE)
    said = out_of_fold(LATE, rows, Linear(), np.arange(len(rows)), rng=np.random.default_rng(0))
    assert np.isfinite(said).all() and 0.6 < auc(rows.target, said) < 0.95


def test_reviews_say_how_many_of_those_in_doubt_are_wrong() -> None:
    noise = Noise(0.2, 0.15, 0.25, np.array([[0.8, 0.2], [0.2, 0.8]]))
    few = np.array([1] * 10 + [2] * 10 + [0] * 80)
    assert learnt_from_reviews(noise, few) is noise
    learnt = learnt_from_reviews(noise, np.array([1] * 30 + [2] * 10 + [0] * 60))
    assert learnt.wrong == pytest.approx(0.05) and learnt.low < 0.05 < learnt.high
    assert learnt.matrix is not None and learnt.matrix[0, 1] == pytest.approx(0.05)


def test_ranking_errors_are_what_auc_lacks() -> None:
    rng = np.random.default_rng(6)
    truth, score = (rng.random(500) < 0.3).astype(float), rng.integers(0, 20, 500).astype(float)
    errors = ranking_errors(truth, score)
    assert np.isnan(errors[truth == 0]).all()
    assert np.nanmean(errors) == pytest.approx(1 - auc(truth, score))


def test_a_definition_must_gain_by_one_truth_and_lose_by_none() -> None:
    rng = np.random.default_rng(7)
    n, day = 4_000, 86_400_000_000
    asked_at = np.sort(rng.integers(0, 40 * day, n))
    signal = rng.normal(size=n)
    every, strict = (
        (signal + rng.normal(size=n) > 0).astype(float),
        (signal + rng.normal(size=n) > 1).astype(float),
    )
    blurred = signal + 2 * rng.normal(size=n)
    truths = {"strict": {ALL: every, "strict": strict}}
    (tried,) = compare(LATE, blurred, [Variant("strict", "dropped", signal)], truths, asked_at, rng=rng)
    assert tried.better and set(tried.gains) == {ALL, "strict"}
    assert tried.errors[ALL] == pytest.approx(1 - auc(every, signal))
    lost = replace(tried, gains=tried.gains | {"strict": Difference(-0.02, -0.03, -0.01)})
    unsure = replace(
        tried, gains={ALL: Difference(0.02, -0.01, 0.05), "strict": Difference(0.02, -0.01, 0.05)}
    )
    assert not lost.better and not unsure.better
