"""Messages in pieces, items of streams and credit: the frames whose bytes cost their sender something.

Owns: putting pieces together, and what a peer may have spent. `receiving.py` takes the frames in and sends them here.
Credit is taken for what arrives before anything else is asked about it, so both sides count the same, whatever became of the call.
What may never happen here: memory for what was claimed and has not arrived; an item its stream had no credit for.
"""

from __future__ import annotations

from . import frames
from .events import Called, Ended, ItemReceived, Replied
from .flow import Assembly, CallState, Flow, IncomingCall
from .opening import Opening

_TOTAL_BYTES = frames.TOTAL.size
_RAW, _MORE = frames.RAW, frames.MORE

CREDIT_MAX = 2**32
"""No stream has more credit than this: above the largest window and the largest message together."""


class Streaming(Opening):
    """A machine that understands what comes in pieces and items."""

    __slots__ = ()

    # ------------------------------------------------------------------ messages in pieces

    def _begin(self, call: CallState, flow: Flow, first: bytes, total: int, raw: bool, *, item: bool) -> bool:
        """Start putting a message together. Its first piece costs connection credit like the others."""
        if not item and not self._pass(call.id, len(first)):
            return False
        if flow.assembly is not None:
            self.fail(frames.PROTOCOL, f"a second message of call {call.id} began inside the first")
        elif total <= len(first):
            self.fail(frames.PROTOCOL, f"a message of {total} bytes whose first piece has {len(first)} and says that more follows")
        elif total > self.local.message_max_bytes:
            self._unusable(call, f"a message of {total} bytes; the limit is {self.local.message_max_bytes}", too_large=True)
        else:
            flow.assembly = Assembly(total, raw, item)
            return self._extend(call, flow.assembly, first)
        return False

    def _extend(self, call: CallState, assembly: Assembly, piece: memoryview | bytes) -> bool:
        size = len(piece)
        if not self.inbox.budget.take(size):
            self._unusable(call, "no room to put a large message together; try again later", too_large=False)
            return False
        assembly.charged += size
        assembly.buffer += piece
        return True

    def _pass(self, call_id: int, size: int) -> bool:
        """Take connection credit for a piece and give it back: what is put together is bounded by the budget instead."""
        if not self.inbox.spend(size):
            self._overdrawn(call_id, size, "connection")
            return False
        self.inbox.used(size)
        return True

    def _on_piece(self, call_id: int, flags: int, payload: memoryview) -> None:
        size = len(payload)
        if not self._pass(call_id, size):
            return
        call = self.calls.get(call_id)
        if call is None:
            self._check_known_id(frames.PIECE, call_id)
            return
        flow = call.flow
        if flow is None or flow.assembly is None:
            if flow is None or not flow.refused:
                self.fail(frames.PROTOCOL, f"PIECE on call {call_id}, where no message began")
            return
        assembly = flow.assembly
        if assembly.item:
            if size > flow.receive_credit:
                self._overdrawn(call_id, size, "stream")
                return
            flow.receive_credit -= size
        have, last = len(assembly.buffer) + size, flags & _MORE == 0
        if size == 0 or have > assembly.total or last != (have == assembly.total):
            self.fail(frames.PROTOCOL, f"pieces of call {call_id} do not add up: {have} of {assembly.total} bytes, last={last}")
        elif self._extend(call, assembly, payload) and last:
            flow.assembly = None
            self._whole(call, flow, assembly)

    def _whole(self, call: CallState, flow: Flow, assembly: Assembly) -> None:
        """A message of several pieces is complete."""
        body, charged = bytes(assembly.buffer), assembly.charged
        if assembly.item:
            flow.held += charged
            cost = min(len(body) + frames.ITEM_OVERHEAD_BYTES, flow.window)
            self.events.append(ItemReceived(call, body, assembly.raw, cost, charged))
        elif isinstance(call, IncomingCall):
            flow.held += charged  # until the call is over: or a thousand slow handlers would hold what no budget knows of
            call.body = body
            self.events.append(Called(call))
        else:
            self.inbox.budget.give(charged)
            del self.calls[call.id]
            self._release(call)
            self.events.append(Replied(call, body, assembly.raw, assembly.trailers))

    def _trailers(self, kind: int, payload: memoryview, at: int) -> tuple[bytes, int] | None:
        """Return the trailers that begin at `at`, and where they end; None when they are not whole, which is an error."""
        start = at + frames.TRAILERS_LENGTH.size
        if start <= len(payload):
            end = start + frames.TRAILERS_LENGTH.unpack_from(payload, at)[0]
            if end <= len(payload):
                return bytes(payload[start:end]), end
        self._wrong_length(kind, len(payload))
        return None

    # ------------------------------------------------------------------ streams

    def _on_data(self, call_id: int, flags: int, payload: memoryview) -> None:
        more = flags & _MORE
        size = len(payload) - (_TOTAL_BYTES if more else 0)
        if size < 0:
            self._wrong_length(frames.DATA, len(payload))
            return
        cost = size + frames.ITEM_OVERHEAD_BYTES
        if not self.inbox.spend(cost):
            self._overdrawn(call_id, cost, "connection")
            return
        call = self.calls.get(call_id)
        flow = call.flow if call is not None else None
        if call is None or (flow is not None and flow.refused):
            self.inbox.used(cost)
            self._check_known_id(frames.DATA, call_id)
            return
        if flow is None or not flow.receiving or flow.assembly is not None:
            self.fail(frames.PROTOCOL, f"DATA on call {call_id}, which takes none now")
            return
        if cost > flow.receive_credit:
            self._overdrawn(call_id, cost, "stream")
            return
        flow.receive_credit -= cost
        if not more:
            flow.unused += cost
            self.events.append(ItemReceived(call, bytes(payload), flags & _RAW != 0, cost, 0))
            return
        self.inbox.used(cost)
        (total,) = frames.TOTAL.unpack_from(payload)
        if self._begin(call, flow, bytes(payload[_TOTAL_BYTES:]), total, flags & _RAW != 0, item=True):
            self._grant_rest(call_id, flow, total)

    def _grant_rest(self, call_id: int, flow: Flow, total: int) -> None:
        """An item in pieces began: what is owed, and what the item has over the whole window, comes at once, or it could never end."""
        grant = flow.owed + max(0, total + frames.ITEM_OVERHEAD_BYTES - flow.window)
        flow.owed = 0
        if grant:
            flow.receive_credit += grant
            self._send_credit(call_id, grant)

    def _on_end(self, call_id: int, flags: int, payload: memoryview) -> None:
        trailers = b""
        if flags & frames.TRAILERS:
            found = self._trailers(frames.END, payload, 0)
            if found is None:
                return
            trailers, _ = found
        call = self.calls.get(call_id)
        flow = call.flow if call is not None else None
        if call is None or (flow is not None and flow.refused):
            self._check_known_id(frames.END, call_id)
            return
        if flow is None or not flow.receiving or flow.assembly is not None:
            self.fail(frames.PROTOCOL, f"END on call {call_id}, which takes none now")
            return
        flow.receiving = False
        if self._role == "client":
            del self.calls[call_id]
            flow.sending = False
            self.outbox.drop(flow)
        self.events.append(Ended(call, trailers))

    def _on_credit(self, call_id: int, payload: memoryview) -> None:
        if len(payload) != frames.CREDIT_PAYLOAD.size:
            self._wrong_length(frames.CREDIT, len(payload))
            return
        (amount,) = frames.CREDIT_PAYLOAD.unpack(payload)
        if call_id == 0:
            self.outbox.credit += amount
            if self.outbox.credit > self.outbox.window:
                self.fail(frames.FLOW, "more connection credit than was ever spent")
            return
        call = self.calls.get(call_id)
        if call is None:
            self._check_known_id(frames.CREDIT, call_id)
        elif call.flow is None:
            self.fail(frames.PROTOCOL, f"CREDIT on call {call_id}, which does not stream")
        else:
            call.flow.send_credit += amount
            if call.flow.send_credit > CREDIT_MAX:
                self.fail(frames.FLOW, f"credit of call {call_id} overflows")
            else:
                self.outbox.resume(call.flow)
