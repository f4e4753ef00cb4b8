"""Calls that leave the merged way: what follows is counted once, and the record and the machines know the first attempt too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast.errors import (
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from holdfast.facts import CallEnded, CallRetried
from holdfast.handler import Handler, Placed, Reply, Request, Stack
from holdfast.net.memory import MemoryNetwork
from holdfast.policy.classify import OVERLOAD
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.limit import LimitConfig
from tests.calling.test_nodes import AB, exactly, spawn
from tests.calling.town import VIEWS, LoopClock, Town, run_exactly, told, town

HEDGED = holdfast.ClientConfig(hedge=HedgeConfig(mode="enforce", extra=0.1))


def learned(here: Town) -> list[float]:
    """How long attempts of `shop.get` took, as the hedges have heard."""
    assert here.core.hedges is not None
    return [round(took_s, 6) for took_s in here.core.hedges.of("shop.get")._fresh]


def counted(here: Town) -> tuple[int, int, bool]:
    """Accepted and refused calls of the throttle, and whether the budget has seen a success."""
    throttle: Any = here.core.throttle
    return throttle._old_accepted + throttle.accepts, throttle._old_refused + throttle._refused_now, here.core.budget.lit


@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize(
    ("how", "end", "throttle", "hears"),
    [
        ("ok", str, (1, 0, True), [0.004]),
        ("not found", NotFound, (1, 0, True), [0.004]),
        ("busy", Overloaded, (0, 1, False), []),
        ("broken", HoldfastError, (1, 0, False), []),
    ],
)
def test_a_call_counts_once_for_the_throttle_and_each_attempt_for_those_who_learn(
    how: str, end: type, throttle: tuple[int, int, bool], hears: list[float], explained: bool
) -> None:
    async def main() -> None:
        async with town(AB[:1], config=HEDGED, attempts=2) as here:
            here.how[AB[0]] = how
            client = here.client.using(explain=lambda _: None) if explained else here.client
            assert isinstance(await told(client.call("shop.get")), end)
            assert counted(here) == throttle
            assert learned(here) == hears
            assert here.core.budget.calls == 1
            assert len(here.seen(CallEnded)) == 1

    run_exactly(main)


@pytest.mark.parametrize("explained", [False, True])
def test_a_timeout_is_heard_of_as_that_slow(explained: bool) -> None:
    async def main() -> None:
        async with town(AB[:1], config=HEDGED, attempts=1) as here:
            here.how[AB[0]] = "slow"
            client = here.client.using(explain=lambda _: None) if explained else here.client
            assert isinstance(await told(client.call("shop.get", deadline=0.5)), DeadlineExceeded)
            (took_s,) = learned(here)
            assert took_s == pytest.approx(0.5, abs=0.01)
            assert counted(here) == (0, 1, False)

    run_exactly(main)


@pytest.mark.parametrize("explained", [False, True])
def test_of_attempts_beside_one_another_both_are_heard_of(explained: bool) -> None:
    async def main() -> None:
        async with town(AB, config=HEDGED) as here:
            here.how[AB[0]] = here.how[AB[1]] = "slow"
            client = here.client.using(explain=lambda _: None) if explained else here.client
            call = await spawn(client.call("shop.get", deadline=3.0))
            await here.until(0.5)
            here.how = dict.fromkeys(AB, "ok")
            assert isinstance(await call, str)
            await here.until(here.now() + 0.01)
            assert len(learned(here)) == 2
            assert max(learned(here)) > 1.0, "the one that was overtaken took at least so long"
            assert counted(here) == (1, 0, True)
            here.nothing_is_held()

    run_exactly(main)


@pytest.mark.parametrize("explained", [False, True])
def test_a_caller_who_leaves_says_nothing_of_how_long_calls_take(explained: bool) -> None:
    async def main() -> None:
        async with town(AB, config=HEDGED) as here:
            here.how = dict.fromkeys(AB, "slow")
            client = here.client.using(explain=lambda _: None) if explained else here.client
            for patience_s in (0.5, 1.5):
                task = asyncio.get_running_loop().create_task(client.call("shop.get", deadline=3.0))
                await here.until(here.now() + patience_s)
                task.cancel()
                await asyncio.wait([task])
                await here.until(here.now() + 0.01)
            assert learned(here) == []
            assert counted(here)[:2] == (0, 2)
            here.nothing_is_held()

    run_exactly(main)


@exactly
async def test_a_call_that_may_have_run_is_not_sent_again_unless_it_is_idempotent() -> None:
    for method, end in (("put", OutcomeUnknown), ("get", str)):
        async with town(AB) as here:
            here.took_s = dict.fromkeys(AB, 0.2)
            call = await spawn(here.client.call(f"shop.{method}", deadline=3.0))
            await here.until(0.1)
            here.lose(here.log[0][1])
            assert isinstance(await call, end)
            assert len(here.log) == (1 if end is OutcomeUnknown else 2)


@exactly
async def test_a_retry_goes_to_another_node() -> None:
    async with town(AB) as here:
        here.how[AB[0]] = "busy"
        for n in range(12):
            assert await here.client.call("shop.put", n=n, returns=str) == "put at memory://b"
        retried = here.seen(CallRetried)
        assert retried
        assert [node for _, node, _, kind in here.log if kind == "retry"] == [AB[1]] * len(retried)


@exactly
async def test_the_record_of_a_slow_first_attempt_is_complete() -> None:
    async with town(AB) as here:
        here.how = dict.fromkeys(AB, "slow")
        here.slow_s = 60.0
        error = await told(here.client.using(attempts=2).call("shop.get", deadline=3.0))
        assert isinstance(error, DeadlineExceeded)
        record: Any = error.record
        first, second = record.attempts
        assert (first.kind, second.kind) == ("original", "hedge")
        assert {first.node, second.node} == set(AB)
        assert (first.began_s, second.began_s) == (0.0, pytest.approx(1.5, abs=0.001))
        assert {first.outcome, second.outcome} == {"deadline_exceeded"}
        assert (first.left_s, second.left_s) == (3.0, pytest.approx(1.5, abs=0.001))
        assert record.duration_s == pytest.approx(3.0, abs=0.01)


# ------------------------------------------------------------------------------------------------------- calls in handlers


def throttled(here: Town) -> None:
    """Have the client hold calls back, as it does when most were refused."""
    for _ in range(1000):
        here.core.throttle.record(OVERLOAD, asyncio.get_running_loop().time())


LIMITED = holdfast.ClientConfig(limit=LimitConfig(mode="enforce", limit=1, queue_max=0))


@pytest.mark.parametrize("why", ["waiting", "throttle", "limit", "stream", "layer"])
def test_what_a_handler_has_begun_is_not_done_again_because_its_own_client_holds_a_call_back(why: str) -> None:
    """The client says that its call was not executed, which is true of that, and not of the call being answered."""

    async def main() -> None:
        done: list[str] = []
        front = holdfast.Service("front")

        async def call_on(here: Town) -> None:
            if why == "waiting":
                await here.client.using(waiting_max=0).call("shop.get", deadline=0.5)
            elif why == "stream":
                async for _ in here.client.using(waiting_max=0).stream("shop.items", 1, 0.1, deadline=0.5):
                    pass
            else:
                await here.client.call("shop.get", deadline=0.5)

        config = LIMITED if why == "limit" else holdfast.ClientConfig(stack=refusing) if why == "layer" else None
        async with town(AB[:1], connected=why not in ("waiting", "stream"), config=config) as here:

            @front.method
            async def put(ctx: holdfast.Context) -> None:
                done.append(ctx.attempt)
                await call_on(here)

            if why == "throttle":
                throttled(here)
            elif why == "limit":
                here.how[AB[0]] = "slow"
                occupies = await spawn(here.client.call("shop.get", deadline=1.0))
            elif why in ("waiting", "stream"):
                here.net.refusing[AB[0]] = None
            network = MemoryNetwork()
            serving = holdfast.serve(front, bind="memory://front", network=network, clock=LoopClock(), seed=1)
            async with serving, holdfast.connect("memory://front", network=network, clock=LoopClock(), seed=1) as caller:
                error = await told(caller.call("front.put", deadline=3.0))
            assert done == ["original"]
            assert isinstance(error, InternalError)
            assert error.executed != "no"
            if why == "limit":
                await occupies

    run_exactly(main)


def refusing(stack: Stack) -> Stack:
    """A layer of somebody's that lets nothing through."""

    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            raise Overloaded("this client has a limit of its own")

        return send

    return stack.before("retry", Placed("mine", layer, "for the test"))


