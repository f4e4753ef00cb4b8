"""What all views of a client share: numbers, waiting for a connection, and telling how calls ended."""

from __future__ import annotations

import asyncio

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.facts import CallEnded
from holdfast.net.memory import MemoryNetwork

from ..faults.helpers import rig


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
    dial = holdfast.ClientConfig(dial=holdfast.client.DialConfig(base_s=0.001, cap_s=0.002))
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
