"""The stages a campaign's world goes through, and how everybody in it keeps step: clients say how far they are, and somebody leads.

Owns: who has come how far, the storm of each client, and the first invariant that was seen broken. What may never be here: what a campaign
calls, draws or judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import holdfast
from holdfast.sim import InvariantBroken, Killed, World

HANG_S = 60.0
"""After the calm, longer than any deadline, heartbeat and handler that was drawn, one after the other. What moves does not hang."""


class Stage:
    """The stages, and who has come how far. `truth` is what is known of the world, `drawn` what was drawn for it.

    Attributes:
        look_s: how often somebody looks whether the next stage has come.
        kept: what each client has still to begin, by its name and by key.
    """

    look_s: float

    def __init__(self, world: World, truth: Any, drawn: Any) -> None:
        self.world = world
        self.truth = truth
        self.drawn = drawn
        self.reached: dict[str, set[str]] = {}
        self.kept: dict[str, dict[str, Any]] = {}
        self.servers: list[tuple[Any, holdfast.Server]] = []
        self.clients: list[tuple[Any, holdfast.Client]] = []

    async def until(self, name: str) -> None:
        """Wait until the world has come to that stage."""
        while self.truth.stage != name and not self.truth.broken:  # noqa: ASYNC110 # hosts share no event, as processes do not
            await asyncio.sleep(self.look_s)

    def done(self, stage: str, who: str) -> None:
        """That client is through with a stage."""
        self.reached.setdefault(stage, set()).add(who)


async def storm(stage: Stage, party: Any, do: Callable[[Any], Coroutine[Any, Any, None]], calm_at_s: float) -> None:
    """Do what was drawn for a client, each operation at its time; return when all have ended and the faults are over."""
    world, truth, todo = stage.world, stage.truth, stage.kept[party.name]
    running: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    while todo:
        key = next(iter(todo))
        if todo[key].at_s > world.now():
            await asyncio.sleep(todo[key].at_s - world.now())
        op = todo.pop(key)
        running.append(loop.create_task(do(op), name=f"do {op.key}"))
    while world.now() < calm_at_s:  # noqa: ASYNC110 # a clock that drifts wakes us too early
        await asyncio.sleep(calm_at_s - world.now() + 0.001)
    if running:
        for each in sorted(await hanging(truth, running), key=lambda task: task.get_name()):
            truth.require(False, "no-hang", f"{each.get_name()} had not ended after the calm, and nothing had moved for {HANG_S:g} s")
        for each in running:
            if each.done() and each.exception() is not None:
                raise each.exception()  # type: ignore[misc]
    stage.done("storm", party.name)


async def hanging(truth: Any, running: list[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait until all have ended; return those that have not, after HANG_S in which nothing moved: two megabytes may take a minute."""
    late, seen = {each for each in running if not each.done()}, -1  # a hundred that are done would keep the host busy, and make others late
    while late and truth.moved != seen:
        seen = truth.moved
        _, late = await asyncio.wait(late, timeout=HANG_S)
    return late


async def settled(stage: Stage, left: Callable[[], list[str]], within_s: float, invariant: str = "nothing-left") -> None:
    """Wait until nothing is left. Notes the invariant when that does not come."""
    until = stage.world.now() + within_s
    while found := left():
        if stage.world.now() >= until:
            stage.truth.require(False, invariant, "; ".join(found))
            return
        await asyncio.sleep(stage.look_s)


async def meet(stage: Stage, name: str, also: tuple[str, ...] = ()) -> None:
    """Wait until all clients are through with a stage."""
    wanted = {party.name for party in stage.drawn.parties} | set(also)
    while not wanted <= stage.reached.get(name, set()):
        stop_at_first(stage)
        await asyncio.sleep(stage.look_s)
    stop_at_first(stage)


def stop_at_first(stage: Stage) -> None:
    """Raise the first invariant that was seen broken; what a process ended with counts."""
    if stage.truth.broken:
        raise stage.truth.broken[0]
    for process in stage.world._processes:
        failure = process.failure
        if failure is not None and not isinstance(failure, Killed):
            process.looked_at = True
            raise failure
    if stage.world.unhandled:
        raise InvariantBroken("loop-clean", stage.world.unhandled[0])
