"""Our side of a connection on which we call.

Owns: open calls and who waits for them. A call ends exactly once: by its reply, an error, its deadline, its caller's cancellation, or the
end of the connection. Everything that changes that is synchronous.

What may never happen: a waiter that hears nothing; a call reported "not executed" of which the server may have all bytes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import takewhile

import msgspec

from ..errors import BadReply, DeadlineExceeded, HoldfastError, OutcomeUnknown, ProtocolError, Unavailable
from ..facts import ConnectionOpened, ServerStatus
from ..handler import Request
from ..wire import (
    CallState,
    Connection,
    Drained,
    Ended,
    Errored,
    Event,
    Failed,
    GoneAway,
    ItemReceived,
    Opened,
    Replied,
    Status,
    StatusReceived,
    Unusable,
    decode_trailers,
    frames,
)
from .codes import decode_error
from .line import LinedSession
from .outcall import Outcall, StillOpen
from .session import EARLY_CHUNKS, SessionShared, wants_checksum, wire_deadline_ms

Extra = tuple[int, bytes] | None
ATTEMPT_CLASS = {"original": 0, "retry": 1, "hedge": 2}


class CallerSession(LinedSession):
    """The calling side of one connection."""

    __slots__ = (
        "_acked", "_gone", "_opened", "answered", "draining_at", "last_used_at", "on_change", "opened_at", "retire_at", "status",
        "used_id",
    )  # fmt: skip
    side = "client"

    def __init__(self, shared: SessionShared, address: str = "") -> None:
        settings = shared.settings
        if wants_checksum(shared.checksum, address):
            settings = msgspec.structs.replace(settings, features=(*settings.features, frames.CHECKED))
        super().__init__(shared, Connection("client", settings, budget=shared.budget))
        self._opened: asyncio.Future[None] | None = shared.loop.create_future()
        self._acked = 0
        self._gone: asyncio.Future[None] | None = None
        self.answered = False
        self.status = Status()
        self.on_change: Callable[[CallerSession], None] = _nobody
        self.opened_at = 0.0
        self.retire_at = math.inf
        self.last_used_at = 0.0
        self.used_id = 0
        self.draining_at = math.inf

    async def opened(self) -> None:
        """Wait for the handshake. Raises: what ended it. Cancel: loses nothing."""
        if self._opened is not None:
            await asyncio.shield(self._opened)
        if self.closed or self.conn.state != "OPEN":  # refused, or lost between the WELCOME and now
            raise self._reason or Unavailable("the connection was lost before it was used")

    async def gone(self) -> None:
        """Wait until the link is lost and every call has been told. Cancel: loses nothing."""
        if not self.closed:
            if self._gone is None:
                self._gone = self._shared.loop.create_future()
            await asyncio.shield(self._gone)

    # ------------------------------------------------------------------ calls

    def open(self, request: Request, call: Outcall, now: float, *, sends: bool = False, takes: bool = False) -> None:
        """Put a call on its way; `call.id` is set, and from here on the session ends it.

        Raises: InvalidArgument when it is larger than the server takes. DeadlineExceeded when its time passed while it waited for us.
        """
        try:
            self._open(request, call, now, sends, takes)
        except HoldfastError:
            self._next_in_line()  # if this was somebody's turn, it is the next one's now
            raise
        if call.expires_at < self._earliest:
            self.expire_by(call.expires_at)
        self.flush_soon()

    def _open(self, request: Request, call: Outcall, now: float, sends: bool, takes: bool) -> None:
        if call.expires_at <= now:
            raise DeadlineExceeded(f"{call.method}: the deadline passed before the call was sent", executed="no")
        extra: Extra = request.extra
        if call.on_trailers is not None:
            extra = (frames.TRAILERS, b"") if extra is None else (extra[0] | frames.TRAILERS, extra[1])
        self.conn.open_call(
            call,
            request.wire_name,
            request.body,
            request.raw,
            wire_deadline_ms(request.deadline_at, now),
            request.number,
            ATTEMPT_CLASS[request.attempt],
            extra,
            sends,
            takes,
        )

    def open_unary(self, call: Outcall, wire_name: bytes, body: bytes, flags: int, deadline_ms: int, number: int) -> bool:
        """As `open`, for the first attempt of a small unary call with nothing beside its arguments: the way of nearly all calls.

        Args:
            flags: RAW or 0.
        Returns: False when it may not go over this session this moment; nothing has been done then.
        """
        conn, link = self.conn, self.link
        others = len(conn.calls)
        if others >= self._calls_max or self.paused or self.going or self.closed or link is None:
            return False
        # When nobody else is waiting for anything, what it would share a write with has not been thought of yet.
        data = b"" if others else conn.open_lone_call(call, wire_name, body, flags, deadline_ms, number)
        if not data and not conn.open_plain_call(call, wire_name, body, flags, deadline_ms, number):
            return False
        if call.expires_at < self._earliest:
            self.expire_by(call.expires_at)
        if data:
            if not link.write(data):
                conn.send_failed()
        elif not others:
            self.flush()
        elif not self.flush_due:
            self.flush_due = True
            self._shared.loop.call_soon(self._flush_turn)
        elif len(conn.ready) >= EARLY_CHUNKS:
            self.flush()
        return True

    @property
    def heard_at(self) -> float:
        """When anything was heard from the server last."""
        return self._heard_at

    def ask(self) -> None:
        """Ask the server for a sign of life, unless it was asked since it was last heard."""
        if self._pinged_at <= self._heard_at and self.usable:
            self._pinged_at = self._now()
            self.conn.send_ping(b"\0" * 8)
            self.flush_soon()

    def look_beside(self, now: float) -> float:
        """Tell those who wait for a call whose `beside_at` has come; return the earliest that has not."""
        earliest = math.inf
        for call in self.conn.calls.values():
            assert isinstance(call, Outcall)
            if call.beside_at > now:
                earliest = min(earliest, call.beside_at)
                continue
            call.beside_at = math.inf
            waiting = call.future
            if waiting is not None and not waiting.done():
                again = call.future = self._shared.loop.create_future()
                waiting.set_exception(StillOpen(again))
                waiting.exception()  # its caller may be cancelled in this very turn, and never ask
                self.suspect(now)
        return earliest

    def give_up(self, call: Outcall) -> bool:
        """Cancel a call. False when the server surely cannot have executed it."""
        known = call.id in self.conn.calls
        maybe_executed = self.conn.cancel(call)  # what was not written yet still goes out, in front of its CANCEL
        future = call.future
        if future is not None and future.done() and not future.cancelled():
            future.exception()  # it failed in the moment its caller was cancelled: that is no error nobody heard of
        if known:
            self._next_in_line()
            if not self.closed:
                self.flush_soon()
        if call.buffer is not None:
            call.buffer.clear(call)
        return maybe_executed

    def retire(self) -> None:
        """Take no new calls; close when those that are open have been answered."""
        self.going = True
        self._wake_line()
        self.flush()
        self.on_change(self)

    def _close_if_done(self) -> None:
        if not self.conn.calls and self.link is not None and self.conn.state == "OPEN":
            self.link.close()

    # ------------------------------------------------------------------ what the server says

    def bytes_received(self, data: memoryview | bytes) -> int:
        """As in Session. A reply that is alone in a read wakes its caller without an event in between; all else is as there."""
        clock, conn = self._now, self.conn  # `self._now()` would look for a method first, on a way that CPython has no short cut for
        now = clock()
        replied = conn.receive_lone_reply(data)
        if replied is None:
            return self._received(data, now)
        self._heard_at, self._rest_at = now, 0.0
        call = replied.call
        future = call.future  # type: ignore[attr-defined] # it is an Outcall; an assert would cost as much as the rest of the line
        if future is not None:
            call.future = None  # type: ignore[attr-defined] # see `_handle_events`
            if not future.done():
                future.set_result(replied)
        self.answered = True
        if self._line:
            self._next_in_line()
        if conn.ready or conn.outbox.special or self.going:
            self.flush()
        return len(data)

    def _handle_events(self, now: float) -> None:
        """As in Session, with the one thing that nearly all events are done here: a reply wakes its caller."""
        conn = self.conn
        events, conn.events = conn.events, []
        for event in events:
            kind = type(event)
            if kind is Replied:
                call = event.call  # type: ignore[attr-defined]
                future = call.future
                if future is not None:
                    call.future = None  # or call, future and event would hold one another, for ever: no collector looks into events
                    if not future.done():
                        future.set_result(event)
                if call.buffer is not None or event.trailers:  # type: ignore[attr-defined]
                    self._replied_beside(event, unary=future is not None)  # type: ignore[arg-type]
                self.answered = True
                if self._line:
                    self._next_in_line()
            elif kind is ItemReceived:
                buffer = event.call.buffer  # type: ignore[attr-defined]
                if buffer is None or not buffer.started:
                    self._first_item(event)  # type: ignore[arg-type]
                else:  # as `ItemBuffer.feed`
                    buffer.items.append(event)
                    if buffer.waiter is not None:
                        buffer.wake()
            else:
                self._on_event(event, now)
                if len(conn.ready) >= EARLY_CHUNKS:
                    self.flush()
        if conn.events:
            self._handle_events(now)

    def _replied_beside(self, event: Replied, *, unary: bool) -> None:
        """A reply to a call with a stream, or with trailers."""
        call = event.call
        assert isinstance(call, Outcall)
        if call.buffer is not None:
            call.buffer.over(None if unary else BadReply(f"{call.method} answered a stream with one result"))
        self._tell_trailers(call, event.trailers)

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, Ended):
            self.answered = True
            self._tell_trailers(event.call, event.trailers)
            self._finish(event.call, None)
        elif isinstance(event, Failed):
            self.answered = True
            self._tell_trailers(event.call, event.trailers)
            self._finish(event.call, decode_error(event.body))
        elif isinstance(event, Unusable):
            self._finish(event.call, BadReply(f"the reply cannot be taken: {event.message}"))
        elif isinstance(event, Drained):
            self._item_sent(event.call)
        elif isinstance(event, Opened):
            self._welcomed()
        elif isinstance(event, GoneAway):
            self._gone_away(event)
        elif isinstance(event, Errored):
            self._reason = self._reason or event.error
            self._refuse_opening(event.error)
        elif isinstance(event, StatusReceived):
            self.status = status = event.status
            peer = self.link.peer if self.link is not None else ""
            self._shared.emit(ServerStatus(peer, status.serving, status.draining, status.load, status.message))
            self.on_change(self)

    def _tell_trailers(self, call: CallState, trailers: bytes) -> None:
        assert isinstance(call, Outcall)
        if trailers and call.on_trailers is not None:
            found = decode_trailers(trailers)
            if found is not None:
                try:
                    call.on_trailers(call.method, found)
                except Exception as error:  # theirs; other calls wait for what came with it
                    told = {"message": f"holdfast client: what was told of the trailers of {call.method} raised", "exception": error}
                    self._shared.loop.call_exception_handler(told)

    def _welcomed(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and not opened.done():
            opened.set_result(None)
        link, remote = self.link, self.conn.remote
        assert link is not None and remote is not None
        self._calls_max = remote.open_calls_max
        self._shared.emit(ConnectionOpened(self.side, link.peer))
        self.wake_at(self._heard_at + self._shared.settings.heartbeat_s)

    def _first_item(self, event: ItemReceived) -> None:
        """The first item of a call, or one where no items belong."""
        call = event.call
        assert isinstance(call, Outcall)
        if call.buffer is None:
            self._finish(call, ProtocolError(f"{call.method} answered a unary call with a stream", executed="yes"))
            self.conn.cancel(call)
            return
        self.answered = True
        call.expires_at = call.total_at
        if call.total_at < math.inf:
            self.expire_by(call.total_at)
        call.buffer.feed(event)

    def _gone_away(self, event: GoneAway) -> None:
        self.going = True
        if self._opened is not None:
            self._reason = self._reason or Unavailable(f"the server turned us away: {event.message}")
            self._refuse_opening(self._reason)
            return
        if event.reason != 0:
            self._reason = self._reason or ProtocolError(f"the server ended the connection: {event.message}")
        refused = list(takewhile(lambda call: call.id > event.last_call_id, reversed(self.conn.calls.values())))
        for call in reversed(refused):
            self.conn.cancel(call)
            self._finish(call, Unavailable(f"the server took no more calls: {event.message}"))
        self._wake_line()
        self.on_change(self)

    def _refuse_opening(self, error: HoldfastError) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and not opened.done():
            opened.set_exception(error)
            opened.exception()  # whoever connects may have been cancelled meanwhile

    # ------------------------------------------------------------------ how calls end

    def _finish(self, call: CallState, error: HoldfastError | None) -> None:
        assert isinstance(call, Outcall)
        future = call.future
        if future is not None and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_exception(BadReply(f"{call.method} ended a unary call without a result"))
        if call.buffer is not None:
            call.buffer.over(error)
        if self._line:
            self._next_in_line()

    def _liveness(self, now: float) -> float:
        """As in Session; and tell the server from time to time which of our calls it may forget."""
        next_at = super()._liveness(now)
        if self.conn.state == "OPEN" and not self.closed:
            settled = self._shared.settled()
            if settled > self._acked:
                self._acked = settled
                self.conn.send_ack(settled)
        return next_at

    def _expires_at(self, call: CallState) -> float:
        assert isinstance(call, Outcall)
        return call.expires_at

    def _expired(self, call: CallState, now: float) -> None:
        assert isinstance(call, Outcall)
        maybe = self.conn.cancel(call)  # even one that was not written yet: its bytes go out in front of its CANCEL
        buffer = call.buffer
        if buffer is not None and buffer.started and now < call.total_at:
            text = f"{call.method}: no item within the idle time of {buffer.idle_s} s"
        else:
            what = "no answer" if buffer is None else "no end" if buffer.started else "no first item"
            text = f"{call.method}: {what} before the deadline"
        self._finish(call, DeadlineExceeded(text, executed="maybe" if maybe else "no"))
        self.suspect(now)

    def _lost(self, calls: list[CallState], reason: HoldfastError) -> None:
        self._refuse_opening(reason if reason.executed == "no" else Unavailable(str(reason)))
        for call in calls:
            if call.id > self.conn.sent_id:
                self._finish(call, Unavailable(f"{reason}; the call had not left"))
            else:
                self._finish(call, OutcomeUnknown(f"{reason}; whether the call was executed is unknown"))
        if self._gone is not None:
            self._gone.set_result(None)
        self._wake_line()
        self.on_change(self)


def _nobody(session: CallerSession) -> None:
    """Who hears of changes while nobody listens."""
