"""What an engine is, and how one is made from the files of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Floats, Frame

from .calibration import CALIBRATION_FILE, Calibration, read_calibration
from .encoder import Value
from .explained import Explained
from .group import GroupSpec
from .lightgbm import LightGBMSpec
from .linear import LinearSpec
from .links import to_link
from .similar import SimilarEngineSpec

ENGINE_FILE = "engine.json"
SPECS: Mapping[str, Any] = {
    "group": GroupSpec,
    "similar": SimilarEngineSpec,
    "linear": LinearSpec,
    "lightgbm": LightGBMSpec,
}
"""Kind of engine, as `engine.json` names it -> what is in that file: a struct with `engine(files)`."""


class _Kind(msgspec.Struct):
    kind: str


class Engine(Protocol):
    """Predicts from feature values; deterministic, read-only, safe to call from several threads."""

    columns: tuple[Column, ...]
    """The features it reads, in order."""

    def predict_one(self, values: Sequence[Value]) -> float:
        """The prediction for one row: values in column order, None for null, flags may be `bool`."""
        ...

    def predict_many(self, frame: Frame) -> Floats:
        """The predictions for all rows, shape `(n_rows,)`, the bits of `predict_one`; columns are found by name."""
        ...

    def explain(self, values: Sequence[Value]) -> Explained:
        """What each column adds to the prediction for one row. Not for the request path: milliseconds."""
        ...


class CalibratedEngine:
    """An engine of probabilities and the curve that puts them right."""

    def __init__(self, engine: Engine, curve: Calibration) -> None:
        self._engine, self._curve = engine, curve
        self.columns = engine.columns

    def predict_one(self, values: Sequence[Value]) -> float:
        """What the engine means."""
        return self._curve.of(self._engine.predict_one(values))

    def predict_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows,)`."""
        return self._curve.of_many(self._engine.predict_many(frame))

    def explain(self, values: Sequence[Value]) -> Explained:
        """What the engine's columns add; what the curve does to their sum is put to the base."""
        told = self._engine.explain(values)
        return told.ending_at(to_link(told.scale, self.predict_one(values)))


def load_engine(files: Mapping[str, bytes]) -> Engine:
    """The engine that `engine.json` and the files beside it describe.

    Raises:
        BundleError: a file is missing, damaged, inconsistent or of another format.
    """
    if ENGINE_FILE not in files:
        raise BundleError(Fault("missing_file", "no engine in this bundle", ENGINE_FILE))
    try:
        kind = msgspec.json.decode(files[ENGINE_FILE], type=_Kind).kind
        if kind not in SPECS:
            allowed = ", ".join(SPECS)
            raise BundleError(Fault("bad_engine", "no such kind of engine", ENGINE_FILE, kind, allowed))
        engine: Engine = msgspec.json.decode(files[ENGINE_FILE], type=SPECS[kind]).engine(files)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(Fault("bad_engine", str(error), ENGINE_FILE)) from error
    curve = files.get(CALIBRATION_FILE)
    return engine if curve is None else CalibratedEngine(engine, read_calibration(curve))
