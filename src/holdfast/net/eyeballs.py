"""Connecting to a name that stands for several addresses: the first that answers is taken (Happy Eyeballs, RFC 8305).

Owns: sockets while they connect. The families take turns; an address that has not answered within `stagger_s` is joined by the next, one
that failed is followed by it at once; the first connection wins, and the others are closed.

What may never happen here: a socket that stays open, whoever wins and whatever is cancelled when; an error that nobody is told.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence

from .options import ConnectOptions
from .sockets import Socket, Target, connect_error, connecting_socket, is_unix

TARGETS_MAX = 16
"""Of a name with more addresses than these nobody waits for the rest: at four a second they would not have their turn in time."""
BUSY_RETRY_S = 0.02
"""A Unix socket says at once that its backlog is full, and never when it is not any more."""

UNDER_WAY = (errno.EINPROGRESS, errno.EINTR)


class Race:
    """One connection to the first of several addresses that gives it.

    Attributes:
        errors: what became of the addresses that failed, in that order.
    """

    __slots__ = ("_connecting", "_loop", "_options", "_targets", "_timer", "_winner", "errors")

    def __init__(self, loop: asyncio.AbstractEventLoop, targets: Sequence[Target], options: ConnectOptions) -> None:
        self._loop = loop
        self._options = options
        self._targets = interleaved(targets)[:TARGETS_MAX]
        self._connecting: dict[Socket, Target] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._winner: asyncio.Future[Socket] = loop.create_future()
        self.errors: list[tuple[Target, OSError]] = []

    async def run(self) -> Socket:
        """The connected socket; the caller owns it.

        Raises: OSError, the last there was, when no address gave a connection; all of them are in `errors`.
        Cancel: loses nothing; no socket stays open.
        """
        try:
            self._next()
            return await self._winner
        except BaseException:
            if self._winner.done() and not self._winner.cancelled() and self._winner.exception() is None:
                self._winner.result().close()  # it won while we were being cancelled
            raise
        finally:
            self._stop()

    def _next(self) -> None:
        """Bring in one more address, and set the time for the one after it. When none is left and none is trying, it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._targets and not self._winner.done():
            if self._try(self._targets.pop(0)):
                break
        if self._winner.done():
            return
        if self._targets:
            self._timer = self._loop.call_later(self._options.stagger_s, self._next)
        elif not self._connecting:
            self._winner.set_exception(self.errors[-1][1])

    def _try(self, target: Target) -> bool:
        """Begin with one address; whether it is under way, or has won already."""
        try:
            connecting = connecting_socket(target, self._options)
        except OSError as error:
            self.errors.append((target, error))
            return False
        self._connecting[connecting] = target
        return self._connect(connecting)

    def _connect(self, connecting: Socket) -> bool:
        target = self._connecting[connecting]
        outcome = connecting.connect_ex(target.name)
        if outcome == errno.EAGAIN and is_unix(target):
            self._timer = self._loop.call_later(BUSY_RETRY_S, self._connect_again, connecting)
        elif outcome in UNDER_WAY:
            self._loop.add_writer(connecting, self._decided, connecting)
        elif outcome == 0:
            self._won(connecting)
        else:
            self._failed(connecting, outcome)
            return False
        return True

    def _connect_again(self, connecting: Socket) -> None:
        self._timer = None
        if not self._connect(connecting):
            self._next()

    def _decided(self, connecting: Socket) -> None:
        """The kernel knows how an attempt went."""
        self._loop.remove_writer(connecting)
        outcome = connect_error(connecting)
        if outcome == 0:
            self._won(connecting)
        else:
            self._failed(connecting, outcome)
            self._next()

    def _won(self, connecting: Socket) -> None:
        del self._connecting[connecting]
        if self._winner.done():
            connecting.close()
        else:
            self._winner.set_result(connecting)

    def _failed(self, connecting: Socket, outcome: int) -> None:
        self.errors.append((self._connecting.pop(connecting), OSError(outcome, os.strerror(outcome))))
        connecting.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for connecting in self._connecting:
            self._loop.remove_writer(connecting)
            connecting.close()
        self._connecting.clear()


def interleaved(targets: Sequence[Target]) -> list[Target]:
    """The addresses with the families taking turns, beginning with the family of the first (RFC 8305, 4). None twice."""
    ordered = list(dict.fromkeys(targets))
    if not ordered:
        return []
    first = [each for each in ordered if each.family == ordered[0].family]
    others = [each for each in ordered if each.family != ordered[0].family]
    mixed: list[Target] = []
    for n in range(max(len(first), len(others))):
        mixed += first[n : n + 1] + others[n : n + 1]
    return mixed
