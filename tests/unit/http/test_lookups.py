"""Looks for answers that outcomes name: one at a time, for all who ask, and none who asked late is told what was before."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Collection
from typing import Any

import pytest

from icekeel.core.errors import OverloadError
from icekeel.http import lookups
from icekeel.http.lookups import LookUps
from icekeel.testing.small import REQUEST

from .conftest import NOW, Client, Got, _call

LATE = {"depot": "north", "minutes_late": 40.0, "delivered_at": NOW + 60_000_000}


class Looked:
    """Finds every id; each look waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.go = threading.Semaphore(0)
        self.at_once = 0

    def __call__(self, identifiers: Collection[str]) -> Callable[[], dict[str, int]]:
        return lambda: self.look(identifiers)

    def look(self, identifiers: Collection[str]) -> dict[str, int]:
        self.at_once += 1
        assert self.at_once == 1
        self.asked.append(set(identifiers))
        self.go.acquire()
        self.at_once -= 1
        if "bad" in identifiers:
            raise ValueError("bad")
        return {one: len(self.asked) for one in identifiers if one != "unknown"}


async def begun(looked: Looked, looks: int) -> None:
    while len(looked.asked) < looks:
        await asyncio.sleep(0.001)


def test_who_comes_during_a_look_shares_the_next_with_all_others_who_do() -> None:
    async def run() -> None:
        looked = Looked()
        found = LookUps(looked)
        first = asyncio.create_task(found.find(["a"]))
        await begun(looked, 1)
        others = [asyncio.create_task(found.find([f"b{number}", "unknown"])) for number in range(50)]
        gone = asyncio.create_task(found.find(["gone"]))
        same = asyncio.create_task(found.find(["a"]))  # what the first look has read is too old for it
        await asyncio.sleep(0)
        gone.cancel()
        looked.go.release(2)
        assert await first == {"a": 1}
        assert [await one for one in others] == [{f"b{number}": 2} for number in range(50)]
        assert await same == {"a": 2}
        assert len(looked.asked) == 2
        looked.go.release()
        assert await found.find(["c"]) == {"c": 3}

    asyncio.run(run())


def test_a_look_that_fails_fails_for_those_who_share_it_and_the_next_goes_on() -> None:
    async def run() -> None:
        looked = Looked()
        found = LookUps(looked)
        looked.go.release(2)
        failed = await asyncio.gather(found.find(["a"]), found.find(["bad"]), return_exceptions=True)
        assert [type(one) for one in failed] == [ValueError, ValueError]
        assert await found.find(["c"]) == {"c": 2}

    asyncio.run(run())


@pytest.mark.parametrize("bound", ["MOST_WAITING", "MOST_IDS"])
def test_beyond_a_bound_of_those_who_wait_one_is_shed(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, bound, 3)

    async def run() -> None:
        looked = Looked()
        found = LookUps(looked)
        waiting = [asyncio.create_task(found.find([str(number)])) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError):
            await found.find(["more"])
        looked.go.release(2)
        await asyncio.gather(*waiting)
        assert await found.find(["more"]) == {"more": 2}

    asyncio.run(run())


def test_many_outcomes_at_once_of_answers_the_keeper_has_not_seen_are_all_taken(client: Client) -> None:
    ids = [
        client.predict({**REQUEST, "parcel_id": f"p{number}"}).json["prediction_id"] for number in range(60)
    ]
    headers = {
        "host": "127.0.0.1:8000",
        "authorization": f"Bearer {client.token}",
        "content-type": "application/json",
    }

    async def run() -> list[Got]:
        bodies: list[Any] = [{"rows": [{"prediction_id": one, **LATE}]} for one in ids]
        calls = [
            _call(client.server, "POST", "/v1/outcomes", headers, [json.dumps(body).encode()])
            for body in bodies
        ]
        return await asyncio.gather(*calls)

    client.server.service._connect(None)  # no index is at hand, as where the keeper is behind
    assert [(got.status, got.json["kept"]) for got in asyncio.run(run())] == [(200, 1)] * 60
