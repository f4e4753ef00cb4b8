"""Their side of a connection: every call is answered once, slots come back, and what is said about execution is true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast.errors import (
    BadReply,
    Cancelled,
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    Overloaded,
    PermissionDenied,
    Refused,
    Unavailable,
)
from holdfast.facts import CallEnded, CallShed, ConnectionClosed, HandlerFailed, HandlerOverran
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.responder import RAPID_S
from holdfast.wire import CallState, Settings

from ..faults.helpers import Rig, rig, until
from .test_reception import Door


class Picky(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError("a bug of the user's")


class Room:
    """A service with one handler for each way to behave."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.thread = threading.Event()
        self.ran: list[str] = []
        self.error: BaseException | None = None
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def waits() -> int:
            try:
                await self.gate
            finally:
                self.ran.append("over")
            return 1

        @svc.method
        async def raises(late: bool = False) -> int:
            if late:
                await asyncio.sleep(0)
            assert self.error is not None
            raise self.error

        @svc.method
        def plainly() -> int:
            assert self.error is not None
            raise self.error

        @svc.method(blocking=True)
        def blocks() -> int:
            self.thread.wait(20)
            return 2

        @svc.method(blocking=True)
        def stops() -> int:
            raise StopIteration

        @svc.method
        async def takes(picky: Picky) -> int:
            self.ran.append("takes")
            return picky.n

        @svc.method
        async def gives_wrong() -> int:
            return "text"  # type: ignore[return-value]

        @svc.method
        async def items(n: int) -> AsyncIterator[int]:
            for number in range(n):
                yield number
            if self.error is not None:
                raise self.error

        @svc.method
        async def endless() -> AsyncIterator[int]:
            yield 0
            await asyncio.get_running_loop().create_future()


async def failure(here: Rig, method: str, **arguments: Any) -> HoldfastError:
    with pytest.raises(HoldfastError) as caught:
        await here.client.call(method, **arguments)
    return caught.value


