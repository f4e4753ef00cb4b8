"""Being woken at a moment, to some ten microseconds.

The timers of both loops count in milliseconds. A call that is due between two of them would leave up to a millisecond late, and the
latency, which is counted from the due moment, would be the generator's own. So on Linux the kernel's timer descriptor wakes the loop.

Owned here: one such descriptor (`net/timing.py` knows how to make one). What may never happen: an alarm that rings after `close`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Protocol

from ...net.timing import KernelTimer

LOOP_STEP_S = 0.001
"""What the timers of the loops count in."""


class Alarm(Protocol):
    """Rings once for each time it is set, at that moment of the monotonic clock or, if it has passed, soon."""

    def set(self, at: float) -> None: ...
    def close(self) -> None: ...


def make_alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> Alarm:
    """Return the most exact alarm this system has; `ring` is called on the loop."""
    if sys.platform == "linux":
        return TimerDescriptor(loop, ring)
    return LoopAlarm(loop, ring)


class TimerDescriptor:
    """An alarm of the Linux kernel. Raises: OSError when there is no descriptor left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer = KernelTimer()
        loop.add_reader(self._timer.descriptor, self._rang)

    def set(self, at: float) -> None:
        """Ring at that moment instead of any set before."""
        self._timer.set(at)

    def close(self) -> None:
        """Never ring again. Idempotent."""
        if self._timer.descriptor >= 0:
            self._loop.remove_reader(self._timer.descriptor)
            self._timer.close()

    def _rang(self) -> None:
        if self._timer.take():
            self._ring()


class LoopAlarm:
    """An alarm out of the loop's own timers, for other systems: up to a millisecond late, and it does not burn the core to be less."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at that moment instead of any set before."""
        self.close()
        self._handle = self._loop.call_later(max(at - time.monotonic(), LOOP_STEP_S), self._rang, at)

    def close(self) -> None:
        """Do not ring until it is set again. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _rang(self, at: float) -> None:
        self._handle = None
        if time.monotonic() < at:  # a timer rounds, and may be early
            self.set(at)
        else:
            self._ring()
