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
LENGTH = struct.Struct(">I")
"""The header's first field."""
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
ACK_PAYLOAD = struct.Struct(">Q")
TRAILERS_LENGTH = struct.Struct(">H")
TRAILERS_MAX_BYTES: Final = 8 * 1024
"""Of what a server says beside an answer. With a body it must fit one frame of the peer, so whoever says much keeps to half of that."""
CHECK = struct.Struct(">I")
"""What follows every frame of a checked connection: CRC-32 (the one of zlib and Ethernet) of its header and payload."""
CHECK_BYTES: Final = CHECK.size
CHECKED: Final = "crc32"
"""The feature's name in the settings; both sides must name it."""

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
STATUS: Final = 0x22
GOAWAY: Final = 0x23
ACK: Final = 0x24

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
    STATUS: "STATUS",
    GOAWAY: "GOAWAY",
    ACK: "ACK",
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
TRAILERS: Final = 0x20
"""In a CALL: tell me how it went. In what ends the call: a length (u16) and a msgpack map stand in front of the body."""

KNOWN_FLAGS: Final = {
    HELLO: 0,
    WELCOME: 0,
    CALL: MORE | RAW | TRACE | METADATA | STREAM | TRAILERS,
    REPLY: MORE | RAW | TRAILERS,
    ERROR: TRAILERS,
    DATA: MORE | RAW,
    END: TRAILERS,
    CREDIT: 0,
    CANCEL: 0,
    PIECE: MORE,
    PING: 0,
    PONG: 0,
    STATUS: 0,
    GOAWAY: 0,
    ACK: 0,
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
ABUSE: Final = 5
"""Too many pings or cancels: work for us and of no use to anybody."""
CHECKSUM: Final = 6
FULL: Final = 7
"""No room for this connection; said in place of a WELCOME, and worth another try later."""

CALL_ID_MAX: Final = 2**53 - 1
"""Ids stay whole numbers in languages whose numbers are doubles. At a million calls a second that is 285 years."""

HANDSHAKE_MAX_BYTES: Final = 16 * 1024
"""What a peer may send before it is welcomed: nobody unknown gets more of our memory than this."""

GOAWAY_TEXT_MAX_BYTES: Final = 1000
"""A GOAWAY must fit the smallest frame a peer may ask for, 1 KiB."""

PING_BYTES: Final = 8
PONGS_MAX: Final = 64
"""A peer that pings more often than this before it reads one answer wants our memory, not a sign of life."""

ITEM_OVERHEAD_BYTES: Final = 64
"""What every stream item costs in credit beyond its bytes: about what it costs the receiver's memory, so that empty items are not free."""


def pack_frame(kind: int, flags: int, call_id: int, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(len(payload), kind, flags, call_id) + payload


def pack_goaway(last_id: int, reason: int, message: str) -> bytes:
    """Return a GOAWAY; a message that is too long is cut."""
    return pack_frame(GOAWAY, 0, 0, GOAWAY_HEAD.pack(last_id, reason) + message.encode("utf-8", "replace")[:GOAWAY_TEXT_MAX_BYTES])


def pack_refusal(reason: int, message: str) -> bytes:
    """Return what turns a client away that has not said a word yet: our preface and a GOAWAY."""
    return PREFACE + pack_goaway(0, reason, message)


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
