"""Random worlds through every engine until so many values were compared; see `icekeel.testing.fuzzing`.

tools/fuzz.py --values 1000000 --seed 1
tools/fuzz.py --sort exact --seed 17 --worlds 1      # one world again
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from icekeel.testing.fuzzing import check

MIX = ("exact", "rounded", "edges", "exact", "rounded", "hot")


def one(place: tuple[int, str]) -> tuple[tuple[int, str], Counter[str], list[str]]:
    """The world of a seed, mismatches as text."""
    compared, found = check(*place)
    return place, compared, [str(mismatch) for mismatch in found]


def places(seed: int, worlds: int | None, sort: str | None) -> Iterator[tuple[int, str]]:
    """Seeds and sorts of worlds, without end where `worlds` does not say how many."""
    number = 0
    while worlds is None or number < worlds:
        yield seed + number, sort or MIX[number % len(MIX)]
        number += 1


def main() -> int:
    """Exit code 1 where any engine differs from the oracle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--values", type=int, default=1_000_000, help="stop after so many")
    parser.add_argument("--worlds", type=int, help="stop after so many worlds")
    parser.add_argument("--seed", type=int, default=1, help="of the first world, the others follow")
    parser.add_argument("--sort", help="worlds of one sort only")
    parser.add_argument("--processes", type=int, default=2)
    wanted = parser.parse_args()
    compared: Counter[str] = Counter()
    mismatches, worlds, begun = 0, 0, time.monotonic()
    with multiprocessing.get_context("spawn").Pool(wanted.processes) as pool:
        for (seed, sort), more, found in pool.imap_unordered(
            one, places(wanted.seed, wanted.worlds, wanted.sort)
        ):
            compared, worlds, mismatches = compared + more, worlds + 1, mismatches + len(found)
            for text in found:
                print(f"MISMATCH --sort {sort} --seed {seed} --worlds 1\n{text}", flush=True)
            if worlds % 25 == 0:
                print(f"{compared['files']:,} values, {time.monotonic() - begun:.0f} s", flush=True)
            if compared["files"] >= wanted.values:
                break
        pool.terminate()
    pairs = ", ".join(f"{name} {count:,}" for name, count in compared.items())
    print(
        f"{compared['files']:,} values in {worlds} worlds, {time.monotonic() - begun:.0f} s; compared with the "
        f"oracle: {pairs}; mismatches: {mismatches}"
    )
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
