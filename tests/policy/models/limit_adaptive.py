"""Adaptive limits as their definitions say them: from the whole history of calls to the limit after it, each time from the beginning."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log10
from statistics import fmean


@dataclass(frozen=True)
class Sample:
    """A call that ended: when, after how long, with how many in flight, and whether it was dropped."""

    at: float
    rtt_s: float
    in_flight: int
    dropped: bool = False


def aimd(history: list[Sample], low: int, high: int) -> int:
    """A tenth less for a drop or an answer slower than 5 s, one more for any other if at least half was in use."""
    limit = low
    for sample in history:
        if sample.dropped or sample.rtt_s > 5:
            limit = max(low, int(Fraction(9, 10) * limit))
        elif Fraction(sample.in_flight, limit) >= Fraction(1, 2):
            limit = min(high, limit + 1)
    return limit


def windows(history: list[Sample]) -> list[list[Sample]]:
    """Cut it where a second has passed and ten calls are together. Answers under 100 µs are not there; what is left is no window yet."""
    rest = [sample for sample in history if sample.dropped or sample.rtt_s >= 100e-6]
    found: list[list[Sample]] = []
    begins_at = rest[0].at if rest else 0.0
    while True:
        end = next((n for n, sample in enumerate(rest) if n >= 9 and sample.at >= begins_at + 1.0), None)
        if end is None:
            return found
        begins_at = rest[end].at
        found.append(rest[: end + 1])
        rest = rest[end + 1 :]


def _rtt_s(window: list[Sample]) -> float | None:
    answered = [sample.rtt_s for sample in window if not sample.dropped]
    return fmean(answered) if answered else None


def gradient(history: list[Sample], low: int, high: int) -> float:
    """Gradient2: tolerance 1.5, smoothing 0.2, queue 4, 600 windows long, of which the first ten are averaged."""
    limit, usual, seen = float(low), 0.0, 0
    for window in windows(history):
        short = _rtt_s(window)
        dropped = any(sample.dropped for sample in window)
        ratio = 0.0
        if short is not None:
            seen += 1
            weight = 1 / seen if seen <= 10 else 2 / 601
            usual = usual * (1 - weight) + short * weight
            ratio = usual / short
            if ratio > 2:
                usual *= 0.95
        if dropped:
            wanted = limit * 0.5
        elif max(sample.in_flight for sample in window) < limit / 2:
            continue
        else:
            wanted = limit * sorted((0.5, 1.5 * ratio, 1.0))[1] + 4
        limit = sorted((low, 0.8 * limit + 0.2 * wanted, high))[1]
    return limit


def vegas(history: list[Sample], low: int, high: int, draws: list[float]) -> float:
    """Vegas, with steps of log10(limit); `draws` are the dice between 0 and 1 that say when the least latency is measured anew."""
    limit, least, probes, since = float(low), None, 0, 0
    for window in windows(history):
        step = max(1.0, log10(limit))
        short = _rtt_s(window)
        since += len(window)
        if any(sample.dropped for sample in window):
            change = -step
        else:
            assert short is not None
            change = 0.0
            if since >= (0.5 + 0.5 * draws[probes % len(draws)]) * 30 * limit:
                least, since = short, 0
                probes += 1
            elif least is None or short < least:
                least = short
            elif max(sample.in_flight for sample in window) * 2 >= limit:
                queue = ceil(limit * (1 - least / short))
                bounds = ((step, 6 * step), (3 * step, step), (6 * step, 0.0))
                change = -step
                for bound, by in bounds:
                    if queue <= bound if bound != 3 * step else queue < bound:
                        change = by
                        break
        limit = sorted((float(low), limit + change, float(high)))[1]
    return limit
