"""The nodes of a client: waiting for one, sets that change, attempts that are settled exactly once."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import holdfast
from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.balance.endpoint import Endpoint
from holdfast.balance.members import MembersConfig
from holdfast.errors import DeadlineExceeded, HoldfastError, InternalError, NotFound, OutcomeUnknown, Overloaded, Unavailable
from holdfast.facts import CallHeldBack, NodeChanged
from holdfast.policy.breaker import BreakerConfig
from holdfast.sim import Cut, World, cancel_everywhere
from tests.calling.town import VIEWS, LoopClock, Net, Town, run_exactly, told, town

AB = ("memory://a", "memory://b")
AT_ONCE = MembersConfig(removal_window_s=0.0)


def exactly(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time."""

    def run() -> None:
        run_exactly(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def states(here: Town) -> dict[str, str]:
    return {node.address[-1]: node.state for node in here.client.nodes}


def use(here: Town, *keys: str) -> None:
    here.core.nodes.update([Endpoint(key) for key in keys])


async def spawn(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(told(call))
    await asyncio.sleep(0)
    return task


# -------------------------------------------------------------------------------------------------------- waiting for one


@exactly
async def test_the_only_node_refuses_and_whoever_waits_hears_why() -> None:
    async with town(AB[:1], connected=False) as here:
        here.net.refusing[AB[0]] = None
        error = await told(here.core.nodes.ready(None, wait=False))
        assert (type(error), str(error), error.executed) == (Unavailable, "memory://a: connection refused", "no")
        again = await told(here.core.nodes.ready(None, wait=False))
        assert "next attempt in" in str(again)
        assert again.retry_after_s > 0
        here.nothing_is_held()


@exactly
async def test_when_all_nodes_are_down_it_is_said_at_once_and_when_the_next_is_tried() -> None:
    async with town(AB, connected=False) as here:
        here.net.refusing.update(dict.fromkeys(AB))
        await here.until(0.5)
        began = here.now()
        error = await told(here.core.nodes.ready(None, wait=False))
        assert "next attempt in" in str(error)
        assert here.now() == began
        here.up(AB[1])
        await here.core.nodes.ready(None, wait=True)
        assert states(here) == {"a": "down", "b": "ready"}


@exactly
async def test_who_waits_is_told_at_the_deadline() -> None:
    async with town(AB, connected=False) as here:
        here.net.refusing.update(dict.fromkeys(AB))
        deadline_at = asyncio.get_running_loop().time() + 3.0
        error = await told(here.core.nodes.ready(deadline_at, wait=True))
        assert (type(error), error.executed, str(error)) == (DeadlineExceeded, "no", "no connection to any of 2 nodes before the deadline")
        assert isinstance(error.__cause__, Unavailable)
        assert here.now() == 3.0
        here.nothing_is_held()


@exactly
async def test_closing_tells_all_who_wait_however_long_they_wanted_to() -> None:
    for keys in (AB, AB[:1]):
        async with town(keys, connected=False) as here:
            here.net.refusing.update(dict.fromkeys(keys))
            await here.until(0.3)
            waiting = [await spawn(here.core.nodes.ready(None, wait=wait)) for wait in (True, True)]
            patient = here.client.using(wait_for_ready=True, deadline=None)
            waiting.append(await spawn(patient.call("shop.get")))
            await here.client.close()
            for task in waiting:
                error = await asyncio.wait_for(task, 5.0)
                assert isinstance(error, Unavailable)
                assert "closed" in str(error)
            assert not here.core.nodes._waiters


@exactly
async def test_who_waits_for_the_only_node_gets_the_one_that_takes_its_place() -> None:
    for wait in (True, False):
        async with town(AB, address=AB[0], connected=False, config=holdfast.ClientConfig(members=AT_ONCE)) as here:
            here.net.silent[AB[0]] = asyncio.get_running_loop().create_future()
            waiting = await spawn(here.core.nodes.ready(None, wait=wait))
            await here.until(0.5)
            use(here, AB[1])
            assert await waiting is None
            assert states(here) == {"b": "ready"}
            here.net.silent.pop(AB[0]).set_result(None)


@exactly
async def test_who_waits_for_the_only_node_gets_another_one_that_joins_it() -> None:
    async with town(AB, address=AB[0], connected=False) as here:
        here.net.refusing[AB[0]] = None
        waiting = await spawn(here.core.nodes.ready(None, wait=True))
        await here.until(0.5)
        use(here, *AB)
        assert await waiting is None
        assert here.now() < 0.6
        assert states(here)["b"] == "ready"


@exactly
async def test_a_connected_node_that_takes_nothing_is_waited_for_without_turning_the_loop() -> None:
    """It said that it drains, or does not serve, and there is nobody else: no second connection, no busy loop."""
    config = holdfast.ClientConfig(balance=BalanceConfig(panic_share=0.0))
    for keys, how in itertools.product((AB[:1], AB), ({"serving": False}, {"draining": True})):
        async with town(keys, config=config) as here:
            for key in keys:
                here.say(key, **how)
            await here.until(0.2)
            assert here.core.ready == []
            connects = len(here.net.connects)
            waiting = await spawn(here.core.nodes.ready(None, wait=True))
            await here.until(10.0)
            assert not waiting.done()
            assert len(here.net.connects) == connects
            here.say(keys[-1])
            assert await waiting is None
            assert here.now() < 10.1


@exactly
async def test_who_does_not_want_to_wait_is_not_kept_by_a_node_that_says_no() -> None:
    for keys in (AB[:1], AB):
        async with town(keys, config=holdfast.ClientConfig(balance=BalanceConfig(panic_share=0.0))) as here:
            for key in keys:
                here.say(key, serving=False)
            await here.until(0.2)
            error = await told(here.core.nodes.ready(None, wait=False))
            assert isinstance(error, Unavailable)
            assert "not taking calls" in str(error)
            assert here.now() == pytest.approx(0.2)


@exactly
async def test_a_drained_node_is_connected_again_when_it_is_back() -> None:
    for keys in (AB[:1], AB):
        async with town(keys) as here:
            for key in keys:
                here.leave(key)
            await here.until(0.1)
            assert await here.client.call("shop.get", returns=str) in {f"get at {key}" for key in keys}
            here.nothing_is_held()


@exactly
async def test_only_so_many_wait() -> None:
    async with town(AB, connected=False, config=holdfast.ClientConfig(waiting_max=2)) as here:
        here.net.refusing.update(dict.fromkeys(AB))
        waiting = [await spawn(here.core.nodes.ready(None, wait=True)) for _ in range(2)]
        error = await told(here.core.nodes.ready(None, wait=True, name="shop.get"))
        assert (type(error), error.executed) == (Overloaded, "no")
        assert here.seen(CallHeldBack) == [CallHeldBack("shop.get", "queue")]
        assert await told(here.core.nodes.ready(None, wait=True, waiting_max=0)) is not None
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        here.up(AB[0])
        await here.core.nodes.ready(None, wait=True)
        await waiting[1]
        here.nothing_is_held()


@exactly
async def test_a_name_that_cannot_be_looked_up_is_said_to_who_does_not_wait() -> None:
    async with town(AB, address="dns+tcp://127.0.0.1:7000", connected=False) as here:
        await here.until(0.1)
        error = await told(here.client.call("shop.get"))
        assert isinstance(error, Unavailable)
        assert "the answer has no address in it" in str(error)
        assert here.now() < 0.5
        assert here.client.nodes == []


# -------------------------------------------------------------------------------------------------------- sets that change


@exactly
async def test_a_node_that_was_the_only_one_is_kept_connected_when_others_join() -> None:
    async with town(AB, address=AB[0], connected=False) as here:
        use(here, *AB)
        await here.until(0.1)
        assert states(here) == {"a": "ready", "b": "ready"}
        here.down(AB[0])
        await here.until(0.2)
        here.up(AB[0])
        await here.until(2.0)
        assert states(here) == {"a": "ready", "b": "ready"}, "nobody connects it"


@exactly
async def test_a_single_node_connects_when_it_is_asked_for_and_not_before() -> None:
    async with town(AB[:1], connected=False) as here:
        await here.until(1.0)
        assert (here.net.connects, states(here)) == ([], {"a": "idle"})
        await here.client.call("shop.get")
        here.lose(AB[0])
        await here.until(2.0)
        assert (len(here.net.connects), states(here)) == (1, {"a": "idle"})


@exactly
async def test_who_is_removed_answers_what_it_has_and_gets_nothing_more() -> None:
    async with town(AB, config=holdfast.ClientConfig(members=AT_ONCE)) as here:
        node = here.node(AB[0])
        here.took_s[AB[0]] = 1.0
        calls = [await spawn(here.client.call("shop.put", n=n, returns=str)) for n in range(8)]
        stream = here.client.stream("shop.items", n=4, gap_s=0.5, returns=int)
        async with stream:
            first = await stream.__anext__()
            assert node.pending > 0
            use(here, AB[1])
            assert states(here) == {"b": "ready"}
            more = [await spawn(here.client.call("shop.put", n=n, returns=str)) for n in range(100, 120)]
            assert {await call for call in calls} == {"put at memory://a", "put at memory://b"}
            assert {await call for call in more} == {"put at memory://b"}
            assert [first, *[item async for item in stream]] == [0, 1, 2, 3]
        await here.until(here.now() + 0.5)
        assert (node.pending, node.state) == (0, "gone")
        assert all(session.closed for session in node.target.sessions), "its connection is closed when it has answered"
        assert [fact.state for fact in here.seen(NodeChanged) if fact.node == AB[0]][-1] == "gone"
        here.nothing_is_held()


@exactly
async def test_the_same_key_again_is_another_node() -> None:
    async with town(AB, config=holdfast.ClientConfig(members=AT_ONCE)) as here:
        here.took_s[AB[0]] = here.took_s[AB[1]] = 1.0
        old = here.node(AB[0])
        calls = [await spawn(here.client.call("shop.put")) for _ in range(6)]
        use(here, AB[1])
        use(here, *AB)
        new = here.node(AB[0])
        await here.until(0.5)
        assert (new is not old, new.state, new.pending) == (True, "ready", 0)
        for call in calls:
            assert not isinstance(await call, HoldfastError)
        assert (old.pending, new.pending, old.attempts + here.node(AB[1]).attempts) == (0, 0, 6)


@exactly
async def test_a_change_of_weight_is_no_change_of_nodes() -> None:
    async with town(AB) as here:
        before = here.node(AB[0])
        here.core.nodes.update([Endpoint(AB[0], 3.0), Endpoint(AB[1])])
        assert here.node(AB[0]) is before
        assert before.weight == 3.0
        assert len(here.net.connects) == 2


@exactly
async def test_news_after_the_client_was_closed_makes_no_connection() -> None:
    async with town(AB, address=AB[0], connected=False) as here:
        await here.client.close()
        use(here, *AB)
        await here.until(1.0)
        assert here.net.connects == []


def test_a_thousand_nodes_come_and_go_and_each_is_looked_at_a_few_times() -> None:
    names = [f"memory://n{number}" for number in range(1000)]

    async def main() -> None:
        config = holdfast.ClientConfig(balance=BalanceConfig(subset_size=2000, subset_above=2000), members=AT_ONCE)
        net = Net()
        net.refusing.update(dict.fromkeys(names))
        async with holdfast.connect(names[0], network=net, clock=LoopClock(), seed=1, config=config) as client:
            core = client._core
            looked = 0
            forget = core.dialers.__class__

            class Counting(forget):  # type: ignore[misc, valid-type]
                def __iter__(self) -> Any:
                    nonlocal looked
                    looked += len(self)
                    return super().__iter__()

            core.dialers = Counting(core.dialers)
            core.nodes.update([Endpoint(name) for name in names])
            assert len(core.balancer.nodes) == 1000
            core.nodes.update([Endpoint(names[0])])
            core.nodes.update([Endpoint(name) for name in names])
            assert looked < 20_000, "dialers are looked through again and again"

    run_exactly(main)


# ------------------------------------------------------------------------------------------------- attempts are settled once


@exactly
async def test_every_end_of_an_attempt_gives_its_place_back_once() -> None:
    ends = {"ok": None, "not found": NotFound, "busy": Overloaded, "broken": InternalError}
    for how, expected in ends.items():
        for view in VIEWS:
            async with town(AB[:1], attempts=1) as here:
                here.how[AB[0]] = how
                came = await told(here.client.using(**view).call("shop.put"))
                assert isinstance(came, expected or str)
                node = here.node(AB[0])
                assert (node.pending, node.attempts, node.failures) == (0, 1, int(how in ("busy", "broken")))
                here.nothing_is_held()


@exactly
async def test_lost_late_and_given_up_too() -> None:
    for view in VIEWS:
        async with town(AB[:1], attempts=1) as here:
            node, client = here.node(AB[0]), here.client.using(**view)
            here.how[AB[0]] = "slow"
            call = await spawn(client.call("shop.put"))
            await here.until(0.2)
            assert node.pending == 1
            here.lose(AB[0])
            assert isinstance(await call, OutcomeUnknown)
            assert (node.pending, node.failures, node.given_up) == (0, 1, 0)
            await client.using(wait_for_ready=True).ready()
            assert isinstance(await told(client.call("shop.put", deadline=0.1)), DeadlineExceeded)
            assert (node.pending, node.failures, node.given_up) == (0, 2, 0)
            task = asyncio.get_running_loop().create_task(client.call("shop.put"))
            await here.until(here.now() + 0.1)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)
            assert (node.pending, node.failures, node.given_up) == (0, 2, 1)
            here.nothing_is_held()


@exactly
async def test_the_time_it_takes_to_connect_is_no_latency_of_the_node() -> None:
    for view in VIEWS:
        async with town(AB[:1], connected=False) as here:
            opened = here.net.silent[AB[0]] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1.5, opened.set_result, None)
            assert await here.client.using(**view).call("shop.get", returns=str) == "get at memory://a"
            assert here.node(AB[0]).cost == pytest.approx(0.004)


