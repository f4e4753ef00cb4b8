"""Deadlines that pass in the queue, in the handler and on the way back: the caller is told in time, and truthfully."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast.facts import CallShed, HandlerOverran
from holdfast.wire import Settings, frames

from .helpers import Rig, call_frame, raw_peer, rig, until


class SkewedClock:
    """A clock that a handler can put forward: time passes in the middle of a turn of the loop, and nobody sleeps."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead_s


class Room:
    def __init__(self, clock: SkewedClock | None = None) -> None:
        self.runs = 0
        self.ended: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service("room")

        @svc.method
        def takes_a_minute() -> None:
            assert clock is not None
            clock.ahead_s += 60.0

        @svc.method
        async def count() -> int:
            self.runs += 1
            return self.runs

        @svc.method
        async def waits() -> int:
            self.runs += 1
            try:
                await self.gate
            finally:
                self.ended.append("over")
            return self.runs

        @svc.method
        async def remaining(ctx: holdfast.Context) -> float | None:
            return ctx.remaining()

        @svc.method
        async def late_items(first: bool) -> AsyncIterator[int]:
            self.runs += 1
            try:
                if first:
                    yield 0
                await self.gate
                yield 1
            finally:
                self.ended.append("over")

        @svc.method
        async def total(numbers: AsyncIterator[int]) -> int:
            self.runs += 1
            try:
                return sum([number async for number in numbers])
            finally:
                self.ended.append("over")


async def still_works(here: Rig) -> None:
    assert await here.client.call("room.remaining", deadline=None) is None
    await here.clean()


@pytest.mark.both_loops
async def test_a_call_whose_deadline_passed_behind_another_one_is_not_started() -> None:
    clock = SkewedClock()
    room = Room(clock)
    async with rig(room.service, clock=clock) as here, raw_peer(here.url, hello=True) as peer:
        # both arrive in one read; the first takes a minute of the server's clock, the second had a second
        peer.send(call_frame("room.takes_a_minute", call_id=1) + call_frame("room.count", call_id=2, deadline_ms=1000))
        assert (await peer.frame_of(frames.REPLY))[1] == 1
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 2
        assert b"the deadline had passed before the handler began" in body
        assert b"\xa1x" not in body.replace(b"\xa1x\x00", b"")  # executed: no
        assert room.runs == 0
        assert [fact.reason for fact in here.seen(CallShed)] == ["expired"]
        peer.send(call_frame("room.count", call_id=3, deadline_ms=1000))
        assert (await peer.frame_of(frames.REPLY))[1] == 3


@pytest.mark.both_loops
async def test_a_call_whose_deadline_passes_while_it_waits_for_a_place_never_leaves() -> None:
    room = Room()
    async with rig(room.service, wire=Settings(open_calls_max=1)) as here:
        holder = asyncio.get_running_loop().create_task(here.client.call("room.waits", returns=int))
        await until(lambda: room.runs == 1)
        with pytest.raises(holdfast.DeadlineExceeded, match="no room for one more call before the deadline") as caught:
            await here.client.call("room.count", deadline=0.03)
        assert caught.value.executed == "no"
        room.gate.set_result(None)
        assert await holder == 1
        assert room.runs == 1
        await still_works(here)


@pytest.mark.both_loops
async def test_a_deadline_that_passes_while_there_is_no_connection_is_surely_not_executed() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # a server that accepts and says nothing
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, holdfast.connect(f"tcp://127.0.0.1:{port}") as client:
        with pytest.raises(holdfast.DeadlineExceeded, match=f"no connection to tcp://127.0.0.1:{port} before the deadline") as caught:
            await client.call("room.count", deadline=0.15)
        assert caught.value.executed == "no"


@pytest.mark.both_loops
async def test_a_deadline_that_passes_in_the_handler_cancels_it_even_when_the_caller_is_gone_from_the_clock() -> None:
    """The server's own clock does it: this peer sends no CANCEL."""
    room = Room()
    async with rig(room.service) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(call_frame("room.waits", deadline_ms=30))
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 1
        assert b"the deadline passed in the handler" in body
        await until(lambda: room.ended == ["over"])
        assert [fact.method for fact in here.seen(HandlerOverran)] == ["room.waits"]
        await here.clean()


@pytest.mark.both_loops
@pytest.mark.parametrize("shape", ["unary", "client_stream", "server_stream"])
async def test_a_deadline_in_the_handler_reaches_every_shape(shape: str) -> None:
    room = Room()

    async def never() -> AsyncIterator[int]:
        yield 1
        await asyncio.get_running_loop().create_future()

    async with rig(room.service) as here:
        with pytest.raises(holdfast.DeadlineExceeded) as caught:
            if shape == "unary":
                await here.client.call("room.waits", deadline=0.15)
            elif shape == "client_stream":
                await here.client.call("room.total", numbers=never(), deadline=0.15)
            else:
                async with here.client.stream("room.late_items", first=False, deadline=0.15) as items:
                    async for _ in items:
                        pass
        assert caught.value.executed == "maybe"
        await until(lambda: room.ended == ["over"])
        assert room.runs == 1
        await still_works(here)


@pytest.mark.parametrize(("idle", "total"), [(0.05, None), (None, 0.05)], ids=["idle", "total"])
async def test_the_gap_between_items_and_the_whole_stream_have_limits_of_their_own(idle: float | None, total: float | None) -> None:
    room = Room()
    async with rig(room.service) as here:
        got = []
        with pytest.raises(holdfast.DeadlineExceeded, match="no end before the deadline|no item within the idle time"):
            async with here.client.stream("room.late_items", first=True, returns=int, idle=idle, deadline_total=total) as items:
                async for item in items:
                    got.append(item)  # noqa: PERF401 # what came before the error is what is asked for
        assert got == [0]
        await until(lambda: room.ended == ["over"])
        await still_works(here)


@pytest.mark.both_loops
async def test_a_deadline_that_passes_on_the_way_back_is_unknown_and_the_late_reply_is_skipped() -> None:
    room = Room()
    async with rig(room.service) as here:
        link = here.ours.link
        assert link is not None
        call = asyncio.get_running_loop().create_task(here.client.call("room.count", deadline=0.15))
        await asyncio.sleep(0)
        link.pause_reading()  # the answer comes as far as our kernel
        with pytest.raises(holdfast.DeadlineExceeded) as caught:
            await call
        assert caught.value.executed == "maybe"
        assert room.runs == 1
        link.resume_reading()
        assert await here.client.call("room.count", returns=int) == 2
        await still_works(here)


async def test_what_is_left_shrinks_from_hop_to_hop() -> None:
    async with rig(Room().service) as back:
        svc = holdfast.Service("front")

        @svc.method
        async def ask() -> tuple[float | None, float | None]:
            inherited = await back.client.call("room.remaining", deadline=None)
            with holdfast.detached():
                return inherited, await back.client.call("room.remaining", deadline=None)

        async with rig(svc) as front:
            inherited, detached = await front.client.call("front.ask", deadline=5.0, returns=tuple[float | None, float | None])
    assert inherited is not None
    assert 0 < inherited <= 5.01  # it travels in whole milliseconds, rounded up
    assert detached is None
