from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from icekeel.app import App
from icekeel.operations.accounts.dossier import differences, dossier, verified
from icekeel.operations.workshop.lineage import code_digest, lineage_of, settings_of
from icekeel.operations.workshop.workshop import crown
from icekeel.registry import Registry
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project

GIT = ("git", "-c", "user.name=ann", "-c", "user.email=ann@example.com")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a git work tree, with a version on plain features and one on windows as well."""
    folder = tmp_path_factory.mktemp("projects") / "small"
    write_small_project(folder)
    (folder / ".gitignore").write_text(".icekeel/\n")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*GIT, *command], cwd=folder, check=True)
    train_small(folder, baseline=True)
    (folder / "notes.txt").write_text("not committed")
    train_small(folder)
    (folder / "notes.txt").unlink()
    return folder


@pytest.fixture
def app(small: Path, tmp_path: Path) -> App:
    shutil.copytree(small, tmp_path / "small")
    return App(tmp_path / "small", clock=lambda: TRAINED_TO)


@pytest.fixture
def registry(app: App) -> Iterator[Registry]:
    opened = app.registry()
    yield opened
    opened.close()


def verdicts(app: App, registry: Registry, name: str = "late-1") -> dict[str, str]:
    return {row["check"]: row["verdict"] for row in verified(app.workspace, registry, name)}


def edit(app: App, before: str, after: str) -> App:
    file = app.folder / "project.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    return App(app.folder, clock=lambda: TRAINED_TO)


def test_a_version_knows_what_it_was_made_with(app: App, registry: Registry) -> None:
    found = dossier(app.workspace, registry, "late-2")
    lineage = found.lineage
    head = subprocess.run(
        [*GIT, "rev-parse", "HEAD"], cwd=app.folder, capture_output=True, text=True, check=True
    )
    assert lineage.commit == head.stdout.strip()
    assert (lineage.dirty, dossier(app.workspace, registry, "late-1").lineage.dirty) == (True, False)
    assert {"python", "icekeel", "numpy", "lightgbm"} <= lineage.packages.keys()
    assert (
        lineage.settings["rollout"] == "Rollout(unit=Parcel.parcel_id, share=0.5, split=True, minimum_days=1)"
    )
    assert lineage.settings["Parcel.weight"] == "num Limits(optional=True, low=0, high=50)"
    assert lineage.settings["within"] == "2d"
    assert found.version.definitions["backlog"]["expression"] == "[Scans by depot, last 6h: last of backlog]"
    assert found.version.by == "train"
    told = {part.heading: part for part in found.told()}
    parts = {"Version late-2", "Gates", "Ladder", "Features", "Settings", "What became of it"}
    assert parts <= told.keys()
    assert any("with changes that were not committed" in line for line in told["Version late-2"].lines)
    assert [row["alias"] for row in told["What became of it"].rows] == ["challenger"]


def test_outside_of_a_work_tree_there_is_no_commit(app: App, tmp_path: Path) -> None:
    assert lineage_of(tmp_path, app.model("late"), "train").commit == ""


def test_the_code_is_what_the_definitions_say_however_they_are_written(app: App) -> None:
    def now(app: App) -> str:
        return code_digest(app.model("late"), app.plans["late"])

    first = now(app)
    assert now(edit(app, '"""Will this parcel', '# another comment\n"""Will this parcel')) == first
    for before, after in (
        ('within("2d")', 'within("3d")'),
        ("missed=4", "missed=5"),
        ('last("6h")', 'last("7h")'),
    ):
        assert now(edit(app, before, after)) != first
        assert now(edit(app, after, before)) == first


def test_settings_are_the_same_text_in_every_process(app: App) -> None:
    again = App(app.folder, clock=lambda: TRAINED_TO)
    assert settings_of(app.model("late"), repr) == settings_of(again.model("late"), repr)
    assert " at 0x" not in str(settings_of(app.model("late"), repr))


