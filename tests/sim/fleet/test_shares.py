"""What a bad node gets: one that is slow, and one that fails at once, among good ones. And what it gets when the client does not look."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

import holdfast
from holdfast import errors, facts
from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.retry import RetryConfig
from holdfast.sim import World
from tests.sim.stages import play

from .town import CALM, Load, here, start, steady

NODES = tuple(f"n{number}" for number in range(5))
WORK_S = 0.005
SLOW = 100
RATE = 500.0
BLIND = holdfast.ClientConfig(
    balance=BalanceConfig(picker="round_robin"),
    breaker=BreakerConfig(mode="off"),
    eject=EjectConfig(mode="off"),
    retry=RetryConfig(beside=False),
)

svc = holdfast.Service("t")


class City:
    """How the first node is, and what each got."""

    world: Any = None
    mood = ""
    got: list[tuple[float, str]]


@svc.method(idempotent=True)
async def work(number: int) -> int:
    node = here(City.world)
    City.got.append((City.world.now(), node))
    bad = node == "n0"
    if bad and City.mood == "failing":
        raise errors.Overloaded("it did nothing, and says so")
    await asyncio.sleep(WORK_S * (SLOW if bad and City.mood == "slow" else 1))
    return number


@svc.method(idempotent=True)
async def broken(number: int) -> int:
    node = here(City.world)
    City.got.append((City.world.now(), node))
    if node == "n0" and City.mood:
        raise RuntimeError("a mistake of ours")
    await asyncio.sleep(WORK_S)
    return number


def city(mood: str, seconds: float, config: holdfast.ClientConfig | None = None, method: str = "t.work", rate: float = RATE) -> Load:
    """Calls to five nodes, one of which is bad from the first second on."""
    load = Load()
    City.mood, City.got = "", []

    async def scenario(world: World) -> None:
        City.world = world
        url = start(world, svc, *NODES)

        async def main() -> None:
            async with holdfast.connect(url, config=config, emit=load.facts.append, seed=1, insecure=True) as client:
                await client.ready()
                asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 2.0 - world.now(), setattr, City, "mood", mood)
                view = client.using(deadline=5.0)
                await steady(world, load, lambda number: view.call(method, number, returns=int), rate, 1.0, 2.0 + seconds)

        await world.host("ada").start(main)

    play(scenario, **CALM)
    return load


def share(begin_s: float, end_s: float) -> float:
    """What the bad node got of the attempts of that time."""
    got = Counter(node for at, node in City.got if begin_s <= at < end_s)
    return got["n0"] / got.total()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_slow_node_gets_next_to_nothing_and_nobody_notices() -> None:
    healthy = city("", 5.0).percentile(0.99, 2.0, 7.0)
    load = city("slow", 15.0)
    assert share(7.0, 17.0) <= 0.005
    assert load.percentile(0.99, 7.0, 17.0) <= 2 * healthy
    assert not load.failed


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_slow_node_is_noticed_by_those_who_look() -> None:
    load = city("slow", 6.0, BLIND)
    assert share(7.0, 8.0) > 0.15
    assert load.percentile(0.99, 7.0, 8.0) > 0.4


def test_a_node_that_fails_at_once_gets_next_to_nothing_within_a_second() -> None:
    load = city("failing", 4.0)
    assert share(3.0, 6.0) <= 0.02
    assert not load.failed, "all of them went to another node"


def test_a_node_with_a_mistake_gets_next_to_nothing_within_a_second() -> None:
    load = city("failing", 4.0, method="t.broken")
    assert share(3.0, 6.0) <= 0.02
    assert len(load.failed) <= 20, "a mistake is an answer: these calls are not made again"


def test_a_node_that_fails_at_once_gets_its_fifth_from_those_who_do_not_look() -> None:
    city("failing", 2.0, BLIND)
    assert share(3.0, 4.0) > 0.15


def test_after_as_many_failures_as_the_breaker_takes_one_attempt_goes_in_for_each_time_it_is_open() -> None:
    balance = BalanceConfig(picker="round_robin", slow_start_s=0.0)
    config = holdfast.ClientConfig(breaker=BreakerConfig(open_base_s=1.0, open_cap_s=2.0), eject=EjectConfig(mode="off"), balance=balance)
    load = city("failing", 12.0, config, method="t.broken", rate=50.0)
    trips = [fact for fact in load.facts if isinstance(fact, facts.BreakerChanged) and fact.state == "open"]
    probes = [fact for fact in load.facts if isinstance(fact, facts.BreakerChanged) and fact.state == "probing"]
    bad = [at for at, node in City.got if node == "n0" and at >= 2.0]
    assert len(trips) >= 5
    assert trips[0].reason == "5 failures in a row"
    assert len(bad) == 5 + len(probes), "five that tripped it, and one probe for each time"
    assert len(probes) <= len(trips)
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(bad[5:]))
