"""What all views of a client share: one budget, one throttle, the watch over slow calls; and a client before and after its life."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import holdfast
from holdfast.calling.core import LOOK_EVERY_S, Core
from holdfast.control.budget import BudgetConfig
from holdfast.errors import DeadlineExceeded, HoldfastError, Overloaded, Unavailable
from holdfast.facts import CallEnded, CallExplained, CallHedged, CallRetried
from holdfast.policy.limit import LimitConfig
from holdfast.policy.retry import RetryConfig
from tests.calling.test_nodes import AB, exactly, spawn
from tests.calling.town import VIEWS, Town, run_exactly, told, town

# ------------------------------------------------------------------------------------------------- before and after its life


@exactly
async def test_a_client_that_was_not_entered_says_so() -> None:
    client = holdfast.connect(AB[0])
    for view in (client, client.using(deadline=1.0)):
        for ask in (lambda view: view.status, lambda view: view.nodes, lambda view: view.poke()):
            with pytest.raises(RuntimeError, match="not open"):
                ask(view)
        for call in (view.ready(), view.catalogue(), view.call("shop.get"), view.stream("shop.items").__anext__()):
            with pytest.raises(RuntimeError, match="not open"):
                await call


@exactly
async def test_a_client_that_is_closed_can_be_looked_at_and_calls_nothing() -> None:
    for keys in (AB[:1], AB):
        async with town(keys) as here:
            client = here.client
            await client.call("shop.get")
            connects = len(here.net.connects)
            await client.close()
            await client.close()
            assert client.status is None
            assert [(node.state, node.pending, node.next_attempt_in_s) for node in client.nodes] == [("gone", 0, None)] * len(keys)
            client.poke()
            for view in (client, client.using(deadline=None, wait_for_ready=True), client.using(explain=lambda _: None)):
                error = await told(view.call("shop.get"))
                assert (type(error), str(error), error.executed) == (Unavailable, "the client is closed", "no")
                error = await told(view.stream("shop.items", n=1, gap_s=0.0).__anext__())
                assert isinstance(error, Unavailable)
            error = await told(client.ready(deadline=None))
            assert isinstance(error, Unavailable)
            await here.until(here.now() + 5.0)
            assert len(here.net.connects) == connects
            assert len(here.core.scope) == 0


@exactly
async def test_closing_at_any_moment_of_a_call_ends_it() -> None:
    for turns in range(12):
        for keys in (AB[:1], AB):
            async with town(keys, connected=False) as here:
                calls = [asyncio.get_running_loop().create_task(told(here.client.call("shop.get", deadline=None))) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                await here.client.close()
                for call in calls:
                    assert isinstance(await asyncio.wait_for(call, 10.0), HoldfastError | str)
                assert all(node.pending == 0 for node in here.core.balancer.nodes.values())
                assert not here.core.nodes._waiters


@exactly
async def test_a_poke_connects_what_is_down_without_waiting_for_its_pause() -> None:
    for keys in (AB[:1], AB):
        async with town(keys, connected=False) as here:
            for key in keys:
                here.down(key)
            await told(here.client.call("shop.get", deadline=20.0))
            await here.until(20.0)
            for key in keys:
                here.up(key)
            here.client.using(deadline=1.0).poke()
            await here.until(20.01)
            assert {node.state for node in here.client.nodes} == {"ready"}


@exactly
async def test_the_status_is_that_of_a_node_that_is_connected() -> None:
    async with town(AB) as here:
        here.say(AB[0], serving=False)
        await here.until(0.1)
        assert here.client.status is not None
        assert here.client.status.serving is False
        here.down(AB[0])
        await here.until(0.2)
        assert here.client.status is not None
        assert here.client.status.serving is True
        here.down(AB[1])
        await here.until(0.3)
        assert here.client.status is None


# ------------------------------------------------------------------------------------------------------------- one of each


@exactly
async def test_all_views_draw_on_one_budget() -> None:
    config = holdfast.ClientConfig(budget=BudgetConfig(share=0.0, floor_per_s=1.0, ttl_s=3.0))
    async with town(AB[:1], config=config) as here:
        here.how[AB[0]] = "busy"
        views = [here.client, here.client.using(explain=lambda _: None), here.client.using(deadline=1.0)]
        for view in views:
            await told(view.call("shop.put"))
        assert (here.core.budget.taken, len(here.seen(CallRetried))) == (3, 3)
        assert len(here.log) == 6


@exactly
async def test_a_limit_is_for_all_calls_and_gives_its_slots_back() -> None:
    config = holdfast.ClientConfig(limit=LimitConfig(mode="enforce", limit=2, queue_max=0))
    async with town(AB, config=config, attempts=1) as here:
        here.took_s = dict.fromkeys(AB, 0.1)
        calls = [await spawn(client.call("shop.put")) for client in (here.client, here.client.using(explain=lambda _: None), here.client)]
        ends = [await call for call in calls]
        assert [isinstance(end, Overloaded) for end in ends] == [False, False, True]
        for how, raises in (("busy", Overloaded), ("broken", HoldfastError), ("slow", DeadlineExceeded)):
            here.how = dict.fromkeys(AB, how)
            for _ in range(3):
                assert isinstance(await told(here.client.call("shop.put", deadline=0.2)), raises)
        task = await spawn(here.client.call("shop.put"))
        task.cancel()
        await asyncio.wait([task])
        here.how = dict.fromkeys(AB, "ok")
        assert [type(await call) for call in [await spawn(here.client.call("shop.put")) for _ in range(2)]] == [str, str]
        here.nothing_is_held()


# ---------------------------------------------------------------------------------------------------------------- deadlines


@exactly
async def test_waiting_for_a_node_and_calling_have_one_deadline() -> None:
    for view in VIEWS:
        for keys in (AB[:1], AB):
            async with town(keys, connected=False) as here:
                for key in keys:
                    here.down(key)
                client = here.client.using(wait_for_ready=True, deadline=2.0, **view)
                here.took_s = dict.fromkeys(keys, 60.0)
                asyncio.get_running_loop().call_later(1.0, lambda here=here, keys=keys: [here.up(key) for key in keys])
                assert isinstance(await told(client.call("shop.put")), DeadlineExceeded)
                assert here.now() == pytest.approx(2.0, abs=0.02)
                assert here.log, "it was sent"
                await here.until(2.5)
                here.nothing_is_held()


def test_the_merged_way_and_the_stack_end_at_the_same_moment() -> None:
    async def ends(explain: Any) -> list[float]:
        async with town(AB) as here:
            here.how, found = dict.fromkeys(AB, "slow"), []
            for method in ("put", "get"):
                assert isinstance(await told(here.client.using(explain=explain).call(f"shop.{method}", deadline=0.3)), DeadlineExceeded)
                found.append(here.now())
            return found

    merged, walked = run_exactly(lambda: ends(None)), run_exactly(lambda: ends(lambda _: None))
    assert merged == walked
    assert 0.35 <= merged[0] <= 0.36


# --------------------------------------------------------------------------------------------------------- the watch over calls


@contextmanager
def looks(here: Town) -> Iterator[list[float]]:
    """When all open calls are looked at, from now on."""
    found: list[float] = []
    look = Core._look_beside

    def counted(core: Core) -> None:
        found.append(here.now())
        look(core)

    Core._look_beside = counted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Core._look_beside = look  # type: ignore[method-assign]


@exactly
async def test_nobody_looks_at_calls_that_may_not_be_sent_twice() -> None:
    async with town(AB) as here:
        with looks(here) as found:
            here.took_s = dict.fromkeys(AB, 5.0)
            await here.client.call("shop.put")
            await here.client.using(attempts=1).call("shop.get")
            await here.client.using(idempotent=False).call("shop.get")
        assert (found, here.core.beside_due) == ([], math.inf)


@exactly
async def test_however_many_are_slow_they_are_looked_at_together() -> None:
    config = holdfast.ClientConfig(retry=RetryConfig(silent_s=0.0), budget=BudgetConfig(share=0.0, floor_per_s=0.0))
    async with town(AB, config=config) as here:
        here.took_s = dict.fromkeys(AB, 2.0)
        calls = []
        with looks(here) as found:
            for n in range(100):
                calls.append(await spawn(here.client.call("shop.get", n=n, deadline=3.0)))
                await asyncio.sleep(0.0001)
            for call in calls:
                assert isinstance(await call, str)
        assert 2 <= len(found) <= 10 + 0.01 / LOOK_EVERY_S + 2
        assert here.seen(CallHedged) == [], "there was no budget for it"
        here.nothing_is_held()


@exactly
async def test_a_look_at_slow_calls_that_comes_late_is_made_up_for() -> None:
    async with town(AB) as here:
        here.how = dict.fromkeys(AB, "slow")
        calling = await spawn(here.client.call("shop.get", deadline=6.0, returns=str))
        await asyncio.sleep(0.001)
        [(_, slow, _, _)] = here.log
        here.how = {key: "slow" if key == slow else "ok" for key in AB}
        loop: Any = asyncio.get_running_loop()
        loop.idle.now += 2.2  # the loop was busy with something else, and the moment for another attempt is long over
        other = AB[1 - AB.index(slow)]
        assert await calling == f"get at {other}"
        assert here.now() < here.slow_s, "sooner than the first one answers"


@exactly
async def test_one_timer_stands_for_the_earliest_and_goes_with_the_client() -> None:
    async with town(AB) as here:
        here.took_s = dict.fromkeys(AB, 1.0)
        late = await spawn(here.client.call("shop.get", deadline=9.0))
        due = here.core.beside_due
        early = await spawn(here.client.call("shop.get", deadline=0.6))
        assert here.core.beside_due < due
        await here.client.close()
        assert {type(await late), type(await early)} & {str} == set()


@exactly
async def test_every_call_tells_its_end_once() -> None:
    for every in (0, 1):
        async with town(AB, config=holdfast.ClientConfig(explain_every=every)) as here:
            for how in ("ok", "busy", "not found", "broken"):
                here.how = dict.fromkeys(AB, how)
                for method in ("get", "put"):
                    await told(here.client.call(f"shop.{method}"))
            assert len(here.seen(CallEnded)) == 8
            assert len(here.seen(CallExplained)) == (8 if every else 6)


@exactly
async def test_who_listens_to_records_and_raises_hurts_nobody() -> None:
    async with town(AB[:1]) as here:
        loop, said = asyncio.get_running_loop(), []
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: said.append(context))

        def raises(_record: Any) -> None:
            raise ZeroDivisionError

        assert await here.client.using(explain=raises).call("shop.get", returns=str) == "get at memory://a"
        loop.set_exception_handler(handler)
        assert [type(context["exception"]) for context in said] == [ZeroDivisionError]
