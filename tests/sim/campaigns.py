"""Small scenarios that worker processes and the command line can find by file and name."""

from __future__ import annotations

import asyncio
import os
import sys

from holdfast.sim import InvariantBroken, Scenario, World, operations


async def _fails_now_and_then(world: World) -> None:
    print("said by a scenario")
    todo = operations(world, [f"put {number}" for number in range(8)], "c1")
    await asyncio.sleep(1.0)
    world.reached("the end")
    if world.seed % 10 == 3 and "put 5" in todo:
        raise InvariantBroken("never three", f"seed {world.seed}")


async def _fine(world: World) -> None:
    await asyncio.sleep(1.0)
    world.reached("the end")


async def _dies(world: World) -> None:
    if world.seed == 2:
        print("my last words", file=sys.stderr, flush=True)
        os._exit(7)
    await asyncio.sleep(1.0)


async def _hangs(world: World) -> None:
    while world.seed == 2:
        pass
    await asyncio.sleep(1.0)


async def bare_assert(world: World) -> None:
    await asyncio.sleep(0)
    assert world.seed == -1


fails_now_and_then = Scenario(name="fails_now_and_then", body=_fails_now_and_then, sometimes=("the end",))
fine = Scenario(name="fine", body=_fine, sometimes=("the end",))
never_reaches = Scenario(name="never_reaches", body=_fine, sometimes=("the moon",))
dies = Scenario(name="dies", body=_dies)
hangs = Scenario(name="hangs", body=_hangs)
