"""What one call sets no other sees: context variables, and futures that many handlers wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

import holdfast
from holdfast.facts import HandlerFailed

from .helpers import rig, until

WHO: ContextVar[str] = ContextVar("who", default="nobody")
pytestmark = pytest.mark.both_loops


class Room:
    """Handlers that set a variable and look at it later."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hold: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def sets(name: str) -> list[str]:
            """Sets a variable before the first suspension, spawns a task that sets its own, and looks at both afterwards."""
            seen = [WHO.get()]
            WHO.set(name)

            async def child() -> str:
                before = WHO.get()
                WHO.set(f"{name}-child")
                await self.hold
                return f"{before}>{WHO.get()}"

            spawned = asyncio.get_running_loop().create_task(child())
            self.begun += 1
            await self.hold
            seen.append(WHO.get())
            seen.append(await spawned)
            seen.append(WHO.get())
            return seen

        @svc.method
        def sets_plain(name: str) -> str:
            before = WHO.get()
            WHO.set(name)
            return before

        @svc.method(blocking=True)
        def sets_in_thread(name: str) -> str:
            before = WHO.get()
            WHO.set(name)
            return before

        @svc.method
        async def sets_and_yields(name: str) -> AsyncIterator[str]:
            yield WHO.get()
            WHO.set(name)
            for _ in range(5):
                await asyncio.sleep(0)
                yield WHO.get()

        @svc.method
        async def shares_a_future(n: int) -> int:
            self.begun += 1
            await self.gate
            return n


async def test_context_variables_of_one_call_are_never_seen_by_another() -> None:
    room = Room()
    token = WHO.set("the test")  # nor those of whoever serves, changed later
    try:
        async with rig(room.service) as here:
            calls = [asyncio.get_running_loop().create_task(here.client.call("room.sets", f"c{n}")) for n in range(20)]
            await until(lambda: room.begun == 20)
            room.hold.set_result(None)
            outside = {seen[0] for seen in await asyncio.gather(*calls)}
            for n, call in enumerate(calls):
                assert call.result()[1:] == [f"c{n}", f"c{n}>c{n}-child", f"c{n}"]
            for method in ("sets_plain", "sets_in_thread", "sets"):
                for n in range(10):
                    seen = await here.client.call(f"room.{method}", f"d{n}")
                    outside.add(seen[0] if method == "sets" else seen)
            assert len(outside) == 1, f"a call saw what another one had set: {outside}"
            await here.clean()
    finally:
        WHO.reset(token)


async def test_context_variables_of_streams_that_take_turns_stay_their_own() -> None:
    room = Room()
    async with rig(room.service) as here:

        async def read(name: str) -> list[str]:
            async with here.client.stream("room.sets_and_yields", name, returns=str) as items:
                return [item async for item in items]

        answers = await asyncio.gather(*[read(f"s{n}") for n in range(10)])
        assert len({answer[0] for answer in answers}) == 1
        assert [answer[1:] for answer in answers] == [[f"s{n}"] * 5 for n in range(10)]
        await here.clean()


async def test_handlers_that_wait_for_one_and_the_same_future_all_go_on() -> None:
    """Their first steps are taken one right after the other, before any of them is a task of the loop."""
    room = Room()
    async with rig(room.service) as here:
        calls = [asyncio.get_running_loop().create_task(here.client.call("room.shares_a_future", n)) for n in range(50)]
        await until(lambda: room.begun == 50)
        room.gate.set_result(None)
        assert await asyncio.gather(*calls) == list(range(50))
        await here.clean()
        assert not here.seen(HandlerFailed)
