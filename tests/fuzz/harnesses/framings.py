"""Framings of other protocols: the same messages however the bytes are cut, and never more kept than a message may have.

first byte: which framing · second: how it is cut · the rest: bytes
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.errors import InvalidArgument
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

HEADER_MAX_BYTES = 24
BODY_MAX_BYTES = 1000
MAKERS: tuple[Callable[[], Framing], ...] = (
    lambda: LengthPrefixed(1, max_bytes=200),
    lambda: LengthPrefixed(2, max_bytes=300),
    lambda: LengthPrefixed(4, byteorder="little", max_bytes=100),
    lambda: LengthPrefixed(8, max_bytes=64),
    lambda: VarintPrefixed(max_bytes=300),
    lambda: VarintPrefixed(max_bytes=1),
    lambda: Netstring(max_bytes=120),
    lambda: Netstring(max_bytes=9),
    lambda: Delimited(b"\r\n", max_bytes=50),
    lambda: Delimited(b"\0", max_bytes=1),
    lambda: Delimited(b"aab", max_bytes=20),
    lambda: Lines(max_bytes=40),
    lambda: Lines(ending=b"\r\n", max_bytes=3),
    lambda: FixedSize(7),
    lambda: FixedSize(1),
    lambda: LengthPrefixed(4),
)


class Read:
    """What came of some bytes, cut in one way."""

    def __init__(self, framing: Framing, data: bytes, step: int) -> None:
        self.messages: list[bytes] = []
        self.error = ""
        self.at = len(data)
        for start in range(0, len(data), step):
            buffer = bytearray(data[start : start + step])
            try:
                self.messages += framing.feed(memoryview(buffer))
            except FramingError as error:
                self.messages += error.messages
                self.error = str(error)
                self.at = start + len(buffer)
                break
            buffer[:] = b"\xaa" * len(buffer)
            kept = framing.waiting_bytes
            assert kept <= framing.max_bytes + HEADER_MAX_BYTES, f"{kept} bytes are kept; a message has at most {framing.max_bytes}"
            assert kept <= start + len(buffer)
        if self.error:
            self.failed_for_good(framing)
        else:
            self.stopped(framing)

    def failed_for_good(self, framing: Framing) -> None:
        assert framing.error is not None
        assert framing.waiting_bytes == 0
        for act in (lambda: framing.feed(b"more"), framing.eof):
            try:
                act()
            except FramingError:
                continue
            raise AssertionError("it failed, and takes bytes again")

    def stopped(self, framing: Framing) -> None:
        inside = framing.waiting_bytes > 0
        try:
            framing.eof()
        except FramingError:
            assert inside
        else:
            assert not inside, "the peer stopped inside a message and nobody was told"


def one(data: bytes) -> None:
    """Run one input."""
    make = MAKERS[data[0] % len(MAKERS)] if data else MAKERS[0]
    step = 2 + data[1] % 61 if len(data) > 1 else 2
    body = data[2 : 2 + BODY_MAX_BYTES]
    whole = Read(make(), body, len(body) or 1)
    single = Read(make(), body, 1)
    other = Read(make(), body, step)
    for read in (single, other):
        assert read.messages == whole.messages, "the messages depend on how the bytes were cut"
        assert bool(read.error) == bool(whole.error), "whether it fails depends on how the bytes were cut"
    if single.error:
        assert single.at <= other.at <= whole.at
        before = Read(make(), body[: single.at - 1], len(body))
        assert not before.error, "it failed too late"
        assert Read(make(), body[: single.at], len(body)).error, "it failed at another byte than when fed byte by byte"
    back(make(), whole.messages)


def back(framing: Framing, messages: list[bytes]) -> None:
    """What was read can be said again."""
    for message in messages[:20]:
        assert len(message) <= framing.max_bytes
        try:
            said = framing.encode(message)
        except InvalidArgument:
            # a line keeps all but one carriage return, and two marks may overlap: these can be read and not written
            assert isinstance(framing, Delimited)
            continue
        assert framing.feed(said) == [message]
        assert framing.waiting_bytes == 0


def seeds() -> list[bytes]:
    """Messages in each framing; lengths that lie; delimiters that nearly are."""
    found = []
    for index, make in enumerate(MAKERS):
        framing = make()
        size = framing.max_bytes
        said = b""
        for message in (b"", b"a", b"hello", b"\0" * 7, bytes(min(size, 300)), b"x\r", b"aa"):
            try:
                said += framing.encode(message)
            except InvalidArgument:
                continue
        found += [
            bytes((index, 5)) + said,
            bytes((index, 0)) + said[:-1],
            bytes((index, 30)) + b"\xff" * 40,
            bytes((index, 1)) + b"\0" * 30,
        ]
        found += [bytes((index, 9)) + b"1" * 400, bytes((index, 9)) + b"\x80" * 12, bytes((index, 2)) + said + b"\xff" * 9 + said]
    texts = (
        b"5:hello,",
        b"05:hello,",
        b"5:hello;",
        b":,",
        b"0:,",
        b"-1:,",
        b"9999999999999999999:",
        b"aaab",
        b"aaaab",
        b"\r\r\n",
        b"\r\n\n",
        b"a\rb\n",
    )
    return found + [bytes((index, 0)) + each for index in range(6, 13) for each in texts]
