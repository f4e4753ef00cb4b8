"""The handshake: what each side says first, and what it refuses before it believes anything."""

from __future__ import annotations

import pytest

from holdfast.wire import ByteBudget, Connection, Errored, GoneAway, Settings, frames
from holdfast.wire.settings import encode_settings
from tests.wire.helpers import SMALL, error_of, feed, feed_three_ways, frame, machine, names, opened, parse

HELLO = frames.PREFACE + frame(frames.HELLO, 0, 0, encode_settings(SMALL))
WELCOME = frames.PREFACE + frame(frames.WELCOME, 0, 0, encode_settings(SMALL))


def test_a_client_introduces_itself_and_a_server_waits() -> None:
    budget = ByteBudget(1)
    assert Connection("client", SMALL, budget=budget).take_output(1 << 20) == HELLO
    assert Connection("server", SMALL, budget=budget).take_output(1 << 20) == b""


def test_a_hello_is_told_and_answered_with_a_welcome() -> None:
    server = feed_three_ways_greeted(HELLO)
    assert names(server.events) == ["HelloReceived"]
    assert server.remote == SMALL
    server.send_welcome(Settings(frame_max_bytes=2048))
    assert server.state == "OPEN"
    assert server.take_output(1 << 20) == frames.PREFACE + frame(frames.WELCOME, 0, 0, encode_settings(Settings(frame_max_bytes=2048)))
    with pytest.raises(RuntimeError, match="send_welcome in state OPEN"):
        server.send_welcome(SMALL)


def feed_three_ways_greeted(data: bytes) -> Connection:
    return feed_three_ways(lambda: machine("server"), data)


def test_a_welcome_opens_and_what_follows_it_is_read() -> None:
    client = feed_three_ways(lambda: machine("client"), WELCOME + frame(frames.PONG, 0, 0, b"12345678"))
    assert names(client.events) == ["Opened", "Ponged"]
    assert client.state == "OPEN"
    assert client.message_max_bytes == SMALL.message_max_bytes


def test_a_server_reads_nothing_between_hello_and_welcome() -> None:
    server = feed_three_ways(lambda: machine("server"), HELLO + b"\x00")
    assert names(server.events) == ["HelloReceived", "Errored"]
    assert "a client waits for it" in error_of(server)


EXTRA = [kind for kind in frames.NAMES if kind not in (frames.HELLO, frames.WELCOME, frames.GOAWAY)] + [0x00, 0x7F, 0xFF]


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("kind", [*EXTRA, "other"])
def test_any_other_frame_ends_the_handshake(role: str, kind: int | str) -> None:
    number = (frames.WELCOME if role == "server" else frames.HELLO) if isinstance(kind, str) else kind
    connection = feed_three_ways(lambda: machine("server" if role == "server" else "client"), frames.PREFACE + frame(number, 0, 0, b"\x80"))
    expected = "HELLO" if role == "server" else "WELCOME"
    assert error_of(connection) == f"expected {expected} without flags and call id, got {frames.name_of(number)}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frames.PREFACE + frame(frames.HELLO, 1, 0, b"\x80"), "without flags"),
        (frames.PREFACE + frame(frames.HELLO, 0, 1, b"\x80"), "call id"),
        (frames.PREFACE + frames.HEADER.pack(16385, frames.HELLO, 0, 0), "a handshake of 16385 bytes; the limit is 16384"),
        (frames.PREFACE + frames.HEADER.pack(2**32 - 1, frames.HELLO, 0, 0), "the limit is 16384"),
        (frames.PREFACE + frame(frames.HELLO, 0, 0, b""), "settings cannot be used"),
        (frames.PREFACE + frame(frames.HELLO, 0, 0, b"\x81\xa4name\xa1\xff"), "settings cannot be used"),
        (frames.PREFACE + frame(frames.HELLO, 0, 0, b"\x81\xafframe_max_bytes\x01"), "frame_max_bytes"),
        (frames.PREFACE + frame(frames.GOAWAY, 0, 0, bytes(9)), "got GOAWAY"),
    ],
)
def test_a_hello_that_cannot_be_is_refused_with_a_reason(data: bytes, message: str) -> None:
    server = feed_three_ways(lambda: machine("server"), data)
    assert message in error_of(server)
    [errored] = server.events
    assert isinstance(errored, Errored)
    assert errored.error.executed == "no"
    told = machine("server")
    feed(told, data)
    output = told.take_output(1 << 20)
    assert output.startswith(frames.PREFACE)
    [(kind, _, _, payload)] = parse(output)
    assert kind == frames.GOAWAY
    assert message in payload[9:].decode()


def test_the_longest_handshake_is_taken() -> None:
    payload = encode_settings(SMALL)[1:]
    filler = b"\xa1z\xc5" + (frames.HANDSHAKE_MAX_BYTES - len(payload) - 6).to_bytes(2)
    padded = bytes([0x8C]) + payload + filler
    padded += bytes(frames.HANDSHAKE_MAX_BYTES - len(padded))
    server = machine("server")
    feed(server, frames.PREFACE + frame(frames.HELLO, 0, 0, padded))
    assert names(server.events) == ["HelloReceived"]


def test_a_client_refused_at_the_door_is_told_why() -> None:
    refusal = frames.PREFACE + frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(0, frames.PROTOCOL) + "zu spät".encode())
    client = feed_three_ways(lambda: machine("client"), refusal)
    assert client.state == "ERROR"
    [event] = client.events
    assert event == GoneAway(0, frames.PROTOCOL, "zu spät")


def test_a_refusal_that_is_too_short_or_too_long_is_an_error() -> None:
    assert "8 bytes" in error_of(feed_three_ways(lambda: machine("client"), frames.PREFACE + frame(frames.GOAWAY, 0, 0, bytes(8))))
    long = frames.PREFACE + frames.HEADER.pack(16385, frames.GOAWAY, 0, 0)
    assert "16385" in error_of(feed_three_ways(lambda: machine("client"), long))


def test_an_end_before_the_welcome_is_an_error_for_the_client_only() -> None:
    client, server = machine("client"), machine("server")
    for connection in (client, server):
        connection.receive_eof()
    assert error_of(client) == "the server closed the connection before it welcomed us"
    assert server.state == "OPENING"
    for role in ("client", "server"):
        connection = opened("client" if role == "client" else "server")
        connection.receive_eof()
        assert connection.state == "OPEN"
