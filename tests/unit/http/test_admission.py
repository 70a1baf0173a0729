"""Turns and queues, with a clock of the test's own."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from icekeel.core.errors import OverloadError
from icekeel.http.admission import BURST_S, FEW, TARGET_S, Admission


class Work:
    """Requests that take the clock on by what they cost, in the order in which they get their turn."""

    def __init__(self, cost_s: float) -> None:
        self.now = 0.0
        self.admission = Admission(lambda: self.now)
        self.cost_s = cost_s
        self.done: list[tuple[int, float]] = []
        self.shed: list[int] = []

    async def ask(self, number: int) -> None:
        came = self.now
        try:
            await self.admission.turn()
        except OverloadError:
            self.shed.append(number)
            return
        self.now += self.cost_s
        self.done.append((number, self.now - came))


def test_a_burst_is_answered_in_the_order_of_coming() -> None:
    async def run() -> Work:
        work = Work(0.001)
        work.now = 1.0
        await asyncio.gather(*(work.ask(number) for number in range(40)))
        return work

    work = asyncio.run(run())
    assert [number for number, _ in work.done] == list(range(40))
    assert work.shed == []


def test_one_is_answered_in_each_round_of_the_loop_so_that_sockets_are_read_between() -> None:
    async def run() -> list[int]:
        work, found = Work(0.001), []
        tasks = [asyncio.create_task(work.ask(number)) for number in range(3)]
        for _ in range(6):
            await asyncio.sleep(0)
            found.append(len(work.done))
        await asyncio.gather(*tasks)
        return found

    found = asyncio.run(run())
    assert all(after - before <= 1 for before, after in pairwise(found))
    assert found[-1] == 3


@pytest.mark.parametrize("times", [1.5, 3.0, 10.0])
def test_a_lasting_overload_is_answered_late_by_the_target_and_no_more(times: float) -> None:
    async def run() -> Work:
        work = Work(0.0003)
        asked, tasks = 0, []
        while work.now < 1.0:
            while asked < work.now / work.cost_s * times:
                if work.admission.full():
                    work.shed.append(asked)
                else:
                    tasks.append(asyncio.create_task(work.ask(asked)))
                asked += 1
            before = work.now
            await asyncio.sleep(0)
            if work.now == before:
                work.now += 0.00005
        await asyncio.gather(*tasks)
        return work

    work = asyncio.run(run())
    settled = sorted(took for number, took in work.done if number > 0.2 * times / work.cost_s)
    assert settled[int(0.99 * len(settled))] <= TARGET_S + 3 * work.cost_s
    assert settled[-1] <= TARGET_S + (FEW + 3) * work.cost_s
    assert max(took for _, took in work.done) <= BURST_S + 3 * work.cost_s
    assert len(settled) * work.cost_s > 0.8 * (1.0 - 0.3)


def test_a_few_callers_who_ask_again_at_once_are_never_refused_however_slow_the_machine() -> None:
    async def run() -> Work:
        work = Work(0.02)

        async def caller(number: int) -> None:
            for _ in range(20):
                assert not work.admission.full()
                await work.ask(number)

        await asyncio.gather(*(caller(number) for number in range(FEW)))
        return work

    assert asyncio.run(run()).shed == []


def test_a_queue_that_is_gone_is_forgotten() -> None:
    async def run() -> Work:
        work = Work(0.02)
        await asyncio.gather(*(work.ask(number) for number in range(60)))
        assert work.shed
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work.shed.clear()
        work.now += 1.0
        await asyncio.gather(*(work.ask(number) for number in range(2)))
        return work

    assert asyncio.run(run()).shed == []
