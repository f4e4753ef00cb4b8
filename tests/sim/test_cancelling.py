"""Cancel everywhere: every suspension in both ways, each in a new world, and the mistakes it is there to find."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.sim.cancelling import Cut, cancel_everywhere
from holdfast.sim.history import InvariantBroken
from holdfast.sim.world import World


async def three_steps() -> str:
    for _ in range(3):
        await asyncio.sleep(0.1)
    return "done"


def test_it_is_cancelled_at_each_suspension_in_both_ways_and_run_once_undisturbed() -> None:
    ends: list[tuple[bool, str | None]] = []

    async def scenario(world: World, cut: Cut[str]) -> None:
        answer = await cut(three_steps())
        ends.append((cut.happened, answer))
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        await asyncio.sleep(1)

    assert cancel_everywhere(scenario) == 3
    undisturbed, cancelled = (False, "done"), (True, None)
    assert ends == [undisturbed, *[cancelled] * 3, undisturbed, *[cancelled] * 3, undisturbed]


def test_a_lock_that_is_not_given_back_is_found_with_the_line_it_waited_at() -> None:
    async def scenario(world: World, cut: Cut[None]) -> None:
        lock = asyncio.Lock()

        async def forgets() -> None:
            await lock.acquire()
            await asyncio.sleep(0.1)
            lock.release()

        await cut(forgets())
        assert not lock.locked(), "the lock is held"

    with pytest.raises(
        InvariantBroken, match=r"cancelled at suspension 1 \(test_cancelling.py:\d+ in forgets\), beginning to wait: the lock"
    ):
        cancel_everywhere(scenario)


def test_what_is_lost_only_when_it_was_just_woken_is_found() -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        taken: list[int] = []
        got = asyncio.get_running_loop().create_future()

        async def careless() -> None:
            taken.append(await got)  # what it waits for is given exactly once; a cancel after that loses it

        asyncio.get_running_loop().call_later(0.5, lambda: None if got.done() else got.set_result(7))
        await cut(careless())
        if got.done() and not got.cancelled() and not taken:
            raise InvariantBroken("nothing is lost", "7 was given and nobody has it")
        queue.put_nowait(1)

    with pytest.raises(InvariantBroken, match="cancelled at suspension 1 .*, just woken: nothing is lost"):
        cancel_everywhere(scenario)


def test_a_cancel_that_is_swallowed_is_found() -> None:
    async def scenario(world: World, cut: Cut[str]) -> None:
        async def deaf() -> str:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass
            return "went on"

        await cut(deaf())

    with pytest.raises(InvariantBroken, match="it was cancelled and went on to its end, with the result 'went on'"):
        cancel_everywhere(scenario)


def test_a_scenario_that_fails_undisturbed_says_so() -> None:
    async def scenario(world: World, cut: Cut[str]) -> None:
        await cut(three_steps())
        raise InvariantBroken("x", "y")

    with pytest.raises(InvariantBroken, match="undisturbed: x: y"):
        cancel_everywhere(scenario)


def test_a_scenario_that_cuts_nothing_is_refused() -> None:
    async def scenario(world: World, cut: Cut[str]) -> None:
        await three_steps()

    with pytest.raises(ValueError, match="never did `await cut"):
        cancel_everywhere(scenario)


def test_timeouts_and_task_groups_inside_work_as_ever() -> None:
    async def scenario(world: World, cut: Cut[int]) -> None:
        running = 0

        async def part() -> None:
            nonlocal running
            running += 1
            try:
                await asyncio.sleep(0.2)
            finally:
                running -= 1

        async def whole() -> int:
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.sleep(1)
            except TimeoutError:
                pass
            async with asyncio.TaskGroup() as group:
                group.create_task(part())
                group.create_task(part())
            return 5

        answer = await cut(whole())
        assert answer == (None if cut.happened else 5)
        assert running == 0

    assert cancel_everywhere(scenario) >= 2
