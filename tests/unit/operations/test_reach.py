"""What a serial stands for, however many segments there are and whatever is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from icekeel.features.live import State, StateCell
from icekeel.journal import Positions
from icekeel.operations.projections.reach import Reach, carry


@pytest.fixture
def online(tmp_path: Path) -> Iterator[lmdb.Environment]:
    with lmdb.open(str(tmp_path / "online"), max_dbs=4) as environment:
        yield environment


def note(online: lmdb.Environment, reach: Reach, serial: int, offsets: dict[str, int], *files: str) -> None:
    with online.begin(write=True) as txn:
        state = State(serial=serial, positions=Positions(offsets).encode(), known_until=serial)
        reach.note(txn, state, files)


def test_each_serial_stands_for_the_last_commit_with_events_up_to_it(online: lmdb.Environment) -> None:
    rng, reach, kept, offsets = np.random.default_rng(5), Reach(online), {}, dict[str, int]()
    for serial in range(10, 400, 3):
        if rng.random() < 0.1:
            offsets[f"segment{serial}"] = 8
        for name in list(offsets)[-3:]:
            offsets[name] += int(rng.integers(0, 1000))
        note(online, reach, serial, offsets)
        kept[serial] = dict(offsets)
    for again in (reach, Reach(online)):
        found = again.at(range(5, 420))
        assert set(found) == set(range(10, 420))
        for serial, reached in found.items():
            commit = min(serial - (serial - 10) % 3, max(kept))
            assert (reached.offsets, reached.known_until) == (kept[commit], commit)


def test_a_commit_costs_no_more_where_there_are_many_segments(online: lmdb.Environment) -> None:
    reach, many = Reach(online), {f"{at:018d}-serve-{at}.jnl": 1_000_000 for at in range(2_000)}
    for serial in range(1, 101):
        note(online, reach, serial, {**many, "live": serial})
    database = online.open_db(b"reach")
    with online.begin() as txn:
        steps = [len(value) for key, value in txn.cursor(database) if bytes(key).startswith(b"s")]
    assert len(steps) == 100
    assert max(steps) < 50
    assert reach.at([57])[57].offsets["live"] == 57


def test_what_lies_between_two_keepers_is_not_known(online: lmdb.Environment) -> None:
    first = Reach(online)
    with online.begin(write=True) as txn:
        state = first.begin(txn, State())
    last = state.serial + 1
    note(online, first, last, {"a": 5})
    second = Reach(online)
    with online.begin(write=True) as txn:
        again = second.begin(txn, State(serial=last, positions=Positions({"a": 5}).encode()))
    assert again.serial >= last + 2
    known = first.at([last - 1, last, last + 1, again.serial - 1, again.serial])
    assert set(known) == {last - 1, last, again.serial}
    assert known[again.serial].offsets == {"a": 5}


def test_the_oldest_are_forgotten_and_those_kept_stay_whole(online: lmdb.Environment) -> None:
    reach = Reach(online)
    for serial in range(1, 101):
        note(online, reach, serial, {f"s{at}": serial for at in range(serial // 10 + 1)})
    before = reach.at(range(90, 101))
    database = online.open_db(b"reach")
    with online.begin(write=True) as txn:
        reach.forget(txn, remembered=40)
        assert txn.stat(database)["entries"] <= 40
    assert reach.at(range(90, 101)) == before
    assert reach.at([50]) == {}


def test_it_tells_when_a_record_and_a_file_were_projected(online: lmdb.Environment) -> None:
    reach = Reach(online)
    for serial in range(1, 65):
        note(online, reach, serial, {"a": 100 * serial, "b": 5}, *(["f.parquet"] if serial % 20 == 0 else []))
    times = {serial: reached.at for serial, reached in reach.at(range(1, 65)).items()}
    assert [reach.when("a", offset) for offset in (0, 99, 100, 6399)] == [
        times[1],
        times[1],
        times[2],
        times[64],
    ]
    assert (reach.when("a", 6400), reach.when("c", 0)) == (0, 0)
    assert reach.files() == {"f.parquet": (20, times[20])}


def test_it_is_carried_into_an_environment_made_anew(online: lmdb.Environment, tmp_path: Path) -> None:
    note(online, Reach(online), 9, {"a": 5}, "f")
    cell = StateCell(online)
    with online.begin(write=True) as txn:
        cell.write(txn, State(serial=12, now=7, pushed=4))
    with lmdb.open(str(tmp_path / "fresh"), max_dbs=4) as fresh:
        carry(online, fresh)
        reach = Reach(fresh)
        again = StateCell(fresh)
        with fresh.begin() as txn:
            state = again.read(txn)
        assert (state.serial, state.now, state.pushed) == (12, 7, 0)
        assert reach.at([12])[12].offsets == {"a": 5}
        assert set(reach.files()) == {"f"}


def test_an_environment_that_remembers_nothing_is_read_all_the_same(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=4):
        pass
    with lmdb.open(str(tmp_path), max_dbs=4, readonly=True) as environment:
        reach = Reach(environment)
        assert (reach.at([1]), reach.files(), reach.when("a", 1)) == ({}, {}, 0)
