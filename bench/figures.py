"""From samples to figures: what is left out, medians, ratios.

Pure functions over the raw rounds. What may never happen here: a ratio between samples of different rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

FOREIGN_MAX = 0.15
"""Cores that others took; a sample with more is flagged."""
QUIET_MIN = 2
"""So many quiet samples must be there before a flagged one is left out."""


@dataclass(frozen=True)
class Sample:
    """What one client measured once."""

    round: int
    workload: str
    side: str
    figures: dict[str, float | None]

    @property
    def flagged(self) -> bool:
        """Whether other programs took so much that it may be wrong."""
        return (self.figures.get("foreign_cores") or 0.0) > FOREIGN_MAX


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, each of one round, with the least and the greatest."""

    median: float
    least: float
    greatest: float
    rounds: int


def of(samples: Iterable[Sample], workload: str, side: str) -> list[Sample]:
    """Return the samples of one side in one workload."""
    return [each for each in samples if (each.workload, each.side) == (workload, side)]


def quiet(samples: list[Sample]) -> list[Sample]:
    """Leave out the flagged ones, where at least two quiet ones remain."""
    unflagged = [each for each in samples if not each.flagged]
    return unflagged if len(unflagged) >= QUIET_MIN else samples


def median(samples: list[Sample], name: str) -> float | None:
    """Return the median of a figure over the quiet samples that have it; None where none has."""
    values = [value for each in quiet(samples) if (value := each.figures.get(name)) is not None]
    return statistics.median(values) if values else None


def ratio(samples: list[Sample], base: list[Sample], name: str) -> Ratio | None:
    """Return the median of `samples / base`, taken per round; a pair counts as flagged when either of it is."""
    below = {each.round: each for each in base}
    pairs = [
        (mine / theirs, each.flagged or below[each.round].flagged)
        for each in samples
        if each.round in below
        and (mine := each.figures.get(name)) is not None
        and (theirs := below[each.round].figures.get(name)) is not None
        and theirs > 0
    ]
    kept = [value for value, flagged in pairs if not flagged]
    if len(kept) < QUIET_MIN:
        kept = [value for value, _ in pairs]
    return Ratio(statistics.median(kept), min(kept), max(kept), len(kept)) if kept else None
