"""The merged way where it leaves the stack's: slow calls, answers in the very turn, cancels, closing; and what a first attempt costs."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Protocol

import pytest

import holdfast
from holdfast.errors import BadReply, DeadlineExceeded, HoldfastError, MethodNotFound, OutcomeUnknown, Overloaded, Unavailable
from holdfast.facts import CallEnded, CallHedged, CallRetried
from holdfast.policy.fallback import Fallback
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.sim import Cut, World, cancel_everywhere
from holdfast.wire import Settings
from tests.calling.test_nodes import AB, exactly, spawn
from tests.calling.town import VIEWS, Town, run_exactly, told, town

DEADLINE_S = 3.0
ABC = (*AB, "memory://c")


class Shop(Protocol):
    async def get(self, n: int = -1) -> str: ...


async def settle(here: Town) -> None:
    await here.until(here.now() + 0.01)
    here.nothing_is_held()


# -------------------------------------------------------------------------------------------- a slow call and another beside it


@exactly
async def test_a_slow_call_gets_another_attempt_at_another_node() -> None:
    for slow in AB:
        async with town(AB) as here:
            here.how[slow] = "slow"
            calls = [await spawn(here.client.call("shop.get", deadline=DEADLINE_S, returns=str)) for _ in range(6)]
            other = AB[1 - AB.index(slow)]
            assert {await call for call in calls} == {f"get at {other}"}
            assert here.now() == pytest.approx(0.05 + 1.0 + here.took_s[other], abs=0.01)
            assert {node for at, node, _, kind in here.log if kind == "hedge"} == {other}
            assert here.node(slow).cost >= 1.0, "an attempt that is under way for so long is as good as an answer"
            await settle(here)


@exactly
async def test_with_three_nodes_no_attempt_goes_where_one_is() -> None:
    async with town(ABC) as here:
        here.how = dict.fromkeys(ABC, "slow")
        here.slow_s = 60.0
        assert isinstance(await told(here.client.call("shop.get", deadline=DEADLINE_S)), DeadlineExceeded)
        assert [round(at - 0.05, 6) for at, *_ in here.log] == [0.0, 1.0, 2.0]
        assert {node for _, node, *_ in here.log} == set(ABC)
        await settle(here)


@exactly
async def test_the_first_attempt_may_still_win() -> None:
    async with town(AB) as here:
        here.took_s = dict.fromkeys(AB, 1.5)
        assert isinstance(await here.client.call("shop.get", deadline=DEADLINE_S), str)
        assert here.now() == pytest.approx(0.05 + 1.5)
        assert [kind for *_, kind in here.log] == ["original", "hedge"]
        await settle(here)
        assert sum(node.given_up for node in here.core.balancer.nodes.values()) == 1


@exactly
async def test_an_answer_in_the_turn_in_which_the_second_attempt_is_due_needs_none() -> None:
    async with town(AB) as here:
        here.took_s = dict.fromkeys(AB, 1.0)
        assert isinstance(await here.client.call("shop.get", deadline=DEADLINE_S), str)
        await settle(here)
        assert all(node.given_up + node.attempts in (0, 1, 2) for node in here.core.balancer.nodes.values())


@exactly
async def test_both_answer_in_one_turn() -> None:
    async with town(AB) as here:
        here.took_s = dict.fromkeys(AB, 2.5)
        call = await spawn(here.client.using(attempts=2).call("shop.get", deadline=DEADLINE_S, returns=str))
        await here.until(1.0)
        here.took_s = dict.fromkeys(AB, 1.0)
        assert (await call).startswith("get at")
        assert here.now() == pytest.approx(2.55)
        await settle(here)
        assert sum(node.attempts for node in here.core.balancer.nodes.values()) == 2


@exactly
async def test_lost_in_the_turn_in_which_the_second_attempt_is_due() -> None:
    async with town(AB) as here:
        here.how = dict.fromkeys(AB, "slow")
        call = await spawn(here.client.call("shop.get", deadline=DEADLINE_S, returns=str))
        await here.until(0.1)
        loop = asyncio.get_running_loop()
        (at,) = [open_call.beside_at for dialer in here.core.dialers for s in dialer.sessions for open_call in s.conn.calls.values()]  # type: ignore[attr-defined]
        first = here.log[0][1]
        loop.call_at(at, here.lose, first)
        await here.until(1.0)
        here.how = dict.fromkeys(AB, "ok")
        assert isinstance(await call, str)
        await settle(here)
        assert here.node(first).failures == 1


@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize("early_s", [0.0, 0.001, 0.5, 0.999, 1.0, 1.001, 1.5])
def test_a_cancel_at_any_moment_ends_all_attempts(early_s: float, explained: bool) -> None:
    async def main() -> None:
        async with town(AB) as here:
            here.how = dict.fromkeys(AB, "slow")
            client = here.client.using(explain=lambda _: None) if explained else here.client
            task = asyncio.get_running_loop().create_task(client.call("shop.get", deadline=DEADLINE_S))
            await here.until(0.05 + early_s)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await settle(here)
            assert sum(node.failures for node in here.core.balancer.nodes.values()) == 0
            assert [fact.code for fact in here.seen(CallEnded)][-1:] == ["cancelled"]

    run_exactly(main)


def test_a_cancel_anywhere_leaves_nothing_and_the_budget_knows_what_was_sent() -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        async with town(AB) as here:
            here.how = {AB[0]: "busy for long", AB[1]: "busy for long"}
            loop = asyncio.get_running_loop()
            loop.call_later(0.2, here.how.update, dict.fromkeys(AB, "slow"))
            await cut(told(here.client.call("shop.get", deadline=DEADLINE_S)))
            await asyncio.sleep(0.1)
            here.nothing_is_held()
            sent = sum(node.attempts for node in here.core.balancer.nodes.values())
            assert here.core.budget.taken == max(0, sent - 1)
            assert not here.core.scope or not cut.happened

    assert cancel_everywhere(scenario) >= 3


@exactly
async def test_closing_while_attempts_are_beside_one_another() -> None:
    async with town(AB) as here:
        here.how, here.slow_s = dict.fromkeys(AB, "slow"), 60.0
        calls = [await spawn(here.client.call("shop.get", deadline=DEADLINE_S)) for _ in range(5)]
        await here.until(1.5)
        await here.client.close()
        for call in calls:
            error = await call
            assert isinstance(error, OutcomeUnknown | Unavailable)
            assert error.executed == "maybe", "a node has it in its log"
        assert here.now() < 2.0
        assert len(here.core.scope) == 0
        assert all(node.pending == 0 for node in here.core.balancer.nodes.values())


@exactly
async def test_closing_while_calls_are_in_back_off() -> None:
    async with town(AB) as here:
        here.how = dict.fromkeys(AB, "busy for long")
        calls = [await spawn(here.client.call(f"shop.{method}", deadline=DEADLINE_S)) for method in ("get", "put")]
        await here.until(0.1)
        await here.client.close()
        for call in calls:
            error = await call
            assert (type(error), error.executed) == (Unavailable, "no")
        assert here.now() < 1.0


# ------------------------------------------------------------------------------------------------------------ the first attempt


@exactly
async def test_what_connecting_took_is_no_part_of_the_share_of_an_attempt() -> None:
    async with town(AB[:1], connected=False) as here:
        opened = here.net.silent[AB[0]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.8, opened.set_result, None)
        here.took_s[AB[0]] = 0.3
        assert await here.client.using(deadline=DEADLINE_S).bind(Shop).get() == "get at memory://a"
        assert here.node(AB[0]).cost == pytest.approx(0.3)
        assert here.seen(CallHedged) == [], "1.2 s were left when it was sent, a third of that is 0.4 s"
        assert here.seen(CallEnded)[0].duration_s == pytest.approx(2.1)


@exactly
async def test_hedging_learns_from_calls_without_a_deadline_too() -> None:
    """And from those of clients that have no other reason to send a second attempt."""
    for config in (
        holdfast.ClientConfig(hedge=HedgeConfig(mode="enforce", extra=0.1), deadline_s=None),
        holdfast.ClientConfig(hedge=HedgeConfig(mode="enforce", extra=0.1), retry=RetryConfig(beside=False)),
    ):
        async with town(AB, config=config) as here:
            for _ in range(300):
                await here.client.call("shop.get")
            await here.until(here.now() + 4.0)
            await here.client.call("shop.get")
            here.how[AB[0]] = "slow"
            calls = [await spawn(here.client.call("shop.get")) for _ in range(2)]
            for call in calls:
                assert isinstance(await call, str)
            assert here.seen(CallHedged)
            assert here.core.hedges is not None
            assert here.core.hedges.sent == len(here.seen(CallHedged))


@exactly
async def test_a_full_connection_is_waited_for_and_the_attempt_counted_once() -> None:
    async with town(AB[:1]) as here:
        session = here.node(AB[0]).target.session
        session._calls_max = 2
        here.took_s[AB[0]] = 0.1
        calls = [await spawn(here.client.call("shop.put", n=n, returns=str)) for n in range(6)]
        assert [await call for call in calls] == ["put at memory://a"] * 6
        node = here.node(AB[0])
        assert (node.attempts, node.given_up, node.pending) == (6, 0, 0)
        await settle(here)


@exactly
async def test_a_throttle_that_wakes_up_while_a_call_is_under_way_hears_how_it_went() -> None:
    for view in VIEWS:
        config = holdfast.ClientConfig(throttle=ThrottleConfig(mode="enforce", window_s=4.0, calls_min_per_s=1.0))
        async with town(AB[:1], config=config, attempts=1) as here:
            client = here.client.using(**view)
            here.took_s[AB[0]] = 1.0
            good = [await spawn(client.call("shop.put")) for _ in range(3)]
            await here.until(0.5)
            here.how[AB[0]] = "busy"
            here.took_s[AB[0]] = 0.1
            for _ in range(8):
                await told(client.call("shop.put"))
            assert not here.core.throttle.calm
            for call in good:
                assert isinstance(await call, str)
            assert here.core.throttle._run == 3


@exactly
async def test_a_method_that_the_node_has_not_got_takes_no_place() -> None:
    async with town(AB[:1]) as here:
        assert isinstance(await told(here.client.call("shop.gett")), MethodNotFound)
        here.nothing_is_held()


@exactly
async def test_a_result_of_another_type_is_a_bad_reply_and_no_failure_of_the_node() -> None:
    for view in VIEWS:
        async with town(AB[:1]) as here:
            client = here.client.using(**view)
            for told_of in (False, True):  # a client whose facts nobody listens to decodes on a shorter way
                here.core.tells_calls = told_of
                error = await told(client.call("shop.get", returns=int))
                assert isinstance(error, BadReply)
                assert error.record is not None
                assert (error.record.code, [each.outcome for each in error.record.attempts]) == ("data_loss", ["ok"])
            with_fallback = client.using(fallback=Fallback(value=-1, on=("data_loss",)))
            assert await with_fallback.call("shop.get", returns=int) == -1
            assert (here.node(AB[0]).failures, here.node(AB[0]).pending) == (0, 0)


@exactly
async def test_a_call_too_large_for_the_server_is_settled() -> None:
    config = holdfast.ClientConfig(wire=Settings(message_max_bytes=1 << 20))
    async with town(AB[:1], config=config) as here:
        error = await told(here.client.call("shop.get", n=0, deadline=DEADLINE_S, metadata={"k": "v" * 70_000}))
        assert isinstance(error, HoldfastError)
        here.nothing_is_held()


# ------------------------------------------------------------------------------------------------------------------ fallbacks


@exactly
async def test_a_fallback_stands_in_where_nobody_can_be_reached() -> None:
    """Before the method was ever called, and after."""
    for keys in (AB[:1], AB):
        async with town(keys, connected=False) as here:
            for key in keys:
                here.down(key)
            await here.until(0.1)
            client = here.client.using(fallback="none")
            assert await client.call("shop.put") == "none"
            for key in keys:
                here.up(key)
            here.client.poke()
            await here.client.ready()
            assert await client.call("shop.put", returns=str) != "none"
            for key in keys:
                here.down(key)
            await here.until(here.now() + 0.5)
            assert await client.call("shop.put") == "none"


@exactly
async def test_a_call_that_found_no_node_is_explained_too() -> None:
    async with town(AB[:1], connected=False) as here:
        here.down(AB[0])
        records: list[Any] = []
        client = here.client.using(explain=records.append)
        errors = [await (await spawn(client.call("shop.put"))) for _ in range(2)]
        errors += await asyncio.gather(*(told(client.call("shop.put")) for _ in range(3)))
        assert [record.code for record in records] == ["unavailable"] * 5
        assert [error.record for error in errors] == records or {id(error.record) for error in errors} == {id(record) for record in records}
        assert len({id(record) for record in records}) == 5, "each has its own"


# ----------------------------------------------------------------------------------------------------------- explained calls


@pytest.mark.parametrize(("every", "told_of"), [(0, 0), (1, 7), (3, 2)])
def test_of_so_many_calls_one_is_explained(every: int, told_of: int) -> None:
    async def main() -> None:
        async with town(AB[:1], config=holdfast.ClientConfig(explain_every=every)) as here:
            for _ in range(7):
                await here.client.call("shop.get")
            records = [fact.record for _, fact in here.facts if type(fact).__name__ == "CallExplained"]
            assert len(records) == told_of
            assert all(record.code == "ok" and len(record.attempts) == 1 for record in records)
            here.how[AB[0]] = "busy"
            error = await told(here.client.call("shop.get"))
            records = [fact.record for _, fact in here.facts if type(fact).__name__ == "CallExplained"]
            assert records[-1].code == "resource_exhausted", "each that fails is"
            assert error.record is records[-1]
            assert [trial.outcome for trial in error.record.attempts] == ["resource_exhausted"] * 3

    run_exactly(main)


@exactly
async def test_an_error_that_many_hear_has_for_each_of_them_a_record_of_its_own() -> None:
    async with town(AB[:1]) as here:
        here.how[AB[0]] = "slow"
        calls = [await spawn(here.client.using(attempts=1).call("shop.put", n=n)) for n in range(4)]
        await here.until(0.5)
        here.lose(AB[0])
        errors = [await call for call in calls]
        assert len({id(error.record) for error in errors}) == 4
        assert [error.record.attempts[0].outcome for error in errors] == ["unavailable"] * 4
        assert sorted(error.record.number for error in errors) == [error.record.number for error in errors]


@exactly
async def test_a_first_attempt_that_was_merged_stands_in_the_record_with_what_followed() -> None:
    async with town(AB) as here:
        here.how = dict.fromkeys(AB, "busy")
        error = await told(here.client.call("shop.put"))
        assert isinstance(error, Overloaded)
        record: Any = error.record
        assert [trial.kind for trial in record.attempts] == ["original", "retry", "retry"]
        assert [trial.node for trial in record.attempts] == [node for _, node, *_ in here.log]
        assert record.attempts[0].node != record.attempts[1].node
        assert record.denied == "attempts"
        assert len(here.seen(CallRetried)) == 2


@exactly
async def test_a_stub_and_a_call_by_name_are_the_same() -> None:
    async with town(AB[:1]) as here:
        method = here.core.methods.find(here.core.catalogue, "shop.get", str)  # type: ignore[arg-type]
        stub = here.client._stub(method)
        assert isinstance(stub, functools.partial)
        assert await stub() == await here.client.call("shop.get", returns=str)
