"""Everything that happens to the bytes of an open connection: here its frames become events (those of the handshake in `opening.py`).

Owns: what each frame means in each state of a call, what is an error and what is skipped. Pieces and items are in `streaming.py`.

Rules
- Strict in what it accepts: unknown types, settings, map keys and the payload of END and CANCEL are skipped; all else that version 1
  does not say is an error, and ends the connection.
- A frame of a call that is over is skipped, since it may have been on its way; a frame of a call that never was is an error.
- Credit is taken for what arrives before anything else is asked about it, so both sides count the same, whatever became of the call.
- A length is checked before anything is kept; memory grows with what arrived, never with what was claimed.

What may never happen: an exception out of `receive_data`, whatever the bytes; a parse after ERROR; an event for a call that is over.
"""

from __future__ import annotations

from ..errors import ProtocolError
from . import frames
from .checksum import unseal
from .events import Called, CancelReceived, Failed, ItemReceived, Ponged, Replied, StatusReceived
from .flow import CallState, IncomingCall
from .opening import HANDSHAKE_BYTES
from .status import decode_status
from .streaming import Streaming

_unpack_header = frames.HEADER.unpack_from
_unpack_call = frames.CALL_HEAD.unpack_from
_unpack_call_frame = frames.CALL_FRAME_HEAD.unpack_from
_HEADER_BYTES = frames.HEADER_BYTES
_CALL_HEAD_BYTES = frames.CALL_HEAD.size
_CALL_FRAME_HEAD_BYTES = frames.CALL_FRAME_HEAD.size
_CALL_ID_MAX = frames.CALL_ID_MAX
_SMALL_READ_BYTES = 32 * 1024
_TOTAL_BYTES = frames.TOTAL.size
_ITEM_OVERHEAD_BYTES = frames.ITEM_OVERHEAD_BYTES
_NOT_RAW = ~frames.RAW
_CALL, _REPLY, _DATA, _RAW, _MORE, _HEDGE = frames.CALL, frames.REPLY, frames.DATA, frames.RAW, frames.MORE, frames.HEDGE


