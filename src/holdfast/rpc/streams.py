"""Items of a stream between the session that receives them and the user who reads them.

Owns: the buffer (`ItemBuffer`, held by the call), the two faces users see (`Stream` for callers, `RequestStream` for handlers), and the
pump that sends items of ours. The buffer is bounded by the stream's window: credit goes back only when items are *read*, for a KiB of
them together, and for all when nothing is left to read.

The call holds the buffer and never the face: so a face that is left by a bare `break` is finalised at once, cancels its call and says so
with a ResourceWarning.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from ..errors import HoldfastError
from ..wire import CallState, Connection, ItemReceived
from .validation import MISFITS

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


Opened = tuple[CallState, "ItemBuffer", Callable[[], None], Callable[[bytes, bool], T_co], Callable[[bytes], T_co]]
"""What a stream that was opened has: its call, where its items arrive, how to end it, how to decode an item, and one that is not raw."""

EARLY_CHUNKS = 512
"""With so many chunks waiting (256 items) they are written before the turn is over: the peer reads them while we make more."""

PORTION_BYTES = 1024
"""Of what was read, so much credit is kept back at most while there is more to read: giving it back costs as much as reading an item.
While less than half of the connection's window is left nothing is kept back, or readers that rest could stop all others."""


class ItemSession(Protocol):
    """The part of a session that streams need."""

    conn: Connection
    paused: bool
    flush_due: bool

    def flush(self) -> None: ...
    def flush_soon(self) -> None: ...
    async def writable(self) -> None: ...


