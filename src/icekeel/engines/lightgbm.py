"""LightGBM models through LightGBM's own shared library, without importing its Python package.

The package takes over a second and 100 MB to import and 70 us for a row; the library's single-row call takes
about 40 us. Calls are those of LightGBM's `c_api.h`, version 4.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import struct
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Floats, Frame
from icekeel.core.ids import digest

from .encoder import Encoder, Value
from .explained import Explained
from .links import Link, from_link, from_link_many

MODEL_FILE = "model.txt"
_FLOAT64, _ALL_TREES = 1, -1
_NORMAL, _LEAVES, _CONTRIBUTIONS = 0, 2, 3
"""Kinds of prediction in `c_api.h`."""
_PARAMETERS = b"num_threads=1 verbosity=-1"


class LightGBMSpec(msgspec.Struct, frozen=True, tag_field="kind", tag="lightgbm", forbid_unknown_fields=True):
    """How rows are encoded for the trees in `model.txt`, and what is done with their sum."""

    columns: tuple[Column, ...]
    categories: dict[str, tuple[str, ...]]
    fills: dict[str, float]
    link: Link
    sha256: str
    most: float | None = None
    format: Literal[1] = 1

    def engine(self, files: Mapping[str, bytes]) -> LightGBMEngine:
        """The engine that runs these trees."""
        model = files.get(MODEL_FILE)
        if model is None:
            raise BundleError(Fault("missing_file", "the trees are missing", MODEL_FILE))
        # The native parser can crash the process on damaged text, so it only ever sees what was written.
        if digest(model) != self.sha256:
            raise BundleError(Fault("changed_file", "not the trees that were written", MODEL_FILE))
        most = math.inf if self.most is None else self.most
        encoder = Encoder(self.columns, self.categories, self.fills, most=most)
        return LightGBMEngine(encoder, model, self.link)


class LightGBMEngine:
    """Runs the trees of a LightGBM text model, on one thread for each call.

    Single rows share one buffer under a lock, so that any number of threads may call.
    """

    def __init__(self, encoder: Encoder, model: bytes, link: Link) -> None:
        self.columns = encoder.columns
        self._encoder, self._link = encoder, link
        self._width = len(self.columns)
        self._library = _load_library()
        self._booster, self._row_call = ctypes.c_void_p(), ctypes.c_void_p()
        self._trees = self._open(model)
        # A classifier of LightGBM's gives probabilities by itself, but its trees add up log-odds.
        self._scale: Link = "logit" if b"\nobjective=binary" in model else link
        self._lock = threading.Lock()
        self._vector = (ctypes.c_double * self._width)()
        self._layout = struct.Struct(f"={self._width}d")
        self._out, self._out_length = ctypes.c_double(), ctypes.c_int64()
        self._arguments = (
            self._row_call,
            self._vector,
            ctypes.byref(self._out_length),
            ctypes.byref(self._out),
        )

    def _open(self, model: bytes) -> int:
        library, booster = self._library, self._booster
        trees, width = ctypes.c_int(), ctypes.c_int()
        load = library.LGBM_BoosterLoadModelFromString
        _checked(library, load(model, ctypes.byref(trees), ctypes.byref(booster)))
        weakref.finalize(self, library.LGBM_BoosterFree, booster)
        _checked(library, library.LGBM_BoosterGetNumFeature(booster, ctypes.byref(width)))
        if width.value != self._width:
            what, got = "the trees read another number of columns", str(width.value)
            raise BundleError(Fault("bad_engine", what, MODEL_FILE, got, str(self._width)))
        init = library.LGBM_BoosterPredictForMatSingleRowFastInit
        call = ctypes.byref(self._row_call)
        _checked(library, init(booster, _NORMAL, 0, _ALL_TREES, _FLOAT64, self._width, _PARAMETERS, call))
        weakref.finalize(self, library.LGBM_FastConfigFree, self._row_call)
        return trees.value

    def predict_one(self, values: Sequence[Value]) -> float:
        """The sum of the trees, through the link. About 40 us for 300 trees."""
        vector = self._encoder.encode_one(values)
        with self._lock:
            self._layout.pack_into(self._vector, 0, *vector)
            _checked(self._library, self._library.LGBM_BoosterPredictForMatSingleRowFast(*self._arguments))
            score = self._out.value
        return from_link(self._link, score)

    def predict_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows,)`."""
        return from_link_many(self._link, self._run(self._encoder.encode_many(frame), _NORMAL, 1)[:, 0])

    def explain(self, values: Sequence[Value]) -> Explained:
        """What each column adds, by Shapley values (Lundberg et al. 2020, "From local explanations", algorithm 2)."""
        row = np.array([self._encoder.encode_one(values)])
        *added, base = self._run(row, _CONTRIBUTIONS, self._width + 1)[0].tolist()
        names = [(column.name,) for column in self.columns]
        return Explained(self._scale, base, tuple(zip(names, added, strict=True)))

    def leaves_one(self, values: Sequence[Value]) -> Floats:
        """The leaf that one row ends in, for each tree."""
        row = np.array([self._encoder.encode_one(values)])
        return self._run(row, _LEAVES, self._trees).ravel()

    def leaves_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows, n_trees)`."""
        return self._run(self._encoder.encode_many(frame), _LEAVES, self._trees)

    def _run(self, matrix: Floats, kind: int, width: int) -> Floats:
        """`width` numbers of a kind for each row."""
        found = np.empty((len(matrix), width))
        if len(matrix):
            length = ctypes.c_int64()
            status = self._library.LGBM_BoosterPredictForMat(
                self._booster, matrix.ctypes.data_as(ctypes.c_void_p), _FLOAT64, len(matrix), self._width, 1,
                kind, 0, _ALL_TREES, _PARAMETERS, ctypes.byref(length),
                found.ctypes.data_as(ctypes.c_void_p),
            )  # fmt: skip
            _checked(self._library, status)
        return found


def _checked(library: Any, status: int) -> None:
    if status:
        message = library.LGBM_GetLastError().decode(errors="replace")
        raise BundleError(Fault("lightgbm", message, MODEL_FILE))


@cache
def _load_library() -> Any:
    """LightGBM's shared library, a `ctypes.CDLL`: `Any`, since its functions are known at run time only."""
    spec = importlib.util.find_spec("lightgbm")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    found = [
        path
        for inner in ("lib", "bin")
        for name in ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")
        if (path := folder / inner / name).is_file()
    ]
    if not found:
        raise BundleError(Fault("no_lightgbm", "LightGBM is not installed", hint="pip install lightgbm"))
    library = ctypes.CDLL(str(found[0]))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library
