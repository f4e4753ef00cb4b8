"""Servers as queues: what they do one request at a time, that they agree with the textbook, and what two policies make of an overload."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from holdfast.clock import Streams
from holdfast.errors import Overloaded
from holdfast.sim.models import (
    Attempt,
    LoadModel,
    OverloadReport,
    Policy,
    ServiceTime,
    Trigger,
    exponential,
    fixed,
    judge_overload,
    lognormal,
    mixed,
)
from holdfast.sim.world import World, run_world
from holdfast.tasks import Scope

T = TypeVar("T")


def in_a_world(body: Callable[[], Awaitable[T]], seed: int = 1) -> T:
    """Run something in virtual time, and return what it returned."""
    answers: list[T] = []

    async def scenario(world: World) -> None:
        answers.append(await body())

    run = run_world(scenario, seed)
    if run.failure is not None:
        raise run.failure
    return answers[0]


# --------------------------------------------------------------------------------------------------------------- service times


@pytest.mark.parametrize(
    ("service", "mean_s"),
    [
        (fixed(0.5), 0.5),
        (exponential(0.2), 0.2),
        (mixed(fixed(0.1), fixed(1.1), rare_share=0.1), 0.2),
    ],
)
def test_a_service_time_has_its_mean(service: ServiceTime, mean_s: float) -> None:
    rng = Streams(1).stream("service")
    drawn = [service(rng) for _ in range(20_000)]
    assert statistics.fmean(drawn) == pytest.approx(mean_s, rel=0.05)
    assert min(drawn) >= 0


def test_a_long_tail_has_its_median_and_its_p99() -> None:
    rng, service = Streams(1).stream("service"), lognormal(0.01, 0.2)
    drawn = sorted(service(rng) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(0.01, rel=0.05)
    assert drawn[19_800] == pytest.approx(0.2, rel=0.15)


# -------------------------------------------------------------------------------------------------------------------- the server


def test_places_are_taken_in_order_the_queue_is_bounded_and_what_is_too_much_is_refused_at_once() -> None:
    ended: list[tuple[int, float]] = []

    async def body() -> LoadModel:
        server = LoadModel(fixed(1.0), Streams(1).stream("s"), workers=2, queue_max=2)
        loop = asyncio.get_running_loop()
        begun_at = loop.time()

        async def ask(number: int) -> None:
            try:
                await server.request()
                ended.append((number, round(loop.time() - begun_at, 1)))
            except Overloaded:
                ended.append((-number, round(loop.time() - begun_at, 1)))

        scope = Scope(pytest.fail)
        for number in range(1, 6):
            scope.spawn(ask(number))
        await asyncio.sleep(5)
        await scope.close(grace_s=1)
        return server

    server = in_a_world(body)
    assert sorted(ended) == [(-5, 0.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert (server.attempts, server.refused, server.finished, server.wasted, server.queued) == (5, 1, 4, 0, 0)


@pytest.mark.parametrize("notices", [False, True])
def test_a_caller_who_leaves_the_queue_is_worked_for_all_the_same_unless_the_server_notices(notices: bool) -> None:
    async def body() -> LoadModel:
        server = LoadModel(fixed(1.0), Streams(1).stream("s"), workers=1, queue_max=9, notices_cancel=notices)
        scope = Scope(pytest.fail)
        scope.spawn(server.request())
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await server.request()
        assert server.queued == (0 if notices else 1)
        await asyncio.sleep(5)
        await scope.close(grace_s=1)
        return server

    server = in_a_world(body)
    assert (server.finished, server.wasted) == ((1, 0) if notices else (2, 1))


def test_what_is_being_worked_on_is_finished_though_its_caller_left() -> None:
    async def body() -> LoadModel:
        server = LoadModel(fixed(1.0), Streams(1).stream("s"), workers=1, queue_max=0, notices_cancel=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await server.request()
        with pytest.raises(Overloaded, match="the queue is full: 0 wait"):
            await server.request()
        await asyncio.sleep(1)
        await server.request()
        return server

    server = in_a_world(body)
    assert (server.finished, server.wasted) == (2, 1)


def test_it_agrees_with_the_textbook_queue() -> None:
    """M/M/1 at 70 %: a request takes 1/(μ-λ) on average, waiting included."""

    async def body() -> float:
        server = LoadModel(exponential(0.1), Streams(2).stream("s"), workers=1, queue_max=10_000)
        arrivals, took = Streams(2).stream("a"), list[float]()
        loop = asyncio.get_running_loop()

        async def ask() -> None:
            begun_at = loop.time()
            await server.request()
            took.append(loop.time() - begun_at)

        scope = Scope(pytest.fail)
        for _ in range(6000):
            scope.spawn(ask())
            await asyncio.sleep(exponential(1 / 7)(arrivals))
        await asyncio.sleep(30)
        await scope.close(grace_s=1)
        return statistics.fmean(took)

    assert in_a_world(body) == pytest.approx(1 / (10 - 7), rel=0.15)


@pytest.mark.parametrize(("workers", "queue_max"), [(0, 1), (1, -1)])
def test_a_server_without_a_place_is_refused(workers: int, queue_max: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1 worker"):
        LoadModel(fixed(1.0), Streams(1).stream("s"), workers=workers, queue_max=queue_max)


# ------------------------------------------------------------------------------------------------------------------ the judgement

PATIENCE_S = 1.0
ATTEMPTS = 4


class Retries:
    """Asks again at once, up to four times; with a budget, only as long as retries are few of all calls."""

    def __init__(self, budget_share: float | None = None) -> None:
        self.share = budget_share
        self.tokens = 10.0

    async def __call__(self, attempt: Attempt) -> None:
        if self.share is not None:
            self.tokens = min(10.0, self.tokens + self.share)
        for number in range(ATTEMPTS):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await attempt()
                return
            except (TimeoutError, Overloaded):
                if number == ATTEMPTS - 1 or not self._may_retry():
                    raise

    def _may_retry(self) -> bool:
        if self.share is None:
            return True
        self.tokens -= 1.0 if self.tokens >= 1.0 else 0.0
        return self.tokens >= 1.0


def judged(policy: Policy, *, notices_cancel: bool = False, trigger: Trigger | None = None, seed: int = 1) -> OverloadReport:
    """Three quarters of the capacity of a server, which is then three times slower for ten seconds."""

    async def body() -> OverloadReport:
        streams = Streams(seed)
        server = LoadModel(exponential(0.05), streams.stream("service"), workers=2, queue_max=200, notices_cancel=notices_cancel)
        return await judge_overload(
            server,
            policy,
            streams.stream("arrivals"),
            rate_per_s=30,
            duration_s=160,
            trigger=trigger or Trigger(begin_s=20, end_s=30, slowdown=3),
        )

    return in_a_world(body, seed)


def test_naive_retries_stay_down_after_the_trigger_and_a_budget_recovers() -> None:
    naive, budget = judged(Retries()), judged(Retries(0.1))
    assert naive.goodput_before > 0.95
    assert budget.goodput_before > 0.95
    # The trigger ends at 30 s. Two minutes later one of them is still down, with the same load and the same server as before.
    assert naive.stays_down
    assert naive.goodput_after < 0.5
    assert naive.amplification_after > 3
    assert naive.wasted_share > 0.5
    assert "stays down after the trigger" in str(naive)
    assert not budget.stays_down
    assert budget.goodput_after > 0.95
    assert budget.amplification_after < 1.15
    assert budget.recovered_after_s is not None
    assert budget.recovered_after_s < 90
    assert "recovers" in str(budget)


def test_a_server_that_notices_who_left_recovers_under_naive_retries_too() -> None:
    assert not judged(Retries(), notices_cancel=True).stays_down


def test_more_load_pushes_it_over_as_well() -> None:
    flood = Trigger(begin_s=20, end_s=30, rate_factor=4)
    assert judged(Retries(), trigger=flood).stays_down
    assert not judged(Retries(0.1), trigger=flood).stays_down


def test_a_report_is_the_same_for_the_same_seed() -> None:
    assert judged(Retries(), seed=3) == judged(Retries(), seed=3)
    assert judged(Retries(), seed=3) != judged(Retries(), seed=4)


def test_a_policy_with_a_bug_is_not_taken_for_an_overloaded_one() -> None:
    async def broken(attempt: Attempt) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        judged(broken)


@pytest.mark.parametrize(("begin_s", "end_s"), [(0, 5), (20, 150), (30, 20)])
def test_a_trigger_outside_of_the_run_is_refused(begin_s: float, end_s: float) -> None:
    with pytest.raises(ValueError, match="expected it after the first 1 s and before the last quarter"):
        judged(Retries(), trigger=Trigger(begin_s=begin_s, end_s=end_s, slowdown=2))