@exactly
async def test_the_time_for_which_a_call_waits_for_a_node_is_no_latency_of_the_node() -> None:
    for view in VIEWS:
        async with town(AB, config=holdfast.ClientConfig(balance=BalanceConfig(panic_share=0.0))) as here:
            for key in AB:
                here.say(key, serving=False)
            await here.until(0.1)
            calling = await spawn(here.client.using(wait_for_ready=True, **view).call("shop.put", returns=str))
            await here.until(1.6)
            here.say(AB[0])
            assert await calling == "put at memory://a"
            assert here.node(AB[0]).cost == pytest.approx(0.004)


@exactly
async def test_a_node_whose_ejection_is_over_takes_calls_again_though_nobody_called_meanwhile() -> None:
    eject = EjectConfig(interval_s=1.0, base_s=2.0, failures_min=2)
    config = holdfast.ClientConfig(eject=eject, breaker=BreakerConfig(mode="off"), balance=BalanceConfig(picker="round_robin"))
    async with town((*AB, "memory://c"), config=config, attempts=1) as here:
        here.how[AB[0]] = "broken"
        for _ in range(90):
            await told(here.client.call("shop.put"))
        node = here.node(AB[0])
        await here.until(1.5)
        assert node.ejected_until
        assert node not in here.core.ready
        await here.until(1.5 + 2.0 + 1.0)
        assert not node.ejected_until
        assert node in here.core.ready


