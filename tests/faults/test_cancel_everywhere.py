"""Cancellation at every await of every public coroutine, when it begins to wait and when it was just woken: nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest

import holdfast
from holdfast.net.memory import MemoryNetwork
from holdfast.wire import Settings

from .helpers import PATIENCE_S, Rig, Steps, cancel_everywhere, rig, until

svc = holdfast.Service("t")
SMALL = Settings(frame_max_bytes=1024, stream_window_bytes=4096, connection_window_bytes=16 * 1024)


@svc.method
async def slow(text: str) -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return text


@svc.method
async def quick(text: str) -> str:
    return text


@svc.method
def plain(text: str) -> str:
    return text


@svc.method(blocking=True)
def threaded(text: str) -> str:
    return text


@svc.method
async def items(n: int) -> AsyncIterator[bytes]:
    for _ in range(n):
        await asyncio.sleep(0)
        yield bytes(1000)


@svc.method
async def total(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


@svc.method
async def both(chunks: AsyncIterator[bytes]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield len(chunk)


class Quick(Protocol):
    async def quick(self, text: str) -> str: ...


class Source:
    """Chunks to send, and whether whoever took them also closed them."""

    open = 0

    def __init__(self, n: int) -> None:
        self.n = n

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks()

    async def chunks(self) -> AsyncIterator[bytes]:
        Source.open += 1
        try:
            for _ in range(self.n):
                await asyncio.sleep(0)
                yield bytes(1000)
        finally:
            Source.open -= 1


async def call_slow(client: holdfast.Client) -> None:
    assert await client.call("t.slow", "x", returns=str) == "x"


async def call_quick(client: holdfast.Client) -> None:
    assert await client.call("t.quick", "x", returns=str) == "x"


async def call_plain(client: holdfast.Client) -> None:
    assert await client.call("t.plain", "x", returns=str) == "x"


async def call_threaded(client: holdfast.Client) -> None:
    assert await client.call("t.threaded", "x", returns=str) == "x"


async def call_in_pieces(client: holdfast.Client) -> None:
    assert await client.call("t.slow", "x" * 40_000, returns=str) == "x" * 40_000


async def call_with_attempts(client: holdfast.Client) -> None:
    assert await client.using(attempts=3, deadline=5.0, wait_for_ready=True).call("t.slow", "x", returns=str) == "x"


async def call_without_deadline(client: holdfast.Client) -> None:
    assert await client.call("t.slow", "x", returns=str, deadline=None) == "x"


async def upload(client: holdfast.Client) -> None:
    assert await client.call("t.total", chunks=Source(20).chunks(), returns=int) == 20_000


async def stream(client: holdfast.Client) -> None:
    async with client.stream("t.items", n=20, returns=bytes) as answer:
        assert len([item async for item in answer]) == 20


async def stream_with_limits(client: holdfast.Client) -> None:
    async with client.stream("t.items", n=20, returns=bytes, idle=5.0, deadline_total=10.0) as answer:
        assert len([item async for item in answer]) == 20


async def stream_left_early(client: holdfast.Client) -> None:
    async with client.stream("t.items", n=2000, returns=bytes) as answer:
        async for _ in answer:
            break


async def duplex(client: holdfast.Client) -> None:
    async with client.stream("t.both", chunks=Source(20).chunks(), returns=int) as answer:
        assert [size async for size in answer] == [1000] * 20


async def ready(client: holdfast.Client) -> None:
    await client.ready(deadline=5.0)


async def catalogue(client: holdfast.Client) -> None:
    assert (await client.catalogue()).find("t.quick") is not None


CALLS: dict[str, Callable[[holdfast.Client], Awaitable[None]]] = {
    f.__name__: f
    for f in (
        call_slow,
        call_quick,
        call_plain,
        call_threaded,
        call_in_pieces,
        call_with_attempts,
        call_without_deadline,
        upload,
        stream,
        stream_with_limits,
        stream_left_early,
        duplex,
        ready,
        catalogue,
    )
}


async def nothing_left(here: Rig) -> None:
    """Everything is as before, the connection included: it answers the next call."""
    await here.clean()
    await until(lambda: Source.open == 0, lambda: f"{Source.open} sources were not closed")
    assert await here.client.call("t.quick", "after", returns=str) == "after"
    assert not here.leftovers()
    assert here.theirs


@pytest.mark.both_loops
@pytest.mark.parametrize("name", CALLS)
async def test_cancel_at_every_await_of_a_call(name: str) -> None:
    config = holdfast.ClientConfig(wire=SMALL)
    async with rig(svc, client_config=config, wire=SMALL) as here:
        tasks = len(asyncio.all_tasks())
        connections = len(here.theirs)

        async def after() -> None:
            await nothing_left(here)
            assert len(asyncio.all_tasks()) == tasks
            assert len(here.theirs) == connections, "a cancelled call must not cost the connection"

        suspensions = await cancel_everywhere(lambda: CALLS[name](here.client), after)
        assert suspensions >= (0 if name in ("ready", "catalogue") else 1)


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "memory://fresh"])
@pytest.mark.parametrize("name", ["call_quick", "upload", "stream", "duplex", "ready", "catalogue"])
async def test_cancel_at_every_await_of_a_first_call_which_connects(bind: str, name: str) -> None:
    network = MemoryNetwork() if bind.startswith("memory") else None
    async with rig(svc, bind=bind, network=network) as here:

        async def first() -> None:
            async with holdfast.connect(here.url, network=network) as client:
                await CALLS[name](client)

        async def after() -> None:
            await until(lambda: len(here.theirs) == 1, lambda: f"{len(here.theirs)} connections")
            await nothing_left(here)

        assert await cancel_everywhere(first, after) >= 1


@pytest.mark.both_loops
async def test_cancel_at_every_await_of_a_call_that_waits_for_its_place() -> None:
    """One call may be open; one is before us and one behind us. Whenever we give up, the one behind gets its turn.

    The server counts a cancelled call until its handler has ended, so the one behind may be told to come again: it has attempts for that.
    """
    others: list[asyncio.Task[str]] = []
    async with rig(svc, attempts=5, wire=Settings(open_calls_max=1)) as here:

        async def between() -> None:
            loop = asyncio.get_running_loop()
            others.append(loop.create_task(here.client.call("t.slow", "before", returns=str)))
            await asyncio.sleep(0)
            behind = loop.call_soon(lambda: others.append(loop.create_task(here.client.call("t.slow", "behind", returns=str))))
            assert await here.client.call("t.quick", "us", returns=str) == "us"
            assert not behind.cancelled()

        async def after() -> None:
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*others)
            assert set(answers) <= {"before", "behind"}
            others.clear()
            await nothing_left(here)

        assert await cancel_everywhere(between, after) >= 3


@pytest.mark.both_loops
async def test_cancel_at_every_await_of_a_bound_method() -> None:
    async with rig(svc) as here:
        bound = here.client.bind(Quick, service="t")

        async def call() -> None:
            assert await bound.quick("x") == "x"

        await cancel_everywhere(call, lambda: nothing_left(here))


@pytest.mark.both_loops
async def test_cancel_at_every_await_of_opening_and_closing_a_server() -> None:
    opened = 0
    held = holdfast.Service("held")

    @held.method
    async def nothing() -> None:
        return None

    @held.lifespan
    async def lifespan() -> AsyncIterator[int]:
        nonlocal opened
        await asyncio.sleep(0)
        opened += 1
        try:
            yield 1
        finally:
            opened -= 1

    async def whole_life() -> None:
        async with holdfast.serve(held, bind=["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]) as server:
            async with holdfast.connect(server.addresses[0]) as client:
                await client.call("held.nothing")

    tasks = len(asyncio.all_tasks())

    async def after() -> None:
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        assert opened == 0

    assert await cancel_everywhere(whole_life, after) >= 4


async def close_cut_at(at: int, *, woken: bool) -> bool:
    """Close a server with three handlers that never return, cancelled at that suspension; whether it came so far."""
    ended: list[str] = []
    waits = holdfast.Service("waits")

    @waits.method
    async def for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")

    loop = asyncio.get_running_loop()
    server = await holdfast.serve(
        waits, bind="tcp://127.0.0.1:0", config=holdfast.ServerConfig(drain_s=0.02, cancel_grace_s=1.0)
    ).__aenter__()
    async with holdfast.connect(server.addresses[0], attempts=1) as client:
        calls = [loop.create_task(client.call("waits.for_ever")) for _ in range(3)]
        await until(lambda: server.stats().running == 3)
        steps = Steps(at, woken=woken)

        async def close() -> None:
            await steps.drive(server.close())

        closing = loop.create_task(close())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([closing])
            await asyncio.wait(calls)
        assert closing.cancelled() == steps.cancelled
        assert all(isinstance(call.exception(), holdfast.HoldfastError) for call in calls)
        await until(lambda: server.stats().running == server.stats().connections == 0, server.stats)
        assert ended == ["cancelled"] * 3
        async with asyncio.timeout(PATIENCE_S):
            await server.wait_closed()
    return steps.cancelled


@pytest.mark.both_loops
@pytest.mark.parametrize("woken", [False, True])
async def test_cancel_at_every_await_of_a_close_that_drains(woken: bool) -> None:
    """A close cut short cuts what still runs, and closes everything all the same."""
    tasks = len(asyncio.all_tasks())
    at = 1
    while await close_cut_at(at, woken=woken):
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        at += 1
    assert at > 2
