"""How many attempts beyond the first a client may make: one purse for retries, hedges and reconnects.

Owns the arithmetic. Theory (reference algorithms.md 2.6; Finagle's and tower's budget, with two changes that make its promise exact):

* Each call, when it begins, pays in `share` of an attempt. What is paid in can be spent for `ttl_s`, in ten slots of which the oldest
  expires as the newest begins, and the oldest is spent first. Finagle books an attempt where it was *made*, so one burst locks the purse
  for a whole ttl although calls go on paying; and both ways one payment buys its share at most once.
* The floor, `floor_per_s`, keeps clients with few calls going. It fills a purse of `floor_per_s * ttl_s`, which is full at the start as an
  advance: it earns nothing before `ttl_s` has passed. So for every history, from the first use on, at every moment:

      attempts taken  <=  share * calls  +  floor_per_s * max(time passed, ttl_s)

  which for runs of at least one ttl is attempts / calls <= 1 + share + floor / call rate, at any rate of failure, not only in the long run.
* While nothing succeeds the floor halves, or 500 clients with a floor each would hammer what is down. A slot in which calls or attempts
  were made and none succeeded is dark; idle slots say nothing. With each ten dark slots in a row (idle ones left out) the floor and its
  purse halve. The first success makes the floor whole at once; the purse then fills at its usual rate.

Whoever sends an attempt takes it when it is *sent*: one that waits in back-off has cost nothing.

What may never happen here: a clock, a call that pays in twice, an attempt that is counted before it leaves.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ..errors import ConfigError

SLOTS = 10
UNEARNED_PART = 0.1
"""Of the floor, what is left while nothing is earned: enough for a few calls that fail for another reason, too little to matter."""
EPSILON = 1e-9
"""Five fifths are one attempt, whatever floating point thinks of them."""

Mode = Literal["off", "shadow", "enforce"]


class BudgetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How many attempts beyond the first a client may make, over retries, hedges and reconnects together.

    Attributes:
        share: of an attempt that each call pays in. 0.2: helps until a fifth of all calls fail, and through three layers of such clients
            a server sees 1.7 times its load at most.
        floor_per_s: attempts a second that are there without any calls. 10: a client with few calls may retry each of them. Divide it by
            the number of processes when there are many.
        ttl_s: how long a payment can be spent, 1 to 60 s. 10 s: longer than a hiccup, shorter than an outage, for which nobody should save.
        mode: `shadow` counts in `would` what it would have denied, and denies nothing.
    Raises: ConfigError for numbers outside of that.
    """

    share: float = 0.2
    floor_per_s: float = 10.0
    ttl_s: float = 10.0
    mode: Mode = "enforce"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 10:
            raise ConfigError(f"share={self.share!r} must be from 0 to 10 attempts for each call, such as 0.2")
        if not 0 <= self.floor_per_s < math.inf:
            raise ConfigError(f"floor_per_s={self.floor_per_s!r} must be 0 or more attempts a second, such as 10")
        if not 1 <= self.ttl_s <= 60:
            raise ConfigError(f"ttl_s={self.ttl_s!r} must be from 1 to 60 seconds")
        if self.mode not in ("off", "shadow", "enforce"):
            raise ConfigError(f"mode={self.mode!r} must be off, shadow or enforce")


