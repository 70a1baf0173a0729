"""Two processes that register, promote and roll back at once, killed with -9 at random moments: nothing is half done.

Run as a program, this file does the killing: it forks, since loading Icekeel takes longer than dying.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from icekeel.core.time import wall_clock
from icekeel.journal import Decided, Writer, scan
from icekeel.operations.workshop.workshop import crown, decide, roll_back
from icekeel.registry import CHAMPION, Registry, read, write

KILLS = int(os.environ.get("REGISTRY_KILLS", "60"))
"""`REGISTRY_KILLS=2000 pytest tests/integration/test_registry_kill.py` is the long run."""
CHILDREN = 2


def work(folder: Path, name: str, seed: int, alive: int) -> None:
    """Versions and promotions without end, each with bytes of its own; `alive` is told of each version."""
    rng = random.Random(seed)
    registry = Registry(folder / "registry.db", clock=wall_clock)
    with Writer(folder / "journal", name, clock=wall_clock) as journal:
        for turn in count():
            files = {"a.bin": rng.randbytes(20_000), "b.json": str(turn).encode()}
            bundle = write(folder / "bundles", files, {"by": name})
            version = registry.register(
                "late", bundle.digest, snapshot="s", code="c", features="F", metrics={"turn": turn},
                gates=[{"name": "parity", "passed": True}], ladder={}, trained_from=0, trained_to=1, reason=name, by=name,
            ).name  # fmt: skip
            os.write(alive, b"x")
            at = wall_clock()

            def change(version: str = version, at: int = at) -> None:
                crown(registry, "late", version, reason=name, by=name, at=at)

            decide(registry, journal, "late", "promote", version, reason=name, at=at, change=change)
            if turn % 3 == 2 and registry.previous_champion("late"):
                roll_back(registry, journal, "late", reason=name, by=name, at=wall_clock())


def murder(folder: Path) -> None:
    rng = random.Random(5)
    for kill in range(KILLS // CHILDREN):
        children = []
        heard, alive = os.pipe()
        for one in range(CHILDREN):
            child = os.fork()
            if child == 0:
                work(folder, f"w{kill}-{one}", 1_000 * kill + one, alive)
            children.append(child)
        if kill % 3:  # else wherever they are, which may be before they did anything
            os.read(heard, 1)
        time.sleep(rng.uniform(0.0, 0.1))
        for child in children:
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(heard)
        os.close(alive)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_whatever_is_killed_versions_and_promotions_are_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.test_registry_kill", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    registry = Registry(tmp_path / "registry.db", clock=wall_clock)
    versions, history = registry.versions("late"), registry.history("late")
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    assert len(versions) >= KILLS // CHILDREN // 2, "they were killed before they did anything"
    for version in versions:
        assert read(tmp_path / "bundles", version.digest).meta["by"] == version.by
    # Each decision to promote changed the champion in its transaction, and nothing else did.
    decisions = registry.decisions("late")
    made = [(one.kind, one.version) for one in decisions]
    changed = [("rollback" if one.action == "rollback" else "promote", one.version) for one in history]
    assert Counter(changed) == Counter(made)
    assert {change.alias for change in history} == {CHAMPION}
    assert {change.version for change in history} <= {version.name for version in versions}
    assert registry.aliases("late")[CHAMPION].version == history[-1].version
    # What a crash kept from the journal the keeper tells it: at most the last decision of each that was killed.
    told = Counter(one.id for one in scan(tmp_path / "journal", kinds=Decided))
    assert max(told.values()) == 1
    assert told.keys() <= {one.id for one in decisions}
    assert len(decisions) - len(told) <= KILLS
    registry.close()


if __name__ == "__main__":
    murder(Path(sys.argv[1]))
