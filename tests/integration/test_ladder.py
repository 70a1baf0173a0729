"""The whole ladder on a small project: what it records, what serves, and what stands in its way."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.cli.features import worth
from icekeel.console.briefing import briefing_page, text_of
from icekeel.core.errors import RegistryError, StateError, TrainingError
from icekeel.core.time import DAY
from icekeel.engines.similar import SimilarCases
from icekeel.operations.workshop.workshop import Order, crown
from icekeel.registry import Registry, Version, read, write
from icekeel.serving import load_version
from icekeel.settings import Settings
from icekeel.testing.small import PROJECT, TRAINED_TO, train_once, write_rows, write_small_project
from icekeel.training import LightGBM
from icekeel.training.audits import ALWAYS

from .commands import icekeel


def opened(folder: Path, project: str = PROJECT) -> App:
    write_small_project(folder, project)
    app = App(folder, Settings(threads=2), clock=lambda: TRAINED_TO)
    app.ingest([])
    return app


def trained(app: App, rung: str = "", now: int = TRAINED_TO) -> tuple[Version, str]:
    """A version and what became of it."""
    app.clock = lambda: now
    version, decision = train_once(app, "late", rung=rung)
    return version, decision.kind


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """With a champion of the whole ladder, settings looked for."""
    project = PROJECT.replace('error="log_loss",', 'error="log_loss",\n    ladder=ik.Ladder(tune_s=0.2),')
    app = opened(tmp_path_factory.mktemp("ladder"), project)
    assert trained(app)[1] == "promote"
    return app


@pytest.fixture
def registry(app: App) -> Iterator[Registry]:
    registry = app.registry()
    yield registry
    registry.close()


def test_every_rung_is_measured_and_the_winner_is_the_simplest_within_the_tolerance(
    registry: Registry,
) -> None:
    version = registry.versions("late")[0]
    steps = {step["rung"]: step for step in version.ladder["steps"]}
    assert list(steps) == ["group", "similar", "linear", "lightgbm"]
    assert len(version.ladder["folds"]) == 5
    least = min(step["error"] for step in steps.values() if not step["stopped"])
    assert version.ladder["winner"] == next(
        name for name, step in steps.items() if not step["stopped"] and step["error"] <= least + 0.001
    )
    assert version.metrics["tuning"]["tried"] > 1
    assert [gate["name"] for gate in version.gates] == [
        "better_than_simplest", "parity", "latency", "size", "calibration", "guard_budget",
        *(f"audit_{name}" for name in ALWAYS),
    ]  # fmt: skip


def test_worth_tells_what_the_next_rung_and_features_earn_in_money(
    app: App, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = icekeel(app.folder, "worth", "late")
    assert (found["version"], found["error_point"]) == (registry.versions("late")[0].name, 10_000)
    assert found["answers_per_year"] == pytest.approx(60 * 365, rel=0.05)
    for one in found["rungs"]:
        assert one["earns"] == pytest.approx(one["gain"]["gain"] / 0.01 * 10_000)
        assert one["low"] < one["earns"] < one["high"]
        assert one["costs"]["upkeep"]
    pairs = found["features"]["errors"]
    assert found["winner"] in pairs
    assert all(pair["engineered"] < pair["raw"] for pair in pairs.values())
    features, algorithm = found["features"]["features"], found["features"]["algorithm"]
    assert features["low"] > 0 and features["gain"] > 5 * abs(algorithm["gain"])
    worth("late", app.folder)
    people = capsys.readouterr().out
    assert "Features and algorithms: engineered features gain" in people
    assert "the same algorithm" in people


def test_before_the_ladder_was_climbed_worth_says_so(tmp_path: Path) -> None:
    app = opened(tmp_path)
    trained(app, "linear")
    with pytest.raises(StateError) as raised:
        worth("late", tmp_path)
    assert raised.value.code == "no_ladder"


def test_the_same_data_and_seed_give_the_same_bytes(app: App, registry: Registry) -> None:
    again, _ = trained(app)
    assert again.digest == registry.versions("late")[0].digest


def test_a_retrain_keeps_the_settings_of_the_champion(tmp_path: Path) -> None:
    app = opened(tmp_path)
    plain, _ = trained(app, "lightgbm")
    registry = app.registry()
    bundle = read(app.places.bundles, plain.digest)
    copy = write(app.places.bundles, bundle.files, {**bundle.meta, "trained_to": TRAINED_TO - 20 * DAY})
    tuned = registry.register(
        "late", copy.digest, snapshot="s", code="c", features="Windowed", metrics={"settings": {"leaves": 4}},
        gates=[], ladder={}, trained_from=0, trained_to=TRAINED_TO - 20 * DAY, reason="r",
    )  # fmt: skip
    crown(registry, "late", tuned.name, reason="r", by="test", at=TRAINED_TO, override="no gates")
    assert app.workshop(registry).rung("late") == LightGBM(leaves=4, threads=2)
    registry.close()
    again, _ = trained(app, "lightgbm")
    assert again.metrics["settings"] == {"leaves": 4}
    assert again.digest != plain.digest


def test_similar_cases_can_be_champion(tmp_path: Path) -> None:
    app = opened(tmp_path)
    version, kind = trained(app, "similar")
    assert kind == "promote"
    loaded = load_version(version, app.places.bundles, app.plans["late"])
    assert isinstance(loaded.engine, SimilarCases)
    cases = loaded.similar.get()
    assert cases is loaded.engine, "held in memory once"
    values = [3.5 if column.kind.value == "num" else "north" for column in loaded.engine.columns]
    assert cases.nearest(values, 1)[0].request["depot"] in ("east", "north", "south", "west")
    assert loaded.engine.predict_one(values) == cases.predict_one(values)


def test_a_requirement_that_is_not_met_blocks_and_only_a_reason_passes_over_it(tmp_path: Path) -> None:
    project = PROJECT.replace("error_point=10_000)", "error_point=10_000), at_most=0.01")
    app = opened(tmp_path, project)
    version, kind = trained(app, "linear")
    assert (kind, version.failed) == ("block", ["requirement"])
    registry = app.registry()
    with pytest.raises(RegistryError):
        crown(registry, "late", version.name, reason="r", by="hand", at=TRAINED_TO)
    crown(
        registry, "late", version.name, reason="r", by="hand", at=TRAINED_TO, override="the old one is down"
    )
    assert registry.history("late")[-1].override == "the old one is down"
    registry.close()


def test_a_retrain_is_held_against_the_champion_by_group(tmp_path: Path) -> None:
    app = opened(tmp_path)
    registry = app.registry()
    early, _ = trained(app, "linear", TRAINED_TO - 20 * DAY)
    later, _ = trained(app, "linear")
    assert [
        gate["name"] for gate in early.gates if gate["name"] in ("subgroups", "no_worse_than_champion")
    ] == []
    (gate,) = (gate for gate in later.gates if gate["name"] == "subgroups")
    assert gate["passed"] and gate["required"] == 0.1
    assert re.match(r"of \d+ groups (depot|service)=\w+ comes off worst", gate["why"])
    registry.close()


TEXTS = (
    PROJECT[: PROJECT.index("class Plain")]
    + "class Plain(ik.Features):\n    note = Parcel.note\n\n\n"
    + PROJECT[PROJECT.index("late = ik.Model") :].replace("Windowed,\n    baseline=Plain,", "Plain,")
).replace("    depot: ik.Cat\n    service", "    depot: ik.Cat\n    note: ik.Text\n    service")


def test_a_model_may_read_texts_alone(tmp_path: Path) -> None:
    write_small_project(tmp_path, TEXTS)
    notes = ("left with a neighbour", "ring twice", "snow on the road")
    rewrite(tmp_path / "questions.csv", lambda place, row: row | {"note": notes[place % 3]})
    app = App(tmp_path, clock=lambda: TRAINED_TO)
    app.ingest([])
    version, _ = trained(app)
    assert [step["rung"] for step in version.ladder["steps"]] == ["group", "similar", "text"]
    assert "audit_leakage" not in version.failed
    loaded = load_version(version, app.places.bundles, app.plans["late"])
    cases = loaded.similar.get()
    assert cases is not None and [column.name for column in cases.columns] == ["note"]
    about = app.briefing("late")
    assert len(about.cases) == 10
    page = text_of(briefing_page(about))
    assert "The 10 cases before it that are most like it: " in page and "but for" not in page


Row = dict[str, str]


def rewrite(path: Path, change: Callable[[int, Row], Row | None]) -> None:
    with path.open(newline="") as file:
        rows = [row for place, one in enumerate(csv.DictReader(file)) if (row := change(place, one))]
    write_rows(path, rows)


@pytest.mark.parametrize(
    ("file", "change", "project", "code"),
    [
        ("deliveries", lambda _, row: row | {"minutes_late": "0"}, PROJECT, "bad_target"),
        (
            "deliveries",
            lambda _, row: row | {"minutes_late": "7"},
            PROJECT.replace(" > 15,", ",").replace("log_loss", "mae").replace("    action=ik.Act", "    # "),
            "bad_target",
        ),
        ("questions", lambda place, row: row if place < 3 else None, PROJECT, "few_rows"),
        ("deliveries", lambda _, row: row | {"parcel_id": f"x{row['parcel_id']}"}, PROJECT, "few_rows"),
        (
            "deliveries",
            lambda _, row: row,
            PROJECT.replace(" > 15,", " * 1e308 * 1e308,")
            .replace("log_loss", "mae")
            .replace("    action=ik.Act", "    # "),
            "few_rows",
        ),
    ],
    ids=["one class", "constant", "three rows", "outcomes never arrived", "infinite"],
)
def test_what_cannot_be_learnt_from_is_told_and_nothing_is_registered(
    tmp_path: Path, file: str, change: Callable[[int, Row], Row | None], project: str, code: str
) -> None:
    write_small_project(tmp_path, project)
    rewrite(tmp_path / f"{file}.csv", change)
    app = App(tmp_path, clock=lambda: TRAINED_TO)
    app.ingest([])
    registry = app.registry()
    with pytest.raises(TrainingError) as raised:
        app.workshop(registry).train(Order("late", TRAINED_TO), lambda line: None)
    assert raised.value.code == code
    assert registry.versions() == []
    assert not app.places.bundles.exists()
    registry.close()


def test_a_column_that_is_always_null_or_has_thousands_of_values_is_a_finding(tmp_path: Path) -> None:
    project = PROJECT.replace(
        "weight = Parcel.weight", "weight = Parcel.weight\n    name = Parcel.name"
    ).replace("    depot: ik.Cat\n    service", "    depot: ik.Cat\n    name: ik.Cat\n    service")
    write_small_project(tmp_path, project)
    rewrite(tmp_path / "questions.csv", lambda place, row: row | {"weight": "", "name": f"somebody {place}"})
    app = App(tmp_path, clock=lambda: TRAINED_TO)
    app.ingest([])
    said: list[str] = []
    registry = app.registry()
    version, _ = app.workshop(registry).train(Order("late", TRAINED_TO, rung="linear"), said.append)
    registry.close()
    (found,) = [one for one in version.metrics["audits"] if one["audit"] == "columns"]
    assert found["verdict"] == "warn"
    assert found["evidence"]["columns"] == {
        "weight": "is null in every row",
        "name": "has 3,600 values in 3,600 rows: rungs know the commonest few hundred alone",
    }
    assert any("audit_columns" in line and "weight is null in every row" in line for line in said)
