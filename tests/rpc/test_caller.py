"""Our side of a connection: each call ends once, and what is said about its execution is true."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import BadReply, DeadlineExceeded, OutcomeUnknown, Overloaded, Unavailable
from holdfast.rpc.codes import encode_error
from holdfast.rpc.streams import ItemBuffer
from holdfast.wire import Called, CancelReceived, IncomingCall, frames

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
