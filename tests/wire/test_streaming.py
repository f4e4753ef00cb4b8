"""Messages in pieces and items: put together once, bounded by what arrived, and paid for. Legal and illegal frames: test_receiving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.wire import CallState, Connection, Settings, frames
from tests.wire.helpers import describe, feed, feed_three_ways, frame, opened, parse
from tests.wire.test_receiving import ASKED, FULL, MORE, NOTHING, PIECES, RAW, STREAM, STREAMING, call_frame, head, total


def test_a_call_in_pieces_arrives_whole_and_once() -> None:
    data = frame(frames.CALL, MORE | RAW, 1, total(2000) + head(b"name") + b"a" * 500)
    data += frame(frames.PIECE, MORE, 1, b"b" * 1000) + frame(frames.PIECE, 0, 1, b"c" * 500)
    connection = feed_three_ways(NOTHING, data)
    [event] = connection.events
    assert describe(event)[1][1:4] == (b"name", b"a" * 500 + b"b" * 1000 + b"c" * 500, True)


def test_no_memory_is_taken_for_what_is_only_claimed() -> None:
    big = Settings(message_max_bytes=1 << 30)
    connection = opened("server", big)
    feed(connection, frame(frames.CALL, MORE, 1, total(1 << 30) + head() + b"x"))
    call = connection.calls[1]
    assert call.flow is not None
    assert call.flow.assembly is not None
    assert len(call.flow.assembly.buffer) == connection.inbox.budget.used_bytes == 1


def test_what_is_put_together_is_bounded() -> None:
    connection = opened("server", budget_bytes=1500)
    first = frame(frames.CALL, MORE, 1, total(2000) + head() + b"x" * 1000)
    feed(connection, first)
    assert connection.inbox.budget.used_bytes == 1000
    feed(connection, frame(frames.PIECE, 0, 1, b"x" * 1000))
    assert [describe(event)[2:] for event in connection.events] == [("no room to put a large message together; try again later", False)]
    assert connection.inbox.budget.used_bytes == 0
    connection.send_error(connection.calls[1], b"full")
    feed(connection, frame(frames.PIECE, 0, 1, b"x" * 1000))
    assert connection.state == "OPEN"


def test_large_arguments_hold_budget_until_the_call_is_over() -> None:
    connection = PIECES()
    feed(connection, frame(frames.PIECE, 0, 1, b"67890"))
    budget = connection.inbox.budget
    assert budget.used_bytes == 10
    connection.send_reply(connection.calls[1], b"", False)
    assert budget.used_bytes == 0


def test_a_client_tells_the_server_when_it_cannot_use_a_reply() -> None:
    connection = ASKED()
    feed(connection, frame(frames.REPLY, MORE, 1, total(16385) + b"x"))
    assert connection.calls == {}
    assert parse(connection.take_output(1 << 20)) == [(frames.CANCEL, 0, 1, b"")]


def test_a_refused_call_costs_no_credit_for_ever() -> None:
    connection = FULL()
    feed(connection, frame(frames.CALL, MORE, 5, total(900) + head() + bytes(800)) + frame(frames.PIECE, 0, 5, bytes(100)))
    inbox = connection.inbox
    assert inbox.owed == 900
    assert inbox.credit + inbox.owed == inbox.window


def test_a_large_item_gets_the_credit_it_needs_at_once() -> None:
    connection = STREAMING()
    feed(connection, frame(frames.DATA, MORE, 1, total(10_000) + bytes(1000)))
    assert (frames.CREDIT, 0, 1, total(10_000 + 64 - 4096)) in parse(connection.take_output(1 << 20))


# ---------------------------------------------------------------------------------------------------- items that follow one another

STREAM_FRAMES = st.one_of(
    st.tuples(st.just(frames.DATA), st.just(0), st.sampled_from([1, 1, 1, 2]), st.binary(max_size=40)),
    st.tuples(st.just(frames.DATA), st.just(RAW), st.just(1), st.sampled_from([b"", b"x", bytes(900), bytes(1024), bytes(1025)])),
    st.tuples(st.just(frames.DATA), st.just(MORE), st.just(1), st.just(total(70) + bytes(50))),
    st.tuples(st.just(frames.DATA), st.just(0x40), st.just(1), st.just(b"x")),
    st.tuples(st.just(frames.END), st.just(0), st.sampled_from([1, 2]), st.just(b"")),
    st.tuples(st.just(frames.PING), st.just(0), st.just(0), st.just(bytes(8))),
)


@pytest.mark.parametrize("role", ["server", "client"])
@given(
    said=st.lists(STREAM_FRAMES, max_size=60),
    repeated=st.integers(1, 8),
    step=st.one_of(st.just(1 << 30), st.integers(20, 3000)),
    read=st.sampled_from([bytes, memoryview]),
)
@example(said=[(frames.DATA, 0, 1, b"12345678")], repeated=8, step=60, read=bytes)
@example(said=[(frames.DATA, 0, 1, b"12345678"), (frames.DATA, 0, 2, b"123")], repeated=8, step=47, read=memoryview)
def test_items_in_one_read_count_as_if_each_had_come_alone(
    role: Literal["server", "client"],
    said: list[tuple[int, int, int, bytes]],
    repeated: int,
    step: int,
    read: Callable[[bytes], memoryview | bytes],
) -> None:
    parts = [frame(kind, flags, call_id, payload) for kind, flags, call_id, payload in said for _ in range(repeated)]
    long_reads, one_by_one = (two_streams(role) for _ in range(2))
    assert feed(long_reads, b"".join(parts), step, read) == b""
    for part in parts:
        one_by_one.receive_data(part)
    assert all_of(long_reads) == all_of(one_by_one)


def two_streams(role: Literal["server", "client"]) -> Connection:
    """A machine with two streams whose items come in, and which has read nothing yet."""
    connection = opened(role)
    if role == "server":
        feed(connection, call_frame(1, flags=STREAM) + call_frame(2, flags=STREAM))
        connection.events.clear()
    else:
        for number in (1, 2):
            connection.open_call(CallState(), b"m", b"", False, 0, number, sends_items=False, takes_items=True)
        connection.take_output(1 << 20)
    return connection


def all_of(connection: Connection) -> tuple[object, ...]:
    """What a machine told, what it says, and what each side may still send."""
    flows = [(number, call.flow and (call.flow.receive_credit, call.flow.unused)) for number, call in connection.calls.items()]
    events = [describe(event) for event in connection.events]
    return events, flows, connection.inbox.credit, connection.inbox.owed, connection.state, connection.take_output(1 << 20)
