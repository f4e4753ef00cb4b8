"""Peers and users that do not read: memory stays bounded on every side, and a peer that stopped for good is cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast.facts import ConnectionClosed
from holdfast.net.memory import MemoryNetwork
from holdfast.rpc.session import EARLY_CHUNKS
from holdfast.wire import Settings, frames

from .helpers import PATIENCE_S, call_frame, kernel, raw_peer, rig, until

KIB = 1024
WINDOW = Settings().stream_window_bytes
ITEM = 1000
AHEAD = WINDOW // (ITEM + frames.ITEM_OVERHEAD_BYTES) + 2
"""How many items may be ahead of their reader: a window of them, one that waits for credit, and one in the pump's hand."""


class SkewedClock:
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead_s


class Room:
    def __init__(self) -> None:
        self.made = 0
        self.took = 0
        self.ended: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def items(n: int, size: int) -> AsyncIterator[bytes]:
            try:
                for _ in range(n):
                    self.made += 1
                    yield bytes(size)
            finally:
                self.ended.append("over")

        @svc.method
        async def takes_later(chunks: AsyncIterator[bytes]) -> int:
            try:
                await self.gate
                async for _ in chunks:
                    self.took += 1
                return self.took
            finally:
                self.ended.append("over")

        @svc.method
        async def big(n: int) -> bytes:
            self.made += 1
            return bytes(n)

        @svc.method
        async def ok() -> str:
            return "ok"


@pytest.mark.both_loops
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "memory://slow"])
async def test_a_handler_that_yields_too_fast_waits_for_its_reader(bind: str) -> None:
    room = Room()
    async with rig(room.service, bind=bind) as here:
        async with here.client.stream("room.items", 5000, ITEM, returns=bytes) as items:
            assert len(await items.__anext__()) == ITEM
            still = 0
            while still < 100:  # until it has not moved for a hundred turns
                before = room.made
                assert await here.client.call("room.ok") == "ok"  # and nobody else waits with it
                still = still + 1 if room.made == before else 0
            assert room.made <= AHEAD + 1
            assert [len(item) async for item in items] == [ITEM] * 4999
        assert room.made == 5000
        await here.clean()


@pytest.mark.both_loops
async def test_a_caller_that_sends_too_fast_waits_for_its_handler() -> None:
    room = Room()
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(5000):
            sent += 1
            yield bytes(ITEM)

    async with rig(room.service) as here:
        call = asyncio.get_running_loop().create_task(here.client.call("room.takes_later", chunks=chunks(), returns=int))
        still = 0
        while still < 100:
            before = sent
            assert await here.client.call("room.ok") == "ok"
            still = still + 1 if sent == before and sent else 0
        assert sent <= AHEAD
        room.gate.set_result(None)
        async with asyncio.timeout(PATIENCE_S):
            assert await call == 5000
        await here.clean()


async def test_streams_nobody_reads_share_one_window_and_starve_no_call() -> None:
    room = Room()
    async with rig(room.service) as here:
        streams = [here.client.stream("room.items", 2000, ITEM, returns=bytes) for _ in range(30)]
        for stream in streams:
            await stream.__aenter__()
        await until(lambda: room.made > 1000)
        for _ in range(50):
            assert await here.client.call("room.ok") == "ok"
        connection = Settings().connection_window_bytes // (ITEM + frames.ITEM_OVERHEAD_BYTES)
        assert room.made <= connection + 2 * len(streams)
        for stream in streams:
            await stream.aclose()
        await here.clean()
        assert len(room.ended) == 30


@pytest.mark.both_loops
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "unix", "memory://stall"])
async def test_a_peer_that_stops_reading_holds_bounded_memory_and_is_cut(bind: str, tmp_path: object) -> None:
    room = Room()
    network = MemoryNetwork(send_stall_s=0.1) if bind.startswith("memory") else None
    address = f"unix://{tmp_path}/s" if bind == "unix" else bind
    server_network = None if network is not None else kernel(send_stall_s=0.1)
    async with rig(room.service, bind=address, network=network, server_network=server_network) as here:
        (theirs,) = here.theirs
        link, ours = theirs.link, here.ours.link
        assert link is not None
        assert ours is not None
        ours.pause_reading()
        held = 0
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(here.client.call("room.big", 60 * KIB)) for _ in range(1000)]
        async with asyncio.timeout(PATIENCE_S):
            while not theirs.closed:  # what it holds on the way there is what is asked for
                held = max(held, link.write_buffer_bytes() + sum(map(len, theirs.conn.ready)))
                await asyncio.sleep(0)
        assert 0 < held <= 256 * KIB + EARLY_CHUNKS * 60 * KIB  # the high water mark, and what is answered between two looks
        assert room.made < 200
        ours.resume_reading()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, (bytes, holdfast.Unavailable, holdfast.OutcomeUnknown)) for result in results)
        reasons = [fact.reason for fact in here.seen(ConnectionClosed) if fact.side == "server"]
        assert any("stopped reading" in reason for reason in reasons)
        assert await here.client.using(attempts=5).call("room.ok") == "ok"
        await here.clean()


