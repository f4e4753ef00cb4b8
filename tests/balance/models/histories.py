"""What happens to a set of nodes, as a list of events; and the same list played to the models.

Owns: the events that a golden trace consists of and hypothesis makes up, `play` for the models, and the writing of the golden traces
(`python -m tests.balance.models.histories`, after a change that is meant). An event is a list whose first word says what happens:

    ["pass", seconds]                          time goes by
    ["choose", key or null, [places], keep]    a call; it has been to the nodes chosen last, counting back from 0
    ["end", place, "ok"|"failed"|"let_go"]     the attempt at that place among those in flight is over
    ["leave", place]                           a node goes; the last one takes its place in the list
    ["join", weight, new]                      a node comes, at the end of the list
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.balance.models import pick
from tests.balance.models.load import History

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NAMES = ("p2c", "round_robin", "weighted_round_robin", "random", "weighted_random", "least_loaded", "hash")
WINDOW_S = 30.0
LEAST = 0.1
PENALTY_S = 5.0

Event = list[Any]


@dataclass
class Modelled:
    """A node as the models know it."""

    key: str
    weight: float
    began_at: float
    history: History


class Dice:
    """Numbers that come out one by one and then from the beginning again. The real machine and the model get the same."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers
        self.thrown = 0

    def random(self) -> float:
        self.thrown += 1
        return self.numbers[(self.thrown - 1) % len(self.numbers)]

    def uniform(self, a: float, b: float) -> float:
        raise AssertionError("pickers throw plain dice only")

    def getrandbits(self, k: int) -> int:
        raise AssertionError("pickers throw plain dice only")

    def randrange(self, start: int, stop: int | None = None) -> int:
        raise AssertionError("pickers throw plain dice only")


def name_of(number: int) -> str:
    return f"tcp://10.0.{number // 250}.{number % 250}:7000"


def play(name: str, events: list[Event], dice: Dice) -> tuple[list[str], bool]:
    """What the model of that picker chooses; and whether it got to the end, which it does not where rounding would decide."""
    choose = pick.make(name)
    nodes: list[Modelled] = []
    chosen: list[str] = []
    in_flight: list[tuple[Modelled, float]] = []
    now, joined = 1000.0, 0
    for event in events:
        match event:
            case ["pass", seconds]:
                now += seconds
            case ["join", weight, new]:
                nodes.append(Modelled(name_of(joined), weight, now if new else float("-inf"), History(weight=weight)))
                joined += 1
            case ["leave", place] if nodes:
                nodes[place % len(nodes)] = nodes[-1]
                nodes.pop()
            case ["end", place, how] if in_flight:
                node, started = in_flight.pop(place % len(in_flight))
                ended(node.history, started, now, how)
            case ["choose", key, places, keep] if nodes:
                tried = [chosen[-1 - place] for place in places if place < len(chosen)]
                views = [view_of(node, now) for node in nodes]
                try:
                    chosen.append(choose(views, key, tried, dice.random))
                except pick.TooClose:
                    return chosen, False
                if keep:
                    node = next(node for node in nodes if node.key == chosen[-1])
                    node.history.began(now)
                    in_flight.append((node, now))
    return chosen, True


def ended(history: History, started: float, now: float, how: str) -> None:
    """What an end says: an answer its time, a failure at least the penalty, a call given up that it was slower than thought, if it was."""
    history.in_flight -= 1
    if how == "ok":
        history.heard(now - started, now)
    elif how == "failed":
        history.heard(max(now - started, PENALTY_S), now)
    elif now - started > history.estimate():
        history.heard(now - started, now)


def view_of(node: Modelled, now: float) -> pick.View:
    warmth = min(1.0, max(LEAST, (now - node.began_at) / WINDOW_S))
    return pick.View(
        node.key, node.weight, warmth, node.history.in_flight, node.history.load(now), node.history.estimate(), node.history.pace(now)
    )


# ------------------------------------------------------------------------------------------------------------- golden traces


def invented(seed: int, nodes: int, length: int) -> list[Event]:
    """A history by chance: some nodes to begin with, then calls above all."""
    rng = random.Random(seed)
    events: list[Event] = [["join", rng.choice([1.0, 1.0, 2.0, 3.0, 0.5]), rng.random() < 0.2] for _ in range(nodes)]
    for _ in range(length):
        kind = rng.choices(["choose", "end", "pass", "leave", "join"], [50, 40, 30, 2, 2])[0]
        if kind == "choose":
            key = f"key {rng.randrange(40)}" if rng.random() < 0.8 else None
            events.append(["choose", key, [0, 1, 2][: rng.choice([0, 0, 0, 1, 2, 3])], rng.random() < 0.9])
        elif kind == "end":
            events.append(["end", rng.randrange(50), rng.choice(["ok", "ok", "ok", "failed", "let_go"])])
        elif kind == "pass":
            events.append(["pass", round(rng.expovariate(5.0), 6)])
        elif kind == "leave":
            events.append(["leave", rng.randrange(50)])
        else:
            events.append(["join", rng.choice([1.0, 2.0, 5.0]), rng.random() < 0.7])
    return events


def dice_of(seed: int) -> Dice:
    rng = random.Random(f"dice {seed}")
    return Dice([rng.random() for _ in range(997)])


def write() -> None:
    """Make the golden traces anew from the models."""
    for number, name in enumerate(NAMES):
        traces = []
        for nodes, length in ((1, 60), (3, 400), (5, 400), (50, 250)):
            for seed in range(1000 * number, 1000 * number + 100):
                events = invented(seed, nodes, length)
                chosen, whole = play(name, events, dice_of(seed))
                if whole and len(chosen) > length // 4:
                    break
            traces.append({"nodes": nodes, "dice_seed": seed, "events": events, "chosen": chosen})
        lines = ",\n".join(json.dumps(trace, separators=(",", ":")) for trace in traces)
        (GOLDEN / f"{name}.json").write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    write()
