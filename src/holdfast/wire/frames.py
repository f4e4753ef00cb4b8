"""The alphabet of the wire: preface, frame header, frame types, flags, and the fixed parts of payloads.

Every number here is version 1 for ever: `tests/wire/test_frames.py` pins the bytes. This file packs and unpacks; what a frame
*means* is decided in `receiving.py` alone. The page for people is docs/en/reference/protocol.md; keep both in step.

    frame   length u32 · type u8 · flags u8 · call id u64 · payload (length bytes)      all big-endian
"""

from __future__ import annotations

import struct
from typing import Final

from ..errors import InvalidArgument

PREFACE: Final = b"\x89HFST\r\n\x01"
"""Sent first by both sides. The first byte is no ASCII and no TLS record; CR LF shows a line-ending mangler; the last is the version."""

VERSION: Final = 1

HEADER = struct.Struct(">IBBQ")
HEADER_BYTES: Final = HEADER.size
CALL_HEAD = struct.Struct(">IQBB")
"""The start of a CALL's payload: deadline in ms from now (0: none), call number, attempt class, length of the method's name."""
CALL_FRAME_HEAD = struct.Struct(">IBBQIQBB")
"""HEADER and CALL_HEAD packed in one go."""
TRACE_BYTES: Final = 25
TOTAL = struct.Struct(">I")
"""In front of the body of a message's first piece (flag MORE): how many body bytes the whole message has."""
METADATA_LENGTH = struct.Struct(">H")
METADATA_MAX_BYTES: Final = 2**16 - 1
METHOD_MAX_BYTES: Final = 255
CREDIT_PAYLOAD = struct.Struct(">I")
GOAWAY_HEAD = struct.Struct(">QB")

# Types. Below 0x10 the handshake, then calls, then the connection's own housekeeping.
HELLO: Final = 0x01
WELCOME: Final = 0x02
CALL: Final = 0x10
REPLY: Final = 0x11
ERROR: Final = 0x12
DATA: Final = 0x13
END: Final = 0x14
CREDIT: Final = 0x15
CANCEL: Final = 0x16
PIECE: Final = 0x17
PING: Final = 0x20
"""8 bytes, which come back in a PONG."""
PONG: Final = 0x21
GOAWAY: Final = 0x23

NAMES: Final = {
    HELLO: "HELLO",
    WELCOME: "WELCOME",
    CALL: "CALL",
    REPLY: "REPLY",
    ERROR: "ERROR",
    DATA: "DATA",
    END: "END",
    CREDIT: "CREDIT",
    CANCEL: "CANCEL",
    PIECE: "PIECE",
    PING: "PING",
    PONG: "PONG",
    GOAWAY: "GOAWAY",
}

# Flags. One bit means the same thing in every type that knows it.
MORE: Final = 0x01
"""The message goes on in PIECE frames of the same call id."""
RAW: Final = 0x02
"""The body is the one `bytes` value itself, not msgpack."""
TRACE: Final = 0x04
"""25 bytes of trace context follow the method's name."""
METADATA: Final = 0x08
"""A length (u16) and a msgpack map of strings follow."""
STREAM: Final = 0x10
"""The caller will send items (DATA … END) after its arguments."""

KNOWN_FLAGS: Final = {
    HELLO: 0,
    WELCOME: 0,
    CALL: MORE | RAW | TRACE | METADATA | STREAM,
    REPLY: MORE | RAW,
    ERROR: 0,
    DATA: MORE | RAW,
    END: 0,
    CREDIT: 0,
    CANCEL: 0,
    PIECE: MORE,
    PING: 0,
    PONG: 0,
    GOAWAY: 0,
}

# Attempt classes.
ORIGINAL: Final = 0
RETRY: Final = 1
HEDGE: Final = 2

# Reasons in GOAWAY.
GOING: Final = 0
PROTOCOL: Final = 1
FLOW: Final = 2
TOO_LARGE: Final = 3
IDLE: Final = 4

CALL_ID_MAX: Final = 2**53 - 1
"""Ids stay whole numbers in languages whose numbers are doubles. At a million calls a second that is 285 years."""

HANDSHAKE_MAX_BYTES: Final = 16 * 1024
"""What a peer may send before it is welcomed: nobody unknown gets more of our memory than this."""

PING_BYTES: Final = 8
PONGS_MAX: Final = 64
"""A peer that pings more often than this before it reads one answer wants our memory, not a sign of life."""

ITEM_OVERHEAD_BYTES: Final = 64
"""What every stream item costs in credit beyond its bytes: about what it costs the receiver's memory, so that empty items are not free."""


def pack_frame(kind: int, flags: int, call_id: int, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(len(payload), kind, flags, call_id) + payload


def name_of(kind: int) -> str:
    """Return the type's name for a message to people."""
    return NAMES.get(kind, f"type 0x{kind:02x}")


def pack_extra(trace: bytes | None, metadata: bytes | None) -> tuple[int, bytes] | None:
    """Return the flags and bytes that carry trace and metadata in a CALL; None when there are none.

    Args:
        trace: 25 bytes: trace id (16), span id (8), flags (1).
        metadata: a msgpack map of strings, at most 65,535 bytes.
    Raises: InvalidArgument when one of them has a length that cannot be sent.
    """
    if trace is not None and len(trace) != TRACE_BYTES:
        raise InvalidArgument(f"a trace context of {len(trace)} bytes; it has {TRACE_BYTES}: trace id 16, span id 8, flags 1")
    if metadata is not None and len(metadata) > METADATA_MAX_BYTES:
        raise InvalidArgument(f"metadata of {len(metadata)} bytes; at most {METADATA_MAX_BYTES} travel: send large data as an argument")
    flags, extra = 0, b""
    if trace is not None:
        flags |= TRACE
        extra += trace
    if metadata is not None:
        flags |= METADATA
        extra += METADATA_LENGTH.pack(len(metadata)) + metadata
    return (flags, extra) if flags else None
