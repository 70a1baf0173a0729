"""Processes killed with -9 under load: nothing that `append` returned for is lost, nothing is doubled.

Run as a program, this file is the writer that gets killed: `python test_journal_kill.py FOLDER NAME`.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

from icekeel.core.time import wall_clock
from icekeel.journal import Positions, Pushed, Record, Tail, Writer, scan, verify

ACK = struct.Struct("<BI")
THREADS = 2


def write_until_killed(folder: Path, name: str) -> None:
    """Append from several threads and acknowledge on standard output each record, or the last of several."""
    writer = Writer(folder, name, clock=wall_clock, sync_every_s=0.002, roll_bytes=100_000)

    def work(thread: int) -> None:
        serial = 0
        while True:
            count = 1 if serial % 5 else 4
            batch = [
                Pushed(at=serial + i, table=f"{name}.{thread}", rows=[{"x": "y" * 500}]) for i in range(count)
            ]
            if count == 1:
                writer.append(batch[0])
            else:
                writer.append_many(batch)
            serial += count
            os.write(1, ACK.pack(thread, serial))

    for thread in range(THREADS):
        threading.Thread(target=work, args=(thread,)).start()


class Keeper:
    """A tail that is started anew from its saved positions before each read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved = folder, Positions().encode()
        self.seen: dict[str, list[int]] = defaultdict(list)

    def read(self) -> list[Record]:
        tail = Tail(self.folder, Positions.decode(self.saved))
        batch = tail.read(max_bytes=100_000)
        for record in batch:
            assert isinstance(record, Pushed)
            self.seen[record.table].append(record.at)
        self.saved = tail.positions.encode()
        return batch


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, str(folder), name], stdout=subprocess.PIPE, bufsize=0)


def kill_after(child: subprocess.Popen[bytes], name: str, acks: int, keeper: Keeper) -> dict[str, int]:
    """Kill the child once so many acknowledgements came; gives table -> records acknowledged in all."""
    assert child.stdout is not None
    data = b""
    while len(data) < acks * ACK.size:
        part = child.stdout.read(4096)
        assert part, "the writer ended on its own"
        data += part
        keeper.read()
    child.kill()
    data += child.stdout.read()
    child.stdout.close()
    child.wait()
    acknowledged: dict[str, int] = {}
    for thread, serial in ACK.iter_unpack(data[: len(data) - len(data) % ACK.size]):
        acknowledged[f"{name}.{thread}"] = serial
    return acknowledged


def test_nothing_acknowledged_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    rng = random.Random(20130301)
    keeper = Keeper(tmp_path)
    acknowledged: dict[str, int] = {}
    for life in range(4):
        children = {name: start(tmp_path, name) for name in (f"a{life}", f"b{life}")}
        for name, child in children.items():
            acknowledged |= kill_after(child, name, rng.randrange(1, 1500), keeper)
    while keeper.read():
        pass
    stored: dict[str, list[int]] = defaultdict(list)
    for record in scan(tmp_path, kinds=Pushed):
        stored[record.table].append(record.at)
    assert set(acknowledged) <= set(stored)
    for table, serials in stored.items():
        assert serials == list(range(len(serials)))
        assert acknowledged.get(table, 0) <= len(serials) <= acknowledged.get(table, 0) + 8
    assert keeper.seen == stored
    assert verify(tmp_path) == sum(map(len, stored.values()))


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), sys.argv[2])
