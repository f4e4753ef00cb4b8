"""How much of something may happen per second: a token bucket, and a bounded table of them by source.

Owns: the arithmetic of a rate with a burst, and who is forgotten when there are more sources than places. Pure: the time comes as an
argument, in float seconds that never go backwards; if they do, nothing is refilled.

What may never happen here: a table that grows with what strangers send; a source that gets rid of its debt by being pushed out of it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable

LOOKED_AT_MAX = 4
"""Places looked at for one that may be given away. The longest unused stand first, so the first one is it unless somebody is in debt."""


class TokenBucket:
    """`burst` at once, and `rate_per_s` in the long run. Full to begin with.

    Args:
        rate_per_s: tokens that come back per second, positive and finite.
        burst: how many there are when it is full, at least 1.
    Raises: ValueError for numbers outside of that.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if not 0 < rate_per_s < math.inf:
            raise ValueError(f"rate_per_s={rate_per_s!r}: expected a positive, finite number per second")
        if not 1 <= burst < math.inf:
            raise ValueError(f"burst={burst!r}: expected a finite number, at least 1")
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = float(burst)
        self._at = -math.inf  # of a full bucket, when it was last looked at says nothing

    def take(self, now: float, count: float = 1) -> bool:
        """Take `count` tokens if they are there at `now`, and say so; otherwise take none. More than `burst` are never there."""
        self._refill(now)
        if count > self._tokens:
            return False
        self._tokens -= count
        return True

    def is_full(self, now: float) -> bool:
        """Whether it is as good as a new one at `now`."""
        self._refill(now)
        return self._tokens >= self.burst

    def _refill(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            self._tokens = min(self.burst, self._tokens + passed * self.rate_per_s)
            self._at = now


class SourceBuckets:
    """A bucket per source, for as many as `sources_max`.

    When all places are taken, an unknown source gets that of a source whose bucket is full again: nothing is forgotten by that. When there
    is none among the longest unused, it shares one bucket with all others who came too late: together they get what one source gets. So
    nobody who is over the limit is let off by strangers with invented addresses, and those cannot make the table grow.

    Raises: ValueError for a rate or burst `TokenBucket` refuses, and for `sources_max` below 1.
    """

    __slots__ = ("_known", "_shared", "burst", "rate_per_s", "sources_max")

    def __init__(self, rate_per_s: float, burst: float, *, sources_max: int) -> None:
        if sources_max < 1:
            raise ValueError(f"sources_max={sources_max!r}: expected at least 1")
        self._known: OrderedDict[Hashable, TokenBucket] = OrderedDict()
        self._shared = TokenBucket(rate_per_s, burst)
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.sources_max = sources_max

    def __len__(self) -> int:
        """How many sources have a place."""
        return len(self._known)

    def __contains__(self, source: Hashable) -> bool:
        """Whether a source has a place."""
        return source in self._known

    def take(self, source: Hashable, now: float, count: float = 1) -> bool:
        """Take `count` tokens of a source at `now`, if it has them."""
        bucket = self._known.get(source)
        if bucket is None:
            bucket = self._place(source, now)
        else:
            self._known.move_to_end(source)
        return bucket.take(now, count)

    def _place(self, source: Hashable, now: float) -> TokenBucket:
        known = self._known
        if len(known) >= self.sources_max and not self._give_away(now):
            return self._shared
        bucket = known[source] = TokenBucket(self.rate_per_s, self.burst)
        return bucket

    def _give_away(self, now: float) -> bool:
        for _ in range(min(LOOKED_AT_MAX, len(self._known))):
            source, bucket = next(iter(self._known.items()))
            if bucket.is_full(now):
                del self._known[source]
                return True
            self._known.move_to_end(source)  # in debt: it will be full when its turn comes again
        return False
