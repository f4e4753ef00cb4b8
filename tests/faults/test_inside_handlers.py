"""Inside a handler everything works as in any task, from its first statement on: timeouts, groups, HTTP clients, cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import anyio
import anyio.lowlevel
import httpx
import pytest

import holdfast
from holdfast.facts import HandlerFailed
from holdfast.wire import frames

from .helpers import PATIENCE_S, Rig, call_frame, raw_peer, rig, until

pytestmark = pytest.mark.both_loops


@asynccontextmanager
async def http_server() -> AsyncIterator[str]:
    """A small real HTTP server; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # a client that was cancelled
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def never() -> None:
    await asyncio.get_running_loop().create_future()


class Room:
    """Handlers whose first statement is what the test is about."""

    def __init__(self) -> None:
        self.url = ""
        self.begun = 0
        self.ended: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service("room")
        for add in (self._add_timeouts, self._add_groups, self._add_clients, self._add_waits):
            add(svc)

    def _add_timeouts(self, svc: holdfast.Service) -> None:
        """Timeouts and cancel scopes."""

        @svc.method
        async def timeout_passes() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await never()
            except TimeoutError:
                return "timed out"
            return "no"

        @svc.method
        async def timeout_unused() -> str:
            async with asyncio.timeout(5.0):  # noqa: ASYNC100 # that it may be left at once is what is tested
                return "in time"

        @svc.method
        async def timeout_at_once() -> str:
            try:
                async with asyncio.timeout(0):
                    await never()
            except TimeoutError:
                return "timed out"
            return "no"

        @svc.method
        async def move_on() -> bool:
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            return scope.cancelled_caught

        @svc.method
        async def fail_after() -> str:
            try:
                with anyio.fail_after(0.01):
                    await anyio.sleep_forever()
            except TimeoutError:
                return "timed out"
            return "no"

        @svc.method
        async def waits_for() -> str:
            return await asyncio.wait_for(_value("waited"), 5.0)

    def _add_groups(self, svc: holdfast.Service) -> None:
        """Tasks of its own."""

        @svc.method
        async def group() -> int:
            async def one(n: int) -> int:
                await asyncio.sleep(0)
                return n

            async with asyncio.TaskGroup() as tasks:
                made = [tasks.create_task(one(n)) for n in range(5)]
            return sum(task.result() for task in made)

        @svc.method
        async def group_fails() -> str:
            async def fail() -> None:
                raise LookupError("no")

            failed = ""
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(never())
                    tasks.create_task(fail())
            except* LookupError:
                failed = "failed"
            return failed

        @svc.method
        async def anyio_group() -> int:
            done: list[int] = []
            async with anyio.create_task_group() as tasks:
                for n in range(5):
                    tasks.start_soon(_append, done, n)
            return len(done)

        @svc.method
        async def shields() -> str:
            return await asyncio.shield(asyncio.ensure_future(_value("shielded")))

        @svc.method
        async def gathers() -> list[str]:
            return list(await asyncio.gather(_value("a"), _value("b")))

        @svc.method
        async def in_thread() -> str:
            return await asyncio.to_thread(lambda: "thread")

        @svc.method
        async def knows_itself() -> list[bool]:
            task = asyncio.current_task()
            assert task is not None
            before = [task.done(), bool(task.get_name())]
            await asyncio.sleep(0)
            return [*before, asyncio.current_task() is task, task in asyncio.all_tasks()]

    def _add_clients(self, svc: holdfast.Service) -> None:
        """Requests to others."""

        @svc.method
        async def by_aiohttp() -> str:
            async with aiohttp.ClientSession() as session, session.get(self.url) as response:
                return await response.text()

        @svc.method
        async def by_httpx() -> str:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(self.url)).text

    def _add_waits(self, svc: holdfast.Service) -> None:
        """Handlers that wait until they are stopped."""

        @svc.method
        async def cancels_before() -> str:
            """Cancelled before its first suspension, by itself, so that the cancellation waits for it there."""
            task = asyncio.current_task()
            assert task is not None
            task.cancel("early")
            self.ended.append("ran on")
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as cancel:
                task.uncancel()
                return str(cancel.args[0] if cancel.args else "")
            return "not cancelled"

        @svc.method
        async def waits_at_first() -> None:
            self.begun += 1
            try:
                await self.gate
            finally:
                self.ended.append("over")

        @svc.method
        async def busy_then_waits() -> None:
            time.sleep(0.06)  # noqa: ASYNC251 # it is busy: the loop stands still
            try:
                await self.gate
            finally:
                self.ended.append("over")

        @svc.method
        async def waits_later() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.begun += 1
            try:
                await self.gate
            finally:
                self.ended.append("over")

        @svc.method
        async def waits_in_timeout() -> None:
            self.begun += 1
            try:
                async with asyncio.timeout(60.0):
                    await self.gate
            finally:
                self.ended.append("over")

        @svc.method
        async def waits_in_group() -> None:
            self.begun += 1
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(never())
            finally:
                self.ended.append("over")

        @svc.method
        async def waits_in_anyio() -> None:
            self.begun += 1
            try:
                with anyio.move_on_after(60.0):
                    await anyio.sleep_forever()
            finally:
                self.ended.append("over")


