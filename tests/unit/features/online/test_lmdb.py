from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from icekeel.core.errors import StateError
from icekeel.core.time import DAY, HOUR
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online import Applied, EventVersion, LmdbWindows, TextCodes, open_environment, writing
from icekeel.features.online.extent import Extent

VIEW = View(
    "amounts",
    "things",
    ("key",),
    ("amount",),
    (Aggregate(Function.COUNT, Span(1, DAY)), Aggregate(Function.SUM, Span(1, DAY), 0)),
    DAY,
    0,
)


def event(
    name: str, time: int, *, amount: float = 1.0, key: bytes | None = b"k", start: int = 0
) -> EventVersion:
    return EventVersion(name, time, start or time + 1, False, (key,), ((amount,),))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[lmdb.Environment]:
    with open_environment(tmp_path / "state", map_size=1 << 26) as opened:
        yield opened


def apply(environment: lmdb.Environment, *batch: EventVersion) -> Applied:
    store = LmdbWindows(environment, [VIEW])
    with environment.begin(write=True, buffers=True) as txn:
        return store.apply(txn, "things", batch)


def read(environment: lmdb.Environment, key: bytes | None, at: int) -> list[float]:
    store = LmdbWindows(environment, [VIEW])
    with environment.begin(buffers=True) as txn:
        return store.read(txn, VIEW, key, at)


def records(environment: lmdb.Environment) -> tuple[int, int, int]:
    """Heads, chunks and events remembered."""
    store = LmdbWindows(environment, [VIEW])
    with environment.begin() as txn:
        heads, chunks, events = (sum(1 for _ in store.scan(txn, kind)) for kind in (b"h", b"c", b"e"))
    return heads, chunks, events


def test_counts_and_answers(environment: lmdb.Environment) -> None:
    assert apply(environment, event("a", HOUR), event("b", HOUR, amount=2.5)) == Applied(new=2)
    again = replace(event("b", HOUR, amount=4.0), start=3 * HOUR)
    assert apply(environment, event("a", HOUR), again) == Applied(replaced=1, duplicates=1)
    assert read(environment, b"k", 2 * HOUR) == [2.0, 3.5]
    assert read(environment, b"k", 3 * HOUR) == [2.0, 5.0]
    assert read(environment, b"k", HOUR) == [0.0, 0.0]


def test_unknown_and_null_keys_are_empty(environment: lmdb.Environment) -> None:
    apply(environment, event("a", HOUR, key=None), event("b", HOUR, key=b"m"))
    for key in (None, b"a", b"z"):
        assert read(environment, key, 2 * HOUR) == [0.0, 0.0]


def test_times_before_1970(environment: lmdb.Environment) -> None:
    apply(environment, event("a", -2 * HOUR, start=-HOUR), event("b", HOUR))
    assert read(environment, b"k", 0)[0] == 1.0
    assert read(environment, b"k", 2 * HOUR)[0] == 2.0


def test_an_event_that_moves_to_another_key_leaves_the_old_one(environment: lmdb.Environment) -> None:
    apply(environment, event("a", HOUR))
    apply(environment, event("a", HOUR, key=b"m", start=2 * HOUR))
    assert [read(environment, key, 3 * HOUR)[0] for key in (b"k", b"m")] == [0.0, 1.0]
    assert [read(environment, key, 2 * HOUR - 1)[0] for key in (b"k", b"m")] == [1.0, 0.0]


def test_old_rows_leave_by_pruning_and_are_not_added(environment: lmdb.Environment) -> None:
    apply(environment, *(event(f"old{i}", i + 1, key=b"quiet" if i % 2 else b"k") for i in range(10)))
    apply(environment, event("late", 5 * DAY))
    assert records(environment) == (2, 0, 11)
    apply(environment, event("too old to matter", 7))
    assert read(environment, b"k", 5 * DAY + HOUR) == [1.0, 1.0]
    assert records(environment) == (2, 0, 12)
    store = LmdbWindows(environment, [VIEW])
    with environment.begin(write=True) as txn:
        assert store.prune(txn, 5 * DAY) == 10
    assert records(environment) == (1, 0, 1)
    assert read(environment, b"k", 5 * DAY + HOUR) == [1.0, 1.0]


