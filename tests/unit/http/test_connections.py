"""What a caller can make a connection hold, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from icekeel.http.connections import LARGEST_HEAD, SLOWEST_HEAD_S, BoundedProtocol, hang_up

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
    await send({"type": "http.response.body", "body": b"%8d" % size})


@asynccontextmanager
async def listening(
    full: Callable[[], bool] = lambda: False,
) -> AsyncIterator[tuple[Callable[[], Awaitable[Streams]], ServerState]]:
    """How to connect, and the connections that there are."""
    config = uvicorn.Config(echo, log_level="critical", ws="none")
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: BoundedProtocol(config, state, {}, full=full, shed=lambda: None), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    try:
        yield lambda: asyncio.open_connection("127.0.0.1", port), state
    finally:
        for one in list(state.connections):
            one.transport.close()
        server.close()
        await server.wait_closed()


async def size_of(streams: Streams, body: bytes) -> int:
    """Send a whole request and read what comes back."""
    reader, writer = streams
    writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return int(await reader.readexactly(8))


def test_large_bodies_and_many_requests_are_no_large_heads() -> None:
    async def run() -> None:
        async with listening() as (connect, state):
            streams = await connect()
            for size in (0, 3, 5 * LARGEST_HEAD, 10 * LARGEST_HEAD, 0, 7):
                assert await size_of(streams, b"x" * size) == size
            hang_up(state.connections, asyncio.get_running_loop().time() + 10 * SLOWEST_HEAD_S)
            assert await size_of(streams, b"between two requests uvicorn's own time counts") == 46
            streams[1].close()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_too_much_is_refused_before_it_is_answered_and_the_connection_goes_on() -> None:
    async def run() -> tuple[bytes, bytes]:
        too_much = [True]
        async with listening(lambda: too_much[0]) as (connect, _):
            reader, writer = streams = await connect()
            body = b"content-length: 9\r\nx-request-id: a-1\r\n\r\n123456789"
            writer.write(HEAD + body)
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.partition(b"content-length: ")[2].split()[0])
            said = await reader.readexactly(size)
            too_much[0] = False
            assert await size_of(streams, b"1234") == 4
            writer.close()
            return head, said

    head, said = asyncio.run(asyncio.wait_for(run(), 10))
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in head
    assert b"\r\nx-request-id: a-1\r\n" in head
    assert b"urn:icekeel:overload" in said


def test_too_many_connections_are_told_and_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icekeel.http.connections.MOST_CONNECTIONS", 2)

    async def run() -> tuple[bytes, int]:
        async with listening() as (connect, _):
            first, second = await connect(), await connect()
            assert await size_of(first, b"1") == 1
            assert await size_of(second, b"12") == 2
            third = await connect()
            third[1].write(HEAD + b"content-length: 3\r\n\r\n123")
            said = await third[0].read()
            again = await size_of(first, b"1234")
            for one in (first, second, third):
                one[1].close()
            return said, again

    said, again = asyncio.run(asyncio.wait_for(run(), 10))
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in said
    assert b"urn:icekeel:overload" in said
    assert again == 4


@pytest.mark.parametrize("start", [b"", HEAD + b"content-length: 0\r\n\r\n"])
def test_a_head_without_end_is_cut(start: bytes) -> None:
    async def run() -> bytes:
        async with listening() as (connect, _):
            reader, writer = await connect()
            if start:
                writer.write(start)
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(8)
            writer.write(HEAD)
            sent = 0
            try:
                while sent < 100 * LARGEST_HEAD:
                    writer.write(b"a: " + b"b" * 1_000 + b"\r\n")
                    sent += 1_000
                    await writer.drain()
                    await asyncio.sleep(0)
                return await reader.read()
            except ConnectionError:
                return b"cut"
            finally:
                assert sent < 50 * LARGEST_HEAD
                writer.close()

    said = asyncio.run(asyncio.wait_for(run(), 10))
    assert said == b"cut" or said.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("before", [0, 1])
def test_a_head_that_is_too_large_is_refused_though_it_comes_at_once(before: int) -> None:
    async def run() -> tuple[bytes, int]:
        async with listening() as (connect, _):
            reader, writer = streams = await connect()
            for _ in range(before):
                assert await size_of(streams, b"123") == 3
            writer.write(HEAD + b"a: " + b"b" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n")
            try:
                said = await reader.read()
            except ConnectionError:  # what it had not read yet is sent back
                said = b"cut"
            writer.close()
            other = await connect()  # as large as may be, its end and a body in parts
            head = HEAD + b"a: " + b"b" * (LARGEST_HEAD - 200) + b"\r\ncontent-length: 40000\r\n\r"
            other[1].write(head)
            await other[1].drain()
            await asyncio.sleep(0.01)
            other[1].write(b"\n" + b"x" * 40_000)
            await other[0].readuntil(b"\r\n\r\n")
            size = int(await other[0].readexactly(8))
            other[1].close()
            return said, size

    said, size = asyncio.run(asyncio.wait_for(run(), 10))
    assert said == b"cut" or said.startswith(b"HTTP/1.1 431 ")
    assert size == 40_000


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_who_does_not_finish_a_head_is_hung_up_on(sent: bytes) -> None:
    async def run() -> bytes:
        async with listening() as (connect, state):
            reader, writer = await connect()
            writer.write(sent)
            await writer.drain()
            made = cast(set[BoundedProtocol], state.connections)
            while not any((one.scope is not None) == bool(sent) for one in made):  # it is read
                await asyncio.sleep(0.001)
            now = asyncio.get_running_loop().time()
            hang_up(state.connections, now + SLOWEST_HEAD_S - 5)
            assert len(state.connections) == 1
            hang_up(state.connections, now + SLOWEST_HEAD_S + 5)
            said = await reader.read()
            writer.close()
            return said

    assert asyncio.run(asyncio.wait_for(run(), 10)).startswith(b"HTTP/1.1 408 ")
