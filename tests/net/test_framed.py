"""A protocol of messages, on a transport that writes down what it is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import InvalidArgument
from holdfast.framing import FramingError, LengthPrefixed, Lines
from holdfast.net.framed import Framed


class Wire(asyncio.Transport):
    """Keeps what is written, all of it unsent until `drained`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.waiting = 0
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written += data
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Kept(Framed):
    """Keeps its messages; `quit` closes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.messages: list[bytes] = []

    def message_received(self, message: bytes) -> None:
        self.messages.append(message)
        if message == b"quit":
            self.transport.close()


def connected(protocol: Framed) -> Wire:
    wire = Wire()
    protocol.connection_made(wire)
    return wire


def test_messages_come_whole_however_the_bytes_are_cut() -> None:
    protocol = Kept(Lines())
    connected(protocol)
    for piece in (b"on", b"e\ntwo\nth", b"ree", b"\n"):
        protocol.data_received(piece)
    assert protocol.messages == [b"one", b"two", b"three"]


def test_no_message_after_the_close() -> None:
    protocol = Kept(Lines())
    wire = connected(protocol)
    protocol.data_received(b"one\nquit\nthree\n")
    assert protocol.messages == [b"one", b"quit"]
    assert wire.ended == "closed"
    assert protocol.send(b"too late") is False
    assert wire.written == b""


def test_what_is_no_message_closes_after_the_messages_before_it() -> None:
    protocol = Kept(LengthPrefixed(1, max_bytes=5))
    wire = connected(protocol)
    protocol.data_received(b"\x03one\xff")
    assert protocol.messages == [b"one"]
    assert wire.ended == "closed"


def test_a_protocol_that_closes_by_itself_is_not_told_of_the_error_behind() -> None:
    told: list[FramingError] = []

    class Told(Kept):
        def framing_failed(self, error: FramingError) -> None:
            told.append(error)

    protocol = Told(LengthPrefixed(1, max_bytes=5))
    connected(protocol)
    protocol.data_received(b"\x04quit\xff")
    assert told == []
    protocol = Told(LengthPrefixed(1, max_bytes=5))
    connected(protocol)
    protocol.data_received(b"\x02hi\xff")
    assert [str(error) for error in told] == ["the peer announces a message of 255 bytes; at most 5 are taken"]


@pytest.mark.parametrize(("sent", "ended"), [(b"whole\n", ""), (b"whole\nhal", "closed")])
def test_the_end_inside_a_message_is_told(sent: bytes, ended: str) -> None:
    protocol = Kept(Lines())
    wire = connected(protocol)
    protocol.data_received(sent)
    assert not protocol.eof_received()
    assert (protocol.messages, wire.ended) == ([b"whole"], ended)


def test_a_peer_that_does_not_read_is_cut() -> None:
    protocol = Kept(Lines(), send_max_bytes=10)
    wire = connected(protocol)
    assert protocol.send(b"123456789")
    assert protocol.send(b"") is False
    assert wire.ended == "aborted"


def test_what_overflows_may_be_dropped_instead() -> None:
    class Patient(Kept):
        def overflowed(self) -> None:
            pass

    protocol = Patient(Lines(), send_max_bytes=10)
    wire = connected(protocol)
    assert [protocol.send(b"1234"), protocol.send(b"1234"), protocol.send(b"1234")] == [True, True, False]
    wire.waiting = 0
    assert protocol.send(b"1234")
    assert (wire.written, wire.ended) == (b"1234\n" * 3, "")


def test_a_message_that_cannot_travel_is_the_senders_mistake() -> None:
    protocol = Kept(Lines())
    wire = connected(protocol)
    with pytest.raises(InvalidArgument):
        protocol.send(b"two\nlines")
    assert (wire.written, wire.ended) == (b"", "")
