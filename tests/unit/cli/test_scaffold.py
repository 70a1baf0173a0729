"""`icekeel init`: what a newcomer gets."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from icekeel.cli.scaffold import scaffold
from icekeel.core.errors import StateError
from icekeel.define import load_project
from icekeel.serving import Access
from icekeel.settings import SECRET, Settings, load_settings

from .conftest import NOW, Call


def make(folder: Path) -> str:
    return scaffold(folder, lambda text: None, clock=lambda: NOW)


def test_the_project_file_is_sound_and_short(tmp_path: Path) -> None:
    make(tmp_path / "shop")
    project = load_project(tmp_path / "shop")
    assert list(project.models) == ["minutes"]
    assert set(project.tables) == {"Orders", "Deliveries"}
    assert len((tmp_path / "shop" / "project.py").read_text().splitlines()) < 100


def test_its_own_tests_pass(tmp_path: Path) -> None:
    make(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "project.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_settings_file_names_every_setting_with_its_default(tmp_path: Path) -> None:
    make(tmp_path)
    lines = (tmp_path / "icekeel.toml").read_text().splitlines()
    offered = tomllib.loads("\n".join(line[2:] for line in lines if " = " in line))
    assert offered == {name: value for name, value in asdict(Settings()).items() if name not in SECRET}
    assert load_settings(tmp_path) == Settings()


def test_the_token_admits_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    token = make(tmp_path)
    Access(tmp_path / ".icekeel" / "tokens.json").check(f"Bearer {token}", "predict")
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and token in path.read_text()]
    assert kept == []


def test_the_data_depend_on_the_time_alone(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two")
    for name in ("orders.csv", "deliveries.csv"):
        one, two = (tmp_path / folder / "data" / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        last = one.read_text().splitlines()[-1].rpartition(",")[2]
        assert "2025-03-05T14:" in last  # up to now, so that windows hold something, and not beyond


@pytest.mark.parametrize("name", ["notes.txt", "project.py"])
def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StateError) as caught:
        make(tmp_path)
    fault = caught.value.faults[0]
    assert (fault.code, fault.got) == ("not_empty", name)
    assert "icekeel init" in fault.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as caught:
        make(tmp_path / "file" / "shop")
    assert caught.value.code == "cannot_write"


def test_init_prints_the_token_on_stdout_alone(tmp_path: Path, call: Call) -> None:
    said = call("init", tmp_path / "shop")
    assert said.status == 0
    assert said.out.startswith("ik_")
    assert said.out.strip() not in said.err
    assert set(call("init", tmp_path / "other", "--json").json) == {"folder", "token"}
