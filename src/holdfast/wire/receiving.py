"""Everything that happens to the bytes of an open connection: here its frames become events (those of the handshake in `opening.py`).

Owns: what each frame means in each state of a call, what is an error and what is skipped, and putting pieces together.

Rules
- Strict in what it accepts: unknown types, settings, map keys and the payload of END and CANCEL (trailers of later versions) are
  skipped; all else that version 1 does not say is an error, and ends the connection.
- A frame of a call that is over is skipped, since it may have been on its way; a frame of a call that never was is an error.
- Credit is taken for what arrives before anything else is asked about it, so both sides count the same, whatever became of the call.
- A length is checked before anything is kept; memory grows with what arrived, never with what was claimed.

What may never happen: an exception out of `receive_data`, whatever the bytes; a parse after ERROR; an event for a call that is over.
"""

from __future__ import annotations

from . import frames
from .events import Called, CancelReceived, Ended, Failed, ItemReceived, Ponged, Replied
from .flow import Assembly, CallState, Flow, IncomingCall
from .opening import Opening

_unpack_header = frames.HEADER.unpack_from
_unpack_call = frames.CALL_HEAD.unpack_from
_HEADER_BYTES = frames.HEADER_BYTES
_CALL_HEAD_BYTES = frames.CALL_HEAD.size
_CALL_ID_MAX = frames.CALL_ID_MAX
_SMALL_READ_BYTES = 32 * 1024
_TOTAL_BYTES = frames.TOTAL.size
_CALL, _REPLY, _RAW, _MORE, _HEDGE = frames.CALL, frames.REPLY, frames.RAW, frames.MORE, frames.HEDGE

CREDIT_MAX = 2**32
"""No stream has more credit than this: above the largest window and the largest message together."""


