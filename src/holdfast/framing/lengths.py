"""Framings that say how long a message is before it comes.

Owns: the headers. What may never happen here: waiting for, or making room for, what a header merely claims; a header with two readings.
"""

from __future__ import annotations

from typing import Literal

from ..errors import ConfigError, InvalidArgument
from .base import Bytes, Framing, FramingError

MESSAGE_MAX_BYTES = 1024 * 1024
"""What one peer may make us keep unless told otherwise: most messages are far smaller, and 1,000 peers that try hold 1 GiB."""

VARINT_MAX_BYTES = 10


class LengthPrefixed(Framing):
    """The length as a number of 1, 2, 4 or 8 bytes, then the message. What many binary protocols do.

    Args:
        width: bytes of the length.
        byteorder: `big` (network order) or `little`.
    Raises: ConfigError for another width or byte order.
    """

    __slots__ = ("_byteorder", "_width")

    def __init__(
        self, width: Literal[1, 2, 4, 8] = 4, *, byteorder: Literal["big", "little"] = "big", max_bytes: int = MESSAGE_MAX_BYTES
    ) -> None:
        if width not in (1, 2, 4, 8):
            raise ConfigError(f"width={width}: a length has 1, 2, 4 or 8 bytes")
        if byteorder not in ("big", "little"):
            raise ConfigError(f"byteorder={byteorder!r}: expected 'big' or 'little'")
        super().__init__(max_bytes=min(max_bytes, 256**width - 1))
        self._width = width
        self._byteorder: Literal["big", "little"] = byteorder

    def encode(self, message: Bytes) -> bytes:
        """Return a message behind its length. Raises: InvalidArgument when it is too large."""
        self._check_size(message)
        return len(message).to_bytes(self._width, self._byteorder) + message

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        width, byteorder, size = self._width, self._byteorder, len(source)
        at = 0
        while size - at >= width:
            start = at + width
            length = int.from_bytes(source[at:start], byteorder)
            if length > self.max_bytes:
                self._refuse_length(length)
            end = start + length
            if end > size:
                break
            messages.append(bytes(source[start:end]))
            at = end
        return at


class VarintPrefixed(Framing):
    """The length in base 128, low seven bits first (LEB128), then the message: protobuf's delimited streams.

    A length written longer than it need be (`80 00` for 0) is refused: one message has one form.
    """

    __slots__ = ()

    def __init__(self, *, max_bytes: int = MESSAGE_MAX_BYTES) -> None:
        super().__init__(max_bytes=max_bytes)

    def encode(self, message: Bytes) -> bytes:
        """Return a message behind its length. Raises: InvalidArgument when it is too large."""
        self._check_size(message)
        left = len(message)
        header = bytearray()
        while left > 0x7F:
            header.append(left & 0x7F | 0x80)
            left >>= 7
        header.append(left)
        return bytes(header) + message

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        at, size = 0, len(source)
        while True:
            start, length = self._header(source, at)
            if not start or start + length > size:
                return at
            messages.append(bytes(source[start : start + length]))
            at = start + length

    def _header(self, source: bytes | bytearray, at: int) -> tuple[int, int]:
        """Where the message begins, and its length; 0 and 0 while the header is not whole."""
        length = 0
        for index in range(VARINT_MAX_BYTES):
            if at + index >= len(source):
                return 0, 0
            byte = source[at + index]
            length |= (byte & 0x7F) << (7 * index)
            if length > self.max_bytes:
                self._refuse_length(length)
            if byte < 0x80:
                if index and not byte:
                    raise FramingError("a length with zeros in front: expected its shortest form")
                return at + index + 1, length
        raise FramingError(f"a length that does not end within {VARINT_MAX_BYTES} bytes")


class Netstring(Framing):
    """`5:hello,`: the length in decimal digits, a colon, the message, a comma (D. J. Bernstein's netstrings)."""

    __slots__ = ()

    def __init__(self, *, max_bytes: int = MESSAGE_MAX_BYTES) -> None:
        super().__init__(max_bytes=max_bytes)

    def encode(self, message: Bytes) -> bytes:
        """Return a message between its length and a comma. Raises: InvalidArgument when it is too large."""
        self._check_size(message)
        return b"%d:" % len(message) + message + b","

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        at, size = 0, len(source)
        while True:
            start, length = self._header(source, at)
            end = start + length
            if not start or end >= size:
                return at
            if source[end] != 0x2C:
                raise FramingError(f"expected a comma behind a message of {length} bytes, and found {bytes(source[end : end + 1])!r}")
            messages.append(bytes(source[start:end]))
            at = end + 1

    def _header(self, source: bytes | bytearray, at: int) -> tuple[int, int]:
        """Where the message begins, and its length; 0 and 0 while the header is not whole."""
        length = 0
        index = at
        while index < len(source):
            byte = source[index]
            if byte == 0x3A and index > at:
                return index + 1, length
            if not 0x30 <= byte <= 0x39:
                raise FramingError(f"expected the digits of a length and a colon, and found {bytes(source[index : index + 1])!r}")
            if index > at and not length:
                raise FramingError("a length with zeros in front: expected its shortest form")
            length = length * 10 + byte - 0x30
            if length > self.max_bytes:
                self._refuse_length(length)
            index += 1
        return 0, 0


class FixedSize(Framing):
    """Messages that all have the same size, with nothing between them.

    Args:
        size: of every message, in bytes.
    Raises: ConfigError when it is below 1.
    """

    __slots__ = ()

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigError(f"size={size}: expected at least 1 byte")
        super().__init__(max_bytes=size)

    def encode(self, message: Bytes) -> bytes:
        """Return a message as it is. Raises: InvalidArgument when it has another size."""
        if len(message) != self.max_bytes:
            raise InvalidArgument(f"a message of {len(message)} bytes, and every message here has {self.max_bytes}")
        return bytes(message)

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        size = self.max_bytes
        whole = len(source) // size * size
        messages.extend(bytes(source[at : at + size]) for at in range(0, whole, size))
        return whole
