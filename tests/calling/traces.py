"""Calls on a day with a plot, and everything a client decided on it: what the merged way and the walked stack must have in common.

`python -m tests.calling.traces` writes the decisions down again, into `tests/calling/golden/`, as the walked stack makes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

import holdfast
from holdfast.balance.balancer import BalanceConfig
from holdfast.control.budget import BudgetConfig
from holdfast.errors import HoldfastError
from holdfast.facts import (
    BreakerChanged,
    CallEnded,
    CallExplained,
    CallHedged,
    CallHeldBack,
    CallRetried,
    NodeChanged,
    NodeEjected,
    PanicChanged,
    RetryDenied,
    StrainChanged,
)
from holdfast.handler import CallRecord
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from tests.calling.town import Town, run_exactly, told, town

FOLDER = Path(__file__).resolve().parent / "golden"
COMPARED = (
    BreakerChanged, CallEnded, CallHedged, CallHeldBack, CallRetried, NodeChanged, NodeEjected, PanicChanged, RetryDenied, StrainChanged
)  # fmt: skip

Way = Literal["merged", "walked", "explained"]
"""Past the stack; through it, as it was edited; through it, as calls are to be explained."""

Event = tuple[float, str, str]
"""When, which node (empty for all), what: how it answers from now on, or `lose`, `leave`, `down`, `up`."""


class Plot(msgspec.Struct, kw_only=True):
    """What happens.

    Attributes:
        about: in a sentence.
        calls: for how long, and how often a second; of three calls two are idempotent.
        deadline_s: of each call.
        patience_s: every fourth call is cancelled after this long.
    """

    about: str
    events: list[Event] = []
    seconds: float = 3.0
    calls_per_s: float = 40.0
    deadline_s: float | None = 2.0
    nodes: int = 3
    config: dict[str, Any] = {}
    only_get: bool = False
    patience_s: float | None = None


QUICK_BUDGET = BudgetConfig(share=0.2, floor_per_s=1.0, ttl_s=1.0)
HEDGED = {"hedge": HedgeConfig(mode="enforce", extra=0.05), "retry": RetryConfig(beside=False)}

PLOTS: dict[str, Plot] = {
    "calm": Plot(about="nothing is wrong"),
    "only": Plot(about="one node, which goes away and comes back", nodes=1, events=[(1.0, "a", "down"), (1.4, "a", "up")]),
    "slow": Plot(about="a node stands still", events=[(0.5, "a", "slow"), (2.0, "a", "ok")]),
    "busy": Plot(about="a node refuses", events=[(0.5, "b", "busy"), (1.5, "b", "busy for long"), (2.2, "b", "ok")]),
    "broken": Plot(
        about="a node fails, its breaker opens, a probe fails, and one succeeds",
        events=[(0.5, "c", "broken"), (6.0, "c", "ok")],
        seconds=16.0,
        calls_per_s=20.0,
        config={"balance": BalanceConfig(picker="round_robin", slow_start_s=0.0)},
    ),
    "lost": Plot(
        about="connections are cut under calls: first one of all that are open, then each of them",
        events=[(0.502, "a", "lose"), (1.003, "b", "lose"), (1.5, "c", "lose"), (2.052, "", "lose"), (2.577, "", "lose")],
    ),
    "leaving": Plot(about="nodes say goodbye, one after the other", events=[(0.5, "a", "leave"), (1.0, "b", "leave"), (1.0, "c", "leave")]),
    "refusing": Plot(about="all nodes are gone for a while", events=[(0.7, "", "down"), (1.4, "", "up")]),
    "storm": Plot(
        about="every node has too much to do: the budget runs dry, and calls are held back",
        events=[(0.5, "", "busy"), (3.0, "", "ok")],
        seconds=6.0,
        config={"budget": QUICK_BUDGET, "throttle": ThrottleConfig(mode="enforce", window_s=4.0, calls_min_per_s=1.0)},
    ),
    "callers": Plot(about="errors of the callers' own", events=[(0.5, "", "not found")]),
    "short": Plot(about="deadlines that are too short for two of the nodes", deadline_s=0.005),
    "no deadline": Plot(about="calls that wait for ever", deadline_s=None, events=[(0.5, "a", "slow"), (1.0, "b", "lose")]),
    "hedged": Plot(
        about="calls of a node that becomes slow are sent twice",
        events=[(6.0, "b", "slow"), (7.0, "b", "ok")],
        seconds=10.0,
        only_get=True,
        deadline_s=None,
        config=HEDGED,
    ),
    "impatient": Plot(
        about="callers who leave: at once, in the back-off, and beside a second attempt",
        events=[(0.5, "a", "slow"), (1.0, "b", "busy for long"), (1.5, "a", "ok"), (2.0, "b", "slow")],
        patience_s=0.9,
        config={"hedge": HedgeConfig(mode="enforce", extra=0.1)},
    ),
    "robin": Plot(about="by turns", events=[(0.5, "a", "busy")], config={"balance": BalanceConfig(picker="round_robin")}),
}


def _do(here: Town, event: Event) -> None:
    _, name, what = event
    for key in here.keys if not name else [f"memory://{name}"]:
        if what in ("lose", "leave", "down", "up"):
            getattr(here, what)(key)
        else:
            here.how[key] = what


async def _act(here: Town, client: holdfast.Client, plot: Plot) -> list[list[Any]]:
    """Make the calls; return how each ended: when, and with what."""
    ends: dict[int, list[Any]] = {}

    async def call(number: int, method: str) -> None:
        try:
            async with asyncio.timeout(plot.patience_s if number % 4 == 1 else None) as patience:
                came = await told(client.call(f"shop.{method}", n=number, returns=str, deadline=plot.deadline_s))
        except TimeoutError:
            assert patience.expired()
            came = "cancelled"
        says = [came.code, came.executed, str(came)] if isinstance(came, HoldfastError) else [came]
        ends[number] = [number, round(here.now(), 6), *says]

    moments: list[tuple[float, int, Any]] = [(event[0], 0, event) for event in plot.events]
    moments += [(0.1 + number / plot.calls_per_s, 1, number) for number in range(int(plot.seconds * plot.calls_per_s))]
    async with asyncio.TaskGroup() as calls:
        for at, kind, what in sorted(moments, key=lambda moment: moment[:2]):
            await here.until(at)
            if kind == 0:
                _do(here, what)
            else:
                calls.create_task(call(what, "get" if plot.only_get or what % 3 else "put"))
    return [ends[number] for number in sorted(ends)]


def _state(here: Town) -> dict[str, Any]:
    core, now = here.core, asyncio.get_running_loop().time()
    nodes = {}
    for key, node in core.balancer.nodes.items():
        gate: Any = node.gate
        counts = [node.attempts, node.failures, node.given_up, node.pending]
        nodes[key] = {"counts": counts, "cost": round(node.cost, 7), "breaker": [gate.state, gate.good, gate.bad, gate.row, gate.trips]}
    budget, throttle = core.budget, core.throttle
    hedged = {}
    if core.hedges is not None:
        delay = core.hedges.of("shop.get")
        hedged = {"sent": core.hedges.sent, "own": round(core.hedges.own.level(now), 6), "after_s": delay.delay_s(now)}
    return {
        "nodes": nodes,
        "budget": [round(budget.level(now), 6), budget.taken, budget.denied, budget.dark],
        "throttle": [
            throttle.held,
            throttle.calm,
            throttle._run,
            throttle._old_accepted + throttle.accepts,
            round(throttle.chance(now), 6),
        ],
        "hedged": hedged,
    }


def _told(fact: Any) -> list[Any]:
    return [type(fact).__name__, *[round(value, 6) if isinstance(value, float) else value for value in msgspec.structs.astuple(fact)]]


def play(plot: Plot, way: Way) -> dict[str, Any]:
    """Everything that was decided. Virtual time is exact, and what happens in one moment is sorted: turns of the loop are no decision."""

    async def main() -> dict[str, Any]:
        config = holdfast.ClientConfig(stack=(lambda stack: stack) if way == "walked" else None, explain_every=0, **plot.config)
        async with town([f"memory://{chr(ord('a') + place)}" for place in range(plot.nodes)], config=config) as here:
            told: list[CallRecord] = []
            ends = await _act(here, here.client.using(explain=told.append) if way == "explained" else here.client, plot)
            await here.until(here.now() + 5.0)
            here.nothing_is_held()
            state = _state(here)
            assert len(told) == (len(ends) if way == "explained" else 0)
        facts = sorted([at, *_told(fact)] for at, fact in here.facts if isinstance(fact, COMPARED) and at <= here.now())
        explained = sum(isinstance(fact, CallExplained) for _, fact in here.facts)
        return {"about": plot.about, "ends": ends, "attempts": sorted(here.log), "facts": facts, "explained": explained, "state": state}

    played: dict[str, Any] = json.loads(json.dumps(run_exactly(main)))
    return played


def as_text(played: dict[str, Any]) -> str:
    """A line for each end, attempt and fact."""
    parts = []
    for name, value in played.items():
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(each) for each in value)
            parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{" + ",\n".join(parts) + "}\n"


def path_of(name: str) -> Path:
    return FOLDER / f"{name.replace(' ', '_')}.json"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path_of(name).read_text("utf-8"))
    return found


def everything() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, plot in PLOTS.items():
        yield name, play(plot, "walked")


if __name__ == "__main__":
    for plot_name, content in everything():
        path_of(plot_name).write_text(as_text(content), "utf-8")
        print(plot_name)
