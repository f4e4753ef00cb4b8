"""Runs inputs and judges what came of them: the same for the minute in the tests, for a campaign and for a long night.

Owns: what a finding is, how an input's time is taken, and the loop that makes new inputs out of old ones where nothing guides it.
What may never happen here: chance without a seed. The same seed runs the same inputs in the same order, up to where the time ended.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from types import ModuleType

from tests.fuzz import corpus, mutator

NAMES = ("connection", "frames", "settings", "addresses", "codec", "framings", "tls")
SLOW_S = 0.010
"""An input that takes longer, each of four times, is a finding: a peer could hold the loop with it."""
POOL_MAX = 600
RERUNS = 3

KNOWN: dict[str, str] = {}
"""Faults that were found and are open still, with what they are. Each has its input in `regressions/`; a test sees that it fails as long
as it stands here."""

Mutate = Callable[[bytes, Random, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Harness:
    """What is fuzzed: a function that raises for an input that shows a fault, and inputs to begin with."""

    name: str
    one: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    slow_s: float = SLOW_S


def harness(name: str) -> Harness:
    """Return the harness of that name."""
    module: ModuleType = importlib.import_module(f"tests.fuzz.harnesses.{name}")
    mutate = mutate_either if name == "connection" else mutator.mutate_bytes
    return Harness(name, module.one, module.seeds, mutate, getattr(module, "SLOW_S", SLOW_S))


def inputs(harness: Harness) -> list[bytes]:
    """All there is to begin with: regressions, the corpus, and seeds, which are made anew and stand in no file."""
    return list(dict.fromkeys(corpus.load(harness.name) + harness.seeds()))


def mutate_either(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Mostly frames, and plain bytes too."""
    return (mutator.mutate if random.random() < 0.8 else mutator.mutate_bytes)(data, random, others)


@dataclass
class Watch:
    """Runs inputs one at a time, takes their time, and keeps what it found. Each place that fails is one finding."""

    harness: Harness
    slow_above_s: float = 0.0
    executions: int = 0
    slowest_s: float = 0.0
    slowest: bytes = b""
    slow: list[bytes] = field(default_factory=list)
    found: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slow_above_s = self.slow_above_s or self.harness.slow_s

    def run(self, data: bytes) -> None:
        """Run one input."""
        took_s = self._timed(data)
        self.executions += 1
        if took_s > self.slow_above_s:  # once may be the machine; what is slow is slow again
            took_s = min(took_s, *(self._timed(data) for _ in range(RERUNS)))
            if took_s > self.slow_above_s:
                self.slow.append(data)
        if took_s > self.slowest_s:
            self.slowest_s, self.slowest = took_s, data

    def _timed(self, data: bytes) -> float:
        started = time.thread_time()
        try:
            self.harness.one(data)
        except Exception as error:
            self._keep(data, error)
        return time.thread_time() - started

    def _keep(self, data: bytes, error: Exception) -> None:
        place, line = where(error)
        if place in KNOWN:
            return
        place = f"{place}, line {line}"
        known = self.found.get(place)
        if known is None or len(data) < len(known[0]):
            self.found[place] = data, "".join(traceback.format_exception(error))

    def complaints(self) -> list[str]:
        """What it found, each with the command that repeats it."""
        name = self.harness.name
        lines = []
        for place, (data, text) in self.found.items():
            lines.append(f"{place}\n{text}repeat it: {corpus.how_to_repeat(name, corpus.keep_finding(name, data))}")
        for data in self.slow[:3]:
            path = corpus.keep_finding(name, data)
            lines.append(
                f"slow: above {self.slow_above_s * 1000:g} ms each of {RERUNS + 1} times\nrepeat it: {corpus.how_to_repeat(name, path)}"
            )
        return lines


def where(error: Exception) -> tuple[str, int]:
    """What was raised in which function, and the line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.filename.rpartition('/')[2]}:{frame.name}", frame.lineno or 0


def wander(harness: Harness, seed: str, until: Callable[[int], bool], watch: Watch) -> None:
    """Run mutations of the corpus, mutations of those, and so on, until told to stop (asked with the number of runs before each).

    Nothing guides it, so it goes back to the corpus often: one of ten mutations takes the place of another input, and one of ten of those
    that were replaced is an input of the corpus again.
    """
    random = Random(seed)
    known = inputs(harness)
    pool = random.sample(known, POOL_MAX) if len(known) > POOL_MAX else list(known)
    done = 0
    while not until(done):
        data = harness.mutate(random.choice(pool), random, pool)
        watch.run(data)
        if done % 10 == 0:
            pool[random.randrange(len(pool))] = data if done % 100 else random.choice(known)
        done += 1
