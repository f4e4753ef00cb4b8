"""Feeding a framing in any cuts, and saying what came of it in one comparable value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from holdfast.framing import (
    Delimited,
    FixedSize,
    Framing,
    FramingError,
    LengthPrefixed,
    Lines,
    Netstring,
    VarintPrefixed,
)

SMALL = 40
"""A limit that random bytes reach."""

KINDS: dict[str, Callable[[], Framing]] = {
    "length 1": lambda: LengthPrefixed(1, max_bytes=SMALL),
    "length 2 little": lambda: LengthPrefixed(2, byteorder="little", max_bytes=SMALL),
    "length 4": lambda: LengthPrefixed(4, max_bytes=SMALL),
    "length 8": lambda: LengthPrefixed(8, max_bytes=SMALL),
    "varint": lambda: VarintPrefixed(max_bytes=SMALL),
    "netstring": lambda: Netstring(max_bytes=SMALL),
    "delimited": lambda: Delimited(b"\r\n", max_bytes=SMALL),
    "delimited by a repeat": lambda: Delimited(b"aab", max_bytes=SMALL),
    "zero byte": lambda: Delimited(b"\0", max_bytes=SMALL),
    "lines": lambda: Lines(max_bytes=SMALL),
    "lines crlf": lambda: Lines(ending=b"\r\n", max_bytes=SMALL),
    "fixed": lambda: FixedSize(7),
}


def outcome(framing: Framing, pieces: Iterable[bytes]) -> tuple[list[bytes], int | None, int]:
    """The messages, how many bytes had been fed up to and with the piece that failed (None when none did), and what is kept."""
    messages: list[bytes] = []
    fed = 0
    for piece in pieces:
        fed += len(piece)
        try:
            messages += framing.feed(piece)
        except FramingError as error:
            return messages + error.messages, fed, framing.waiting_bytes
        assert framing.waiting_bytes <= framing.max_bytes + 24
    return messages, None, framing.waiting_bytes


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at the places (taken modulo its length)."""
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(marks)]
