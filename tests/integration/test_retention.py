"""Projections made anew after the segments they were made of are gone: they are what they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.core.time import DAY, HOUR
from icekeel.data.answers import Wanted
from icekeel.journal import scan
from icekeel.journal.segments import segment_sizes
from icekeel.operations.loop.keeper import Keeper
from icekeel.operations.skew.skew import Auditor
from icekeel.testing.small import TRAINED_TO

from .shipping import Office, at_work, drain, kept, open_app, run_day, settled, temporary_project, windows


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Four days: what was asked on the last of them still waits."""
    with temporary_project() as folder:
        app = open_app(folder)
        with at_work(app) as (keeper, office):
            for day in range(4):
                run_day(keeper, office, day)
                if day == 1:  # history and journal alone both hold a part in the end
                    app.workspace.compact()
        yield folder


def facts(keeper: Keeper, folder: Path) -> list[Any]:
    app = open_app(folder)
    with keeper._online.begin() as txn:
        pending = keeper._answers["late"].pending(txn)
        told = sorted(bytes(key) for key, _ in txn.cursor(keeper._told))
        known = keeper._loop.watch.baseline("late")
        assert known is not None
        days = range(TRAINED_TO // DAY, TRAINED_TO // DAY + 4)
        profiles = [keeper._minutes["late"].day(txn, day, *known) for day in days]
    state = keeper.state
    counts = [
        # Of events only what a question can still meet is read again.
        {name: cells for name, cells in one.to_dict().items() if not name.startswith("table ")}
        for one in profiles
        if one is not None
    ]
    return [
        settled(keeper),
        windows(app, keeper._online),
        pending,
        told,
        counts,
        state.pushed,
        state.known_until,
    ]


def remove_segments(keeper: Keeper, folder: Path) -> int:
    """As the keeper does once they are old; its own and those of a server that runs stay."""
    journal = open_app(folder).places.journal
    before = segment_sizes(journal)
    for name in before:
        os.utime(journal / name, (0, 0))
    gone = keeper._retention.remove(
        keeper._tail.positions.offsets, at=TRAINED_TO + 4 * DAY, sync=lambda: None
    )
    keeper._tail.forget(gone)
    return len(gone)


@pytest.mark.parametrize("moved", ["half", "all", "all, and the segments are gone"])
def test_projections_made_anew_are_what_they_were(folder: Path, moved: str) -> None:
    app = open_app(folder)
    with kept(app) as keeper:
        drain(keeper)
        if moved != "half":
            app.workspace.compact()
        if moved.endswith("gone"):
            assert remove_segments(keeper, folder) >= 4
            drain(keeper)
        before = facts(keeper, folder)
    app.ask_anew()
    with kept(app) as again:
        drain(again)
        assert facts(again, folder)[:-2] == before[:-2]
        assert again.state.known_until == before[-1]


def test_life_goes_on_over_a_removal_as_it_would_have_without(folder: Path, tmp_path: Path) -> None:
    found = []
    for name, removes in (("with", True), ("without", False)):
        copy = Path(shutil.copytree(folder, tmp_path / name))
        app = open_app(copy)
        with kept(app) as keeper:
            if removes:
                assert remove_segments(keeper, copy) >= 4
            office = Office(app, keeper._online, "later")
            run_day(keeper, office, 4)
            office.close()
            found.append([windows(app, keeper._online), len(settled(keeper))])
            result = Auditor(app.workspace, keeper._online).audit("late", since=TRAINED_TO + 4 * DAY)
            assert (result.rows, result.differences, result.left_out) == (60, (), {})
    assert found[0] == found[1]


def test_answers_and_events_are_found_after_their_segments_are_gone(folder: Path) -> None:
    app = open_app(folder)
    given = {record.id: record for record in app.answers().find(Wanted(limit=1_000))}
    assert len(given) > 4 * 50
    with kept(app) as keeper:
        drain(keeper)
        assert remove_segments(keeper, folder) >= 4
    assert not [one for one in scan(app.places.journal) if getattr(one, "id", "") in given]
    assert {record.id: record for record in app.answers().find(Wanted(limit=1_000))} == given
    early = Wanted(since=TRAINED_TO, until=TRAINED_TO + 12 * HOUR)
    assert [one.id for one in app.answers().find(early)] == sorted(
        (one.id for one in given.values() if one.at < TRAINED_TO + 12 * HOUR), reverse=True
    )
