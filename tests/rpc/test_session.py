"""Both sides' share of a connection: writing once per turn, one timer, and judging the peer by the clock."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import OutcomeUnknown, ProtocolError, Unavailable
from holdfast.facts import ConnectionClosed
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.session import BITE_BYTES, wants_checksum, wire_deadline_ms
from holdfast.wire import GoneAway, Settings, frames

from .links import Bench, turn


async def test_what_a_turn_has_to_say_is_one_write() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    for _ in range(3):
        bench.call()
    assert bench.link.written == []
    await turn()
    assert len(bench.link.written) == 1
    assert len(bench.events()) == 3
    caller.flush()
    assert bench.link.written == []


async def test_a_peer_that_does_not_read_is_written_nothing_until_it_does() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    bench.call()
    caller.pause_writing()
    await turn()
    assert bench.link.written == []
    waiting = asyncio.get_running_loop().create_task(caller.writable())
    await turn()
    assert not waiting.done()
    caller.resume_writing()
    await waiting
    assert len(bench.events()) == 1


async def test_whoever_waits_to_write_hears_that_the_link_is_lost() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    caller.pause_writing()
    waiting = asyncio.get_running_loop().create_task(caller.writable())
    gives_up = asyncio.get_running_loop().create_task(caller.writable())
    await turn()
    gives_up.cancel()
    await turn()
    bench.lose()
    await waiting


async def test_a_peer_that_does_not_greet_is_told_and_left() -> None:
    bench = Bench()
    bench.caller.link_made(bench.link)
    opened = asyncio.get_running_loop().create_task(bench.caller.opened())
    await turn()
    bench.time.advance(4.9)
    assert bench.link.ended == ""
    bench.time.advance(0.2)
    assert bench.link.ended == "closed"
    with pytest.raises(ProtocolError, match="no handshake within 5 s") as caught:
        await opened
    assert caught.value.executed == "no"
    bench.lose()
    assert [fact.reason for fact in bench.facts if isinstance(fact, ConnectionClosed)] == ["no handshake within 5 s"]


async def test_silence_is_asked_about_and_then_judged() -> None:
    bench = Bench()
    bench.shake_hands()
    bench.link.taken()
    bench.time.advance(5.1)
    assert bench.link.taken()[4] == frames.PING
    bench.time.advance(9.8)
    assert bench.link.ended == ""
    bench.time.advance(0.2)
    assert bench.link.ended == "aborted"
    bench.lose()
    assert isinstance(bench.caller._reason, Unavailable)
    assert len(bench.wheel) == 0


async def test_silence_is_asked_about_once() -> None:
    bench = Bench(settings=Settings(heartbeat_s=0.1))
    caller = bench.shake_hands()
    for _ in range(3):  # a peer that stands still for a while, and must not find hundreds of pings then
        bench.link.taken()
        bench.time.advance(14.0)
        assert bench.link.taken() == frames.pack_frame(frames.PING, 0, 0, bytes(8))
        caller.bytes_received(memoryview(frames.pack_frame(frames.PONG, 0, 0, bytes(8))))
    assert bench.link.ended == ""


async def test_a_pong_is_a_sign_of_life() -> None:
    bench = Bench()
    bench.shake_hands()
    for _ in range(10):
        bench.time.advance(5.1)
        bench.events()
        bench.answer()  # the pong
    assert bench.link.ended == ""


async def test_the_send_stall_judges_a_peer_that_does_not_read_not_the_heartbeat() -> None:
    bench = Bench()
    bench.shake_hands().pause_writing()
    bench.time.advance(60.0)
    assert bench.link.ended == ""


async def test_a_frame_that_was_begun_must_end() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    begun = frames.pack_frame(frames.REPLY, 0, 1, b"x" * 100)[:20]
    assert caller.bytes_received(memoryview(begun)) == 0
    for _ in range(8):
        bench.time.advance(1.0)
        caller.bytes_received(memoryview(begun))  # the link offers it again; that is no progress
    assert bench.link.ended == "closed"
    assert "begun" in str(caller._reason)


async def test_a_lost_link_leaves_no_timer() -> None:
    bench = Bench()
    bench.shake_hands()
    call = bench.call(deadline_s=3.0)
    bench.lose(ConnectionResetError("reset"))
    assert len(bench.wheel) == 0
    assert "reset" in str(call.future.exception())
    assert bench.facts[-1] == ConnectionClosed("client", "memory://there", "the connection was lost: reset", 1)


@pytest.mark.parametrize(("deadline_at", "at_least"), [(11.0, 1000), (10.0001, 1), (9.0, 1), (1e12, 2**32 - 1)])
def test_a_deadline_travels_as_what_is_left_never_less(deadline_at: float, at_least: int) -> None:
    assert at_least <= wire_deadline_ms(deadline_at, 10.0) <= min(at_least + 1, 2**32 - 1)


def test_no_deadline_travels_as_nothing() -> None:
    assert wire_deadline_ms(None, 10.0) == 0


async def test_bytes_taken_for_a_link_that_is_closing_have_not_left() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    first = bench.call()
    await turn()
    second = bench.call()
    bench.link.close()
    await turn()
    assert (first.id, second.id, caller.conn.sent_id) == (1, 2, 1)
    bench.lose(ConnectionResetError("gone"))
    with pytest.raises(OutcomeUnknown):
        first.future.result()
    with pytest.raises(Unavailable, match="the call had not left"):
        second.future.result()


async def test_a_long_read_is_dealt_with_in_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    caller = bench.shake_hands()
    seen: list[int] = []
    handle = CallerSession._handle_events

    def watched(session: CallerSession, now: float) -> None:
        seen.append(len(session.conn.events))
        handle(session, now)

    monkeypatch.setattr(CallerSession, "_handle_events", watched)
    pongs = frames.pack_frame(frames.PONG, 0, 0, bytes(8)) * 5000
    large = frames.pack_frame(frames.REPLY, 0, 9, bytes(40_000))
    call = bench.call()
    future, call.id = call.future, 9
    caller.conn.calls[9] = call
    caller.conn._last_id = 9
    data = memoryview(pongs + large + pongs)
    assert caller.bytes_received(data[:-5]) == len(data) - 22
    assert future.result().body == bytes(40_000)
    assert sum(seen) == 10_000
    assert max(seen) <= BITE_BYTES // 22 + 1


@pytest.mark.parametrize(("frame", "rate", "burst"), [(frames.PING, 10, 100)])
async def test_a_peer_that_only_makes_work_is_told_and_cut(frame: int, rate: int, burst: int) -> None:
    bench = Bench()
    caller = bench.shake_hands()
    once = frames.pack_frame(frame, 0, 0, bytes(8))
    for _ in range(burst):
        caller.bytes_received(memoryview(once))
    bench.time.advance(0.5)
    for _ in range(rate // 2):
        caller.bytes_received(memoryview(once))
    assert not bench.link.ended
    caller.bytes_received(memoryview(once))
    assert bench.link.ended == "closed"
    [told] = [event for event in bench.events() if isinstance(event, GoneAway)]
    assert told.reason == frames.ABUSE
    assert "faster than 10 a second" in told.message


@pytest.mark.parametrize("address", ["nonsense", "tcp://10.0.0.1:5"])
def test_what_cannot_be_told_to_be_local_is_not(address: str) -> None:
    assert wants_checksum("auto", address)