async def _append(done: list[int], n: int) -> None:
    await anyio.lowlevel.checkpoint()
    done.append(n)


async def _value(text: str) -> str:
    await asyncio.sleep(0)
    return text


async def still_works(here: Rig) -> None:
    assert await here.client.call("room.timeout_unused") == "in time"
    await here.clean()
    assert not here.seen(HandlerFailed)


# ----------------------------------------------------------------------------------------------------------- first statements

FIRST = {
    "timeout_passes": "timed out",
    "timeout_unused": "in time",
    "timeout_at_once": "timed out",
    "group": 10,
    "group_fails": "failed",
    "move_on": True,
    "fail_after": "timed out",
    "anyio_group": 5,
    "by_aiohttp": "hello",
    "by_httpx": "hello",
    "waits_for": "waited",
    "shields": "shielded",
    "gathers": ["a", "b"],
    "in_thread": "thread",
    "knows_itself": [False, True, True, True],
}


@pytest.mark.parametrize("method", FIRST)
async def test_as_the_first_statement_of_a_handler(method: str) -> None:
    room = Room()
    async with http_server() as room.url, rig(room.service) as here, asyncio.timeout(PATIENCE_S):
        for _ in range(2):
            assert await here.client.call(f"room.{method}") == FIRST[method]
        calls = [here.client.call(f"room.{method}") for _ in range(5)]
        assert await asyncio.gather(*calls) == [FIRST[method]] * 5
        await still_works(here)


# ------------------------------------------------------------------------------------------------------- cancel and deadline

WAITS = ["waits_at_first", "waits_later", "waits_in_timeout", "waits_in_group", "waits_in_anyio"]


@pytest.mark.parametrize("method", WAITS)
async def test_a_cancel_at_the_first_suspension_and_after_it_ends_the_handler(method: str) -> None:
    room = Room()
    async with rig(room.service) as here:
        call = asyncio.get_running_loop().create_task(here.client.call(f"room.{method}"))
        await until(lambda: room.begun == 1)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await until(lambda: room.ended == ["over"])
        await still_works(here)


@pytest.mark.parametrize("method", WAITS)
async def test_a_deadline_at_the_first_suspension_and_after_it_ends_the_handler(method: str) -> None:
    room = Room()
    async with rig(room.service) as here:
        with pytest.raises(holdfast.DeadlineExceeded):
            await here.client.call(f"room.{method}", deadline=0.15)
        await until(lambda: room.ended == ["over"])
        await still_works(here)


async def test_a_cancel_before_the_first_suspension_strikes_at_it() -> None:
    room = Room()
    async with rig(room.service) as here:
        assert await here.client.call("room.cancels_before") == "early"
        assert room.ended == ["ran on"]
        await still_works(here)


@pytest.mark.parametrize("method", WAITS)
async def test_a_cancel_that_arrives_with_its_call_ends_the_handler(method: str) -> None:
    """CALL and CANCEL come in one read: the handler has taken its first step inline and nothing else yet."""
    room = Room()
    async with rig(room.service) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(
            call_frame(f"room.{method}", call_id=1) + frames.pack_frame(frames.CANCEL, 0, 1) + call_frame("room.timeout_unused", call_id=2)
        )
        assert (await peer.frame_of(frames.REPLY))[1] == 2
        await here.clean()
        assert len(room.ended) == room.begun
        await still_works(here)


async def test_a_deadline_that_passes_before_the_first_suspension_strikes_at_it() -> None:
    room = Room()
    async with rig(room.service) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(call_frame("room.busy_then_waits", deadline_ms=50))
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 1
        assert b"the deadline passed in the handler" in body
        await until(lambda: room.ended == ["over"])
        await here.clean()


async def test_a_cancelled_handler_counts_one_cancellation() -> None:
    counted: list[int] = []
    svc = holdfast.Service("count")

    @svc.method
    async def count() -> None:
        task = asyncio.current_task()
        assert task is not None
        counted.append(task.cancelling())
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            counted.append(task.cancelling())

    async with rig(svc) as here:
        call = asyncio.get_running_loop().create_task(here.client.call("count.count"))
        await until(lambda: counted == [0])
        call.cancel()
        await asyncio.wait([call])
        await until(lambda: counted == [0, 1])
        await here.clean()