@exactly
async def test_answers_that_come_while_our_own_loop_is_late_say_nothing_of_the_node() -> None:
    for view in VIEWS:
        async with town(AB[:1]) as here:
            client, node = here.client.using(**view), here.node(AB[0])
            await client.call("shop.get")
            call = await spawn(client.call("shop.get"))
            loop: Any = asyncio.get_running_loop()
            loop.idle.now += 2.0  # the loop was busy with something else
            await call
            assert node.cost == pytest.approx(0.004), "it was us"
            assert node.heard_at == math.inf, "it owes nothing"
            here.took_s = {AB[0]: 5.0}
            slow = await spawn(client.call("shop.get"))
            await asyncio.sleep(0.001)
            here.took_s = {AB[0]: 0.004}
            call = await spawn(client.call("shop.get"))
            loop.idle.now += 0.5
            await call
            assert node.heard_at == pytest.approx(here.core.now()), "it has answered, whatever we make of the time it took"
            await slow


@pytest.mark.parametrize("explained", [False, True])
def test_a_cancel_anywhere_gives_back_the_place_and_the_probe(explained: bool) -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        config = holdfast.ClientConfig(
            breaker=BreakerConfig(in_row=1, open_base_s=0.5, open_cap_s=0.5), balance=BalanceConfig(picker="round_robin")
        )
        async with town(AB, config=config, attempts=2) as here:
            here.took_s = dict.fromkeys(AB, 0.01)
            client = here.client.using(explain=lambda _: None) if explained else here.client
            node = here.node(AB[0])
            era = node.begin(here.core.now())
            node.failed(here.core.now(), here.core.now(), era)
            gate: Any = node.gate
            assert gate.state == "open"
            await asyncio.sleep(0.6)
            here.how[AB[1]] = "busy"
            await cut(told(client.call("shop.get")))
            await asyncio.sleep(0.1)
            here.nothing_is_held()
            assert gate.state in ("open", "closed"), "a probe that nobody makes any more"
            if gate.state == "open":
                here.how[AB[1]] = "ok"
                assert await client.call("shop.get", returns=str) == "get at memory://a"
                assert gate.state == "closed"

    assert cancel_everywhere(scenario) >= 1
