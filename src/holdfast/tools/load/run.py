"""One process's run: calls that leave when they are due, or as soon as the last one is back.

Open loop: an alarm rings when a call is due, and a task that has nothing to do makes it. Such tasks are kept and used again: making one
for each call would cost as much as the call. The latency of a call counts from the moment it was *due*. When the server stands still, calls
go on being due, and each of them waits: that is what a caller would have seen. A loop that waits for the last answer before it sends the
next counts one long wait instead of thousands (this is called coordinated omission).

Owned here: the tasks, the sending, and the end: what is open then is waited for, as long as a deadline lasts. What may never happen: a due
call that is neither sent nor counted as not sent; a latency that counts from when a call left.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
import time
from bisect import bisect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ...clock import Rng
from ...errors import HoldfastError
from ...tasks import Scope
from .alarm import LOOP_STEP_S, make_alarm
from .plan import Plan
from .tally import SAMPLE_CHARACTERS_MAX, Measured, Slot, Tally, joined

LATE_S = 0.001 if sys.platform == "linux" else 0.001 + LOOP_STEP_S
"""A call that leaves this much after it was due left late: well above what the alarm needs, well below what people ask about."""

GROUP_S = 0.0002
"""Being woken costs as much as several calls. A process that sends more than one call in this time sends what is due together, this often:
each call then leaves up to so much later than it was due, which its latency has in it."""

DRAIN_GRACE_S = 1.0
STOP_WAIT_S = 0.5
PROGRESS_S = 1.0
_TURNS_BEFORE_YIELD = 64

Action = Callable[[int, float], Awaitable[object]]
"""Makes one call. Given its number and the moment it was due."""


class Task(NamedTuple):
    """One kind of call: how often it comes compared with the others, where it is counted, and how it is made over each connection."""

    weight: float
    tally: Tally
    actions: Sequence[Action]


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Where one process is. `second` is what ended since the last one; the counts are since the warm-up ended."""

    at_s: float
    sent: int
    not_sent: int
    open: int
    second: Slot


