"""History played again through the real server: events as they became known, questions as they were asked.

The online state is bitemporal, so events may be pushed a step ahead of the questions: a question at `t` still sees
exactly what was known at `t`. That lets the keeper project one step while the server answers another.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY, MINUTE, format_duration

_json = msgspec.json.Encoder().encode
LARGEST_PUSH = 2_000
AHEAD = 2
"""Steps that are pushed before the first of them is asked about, so that the keeper is never waited for."""
LONGEST_STEP = DAY // (2 * AHEAD)
PATIENCE_S = 600.0
UNWRITTEN_S = 0.1
"""Real time that a virtual minute takes in which the server cannot write."""
MOST_TOGETHER = 250
"""Questions of one moment that are asked in one request."""
STALE_S = 2.0
"""A connection that rested longer is opened anew: the server may have closed it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of history, `(start, end]`.

    Attributes:
        events: Table -> rows that became available in it, in that order.
        questions: Time and body of each request asked in it, in order of time.
    """

    start: int
    end: int
    events: Mapping[str, Sequence[Mapping[str, Any]]]
    questions: Sequence[tuple[int, Mapping[str, Any]]]


Asked = Sequence[tuple[int, Mapping[str, Any]]]
"""Questions and when each is asked, in that order."""


@dataclass(frozen=True, slots=True)
class Minutes:
    """How a replay goes minute by minute, as a rehearsal does.

    Attributes:
        due: Whether something is done at the beginning of a minute for which the keeper must have come so far.
        before: Told the beginning of each minute before anything of it happens.
        answered: Told the questions of one moment, and for each its answer or the faults that it met.
        revive: Starts again what has died; called where the server does not answer.
        patience_s: How long the keeper is waited for at the end of the minute that begins at a time: 0 where nothing
            depends on it, for ever where what it decides changes answers.
    """

    due: Callable[[int], bool]
    before: Callable[[int], None]
    answered: Callable[[Asked, Sequence[Mapping[str, Any]]], None]
    revive: Callable[[], None]
    patience_s: Callable[[int], float]


@dataclass(slots=True)
class Played:
    """What a replay did.

    Attributes:
        failed: Status and body of answers that were not 200, the first hundred.
        latency_us: Wall time of each request as the caller saw it.
    """

    asked: int = 0
    answered: int = 0
    pushed: int = 0
    quarantined: int = 0
    failed: list[str] = field(default_factory=list)
    latency_us: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Connection:
    """One keep-alive HTTP connection to a server on this machine."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = (
            f"\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0
        self._turn = asyncio.Lock()

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer; one request at a time."""
        async with self._turn:
            return await self._send(method, path, body)

    async def _send(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._streams is None or time.monotonic() - self._used > STALE_S:
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        start = head.index(b"content-length:") + 15
        length = int(head[start : head.index(b"\r\n", start)])
        answer = await reader.readexactly(length)
        self._used = time.monotonic()
        return int(head[9:12]), answer

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Replay:
    """Plays steps through a server that runs in rehearsal.

    Args:
        model: Whose questions are asked.
        port: The server's.
        token: With the scope `admin`.
        alive: Raises if a process that is needed has died; called while waiting.
        connections: Questions under way at once.
        minutes: Where given, the clock moves every minute, and the questions of one moment are asked together.
    """

    def __init__(
        self,
        model: str,
        port: int,
        token: str,
        *,
        alive: Callable[[], None],
        connections: int = 3,
        minutes: Minutes | None = None,
    ) -> None:
        self._path = f"/v1/predict/{model}"
        self._minutes = minutes
        self._alive = alive
        self._control, self._clock = Connection(port, token), Connection(port, token)
        self._sending = asyncio.Lock()
        self._askers = [Connection(port, token) for _ in range(connections)]
        self.played = Played()
        self._before = 0
        self._kept: Counter[int] = Counter()
        self._unsent: deque[tuple[int, str, Sequence[Mapping[str, Any]]]] = deque()

    def play(self, steps: Iterable[Step], on_day: Callable[[int, Played], None]) -> Played:
        """Play all steps; `on_day` is told each midnight that has passed.

        Raises:
            StateError: the server or the keeper does not follow.
        """
        began = time.monotonic()
        asyncio.run(self._play(steps, on_day))
        self.played.seconds = time.monotonic() - began
        return self.played

    async def _play(self, steps: Iterable[Step], on_day: Callable[[int, Played], None]) -> None:
        self._before = int((await self._keeper())["pushed"])
        ahead: deque[Step] = deque()
        source = iter(steps)
        for step in islice(source, AHEAD):
            ahead.append(step)
            await self._push(step)
        pushed = 0
        while ahead:
            step = ahead.popleft()
            pushed += self._kept.pop(step.end, 0)
            await self._wait("pushed", self._before + pushed)
            following = next(source, None)
            asking = asyncio.ensure_future(self._ask_all(step))
            if following is not None:
                ahead.append(following)
                await self._push(following)
            await asking
            if step.end % DAY == 0 or not ahead:
                await self._tick(step.end, PATIENCE_S)
                on_day(step.end, self.played)
        for connection in (self._control, self._clock, *self._askers):
            connection.close()

    async def _push(self, step: Step) -> None:
        if step.end - step.start > LONGEST_STEP:
            raise ValueError(
                f"a step of at most {format_duration(LONGEST_STEP)}: the windows forget after a day"
            )
        for table, rows in step.events.items():
            for first in range(0, len(rows), LARGEST_PUSH):
                self._unsent.append((step.end, table, rows[first : first + LARGEST_PUSH]))
        await self._send()

    async def _send(self) -> None:
        """Push what is left to push; what is not taken because the server cannot write is kept for later."""
        async with self._sending:
            while self._unsent:
                end, table, rows = self._unsent[0]
                answer = await self._call("POST", f"/v1/events/{table}", {"rows": rows})
                if answer is None:
                    return
                self._unsent.popleft()
                reply = msgspec.json.decode(answer)
                self.played.pushed += reply["kept"]
                self._kept[end] += reply["kept"]
                self.played.quarantined += len(reply["quarantined"])

    async def _ask_all(self, step: Step) -> None:
        if self._minutes is None:
            await asyncio.gather(*(self._ask(step, place) for place in range(len(self._askers))))
        else:
            await self._ask_by_minute(step, self._minutes)

    async def _ask_by_minute(self, step: Step, minutes: Minutes) -> None:
        place, asked = 0, step.questions
        for start in range(step.start, step.end, MINUTE):
            if minutes.due(start):
                await self._wait("now", start)
            minutes.before(start)
            if minutes.patience_s(start):
                await self._keeper()  # the server takes over what the registry says before it is asked on
            parts: list[Asked] = []
            while place < len(asked) and asked[place][0] <= start + MINUTE:
                first, at = place, asked[place][0]
                while place < len(asked) and asked[place][0] == at and place < first + MOST_TOGETHER:
                    place += 1
                parts.append(asked[first:place])
            shares = [parts[number :: len(self._askers)] for number in range(len(self._askers))]
            replies = await asyncio.gather(
                *(
                    self._ask_parts(one, share, minutes)
                    for one, share in zip(self._askers, shares, strict=True)
                )
            )
            for number, part in enumerate(parts):
                found = replies[number % len(replies)][number // len(replies)]
                minutes.answered(part, found)
            if self._unsent and start + MINUTE < step.end:
                await self._send()
            await self._tick(start + MINUTE, minutes.patience_s(start))

    async def _ask_parts(
        self, connection: Connection, parts: Sequence[Asked], minutes: Minutes
    ) -> list[Sequence[Mapping[str, Any]]]:
        """For each question of each part its answer, or `faults`."""
        found: list[Sequence[Mapping[str, Any]]] = []
        for part in parts:
            body = _json({"rows": [request for _, request in part], "asked_at": part[0][0]})
            status, reply = await self._again(connection, "POST", self._path, body)
            decoded = msgspec.json.decode(reply)
            answers = decoded["answers"] if status == 200 else [{"faults": [decoded]}] * len(part)
            self.played.asked += len(part)
            self.played.answered += sum("prediction" in one for one in answers)
            found.append(answers)
        return found

    async def _again(self, connection: Connection, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """The answer, asked for again where the server died on it."""
        began = time.monotonic()
        while True:
            try:
                return await connection.send(method, path, body)
            except (OSError, EOFError):  # an incomplete read is one
                if self._minutes is None or time.monotonic() - began > PATIENCE_S:
                    raise
                connection.close()
                await asyncio.to_thread(self._minutes.revive)

    async def _tick(self, now: int, patience_s: float) -> None:
        if await self._call("POST", "/v1/clock", {"now": now}, self._clock) is None:
            await asyncio.sleep(UNWRITTEN_S)
        elif patience_s:
            await self._wait("now", now, patience_s)

    async def _ask(self, step: Step, place: int) -> None:
        """Every n-th question, so that connections share the work without a queue."""
        connection, played = self._askers[place], self.played
        for asked_at, request in step.questions[place :: len(self._askers)]:
            began = time.perf_counter_ns()
            status, body = await connection.send("POST", self._path, _json({**request, "asked_at": asked_at}))
            played.latency_us.append((time.perf_counter_ns() - began) / 1000)
            played.asked += 1
            if status == 200:
                played.answered += 1
            elif len(played.failed) < 100:
                played.failed.append(f"{status} {body.decode(errors='replace')[:500]}")

    async def _call(
        self, method: str, path: str, body: Any = None, by: Connection | None = None
    ) -> bytes | None:
        """What was answered; None where the server could not write, as a rehearsal may have it."""
        sent = b"" if body is None else _json(body)
        status, answer = await self._again(by or self._control, method, path, sent)
        if status == 503 and self._minutes is not None:
            return None
        if status != 200:
            raise StateError(
                Fault(
                    "replay_refused", f"{method} {path} was refused: {answer.decode(errors='replace')[:300]}"
                )
            )
        return answer

    async def _keeper(self) -> dict[str, int]:
        status = await self._call("GET", "/v1/status") or b'{"keeper":{"pushed":0,"now":0}}'
        found: dict[str, int] = msgspec.json.decode(status)["keeper"]
        return found

    async def _wait(self, name: str, value: int, patience_s: float = PATIENCE_S) -> None:
        """Until the keeper is as far as `value`; where patience is short, no longer than that.

        Raises:
            StateError: it never is.
        """
        began = time.monotonic()
        while True:
            keeper = await self._keeper()
            if keeper[name] >= value:
                return
            waited = time.monotonic() - began
            if waited > patience_s < PATIENCE_S:
                return
            if waited > PATIENCE_S:
                raise StateError(
                    Fault(
                        "keeper_behind",
                        f"the keeper does not follow: {name} is {keeper[name]}, {value} expected",
                    )
                )
            self._alive()
            await asyncio.sleep(min(0.001 + waited / 10, 0.2))  # late by a tenth at most