@pytest.mark.both_loops
async def test_a_peer_that_does_not_read_its_answers_asks_no_more_questions() -> None:
    """Small calls, large answers, and a peer that only sends: what runs for it is bounded by the sockets, not by what it sends."""
    room = Room()
    calls = 20_000
    async with rig(room.service, server_network=kernel(send_stall_s=0.1)) as here:
        async with raw_peer(here.url, hello=True) as peer:
            (theirs,) = [session for session in here.theirs if session.peer is not None and session.peer.instance.startswith("7261772d")]
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
            body = b"\x81\xa1n\xcd\xea\x60"  # n=60000
            for start in range(1, calls, 500):
                peer.send(b"".join(call_frame("room.big", body, call_id=call_id) for call_id in range(start, start + 500)))
            await until(lambda: theirs.closed)
        assert 0 < room.made < 200
        reasons = [fact.reason for fact in here.seen(ConnectionClosed) if fact.side == "server"]
        assert any("stopped reading" in reason for reason in reasons)
        await here.clean()


@pytest.mark.both_loops
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "memory://pause"])
async def test_calls_that_were_put_off_while_nobody_read_are_answered_when_somebody_does(bind: str) -> None:
    room = Room()
    async with rig(room.service, bind=bind) as here:
        link = here.ours.link
        assert link is not None
        link.pause_reading()
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(here.client.call("room.big", 60 * KIB, returns=bytes)) for _ in range(500)]
        await until(lambda: here.theirs[0]._put_off_at)
        made = room.made
        assert made < 200
        link.resume_reading()
        async with asyncio.timeout(PATIENCE_S):
            assert [len(answer) for answer in await asyncio.gather(*calls)] == [60 * KIB] * 500
        assert room.made == 500
        await here.clean()


@pytest.mark.both_loops
async def test_calls_that_were_put_off_for_too_long_are_not_started() -> None:
    room = Room()
    clock = SkewedClock()
    async with rig(room.service, bind="memory://late", clock=clock) as here:
        link = here.ours.link
        assert link is not None
        link.pause_reading()
        loop = asyncio.get_running_loop()
        count = 1 + 12 * (EARLY_CHUNKS // 3)  # all of them are written in the turn that makes them, and read together
        calls = [loop.create_task(here.client.call("room.big", 60 * KIB, deadline=15.0)) for _ in range(count)]
        await until(lambda: here.theirs[0]._put_off_at)
        made = room.made
        clock.ahead_s = 60.0
        link.resume_reading()
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        late = [answer for answer in answers if isinstance(answer, holdfast.DeadlineExceeded)]
        assert room.made == made == count - len(late)
        assert {error.executed for error in late} == {"no"}
        await here.clean()


@pytest.mark.both_loops
async def test_a_server_that_goes_down_answers_calls_it_had_put_off_without_starting_them() -> None:
    room = Room()
    async with rig(room.service, bind="memory://down", drain_s=0.02) as here:
        link = here.ours.link
        assert link is not None
        link.pause_reading()
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(here.client.call("room.big", 60 * KIB)) for _ in range(300)]
        await until(lambda: here.theirs[0]._put_off_at)
        made = room.made
        closing = loop.create_task(here.server.close())
        await until(lambda: here.server.stats().draining and not here.theirs[0].conn.calls)
        link.resume_reading()
        async with asyncio.timeout(PATIENCE_S):
            await closing
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert room.made == made
        assert all(isinstance(answer, bytes | holdfast.HoldfastError) for answer in answers)


async def test_a_stream_to_a_peer_that_stops_reading_is_cancelled_when_it_is_cut() -> None:
    room = Room()
    async with rig(room.service, server_network=kernel(send_stall_s=0.1)) as here:
        async with raw_peer(here.url, hello=True) as peer:
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
            body = b"\x82\xa1n\xce\x00\x0f\x42\x40\xa4size\xcd\xea\x60"
            peer.send(call_frame("room.items", body))
            credit = frames.CREDIT_PAYLOAD.pack(64 * 1024)
            for _ in range(400):  # it grants all the credit there is, and reads nothing
                peer.send(frames.pack_frame(frames.CREDIT, 0, 1, credit))
            await until(lambda: room.ended == ["over"])
        assert room.made <= 100
        await here.clean()
