"""What a server says about itself: it travels, grows, and harms nobody when it cannot be read."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.errors import ProtocolError
from holdfast.wire import CallState, Connection, Failed, Replied, Status, StatusReceived, Trailers, decode_trailers, encode_trailers, frames
from holdfast.wire.status import decode_status, encode_status
from tests.wire.helpers import Pair, opened

TOLD = Trailers(queue_us=3, run_us=5, load=0.25)


def test_a_status_travels() -> None:
    status = Status(serving=False, draining=True, load=0.5, message="没有数据库")
    assert decode_status(encode_status(status)) == status
    assert encode_status(Status()) == b"\x80"
    pair = Pair()
    pair.server.send_status(status)
    pair.pump()
    assert pair.client_events == [StatusReceived(status)]


def test_later_versions_may_say_more() -> None:
    assert decode_status(msgspec.msgpack.encode({"zone": "b", "load": 1.0})) == Status(load=1.0)
    assert decode_trailers(msgspec.msgpack.encode({"zone": "b", "run_us": 9})) == Trailers(run_us=9)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xc1", b"\x81\xa4load\xc3", b"\x81\xa4load\xcb\xff\xf0\0\0\0\0\0\0", b"\x91" * 2000])
def test_a_status_that_makes_no_sense_is_an_error_and_such_trailers_are_none(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be used"):
        decode_status(payload)
    assert decode_trailers(payload) is None


def asked(pair: Pair) -> tuple[Connection, CallState]:
    pair.client.open_call(CallState(), b"m", b"\x80", False, 0, 1, extra=(frames.TRAILERS, b""))
    pair.pump()
    [incoming] = pair.server.calls.values()
    assert incoming.wants  # type: ignore[attr-defined]
    return pair.server, incoming


@pytest.mark.parametrize("size", [0, 10, 1010, 5000])
def test_trailers_come_with_a_reply_of_any_size(size: int) -> None:
    pair = Pair()
    server, call = asked(pair)
    server.send_reply(call, b"r" * size, True, encode_trailers(TOLD))
    pair.pump()
    [event] = pair.client_events
    assert isinstance(event, Replied)
    assert (event.body, event.raw, decode_trailers(event.trailers)) == (b"r" * size, True, TOLD)


def test_trailers_come_with_an_error_unless_it_fills_its_frame() -> None:
    for size, expected in ((3, TOLD), (1024, None)):
        pair = Pair()
        server, call = asked(pair)
        server.send_error(call, b"e" * size, encode_trailers(TOLD))
        pair.pump()
        [event] = pair.client_events
        assert isinstance(event, Failed)
        assert event.body == b"e" * size
        assert decode_trailers(event.trailers) == (expected or None)


def test_trailers_come_with_the_end_of_a_stream() -> None:
    pair = Pair()
    pair.client.open_call(CallState(), b"m", b"\x80", False, 0, 1, extra=(frames.TRAILERS, b""), takes_items=True)
    pair.pump()
    [incoming] = pair.server.calls.values()
    pair.server.send_item(incoming, b"x", True)
    pair.server.send_end(incoming, encode_trailers(TOLD))
    pair.pump()
    assert decode_trailers(pair.client_events[-1].trailers) == TOLD  # type: ignore[attr-defined]


def test_trailers_have_a_bound() -> None:
    server = opened("server")
    with pytest.raises(ValueError, match="at most 8192"):
        server.send_reply(CallState(), b"", False, bytes(8193))
