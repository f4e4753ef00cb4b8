"""Time and chance, as arguments.

Nothing below the roofs (`client.py`, `server.py`) asks the operating system what time it is or throws dice: it is
handed a Clock and an Rng. That is what lets the simulated world run a month in a minute and replay it from one number.
All times are float seconds of a clock that never goes backwards; names of points in time end in `_at`.
"""

from __future__ import annotations

import hashlib
import random
import time
import weakref
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock. `now()` is comparable with the running loop's `loop.time()`."""

    def now(self) -> float: ...


class Rng(Protocol):
    """The part of `random.Random` that mechanisms may use."""

    def random(self) -> float: ...
    def uniform(self, a: float, b: float) -> float: ...
    def getrandbits(self, k: int) -> int: ...
    def randrange(self, start: int, stop: int | None = None) -> int: ...


class SystemClock:
    """The operating system's monotonic clock; the same one asyncio and uvloop use."""

    now = staticmethod(time.monotonic)


def wall_s() -> float:
    """The time of day, in seconds since 1970: for the dates in certificates, and for nothing else. It jumps."""
    return datetime.now(tz=UTC).timestamp()


_SYSTEM = random.SystemRandom()


class Streams:
    """Named, independent streams of random numbers.

    Each consumer draws from its own stream, so that one more draw in one place shifts nothing in another
    (`reference: simloop, three RNG streams`). With a seed the streams repeat. Without one there is nothing to repeat, and all are one, from
    the operating system: a stream of its own costs 2.5 KB and more time than a call.
    """

    __slots__ = ("_any", "_seed", "_streams")

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._any: random.Random | None = None
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        """Return the stream of that name; the same object each time."""
        if self._seed is None:
            if self._any is None:
                self._any = random.Random(_SYSTEM.getrandbits(128))
            return self._any
        found = self._streams.get(name)
        if found is None:
            digest = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=16).digest()
            found = self._streams[name] = random.Random(int.from_bytes(digest))
        return found

    def secret(self, name: str) -> random.Random:
        """As `stream`; without a seed, from the operating system: numbers that nobody can compute who has seen others of ours."""
        return _SYSTEM if self._seed is None else self.stream(name)


_unseeded: weakref.WeakKeyDictionary[object, Streams] = weakref.WeakKeyDictionary()


def streams_for(seed: int | None, loop: object) -> Streams:
    """Return streams that repeat; without a seed, those of all clients of a loop: thousands of clients need no dice each.

    By the loop, so that a simulated world has its own, and a process that was forked too.
    """
    if seed is not None:
        return Streams(seed)
    found = _unseeded.get(loop)
    if found is None:
        found = _unseeded[loop] = Streams()
    return found
