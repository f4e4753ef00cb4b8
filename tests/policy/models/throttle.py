"""A throttle that remembers every call and adds them up anew at each question."""

from __future__ import annotations

from fractions import Fraction


class ThrottleModel:
    """Calls are kept as (when, accepted); one held back is one that was not accepted. `forgotten` is how many of them no longer count."""

    def __init__(
        self,
        *,
        requests_per_accept: float = 2.0,
        window_s: float = 120.0,
        held_back_max: float = 0.8,
        calls_min_per_s: float = 5.0,
        recovered_after: int = 20,
    ) -> None:
        self.k = Fraction(str(requests_per_accept))
        self.slot_s = Fraction(str(window_s)) / 12
        self.most = held_back_max
        self.calls_min_per_s = Fraction(str(calls_min_per_s))
        self.recovered_after = recovered_after
        self.calls: list[tuple[Fraction, bool]] = []
        self.forgotten = 0
        self.first_slot: int | None = None
        self.calm = True
        self.run = 0
        self.held = 0

    def chance(self, now: float) -> float:
        present = Fraction(now) // self.slot_s
        counted = [accepted for at, accepted in self.calls[self.forgotten :] if at // self.slot_s > present - 12]
        asked, accepted = len(counted), sum(counted)
        first = present if self.first_slot is None else self.first_slot
        began = max(first, present - 11) * self.slot_s
        if asked < self.calls_min_per_s * max(Fraction(now) - began, self.slot_s):
            return 0.0
        too_many = Fraction(asked) - self.k * accepted
        return 0.0 if too_many <= 0 else min(self.most, float(too_many / (asked + 1)))

    def admit(self, now: float, die: float) -> bool:
        self.touch(now)
        chance = self.chance(now)
        self.calm = chance == 0.0
        if die >= chance:
            return True
        self.calls.append((Fraction(now), False))
        self.held += 1
        return False

    def accepted(self, now: float) -> None:
        self.touch(now)
        self.calls.append((Fraction(now), True))
        if self.calm:
            return
        self.run += 1
        if self.run >= self.recovered_after:
            self.forgotten, self.first_slot, self.run = len(self.calls), Fraction(now) // self.slot_s, 0
        self.calm = self.chance(now) == 0.0

    def not_accepted(self, now: float) -> None:
        self.touch(now)
        self.calls.append((Fraction(now), False))
        self.run = 0
        self.calm = self.chance(now) == 0.0

    def touch(self, now: float) -> None:
        if self.first_slot is None:
            self.first_slot = Fraction(now) // self.slot_s
