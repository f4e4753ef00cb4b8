"""Handlers that raise, return late, never return, refuse to be cancelled, cancel themselves: each call still has its one answer."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import holdfast
from holdfast.facts import CallEnded, CallShed, HandlerFailed, HandlerOverran

from .helpers import PATIENCE_S, Rig, rig, until


class Room:
    """A service whose handlers do as the test says."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.released = threading.Event()
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def raises(early: bool) -> int:
            if not early:
                await asyncio.sleep(0)
            raise RuntimeError("the secret is 42")

        @svc.method
        def raises_plain() -> int:
            raise RuntimeError("the secret is 42")

        @svc.method(blocking=True)
        def raises_in_a_thread() -> int:
            raise RuntimeError("the secret is 42")

        @svc.method
        async def raises_between(n: int) -> AsyncIterator[int]:
            for number in range(n):
                yield number
            raise RuntimeError("the secret is 42")

        @svc.method
        async def refuses() -> int:
            raise holdfast.Refused("out of stock", code="failed_precondition", details={"left": 0})

        @svc.method
        async def for_ever() -> None:
            self.begun += 1
            try:
                await self.gate
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            self.ended.append("returned")

        @svc.method
        async def stubborn() -> str:
            """Returns late: swallows the cancellation and goes on."""
            self.begun += 1
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.ended.append("swallowed")
            await self.gate
            self.ended.append("late")
            return "too late"

        @svc.method
        async def cancels_itself() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        @svc.method
        async def raises_cancelled() -> None:
            raise asyncio.CancelledError

        @svc.method(blocking=True)
        def blocks() -> None:
            self.begun += 1
            assert self.released.wait(PATIENCE_S)

        @svc.method
        async def ok() -> str:
            return "ok"


async def still_works(here: Rig) -> None:
    assert await here.client.call("room.ok") == "ok"
    await here.clean()


@pytest.mark.both_loops
@pytest.mark.parametrize("call", [("room.raises", True), ("room.raises", False), ("room.raises_plain",), ("room.raises_in_a_thread",)])
async def test_what_a_handler_raises_becomes_an_incident_and_its_text_stays_at_home(call: tuple[str, ...]) -> None:
    async with rig(Room().service) as here:
        with pytest.raises(holdfast.InternalError, match=f"{call[0]} failed; the server's log has it as incident") as caught:
            await here.client.call(*call)
        (failed,) = here.seen(HandlerFailed)
        assert failed.incident in str(caught.value)
        assert str(failed.error) == "the secret is 42"
        assert "secret" not in str(caught.value)
        await still_works(here)


async def test_debug_sends_the_text_along() -> None:
    async with rig(Room().service, debug=True) as here:
        with pytest.raises(holdfast.InternalError, match="RuntimeError: the secret is 42"):
            await here.client.call("room.raises", True)


@pytest.mark.parametrize("n", [0, 3])
async def test_a_stream_that_raises_gives_what_came_before(n: int) -> None:
    async with rig(Room().service) as here:
        got: list[int] = []
        with pytest.raises(holdfast.InternalError, match="incident"):
            async with here.client.stream("room.raises_between", n, returns=int) as items:
                async for item in items:
                    got.append(item)  # noqa: PERF401 # what came before the error is what is asked for
        assert got == list(range(n))
        await still_works(here)


async def test_a_refusal_crosses_as_it_is() -> None:
    async with rig(Room().service) as here:
        with pytest.raises(holdfast.Refused, match="out of stock") as caught:
            await here.client.call("room.refuses")
        assert (caught.value.code, caught.value.details, caught.value.executed) == ("failed_precondition", {"left": 0}, "yes")
        await still_works(here)


@pytest.mark.both_loops
async def test_a_handler_that_never_returns_is_cancelled_when_its_deadline_passes() -> None:
    room = Room()
    async with rig(room.service) as here:
        with pytest.raises(holdfast.DeadlineExceeded) as caught:
            await here.client.call("room.for_ever", deadline=0.15)
        assert caught.value.executed == "maybe"
        await until(lambda: room.ended == ["cancelled"])
        await still_works(here)
        codes = [fact.code for fact in here.seen(CallEnded) if fact.side == "server" and fact.method == "room.for_ever"]
        assert codes in (["deadline_exceeded"], ["cancelled"])  # whose clock struck first


