"""A breaker as its definition says it, and the golden traces it writes.

Nothing is counted as it happens: the model keeps every outcome with its time, and every stretch of time in which the breaker was of one
mind. What a call's end means is looked up in those. `python -m tests.policy.models.breaker` writes `golden/breaker_*.json` anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, inf
from typing import Any

from tests.policy.models.golden import FOLDER, Trace, as_text

ENDS = ("success", "failure", "overload", "ignore")
DEFAULTS = {
    "in_row": 5,
    "success_share": 0.8,
    "calls_min": 20,
    "window_s": 30.0,
    "buckets": 10,
    "open_base_s": 5.0,
    "open_cap_s": 300.0,
}

Event = list[Any]
"""`["begin", at, call]` or `["end", at, call, how]`."""


@dataclass
class Stretch:
    """A time in which the breaker was of one mind, and what ended in it that had begun in it."""

    state: str
    until: float = inf
    outcomes: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class Model:
    """Decides a whole trace. `draws` are the dice: each between 0 and 1."""

    config: dict[str, Any]
    draws: list[float]
    stretches: list[Stretch] = field(default_factory=lambda: [Stretch("closed")])
    began_in: dict[int, Stretch] = field(default_factory=dict)
    held: int = 0

    def decide(self, event: Event) -> str:
        """What becomes of an event: `go`, `probe` or `held` for a beginning, the state after it for an end."""
        what, at, call, *how = event
        if what == "begin":
            return self._begin(at, call)
        self._end(at, self.began_in.pop(call, None), how[0])
        return self.stretches[-1].state

    @property
    def trips(self) -> int:
        return sum(stretch.state == "open" and stretch.until != -inf for stretch in self.stretches)

    def _begin(self, at: float, call: int) -> str:
        last = self.stretches[-1]
        if last.state == "closed":
            self.began_in[call] = last
            return "go"
        if last.state == "open" and at >= last.until:
            self.stretches.append(Stretch("probing"))
            self.began_in[call] = self.stretches[-1]
            return "probe"
        self.held += 1
        return "held"

    def _end(self, at: float, began_in: Stretch | None, end: str) -> None:
        last = self.stretches[-1]
        if began_in is not last:
            return
        if last.state == "closed":
            last.outcomes.append((at, end))
            if end in ("failure", "overload") and (self._in_row(last) or self._by_share(last, at)):
                self._open(at)
        elif end == "success":
            self.stretches.append(Stretch("closed"))
        elif end == "ignore":
            self.stretches.append(Stretch("open", until=-inf))
        else:
            self._open(at)

    def _in_row(self, stretch: Stretch) -> bool:
        tail = []
        for _, end in reversed(stretch.outcomes):
            if end == "success":
                break
            tail.append(end)
        return tail.count("failure") >= int(self.config["in_row"])

    def _by_share(self, stretch: Stretch, now: float) -> bool:
        width = Fraction(self.config["window_s"]) / self.config["buckets"]
        oldest = floor(Fraction(now) / width) - self.config["buckets"] + 1
        recent = [end for at, end in stretch.outcomes if end != "ignore" and floor(Fraction(at) / width) >= oldest]
        wanted = Fraction(str(self.config["success_share"])) * len(recent)
        return len(recent) >= int(self.config["calls_min"]) and recent.count("success") < wanted

    def _open(self, at: float) -> None:
        since_closed = 0
        for stretch in reversed(self.stretches):
            if stretch.state == "closed":
                break
            since_closed += stretch.state == "open" and stretch.until != -inf
        longest = min(self.config["open_cap_s"], self.config["open_base_s"] * 2**since_closed)
        draw = self.draws[self.trips % len(self.draws)]
        self.stretches.append(Stretch("open", until=at + longest / 2 + longest / 2 * draw))


# ---------------------------------------------------------------------------------------------------------- golden traces


class Story:
    """Writes down events, with a clock that only moves forward."""

    def __init__(self) -> None:
        self.at = 0.0
        self.events: list[Event] = []
        self._calls = 0

    def wait(self, seconds: float) -> Story:
        self.at += seconds
        return self

    def begin(self) -> int:
        self._calls += 1
        self.events.append(["begin", self.at, self._calls])
        return self._calls

    def end(self, call: int, end: str) -> None:
        self.events.append(["end", self.at, call, end])

    def calls(self, ends: str, *, every_s: float = 0.25) -> Story:
        """Calls one after the other; each letter is how one ends: s, f, o, i."""
        for letter in ends:
            call = self.begin()
            self.wait(every_s)
            self.end(call, next(end for end in ENDS if end[0] == letter))
        return self


def _dead(story: Story) -> None:
    story.calls("sss").calls("f" * 60, every_s=1.0).calls("ssss", every_s=8.0)


def _half(story: Story) -> None:
    story.calls("sf" * 8).calls("sssso" * 3).wait(40).calls("sssf" * 12).calls("s" * 20, every_s=1.0)


def _just_enough(story: Story) -> None:
    story.calls("f" + "s" * 15 + "ffff").calls("ssssf" * 4, every_s=1.0).calls("sffs" * 3)


def _overload(story: Story) -> None:
    story.calls("o" * 19).calls("so" * 3).wait(6).calls("o").wait(11).calls("fs", every_s=12.0).calls("ffoooofff")


def _given_up(story: Story) -> None:
    story.calls("fffff").wait(6).calls("iii").calls("f").wait(12).calls("i").calls("s").calls("fffff")


def _stragglers(story: Story) -> None:
    old = [story.begin() for _ in range(12)]
    story.calls("fffff")
    for call in old[:6]:
        story.end(call, "success")
    story.wait(6)
    probe = story.begin()
    second = story.begin()
    for call in old[6:9]:
        story.end(call, "failure")
    story.end(second, "success")
    story.end(probe, "success")
    for call in old[9:]:
        story.end(call, "failure")
    story.calls("ffff").calls("s")


def _chance(story: Story) -> None:
    dice, under_way = random.Random(15), list[int]()
    for _ in range(260):
        story.wait(dice.choice((0.0, 0.125, 0.25, 0.5, 2.0)))
        if under_way and (len(under_way) > 6 or dice.random() < 0.5):
            bad = 0.75 if 20 < story.at < 60 else 0.2
            end = dice.choice(("failure", "failure", "overload")) if dice.random() < bad else dice.choice(("success",) * 6 + ("ignore",))
            story.end(under_way.pop(dice.randrange(len(under_way))), end)
        else:
            under_way.append(story.begin())


STORIES: dict[str, tuple[str, Callable[[Story], None]]] = {
    "dead": ("a node dies, stays dead for a minute, and comes back", _dead),
    "half": ("a node fails half of the time, then a fifth, then a quarter", _half),
    "just_enough": ("just 80 % of 20 succeed, and then one less", _just_enough),
    "overload": ("refusals for load: they count in the share and fail probes, and make no row", _overload),
    "given_up": ("probes that are cancelled, again and again", _given_up),
    "stragglers": ("calls of before that end when the breaker has changed its mind", _stragglers),
    "chance": ("many calls at once, and a bad minute", _chance),
}


def trace_of(about: str, events: list[Event], draws: list[float]) -> Trace:
    """What the model decides of each event."""
    model = Model(DEFAULTS, draws)
    decided = [[*event, model.decide(event)] for event in events]
    config = {**DEFAULTS, "draws": draws}
    return {
        "machine": "breaker",
        "about": about,
        "config": config,
        "events": decided,
        "counted": {"held": model.held, "trips": model.trips},
    }


def traces() -> Iterator[tuple[str, Trace]]:
    """The golden traces, by name."""
    for name, (about, tell) in STORIES.items():
        story = Story()
        tell(story)
        yield name, trace_of(about, story.events, [0.5, 0.0, 0.75, 0.25, 0.875])


if __name__ == "__main__":
    for each, golden in traces():
        (FOLDER / f"breaker_{each}.json").write_text(as_text(golden), "utf-8")
