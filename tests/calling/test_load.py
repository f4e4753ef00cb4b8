"""What a client does while its nodes are too slow all at once: real clients and servers in virtual time."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

import holdfast
from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.balance.strain import StrainConfig
from holdfast.control.budget import BudgetConfig
from holdfast.errors import DeadlineExceeded, Overloaded
from holdfast.facts import BreakerChanged, CallExplained, CallHedged, CallRetried, Fact, NodeEjected, RetryDenied, StrainChanged
from holdfast.handler import Mode
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from tests.calling.test_nodes import AB, exactly
from tests.calling.town import VIEWS, Town, run_exactly, told, town

ABC = (*AB, "memory://c")
ABCD = (*ABC, "memory://d")
GRACE_S = 6.0
IT_IS_THE_LOAD = "most nodes are too slow: it is the load"


def settings(**more: Any) -> holdfast.ClientConfig:
    """Each node gets as many calls as the others, and stays out for a minute; the throttle, which would spare them most, is not there."""
    return holdfast.ClientConfig(
        **{
            "strain": StrainConfig(grace_s=GRACE_S),
            "balance": BalanceConfig(picker="round_robin"),
            "breaker": BreakerConfig(open_base_s=60.0),
            "throttle": ThrottleConfig(mode="off"),
            **more,
        }
    )


class Crowd:
    """Somebody who calls every so often, whatever becomes of it."""

    def __init__(self, here: Town, method: str = "shop.put", *, deadline: float = 0.3, every_s: float = 0.02, **view: Any) -> None:
        self.here, self.method, self.deadline, self.every_s = here, method, deadline, every_s
        self.client = here.client.using(**view)
        self.ends: list[Any] = []

    async def call(self, for_s: float) -> None:
        """Call for so long, and see how all of these ended."""
        loop, tasks = asyncio.get_running_loop(), []
        until = self.here.now() + for_s
        while self.here.now() < until:
            tasks.append(loop.create_task(told(self.client.call(self.method, deadline=self.deadline, returns=str))))
            await asyncio.sleep(self.every_s)
        self.ends += [await task for task in tasks]


def slow(here: Town, *keys: str) -> None:
    for key in keys:
        here.how[key] = "slow"


def well(here: Town, *keys: str) -> None:
    for key in keys or here.keys:
        here.how[key] = "ok"


def breakers(here: Town) -> dict[str, str]:
    return {node.address[-1]: node.breaker for node in here.client.nodes}


def changes(here: Town, state: str) -> list[tuple[str, str]]:
    return [(fact.node[-1], fact.reason) for fact in here.seen(BreakerChanged) if fact.state == state]


def strains(here: Town) -> list[tuple[bool, int, bool]]:
    return [(fact.on, fact.nodes, fact.enforced) for fact in here.seen(StrainChanged)]


def denied(here: Town) -> list[str]:
    return [fact.reason for fact in here.seen(RetryDenied)]


def ready(here: Town) -> list[str]:
    return sorted(node.key[-1] for node in here.core.ready)


# ----------------------------------------------------------------------------------------------------- it is told, and it is over


@pytest.mark.parametrize("view", VIEWS, ids=["merged", "walked"])
def test_it_is_told_of_once_and_is_over_when_calls_go_well_again(view: dict[str, Any]) -> None:
    async def main() -> None:
        async with town(ABC, config=settings(), attempts=1) as here:
            crowd = Crowd(here, **view)
            await crowd.call(1.0)
            slow(here, *ABC)
            await crowd.call(8.0)
            assert strains(here) == [(True, 3, True)]
            assert {type(end) for end in crowd.ends[-50:]} == {DeadlineExceeded}
            over_at = here.core.nodes._load.overload.until  # type: ignore[union-attr]
            well(here)
            await here.until(over_at - here.began_at - 0.02)
            assert len(strains(here)) == 1
            await here.until(over_at - here.began_at + 0.02)
            assert strains(here) == [(True, 3, True), (False, 3, True)]
            await crowd.call(8.0)
            assert len(strains(here)) == 2, "and stays over"
            here.nothing_is_held()

    run_exactly(main)


@exactly
async def test_one_slow_node_of_three_is_kept_out_and_nobody_speaks_of_load() -> None:
    async with town(ABC, config=settings(), attempts=1) as here:
        slow(here, ABC[0])
        await Crowd(here).call(20.0)
        assert breakers(here) == {"a": "open", "b": "closed", "c": "closed"}
        assert strains(here) == []


@exactly
async def test_refusals_for_want_of_capacity_are_load_and_errors_are_not() -> None:
    for how, expected in (("busy", [(True, 3, True)]), ("broken", [])):
        async with town(ABC, config=settings(), attempts=1) as here:
            here.how = dict.fromkeys(ABC, how)
            await Crowd(here).call(3.0)
            assert strains(here) == expected


@exactly
async def test_a_node_alone_is_told_of_as_well_and_takes_all_calls() -> None:
    async with town(ABC[:1], config=settings(), attempts=1) as here:
        slow(here, ABC[0])
        await Crowd(here).call(5.0)
        well(here)
        await here.until(10.0)
        assert strains(here) == [(True, 1, True), (False, 1, True)]
        assert ready(here) == ["a"]
        crowd = Crowd(here)
        await crowd.call(0.2)
        assert set(crowd.ends) == {"put at memory://a"}


# ------------------------------------------------------------------------------------------------------------ who is taken back


@exactly
async def test_breakers_that_slowness_opened_close_and_the_one_that_errors_opened_stays_open() -> None:
    async with town(ABCD, config=settings(strain=StrainConfig(nodes_share=0.7)), attempts=1) as here:
        here.how[ABCD[0]] = "broken"
        crowd = Crowd(here)
        await crowd.call(1.0)
        assert changes(here, "open") == [("a", "5 failures in a row")]
        slow(here, *ABCD[1:])
        await crowd.call(3.0)
        opened = [node for node, _ in changes(here, "open")]
        assert sorted(set(opened) - {"a"}) == ["b", "c", "d"], "by their slowness, before it was known for load"
        assert sorted(changes(here, "closed")) == [(node, IT_IS_THE_LOAD) for node in "bcd"]
        assert breakers(here) == {"a": "open", "b": "closed", "c": "closed", "d": "closed"}


@exactly
async def test_nodes_that_are_ejected_come_back() -> None:
    config = settings(eject=EjectConfig(interval_s=1.0, base_s=300.0, max_s=300.0, failures_min=2), breaker=BreakerConfig(mode="off"))
    async with town(ABCD, config=config, attempts=1) as here:
        slow(here, ABCD[0])
        crowd = Crowd(here)
        await crowd.call(2.5)
        assert [fact.node for fact in here.seen(NodeEjected)] == [ABCD[0]]
        assert ready(here) == ["b", "c", "d"]
        slow(here, *ABCD)
        await crowd.call(3.0)
        assert [on for on, _, _ in strains(here)] == [True]
        assert ready(here) == ["a", "b", "c", "d"]
        assert here.node(ABCD[0]).ejected_until == 0.0


@exactly
async def test_nobody_is_kept_out_for_slowness_while_it_lasts_and_for_the_grace_after_it_and_then_again() -> None:
    config = settings(eject=EjectConfig(interval_s=0.5, base_s=300.0, max_s=300.0, failures_min=2))
    async with town(ABC, config=config, attempts=1) as here:
        crowd = Crowd(here)
        slow(here, *ABC)
        await crowd.call(4.0)
        began = len(here.facts)

        def kept_out() -> list[Fact]:
            told = [fact for _, fact in here.facts[began:]]
            return [fact for fact in told if isinstance(fact, NodeEjected) or (isinstance(fact, BreakerChanged) and fact.state == "open")]

        await crowd.call(4.0)
        assert kept_out() == []
        well(here, *ABC[1:])
        load = here.core.nodes._load
        assert load is not None
        while here.core.now() < load.overload.until + GRACE_S - 0.5:
            await crowd.call(0.1)
        assert len(strains(here)) == 2, "it is over"
        assert kept_out() == [], "what is left of it is forgiven"
        assert here.node(ABC[0]).failures > 100
        await crowd.call(3.0)
        assert kept_out(), "from then on a slow node is a slow node"
        assert ready(here) == ["b", "c"]


@exactly
async def test_nobody_starts_slowly_while_the_others_have_too_much_to_do() -> None:
    """Neither who comes back, nor who is new, nor who was new when it began; later it is as it always was."""
    async with town(ABCD, address=",".join(ABC), config=settings(eject=EjectConfig(mode="off")), attempts=1, connected=False) as here:
        await here.client.ready()
        await here.until(0.1)
        here.down(ABC[0])
        await here.until(0.2)
        here.up(ABC[0])
        await here.until(2.0)
        began_at = here.core.now()
        assert 0 < here.node(ABC[0]).warm_at < began_at, "it came back, and is spared"
        slow(here, *ABCD)
        await Crowd(here).call(2.0)
        assert [node.warm_at for node in here.core.ready] == [float("-inf")] * 3
        await Crowd(here).call(12.0)
        here.lose(ABC[1])
        await here.until(here.now() + 1.0)
        assert here.node(ABC[1]).warm_at == float("-inf"), "it goes on"
        well(here)
        await here.until(here.now() + 3.0 + GRACE_S + 1.0)
        here.lose(ABC[1])
        await here.until(here.now() + 1.0)
        assert here.node(ABC[1]).warm_at > began_at


# ------------------------------------------------------------------------------------------------- attempts beyond the first


@exactly
async def test_no_retries_are_earned_while_it_lasts_and_afterwards_they_are() -> None:
    config = settings(budget=BudgetConfig(share=1.0, floor_per_s=0.0, ttl_s=1.0), retry=RetryConfig(base_s=0.001, cap_s=0.001))
    async with town(ABC, config=config, attempts=2) as here:
        crowd = Crowd(here)
        await crowd.call(1.0)
        here.how = dict.fromkeys(ABC, "busy")
        await crowd.call(1.0)
        assert here.seen(CallRetried)
        assert "budget" not in denied(here), "each call pays for one"
        await crowd.call(2.0)
        retried = len(here.seen(CallRetried))
        await crowd.call(2.0)
        assert len(here.seen(CallRetried)) == retried, "what was saved is gone, and nothing comes in"
        assert {type(end) for end in crowd.ends[-50:]} == {Overloaded}
        assert set(denied(here)[-50:]) == {"budget"}
        well(here)
        await crowd.call(6.0)
        here.how[ABC[0]] = "busy"
        until_now = len(denied(here))
        await crowd.call(1.0)
        assert len(here.seen(CallRetried)) > retried
        assert "budget" not in denied(here)[until_now:]


BESIDE: dict[str, Any] = {"retry": RetryConfig(silent_s=0.0), "hedge": HedgeConfig(mode="off")}


@exactly
async def test_no_attempt_is_made_beside_one_that_is_slow_when_all_are_and_that_is_no_overload() -> None:
    """Each call takes twice its share of the deadline, and is answered."""
    async with town(ABC, config=settings(**BESIDE), attempts=3) as here:
        here.slow_s = 0.6
        slow(here, *ABC)
        records: list[Any] = []
        crowd = Crowd(here, "shop.get", deadline=0.9, explain=records.append)
        await crowd.call(4.0)
        hedged = len(here.seen(CallHedged))
        assert hedged > 0, "at first it might have helped"
        assert RetryDenied("shop.get", "strained", enforced=True) in here.seen(RetryDenied)
        records.clear()
        await crowd.call(2.0)
        assert len(here.seen(CallHedged)) == hedged
        assert {record.hedging for record in records} == {"strained"}
        assert {len(record.attempts) for record in records} == {1}
        assert strains(here) == []
        assert not {"open"} & set(breakers(here).values())
        assert all(isinstance(end, str) for end in crowd.ends)


@exactly
async def test_beside_the_only_slow_node_of_three_another_attempt_is_made() -> None:
    async with town(ABC, config=settings(**BESIDE), attempts=3) as here:
        here.slow_s = 0.6
        slow(here, ABC[0])
        crowd = Crowd(here, "shop.get", deadline=0.9)
        await crowd.call(6.0)
        assert len(here.seen(CallHedged)) > 80
        assert "strained" not in denied(here)


# ------------------------------------------------------------------------------------------------------------ shadow, off, closed


def test_in_shadow_it_is_told_of_and_all_goes_as_if_it_were_off() -> None:
    async def facts(mode: Mode) -> list[tuple[float, Fact]]:
        budget = BudgetConfig(share=0.2, floor_per_s=2.0, ttl_s=1.0)
        eject = EjectConfig(interval_s=1.0, failures_min=2)
        config = settings(strain=StrainConfig(mode=mode, grace_s=GRACE_S), eject=eject, budget=budget, retry=RetryConfig(silent_s=0.0))
        async with town(ABC, config=config, attempts=3) as here:
            crowd = Crowd(here, "shop.get")
            await crowd.call(1.0)
            slow(here, *ABC)
            await crowd.call(5.0)
            well(here)
            await crowd.call(5.0)
            return [(at, fact) for at, fact in here.facts if not isinstance(fact, CallExplained)]

    off, shadow, enforced = [run_exactly(functools.partial(facts, mode)) for mode in ("off", "shadow", "enforce")]
    assert [fact for _, fact in shadow if isinstance(fact, StrainChanged)] == [StrainChanged(on, 3, enforced=False) for on in (True, False)]
    assert [each for each in shadow if not isinstance(each[1], StrainChanged)] == off
    assert [each for each in enforced if not isinstance(each[1], StrainChanged)] != off, "enforced it makes a difference here"


@exactly
async def test_a_client_that_is_closed_while_it_lasts_leaves_nobody_who_speaks_of_it_later() -> None:
    async with town(ABC, config=settings(), attempts=1) as here:
        slow(here, *ABC)
        await Crowd(here).call(4.0)
        assert strains(here) == [(True, 3, True)]
        await here.client.close()
        told_of = len(here.facts)
        await here.until(60.0)
        assert here.facts[told_of:] == []


@exactly
async def test_a_client_whose_calls_go_well_makes_nothing_for_it() -> None:
    async with town(ABC, config=settings(), attempts=1) as here:
        await Crowd(here).call(1.0)
        assert here.core.nodes._load is None
        slow(here, ABC[0])
        await Crowd(here).call(0.1)
        assert here.core.nodes._load is not None