@pytest.mark.both_loops
async def test_a_handler_that_returns_late_keeps_its_slot_until_it_really_ends_and_answers_nobody() -> None:
    room = Room()
    async with rig(room.service, handlers_max=1) as here:
        with pytest.raises(holdfast.DeadlineExceeded):
            await here.client.call("room.stubborn", deadline=0.15)
        await until(lambda: room.ended == ["swallowed"])
        assert here.server.stats().running == 1
        with pytest.raises(holdfast.Overloaded, match="1 handlers are running already") as caught:
            await here.client.call("room.ok")
        assert caught.value.executed == "no"
        assert [fact.reason for fact in here.seen(CallShed)] == ["handlers_full"]
        room.gate.set_result(None)
        await until(lambda: room.ended == ["swallowed", "late"])
        await still_works(here)


@pytest.mark.both_loops
async def test_a_caller_that_is_cancelled_cancels_its_handler() -> None:
    room = Room()
    async with rig(room.service) as here:
        call = asyncio.get_running_loop().create_task(here.client.call("room.for_ever"))
        await until(lambda: room.begun == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: room.ended == ["cancelled"])
        await still_works(here)
        assert not here.seen(HandlerOverran)


@pytest.mark.both_loops
@pytest.mark.parametrize("method", ["room.cancels_itself", "room.raises_cancelled"])
async def test_a_handler_that_is_cancelled_by_its_own_side_says_so(method: str) -> None:
    async with rig(Room().service) as here:
        with pytest.raises(holdfast.Cancelled, match="the handler was cancelled by the server"):
            await here.client.call(method)
        await still_works(here)


@pytest.mark.both_loops
async def test_a_server_that_goes_down_cancels_what_never_returns_and_tells_its_caller() -> None:
    room = Room()
    async with rig(room.service, drain_s=0.02) as here:
        call = asyncio.get_running_loop().create_task(here.client.call("room.for_ever"))
        await until(lambda: room.begun == 1)
        await here.server.close()
        with pytest.raises(holdfast.Cancelled, match="the server went down before the call was done"):
            await call
        assert room.ended == ["cancelled"]


async def test_a_blocking_handler_that_does_not_return_costs_its_thread_and_nothing_else() -> None:
    room = Room()
    async with rig(room.service, threads_max=1, threads_queue_max=1) as here:
        with pytest.raises(holdfast.DeadlineExceeded):
            await here.client.call("room.blocks", deadline=0.15)
        await until(lambda: here.server.stats().running == 0)
        assert here.server.stats().threads_busy == 1
        assert await here.client.call("room.ok") == "ok"
        with pytest.raises(holdfast.DeadlineExceeded):  # waits for the one thread
            await here.client.call("room.blocks", deadline=0.15)
        room.released.set()
        await still_works(here)
        assert room.begun == 1  # the one that waited was never started


async def test_one_blocking_call_more_than_there_is_room_for_is_refused() -> None:
    room = Room()
    async with rig(room.service, threads_max=1, threads_queue_max=1) as here:
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(here.client.call("room.blocks")) for _ in range(2)]
        await until(lambda: here.server.stats().threads_busy == 2)
        with pytest.raises(holdfast.Overloaded, match="2 blocking calls run or wait already"):
            await here.client.call("room.blocks")
        room.released.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*calls)
        assert room.begun == 2
        await still_works(here)


@pytest.mark.both_loops
async def test_a_handler_that_raises_before_there_is_a_coroutine_fails_its_call_alone() -> None:
    service = holdfast.Service("odd")

    def lies(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def decorated() -> Any:  # and shows the signature of what it wraps
            return None

        return decorated

    @service.method
    @lies
    async def unary(value: int) -> int:
        return value

    @service.method
    @lies
    async def upload(values: AsyncIterator[int]) -> int:
        return 0

    @service.method
    async def fine(value: int) -> int:
        return value

    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    async with rig(service) as here:
        with pytest.raises(holdfast.errors.InternalError, match="incident"):
            await here.client.call("odd.unary", 1, returns=int)
        with pytest.raises(holdfast.errors.InternalError, match="incident"):
            await here.client.call("odd.upload", two(), returns=int)
        assert await here.client.call("odd.fine", 2, returns=int) == 2
        assert len(here.theirs) == 1, "the connection went on"
        await here.clean()
