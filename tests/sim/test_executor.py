"""Jobs of executors: no threads, and the times that threads would have given."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import time
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.sim import World
from tests.sim.stages import play


def after(seconds: float, call: Callable[..., Any], *args: Any) -> Any:
    """A job that takes its time."""
    time.sleep(seconds)
    return call(*args)


def test_what_a_job_sleeps_is_when_it_is_done_and_holds_up_nobody() -> None:
    async def scenario(world: World) -> None:
        async def tick() -> int:
            ticks = 0
            while not job.done():
                ticks += 1
                await asyncio.sleep(0.1)
            return ticks

        before = world.now()
        job = asyncio.ensure_future(asyncio.to_thread(after, 3, str, "done"))
        assert await tick() in range(28, 33)
        assert await job == "done"
        assert 3 <= world.now() - before < 3.2

    play(scenario)


def test_jobs_overlap_as_far_as_there_are_workers() -> None:
    def lasts(workers: int) -> float:
        async def scenario(world: World) -> float:
            loop = asyncio.get_running_loop()
            before = world.now()
            await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 1.0) for _ in range(6)))
            return world.now() - before

        return float(play(scenario, executor_workers=workers))

    assert [round(lasts(workers)) for workers in (1, 2, 3, 6)] == [6, 3, 2, 1]


def test_an_executor_of_ones_own_has_its_own_workers() -> None:
    async def scenario(world: World) -> float:
        loop = asyncio.get_running_loop()
        before = world.now()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, 1.0) for _ in range(4)))
        return world.now() - before

    assert round(play(scenario)) == 2


def added(x: int, *, y: int) -> int:
    time.sleep(2)
    return x + y


def test_submit_gives_a_future_that_is_done_in_time() -> None:
    async def scenario(world: World) -> tuple[Any, bool, float]:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        promise = pool.submit(added, 1, y=2)
        at_once = promise.done()
        wrong = pool.submit(lambda: 1 / 0)
        gone = pool.submit(print)
        assert gone.cancel()
        result = await asyncio.wrap_future(promise)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(wrong)
        return result, at_once, world.now()

    result, at_once, now = play(scenario)
    assert (result, at_once, round(now)) == (3, False, 2)


def test_errors_cancels_and_contexts_of_jobs() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        with pytest.raises(RuntimeError):
            await loop.run_in_executor(None, lambda: next(iter([])))
        name.set("me")
        assert await asyncio.to_thread(lambda: name.get()) == "me"
        assert await loop.run_in_executor(None, lambda: name.get()) == "nobody"
        with pytest.raises(RuntimeError, match="no running event loop"):
            await asyncio.to_thread(asyncio.get_running_loop)
        ran: list[int] = []
        waiting = [loop.run_in_executor(None, after, 1, ran.append, n) for n in range(3)]
        await asyncio.sleep(0.5)
        waiting[2].cancel()
        await asyncio.sleep(5)
        assert ran == [0, 1]

    play(scenario, executor_workers=1)


def test_a_job_calls_back_when_it_has_got_that_far() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        came: list[tuple[str, float]] = []
        begun = world.now()

        def job() -> None:
            time.sleep(1)
            loop.call_soon_threadsafe(lambda: came.append(("half", world.now() - begun)))
            time.sleep(1)

        await asyncio.to_thread(job)
        came.append(("done", world.now() - begun))
        assert [(what, round(when)) for what, when in came] == [("half", 1), ("done", 2)]

    play(scenario)


def test_a_job_of_a_process_that_is_killed_ends_nowhere() -> None:
    ran: list[str] = []

    async def scenario(world: World) -> None:
        async def main() -> None:
            await asyncio.to_thread(after, 1, ran.append, "first")
            ran.append("after")

        host = world.host("a")
        host.start(main)
        await world.sleep(0.5)
        host.kill()
        await world.sleep(5)

    play(scenario)
    assert ran == ["first"]


def test_shutting_down_waits_for_the_jobs() -> None:
    async def scenario(world: World) -> float:
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(None, time.sleep, 2.0)
        await loop.shutdown_default_executor()
        assert job.done()
        with pytest.raises(RuntimeError, match="shutdown"):
            loop.run_in_executor(None, print)
        return world.now()

    assert round(play(scenario)) == 2