class RetryBudget:
    """The purse. `deposit` for each call that begins, `take` for each attempt beyond the first that is sent, `succeeded` for each success.

    On the hot path both may be written out: `if now >= budget.rolls_at: budget.roll(now)` and `budget.calls += 1` are a deposit;
    `if not budget.lit: budget.succeeded(now)` is a success.

    Attributes:
        calls: deposits in the present slot.
        rolls_at: when the present slot ends.
        lit: something succeeded in the present slot.
        taken: attempts that were sent, ever.
        denied: attempts that were refused, ever.
        would: attempts that would have been refused, ever: counted in shadow.
        dark: slots in a row in which something was tried and nothing succeeded.
    """

    __slots__ = (
        "_asked",
        "_floor",
        "_floor_at",
        "_floor_max",
        "_paid",
        "_purse",
        "_slot",
        "_slot_s",
        "_unearned_until",
        "calls",
        "dark",
        "denied",
        "floor_per_s",
        "lit",
        "mode",
        "rolls_at",
        "share",
        "taken",
        "ttl_s",
        "would",
    )

    def __init__(self, *, share: float = 0.2, floor_per_s: float = 10.0, ttl_s: float = 10.0, mode: Mode = "enforce") -> None:
        BudgetConfig(share=share, floor_per_s=floor_per_s, ttl_s=ttl_s, mode=mode)
        self.share = share
        self.floor_per_s = floor_per_s
        self.ttl_s = ttl_s
        self.mode: Mode = mode
        self.calls = 0
        self.rolls_at = -math.inf
        self.lit = False
        self.taken = 0
        self.denied = 0
        self.would = 0
        self.dark = 0
        self._unearned_until = -math.inf
        self._asked = False  # somebody wanted an attempt in the present slot
        self._slot = 0
        self._slot_s = ttl_s / SLOTS
        self._paid = [0.0] * (SLOTS - 1)  # by the calls of each earlier slot, oldest first
        self._purse = [0.0] * SLOTS  # what is left of it, oldest first; the last one is the present slot's, below 0 for what it has spent
        self._floor_max = floor_per_s * ttl_s
        self._floor = self._floor_max
        self._floor_at = math.inf  # up to when the floor has earned

    def deposit(self, now: float) -> None:
        """A call begins: it pays in its share. Once for each call, not for each attempt."""
        if now >= self.rolls_at:
            self.roll(now)
        self.calls += 1

    def succeeded(self, now: float) -> None:
        """A call was answered by somebody who is alive: the floor is whole again."""
        if now >= self.rolls_at:
            self.roll(now)
        if self.dark:
            self._earn(now)
            self.dark = 0
        self.lit = True

    def earn_nothing(self, until: float) -> None:
        """The servers are overloaded until then, as far as we know: calls pay nothing in, and of the floor a tenth is left."""
        self._unearned_until = max(until, self._unearned_until)

    def take(self, now: float) -> bool:
        """An attempt beyond the first is about to be sent: take it, or say that it must not be.

        In shadow the answer is always yes, and `would` goes up when it would have been no. When it is off, nothing is counted.
        """
        if self.mode == "off":
            return True
        if now >= self.rolls_at:
            self.roll(now)
        self._earn(now)
        self._asked = True
        if self._spend():
            self.taken += 1
            return True
        if self.mode == "shadow":
            self.would += 1
            return True
        self.denied += 1
        return False

    def level(self, now: float) -> float:
        """How many attempts could be taken at this moment."""
        if now >= self.rolls_at:
            self.roll(now)
        self._earn(now)
        return self._saved() + self._floor

    def fullness(self, now: float) -> float:
        """How full it is, 0 to 1: what is there, of what would be there had nothing been taken and the floor never halved."""
        level = self.level(now)
        whole = sum(self._paid) + self._fresh() + self._floor_max
        return 1.0 if self.mode == "off" else level / whole if whole > 0 else 0.0

    def roll(self, now: float) -> None:
        """Begin the slot that `now` is in: what was paid in a ttl ago expires, and a dark slot brings the floor nearer to its half."""
        slot = math.floor(now / self._slot_s)
        if now >= (slot + 1) * self._slot_s:  # the quotient may be a rounding error short
            slot += 1
        if self._floor_at == math.inf:
            self._slot, self._floor_at = slot, now + self.ttl_s
        self._earn(min(now, self.rolls_at))
        if self.lit:
            self.dark = 0
        elif self.calls or self._asked:
            self.dark += 1
        earned = self._fresh()
        for _ in range(min(slot - self._slot, SLOTS)):
            self._paid.append(earned)
            self._purse[-1] = max(0.0, self._purse[-1] + earned)
            self._purse.append(0.0)
            del self._paid[0], self._purse[0]
            earned = 0.0
        self._slot = slot
        self.rolls_at = (slot + 1) * self._slot_s
        self.calls = 0
        self.lit = self._asked = False

    def _earn(self, now: float) -> None:
        """Bring the floor up to `now`; since `_floor_at` it has been as it is."""
        part = 0.5 ** min(self.dark // SLOTS, 64)
        idle_to = min(now, self._unearned_until)
        if now < self._unearned_until or self._floor_at < idle_to:
            self._floor = min(self._floor, self._floor_max * part * UNEARNED_PART)
            self._floor_at = max(self._floor_at, idle_to)
        if now > self._floor_at:
            self._floor += (now - self._floor_at) * self.floor_per_s * part
            self._floor_at = now
        self._floor = min(self._floor, self._floor_max * part)

    def _fresh(self) -> float:
        """What the calls of the present slot have paid in: nothing, if it began while nothing was earned."""
        return 0.0 if self.rolls_at - self._slot_s < self._unearned_until else self.calls * self.share

    def _saved(self) -> float:
        """What is left of all that was paid in. What the present slot has spent of what is void by now is no debt."""
        return sum(self._purse[:-1]) + max(0.0, self._purse[-1] + self._fresh())

    def _spend(self) -> bool:
        """Take one from the oldest there is, and from the floor what then lacks."""
        purse, fresh = self._purse, self._fresh()
        if self._saved() + self._floor < 1.0 - EPSILON:
            return False
        lacking = 1.0
        for place in range(SLOTS):
            there = max(0.0, purse[place] + (fresh if place == SLOTS - 1 else 0.0))
            used = min(there, lacking)
            purse[place] -= used
            lacking -= used
        self._floor = max(0.0, self._floor - lacking)
        return True
