from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.ids import digest
from icekeel.engines import load_engine, rows_of
from icekeel.training import Fitted, LightGBM

from ..training.cases import LATE, PRICE, training_set


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return LightGBM(most_trees=40).fit(LATE, training_set(LATE))


def test_predictions_are_those_of_the_lightgbm_package(fitted: Fitted) -> None:
    frame = training_set(LATE, seed=9).frame
    got = load_engine(fitted.files).predict_many(frame)
    assert got.tolist() == pytest.approx(fitted.reference(frame).tolist(), rel=1e-12)
    assert got.std() > 0.1


def test_a_log_target_comes_back_in_its_own_unit() -> None:
    data = training_set(PRICE)
    engine = LightGBM(most_trees=40).fit(PRICE, data).engine
    assert PRICE.error_of(data.target, engine.predict_many(data.frame)) < 0.2


def test_threads_share_an_engine(fitted: Fitted) -> None:
    engine = load_engine(fitted.files)
    rows = rows_of(engine.columns, training_set(LATE, 400, seed=9).frame)
    alone = [engine.predict_one(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(engine.predict_one, rows * 5)) == alone * 5


def test_no_rows_give_no_predictions(fitted: Fitted) -> None:
    frame = training_set(LATE).frame.take([])  # type: ignore[arg-type]  # an empty selection
    assert load_engine(fitted.files).predict_many(frame).shape == (0,)


def test_trees_that_are_missing_changed_or_of_other_columns_are_refused(fitted: Fitted) -> None:
    with pytest.raises(BundleError) as missing:
        load_engine({"engine.json": fitted.files["engine.json"]})
    with pytest.raises(BundleError) as changed:
        load_engine({**fitted.files, "model.txt": fitted.files["model.txt"][:-500]})
    spec = msgspec.json.decode(fitted.files["engine.json"])
    spec["columns"].append({"name": "more", "kind": "num"})
    with pytest.raises(BundleError, match="another number of columns"):
        load_engine({**fitted.files, "engine.json": msgspec.json.encode(spec)})
    spec["sha256"] = digest(b"no trees")
    with pytest.raises(BundleError) as damaged:
        load_engine({"engine.json": msgspec.json.encode(spec), "model.txt": b"no trees"})
    codes = [raised.value.code for raised in (missing, changed, damaged)]
    assert codes == ["missing_file", "changed_file", "lightgbm"]


def test_engines_import_no_training_library() -> None:
    code = "import sys, icekeel.engines; print([m for m in ('lightgbm', 'sklearn', 'scipy', 'pandas') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
