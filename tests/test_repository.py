"""What must hold of the repository as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import icekeel

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {
    *("duckdb", "jinja2", "lightgbm", "lmdb", "numpy", "pandas", "prometheus_client", "rich", "scipy"),
    *("sklearn", "sqlalchemy", "starlette", "typer", "uvicorn", "vl_convert"),
}
REQUIREMENT = re.compile(r"(?P<name>[a-z0-9-]+)==[^ ]+( ; [^\\]+)?( +--hash=sha256:[0-9a-f]{64})+")


def test_importing_icekeel_is_light() -> None:
    program = "import sys, icekeel; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
    assert "icekeel" in done.stdout.split()


def test_every_exported_name_is_there_and_documented() -> None:
    exported = {name: getattr(icekeel, name) for name in icekeel.__all__}
    callables = {name: value for name, value in exported.items() if callable(value)}
    assert sorted(name for name, value in callables.items() if not value.__doc__) == []
    assert len(callables) > 20


def rooms() -> list[Path]:
    return sorted((ROOT / "src" / "icekeel").glob("*/__init__.py"))


@pytest.mark.parametrize("path", rooms(), ids=lambda path: path.parent.name)
def test_every_room_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_changelog_and_the_package_name_this_version() -> None:
    assert icekeel.__version__ == PROJECT["version"]
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_holds_versions_and_hashes_and_nothing_else() -> None:
    text = (ROOT / "constraints.txt").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    locked = [REQUIREMENT.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, locked, strict=True) if match is None] == []
    names = {match["name"] for match in locked if match}
    # MLflow's client is tried in an environment of its own, and would be half of this one.
    extras = [asked for name, asked in PROJECT["optional-dependencies"].items() if name != "mlflow"]
    asked = [*PROJECT["dependencies"], *(name for extra in extras for name in extra), "setuptools"]
    assert {re.split(r"[^a-z0-9-]", name)[0] for name in asked} <= names
    assert "//" not in text


def test_no_tracked_file_names_a_home_folder() -> None:
    home = re.compile(rb"/(?:home|Users|root)/[A-Za-z.]")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [path for path in tracked if path.is_file() and home.search(path.read_bytes())] == []
    assert len(tracked) > 20


HANDED_OUT = {"data/spines.py", "store.py"}
"""What gives a database to the caller, who writes files with it."""


def test_every_database_of_icekeels_own_reads_only_what_it_is_given() -> None:
    source = ROOT / "src" / "icekeel"
    opening = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "duckdb.connect(" in path.read_text() and path.parent.parent.name != "examples"
    }
    assert opening - {"testing/fuzzing.py"} == HANDED_OUT | {"data/relations.py"}


def test_decisions_are_numbered_one_after_the_other() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [file for file in files if not file.read_text().startswith(f"# {file.name[:4]}: ")] == []
