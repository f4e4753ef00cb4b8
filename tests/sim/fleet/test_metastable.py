"""No state that keeps itself up: a fleet at nine tenths of its capacity loses half of its nodes, or is slow, for 5 s, and recovers.

With servers that notice that a caller has left, as ours do, and with servers that do not and work on for nobody. The same world with
callers who just try again stays down, and so it does with breakers that take slow nodes out one after the other: so the check can fail.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast
from holdfast.balance.eject import EjectConfig
from holdfast.balance.strain import StrainConfig
from holdfast.control.budget import BudgetConfig
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.limit import LimitConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.sim import LoadModel, World
from holdfast.sim.models import exponential
from tests.sim.stages import play

from .town import CALM, PORT, Load, here, serve, steady

NODES = ("n0", "n1", "n2", "n3")
WORK_S = 0.05
WORKERS = 4
QUEUE_MAX = 160
"""Two seconds of work, twice as long as callers wait: what stands at its end is done for nobody."""

CAPACITY = len(NODES) * WORKERS / WORK_S
RATE = 0.9 * CAPACITY
DEADLINE_S = 1.0
TRIGGER = (6.0, 11.0)
END_S = 41.0
RECOVERED_S = 10.0
AFTER = (TRIGGER[1] + RECOVERED_S, END_S)

STUBBORN = holdfast.ClientConfig(
    budget=BudgetConfig(mode="off"),
    throttle=ThrottleConfig(mode="off"),
    breaker=BreakerConfig(mode="off"),
    eject=EjectConfig(mode="off"),
    retry=RetryConfig(base_s=0.001, cap_s=0.01),
    strain=StrainConfig(mode="off"),
)

CAREFUL = holdfast.ClientConfig(limit=LimitConfig(mode="enforce", kind="gradient", queue_max=100), strain=StrainConfig(mode="off"))

BLAMING = holdfast.ClientConfig(strain=StrainConfig(mode="off"))
"""What is slow is the node's fault, always."""

svc = holdfast.Service("t")


class Works:
    """What does the work, on each node."""

    world: Any = None
    models: dict[str, LoadModel]
    notice = True


@svc.method(idempotent=True)
async def work(number: int) -> int:
    await Works.models[here(Works.world)].request()
    return number


def fleet(trigger: str, config: holdfast.ClientConfig | None = None, attempts: int = 3, notice: bool = True) -> Load:
    """What becomes of calls at nine tenths of what the nodes can do, with a trigger of five seconds.

    Args:
        notice: a call whose caller has left is not worked on, as in our servers, which cancel its handler.
    """
    load = Load()
    Works.notice = notice

    async def scenario(world: World) -> None:
        Works.world = world
        Works.models = {}

        async def node() -> None:
            name = here(world)  # what was under way when a node died is gone with it
            Works.models[name] = LoadModel(
                exponential(WORK_S), world.rng.stream(name), workers=WORKERS, queue_max=QUEUE_MAX, notices_cancel=Works.notice
            )
            await serve(svc)

        for name in NODES:
            world.host(name).start(node, name=name)
        url = ",".join(f"tcp://{name}:{PORT}" for name in NODES)

        async def main() -> None:
            async with holdfast.connect(url, config=config, seed=1, insecure=True, attempts=attempts) as client:
                await client.ready()
                await asyncio.sleep(0.5)
                view = client.using(deadline=DEADLINE_S)
                await steady(world, load, lambda number: view.call("t.work", number, returns=int), RATE, 1.0, END_S)

        calling = world.host("ada").start(main)
        await world.sleep(TRIGGER[0])
        for name in NODES[:2] if trigger == "gone" else NODES:
            if trigger == "gone":
                world.host(name).kill()
            else:
                Works.models[name].slowdown = 5.0
        await world.sleep(TRIGGER[1] - TRIGGER[0])
        for name in NODES:
            if trigger == "slow":
                Works.models[name].slowdown = 1.0
            if trigger == "gone" and name in NODES[:2]:
                world.host(name).restart()
        await calling

    play(scenario, **CALM)
    return load


def afterwards(load: Load) -> list[float]:
    """The goodput of each second, once it should be well again."""
    began, ended = AFTER
    return [round(load.good(began + n, began + n + 1), 2) for n in range(int(ended - began))]


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("notice", [True, False], ids=["servers-that-notice", "deaf-servers"])
@pytest.mark.parametrize("trigger", ["gone", "slow"])
def test_what_pushed_it_over_ends_and_it_is_well_again_and_stays_so(trigger: str, notice: bool) -> None:
    load = fleet(trigger, notice=notice)
    assert load.good(3.0, TRIGGER[0]) > 0.98
    assert load.good(*TRIGGER) < 0.9, "it was pushed over"
    assert min(afterwards(load)) > 0.9, afterwards(load)


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_who_takes_load_for_the_nodes_fault_or_just_tries_again_keeps_it_down() -> None:
    assert min(afterwards(fleet("slow", BLAMING))) < 0.8, "it swings"
    stubborn = fleet("gone", STUBBORN, attempts=5, notice=False)
    assert stubborn.good(3.0, 4.0) > 0.98
    assert stubborn.good(*AFTER) < 0.1, "it stays down, though nothing is wrong any more"


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_limit_lets_it_recover_by_itself_where_servers_work_for_nobody() -> None:
    assert fleet("gone", CAREFUL, notice=False).good(*AFTER) > 0.8, "nearly all the work is for somebody again"
