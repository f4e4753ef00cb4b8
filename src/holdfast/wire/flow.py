"""Credit and memory of a call: how much each side may still send, and what is being put together.

Credit is never negative. An item costs its bytes plus `ITEM_OVERHEAD_BYTES` of the stream's and the connection's window. The receiver
gives credit back when the item has been *used*, in portions of half a window, so a reader that stops stops its sender.
A message in pieces costs the connection's window while it travels; that is given back as pieces arrive, since what is put together is
bounded by a ByteBudget of its own: half-built messages can therefore never block one another (rfc9113 5.2.2 warns of that deadlock).
A large item holds that budget until it is used, a call's large arguments until the call is over.
"""

from __future__ import annotations

import msgspec

from . import frames


class ByteBudget:
    """A bound on bytes, shared by whoever holds it. `parent` bounds several budgets together (a connection's within the process')."""

    __slots__ = ("_parent", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int, parent: ByteBudget | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._parent = parent

    def take(self, count: int) -> bool:
        """Take `count` bytes; False (and nothing taken) when they do not fit."""
        if self.used_bytes + count > self.limit_bytes:
            return False
        if self._parent is not None and not self._parent.take(count):
            return False
        self.used_bytes += count
        return True

    def give(self, count: int) -> None:
        """Give `count` bytes back."""
        self.used_bytes -= count
        if self._parent is not None:
            self._parent.give(count)


class Assembly:
    """A message arriving in pieces. Memory grows with what arrives, never with what is claimed."""

    __slots__ = ("buffer", "charged", "item", "raw", "total", "trailers")

    def __init__(self, total: int, raw: bool, item: bool) -> None:
        self.total = total
        self.raw = raw
        self.item = item
        self.charged = 0
        self.buffer = bytearray()
        self.trailers = b""


class Outgoing:
    """A message waiting for credit or for its turn, cut into pieces as it goes.

    Attributes:
        begun: its first frame has gone (for a CALL at once, without a byte of the body, so that ids appear in order).
        position: how many bytes of the body have gone.
        prefix: what stands in front of the body in the first frame, beside `total`.
        then: the item that follows a CALL's arguments.
    """

    __slots__ = ("begun", "body", "call", "flags", "kind", "position", "prefix", "then")

    def __init__(self, call: CallState, kind: int, flags: int, body: bytes, *, begun: bool = False, prefix: bytes = b"") -> None:
        self.call = call
        self.kind = kind
        self.flags = flags
        self.body = memoryview(body)
        self.begun = begun
        self.prefix = prefix
        self.position = 0
        self.then: Outgoing | None = None


class Flow:
    """What only calls with streams or pieces need; a small unary call never has one.

    Attributes:
        send_credit: what we may still send on this stream.
        receive_credit: what the peer may still send.
        owed: used by the reader and not yet given back.
        unused: connection credit of items received and not yet used.
        held: bytes of the budget held by items of several pieces until they are used, and by a call's large arguments until it is over.
        outgoing: the message that waits for credit or its turn; there is never more than one.
        waiting: the outgoing item stands outside the queue, because the stream has no credit.
        end_after: send END when the outgoing message has gone.
        sending: we may still send items.
        receiving: items may still come.
        refused: what we could not take is on its way still; it is skipped until the call has been answered.
        window: the size of our receive window.
        send_window: the size of the peer's.
    """

    __slots__ = (
        "assembly",
        "end_after",
        "held",
        "outgoing",
        "owed",
        "receive_credit",
        "receiving",
        "refused",
        "send_credit",
        "send_window",
        "sending",
        "unused",
        "waiting",
        "window",
    )

    def __init__(self, send_window: int, window: int) -> None:
        self.send_window = send_window
        self.send_credit = send_window
        self.window = window
        self.receive_credit = window
        self.owed = 0
        self.unused = 0
        self.assembly: Assembly | None = None
        self.outgoing: Outgoing | None = None
        self.waiting = False
        self.end_after = False
        self.sending = False
        self.receiving = False
        self.refused = False
        self.held = 0


class CallState(msgspec.Struct, eq=False):
    """The wire's part of an open call. The layer above derives its own record from it, so that one object serves both."""

    id: int = 0
    flow: Flow | None = None


class IncomingCall(CallState, eq=False):
    """A call as it arrived. `deadline_ms` counts from the moment its first byte was read; 0 means none.

    `wants` trailers with its answer. `cancelled` as soon as a CANCEL has been read, which may be before its Called has been handled.
    """

    method: bytes = b""
    body: bytes = b""
    raw: bool = False
    streams: bool = False
    deadline_ms: int = 0
    number: int = 0
    attempt: int = frames.ORIGINAL
    trace: bytes | None = None
    metadata: bytes | None = None
    wants: bool = False
    cancelled: bool = False
