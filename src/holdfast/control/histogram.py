"""A latency histogram of fixed memory.

Owns: how a duration becomes a bucket. Log-linear: each power of two of a second is cut into 8 equal parts, from 1 µs to about an hour,
so a percentile is at most 12.5 % above the truth wherever it lies, and two histograms are added by adding their buckets.

What may never happen here: growth. Whatever is recorded, it is one list of 258 integers.
"""

from __future__ import annotations

from math import frexp

import msgspec

SUB_BUCKETS = 8
_FIRST_EXPONENT = -19  # frexp(1 µs) is (0.52, -19)
_LAST_EXPONENT = 12  # 2^12 s = 68 minutes
_OFFSET = 1 - _FIRST_EXPONENT * SUB_BUCKETS - SUB_BUCKETS  # frexp's mantissa begins at 0.5, that is at 8 sixteenths
BUCKETS = (_LAST_EXPONENT - _FIRST_EXPONENT + 1) * SUB_BUCKETS + 2
_LAST = BUCKETS - 1


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """A histogram as a value: to send, to keep, to add up.

    Attributes:
        counts: one number per bucket; the first is everything below 1 µs, the last everything above 68 minutes.
        count: how many were recorded.
        sum_s: all of them added up.
        max_s: the longest.
    """

    counts: tuple[int, ...]
    count: int
    sum_s: float
    max_s: float


def upper_edge_s(bucket: int) -> float:
    """The duration in seconds below which everything in `bucket` lies."""
    if bucket <= 0:
        return float(2.0 ** (_FIRST_EXPONENT - 1))
    exponent, part = divmod(bucket - 1, SUB_BUCKETS)
    return float((SUB_BUCKETS + part + 1) / (2 * SUB_BUCKETS) * 2.0 ** (exponent + _FIRST_EXPONENT))


class Histogram:
    """Counts durations, in seconds.

    Attributes:
        max: the longest duration recorded, in seconds; 0.0 when there is none.
        sum: all durations added up, in seconds.
    """

    __slots__ = ("_counts", "max", "sum")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.max = 0.0
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many durations were recorded. Added up when asked, so that `record` need not."""
        return sum(self._counts)

    def record(self, seconds: float) -> None:
        """Count one duration. A negative one counts as the shortest; nothing is refused, this is the hot path."""
        mantissa, exponent = frexp(seconds)
        bucket = exponent * 8 + int(mantissa * 16) + _OFFSET
        if mantissa <= 0.0 or bucket < 0:
            bucket = 0
        elif bucket > _LAST:
            bucket = _LAST
        self._counts[bucket] += 1
        self.sum += seconds
        if seconds > self.max:
            self.max = seconds

    def percentile(self, p: float) -> float:
        """The duration in seconds that `p` per cent of the recorded ones do not exceed; 0.0 when there are none.

        Never below the truth, at most one eighth above it, and never above `max`. `p` runs from 0 to 100: `percentile(99.9)`.

        Raises: ValueError when `p` is outside that.
        """
        if not 0 <= p <= 100:
            raise ValueError(f"percentile({p!r}): expected a number from 0 to 100, such as 99.9")
        wanted = self.count * p / 100
        if not self.count:
            return 0.0
        seen = 0
        for bucket, count in enumerate(self._counts[:-1]):
            seen += count
            if count and seen >= wanted:
                return min(upper_edge_s(bucket), self.max)
        return self.max

    def merge(self, other: Histogram | HistogramSnapshot) -> None:
        """Add what `other` has counted."""
        theirs = other.snapshot() if isinstance(other, Histogram) else other
        if len(theirs.counts) != BUCKETS:
            raise ValueError(f"cannot merge a histogram of {len(theirs.counts)} buckets into one of {BUCKETS}")
        self._counts = [a + b for a, b in zip(self._counts, theirs.counts, strict=True)]
        self.sum += theirs.sum_s
        self.max = max(self.max, theirs.max_s)

    def snapshot(self) -> HistogramSnapshot:
        """Return what was counted so far, as a value that no later `record` changes."""
        return HistogramSnapshot(tuple(self._counts), self.count, self.sum, self.max)
