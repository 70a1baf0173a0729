"""Whole replacement and locks."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

from icekeel.core.files import alone, locked, write_whole


def test_the_second_waits_for_the_lock(tmp_path: Path) -> None:
    done = []

    def second() -> None:
        with locked(tmp_path / "lock"):
            done.append("second")

    waiting = Thread(target=second)
    with locked(tmp_path / "lock"):
        waiting.start()
        waiting.join(0.2)
        done.append("first")
    waiting.join()
    assert done == ["first", "second"]


def test_one_alone_holds_the_lock(tmp_path: Path) -> None:
    with alone(tmp_path / "lock") as mine, alone(tmp_path / "lock") as other:
        assert (mine, other) == (True, False)
    with alone(tmp_path / "lock") as mine:
        assert mine


def test_a_private_file_is_its_owners_whatever_lay_there(tmp_path: Path) -> None:
    (tmp_path / "key.new").touch(mode=0o666)
    write_whole(tmp_path / "key", b"secret", private=True)
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
