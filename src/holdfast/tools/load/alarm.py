"""Being woken at a moment, to some ten microseconds.

The timers of both loops count in milliseconds. A call that is due between two of them would leave up to a millisecond late, and the
latency, which is counted from the due moment, would be the generator's own. So on Linux the kernel's timer descriptor wakes the loop.

Owned here: that descriptor, by ctypes (`os` has it from Python 3.13 on). What may never happen: an alarm that rings after `close`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

_MONOTONIC = 1  # CLOCK_MONOTONIC, the clock of time.monotonic on Linux
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)  # what TFD_NONBLOCK and TFD_CLOEXEC are defined as
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


class _Moment(ctypes.Structure):
    _fields_ = (("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


class TimerDescriptor:
    """An alarm of the Linux kernel. Raises: OSError when there is no descriptor left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._ring = ring
        self._moment = _Moment()
        self._descriptor = self._checked(self._libc.timerfd_create(_MONOTONIC, _FLAGS))
        loop.add_reader(self._descriptor, self._rang)

    def set(self, at: float) -> None:
        """Ring at that moment instead of any set before."""
        moment = self._moment
        seconds = int(at)
        moment.s = seconds
        moment.ns = max(int((at - seconds) * 1e9), 1)  # nothing at all would disarm it
        self._checked(self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(moment), None))

    def close(self) -> None:
        """Never ring again. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # it was set anew between the wake-up and now
            return
        self._ring()

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"the timer of the load generator: {os.strerror(number)}")
        return result


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
