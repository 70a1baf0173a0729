"""Answers that outcomes name and the keeper has not at hand: looked for in a thread, for all who ask at once.

A look reads what has come into the journal, whether for one id or for hundreds. So there is one at a time, and who
comes while it runs waits for the next, together with all the others who do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from .admission import overload

MOST_WAITING = 400
"""Requests that wait for the next look, of the connections a worker has; beyond, they are shed."""
MOST_IDS = 50_000
"""Ids that they may ask for together: they are gone through in the thread that answers."""
Found = TypeVar("Found")


class LookUps(Generic[Found]):
    """Looks for ids in a thread.

    Args:
        begin: Given some ids, in the thread that answers, it gives what finds them in another.
    """

    def __init__(self, begin: Callable[[Collection[str]], Callable[[], Mapping[str, Found]]]) -> None:
        self._begin = begin
        self._waiting: list[tuple[Collection[str], asyncio.Future[dict[str, Found]]]] = []
        self._work: asyncio.Task[None] | None = None

    async def find(self, identifiers: Collection[str]) -> dict[str, Found]:
        """What there is of some ids, as of a moment after they were asked for.

        Raises:
            OverloadError: too many wait already.
        """
        asked = sum(len(others) for others, _ in self._waiting)
        if len(self._waiting) >= MOST_WAITING or (asked and asked + len(identifiers) > MOST_IDS):
            raise overload("too many outcomes at once of answers that must be looked for")
        future: asyncio.Future[dict[str, Found]] = asyncio.get_running_loop().create_future()
        self._waiting.append((identifiers, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._look_for_all())
        return await future

    async def _look_for_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            wanted = {one for identifiers, _ in waiting for one in identifiers}
            look = asyncio.create_task(self._look(wanted))
            await asyncio.wait([look])
            error = look.exception()
            for identifiers, future in waiting:
                if future.done():  # its caller went away
                    continue
                if error is not None:
                    future.set_exception(error)
                else:
                    found = look.result()
                    future.set_result({one: found[one] for one in identifiers if one in found})
                await asyncio.sleep(0)  # others are answered in between

    async def _look(self, wanted: Collection[str]) -> Mapping[str, Found]:
        return await asyncio.to_thread(self._begin(wanted))
