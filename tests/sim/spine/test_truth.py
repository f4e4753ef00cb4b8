"""The ledger itself: what it calls late, and what it leaves to a host whose callbacks stall."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.sim import World
from tests.sim.stages import play

from .truth import LATE_S, Truth, spying


async def waits_in_line(truth: Truth, waited: list[float]) -> None:
    """Asks whether it was in time when five more callbacks have run after the deadline, as a caller's task does that waits for others."""
    loop = asyncio.get_running_loop()
    due_at = loop.time() + 0.5
    await asyncio.sleep(0.5)
    for _ in range(5):
        await asyncio.sleep(0)
    truth.in_time("the caller", due_at)
    waited.append(loop.time() - due_at)


def lateness(late_s: float = 0.0, **options: Any) -> tuple[list[float], list[str]]:
    """How late a caller was in twenty worlds, and what the ledger said of it; `late_s`: what is its own fault."""
    waited: list[float] = []
    told: list[str] = []

    async def scenario(world: World) -> None:
        truth = Truth(world)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            await waits_in_line(truth, waited)
            due_at = loop.time()
            if late_s:
                await asyncio.sleep(late_s)
                truth.in_time("one who overslept", due_at)

        with spying(truth):
            await world.host("ada").start(main)
        told.extend(each.invariant for each in truth.broken)

    for seed in range(20):
        play(scenario, seed, **options)
    return waited, told


def test_any_number_of_callbacks_may_stall_in_a_row() -> None:
    """Seed 4190: four did, between a deadline and the caller that heard of it; three were thought to be the most."""
    waited, told = lateness(stall_chance=0.9, stall_max_s=0.1)
    assert max(waited) > LATE_S + 3 * 0.1, "these worlds are too calm"
    assert told == []


def test_what_is_late_by_itself_is_late_where_callbacks_stall_too() -> None:
    """To allow for several of the longest stalls at any time hid whoever was late by less."""
    _, told = lateness(late_s=0.2, stall_chance=0.02, stall_max_s=0.1)
    assert told == ["deadline"] * 20


def test_who_is_in_time_is_told_nothing_of_and_who_is_late_is() -> None:
    assert lateness()[1] == []
    assert lateness(late_s=2 * LATE_S)[1] == ["deadline"] * 20
