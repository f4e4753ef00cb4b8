"""How long one end of a connection waits for the other: retransmissions that get no answer, and keepalive.

Owns: the two ways in which a connection ends although nobody closed it. The simulation knows more than a kernel does, so no timer runs
while all is well: one is set when a packet cannot get through (`stuck`), and keepalive begins to ask when something happened to the way or
to the machine at its other end (`doubt`). What a program sees, and when, is the same; and a world in which nothing moves is seen to be one.

What may never happen here: a connection given up whose peer could have answered.
"""

from __future__ import annotations

import errno
from typing import Any

from .kernel import Kernel

FROZEN_RETRY_S = 1.0


class Patient:
    """The base of a connection: what it does while nothing comes. `tcp.Connection` says what the attributes are."""

    __slots__ = (
        "_listener",
        "_probing",
        "_reset",
        "_stuck",
        "connecting",
        "heard_at",
        "keepalive",
        "kernel",
        "peer",
        "progress_at",
        "user_timeout_s",
    )

    kernel: Kernel
    peer: Any
    connecting: bool
    heard_at: float
    progress_at: float
    keepalive: tuple[float, float, int] | None
    """Idle seconds before the first question, seconds between questions, how many of them."""
    user_timeout_s: float
    _listener: Any
    _reset: bool
    _stuck: bool
    _probing: bool

    def unsent_bytes(self) -> int:
        raise NotImplementedError

    def gone(self) -> bool:
        raise NotImplementedError

    def on_reset(self) -> None:
        raise NotImplementedError

    def _fail(self, number: int) -> None:
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------------- retransmissions

    def stuck(self) -> None:
        """A packet of ours does not get through: it is either data that is not acknowledged, or the acknowledgement of the peer's."""
        self._suspect()
        if self.peer is not None:
            self.peer._suspect()

    def _suspect(self) -> None:
        if not self._stuck and not self._reset and not self.gone():
            self._stuck = True
            self._give_up_at(self.kernel.engine.now)

    def _give_up_at(self, since: float) -> None:
        options = self.kernel.engine.options
        half = self.connecting or self._listener is not None
        wait_s = self.user_timeout_s or (options.connect_timeout_s if half else options.retransmit_timeout_s)
        self.kernel.engine.at(since + wait_s, self._give_up, since)

    def _give_up(self, since: float) -> None:
        self._stuck = False
        if self._reset or self.gone():
            return
        now = self.kernel.engine.now
        if self.kernel.frozen:
            self._stuck = True
            self.kernel.engine.at(now + FROZEN_RETRY_S, self._give_up, since)
        elif self.connecting or self._listener is not None:
            self._fail(errno.ETIMEDOUT)
        elif self.unsent_bytes():
            if self.progress_at <= since:
                self._fail(errno.ETIMEDOUT)
            elif not self._way():
                self._stuck = True
                self._give_up_at(self.progress_at)

    def _way(self) -> bool:
        """Whether a packet gets to the peer, and its answer back."""
        if self.peer is None:
            return False
        wires, here, there = self.kernel.wires, self.kernel, self.peer.kernel
        return wires.between(here, there).passes() and wires.between(there, here).passes()

    # ---------------------------------------------------------------------------------------------------------------- keepalive

    def doubt(self) -> None:
        """Something happened to the peer or to the way there: from now on keepalive is worth asking."""
        if self.keepalive is None or self._probing or self._reset or self.connecting or self.peer is None:
            return
        self._probing = True
        now = self.kernel.engine.now
        self.kernel.engine.at(max(now, self.heard_at + self.keepalive[0]), self._probe, 0)

    def _probe(self, unanswered: int) -> None:
        engine = self.kernel.engine
        self._probing = False
        if self._reset or self.gone() or self.keepalive is None:
            return
        if self._way():
            if self.peer.gone() or self.peer._reset:
                self.on_reset()  # the peer's kernel says that it knows no such connection
            return
        _, interval_s, count = self.keepalive
        if not self.kernel.frozen:
            silent_s = engine.now - self.heard_at
            if (silent_s >= self.user_timeout_s and unanswered) if self.user_timeout_s else unanswered >= count:
                self._fail(errno.ETIMEDOUT)
                return
            unanswered += 1
        self._probing = True
        engine.at(engine.now + interval_s, self._probe, unanswered)