def test_a_row_overruled_at_its_start_never_comes_back(environment: lmdb.Environment) -> None:
    for amount in (1.0, 2.0):
        apply(environment, event("a", HOUR, amount=amount))
    apply(environment, event("a", HOUR, amount=4.0, start=3 * HOUR))
    assert read(environment, b"k", 2 * HOUR) == [1.0, 2.0]
    assert read(environment, b"k", 3 * HOUR) == [1.0, 4.0]


def test_pruning_remembers_what_a_late_version_must_yield_to(environment: lmdb.Environment) -> None:
    apply(environment, replace(event("a", 1, start=5 * DAY), deleted=True))
    store = LmdbWindows(environment, [VIEW])
    with environment.begin(write=True) as txn:
        store.prune(txn, 5 * DAY + HOUR)
    apply(environment, event("a", 5 * DAY - 2 * HOUR))
    assert read(environment, b"k", 5 * DAY - HOUR)[0] == 1.0
    assert read(environment, b"k", 5 * DAY)[0] == 0.0


def test_an_aborted_transaction_leaves_nothing(environment: lmdb.Environment) -> None:
    store = LmdbWindows(environment, [VIEW])
    with environment.begin(write=True) as txn:
        store.apply(txn, "things", [event("a", HOUR)])
        txn.abort()
    assert read(environment, b"k", 2 * HOUR)[0] == 0.0


def test_a_hot_key_keeps_its_head_small_and_forgets_whole_chunks(environment: lmdb.Environment) -> None:
    for day in range(3):
        apply(environment, *(event(f"{day}-{i}", day * DAY + i + 1) for i in range(3_000)))
    assert read(environment, b"k", 2 * DAY + HOUR) == [3_000.0, 3_000.0]
    assert records(environment)[1] < 18
    apply(environment, *(event(f"5-{i}", 5 * DAY + i + 1) for i in range(600)))
    assert records(environment)[1] <= 2


def test_state_for_other_views_is_refused(environment: lmdb.Environment) -> None:
    apply(environment, event("a", HOUR))
    with pytest.raises(StateError) as caught:
        LmdbWindows(environment, [replace(VIEW, back=2 * DAY)])
    assert caught.value.code == "state_views"


def test_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        open_environment(tmp_path / "nothing", readonly=True)
    assert caught.value.code == "state_missing"
    open_environment(tmp_path / "empty").close()
    with open_environment(tmp_path / "empty", readonly=True) as empty, pytest.raises(StateError) as caught:
        LmdbWindows(empty, [VIEW])
    assert caught.value.code == "state_missing"


def test_full_state_says_so_and_keeps_what_was_committed(tmp_path: Path) -> None:
    with open_environment(tmp_path / "small", map_size=1 << 17) as small:
        apply(small, event("a", HOUR))
        store = LmdbWindows(small, [VIEW])
        batch = [event(f"e{i}", i + 1, key=b"%d" % i) for i in range(5_000)]
        with pytest.raises(StateError) as caught, writing(small) as txn:
            store.apply(txn, "things", batch)
        assert caught.value.code == "state_full"
        assert read(small, b"k", 2 * HOUR) == [1.0, 1.0]


