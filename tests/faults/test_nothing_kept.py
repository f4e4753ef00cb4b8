"""What is over is let go: calls, streams and their messages leave nothing behind, and need no collector to go."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast import Context, Refused, Service
from holdfast.rpc.desk import Incall
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.streams import ItemBuffer
from holdfast.tasks import HandlerTask

CALLS = 50


def make_service() -> Service:
    service = Service("room")

    @service.method
    async def echo(value: int) -> int:
        return value

    @service.method
    async def bulk(body: bytes) -> bytes:
        return body

    @service.method
    async def suspends(value: int) -> int:
        await asyncio.sleep(0)
        return value

    @service.method
    async def refuses(ctx: Context) -> int:
        raise Refused("no", code="aborted")

    @service.method
    async def counts(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @service.method
    async def first_of(numbers: AsyncIterator[int]) -> int:
        return await anext(aiter(numbers))

    @service.method
    async def none_of(numbers: AsyncIterator[int]) -> int:
        return 0

    @service.method
    async def adds(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    return service


async def three() -> AsyncIterator[int]:
    for number in range(3):
        yield number


async def one_of_each(client: holdfast.Client) -> None:
    assert await client.call("room.echo", 1, returns=int) == 1
    assert await client.using(trailers=lambda method, trailers: None).call("room.echo", 1, returns=int) == 1
    assert await client.call("room.bulk", bytes(64 * 1024), returns=bytes) == bytes(64 * 1024)
    assert await client.call("room.bulk", bytes(300_000), returns=bytes) == bytes(300_000)
    assert await client.call("room.suspends", 1, returns=int) == 1
    with pytest.raises(Refused):
        await client.call("room.refuses")
    assert [number async for number in client.stream("room.counts", 3, returns=int)] == [0, 1, 2]
    async with client.stream("room.counts", 1000, returns=int) as numbers:  # and leave it
        assert await anext(numbers) == 0
    assert await client.call("room.adds", three(), returns=int) == 3
    assert await client.call("room.first_of", three(), returns=int) == 0
    assert await client.call("room.none_of", three(), returns=int) == 0
    sleeping = asyncio.get_running_loop().create_task(client.call("room.suspends", 1, returns=int))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.wait([sleeping])


def kept() -> dict[str, int]:
    """How many records of calls there are, after a collection."""
    gc.collect()
    found = {kind.__name__: 0 for kind in (Outcall, Incall, HandlerTask, ItemBuffer)}
    for thing in gc.get_objects():
        name = type(thing).__name__
        if name in found and isinstance(thing, Outcall | Incall | HandlerTask | ItemBuffer):
            found[name] += 1
    return found


@pytest.mark.both_loops
async def test_calls_that_are_over_leave_nothing_behind() -> None:
    async with (
        holdfast.serve(make_service(), bind="tcp://127.0.0.1:0") as server,
        holdfast.connect(server.addresses[0]) as client,
    ):
        await one_of_each(client)
        before = kept()
        for _ in range(CALLS):
            await one_of_each(client)
        await client.call("room.echo", 1, returns=int)  # the server has seen all cancels before it
        after = kept()
        assert {name: after[name] - before[name] for name in after if after[name] - before[name] > 2} == {}


CLIENTS = 50
OBJECTS_MAX = 115
"""Of a client with one connection and of the server's end of that, 102 together. The collector goes through all of them, again and
again: with twice as many, opening thousands of clients takes half as long again."""


async def test_a_client_is_made_of_few_objects() -> None:
    async with holdfast.serve(make_service(), bind="tcp://127.0.0.1:0") as server:

        async def opened() -> holdfast.Client:
            client = holdfast.connect(server.addresses[0])
            await client.__aenter__()
            assert await client.call("room.echo", 1, returns=int) == 1
            return client

        clients = [await opened() for _ in range(CLIENTS)]
        gc.collect()
        before = len(gc.get_objects())
        clients += [await opened() for _ in range(CLIENTS)]
        gc.collect()
        after = len(gc.get_objects())
        for client in clients:
            await client.close()
        assert (after - before) / CLIENTS <= OBJECTS_MAX


async def test_a_call_that_was_answered_goes_without_a_collector() -> None:
    async with holdfast.testing.client(make_service()) as client:
        await client.call("room.echo", 1, returns=int)
        gc.collect()
        gc.disable()
        try:
            before = [thing for thing in gc.get_objects() if isinstance(thing, Outcall | Incall | HandlerTask)]  # of other tests
            for _ in range(CALLS):
                await client.call("room.echo", 1, returns=int)
                await client.call("room.suspends", 1, returns=int)
            alive = [thing for thing in gc.get_objects() if isinstance(thing, Outcall | Incall | HandlerTask)]
            assert len(alive) - len(before) <= 2
        finally:
            gc.enable()
