"""Campaigns in this process: every seed, each way to fail once, the points that must be reached, and the self-check."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from holdfast.errors import ConfigError
from holdfast.sim.explore import DETERMINISM, SELF_CHECK_EVERY, Interrupted, explore
from holdfast.sim.history import InvariantBroken
from holdfast.sim.scenario import Case, Scenario, operations
from holdfast.sim.world import World


async def fine(world: World) -> None:
    await asyncio.sleep(1.0)


async def fails_now_and_then(world: World) -> None:
    await asyncio.sleep(world.seed)
    if world.seed % 10 == 3:
        raise InvariantBroken("three", f"seed {world.seed}")
    assert world.seed % 10 != 7, "seven"


async def reaches(world: World) -> None:
    await asyncio.sleep(0)
    if world.seed == 7:
        world.reached("the seventh")
    world.reached("always")


def test_every_seed_is_run_once_and_a_report_adds_them_up() -> None:
    seen: list[int] = []

    async def noted(world: World) -> None:
        seen.append(world.seed)
        await asyncio.sleep(2.0)

    report = explore(noted, seeds=20, first=100)
    assert seen == [100, 100, *range(101, 120)]  # 100 is run twice: the self-check
    assert report.ok
    assert (report.scenario, report.seeds, report.asked, report.failed_seeds) == ("noted", 20, 20, ())
    assert report.virtual_s == pytest.approx(40.0, rel=0.1)


def test_each_way_to_fail_is_told_once_with_its_seeds() -> None:
    report = explore(fails_now_and_then, seeds=40)
    assert [each.seeds for each in report.found] == [(3, 13, 23, 33), (7, 17, 27, 37)]
    three, seven = report.found
    assert three.failure.signature == "three"
    assert seven.failure.signature.startswith("AssertionError at test_explore.py:")
    assert three.failure.message == "three: seed 3"
    assert three.failure.at_s == pytest.approx(3.0, rel=0.1)
    assert "fails_now_and_then" in three.failure.details
    assert report.failed_seeds == (3, 7, 13, 17, 23, 27, 33, 37)
    assert not report.ok


def test_it_stops_at_the_first_when_asked_and_says_how_far_it_was() -> None:
    report = explore(fails_now_and_then, seeds=40, stop_at_first=True)
    assert (report.seeds, report.asked, report.failed_seeds) == (4, 40, (3,))


def test_points_that_no_world_reached_fail_the_campaign_by_name() -> None:
    scenario = Scenario(name="reaches", body=reaches, sometimes=("the seventh", "the twentieth", "always"))
    report = explore(scenario, seeds=10)
    assert report.missing == ("the twentieth",)
    assert report.sometimes == {"always": 10, "the seventh": 1}
    assert not report.ok
    assert explore(Scenario(name="reaches", body=reaches, sometimes=("the seventh",)), seeds=10).ok


def test_points_are_not_judged_when_not_every_seed_was_run() -> None:
    async def fails_at_once(world: World) -> None:
        raise InvariantBroken("x", "y")

    report = explore(Scenario(name="f", body=fails_at_once, sometimes=("never",)), seeds=10, stop_at_first=True)
    assert report.missing == ()


def test_a_world_that_is_not_the_same_twice_is_found_and_shown_where_it_parts() -> None:
    runs = itertools.count()

    async def uses_something_from_outside(world: World) -> None:
        await asyncio.sleep(1.0)
        await asyncio.sleep(1.0 + next(runs))

    report = explore(uses_something_from_outside, seeds=SELF_CHECK_EVERY * 2 + 1)
    (found,) = report.found
    assert found.failure.signature == DETERMINISM
    assert found.seeds == (0, SELF_CHECK_EVERY, 2 * SELF_CHECK_EVERY)
    assert "the traces part at event" in found.failure.message
    assert found.shrunk is None


def test_the_first_of_each_way_to_fail_is_made_small() -> None:
    async def lost(world: World) -> None:
        for each in operations(world, [f"put {n}" for n in range(10)], "c1"):
            await asyncio.sleep(0.01)
            if each == "put 6":
                raise InvariantBroken("all there", each)

    (found,) = explore(lost, seeds=3).found
    assert found.shrunk is not None
    assert [each.text for each in found.shrunk.outcome.operations] == ["put 6"]
    assert (found.shrunk.events_before, found.shrunk.events) == (10, 1)
    assert explore(lost, seeds=3, shrinking=False).found[0].shrunk is None


def test_cases_of_a_corpus_are_run_first() -> None:
    seen: list[int] = []

    async def noted(world: World) -> None:
        seen.append(world.seed)

    report = explore(noted, seeds=2, first=1, cases=[Case(seed=41), Case(seed=42)])
    assert seen == [41, 42, 1, 2]
    assert report.asked == 4


def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[int, int, int]] = []
    explore(fails_now_and_then, seeds=5, shrinking=False, watch=lambda done, asked, failed: told.append((done, asked, failed)))
    assert told == [(1, 5, 0), (2, 5, 0), (3, 5, 0), (4, 5, 1), (5, 5, 1)]


def test_an_interrupt_ends_it_with_what_was_found() -> None:
    def watch(done: int, asked: int, failed: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        explore(fails_now_and_then, seeds=40, watch=watch)
    report = raised.value.report
    assert (report.seeds, report.asked, report.failed_seeds) == (12, 40, (3, 7))
    assert all(each.shrunk is None for each in report.found)


def test_what_worker_processes_could_not_find_is_refused() -> None:
    async def inside(world: World) -> None: ...

    with pytest.raises(ConfigError, match="inside cannot be imported by worker processes"):
        explore(inside, workers=2)


def test_what_is_no_scenario_is_refused() -> None:
    with pytest.raises(TypeError, match="is no scenario; expected an `async def`"):
        explore(lambda world: None)  # type: ignore[arg-type, return-value]
