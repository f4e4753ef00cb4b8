"""How many attempts a call costs when calls fail: fifteen worlds, by how many fail and how many there are; and without a budget.

The promise: attempts / calls <= 1 + share + floor / rate, for runs at least as long as a payment can be spent, at any rate of failure.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast
from holdfast import errors
from holdfast.balance.strain import StrainConfig
from holdfast.control.budget import BudgetConfig
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.sim import World
from tests.sim.stages import play

from .town import CALM, Load, start, steady

SECONDS = 10.5
"""Longer than a payment can be spent."""

NODES = ("n0", "n1", "n2")
DEFAULTS = holdfast.ClientConfig()
BARE = holdfast.ClientConfig(breaker=BreakerConfig(mode="off"), throttle=ThrottleConfig(mode="off"), strain=StrainConfig(mode="off"))
"""The budget alone, with nothing beside it that keeps calls in: the promise is its own."""

svc = holdfast.Service("t")


class Fate:
    """Which attempts fail, and how many came."""

    attempts = 0
    passed_s = 0.0
    share = 0.0
    rng: Any = None


@svc.method(idempotent=True)
async def work(number: int) -> int:
    Fate.attempts += 1
    if Fate.rng.random() < Fate.share:
        raise errors.Overloaded("it did nothing, and says so")
    return number


def amplification(failing: float, rate: float, config: holdfast.ClientConfig, attempts: int = 3, seconds: float = SECONDS) -> float:
    """How many attempts the nodes saw for each call."""
    Fate.attempts, Fate.share = 0, failing

    async def scenario(world: World) -> float:
        Fate.rng = world.rng.stream("fate")
        url = start(world, svc, *NODES)
        load = Load()

        async def main() -> None:
            async with holdfast.connect(url, config=config, seed=1, insecure=True, attempts=attempts) as client:
                await client.ready()
                await asyncio.sleep(0.3)
                view = client.using(deadline=5.0)
                await steady(world, load, lambda number: view.call("t.work", number, returns=int), rate, 1.0, 1.0 + seconds)

        await world.host("ada").start(main)
        assert len(load.began) == seconds * rate
        Fate.passed_s = world.now() - load.began[0]
        return Fate.attempts / len(load.began)

    found: float = play(scenario, **CALM)
    return found


def bound(rate: float, config: holdfast.ClientConfig) -> float:
    """The promise, for calls that came in `SECONDS`; what is earned while the last of them end counts as well."""
    return 1 + config.budget.share + config.budget.floor_per_s / rate * (Fate.passed_s / SECONDS) + 1e-9


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("rate", [20.0, 200.0, 2000.0])
@pytest.mark.parametrize("failing", [0.01, 0.1, 0.5, 0.9, 1.0])
def test_retries_cost_no_more_than_promised(failing: float, rate: float) -> None:
    found = amplification(failing, rate, BARE)
    assert found <= bound(rate, BARE)
    assert found >= min(1 + failing / 2, bound(rate, BARE) - 0.11), "and what the budget has is used"


@pytest.mark.parametrize("failing", [0.1, 1.0])
def test_retries_cost_no_more_than_promised_at_a_low_rate(failing: float) -> None:
    assert 1.0 < amplification(failing, 20.0, BARE) <= bound(20.0, BARE)


@pytest.mark.parametrize("failing", [0.5, 1.0])
def test_where_all_nodes_refuse_a_retry_is_hardly_ever_sent(failing: float) -> None:
    """Strain: what was saved before is spent, and nothing is earned."""
    config = holdfast.ClientConfig(breaker=BARE.breaker, throttle=BARE.throttle)
    assert 1.0 < amplification(failing, 200.0, config) < 1.1


def test_with_all_policies_on_nobody_hammers_what_is_down() -> None:
    assert amplification(1.0, 200.0, DEFAULTS) < 1.0, "the throttle holds most of it back"


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_without_the_budget_the_promise_does_not_hold(mode: Any) -> None:
    config = holdfast.ClientConfig(budget=BudgetConfig(mode=mode), breaker=BARE.breaker, throttle=BARE.throttle, strain=BARE.strain)
    assert amplification(1.0, 50.0, config, attempts=5, seconds=3.0) > 4.5
