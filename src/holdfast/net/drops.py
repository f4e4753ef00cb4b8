"""Counting what was thrown away, and saying so without a flood.

Owns: the totals by reason, and when a fact is due. The first drop of a reason is told at once, the next ones together, at most once per
SAY_EVERY_S and reason: whoever drops a million datagrams a second has one thing to say about it.

What may never happen here: a count that is lost (`close` tells the rest); a timer that stays behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..control.wheel import Timer, Wheel
from ..facts import DatagramsDropped, Emit
from .link import DropReason

SAY_EVERY_S = 1.0


class Drops:
    """The drops of one endpoint.

    Args:
        address: of the endpoint, as its facts name it.
        reasons: all there are, in the order `totals` gives them.
    """

    __slots__ = ("_reasons",)

    def __init__(self, address: str, reasons: Sequence[DropReason], wheel: Wheel, emit: Emit) -> None:
        self._reasons = {reason: _Reason(address, reason, wheel, emit) for reason in reasons}

    def count(self, reason: DropReason, count: int = 1) -> None:
        """Add `count` drops of a reason, and tell them or keep them to be told."""
        if count:
            self._reasons[reason].add(count)

    def totals(self) -> dict[DropReason, int]:
        """How many of each reason since the beginning."""
        return {reason: each.total for reason, each in self._reasons.items()}

    def close(self) -> None:
        """Tell what was not told yet. What comes later is counted and not told."""
        for each in self._reasons.values():
            each.close()


class _Reason:
    """One reason. While `_quiet` is set, its last fact is too young for another one."""

    __slots__ = ("_address", "_closed", "_emit", "_quiet", "_reason", "_untold", "_wheel", "total")

    def __init__(self, address: str, reason: str, wheel: Wheel, emit: Emit) -> None:
        self._address = address
        self._reason = reason
        self._wheel = wheel
        self._emit = emit
        self._quiet: Timer | None = None
        self._untold = 0
        self._closed = False
        self.total = 0

    def add(self, count: int) -> None:
        self.total += count
        self._untold += count
        if self._quiet is None and not self._closed:
            self._tell()

    def close(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._untold and not self._closed:
            self._emit(DatagramsDropped(self._address, self._reason, self._untold))
        self._closed = True

    def _tell(self) -> None:
        count, self._untold = self._untold, 0
        self._quiet = self._wheel.at(self._wheel.now() + SAY_EVERY_S, self._again)
        self._emit(DatagramsDropped(self._address, self._reason, count))

    def _again(self) -> None:
        self._quiet = None
        if self._untold:
            self._tell()
