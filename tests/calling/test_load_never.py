"""What a strain may never do: blame good nodes, forgive bad ones, keep what is gone, or work while there is nothing to do."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.balance.strain import StrainConfig
from holdfast.calling.load import Load
from holdfast.errors import DeadlineExceeded
from holdfast.facts import BreakerChanged, NodeEjected
from holdfast.policy.breaker import BreakerConfig
from tests.calling.test_load import ABC, ABCD, GRACE_S, Crowd, breakers, changes, ready, settings, slow, strains, well
from tests.calling.test_nodes import AB, AT_ONCE, exactly, spawn, use
from tests.calling.town import Town, run_exactly, town


def load_of(here: Town) -> Load:
    load = here.core.nodes._load
    assert load is not None
    return load


# ---------------------------------------------------------------------------------------- nodes that are kept out take no calls


@pytest.mark.parametrize("picker", ["p2c", "round_robin", "weighted_round_robin", "random", "least_loaded", "hash"])
@pytest.mark.parametrize(("keys", "frozen"), [(AB, 1), (ABC, 1), (ABC, 2), (ABCD, 1), (ABCD, 2)], ids=["1/2", "1/3", "2/3", "1/4", "2/4"])
def test_nodes_that_are_kept_out_are_not_the_most_of_those_that_take_calls(keys: tuple[str, ...], frozen: int, picker: str) -> None:
    """Attempts that were under way at nodes that stand still end late after their breakers opened; the other nodes are well."""

    async def main() -> None:
        config = settings(balance=BalanceConfig(picker=picker, panic_share=0.1), breaker=BreakerConfig(open_base_s=2.0))
        async with town(keys, config=config, attempts=1) as here:
            here.slow_s = 60.0
            crowd = Crowd(here, deadline=2.0, every_s=0.05)
            await crowd.call(1.0)
            slow(here, *keys[:frozen])
            await crowd.call(30.0)
            assert strains(here) == []
            late = sum(isinstance(end, DeadlineExceeded) for end in crowd.ends[-200:])
            assert late <= 5 * frozen, "a probe now and then"

    run_exactly(main)


# ----------------------------------------------------------------------------------------------- a node that is gone is forgotten


@exactly
async def test_a_node_that_went_while_it_had_attempts_is_not_kept_for_their_sake() -> None:
    async with town(AB, config=settings(members=AT_ONCE), attempts=1) as here:
        slow(here, *AB)
        calls = [await spawn(here.client.call("shop.put", deadline=0.5)) for _ in range(6)]
        gone = here.node(AB[0])
        await here.until(0.2)
        use(here, AB[1])
        assert gone.pending
        for call in calls:
            assert isinstance(await call, DeadlineExceeded)
        assert (gone.state, gone.pending) == ("gone", 0)
        assert list(load_of(here).overload._records) == [here.node(AB[1])]


# ------------------------------------------------------------------------------------------------------- no work without a reason


@exactly
async def test_while_nobody_is_ejected_the_nodes_are_looked_at_once_in_an_interval_and_not_all_the_time() -> None:
    async with town(ABC, config=settings(eject=EjectConfig(interval_s=1.0)), attempts=1) as here:
        nodes, looks = here.core.nodes, 0
        slow(here, *ABC)
        await Crowd(here).call(4.0)
        load, excuse = load_of(here), load_of(here).excuse

        def counted(now: float, ejector: Any) -> None:
            nonlocal looks
            looks += 1
            excuse(now, ejector)

        load.excuse = counted  # type: ignore[method-assign]
        assert load.excused(nodes.now())
        await here.until(here.now() + 5.0)
        assert load.excused(nodes.now())
        assert looks <= 6


@exactly
async def test_ejection_that_is_off_stays_off_after_a_strain() -> None:
    config = settings(eject=EjectConfig(mode="off", interval_s=1.0, failures_min=2), breaker=BreakerConfig(mode="off"), members=AT_ONCE)
    async with town(ABCD, config=config, attempts=1) as here:
        slow(here, *ABCD)
        crowd = Crowd(here)
        await crowd.call(3.0)
        well(here)
        use(here, *ABC)
        use(here, *ABCD)
        await here.until(here.now() + 3.0 + GRACE_S + 1.0)
        here.how[ABC[0]] = "broken"
        await crowd.call(10.0)
        assert here.seen(NodeEjected) == []


# ---------------------------------------------------------------------------------------------- a node that fails is not forgiven


@exactly
async def test_a_breaker_that_errors_opened_stays_open_though_its_last_probe_was_late() -> None:
    config = settings(strain=StrainConfig(nodes_share=0.7), breaker=BreakerConfig(open_base_s=3.0, open_cap_s=60.0))
    async with town(ABCD, config=config, attempts=1) as here:
        here.how[ABCD[0]] = "broken"
        crowd = Crowd(here)
        await crowd.call(0.5)
        slow(here, ABCD[0])
        while len(changes(here, "open")) < 2:
            await crowd.call(0.1)
        assert changes(here, "open") == [("a", "5 failures in a row"), ("a", "a probe that failed")]
        here.how[ABCD[0]] = "broken"
        slow(here, *ABCD[1:])
        await crowd.call(2.5)
        assert [on for on, _, _ in strains(here)] == [True]
        assert "a" not in [node for node, _ in changes(here, "closed")]


@exactly
async def test_a_node_that_was_ejected_for_its_errors_is_not_taken_back() -> None:
    config = settings(
        eject=EjectConfig(interval_s=1.0, base_s=300.0, max_s=300.0, failures_min=2),
        breaker=BreakerConfig(mode="off"),
        strain=StrainConfig(nodes_share=0.7),
    )
    async with town(ABCD, config=config, attempts=1) as here:
        here.how[ABCD[0]] = "broken"
        crowd = Crowd(here)
        await crowd.call(2.5)
        assert [fact.node for fact in here.seen(NodeEjected)] == [ABCD[0]]
        slow(here, *ABCD[1:])
        await crowd.call(3.0)
        assert [on for on, _, _ in strains(here)] == [True]
        assert ready(here) == ["b", "c", "d"]


@exactly
async def test_probes_that_are_late_while_it_lasts_leave_the_pause_between_probes_as_it_is() -> None:
    """A node that fails is kept out; its probe is late as all calls are. The next one is not sent at once."""
    config = settings(strain=StrainConfig(nodes_share=0.7, grace_s=30.0), breaker=BreakerConfig(open_base_s=4.0, open_cap_s=60.0))
    async with town(ABCD, config=config, attempts=1) as here:
        here.how[ABCD[0]] = "broken"
        crowd = Crowd(here)
        await crowd.call(0.5)
        slow(here, *ABCD)
        await crowd.call(2.0)
        assert [on for on, _, _ in strains(here)] == [True]
        assert breakers(here)["a"] == "open"
        began = len(changes(here, "probing"))
        await crowd.call(6.0)
        assert 1 <= len(changes(here, "probing")) - began <= 4


# ------------------------------------------------------------------------------------------------ what is told of has an end


@exactly
async def test_it_is_told_on_and_off_in_turns_however_strains_follow_one_another() -> None:
    async with town(ABC, config=settings(), attempts=1) as here:
        crowd = Crowd(here)
        for pause_s in (2.9, 2.95, 3.0, 3.05, 4.0):
            slow(here, *ABC)
            await crowd.call(2.0)
            well(here)
            await here.until(here.now() + pause_s)
        await here.until(here.now() + 10.0)
        told_of = [on for on, _, _ in strains(here)]
        assert told_of == [True, False] * (len(told_of) // 2)
        assert told_of


@exactly
async def test_what_shadow_tells_of_is_over_as_well() -> None:
    async with town(ABC, config=settings(strain=StrainConfig(mode="shadow")), attempts=1) as here:
        slow(here, *ABC)
        await Crowd(here).call(4.0)
        well(here)
        await here.until(60.0)
        assert strains(here) == [(True, 3, False), (False, 3, False)]


@exactly
async def test_nothing_is_lost_of_the_list_of_nodes_when_it_begins_in_panic() -> None:
    async with town(ABCD, config=settings(breaker=BreakerConfig(in_row=2, open_base_s=60.0)), attempts=1) as here:
        slow(here, *ABCD)
        await Crowd(here).call(1.0)
        balancer = here.core.balancer
        assert balancer.panicking
        assert set(breakers(here).values()) == {"open"}
        await Crowd(here).call(2.0)
        assert [on for on, _, _ in strains(here)] == [True]
        assert not balancer.panicking
        assert ready(here) == ["a", "b", "c", "d"]
        assert [node.place for node in balancer.ready] == [0, 1, 2, 3]
        assert (balancer._usable, list(balancer._kept_out)) == (4, [])
        assert [fact.state for fact in here.seen(BreakerChanged)].count("closed") == 4
        here.nothing_is_held()
