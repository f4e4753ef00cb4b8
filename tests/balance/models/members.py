"""The set of nodes in use, told from its whole history: slow, and written from the definition, not from `balance/members.py`.

What was named, when a node was missed, and when one was let go stand in lists that only grow; each question is answered from these. Run as
a program, it writes `tests/balance/golden/members.json` anew.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden" / "members.json"

Named = list[tuple[str, float, dict[str, str]]]


class SlowMembers:
    """As `Members`. A node is in use from when it was first named until it was let go; see `step`."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.believed: list[dict[str, tuple[float, dict[str, str]]]] = []
        self.came: list[str] = []
        self.let_go: list[tuple[float, str]] = []
        self.windows: list[tuple[float, int]] = []
        self.missed: list[str] = []
        self.first = 0

    def in_use(self) -> list[str]:
        """Who came last stands last."""
        return [
            key
            for key in reversed(dict.fromkeys(reversed(self.came)))
            if self.came.count(key) > sum(1 for _, gone in self.let_go if gone == key)
        ]

    def held(self) -> list[str]:
        return [key for key in self.missed if key in self.in_use()]

    def step(self, at: float, named: Named | None) -> dict[str, Any]:
        """One update, or a tick when `named` is None. Returns what is different, as `Change` says it."""
        before = self.in_use()
        last = self.believed[-1] if self.believed else {}
        said = last if not named else _merged(named)
        if said is not last:
            self.believed.append(said)
            self.missed = [key for key in self.missed if key not in said] + [
                key for key in before if key not in said and key not in self.missed
            ]
        if named != []:
            self._remove(at, len(before))
        gone = [key for key in before if key not in self.in_use()]
        added = [key for key in said if key not in before]
        self.came += added
        self.missed = [key for key in self.missed if key in self.in_use()]
        changed = [key for key in said if key in before and said[key] != self._was(key)] if said is not last else []
        return {"added": sorted(added), "removed": sorted(gone), "held": self.held(), "changed": sorted(changed)}

    def _was(self, key: str) -> tuple[float, dict[str, str]]:
        """What was said of a node when it was named last before now."""
        return next(said[key] for said in reversed(self.believed[:-1]) if key in said)

    def _remove(self, at: float, size: int) -> None:
        """At most half of the set in a window; a window begins when something is to go and the last one is over."""
        waiting = self.held()
        if not waiting:
            return
        if not self.windows or at >= self.windows[-1][0] + self.window_s:
            self.windows.append((at, size))
            self.first = len(self.let_go)
        gone_in_window = len(self.let_go) - self.first
        may_go = math.floor(self.windows[-1][1] / 2) - gone_in_window if self.window_s else size
        self.let_go += [(at, key) for key in waiting[:may_go]]


def _merged(named: Named) -> dict[str, tuple[float, dict[str, str]]]:
    keys = dict.fromkeys(key for key, _, _ in named)
    return {
        key: (
            max(weight for other, weight, _ in named if other == key),
            {
                label: min(labels[label] for other, _, labels in named if other == key and label in labels)
                for label in sorted({label for other, _, labels in named if other == key for label in labels})
            },
        )
        for key in keys
    }


def random_history(rng: random.Random, steps: int) -> list[tuple[float, Named | None]]:
    """What a source might say: mostly the truth, at times nothing, at times a few of many, at times something else altogether."""
    at = 0.0
    events: list[tuple[float, Named | None]] = []
    names = [f"tcp://10.0.0.{number}:7000" for number in range(rng.choice((1, 2, 3, 5, 12)))]
    now = list(names)
    for _ in range(steps):
        at += rng.choice((0.0, 1.0, 5.0, 29.0, 30.0, 31.0, 100.0))
        kind = rng.random()
        if kind < 0.3:
            events.append((at, None))
            continue
        if kind < 0.4:
            events.append((at, []))
            continue
        if kind < 0.55:
            now = rng.sample(names, rng.randrange(1, len(names) + 1))
        elif kind < 0.7:
            names = names[len(names) // 2 :] + [f"tcp://10.0.1.{rng.randrange(200)}:7000" for _ in range(rng.randrange(1, 4))]
            names = list(dict.fromkeys(names))
            now = list(names)
        elif kind < 0.85:
            now = list(names)
        said: Named = [(key, rng.choice((1.0, 1.0, 2.0)), {"zone": rng.choice("ab")} if rng.random() < 0.2 else {}) for key in now]
        if rng.random() < 0.1:
            said += [(rng.choice(now), 3.0, {"zone": "c"})]
        events.append((at, said))
    return events


def golden() -> list[dict[str, Any]]:
    """The traces: what came in, and what the model says to it."""
    traces = []
    for seed in range(12):
        window_s = 30.0 if seed % 4 else 0.0
        model = SlowMembers(window_s)
        events = random_history(random.Random(seed), 40)
        traces.append({"window_s": window_s, "events": events, "changes": [model.step(at, named) for at, named in events]})
    return traces


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), separators=(",", ":")) + "\n")