# ------------------------------------------------------------------------------------------------- nodes of two versions


class TwoVersions(Town):
    """The first node says that `get` is idempotent; the others, which are of another version, do not."""

    def service(self, key: str) -> holdfast.Service:
        if key == self.keys[0]:
            return super().service(key)
        service = holdfast.Service("shop")

        @service.method
        async def get(ctx: holdfast.Context, n: int = -1) -> str:
            self.log.append((self.now(), key, n, ctx.attempt))
            await asyncio.sleep(self.slow_s if self.how[key] == "slow" else self.took_s[key])
            return f"get at {key}"

        return service


def sendings(here: Town) -> list[list[str]]:
    """The nodes that each call reached."""
    numbers = dict.fromkeys(number for _, _, number, _ in here.log)
    return [[node for _, node, each, _ in here.log if each == number] for number in numbers]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("count", [5, 6, 7, 8])  # whichever node the method is compared with last
def test_what_one_node_does_not_call_idempotent_is_not_sent_again_on_the_word_of_another(count: int, view: dict[str, Any]) -> None:
    async def main() -> None:
        async with town(AB, kind=TwoVersions) as here:
            here.took_s = dict.fromkeys(AB, 0.2)
            client = here.client.using(**view, **({"fallback": "a guess"} if count == 8 else {}))
            calls = [await spawn(client.call("shop.get", n=n, deadline=3.0)) for n in range(count)]
            await here.until(0.1)
            assert {node for _, node, *_ in here.log} == set(AB)
            first = {number: node for _, node, number, _ in here.log}
            here.lose(AB[1])
            ends = [await call for call in calls]
            for number, end in enumerate(ends):
                if first[number] == AB[1]:
                    assert isinstance(end, OutcomeUnknown), "and no fallback: nobody would hear that it may have been executed"
                else:
                    assert end == f"get at {AB[0]}"
            assert all(len(nodes) == 1 for nodes in sendings(here)), here.log
            here.nothing_is_held()

    run_exactly(main)


