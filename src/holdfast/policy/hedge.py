"""When a call is slow enough to be sent a second time, beside the first.

Owns, for each method, how long its calls take (`HedgeDelay`), and for a client which methods it watches and what hedging may cost
(`Hedges`). A hedge goes out when a call has taken longer than all but `extra` of its method's calls do, so about that many are sent twice,
and a budget with no floor holds it to that when the guess is wrong: when everything has become slow, hedging would be a storm.
Source: reference algorithms.md 2.7 (Finagle's BackupRequestFilter), the windows and numbers as there.

How long calls took is kept for 3 buckets of 10 s and looked at anew every 3 s. `record` appends to a list; what it holds goes into the
histogram when the 3 s are over. Which outcomes are recorded, and as what, is a column of `classify`.

What may never happen here: an attempt sent (the shell of `retry.py` does that), two methods in one histogram, a table without a bound.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from ..control.budget import EPSILON, RetryBudget
from ..control.histogram import Histogram
from ..errors import ConfigError
from ..handler import Mode

REFRESH_S = 3.0
BUCKET_S = 10.0
BUCKETS = 3

SAMPLES_MAX = 512
"""Taken of each 3 s; the rest would change no percentile that matters, and 512 go into a histogram in a tenth of a millisecond."""

METHODS_MAX = 256
"""Methods that are watched, at 6 KiB each. Calls of any further ones are not hedged."""

FULLNESS_MIN = 0.5
"""Of the retry budget: below it retries need what is left."""


class HedgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sending slow calls twice.

    Attributes:
        mode: `off` unless asked for: it costs the servers something, and only whoever runs them can say whether the tail is worth it.
        extra: load it may add, as a share of calls that may be hedged, up to 0.1. 0.01: a call goes out twice when it is slower than 99 of
            100, which takes the worst of the tail away; 0.05 cuts deeper. With 0.01 and fewer than 10 calls a second there is none.
        min_s: the shortest delay. 1 ms: below it the network decides, not the server.
        max_s: a method whose delay would be this long is not hedged. 2 s: what is slow in general is no accident a second try escapes.
    Raises: ConfigError for numbers outside of that.
    """

    mode: Mode = "off"
    extra: float = 0.01
    min_s: float = 0.001
    max_s: float = 2.0

    def __post_init__(self) -> None:
        if self.mode not in ("off", "shadow", "enforce"):
            raise ConfigError(f"mode={self.mode!r} must be off, shadow or enforce")
        if not 0.001 <= self.extra <= 0.1:
            raise ConfigError(f"extra={self.extra!r} must be from 0.001 to 0.1 of the calls, such as 0.01 for one in a hundred")
        if not 0 < self.min_s < self.max_s:
            raise ConfigError(f"min_s={self.min_s!r} must be above 0 and below max_s={self.max_s!r} seconds")
        if not self.max_s <= 60:
            raise ConfigError(f"max_s={self.max_s!r} must be at most 60 seconds")


class Purse(Protocol):
    """What a hedge is paid from: `control.budget.RetryBudget`, for whoever puts something else there."""

    def level(self, now: float) -> float: ...
    def fullness(self, now: float) -> float: ...
    def take(self, now: float) -> bool: ...