class ItemBuffer:
    """What has arrived and was not read yet, and who waits for more.

    Attributes:
        items: what is there to read. Whoever takes one out adds what it cost to `read_bytes` (or calls `next`, which does).
        read_bytes: what items cost that were read and whose credit has not gone back.
        inbox: of the connection, to see how much credit its peer has left.
        waiter: who waits for the next item, or for the end; `wake` it.
        on_first: told when the first item is there.
        on_end: told once how it ended, and whether that was our doing: nobody read any more.
    """

    __slots__ = (
        "_loop",
        "_session",
        "drained",
        "ended",
        "error",
        "idle_s",
        "inbox",
        "items",
        "on_end",
        "on_first",
        "on_wait",
        "read_bytes",
        "started",
        "waiter",
    )

    def __init__(self, session: ItemSession, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop
        self.items: deque[ItemReceived] = deque()
        self.read_bytes = 0
        self.inbox = session.conn.inbox
        self.waiter: asyncio.Future[None] | None = None
        self.started = False
        self.ended = False
        self.error: BaseException | None = None
        self.drained: asyncio.Future[None] | None = None
        self.idle_s: float | None = None
        self.on_wait: Callable[[float | None], None] | None = None
        self.on_first: Callable[[], None] | None = None
        self.on_end: Callable[[BaseException | None, bool], None] | None = None

    def feed(self, item: ItemReceived) -> None:
        """An item arrived."""
        if not self.started:
            self.started = True
            if self.on_first is not None:
                self.on_first()
        self.items.append(item)
        if self.waiter is not None:
            self.wake()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will arrive. What is there may still be read; then `error`, if any. Our own items go on."""
        if not self.ended:
            self.ended = True
            self.error = error
            self.wake()
            self._tell_end(error, ours=False)

    def _tell_end(self, error: BaseException | None, *, ours: bool) -> None:
        told, self.on_end = self.on_end, None
        if told is not None:
            told(error, ours)

    def over(self, error: BaseException | None = None) -> None:
        """The call is over, in both directions: as `end`, and whoever waits to send the next item goes on to see that."""
        self.end(error)
        self.sent()

    def sent(self) -> None:
        """The item that waited for credit has gone."""
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)

    def wake(self) -> None:
        """There is something to read, or the end: whoever waits goes on."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> ItemReceived:
        """Return the next item and give its credit back. Cancel: loses nothing.

        Raises: StopAsyncIteration at the end, or what the stream ended with. RuntimeError when somebody else is waiting already.
        """
        if not self.items:
            await self.wait()
        item = self.items.popleft()
        if item.held:
            self._session.conn.consume(item)
        else:
            self.read_bytes += item.cost
        if item.held or self.read_bytes >= PORTION_BYTES or not self.items or self.inbox.credit * 2 < self.inbox.window:
            self.give_back(item.call)
        return item

    async def wait(self) -> None:
        """Wait until there is an item. Raises: as `next`. Cancel: loses nothing."""
        while not self.items:
            if self.ended:
                if self.error is not None:
                    raise self.error
                raise StopAsyncIteration
            if self.waiter is not None and not self.waiter.done():
                raise RuntimeError("two tasks read one stream; let one read and hand the items on")
            self.waiter = self._loop.create_future()
            if self.on_wait is None or not self.started:
                await self.waiter
            else:
                self.on_wait(self.idle_s)
                try:
                    await self.waiter
                finally:  # cancelled too: nobody waits now, so the gap does not count
                    self.on_wait(None)

    def give_back(self, call: CallState) -> None:
        """What was read has been used: its credit goes back."""
        read_bytes, self.read_bytes = self.read_bytes, 0
        session = self._session
        session.conn.consume_plain(call, read_bytes)
        if session.conn.ready and not session.flush_due:
            session.flush_soon()

    def clear(self, call: CallState) -> None:
        """Nobody reads any more; who does so all the same is told that this is the end."""
        self._tell_end(None, ours=not self.ended)
        self.over()
        self.items.clear()
        self.read_bytes = 0
        self._session.conn.forget(call)


async def send_items(
    session: ItemSession,
    call: CallState,
    buffer: ItemBuffer,
    source: AsyncIterator[Any],
    encode: Callable[[Any], bytes],
    raw: bool,
    on_first: Callable[[], None] | None = None,
) -> None:
    """Send every item of `source`, as fast as credit and the link allow; never more than one item ahead of them.

    Raises: what `source` or `encode` raise. Returns early when the call is over. Cancel: items already handed out are sent.
    """
    conn = session.conn
    calls, ready, send_item = conn.calls, conn.ready, conn.send_item
    async for item in source:
        if call.id not in calls:
            return
        waits = not send_item(call, encode(item), raw)
        if len(ready) >= EARLY_CHUNKS and not waits:
            session.flush()
        elif not session.flush_due:
            session.flush_soon()
        if on_first is not None:
            on_first()
            on_first = None
        if not waits:
            if session.paused:
                await session.writable()
        else:
            buffer.drained = asyncio.get_running_loop().create_future()
            await buffer.drained


class Stream(Generic[T_co]):
    """Items of a call as they arrive. An async iterator and an async context manager; nothing is sent before the first use.

    Leaving the `async with` cancels what is still running and frees its credit before it returns. One that is abandoned without it is
    cancelled by its finaliser, with a ResourceWarning.
    """

    __slots__ = (
        "__weakref__",
        "_abandon",
        "_buffer",
        "_call",
        "_close",
        "_decode",
        "_loop",
        "_method",
        "_open",
        "_opening",
        "_over",
        "_read",
    )

    def __init__(
        self,
        method: str,
        open_stream: Callable[[], Awaitable[Opened[T_co]]],
        abandon: Callable[[str], None],
    ) -> None:
        self._method = method
        self._open = open_stream
        self._decode: Callable[[bytes, bool], T_co] = _not_open
        self._read: Callable[[bytes], T_co] = _not_open
        self._abandon = abandon
        self._call: CallState | None = None
        self._buffer: ItemBuffer | None = None
        self._close: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = False
        self._over = False

    def __aiter__(self) -> Stream[T_co]:
        return self

    async def __anext__(self) -> T_co:
        """Return the next item.

        Raises: StopAsyncIteration at the end, and ever after it, or after an error; BadReply for an item that does not fit its type (the
            stream is closed then); the call's error. Cancel: loses nothing, the stream may be read on.
        """
        if self._over:
            raise StopAsyncIteration
        buffer = self._buffer
        if buffer is None:
            buffer = await self._start()
        items = buffer.items
        if not items or items[0].held:
            item = await self._next_of(buffer)
        else:  # as `ItemBuffer.next`, without a coroutine for each item
            item = items.popleft()
            buffer.read_bytes += item.cost
            if buffer.read_bytes >= PORTION_BYTES or not items or buffer.inbox.credit * 2 < buffer.inbox.window:
                buffer.give_back(item.call)
        if not item.raw:
            try:
                read = self._read
                return read(item.body)
            except MISFITS:
                pass  # the longer way says what is wrong
        try:
            return self._decode(item.body, item.raw)
        except BaseException:
            self._finish()
            raise

    async def _next_of(self, buffer: ItemBuffer) -> ItemReceived:
        try:
            return await buffer.next()
        except (StopAsyncIteration, HoldfastError):
            self._finish()
            raise

    async def __aenter__(self) -> Stream[T_co]:
        """Open the call. Raises: Unavailable, DeadlineExceeded, … Cancel: the call is cancelled."""
        if self._buffer is None and not self._over:
            await self._start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the call if it is not over. Returns at once; credit is free when it does. Cancel: cannot be."""
        self._finish()

    async def _start(self) -> ItemBuffer:
        if self._opening:
            raise RuntimeError("two tasks read one stream; let one read and hand the items on")
        self._opening = True
        try:
            self._call, self._buffer, self._close, self._decode, self._read = await self._open()
        finally:
            self._opening = False
        self._loop = asyncio.get_running_loop()
        if self._over:  # closed by another task meanwhile
            self._finish()
        return self._buffer

    def _finish(self) -> None:
        self._over = True
        close, self._close = self._close, None
        if close is not None:
            close()

    def __del__(self) -> None:
        close, loop = self._close, self._loop
        if not self._over and close is not None and loop is not None:
            if asyncio._get_running_loop() is loop:
                close()
                self._abandon(self._method)
            elif not loop.is_closed():  # collected by another thread, or between two runs of the loop
                loop.call_soon_threadsafe(close)
            message = f"a stream of {self._method} was abandoned; leave it with `async with`"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


class RequestStream(Generic[T]):
    """The items a caller sends, as a handler reads them."""

    __slots__ = ("_buffer", "_decode")

    def __init__(self, buffer: ItemBuffer, decode: Callable[[bytes, bool], T]) -> None:
        self._buffer = buffer
        self._decode = decode

    def __aiter__(self) -> RequestStream[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next item. Raises: StopAsyncIteration; InvalidArgument for one that does not fit. Cancel: loses nothing."""
        item = await self._buffer.next()
        return self._decode(item.body, item.raw)


def _not_open(body: bytes, raw: bool = False) -> Any:
    raise RuntimeError("a stream that was not opened has no items")
