"""From a Request to a Reply over the dialer's session: the innermost handler of the client's stack.

Owns nothing but the moment between "there is a session" and "the call is over". A caller that is cancelled here cancels its call on the
wire; nothing is left behind in the session.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from ..errors import Cancelled, DeadlineExceeded, HoldfastError, Unavailable
from ..handler import Reply, Request, maybe_executed
from ..wire import Replied
from .caller import CallerSession
from .dialer import Dialer
from .outcall import Outcall
from .streams import ItemBuffer, send_items

Spawn = Callable[..., asyncio.Task[Any]]


class StreamPlan(msgspec.Struct):
    """How a streaming call is opened.

    Attributes:
        source: what we send; None when only the server streams.
        takes: whether the server streams.
        idle_s: how long the reader waits between items; None for ever.
        total_at: when the whole stream must be over; None never.
    """

    source: AsyncIterator[Any] | None
    encode: Callable[[Any], bytes] | None
    raw: bool
    takes: bool
    idle_s: float | None = None
    total_at: float | None = None


class Sender(Dialer):
    """A dialer that sends what it is given, too."""

    async def send(self, request: Request) -> Reply:
        """Put a request on the wire: one attempt. Raises: what it ended with.

        Cancel: the call is cancelled on the wire; whether it was executed is unknown.
        """
        session = self.session
        if session is None or not session.usable or session.full:
            session = await _usable(self, request)
        shared = self._shared
        loop, now = shared.loop, shared.wheel.now
        plan: StreamPlan | None = request.stream
        if plan is not None:
            if plan.takes:
                return Reply(b"", False, open_stream(session, request, plan, loop, now(), self._spawn))
            return await upload(session, request, plan, loop, now(), self._spawn)
        future: asyncio.Future[Replied] = loop.create_future()
        deadline_at = request.deadline_at
        expires_at = math.inf if deadline_at is None else deadline_at
        call = Outcall(0, None, future, expires_at, None, math.inf, request.info.name, request.number, request.on_trailers)
        if request.idempotent:
            _mind_version(self, session, request)
        session.open(request, call, now())
        try:
            replied = await future
        except asyncio.CancelledError:
            session.give_up(call)
            raise
        return Reply(replied.body, replied.raw)


def _mind_version(dialer: Dialer, session: CallerSession, request: Request) -> None:
    """Nodes may be of different versions, and each has the word on what it executes. Raises: Unavailable, when this one must not get it."""
    name = request.info.name
    catalogue = dialer.sessions.get(session)
    entry = catalogue.find(name) if catalogue is not None else None
    if entry is None or entry.idempotent:
        return
    if request.maybe:
        raise Unavailable(f"{name} is not idempotent at {dialer.address}, and another node may have executed this call")
    request.once.append(str(dialer.address))


async def _usable(dialer: Dialer, request: Request) -> CallerSession:
    """Wait for a session with room for one more call."""
    while True:
        session = await dialer.ready(request.deadline_at, wait=request.wait_for_ready)  # one with room, if there is any
        if not session.full:
            return session
        try:
            async with asyncio.timeout_at(request.deadline_at):
                await session.room()
        except TimeoutError:
            raise DeadlineExceeded(f"{request.info.name}: no room for one more call before the deadline", executed="no") from None


async def upload(
    session: CallerSession, request: Request, plan: StreamPlan, loop: asyncio.AbstractEventLoop, now: float, spawn: Spawn
) -> Reply:
    """Send a stream and wait for the one answer. Cancel: both are cancelled."""
    call = _open(session, request, plan, loop, now, sends=True, takes=False)
    pump = spawn(_pump(session, call, plan))
    try:
        replied: Replied = await call.future
        return Reply(replied.body, replied.raw)
    except asyncio.CancelledError:
        session.give_up(call)
        raise
    finally:
        pump.cancel()
        await _gone(pump)


def open_stream(
    session: CallerSession, request: Request, plan: StreamPlan, loop: asyncio.AbstractEventLoop, now: float, spawn: Spawn
) -> tuple[Outcall, ItemBuffer, Callable[[], None]]:
    """Open a call whose answer is a stream; returns the call, its buffer, and what closes it."""
    call = _open(session, request, plan, loop, now, sends=plan.source is not None, takes=True)
    buffer = call.buffer
    assert buffer is not None
    pump = spawn(_pump(session, call, plan)) if plan.source is not None else None
    if plan.idle_s is not None:
        buffer.idle_s = plan.idle_s
        buffer.on_wait = lambda idle_s: _await_item(session, call, idle_s, loop)

    def close() -> None:
        if pump is not None:
            pump.cancel()
        session.give_up(call)

    return call, buffer, close


def _await_item(session: CallerSession, call: Outcall, idle_s: float | None, loop: asyncio.AbstractEventLoop) -> None:
    """The reader begins to wait (or stops): only then does the gap between items count, or a slow reader would be blamed on the sender."""
    call.expires_at = call.total_at if idle_s is None else min(call.total_at, loop.time() + idle_s)
    if idle_s is not None:
        session.expire_by(call.expires_at)


def _open(
    session: CallerSession, request: Request, plan: StreamPlan, loop: asyncio.AbstractEventLoop, now: float, *, sends: bool, takes: bool
) -> Outcall:
    total_at = math.inf if plan.total_at is None else plan.total_at
    expires_at = total_at if request.deadline_at is None else min(total_at, request.deadline_at)
    future = None if takes else loop.create_future()
    buffer = ItemBuffer(session, loop)
    call = Outcall(0, None, future, expires_at, buffer, total_at, request.info.name, request.number, request.on_trailers)
    session.open(request, call, now, sends=sends, takes=takes)
    return call


async def _pump(session: CallerSession, call: Outcall, plan: StreamPlan) -> None:
    """Send what the user's iterator gives. What it raises ends the call, and is what the caller sees."""
    buffer, source = call.buffer, plan.source
    assert buffer is not None and source is not None and plan.encode is not None
    try:
        await send_items(session, call, buffer, source, plan.encode, plan.raw)
        session.conn.send_end(call)
        session.flush_soon()
    except asyncio.CancelledError:
        _fail(session, call, Cancelled(f"{call.method}: the items it sends were cancelled"))  # unless the call is over: then we were
        raise
    except Exception as error:
        _fail(session, call, error)
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def _fail(session: CallerSession, call: Outcall, error: Exception) -> None:
    """End a call that is open for what happened to its items.

    An error that says "surely not executed" says it of the item, or of another call that was to give one: the handler reads already.
    """
    if call.id in session.conn.calls:
        if isinstance(error, HoldfastError) and error.executed == "no":
            error = maybe_executed(error, "the call it is an item of may have been executed")
        if call.future is not None and not call.future.done():
            call.future.set_exception(error)
        assert call.buffer is not None
        call.buffer.over(error)
        session.give_up(call)


async def _gone(task: asyncio.Task[Any]) -> None:
    """Wait for a cancelled task: what it holds (the user's iterator) is closed when we return."""
    while not task.done():
        await asyncio.wait([task])
