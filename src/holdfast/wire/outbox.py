"""What is to be written: small frames at once, large messages cut into pieces that take turns.

Owns: the frames ready to go, the queue of messages too large for one frame or out of credit, and the connection's send credit.
A small frame never waits behind more than one piece of each `take`: that is why a 15 MiB reply does not delay the calls beside it; and
every `take` moves at least one piece, so that small frames cannot starve the large message either.
Never: credit below zero; two pieces of one message out of order; a frame of a call after its `drop`.
"""

from __future__ import annotations

from collections import deque

from . import frames
from .flow import ByteBudget, CallState, Flow, Outgoing

PIECE_MIN_BYTES = 1024
"""No piece smaller than this for want of credit, unless it is the last: credit comes back in half windows, so waiting costs nothing and
slivers would."""


LARGE_BYTES = 32 * 1024
"""To copy a chunk of this size costs more than to have it written by itself."""


class Outbox:
    """The sending half of a connection.

    Attributes:
        ready: frames to be written next, in chunks; always the same list.
        bulk: what waits for its turn or for credit; None when there is nothing, and then `ready` is all there is to write.
        special: there may be more to a write than joining `ready`: a chunk of LARGE_BYTES or more in it, something in `bulk`, last words.
        credit: what we may still send of what costs credit, in bytes.
        answers: replies in pieces on their way, by call id. Their calls have left the table; the peer may still cancel them, and they
            count as open: or a peer that gives no credit could pile them up.
    """

    __slots__ = ("_budget", "answers", "bulk", "credit", "frame_max_bytes", "ready", "special", "window")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.ready: list[bytes | memoryview] = []
        self.bulk: deque[Outgoing] | None = None
        self.answers: dict[int, Outgoing] | None = None
        self.frame_max_bytes = 0
        self.special = False
        self.credit = 0
        self.window = 0

    def open(self, frame_max_bytes: int, window: int) -> None:
        """Learn what the peer takes; nothing of a call may be sent before."""
        self.frame_max_bytes = frame_max_bytes
        self.credit = self.window = window

    @property
    def pending(self) -> bool:
        """Whether `take` would return anything now."""
        return bool(self.ready) or self._next() is not None

    def queue(self, outgoing: Outgoing) -> None:
        """Put a message at the end of the queue."""
        if self.bulk is None:
            self.bulk = deque()
        self.bulk.append(outgoing)
        self.special = True

    def queue_answer(self, outgoing: Outgoing) -> bool:
        """Queue a reply that goes in pieces; it holds its bytes of the budget until it has gone. False when they do not fit."""
        if not self._budget.take(len(outgoing.body)):
            return False
        if self.answers is None:
            self.answers = {}
        self.answers[outgoing.call.id] = outgoing
        self.queue(outgoing)
        return True

    def _answer_gone(self, call_id: int) -> Outgoing | None:
        """A queued reply has gone or will not: give back what it held."""
        outgoing = self.answers.pop(call_id, None) if self.answers is not None else None
        if outgoing is not None:
            self._budget.give(len(outgoing.body))
        return outgoing

    def resume(self, flow: Flow) -> None:
        """A stream got credit: its waiting item takes its turn again."""
        if flow.waiting and flow.outgoing is not None:
            flow.waiting = False
            self.queue(flow.outgoing)

    def drop(self, flow: Flow) -> None:
        """Forget what was queued for a call."""
        outgoing, flow.outgoing = flow.outgoing, None
        if outgoing is not None and not flow.waiting:
            self._remove(outgoing)
        flow.waiting = False

    def drop_answer(self, call_id: int) -> bool:
        """Forget the rest of a reply nobody waits for any more; False when there is none."""
        outgoing = self._answer_gone(call_id)
        if outgoing is None:
            return False
        self._remove(outgoing)
        return True

    def clear(self) -> None:
        """Forget everything: the connection is over."""
        self.ready.clear()
        for call_id in list(self.answers or ()):
            self._answer_gone(call_id)
        self.bulk = self.answers = None
        self.special = True

    def fill(self, limit_bytes: int, drained: list[CallState]) -> None:
        """Put pieces of large messages into `ready`, in turn, until about `limit_bytes` are there, and one in any case.

        Calls whose queued message went out completely are appended to `drained`.
        """
        size = sum(map(len, self.ready))
        outgoing = self._next()
        while outgoing is not None:
            bulk = self.bulk
            assert bulk is not None  # _next found something in it
            bulk.popleft()
            size += self._emit(outgoing, self._room(outgoing))
            if outgoing.position < len(outgoing.body):
                bulk.append(outgoing)
            else:
                drained.append(outgoing.call)
                if outgoing.kind == frames.REPLY:
                    self._answer_gone(outgoing.call.id)
            if size >= limit_bytes:
                break
            outgoing = self._next()
        if not self.bulk:
            self.bulk = None

    def fits(self, flow: Flow, size: int) -> bool:
        """Whether an item of that size travels in one frame: it fits one, and half a window always comes back."""
        cost = size + frames.ITEM_OVERHEAD_BYTES
        return size <= self.frame_max_bytes and cost <= flow.send_window // 2 and cost <= self.window // 2

    def _next(self) -> Outgoing | None:
        """Return the first message of which something may go now. Items in front whose own stream has no credit leave the queue."""
        bulk = self.bulk
        while bulk:
            outgoing = bulk[0]
            if self._room(outgoing) > 0:
                return outgoing
            flow = outgoing.call.flow
            if outgoing.kind != frames.DATA or flow is None or flow.send_credit >= self.credit:
                return None  # it is the connection's credit that lacks, for those behind it too
            bulk.popleft()
            flow.waiting = True
        return None

    def _room(self, outgoing: Outgoing) -> int:
        """How many body bytes of it may go now; 0 or less when it must wait. A whole empty body counts as one."""
        left = len(outgoing.body) - outgoing.position
        credit = self.credit
        frame = self.frame_max_bytes
        if outgoing.kind == frames.DATA:
            flow = outgoing.call.flow
            assert flow is not None  # send_item made it
            credit = min(credit, flow.send_credit)
            if not outgoing.begun:
                credit -= frames.ITEM_OVERHEAD_BYTES
                if self.fits(flow, left):
                    return max(left, 1) if credit >= left else 0
        if not outgoing.begun:
            frame -= frames.TOTAL.size + len(outgoing.prefix)
        return min(left, frame, credit) if credit >= min(left, frame, PIECE_MIN_BYTES) else 0

    def _emit(self, outgoing: Outgoing, room: int) -> int:
        body, start = outgoing.body, outgoing.position
        end = outgoing.position = min(start + room, len(body))
        size = cost = end - start
        call_id = outgoing.call.id
        more = frames.MORE if end < len(body) else 0
        if outgoing.begun:
            head = frames.HEADER.pack(size, frames.PIECE, more, call_id)
        elif more:
            prefix = frames.TOTAL.pack(len(body)) + outgoing.prefix
            head = frames.HEADER.pack(len(prefix) + size, outgoing.kind, outgoing.flags | more, call_id) + prefix
        else:
            head = frames.HEADER.pack(size, outgoing.kind, outgoing.flags, call_id)
        self.ready.append(head)
        self.ready.append(bytes(body[start:end]))  # a view would keep all of the body alive, which the budget no longer knows of
        if outgoing.kind == frames.DATA:
            flow = outgoing.call.flow
            assert flow is not None  # send_item made it
            if not outgoing.begun:
                cost += frames.ITEM_OVERHEAD_BYTES
            flow.send_credit -= cost
        outgoing.begun = True
        self.credit -= cost
        return size + len(head)

    def _remove(self, outgoing: Outgoing) -> None:
        if self.bulk is not None:
            self.bulk = deque(other for other in self.bulk if other is not outgoing) or None
