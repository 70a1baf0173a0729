"""Drives a server from a process of its own: `python -m bench.serving.load JSON` prints one JSON object.

Open loop at `rate` requests a second, at moments drawn as a Poisson process, whatever the server does; a latency
counts from the moment at which a request was due, so waiting for a free connection is in it (what is called
coordinated omission is not left out). SIGTERM ends it early. Without a rate each connection asks again once it has its answer, and connects
again where the server is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .system import PATH, System

AGAIN_S = 0.02
"""Pause before a connection that was refused or lost is made again."""
SETTLE_S = 0.3
"""For connections to be made, and for answers to come that are under way."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send where, for how long.

    Attributes:
        bodies: A request in each line; taken in turn from `first` on.
        rate: Requests a second; 0 sends as fast as answers come.
        pause_s: Of each connection between an answer and its next request, without a rate.
        log: Where each answer is noted, a line of `sent received status id arm version`; empty for nowhere.
    """

    port: int
    token: str
    bodies: str
    seconds: float
    connections: int = 8
    rate: float = 0
    pause_s: float = 0
    first: int = 0
    path: str = PATH
    log: str = ""

    @classmethod
    def on(cls, system: System, seconds: float, **others: Any) -> Load:
        """On a server that runs."""
        return cls(system.port, system.token, str(system.bodies), seconds, **others)

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, in a process of its own."""
        command = [sys.executable, "-m", "bench.serving.load", json.dumps(asdict(self))]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def run(self) -> dict[str, Any]:
        """What was found, once it is over."""
        return result_of(self.start())


def result_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a load that was started says in the end."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return dict(json.loads(said))


class _Driver:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.loop = asyncio.get_running_loop()
        head = f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {load.token}\r\nContent-Length: "
        lines = Path(load.bodies).read_bytes().splitlines()
        self.requests = [f"{head}{len(line)}\r\n\r\n".encode() + line for line in lines]
        self.at = load.first
        self.idle: deque[_Connection] = deque()
        self.due: deque[float] = deque()
        self.latencies: dict[int, list[float]] = {}
        self.codes: Counter[str] = Counter()
        self.lost = 0
        self.over = False
        self.log: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def connect(self, delay: float = 0) -> None:
        task = self.loop.create_task(self._connect(delay))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, delay: float) -> None:
        await asyncio.sleep(delay)
        while not self.over:
            try:
                await self.loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.load.port)
                return
            except OSError:
                await asyncio.sleep(AGAIN_S)

    def next(self) -> bytes:
        self.at += 1
        return self.requests[self.at % len(self.requests)]

    def free(self, connection: _Connection) -> None:
        """A connection can take a request: the oldest that is due, or none yet."""
        if self.over and not self.due:
            return
        if not self.load.rate:
            if self.load.pause_s:
                self.loop.call_later(self.load.pause_s, lambda: connection.send(time.perf_counter()))
            else:
                connection.send(time.perf_counter())
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)

    def pace(self, due: float, end: float) -> None:
        """Send what is due and come again for the next."""
        now = time.perf_counter()
        while due <= now and due < end:
            if self.idle:
                self.idle.popleft().send(due)
            else:
                self.due.append(due)
            due += random.expovariate(self.load.rate)
        if due < end:
            self.loop.call_later(due - now, self.pace, due, end)

    async def run(self) -> dict[str, Any]:
        for _ in range(self.load.connections):
            self.connect()
        cpu, began = time.process_time(), time.perf_counter()
        stop = asyncio.Event()
        self.loop.add_signal_handler(signal.SIGTERM, stop.set)
        if self.load.rate:
            await asyncio.sleep(SETTLE_S)
            began = time.perf_counter()
            self.pace(began, began + self.load.seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self.load.seconds)
        seconds, self.over = time.perf_counter() - began, True
        await asyncio.sleep(SETTLE_S)  # for what is under way
        cpu = time.process_time() - cpu
        if self.load.log:
            Path(self.load.log).write_text("".join(self.log))
        good = sorted(self.latencies.get(200, [0.0]))
        return {
            "per_s": len(self.latencies.get(200, ())) / seconds,
            "p50_ms": good[len(good) // 2] * 1e3,
            "p99_ms": good[int(len(good) * 0.99)] * 1e3,
            "statuses": {str(status): len(found) for status, found in self.latencies.items()},
            "codes": dict(self.codes),
            "lost": self.lost,
            "unsent": len(self.due),
            "generator_cpu_s": cpu,
        }


class _Connection(asyncio.Protocol):
    """One request at a time over one connection that is kept."""

    def __init__(self, driver: _Driver) -> None:
        self.driver = driver
        self.due = self.sent = 0.0
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.driver.free(self)

    def send(self, due: float) -> None:
        if self.transport.is_closing():
            return
        self.due, self.sent = due, time.time()
        self.transport.write(self.driver.next())

    def data_received(self, data: bytes) -> None:
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.data.lower().find(b"content-length:", 0, head)
        length = int(self.data[at + 15 : self.data.find(b"\r", at)])
        if len(self.data) < head + 4 + length:
            return
        status, body = int(self.data[9:12]), self.data[head + 4 :]
        self.data, due, self.due = b"", self.due, 0.0
        self.driver.latencies.setdefault(status, []).append(time.perf_counter() - due)
        if status != 200:
            self.driver.codes[body.partition(b'"code":"')[2].partition(b'"')[0].decode()] += 1
        if self.driver.load.log:
            said = json.loads(body)
            found = [said.get(name, "-") for name in ("prediction_id", "arm", "version")]
            self.driver.log.append(f"{self.sent} {time.time()} {status} {' '.join(found)}\n")
        self.driver.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.due:
            self.driver.lost += 1
        if self in self.driver.idle:
            self.driver.idle.remove(self)
        if not self.driver.over:
            self.driver.connect(AGAIN_S)


def main() -> None:
    """Drive as the first argument says."""
    load = Load(**json.loads(sys.argv[1]))
    # select() takes microseconds, epoll only milliseconds: too coarse for pacing.
    random.seed(1)
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)

    async def drive() -> dict[str, Any]:
        return await _Driver(load).run()

    print(json.dumps(loop.run_until_complete(drive())))


if __name__ == "__main__":
    main()
