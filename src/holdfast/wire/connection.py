"""The protocol machine of one connection, without I/O: the class that rpc drives, and the commands it gives.

The hard files of this package are `receiving.py` and `streaming.py` (bytes become events); `opening.py` shakes hands, `machine.py`
draws the states and holds what all share. Sending in pieces is the Outbox's (`outbox.py`), the receive window the Inbox's (`inbox.py`).

How to drive it
- `receive_data(view)` parses what is whole and returns how many bytes it used; keep the rest and put it in front of what comes next.
  The rest is never longer than one frame, because a frame's length is checked before anything else about it.
- Then handle `events`, in order, and clear the list. Commands may be given at any time in state OPEN.
- Then write what `take_output` returns, or say `send_failed`. After `fail` that includes the reason, for the peer; then close.
- When the link is gone, `lost()` gives every open call back, and with them what they hold of shared budgets.

What may never happen: a command that sends part of itself and then raises; a frame of a call after the one that ended it.
"""

from __future__ import annotations

import struct

from ..errors import InvalidArgument
from . import frames
from .checksum import seal
from .events import Drained, ItemReceived
from .flow import CallState, Flow, IncomingCall, Outgoing
from .lone import Lone, cannot_travel
from .outbox import LARGE_BYTES
from .settings import FRAME_LIMIT_LEAST, Settings, encode_settings
from .status import Status, encode_status

_pack_header = frames.HEADER.pack
_pack_call = frames.CALL_FRAME_HEAD.pack
_PLAIN_MAX_BYTES = FRAME_LIMIT_LEAST
_CALL_HEAD_BYTES = frames.CALL_HEAD.size
_ITEM_OVERHEAD_BYTES = frames.ITEM_OVERHEAD_BYTES
_CALL, _REPLY, _DATA, _RAW = frames.CALL, frames.REPLY, frames.DATA, frames.RAW


