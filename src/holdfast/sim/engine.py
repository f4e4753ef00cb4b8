"""Virtual time: one heap of what happens next, and nothing else moves the clock.

Owns: the time of the world, the order of events, the numbers things are given, and whose turn it is to be "the running process". Packets,
timers of kernels and the next callback of every process are all entries of one heap; time is that of the entry that was taken last.

What may never happen here: two entries whose order depends on anything but their time and the order in which they were made.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ..clock import Streams
from .escapes import Deadlock, Escape, Overrun
from .options import WorldOptions
from .trace import Trace

Entry = tuple[float, int, Callable[..., object], tuple[Any, ...]]


class Running(Protocol):
    """What the engine needs to know of a process."""

    loop: Any
    turns: int


class Engine:
    """The clock of a world.

    Attributes:
        now: virtual seconds since the world began.
        spent: what the running callback has used up so far by blocking (`time.sleep`); its own idea of the time is `now + spent`.
        current: the process whose code runs at this moment; None between callbacks of different processes at first.
        steps: callbacks run so far.
        over: the world has ended; whatever still runs is being cleaned away and reaches nobody.
    """

    __slots__ = (
        "_collect_at",
        "_numbers",
        "_sequence",
        "current",
        "describe_pending",
        "heap",
        "now",
        "options",
        "over",
        "spent",
        "steps",
        "streams",
        "thread",
        "trace",
    )

    def __init__(self, seed: int, options: WorldOptions) -> None:
        self.options = options
        self.now = 0.0
        self.spent = 0.0
        self.heap: list[Entry] = []
        self.current: Running | None = None
        self.steps = 0
        self.over = False
        self.streams = Streams(seed)
        self.trace = Trace(options.events_max)
        self.thread = threading.get_ident()
        self.describe_pending: Callable[[], str] = str
        self._sequence = 0
        self._numbers = 0
        self._collect_at = options.collect_every

    def number(self) -> int:
        """The next number: of a task, a future, a connection."""
        self._numbers += 1
        return self._numbers

    def time(self) -> float:
        """The time for the code that runs now: a callback that sleeps moves on, the world follows when it is done."""
        return self.now + self.spent

    def at(self, when: float, call: Callable[..., object], *args: Any) -> None:
        """Call it at that time, after whatever was asked for the same time before."""
        self._sequence = sequence = self._sequence + 1
        heapq.heappush(self.heap, (when, sequence, call, args))

    def record(self, kind: str, host: str, detail: Any = None) -> None:
        """Add an event to the trace."""
        self.trace.events.append((self.now + self.spent, kind, host, detail))

    def enter(self, process: Running) -> None:
        """Make it the running process: its loop is the running loop of this thread."""
        self.current = process
        loop = process.loop
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook)

    def run_turn(self, process: Running) -> None:
        """Let the world go on until this process has had a whole turn of its loop.

        Raises: Deadlock when nothing can happen any more. Overrun when the world takes too long. What an entry raises, which only a
            callback that ends its loop may do (SystemExit, KeyboardInterrupt).
        """
        if threading.get_ident() != self.thread:
            raise Escape("a world runs in the thread that made it; run others in processes of their own")
        until = process.turns + 1
        heap, pop, options = self.heap, heapq.heappop, self.options
        limit_s = options.virtual_max_s
        self.enter(process)
        while process.turns < until:
            if not heap:
                raise Deadlock(f"at {self.now:.6f} s nothing can run any more; {self.describe_pending()}")
            when, _, call, args = pop(heap)
            if when > self.now:
                if when > limit_s:
                    raise Overrun(f"the world did not end within {limit_s:g} virtual seconds; {self.describe_pending()}")
                self.now = when
            call(*args)
            if self.steps >= self._collect_at:
                self._collect()
        self.enter(process)

    def _collect(self) -> None:
        """At the same callbacks in every run: what finalizers do is part of the world."""
        self._collect_at = self.steps + self.options.collect_every
        if self.steps > self.options.steps_max:
            raise Overrun(f"the world did not end within {self.options.steps_max} callbacks; {self.describe_pending()}")
        self.trace.trim()
        gc.collect()
