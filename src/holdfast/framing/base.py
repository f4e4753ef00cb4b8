"""What every framing has in common: what is kept between two reads, and failing for good.

Owns: the bytes of a message that is not whole yet. What may never happen here: more kept than one message may have, plus its header;
the same byte looked at again for each read that comes; a message out of bytes that came after an error.
"""

from __future__ import annotations

from ..errors import ConfigError, InvalidArgument, ProtocolError

Bytes = bytes | bytearray | memoryview


class FramingError(ProtocolError):
    """The peer sent bytes that are no message, or a message beyond the limit. Nothing after them can be understood.

    Attributes:
        messages: what was whole before them, in the `feed` that raised this.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.messages: list[bytes] = []


class Framing:
    """Makes messages out of bytes. One object serves one direction of one connection; the classes beside this one are complete.

    Args:
        max_bytes: the largest message, without header or delimiter.
    Raises: ConfigError when it is below 1.

    To write another one, implement `_split` and `encode`.
    """

    __slots__ = ("_kept", "error", "max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ConfigError(f"max_bytes={max_bytes}: expected at least 1 byte")
        self.max_bytes = max_bytes
        self.error: FramingError | None = None
        self._kept = bytearray()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes are kept of a message that is not whole. Never more than `max_bytes` and a header."""
        return len(self._kept)

    def feed(self, data: Bytes) -> list[bytes]:
        """Take what arrived; return the messages that are whole now, oldest first. `data` may be reused afterwards.

        Raises: FramingError for bytes that cannot be; its `messages` are those before them. Then, for ever, a FramingError.
        """
        if self.error is not None:
            raise FramingError(f"this connection failed before: {self.error}")
        kept = self._kept
        source: bytes | bytearray
        if kept:
            kept += data
            source = kept
        else:
            source = bytes(data)  # nothing is copied when it is bytes: most reads hold whole messages and leave nothing
        messages: list[bytes] = []
        try:
            used = self._split(source, messages)
        except FramingError as error:
            error.messages = messages
            self.error = error
            self._kept = bytearray()
            raise
        if source is kept:
            del kept[:used]
        elif used < len(source):
            kept += source[used:] if used else source
        return messages

    def eof(self) -> None:
        """The peer will send no more.

        Raises: FramingError when it stopped inside a message, or when this failed before.
        """
        if self.error is not None:
            raise FramingError(f"this connection failed before: {self.error}")
        if self._kept:
            self.error = FramingError(f"the peer stopped inside a message: {len(self._kept)} bytes of it had come")
            self._kept = bytearray()
            raise self.error

    def encode(self, message: Bytes) -> bytes:
        """Return a message as it travels.

        Raises: InvalidArgument when it is too large, or cannot travel in this framing.
        """
        raise NotImplementedError

    def _split(self, source: bytes | bytearray, messages: list[bytes]) -> int:
        """Append the messages that `source` holds whole; return how many bytes they took. It begins with what was left the last time.

        Raises: FramingError. It must come after the same byte however the bytes are cut.
        """
        raise NotImplementedError

    def _check_size(self, message: Bytes) -> None:
        if len(message) > self.max_bytes:
            raise InvalidArgument(f"a message of {len(message)} bytes, and this framing takes at most {self.max_bytes}")

    def _refuse_length(self, length: int) -> None:
        raise FramingError(f"the peer announces a message of {length} bytes; at most {self.max_bytes} are taken")