class Connection(Lone):
    """One side of a connection.

    Args:
        role: `client` opens calls, `server` answers them.
        settings: what we tell the peer, and hold it to.
        budget: bounds the bytes of messages being put together, of large items not yet used, of large arguments being worked on and of
            large replies on their way.
        make_call: makes the record of an incoming call; the layer above derives its own from IncomingCall.
    """

    __slots__ = ()

    def send_welcome(self, settings: Settings) -> None:
        """Server: let the client in, with the settings it shall keep to."""
        if self.state != "GREETED":
            raise RuntimeError(f"send_welcome in state {self.state}; a server welcomes once, after HelloReceived")
        assert self.remote is not None  # in state GREETED it is there
        self.local = settings
        self._checked = frames.CHECKED in settings.features and frames.CHECKED in self.remote.features
        self.state = "OPEN"
        self._allow_lone()
        self.inbox.open(settings)
        self.ready.append(frames.PREFACE)
        self.ready.append(frames.pack_frame(frames.WELCOME, 0, 0, encode_settings(settings)))

    # ------------------------------------------------------------------ calls

    def open_call(
        self,
        call: CallState,
        method: bytes,
        body: bytes,
        raw: bool,
        deadline_ms: int,
        number: int,
        attempt: int = frames.ORIGINAL,
        extra: tuple[int, bytes] | None = None,
        sends_items: bool = False,
        takes_items: bool = False,
    ) -> None:
        """Client: open a call; it gets its id here and is in the table from now on.

        Args:
            deadline_ms: how long the server has, from the moment it reads this; 0 means for ever.
            extra: what `pack_extra` made of trace, metadata and the wish for trailers: flags and bytes.
        Raises: InvalidArgument when the message or its name or metadata is longer than the server takes; nothing has been sent then.
        """
        size = len(body)
        if size > self.message_max_bytes:
            raise InvalidArgument(f"a message of {size} bytes; the server takes {self.message_max_bytes}: send it as a stream")
        call_id = self._last_id + 1
        flags = _RAW if raw else 0
        if extra is not None:
            flags |= extra[0]
        if sends_items:
            flags |= frames.STREAM
        name_length = len(method)
        length = _CALL_HEAD_BYTES + name_length + size + (len(extra[1]) if extra is not None else 0)
        whole = length <= self.outbox.frame_max_bytes
        if not whole:
            flags |= frames.MORE
            length = self._first_frame_bytes(length - size)
        try:
            if whole:
                head = _pack_call(length, _CALL, flags, call_id, deadline_ms, number, attempt, name_length)
            else:
                head = _pack_header(length, _CALL, flags, call_id) + frames.TOTAL.pack(size)
                head += frames.CALL_HEAD.pack(deadline_ms, number, attempt, name_length)
        except struct.error:
            raise cannot_travel(name_length, deadline_ms, number) from None
        self._last_id = call.id = call_id
        self.calls[call_id] = call
        ready = self.ready
        ready.append(head)
        ready.append(method)
        if extra is not None:
            ready.append(extra[1])
        if sends_items or takes_items:
            flow = self._flow_of(call)
            flow.sending = sends_items
            flow.receiving = takes_items
        if whole:
            ready.append(body)
            if size >= LARGE_BYTES:
                self.outbox.special = True
        else:
            # The head goes at once and without a byte of the body: ids must appear in order, and small calls overtake large ones.
            flow = self._flow_of(call)
            flow.outgoing = Outgoing(call, _CALL, 0, body, begun=True)
            self.outbox.queue(flow.outgoing)

    def open_plain_call(self, call: CallState, method: bytes, body: bytes, flags: int, deadline_ms: int, number: int) -> bool:
        """Client: open a call as `open_call` does, if it is small, has nothing but arguments, and may go. False: nothing has been done.

        The short way for nearly all calls. `flags` is RAW or 0.
        """
        name_length = len(method)
        length = _CALL_HEAD_BYTES + name_length + len(body)
        if length > _PLAIN_MAX_BYTES or self.state != "OPEN":
            return False
        call_id = self._last_id + 1
        try:
            head = _pack_call(length, _CALL, flags, call_id, deadline_ms, number, 0, name_length)
        except struct.error:
            raise cannot_travel(name_length, deadline_ms, number) from None
        self._last_id = call.id = call_id
        self.calls[call_id] = call
        ready = self.ready
        ready.append(head)  # three of these cost less than one `+=`
        ready.append(method)
        ready.append(body)
        return True

    def _first_frame_bytes(self, head: int) -> int:
        length = frames.TOTAL.size + head
        limit = self.outbox.frame_max_bytes
        if length > limit:
            raise InvalidArgument(f"name, trace and metadata of this call take {head} bytes; they must fit one frame of {limit} bytes")
        return length

    def send_reply(self, call: CallState, body: bytes, raw: bool, trailers: bytes = b"") -> bool:
        """Server: answer a call, which ends it. `body` must not be longer than `message_max_bytes`.

        False: too many large replies wait for this peer to read; nothing has been sent and the call is open still. Answer it with an error.
        """
        flags = _RAW if raw else 0
        if trailers or len(body) > _PLAIN_MAX_BYTES:
            return self._send_long_reply(call, body, flags, trailers)
        if self.calls.pop(call.id, None) is not None:
            if call.flow is not None:
                self._release(call)
            ready = self.ready
            ready.append(_pack_header(len(body), _REPLY, flags, call.id))
            ready.append(body)
        return True

    def _send_long_reply(self, call: CallState, body: bytes, flags: int, trailers: bytes) -> bool:
        """As `send_reply`, for what may not fit a frame of every peer."""
        prefix = b""
        if trailers:
            flags |= frames.TRAILERS
            prefix = _pack_trailers(trailers)
        size = len(prefix) + len(body)
        small = size <= self.outbox.frame_max_bytes
        if not small and call.id in self.calls and not self.outbox.queue_answer(Outgoing(call, _REPLY, flags, body, prefix=prefix)):
            return False
        if self.calls.pop(call.id, None) is None:
            return True
        self._release(call)
        if small:
            self.ready += (_pack_header(size, _REPLY, flags, call.id), prefix, body)
            if size >= LARGE_BYTES:
                self.outbox.special = True
        return True

    def send_error(self, call: CallState, body: bytes, trailers: bytes = b"") -> None:
        """Server: end a call with an error. The trailers are left out where they do not fit the frame beside it.

        Raises: InvalidArgument when `body` does not fit a frame (`remote.frame_max_bytes`); the call is open still.
        """
        limit = self.outbox.frame_max_bytes
        if len(body) > limit:
            raise InvalidArgument(f"an error of {len(body)} bytes; it must fit one frame of {limit} bytes: shorten its message and details")
        if self.calls.pop(call.id, None) is None:
            return
        self._release(call)
        flags = 0
        if trailers and len(body) + len(trailers) + frames.TRAILERS_LENGTH.size <= limit:
            flags = frames.TRAILERS
            body = _pack_trailers(trailers) + body
        self.ready.append(frames.pack_frame(frames.ERROR, flags, call.id, body))

    def cancel(self, call: CallState) -> bool:
        """Client: give a call up. True when the server may have all of it; False when a part had not left: it was surely not executed."""
        if self.calls.pop(call.id, None) is None:
            return True
        outgoing = call.flow.outgoing if call.flow is not None else None
        unsent = outgoing is not None and outgoing.kind == _CALL
        self._give_up(call)
        return not unsent

    def finish(self, call: CallState) -> None:
        """Server: a cancelled call is really over now; nothing is sent."""
        if self.calls.pop(call.id, None) is not None:
            self._release(call)

    # ------------------------------------------------------------------ streams

    def send_item(self, call: CallState, body: bytes, raw: bool) -> bool:
        """Send an item of a stream. False: it waits for credit; send no other before `Drained`, which does not come if the call ends first.

        Raises: InvalidArgument when the item is longer than the peer takes.
        """
        flow = call.flow
        size = len(body)
        cost = size + _ITEM_OVERHEAD_BYTES
        if size <= _PLAIN_MAX_BYTES and flow is not None and flow.sending and flow.outgoing is None:
            outbox = self.outbox
            if cost <= flow.send_credit and cost <= outbox.credit:  # nearly all items; a call that is over has no flow that sends
                flow.send_credit -= cost
                outbox.credit -= cost
                self.ready += (_pack_header(size, _DATA, _RAW if raw else 0, call.id), body)
                return True
        return self._send_any_item(call, body, _RAW if raw else 0, cost)

    def _send_any_item(self, call: CallState, body: bytes, flags: int, cost: int) -> bool:
        """As `send_item`, for one that is large, waits for credit, comes first, or comes at the wrong time."""
        if call.id not in self.calls:
            return True  # the call is over; its sender is about to be told
        flow = self._sending_flow(call)
        if flow is None or not flow.sending or flow.end_after:
            raise RuntimeError(f"call {call.id} takes no items from us, or its END was sent already")
        size = len(body)
        if size > self.message_max_bytes:
            raise InvalidArgument(f"an item of {size} bytes; the peer takes {self.message_max_bytes}")
        ahead = flow.outgoing
        if ahead is not None:
            if ahead.kind != _CALL or ahead.then is not None:
                raise RuntimeError(f"an item of call {call.id} is waiting already; send the next one after Drained")
            ahead.then = Outgoing(call, _DATA, flags, body)
            return False
        outbox = self.outbox
        if cost <= flow.send_credit and cost <= outbox.credit and outbox.fits(flow, size):
            flow.send_credit -= cost
            outbox.credit -= cost
            self.ready += (_pack_header(size, _DATA, flags, call.id), body)
            if size >= LARGE_BYTES:
                outbox.special = True
            return True
        flow.outgoing = Outgoing(call, _DATA, flags, body)
        outbox.queue(flow.outgoing)
        return False

    def send_end(self, call: CallState, trailers: bytes = b"") -> None:
        """No more items from us. For a server this ends the call; its trailers are left out when an item still waits to go."""
        if call.id not in self.calls:
            return
        flow = self._sending_flow(call)
        if flow is None or not flow.sending:
            return
        if flow.outgoing is not None:
            flow.end_after = True
            return
        flow.sending = False
        if trailers:
            self.ready.append(frames.pack_frame(frames.END, frames.TRAILERS, call.id, _pack_trailers(trailers)))
        else:
            self.ready.append(frames.pack_frame(frames.END, 0, call.id))
        if self._role == "server":
            del self.calls[call.id]
            self._release(call)

    def _sending_flow(self, call: CallState) -> Flow | None:
        """A server may answer any call with a stream; its first item or END makes the flow."""
        flow = call.flow
        if flow is None and isinstance(call, IncomingCall):
            flow = self._flow_of(call)
        return flow

    def consume(self, item: ItemReceived) -> None:
        """The item has been used: its credit goes back, in portions of half a window."""
        flow = item.call.flow
        if item.held and flow is not None:
            held = min(item.held, flow.held)
            flow.held -= held
            self.inbox.budget.give(held)
            self._owe(item.call, flow, item.cost)
        else:
            self.consume_plain(item.call, item.cost)

    def consume_plain(self, call: CallState, cost: int) -> None:
        """As `consume`, for items that held no budget: what they cost, all together."""
        flow = call.flow
        if flow is not None:
            self.inbox.used(min(cost, flow.unused))
            flow.unused -= min(cost, flow.unused)
            self._owe(call, flow, cost)

    def _owe(self, call: CallState, flow: Flow, cost: int) -> None:
        if flow.receiving and call.id in self.calls:
            flow.owed += cost
            if flow.owed * 2 >= flow.window or flow.assembly is not None:
                owed, flow.owed = flow.owed, 0
                flow.receive_credit += owed
                self._send_credit(call.id, owed)

    def forget(self, call: CallState) -> None:
        """Items of a call that is over will not be used any more: give back what they hold."""
        self._release(call)

    # ------------------------------------------------------------------ the connection

    def send_ping(self, payload: bytes) -> None:
        """Ask for a sign of life; `payload` is 8 bytes and comes back in Ponged."""
        if len(payload) != frames.PING_BYTES:
            raise ValueError(f"a ping of {len(payload)} bytes; it has {frames.PING_BYTES}")
        self.ready.append(frames.pack_frame(frames.PING, 0, 0, payload))

    def send_status(self, status: Status) -> None:
        """Server: tell the client how we are."""
        self.ready.append(frames.pack_frame(frames.STATUS, 0, 0, encode_status(status)))

    def send_ack(self, number: int) -> None:
        """Client: say that every call number below is settled, on whatever connection, and will not be used again."""
        self.ready.append(frames.pack_frame(frames.ACK, 0, 0, frames.ACK_PAYLOAD.pack(number)))

    def announce_goaway(self, message: str) -> None:
        """Server: ask the client for no more calls. What is on its way is taken, until `send_goaway` says that it is over."""
        self.ready.append(self._goaway(frames.GOING, message, frames.CALL_ID_MAX))

    def send_goaway(self, message: str) -> None:
        """Take no more calls. What is open goes on; from a server, the peer is told which call was the last.

        Say `announce_goaway` first and wait for a PONG: then there is no call behind the last one, unless the peer did not listen.
        """
        if self._role == "server" and self._final_id < 0:
            self._final_id = self._last_id
            self._lone_max_bytes = 0
        self.ready.append(self._goaway(frames.GOING, message))

    def take_output(self, limit_bytes: int) -> bytes:
        """Return the bytes to write now, and forget them: everything small, and pieces of large messages until about `limit_bytes`.

        May add Drained events. Call again when `output_pending` and the transport has room.
        """
        if self.state == "ERROR":
            words, self._last_words = self._last_words, b""
            return words
        if self.outbox.special:
            self._fill_ready(limit_bytes)
        return self.take_plain()

    def take_plain(self) -> bytes:
        """As `take_output`, while `outbox.special` is not set: then what is ready is all there is."""
        self._sent_before, self._sent_id = self._sent_id, self._last_id
        self._pongs = 0
        ready = self.ready
        data = b"".join(ready)
        ready.clear()
        return self._sealed(data) if self._checked and data else data

    def take_chunks(self, limit_bytes: int) -> list[bytes | memoryview]:
        """As `take_output`, in chunks, of which large ones need no copy."""
        if self._checked or self.state == "ERROR":
            data = self.take_output(limit_bytes)
            return [data] if data else []
        self._fill_ready(limit_bytes)
        chunks = self.ready.copy()
        self.ready.clear()
        self.take_plain()
        return chunks

    def _fill_ready(self, limit_bytes: int) -> None:
        drained: list[CallState] = []
        outbox = self.outbox
        if outbox.bulk is not None:
            outbox.fill(limit_bytes, drained)
        outbox.special = outbox.bulk is not None
        for call in drained:
            if call.flow is not None and call.flow.outgoing is not None:
                self._drained(call, call.flow, call.flow.outgoing)

    def _sealed(self, data: bytes) -> bytes:
        """Add the check sums; a preface and the frame of the handshake behind it have none."""
        plain = 0
        if data.startswith(frames.PREFACE):
            plain = len(frames.PREFACE)
            plain += frames.HEADER_BYTES + frames.LENGTH.unpack_from(data, plain)[0]
        return data[:plain] + seal(data[plain:])

    def send_failed(self) -> None:
        """What the last `take_output` returned did not leave us: calls that were first in it have surely not been executed (`sent_id`).

        The peer misses bytes now, so this connection has no future but `lost`.
        """
        self._sent_id = self._sent_before

    def _drained(self, call: CallState, flow: Flow, outgoing: Outgoing) -> None:
        """A call's queued message has gone: its first item may follow, or its END, and its sender goes on."""
        flow.outgoing = outgoing.then
        if outgoing.then is not None:
            self.outbox.queue(outgoing.then)
            return
        if outgoing.kind == _DATA:
            self.events.append(Drained(call))
        if flow.end_after:
            self.send_end(call)

    @property
    def output_pending(self) -> bool:
        """Whether `take_output` would return anything now."""
        return self.outbox.pending if self.state != "ERROR" else bool(self._last_words)

    @property
    def busy(self) -> bool:
        """Whether a message still waits for its turn or for credit."""
        return self.outbox.bulk is not None and self.state != "ERROR"

    @property
    def message_max_bytes(self) -> int:
        """The longest body the peer takes; 0 before the handshake."""
        return self.remote.message_max_bytes if self.remote is not None else 0


def _pack_trailers(trailers: bytes) -> bytes:
    if len(trailers) > frames.TRAILERS_MAX_BYTES:
        raise ValueError(f"trailers of {len(trailers)} bytes; at most {frames.TRAILERS_MAX_BYTES} travel")
    return frames.TRAILERS_LENGTH.pack(len(trailers)) + trailers
