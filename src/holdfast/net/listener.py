"""Accepting connections, a bounded number per turn.

Owns: when to accept and when to stop. The loops' own accept loops take a whole backlog in one turn, and when descriptors run out asyncio
logs once per waiting connection and busy-loops in between (CPython gh-151615); so this one is ours.

What may never happen here: a busy loop, an accept after `close`, a flood of facts about one shortage. This file does no kernel call of
its own: `network.py` hands in `accept` and `release`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from ..facts import ConnectionRefused, Emit
from .address import Address

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""We cannot take a connection that is there. Trying again at once would fail again at once."""

LOST_WHILE_WAITING = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)
"""One connection died in the backlog (Linux hands its error to accept). The next one may be well."""

RETRY_S = 0.1


class Acceptor:
    """A listener on one socket.

    Args:
        descriptor: of the listening socket, non-blocking.
        accept: takes one connection and sees to it; raises OSError as accept(2) does.
        release: closes the listening socket and cleans up after it; called once.
    """

    __slots__ = ("_accept", "_accepts_per_turn", "_descriptor", "_emit", "_loop", "_release", "_retry", "_short", "address")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        address: Address,
        *,
        accept: Callable[[], None],
        release: Callable[[], None],
        accepts_per_turn: int,
        emit: Emit,
    ) -> None:
        self.address = address
        self._loop = loop
        self._descriptor = descriptor
        self._accept = accept
        self._release: Callable[[], None] | None = release
        self._accepts_per_turn = accepts_per_turn
        self._emit = emit
        self._retry: asyncio.TimerHandle | None = None
        self._short = False  # descriptors ran out, and that has been said
        loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        """Stop accepting. Connections in the kernel's backlog are refused by it; accepted ones live on. Idempotent."""
        release, self._release = self._release, None
        if release is None:
            return
        if self._retry is None:
            self._loop.remove_reader(self._descriptor)
        else:
            self._retry.cancel()
        release()

    def _readable(self) -> None:
        for _ in range(self._accepts_per_turn):
            if self._release is None:
                return  # what was accepted closed us
            try:
                self._accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in LOST_WHILE_WAITING:
                    continue
                self._rest(error)
                return
            self._short = False

    def _rest(self, error: OSError) -> None:
        """Leave the backlog alone for a moment. An error we do not know is treated alike: it must not become a busy loop either."""
        if self._release is None:
            return
        self._loop.remove_reader(self._descriptor)
        self._retry = self._loop.call_later(RETRY_S, self._again)
        if not self._short:
            self._short = True
            why = "out of descriptors or memory; raise `ulimit -n`" if error.errno in SHORTAGE else "unexpected"
            reason = f"{self.address} cannot accept ({why}): {error.strerror or error}; trying every {RETRY_S:g} s"
            self._emit(ConnectionRefused(peer="unknown", reason=reason))

    def _again(self) -> None:
        self._retry = None
        self._loop.add_reader(self._descriptor, self._readable)