@pytest.mark.parametrize("view", VIEWS)
def test_what_may_have_run_goes_to_no_node_that_does_not_call_it_idempotent(view: dict[str, Any]) -> None:
    async def main() -> None:
        async with town(AB, kind=TwoVersions) as here:
            here.took_s = dict.fromkeys(AB, 0.2)
            client = here.client.using(**view)
            calls = [await spawn(client.call("shop.get", n=n, deadline=3.0)) for n in range(8)]
            await here.until(0.1)
            first = {number: node for _, node, number, _ in here.log}
            here.down(AB[0])
            ends = [await call for call in calls]
            for number, end in enumerate(ends):
                if first[number] == AB[0]:
                    assert isinstance(end, HoldfastError)
                    assert end.executed == "maybe"
                else:
                    assert end == f"get at {AB[1]}"
            assert all(len(nodes) == 1 for nodes in sendings(here)), here.log
            here.nothing_is_held()
            assert here.node(AB[1]).failures == 0, "it was not to blame"

    run_exactly(main)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("slow", AB)
def test_no_attempt_goes_beside_another_where_one_of_the_nodes_does_not_call_it_idempotent(slow: str, view: dict[str, Any]) -> None:
    async def main() -> None:
        async with town(AB, kind=TwoVersions) as here:
            here.how[slow] = "slow"
            here.slow_s = 2.5
            client = here.client.using(**view)
            calls = [await spawn(client.call("shop.get", n=n, deadline=3.0)) for n in range(8)]
            assert {await call for call in calls} == {f"get at {key}" for key in AB}
            assert all(len(nodes) == 1 for nodes in sendings(here)), here.log
            await here.until(here.now() + 0.01)
            here.nothing_is_held()

    run_exactly(main)


@pytest.mark.parametrize("view", VIEWS)
def test_what_surely_has_not_run_goes_to_a_node_of_any_version(view: dict[str, Any]) -> None:
    async def main() -> None:
        async with town(AB, kind=TwoVersions) as here:
            here.how[AB[0]] = "busy"
            client = here.client.using(**view)
            for n in range(6):
                assert await told(client.call("shop.get", n=n, returns=str)) == f"get at {AB[1]}"
            assert AB[0] in {node for _, node, *_ in here.log}

    run_exactly(main)


# ------------------------------------------------------------------------------------------------------------------ uploads


class Numbers:
    """A source that knows how often it was asked, and whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count, self.given, self.closed = count, 0, False

    async def items(self) -> AsyncIterator[int]:
        try:
            while self.given < self.count:
                self.given += 1
                yield self.given
        finally:
            self.closed = True


@exactly
async def test_an_upload_has_one_attempt_whatever_becomes_of_it() -> None:
    for how, end in (("ok", int), ("busy", Overloaded), ("not found", NotFound)):
        async with town(AB) as here:
            here.how = dict.fromkeys(AB, how)
            numbers = Numbers(3)
            assert isinstance(await told(here.client.call("shop.total", numbers.items())), end)
            assert (len(here.log), here.core.budget.taken, here.seen(CallRetried)) == (1, 0, [])
            assert here.core.budget.calls == 1
            assert numbers.closed or not numbers.given
            await here.until(here.now() + 0.1)
            here.nothing_is_held()


@exactly
async def test_an_upload_that_finds_no_node_says_so_and_takes_nothing_of_its_source() -> None:
    async with town(AB) as here:
        await here.client.call("shop.get")
        for key in AB:
            here.down(key)
        await here.until(here.now() + 0.1)
        numbers = Numbers(3)
        error = await told(here.client.call("shop.total", numbers.items()))
        assert (type(error), error.executed, numbers.given) == (Unavailable, "no", 0)
        here.nothing_is_held()


@exactly
async def test_an_argument_that_cannot_travel_takes_no_place() -> None:
    async with town(AB) as here:
        for method in ("get", "total"):
            error = await told(here.client.call(f"shop.{method}", nobody="knows"))
            assert isinstance(error, InvalidArgument)
        here.nothing_is_held()
        assert here.log == []
