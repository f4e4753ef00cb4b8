"""The public surface as a user's type checker sees it. Never executed: mypy --strict and pyright (strict) read it.

Each `assert_type` is a promise. A line with `type: ignore[...]` is one too: it is a mistake that must be found, and both checkers say so
(mypy refuses an ignore that ignores nothing).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, assert_type

import msgspec

import holdfast
from holdfast import Context, Service, testing
from holdfast.framing import Delimited, FixedSize, Framing, FramingError, LengthPrefixed, Lines, Netstring, VarintPrefixed
from holdfast.net import Drainable, Framed

# ------------------------------------------------------------------------------------------------------------------ a service

svc = Service("shop")


class Order(msgspec.Struct):
    id: str
    qty: int


class Pool:
    size: int = 4


@svc.method
async def place(order: Order) -> str:
    return f"receipt-{order.id}"


@svc.method(idempotent=True)
def price(sku: str) -> float:
    return 9.9


@svc.method(blocking=True)
def report(day: str) -> bytes:
    return b""


@svc.method(name="look")
async def watch(since: int, ctx: Context) -> AsyncIterator[Order]:
    assert_type(ctx.remaining(), float | None)
    assert_type(ctx.state(Pool), Pool)
    yield Order("o-1", since)


@svc.method
async def upload(name: str, chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


@svc.lifespan
async def lifespan() -> AsyncIterator[Pool]:
    yield Pool()


async def decorators_keep_the_type_of_the_function(ctx: Context, chunks: AsyncIterator[bytes]) -> None:
    assert_type(await place(Order("o-1", 2)), str)
    assert_type(price("A"), float)
    assert_type(report("2026-01-31"), bytes)
    assert_type(watch(0, ctx), AsyncIterator[Order])
    assert_type(await upload("a.bin", chunks), int)
    assert_type(lifespan(), AsyncIterator[Pool])
    await place("o-1")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------------- a client


class Shop(Protocol):
    async def place(self, order: Order) -> str: ...
    def watch(self, since: int) -> AsyncIterator[Order]: ...
    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> int: ...


class AbstractShop:
    async def place(self, order: Order) -> str:
        raise NotImplementedError


async def connecting() -> None:
    async with holdfast.connect("tcp://127.0.0.1:7000") as client:
        assert_type(client, holdfast.Client)
        assert_type(await client.ready(), None)
    async with holdfast.connect("tcp://a:7000", insecure=True, attempts=1, config=holdfast.ClientConfig()) as client:
        assert_type(await client.close(), None)


async def over_tls(service: Service, ctx: Context) -> None:
    mine = holdfast.TlsConfig(certificate="shop.pem", key="shop.key", clients="optional", client_trust="ca.pem", by_name={"b": ("b", "")})
    async with holdfast.serve(service, bind="tls://0.0.0.0:7000", tls=mine) as server:
        server.reload_tls()
    async with holdfast.connect("tls://a:7000", tls=holdfast.TlsConfig(trust="ca.pem", server_name="shop.example.com")) as client:
        await client.ready()
    certificate = ctx.peer.certificate
    assert_type(None if certificate is None else certificate.names, tuple[str, ...] | None)
    holdfast.TlsConfig(minimum="1.1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def binding(client: holdfast.Client, chunks: AsyncIterator[bytes]) -> None:
    shop = client.bind(Shop)
    assert_type(shop, Shop)
    assert_type(await shop.place(Order("o-1", 2)), str)
    assert_type(shop.watch(0), AsyncIterator[Order])
    assert_type(await shop.upload("a.bin", chunks), int)
    assert_type(client.bind(AbstractShop, service="shop"), AbstractShop)
    await shop.place("o-1")  # type: ignore[arg-type]
    await shop.plaice(Order("o-1", 2))  # type: ignore[attr-defined]


async def calling(client: holdfast.Client, chunks: AsyncIterator[bytes]) -> None:
    assert_type(await client.call("shop.place", Order("o-1", 2), returns=str), str)
    assert_type(await client.call("shop.place", order=Order("o-1", 2), returns=str, deadline=2.0), str)
    assert_type(await client.call("shop.place", Order("o-1", 2), returns=str, deadline=None, metadata={"tenant": "a"}), str)
    assert_type(await client.call("shop.upload", "a.bin", chunks=chunks, returns=int), int)
    assert_type(await client.call("shop.orders", returns=list[Order]), list[Order])
    # Without a type, and with a form that is not a class, the answer is plain data.
    assert_type(await client.call("shop.place", Order("o-1", 2)), Any)
    assert_type(await client.call("shop.find", "o-1", returns=Order | None), Any)


async def streaming(client: holdfast.Client, lines: AsyncIterator[str]) -> None:
    async with client.stream("shop.watch", since=0, returns=Order) as orders:
        assert_type(orders, holdfast.Stream[Order])
        async for order in orders:
            assert_type(order, Order)
    async with client.stream("shop.watch", 0, returns=Order, deadline=2.0, idle=60.0, deadline_total=600.0) as orders:
        assert_type(await anext(orders), Order)
    async with client.stream("chat.talk", lines=lines, returns=str, metadata={"tenant": "a"}) as replies:
        assert_type([reply async for reply in replies], list[str])
    async with client.stream("shop.watch", since=0) as plain:
        async for item in plain:
            assert_type(item, Any)


async def views(client: holdfast.Client) -> None:
    quick = client.using(deadline=0.2, attempts=1)
    assert_type(quick, holdfast.Client)
    assert_type(client.using(deadline=None, idempotent=False, wait_for_ready=False), holdfast.Client)
    assert_type(await quick.bind(Shop).place(Order("o-1", 2)), str)
    assert_type(client.using(waiting_max=0, hedge=False, key="customer-7", fallback=None, explain=print, trailers=None), holdfast.Client)
    assert_type([node.next_attempt_in_s for node in client.nodes], list[float | None])
    assert_type(client.poke(), None)
    client.using(dedline=0.2)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------------------------- a server


async def serving(emit: Callable[[object], None]) -> None:
    async with holdfast.serve(svc, bind="tcp://127.0.0.1:0") as server:
        assert_type(server, holdfast.Server)
        assert_type(server.addresses, tuple[str, ...])
        assert_type(await server.wait_closed(), None)
    async with holdfast.serve([svc, Service("other")], bind=["tcp://127.0.0.1:0", "unix:///run/shop.sock"], emit=emit) as server:
        assert_type(await server.close(), None)
    async with holdfast.serve(svc, bind="tcp://0.0.0.0:7000", insecure=True, config=holdfast.ServerConfig(drain_s=5.0)):
        pass
    holdfast.serve(svc)  # type: ignore[call-arg]


def until_a_signal() -> None:
    assert_type(holdfast.run(svc, bind="tcp://127.0.0.1:7000"), None)


def a_service_that_keeps_its_word() -> Service:
    return Service("shop", contract=Shop)


# ------------------------------------------------------------------------------------------------------- protocols of one's own


class Echo(asyncio.Protocol):
    count = 0


class InPlace(asyncio.BufferedProtocol):
    pass


class Shout(Framed):
    def __init__(self, loud: bool = True) -> None:
        super().__init__(Lines(ending=b"\r\n"), send_max_bytes=65536)

    def message_received(self, message: bytes) -> None:
        assert_type(message, bytes)
        assert_type(self.transport, asyncio.Transport)
        assert_type(self.send(message), bool)


class Reports(asyncio.DatagramProtocol):
    pass


def make_echo() -> Echo:
    return Echo()


async def hosting() -> None:
    async with holdfast.serve(Echo, bind="tcp://127.0.0.1:0") as server:
        assert_type(server, holdfast.Server)
    holdfast.serve(make_echo, bind="tls://127.0.0.1:0", tls=holdfast.TlsConfig())
    holdfast.serve(lambda: Shout(False), bind="tcp://127.0.0.1:0")
    holdfast.serve(InPlace, bind="tcp://127.0.0.1:0")
    holdfast.serve(Reports, bind="udp://127.0.0.1:0")
    holdfast.serve(Echo(), bind="tcp://127.0.0.1:0")  # type: ignore[arg-type]
    holdfast.serve(int, bind="tcp://127.0.0.1:0")  # type: ignore[arg-type]


def hosting_until_a_signal() -> None:
    assert_type(holdfast.run(Echo, bind="tcp://127.0.0.1:7000"), None)


async def dialling(drainable: Drainable) -> None:
    transport, echo = await holdfast.dial(Echo, "tcp://127.0.0.1:7000", deadline=None, reconnect=True)
    assert_type(transport, asyncio.Transport)
    assert_type(echo.count, int)
    assert_type((await holdfast.dial(make_echo, "tls://a:7000", tls=holdfast.TlsConfig()))[1], Echo)
    assert_type((await holdfast.dial(InPlace, "unix:///run/s"))[1], InPlace)
    datagrams, reports = await holdfast.dial(Reports, "udp://127.0.0.1:8125")
    assert_type(datagrams, asyncio.DatagramTransport)
    assert_type(reports, Reports)
    assert_type(drainable.drain_requested(), None)
    await holdfast.dial(int, "tcp://127.0.0.1:7000")  # type: ignore[type-var]


def framings(framing: Framing) -> None:
    assert_type(framing.feed(memoryview(b"")), list[bytes])
    assert_type(framing.encode(b""), bytes)
    assert_type(framing.error, FramingError | None)
    assert_type(LengthPrefixed(4, byteorder="little", max_bytes=100), LengthPrefixed)
    assert_type([Delimited(b"\0"), VarintPrefixed(), Netstring(), FixedSize(8)].pop().waiting_bytes, int)
    LengthPrefixed(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- inside a handler, and errors


async def stepping_out(client: holdfast.Client) -> None:
    with holdfast.detached():
        await client.call("audit.write", "placed", deadline=5.0)


class SoldOut(msgspec.Struct):
    left: int


def refusing() -> None:
    raise holdfast.Refused("sold out", code="failed_precondition", details=SoldOut(0))


def refusing_with_a_code_that_is_none() -> None:
    raise holdfast.Refused("sold out", code="sold_out")  # type: ignore[arg-type]


async def errors_say_what_happened(client: holdfast.Client) -> None:
    try:
        await client.call("shop.place", Order("o-1", 2), returns=str)
    except holdfast.Refused as error:
        assert_type(error.details_as(SoldOut), SoldOut)
    except (holdfast.DeadlineExceeded, holdfast.OutcomeUnknown, holdfast.Unavailable, holdfast.Overloaded) as error:
        assert_type(error.message, str)
        assert_type(error.retry_after_s, float | None)
        if error.executed == "no" and error.retry == "safe":
            await asyncio.sleep(error.retry_after_s or 0.1)
    except (holdfast.NotFound, holdfast.InvalidArgument, holdfast.Unauthenticated, holdfast.PermissionDenied) as error:
        same: holdfast.HoldfastError = error
        assert_type(same.code == "not_found", bool)
    except (holdfast.ProtocolError, holdfast.ConfigError):
        pass


# ------------------------------------------------------------------------------------------------------------------- in tests


async def in_memory() -> None:
    under_test = testing.client(svc)
    entered: AbstractAsyncContextManager[holdfast.Client] = under_test
    assert entered is under_test
    async with testing.client(svc) as client:
        assert_type(client, holdfast.Client)
        assert_type(await client.bind(Shop).place(Order("o-1", 2)), str)
