"""`icekeel models ...` on a real project."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from icekeel.cli.main import COMMANDS
from icekeel.cli.registry import MODELS
from icekeel.cli.running import only_keeper
from icekeel.operations.accounts import mirror
from icekeel.registry import Registry
from icekeel.registry.exported import load

from .conftest import NOW, Call

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def copy(shop: Path, tmp_path: Path) -> Path:
    """The project, with a second version that failed a gate."""
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    registry = Registry(folder / ".icekeel" / "registry.db", clock=lambda: NOW)
    registry.register(
        "minutes", "d" * 64, snapshot="s", code="c", features="Features", metrics={},
        gates=[{"name": "parity", "passed": False}], ladder={}, trained_from=0, trained_to=1, reason="r", by="ann",
    )  # fmt: skip
    registry.close()
    return folder


@pytest.mark.parametrize("name", [command.__name__.rstrip("_") for command in MODELS])
def test_every_command_about_versions_has_help_and_is_documented(name: str, call: Call) -> None:
    said = call("models", name, "--help")
    assert (said.status, f"models {name}" in said.out) == (0, True)
    (line,) = [
        line for line in (DOCS / "commands.md").read_text().splitlines() if line.startswith("| `models")
    ]
    assert f"`{name}" in line or f"[{name}" in line or f"|{name}" in line
    assert f"icekeel models {name}" in (DOCS / "registry.md").read_text()


def test_promote_and_rollback_are_the_commands_of_the_same_name() -> None:
    assert {"promote", "rollback"} <= {command.__name__ for command in {*COMMANDS} & {*MODELS}}


def test_models_alone_lists(shop: Path, call: Call) -> None:
    listed = call("models", "list", "--project", shop, "--json").json
    assert call("models", "--project", shop, "--json").json == listed
    assert call("models", "list", "minutes", "--project", shop, "--json").json == listed
    assert [row["version"] for row in listed] == ["minutes-1"]
    assert 'did you mean "minutes"?' in call("models", "list", "minute", "--project", shop).err


def test_what_is_misspelt_names_the_nearest(shop: Path, call: Call) -> None:
    said = call("models", "shwo", "minutes-1", "--project", shop)
    assert (said.status, "Did you mean 'show'?" in said.err) == (2, True)
    for command in (("show", "minutes-2"), ("diff", "minutes-1", "minutes-2"), ("verify", "minutes-2")):
        said = call("models", *command, "--project", shop)
        assert (said.status, 'did you mean "minutes-1"?' in said.err) == (1, True)
    assert "options come after the command" in call("models", "--project", shop, "show", "minutes-1").err


def test_a_version_is_shown_whole(shop: Path, call: Call) -> None:
    found = call("models", "show", "minutes-1", "--project", shop, "--json").json
    assert {"name", "by", "lineage", "definitions", "metrics", "gates", "ladder", "files"} <= found.keys()
    assert (found["rung"], found["serves_as"], found["failed_gates"]) == ("linear", ["champion"], [])
    page = call("models", "show", "minutes-1", "--project", shop).out
    for word in (
        "Gates",
        "Ladder",
        "Features",
        "[Orders by kitchen, last 30m: sum of items]",
        "champion",
        "icekeel",
    ):
        assert word in page


def test_versions_are_compared(copy: Path, call: Call) -> None:
    found = call("models", "diff", "minutes-1", "minutes-2", "--project", copy, "--json").json
    assert list(found) == ["a", "b", "settings", "features", "errors", "gates", "made_from", "sizes"]
    assert {row["change"] for row in found["features"]} == {"removed"}
    said = call("models", "diff", "minutes-1", "minutes-2", "--project", copy)
    assert ("made from" in said.out, "icekeel snapshots diff minutes-1 minutes-2" in said.err) == (True, True)
    same = call("models", "diff", "minutes-1", "minutes-1", "--project", copy).out
    assert "no difference" in same


def test_what_is_lost_of_a_version_is_exit_status_1(copy: Path, call: Call) -> None:
    whole = call("models", "verify", "minutes-1", "--project", copy, "--json")
    assert whole.status == 0
    assert {row["check"] for row in whole.json} >= {"bundle", "snapshot", "code", "features", "packages"}
    lost = call("models", "verify", "minutes-2", "--project", copy, "--json")
    assert (lost.status, "damaged" in lost.err, lost.json[0]["verdict"]) == (1, True, "damaged")


def test_a_version_is_exported_and_predicts(shop: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    said = call("models", "export", "minutes-1", "--out", out, "--project", shop, "--json").json
    exported = load(out, said["digest"])
    assert said == {"version": "minutes-1", "out": str(out), "digest": said["digest"]}
    assert (out / "project.py").read_bytes() == (shop / "project.py").read_bytes()
    assert len(exported.columns) == 12
    again = call("models", "export", "minutes-1", "--out", out, "--project", shop)
    assert (again.status, "there is something there already" in again.err) == (1, True)


def test_a_project_that_says_something_else_now_is_not_exported_beside_a_version(
    copy: Path, call: Call
) -> None:
    text = (copy / "project.py").read_text()
    (copy / "project.py").write_text(text.replace('last("30m")', 'last("40m")'))
    out = copy.parent / "out"
    assert call("models", "export", "minutes-1", "--out", out, "--project", copy).status == 0
    assert sorted(path.name for path in out.iterdir()) == ["bundle", "version.json", "version.sha256"]


def test_an_override_needs_words_and_is_shown_for_ever(copy: Path, call: Call) -> None:
    promote = ("models", "promote", "minutes-2", "--project", copy, "--by", "ann", "--reason")
    for wrong, code in (
        ((" ", "--override", "x"), "no_reason"),
        (("better", "--override", " "), "gate_failed"),
    ):
        said = call(*promote, *wrong, "--json")
        assert (said.status, code in said.err) == (1, True)
    assert call(*promote, "better", "--override", "a holiday").status == 0
    assert call("promote", "minutes-1", "--project", copy, "--reason", "back", "--by", "bob").status == 0
    rows = {row["version"]: row for row in call("models", "--project", copy, "--json").json}
    assert (rows["minutes-2"]["overrides"], rows["minutes-1"]["overrides"]) == (["a holiday"], [])
    assert "OVERRIDE: made champion by ann" in call("models", "show", "minutes-2", "--project", copy).out
    decided = call("decisions", "--project", copy, "--json").json
    assert decided[-2]["reason"] == "by ann: better, although parity failed: a holiday"
    back = call(
        "models", "rollback", "minutes", "--reason", "worse", "--by", "eve", "--project", copy, "--json"
    )
    assert back.json == {"model": "minutes", "champion": "minutes-2"}


def test_without_mlflow_or_its_address_that_is_said(
    shop: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "expected an address of MLflow" in call("models", "mirror", "--project", shop).err
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = call("models", "mirror", "--to", "http://127.0.0.1:1", "--project", shop)
    assert (said.status, "pip install 'icekeel[mlflow]'" in said.err) == (1, True)


def test_what_decides_has_mlflow_follow_and_does_not_wait(
    copy: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo, log = copy / "fifo", copy / ".icekeel" / "mirror.log"
    os.mkfifo(fifo)
    # Stands for an MLflow that takes its time: it goes on only once this test has read what it was called for.
    waiting = (
        f"import os; print(os.environ['ICEKEEL_MLFLOW'], flush=True); open({str(fifo)!r}, 'w').write('done')"
    )
    monkeypatch.setattr(mirror, "mirror_command", lambda folder: [sys.executable, "-c", waiting])
    assert call("promote", "minutes-1", "--reason", "same", "--project", copy).status == 0
    assert not log.exists()  # nothing is to follow
    monkeypatch.setenv("ICEKEEL_MLFLOW", "http://127.0.0.1:1")
    with only_keeper(copy / ".icekeel"):  # which sees to it itself
        assert call("promote", "minutes-1", "--reason", "same", "--project", copy).status == 0
    assert not log.exists()
    assert call("promote", "minutes-1", "--reason", "same", "--project", copy).status == 0
    assert fifo.read_text() == "done"
    assert log.read_text() == "http://127.0.0.1:1\n"
    assert os.wait()[1] == 0


def test_a_password_in_an_address_is_not_shown(
    shop: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICEKEEL_MLFLOW", "https://ann:hunter2@mlflow.example")
    found = call("config", "--project", shop, "--json").json["mlflow"]
    assert found == {"value": "https://(secret)@mlflow.example", "source": "environment"}
