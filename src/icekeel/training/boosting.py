"""The upper rung: gradient-boosted trees by LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from icekeel.core.frames import Floats, Frame, Kind
from icekeel.core.ids import digest
from icekeel.engines import Encoder
from icekeel.engines.encoder import CODED
from icekeel.engines.lightgbm import MODEL_FILE, LightGBMSpec
from icekeel.engines.links import Link, from_link_many
from icekeel.engines.loading import ENGINE_FILE, load_engine

from .problem import Problem, TrainingSet, vocabulary
from .rungs import Fitted

if TYPE_CHECKING:
    import lightgbm

LATEST = 0.2
"""Share of the rows on which the number of trees is chosen."""
CELLS = 10_000_000
"""Values, rows times columns, that are worth a thread."""
_OBJECTIVES = {"log_loss": "binary", "mape": "regression", "mae": "regression_l1", "rmse": "regression"}


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trees, as many as were best on the latest fifth of the rows, then grown anew on all rows.

    Args:
        fewest_rows: In a leaf; 0 for a hundredth of the rows, between 2 and 50.
        penalty: On the squares of what leaves say.
        trees: How many; 0 finds out.
    """

    leaves: int = 31
    learning_rate: float = 0.05
    most_trees: int = 600
    patience: int = 30
    fewest_rows: int = 0
    penalty: float = 0.0
    trees: int = 0
    threads: int = 1

    def count(self, data: TrainingSet, best: Callable[[TrainingSet, TrainingSet], int]) -> int:
        """How many trees to grow.

        Args:
            best: Given earlier and later rows, how many of the former do best on the latter.
        """
        earlier, later = data.split(LATEST)
        if self.trees or min(len(earlier), len(later)) < 100:
            return self.trees or min(50, self.most_trees)
        return max(1, best(earlier, later))

    def least(self, rows: int) -> int:
        """Rows of a leaf at least."""
        return self.fewest_rows or max(2, min(50, rows // 100))


@dataclass(frozen=True, slots=True)
class LightGBM(Boosted):
    """Trees of LightGBM's.

    Threads are one for each `CELLS` values: fewer cost more in waiting for each other than they save, on a shared
    machine twenty times as much. The same number gives the same bytes.
    """

    name: str = "lightgbm"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The trees of all rows."""
        problem.check(data)
        data = data.of_kinds(*CODED)
        categories = {
            column.name: vocabulary(data.frame[column.name], most=250, fewest_rows=10)
            for column in data.columns
            if column.kind is Kind.CAT
        }
        fills = usual_values(data)
        encoder = Encoder(data.columns, categories, fills)

        def best(earlier: TrainingSet, later: TrainingSet) -> int:
            return self._train(problem, earlier, encoder, self.most_trees, later).best_iteration

        trees = self.count(data, best)
        booster = self._train(problem, data, encoder, trees)
        model = booster.model_to_string().encode()
        link: Link = "exp" if problem.log_target else "identity"
        spec = LightGBMSpec(data.columns, categories, fills, link, digest(model))
        files = {ENGINE_FILE: msgspec.json.encode(spec), MODEL_FILE: model}

        def reference(frame: Frame) -> Floats:
            scores = booster.predict(encoder.encode_many(frame), num_threads=1)
            return from_link_many(link, np.asarray(scores, dtype=np.float64))

        return Fitted(files, load_engine(files), reference, replace(self, trees=trees))

    def _train(
        self,
        problem: Problem,
        data: TrainingSet,
        encoder: Encoder,
        trees: int,
        later: TrainingSet | None = None,
    ) -> lightgbm.Booster:
        parameters = {
            "objective": _OBJECTIVES[problem.error],
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least(len(data)),
            "lambda_l2": self.penalty,
            "feature_fraction": 0.8,
            "max_bin": 127,
            "seed": problem.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": max(1, min(self.threads, len(data) * len(data.columns) // CELLS)),
            "verbosity": -1,
        }
        rows = _dataset(problem, data, encoder)
        held, stop = None, None
        if later is not None:
            held = [_dataset(problem, later, encoder, rows)]
            stop = [library().early_stopping(self.patience, verbose=False)]
        booster: lightgbm.Booster = library().train(parameters, rows, trees, valid_sets=held, callbacks=stop)
        return booster


def library() -> ModuleType:
    """LightGBM's training package, imported when something is trained.

    It brings scikit-learn: two seconds that serving and every other command would pay.
    """
    import lightgbm

    return lightgbm


def _dataset(
    problem: Problem, data: TrainingSet, encoder: Encoder, reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    target = np.log(data.target) if problem.log_target else data.target
    texts = [i for i, column in enumerate(data.columns) if column.kind is Kind.CAT]
    matrix = encoder.encode_many(data.frame)
    made: lightgbm.Dataset = library().Dataset(
        matrix, target, categorical_feature=texts, reference=reference, params={"verbosity": -1}
    )
    return made


def usual_values(data: TrainingSet) -> dict[str, float]:
    """The median of each number that is never null in these rows."""
    numbers = {one.name: data.frame[one.name] for one in data.columns if one.kind is not Kind.CAT}
    return {name: float(np.median(x)) for name, x in numbers.items() if not np.isnan(x).any()}
