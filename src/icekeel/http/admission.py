"""Who is answered when more is asked than can be: requests wait for their turn, and not for long.

A queue is judged by how long its first request has waited, not by its length, since requests differ in what they cost.
A burst may wait for `BURST_S`. Where the queue has not been empty for so long it is no burst: more is asked than can
be answered, and waiting would only make every answer late; then nobody waits for more than `TARGET_S`, unless behind
fewer than `FEW`, as where each of a few callers asks again at once and the machine is slow. (Nichols and
Jacobson, Controlling queue delay, 2012; in this form: Maurer, Fail at scale, 2015.)

Between two turns the event loop reads what has come, so that hardly any request waits unseen in a socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from icekeel.core.errors import Fault, OverloadError

TARGET_S = 0.005
BURST_S = 0.05
FEW = 16


def overload(what: str = "too many requests at once") -> OverloadError:
    """Why a request is not answered."""
    return OverloadError(Fault("overload", what, hint="try again"))


class Admission:
    """One turn for each round of the event loop, in the order of coming.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._taken = False
        self._empty_s = clock()

    def full(self) -> bool:
        """Whether the first in the queue has waited too long: who comes now would, too."""
        if len(self._waiting) < FEW:
            return False
        now = self._clock()
        return now - self._waiting[0][0] > self._longest(now)

    async def turn(self) -> None:
        """Wait until it is one's turn.

        Raises:
            OverloadError: it would take too long.
        """
        if not self._taken:
            self._taken, self._empty_s = True, self._clock()
            asyncio.get_running_loop().call_soon(self._next)
            return
        if self.full():
            raise overload()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((self._clock(), future))
        await future

    def _longest(self, now: float) -> float:
        return BURST_S if now - self._empty_s < BURST_S else TARGET_S

    def _next(self) -> None:
        """Give the turn to the first who has not waited too long."""
        now = self._clock()
        longest = self._longest(now)
        while self._waiting:
            since, future = self._waiting.popleft()
            if future.done():  # its caller went away
                continue
            if now - since > longest and len(self._waiting) >= FEW:
                future.set_exception(overload())
                continue
            future.set_result(None)
            asyncio.get_running_loop().call_soon(self._next)
            return
        self._taken, self._empty_s = False, now
