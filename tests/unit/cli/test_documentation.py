"""The documentation says what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import icekeel
from icekeel.define import load_project
from icekeel.define.windows import Values, Window
from icekeel.settings import SECRET, Settings
from icekeel.store import FeatureStore

ROOT = Path(__file__).parents[3]
LANGUAGE = (ROOT / "docs" / "language.md").read_text()


def test_the_vocabulary_is_what_is_exported() -> None:
    named = set(re.findall(r"\bik\.([A-Za-z_]+)", LANGUAGE))
    assert named == set(icekeel.__all__)


def test_every_aggregate_is_named() -> None:
    methods = {name for cls in (Window, Values) for name in vars(cls) if not name.startswith("_")}
    assert {name for name in methods if f"{name}(" not in LANGUAGE} == set()


def test_the_project_file_in_the_readme_holds_and_its_test_passes(tmp_path: Path) -> None:
    block, reading = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    compile(reading, "README.md", "exec")
    assert set(re.findall(r"store\.(\w+)\(", reading)) == {"get_online_features", "get_historical_features"}
    assert set(re.findall(r"store\.(\w+)\(", reading)) <= set(vars(FeatureStore))
    (tmp_path / "project.py").write_text(block)
    assert list(load_project(tmp_path).models) == ["minutes"]
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    names["test_a_delivery_is_known_only_once_it_is_made"]()


def test_no_page_names_a_file_that_is_not_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 6
    for page in pages:
        for path in re.findall(r"`((?:docs|src|tests)/[\w/.-]+)`", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
        for path in re.findall(r"\]\(([\w/.-]+)\)", page.read_text()):
            assert (page.parent / path).exists(), f"{page.name}: {path}"


def test_the_settings_are_in_the_template() -> None:
    text = (ROOT / "src" / "icekeel" / "cli" / "template" / "icekeel.toml.txt").read_text()
    assert {field.name for field in fields(Settings)} - SECRET == set(
        re.findall(r"^# (\w+) =", text, re.MULTILINE)
    )
