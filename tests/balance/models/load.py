"""What a node's load is, from its whole history and the definition of a peak EWMA (algorithms.md 2.9); nothing is kept but the history.

The estimate is a weighted sum of all that was heard since the last peak. A sample is a peak when it is no less than the estimate was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TAU_S = 10.0
SEED_S = 1.0


@dataclass
class History:
    """What was heard of a node: latencies in seconds, each with when; and the calls that are out."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    in_flight: int = 0
    began_at: float = -math.inf
    heard_at: float = -math.inf
    weight: float = 1.0
    said: float = 0.0

    def heard(self, latency_s: float, at: float, *, answer: bool = True) -> None:
        if answer:
            self.heard_at = at
        if latency_s == 0.0 and self.estimate() == 0.0:
            latency_s = 1e-6  # in no time, but it was an answer
        self.samples.append((latency_s, at))

    def began(self, at: float) -> None:
        if self.in_flight == 0:
            self.began_at = at
        self.in_flight += 1

    def estimate(self) -> float:
        """As of the last sample. Forward over the whole history: which samples are peaks, then the sum from the last of them on."""
        value, start = 0.0, 0
        for n in range(len(self.samples)):
            value, start = self._sum(start, n)
        return value

    def _sum(self, start: int, n: int) -> tuple[float, int]:
        """The estimate after sample `n`, when the last peak before it was `start`; and which is the last peak then."""
        before = self._weighted(start, n - 1) if n else 0.0
        if self.samples[n][0] >= before:
            return self.samples[n][0], n
        return self._weighted(start, n), start

    def _weighted(self, start: int, end: int) -> float:
        """The peak fades with the time since it; each later sample enters by what had faded since the one before, and fades itself."""
        last = self.samples[end][1]
        total = self.samples[start][0] * math.exp(-(last - self.samples[start][1]) / TAU_S)
        for k in range(start + 1, end + 1):
            latency_s, at = self.samples[k]
            entered = 1.0 - math.exp(-(at - self.samples[k - 1][1]) / TAU_S)
            total += latency_s * entered * math.exp(-(last - at) / TAU_S)
        return total

    def load(self, now: float) -> float:
        if self.estimate() == 0.0:
            return SEED_S * self.in_flight / self.weight
        return self.pace(now) * (self.in_flight + 1) * (1.0 + self.said) / self.weight

    def pace(self, now: float) -> float:
        value = self.estimate()
        if value == 0.0:
            return max(0.0, now - self.began_at) if self.in_flight else 0.0
        idle_s = now - self.samples[-1][1]
        silent_s = now - max(self.began_at, self.heard_at)
        return silent_s if self.in_flight and silent_s > value else value * math.exp(-idle_s / TAU_S)
