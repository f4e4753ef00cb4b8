"""The calling roof: deadlines as they add up, views, binding, facts, and both ways of a first attempt being one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

import holdfast
from holdfast.errors import ConfigError, DeadlineExceeded, HoldfastError, InvalidArgument, MethodNotFound, Unavailable
from holdfast.facts import CallEnded, CallRetried, ServerStatus
from holdfast.net.memory import MemoryNetwork
from holdfast.wire import Status, Trailers

from .faults.helpers import rig, until


class Shop(Protocol):
    async def add(self, a: int, b: int = 2) -> int: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    def count(self, n: int) -> AsyncIterator[int]: ...


class Room:
    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fails = 0
        self.ran = 0
        self.seen: list[Any] = []
        svc = self.service = holdfast.Service("shop")

        @svc.method
        async def add(a: int, b: int = 2) -> int:
            return a + b

        @svc.method
        async def total(numbers: AsyncIterator[int]) -> int:
            return sum([n async for n in numbers])

        @svc.method
        async def count(n: int) -> AsyncIterator[int]:
            for number in range(n):
                yield number

        @svc.method
        async def waits() -> None:
            await self.gate

        @svc.method(idempotent=True)
        async def tries() -> int:
            self.ran += 1
            if self.ran <= self.fails:
                raise holdfast.Overloaded("again", retry_after_s=0.001)
            return self.ran

        @svc.method
        async def text() -> str:
            return "text"

        @svc.method
        async def looks(ctx: holdfast.Context) -> float | None:
            self.seen.append((ctx.call_number, ctx.attempt, dict(ctx.metadata)))
            return ctx.remaining()


@pytest.mark.both_loops
async def test_all_shapes_by_name_and_by_contract() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    room = Room()
    async with rig(room.service, bind="memory://shapes") as here:
        shop = here.client.bind(Shop)
        assert await shop.add(1) == await here.client.call("shop.add", 1, returns=int) == 3
        assert await shop.add(1, b=5) == 6
        assert await shop.total(numbers()) == await here.client.call("shop.total", numbers(), returns=int) == 3
        assert [n async for n in shop.count(3)] == [0, 1, 2]
        assert [n async for n in here.client.stream("shop.count", n=2, returns=int)] == [0, 1]
        await here.clean()


@pytest.mark.parametrize("deadline", [0.1, None])
async def test_connecting_is_part_of_the_deadline(deadline: float | None) -> None:
    """Not a deadline for connecting and another one for the call."""
    room = Room()
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Slow(MemoryNetwork):
        async def connect(self, *args: Any, **more: Any) -> Any:
            await held
            return await super().connect(*args, **more)

    config = holdfast.ClientConfig(deadline_s=0.1)
    async with rig(room.service, bind="memory://slow", network=Slow(), client_config=config, ready=False) as here:
        loop = asyncio.get_running_loop()
        loop.call_later(0.08, held.set_result, None)
        more = {} if deadline is None else {"deadline": deadline}
        left = await here.client.call("shop.looks", returns=float, **more)
        assert left < 0.03


async def test_the_deadline_holds_while_it_connects() -> None:
    class Never(MemoryNetwork):
        async def connect(self, *args: Any, **more: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    facts: list[Any] = []
    async with holdfast.connect("memory://x", network=Never(), emit=facts.append) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.call("shop.add", 1, deadline=0.02)
        assert caught.value.executed == "no"
        assert [(fact.method, fact.code) for fact in facts if isinstance(fact, CallEnded)] == [("shop.add", "deadline_exceeded")]


@pytest.mark.parametrize("deadline", [None, math.inf])
async def test_no_deadline_is_said_by_none_or_infinity(deadline: float | None) -> None:
    room = Room()
    async with rig(room.service, bind="memory://inf", client_config=holdfast.ClientConfig(deadline_s=math.inf)) as here:
        assert await here.client.call("shop.looks", deadline=deadline) is None
        assert await here.client.using(deadline=deadline).call("shop.looks") is None
        assert await here.client.call("shop.looks") is None


@pytest.mark.parametrize("deadline", [0, -1.0, math.nan])
async def test_a_deadline_that_is_none_is_refused(deadline: float) -> None:
    room = Room()
    async with rig(room.service, bind="memory://bad") as here:
        with pytest.raises(InvalidArgument, match="must be above 0"):
            await here.client.call("shop.add", 1, deadline=deadline)
        with pytest.raises(ConfigError, match="must be above 0"):
            here.client.using(deadline=deadline)


@pytest.mark.both_loops
@pytest.mark.parametrize("fails", [0, 1, 2])
async def test_the_short_way_and_the_stack_are_one(fails: int) -> None:
    """The first attempt on a ready session goes without the layers; what follows, and what is told, is the same."""
    told = []
    for ready in (True, False):
        room = Room()
        room.fails = fails
        async with rig(room.service, bind="memory://both", attempts=3, ready=ready) as here:
            if not ready:
                here.client._core.dialer.catalogue = None
            shop = here.client.using(deadline=5.0)
            assert await shop.call("shop.tries") == fails + 1
            told.append([(type(fact), fact.code) for fact in here.facts if isinstance(fact, CallRetried | CallEnded)])
            assert here.client._core.number == 1, "a retry keeps its number"
    assert [each for each in told[0] if each[0] is CallRetried] == [each for each in told[1] if each[0] is CallRetried]
    assert len([each for each in told[0] if each[0] is CallRetried]) == fails


async def test_a_result_that_does_not_fit_is_told_as_what_it_is() -> None:
    room = Room()
    async with rig(room.service, bind="memory://fit") as here:
        with pytest.raises(holdfast.BadReply):
            await here.client.call("shop.text", returns=int)
        assert [fact.code for fact in here.seen(CallEnded) if fact.side == "client"] == ["data_loss"]


@pytest.mark.both_loops
async def test_a_cancelled_call_is_cancelled_at_the_server_and_told() -> None:
    room = Room()
    async with rig(room.service, bind="memory://cancel") as here:
        call = asyncio.get_running_loop().create_task(here.client.call("shop.waits"))
        await until(lambda: here.desk.running)
        call.cancel()
        await asyncio.wait([call])
        await here.clean()
        assert [fact.code for fact in here.seen(CallEnded) if fact.method == "shop.waits"] == ["cancelled", "cancelled"]


async def test_metadata_travels_and_must_be_strings() -> None:
    room = Room()
    async with rig(room.service, bind="memory://meta") as here:
        await here.client.call("shop.looks", metadata={"who": "我"})
        assert room.seen == [(1, "original", {"who": "我"})]
        with pytest.raises(InvalidArgument, match="must be strings"):
            await here.client.call("shop.looks", metadata={"n": 1})  # type: ignore[dict-item]
        with pytest.raises(InvalidArgument, match="at most 65,535"):
            await here.client.call("shop.looks", metadata={"n": "x" * 70_000})


async def test_a_shape_must_be_called_as_what_it_is() -> None:
    room = Room()
    async with rig(room.service, bind="memory://shape") as here:
        with pytest.raises(InvalidArgument, match="use client.stream"):
            await here.client.call("shop.count", n=1)
        with pytest.raises(InvalidArgument, match="use client.call"):
            await anext(here.client.stream("shop.add", a=1))
        with pytest.raises(MethodNotFound, match=r"did you mean shop\.add"):
            await here.client.call("shop.ad", 1)


async def test_a_contract_that_differs_is_refused_at_binding_when_the_server_is_known() -> None:
    class Other(Protocol):
        async def add(self, a: str) -> int: ...

    room = Room()
    async with rig(room.service, bind="memory://differs") as here:
        with pytest.raises(ConfigError, match="add"):
            here.client.bind(Other, service="shop")
        with pytest.raises(ConfigError, match="add"):
            here.client.using(attempts=1).bind(Other, service="shop")  # a view knows it too


async def test_a_view_narrows_and_never_widens() -> None:
    room = Room()
    async with rig(room.service, bind="memory://view") as here:
        view = here.client.using(idempotent=False).using(idempotent=True)
        assert view._options.idempotent is False
        assert here.client._options.idempotent is True
        with pytest.raises(ConfigError, match="attempts=0"):
            here.client.using(attempts=0)


async def test_entering_is_for_the_client_and_once() -> None:
    room = Room()
    async with rig(room.service, bind="memory://enter") as here:
        with pytest.raises(RuntimeError, match="entered already"):
            await here.client.__aenter__()
        with pytest.raises(RuntimeError, match="enter the client"):
            await here.client.using(attempts=1).__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        await holdfast.connect("memory://x").call("shop.add", 1)


@pytest.mark.both_loops
async def test_closing_ends_what_is_open_and_nothing_follows() -> None:
    room = Room()
    async with rig(room.service, bind="memory://close") as here:
        call = asyncio.get_running_loop().create_task(here.client.call("shop.waits"))
        await until(lambda: here.desk.running)
        await here.client.close()
        assert here.ours.closed
        with pytest.raises(holdfast.OutcomeUnknown):
            await call
        with pytest.raises(Unavailable, match="the client is closed"):
            await here.client.call("shop.add", 1)
        await here.client.close()


async def test_the_catalogue_can_be_asked_for() -> None:
    room = Room()
    async with rig(room.service, bind="memory://catalogue", ready=False) as here:
        assert (await here.client.catalogue()).find("shop.add") is not None


@pytest.mark.parametrize(
    ("address", "message"),
    [("tcp://192.0.2.1:7000", "insecure=True"), ("tcp://127.0.0.1:1,tcp://127.0.0.1:1", "given twice"), ("nonsense", "nonsense")],
)
def test_an_address_that_cannot_work_is_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        holdfast.connect(address)


def test_a_configuration_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="attempts=0"):
        holdfast.connect("memory://x", attempts=0)
    with pytest.raises(ConfigError, match="deadline_s"):
        holdfast.ClientConfig(deadline_s=0)
    with pytest.raises(ConfigError, match="assembly_max_bytes"):
        holdfast.ClientConfig(assembly_max_bytes=1)


async def test_the_stack_says_why() -> None:
    room = Room()
    async with rig(room.service, bind="memory://stack") as here:
        assert here.client._core.stack.describe().splitlines()[0].startswith("throttle     outside of retry")


async def test_a_view_is_told_how_its_calls_went_at_the_server() -> None:
    room = Room()
    told: list[tuple[str, Trailers]] = []
    async with rig(room.service, bind="memory://trailers") as here:
        asking = here.client.using(trailers=lambda method, trailers: told.append((method, trailers)))
        shop = asking.bind(Shop, service="shop")
        assert await shop.add(1) == 3
        assert await asking.call("shop.total", numbers=some(3)) == 3
        assert [n async for n in shop.count(2)] == [0, 1]
        with pytest.raises(HoldfastError):
            await asking.call("shop.add", "x")
        await here.client.call("shop.add", 1)
        assert [method for method, _ in told] == ["shop.add", "shop.total", "shop.count", "shop.add"]
        assert all(trailers.run_us >= 0 and 0 <= trailers.load <= 1 for _, trailers in told)


async def some(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def test_what_the_server_says_of_itself_is_known() -> None:
    room = Room()
    async with rig(room.service, bind="memory://status") as here:
        assert here.client.status == Status()
        here.server.set_health(False, "no database")
        await until(lambda: here.seen(ServerStatus))
        assert here.client.status == Status(serving=False, message="no database")
        [fact] = here.seen(ServerStatus)
        assert (fact.serving, fact.draining, fact.message) == (False, False, "no database")
        assert await here.client.call("shop.add", 1) == 3, "it is advice: calls are taken"
        with pytest.raises(ConfigError, match="at most 256"):
            here.server.set_health(False, "x" * 257)


@pytest.mark.parametrize("checksum", ["always", "never", "auto"])
async def test_check_sums_are_used_when_both_sides_are_told_to(checksum: Any) -> None:
    room = Room()
    config = holdfast.ClientConfig(checksum=checksum)
    async with rig(room.service, bind="memory://sums", client_config=config, checksum="always") as here:
        assert here.ours.conn.checked == (checksum == "always")
        assert await here.client.call("shop.add", 1) == 3
        assert len([n async for n in here.client.stream("shop.count", 1000)]) == 1000


@pytest.mark.parametrize("kind", [holdfast.ClientConfig, holdfast.ServerConfig])
def test_check_sums_of_another_kind_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="auto, always, never"):
        kind(checksum="sometimes")