class Load:
    """One run in one process. Make it on the loop that it runs on, and `run` it once.

    Args:
        process: which share of the plan this is.
        tell: is told once a second how it goes; warm-up too, with a negative `at_s`.
        clock: gives the monotonic time.
    """

    def __init__(
        self,
        plan: Plan,
        process: int,
        tasks: Sequence[Task],
        rng: Rng,
        tell: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._share = plan.share(process)
        self._tallies = [task.tally for task in tasks]
        self._next_action = _chooser(tasks, rng)
        self._due = plan.due(process, rng) if plan.rate is not None else None
        self._group_s = GROUP_S if (self._share.rate or 0.0) * GROUP_S > 1 else 0.0
        self._numbers = itertools.count(self._share.first, self._share.stride)
        self._tell = tell
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._scope = Scope(self._broke)
        self._broken: BaseException | None = None
        self._stopped = asyncio.Event()
        self._idle: list[asyncio.Future[tuple[int, float]]] = []
        self._workers = 0
        self._all_idle: asyncio.Future[None] | None = None
        self._measure_at = self._end_at = 0.0
        self._due_at = 0.0
        self._sent = self._not_sent = self._late = 0
        self._late_max_s = self._lag_max_s = 0.0
        self._last_at = 0.0
        self._slots: list[Slot] = []
        self._samples: dict[str, str] = {}

    def stop(self) -> None:
        """End early: send nothing more, and soon give what was counted."""
        self._stopped.set()

    async def run(self, start_at: float) -> Measured:
        """Run from a moment of the clock on, and return what was counted.

        Cancel: the calls that are open are cancelled; what was counted is lost.
        """
        self._measure_at = start_at + self._plan.warmup_s
        self._end_at = self._last_at = self._measure_at + self._plan.duration_s
        for tally in self._tallies:
            tally.measuring_from = self._measure_at
        alarm = make_alarm(self._loop, self._ring)
        self._alarm = alarm
        try:
            if self._due is not None:
                self._start_at = start_at
                self._due_at = start_at + next(self._due)
                alarm.set(self._due_at)
            else:
                for _ in range(self._share.concurrency):
                    self._workers += 1
                    self._scope.spawn(self._repeat(start_at))
            cpu_share = await self._watch()
            if self._due is not None:
                self._ring()  # what was due in the last moment
            alarm.close()
            interrupted = self._stopped.is_set()
            await self._drain(STOP_WAIT_S if interrupted else self._plan.deadline_s + DRAIN_GRACE_S)
        finally:
            alarm.close()
            await self._scope.close(grace_s=DRAIN_GRACE_S)
        if self._broken is not None:
            raise self._broken
        return self._measured(cpu_share, interrupted)

    # ------------------------------------------------------------------ open loop

    def _ring(self) -> None:
        """Hand out what is due, and set the alarm for what comes next."""
        assert self._due is not None
        now = self._clock()
        due_at, idle, due, start_at = self._due_at, self._idle, self._due, self._start_at
        while due_at <= now:
            if due_at >= self._end_at or self._stopped.is_set():
                self._due_at = due_at
                return
            if idle:
                idle.pop().set_result((next(self._numbers), due_at))
            elif self._workers < self._share.outstanding_max:
                self._workers += 1
                self._scope.spawn(self._work(next(self._numbers), due_at))
            elif due_at >= self._measure_at:
                self._not_sent += 1
            due_at = start_at + next(due)
        self._due_at = due_at
        self._alarm.set(max(due_at, now + self._group_s))

    async def _work(self, number: int, due_at: float) -> None:
        """Make a call; then wait to be given another one."""
        clock, idle, create_future, measure_at = self._clock, self._idle, self._loop.create_future, self._measure_at
        while True:
            tally, action = self._next_action()
            measured = due_at >= measure_at
            if measured:
                self._sent += 1
                late_s = clock() - due_at
                if late_s > LATE_S:
                    self._late += 1
                    if late_s > self._late_max_s:
                        self._late_max_s = late_s
            try:
                await action(number, due_at)
            except Exception as error:
                if measured:
                    self._failed(tally, error, clock() - due_at)
            else:
                if measured:
                    tally.latency.record(clock() - due_at)
            waiter: asyncio.Future[tuple[int, float]] = create_future()
            idle.append(waiter)
            if self._all_idle is not None:
                self._check_idle()
            number, due_at = await waiter

    # ------------------------------------------------------------------ closed loop

    async def _repeat(self, start_at: float) -> None:
        """Make one call after the other until the end."""
        clock = self._clock
        await self._until(start_at)
        turns = 0
        while (now := clock()) < self._end_at and not self._stopped.is_set():
            tally, action = self._next_action()
            measured = now >= self._measure_at
            if measured:
                self._sent += 1
            try:
                await action(next(self._numbers), now)
            except Exception as error:
                if measured:
                    self._failed(tally, error, clock() - now)
                await asyncio.sleep(0)  # an error that needs no waiting must not keep the loop from everything else
            else:
                if measured:
                    tally.latency.record(clock() - now)
            turns += 1
            if not turns % _TURNS_BEFORE_YIELD:
                await asyncio.sleep(0)  # nor must a function of a scenario that never waits
        self._workers -= 1
        if self._all_idle is not None:
            self._check_idle()

    # ------------------------------------------------------------------ around both

    def _failed(self, tally: Tally, error: Exception, seconds: float) -> None:
        code = error.code if isinstance(error, HoldfastError) else type(error).__name__
        tally.fail(code, seconds)
        if code in tally.errors and code not in self._samples:
            self._samples[code] = f"{error}"[:SAMPLE_CHARACTERS_MAX]

    def _broke(self, error: BaseException) -> None:
        self._broken = self._broken or error
        self._stopped.set()

    async def _watch(self) -> float:
        """Close slots when their time is over, tell each second how it goes, measure the loop's lag; return the share of a core we used."""
        await self._until(self._measure_at)
        cpu_s, began_at = time.process_time(), self._clock()
        told_at = self._measure_at
        ticks = math.ceil(self._plan.slot_s / PROGRESS_S)
        tick_s = self._plan.slot_s / ticks
        slot: list[Slot] = []
        second: list[Slot] = []
        for count in range(1, self._plan.slots * ticks + 1):
            tick_at = self._measure_at + count * tick_s
            if self._stopped.is_set():
                break
            if not await self._until(tick_at):
                self._lag_max_s = max(self._lag_max_s, self._clock() - tick_at)
            ended = joined([tally.roll() for tally in self._tallies])
            slot.append(ended)
            second.append(ended)
            if count % ticks == 0:
                self._slots.append(joined(slot))
                slot = []
            if tick_at - told_at >= PROGRESS_S - tick_s / 2:
                self._report(tick_at - self._measure_at, joined(second))
                told_at, second = tick_at, []
        if slot:
            self._slots.append(joined(slot))
        return (time.process_time() - cpu_s) / max(self._clock() - began_at, 1e-9)

    def _report(self, at_s: float, second: Slot) -> None:
        self._tell(Progress(at_s, self._sent, self._not_sent, self._workers - len(self._idle), second))

    async def _until(self, at: float) -> bool:
        """Wait until that moment; return whether it was cut short by `stop`."""
        while (left_s := at - self._clock()) > 0:  # the loop's timers may ring up to a millisecond early
            try:
                async with asyncio.timeout(left_s):
                    await self._stopped.wait()
            except TimeoutError:
                continue
            return True
        return self._stopped.is_set()

    async def _drain(self, within_s: float) -> None:
        """Wait for the calls that are open, so long at most."""
        if self._workers == len(self._idle):
            return
        self._all_idle = self._loop.create_future()
        try:
            async with asyncio.timeout(within_s):
                await self._all_idle
        except TimeoutError:
            return  # what is open now is counted as unfinished

    def _check_idle(self) -> None:
        if self._workers == len(self._idle) and self._all_idle is not None and not self._all_idle.done():
            self._all_idle.set_result(None)
            self._last_at = self._clock()

    def _measured(self, cpu_share: float, interrupted: bool) -> Measured:
        now = self._clock()
        last = joined([tally.roll() for tally in self._tallies])
        if last.ok or last.failed:
            self._slots.append(last)  # what came after the end
        steps = [tally.step() for tally in self._tallies]
        done = sum(step.ok + sum(step.errors.values()) for step in steps)
        ended_at = now if interrupted else max(self._end_at, self._last_at)
        return Measured(
            sent=self._sent,
            not_sent=self._not_sent,
            unfinished=self._sent - done,
            late=self._late,
            late_max_s=self._late_max_s,
            lag_max_s=self._lag_max_s,
            cpu=(cpu_share,),
            elapsed_s=max(ended_at - self._measure_at, 0.0),
            slot_s=self._plan.slot_s,
            steps=tuple(steps),
            slots=tuple(self._slots),
            samples=self._samples,
            interrupted=interrupted,
        )


def _chooser(tasks: Sequence[Task], rng: Rng) -> Callable[[], tuple[Tally, Action]]:
    """What gives the next call: by weight among the tasks, in turn among the connections of one."""
    turns: list[Any] = [itertools.cycle([(task.tally, action) for action in task.actions]).__next__ for task in tasks]
    if len(turns) == 1:
        return turns[0]  # type: ignore[no-any-return]
    edges = list(itertools.accumulate(task.weight for task in tasks))
    whole, last, random = edges[-1], len(edges) - 1, rng.random
    return lambda: turns[min(bisect(edges, random() * whole), last)]()
