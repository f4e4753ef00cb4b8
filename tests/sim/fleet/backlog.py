"""When a host was behind: held up by what the world is like, and until it had done what piled up meanwhile.

Owns: those times, of each process, and the spies that see them. A client of many nodes has dozens of calls under way: when its host gets no
processor for a second, all that was due in it is due at once, and to tell everybody takes longer than the ten milliseconds in which one is
to be told. So a process is behind from the moment in which a callback stalled, or in which it had something to do and got no processor,
until it sleeps: until all is done that became ready before. Then it has caught up, and who waits on is late.

What may never happen here: a process that is behind without having been held up; an effect on the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.sim.cpu import Cpu


class Backlog:
    """When each process was behind."""

    def __init__(self) -> None:
        self._periods: dict[Cpu, list[tuple[float, float]]] = {}
        self._since: dict[Cpu, float] = {}
        self._idle_at: dict[Cpu, float] = {}

    def behind_s(self, process: Cpu, since: float) -> float:
        """How long, since that time, a process has been behind, which runs at this moment."""
        begun_at = self._since.get(process)
        found = 0.0 if begun_at is None else process.engine.now - max(begun_at, since)
        for begun_at, over_at in reversed(self._periods.get(process, ())):
            if over_at <= since:
                break
            found += over_at - max(begun_at, since)
        return found

    def held_up(self, process: Cpu) -> None:
        """It does not get on."""
        self._since.setdefault(process, process.engine.now)

    def sleeps(self, process: Cpu) -> None:
        """It has nothing left to do, as far as it knows, when the callback that runs is over."""
        if process in self._since:
            self._idle_at[process] = max(process.engine.now, process._free_at)

    def wakes(self, process: Cpu, ready_at: float) -> None:
        """There is something to do for one that sleeps. It had caught up, unless this was there before it could sleep."""
        idle_at = self._idle_at.pop(process, math.inf)
        if ready_at >= idle_at:
            self._periods.setdefault(process, []).append((self._since.pop(process), idle_at))


@contextmanager
def watching(backlog: Backlog) -> Iterator[None]:
    """Inside, processors are watched."""
    run, step, sleep, wake, timer = Cpu._run, Cpu.step, Cpu.sleep, Cpu.wake, Cpu._timer

    def run_watched(self: Cpu, handle: Any) -> None:
        run(self, handle)
        handle = None  # as there: an error's traceback would keep its task
        if self._free_at - self.engine.now > 10 * self.engine.options.callback_s:
            backlog.held_up(self)

    def step_watched(self: Cpu, ticket: int) -> None:
        if self.stalled_until > self.engine.now and ticket == self._ticket and self.alive:
            backlog.held_up(self)
        step(self, ticket)

    def sleep_watched(self: Cpu) -> None:
        sleep(self)
        backlog.sleeps(self)

    def wake_watched(self: Cpu) -> None:
        backlog.wakes(self, self.engine.now)
        wake(self)

    def timer_watched(self: Cpu, ticket: int) -> None:
        if ticket == self._ticket:
            due_at = self.loop._scheduled[0]._when
            backlog.wakes(self, due_at if self.clock is None else self.clock.true_time(due_at))
        timer(self, ticket)

    watched: dict[str, Callable[..., None]] = {
        "_run": run_watched,
        "step": step_watched,
        "sleep": sleep_watched,
        "wake": wake_watched,
        "_timer": timer_watched,
    }
    for name, spy in watched.items():
        setattr(Cpu, name, spy)
    try:
        yield
    finally:
        for name, real in zip(watched, (run, step, sleep, wake, timer), strict=True):
            setattr(Cpu, name, real)
