"""Bytes to events and back: protocol version 1, without I/O.

In: bytes as they arrive, and commands (`open_call`, `send_reply`, `send_item`, …). Out: events, and bytes to write (`take_output`).
Never: sockets, clocks, dice, logs, tasks. The same input gives the same output, whole or byte by byte.
Read first: `connection.py` (commands), then `receiving.py` (bytes), with `frames.py` beside docs/en/reference/protocol.md.
"""

from .connection import Connection
from .events import (
    Called,
    CancelReceived,
    Drained,
    Ended,
    Errored,
    Event,
    Failed,
    GoneAway,
    HelloReceived,
    ItemReceived,
    Opened,
    Ponged,
    Replied,
    StatusReceived,
    Unusable,
)
from .flow import ByteBudget, CallState, Flow, IncomingCall
from .settings import Settings
from .status import Status, Trailers, decode_trailers, encode_trailers

__all__ = (
    "ByteBudget",
    "CallState",
    "Called",
    "CancelReceived",
    "Connection",
    "Drained",
    "Ended",
    "Errored",
    "Event",
    "Failed",
    "Flow",
    "GoneAway",
    "HelloReceived",
    "IncomingCall",
    "ItemReceived",
    "Opened",
    "Ponged",
    "Replied",
    "Settings",
    "Status",
    "StatusReceived",
    "Trailers",
    "Unusable",
    "decode_trailers",
    "encode_trailers",
)