class Receiving(Streaming):
    """A machine that understands what it is sent."""

    __slots__ = ()

    def receive_data(self, data: memoryview | bytes, *, checked: bool = False) -> int:
        """Parse every whole frame in `data` and return how many bytes that used. Events are in `events`.

        Args:
            checked: the check sums were looked at and taken out already.
        Raises: nothing. A peer that breaks the protocol is an `Errored` event; from then on everything is swallowed.
        """
        position = 0
        if self.state != "OPEN":
            position = self._receive_opening(memoryview(data), len(data))
            if not self._open():
                return position
        if self._checked and not checked:
            return position + self._receive_checked(memoryview(data)[position:])
        return self._receive_calls(data, position) if self._role == "server" else self._receive_replies(data, position)

    def _receive_replies(self, data: memoryview | bytes, position: int) -> int:
        """Client: parse every whole frame from `position` on; return up to where that was."""
        total, frame_max = len(data), self.local.frame_max_bytes
        events, calls = self.events, self.calls
        # Slices of bytes cost half of a memoryview's and need no copy; what is small is therefore copied once as a whole.
        large = total > _SMALL_READ_BYTES
        small = data if large or type(data) is bytes else bytes(data)
        while total - position >= _HEADER_BYTES:
            length, kind, flags, call_id = _unpack_header(small, position)
            if length > frame_max:
                self._too_long(kind, length)
                return total
            start = position + _HEADER_BYTES
            end = start + length
            if end > total:
                break
            position = end
            if kind == _REPLY and not flags & _NOT_RAW:
                call = calls.pop(call_id, None)
                body = small[start:end]
                if large:
                    body = bytes(body)
                if call is None:
                    self._check_known_id(kind, call_id)
                elif call.flow is None:
                    events.append(Replied(call, body, flags == _RAW))  # type: ignore[arg-type] # it is bytes by now
                    continue
                else:
                    self._whole_reply(call, body, flags == _RAW)  # type: ignore[arg-type]
            elif kind == _DATA and not flags & _NOT_RAW and (taken := self._plain_items(call_id, flags, small, start, end, total)):
                position = taken
                continue
            else:
                self._on_frame(kind, flags, call_id, memoryview(data)[start:end])
            if self._over():
                return total
        return position

    def _receive_calls(self, data: memoryview | bytes, position: int) -> int:
        """Server: parse every whole frame from `position` on; return up to where that was."""
        total, frame_max = len(data), self.local.frame_max_bytes
        events, calls = self.events, self.calls
        calls_max, make_call = self.local.open_calls_max, self._make_call
        plain_call = _CALL if self.outbox.answers is None and self._final_id < 0 else -1
        large = total > _SMALL_READ_BYTES
        small = data if large or type(data) is bytes else bytes(data)
        while (left := total - position) >= _HEADER_BYTES:
            if left >= _CALL_FRAME_HEAD_BYTES:  # nearly everything is a call: its head is read with the header, and counts if it is one
                length, kind, flags, call_id, deadline_ms, number, attempt, name_length = _unpack_call_frame(small, position)
            else:
                length, kind, flags, call_id = _unpack_header(small, position)
            if length > frame_max:
                self._too_long(kind, length)
                return total
            end = position + _HEADER_BYTES + length
            if end > total:
                break
            if kind == plain_call and not flags & _NOT_RAW and length >= _CALL_HEAD_BYTES and self._last_id < call_id <= _CALL_ID_MAX:
                # A whole call without trace, metadata and stream: nearly all of them, and so without a function of its own.
                at = position + _CALL_FRAME_HEAD_BYTES
                body_at = at + name_length
                if body_at <= end and attempt <= _HEDGE and len(calls) < calls_max and (number >= self._settled or not number):
                    self._last_id = call_id
                    name, body = small[at:body_at], small[body_at:end]
                    if large:
                        name, body = bytes(name), bytes(body)
                    call = calls[call_id] = make_call(call_id, None, name, body, flags == _RAW, False, deadline_ms, number, attempt)
                    events.append(Called(call))
                    position = end
                    continue
            position = end
            start = end - length
            if kind == _DATA and not flags & _NOT_RAW and (taken := self._plain_items(call_id, flags, small, start, end, total)):
                position = taken
                continue
            self._on_frame(kind, flags, call_id, memoryview(data)[start:end])
            if self._over():
                return total
        return position

    def first_frame_bytes(self, data: memoryview) -> int:
        """How long the first frame in `data` is by its own account, with its check sum; 0 while that cannot be told."""
        if self.state != "OPEN":
            return HANDSHAKE_BYTES
        if len(data) < _HEADER_BYTES:
            return 0
        length: int = frames.LENGTH.unpack_from(data)[0]
        return _HEADER_BYTES + length + (frames.CHECK_BYTES if self._checked else 0)

    def _receive_checked(self, data: memoryview) -> int:
        """As `receive_data`, where every frame has a check sum behind it."""
        sound, used, broken = unseal(data, self.local.frame_max_bytes)
        if sound:
            self.receive_data(sound, checked=True)
        if broken:
            self.fail(frames.CHECKSUM, "a frame whose check sum is wrong: it was changed on its way")
        return len(data) if self._over() else used

    def _plain_items(self, call_id: int, flags: int, data: memoryview | bytes, start: int, end: int, total: int) -> int:
        """Take a whole item that has its credit, as nearly all have, and those of the same stream that follow it without a gap.

        Args:
            start, end: where the body of the first is.
            total: how much of `data` there is.
        Returns: the end of the last one taken. 0: nothing has been done, and `_on_data` says what it is.
        """
        call = self.calls.get(call_id)
        flow = None if call is None else call.flow
        if call is None or flow is None or not flow.receiving or flow.refused or flow.assembly is not None:
            return 0
        events, inbox, spent, taken, views = self.events, self.inbox, 0, 0, type(data) is not bytes
        spare = inbox.credit - inbox.low
        if flow.receive_credit < spare:
            spare = flow.receive_credit
        while (cost := end - start + _ITEM_OVERHEAD_BYTES) <= spare - spent:
            body = bytes(data[start:end]) if views else data[start:end]
            events.append(ItemReceived(call, body, flags == _RAW, cost, 0))  # type: ignore[arg-type] # it is bytes by now
            spent += cost
            taken = end
            start = end + _HEADER_BYTES
            if start > total:
                break
            length, kind, flags, next_id = _unpack_header(data, end)
            if next_id != call_id or kind != _DATA or flags & _NOT_RAW or length > self.local.frame_max_bytes:
                break
            end = start + length
            if end > total:
                break
        inbox.credit -= spent
        flow.receive_credit -= spent
        flow.unused += spent
        return taken

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
        if position > size or attempt > _HEDGE or 0 < number < self._settled:
            self._bad_call_head(call_id, position, size, attempt, number)
            return
        if self._final_id >= 0:
            if total >= 0:
                self._pass(call_id, size - position)
            return  # it is above the id of our last GOAWAY, so its caller knows that we do not execute it
        name = bytes(payload[_CALL_HEAD_BYTES : _CALL_HEAD_BYTES + name_length])
        streams = flags & frames.STREAM != 0
        body = bytes(payload[position:])
        raw = flags & _RAW != 0
        # positional: this is the hot path, and keywords cost as much as the whole record
        wants = flags & frames.TRAILERS != 0
        call = self._make_call(call_id, None, name, body, raw, streams, deadline_ms, number, attempt, trace, metadata, wants)
        self._admit_call(call, total)

    def _bad_call_head(self, call_id: int, needed: int, size: int, attempt: int, number: int) -> None:
        if needed > size:
            self._wrong_length(_CALL, size)
        elif 0 < number < self._settled:
            self.fail(frames.PROTOCOL, f"call number {number} after the ACK that all below {self._settled} are settled")
        else:
            self.fail(frames.PROTOCOL, f"call {call_id} is of attempt class {attempt}; version {frames.VERSION} knows 0 to {_HEDGE}")

    def _admit_call(self, call: IncomingCall, total: int) -> None:
        """Enter a call into the table, whole (total < 0) or with its pieces still to come."""
        answers = self.outbox.answers
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

    # ------------------------------------------------------------------ all other frames

    def _on_frame(self, kind: int, flags: int, call_id: int, payload: memoryview) -> None:
        """Everything that does not take the short way."""
        known = frames.KNOWN_FLAGS.get(kind)
        if known is None:
            return  # a type of a later version: skipped by its length
        if kind == _CALL:
            self._on_call(payload, flags, call_id)
        elif flags & ~known:
            self._unknown_flags(kind, flags)
        elif kind == frames.DATA:
            self._on_data(call_id, flags, payload)
        elif kind == frames.PIECE:
            self._on_piece(call_id, flags, payload)
        elif kind == frames.CREDIT:
            self._on_credit(call_id, payload)
        elif kind == frames.END:
            self._on_end(call_id, flags, payload)
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
        elif kind == frames.STATUS:
            self._on_status(payload)
        elif kind == frames.ACK:
            self._on_ack(payload)
        else:
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} after the handshake")

    def _on_ping(self, payload: memoryview) -> None:
        if len(payload) != frames.PING_BYTES:
            self._wrong_length(frames.PING, len(payload))
            return
        if self._pongs >= frames.PONGS_MAX:
            self.fail(frames.FLOW, f"{self._pongs} pings came before one answer could be written; a sign of life needs one")
            return
        self.ready.append(frames.pack_frame(frames.PONG, 0, 0, bytes(payload)))
        self._pongs += 1
        self.pings += 1

    def _on_status(self, payload: memoryview) -> None:
        if self._role == "server":
            self.fail(frames.PROTOCOL, "STATUS from a client")
            return
        try:
            self.events.append(StatusReceived(decode_status(bytes(payload))))
        except ProtocolError as error:
            self.fail(frames.PROTOCOL, str(error))

    def _on_ack(self, payload: memoryview) -> None:
        if self._role == "client":
            self.fail(frames.PROTOCOL, "ACK from a server")
        elif len(payload) != frames.ACK_PAYLOAD.size:
            self._wrong_length(frames.ACK, len(payload))
        else:
            (number,) = frames.ACK_PAYLOAD.unpack(payload)
            if number < self._settled:
                self.fail(frames.PROTOCOL, f"ACK of call number {number} after one of {self._settled}: what is settled stays so")
            self._settled = number

    def _on_cancel(self, call_id: int) -> None:
        if self._role != "server":
            self.fail(frames.PROTOCOL, "CANCEL from a server")
            return
        call = self.calls.get(call_id)
        if call is None:
            if not self.outbox.drop_answer(call_id):
                self._check_known_id(frames.CANCEL, call_id)
            return
        self.cancels += 1
        flow = call.flow
        if flow is not None and (flow.refused or (flow.assembly is not None and not flow.assembly.item)):
            # it was refused, or never became whole: no handler knows it, so it ends here
            del self.calls[call_id]
            self._release(call)
            return
        if isinstance(call, IncomingCall):
            call.cancelled = True
        self.events.append(CancelReceived(call))

    def _on_answer(self, kind: int, flags: int, call_id: int, payload: memoryview) -> None:
        """A REPLY in pieces, or an ERROR."""
        if self._role == "server":
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} from a client")
            return
        call = self.calls.get(call_id)
        more = flags & _MORE  # no ERROR has it
        at = _TOTAL_BYTES if more else 0
        trailers = b""
        if flags & frames.TRAILERS:
            found = self._trailers(kind, payload, at)
            if found is None:
                return
            trailers, at = found
        elif len(payload) < at:
            self._wrong_length(kind, len(payload))
            return
        body = bytes(payload[at:])
        if call is None:
            if not more or self._pass(call_id, len(body)):
                self._check_known_id(kind, call_id)
        elif more:
            (total,) = frames.TOTAL.unpack_from(payload)
            flow = self._flow_of(call)
            if self._begin(call, flow, body, total, flags & _RAW != 0, item=False) and flow.assembly is not None:
                flow.assembly.trailers = trailers
        elif kind == frames.ERROR:
            del self.calls[call_id]
            self._release(call)
            self.events.append(Failed(call, body, trailers))
        else:
            del self.calls[call_id]
            self._whole_reply(call, body, flags & _RAW != 0, trailers)

    def _whole_reply(self, call: CallState, body: bytes, raw: bool, trailers: bytes = b"") -> None:
        """A REPLY in one frame to a call that streams, or that is itself on its way still. It has left the table."""
        flow = call.flow
        if flow is not None and flow.assembly is not None:
            self.calls[call.id] = call
            in_order = sorted(self.calls.items())
            self.calls.clear()
            self.calls.update(in_order)
            self.fail(frames.PROTOCOL, f"a REPLY to call {call.id} inside another message of it")
            return
        self._release(call)
        self.events.append(Replied(call, body, raw, trailers))
