"""How many calls at once are right, found out from how they go: AIMD, Gradient2, Vegas.

Three pure machines with one surface: told of every call that ended, with how many were in flight then (itself included), they move
`limit`. All of them leave it alone while less than half of it is used: a limit that grows while nobody needs it is none when it is needed.

* `Aimd` looks at refusals: a little less after each, one more after each answer. For clients: a server that refuses says what it can bear.
* `Gradient` compares the latency of now with that of the last ten minutes or so, `Vegas` with the best there was. For servers, or one
  node behind one client: what they measure is the mix of all methods, so a limit each for cheap and dear ones (algorithms.md 2.22).

Both of the latter look at windows and not at single calls, so `Windowed` collects for them. Source: Netflix's concurrency-limits. Where
this is different: a refusal has no latency worth learning from (it is answered at once, which would look like a server with nothing to
do), so it counts as the worst a window can show and not as a sample.

What may never happen here: a clock, a limit outside of its bounds, an allocation for a call.
"""

from __future__ import annotations

import math
from typing import Protocol

from ..clock import Rng

SLOW_S = 5.0
"""An answer that took longer is as good as a refusal, whatever it was."""


class Adaptive(Protocol):
    """What moves a limit.

    Attributes:
        limit: how many calls at once are right, as of now.
    """

    limit: int

    def answered(self, rtt_s: float, in_flight: int, now: float) -> None:
        """A call was answered after `rtt_s`, while so many were in flight."""

    def dropped(self, rtt_s: float, in_flight: int, now: float) -> None:
        """A call was refused for load, or not answered in time."""


class Aimd:
    """One more for each answer, a tenth less for each refusal.

    Args:
        limit_min, limit_max: its bounds; it begins at the lower one.
        backoff: what a refusal multiplies it by.
        slow_s: an answer that took longer is as good as a refusal.
    """

    __slots__ = ("_backoff", "_max", "_min", "_slow_s", "limit")

    def __init__(self, limit_min: int = 20, limit_max: int = 200, *, backoff: float = 0.9, slow_s: float = SLOW_S) -> None:
        self._min, self._max = limit_min, limit_max
        self._backoff = backoff
        self._slow_s = slow_s
        self.limit = limit_min

    def answered(self, rtt_s: float, in_flight: int, now: float) -> None:
        """One more, if at least half is in use."""
        if rtt_s > self._slow_s:
            self.dropped(rtt_s, in_flight, now)
        elif 2 * in_flight >= self.limit and self.limit < self._max:
            self.limit += 1

    def dropped(self, rtt_s: float, in_flight: int, now: float) -> None:
        """A tenth less."""
        self.limit = max(int(self.limit * self._backoff), self._min)


class Judge(Protocol):
    """What a window of calls is shown to."""

    limit: int

    def judge(self, rtt_s: float, in_flight: int, *, samples: int, dropped: bool) -> None:
        """Move the limit after a window.

        Args:
            rtt_s: how long its calls took on average; 0 when none was answered.
            in_flight: the most there were at once.
            samples: how many ended.
            dropped: whether any was refused, or not answered in time.
        """


class Gradient:
    """Gradient2: less when calls take longer than they used to, and some room for a queue on top.

    Args:
        limit_min, limit_max: its bounds; it begins at the lower one.
        queue: how many more than the latency asks for; what lets it grow at all.
        tolerance: how many times the usual latency is no reason to go down.
        smoothing: how far towards the new limit one window moves it.
        memory: windows that make up the usual latency.

    Attributes:
        limit, exact: how many calls at once are right, and before it was made whole.
        usual_s: how long calls usually take.
    """

    __slots__ = ("_max", "_memory", "_min", "_queue", "_seen", "_smoothing", "_tolerance", "exact", "limit", "usual_s")

    def __init__(
        self,
        limit_min: int = 20,
        limit_max: int = 200,
        *,
        queue: int = 4,
        tolerance: float = 1.5,
        smoothing: float = 0.2,
        memory: int = 600,
    ) -> None:
        self._min, self._max = limit_min, limit_max
        self._queue = queue
        self._tolerance = tolerance
        self._smoothing = smoothing
        self._memory = memory
        self.exact = float(limit_min)
        self._seen = 0
        self.limit = limit_min
        self.usual_s = 0.0

    def judge(self, rtt_s: float, in_flight: int, *, samples: int, dropped: bool) -> None:
        """Move the limit after a window."""
        gradient = 0.5
        if rtt_s > 0.0:
            usual_s = self._remember(rtt_s)
            if usual_s > 2.0 * rtt_s:
                self.usual_s *= 0.95  # it was slow for long and no longer is: do not wait ten minutes to believe it
            if not dropped:
                gradient = min(1.0, max(0.5, self._tolerance * usual_s / rtt_s))
        if not dropped and in_flight < self.exact / 2:
            return
        wanted = self.exact * gradient + (0 if dropped else self._queue)
        moved = self.exact * (1.0 - self._smoothing) + wanted * self._smoothing
        self.exact = min(float(self._max), max(float(self._min), moved))
        self.limit = int(self.exact)

    def _remember(self, rtt_s: float) -> float:
        """Take a latency into the usual one: the plain average of the first ten, then one that forgets slowly."""
        if self._seen < 10:
            self._seen += 1
            self.usual_s += (rtt_s - self.usual_s) / self._seen
        else:
            self.usual_s += (rtt_s - self.usual_s) * 2.0 / (self._memory + 1)
        return self.usual_s


