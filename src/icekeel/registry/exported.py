"""A version as a folder of its own, which predicts wherever it is taken: the engine's files under their digests,
and a record of what it was made from.

`version.json` has the record and the digest of the bundle, `version.sha256` the digest of `version.json`, which so
vouches for every byte. No project, history or registry is needed to predict from values of features.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault, RegistryError, RequestError, nearest, shorten
from icekeel.core.frames import Array, Column, Floats, Frame
from icekeel.core.ids import digest as sha256
from icekeel.engines import GOLDEN_FILE, Engine, check_golden, load_engine

from .bundles import Bundle, read, write
from .records import Version

FORMAT = 1
RECORD, DIGEST, BUNDLE = "version.json", "version.sha256", "bundle"


class Exported:
    """A version that was exported, ready to predict.

    Attributes:
        record: What was known of it: every field of `Version`, `format`, and what `export` was given beside it.
        columns: The features it reads, in order.
    """

    def __init__(self, record: Mapping[str, Any], engine: Engine) -> None:
        self.record = record
        self.columns = engine.columns
        self._engine = engine

    def predict(self, rows: Any, params: object = None) -> Floats:
        """What the model says to rows of feature values, before postprocessors; shape `(n_rows,)`.

        The same bits as serving, and as training up to the tolerance of the golden rows.

        Args:
            rows: A data frame or a mapping of columns, found by name; others are not read. Null is None, NaN or NA.
            params: Ignored; MLflow gives it.

        Raises:
            RequestError: a column is missing, or holds a value of another kind; one fault for each column.
        """
        faults: list[Fault] = []
        columns: dict[str, Array] = {}
        for column in self.columns:
            if column.name not in rows:
                near = nearest(column.name, map(str, rows))
                faults.append(Fault("missing_feature", f'no feature "{column.name}"', "rows", hint=near))
                continue
            try:
                columns[column.name] = _values(column, np.asarray(rows[column.name]))
            except (TypeError, ValueError) as error:
                faults.append(Fault("wrong_kind", f"expected a {column.kind}", column.name, str(error)))
        if faults:
            raise RequestError(*faults)
        if not columns:
            return np.array([self._engine.predict_one(()) for _ in range(len(rows))])
        return self._engine.predict_many(Frame(columns))


def export(version: Version, bundle: Bundle, folder: Path, extra: Mapping[str, bytes]) -> str:
    """Writes the folder, whole or not at all, and gives its digest.

    Args:
        extra: Further files beside the record; the record has their digests.

    Raises:
        RegistryError: `exists`, there is something of that name that is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RegistryError(Fault("exists", "there is something there already", str(folder)))
    files = {name: sha256(data) for name, data in extra.items()}
    record = {"format": FORMAT, **asdict(version), "files": files}
    data = msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        draft = Path(temporary) / "draft"
        write(draft / BUNDLE, bundle.files, bundle.meta)
        for name, content in {**extra, RECORD: data, DIGEST: f"{sha256(data)}\n".encode()}.items():
            (draft / name).write_bytes(content)
        if folder.exists():
            folder.rmdir()
        shutil.move(draft, folder)
    return sha256(data)


def load(folder: str | Path, digest: str = "") -> Exported:
    """The version in a folder that `export` wrote, every byte checked.

    Args:
        digest: What `export` gave, to be sure that it is the very same; else what the folder says of itself.

    Raises:
        BundleError: a file is missing, was changed, or is of another format; or the golden rows come out otherwise.
    """
    place = Path(folder)
    try:
        data, said = (place / RECORD).read_bytes(), (place / DIGEST).read_text().strip()
        record = msgspec.json.decode(data, type=dict[str, Any])
        found = {name: sha256((place / name).read_bytes()) for name in record.get("files", {})}
    except (OSError, ValueError) as error:
        raise BundleError(
            Fault("bad_export", "this is no exported version", str(place), str(error))
        ) from error
    if sha256(data) != (digest or said):
        raise BundleError(Fault("changed", "a file has changed", str(place / RECORD)))
    if record.get("format") != FORMAT:
        what, got = "an export of another format", str(record.get("format"))
        raise BundleError(Fault("bad_format", what, str(place), got, str(FORMAT)))
    for name, expected in record["files"].items():
        if found[name] != expected:
            raise BundleError(Fault("changed", "a file has changed", str(place / name)))
    bundle = read(place / BUNDLE, record["digest"])
    engine = load_engine(bundle.files)
    check_golden(engine, bundle.files.get(GOLDEN_FILE, b""))
    return Exported(record, engine)


_load_pyfunc = load
"""By this name MLflow finds what loads a model; it gives the folder alone."""


def _values(column: Column, given: Array) -> Array:
    """A column as engines read it."""
    if given.ndim != 1:
        raise TypeError(f"{given.ndim} dimensions")
    if column.kind.is_text:
        found = np.array([None if _is_null(value) else value for value in given], dtype=object)
        wrong = [value for value in found if value is not None and not isinstance(value, str)]
    elif given.dtype.kind in "fiub":
        found, wrong = given.astype(np.float64), []
    else:
        found = np.array([math.nan if _is_null(one) or isinstance(one, str) else float(one) for one in given])
        wrong = [value for value in given if isinstance(value, str)]
    if wrong:
        raise TypeError(shorten(wrong[0]))
    if not column.kind.is_text and np.isinf(found).any():
        raise ValueError("an infinite number")
    return found


def _is_null(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