@pytest.mark.both_loops
@pytest.mark.parametrize("method", ["room.raises", "room.plainly"])
@pytest.mark.parametrize(
    ("error", "kind", "executed"),
    [
        (NotFound("nothing there"), NotFound, "yes"),
        (InvalidArgument("odd"), InvalidArgument, "yes"),
        (PermissionDenied("no"), PermissionDenied, "yes"),
        (Refused("no"), Refused, "yes"),
        (Refused("no", executed="no"), Refused, "yes"),
        (Overloaded("did nothing"), Overloaded, "no"),
        (MethodNotFound("nested", remote=True), InternalError, "maybe"),
        (Unavailable("nested"), InternalError, "maybe"),
        (asyncio.CancelledError(), Cancelled, "maybe"),
        (KeyError("bug"), InternalError, "maybe"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_what_a_handler_raises_says_that_it_ran(method: str, error: BaseException, kind: type[HoldfastError], executed: str) -> None:
    room = Room()
    async with rig(room.service, bind="memory://raises") as here:
        room.error = error
        told = await failure(here, method)
        assert (type(told), told.executed) == (kind, executed)
        await here.clean()


async def test_an_unexpected_error_crosses_as_a_number_that_the_log_has() -> None:
    room = Room()
    async with rig(room.service, bind="memory://incident") as here:
        room.error = ValueError("a secret")
        told = await failure(here, "room.raises", late=True)
        (fact,) = here.seen(HandlerFailed)
        assert fact.incident in str(told)
        assert "secret" not in str(told)
        assert fact.error is room.error


async def test_debug_shows_it() -> None:
    room = Room()
    async with rig(room.service, bind="memory://debug", debug=True) as here:
        room.error = ValueError("a secret")
        assert "ValueError: a secret" in str(await failure(here, "room.raises"))


async def test_a_type_that_raises_while_it_is_decoded_runs_nothing_and_is_answered() -> None:
    """The caller sends what its own check would refuse, as one of another language might."""
    room = Room()
    async with rig(room.service, bind="memory://picky") as here:
        assert isinstance(await failure(here, "room.takes", picky={"n": -1}), InternalError | InvalidArgument)
        assert room.ran == []
        assert await here.client.call("room.takes", picky={"n": 1}) == 1
        await here.clean()


async def test_a_result_of_the_wrong_type_is_the_servers_fault() -> None:
    room = Room()
    async with rig(room.service, bind="memory://wrong") as here:
        told = await failure(here, "room.gives_wrong", returns=int)
        assert isinstance(told, BadReply)
        assert told.executed == "yes"
        await here.clean()


async def test_a_full_server_refuses_at_once_and_says_so() -> None:
    room = Room()
    async with rig(room.service, bind="memory://full", handlers_max=1) as here:
        first = asyncio.get_running_loop().create_task(here.client.call("room.waits"))
        await until(lambda: here.desk.running)
        told = await failure(here, "room.waits")
        assert isinstance(told, Overloaded)
        assert (told.executed, told.retry_after_s) == ("no", 0.1)
        assert [fact.reason for fact in here.seen(CallShed)] == ["handlers_full"]
        room.gate.set_result(None)
        assert await first == 1
        await here.clean()


@pytest.mark.both_loops
async def test_a_slot_is_free_when_the_handler_has_ended_not_when_its_caller_left() -> None:
    room = Room()
    hold = asyncio.get_running_loop().create_future()

    @room.service.method
    async def cleans_up() -> None:
        try:
            await room.gate
        finally:
            await hold

    async with rig(room.service, bind="memory://slots") as here:
        call = asyncio.get_running_loop().create_task(here.client.call("room.cleans_up"))
        await until(lambda: here.desk.running)
        call.cancel()
        await until(lambda: not here.ours.conn.calls)
        for _ in range(10):
            await asyncio.sleep(0)
        assert here.desk.running == 1
        hold.set_result(None)
        await here.clean()


@pytest.mark.both_loops
async def test_a_thread_holds_its_place_until_it_comes_back() -> None:
    room = Room()
    async with rig(room.service, bind="memory://threads", threads_max=1, threads_queue_max=1) as here:
        calls = [asyncio.get_running_loop().create_task(here.client.call("room.blocks")) for _ in range(2)]
        await until(lambda: here.desk.threads_busy == 2)
        assert isinstance(await failure(here, "room.blocks"), Overloaded)
        calls[0].cancel()
        await until(lambda: here.desk.running == 1)
        assert here.desk.threads_busy == 2, "nobody can stop a thread"
        room.thread.set()
        assert await calls[1] == 2
        await here.clean()


@pytest.mark.both_loops
async def test_a_blocking_handler_that_raises_stop_iteration_is_answered() -> None:
    """A future cannot carry StopIteration: without care its caller would wait for ever, and its slot be lost."""
    room = Room()
    async with rig(room.service, bind="memory://stop") as here:
        assert isinstance(await failure(here, "room.stops"), InternalError)
        await here.clean()


@pytest.mark.both_loops
async def test_a_handler_that_overruns_is_cancelled_and_its_caller_told(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    monkeypatch.setattr(CallerSession, "_expired", lambda *_: None)  # the server speaks first, always
    async with rig(room.service, bind="memory://overrun") as here:
        told = await failure(here, "room.waits", deadline=0.05)
        assert isinstance(told, DeadlineExceeded)
        assert told.remote
        await here.clean()
        assert room.ran == ["over"]
        assert [fact.method for fact in here.seen(HandlerOverran)] == ["room.waits"]


async def test_a_stream_that_fails_gives_its_items_first() -> None:
    room = Room()
    async with rig(room.service, bind="memory://items") as here:
        room.error = Refused("enough", code="out_of_range")
        got = []
        with pytest.raises(Refused, match="enough") as caught:
            async with here.client.stream("room.items", n=3, returns=int) as items:
                async for item in items:
                    got.append(item)  # noqa: PERF401 # what came before the error is asked for
        assert (got, caught.value.code) == ([0, 1, 2], "out_of_range")
        await here.clean()


async def test_every_call_is_told_of_once() -> None:
    room = Room()
    async with rig(room.service, bind="memory://facts") as here:
        room.error = NotFound("x")
        await failure(here, "room.raises")
        room.gate.set_result(None)
        await here.client.call("room.waits")
        await here.clean()
        told = [(fact.side, fact.method, fact.code) for fact in here.seen(CallEnded) if not fact.method.startswith("holdfast.")]
        assert sorted(told) == sorted(
            (side, method, code) for side in ("client", "server") for method, code in (("room.raises", "not_found"), ("room.waits", "ok"))
        )


async def test_large_answers_that_find_no_room_are_refused_and_say_that_they_ran() -> None:
    service = holdfast.Service("big")
    ran = []

    @service.method
    async def large(number: int) -> bytes:
        ran.append(number)
        return bytes(15 * 2**20)

    config = holdfast.ServerConfig(assembly_max_bytes=16 * 2**20)
    async with holdfast.testing.client(service, attempts=1, server_config=config) as client:
        await client.ready()
        first, second = await asyncio.gather(
            client.call("big.large", 1, returns=bytes), client.call("big.large", 2, returns=bytes), return_exceptions=True
        )
        assert isinstance(first, bytes)
        assert isinstance(second, Overloaded)
        assert (second.executed, second.retry) == ("yes", "never")
        assert ran == [1, 2]
        assert len(await client.call("big.large", 3, returns=bytes)) == 15 * 2**20, "there is room again"


# ------------------------------------------------------------------------------------------- cancels that are no abuse, and those that are


async def one_cancelled(door: Door, number: int, *, lives_s: float, deadline_ms: int = 0, answered: bool = False) -> None:
    """Cancel a call after a while; `answered`: another one has been answered by then."""
    if answered:
        door.call(b"shop.quick", 2 * number)
    call = CallState()
    door.client.open_call(call, b"shop.slow", b"\x80", False, deadline_ms, 2 * number + 1)
    await door.say()
    door.time.advance(lives_s)
    door.client.cancel(call)
    await door.say()
    await door.hear()  # the handler ends


@pytest.mark.parametrize(
    ("how", "cut"),
    [
        ({"lives_s": 0.1}, True),
        ({"lives_s": RAPID_S}, False),
        ({"lives_s": 0.06, "deadline_ms": 100}, False),
        ({"lives_s": 0.04, "deadline_ms": 100}, True),
        ({"lives_s": 0.0, "answered": True}, False),
    ],
)
async def test_only_cancels_that_waste_our_work_use_up_a_budget(how: dict[str, Any], cut: bool) -> None:
    door = Door()
    door.desk.now = door.time.now
    tight = msgspec.structs.replace(door.shared, cancels_per_s=0.1, settings=Settings(open_calls_max=2))
    door.session._shared = tight
    await door.open()
    for number in range(1, 12):  # the budget is 2 x 2, and one
        await one_cancelled(door, number, **how)
        if door.link.ended:
            break
    assert (door.link.ended, number) == (("closed", 6) if cut else ("", 11))
    door.session.link_lost(None)


async def test_a_stream_that_began_is_as_good_as_an_answer() -> None:
    here = Room()
    async with rig(here.service, cancels_per_s=0.1, wire=Settings(open_calls_max=2)) as placed:
        for _ in range(12):
            async with placed.client.stream("room.endless", returns=int) as items:
                assert await anext(items) == 0
            await until(lambda: placed.desk.running == 0)
        assert not placed.seen(ConnectionClosed)
        await placed.clean()
