"""Servers as queues, and load on them: how a policy does under overload, in virtual time.

Owns: `LoadModel` (a server with places to work in, a queue and a service time), the arrivals that do not wait for answers (an open loop,
as the world is), and the report: goodput, amplification, time to recover, and whether it stays down after what pushed it over has ended.

Theory. What keeps an overloaded system down is work that nobody waits for any more: a caller gives up and asks again, and the server,
which does not know, does both. Then the load that the retries make keeps the latency above the time callers wait, after the trigger is
long gone; this is called a metastable failure. Hence `notices_cancel`, off unless said otherwise: most servers do not see that their caller
left.

What may never happen here: a closed loop (callers who wait before they ask again hide every overload), or a task nobody owns.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..clock import Rng
from ..errors import HoldfastError, Overloaded
from ..tasks import Scope

ServiceTime = Callable[[Rng], float]
"""Draws how long one request is worked on, in seconds."""

Attempt = Callable[[], Awaitable[None]]
"""One request to the server, as a policy sees it: returns, or raises."""

Policy = Callable[[Attempt], Awaitable[None]]
"""What is judged: makes one call out of as many attempts as it likes; returning is success."""

RECOVERED_SHARE = 0.9
"""Goodput counts as back at this share of what it was before the trigger: above it is noise."""


# --------------------------------------------------------------------------------------------------------------- service times


def fixed(mean_s: float) -> ServiceTime:
    """Always the same."""
    return lambda rng: mean_s


def exponential(mean_s: float) -> ServiceTime:
    """Memoryless: the textbook queue."""
    return lambda rng: -mean_s * math.log(1.0 - rng.random())


def lognormal(median_s: float, p99_s: float) -> ServiceTime:
    """A long tail: half below `median_s`, one in a hundred above `p99_s`."""
    sigma = math.log(p99_s / median_s) / 2.3263478740408408

    def draw(rng: Rng) -> float:
        normal = math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(2.0 * math.pi * rng.random())
        return median_s * math.exp(sigma * normal)

    return draw


def mixed(usual: ServiceTime, rare: ServiceTime, *, rare_share: float) -> ServiceTime:
    """Two kinds of request: a cache that sometimes misses."""
    return lambda rng: (rare if rng.random() < rare_share else usual)(rng)


# --------------------------------------------------------------------------------------------------------------------- a server


@dataclass(eq=False)
class _Job:
    done: asyncio.Future[None]
    started: bool = False


class LoadModel:
    """A server that works on `workers` requests at a time, in the order they came, and lets `queue_max` wait.

    Args:
        service: how long a request is worked on.
        rng: where that is drawn from; a named stream of the world's.
        workers: places to work in.
        queue_max: requests that may wait; the next one is refused with Overloaded, at once and for free.
        notices_cancel: whether a request whose caller left while it waited is taken out of the queue. What is being worked on is finished
            in any case.

    Attributes:
        slowdown: service times are multiplied with it; a trigger sets it, and may set it back.
        attempts, refused, finished, wasted: counts; wasted is work finished after its caller had left.
    """

    def __init__(self, service: ServiceTime, rng: Rng, *, workers: int, queue_max: int, notices_cancel: bool = False) -> None:
        if workers < 1 or queue_max < 0:
            raise ValueError(f"workers={workers}, queue_max={queue_max}: expected at least 1 worker, and a queue of 0 or more")
        self.slowdown = 1.0
        self.attempts = self.refused = self.finished = self.wasted = 0
        self._service = service
        self._rng = rng
        self._free = workers
        self._queue_max = queue_max
        self._notices_cancel = notices_cancel
        self._waiting: deque[_Job] = deque()

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def request(self) -> None:
        """Ask once, and wait for the answer.

        Raises: Overloaded when the queue is full.
        Cancel: the caller stops waiting; whether the server stops too is `notices_cancel`.
        """
        self.attempts += 1
        if not self._free and len(self._waiting) >= self._queue_max:
            self.refused += 1
            raise Overloaded(f"the queue is full: {len(self._waiting)} wait")
        job = _Job(asyncio.get_running_loop().create_future())
        if self._free:
            self._begin(job)
        else:
            self._waiting.append(job)
        try:
            await job.done
        finally:
            if self._notices_cancel and not job.started and job.done.cancelled():
                self._waiting.remove(job)

    def _begin(self, job: _Job) -> None:
        self._free -= 1
        job.started = True
        asyncio.get_running_loop().call_later(self._service(self._rng) * self.slowdown, self._end, job)

    def _end(self, job: _Job) -> None:
        self._free += 1
        self.finished += 1
        if job.done.done():
            self.wasted += 1
        else:
            job.done.set_result(None)
        if self._waiting:
            self._begin(self._waiting.popleft())


# ------------------------------------------------------------------------------------------------------------------ a judgement


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What pushes a server over, and when it ends.

    Attributes:
        begin_s, end_s: from when to when, in seconds from the start of the load.
        slowdown: how many times longer a request takes meanwhile.
        rate_factor: how many times more calls come meanwhile.
    """

    begin_s: float
    end_s: float
    slowdown: float = 1.0
    rate_factor: float = 1.0


