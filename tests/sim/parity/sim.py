"""Programs in a simulated world: both halves in one process, or each on a host of its own.

What may never happen here: a fault. These worlds are calm; what differs between seeds is latency, how TCP is cut, what callbacks cost and
which process runs first: all that a program may not depend on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from holdfast.sim import World, WorldOptions, run_world
from tests.sim.parity.papers import papers
from tests.sim.parity.stage import Board, Log, Program, Stage

PLACES = ("one process", "two hosts")
PHYSICS = (WorldOptions(), WorldOptions(slice_chance=0.9, callback_s=60e-6))
"""By turns: a world as it comes, and one in which TCP cuts nearly everything and callbacks are slow."""


class SimGround:
    """A second of virtual time is longer than any packet is under way."""

    async def arrived(self, transport: asyncio.BaseTransport, count: int) -> None:
        await asyncio.sleep(1)

    async def quiet(self) -> None:
        await asyncio.sleep(1)


def run_simulated(program: Program, seed: int, place: str, options: WorldOptions | None = None) -> Log:
    """The program's log in the world of this seed."""
    stages: dict[str, Stage] = {}

    async def scenario(world: World) -> None:
        board, ground = Board(), SimGround()
        if place == "one process":
            host = world.host("server")
            stages.update({name: Stage(board, ground, papers(), host="127.0.0.1", bind="127.0.0.1") for name in program.halves})

            async def together() -> None:
                async with asyncio.TaskGroup() as group:
                    for name, half in program.halves.items():
                        group.create_task(_half(half, stages[name]), name=f"{program}:{name}")

            await host.start(together)
        else:
            hosts = {name: world.host(name) for name in program.halves}
            address = hosts["server"].ipv4
            stages.update({name: Stage(board, ground, papers(), host=address, bind="0.0.0.0") for name in program.halves})
            processes = [hosts[name].start(_main(half, stages[name])) for name, half in program.halves.items()]
            for process in processes:
                await process

    run = run_world(scenario, seed, options=options or PHYSICS[seed % len(PHYSICS)])
    if run.failure is not None:
        raise run.failure
    assert run.unhandled == (), f"{program} left errors to a loop: {run.unhandled}"
    return {name: stage.facts for name, stage in stages.items()}


async def _half(half: Callable[[Stage], Awaitable[None]], stage: Stage) -> None:
    await half(stage)


def _main(half: Callable[[Stage], Awaitable[None]], stage: Stage) -> Callable[[], Awaitable[None]]:
    return lambda: _half(half, stage)