class HedgeDelay:
    """How long calls of one method take, and so how long one may take before it is sent again.

    Attributes:
        would: hedges that would have been sent, ever: counted in shadow.
        sent: hedges that were sent, ever.
        after_s: the delay as of the last refresh; None when it must not be hedged, for the reason in `why_not`.
        median_s: half of the calls are answered within it; 0 without history.
        why_not: `no_history`, `too_slow` (it reached the top of the range), `too_many_methods`, or empty.
    """

    __slots__ = (
        "_bucket",
        "_buckets",
        "_config",
        "_fresh",
        "_interval",
        "_own",
        "_shared",
        "after_s",
        "median_s",
        "refresh_at",
        "sent",
        "why_not",
        "would",
    )

    def __init__(self, config: HedgeConfig, own: Purse, shared: Purse) -> None:
        self._config = config
        self._own = own
        self._shared = shared
        self._fresh: list[float] = []
        self._interval = 0
        self._bucket = 0
        self._buckets = [Histogram() for _ in range(BUCKETS)]
        self.refresh_at = -math.inf
        self.after_s: float | None = None
        self.median_s = 0.0
        self.why_not = "no_history"
        self.sent = 0
        self.would = 0

    def record(self, latency_s: float, now: float) -> None:
        """A call took that long: successes, timeouts and attempts that another one overtook; `Outcome.hedge` says which."""
        if now >= self.refresh_at:
            self._refresh(now)
        fresh = self._fresh
        if len(fresh) < SAMPLES_MAX:
            fresh.append(latency_s)

    def delay_s(self, now: float) -> float | None:
        """How long after it was sent a call is to be hedged; None when it is not to be."""
        if now >= self.refresh_at:
            self._refresh(now)
        return self.after_s

    def may_hedge(self, now: float, left_s: float | None, panic: bool = False) -> str:
        """Whether a call that has taken `delay_s` may be hedged: "" when it may, else why not.

        Args:
            left_s: what is left of its deadline; None when there is none.
            panic: most nodes are unusable.
        Returns: `off`, `no_history`, `too_slow`, `too_many_methods`, `panic`, `deadline` (half of such calls would not be answered in what
            is left) or `budget` (its own is spent, or the retry budget is less than half full).
        """
        if self._config.mode == "off":
            return "off"
        if self.delay_s(now) is None:
            return self.why_not
        if panic:
            return "panic"
        if left_s is not None and left_s < self.median_s:
            return "deadline"
        if min(self._own.level(now), self._shared.level(now)) < 1.0 - EPSILON or self._shared.fullness(now) < FULLNESS_MIN:
            return "budget"
        return ""

    def send(self, now: float) -> bool:
        """The hedge is about to be sent, now that `may_hedge` said it may: pay for it. False means that it must not be sent after all.

        In shadow the answer is always no: its own budget pays, so that `would` is what would have been sent, and that of the retries is
        left alone.
        """
        if not self._own.take(now):
            return False
        if self._config.mode != "enforce":
            self.would += 1
            return False
        if not self._shared.take(now):
            return False
        self.sent += 1
        return True

    def _refresh(self, now: float) -> None:
        """Put what came in during the last interval into its bucket, which is the one it began in; forget what is too old; look anew."""
        for latency_s in self._fresh:
            self._buckets[-1].record(latency_s)
        self._fresh.clear()
        self._interval = math.floor(now / REFRESH_S)
        self.refresh_at = (self._interval + 1) * REFRESH_S
        self._reach(math.floor(self._interval * REFRESH_S / BUCKET_S))
        whole = Histogram()
        for bucket in self._buckets:
            whole.merge(bucket)
        extra = self._config.extra
        self.after_s, self.median_s, self.why_not = None, 0.0, "no_history"
        if whole.count * extra < 1.0 - EPSILON:  # of fewer the percentile is the slowest one, which says nothing
            return
        self.median_s = whole.percentile(50)
        after_s = whole.percentile(100 * (1 - extra))
        if after_s >= self._config.max_s:
            self.why_not = "too_slow"
        else:
            self.after_s, self.why_not = max(self._config.min_s, after_s), ""

    def _reach(self, bucket: int) -> None:
        """Make `bucket` the last one."""
        for _ in range(min(bucket - self._bucket, BUCKETS)):
            del self._buckets[0]
            self._buckets.append(Histogram())
        self._bucket = bucket


class Hedges:
    """The methods of one client that may be hedged, and what hedging may cost it.

    Attributes:
        own: what hedges are paid from besides the retry budget: `extra` of each call that may be hedged, and no floor. Deposit there for
            each such call when it begins.
    """

    def __init__(self, config: HedgeConfig, shared: Purse) -> None:
        self.config = config
        self.own = RetryBudget(share=config.extra, floor_per_s=0.0)
        self._shared = shared
        self._methods: dict[str, HedgeDelay] = {}
        self._others = HedgeDelay(config, self.own, shared)
        self._others.why_not = "too_many_methods"
        self._others.refresh_at = math.inf

    def __len__(self) -> int:
        """How many methods are watched."""
        return len(self._methods)

    def of(self, method: str) -> HedgeDelay:
        """The one for a method: the same each time. Beyond `METHODS_MAX` methods, one that never hedges."""
        found = self._methods.get(method)
        if found is None:
            if len(self._methods) >= METHODS_MAX:
                return self._others
            found = self._methods[method] = HedgeDelay(self.config, self.own, self._shared)
        return found

    @property
    def would(self) -> int:
        """Hedges that would have been sent, over all methods."""
        return sum(each.would for each in self._methods.values())

    @property
    def sent(self) -> int:
        """Hedges that were sent, over all methods."""
        return sum(each.sent for each in self._methods.values())
