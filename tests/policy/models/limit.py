"""A concurrency limit as its definition says it, and the golden traces it writes.

There are no slots and no queues here: only calls, in the order in which they came, each at some stage. After every event the model looks
through all of them for one that may go on, until there is none. `python -m tests.policy.models.limit` writes `golden/limit_*.json` anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.policy.models import limit_adaptive
from tests.policy.models.golden import FOLDER, Trace, as_text, on_grid
from tests.policy.models.limit_adaptive import Sample

HOWS = ("took", "took_if_slow", "dropped", "ignore")
"""What the outcome table may say of a call's end."""

Event = list[Any]
"""`["begin", at, call, method, deadline_at]`, `["end", at, call, how, rtt_s]` or `["expire", at, call]`."""


@dataclass
class Call:
    number: int
    method: str
    deadline_at: float | None
    stage: str = "new"
    joined: int = 0


@dataclass
class Model:
    """Decides a whole trace."""

    config: dict[str, Any]
    calls: list[Call] = field(default_factory=list)
    history: list[Sample] = field(default_factory=list)
    held: int = 0
    joins: int = 0

    @property
    def limit(self) -> int:
        config, kind = self.config, self.config["kind"]
        low, high = config["limit_min"], config["limit_max"]
        if kind == "aimd":
            return limit_adaptive.aimd(self.history, low, high)
        if kind == "gradient":
            return int(limit_adaptive.gradient(self.history, low, high))
        if kind == "vegas":
            return int(limit_adaptive.vegas(self.history, low, high, config["draws"]))
        return int(config["limit"])

    def decide(self, event: Event) -> list[Any]:
        """The stage of the call after the event, the others that went on because of it with theirs, and the limit."""
        what, at, number, *more = event
        before = {call.number: call.stage for call in self.calls}
        if what == "begin":
            self.calls.append(Call(number, *more))
        else:
            call = self._call(number)
            if what == "end" and call.stage == "holds":
                self._learn(at, *more)
            waited = call.stage in ("bulkhead", "limit")
            if waited and (what == "expire" or (call.deadline_at is not None and call.deadline_at <= at)):
                self.held += 1
            call.stage = "expired" if what == "expire" and waited else call.stage if what == "expire" else "left"
        self._settle()
        others = [[call.number, call.stage] for call in self.calls if call.number != number and call.stage != before[call.number]]
        stage = self._call(number).stage
        self.calls = [call for call in self.calls if call.stage != "left"]
        return [stage, others, self.limit]

    def _call(self, number: int) -> Call:
        return next(call for call in self.calls if call.number == number)

    def _learn(self, at: float, how: str, rtt_s: float) -> None:
        in_flight = sum(call.stage == "holds" for call in self.calls)
        if how == "dropped" or how == "took" or (how == "took_if_slow" and rtt_s >= 5):
            self.history.append(Sample(at, rtt_s, in_flight, how == "dropped"))

    def _settle(self) -> None:
        while self._one_goes_on():
            pass

    def _one_goes_on(self) -> bool:
        full = sum(call.stage == "holds" for call in self.calls) >= self.limit
        waiting = sorted((call for call in self.calls if call.stage == "limit"), key=lambda call: call.joined)
        if waiting and not full:
            waiting[0].stage = "holds"
            return True
        for call in sorted((call for call in self.calls if call.stage in ("bulkhead", "new")), key=lambda call: (call.stage, call.joined)):
            places = self.config["per_method"].get(call.method)
            beside = [other for other in self.calls if other.method == call.method and other is not call]
            if places is None or sum(other.stage in ("limit", "holds") for other in beside) < places:
                if full and len(waiting) >= self.config["queue_max"]:
                    self._refuse(call)
                else:
                    self._join(call, "limit" if full else "holds")
                return True
            if call.stage == "new":
                if sum(other.stage == "bulkhead" for other in beside) >= self.config["queue_max"]:
                    self._refuse(call)
                else:
                    self._join(call, "bulkhead")
                return True
        return False

    def _join(self, call: Call, stage: str) -> None:
        self.joins += 1
        call.stage, call.joined = stage, self.joins

    def _refuse(self, call: Call) -> None:
        call.stage = "refused"
        self.held += 1


