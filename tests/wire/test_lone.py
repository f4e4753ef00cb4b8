"""The short way of what is alone is the long way: the same calls, events, bytes and refusals, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given

from holdfast.errors import InvalidArgument
from holdfast.wire import Called, CallState, Connection, Event, IncomingCall, frames
from holdfast.wire.machine import Role
from tests.wire.helpers import SMALL, call_frame, describe, feed, frame, machine, opened, with_calls

WIDE = msgspec.structs.replace(SMALL, frame_max_bytes=64 * 1024, message_max_bytes=64 * 1024)
CHECKED = msgspec.structs.replace(WIDE, features=(frames.CHECKED,))
LEAST = 1024
"""What every peer takes in one frame, and what the short way is for."""


def told(event: Event) -> tuple[Any, ...]:
    return describe(event)


def state(connection: Connection) -> list[object]:
    """All that a machine is, apart from what it was given."""
    inbox, outbox = connection.inbox, connection.outbox
    found: list[object] = [connection.state, connection.last_id, connection.sent_id, connection.settled, connection.output_pending]
    found += [(call_id, msgspec.structs.astuple(call)[2:], call.flow is None) for call_id, call in connection.calls.items()]
    found += [[told(event) for event in connection.events], connection.cancels, connection.pings, list(connection.ready)]
    found += [inbox.credit, inbox.owed, inbox.budget.used_bytes, outbox.credit, outbox.special, list(outbox.answers or ())]
    return found


# ---------------------------------------------------------------------------------------------------------------- the states


def fresh(role: Role) -> Connection:
    return machine(role)


def greeted(role: Role) -> Connection:
    connection = machine(role)
    feed(connection, frames.PREFACE[:5])
    return connection


def plain(role: Role) -> Connection:
    return opened(role)


def wide(role: Role) -> Connection:
    return opened(role, WIDE, WIDE)


def checked(role: Role) -> Connection:
    return opened(role, CHECKED, CHECKED)


def busy(role: Role) -> Connection:
    """Calls 1 to 3 are open: one plain, one with streams, one of which a part has come or gone."""
    connection = with_calls(role)
    connection.events.clear()
    connection.take_output(1000)
    return connection


def waiting(role: Role) -> Connection:
    """What came last has not been handled yet."""
    connection = opened(role)
    feed(connection, call_frame(1) if role == "server" else frame(frames.PONG, 0, 0, bytes(8)))
    return connection


def behind(role: Role) -> Connection:
    """Something waits to be written."""
    connection = opened(role)
    feed(connection, frame(frames.PING, 0, 0, bytes(8)))
    return connection


def answering(role: Role) -> Connection:
    """A server's long reply, or a client's long call, is on its way still."""
    connection = opened(role)
    if role == "server":
        feed(connection, call_frame(1))
        call = next(iter(connection.calls.values()))
        assert connection.send_reply(call, bytes(15_000), True)
    else:
        connection.open_call(CallState(), b"m", bytes(15_000), True, 0, 1)
    connection.events.clear()
    return connection


def full(role: Role) -> Connection:
    connection = opened(role)
    for call_id in range(1, SMALL.open_calls_max + 1):
        if role == "server":
            feed(connection, call_frame(call_id))
        else:
            connection.open_call(CallState(), b"m", b"", True, 0, call_id)
    connection.events.clear()
    connection.take_output(1 << 20)
    return connection


def settled(role: Role) -> Connection:
    """Calls have come, or gone, and are over."""
    connection = opened(role)
    if role == "server":
        feed(connection, frame(frames.ACK, 0, 0, (7).to_bytes(8)))
    else:
        connection.open_call(CallState(), b"m", b"", True, 0, 1)
        connection.take_output(1 << 20)
        feed(connection, frame(frames.REPLY, 0, 1))
        connection.events.clear()
    return connection


def going(role: Role) -> Connection:
    connection = opened(role)
    connection.send_goaway("closing")
    connection.take_output(1 << 20)
    return connection


def failed(role: Role) -> Connection:
    connection = opened(role)
    connection.fail(frames.IDLE, "too late")
    connection.events.clear()
    return connection


def lost(role: Role) -> Connection:
    connection = opened(role)
    connection.lost()
    return connection


STATES = (fresh, greeted, plain, wide, checked, busy, waiting, behind, answering, full, settled, going, failed, lost)
states = st.sampled_from(STATES)

# ----------------------------------------------------------------------------------------------------------------- what comes

flags = st.sampled_from([0, 0, 0, 0, frames.RAW, frames.RAW, 1, 3, 4, 8, 16, 18, 32, 34, 64, 128, 255])
ids = st.sampled_from([1, 1, 2, 3, 4, 5, 9, 0, 2**53 - 1, 2**53, 2**64 - 1])
sizes = st.one_of(st.integers(0, 60), st.sampled_from([LEAST - 15, LEAST - 14, LEAST - 1, LEAST, LEAST + 1, LEAST + 20]))


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """A CALL, mostly one that is well made."""
    name = bytes(draw(st.sampled_from([0, 1, 8, 254, 255])))
    head = draw(st.integers(0, 2**32 - 1)).to_bytes(4) + draw(st.sampled_from([0, 1, 6, 7, 2**64 - 1])).to_bytes(8)
    head += bytes([draw(st.sampled_from([0, 0, 0, 1, 2, 3, 255])), draw(st.sampled_from([len(name)] * 4 + [0, 255]))])
    payload = (head + name + bytes(draw(sizes)))[: draw(st.sampled_from([1 << 20] * 5 + [0, 13, 14]))]
    return frame(frames.CALL, draw(flags), draw(ids), payload)


replies = st.builds(lambda flag, call_id, size: frame(frames.REPLY, flag, call_id, b"r" * size), flags, ids, sizes)
others = st.builds(
    lambda kind, flag, call_id, size: frame(kind, flag, call_id, bytes(size)), st.sampled_from([*frames.NAMES, 0x30]), flags, ids, sizes
)
one = st.one_of(calls(), calls(), replies, replies, others)


@st.composite
def reads(draw: st.DrawFn) -> bytes:
    """What one read brings: a frame, several, a part of one, one whose length is a lie, anything."""
    data = draw(one)
    how = draw(st.sampled_from(["alone", "alone", "alone", "two", "cut", "more", "lie", "any"]))
    if how == "two":
        return data + draw(one)
    if how == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if how == "more":
        return data + draw(st.binary(min_size=1, max_size=30))
    if how == "lie":
        return draw(st.sampled_from([0, 1, 13, 14, 1023, 1024, 1025, 2**32 - 1])).to_bytes(4) + data[4:]
    return draw(st.binary(max_size=60)) if how == "any" else data


def receive_lone(role: Role, connection: Connection, data: memoryview | bytes) -> Event | None:
    if role == "client":
        return connection.receive_lone_reply(data)
    call = connection.receive_lone_call(data)
    return None if call is None else Called(call)


@given(st.sampled_from(["client", "server"]), states, reads(), st.lists(reads(), max_size=2), st.booleans())
@example("server", plain, call_frame(1, b"m", b"x" * 100), [call_frame(1)], False)
@example("server", settled, call_frame(1, number=6), [], False)
@example("server", settled, call_frame(1, number=7), [call_frame(2)], False)
@example(
    "server", plain, frame(frames.CALL, 0, 1, bytes(12) + b"\x02\x01mbody"), [frame(frames.CALL, 0, 2, bytes(12) + b"\x03\x01m")], False
)
@example("server", plain, frame(frames.CALL, 0, 1, bytes(12) + b"\x00\x02m"), [], False)
@example("server", plain, call_frame(frames.CALL_ID_MAX), [call_frame(frames.CALL_ID_MAX + 1)], False)
@example("server", plain, call_frame(frames.CALL_ID_MAX + 1), [], False)
@example("server", plain, call_frame(0), [], False)
@example("server", answering, call_frame(2), [call_frame(3), call_frame(4)], False)
@example("client", busy, frame(frames.REPLY, 0, 1, b"x"), [frame(frames.REPLY, 0, 2), frame(frames.REPLY, 0, 3)], True)
def test_what_is_received_alone_is_received_as_ever(
    role: Role, make: Callable[[Role], Connection], data: bytes, then: list[bytes], views: bool
) -> None:
    short, long = make(role), make(role)
    for read in [data, *then]:
        before = state(short)
        buffer = bytearray(read)
        event = receive_lone(role, short, memoryview(buffer) if views else bytes(read))
        buffer[:] = b"\xdd" * len(buffer)  # nothing may point into it
        if event is None:
            assert state(short) == before, "nothing has been done"
            assert short.receive_data(read) == long.receive_data(memoryview(read))
        else:
            assert long.receive_data(memoryview(read)) == len(read)
            short.events.append(event)
        assert state(short) == state(long)
        if event is not None:
            assert told(event) == told(long.events[-1])
        short.events.clear()
        long.events.clear()
    assert short.take_output(1 << 20) == long.take_output(1 << 20)
    assert [call.id for call in short.lost()] == [call.id for call in long.lost()]


@pytest.mark.parametrize("flag", [0, frames.RAW])
@pytest.mark.parametrize("size", [0, 1, LEAST - 15])
def test_a_small_call_that_is_alone_goes_the_short_way(flag: int, size: int) -> None:
    connection = wide("server")
    call = connection.receive_lone_call(call_frame(1, b"m", b"x" * size, flag, 70, 9))
    assert isinstance(call, IncomingCall)
    assert (call.id, call.method, call.body, call.raw, call.deadline_ms, call.number) == (1, b"m", b"x" * size, flag != 0, 70, 9)
    assert connection.calls == {1: call}
    assert not connection.events


@pytest.mark.parametrize("size", [0, LEAST])
def test_a_small_reply_that_is_alone_goes_the_short_way(size: int) -> None:
    connection, call = wide("client"), CallState()
    assert connection.open_plain_call(call, b"m", b"", 0, 0, 1)
    connection.take_output(1 << 20)
    replied = connection.receive_lone_reply(frame(frames.REPLY, frames.RAW, 1, b"r" * size))
    assert replied is not None
    assert (replied.call, replied.body, replied.raw, replied.trailers) == (call, b"r" * size, True, b"")
    assert not connection.calls
    assert connection.receive_lone_reply(frame(frames.REPLY, 0, 1)) is None, "it is over"


@pytest.mark.parametrize("make", [state for state in STATES if state not in (plain, wide, busy, settled, behind)])
def test_nothing_comes_in_the_short_way_in_any_state_but_the_plainest(make: Callable[[Role], Connection]) -> None:
    assert make("server").receive_lone_call(call_frame(5)) is None
    if make is not full:  # which is the server's to mind
        assert make("client").receive_lone_reply(frame(frames.REPLY, 0, 1)) is None


def test_a_reply_does_not_overtake_what_came_before_it_and_waits_to_be_handled() -> None:
    connection = plain("client")
    assert connection.open_plain_call(CallState(), b"m", b"", 0, 0, 1)
    feed(connection, frame(frames.PONG, 0, 0, bytes(8)))
    assert connection.receive_lone_reply(frame(frames.REPLY, 0, 1)) is None
    connection.events.clear()
    assert connection.receive_lone_reply(frame(frames.REPLY, 0, 1)) is not None


def test_a_frame_beyond_what_we_take_is_left_to_be_refused() -> None:
    narrow = msgspec.structs.replace(SMALL, frame_max_bytes=100)
    connection = opened("server", narrow)
    assert connection.receive_lone_call(call_frame(1, b"m", bytes(86))) is None
    assert connection.receive_lone_call(call_frame(1, b"m", bytes(85))) is not None


# ------------------------------------------------------------------------------------------------------------------ what goes


@given(
    states,
    st.sampled_from([0, 1, 8, 255, 256]),
    sizes,
    st.sampled_from([0, frames.RAW]),
    st.sampled_from([0, 1, 2**32 - 1, 2**32, -1]),
    st.sampled_from([0, 1, 2**64 - 1, 2**64, -1]),
    st.booleans(),
)
@example(plain, 1, 10, 0, 1, 1, True)
@example(settled, 1, 10, 0, 1, 1, True)
@example(behind, 1, 10, 0, 1, 1, False)
@example(checked, 1, 10, 0, 1, 1, False)
def test_what_is_opened_alone_is_what_would_be_written(
    make: Callable[[Role], Connection], name_bytes: int, size: int, flag: int, deadline_ms: int, number: int, fails: bool
) -> None:
    short, long = make("client"), make("client")
    before = state(short)
    given = b"n" * name_bytes, b"x" * size, flag, deadline_ms, number
    refusals = []
    data = b""
    try:
        data = short.open_lone_call(CallState(), *given)
    except InvalidArgument as error:
        refusals.append(str(error))
    if refusals:
        assert state(short) == before
        with pytest.raises(InvalidArgument, match=refusals[0].replace("*", r"\*")):
            long.open_plain_call(CallState(), *given)
        return
    if not data:
        assert state(short) == before, "nothing has been done"
        return
    call = CallState()
    assert long.open_plain_call(call, *given)
    assert long.take_output(1 << 20) == data
    assert call.id == next(reversed(short.calls.values())).id
    if fails:
        short.send_failed()
        long.send_failed()
    assert state(short) == state(long)


def test_a_small_call_leaves_the_short_way_only_when_nothing_is_in_front_of_it() -> None:
    given = b"m", b"x" * (LEAST - 15), 0, 1, 1
    for make in STATES:
        connection = make("client")
        connection.events.clear()
        ready = connection.state == "OPEN" and not connection.checked and not connection.output_pending and not connection.busy
        assert bool(connection.open_lone_call(CallState(), *given)) == ready, make.__name__
    assert not wide("client").open_lone_call(CallState(), b"m", b"x" * (LEAST - 14), 0, 1, 1)
