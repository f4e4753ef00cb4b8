"""One process's run on a real loop: open, closed, stalled, bounded, stopped."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from holdfast import testing
from holdfast.errors import Refused
from holdfast.tools.load.calls import Target, method_task
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.run import Load, Progress, Task
from holdfast.tools.load.tally import Measured, Tally
from tests.tools.load.helpers import STALL_S, histogram, shop


def no_progress(progress: Progress) -> None:
    """Nobody looks."""


def task_of(action: Callable[[int, float], Awaitable[object]], name: str = "x", weight: float = 1.0) -> Task:
    return Task(weight, Tally(name), [action])


async def ran(plan: Plan, *tasks: Task, process: int = 0) -> Measured:
    return await Load(plan, process, tasks, random.Random(1), no_progress).run(time.monotonic())


async def test_open_loop_sends_what_is_due_and_no_more() -> None:
    numbers: list[int] = []

    async def call(number: int, due_at: float) -> None:
        numbers.append(number)

    result = await ran(Plan(rate=400, duration_s=0.25, warmup_s=0.05), task_of(call))
    assert numbers == list(range(120))  # 20 of them warm-up
    assert (result.sent, result.ok, result.not_sent, result.unfinished) == (100, 100, 0, 0)
    assert sum(slot.ok for slot in result.slots) == 100
    assert result.elapsed_s >= 0.25


async def test_calls_that_come_faster_than_the_alarm_is_set_leave_in_groups() -> None:
    numbers: list[int] = []

    async def call(number: int, due_at: float) -> None:
        numbers.append(number)

    result = await ran(Plan(rate=20_000, duration_s=0.1, warmup_s=0.0), task_of(call))
    assert sorted(numbers) == list(range(2000))
    assert result.ok == 2000


async def test_a_stall_of_the_server_is_in_the_latency_of_every_call_that_was_due() -> None:
    service, _ = shop()
    async with testing.client(service) as client:
        target = Target(method="shop.stall", shape="unary")
        task = method_task(target, lambda n: {"n": n, "at": 50}, [client], 5.0)
        # the server shares our loop here: what stands still is the one and the other, and the planned time does not care
        result = await ran(Plan(rate=500, duration_s=0.4, warmup_s=0.0), task)
    assert result.ok == 200
    latency = result.latency()
    assert latency.max >= STALL_S * 0.9
    waited = sum(count for bucket, count in enumerate(latency.snapshot().counts) if bucket >= histogram_bucket(0.05))
    assert waited >= 100  # a closed loop would have counted one


def histogram_bucket(seconds: float) -> int:
    return next(bucket for bucket, count in enumerate(histogram(seconds).snapshot().counts) if count)


async def test_latency_counts_from_the_due_moment_and_late_calls_are_counted() -> None:
    async def call(number: int, due_at: float) -> None:
        if number == 0:
            time.sleep(0.05)  # noqa: ASYNC251 # a client that is busy with itself

    result = await ran(Plan(rate=1000, duration_s=0.1, warmup_s=0.0), task_of(call))
    assert result.ok == 100
    assert result.late >= 40
    assert result.late_max_s >= 0.04
    assert result.latency().percentile(75) >= 0.01


async def test_what_is_due_while_too_many_are_open_is_counted_as_not_sent() -> None:
    gate = asyncio.Event()

    async def call(number: int, due_at: float) -> None:
        await gate.wait()

    plan = Plan(rate=500, duration_s=0.2, warmup_s=0.0, outstanding_max=10)
    asyncio.get_running_loop().call_later(0.4, gate.set)
    result = await ran(plan, task_of(call))
    assert (result.sent, result.ok) == (10, 10)
    assert result.not_sent == 90


async def test_closed_loop_keeps_so_many_open_and_counts_each() -> None:
    open_now = most = calls = 0

    async def call(number: int, due_at: float) -> None:
        nonlocal open_now, most, calls
        open_now += 1
        most = max(most, open_now)
        calls += 1
        await asyncio.sleep(0)
        open_now -= 1

    result = await ran(Plan(concurrency=7, duration_s=0.15, warmup_s=0.0), task_of(call))
    assert most == 7
    assert result.sent == result.ok == calls
    assert result.elapsed_s >= 0.15 - 1e-6  # sums of floats


@pytest.mark.parametrize("plan", [Plan(concurrency=2, duration_s=0.1, warmup_s=0.0), Plan(rate=200, duration_s=0.1, warmup_s=0.0)])
async def test_calls_that_never_wait_and_errors_at_once_do_not_hold_the_loop(plan: Plan) -> None:
    async def refused(number: int, due_at: float) -> None:
        raise Refused("sold out", code="aborted")

    async def broken(number: int, due_at: float) -> None:
        raise ValueError("a bug in the scenario")

    async def well(number: int, due_at: float) -> None:
        pass

    result = await ran(plan, task_of(refused, "refused"), task_of(broken, "broken"), task_of(well, "well"))
    assert set(result.errors) == {"aborted", "ValueError"}
    assert result.samples == {"aborted": "sold out", "ValueError": "a bug in the scenario"}
    assert result.ok > 0
    assert result.sent == result.done


async def test_warm_up_is_in_no_figure() -> None:
    async def call(number: int, due_at: float) -> None:
        if number < 11:
            raise Refused("not warm yet")

    result = await ran(Plan(rate=100, duration_s=0.1, warmup_s=0.105), task_of(call))  # between two calls: no rounding decides
    assert (result.sent, result.ok, result.errors) == (10, 10, {})


async def test_weights_decide_how_often_each_comes() -> None:
    async def call(number: int, due_at: float) -> None:
        pass

    result = await ran(Plan(rate=5000, duration_s=0.2, warmup_s=0.0), task_of(call, "look", 9.0), task_of(call, "buy", 1.0))
    look, buy = (step.ok for step in result.steps)
    assert look + buy == 1000
    assert 60 <= buy <= 140  # six sigma around 100; the seed is fixed besides


async def test_connections_take_turns() -> None:
    calls = [0, 0, 0]

    def action(index: int) -> Callable[[int, float], Awaitable[object]]:
        async def call(number: int, due_at: float) -> None:
            calls[index] += 1

        return call

    await ran(Plan(rate=600, duration_s=0.1, warmup_s=0.0, connections=3), Task(1.0, Tally("x"), [action(n) for n in range(3)]))
    assert calls == [20, 20, 20]


async def test_numbers_of_one_process_among_several() -> None:
    numbers: list[int] = []

    async def call(number: int, due_at: float) -> None:
        numbers.append(number)

    await ran(Plan(rate=300, duration_s=0.1, warmup_s=0.0, processes=3, connections=3), task_of(call), process=2)
    assert numbers == list(range(2, 30, 3))


@pytest.mark.parametrize("plan", [Plan(rate=200, duration_s=3600), Plan(concurrency=2, duration_s=3600)])
async def test_stopped_it_gives_what_was_counted(plan: Plan) -> None:
    first = asyncio.get_running_loop().create_future()

    async def call(number: int, due_at: float) -> None:
        await asyncio.sleep(0)
        if not first.done() and number > 5:
            first.set_result(None)
            load.stop()

    load = Load(msgspec.structs.replace(plan, warmup_s=0.0), 0, [task_of(call)], random.Random(1), no_progress)
    result = await load.run(time.monotonic())
    assert result.interrupted
    assert result.ok >= 5
    assert result.elapsed_s < 3600


async def test_calls_still_open_when_it_is_stopped_are_unfinished() -> None:
    started = 0

    async def call(number: int, due_at: float) -> None:
        nonlocal started
        started += 1
        if started == 3:
            load.stop()
        await asyncio.Event().wait()

    load = Load(Plan(rate=200, duration_s=3600, warmup_s=0.0), 0, [task_of(call)], random.Random(1), no_progress)
    result = await load.run(time.monotonic())
    assert (result.ok, result.interrupted) == (0, True)
    assert result.sent == result.unfinished >= 3


@pytest.mark.slow
async def test_progress_is_told_every_second_and_adds_up() -> None:
    told: list[Progress] = []

    async def call(number: int, due_at: float) -> None:
        pass

    load = Load(Plan(rate=100, duration_s=1.0, warmup_s=0.0), 0, [task_of(call)], random.Random(1), told.append)
    result = await load.run(time.monotonic())
    assert [round(progress.at_s) for progress in told] == [1]
    assert result.ok == 100
    assert 90 <= told[0].second.ok <= 100
