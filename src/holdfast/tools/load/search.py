"""The highest rate that holds an expectation: doubled until one does not, then halved in between.

Owned here: which rate comes next, and when to stop. Pure: it is told how each step went. What may never happen: an end without a reason;
a limit of the generator taken for one of the server.
"""

from __future__ import annotations

from typing import NamedTuple

CLOSE_ENOUGH = 0.05
"""The last rate that held and the first that did not lie this near: repeated runs differ by more."""

STEPS_MAX = 30
RATE_MIN_PER_S = 1.0


class Tried(NamedTuple):
    """One step: the rate, whether all held, and why the generator was the limit, if it was."""

    rate: float
    held: bool
    limited: str = ""


class MaxSearch:
    """Ask for `rate`, try it, say how it went by `tell`; until `over` says why it is over.

    Attributes:
        rate: the calls per second to try next.
        best: the highest rate that held, None so far.
        over: why the search ended; empty while it goes on.
    """

    def __init__(self, start: float) -> None:
        self.rate = start
        self.best: float | None = None
        self.over = ""
        self.tried: list[Tried] = []
        self._failed_at: float | None = None
        self._again_at: float | None = None

    def tell(self, held: bool, limited: str = "") -> None:
        """Say how the step at `rate` went."""
        rate = self.rate
        self.tried.append(Tried(rate, held, limited))
        if held:
            self.best = rate
        elif limited and self._again_at != rate and len(self.tried) < STEPS_MAX:
            self._again_at = rate  # a moment in which the client did not get its core proves nothing: once more
            return
        elif limited:
            self.over = f"at {rate:,.0f}/s the generator was the limit, so the server may do more: {limited}"
            return
        else:
            self._failed_at = rate
        self._choose()

    def _choose(self) -> None:
        low, high = self.best, self._failed_at
        if len(self.tried) >= STEPS_MAX:
            self.over = f"{STEPS_MAX} steps were tried"
        elif high is None:
            self.rate *= 2
        elif low is None:
            self.rate = high / 2
            if self.rate < RATE_MIN_PER_S:
                self.over = f"it does not hold at {high:,.2g}/s either"
        elif high - low <= CLOSE_ENOUGH * low:
            self.over = f"{high:,.0f}/s does not hold, and that is within {CLOSE_ENOUGH:.0%}"
        else:
            self.rate = (low + high) / 2
