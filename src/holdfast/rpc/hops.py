"""What explains a call, as it travels back with its answer: the records of the calls that were made to answer it.

Owns: their form, and that there are never too many. What may never happen here: a record that ends a call because it cannot be written or
read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..handler import CallRecord
from ..wire.status import HOPS_MAX_BYTES

HOPS_MAX = 32
"""Of one call. A handler that calls more often is explained by its first calls."""

ExplainTo = Literal["nobody", "local", "all"]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[CallRecord]).decode


def encode_hops(records: list[CallRecord], since: float, room_bytes: int) -> bytes:
    """Return records as they travel, with times since a moment; as many of the first as there is room for, or nothing."""
    told = [msgspec.structs.replace(record, began_at=record.began_at - since) for record in records[:HOPS_MAX]]
    while told:
        try:
            encoded = _encode(told)
        except (ValueError, TypeError, RecursionError):  # text that is no Unicode, such as the name of a file
            return b""
        if len(encoded) <= min(room_bytes, HOPS_MAX_BYTES):
            return encoded
        del told[len(told) // 2 :]
    return b""


def decode_hops(payload: bytes) -> list[CallRecord]:
    """Return records that came; none when they cannot be read, for they are beside the point of the call."""
    if not payload:
        return []
    try:
        return _decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
        return []
