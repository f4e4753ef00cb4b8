"""Version 1's bytes, for ever: numbers of types and flags, layouts, limits."""

from __future__ import annotations

import pytest

from holdfast.errors import InvalidArgument
from holdfast.wire import frames


def test_the_numbers_of_version_1() -> None:
    assert {name: number for number, name in frames.NAMES.items()} == {
        "HELLO": 0x01,
        "WELCOME": 0x02,
        "CALL": 0x10,
        "REPLY": 0x11,
        "ERROR": 0x12,
        "DATA": 0x13,
        "END": 0x14,
        "CREDIT": 0x15,
        "CANCEL": 0x16,
        "PIECE": 0x17,
        "PING": 0x20,
        "PONG": 0x21,
        "STATUS": 0x22,
        "GOAWAY": 0x23,
        "ACK": 0x24,
    }
    assert (frames.MORE, frames.RAW, frames.TRACE, frames.METADATA, frames.STREAM, frames.TRAILERS) == (1, 2, 4, 8, 16, 32)
    assert (frames.GOING, frames.PROTOCOL, frames.FLOW, frames.TOO_LARGE, frames.IDLE) == (0, 1, 2, 3, 4)
    assert (frames.ABUSE, frames.CHECKSUM, frames.FULL) == (5, 6, 7)
    assert (frames.ORIGINAL, frames.RETRY, frames.HEDGE) == (0, 1, 2)
    assert frames.PREFACE == b"\x89HFST\r\n\x01"
    assert (frames.HANDSHAKE_MAX_BYTES, frames.ITEM_OVERHEAD_BYTES, frames.CALL_ID_MAX) == (16384, 64, 2**53 - 1)


@pytest.mark.parametrize(
    ("packed", "pinned"),
    [
        (frames.pack_frame(frames.PING, 0, 0, b"12345678"), "00000008 20 00 0000000000000000 3132333435363738"),
        (frames.pack_frame(frames.END, 0, 2**53 - 1), "00000000 14 00 001fffffffffffff"),
        (frames.HEADER.pack(258, frames.DATA, 3, 7), "00000102 13 03 0000000000000007"),
        (frames.CALL_HEAD.pack(10_000, 5, 1, 3), "00002710 0000000000000005 01 03"),
        (frames.CALL_FRAME_HEAD.pack(17, frames.CALL, 2, 9, 1, 2, 0, 3), "00000011 10 02 0000000000000009 00000001 0000000000000002 00 03"),
        (frames.TOTAL.pack(65537), "00010001"),
        (frames.CREDIT_PAYLOAD.pack(131072), "00020000"),
        (frames.GOAWAY_HEAD.pack(12, frames.FLOW), "000000000000000c 02"),
        (frames.ACK_PAYLOAD.pack(258), "0000000000000102"),
        (frames.TRAILERS_LENGTH.pack(258), "0102"),
        (frames.CHECK.pack(0x01020304), "01020304"),
        (
            frames.pack_refusal(frames.FULL, "no room"),
            "89484653540d0a01 00000010 23 00 0000000000000000 0000000000000000 07 6e6f20726f6f6d",
        ),
    ],
)
def test_layouts_are_pinned(packed: bytes, pinned: str) -> None:
    assert packed.hex() == pinned.replace(" ", "")


def test_every_type_has_flags_and_a_name() -> None:
    assert set(frames.KNOWN_FLAGS) == set(frames.NAMES)
    assert frames.name_of(frames.CALL) == "CALL"
    assert frames.name_of(0x7F) == "type 0x7f"


def test_trace_and_metadata_are_packed_with_their_flags() -> None:
    trace = bytes(range(25))
    assert frames.pack_extra(None, None) is None
    assert frames.pack_extra(trace, None) == (frames.TRACE, trace)
    assert frames.pack_extra(None, b"\x80") == (frames.METADATA, b"\x00\x01\x80")
    assert frames.pack_extra(trace, b"") == (frames.TRACE | frames.METADATA, trace + b"\x00\x00")


def test_trace_and_metadata_of_a_wrong_length_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="trace context of 24 bytes; it has 25"):
        frames.pack_extra(bytes(24), None)
    with pytest.raises(InvalidArgument, match="metadata of 65536 bytes; at most 65535"):
        frames.pack_extra(None, bytes(65536))
