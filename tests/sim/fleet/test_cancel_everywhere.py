"""A call through the whole client, over three nodes with every policy on, cancelled at each of its suspensions: nothing of it is left.

Owns: one scenario for each way a call can go, and a model of what the policies should hold afterwards, which is kept by counting what was
seen on the outside: calls that were made, attempts that arrived at a node, and what the client said of itself. Budget, slots, tokens and
throttle are to equal it exactly, on both ways a call can take: past the stack, and through it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
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
BUDGET = BudgetConfig(floor_per_s=1.0, ttl_s=30.0)
"""No scenario lasts as long as that: nothing that was paid in has expired, and the floor has earned nothing."""

STACK = holdfast.ClientConfig(
    budget=BUDGET,
    breaker=BreakerConfig(in_row=1, open_base_s=0.2, open_cap_s=0.2),
    hedge=HedgeConfig(mode="enforce", extra=0.1),
    limit=LimitConfig(mode="enforce", limit=2, queue_max=2, per_method={"t.narrow": 1}),
    throttle=ThrottleConfig(calls_min_per_s=0.0),
    closing_s=1.0,
)
"""A limit sends every call through the stack."""

MERGED = replace(STACK, limit=LimitConfig())
"""Without one the first attempts go past it."""

HOT = ThrottleConfig(calls_min_per_s=0.0, requests_per_accept=1.1, recovered_after=5)
"""A throttle that a few calls can wake, and calm again."""

TAKEN = ("ok", "internal")
"""What a call ends with that a server took on, for better or worse."""

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


async def calls_that_the_throttle_lets_through_or_not(client: holdfast.Client) -> None:
    for _ in range(2 * HOT.recovered_after):
        with contextlib.suppress(errors.Overloaded):
            assert await client.call("t.again", "x", returns=str) == "x"


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

    def asked(self, config: ThrottleConfig) -> tuple[int, int]:
        """How many calls were taken on and how many were not, since so many were in a row that the past is forgotten."""
        taken = refused = in_a_row = 0
        held = False
        for fact in self.said:
            if isinstance(fact, facts.CallHeldBack) and fact.by == "throttle":
                held = True  # and it ends at once
            elif isinstance(fact, facts.CallEnded) and fact.side == "client":
                if fact.code in TAKEN:
                    calm = taken + refused <= config.requests_per_accept * taken
                    taken += 1
                    in_a_row += not calm
                    if in_a_row == config.recovered_after:
                        taken = refused = in_a_row = 0
                else:
                    refused += 1
                    in_a_row = in_a_row if held else 0
                    held = False
        return taken, refused


def compare(client: holdfast.Client, model: Model, config: holdfast.ClientConfig) -> None:
    """The machines have counted what the model has."""
    core = client._core
    throttle = core.throttle
    assert (core.budget.taken, core.budget.denied) == (model.spent(), model.denied())
    paid = (core.number - throttle.held) * BUDGET.share + BUDGET.floor_per_s * BUDGET.ttl_s
    level = core.budget.level(core.now())
    assert level == pytest.approx(paid - model.spent()), "what was spent is gone, and everybody who was let out paid in, once"
    assert throttle.held == model.held("throttle")
    counted = (throttle._old_accepted + throttle.accepts, throttle._old_refused + throttle._refused_now)
    assert counted == model.asked(config.throttle), "each call counts, once, as what became of it"
    if core.limiter is not None:
        assert core.limiter.held == model.held("limit") + model.held("bulkhead")
    for node in core.balancer.nodes.values():
        gate: Any = node.gate
        assert gate.state == model.open().get(node.key, "closed")
        assert node.attempts >= City.came[node.key.removeprefix("tcp://").removesuffix(":7000")]
        assert gate._token < 0, "nobody holds the token of a probe"


async def goes_on(client: holdfast.Client) -> None:
    """A call comes to good. Raises: AssertionError when none does; one in five gets past the worst of throttles."""
    for _ in range(30):
        with contextlib.suppress(errors.Overloaded):
            assert await client.using(attempts=6).call("t.again", "y", returns=str) == "y"
            return
    raise AssertionError("thirty calls were held back")


def scenario_of(act: Act, config: holdfast.ClientConfig, refused: int = 0) -> Callable[[World, Cut[Any]], Awaitable[None]]:
    """A world with three nodes and a client in which `act` is cut, after a dozen calls that came to good and some that were refused."""

    async def scenario(world: World, cut: Cut[Any]) -> None:
        City.world, City.mood, City.came = world, {}, Counter()
        url = start(world, svc, *NODES)
        model = Model()

        async def main() -> None:
            async with holdfast.connect(url, config=config, emit=model.said.append, seed=1, insecure=True) as client:
                await client.ready()
                await asyncio.sleep(0.5)
                for _ in range(12):  # a history, for whoever goes by it
                    await client.call("t.again", "x", returns=str)
                City.mood = dict.fromkeys(NODES, "refusing")
                for _ in range(refused):
                    with pytest.raises(errors.Overloaded):
                        await client.using(attempts=1).call("t.again", "x", returns=str)
                City.mood = {}
                await cut(act(client))
                City.mood = {}
                until = world.now() + SETTLE_S
                while left := left_in_client(client):
                    assert world.now() < until, f"{act.__name__}: {left}"
                    await asyncio.sleep(LOOK_S)
                compare(client, model, config)
                await asyncio.sleep(1.0)
                await goes_on(client)
                core = client._core
            assert not list(held_by_policies(core))

        await world.host("ada").start(main)

    return scenario


@pytest.mark.parametrize("config", [STACK, MERGED], ids=["through the stack", "past the stack"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_nothing_is_left_of_a_call_that_was_cancelled(act: Act, config: holdfast.ClientConfig) -> None:
    assert cancel_everywhere(scenario_of(act, config), options=WorldOptions(**CALM)) >= 1


@pytest.mark.parametrize("config", [STACK, MERGED], ids=["through the stack", "past the stack"])
def test_nothing_is_left_of_calls_that_a_throttle_weighs(config: holdfast.ClientConfig) -> None:
    """It has seen more refusals than acceptances: it throws its dice, lets some through, hears how they end, and forgets."""
    hot = replace(config, throttle=HOT, breaker=BreakerConfig(mode="off"))
    scenario = scenario_of(calls_that_the_throttle_lets_through_or_not, hot, refused=6)
    assert cancel_everywhere(scenario, options=WorldOptions(**CALM)) >= 1
