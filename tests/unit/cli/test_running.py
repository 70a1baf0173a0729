"""Where the clock of `icekeel up` starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from icekeel.app import App
from icekeel.cli.running import _shift
from icekeel.core.time import HOUR, MINUTE, parse_time, wall_clock
from icekeel.features.live import State, StateCell

from .conftest import NOW


def started_at(shift: int) -> int:
    """The time that the shift gives, to the minute."""
    return (wall_clock() + shift + MINUTE // 2) // MINUTE * MINUTE


def test_it_is_the_machine_s_unless_told(shop: Path) -> None:
    assert _shift(shop, "", follow=False) == 0
    assert started_at(_shift(shop, "2013-10-01", follow=True)) == parse_time("2013-10-01")


def test_a_demo_goes_on_from_where_its_data_end(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(shop, folder)
    with App(folder).online(readonly=False) as online:
        cell = StateCell(online)
        with online.begin(write=True) as txn:
            cell.write(txn, State(now=NOW - HOUR, known_until=NOW))
    assert started_at(_shift(folder, "", follow=True)) == NOW