# ---------------------------------------------------------------------------------------------------------- golden traces

DEFAULTS = {
    "kind": "fixed",
    "limit": 3,
    "limit_min": 4,
    "limit_max": 40,
    "queue_max": 3,
    "per_method": {},
    "draws": [0.5, 0.0, 1.0],
}


def trace_of(about: str, config: dict[str, Any], events: list[Event]) -> Trace:
    """What the model decides of each event."""
    model = Model({**DEFAULTS, **config})
    decided = [[*event, model.decide(event)] for event in events]
    return {"machine": "limit", "about": about, "config": model.config, "events": decided, "counted": {"held": model.held}}


def few(seed: int, count: int, methods: str) -> list[Event]:
    """Calls that come and go at random, more than there is room for; some give up, some wait until their deadline."""
    dice, events, there, at = random.Random(seed), list[Event](), dict[int, float | None](), 0.0
    for number in range(count):
        at = on_grid(at + dice.choice((0.0, 0.25, 0.5)))
        for late in [call for call, deadline_at in there.items() if deadline_at is not None and deadline_at <= at]:
            events.append(["expire", at, late])
            events.append(["end", at, late, "ignore", 0.0])
            del there[late]
        deadline_at = dice.choice((None, at + 1.0, at + 3.0))
        events.append(["begin", at, number, dice.choice(methods), deadline_at])
        there[number] = deadline_at
        while there and dice.random() < 0.45:
            over = dice.choice(list(there))
            del there[over]
            events.append(["end", at, over, dice.choice(HOWS), 0.25])
    return events


def crowd(seed: int, for_s: float, every_s: float, serve: Callable[[float, int], tuple[str, float]]) -> list[Event]:
    """Calls at a steady rate, whose end and latency `serve` says from the time and how many there are."""
    dice, events, there, at, number = random.Random(seed), list[Event](), list[tuple[float, int, str, float]](), 0.0, 0
    while at < for_s:
        for over in sorted(call for call in there if call[0] <= at):
            there.remove(over)
            events.append(["end", over[0], over[1], over[2], over[3]])
        events.append(["begin", at, number, "a", None])
        how, rtt_s = serve(at, len(there))
        rtt_s = on_grid(rtt_s * dice.uniform(0.9, 1.1)) if rtt_s > 0.01 else rtt_s
        there.append((at + max(rtt_s, 1 / 64), number, how, rtt_s))
        number += 1
        at = on_grid(at + every_s)
    return events


def _refusing(at: float, open_calls: int) -> tuple[str, float]:
    room = 12 if at < 4 else 6
    return ("dropped", 0.05) if open_calls > room else ("took", 0.5 if at < 6 else 6.0)


def _slowing(at: float, _open_calls: int) -> tuple[str, float]:
    if 30 <= at < 31:
        return ("dropped", 0.25)
    if int(8 * at) % 7 == 6:
        return ("took", 50e-6)
    return ("took", 0.75 if at < 12 else 3.0 if at < 20 else 0.5)


def traces() -> Iterator[tuple[str, Trace]]:
    """The golden traces, by name."""
    yield "fixed", trace_of("three slots, three may wait", {}, few(1, 90, "a"))
    yield "no_queue", trace_of("nobody waits", {"queue_max": 0}, few(2, 60, "a"))
    config = {"limit": 4, "per_method": {"a": 1, "b": 2}, "queue_max": 2}
    yield "bulkheads", trace_of("slots for single methods besides", config, few(3, 140, "aabbc"))
    yield "aimd", trace_of("a server refuses what is too much", {"kind": "aimd"}, crowd(4, 8, 1 / 32, _refusing))
    config = {"kind": "gradient", "limit_min": 12, "limit_max": 60, "queue_max": 6}
    yield "gradient", trace_of("a server becomes slow, and quick again", config, crowd(5, 34, 1 / 8, _slowing))
    config = {"kind": "vegas", "queue_max": 6}
    yield "vegas", trace_of("a server becomes slow, and quick again", config, crowd(6, 34, 1 / 8, _slowing))


if __name__ == "__main__":
    for each, golden in traces():
        (FOLDER / f"limit_{each}.json").write_text(as_text(golden), "utf-8")
