"""Who waits for room on a connection of ours that is full.

Owns: the line, and whose turn it is. What may never happen here: a turn that is lost because whoever had it was cancelled; a wait on a
connection that will never have room again.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..handler import held_back
from ..wire import Connection
from .session import Session, SessionShared

LINE_MAX = 10_000


class LinedSession(Session):
    """A session with a bound of open calls, and a line in front of it."""

    __slots__ = ("_calls_max", "_line")

    def __init__(self, shared: SessionShared, conn: Connection) -> None:
        super().__init__(shared, conn)
        self._calls_max = 0
        self._line: deque[asyncio.Future[None]] | None = None

    @property
    def usable(self) -> bool:
        """Whether new calls may go over it."""
        return self.conn.state == "OPEN" and not self.going and not self.closed

    @property
    def open_calls(self) -> int:
        """How many calls are open."""
        return len(self.conn.calls)

    @property
    def calls_max(self) -> int:
        """How many may be open, by the server's word; 0 before it has been heard."""
        return self._calls_max

    @property
    def full(self) -> bool:
        """Whether the server's limit of open calls is reached, or the link takes no more bytes."""
        conn = self.conn
        return self.paused or len(conn.calls) >= self._calls_max

    async def room(self) -> None:
        """Wait until one more call may be opened, or none ever will. Raises: Overloaded when too many wait. Cancel: loses nothing."""
        while self.full and self.usable:
            if self.paused:
                try:
                    await self.writable()
                except asyncio.CancelledError:
                    self._next_in_line()  # it may have been our turn
                    raise
                continue
            if self._line is None:
                self._line = deque()
            if len(self._line) >= LINE_MAX:
                raise held_back(f"{LINE_MAX} calls wait for their turn on this connection already")
            waiter: asyncio.Future[None] = self._shared.loop.create_future()
            self._line.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._next_in_line()  # it was our turn: pass it on
                elif self._line is not None and waiter in self._line:  # or a turn has passed over it already
                    self._line.remove(waiter)
                raise

    def _next_in_line(self) -> None:
        line = self._line
        while line:
            waiter = line.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_line(self) -> None:
        """No call will be opened here any more: whoever waits for room looks for another connection."""
        line, self._line = self._line, None
        for waiter in line or ():
            if not waiter.done():
                waiter.set_result(None)
