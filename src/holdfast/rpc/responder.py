"""Their side of a connection: calls come in, handlers run, answers go out.

Owns: what runs for this connection, from the CALL to its one answer. Order of refusals, cheapest first: no such method, deadline over, too
many handlers; only then are the arguments decoded. A handler is stepped inline (`tasks.HandlerTask`) and becomes a task if
it suspends.

A slot is taken when a handler suspends and freed when it *really* ends, not when its caller gives up: otherwise call+cancel would be a
way to have the server do unbounded work. What may never happen: a call answered twice; a call not answered; an exception of a handler
that reaches the loop; the text of an unexpected exception that reaches the caller (unless `debug`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import msgspec

from ..context import CURRENT, Context
from ..errors import Cancelled, DeadlineExceeded, HoldfastError, InternalError, InvalidArgument, Overloaded, Unavailable
from ..facts import CallEnded, CallShed, HandlerFailed, HandlerOverran
from ..handler import maybe_executed
from ..tasks import SUSPENDED, HandlerTask, new_handler_task
from ..wire import Called, CallState, CancelReceived, Drained, Ended, Event, ItemReceived, Unusable
from .codes import encode_error
from .crossing import as_executed, may_cross
from .desk import Desk, Incall
from .reception import Reception
from .router import Route
from .session import EARLY_CHUNKS, SessionShared
from .streams import ItemBuffer, RequestStream, send_items
from .validation import MISFITS, argument_error

_astuple = msgspec.structs.astuple
_set_current = CURRENT.set

MESSAGE_LIMIT_LEAST = 1024
"""Every peer takes messages of this size (`wire/settings.py`)."""

RAPID_S = 1.0
"""Who cancels a call sooner makes work for nothing. Later than that no more calls a second can be cancelled than may be open."""


class ResponderSession(Reception):
    """The answering side of one connection."""

    __slots__ = ("_on_closed", "_put_off_at")

    def __init__(self, shared: SessionShared, desk: Desk, on_closed: Callable[[ResponderSession], None]) -> None:
        super().__init__(shared, desk)
        self._on_closed = on_closed
        self._put_off_at = 0.0

    # ------------------------------------------------------------------ events

    def bytes_received(self, data: memoryview | bytes) -> int:
        """As in Session. A call that is alone in a read begins without an event in between, and its answer is written when it has one."""
        clock, conn = self._now, self.conn  # `self._now()` would look for a method first, on a way that CPython has no short cut for
        now = clock()
        call = conn.receive_lone_call(data)
        if call is None:
            return self._received(data, now)
        self._heard_at, self._rest_at = now, 0.0
        self._called(call, now)  # type: ignore[arg-type] # an Incall, made by our own factory
        if conn.events:  # by what the handler did
            self._handle_events(now)
        link = self.link
        if conn.outbox.special or self.going or self.paused or self.closed or link is None:
            self.flush()
        elif conn.ready and not link.write(conn.take_plain()):  # as `flush`, of which all else has been asked here
            conn.send_failed()
        return len(data)

    def _handle_events(self, now: float) -> None:
        """As in Session. Events wait while the peer does not read: no call is started whose answer would only pile up."""
        conn = self.conn
        if self._put_off_at:
            if self.paused:
                return
            now, self._put_off_at = self._put_off_at, 0.0  # deadlines count from when the calls came
        ready = conn.ready
        while events := conn.events:
            conn.events = []
            rest = iter(events)
            for event in rest:
                kind = type(event)
                if kind is Called:
                    self._called(event.call, now)  # type: ignore[attr-defined]
                elif kind is ItemReceived:
                    self._item(event)  # type: ignore[arg-type]
                else:
                    self._on_event(event, now)
                if len(ready) >= EARLY_CHUNKS:
                    self.flush()
                    if self.paused:
                        conn.events[:0] = rest
                        if conn.events:
                            self._put_off_at = now
                        return

    def _item(self, event: ItemReceived) -> None:
        call = event.call
        assert isinstance(call, Incall)
        if call.buffer is None or call.id not in self.conn.calls:
            self.conn.consume(event)  # the handler takes none, or has ended
        else:
            call.buffer.feed(event)

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, Ended):
            buffer = getattr(event.call, "buffer", None)
            if buffer is not None:
                buffer.end()
        elif isinstance(event, CancelReceived):
            self._spare(event.call, now)
            self._abandon(event.call)
        elif isinstance(event, Drained):
            self._item_sent(event.call)
        elif isinstance(event, Unusable):
            self._unusable(event.call, InvalidArgument(event.message) if event.too_large else Overloaded(event.message))
        else:
            self._on_its_own_event(event, now)

    def _unusable(self, call: CallState, error: HoldfastError) -> None:
        """Refuse a call of which a part cannot be taken: its arguments, or an item that its handler waits for."""
        assert isinstance(call, Incall)
        if call.route is not None:
            error = maybe_executed(error, "the call had begun")
        self._answer_error(call, error)
        self._abandon(call)

    # ------------------------------------------------------------------ a call begins

    def _called(self, call: Incall, now: float) -> None:
        desk = self._desk
        if call.cancelled:  # in the same read: no handler needs to begin
            self.conn.finish(call)
            return
        find, clock = desk.find, desk.now  # as in `bytes_received`
        route = find(call.method)
        if route is None:
            self._answer_error(call, desk.not_found(call.method, now))
            return
        call.route = route
        started = call.started_at = clock()
        if call.wants:
            call.read_at = now
            if self.link is not None and desk.explains_to(self.link.peer):
                call.hops = []
        if call.deadline_ms:
            call.deadline_at = deadline_at = now + call.deadline_ms / 1000
            if started >= deadline_at:
                self._shed(call, DeadlineExceeded("the deadline had passed before the handler began", executed="no"), "expired")
                return
        if desk.running >= desk.handlers_max:
            message = f"{desk.handlers_max} handlers are running already"
            self._shed(call, Overloaded(message, retry_after_s=0.1), "handlers_full")
            return
        codec = route.codec
        bytes_to_args = codec.bytes_to_args
        try:
            values = codec.decode_args(call.body, True) if call.raw else _astuple(bytes_to_args(call.body))
        except Exception as error:
            self._bad_arguments(call, route, error)
            return
        if route.kind != "async":
            self._run(call, route, values)
            return
        try:  # a decorator of the user's may raise before there is a coroutine
            if route.direct:
                coro = route.fn(*values)
            else:
                coro = route.invoke(values, self._desk.context(call, route, self.peer) if route.takes_context else None, None)
        except Exception as error:
            self._fail(call, error)
            return
        self._start(call, route, coro)

    def _bad_arguments(self, call: Incall, route: Route, error: Exception) -> None:
        if isinstance(error, MISFITS):
            error = argument_error(route.contract, error)
        if isinstance(error, InvalidArgument):
            self._answer_error(call, error)
        else:  # a user's __post_init__ may raise anything
            self._internal(call, error)

    def _run(self, call: Incall, route: Route, values: tuple[Any, ...]) -> None:
        """Start a handler of any kind but the commonest."""
        kind = route.kind
        call.body = b""
        context = self._desk.context(call, route, self.peer) if route.takes_context else None
        if kind == "sync":
            self._run_sync(call, route, values, context)
        elif kind == "blocking":
            self._run_blocking(call, route, values, context)
        else:
            call.buffer = ItemBuffer(self, self._shared.loop)
            stream = None
            if route.contract.stream_param is not None:
                stream = RequestStream(call.buffer, route.codec.decode_item_in)
                if not call.streams:
                    call.buffer.end()
            try:
                coro = route.invoke(values, context, stream)
            except Exception as error:
                self._fail(call, error)
                return
            if kind != "stream_in":
                coro = self._stream_out(call, route, coro)
            self._start(call, route, coro)

    def _start(self, call: Incall, route: Route, coro: Any) -> None:
        """Take a handler's first step; mostly that is all of it."""
        task = new_handler_task()
        try:
            result = task.run(self._shared.loop, coro, self, call, copy_context(), _set_current)
        except BaseException as error:
            self._fail(call, error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise  # the loop stops for these, as with any task
            return
        if result is not SUSPENDED:
            self._returned(call, route, result)
            return
        self._desk.running += 1
        call.task = task
        call.body = b""  # it may be large, and the handler slow
        deadline_at = call.deadline_at
        if deadline_at is not None and deadline_at < self._earliest:
            self.expire_by(deadline_at)
        if call.gone:
            task.cancel()

    def _run_sync(self, call: Incall, route: Route, values: tuple[Any, ...], context: Context | None) -> None:
        try:
            result = copy_context().run(_with_current, call, route, values, context)
        except BaseException as error:
            self._fail(call, error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            self._returned(call, route, result)

    def _run_blocking(self, call: Incall, route: Route, values: tuple[Any, ...], context: Context | None) -> None:
        desk = self._desk
        if desk.threads_busy >= desk.threads_room:
            self._shed(call, Overloaded(f"{desk.threads_busy} blocking calls run or wait already", retry_after_s=0.1), "threads_full")
            return
        loop = self._shared.loop
        work = desk.pool().submit(copy_context().run, _in_thread, call, route, values, context)
        desk.threads_busy += 1
        work.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._thread_back))
        self._start(call, route, _await_thread(asyncio.wrap_future(work, loop=loop)))

    def _thread_back(self) -> None:
        self._desk.threads_busy -= 1

    async def _stream_out(self, call: Incall, route: Route, items: Any) -> None:
        """Run an async generator handler: send what it yields, at the pace of its reader."""
        buffer = call.buffer
        assert buffer is not None

        def first_item() -> None:  # the deadline bounds the first item; from here on the heartbeat and the reader's credit do
            call.deadline_at = None
            self._spared += 1

        try:
            await send_items(self, call, buffer, items, route.codec.encode_item_out, route.codec.raw_item_out, first_item)
        finally:
            await items.aclose()

    # ------------------------------------------------------------------ a call ends

    def handler_returned(self, task: HandlerTask, result: Any) -> None:
        """A handler that had suspended is over with a result (or the end of its stream)."""
        call: Incall = task.call
        assert call.route is not None
        self._desk.release()
        self._returned(call, call.route, result)
        self._let_go(call)

    def handler_raised(self, task: HandlerTask, error: BaseException) -> None:
        """A handler that had suspended is over with an exception."""
        call: Incall = task.call
        self._desk.release()
        self._fail(call, error)
        self._let_go(call)

    def _returned(self, call: Incall, route: Route, result: Any) -> None:
        """A handler gave its result, or the end of its stream: answer the call."""
        conn = self.conn
        if call.gone:
            conn.finish(call)
            self._ended(call, "cancelled")
            return
        trailers = self._desk.trailers(call, self.conn.outbox.frame_max_bytes // 2) if call.wants else b""
        if route.streams_out:
            conn.send_end(call, trailers)
            self._ended(call, "ok")
            return
        codec = route.codec
        try:
            to_bytes = codec.result_to_bytes
            body = to_bytes(result)
        except Exception as error:
            self._internal(call, codec.blame_result(error) if isinstance(error, MISFITS) else error)
            return
        if len(body) > MESSAGE_LIMIT_LEAST and len(body) > conn.message_max_bytes:
            limit = conn.message_max_bytes
            text = f"{route.name} was executed, but its answer has {len(body)} bytes and you take {limit}: make it a stream"
            self._answer_error(call, Overloaded(text, executed="yes"))
        elif conn.send_reply(call, body, codec.raw_result, trailers):
            self._spared += 1
            if self._desk.tells_calls:
                self._ended(call, "ok")
        else:
            text = f"{route.name} was executed, but its answer of {len(body)} bytes has no room behind others that are not read"
            self._answer_error(call, Overloaded(text, executed="yes"))

    def _let_go(self, call: Incall) -> None:
        """A task ended outside `bytes_received`: write its answer this turn, and cut the ties that would be a cycle."""
        call.task = None
        if call.buffer is not None:  # a task the handler left behind may still want to read
            call.buffer.over(asyncio.CancelledError("the handler of this stream has ended"))
            call.buffer.clear(call)  # what nobody read holds the call, which holds the buffer: no collector looks into items
        self.flush_soon()

    def _fail(self, call: Incall, error: BaseException) -> None:
        """Turn what a handler raised into the answer its caller gets."""
        if may_cross(error):
            self._answer_error(call, as_executed(error))
        elif isinstance(error, asyncio.CancelledError):
            if call.gone:
                self.conn.finish(call)
                self._ended(call, "cancelled")
            else:
                self._answer_error(call, Cancelled("the handler was cancelled by the server"))
        elif isinstance(error, DeadlineExceeded) and call.deadline_at is not None and self._desk.clock.now() >= call.deadline_at:
            self._answer_error(call, DeadlineExceeded("the deadline passed in the handler"))
        else:
            self._internal(call, error)

    def _internal(self, call: Incall, error: BaseException) -> None:
        """Something the handler did not mean for callers: they get an id, the log gets the rest."""
        desk = self._desk
        assert call.route is not None
        incident = f"{desk.rng.getrandbits(48):012x}"
        desk.emit(HandlerFailed(call.route.name, incident, error))
        text = f"{call.route.name} failed; the server's log has it as incident {incident}"
        if desk.debug:
            text += f": {type(error).__name__}: {error}"
        self._answer_error(call, InternalError(text))

    def _shed(self, call: Incall, error: HoldfastError, reason: str) -> None:
        assert call.route is not None
        self._desk.emit(CallShed(call.route.name, reason))
        self._answer_error(call, error)

    def _answer_error(self, call: CallState, error: HoldfastError) -> None:
        assert isinstance(call, Incall)
        if call.gone:
            self.conn.finish(call)
        else:
            try:
                self.conn.send_error(
                    call, encode_error(error), self._desk.trailers(call, self.conn.outbox.frame_max_bytes // 2) if call.wants else b""
                )
            except InvalidArgument:  # details that do not fit the peer's frame
                self.conn.send_error(call, encode_error(InternalError("the error was too large for the caller's frame")))
        self._ended(call, error.code)

    def _ended(self, call: Incall, code: str) -> None:
        route = call.route
        desk = self._desk
        if desk.tells_calls and route is not None and call.started_at:
            desk.emit(CallEnded("server", route.name, code, desk.clock.now() - call.started_at))
            call.started_at = 0.0

    # ------------------------------------------------------------------ callers that go

    def _spare(self, call: CallState, now: float) -> None:
        """A CANCEL is no abuse when its call ran for a while, or for half of the time it was given.

        When what a server waits for stands still, all its callers run out of time, again and again; to cut them off then would make it
        worse. What a peer can do this way it could do without a CANCEL: so many calls at once, or deadlines so short. Besides, for each
        call that was answered and each stream that began one may be cancelled: that is what those do who race two servers.
        """
        assert isinstance(call, Incall)
        begun = call.started_at and not call.gone
        if begun and (now - call.started_at >= RAPID_S or 2000 * (self._expires_at(call) - now) <= call.deadline_ms):
            self._spared += 1

    def _abandon(self, call: CallState) -> None:
        """Nobody waits for this call any more. Its handler is cancelled; its slot is free when it has ended."""
        assert isinstance(call, Incall)
        call.gone = True
        if call.buffer is not None:
            call.buffer.over(asyncio.CancelledError())
        if call.task is not None:
            call.task.cancel()

    def _expires_at(self, call: CallState) -> float:
        assert isinstance(call, Incall)
        return math.inf if call.deadline_at is None else call.deadline_at

    def _expired(self, call: CallState, now: float) -> None:
        assert isinstance(call, Incall)
        if call.route is not None:
            self._desk.emit(HandlerOverran(call.route.name))
        self._answer_error(call, DeadlineExceeded("the deadline passed in the handler"))
        self._abandon(call)

    def _lost(self, calls: list[CallState], reason: HoldfastError) -> None:
        for call in calls:
            self._abandon(call)
        self._on_closed(self)

    def cut_off(self) -> int:
        """The time to drain is over: tell every caller, cancel every handler. Returns how many calls that were."""
        self._say_last_goodbye()
        calls = list(self.conn.calls.values())
        self.conn.events.clear()  # calls that were put off are among them
        for call in calls:
            assert isinstance(call, Incall)
            begun = call.route is not None  # or it was put off, or a part of it has not come
            text = "the server went down before the call was done" if begun else "the server went down before the call began"
            self._answer_error(call, Cancelled(text) if begun else Unavailable(text))
            self._abandon(call)
        self.flush_soon()
        return len(calls)


def _with_current(call: Incall, route: Route, values: tuple[Any, ...], context: Context | None) -> Any:
    CURRENT.set(call)
    return route.invoke(values, context, None)


def _in_thread(call: Incall, route: Route, values: tuple[Any, ...], context: Context | None) -> Any:
    try:
        return _with_current(call, route, values, context)
    except StopIteration as error:  # no future can carry one: its waiter would wait for ever
        raise RuntimeError(f"{route.name} raised StopIteration") from error


async def _await_thread(future: asyncio.Future[Any]) -> Any:
    return await future
