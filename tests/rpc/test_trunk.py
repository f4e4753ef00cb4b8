"""What all views of a client share: numbers, waiting for a connection, and telling how calls ended."""

from __future__ import annotations

import asyncio

import pytest

import holdfast
from holdfast.errors import Overloaded, Unavailable
from holdfast.facts import CallEnded
from holdfast.net.memory import MemoryNetwork
from holdfast.rpc.trunk import SETTLED_LAG_S
from holdfast.wire import Settings

from ..faults.helpers import rig, until


def service() -> holdfast.Service:
    made = holdfast.Service("shop")

    @made.method
    async def number(ctx: holdfast.Context) -> int:
        return ctx.call_number

    return made


async def test_calls_of_all_views_are_numbered_together() -> None:
    async with rig(service(), bind="memory://numbers") as here:
        views = [here.client, here.client.using(attempts=2), here.client.using(deadline=5.0)]
        assert [await view.call("shop.number") for view in views for _ in range(2)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_it_connects_as_often_as_a_call_may_be_sent(attempts: int) -> None:
    class Counting(MemoryNetwork):
        count = 0

        async def connect(self, *args: object, **more: object) -> object:  # type: ignore[override]
            self.count += 1
            raise Unavailable("nobody there")

    network, facts = Counting(), []
    dial = holdfast.ClientConfig(dial=holdfast.config.DialConfig(base_s=0.001, cap_s=0.002))
    async with holdfast.connect("memory://x", attempts=attempts, network=network, config=dial, emit=facts.append) as client:
        with pytest.raises(Unavailable):
            await client.call("shop.number")
        assert network.count == attempts
        assert [(fact.method, fact.code) for fact in facts if isinstance(fact, CallEnded)] == [("shop.number", "unavailable")]


async def test_a_background_error_reaches_the_loop_once() -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    async with rig(service(), bind="memory://background") as here:
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))

        async def breaks() -> None:
            raise ValueError("a bug")

        await asyncio.wait([here.client._core.scope.spawn(breaks())])
        await asyncio.sleep(0)
        loop.set_exception_handler(before)
    assert told == ["holdfast client: a background task failed"]


async def test_settled_is_what_was_true_a_look_ago_and_only_grows() -> None:
    async with rig(service(), bind="memory://settled") as here:
        core = here.client._core
        for _ in range(3):
            await here.client.call("shop.number")

        def look() -> int:
            core._low_at = core.now() - SETTLED_LAG_S
            return core.settled()

        assert (look(), look()) == (0, 4)
        core._waiting[2] = None  # an older call that is between two attempts
        assert (look(), look()) == (4, 4)
        await here.client.call("shop.number")
        core._waiting.clear()
        core._waiting[4] = None
        assert (look(), look(), core.settled()) == (4, 4, 4)
        core._waiting.clear()
        assert (look(), look()) == (4, 5)


async def test_a_call_between_its_connection_and_its_task_is_not_settled() -> None:
    async with rig(service(), bind="memory://gap") as here:
        core = here.client._core
        looks: list[int] = []

        def look() -> int:
            core._low_at = core.now() - SETTLED_LAG_S
            return core.settled()

        await here.client.call("shop.number")
        core.number = 2  # it has just failed on its connection, and its task did not run yet
        looks.append(look())
        core._waiting[2] = None  # now it did, and waits for its next attempt
        looks += [look(), look()]
        core._waiting.clear()
        looks += [look(), look()]
    assert looks == [0, 2, 2, 2, 3]


async def test_a_call_that_waits_for_its_next_attempt_is_not_settled() -> None:
    made, asked = holdfast.Service("shop"), []

    @made.method
    async def busy(number: int) -> int:
        asked.append(number)
        if number == 1:
            raise Overloaded("come back", retry_after_s=5.0)
        return number

    async with rig(made, bind="memory://again", attempts=3) as here:
        core = here.client._core

        def look() -> int:
            core._low_at = core.now() - SETTLED_LAG_S
            return core.settled()

        first = asyncio.get_running_loop().create_task(here.client.call("shop.busy", 1, returns=int))
        await until(lambda: core._waiting)
        assert await here.client.call("shop.busy", 2, returns=int) == 2
        assert (look(), look(), look()) == (0, 1, 1)
        first.cancel()
        await asyncio.wait([first])
        assert (look(), look()) == (1, 3)
    assert asked == [1, 2]


async def test_the_server_hears_which_calls_it_may_forget() -> None:
    async with rig(service(), bind="memory://acks", client_config=holdfast.ClientConfig(wire=Settings(heartbeat_s=0.1))) as here:
        core = here.client._core
        for _ in range(3):
            await here.client.call("shop.number")
        core._low = core._settled = 4
        [responder] = here.theirs
        await until(lambda: responder.conn.settled == 4)
        assert await here.client.call("shop.number") == 4
