"""The ledger itself: when a host is behind, and who is late all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holdfast.sim import World
from tests.sim.spine.truth import LATE_S
from tests.sim.stages import play

from .truth import Truth, spying

CALLS = 200
"""So many that to tell all of them takes longer than LATE_S, at 100 millionths each."""

PHYSICS: dict[str, Any] = {"callback_s": 100e-6, "timer_slack_s": 0.0}


def told(disturb: Callable[[World, asyncio.AbstractEventLoop], None], oversleeps_s: float = 0.0) -> tuple[float, list[str]]:
    """How late the last of many was that were due one after the other, in all of half a second, and what the ledger said of them.

    Args:
        disturb: what happens in the middle of that. oversleeps_s: how long one waits after its host has caught up with the others.
    """
    late: list[float] = []

    async def scenario(world: World) -> list[str]:
        truth = Truth(world)

        async def waits(truth: Truth, seconds: float) -> None:
            loop = asyncio.get_running_loop()
            due_at = loop.time() + seconds
            await asyncio.sleep(seconds)
            if seconds == 0.25 and oversleeps_s:
                await asyncio.sleep(0.5)  # by then everybody else is done
                due_at = loop.time()
                await asyncio.sleep(oversleeps_s)
            truth.in_time("a caller", due_at)
            late.append(loop.time() - due_at)

        async def main() -> None:
            asyncio.get_running_loop().call_later(0.2, disturb, world, asyncio.get_running_loop())
            await asyncio.gather(*(waits(truth, 0.25 + 0.25 * number / CALLS) for number in range(CALLS)))

        with spying(truth):
            await world.host("ada").start(main)
        return [each.invariant for each in truth.broken]

    found: list[str] = play(scenario, **PHYSICS)
    return max(late), found


def nothing(world: World, loop: asyncio.AbstractEventLoop) -> None:
    """The host goes on."""


def held_up(world: World, loop: asyncio.AbstractEventLoop) -> None:
    """It gets no processor for half a second: everybody is due at once."""
    world.host("ada").apply("stall", 0.5)


def paused(world: World, loop: asyncio.AbstractEventLoop) -> None:
    """The whole machine stands still."""
    world.host("ada").pause(0.5)


def test_what_piled_up_while_a_host_was_held_up_is_not_its_callers_fault() -> None:
    """Seed 744: a callback stalled for 0.7 s, and then it took 12 ms to tell everybody who had been due meanwhile."""
    for disturb in (held_up, paused):
        late_s, broken = told(disturb)
        assert late_s > 0.2, "nobody was held up"
        assert broken == []


def test_who_waits_on_when_its_host_has_caught_up_is_late() -> None:
    assert told(held_up, oversleeps_s=2 * LATE_S)[1] == ["deadline"]
    assert told(paused, oversleeps_s=2 * LATE_S)[1] == ["deadline"]


def test_who_is_late_where_nothing_happens_is_late() -> None:
    assert told(nothing)[1] == []
    assert told(nothing, oversleeps_s=2 * LATE_S)[1] == ["deadline"]


def test_a_busy_host_that_nothing_held_up_is_not_behind() -> None:
    """The ten milliseconds are for everybody together: work that the callers themselves make is no excuse."""

    def busy(world: World, loop: asyncio.AbstractEventLoop) -> None:
        async def turn() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        for _ in range(CALLS):
            loop.create_task(turn())

    assert "deadline" in told(busy)[1]


def test_callbacks_that_stall_put_a_host_behind_until_it_sleeps() -> None:
    """One stalls, and what waited for it is told late; what is late after that is late by itself."""

    async def scenario(world: World) -> list[str]:
        truth = Truth(world)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            for _ in range(50):
                due_at = loop.time() + 0.01
                await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(CALLS)))
                truth.in_time("who waited for all of them", due_at)
            assert truth.broken == [], truth.broken[0]
            due_at = loop.time()
            await asyncio.sleep(0.5)
            truth.in_time("one who overslept", due_at)

        with spying(truth):
            await world.host("ada").start(main)
        return [each.invariant for each in truth.broken]

    options = PHYSICS | {"callback_s": 1e-6, "stall_chance": 0.02, "stall_max_s": 0.1}
    assert play(scenario, **options) == ["deadline"]