def test_two_versions_beside_each_other(app: App, registry: Registry) -> None:
    first, second = (dossier(app.workspace, registry, name) for name in ("late-1", "late-2"))
    found = differences(first, second)
    assert list(found) == ["settings", "features", "errors", "gates", "made_from", "sizes"]
    assert {(row["what"], row["change"]) for row in found["features"]} == {
        (name, "added") for name in ("backlog", "backlog_trend", "late_1d", "delivered_1d")
    }
    *_, both = found["errors"]
    assert "9 days both tested" in both["what"]
    assert both["a"] > both["b"]
    assert {row["what"]: (row["a"], row["b"]) for row in found["made_from"]}["feature_set"] == (
        "Plain",
        "Windowed",
    )
    assert {row["what"]: (row["a"], row["b"]) for row in found["sizes"]}["features"] == (3, 7)
    backwards = differences(second, first)
    assert {row["change"] for row in backwards["features"]} == {"removed"}
    assert not any(rows for part, rows in differences(first, first).items() if part != "errors")


def test_a_redefined_feature_shows_both_expressions(app: App, registry: Registry) -> None:
    changed = edit(app, 'here.last("6h").backlog.last()', 'here.last("7h").backlog.last()')
    train_small(changed.folder)
    found = differences(*(dossier(changed.workspace, registry, name) for name in ("late-2", "late-3")))
    rows = {row["what"]: row for row in found["features"]}
    assert rows["backlog"]["change"] == rows["backlog_trend"]["change"] == "redefined"
    assert ("last 6h" in rows["backlog"]["a"], "last 7h" in rows["backlog"]["b"]) == (True, True)


def test_what_is_whole_and_unchanged_is_the_same(app: App, registry: Registry) -> None:
    assert set(verdicts(app, registry).items()) == {
        (check, "same") for check in ("bundle", "snapshot", "code", "features", "packages", "commit")
    }
    assert verdicts(app, registry, "late-2")["commit"] == "differs"


def test_each_loss_and_each_change_has_its_verdict(app: App, registry: Registry) -> None:
    changed = edit(app, "weight = Parcel.weight", "weight = Parcel.weight * 2")
    found = verdicts(changed, registry)
    assert (found["code"], found["features"], found["bundle"]) == ("differs", "differs", "differs")
    snapshot = registry.version("late-1").snapshot
    (file, *_) = app.history().snapshot(snapshot).tables["Scans"]
    (gone,) = app.places.history.rglob(file.name)
    gone.rename(gone.with_suffix(".away"))
    assert verdicts(app, registry)["snapshot"] == "gone"
    app.history().pinned(snapshot).write_text("{}")
    assert verdicts(app, registry)["snapshot"] == "damaged"
    app.history().unpin(snapshot)
    assert verdicts(app, registry)["snapshot"] == "gone"
    bundle = app.places.bundles / registry.version("late-1").digest[:16]
    (bundle / "engine.json").write_text("{}")
    assert verdicts(app, registry)["bundle"] == "damaged"
    assert "has changed" in dossier(app.workspace, registry, "late-1").damage
    shutil.rmtree(app.folder / ".git")
    assert verdicts(app, registry)["commit"] == "gone"


def test_an_override_stands_first_whatever_serves_today(app: App, registry: Registry) -> None:
    version = registry.register(
        "late", "d" * 64, snapshot="s", code="c", features="F", metrics={}, gates=[], ladder={}, trained_from=0,
        trained_to=1, reason="r",
    )  # fmt: skip
    crown(registry, "late", version.name, reason="now", by="ann", at=TRAINED_TO, override="a holiday")
    crown(registry, "late", "late-1", reason="better", by="bob", at=TRAINED_TO + 1)
    found = dossier(app.workspace, registry, version.name)
    first, *_ = found.told()
    assert first.lines[0].startswith(
        "OVERRIDE: made champion by ann on 2024-03-01T00:00:00Z although gates had failed"
    )
    assert first.lines[0].endswith("a holiday")
    assert found.as_dict()["overrides"][0]["override"] == "a holiday"
