"""What two peers tell each other in HELLO and WELCOME: limits, identity, features.

Each side states what it is ready to *receive*; the other side obeys. Unknown keys are skipped, missing ones have the values written
here, and those are part of version 1. Numbers that make no sense end the handshake: a peer may be frugal, not absurd.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..errors import ProtocolError

KIB = 1024
MIB = 1024 * KIB

FRAME_LIMIT_LEAST = KIB
"""No peer may ask for smaller frames or messages: what fits this, fits everybody."""

FrameMax = Annotated[int, msgspec.Meta(ge=FRAME_LIMIT_LEAST, le=16 * MIB)]
MessageMax = Annotated[int, msgspec.Meta(ge=FRAME_LIMIT_LEAST, le=1024 * MIB)]
WindowMax = Annotated[int, msgspec.Meta(ge=4 * KIB, le=1024 * MIB)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One side's settings, a msgpack map on the wire.

    Attributes:
        frame_max_bytes: the longest payload of a frame we take. 64 KiB: a small call waits behind at most one such frame.
        message_max_bytes: the longest body of a message, over all its pieces.
        stream_window_bytes: credit each stream starts with, in each direction.
        connection_window_bytes: credit all streams and pieces share.
        open_calls_max: how many calls we keep open for this peer at once.
        heartbeat_s: after so much silence we ping.
        instance: 16 random bytes that name this client or server process' connection pool; call numbers are unique within it.
        name: what we call ourselves, for people.
        catalogue: digest of the server's catalogue; empty in HELLO.
        codec: how bodies are encoded. Version 1 knows `msgpack`.
        features: names of optional parts both must know to use.
    """

    frame_max_bytes: FrameMax = 64 * KIB
    message_max_bytes: MessageMax = 16 * MIB
    stream_window_bytes: WindowMax = 256 * KIB
    connection_window_bytes: WindowMax = 4 * MIB
    open_calls_max: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 1024
    heartbeat_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 5.0
    instance: Annotated[bytes, msgspec.Meta(max_length=64)] = b""
    name: Annotated[str, msgspec.Meta(max_length=256)] = ""
    catalogue: Annotated[bytes, msgspec.Meta(max_length=64)] = b""
    codec: str = "msgpack"
    features: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Settings).decode


def encode_settings(settings: Settings) -> bytes:
    """Return the payload of a HELLO or WELCOME."""
    return _encode(settings)


def decode_settings(payload: bytes) -> Settings:
    """Return the peer's settings.

    Raises: ProtocolError that names the setting and what was expected.
    """
    try:
        settings = _decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ProtocolError(f"the peer's settings cannot be used: {error}") from None
    if settings.codec != "msgpack":
        raise ProtocolError(f"the peer wants codec {settings.codec!r}; version 1 has only 'msgpack'")
    return settings
