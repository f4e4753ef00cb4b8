"""The short way of a small call that is alone: its one frame is all there is to read, or all there is to write.

Owns: what `receive_data`, `open_call` and `take_output` do for nearly all calls when one is under way at a time, written out without the
loop over frames, the events and the list of chunks. Each function here has the effect of the long way, or has none and says so;
`tests/wire/test_lone.py` holds the two to be equal.

What may never happen here: a check left out that the long way makes; a frame that overtakes another. So nothing goes this way while events
wait to be handled or chunks to be written, nor in any state of the connection but the plainest (`_lone_max_bytes`).
"""

from __future__ import annotations

import struct

from ..errors import InvalidArgument
from . import frames
from .events import Replied
from .flow import CallState, IncomingCall
from .receiving import Receiving

_unpack_header = frames.HEADER.unpack_from
_unpack_call_frame = frames.CALL_FRAME_HEAD.unpack_from
_pack_call = frames.CALL_FRAME_HEAD.pack
_HEADER_BYTES = frames.HEADER_BYTES
_HEAD_BYTES = frames.CALL_FRAME_HEAD.size
_CALL_ID_MAX = frames.CALL_ID_MAX
_NOT_RAW = ~frames.RAW
_CALL, _REPLY, _RAW, _HEDGE = frames.CALL, frames.REPLY, frames.RAW, frames.HEDGE


class Lone(Receiving):
    """A machine that knows the short way."""

    __slots__ = ()

    def receive_lone_call(self, data: memoryview | bytes) -> IncomingCall | None:
        """Server: take `data` if it is one whole call and nothing else, and return it: it is open now, and there is no event for it."""
        size = len(data)
        if not _HEAD_BYTES <= size <= self._lone_max_bytes or self.events:
            return None
        frame = data if type(data) is bytes else bytes(data)
        length, kind, flags, call_id, deadline_ms, number, attempt, name_length = _unpack_call_frame(frame)
        body_at = _HEAD_BYTES + name_length
        if length != size - _HEADER_BYTES or kind != _CALL or flags & _NOT_RAW or body_at > size or attempt > _HEDGE:
            return None
        calls = self.calls
        if not self._last_id < call_id <= _CALL_ID_MAX or len(calls) >= self.local.open_calls_max or self.outbox.answers is not None:
            return None
        if number < self._settled and number:
            return None
        self._last_id = call_id
        make_call = self._make_call
        call = calls[call_id] = make_call(
            call_id, None, frame[_HEAD_BYTES:body_at], frame[body_at:], flags == _RAW, False, deadline_ms, number, attempt
        )
        return call

    def receive_lone_reply(self, data: memoryview | bytes) -> Replied | None:
        """Client: take `data` if it is the one whole reply to a plain call and nothing else; the call is over then."""
        size = len(data)
        if not _HEADER_BYTES <= size <= self._lone_max_bytes or self.events:
            return None
        frame = data if type(data) is bytes else bytes(data)
        length, kind, flags, call_id = _unpack_header(frame)
        if length != size - _HEADER_BYTES or kind != _REPLY or flags & _NOT_RAW:
            return None
        calls = self.calls
        call = calls.get(call_id)
        if call is None or call.flow is not None:
            return None
        del calls[call_id]
        return Replied(call, frame[_HEADER_BYTES:], flags == _RAW)

    def open_lone_call(self, call: CallState, method: bytes, body: bytes, flags: int, deadline_ms: int, number: int) -> bytes:
        """Client: as `open_plain_call` and `take_output`: open the call and return what to write; empty when nothing has been done."""
        name_length = len(method)
        size = _HEAD_BYTES + name_length + len(body)
        if size > self._lone_max_bytes or self.ready or self.outbox.special:
            return b""
        call_id = self._last_id + 1
        try:
            head = _pack_call(size - _HEADER_BYTES, _CALL, flags, call_id, deadline_ms, number, 0, name_length)
        except struct.error:
            raise cannot_travel(name_length, deadline_ms, number) from None
        self.calls[call_id] = call
        self._sent_before = self._sent_id
        self._last_id = self._sent_id = call.id = call_id
        return head + method + body


def cannot_travel(name_length: int, deadline_ms: int, number: int) -> InvalidArgument:
    """Say what of a call's head does not fit its field."""
    if name_length > frames.METHOD_MAX_BYTES:
        return InvalidArgument(f"a method name of {name_length} bytes; at most {frames.METHOD_MAX_BYTES} travel")
    return InvalidArgument(f"deadline_ms={deadline_ms} must be at least 0 and below 2**32, call number {number} at least 0 and below 2**64")
