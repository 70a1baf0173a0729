"""What an engine is, and how one is made from the files of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Floats, Frame

from .encoder import Value
from .explained import Explained
from .group import GroupSpec
from .lightgbm import LightGBMSpec
from .linear import LinearSpec

ENGINE_FILE = "engine.json"
SPECS: Mapping[str, Any] = {"group": GroupSpec, "linear": LinearSpec, "lightgbm": LightGBMSpec}
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
    return engine
