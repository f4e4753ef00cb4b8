"""Who is ejected, told from the whole history: slow, and written from the definition, not from `balance/eject.py`.

Each look at the nodes is kept as it was; what a node did in a time is added up from these, and how sure it is that it is worse than its
peers is a numeric integral over its Beta distribution. Run as a program, it writes `tests/balance/golden/eject.json` anew.

A trace is a list of looks: when, and of each node how many attempts were settled and failed since the look before, and whether its breaker
is shut. What a node does while it is out is in the trace as well, so that the same trace tells the same to a machine in shadow.
"""

from __future__ import annotations

import functools
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden" / "eject.json"

Look = tuple[float, dict[str, tuple[int, int, bool]]]
Phases = tuple[tuple[float, float, float], ...]


@functools.cache
def integral_above(a: float, b: float, x: float, steps: int = 4000) -> float:
    """P(Beta(a, b) > x) by Simpson's rule; with a small b, where the density is steep or infinite at 1, over v with 1 - p = v^(4/b)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)

    def density(p: float) -> float:
        return math.exp(scale + (a - 1) * math.log(p) + (b - 1) * math.log1p(-p)) if p < 1.0 else 0.0

    def density_of_v(v: float) -> float:
        return math.exp(scale) * 4 / b * v**3 * math.pow(1 - math.pow(v, 4 / b), a - 1)

    low, high, of = (x, 1.0, density) if b >= 4 else (0.0, (1 - x) ** (b / 4), density_of_v)
    width = (high - low) / steps
    return width / 3 * math.fsum((1 if i in (0, steps) else 4 if i % 2 else 2) * of(low + i * width) for i in range(steps + 1))


class SlowEjector:
    """As `Ejector`, for the same numbers; see `look`."""

    def __init__(self, **given: Any) -> None:
        defaults = {"interval_s": 10.0, "window_max_s": 300.0, "margin": 0.1, "confidence": 0.99, "failures_min": 5}
        self.config = {**defaults, "base_s": 30.0, "max_s": 300.0, "share_max": 0.1, **given}
        self.done: dict[str, list[tuple[float, float, int, int]]] = {}
        """Of a node, since it was last out or shut: from when, to when, attempts, failures."""
        self.since: dict[str, float] = {}
        self.unread: dict[str, tuple[int, int]] = {}
        self.out_until: dict[str, float] = {}
        self.debt: dict[str, int] = {}
        self.judged_at = 0.0

    def look(self, at: float, nodes: dict[str, tuple[int, int, bool]]) -> dict[str, Any]:
        """One call of `sweep`. Returns who goes out and for how long, the worst first, and who is back."""
        for table in (self.done, self.since, self.unread, self.out_until, self.debt):
            for key in [key for key in table if key not in nodes]:
                del table[key]
        for key, (attempts, failures, _) in nodes.items():
            settled, failed = self.unread.get(key, (0, 0))
            self.unread[key] = settled + attempts, failed + failures
            self.since.setdefault(key, self.judged_at)
        back = [key for key in nodes if self.out_until.get(key, math.inf) <= at]
        for key in back:
            del self.out_until[key]
            self._begin_anew(key, at)
        ejected: list[tuple[str, float]] = []
        if at >= self.judged_at + self.config["interval_s"]:
            ejected = self._judge(at, nodes)
            self.judged_at = at
        return {"ejected": ejected, "back": back}

    def _begin_anew(self, key: str, at: float) -> None:
        self.done[key], self.since[key], self.unread[key] = [], at, (0, 0)

    def _judge(self, at: float, nodes: dict[str, tuple[int, int, bool]]) -> list[tuple[str, float]]:
        judged = [key for key, (_, _, shut) in nodes.items() if key not in self.out_until and not shut]
        for key, (_, _, shut) in nodes.items():
            if key in judged:
                self.done.setdefault(key, []).append((self.since[key], at, *self.unread[key]))
                self.since[key], self.unread[key] = at, (0, 0)
            elif shut and key not in self.out_until:
                self._begin_anew(key, at)
        guilty = sorted((-share, key) for key in judged if (share := self._guilt(at, key, judged)) is not None)
        places = max(1, math.floor(len(nodes) * self.config["share_max"])) if len(nodes) >= 3 else 0
        chosen = [key for _, key in guilty][: max(0, places - len(self.out_until))]
        ejected = []
        for key in chosen:
            self.debt[key] = min(self.debt.get(key, 0) + 1, math.ceil(self.config["max_s"] / self.config["base_s"]))
            for_s = min(self.config["base_s"] * self.debt[key], self.config["max_s"])
            self.out_until[key] = at + for_s
            ejected.append((key, for_s))
        for key in judged:
            attempts, failures = self._did(at, key, 1)
            if key not in chosen and self.debt.get(key) and attempts and failures <= self.config["margin"] * attempts:
                self.debt[key] -= 1
        return ejected

    def _did(self, at: float, key: str, intervals: int) -> tuple[int, int]:
        oldest_at = at - self.config["window_max_s"] - self.config["interval_s"] / 2
        recent = [each for each in self.done[key] if each[0] >= oldest_at][-intervals:]
        return sum(each[2] for each in recent), sum(each[3] for each in recent)

    def _guilt(self, at: float, key: str, judged: list[str]) -> float | None:
        """The share of failures for which a node is to go out; None when it is not to."""
        longest = int(self.config["window_max_s"] / self.config["interval_s"])
        if self._did(at, key, longest)[1] < self.config["failures_min"]:
            return None
        span = 1
        while True:
            verdict, share = self._verdict(at, key, judged, span)
            if verdict is not None:
                return share if verdict else None
            if span == longest:
                return None
            span = min(2 * span, longest)

    def _verdict(self, at: float, key: str, judged: list[str], span: int) -> tuple[bool | None, float]:
        """Whether it is guilty by so many intervals, None for in doubt, and its share of failures."""
        peers = [self._did(at, other, span) for other in judged if other != key]
        shares = [failures / attempts for attempts, failures in peers if attempts >= 5]
        if len(shares) < 2:
            return None, 0.0
        median = statistics.median(shares)
        attempts, failures = self._did(at, key, span)
        limit = median + self.config["margin"]
        presumed = min(max(median, 0.02), 0.98)
        sure = integral_above(8 * presumed + failures, 8 * (1 - presumed) + attempts - failures, limit) if limit < 1 else 0.0
        if sure > self.config["confidence"] and failures >= self.config["failures_min"]:
            return True, failures / attempts
        return (False if sure < 1 - self.config["confidence"] else None), 0.0


def history(
    rng: random.Random,
    rates: dict[str, Phases],
    until_s: float,
    step_s: float = 5.0,
    shut: tuple[str, float] = ("", 0),
) -> list[Look]:
    """Looks at nodes of which each has phases: from when, attempts a second, the share that fails. A look each `step_s`."""
    looks: list[Look] = []
    for turn in range(1, int(until_s / step_s) + 1):
        at, nodes = turn * step_s, {}
        for key, phases in rates.items():
            _, per_s, failing = [phase for phase in phases if phase[0] < at][-1]
            expected = per_s * step_s
            attempts = int(expected) + (rng.random() < expected % 1)
            nodes[key] = (attempts, sum(rng.random() < failing for _ in range(attempts)), key == shut[0] and at <= shut[1])
        looks.append((at, nodes))
    return looks


def random_history(rng: random.Random) -> list[Look]:
    """Nodes at random rates with random faults, that come and go, some with breakers."""
    count = rng.choice((1, 2, 3, 3, 4, 5, 12))
    faults = rng.choice(((0.0,), (0.0, 0.0, 0.0, 1.0), (0.0, 0.05, 0.3, 0.5, 1.0), (0.5, 0.5, 0.9), (1.0, 0.0)))
    rates = {
        f"n{number}": tuple(
            (float(since), rng.choice((0.0, 0.2, 1.0, 10.0)), rng.choice(faults)) for since in (0, *sorted(rng.sample(range(30, 200), 2)))
        )
        for number in range(count)
    }
    looks = history(rng, rates, 250.0, rng.choice((5.0, 10.0, 17.0)), (rng.choice([*rates, ""]), 80.0))
    if rng.random() < 0.3:
        gone = rng.choice(list(rates))
        looks = [(at, {key: did for key, did in nodes.items() if key != gone or not 100 < at <= 150}) for at, nodes in looks]
    return looks


def steady(per_s: float, failing: float) -> Phases:
    return ((0.0, per_s, failing),)


def scenarios() -> dict[str, tuple[dict[str, Any], list[Look]]]:
    """The traces by name: a config where it is not the default, and what happened."""
    fine, dead = steady(2.0, 0.0), steady(2.0, 1.0)
    five = dict.fromkeys("bcde", fine)
    dies_at_20 = (*fine, (20.0, 2.0, 1.0))
    worse_and_worse = {f"n{number:02}": steady(2.0, 0.1 * number if number < 8 else 0.0) for number in range(30)}
    stories: dict[str, tuple[dict[str, Any], dict[str, Phases], float]] = {
        "a dead node of five": ({}, {"a": dead, **five}, 400),
        "a dead node of three, one call in five seconds": ({}, {"a": steady(0.2, 1.0), **dict.fromkeys("bc", steady(0.2, 0.0))}, 300),
        "it dies after ten good minutes": ({}, {"a": (*fine, (600.0, 2.0, 1.0)), **five}, 700),
        "half of its calls fail": ({}, {"a": steady(1.0, 0.5), **five}, 200),
        "a fifth of its calls fail": ({}, {"a": steady(5.0, 0.2), **five}, 400),
        "all fail": ({}, dict.fromkeys("abcde", (*fine, (50.0, 2.0, 1.0), (200.0, 2.0, 0.0))), 400),
        "all fail at times": ({}, dict.fromkeys("abcdef", steady(4.0, 0.3)), 600),
        "what it did before it came back well is forgotten": ({}, {"a": (*dead, (35.0, 2.0, 0.0), (200.0, 2.0, 1.0)), **five}, 400),
        "it fails each time it is back": ({"base_s": 20.0, "max_s": 50.0}, {"a": steady(5.0, 1.0), **five}, 600),
        "three of five are dead and one may be out": ({}, {**dict.fromkeys("abc", dies_at_20), **dict.fromkeys("de", fine)}, 300),
        "seven of thirty are worse and three may be out": ({}, worse_and_worse, 120),
        "two nodes": ({}, {"a": steady(5.0, 1.0), "b": fine}, 100),
        "nobody calls": ({}, dict.fromkeys("abc", steady(0.0, 0.0)), 100),
    }
    told = {
        name: (config, history(random.Random(name), rates, until_s))  # each its own dice
        for name, (config, rates, until_s) in stories.items()
    }
    told["its breaker is shut at first"] = ({}, history(random.Random(1), {"a": steady(1.0, 1.0), **five}, 200, shut=("a", 60.0)))
    told.update((f"anything, {seed}", ({}, random_history(random.Random(seed)))) for seed in range(8))
    return told


def golden(*names: str) -> dict[str, Any]:
    """The traces, or those of these names: what happened, and what the model says to it."""
    traces = {}
    known = scenarios()
    for name in names or known:
        config, looks = known[name]
        model = SlowEjector(**config)
        traces[name] = {"config": config, "looks": looks, "sweeps": [model.look(at, nodes) for at, nodes in looks]}
    return traces


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), separators=(",", ":")) + "\n")
