"""What a user decorates is what a server runs, and what cannot work is refused with the fix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec
import pytest

from holdfast.context import Context, Peer
from holdfast.errors import ConfigError
from holdfast.service import Service


class Order(msgspec.Struct):
    id: str
    qty: int


class Pool:
    """Something a lifespan opens."""

    def __init__(self) -> None:
        self.open = True


class BigPool(Pool):
    pass


class Gauge(Protocol):
    open: bool


class StoppedClock:
    def now(self) -> float:
        return 0.0


async def place(order: Order) -> str:
    return order.id


def context(states: Any) -> Context:
    return Context(method="shop.place", peer=Peer("memory://1"), clock=StoppedClock(), states=states)


def test_methods_keep_their_order_and_their_functions() -> None:
    svc = Service("shop")
    assert svc.method(place) is place

    @svc.method(idempotent=True)
    def price(sku: str) -> float:
        return 9.9

    @svc.method(blocking=True, name="daily_report")
    def report(day: str) -> bytes:
        return day.encode()

    assert price("a") == 9.9
    assert [(r.name, r.kind, r.info.idempotent) for r in svc.routes()] == [
        ("shop.place", "async", False),
        ("shop.price", "sync", True),
        ("shop.daily_report", "blocking", False),
    ]
    assert repr(svc) == "<Service shop: place, price, daily_report>"
    svc.check()


@pytest.mark.parametrize("name", ["", "Shop", "2shop", "a.b", "a-b", "shop\n", "s" * 64])
def test_service_names(name: str) -> None:
    with pytest.raises(ConfigError, match="lower case letters"):
        Service(name)


def test_our_own_name_is_taken() -> None:
    with pytest.raises(ConfigError, match="taken by holdfast"):
        Service("holdfast")


def test_method_names() -> None:
    svc = Service("shop")
    svc.method(place)
    with pytest.raises(ConfigError, match=r"shop\.place is decorated twice"):
        svc.method(place)
    svc.method(name="place_again")(place)
    for name in ("a.b", "_hidden", "", "x" * 64):
        with pytest.raises(ConfigError, match="cannot be a method's name"):
            svc.method(name=name)(place)
    with pytest.raises(ConfigError, match="'<lambda>' cannot be"):
        svc.method(lambda: None)


def test_a_function_that_cannot_be_called_is_refused_when_it_is_decorated() -> None:
    svc = Service("shop")
    with pytest.raises(ConfigError, match=r"shop\.f .*the parameter 'a' has no annotation"):

        @svc.method
        async def f(a) -> None: ...  # type: ignore[no-untyped-def]

    assert svc.routes() == []


def test_a_service_without_methods_does_not_start() -> None:
    with pytest.raises(ConfigError, match=r"shop has no methods; decorate a function with @shop\.method"):
        Service("shop").check()


# --- contract ----------------------------------------------------------------------------------------------------------------------------


class Shop(Protocol):
    async def place(self, order: Order) -> str: ...
    def watch(self, since: int) -> AsyncIterator[Order]: ...


def test_a_service_that_keeps_its_contract() -> None:
    svc = Service("shop", contract=Shop)
    svc.method(place)

    @svc.method
    async def watch(since: int, ctx: Context, step: int = 1) -> AsyncIterator[Order]:
        yield Order(ctx.method, since + step)

    @svc.method
    def extra() -> None: ...

    svc.check()
    assert len(svc.routes()) == 3


def test_a_method_that_is_missing() -> None:
    svc = Service("shop", contract=Shop)
    svc.method(place)
    with pytest.raises(ConfigError, match=r"shop lacks watch\(since: int\) -> AsyncIterator\[Order\], which Shop promises"):
        svc.check()


def test_a_method_that_differs() -> None:
    svc = Service("shop", contract=Shop)

    @svc.method(name="place")
    async def other(order: Order) -> int:
        return order.qty

    with pytest.raises(ConfigError) as caught:
        svc.check()
    for part in ("does not keep Shop", "place(order: Order) -> str", "place(order: Order) -> int", "the result is integer"):
        assert part in str(caught.value)


def test_a_contract_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="has no public methods"):
        Service("shop", contract=Pool)


# --- lifespan ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_what_the_lifespan_yields_reaches_the_context() -> None:
    svc, seen = Service("shop"), []

    @svc.lifespan
    async def lifespan() -> AsyncIterator[Pool]:
        pool = BigPool()
        yield pool
        pool.open = False
        seen.append(pool)

    async with svc.open() as states:
        pool = context(states).state(Pool)
        assert type(pool) is BigPool
        assert pool.open
        assert context(states).state(BigPool) is pool
    assert seen == [pool]
    assert not pool.open


async def test_a_state_is_found_by_the_type_the_lifespan_says() -> None:
    svc = Service("shop")

    @svc.lifespan
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Gauge]:
        yield Pool()

    async with svc.open() as states:
        assert context(states).state(Gauge).open  # type: ignore[type-abstract]


async def test_a_lifespan_may_yield_nothing_or_be_absent() -> None:
    svc, seen = Service("shop"), []

    async with svc.open() as states:
        assert states == {}

    @svc.lifespan
    async def lifespan() -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("closed")

    for _ in range(2):
        async with svc.open() as states:
            assert states == {}
            assert seen[-1] == "open"
        assert seen[-1] == "closed"


async def test_what_a_lifespan_raises_comes_out_as_it_is() -> None:
    svc = Service("shop")

    @svc.lifespan
    async def lifespan() -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        async with svc.open():
            pytest.fail("the block must not run")


async def test_a_failure_in_the_block_closes_what_was_opened() -> None:
    svc, pool = Service("shop"), Pool()

    @svc.lifespan
    async def lifespan() -> AsyncIterator[Pool]:
        try:
            yield pool
        finally:
            pool.open = False

    with pytest.raises(ValueError, match="block"):
        async with svc.open():
            raise ValueError("block")
    assert not pool.open


def test_a_lifespan_that_cannot_work_is_refused() -> None:
    svc = Service("shop")

    async def coroutine() -> None: ...
    async def takes(app: str) -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigError, match="not an async generator function"):
        svc.lifespan(coroutine)
    with pytest.raises(ConfigError, match="takes app; it is called without arguments"):
        svc.lifespan(takes)

    async def fine() -> AsyncIterator[None]:
        yield

    assert svc.lifespan(fine) is fine
    with pytest.raises(ConfigError, match="has a lifespan already"):
        svc.lifespan(fine)
