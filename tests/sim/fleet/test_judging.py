"""What is looked for in a client before a promise is held against it."""

from __future__ import annotations

import asyncio
from typing import Any

import holdfast
from holdfast.sim import World
from holdfast.wire import Settings
from tests.sim.stages import play

from .judging import misplaced, unheard
from .town import CALM, start

svc = holdfast.Service("t")


@svc.method(idempotent=True)
async def echo(text: str) -> str:
    return text


def test_a_connection_to_a_node_that_died_and_came_back_is_unheard_until_it_is_given_up() -> None:
    """Seed 840: nobody had noticed, the first call that went there was lost, and it was said to be lost because another node drained."""

    async def scenario(world: World) -> None:
        url = start(world, svc, "n0", "n1")
        config = holdfast.ClientConfig(wire=Settings(heartbeat_s=1.0))

        async def main() -> None:
            process: Any = world._engine.current
            async with holdfast.connect(url, config=config, seed=1, insecure=True) as client:
                await client.ready()
                await asyncio.sleep(0.3)
                assert unheard(client, process.clock, 0.0) == [], "both have welcomed us"
                world.host("n1").power_loss()
                world.host("n1").restart()
                died_at = world.now()
                await asyncio.sleep(0.1)
                assert len(unheard(client, process.clock, died_at)) == 2, "nothing was said since then"
                await asyncio.sleep(3.0)
                assert unheard(client, process.clock, died_at) == []
                assert len(client._core.balancer.ready) == 2, "one has answered, the other was connected to anew"

        await world.host("ada").start(main)

    play(scenario, **CALM)


def test_a_node_that_is_missing_in_the_list_is_seen_and_one_that_should_not_be_there() -> None:
    async def scenario(world: World) -> None:
        url = start(world, svc, "n0", "n1")

        async def main() -> None:
            async with holdfast.connect(url, seed=1, insecure=True) as client:
                await client.ready()
                await asyncio.sleep(0.3)
                balancer, now = client._core.balancer, client._core.now()
                assert list(misplaced(balancer, now)) == []
                lost = balancer.ready.pop()
                assert list(misplaced(balancer, now)) == [f"{lost.key} is not in the list, and should be"]
                balancer.ready.append(lost)
                lost.serving = False
                assert list(misplaced(balancer, now)) == [f"{lost.key} is in the list, and should not be"]
                lost.serving = True

        await world.host("ada").start(main)

    play(scenario, **CALM)
