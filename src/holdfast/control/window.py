"""How many went well and how many did not, in the last so many seconds.

Owns: two exact counts over a sliding window, cut into buckets of equal length that are let go one by one as time passes.

Theory. Exact buckets, not an average that decays: an average weighted by the time between calls gives a tight burst of failures almost
no weight and can hide a total outage (algorithms.md 2.15). The totals stand in two attributes that whoever counts may raise directly;
what belongs to the current bucket is the total less what it was when the bucket began. So counting is one addition, and only the first
call of each bucket pays for more: `if now >= window.rolls_at: window.roll(now)`, then `window.good += 1`.

What may never happen here: an allocation after the beginning, a loop longer than the number of buckets, a count below 0.
"""

from __future__ import annotations

import math


class Window:
    """Counts of the last `buckets * bucket_s` seconds, the newest bucket included although it is not over.

    Args:
        buckets: how many there are, at least 1.
        bucket_s: how long each is, above 0.
        now: when the first one begins; all others follow from there.

    Attributes:
        good, bad: what was counted within the window, as of the last roll; raise them after the compare above.
        rolls_at: when the current bucket is over.

    Raises: ValueError for numbers outside of that.
    """

    __slots__ = ("_at", "_bad_before", "_bads", "_good_before", "_goods", "bad", "bucket_s", "good", "rolls_at")

    def __init__(self, buckets: int, bucket_s: float, *, now: float = 0.0) -> None:
        if buckets < 1:
            raise ValueError(f"buckets={buckets!r}: expected at least 1")
        if not 0 < bucket_s < math.inf:
            raise ValueError(f"bucket_s={bucket_s!r}: expected a positive, finite number of seconds")
        self.bucket_s = bucket_s
        self.rolls_at = now + bucket_s
        self._goods = [0] * buckets
        self._bads = [0] * buckets
        self._at = 0
        self.good = self._good_before = 0
        self.bad = self._bad_before = 0

    def roll(self, now: float) -> None:
        """Let go of what is too old at `now`. Before `rolls_at` it does nothing, so a clock that goes back harms nothing."""
        if now < self.rolls_at:
            return
        goods, bads, at = self._goods, self._bads, self._at
        passed = int((now - self.rolls_at) / self.bucket_s) + 1
        self.rolls_at += passed * self.bucket_s
        goods[at] = self.good - self._good_before
        bads[at] = self.bad - self._bad_before
        for _ in range(min(passed, len(goods))):
            at = at + 1 if at + 1 < len(goods) else 0
            self.good -= goods[at]
            self.bad -= bads[at]
            goods[at] = bads[at] = 0
        self._at = at
        self._good_before = self.good
        self._bad_before = self.bad

    def reset(self) -> None:
        """Forget all that was counted. When buckets begin and end stays as it was."""
        for at in range(len(self._goods)):
            self._goods[at] = self._bads[at] = 0
        self.good = self._good_before = 0
        self.bad = self._bad_before = 0
