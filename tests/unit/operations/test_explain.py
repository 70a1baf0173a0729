"""The sentence about an answer, for numbers and probabilities, whatever became of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from icekeel.app import App
from icekeel.core.errors import BundleError
from icekeel.engines import Explained
from icekeel.journal import Predicted, scan
from icekeel.operations.accounts.explain import Explanation, Reason, explain, main_reasons
from icekeel.operations.workshop.workshop import crown
from icekeel.registry import Registry
from icekeel.serving import load_version
from icekeel.settings import Settings
from icekeel.testing.small import REQUEST, TRAINED_TO, keep_up, train_small, write_small_project

STRANGE = {**REQUEST, "depot": "moon"}


@pytest.fixture(scope="module", params=["group", "linear", "lightgbm"])
def opened(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Registry, str]]:
    """A trained app whose windows are up to date, its registry, and the rung that serves."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    write_small_project(folder)
    train_small(folder, rung=request.param)
    app = App(folder, Settings(rehearsal=True), clock=lambda: TRAINED_TO)
    registry = app.registry()
    if "champion" not in registry.aliases("late"):  # the group table fails a gate
        crown(registry, "late", "late-1", reason="test", by="test", at=TRAINED_TO, override="test")
    keep_up(app)
    yield app, registry, request.param
    registry.close()


def asked(app: App, registry: Registry, request: Any) -> Predicted:
    with app.journal("test") as journal, app.online(readonly=True) as online:
        answer = app.answerers(registry, journal, online)["late"].answer(dict(request))
    return next(one for one in scan(app.places.journal, kinds=Predicted) if one.id == answer.prediction_id)


def explained(app: App, registry: Registry, record: Predicted) -> Explanation:
    return explain(record, app.model("late"), registry, app.places.bundles)


def test_a_probability_is_explained_in_points_whatever_the_rung(opened: tuple[App, Registry, str]) -> None:
    app, registry, rung = opened
    record = asked(app, registry, REQUEST)
    found = explained(app, registry, record)
    assert found.sentence.startswith(f"late of new: {100 * record.answer:.0f} % by late-1")
    came = sum(case.outcome > 0.5 for case in found.similar)
    assert f"Of the ten most similar past cases {came} came true." in found.sentence
    assert {reason.unit for reason in found.reasons} == {"points"}
    assert f"Main reasons, against an average request: {found.reasons[0]}" in found.sentence
    assert 1 <= len(found.reasons) <= 4
    if rung == "linear":
        names = {reason.feature for reason in found.reasons}
        assert "service" in names  # an express parcel is 20 minutes faster
        assert next(r for r in found.reasons if r.feature == "service").effect < -0.01
    assert all(case.id and case.request.keys() == {"depot", "service", "weight"} for case in found.similar)
    assert [row["case"] for row in found.rows()] == [case.id for case in found.similar]


def test_a_version_that_keeps_no_cases_is_explained_without(
    opened: tuple[App, Registry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, registry, _ = opened
    monkeypatch.setattr("icekeel.operations.accounts.explain.SIMILAR_FILE", "none.bin")
    found = explained(app, registry, asked(app, registry, REQUEST))
    assert (found.similar, found.far) == ([], False)
    assert "Main reasons, against an average request" in found.sentence


def test_what_became_of_it_is_said_first(opened: tuple[App, Registry, str]) -> None:
    app, registry, _ = opened
    record = asked(app, registry, STRANGE)
    marked = explained(app, registry, record)
    assert "The guard: never seen in" in marked.sentence and marked.findings == record.reasons
    refused = explained(app, registry, msgspec.structs.replace(record, verdict="refused"))
    assert refused.sentence.startswith("late of new: refused; late-1 would have said ")
    assert refused.answer is None
    assert ("Main reasons of what late-1 said" in refused.sentence) is bool(refused.reasons)
    stood_in = msgspec.structs.replace(record, source="rule_of_thumb", answer=0.5, degraded=["keeper_behind"])
    told = explained(app, registry, stood_in)
    assert told.sentence.startswith("late of new: 50 % from rule_of_thumb, in place of late-1, which said ")
    assert "lacked something: keeper_behind." in told.sentence


def test_a_damaged_bundle_explains_nothing(opened: tuple[App, Registry, str]) -> None:
    app, registry, _ = opened
    record = asked(app, registry, REQUEST)
    file = app.places.bundles / registry.version("late-1").digest[:16] / "similar.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    try:
        with pytest.raises(BundleError):
            explained(app, registry, record)
        assert asked(app, registry, REQUEST).answer == record.answer  # answers do not need it
        loaded = load_version(registry.version("late-1"), app.places.bundles, app.plans["late"])
        assert loaded.similar.get() is None  # so a fall-back to similar cases passes on
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("scale", "probability", "written"),
    [
        ("exp", False, ["size 1,120 (+65 %)", "kind missing (-18 %)"]),
        ("identity", False, ["size 1,120 (+0.5)", "kind missing (-0.2)"]),
        ("logit", True, ["size 1,120 (+12 points)", "kind missing (-5 points)"]),
        ("identity", True, ["size 1,120 (+50 points)", "kind missing (-20 points)"]),
    ],
)
def test_effects_are_in_the_targets_own_terms(scale: Any, probability: bool, written: list[str]) -> None:
    added = ((("kind",), -0.2), (("size",), 0.5), (("idle",), 0.0), (("small",), 0.01))
    features: dict[str, Any] = {"size": 1120.0, "kind": None, "idle": 1.0, "small": 2.0}
    found = main_reasons(Explained(scale, 0.0, added), features, probability=probability)
    assert list(map(str, found)) == written


def test_features_that_act_together_are_named_together() -> None:
    added = ((("depot", "service"), 0.25),)
    found = main_reasons(
        Explained("identity", 0.4, added), {"depot": "north", "service": None}, probability=True
    )
    assert found == [Reason("depot x service", "north x missing", 0.25, "points")]