class Vegas:
    """As many as keep a short queue at the server, which is reckoned from the latency now and the least there was.

    The least one is measured anew now and then, for a network that has become longer would look like a queue for ever.

    Args:
        rng: when it is measured anew, so that many clients do not do so together.
        limit_min, limit_max: its bounds.
        limit: where it begins.

    Attributes:
        limit, exact: how many calls at once are right, and before it was made whole.
        least_s: how long calls take when nothing waits.
    """

    __slots__ = ("_max", "_min", "_probe_after", "_rng", "_since_probe", "exact", "least_s", "limit")

    def __init__(self, rng: Rng, limit_min: int = 1, limit_max: int = 1000, *, limit: int = 20) -> None:
        self._rng = rng
        self._min, self._max = limit_min, limit_max
        self.limit = min(limit_max, max(limit_min, limit))
        self.exact = float(self.limit)
        self.least_s = math.inf
        self._since_probe = 0
        self._probe_after = rng.uniform(0.5, 1.0)

    def judge(self, rtt_s: float, in_flight: int, *, samples: int, dropped: bool) -> None:
        """Move the limit after a window."""
        step = max(1.0, math.log10(self.exact))
        self._since_probe += samples
        if dropped:
            self._move(-step)
            return
        if self._since_probe >= self._probe_after * 30 * self.exact:
            self._probe_after = self._rng.uniform(0.5, 1.0)
            self._since_probe = 0
            self.least_s = rtt_s
            return
        if rtt_s < self.least_s:
            self.least_s = rtt_s
            return
        if 2 * in_flight < self.exact:
            return
        queue = math.ceil(self.exact * (1.0 - self.least_s / rtt_s))
        if queue <= step:
            self._move(6 * step)
        elif queue < 3 * step:
            self._move(step)
        elif queue > 6 * step:
            self._move(-step)

    def _move(self, by: float) -> None:
        self.exact = min(float(self._max), max(float(self._min), self.exact + by))
        self.limit = int(self.exact)


class Windowed:
    """Collects calls for a second, and shows them to a judge when there are enough.

    Args:
        judge: `Gradient` or `Vegas`.
        window_s: how long it collects, at least.
        samples_min: of fewer it does not judge; the window goes on until there are as many.
        ignored_s: an answer that was quicker says nothing: a health check, a cache.
    """

    __slots__ = ("_dropped", "_ends_at", "_ignored_s", "_in_flight", "_judge", "_samples", "_samples_min", "_sum_s", "_window_s", "limit")

    def __init__(self, judge: Judge, *, window_s: float = 1.0, samples_min: int = 10, ignored_s: float = 100e-6) -> None:
        self._judge = judge
        self._window_s = window_s
        self._samples_min = samples_min
        self._ignored_s = ignored_s
        self.limit = judge.limit
        self._ends_at = -math.inf
        self._samples = 0
        self._dropped = 0
        self._sum_s = 0.0
        self._in_flight = 0

    def answered(self, rtt_s: float, in_flight: int, now: float) -> None:
        """A call was answered after `rtt_s`, while so many were in flight."""
        if rtt_s < self._ignored_s:
            return
        self._samples += 1
        self._sum_s += rtt_s
        if in_flight > self._in_flight:
            self._in_flight = in_flight
        if now >= self._ends_at:
            self._end(now)

    def dropped(self, rtt_s: float, in_flight: int, now: float) -> None:
        """A call was refused for load, or not answered in time."""
        self._samples += 1
        self._dropped += 1
        if in_flight > self._in_flight:
            self._in_flight = in_flight
        if now >= self._ends_at:
            self._end(now)

    def _end(self, now: float) -> None:
        if self._ends_at == -math.inf:
            self._ends_at = now + self._window_s  # the first call begins the first window
            return
        if self._samples < self._samples_min:
            return
        answered = self._samples - self._dropped
        rtt_s = self._sum_s / answered if answered else 0.0
        self._judge.judge(rtt_s, self._in_flight, samples=self._samples, dropped=self._dropped > 0)
        self.limit = self._judge.limit
        self._ends_at = now + self._window_s
        self._samples = self._dropped = self._in_flight = 0
        self._sum_s = 0.0
