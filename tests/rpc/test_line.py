"""Who waits for room on a connection that is full: each turn is somebody's, and the line is bounded."""

from __future__ import annotations

import asyncio
import math

import pytest

from holdfast.errors import DeadlineExceeded, Overloaded
from holdfast.rpc import line as line_module
from holdfast.rpc.outcall import Outcall
from holdfast.wire import Called, IncomingCall, Settings

from .links import Bench, turn


def called(bench: Bench) -> list[IncomingCall]:
    return [event.call for event in bench.events() if isinstance(event, Called)]


async def full(count: int) -> tuple[Bench, list[IncomingCall]]:
    bench = Bench(remote=Settings(open_calls_max=count))
    caller = bench.shake_hands()
    for _ in range(count):
        bench.call().future.add_done_callback(lambda future: future.exception())
    await turn()
    assert caller.full
    one_more = Outcall(0, None, asyncio.get_running_loop().create_future(), math.inf, None, math.inf, "a.b", 1)
    assert not caller.open_unary(one_more, b"a.b", b"", 0, 0, 1)
    return bench, called(bench)


async def test_a_waiter_gets_the_slot_that_becomes_free() -> None:
    bench, theirs = await full(2)
    waiting = asyncio.get_running_loop().create_task(bench.caller.room())
    await turn()
    assert not waiting.done()
    bench.peer.send_reply(theirs[0], b"\x01", False)
    bench.answer()
    await waiting


async def test_a_waiter_that_is_cancelled_in_its_turn_passes_it_on() -> None:
    bench, theirs = await full(1)
    loop = asyncio.get_running_loop()
    first, second = loop.create_task(bench.caller.room()), loop.create_task(bench.caller.room())
    await turn()
    bench.peer.send_reply(theirs[0], b"\x01", False)
    bench.answer()
    first.cancel()
    await second
    assert first.cancelled()
    assert not bench.caller._line


async def test_a_turn_whose_owner_is_cancelled_while_the_link_is_full_is_the_next_ones() -> None:
    bench, theirs = await full(1)
    loop = asyncio.get_running_loop()
    first, second = loop.create_task(bench.caller.room()), loop.create_task(bench.caller.room())
    await turn()
    bench.caller.pause_writing()
    bench.peer.send_reply(theirs[0], b"\x01", False)
    bench.answer()
    await turn()
    first.cancel()
    await turn()
    bench.caller.resume_writing()
    await second
    assert first.cancelled()


async def test_a_turn_that_is_not_used_is_the_next_ones() -> None:
    """The call whose turn it is may not be sendable; who waits behind it must not wait for ever, with room there is."""
    bench, theirs = await full(1)
    loop = asyncio.get_running_loop()

    async def too_late() -> None:
        await bench.caller.room()
        with pytest.raises(DeadlineExceeded):
            bench.call(deadline_s=-1.0)

    first, second = loop.create_task(too_late()), loop.create_task(bench.caller.room())
    await turn()
    bench.peer.send_reply(theirs[0], b"\x01", False)
    bench.answer()
    await first
    await second
    assert not bench.caller._line


async def test_a_lost_connection_wakes_all_who_wait_for_a_slot() -> None:
    bench, _ = await full(1)
    waiting = [asyncio.get_running_loop().create_task(bench.caller.room()) for _ in range(3)]
    await turn()
    bench.lose()
    await asyncio.gather(*waiting)


async def test_a_server_that_goes_wakes_all_who_wait_for_a_slot() -> None:
    bench, _ = await full(1)
    waiting = [asyncio.get_running_loop().create_task(bench.caller.room()) for _ in range(3)]
    await turn()
    bench.peer.announce_goaway("going down")
    bench.answer()
    await asyncio.gather(*waiting)  # though its one call is open still
    assert len(bench.caller.conn.calls) == 1
    bench.lose()


@pytest.mark.parametrize("end", ["answer", "lose"])
async def test_a_waiter_that_is_cancelled_and_passed_over_is_cancelled(end: str) -> None:
    bench, theirs = await full(1)
    loop = asyncio.get_running_loop()
    first, second = loop.create_task(bench.caller.room()), loop.create_task(bench.caller.room())
    await turn()
    first.cancel()  # and in the same turn the line moves
    if end == "answer":
        bench.peer.send_reply(theirs[0], b"\x01", False)
        bench.answer()
    else:
        bench.lose()
    await second
    await asyncio.wait([first])
    assert first.cancelled()


async def test_the_queue_for_a_slot_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "LINE_MAX", 1)
    bench, _ = await full(1)
    waiting = asyncio.get_running_loop().create_task(bench.caller.room())
    await turn()
    with pytest.raises(Overloaded, match="1 calls wait for their turn"):
        await bench.caller.room()
    bench.lose()
    await waiting
