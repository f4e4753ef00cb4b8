"""Framings that say where a message ends when it ends.

Owns: the search. What may never happen here: a byte searched twice because more came, or a delimiter missed because it came in two reads.
"""

from __future__ import annotations

from ..errors import ConfigError, InvalidArgument
from .base import Bytes, Framing, FramingError

LINE_MAX_BYTES = 16 * 1024
"""What people and programs write on one line; 1,000 peers that never end theirs hold 16 MiB."""


class Delimited(Framing):
    """Messages with a mark behind each, such as `\\r\\n` or a zero byte. A message cannot hold the mark.

    Args:
        delimiter: the mark, one byte or several.
        max_bytes: the largest message, without the mark.
    Raises: ConfigError for an empty mark.
    """

    __slots__ = ("_scanned", "delimiter")
    _SLACK_BYTES = 0
    """What may stand between the largest message and its delimiter."""

    def __init__(self, delimiter: bytes = b"\r\n", *, max_bytes: int = LINE_MAX_BYTES) -> None:
        if not delimiter:
            raise ConfigError("the delimiter is empty; expected at least one byte")
        super().__init__(max_bytes=max_bytes)
        self.delimiter = bytes(delimiter)
        self._scanned = 0  # so many of the bytes that are kept hold no beginning of a delimiter

    def encode(self, message: Bytes) -> bytes:
        """Return a message and its delimiter. Raises: InvalidArgument when it holds the delimiter, or is too large."""
        self._check_size(message)
        whole = bytes(message) + self.delimiter
        if whole.find(self.delimiter) != len(message):  # its end and the delimiter may make one together
            raise InvalidArgument(f"the message holds {self.delimiter!r}, which ends a message here")
        return whole

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        delimiter, width = self.delimiter, len(self.delimiter)
        reach_bytes = self.max_bytes + self._SLACK_BYTES + width
        at, search = 0, self._scanned
        while (end := source.find(delimiter, search, at + reach_bytes)) >= 0:
            messages.append(self._message(source, at, end))
            at = search = end + width
        left = len(source) - at
        if left >= reach_bytes:
            raise FramingError(f"{left} bytes without {delimiter!r}; a message has at most {self.max_bytes}")
        self._scanned = max(0, left - width + 1)
        return at

    def _message(self, source: bytes | bytearray, start: int, end: int) -> bytes:
        return bytes(source[start:end])


class Lines(Delimited):
    """Lines of text, as bytes: each ends with a line feed; one carriage return before it is dropped.

    Args:
        ending: what `encode` puts behind a line: `\\n`, or `\\r\\n` as most internet protocols have it.
        max_bytes: the longest line, without its ending.
    Raises: ConfigError for another ending.
    """

    __slots__ = ("ending",)
    _SLACK_BYTES = 1  # the carriage return

    def __init__(self, *, ending: bytes = b"\n", max_bytes: int = LINE_MAX_BYTES) -> None:
        if ending not in (b"\n", b"\r\n"):
            raise ConfigError(f"ending={ending!r}: a line ends with b'\\n' or b'\\r\\n'")
        super().__init__(b"\n", max_bytes=max_bytes)
        self.ending = ending

    def encode(self, message: Bytes) -> bytes:
        """Return a line with its ending.

        Raises: InvalidArgument when it is too long, holds a line feed, or ends with a carriage return (which would be dropped).
        """
        self._check_size(message)
        line = bytes(message)
        if b"\n" in line or line.endswith(b"\r"):
            raise InvalidArgument("a line can neither hold a line feed nor end with a carriage return")
        return line + self.ending

    def _message(self, source: bytes | bytearray, start: int, end: int) -> bytes:
        if end > start and source[end - 1] == 0x0D:
            end -= 1
        if end - start > self.max_bytes:
            raise FramingError(f"a line of {end - start} bytes; at most {self.max_bytes} are taken")
        return bytes(source[start:end])
