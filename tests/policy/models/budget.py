"""A retry budget that keeps everything that ever happened and works every answer out of it anew, in exact numbers.

The machine has ten numbers in a ring and brings them up to date when it must. Here each call's payment is a lot with a date, and an
answer walks through all slots since the first event, one by one.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

SLOTS = 10
EPSILON = Fraction(1, 10**9)


class BudgetModel:
    def __init__(self, *, share: float, floor_per_s: float, ttl_s: float) -> None:
        self.share = Fraction(str(share))
        self.floor_per_s = Fraction(str(floor_per_s))
        self.ttl_s = Fraction(str(ttl_s))
        self.slot_s = self.ttl_s / SLOTS
        self.happened: list[tuple[Fraction, str, bool]] = []  # when, what, and for an attempt whether it was allowed

    def deposit(self, now: float) -> None:
        self.happened.append((Fraction(now), "deposit", True))

    def succeeded(self, now: float) -> None:
        self.happened.append((Fraction(now), "succeeded", True))

    def take(self, now: float) -> bool:
        allowed = self.exact_level(now) >= 1 - EPSILON
        self.happened.append((Fraction(now), "take", allowed))
        return allowed

    def level(self, now: float) -> float:
        return float(self.exact_level(now))

    def looked_at(self, now: float) -> None:
        """Somebody asked for the level, which begins the time when it is the first thing that happens."""
        self.happened.append((Fraction(now), "look", True))

    def exact_level(self, now: float) -> Fraction:
        """What could be taken, from the whole history."""
        end = Fraction(now)
        start = self.happened[0][0] if self.happened else end
        by_slot: dict[int, list[tuple[Fraction, str, bool]]] = defaultdict(list)
        for event in self.happened:
            by_slot[event[0] // self.slot_s].append(event)
        lots: list[tuple[int, Fraction]] = []
        floor, earned_until, dark = self.floor_per_s * self.ttl_s, start + self.ttl_s, 0

        def earn(until: Fraction) -> None:
            nonlocal floor, earned_until
            half = Fraction(1, 2 ** (dark // SLOTS))
            floor += max(Fraction(0), until - earned_until) * self.floor_per_s * half
            floor = min(floor, self.floor_per_s * self.ttl_s * half)
            earned_until = max(until, earned_until)

        last = end // self.slot_s
        for slot in range(start // self.slot_s, last + 1):
            lots = [(paid_in, left) for paid_in, left in lots if paid_in > slot - SLOTS]
            tried = lit = False
            for at, what, allowed in by_slot[slot]:
                if what == "deposit":
                    lots.append((slot, self.share))
                    tried = True
                elif what == "succeeded":
                    earn(at)
                    dark, lit = 0, True
                elif what == "take":
                    earn(at)
                    tried = True
                    if allowed:
                        lots, lacking = spend(lots)
                        floor = max(Fraction(0), floor - lacking)
            if slot < last:
                earn((slot + 1) * self.slot_s)
                dark = 0 if lit else dark + tried
        earn(end)
        return sum((left for _, left in lots), floor)


def spend(lots: list[tuple[int, Fraction]]) -> tuple[list[tuple[int, Fraction]], Fraction]:
    """Take one from the lots, oldest first. What they could not give comes second."""
    lacking, after = Fraction(1), []
    for paid_in, left in lots:
        used = min(left, lacking)
        lacking -= used
        if left > used:
            after.append((paid_in, left - used))
    return after, lacking
