"""TLS on the wire, as far as we look at it ourselves: where records end, and an alert before there are keys.

Owns: how much OpenSSL is fed at a time. What may never happen here: a verdict on what a record holds.
"""

from __future__ import annotations

import struct

RECORD_HEADER_BYTES = 5
RECORD_MAX_BYTES = 16384 + 320
"""What OpenSSL takes as the length of a record, TLS 1.2 and 1.3 alike (RFC 8446, 5.2, says 256 above 2^14; the alert is OpenSSL's)."""

PIECE_BYTES = 16384
"""How many bytes go into a memory BIO at a time, or one record: what it once held it keeps for good."""
PIECE_MAX_BYTES = RECORD_HEADER_BYTES + RECORD_MAX_BYTES

IDLE_MAX = 64
"""How many records without data a peer may send, on top of one for every DATA_PER_IDLE with data. New keys cost us as much as a call, and
bring nothing; whoever renews them by the book does it once in millions of records (RFC 8446, 5.5)."""
DATA_PER_IDLE = 16
OVERHEAD_BYTES = 22
"""What a record of TLS 1.3 has beside its data when it is not padded: header, inner type, tag. Where there is more, records are counted."""

HANDSHAKE, APPLICATION_DATA = 0x16, 0x17
ILLEGAL_PARAMETER, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 47, 112, 120


_header_at = struct.Struct("!BBxH").unpack_from  # type, first of the version, length: one call instead of four


def is_record(kind: int, major: int) -> bool:
    """Whether a record may begin with these two bytes: its type, and the first of its version."""
    return 0x14 <= kind <= 0x18 and major == 3


def end_of_records(data: memoryview, start: int) -> int:
    """Return where the whole records from `start` on end, at most a piece of them; `start` when there is none.

    What is no record, or too long for one, is in as it comes: OpenSSL says so with the right alert.
    """
    size, end = len(data), start
    limit = start + PIECE_BYTES
    while size - end >= RECORD_HEADER_BYTES:
        kind, major, length = _header_at(data, end)
        if length > RECORD_MAX_BYTES or not is_record(kind, major):
            return end if end > start else min(size, start + PIECE_MAX_BYTES)
        after = end + RECORD_HEADER_BYTES + length
        if after > size or (after > limit and end > start):
            return end
        end = after
    return end


def count_records(data: memoryview, start: int, end: int) -> int:
    """Return how many records stand between `start` and `end`, which `end_of_records` gave."""
    count = 0
    while start + RECORD_HEADER_BYTES <= end:
        start += RECORD_HEADER_BYTES + (data[start + 3] << 8 | data[start + 4])
        count += 1
    return count


def count_data_records(data: memoryview | bytes) -> int:
    """Return how many records of data these bytes are, and nothing else; else 0. In TLS 1.3 all are called so once there are keys."""
    size, count, end = len(data), 0, 0
    while size - end >= RECORD_HEADER_BYTES:
        kind, major, length = _header_at(data, end)
        if kind != APPLICATION_DATA or major != 3 or length > RECORD_MAX_BYTES:
            return 0
        end += RECORD_HEADER_BYTES + length
        count += 1
    return count if end == size else 0


def fatal_alert(description: int) -> bytes:
    """An alert as it goes out before there are keys (RFC 8446, 6)."""
    return bytes((0x15, 3, 3, 0, 2, 2, description))
