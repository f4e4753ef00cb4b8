"""How a connection ends: the peer is told why, nothing is parsed after it, and nothing stays held."""

from __future__ import annotations

import pytest

from holdfast.wire import ByteBudget, CallState, Connection, Status, frames
from tests.wire.helpers import SMALL, Pair, call_frame, error_of, feed, frame, machine, names, opened, parse


def test_a_client_that_fails_early_does_not_send_its_preface_twice() -> None:
    taken, untaken = machine("client"), Connection("client", SMALL, budget=ByteBudget(1))
    for connection in (taken, untaken):
        connection.fail(frames.PROTOCOL, "no")
    goaway = frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(0, frames.PROTOCOL) + b"no")
    assert taken.take_output(1 << 20) == goaway
    assert untaken.take_output(1 << 20) == frames.PREFACE + goaway


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("kind", [*frames.NAMES, 0x7F])
def test_nothing_is_parsed_after_an_error(role: str, kind: int) -> None:
    connection = opened("client" if role == "client" else "server")
    connection.fail(frames.PROTOCOL, "enough")
    connection.fail(frames.FLOW, "more than enough")
    assert error_of(connection) == "enough"
    assert feed(connection, frame(kind, 0, 1, bytes(8))) == b""
    assert len(connection.events) == 1
    [(sent, _, _, payload)] = parse(connection.take_output(1 << 20))
    assert (sent, payload[8:]) == (frames.GOAWAY, b"\x01enough")


def test_the_reason_fits_the_smallest_frame() -> None:
    connection = opened("server")
    connection.fail(frames.PROTOCOL, "ü" * 5000 + "\ud800")
    [(_, _, _, payload)] = parse(connection.take_output(1 << 20))
    assert len(payload) <= 1024


def test_a_lost_link_gives_everything_back() -> None:
    pair = Pair()
    for size, sends, takes in ((12_000, False, False), (0, False, True), (0, True, False)):
        pair.client.open_call(CallState(), b"m", bytes(size), True, 0, 1, sends_items=sends, takes_items=takes)
    pair.write(limit_bytes=1)
    pair.deliver()
    incoming = list(pair.server.calls.values())
    assert len(incoming) == 3
    pair.server.send_item(incoming[1], bytes(12_000), True)
    pair.write(limit_bytes=5000)
    pair.deliver()
    assert pair.parent.used_bytes > 0
    assert [call.id for call in pair.client.lost()] == [1, 2, 3]
    assert [call.id for call in pair.server.lost()] == [1, 2, 3]
    assert pair.client.lost() == []
    assert pair.parent.used_bytes == 0
    assert not pair.client.output_pending
    assert not pair.server.output_pending
    for call in incoming:
        pair.server.send_error(call, b"late")
    assert not pair.server.output_pending


def test_after_the_error_there_is_the_reason_and_nothing_else() -> None:
    server = opened("server")
    feed(server, call_frame(1) + call_frame(2))
    first, second = server.calls.values()
    server.events.clear()
    server.fail(frames.PROTOCOL, "bad")
    server.send_reply(first, b"late", False)
    server.send_item(second, bytes(5000), True)
    server.send_status(Status())
    assert server.output_pending
    assert not server.busy
    assert [kind for kind, *_ in parse(server.take_output(1 << 20))] == [frames.GOAWAY]
    assert not server.output_pending
    assert server.take_output(1 << 20) == b""
    assert names(server.events) == ["Errored"]


def test_calls_are_lost_in_the_order_they_came_whatever_ended_the_connection() -> None:
    client = opened("client")
    for number in range(1, 4):
        client.open_call(CallState(), b"m", b"", False, 0, number, takes_items=True)
    feed(client, frame(frames.DATA, frames.MORE, 2, b"\0\0\0\x09x") + frame(frames.REPLY, 0, 2, b"y"))
    assert client.state == "ERROR"
    assert [call.id for call in client.lost()] == [1, 2, 3]
