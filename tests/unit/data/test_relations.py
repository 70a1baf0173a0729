from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from icekeel.compile import literal
from icekeel.data.relations import connect


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "given.csv").write_text("x\n1\n")
    (tmp_path / "other.csv").write_text("x\n2\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.csv").symlink_to(tmp_path / "given.csv")
    return tmp_path


def test_what_is_given_is_read_and_the_folder_written(files: Path) -> None:
    with connect(reads=[files / "given.csv"], folder=files / "folder") as connection:
        given = literal(str(files / "given.csv"))
        assert connection.execute(f"SELECT x FROM read_csv({given})").fetchall() == [(1,)]
        target = literal(str(files / "folder" / "made.parquet"))
        connection.execute(f"COPY (SELECT 1 AS x) TO {target} (FORMAT parquet)")
        assert connection.execute(f"SELECT x FROM read_parquet({target})").fetchall() == [(1,)]
        connection.execute("SET memory_limit = '50MB'")
        big = "SELECT range AS a, random()::VARCHAR AS b FROM range(2_000_000) ORDER BY b"
        connection.execute(f"CREATE TEMP TABLE big AS {big}")  # which spills
        assert [path.name for path in (files / "folder" / "spill").iterdir()]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('{here}/other.csv')",
        "SELECT * FROM '{here}/other.csv'",
        "SELECT * FROM read_csv('{here}/folder/../other.csv')",
        "SELECT * FROM read_csv('{here}/*.csv')",
        "SELECT * FROM glob('{here}/*')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "COPY (SELECT 1) TO '{here}/made.csv'",
        "ATTACH '{here}/made.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SELECT * FROM secret",
    ],
)
def test_nothing_else_is(files: Path, statement: str) -> None:
    secret = [{"x": 1}]
    with (
        connect(reads=[files / "given.csv"], folder=files / "folder") as connection,
        pytest.raises(duckdb.Error),
    ):
        connection.execute(statement.format(here=files))
    assert secret
    assert not list(files.glob("made*"))
