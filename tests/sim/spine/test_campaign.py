"""The order of a world: who hangs, and who is only slow; what is left of whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.sim import World
from tests.sim.stages import play
from tests.sim.staging import HANG_S, hanging

from .judging import left_in_process
from .truth import Truth


def waited_for(operation: Callable[[Truth], Awaitable[None]]) -> tuple[int, float]:
    """How many tasks are said to hang of an operation and one that ends at once, and after how many seconds."""

    async def scenario(world: World) -> tuple[int, float]:
        truth = Truth(world)

        async def running() -> None:
            await operation(truth)

        tasks = [asyncio.create_task(running()), asyncio.create_task(asyncio.sleep(0))]
        late = await hanging(truth, tasks)
        for task in late:
            task.cancel()
        return len(late), world.now()

    found: tuple[int, float] = play(scenario)
    return found


def test_an_upload_that_goes_on_for_minutes_does_not_hang() -> None:
    """`no-hang`, seed 24096: forty items of 40 kB through a buffer of 16 KiB, on a network of 60 kB/s, and a minute was not enough."""

    async def upload(truth: Truth) -> None:
        for _ in range(40):
            await asyncio.sleep(HANG_S / 10)
            truth.moved += 1

    late, ended_at = waited_for(upload)
    assert late == 0
    assert ended_at > 3 * HANG_S


def test_what_moved_once_and_then_no_more_hangs() -> None:
    async def stuck(truth: Truth) -> None:
        await asyncio.sleep(HANG_S / 2)
        truth.moved += 1
        await asyncio.Event().wait()

    late, told_at = waited_for(stuck)
    assert late == 1
    assert told_at < 2 * HANG_S + 1


def test_a_timer_that_outlives_its_owner_is_left() -> None:
    async def scenario(world: World) -> None:
        async def main() -> None:
            process: Any = world._engine.current
            assert left_in_process(process, None) == []
            timer = asyncio.get_running_loop().call_later(100.0, print)
            assert left_in_process(process, None) == ["timers of the loop ['print']"]
            timer.cancel()
            assert left_in_process(process, None) == []

        await world.host("ada").start(main)

    play(scenario)
