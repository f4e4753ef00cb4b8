"""Many calls on one connection: none waits behind another, all answer, and what is left early is free at once."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast.facts import StreamAbandoned

from .helpers import PATIENCE_S, rig, until

MIB = 1024 * 1024


class Room:
    def __init__(self) -> None:
        self.waiting = 0
        self.ended: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def big(n: int) -> bytes:
            return bytes(n)

        @svc.method
        async def size(data: bytes) -> int:
            return len(data)

        @svc.method
        async def small(n: int) -> int:
            return n

        @svc.method
        async def waits(n: int) -> int:
            self.waiting += 1
            await self.gate
            return n

        @svc.method
        async def ticks(n: int, every: float) -> AsyncIterator[int]:
            try:
                for number in range(n):
                    yield number
                    await asyncio.sleep(every)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            finally:
                self.ended.append("over")


@pytest.mark.both_loops
@pytest.mark.parametrize("direction", ["reply", "request"])
async def test_a_thousand_small_calls_are_answered_while_a_large_message_is_on_its_way(direction: str) -> None:
    room = Room()
    order: list[object] = []
    async with rig(room.service) as here:

        async def large() -> None:
            if direction == "reply":
                assert len(await here.client.call("room.big", 15 * MIB, returns=bytes)) == 15 * MIB
            else:
                assert await here.client.call("room.size", bytes(15 * MIB), returns=int) == 15 * MIB
            order.append("large")

        async def small(n: int) -> None:
            assert await here.client.call("room.small", n, returns=int) == n
            order.append(n)

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(large())
            await asyncio.sleep(0)  # it leaves first
            for n in range(1000):
                group.create_task(small(n))
        assert len(here.theirs) == 1
        assert order.index("large") == 1000, f"{1000 - order.index('large')} small calls waited for the large one"
        await here.clean()


@pytest.mark.both_loops
async def test_small_calls_one_after_the_other_are_answered_while_a_large_reply_is_on_its_way() -> None:
    """Not in one burst: each is sent when the one before was answered, so every one of them overtakes pieces."""
    room = Room()
    async with rig(room.service) as here:
        large = asyncio.get_running_loop().create_task(here.client.call("room.big", 15 * MIB, returns=bytes))
        await asyncio.sleep(0)
        answered = 0
        while not large.done():
            assert await here.client.call("room.small", answered, returns=int) == answered
            answered += 1
        assert len(await large) == 15 * MIB
        assert answered > 20
        await here.clean()


@pytest.mark.both_loops
async def test_512_suspended_calls_on_one_connection_all_answer() -> None:
    room = Room()
    async with rig(room.service) as here:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            calls = [group.create_task(here.client.call("room.waits", n, returns=int)) for n in range(512)]
            await until(lambda: room.waiting == 512)
            assert here.server.stats().running == 512
            assert len(here.theirs) == 1
            assert await here.client.call("room.small", 7, returns=int) == 7
            room.gate.set_result(None)
        assert [call.result() for call in calls] == list(range(512))
        await here.clean()


@pytest.mark.both_loops
async def test_calls_of_every_kind_that_are_cancelled_at_any_moment_leave_the_others_alone() -> None:
    room = Room()
    room.gate.set_result(None)
    async with rig(room.service) as here:

        async def stream(n: int) -> int:
            async with here.client.stream("room.ticks", n=n, every=0.0, returns=int) as items:
                return len([item async for item in items])

        async def one(n: int) -> int:
            kinds = [
                here.client.call("room.small", n, returns=int),
                here.client.call("room.waits", n, returns=int),
                here.client.call("room.size", bytes(n * 1000), returns=int),
                stream(n % 20),
            ]
            for unused in kinds[: n % 4] + kinds[n % 4 + 1 :]:
                unused.close()
            return await kinds[n % 4]

        loop = asyncio.get_running_loop()
        calls = [loop.create_task(one(n)) for n in range(400)]
        for n in range(0, 400, 3):  # every third one, a few in each turn
            calls[n].cancel()
            if n % 12 == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        expected = [[n, n, n * 1000, n % 20][n % 4] for n in range(400)]
        assert [answer for n, answer in enumerate(answers) if n % 3] == [answer for n, answer in enumerate(expected) if n % 3]
        await here.clean()
        assert len(here.theirs) == 1


@pytest.mark.both_loops
async def test_a_stream_lives_longer_than_the_deadline_of_its_first_item() -> None:
    room = Room()
    async with rig(room.service) as here:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with here.client.stream("room.ticks", n=7, every=0.1, returns=int, deadline=0.2) as items:
            assert [item async for item in items] == list(range(7))
        assert loop.time() - began > 0.6  # the stream's own pace, three deadlines long
        assert room.ended == ["over"]
        await here.clean()


@pytest.mark.both_loops
async def test_leaving_the_block_early_frees_everything_before_it_returns_and_cancels_the_handler() -> None:
    room = Room()
    async with rig(room.service) as here:
        async with here.client.stream("room.ticks", n=1000, every=60.0, returns=int) as items:
            async for item in items:
                assert item == 0
                break
        conn = here.ours.conn
        assert not conn.calls
        assert conn.inbox.credit + conn.inbox.owed == conn.inbox.window
        await until(lambda: room.ended == ["cancelled", "over"])
        await here.clean()


@pytest.mark.both_loops
async def test_a_bare_break_frees_everything_within_one_turn_warns_and_cancels_the_handler() -> None:
    room = Room()
    async with rig(room.service) as here:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")

            async def abandon() -> None:
                async for item in here.client.stream("room.ticks", n=1000, every=60.0, returns=int):
                    assert item == 0
                    break

            await abandon()
            await asyncio.sleep(0)  # one turn
            conn = here.ours.conn
            assert not conn.calls
            assert conn.inbox.credit + conn.inbox.owed == conn.inbox.window
        (warning,) = [w for w in caught if w.category is ResourceWarning]
        assert "a stream of room.ticks was abandoned; leave it with `async with`" in str(warning.message)
        assert [fact.method for fact in here.seen(StreamAbandoned)] == ["room.ticks"]
        await until(lambda: room.ended == ["cancelled", "over"])
        await here.clean()


async def test_a_stream_that_was_never_used_costs_nothing_and_says_nothing() -> None:
    room = Room()
    async with rig(room.service) as here:
        before = here.ours.conn.last_id
        stream = here.client.stream("room.ticks", n=1, every=0.0)
        del stream
        gc.collect()
        assert here.ours.conn.last_id == before
        assert not here.seen(StreamAbandoned)
        await here.clean()
