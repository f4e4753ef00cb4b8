"""One loop timer for every deadline of a loop.

Owns: which callbacks are still to come, and when. A loop timer per call costs microseconds to arm and to cancel, and nearly every
deadline is cancelled; here `at` and `Timer.cancel` are one dictionary operation each.

Theory. Time is cut into ticks of `tick_s`; a deadline belongs to the first tick at or after it. A slot (the timers of one tick) exists
only while its tick is to come, in a dict keyed by the number of the tick, so the wheel has no size, no rounds and no overflow: a
deadline in an hour costs what one in a second costs. A heap of tick *numbers* says which slot is next; it is touched once per slot, not
once per timer. One `call_at` is armed, for the earliest slot. A cancelled timer leaves its slot at once and is free to be collected;
only the empty slot stays until its tick, and there is at most one slot per tick.

What may never happen here: a callback before its time, a callback out of order, a callback that keeps others from running, a loop
timer that is armed again while nothing is due. This file knows no loop: it is given `now` and `call_at`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

import msgspec

TICK_S = 0.005
"""Deadlines are for people and networks: 5 ms is finer than either, and lets 150 deadlines of a busy second share a slot."""

EARLY_S = 0.001
"""How much later than the tick the loop timer is set. uvloop rounds to milliseconds and may wake us early; then we would ask again."""


class Timer(msgspec.Struct, eq=False):
    """A callback to come. `cancel` it when it is no longer wanted; that is O(1), and harmless when it has run.

    Attributes:
        when: the moment it was asked for, on the wheel's clock.
    """

    when: float
    _callback: Callable[[], None] | None
    _slot: dict[Timer, None] | None

    def cancel(self) -> None:
        """Take the callback back and let go of everything it holds. Idempotent."""
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = None
        self._callback = None

    @property
    def is_pending(self) -> bool:
        """Whether the callback is still to come."""
        return self._callback is not None


def _when(timer: Timer) -> float:
    return timer.when


class Wheel:
    """Every deadline of one loop.

    Args:
        now: the clock, in float seconds that never go backwards; kept as `now`, which is the time `at` is measured in.
        call_at: runs a callback at a time of that clock (the loop's, or that of `net/timing.py`). What it returns is cancelled if it has a
            `cancel`, when an earlier deadline comes in.
        tick_s: how coarse it is; a callback comes at most this (and a millisecond) after its time.
    """

    __slots__ = ("_armed", "_armed_tick", "_call_at", "_done_tick", "_slots", "_ticks", "_ticks_per_s", "now", "tick_s")

    def __init__(self, now: Callable[[], float], call_at: Callable[[float, Callable[[], None]], object], *, tick_s: float = TICK_S) -> None:
        if not tick_s > 0:
            raise ValueError(f"tick_s={tick_s!r}: expected a positive number of seconds")
        self.tick_s = tick_s
        self.now = now
        self._call_at = call_at
        self._ticks_per_s = 1.0 / tick_s
        self._slots: dict[int, dict[Timer, None]] = {}
        self._ticks: list[int] = []  # a heap; holds exactly the keys of _slots
        self._done_tick = -1
        self._armed: object = None
        self._armed_tick: int | None = None

    def __len__(self) -> int:
        """How many callbacks are to come."""
        return sum(map(len, self._slots.values()))

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` at the first tick at or after `when`, never before it; a time that has passed means the next tick.

        Raises: OverflowError, ValueError when `when` is not finite. "Never" is a timer nobody sets.
        """
        tick = int(when * self._ticks_per_s)
        while tick * self.tick_s < when:  # once, as a rule: int() cuts off, and the product may be a rounding error short
            tick += 1
        if tick <= self._done_tick:
            tick = self._done_tick + 1
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            heappush(self._ticks, tick)
            if self._armed_tick is None or tick < self._armed_tick:
                self._arm(tick)
        timer = Timer(when, callback, slot)
        slot[timer] = None
        return timer

    def _arm(self, tick: int) -> None:
        cancel = getattr(self._armed, "cancel", None)
        if cancel is not None:
            cancel()
        self._armed_tick = tick
        self._armed = self._call_at(tick * self.tick_s + EARLY_S, partial(self._wake, tick))

    def _wake(self, armed_tick: int) -> None:
        if armed_tick != self._armed_tick:
            return  # an earlier deadline came in after this timer was set, and it could not be taken back
        self._armed = self._armed_tick = None
        errors: list[Exception] = []
        try:
            self._run_due(errors)
        finally:
            self._rearm()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"{len(errors)} callbacks of the timer wheel raised", errors)

    def _run_due(self, errors: list[Exception]) -> None:
        now = self.now()
        ticks = self._ticks
        while ticks and ticks[0] * self.tick_s <= now:
            tick = heappop(ticks)
            slot = self._slots.pop(tick)
            # What a callback adds for now or for the past goes to a later tick: a callback that re-arms itself cannot spin here.
            self._done_tick = max(tick, int(now * self._ticks_per_s))
            for timer in sorted(slot, key=_when):
                callback = timer._callback
                if callback is None:
                    continue  # cancelled by one that ran before it
                timer._callback = timer._slot = None
                try:
                    callback()
                except Exception as error:
                    errors.append(error)

    def _rearm(self) -> None:
        """Set the loop timer for the next slot that has something in it; drop the empty ones on the way."""
        ticks = self._ticks
        while ticks:
            if self._slots[ticks[0]]:
                if self._armed_tick is None or ticks[0] < self._armed_tick:
                    self._arm(ticks[0])
                return
            del self._slots[heappop(ticks)]