def test_other_writers_to_the_environment_hear_that_it_is_full(tmp_path: Path) -> None:
    with open_environment(tmp_path / "small", map_size=1 << 17) as small:
        with pytest.raises(StateError) as caught, writing(small) as txn:
            txn.put(b"large", bytes(1 << 18))
        assert caught.value.code == "state_full"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with state, closed."""
    with open_environment(tmp_path / "stored", map_size=1 << 26) as environment:
        apply(environment, *(event(f"e{i}", i + 1, key=b"%d" % (i % 50)) for i in range(20_000)))
    Extent(tmp_path / "stored").note()
    return tmp_path / "stored"


def first_fault(folder: Path, *, readonly: bool) -> str:
    """Opens and reads as serving and the keeper do; gives the fault's code."""
    with pytest.raises(StateError) as caught, open_environment(folder, readonly=readonly) as environment:
        for key in range(50):
            read(environment, b"%d" % key, HOUR)
    return caught.value.code


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:8192],
        lambda data: data[:5000],
        lambda data: b"garbage!" * 4096,
        lambda data: bytes(len(data)),
        lambda data: data[:8192] + bytes(len(data) - 8192),
    ],
    ids=["half", "a byte short", "two pages", "a page", "garbage", "zeros", "zero pages"],
)
def test_damaged_state_is_refused(stored: Path, damage: Callable[[bytes], bytes], readonly: bool) -> None:
    file = stored / "data.mdb"
    file.write_bytes(damage(file.read_bytes()))
    assert first_fault(stored, readonly=readonly) == "state_damaged"


def test_records_that_make_no_sense_are_refused(environment: lmdb.Environment) -> None:
    store = LmdbWindows(environment, [VIEW])
    apply(environment, *(event(f"e{i}", i + 1) for i in range(100)))
    for kind in (b"c", b"h"):
        for broken in (None, b"", b"abc", bytes(200)):
            with environment.begin(write=True) as txn:
                ((name, whole),) = store.scan(txn, kind)
                store.delete(txn, name) if broken is None else store.put_many(txn, [(name, broken)])
            if (kind, broken) != (b"h", None):
                with environment.begin() as txn, pytest.raises(StateError) as caught:
                    store.read(txn, VIEW, b"k", HOUR)
                assert caught.value.code == "state_damaged"
            with environment.begin(write=True) as txn:
                store.put_many(txn, [(name, whole)])
    assert read(environment, b"k", HOUR) == [100.0, 100.0]


def test_text_codes(environment: lmdb.Environment) -> None:
    codes = TextCodes(environment)
    with environment.begin(write=True, buffers=True) as txn:
        assert [codes.encode(txn, text) for text in ("red", "", "é" * 600, "red")] == [0.0, 1.0, 2.0, 0.0]
        assert [codes.find(txn, text) for text in ("", "blue")] == [1.0, -1.0]
        assert [codes.decode(txn, code) for code in (0.0, 1.0, 2.0)] == ["red", "", "é" * 600]
        for code in (3.0, -1.0, 0.5, math.nan):
            with pytest.raises(StateError):
                codes.decode(txn, code)


_WRITER = """
import sys
from pathlib import Path
from icekeel.features.online import LmdbWindows, open_environment
from tests.unit.features.online.test_lmdb import VIEW, event
environment = open_environment(Path(sys.argv[1]), map_size=1 << 26)
store = LmdbWindows(environment, [VIEW])
for number in range(1, 1001):
    with environment.begin(write=True, buffers=True) as txn:
        store.apply(txn, "things", [event(f"{number}-{i}", number * 1000 + i) for i in range(3)])
        if number == 20:
            print("uncommitted", flush=True)
            sys.stdin.read()
    print(number, flush=True)
"""


def test_readers_see_whole_commits_while_a_writer_works_and_dies(tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        with open_environment(tmp_path, readonly=True, map_size=1 << 26) as reader:
            for line in writer.stdout:
                rows = read(reader, b"k", HOUR)[0]
                assert rows % 3 == 0
                if line == "uncommitted\n":
                    assert rows == 19 * 3
                    break
                assert rows >= 3 * int(line)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert read(reader, b"k", HOUR)[0] == 19 * 3
    with open_environment(tmp_path, map_size=1 << 26) as environment:
        assert apply(environment, event("20-0", 20_000)) == Applied(new=1)
        assert read(environment, b"k", HOUR)[0] == 19 * 3 + 1
