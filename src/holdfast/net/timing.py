"""Being called at a moment without a timer of the loop: one timer of the Linux kernel for everybody on a loop.

Owns: that timer, a descriptor per loop, and who is to be called when. By ctypes: `os` has it from Python 3.13 on.

Theory. A loop with a timer pending waits for bytes with a timeout, and for each such wait the kernel sets up a timer and takes it down
again. That is 1.5 µs of every call that is alone, at each end, and hardly any deadline is ever reached. A timer descriptor is set once,
and waited for as a socket is. It is set anew when an earlier moment comes in and when it has rung, and left alone when a moment is taken
back: then it rings for nobody, once.

A loop whose time is not the kernel's (a simulated one, one that a test made), another system, a process with no descriptor left and one
that was forked with a loop in it: all these have the loop's own timers, which are dearer, and on uvloop up to a millisecond early.

What may never happen here: a callback before its moment by the kernel's timer; a kernel call for each call; a descriptor that outlives
its last user; a loop that is kept alive.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import sys
import weakref
from collections.abc import Callable
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Any

_MONOTONIC = 1  # CLOCK_MONOTONIC, the clock of both loops on Linux
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)  # what TFD_NONBLOCK and TFD_CLOEXEC are defined as
_SECONDS_MAX = 2**31  # in 68 years it may ring too early
_LOOPS = (("asyncio.unix_events", "_UnixSelectorEventLoop"), ("uvloop", "Loop"))
"""Loops whose time is the kernel's. By name, since nobody needs to have uvloop; what is derived from them may have any time."""

SPARE_CALLS = 64
"""So many calls that were taken back may wait beside those that were not, and as many as those besides; then they are swept out."""


class _Moment(ctypes.Structure):
    _fields_ = (("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


class KernelTimer:
    """A timer that is waited for as a socket is.

    Attributes:
        descriptor: readable once it has rung; -1 when it is closed.
    Raises: OSError when there is no descriptor left. AttributeError where the system has no such timers.
    """

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._moment = _Moment()
        self.descriptor: int = _checked(self._libc.timerfd_create(_MONOTONIC, _FLAGS))
        self._release = weakref.finalize(self, os.close, self.descriptor)
        self._release.atexit = False

    def set(self, at: float) -> None:
        """Ring at that moment of the monotonic clock instead of any set before; at once, if it has passed."""
        moment = self._moment
        at = min(max(at, 0.0), _SECONDS_MAX)
        moment.s = seconds = int(at)
        moment.ns = max(int((at - seconds) * 1e9), 1)  # nothing at all would disarm it
        _checked(self._libc.timerfd_settime(self.descriptor, _ABSOLUTE, ctypes.byref(moment), None))

    def take(self) -> bool:
        """Whether it has rung, which is forgotten by this."""
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:  # it was set anew between the wake-up and now
            return False
        return True

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        self.descriptor = -1
        self._release()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"a timer of the kernel: {os.strerror(number)}")
    return result


class Call:
    """A callback to come."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback

    def __lt__(self, other: Call) -> bool:
        return self.when < other.when

    @property
    def is_pending(self) -> bool:
        """Whether it is still to come."""
        return self._callback is not None

    def cancel(self) -> None:
        """Take it back. Idempotent."""
        self._callback = None

    def run(self) -> None:
        """Call back, unless it was taken back."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Shared:
    """The timer of one loop, and all calls that wait for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timer: KernelTimer) -> None:
        self.loop = loop
        self.users = 0
        self._timer: KernelTimer | None = timer
        self._process = os.getpid()
        self._calls: list[Call] = []  # a heap, with those in it that were taken back
        self._sweep_at = SPARE_CALLS
        self._set_to = math.inf
        Context().run(loop.add_reader, timer.descriptor, self._rang)  # or the first user's variables would live as long as the loop

    def call_at(self, when: float, callback: Callable[[], None]) -> Call:
        call = Call(when, callback)
        timer = self._timer
        if timer is None or os.getpid() != self._process:  # after a fork, to set it would be to set our parent's
            self.loop.call_at(when, call.run)
            return call
        if len(self._calls) >= self._sweep_at:
            self._calls = [each for each in self._calls if each.is_pending]
            heapify(self._calls)
            self._sweep_at = 2 * len(self._calls) + SPARE_CALLS
        heappush(self._calls, call)
        if when < self._set_to:
            self._set(timer, when)
        return call

    def _set(self, timer: KernelTimer, when: float) -> None:
        self._set_to = when
        timer.set(when)

    def _rang(self) -> None:
        timer = self._timer
        if timer is None or not timer.take():
            return
        now, self._set_to = self._set_to, math.inf  # it has rung, so it is not earlier than that
        calls = self._calls
        while calls and (calls[0].when <= now or not calls[0].is_pending):
            self.loop.call_soon(heappop(calls).run)  # each by itself: what one raises is not the others' business
        if calls:
            self._set(timer, calls[0].when)

    def leave(self) -> None:
        """One user less. After the last the descriptor is closed, and what is still to come goes to the loop."""
        self.users -= 1
        timer = self._timer
        if self.users or timer is None:
            return
        self._timer = None
        calls, self._calls = self._calls, []
        if not self.loop.is_closed() and os.getpid() == self._process:
            self.loop.remove_reader(timer.descriptor)
            for call in calls:
                if call.is_pending:
                    self.loop.call_at(call.when, call.run)
        timer.close()


# By the loop's id, which is not used again as long as the timer has the loop: by the loop itself, the table would keep it alive.
_timers: weakref.WeakValueDictionary[int, _Shared] = weakref.WeakValueDictionary()


def _shared_timer(loop: asyncio.AbstractEventLoop) -> _Shared | None:
    """Return the timer of a loop; None where the loop has to do it by itself."""
    kind = type(loop)
    if sys.platform != "linux" or (kind.__module__, kind.__name__) not in _LOOPS:
        return None
    found = _timers.get(id(loop))
    if found is None or not found.users:
        try:
            found = _timers[id(loop)] = _Shared(loop, KernelTimer())
        except (OSError, AttributeError):
            return None
    return found


class LoopTimer:
    """What a wheel is armed with: `call_at`, as the loop's own.

    `close` it when the client or server it was made for is over. Callbacks that are still to come then do come: a wheel may outlive it.
    """

    __slots__ = ("_shared", "call_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_at: Callable[[float, Callable[[], None]], object] = loop.call_at
        self._shared = _shared_timer(loop)
        if self._shared is not None:
            self._shared.users += 1
            self.call_at = self._shared.call_at

    def close(self) -> None:
        """Leave the kernel's timer to the others on this loop. Idempotent."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.leave()