class Receiving(Opening):
    """A machine that understands what it is sent."""

    __slots__ = ()

    def receive_data(self, data: memoryview) -> int:
        """Parse every whole frame in `data` and return how many bytes that used. Events are in `events`.

        Raises: nothing. A peer that breaks the protocol is an `Errored` event; from then on everything is swallowed.
        """
        total = len(data)
        position = 0
        if self.state != "OPEN":
            position = self._receive_opening(data, total)
            if not self._open():
                return position
        events = self.events
        calls = self.calls
        frame_max = self.local.frame_max_bytes
        answer = self._answer_kind
        plain_call = self._plain_call_kind if self._outbox.answers is None else -1
        make_call = self._make_call
        calls_max = self.local.open_calls_max
        # Slices of bytes cost half of a memoryview's and need no copy; what is small is therefore copied once as a whole.
        small = bytes(data) if total <= _SMALL_READ_BYTES else data
        while total - position >= _HEADER_BYTES:
            length, kind, flags, call_id = _unpack_header(data, position)
            if length > frame_max:
                self._too_long(kind, length)
                return total
            start = position + _HEADER_BYTES
            end = start + length
            if end > total:
                break
            position = end
            if kind == answer and flags & ~_RAW == 0:
                call = calls.pop(call_id, None)
                if call is None:
                    self._check_known_id(kind, call_id)
                elif call.flow is None:
                    events.append(Replied(call, bytes(small[start:end]), flags == _RAW))
                    continue
                else:
                    self._whole_reply(call, bytes(data[start:end]), flags == _RAW)
            elif kind == plain_call and flags & ~_RAW == 0 and length >= _CALL_HEAD_BYTES and self._last_id < call_id <= _CALL_ID_MAX:
                # A whole call without trace, metadata and stream: nearly all of them, and so without a function of its own.
                deadline_ms, number, attempt, name_length = _unpack_call(data, start)
                start += _CALL_HEAD_BYTES
                body_at = start + name_length
                if body_at <= end and attempt <= _HEDGE and len(calls) < calls_max:
                    self._last_id = call_id
                    name, body = bytes(small[start:body_at]), bytes(small[body_at:end])
                    call = calls[call_id] = make_call(call_id, None, name, body, flags == _RAW, False, deadline_ms, number, attempt)
                    events.append(Called(call))
                    continue
                self._on_call(data[end - length : end], flags, call_id)
            elif kind == _CALL:
                self._on_call(data[start:end], flags, call_id)
            else:
                self._on_frame(kind, flags, call_id, data[start:end])
            if self._over():
                return total
        return position

    def _open(self) -> bool:
        return self.state == "OPEN"

    def _too_long(self, kind: int, length: int) -> None:
        limit = self.local.frame_max_bytes
        self.fail(frames.TOO_LARGE, f"a {frames.name_of(kind)} frame of {length} bytes; the limit is {limit}")

    # ------------------------------------------------------------------ calls come in

    def _on_call(self, payload: memoryview, flags: int, call_id: int) -> None:
        if self._role != "server":
            self.fail(frames.PROTOCOL, "CALL from a server")
            return
        if flags & ~frames.KNOWN_FLAGS[_CALL]:
            self._unknown_flags(_CALL, flags)
            return
        if not self._last_id < call_id <= _CALL_ID_MAX:
            self.fail(frames.PROTOCOL, f"call id {call_id} after {self._last_id}: ids only grow, up to {frames.CALL_ID_MAX}")
            return
        self._last_id = call_id
        total = -1
        if flags & _MORE:
            if len(payload) < _TOTAL_BYTES:
                self._wrong_length(_CALL, len(payload))
                return
            (total,) = frames.TOTAL.unpack_from(payload)
            payload = payload[_TOTAL_BYTES:]
        size = len(payload)
        if size < _CALL_HEAD_BYTES:
            self._wrong_length(_CALL, size)
            return
        deadline_ms, number, attempt, name_length = _unpack_call(payload)
        position = _CALL_HEAD_BYTES + name_length
        trace = metadata = None
        if flags & frames.TRACE:
            trace = bytes(payload[position : position + frames.TRACE_BYTES])
            position += frames.TRACE_BYTES
        if flags & frames.METADATA:
            if size < position + frames.METADATA_LENGTH.size:
                self._wrong_length(_CALL, size)
                return
            (length,) = frames.METADATA_LENGTH.unpack_from(payload, position)
            position += frames.METADATA_LENGTH.size
            metadata = bytes(payload[position : position + length])
            position += length
        if position > size or attempt > _HEDGE:
            self._bad_call_head(call_id, position, size, attempt)
            return
        name = bytes(payload[_CALL_HEAD_BYTES : _CALL_HEAD_BYTES + name_length])
        streams = flags & frames.STREAM != 0
        body = bytes(payload[position:])
        raw = flags & _RAW != 0
        # positional: this is the hot path, and keywords cost as much as the whole record
        call = self._make_call(call_id, None, name, body, raw, streams, deadline_ms, number, attempt, trace, metadata)
        self._admit_call(call, total)

    def _bad_call_head(self, call_id: int, needed: int, size: int, attempt: int) -> None:
        if needed > size:
            self._wrong_length(_CALL, size)
        else:
            self.fail(frames.PROTOCOL, f"call {call_id} is of attempt class {attempt}; version {frames.VERSION} knows 0 to {_HEDGE}")

    def _admit_call(self, call: IncomingCall, total: int) -> None:
        """Enter a call into the table, whole (total < 0) or with its pieces still to come."""
        answers = self._outbox.answers
        taken = len(self.calls) if answers is None else len(self.calls) + len(answers)
        self.calls[call.id] = call
        if taken >= self.local.open_calls_max:
            if total >= 0 and not self._pass(call.id, len(call.body)):
                return
            limit = self.local.open_calls_max
            self._unusable(call, f"{limit} calls are open on this connection; end some, or open another one", too_large=False)
            return
        if call.streams:
            self._flow_of(call)
        if total < 0:
            self.events.append(Called(call))
            return
        first, call.body = call.body, b""
        self._begin(call, self._flow_of(call), first, total, call.raw, item=False)

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
        if not self._inbox.budget.take(size):
            self._unusable(call, "no room to put a large message together; try again later", too_large=False)
            return False
        assembly.charged += size
        assembly.buffer += piece
        return True

    def _pass(self, call_id: int, size: int) -> bool:
        """Take connection credit for a piece and give it back: what is put together is bounded by the budget instead."""
        if not self._inbox.spend(size):
            self._overdrawn(call_id, size, "connection")
            return False
        self._inbox.used(size)
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
            self._inbox.budget.give(charged)
            del self.calls[call.id]
            self._release(call)
            self.events.append(Replied(call, body, assembly.raw))

    # ------------------------------------------------------------------ all other frames

    def _on_frame(self, kind: int, flags: int, call_id: int, payload: memoryview) -> None:
        """Everything that is neither a CALL nor a whole REPLY to a client."""
        known = frames.KNOWN_FLAGS.get(kind)
        if known is None:
            return  # a type of a later version: skipped by its length
        if flags & ~known:
            self._unknown_flags(kind, flags)
        elif kind == frames.DATA:
            self._on_data(call_id, flags, payload)
        elif kind == frames.PIECE:
            self._on_piece(call_id, flags, payload)
        elif kind == frames.CREDIT:
            self._on_credit(call_id, payload)
        elif kind == frames.END:
            self._on_end(call_id)
        elif kind in (_REPLY, frames.ERROR):
            self._on_answer(kind, flags, call_id, payload)
        elif kind == frames.CANCEL:
            self._on_cancel(call_id)
        elif call_id:
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} with call id {call_id}; it belongs to the connection, and has 0")
        elif kind == frames.PING:
            self._on_ping(payload)
        elif kind == frames.PONG:
            if len(payload) != frames.PING_BYTES:
                self._wrong_length(kind, len(payload))
                return
            self.events.append(Ponged(bytes(payload)))
        elif kind == frames.GOAWAY:
            self._on_goaway(payload)
        else:
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} after the handshake")

    def _on_ping(self, payload: memoryview) -> None:
        if len(payload) != frames.PING_BYTES:
            self._wrong_length(frames.PING, len(payload))
            return
        pong = frames.pack_frame(frames.PONG, 0, 0, bytes(payload))
        waiting = sum(len(ready) == len(pong) and ready[4] == frames.PONG for ready in self._ready)
        if waiting >= frames.PONGS_MAX:
            self.fail(frames.FLOW, f"{waiting} pings came before one answer could be written; a sign of life needs one")
            return
        self._ready.append(pong)

    def _on_cancel(self, call_id: int) -> None:
        if self._role != "server":
            self.fail(frames.PROTOCOL, "CANCEL from a server")
            return
        call = self.calls.get(call_id)
        if call is None:
            if not self._outbox.drop_answer(call_id):
                self._check_known_id(frames.CANCEL, call_id)
            return
        flow = call.flow
        if flow is not None and (flow.refused or (flow.assembly is not None and not flow.assembly.item)):
            # it was refused, or never became whole: no handler knows it, so it ends here
            del self.calls[call_id]
            self._release(call)
            return
        self.events.append(CancelReceived(call))

    def _on_answer(self, kind: int, flags: int, call_id: int, payload: memoryview) -> None:
        """A REPLY in pieces, or an ERROR."""
        if self._role == "server":
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} from a client")
            return
        call = self.calls.get(call_id)
        if kind == frames.ERROR:
            if call is None:
                self._check_known_id(kind, call_id)
                return
            del self.calls[call_id]
            self._release(call)
            self.events.append(Failed(call, bytes(payload)))
            return
        if len(payload) < _TOTAL_BYTES:
            self._wrong_length(kind, len(payload))
            return
        first = bytes(payload[_TOTAL_BYTES:])
        if call is None:
            if self._pass(call_id, len(first)):
                self._check_known_id(kind, call_id)
            return
        (total,) = frames.TOTAL.unpack_from(payload)
        self._begin(call, self._flow_of(call), first, total, flags & _RAW != 0, item=False)

    def _whole_reply(self, call: CallState, body: bytes, raw: bool) -> None:
        """A REPLY in one frame to a call that streams, or that is itself on its way still. It has left the table."""
        flow = call.flow
        if flow is not None and flow.assembly is not None:
            self.calls[call.id] = call
            self.fail(frames.PROTOCOL, f"a REPLY to call {call.id} inside another message of it")
            return
        self._release(call)
        self.events.append(Replied(call, body, raw))

    # ------------------------------------------------------------------ streams

    def _on_data(self, call_id: int, flags: int, payload: memoryview) -> None:
        more = flags & _MORE
        size = len(payload) - (_TOTAL_BYTES if more else 0)
        if size < 0:
            self._wrong_length(frames.DATA, len(payload))
            return
        cost = size + frames.ITEM_OVERHEAD_BYTES
        if not self._inbox.spend(cost):
            self._overdrawn(call_id, cost, "connection")
            return
        call = self.calls.get(call_id)
        flow = call.flow if call is not None else None
        if call is None or (flow is not None and flow.refused):
            self._inbox.used(cost)
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
        self._inbox.used(cost)
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

    def _on_end(self, call_id: int) -> None:
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
            self._outbox.drop(flow)
        self.events.append(Ended(call))

    def _on_credit(self, call_id: int, payload: memoryview) -> None:
        if len(payload) != frames.CREDIT_PAYLOAD.size:
            self._wrong_length(frames.CREDIT, len(payload))
            return
        (amount,) = frames.CREDIT_PAYLOAD.unpack(payload)
        if call_id == 0:
            self._outbox.credit += amount
            if self._outbox.credit > self._outbox.window:
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
                self._outbox.resume(call.flow)
