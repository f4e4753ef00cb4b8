"""Reading a ClientHello: whole, cut anywhere, made of any bytes; and what it offers."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.hello import HELLO_MAX_BYTES, PLAIN_TEXT_ANSWER, RECORDS_MAX, Asked, Verdict, judge, read_hello, refusal_of
from tests.net.papers import papers


def hello(*protocols: str) -> bytes:
    """What Python's client says first, as one record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = papers().plain_client(*protocols).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def records(message: bytes, size: int) -> bytes:
    """A handshake message in records of that size."""
    parts = [message[n : n + size] for n in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


def test_a_hello_is_whole_with_its_last_byte_and_not_before() -> None:
    data = hello("holdfast/1")
    for cut in range(len(data)):
        assert judge(memoryview(data[:cut])) == ("more", b"")
    assert judge(memoryview(data)) == ("whole", data[5:])
    assert judge(memoryview(data + b"more")) == ("whole", data[5:])


@pytest.mark.parametrize("size", [5, 16, 100])
def test_a_hello_in_several_records_is_put_together(size: int) -> None:
    message = hello("holdfast/1")[5:]
    data = records(message, max(size, len(message) // 60))
    for cut in range(len(data)):
        assert judge(memoryview(data[:cut]))[0] == "more"
    assert judge(memoryview(data)) == ("whole", message)


def test_a_hello_in_more_records_than_anybody_needs_is_too_large() -> None:
    data = records(hello("holdfast/1")[5:], 1)
    assert judge(memoryview(data[: 6 * RECORDS_MAX - 1]))[0] == "more"
    assert judge(memoryview(data[: 6 * RECORDS_MAX])) == ("large", b"")


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"", "more"),
        (b"G", "plain"),
        (b"\x00", "plain"),
        (b"\x80\x2e\x01\x03\x01", "plain"),
        (b"\x16\x02", "plain"),
        (b"\x16", "more"),
        (b"\x16\x03\x01\x00", "more"),
        (b"\x16\x03\x01\x00\x10", "more"),
        (b"\x16\x03\x01\x00\x10\x01\x00", "more"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "whole"),
        (b"\x17\x03\x03\x00\x02", "whole"),
        (b"\x16\x03\x01\x00\x00", "whole"),
        (b"\x16\x03\x01\xff\xff", "whole"),
        (b"\x16\x03\x01\x00\x10\x02", "whole"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x0a\x00\x17\x03\x03\x00\x01", "whole"),
        (b"\x16\x03\x01\x40\x00\x01" + (HELLO_MAX_BYTES - 4).to_bytes(3), "more"),
        (b"\x16\x03\x01\x40\x00\x01" + (HELLO_MAX_BYTES - 3).to_bytes(3), "large"),
    ],
)
def test_other_beginnings(data: bytes, verdict: str) -> None:
    assert judge(memoryview(data))[0] == verdict


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_a_verdict(data: bytes, like_tls: bool) -> None:
    verdict, found = judge(memoryview(b"\x16\x03\x01" + data if like_tls else data))
    assert verdict in ("more", "whole", "plain", "large")
    read_hello(found or data)


@given(st.binary(max_size=100), st.integers(0, 600))
def test_a_damaged_hello_is_read_without_an_error(noise: bytes, at: int) -> None:
    message = bytearray(hello("holdfast/1")[5:])
    message[at : at + len(noise)] = noise
    read_hello(bytes(message))


@pytest.mark.parametrize("protocols", [(), ("holdfast/1",), ("h2", "http/1.1")])
def test_what_it_asks_for(protocols: tuple[str, ...]) -> None:
    assert read_hello(hello(*protocols)[5:]) == Asked(protocols, b"localhost")


def test_a_hello_of_old_without_extensions_asks_for_nothing() -> None:
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    assert read_hello(b"\x01" + len(body).to_bytes(3) + body) == Asked()


def test_one_that_cannot_be_read_asks_for_nothing_we_know_of() -> None:
    assert read_hello(hello("h2")[5:100]) is None


def asking(*protocols: str, name: bytes = b"localhost") -> bytes:
    return hello(*protocols)[5:].replace(b"localhost", name)


@pytest.mark.parametrize(
    ("verdict", "message", "protocols", "reason", "last_words"),
    [
        ("plain", b"", (), "plain text to a port that wants TLS", PLAIN_TEXT_ANSWER),
        ("large", b"", (), "larger than the 16384 bytes, or in more than the 64 records", b"\x15\x03\x03\x00\x02\x02\x2f"),
        ("whole", asking("h2"), ("holdfast/1",), "it speaks 'h2' over TLS; this port speaks holdfast/1", b"\x15\x03\x03\x00\x02\x02\x78"),
        ("whole", asking(), ("a", "b"), "it named no protocol in its TLS handshake (ALPN); this port speaks a or b", None),
        ("whole", asking(name=b"local\xffost"), (), "a server whose name is not ASCII", b"\x15\x03\x03\x00\x02\x02\x70"),
    ],
)
def test_who_is_turned_away_is_told_in_its_own_words(
    verdict: Verdict, message: bytes, protocols: tuple[str, ...], reason: str, last_words: bytes | None
) -> None:
    refusal = refusal_of(verdict, message, protocols)
    assert refusal is not None
    assert reason in refusal.reason
    assert last_words in (None, refusal.last_words)


@pytest.mark.parametrize(
    ("message", "protocols"),
    [(asking("holdfast/1"), ("holdfast/1",)), (asking("h2", "b"), ("a", "b")), (asking("h2"), ()), (asking(), ()), (b"", ("a",))],
)
def test_who_is_worth_a_handshake(message: bytes, protocols: tuple[str, ...]) -> None:
    assert refusal_of("whole", message, protocols) is None
