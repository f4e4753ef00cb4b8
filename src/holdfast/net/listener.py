"""Accepting connections: a bounded number per turn, and calmly when there is no room.

Owns: when to accept, when to rest, and when to stop. The loops' own accept loops take a whole backlog in one turn, and when descriptors
run out asyncio logs once per waiting connection and busy-loops in between (CPython gh-151615); so this one is ours.

Theory. A connection that can be taken costs nothing but its place in the turn. One that has to be turned away, or that is let in by
cutting another, takes a token; without tokens the backlog is left alone for PACE_S. So a flood of strangers costs a bounded share of the
processor, and whoever comes when there is no flood does not wait.

What may never happen here: a busy loop, an accept after `close`. This file does no kernel call of its own: `door.py` does them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ..control.bucket import TokenBucket
from .address import Address

LOST_WHILE_WAITING = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)
"""One connection died in the backlog (Linux hands its error to accept). The next one may be well."""

RETRY_S = 0.1
PACE_S = 0.1
COSTLY_PER_S, COSTLY_BURST = 50.0, 250.0
"""Letting one in by cutting another takes 0.16 ms of a processor: fifty a second are one percent of it. A crowd that comes once is dealt
with at once, so that whoever comes after it does not wait."""

Taken = Literal["taken", "costly", "costly and last", "later"]
"""What became of a connection: it was taken; that cost something; nothing more, or nothing at all, can be done before the loop turns."""
COSTLY, LAST = ("costly", "costly and last"), ("later", "costly and last")


class Acceptor:
    """The accepting on one socket.

    Args:
        descriptor: of the listening socket, non-blocking.
        take: accepts one connection and sees to it. Raises OSError as accept(2) does.
        trouble: told of an accept that failed and will be tried again.
        release: closes the listening socket and cleans up after it; called once.
        pace: what costly ones take their tokens from.
    """

    __slots__ = ("_accepts_per_turn", "_descriptor", "_loop", "_pace", "_release", "_resting", "_take", "_trouble")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        *,
        take: Callable[[], Taken],
        trouble: Callable[[OSError], None],
        release: Callable[[], None],
        pace: TokenBucket,
        accepts_per_turn: int,
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._take = take
        self._trouble = trouble
        self._release: Callable[[], None] | None = release
        self._pace = pace
        self._accepts_per_turn = accepts_per_turn
        self._resting: asyncio.TimerHandle | None = None
        loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        """Stop accepting. Connections in the kernel's backlog are refused by it; accepted ones live on. Idempotent."""
        release, self._release = self._release, None
        if release is None:
            return
        if self._resting is None:
            self._loop.remove_reader(self._descriptor)
        else:
            self._resting.cancel()
        release()

    def _readable(self) -> None:
        for _ in range(self._accepts_per_turn):
            if self._release is None:
                return  # what was accepted closed us
            try:
                taken = self._take()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in LOST_WHILE_WAITING:
                    continue
                self._trouble(error)  # one we do not know is treated alike: it must not become a busy loop either
                self._rest(RETRY_S)
                return
            if taken in COSTLY and not self._pace.take(self._loop.time()):
                self._rest(PACE_S)
                return
            if taken in LAST:
                return

    def _rest(self, for_s: float) -> None:
        """Leave the backlog alone for a moment."""
        if self._release is not None:
            self._loop.remove_reader(self._descriptor)
            self._resting = self._loop.call_later(for_s, self._again)

    def _again(self) -> None:
        self._resting = None
        self._loop.add_reader(self._descriptor, self._readable)


class OpenListener:
    """A listener that is open: one acceptor for each address its name stands for.

    Args:
        close: what else ends with it; called once, after the acceptors.
    """

    __slots__ = ("_acceptors", "_close", "address", "options")

    def __init__(self, address: Address, options: Mapping[str, object], acceptors: Sequence[Acceptor], close: Callable[[], None]) -> None:
        self.address = address
        self.options = options
        self._acceptors = acceptors
        self._close: Callable[[], None] | None = close

    def close(self) -> None:
        """Stop accepting. Links accepted before live on. Idempotent."""
        close, self._close = self._close, None
        if close is not None:
            for acceptor in self._acceptors:
                acceptor.close()
            close()
