"""A call through the whole client, over three nodes with every policy on, cancelled at each of its suspensions: nothing of it is left.

Owns: one scenario for each way a call can go, and a model of what the policies should hold afterwards, which is kept by counting what was
seen on the outside: calls that were made, attempts that arrived at a node, and what the client said of itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import holdfast
from holdfast import errors, facts
from holdfast.control.budget import BudgetConfig
from holdfast.facts import Fact
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.limit import LimitConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.sim import Cut, World, WorldOptions, cancel_everywhere

from .judging import held_by_policies, left_in_client
from .town import CALM, here, start

NODES = ("n0", "n1", "n2")
BUDGET = BudgetConfig(floor_per_s=1.0, ttl_s=10.0)
CONFIG = holdfast.ClientConfig(
    budget=BUDGET,
    breaker=BreakerConfig(in_row=1, open_base_s=0.2, open_cap_s=0.2),
    hedge=HedgeConfig(mode="enforce", extra=0.1),
    limit=LimitConfig(mode="enforce", limit=2, queue_max=2, per_method={"t.narrow": 1}),
    throttle=ThrottleConfig(calls_min_per_s=0.0),
    closing_s=1.0,
)
SETTLE_S = 10.0
LOOK_S = 0.1

svc = holdfast.Service("t")


class City:
    """How the nodes are, and the calls that came to them."""

    world: Any = None
    mood: dict[str, str]
    came: Counter[str]


async def answer(text: str) -> str:
    node = here(City.world)
    City.came[node] += 1
    mood = City.mood.get(node, "")
    if mood == "refusing":
        raise errors.Overloaded("it did nothing and says so")
    if mood == "failing":
        raise RuntimeError("a mistake of ours")
    await asyncio.sleep(1.0 if mood == "slow" else 0.01)
    return text


for name in ("again", "narrow"):
    svc.method(idempotent=True, name=name)(answer)
svc.method(name="once")(answer)

Act = Callable[[holdfast.Client], Coroutine[Any, Any, None]]


async def call(client: holdfast.Client) -> None:
    assert await client.call("t.again", "x", returns=str) == "x"


async def call_that_may_not_be_repeated(client: holdfast.Client) -> None:
    assert await client.call("t.once", "x", returns=str) == "x"


async def call_that_is_refused_twice(client: holdfast.Client) -> None:
    City.mood = {"n0": "refusing", "n1": "refusing"}
    assert await client.using(attempts=6).call("t.again", "x", returns=str) == "x"


async def call_that_no_node_takes(client: holdfast.Client) -> None:
    City.mood = dict.fromkeys(NODES, "refusing")
    with pytest.raises(errors.Overloaded):
        await client.using(attempts=4).call("t.again", "x", returns=str)


async def call_that_is_slow_everywhere(client: holdfast.Client) -> None:
    City.mood = dict.fromkeys(NODES, "slow")
    assert await client.using(attempts=3, deadline=2.5).call("t.again", "x", returns=str) == "x"


async def call_that_waits_for_a_slot(client: holdfast.Client) -> None:
    await asyncio.gather(*(client.call("t.again", "x", returns=str) for _ in range(4)))


async def call_that_waits_at_a_bulkhead(client: holdfast.Client) -> None:
    await asyncio.gather(*(client.call("t.narrow", "x", returns=str) for _ in range(3)))


async def call_that_is_a_probe(client: holdfast.Client) -> None:
    City.mood = dict.fromkeys(NODES, "failing")
    for _ in range(2):
        with pytest.raises(errors.InternalError):
            await client.call("t.again", "x", returns=str)
    City.mood = {}
    await asyncio.sleep(0.3)
    for _ in range(3):
        await client.call("t.again", "x", returns=str)


async def call_with_an_explanation(client: holdfast.Client) -> None:
    City.mood = {"n0": "refusing", "n1": "slow"}
    told: list[Any] = []
    assert await client.using(attempts=5, explain=told.append, deadline=2.0).call("t.again", "x", returns=str) == "x"
    assert len(told) == 1


ACTS: tuple[Act, ...] = (
    call,
    call_that_may_not_be_repeated,
    call_that_is_refused_twice,
    call_that_no_node_takes,
    call_that_is_slow_everywhere,
    call_that_waits_for_a_slot,
    call_that_waits_at_a_bulkhead,
    call_that_is_a_probe,
    call_with_an_explanation,
)


class Model:
    """What the policies of a client should have counted, from what it said and what the nodes saw."""

    def __init__(self) -> None:
        self.said: list[Fact] = []

    def spent(self) -> int:
        """Attempts that the budget was asked for and granted: each was announced."""
        return sum(isinstance(fact, facts.CallRetried | facts.CallHedged) for fact in self.said)

    def denied(self) -> int:
        """Retries that it did not grant."""
        return sum(isinstance(fact, facts.RetryDenied) and fact.reason == "budget" for fact in self.said)

    def held(self, by: str) -> int:
        """Calls that were kept in."""
        return sum(isinstance(fact, facts.CallHeldBack) and fact.by == by for fact in self.said)

    def open(self) -> dict[str, str]:
        """How the breaker of each node stands that ever moved."""
        return {fact.node: fact.state for fact in self.said if isinstance(fact, facts.BreakerChanged)}


def compare(client: holdfast.Client, model: Model) -> None:
    """The machines have counted what the model has."""
    core = client._core
    now = core.now()
    assert core.budget.taken == model.spent()
    paid = core.number * BUDGET.share + BUDGET.floor_per_s * BUDGET.ttl_s
    assert core.budget.level(now) <= paid - model.spent() + 1e-6, "what was spent is gone, and nobody paid in twice"
    assert core.throttle.held == model.held("throttle")
    assert core.limiter is not None
    assert core.limiter.held == model.held("limit") + model.held("bulkhead")
    for node in core.balancer.nodes.values():
        gate: Any = node.gate
        assert gate.state == model.open().get(node.key, "closed")
        assert node.attempts >= City.came[node.key.removeprefix("tcp://").removesuffix(":7000")]
        assert gate._token < 0, "nobody holds the token of a probe"
    asked = core.throttle._old_accepted + core.throttle.accepts + core.throttle._old_refused + core.throttle._refused_now
    assert asked <= core.number, "a call counts once"


def scenario_of(act: Act) -> Callable[[World, Cut[Any]], Awaitable[None]]:
    """A world with three nodes and a client in which `act` is cut."""

    async def scenario(world: World, cut: Cut[Any]) -> None:
        City.world, City.mood, City.came = world, {}, Counter()
        url = start(world, svc, *NODES)
        model = Model()

        async def main() -> None:
            async with holdfast.connect(url, config=CONFIG, emit=model.said.append, seed=1, insecure=True) as client:
                await client.ready()
                await asyncio.sleep(0.5)
                for _ in range(12):  # a history, for whoever goes by it
                    await client.call("t.again", "x", returns=str)
                await cut(act(client))
                City.mood = {}
                until = world.now() + SETTLE_S
                while left := left_in_client(client):
                    assert world.now() < until, f"{act.__name__}: {left}"
                    await asyncio.sleep(LOOK_S)
                compare(client, model)
                await asyncio.sleep(1.0)
                assert await client.using(attempts=6).call("t.again", "y", returns=str) == "y", "and it goes on"
                core = client._core
            assert not list(held_by_policies(core))

        await world.host("ada").start(main)

    return scenario


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_nothing_is_left_of_a_call_that_was_cancelled(act: Act) -> None:
    assert cancel_everywhere(scenario_of(act), options=WorldOptions(**CALM)) >= 1
