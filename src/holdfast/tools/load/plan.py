"""What a run sends and when: pure values and the arithmetic of arrivals.

Owned here: how the whole is divided over processes, which call numbers belong to which, and the moments at which calls are due. What may
never happen: two processes with the same call number, or a due time that depends on how the server answers; that is what makes a loop open.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from ...clock import Rng
from ...errors import ConfigError

Arrivals = Literal["constant", "poisson"]

RATE_DEFAULT_PER_S = 1_000.0
"""Enough that ten seconds have ten calls above their p99.9; little enough that most services bear it."""

OUTSTANDING_MAX = 10_000
"""Calls open at once in open loop. A server that stands still for the ten seconds of a deadline at the default rate just fits."""

SLOTS = 100
"""Points of the plots over time."""

SLOT_MIN_S = 0.1


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of a run does.

    Attributes:
        first, stride: its call numbers are first, first + stride, first + 2 · stride, …
        rate: calls per second; None in closed loop.
        concurrency: calls kept open in closed loop; 0 in open loop.
    """

    first: int
    stride: int
    rate: float | None
    concurrency: int
    connections: int
    outstanding_max: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. Either `rate` (open loop: calls per second, whatever the server does) or `concurrency` (closed loop) is given.

    Attributes:
        arrivals: open loop: `constant` gaps, or `poisson`: independent callers, with bursts.
        outstanding_max: open loop: calls open at once; what is due beyond that is not sent, and counted.
        deadline_s: of each call; of a stream, for its first item and for all of it.
        attempts: how often one call may be sent in all.
        seed: for random arguments and arrivals that repeat; None for others each time.
    Raises: ConfigError for what cannot be.
    """

    rate: float | None = None
    concurrency: int | None = None
    arrivals: Arrivals = "constant"
    outstanding_max: int = OUTSTANDING_MAX
    duration_s: float = 10.0
    warmup_s: float = 1.0
    deadline_s: float = 10.0
    attempts: int = 1
    connections: int = 1
    processes: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.concurrency is None):
            raise ConfigError("a run has either a rate (open loop) or a concurrency (closed loop)")
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"a rate of {self.rate!r} calls per second: expected a number above 0")
        if not self.duration_s > 0:
            raise ConfigError(f"a duration of {self.duration_s!r} s: expected more than 0")
        if self.warmup_s < 0:
            raise ConfigError(f"a warm-up of {self.warmup_s!r} s: expected 0 or more")
        if not (self.deadline_s > 0 and math.isfinite(self.deadline_s)):
            raise ConfigError(f"a deadline of {self.deadline_s!r} s: expected more than 0, and an end")
        for name, least in (("connections", self.connections), ("concurrency", self.concurrency), ("max-open", self.outstanding_max)):
            if least is not None and least < self.processes:
                raise ConfigError(f"{name}={least} for {self.processes} processes: each needs at least one")

    @property
    def slot_s(self) -> float:
        """How long one point of the plots over time is, in seconds."""
        return self.duration_s / self.slots

    @property
    def slots(self) -> int:
        """How many of them there are."""
        return max(min(SLOTS, int(self.duration_s / SLOT_MIN_S)), 1)

    def share(self, process: int) -> Share:
        """Return the part of process number `process`, counted from 0."""
        return Share(
            first=process,
            stride=self.processes,
            rate=None if self.rate is None else self.rate / self.processes,
            concurrency=_part(self.concurrency or 0, process, self.processes),
            connections=_part(self.connections, process, self.processes),
            outstanding_max=_part(self.outstanding_max, process, self.processes),
        )

    def due(self, process: int, rng: Rng) -> Iterator[float]:
        """Give the seconds after the start at which the calls of one process are due, for ever. Open loop only."""
        assert self.rate is not None
        if self.arrivals == "poisson":
            return _poisson(self.rate / self.processes, rng)
        return _constant(self.rate, process, self.processes)


def _part(whole: int, process: int, processes: int) -> int:
    return whole // processes + (process < whole % processes)


def _constant(rate: float, first: int, stride: int) -> Iterator[float]:
    # from the number, not from the gap: a sum of gaps drifts
    for number in itertools.count(first, stride):
        yield number / rate


def _poisson(rate: float, rng: Rng) -> Iterator[float]:
    # streams of independent processes are one such stream together, so each process draws its own
    at = 0.0
    while True:
        at -= math.log(1.0 - rng.random()) / rate
        yield at
