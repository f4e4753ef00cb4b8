"""The processor of one process: when which of its callbacks runs.

Owns: turns. A turn of an asyncio loop is: look which descriptors are ready, then which timers are due, then run what was ready by then, in
order; what these callbacks add waits for the next turn. That is what happens here, one callback at a time, and each takes virtual time.
So between two callbacks of a process anything may happen elsewhere, and inside a process only what asyncio allows.

What may never happen here: a callback that runs before one that was ready earlier, or in the middle of another one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any, Protocol

from .engine import Engine

READ, WRITE = EVENT_READ, EVENT_WRITE
MEMORY_TURNS = 32
"""How often, in turns, a process is asked what its transports hold: it is a loop over all of them."""


class File(Protocol):
    """What a descriptor stands for."""

    def mask(self) -> int:
        """READ, WRITE, both or 0: what would not block."""

    def close(self) -> None:
        """The process lets go of it."""


class Clock(Protocol):
    """The clocks of a host, when they are not right."""

    def monotonic(self) -> float: ...
    def true_time(self, local: float) -> float:
        """When, in the world's time, the local clock will show this."""


class Cpu:
    """What runs the callbacks of one process.

    Attributes:
        host: the name of the host it is on.
        loop: its event loop; set once.
        files: what its descriptors stand for.
        alive: it has not ended. asleep: nothing is ready; it sleeps until something comes.
        turns: how many turns its loop has had.
        signals: handlers by number.
        clock: None while the host's clocks are right.
        stalled_until: it gets no processor before this time.
        chance: where its draws come from; a stream of its own, so that one host more changes nothing for the others.
        in_thread: a job of an executor runs.
    """

    def __init__(self, engine: Engine, host: str, chance: Random) -> None:
        self.engine = engine
        self.host = host
        self.chance = chance
        self.loop: Any = None
        self.files: dict[int, File] = {}
        self.signals: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.alive = True
        self.asleep = True
        self.in_thread = False
        self.turns = 0
        self.clock: Clock | None = None
        self.stalled_until = 0.0
        self._free_at = 0.0
        self._todo = 0
        self._ticket = 0
        self._hot: dict[int, None] = {}
        self._keys: dict[int, SelectorKey] = {}

    def attach(self, loop: Any, keys: dict[int, SelectorKey]) -> None:
        """Give it its loop, and what that waits for."""
        self.loop = loop
        self._keys = keys

    # -------------------------------------------------------------------------------------------------------------- being woken

    def watch(self, fd: int) -> None:
        """The loop began to wait for something else on a descriptor; it may be there already."""
        file = self.files.get(fd)
        if file is not None and file.mask() & self._keys[fd].events:
            self._hot[fd] = None
            if self.asleep:
                self.wake()

    def poke(self, fd: int) -> None:
        """Something about a descriptor changed."""
        key, file = self._keys.get(fd), self.files.get(fd)
        if key is not None and file is not None and file.mask() & key.events:
            self._hot[fd] = None
            if self.asleep:
                self.wake()

    def wake(self) -> None:
        """There is something to do: begin a turn as soon as the process gets the processor."""
        engine = self.engine
        self.asleep = False
        when = engine.now + engine.spent + self.chance.random() * engine.options.wakeup_s
        self._step_at(when if when > self._free_at else self._free_at)

    def sleep(self) -> None:
        """Nothing to do until something comes, or until the next timer."""
        self.asleep = True
        loop = self.loop
        scheduled = loop._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            loop._timer_cancelled_count -= 1
        self._ticket += 1  # whatever was planned is overtaken
        if scheduled:
            when = scheduled[0]._when if self.clock is None else self.clock.true_time(scheduled[0]._when)
            engine = self.engine
            when = max(when, self._free_at, engine.now) + self.chance.random() * engine.options.timer_slack_s
            engine.at(when, self._timer, self._ticket)

    def _timer(self, ticket: int) -> None:
        if ticket == self._ticket:
            self.asleep = False
            self.step(ticket)

    def _step_at(self, when: float) -> None:
        self._ticket += 1
        self.engine.at(when, self.step, self._ticket)

    def hold_up(self, until: float) -> None:
        """Give it no processor before that time."""
        self.stalled_until = max(self.stalled_until, until)

    # -------------------------------------------------------------------------------------------------------------------- turns

    def poll(self) -> list[tuple[SelectorKey, int]]:
        """The descriptors that are ready for what the loop waits for, in the order in which they became so."""
        ready, files, keys = [], self.files, self._keys
        for fd in tuple(self._hot):
            key, file = keys.get(fd), files.get(fd)
            mask = file.mask() & key.events if file is not None and key is not None else 0
            if key is not None and mask:
                ready.append((key, mask))
            else:
                del self._hot[fd]
        return ready

    def _begin_turn(self) -> int:
        loop = self.loop
        if self._hot:
            loop._process_events(self.poll())
        scheduled = loop._scheduled
        if scheduled:
            due_before, ready = loop.time() + loop._clock_resolution, loop._ready
            while scheduled and scheduled[0]._when < due_before:
                timer = heapq.heappop(scheduled)
                timer._scheduled = False
                if timer._cancelled:
                    loop._timer_cancelled_count -= 1
                else:
                    ready.append(timer)
            if loop._timer_cancelled_count > 100 and loop._timer_cancelled_count * 2 > len(scheduled):
                self._drop_cancelled()
        return len(loop._ready)

    def _drop_cancelled(self) -> None:
        loop = self.loop
        left = []
        for timer in loop._scheduled:
            if timer._cancelled:
                timer._scheduled = False
            else:
                left.append(timer)
        heapq.heapify(left)
        loop._scheduled = left
        loop._timer_cancelled_count = 0

    def step(self, ticket: int) -> None:
        """Run callbacks until the turn is over or something else in the world comes first."""
        if ticket != self._ticket or not self.alive:
            return
        engine = self.engine
        if self.stalled_until > engine.now:
            self._step_at(self.stalled_until)
            return
        if engine.current is not self:
            engine.enter(self)
        todo = self._todo or self._begin_turn()
        ready, heap = self.loop._ready, engine.heap
        while todo:
            handle = ready.popleft()
            todo -= 1
            if handle._cancelled:
                continue
            try:
                self._run(handle)
            except SystemExit as asked:
                self.quit(asked)
            handle = None  # see `_run`
            if not self.alive:
                return
            if todo:
                if heap and heap[0][0] <= self._free_at:
                    self._todo = todo
                    self._step_at(self._free_at)
                    return
                engine.now = self._free_at
        self._todo = 0
        self.turns += 1
        if not self.turns % MEMORY_TURNS:
            self.weigh()
            if not self.alive:
                return
        if ready or self._hot:
            self._step_at(max(self._free_at, engine.now))
        else:
            self.sleep()

    def _run(self, handle: Any) -> None:
        """Run one callback, and let it cost what it costs."""
        engine = self.engine
        engine.steps += 1
        task = getattr(handle._callback, "__self__", None)
        label = getattr(task, "_label", None)
        if label is not None:
            engine.trace.events.append((engine.now, "run", self.host, label))
        handle._run()
        handle = task = None  # as asyncio does: an error's traceback leads here, and would keep its task alive until the next collection
        options, draw = engine.options, self.chance.random()
        # The third power: most callbacks are short and a few are long. A logarithm would do, if it were the same on every machine.
        cost_s = options.callback_s * (0.3 + 2.8 * draw * draw * draw) + engine.spent
        engine.spent = 0.0
        if options.stall_chance and self.chance.random() < options.stall_chance:
            cost_s += self.chance.random() * options.stall_max_s
        self._free_at = engine.now + cost_s

    def quit(self, asked: SystemExit) -> None:
        """The program ends itself."""
        raise asked

    def weigh(self) -> None:
        """See what the process holds, now and then."""

    def run_as_thread(self, call: Callable[[], Any]) -> tuple[Any, BaseException | None, float]:
        """Run a job of an executor here: no loop runs for it, and what it sleeps is told and not slept. Result, error, seconds."""
        engine = self.engine
        engine.enter(self)
        before, engine.spent, self.in_thread = engine.spent, 0.0, True
        asyncio._set_running_loop(None)
        result: Any = None
        failed: BaseException | None = None
        try:
            result = call()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            failed = error
        finally:
            took_s, engine.spent, self.in_thread = engine.spent, before, False
            asyncio._set_running_loop(self.loop)
        return result, failed, took_s