@dataclass(kw_only=True)
class Window:
    """One stretch of time: calls that began in it, how many of those came to good, and the attempts made in it."""

    begin_s: float
    calls: int = 0
    good: int = 0
    attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class OverloadReport:
    """How a policy did.

    Attributes:
        goodput_before, goodput_during, goodput_after: the share of calls that came to good, of those that began before the trigger, during
            it, and in the last quarter of the run.
        amplification_before, amplification_during, amplification_after: attempts per call in the same stretches.
        recovered_after_s: from the end of the trigger to the first window from which goodput stays back; None: it never was.
        wasted_share: of the work the server finished, how much was for a caller who had left.
        windows: everything, window by window.
    """

    goodput_before: float
    goodput_during: float
    goodput_after: float
    amplification_before: float
    amplification_during: float
    amplification_after: float
    recovered_after_s: float | None
    wasted_share: float
    windows: tuple[Window, ...] = field(repr=False)

    @property
    def stays_down(self) -> bool:
        """Whether it was well before the trigger, and is not after: a metastable failure."""
        return self.recovered_after_s is None

    def __str__(self) -> str:
        back = "stays down after the trigger" if self.recovered_after_s is None else f"recovers {self.recovered_after_s:g} s after it"
        return (
            f"goodput {self.goodput_before:.0%} before, {self.goodput_during:.0%} during, {self.goodput_after:.0%} after;"
            f" attempts per call {self.amplification_before:.2f}, {self.amplification_during:.2f}, {self.amplification_after:.2f};"
            f" {self.wasted_share:.0%} of the work for nobody; {back}"
        )


async def judge_overload(
    server: LoadModel,
    policy: Policy,
    rng: Rng,
    *,
    rate_per_s: float,
    duration_s: float,
    trigger: Trigger,
    window_s: float = 1.0,
    patience_s: float = 10.0,
) -> OverloadReport:
    """Put load on a server through a policy, push it over, and see whether it comes back.

    Args:
        rng: when calls come; they come at random and wait for nobody, `rate_per_s` of them on average.
        duration_s: how long; leave the time it should recover in, and as long again.
        patience_s: calls that have not ended this long after the last arrival are given up, and count as failed.
    Raises: what the policy raised, unless that is a HoldfastError, an OSError or a TimeoutError. ValueError when the trigger does not lie
        within the run, with a window before it and a quarter of the run behind it.
    Cancel: cancels every call under way.
    """
    if not window_s <= trigger.begin_s < trigger.end_s <= duration_s * 0.75:
        raise ValueError(
            f"the trigger lasts from {trigger.begin_s:g} to {trigger.end_s:g} s of {duration_s:g} s;"
            f" expected it after the first {window_s:g} s and before the last quarter"
        )
    run = _Run(server, policy, window_s, duration_s)
    loop = asyncio.get_running_loop()
    scope = Scope(run.failed)
    start_at = loop.time()
    at_s = 0.0
    try:
        while True:
            pushed = trigger.begin_s <= at_s < trigger.end_s
            server.slowdown = trigger.slowdown if pushed else 1.0
            at_s += -math.log(1.0 - rng.random()) / (rate_per_s * (trigger.rate_factor if pushed else 1.0))
            if at_s >= duration_s:
                break
            await asyncio.sleep(start_at + at_s - loop.time())
            scope.spawn(run.call(run.windows[int(at_s / window_s)]))
        await asyncio.sleep(patience_s)
    finally:
        server.slowdown = 1.0
        await scope.close(grace_s=patience_s)
    return run.report(trigger)


class _Run:
    """Counts, by windows."""

    def __init__(self, server: LoadModel, policy: Policy, window_s: float, duration_s: float) -> None:
        self.server = server
        self.policy = policy
        self.window_s = window_s
        self.windows = [Window(begin_s=number * window_s) for number in range(math.ceil(duration_s / window_s))]
        self.start_at = asyncio.get_running_loop().time()
        self.bug: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """A call that failed is counted by not being counted as good; a policy with a bug is no policy."""
        if not isinstance(error, HoldfastError | OSError | TimeoutError):
            self.bug = self.bug or error

    async def call(self, window: Window) -> None:
        window.calls += 1
        await self.policy(self.attempt)
        window.good += 1

    async def attempt(self) -> None:
        number = int((asyncio.get_running_loop().time() - self.start_at) / self.window_s)
        self.windows[min(number, len(self.windows) - 1)].attempts += 1
        await self.server.request()

    def report(self, trigger: Trigger) -> OverloadReport:
        if self.bug is not None:
            raise self.bug
        whole = len(self.windows) * self.window_s
        before = [each for each in self.windows if each.begin_s + self.window_s <= trigger.begin_s]
        during = [each for each in self.windows if trigger.begin_s <= each.begin_s < trigger.end_s]
        after = [each for each in self.windows if each.begin_s >= whole * 0.75]
        floor = _goodput(before) * RECOVERED_SHARE
        recovered: float | None = None
        for each in reversed([each for each in self.windows if each.begin_s >= trigger.end_s]):
            if _goodput([each]) < floor:
                break
            recovered = each.begin_s - trigger.end_s
        return OverloadReport(
            goodput_before=_goodput(before),
            goodput_during=_goodput(during),
            goodput_after=_goodput(after),
            amplification_before=_amplification(before),
            amplification_during=_amplification(during),
            amplification_after=_amplification(after),
            recovered_after_s=recovered,
            wasted_share=self.server.wasted / max(self.server.finished, 1),
            windows=tuple(self.windows),
        )


def _goodput(windows: list[Window]) -> float:
    calls = sum(each.calls for each in windows)
    return sum(each.good for each in windows) / calls if calls else 1.0


def _amplification(windows: list[Window]) -> float:
    calls = sum(each.calls for each in windows)
    return sum(each.attempts for each in windows) / calls if calls else 0.0
