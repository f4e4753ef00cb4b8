"""Our side of a connection: each call ends once, and what is said about its execution is true."""

from __future__ import annotations

import asyncio
import math

import pytest

from holdfast.errors import BadReply, DeadlineExceeded, OutcomeUnknown, Overloaded, Unavailable
from holdfast.rpc import caller as caller_module
from holdfast.rpc.codes import encode_error
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.streams import ItemBuffer
from holdfast.wire import Called, CancelReceived, IncomingCall, Settings, frames

from .links import Bench, turn


def called(bench: Bench) -> list[IncomingCall]:
    return [event.call for event in bench.events() if isinstance(event, Called)]


async def test_a_call_ends_with_its_reply() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    call = bench.call()
    future = call.future
    await turn()
    bench.peer.send_reply(called(bench)[0], b"\x01", False)
    bench.answer()
    assert future.result().body == b"\x01"
    assert call.future is None, "or the call and its answer would hold each other"
    assert caller.answered
    assert not caller.conn.calls


async def test_a_call_ends_with_an_error_of_the_server() -> None:
    bench = Bench()
    bench.shake_hands()
    call = bench.call()
    await turn()
    bench.peer.send_error(called(bench)[0], encode_error(Overloaded("full")))
    bench.answer()
    assert isinstance(call.future.exception(), Overloaded)
    assert call.future.exception().remote


async def test_a_deadline_ends_it_and_cancels_it_at_the_server() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    call = bench.call(deadline_s=2.0)
    await turn()
    assert 2000 <= called(bench)[0].deadline_ms <= 2001
    bench.time.advance(2.01)
    error = call.future.exception()
    assert isinstance(error, DeadlineExceeded)
    assert error.executed == "maybe"
    assert [type(event) for event in bench.events()] == [CancelReceived]
    assert not caller.conn.calls


async def test_a_call_whose_bytes_still_go_out_is_not_said_to_be_unexecuted() -> None:
    """Between `open` and the write at the end of the turn its time may pass; the server gets it all the same, and runs it."""
    bench = Bench()
    bench.shake_hands()
    call = bench.call(deadline_s=1.0)
    bench.time.advance(1.01)
    assert call.future.exception().executed == "maybe"
    await turn()
    assert [type(event) for event in bench.events()] == [Called, CancelReceived]


async def test_a_call_whose_time_has_passed_is_not_sent() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    with pytest.raises(DeadlineExceeded) as caught:
        bench.call(deadline_s=-0.1)
    assert (caught.value.executed, caught.value.retry) == ("no", "safe")
    assert not caller.conn.calls


@pytest.mark.parametrize(("written", "kind", "executed"), [(True, OutcomeUnknown, "maybe"), (False, Unavailable, "no")])
async def test_a_lost_connection_tells_apart_what_had_left(written: bool, kind: type, executed: str) -> None:
    bench = Bench()
    bench.shake_hands()
    call = bench.call()
    if written:
        await turn()
    bench.lose()
    error = call.future.exception()
    assert (type(error), error.executed) == (kind, executed)


async def test_what_a_closing_link_throws_away_had_not_left() -> None:
    bench = Bench()
    bench.shake_hands()
    bench.link.close()
    call = bench.call()
    await turn()
    bench.lose()
    assert isinstance(call.future.exception(), Unavailable)


async def test_a_server_that_goes_finishes_what_it_has_and_surely_runs_nothing_else() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    taken = bench.call().future
    await turn()
    (theirs,) = called(bench)
    bench.peer.send_goaway("going down")
    late = bench.call()
    bench.answer()
    assert isinstance(late.future.exception(), Unavailable)
    assert not caller.usable
    assert bench.link.ended == ""
    bench.peer.send_reply(theirs, b"\x02", False)
    bench.answer()
    assert taken.result().body == b"\x02"
    assert bench.link.ended == "closed"


async def test_what_the_last_word_refuses_fails_in_the_order_it_was_called() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    ended: list[int] = []
    for number in range(5):
        bench.call().future.add_done_callback(lambda future, number=number: ended.append(number) or future.exception())  # type: ignore[misc]
    await turn()
    caller.bytes_received(memoryview(frames.pack_frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(2, 0))))
    await turn()
    assert ended == [2, 3, 4]
    assert sorted(caller.conn.calls) == [1, 2]
    bench.lose()


async def test_a_listener_for_trailers_that_raises_hurts_nobody_else() -> None:
    bench = Bench()
    bench.shake_hands()
    told: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))

    def breaks(method: str, trailers: object) -> None:
        raise KeyError("a bug of the user's")

    futures = [bench.call(on_trailers=breaks).future, bench.call().future]
    await turn()
    for incoming in called(bench):
        bench.peer.send_reply(incoming, b"\x01", False, b"\x80" if incoming.wants else b"")
    bench.answer()
    loop.set_exception_handler(before)
    assert [future.result().body for future in futures] == [b"\x01", b"\x01"]
    assert [type(context["exception"]) for context in told] == [KeyError]
    bench.lose()


async def test_a_stream_answered_with_one_result_is_a_bad_reply() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    buffer = ItemBuffer(caller, asyncio.get_running_loop())
    bench.call(future=None, buffer=buffer)
    await turn()
    bench.peer.send_reply(called(bench)[0], b"\x01", False)
    bench.answer()
    with pytest.raises(BadReply, match="answered a stream with one result"):
        await buffer.next()


async def test_a_result_that_comes_as_a_stream_ends_the_connection() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    call = bench.call()
    await turn()
    (theirs,) = called(bench)
    bench.peer.send_item(theirs, b"\x01", False)
    caller.bytes_received(memoryview(bench.peer.take_output(1 << 20)))
    assert bench.link.ended == "closed"
    bench.lose()
    assert isinstance(call.future.exception(), OutcomeUnknown)
    assert "takes none" in str(call.future.exception())


async def test_a_connection_lost_before_anybody_looked_is_not_open() -> None:
    bench = Bench()
    bench.caller.link_made(bench.link)
    bench.lose(ConnectionResetError("at once"))
    with pytest.raises(Unavailable, match="at once"):
        await bench.caller.opened()


async def test_an_error_in_the_moment_of_a_cancel_is_not_one_nobody_heard_of() -> None:
    """Otherwise the loop would report a future whose exception was never retrieved."""
    bench = Bench()
    caller = bench.shake_hands()
    call = bench.call()
    call.future.set_exception(Unavailable("just now"))
    caller.give_up(call)
    del call


async def test_gone_waits_for_the_end() -> None:
    bench = Bench()
    caller = bench.shake_hands()
    waiting = asyncio.get_running_loop().create_task(caller.gone())
    await turn()
    assert not waiting.done()
    bench.lose()
    await waiting
    await caller.gone()


# ---------------------------------------------------------------------------------------------------------------- a free slot


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
    monkeypatch.setattr(caller_module, "LINE_MAX", 1)
    bench, _ = await full(1)
    waiting = asyncio.get_running_loop().create_task(bench.caller.room())
    await turn()
    with pytest.raises(Overloaded, match="1 calls wait for their turn"):
        await bench.caller.room()
    bench.lose()
    await waiting
