from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.errors import ProjectError, TrainingError
from icekeel.operations.workshop.feature_report import FeatureReport, same
from icekeel.operations.workshop.study import Study, find_feature
from icekeel.testing.small import PROJECT, TRAINED_TO, train_small, write_small_project

IDEAS = """

class Ideas(ik.Features):
    late_6h = arrived.last("6h").minutes_late.mean()
    weight_again = Parcel.weight * 2
    empty = Scans.where(depot=Parcel.depot).last("1h").backlog.last() - 1
    backlog = here.last("2h").backlog.last()


class Double(ik.Features):
    service = Parcel.weight * 1


class Others(ik.Features):
    late_6h = arrived.last("7h").minutes_late.mean()


class Letter(ik.Request):
    letter_id: ik.Id
    stamps: ik.Num


class Letters(ik.Features):
    stamps = Letter.stamps
"""


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("small")
    write_small_project(folder, PROJECT.replace("usd_per_year(1_000", "usd_per_year(5_000") + IDEAS)
    train_small(folder)
    return App(folder, clock=lambda: TRAINED_TO)


@pytest.fixture(scope="module")
def study(app: App) -> Iterator[Study]:
    registry = app.registry()
    with app.journal("keep") as journal:
        app.keeper(registry, journal).close()
    yield app.study(registry)
    registry.close()


@pytest.fixture(scope="module")
def report(study: Study) -> FeatureReport:
    return study.report("late", quiet)


def code(app: App, name: str) -> str:
    with pytest.raises(ProjectError) as raised:
        find_feature(app.project, app.model("late"), name)
    return raised.value.code


def test_what_carries_the_parcels_comes_first_and_what_does_not_can_go(report: FeatureReport) -> None:
    found = {one.name: one for one in report.features}
    assert report.rung == "linear"
    assert {one.name for one in report.features[:3]} >= {"depot", "service"}
    assert sum(one.share for one in report.features) == pytest.approx(1)
    for name in ("depot", "service", "weight"):
        assert found[name].dropped.low > 0
        assert not found[name].delete
    assert "delivered_1d" in report.deletable
    assert report.deletion is not None
    assert report.deletion.high <= report.tolerance == pytest.approx(0.005)
    carried = np.cumsum([one.share for one in report.features])
    assert carried[report.four_fifths - 1] >= 0.8 > ([0.0, *carried.tolist()])[report.four_fifths - 1]
    assert report.carriers.startswith(f"{report.four_fifths} of 7 features carry")


def test_a_feature_is_described(report: FeatureReport) -> None:
    found = {one.name: one for one in report.features}
    trend = found["backlog_trend"]
    assert (trend.kind, trend.type, trend.built_on) == ("trend", "num", ["backlog"])
    assert trend.sources == {"Scans": ["backlog", "depot"]}
    assert trend.dropped.usd_per_year == pytest.approx(trend.dropped.gain * 1_000_000)
    assert 0 < trend.nulls < 0.5 or trend.nulls == 0
    assert list(found["depot"].distribution.top) == sorted(
        found["depot"].distribution.top, key=lambda name: -found["depot"].distribution.top[name]
    )
    weight = found["weight"].distribution
    assert weight.quantiles["min"] < weight.quantiles["p50"] < weight.quantiles["max"]
    assert len(weight.edges) == len(weight.counts) + 1
    assert sum(weight.counts) == report.later.rows
    assert found["weight"].drift < 0.2
    assert report.earlier.end < report.later.start
    assert msgspec.json.decode(msgspec.json.encode(report))["features"][0]["name"] == report.features[0].name


def test_reading_costs_what_its_windows_and_its_formula_cost(report: FeatureReport) -> None:
    found = {one.name: one for one in report.features}
    assert report.read_us is not None
    plain, windowed = found["weight"].cost_us, found["late_1d"].cost_us
    assert plain is not None
    assert windowed is not None
    assert 0 < plain < windowed < report.read_us
    assert report.saved_us is not None
    assert 0 < report.saved_us < report.read_us


def test_a_feature_that_the_model_needs_is_worth_having(study: Study) -> None:
    tried = study.attempt("late", "service", quiet)
    assert tried.worth.low > 0
    assert "service is worth having: log_loss falls by" in tried.verdict
    assert all(gain > 0 for gain in tried.gains)
    assert tried.later[0].end < tried.later[1].start
    assert tried.same_as == []


def test_a_new_feature_that_says_what_is_known_is_called_so(study: Study) -> None:
    tried = study.attempt("late", "weight_again", quiet)
    assert tried.same_as == ["weight"]
    assert "it says the same as weight" in tried.verdict
    assert tried.cost_us is not None


def test_a_feature_without_a_gain_is_not_worth_having(study: Study) -> None:
    tried = study.attempt("late", "delivered_1d", quiet)
    assert tried.worth.low <= 0
    assert "delivered_1d is not worth having: no gain is shown" in tried.verdict


def test_a_feature_of_another_class_is_not_taken_for_its_namesake(study: Study) -> None:
    tried = study.attempt("late", "Double.service", quiet)
    assert (tried.feature, tried.same_as) == ("Double.service", ["weight"])


def test_windows_that_are_not_kept_online_have_no_cost_yet(study: Study) -> None:
    tried = study.attempt("late", "Ideas.late_6h", quiet)
    assert tried.cost_us is None
    assert tried.reads == ["Deliveries by depot, last 6h: mean of minutes_late"]
    assert 0 < tried.nulls < 1


def test_a_feature_is_found_by_its_name_or_says_why_not(app: App) -> None:
    model = app.model("late")
    assert find_feature(app.project, model, "backlog") in model.features.icekeel_features
    assert find_feature(app.project, model, "Ideas.backlog").name == "Ideas.backlog"
    assert find_feature(app.project, model, "empty").name == "empty"
    assert code(app, "late_6h") == "ambiguous_feature"
    assert code(app, "stamps") == "foreign_request"
    with pytest.raises(ProjectError, match='did you mean "weight"'):
        find_feature(app.project, model, "weigth")
    with pytest.raises(ProjectError, match=r'did you mean "Ideas\.empty"'):
        find_feature(app.project, model, "Idea.empty")


def test_a_project_whose_events_were_not_taken_in_says_so(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    app = App(tmp_path, clock=lambda: TRAINED_TO)
    registry = app.registry()
    assert app.workshop(registry).rung("late").name == "lightgbm"
    with pytest.raises(TrainingError, match=r"too few rows with a known outcome.*icekeel ingest"):
        app.study(registry).report("late", quiet)
    registry.close()


def test_two_columns_say_the_same_when_one_follows_from_the_other() -> None:
    numbers = np.array([1.0, 2.0, np.nan, 4.0])
    assert same(numbers, 3 - 2 * numbers)
    assert not same(numbers, np.array([1.0, 2.0, 3.0, 4.0]))
    assert not same(numbers, np.array([1.0, 2.0, np.nan, 3.0]))
    assert not same(np.ones(4), np.ones(4))
    assert not same(np.full(4, np.nan), np.full(4, np.nan))
    texts = np.array(["a", "b", None], dtype=object)
    assert same(texts, texts.copy())
    assert not same(texts, np.array(["a", "b", "c"], dtype=object))
