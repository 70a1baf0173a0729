"""The trees as a BentoML service, served in its environment: `bentoml serve bentoml_service:Cost`; TREES names the file."""

from __future__ import annotations

import os

import bentoml
import lightgbm
import numpy as np


@bentoml.service(workers=1)
class Cost:
    """30 numbers in, one out."""

    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file=os.environ["TREES"])

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, row: np.ndarray) -> float:
        """The sum of the trees."""
        return float(self.booster.predict(row.reshape(1, -1), num_threads=1)[0])
