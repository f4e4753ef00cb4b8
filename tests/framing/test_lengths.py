"""Lengths that come first: the bytes of each form, and every header that is none."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ConfigError, InvalidArgument
from holdfast.framing import FixedSize, Framing, FramingError, LengthPrefixed, Netstring, VarintPrefixed


@pytest.mark.parametrize(
    ("framing", "message", "travels"),
    [
        (LengthPrefixed(1), b"abc", b"\x03abc"),
        (LengthPrefixed(2), b"abc", b"\x00\x03abc"),
        (LengthPrefixed(2, byteorder="little"), b"abc", b"\x03\x00abc"),
        (LengthPrefixed(4), b"", b"\0\0\0\0"),
        (LengthPrefixed(8), b"a", bytes(7) + b"\x01a"),
        (VarintPrefixed(), b"", b"\0"),
        (VarintPrefixed(), b"x" * 127, b"\x7f" + b"x" * 127),
        (VarintPrefixed(), b"x" * 128, b"\x80\x01" + b"x" * 128),
        (VarintPrefixed(), b"x" * 300, b"\xac\x02" + b"x" * 300),
        (Netstring(), b"", b"0:,"),
        (Netstring(), b"hello world!", b"12:hello world!,"),
        (FixedSize(3), b"abc", b"abc"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Framing) else None,
)
def test_the_bytes_of_a_message(framing: Framing, message: bytes, travels: bytes) -> None:
    assert framing.encode(message) == travels
    assert framing.feed(travels * 3) == [message] * 3
    assert framing.waiting_bytes == 0


def test_a_narrow_length_bounds_the_message() -> None:
    framing = LengthPrefixed(1)
    assert framing.max_bytes == 255
    assert framing.feed(framing.encode(b"x" * 255)) == [b"x" * 255]
    with pytest.raises(InvalidArgument, match="256 bytes, and this framing takes at most 255"):
        framing.encode(b"x" * 256)


@pytest.mark.parametrize(
    ("framing", "data", "message"),
    [
        (LengthPrefixed(4, max_bytes=10), b"\0\0\0\x0b", "announces a message of 11 bytes; at most 10 are taken"),
        (VarintPrefixed(max_bytes=10), b"\x0b", "announces a message of 11 bytes"),
        (VarintPrefixed(max_bytes=10), b"\x8b", "announces a message of 11 bytes"),  # the lowest bits alone are too much
        (VarintPrefixed(), b"\x80\x00", "zeros in front"),
        (VarintPrefixed(), b"\x80" * 10, "does not end within 10 bytes"),
        (Netstring(), b":", "expected the digits of a length and a colon, and found b':'"),
        (Netstring(), b"3 :abc,", "found b' '"),
        (Netstring(), b"-1:,", "found b'-'"),
        (Netstring(), b"03:abc,", "zeros in front"),
        (Netstring(), b"00:,", "zeros in front"),
        (Netstring(), b"3:abc;", "expected a comma behind a message of 3 bytes, and found b';'"),
        (Netstring(max_bytes=99), b"100", "announces a message of 100 bytes"),
    ],
)
def test_what_is_no_message_is_refused(framing: Framing, data: bytes, message: str) -> None:
    with pytest.raises(FramingError, match=message):
        framing.feed(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LengthPrefixed(3), "a length has 1, 2, 4 or 8 bytes"),  # type: ignore[arg-type]
        (lambda: LengthPrefixed(4, byteorder="native"), "expected 'big' or 'little'"),  # type: ignore[arg-type]
        (lambda: FixedSize(0), "size=0"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_fixed_size_is_exact() -> None:
    framing = FixedSize(4)
    with pytest.raises(InvalidArgument, match="every message here has 4"):
        framing.encode(b"abc")
    assert framing.feed(b"abcdabcdab") == [b"abcd", b"abcd"]
    assert framing.waiting_bytes == 2
