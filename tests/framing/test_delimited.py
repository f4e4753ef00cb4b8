"""Marks behind messages: found however they are cut, never searched twice, and never waited for beyond the limit."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError, InvalidArgument
from holdfast.framing import Delimited, FramingError, Lines


class Watched(bytearray):
    """Counts how many bytes are searched in it."""

    searched = 0

    def find(self, what, start=0, end=None):  # type: ignore[no-untyped-def,override]
        self.searched += min(len(self), len(self) if end is None else end) - start
        return super().find(what, start, end)


@pytest.mark.parametrize("delimiter", [b"\n", b"\r\n", b"-----"])
def test_no_byte_is_searched_again_because_more_came(delimiter: bytes) -> None:
    size = 20_000
    framing = Delimited(delimiter, max_bytes=size)
    framing.feed(b"x")
    watched = framing._kept = Watched(framing._kept)
    for _ in range(size - 1):
        assert framing.feed(b"x") == []
    assert watched.searched <= size * len(delimiter)
    assert framing.feed(delimiter) == [b"x" * size]


def test_a_mark_in_two_reads_is_found() -> None:
    framing = Delimited(b"\r\n")
    assert framing.feed(b"one\r") == []
    assert framing.feed(b"\ntwo\r\nthr") == [b"one", b"two"]
    assert framing.feed(b"ee\r\r\n") == [b"three\r"]


def test_the_limit_counts_the_message_without_its_mark() -> None:
    assert Delimited(b"\r\n", max_bytes=3).feed(b"abc\r\n") == [b"abc"]
    framing = Delimited(b"\r\n", max_bytes=3)
    assert framing.feed(b"abc\r") == []  # it may still become one
    with pytest.raises(FramingError, match=r"5 bytes without b'\\r\\n'; a message has at most 3"):
        framing.feed(b"d")
    with pytest.raises(FramingError):
        Delimited(b"\r\n", max_bytes=3).feed(b"abcd\r\n")


def test_a_message_cannot_hold_the_mark_nor_make_one_with_it() -> None:
    with pytest.raises(InvalidArgument, match="which ends a message here"):
        Delimited(b"\r\n").encode(b"a\r\nb")
    with pytest.raises(InvalidArgument, match="which ends a message here"):
        Delimited(b"aa").encode(b"xa")
    with pytest.raises(ConfigError, match="delimiter is empty"):
        Delimited(b"")


def test_lines_of_both_kinds() -> None:
    framing = Lines(max_bytes=5)
    assert framing.feed(b"one\r\ntwo\n\n\r\n\r\r\nab\rcd\n") == [b"one", b"two", b"", b"", b"\r", b"ab\rcd"]
    assert framing.encode(b"one") == b"one\n"
    assert Lines(ending=b"\r\n").encode(b"one") == b"one\r\n"


def test_a_line_may_be_as_long_as_its_limit_with_either_ending() -> None:
    for ending in (b"\n", b"\r\n"):
        assert Lines(max_bytes=3).feed(b"abc" + ending) == [b"abc"]
        with pytest.raises(FramingError, match="a line of 4 bytes; at most 3|without"):
            Lines(max_bytes=3).feed(b"abcd" + ending)


@pytest.mark.parametrize("line", [b"a\nb", b"a\r"])
def test_a_line_that_would_come_out_as_another_is_not_sent(line: bytes) -> None:
    with pytest.raises(InvalidArgument, match="neither hold a line feed nor end with a carriage return"):
        Lines().encode(line)


def test_another_ending_is_refused() -> None:
    with pytest.raises(ConfigError, match="a line ends with"):
        Lines(ending=b"\r")
