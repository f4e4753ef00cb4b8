"""What holds for every framing: cuts change nothing, failing is for good, and memory has its bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError, InvalidArgument, ProtocolError
from holdfast.framing import Delimited, FixedSize, Framing, FramingError, LengthPrefixed, Lines, Netstring, VarintPrefixed
from tests.framing.helpers import KINDS, SMALL, byte_by_byte, cut, outcome

Make = Callable[[], Framing]
every_kind = pytest.mark.parametrize("kind", KINDS)
# Bytes in which headers, delimiters and their beginnings are frequent.
LIKELY = st.lists(
    st.one_of(
        st.sampled_from([b"\r\n", b"\n", b"\r", b"aab", b"a", b"\0", b"3:abc,", b"0:,", b"\0\0\0\3xyz", b"\x03abc", b"\x80", b"7:"]),
        st.binary(max_size=12),
    ),
    max_size=20,
).map(b"".join)


def sendable(framing: Framing, message: bytes) -> bool:
    try:
        framing.encode(message)
    except InvalidArgument:
        return False
    return True


@every_kind
@given(data=LIKELY, places=st.lists(st.integers(0, 300), max_size=6))
def test_cuts_change_nothing(kind: str, data: bytes, places: list[int]) -> None:
    messages, failed_after, kept = outcome(KINDS[kind](), byte_by_byte(data))
    whole_messages, whole_failed, whole_kept = outcome(KINDS[kind](), [data])
    assert (whole_messages, whole_failed is None, whole_kept) == (messages, failed_after is None, kept)
    pieces = cut(data, places)
    cut_messages, cut_failed, cut_kept = outcome(KINDS[kind](), pieces)
    assert (cut_messages, cut_failed is None, cut_kept) == (messages, failed_after is None, kept)
    if failed_after is not None:  # it fails in the very piece that holds the byte it failed at
        assert cut_failed is not None
        lengths = [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
        assert cut_failed == next(length for length in lengths if length >= failed_after)


@every_kind
@given(messages=st.lists(st.binary(max_size=SMALL), max_size=8), places=st.lists(st.integers(0, 400), max_size=6))
def test_what_is_encoded_comes_out_again(kind: str, messages: list[bytes], places: list[int]) -> None:
    framing = KINDS[kind]()
    if isinstance(framing, FixedSize):
        messages = [message.ljust(framing.max_bytes, b".")[: framing.max_bytes] for message in messages]
    messages = [message for message in messages if sendable(framing, message)]
    data = b"".join(framing.encode(message) for message in messages)
    assert outcome(framing, cut(data, places)) == (messages, None, 0)
    framing.eof()


@every_kind
def test_every_kind_takes_any_buffer_and_keeps_none(kind: str) -> None:
    framing = KINDS[kind]()
    message = b"m" * 7
    data = bytearray(framing.encode(memoryview(message)))
    assert framing.encode(bytearray(message)) == bytes(data)
    cut_at = len(data) // 2
    with memoryview(data) as view:
        assert framing.feed(view[:cut_at]) == []
        view[:cut_at] = b"\xdd" * cut_at  # the caller's buffer is used again at once
        assert framing.feed(view[cut_at:]) == [message]
    data.clear()  # raises while anybody holds a view


@every_kind
def test_nothing_in_nothing_out(kind: str) -> None:
    framing = KINDS[kind]()
    assert framing.feed(b"") == []
    framing.eof()


def test_the_messages_before_the_error_are_not_lost() -> None:
    framing = LengthPrefixed(1, max_bytes=3)
    with pytest.raises(FramingError, match="announces a message of 9 bytes; at most 3 are taken") as caught:
        framing.feed(b"\x02hi\x01!\x09")
    assert caught.value.messages == [b"hi", b"!"]
    assert isinstance(caught.value, ProtocolError)


def test_failing_is_for_good() -> None:
    framing = LengthPrefixed(1, max_bytes=3)
    with pytest.raises(FramingError):
        framing.feed(b"\x09")
    assert framing.error is not None
    assert framing.waiting_bytes == 0
    for _ in range(2):
        with pytest.raises(FramingError, match="failed before: the peer announces") as caught:
            framing.feed(b"\x01a")
        assert caught.value.messages == []
    with pytest.raises(FramingError, match="failed before"):
        framing.eof()
    assert framing.encode(b"abc") == b"\x03abc"  # the other direction keeps no state


def test_the_end_inside_a_message_is_an_error() -> None:
    framing = Lines()
    assert framing.feed(b"whole\nhal") == [b"whole"]
    with pytest.raises(FramingError, match="stopped inside a message: 3 bytes"):
        framing.eof()
    with pytest.raises(FramingError, match="failed before"):
        framing.feed(b"f\n")


@pytest.mark.parametrize("make", [lambda n: LengthPrefixed(4, max_bytes=n), lambda n: Lines(max_bytes=n), FixedSize])
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(make: Callable[[int], Framing], limit: int) -> None:
    with pytest.raises(ConfigError, match="expected at least 1 byte"):
        make(limit)


@every_kind
def test_a_message_above_the_limit_is_not_sent(kind: str) -> None:
    framing = KINDS[kind]()
    with pytest.raises(InvalidArgument, match=f"a message of {framing.max_bytes + 1} bytes"):
        framing.encode(b"." * (framing.max_bytes + 1))


CLAIMS: list[tuple[Make, bytes]] = [
    (lambda: LengthPrefixed(8), b"\x80" + bytes(7)),
    (lambda: LengthPrefixed(4), b"\xff" * 4),
    (VarintPrefixed, b"\xff" * 9 + b"\x01"),
    (Netstring, b"9223372036854775808"),
    (lambda: Delimited(b"\r\n"), b"x" * (64 * 1024)),
    (Lines, b"x" * (64 * 1024)),
]


@pytest.mark.parametrize(("make", "claim"), CLAIMS)
def test_a_claim_is_refused_before_memory_grows(make: Make, claim: bytes) -> None:
    framing = make()
    tracemalloc.start()
    try:
        with pytest.raises(FramingError):
            framing.feed(claim)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(claim) + 16 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [LengthPrefixed, VarintPrefixed, Netstring, Lines])
def test_what_is_kept_stays_below_a_message_and_a_chunk(make: Callable[..., Framing]) -> None:
    limit, chunk = 256 * 1024, 16 * 1024
    framing = make(max_bytes=limit)
    data = framing.encode(b"x" * limit) * 2
    tracemalloc.start()
    try:
        messages: list[bytes] = []
        for at in range(0, len(data) - 1, chunk):
            messages += framing.feed(data[at : min(at + chunk, len(data) - 1)])
            assert framing.waiting_bytes <= limit + 24
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(messages) == 1
    assert held < 2 * limit + (limit // 8) + chunk + 16 * 1024, "the message given, the one kept and the slack of a growing bytearray"
