"""The stages a campaign's world goes through, and how everybody in it keeps step: clients say how far they are, and somebody leads.

Owns: who has come how far, and the first invariant that was seen broken. What may never be here: what a campaign calls, draws or judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import holdfast
from holdfast.sim import InvariantBroken, Killed, World


class Stage:
    """The stages, and who has come how far. `truth` is what is known of the world, `drawn` what was drawn for it.

    Attributes:
        look_s: how often somebody looks whether the next stage has come.
    """

    look_s: float

    def __init__(self, world: World, truth: Any, drawn: Any) -> None:
        self.world = world
        self.truth = truth
        self.drawn = drawn
        self.reached: dict[str, set[str]] = {}
        self.servers: list[tuple[Any, holdfast.Server]] = []
        self.clients: list[tuple[Any, holdfast.Client]] = []

    async def until(self, name: str) -> None:
        """Wait until the world has come to that stage."""
        while self.truth.stage != name and not self.truth.broken:  # noqa: ASYNC110 # hosts share no event, as processes do not
            await asyncio.sleep(self.look_s)

    def done(self, stage: str, who: str) -> None:
        """That client is through with a stage."""
        self.reached.setdefault(stage, set()).add(who)


async def settled(stage: Stage, left: Callable[[], list[str]], within_s: float) -> None:
    """Wait until nothing is left. Notes `nothing-left` when that does not come."""
    until = stage.world.now() + within_s
    while found := left():
        if stage.world.now() >= until:
            stage.truth.require(False, "nothing-left", "; ".join(found))
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
