"""Bytes to messages and back, for protocols that are not ours: pure classes, one object for each connection.

In: bytes as they arrive. Out: whole messages, and bytes to write for a message. Never: I/O, a clock, memory beyond the limit.
Read first: `base.py`, which is the shape of all of them.

    framing.feed(data)       list[bytes]   take what arrived; the messages that are whole now, in order
    framing.encode(message)  bytes         a message as it travels; keeps no state
    framing.eof()            None          the peer will send no more: raises FramingError when it stopped inside a message
    framing.waiting_bytes    int           what is kept of a message that is not whole
    framing.error            FramingError | None

`feed` raises FramingError for bytes that cannot be; `error.messages` are the messages that were whole before them, in that `feed`. From
then on the object has failed: it keeps nothing, and every `feed` and `eof` raises again. `encode` raises InvalidArgument for a message
that cannot travel so, and constructors raise ConfigError. Cutting the bytes in other places changes nothing: the messages are the same, in
the same order, and so is whether and after which byte it fails. `max_bytes` counts a message without its header or delimiter; a length
beyond it is refused when the header is read, before memory grows.
"""

from .base import Bytes, Framing, FramingError
from .delimited import Delimited, Lines
from .lengths import FixedSize, LengthPrefixed, Netstring, VarintPrefixed

__all__ = (
    "Bytes",
    "Delimited",
    "FixedSize",
    "Framing",
    "FramingError",
    "LengthPrefixed",
    "Lines",
    "Netstring",
    "VarintPrefixed",
)
