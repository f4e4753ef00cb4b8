"""Events outlive the buffer their bytes came in, and cannot be changed."""

from __future__ import annotations

import pytest

from holdfast.wire import CallState, Event, Failed, IncomingCall, ItemReceived, Ponged, Replied, frames
from tests.wire.helpers import call_frame, frame, names, opened


def test_bodies_outlive_the_buffer_they_came_in() -> None:
    client, server = opened("client"), opened("server")
    for takes in (False, False, True):
        client.open_call(CallState(), b"m", b"", True, 0, 1, takes_items=takes)
    replies = frame(frames.REPLY, 0, 1, b"reply") + frame(frames.ERROR, 0, 2, b"error") + frame(frames.DATA, 0, 3, b"item")
    for connection, data in ((client, replies + frame(frames.PONG, 0, 0, b"pong....")), (server, call_frame(1, b"name", b"body"))):
        scratch = bytearray(data)
        assert connection.receive_data(memoryview(scratch)) == len(data)
        scratch[:] = bytes(len(data))
    replied, failed, item, pong = client.events
    assert isinstance(replied, Replied)
    assert isinstance(failed, Failed)
    assert isinstance(item, ItemReceived)
    assert isinstance(pong, Ponged)
    assert [replied.body, failed.body, item.body, pong.payload] == [b"reply", b"error", b"item", b"pong...."]
    [call] = server.calls.values()
    assert isinstance(call, IncomingCall)
    assert (call.method, call.body) == (b"name", b"body")


def test_a_buffer_may_be_resized_after_it_was_read() -> None:
    server = opened("server")
    scratch = bytearray(call_frame(1, flags=frames.STREAM) + frame(frames.DATA, frames.MORE, 1, b"\0\0\0\x09five5"))
    server.receive_data(memoryview(scratch))
    del scratch[:]
    assert names(server.events) == ["Called"]


@pytest.mark.parametrize("event", [Ponged(b"12345678"), Replied(CallState(), b"", False)])
def test_events_cannot_be_changed(event: Event) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, event.__struct_fields__[0], None)
