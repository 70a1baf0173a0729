from __future__ import annotations

import itertools
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from icekeel.core.errors import JournalError
from icekeel.journal import Pushed, Record, Ticked, Writer, scan, verify
from icekeel.journal.segments import segment_sizes, started_at

from .examples import ONE_OF_EACH


def writer_in(
    folder: Path, *, start: int = 1_000, sync_every_s: float = 0.1, roll_bytes: int = 1 << 20
) -> Writer:
    return Writer(folder, "test", clock=lambda: start, sync_every_s=sync_every_s, roll_bytes=roll_bytes)


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size`: the kernel writes what fits, then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def append_until_refused(writer: Writer) -> JournalError:
    with pytest.raises(JournalError) as caught:
        for at in range(1_000_000):
            writer.append(Ticked(at=at))
    return caught.value


def big(at: int) -> Pushed:
    return Pushed(at=at, table="t", rows=[], source="x" * 1000)


def test_a_record_is_in_the_journal_when_append_returns(tmp_path: Path) -> None:
    with writer_in(tmp_path / "new" / "folder") as writer:
        for count, record in enumerate(ONE_OF_EACH):
            writer.append(record)
            assert tuple(scan(tmp_path / "new" / "folder")) == ONE_OF_EACH[: count + 1]


def test_many_are_written_in_order_and_none_is_fine(tmp_path: Path) -> None:
    with writer_in(tmp_path) as writer:
        writer.append_many([])
        writer.append_many(iter(ONE_OF_EACH))
    assert tuple(scan(tmp_path)) == ONE_OF_EACH


def test_threads_share_a_writer(tmp_path: Path) -> None:
    with writer_in(tmp_path, roll_bytes=2_000) as writer:

        def work(first: int) -> None:
            for at in range(first, first + 100):
                writer.append(Ticked(at=at))

        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seen = [record.at for record in scan(tmp_path)]
    assert sorted(seen) == list(range(400))
    assert [at for at in seen if at < 100] == list(range(100))


def test_a_full_segment_is_followed_by_one_whose_name_sorts_behind_it(tmp_path: Path) -> None:
    moments = itertools.count(500, -100)
    with Writer(tmp_path, "p", clock=lambda: next(moments), roll_bytes=30) as writer:
        writer.append_many([Ticked(at=at) for at in range(3)])
        writer.append(Ticked(at=3))
        writer.append(Ticked(at=4))
    assert [record.at for record in scan(tmp_path)] == [0, 1, 2, 3, 4]
    assert [started_at(name) for name in segment_sizes(tmp_path)] == [500, 501]


def test_a_start_never_goes_on_in_an_old_segment(tmp_path: Path) -> None:
    for at in range(3):
        with writer_in(tmp_path) as writer:
            writer.append(Ticked(at=at))
    assert len(segment_sizes(tmp_path)) == 3
    assert [record.at for record in scan(tmp_path)] == [0, 1, 2]


def test_a_full_disk_refuses_and_leaves_no_torn_frame(tmp_path: Path) -> None:
    with writer_in(tmp_path) as writer:
        writer.append(big(1))
        (size,) = segment_sizes(tmp_path).values()
        with disk_full_at(size + 500), pytest.raises(JournalError) as caught:
            writer.append(big(2))
        assert list(segment_sizes(tmp_path).values()) == [size]
        writer.append(big(3))
    assert [record.at for record in scan(tmp_path)] == [1, 3]
    (fault,) = caught.value.faults
    assert (fault.code, fault.got) == ("journal_unwritable", os.strerror(27))
    assert fault.hint == "0 of 1 records were written"


def test_of_many_records_the_whole_ones_stay_on_a_full_disk(tmp_path: Path) -> None:
    with writer_in(tmp_path) as writer:
        with disk_full_at(2_500), pytest.raises(JournalError) as caught:
            writer.append_many([big(at) for at in range(5)])
        writer.append(big(9))
    assert [record.at for record in scan(tmp_path)] == [0, 1, 9]
    assert verify(tmp_path) == 3
    assert caught.value.faults[0].hint == "2 of 5 records were written"


def test_a_torn_frame_that_cannot_be_cut_ends_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, length: int) -> None:
        raise OSError(5, "no more")

    with writer_in(tmp_path) as writer:
        writer.append(big(1))
        with monkeypatch.context() as patch, disk_full_at(1_500), pytest.raises(JournalError):
            patch.setattr(os, "ftruncate", refuse)
            writer.append(big(2))
        writer.append(big(3))
    assert len(segment_sizes(tmp_path)) == 2
    assert [record.at for record in scan(tmp_path)] == [1, 3]
    assert verify(tmp_path) == 2


def test_a_segment_that_cannot_begin_leaves_no_file_and_is_tried_again(tmp_path: Path) -> None:
    with writer_in(tmp_path, roll_bytes=20) as writer:
        writer.append(big(1))
        for _ in range(3):
            with disk_full_at(4), pytest.raises(JournalError):
                writer.append(big(2))
        assert len(segment_sizes(tmp_path)) == 1
        writer.append(big(3))
    assert [record.at for record in scan(tmp_path)] == [1, 3]


def test_who_only_looks_is_told_of_a_full_disk_until_there_is_room(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.check()
    with disk_full_at(200):
        append_until_refused(writer)
        for _ in range(2):
            with disk_full_at(4), pytest.raises(JournalError) as caught:
                writer.check()
            assert caught.value.code == "journal_unwritable"
    writer.check()
    assert len(segment_sizes(tmp_path)) == 2
    writer.append(Ticked(at=9))
    writer.check()
    writer.close()
    with pytest.raises(JournalError):
        writer.check()
    assert list(scan(tmp_path))[-1] == Ticked(at=9)


def test_who_only_looks_is_told_once_of_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_in(tmp_path, sync_every_s=0.0)
    tried = threading.Event()

    def fail(fd: int) -> None:
        tried.set()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        writer.append(Ticked(at=1))
        assert tried.wait(10)
        while writer._failure is None:
            pass
    with pytest.raises(JournalError):
        writer.check()
    writer.check()
    writer.append(Ticked(at=2))
    writer.close()
    assert len(segment_sizes(tmp_path)) == 2


def test_records_are_synced_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    threads: list[int] = []

    def note(fd: int) -> None:
        threads.append(threading.get_ident())
        synced.set()

    monkeypatch.setattr(os, "fdatasync", note)
    with writer_in(tmp_path, sync_every_s=0.001) as writer:
        assert not synced.wait(0.02)  # nothing written, nothing to sync
        for _ in range(2):
            writer.append(Ticked(at=1))
            assert synced.wait(10)
            synced.clear()
        assert threading.get_ident() not in threads
    assert threads[-1] == threading.get_ident()  # close leaves nothing unsynced


def test_a_failed_sync_is_told_once_and_a_new_segment_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "the disk is gone")

    with writer_in(tmp_path, sync_every_s=0.001) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            error = append_until_refused(writer)
        assert error.faults[0].got == "the disk is gone"
        writer.append(big(-1))
        assert len(segment_sizes(tmp_path)) == 2
        assert [record.at for record in scan(tmp_path)][-1] == -1


def test_a_deleted_journal_is_noticed(tmp_path: Path) -> None:
    with writer_in(tmp_path / "journal", sync_every_s=0.001, roll_bytes=1 << 30) as writer:
        shutil.rmtree(tmp_path / "journal")
        assert append_until_refused(writer).code == "journal_unwritable"
        assert append_until_refused(writer).code == "journal_unwritable"  # and is not made anew unasked
        (tmp_path / "journal").mkdir()
        writer.append(Ticked(at=1))
    assert [record.at for record in scan(tmp_path / "journal")] == [1]


def test_close_tells_of_a_last_sync_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "the disk is gone")

    writer = writer_in(tmp_path, sync_every_s=60)
    writer.append(Ticked(at=1))
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(JournalError):
        writer.close()


@pytest.mark.parametrize("value", [2**70, "\ud800"])
def test_a_value_that_cannot_be_stored_is_refused(tmp_path: Path, value: int | str) -> None:
    with writer_in(tmp_path) as writer:
        with pytest.raises(JournalError) as caught:
            writer.append_many([Ticked(at=1), Pushed(at=2, table="t", rows=[{"n": value}])])
        writer.append(Ticked(at=3))
    assert caught.value.code == "not_encodable"
    assert caught.value.faults[0].where == "Pushed"
    assert [record.at for record in scan(tmp_path)] == [3]


def test_a_record_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icekeel.journal.writer.LARGEST", 100)
    with writer_in(tmp_path) as writer, pytest.raises(JournalError) as caught:
        writer.append(big(1))
    assert caught.value.code == "too_large"
    assert caught.value.faults[0].allowed == "100 bytes"


def test_a_closed_writer_refuses(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.close()
    writer.close()
    record: Record = Ticked(at=1)
    with pytest.raises(JournalError) as caught:
        writer.append(record)
    assert caught.value.code == "journal_closed"


def test_a_folder_or_a_name_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError) as caught:
        writer_in(tmp_path / "file")
    assert caught.value.code == "journal_unwritable"
    with pytest.raises(JournalError) as caught:
        Writer(tmp_path, "a/b", clock=lambda: 0)
    assert caught.value.code == "bad_process"
    assert caught.value.faults[0].got == "'a/b'"
