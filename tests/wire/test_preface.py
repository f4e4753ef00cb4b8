"""Strangers get one clear line, and the same one however their bytes were cut."""

from __future__ import annotations

import pytest

from holdfast.wire.machine import Role
from holdfast.wire.preface import explain_stranger, judged_prefix
from tests.wire.helpers import error_of, feed, feed_three_ways, machine


@pytest.mark.parametrize(
    ("seen", "judged"),
    [
        (b"", None),
        (b"GET / H", None),
        (b"GET / HT", b"GET / HT"),
        (b"hi\n", b"hi\n"),
        (b"hi\nthere", b"hi\n"),
        (b"\x89HFST\r\n\x02", b"\x89HFST\r\n\x02"),
        (b"\x89HFST\r\n", None),
    ],
)
def test_a_stranger_is_judged_by_its_first_line_or_eight_bytes(seen: bytes, judged: bytes | None) -> None:
    assert judged_prefix(seen) == judged


STRANGERS = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP ('GET / HT')"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "speaks HTTP"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS handshake to a plain port"),
    (b"\x89HFST\r\n\x02 more", "version 2 of the holdfast protocol; we speak version 1"),
    (b"\x89HFST\n\x01more", "bytes 89 48 46 53 54 0a"),
    (b"hi\n", "it sent 'hi'"),
    (b"\n", "bytes 0a"),
    (b"\x00" * 20, "bytes 00 00 00 00 00 00 00 00"),
    (b"SSH-2.0-OpenSSH_9.6\r\n", "it sent 'SSH-2.0-'"),
]


TO_A_CLIENT = [
    (b"\x15\x03\x03\x00\x02\x02\x28more", "connect with tls://"),
    (b"holdfast: this port wants TLS; connect with tls://\r\n", "most likely that port wants TLS: connect with tls://"),
]


@pytest.mark.parametrize(("data", "message"), STRANGERS)
def test_a_server_answers_a_stranger_with_one_line(data: bytes, message: str) -> None:
    server = feed_three_ways(lambda: machine("server"), data)
    assert message in error_of(server)
    again = machine("server")
    feed(again, data)
    line = again.take_output(1 << 20)
    assert line.startswith(b"holdfast: this port speaks the holdfast protocol, version 1; ")
    assert message.encode() in line
    assert line.endswith(b".\r\n")
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(("data", "message"), [*STRANGERS, *TO_A_CLIENT])
def test_a_client_tells_its_own_side_and_sends_nothing(data: bytes, message: str) -> None:
    client = feed_three_ways(lambda: machine("client"), data)
    assert message in error_of(client)
    assert client.take_output(1 << 20) == b""


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_strangers_few_bytes_are_judged_when_it_stops(role: Role) -> None:
    connection = machine(role)
    assert feed(connection, b"\x15\x03\x03\x00\x02\x02\x28", 1) == b"\x15\x03\x03\x00\x02\x02\x28"
    assert connection.state == "OPENING"
    connection.receive_eof()
    assert "that port wants TLS; connect with tls://" in error_of(connection)


def test_what_a_stranger_sent_is_shown_without_control_characters() -> None:
    message, line = explain_stranger(b"\x1b[31mred", "server")
    assert "\x1b" not in message
    assert b"\x1b" not in line
