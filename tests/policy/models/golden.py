"""The golden traces: what happened, and what was decided, as the reference models decide it.

`python -m tests.policy.models.golden` writes them down again, into `tests/policy/golden/`. A test holds the files against the models, so a
decision changes only on purpose, and another replays each trace on the real machine.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from holdfast import errors
from tests.policy.models.budget import BudgetModel
from tests.policy.models.classify import outcome_of
from tests.policy.models.hedge import HedgeModel
from tests.policy.models.throttle import ThrottleModel

FOLDER = Path(__file__).resolve().parent.parent / "golden"

Trace = dict[str, Any]
"""`machine`, `about`, `config`, `events` (lists: what, when, its arguments, what was decided) and `counted`."""


def on_grid(seconds: float) -> float:
    """Times are 64ths of a second: exact in binary, so that a limit is met or not met for both, and never almost."""
    return round(seconds * 64) / 64


# ---------------------------------------------------------------------------------------------------------------- budget


def budget_trace(about: str, config: dict[str, float], wanted: Iterator[tuple[str, float]]) -> Trace:
    model = BudgetModel(**config)
    events: list[list[Any]] = []
    for what, at in wanted:
        if what == "take":
            events.append([what, at, model.take(at)])
        elif what == "level":
            events.append([what, at, round(model.level(at), 6)])
            model.looked_at(at)
        else:
            getattr(model, what)(at)
            events.append([what, at])
    takes = [event[2] for event in events if event[0] == "take"]
    return {
        "machine": "budget",
        "about": about,
        "config": config,
        "events": events,
        "counted": {"taken": takes.count(True), "denied": takes.count(False)},
    }


def steady(seed: int, *, calls_per_s: float, for_s: float, failing: Callable[[float], float]) -> Iterator[tuple[str, float]]:
    """Calls at a steady rate, a share of which fail; each failure wants two more attempts."""
    rng = random.Random(seed)
    for number in range(int(calls_per_s * for_s)):
        at = on_grid(100.25 + number / calls_per_s)
        yield "deposit", at
        for _ in range(2):
            if rng.random() >= failing(at - 100.25):
                yield "succeeded", at
                break
            yield "take", at
        if number % 10 == 0:
            yield "level", at


def burst() -> Iterator[tuple[str, float]]:
    for number in range(60):
        yield "deposit", on_grid(50 + number / 6)
    for _ in range(40):
        yield "take", 60.0
    for number in range(60):
        at = on_grid(60 + number / 6)
        yield "deposit", at
        yield "take", at
    yield "level", 90.0


def idle() -> Iterator[tuple[str, float]]:
    for at in (1.0, 1.5, 31.0, 31.0, 400.25):
        yield "deposit", at
        for _ in range(24):
            yield "take", at
        yield "level", at
    yield "succeeded", 400.5
    yield "level", 430.0


def budgets() -> Iterator[tuple[str, Trace]]:
    usual = {"share": 0.2, "floor_per_s": 10, "ttl_s": 10}
    yield (
        "partial",
        budget_trace("a tenth of calls fails: all are tried again", usual, steady(1, calls_per_s=12, for_s=20, failing=lambda t: 0.1)),
    )
    yield (
        "dead",
        budget_trace("nothing succeeds: the floor halves and halves", usual, steady(2, calls_per_s=4, for_s=34, failing=lambda t: 1.0)),
    )
    back = budget_trace(
        "nothing succeeds, then all does", usual, steady(3, calls_per_s=4, for_s=34, failing=lambda t: 1.0 if t < 23 else 0.3)
    )
    yield "back", back
    few = {"share": 0.2, "floor_per_s": 2, "ttl_s": 10}
    yield "burst", budget_trace("a burst takes all there is; what is paid in after it can be spent at once", few, burst())
    yield "idle", budget_trace("long pauses in which nothing is tried", few, idle())
    small = {"share": 0.5, "floor_per_s": 0.5, "ttl_s": 5}
    yield "small", budget_trace("other numbers", small, steady(4, calls_per_s=4, for_s=25, failing=lambda t: 0.8))
    none = {"share": 0.01, "floor_per_s": 0, "ttl_s": 10}
    yield "no_floor", budget_trace("as hedges have it: no floor", none, steady(5, calls_per_s=16, for_s=14, failing=lambda t: 0.5))


# ----------------------------------------------------------------------------------------------------------------- hedge


def hedge_trace(about: str, config: dict[str, float], wanted: Iterator[list[Any]]) -> Trace:
    model = HedgeModel(**config)
    events: list[list[Any]] = []
    for what, at, *more in wanted:
        if what == "record":
            model.record(more[0], at)
            events.append([what, at, *more])
        elif what == "deposit":
            model.own.deposit(at)
            events.append([what, at])
        elif what == "delay":
            events.append([what, at, model.delay_s(at)])
        else:
            events.append([what, at, *more, model.ask(at, *more)])
    return {"machine": "hedge", "about": about, "config": config, "events": events, "counted": {"sent": model.sent}}


def calls(
    seed: int, *, calls_per_s: float, for_s: float, latency: Callable[[random.Random, float], float], asked: Callable[[float], list[Any]]
) -> Iterator[list[Any]]:
    """Calls at a steady rate; one that takes longer than the delay asks to be hedged, as far as the trace can know it: every 7th does."""
    rng = random.Random(seed)
    for number in range(int(calls_per_s * for_s)):
        at = on_grid(1000 + number / calls_per_s)
        yield ["deposit", at]
        if number % 7 == 0:
            yield ["delay", at]
            yield ["ask", at, *asked(at - 1000)]
        yield ["record", at, round(latency(rng, at - 1000), 7)]


def hedges() -> Iterator[tuple[str, Trace]]:
    def usual(rng: random.Random, _at: float) -> float:
        return rng.lognormvariate(-4.6, 0.5)

    def fine(_at: float) -> list[Any]:
        return [5.0, False, 100.0, 1.0]

    def troubles(at: float) -> list[Any]:
        """Left, panic, level and fullness of the shared budget, each bad for a while."""
        return [0.004 if 10 <= at < 13 else None, 14 <= at < 16, 0.5 if 17 <= at < 19 else 40.0, 0.49 if 20 <= at < 22 else 0.5]

    def slower(rng: random.Random, at: float) -> float:
        return usual(rng, at) if at < 8 else rng.uniform(1.5, 3.0)

    five = {"extra": 0.05}
    yield "fine", hedge_trace("5 % extra, nothing wrong", five, calls(1, calls_per_s=12, for_s=34, latency=usual, asked=fine))
    yield "one_per_cent", hedge_trace("1 % extra", {"extra": 0.01}, calls(2, calls_per_s=16, for_s=24, latency=usual, asked=fine))
    yield "troubles", hedge_trace("each reason not to", five, calls(3, calls_per_s=16, for_s=24, latency=usual, asked=troubles))
    yield "slow", hedge_trace("all becomes slow, beyond the range", five, calls(4, calls_per_s=8, for_s=48, latency=slower, asked=fine))
    yield "rare", hedge_trace("too few calls for 1 %", {"extra": 0.01}, calls(5, calls_per_s=2, for_s=60, latency=usual, asked=fine))


# -------------------------------------------------------------------------------------------------------------- throttle


def throttle_trace(about: str, config: dict[str, float], wanted: Iterator[list[Any]]) -> Trace:
    """Every call has an outcome here, so that a throttle in shadow can be told: it must not learn from those it would have held back."""
    model = ThrottleModel(**config)  # type: ignore[arg-type]
    events: list[list[Any]] = []
    gone: list[int] = []
    for what, at, *more in wanted:
        if what == "begin":
            call, die = more
            admitted = model.admit(at, die)
            events.append([what, at, call, die, admitted])
            if not admitted:
                gone.append(call)
        else:
            call, outcome = more
            events.append([what, at, call, outcome])
            if call in gone:
                gone.remove(call)
            elif outcome != "nothing":
                getattr(model, outcome)(at)
        if len(events) % 50 == 0:
            events.append(["chance", at, round(model.chance(at), 9)])
    return {"machine": "throttle", "about": about, "config": config, "events": events, "counted": {"held": model.held}}


def served(seed: int, *, calls_per_s: float, for_s: float, accepting: Callable[[float], float], took_s: float) -> Iterator[list[Any]]:
    """Calls at a steady rate, each over after `took_s`; a share of them is accepted."""
    rng = random.Random(seed)
    open_calls: list[tuple[float, int, str]] = []
    for number in range(int(calls_per_s * for_s)):
        at = on_grid(500 + number / calls_per_s)
        while open_calls and open_calls[0][0] <= at:
            ended_at, call, outcome = open_calls.pop(0)
            yield ["end", ended_at, call, outcome]
        yield ["begin", at, number, round(rng.random(), 6)]
        outcome = "accepted" if rng.random() < accepting(at - 500) else rng.choice(["not_accepted"] * 3 + ["nothing"])
        open_calls.append((on_grid(at + took_s), number, outcome))


def throttles() -> Iterator[tuple[str, Trace]]:
    usual: dict[str, float] = {}
    half = throttle_trace("a fifth is accepted", usual, served(1, calls_per_s=8, for_s=32, accepting=lambda t: 0.2, took_s=0.5))
    yield "overload", half
    back = served(2, calls_per_s=8, for_s=45, accepting=lambda t: 0.0 if t < 22 else 1.0, took_s=0.25)
    yield "back", throttle_trace("nothing is accepted, then all", usual, back)
    rare = served(3, calls_per_s=4, for_s=30, accepting=lambda t: 0.0, took_s=0.25)
    yield "rare", throttle_trace("nothing is accepted of very few calls", usual, rare)
    quick = {"window_s": 12.0, "requests_per_accept": 1.5, "held_back_max": 0.5, "calls_min_per_s": 1.0, "recovered_after": 8}
    waves = served(4, calls_per_s=6, for_s=60, accepting=lambda t: 0.9 if int(t) // 10 % 2 else 0.3, took_s=0.75)
    yield "waves", throttle_trace("other numbers, and servers that come and go", quick, waves)


# -------------------------------------------------------------------------------------------------------------- classify


def classified() -> dict[str, str]:
    """Every class of error, with every fact an instance may narrow."""
    found = {}
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.HoldfastError)]
    for kind, executed, remote, connecting in itertools.product(kinds, (None, *get_args(errors.Executed)), (False, True), (False, True)):
        error = kind("x", executed=executed, remote=remote)
        error.connecting = connecting
        side = "remote" if remote else "local"
        found[f"{kind.__name__}-{error.code}-{error.executed}-{side}{'-connecting' if connecting else ''}"] = outcome_of(error)
    return found


# ----------------------------------------------------------------------------------------------------------------- files


def everything() -> Iterator[tuple[str, Any]]:
    """The name of each file and what belongs into it."""
    yield "classify.json", classified()
    for machine, traces in (("budget", budgets()), ("hedge", hedges()), ("throttle", throttles())):
        for name, trace in traces:
            yield f"{machine}_{name}.json", trace


def as_text(content: Any) -> str:
    """One event a line."""
    if "events" not in content:
        return json.dumps(content, indent=1) + "\n"
    head = {key: value for key, value in content.items() if key != "events"}
    lines = ",\n".join(json.dumps(event) for event in content["events"])
    return json.dumps(head)[:-1] + f', "events": [\n{lines}\n]}}\n'


def named(machine: str) -> list[str]:
    """The files of one machine."""
    return sorted(path.name for path in FOLDER.glob(f"{machine}_*.json"))


def read(name: str) -> Trace:
    """A trace as it is written down."""
    trace: Trace = json.loads((FOLDER / name).read_text("utf-8"))
    return trace


if __name__ == "__main__":
    for file, content in everything():
        (FOLDER / file).write_text(as_text(content), "utf-8")
        print(file)
