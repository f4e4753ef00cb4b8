"""From a Request to a Reply: uploads and streams, what they leave behind, and waiting for room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast.errors import Cancelled, DeadlineExceeded, InvalidArgument, Unavailable
from holdfast.wire import Settings

from ..faults.helpers import rig, until


class Room:
    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.got = 0
        svc = self.service = holdfast.Service("room")

        @svc.method
        async def adds(numbers: AsyncIterator[int]) -> int:
            total = 0
            async for number in numbers:
                self.got += 1
                total += number
            return total

        @svc.method
        async def refuses(numbers: AsyncIterator[int]) -> int:
            raise holdfast.Refused("not now")

        @svc.method
        async def echoes(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
            async for number in numbers:
                yield number

        @svc.method
        async def waits() -> int:
            await self.gate
            return 1

        @svc.method
        async def ticks(every: float) -> AsyncIterator[int]:
            yield 0
            await asyncio.sleep(every)
            yield 1


class Source:
    """Numbers to send; says whether it was closed."""

    def __init__(self, *numbers: Any, error: BaseException | None = None, gate: asyncio.Future[None] | None = None) -> None:
        self.numbers = list(numbers)
        self.error = error
        self.gate = gate
        self.closed = False

    async def __call__(self) -> AsyncIterator[Any]:
        try:
            for number in self.numbers:
                yield number
            if self.gate is not None:
                await self.gate
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@pytest.mark.both_loops
async def test_an_upload_is_answered_once_and_its_source_closed() -> None:
    room = Room()
    async with rig(room.service, bind="memory://adds") as here:
        source = Source(1, 2, 3)
        assert await here.client.call("room.adds", numbers=source(), returns=int) == 6
        assert source.closed
        await here.clean()


@pytest.mark.both_loops
@pytest.mark.parametrize("method", ["room.adds", "room.echoes"])
@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (Source(1, error=KeyError("mine")), KeyError),
        (Source(1, error=asyncio.CancelledError("another task of mine")), Cancelled),
        (Source(1, "two"), InvalidArgument),
    ],
    ids=["raises", "was-cancelled", "mistyped"],
)
async def test_what_the_source_does_wrong_is_what_the_caller_sees(method: str, source: Source, kind: type[Exception]) -> None:
    """Cancelled inside the source too: or its caller would wait for an answer to items that never come."""
    room = Room()
    async with rig(room.service, bind="memory://source") as here:
        source.closed = False
        with pytest.raises(kind):
            if method == "room.adds":
                await here.client.call(method, numbers=source(), returns=int, deadline=5.0)
            else:
                async with here.client.stream(method, numbers=source(), returns=int) as items:
                    async for _ in items:
                        pass
        await until(lambda: source.closed)
        await here.clean()


@pytest.mark.both_loops
async def test_a_cancelled_upload_closes_its_source_before_it_returns() -> None:
    room = Room()
    async with rig(room.service, bind="memory://cancel") as here:
        source = Source(1, gate=room.gate)
        call = asyncio.get_running_loop().create_task(here.client.call("room.adds", numbers=source(), returns=int))
        await until(lambda: room.got)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert source.closed
        await here.clean()


@pytest.mark.both_loops
async def test_an_answer_before_the_end_of_the_items_stops_the_source() -> None:
    room = Room()
    async with rig(room.service, bind="memory://early") as here:
        source = Source(1, gate=room.gate)
        with pytest.raises(holdfast.Refused, match="not now"):
            await here.client.call("room.refuses", numbers=source(), returns=int)
        await here.clean()


async def test_the_deadline_of_an_upload_holds_while_its_source_does_nothing() -> None:
    room = Room()
    async with rig(room.service, bind="memory://slow") as here:
        source = Source(1, gate=room.gate)
        with pytest.raises(DeadlineExceeded):
            await here.client.call("room.adds", numbers=source(), returns=int, deadline=0.05)
        assert source.closed
        await here.clean()


async def test_waiting_for_room_ends_with_the_deadline_and_was_surely_not_executed() -> None:
    room = Room()
    config = holdfast.ServerConfig(wire=Settings(open_calls_max=1))
    async with rig(room.service, bind="memory://room", config=config) as here:
        first = asyncio.get_running_loop().create_task(here.client.call("room.waits"))
        await until(lambda: here.desk.running)
        with pytest.raises(DeadlineExceeded, match="no room for one more call") as caught:
            await here.client.call("room.waits", deadline=0.05)
        assert caught.value.executed == "no"
        room.gate.set_result(None)
        assert await first == 1
        await here.clean()


async def test_a_gap_that_is_too_long_ends_a_stream() -> None:
    room = Room()
    async with rig(room.service, bind="memory://idle") as here:
        got = []
        with pytest.raises(DeadlineExceeded, match="idle time"):
            async with here.client.stream("room.ticks", every=60.0, returns=int, idle=0.05) as items:
                async for item in items:
                    got.append(item)  # noqa: PERF401 # what came before the error is asked for
        assert got == [0]
        await here.clean()


async def test_the_total_deadline_of_a_stream_holds_for_a_reader_that_waits() -> None:
    room = Room()
    async with rig(room.service, bind="memory://total") as here:
        with pytest.raises(DeadlineExceeded):
            async with here.client.stream("room.ticks", every=60.0, returns=int, deadline_total=0.05) as items:
                async for _ in items:
                    pass
        await here.clean()


async def test_a_stream_over_a_lost_connection_says_so() -> None:
    room = Room()
    async with rig(room.service, bind="memory://lost") as here:
        async with here.client.stream("room.ticks", every=60.0, returns=int) as items:
            assert await anext(items) == 0
            here.theirs[0].link.abort()  # type: ignore[union-attr]
            with pytest.raises(holdfast.OutcomeUnknown):
                await anext(items)
        await here.clean()


async def test_no_server_means_the_source_is_not_touched() -> None:
    room = Room()
    async with rig(room.service, bind="memory://none") as here:
        source = Source(1)
        await here.server.close()
        with pytest.raises(Unavailable):
            await here.client.call("room.adds", numbers=source(), returns=int)
        assert source.numbers == [1]
