"""A hedge's delay from the list of everything that was ever measured, sorted, without a histogram."""

from __future__ import annotations

import math
from fractions import Fraction

from tests.policy.models.budget import BudgetModel

EPSILON = 1e-9


class HedgeModel:
    def __init__(self, *, extra: float = 0.01, min_s: float = 0.001, max_s: float = 2.0) -> None:
        self.extra = Fraction(str(extra))
        self.min_s = min_s
        self.max_s = max_s
        self.own = BudgetModel(share=extra, floor_per_s=0, ttl_s=10)
        self.measured: list[tuple[float, float]] = []
        self.sent = 0

    def record(self, latency_s: float, now: float) -> None:
        self.measured.append((now, latency_s))

    def seen(self, now: float) -> list[float]:
        """Of each 3 s before the present ones the first 512, as far back as the third last 10 s in which such began. Sorted."""
        present = int(now // 3)
        oldest = present * 3 // 10 - 2
        of_interval: dict[int, list[float]] = {}
        for at, latency_s in self.measured:
            interval = int(at // 3)
            if interval < present and interval * 3 // 10 >= oldest:
                of_interval.setdefault(interval, []).append(latency_s)
        return sorted(latency_s for each in of_interval.values() for latency_s in each[:512])

    def percentile(self, share: Fraction, now: float) -> float:
        """As the histogram would round it: to the next edge of eight in a power of two, but not beyond the longest."""
        ordered = self.seen(now)
        exact = ordered[max(1, math.ceil(share * len(ordered))) - 1]
        step = 2.0 ** math.floor(math.log2(exact)) / 8
        edge = (math.floor(exact / step) + 1) * step
        return min(edge, ordered[-1])

    def delay_s(self, now: float) -> float | None:
        if self.why_none(now):
            return None
        return max(self.min_s, self.percentile(1 - self.extra, now))

    def why_none(self, now: float) -> str:
        if len(self.seen(now)) * self.extra < 1:
            return "no_history"
        return "too_slow" if self.percentile(1 - self.extra, now) >= self.max_s else ""

    def ask(self, now: float, left_s: float | None, panic: bool, shared_level: float, shared_fullness: float) -> str:
        """Whether to hedge; one that may go is sent and paid for."""
        why = self.why_none(now)
        if why:
            return why
        if panic:
            return "panic"
        if left_s is not None and left_s < self.percentile(Fraction(1, 2), now):
            return "deadline"
        own = self.own.level(now)
        self.own.looked_at(now)
        if own < 1 - EPSILON or shared_level < 1 - EPSILON or shared_fullness < 0.5:
            return "budget"
        assert self.own.take(now)
        self.sent += 1
        return ""
