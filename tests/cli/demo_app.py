"""The service the command line's own tests put on the network."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec

from holdfast.context import Context
from holdfast.errors import Refused
from holdfast.service import Service

svc = Service("shop")


class Order(msgspec.Struct):
    id: str
    qty: int


@svc.method
async def place(order: Order) -> str:
    """Place an order."""
    return f"receipt-{order.id}-{order.qty}"


@svc.method(idempotent=True)
def price(sku: str, count: int = 1) -> float:
    return 9.5 * count


@svc.method
def report(day: str) -> bytes:
    return b"\x00\xff\n" + day.encode()


@svc.method
async def watch(since: int) -> AsyncIterator[Order]:
    for n in range(since, since + 3):
        yield Order(f"o-{n}", n)


@svc.method
async def forever() -> AsyncIterator[int]:
    n = 0
    while True:
        yield n
        n += 1
        await asyncio.sleep(0)


@svc.method
async def upload(name: str, chunks: AsyncIterator[bytes]) -> dict[str, int]:
    return {name: sum([len(chunk) async for chunk in chunks])}


@svc.method
async def echo(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


@svc.method
async def double(orders: AsyncIterator[Order]) -> AsyncIterator[Order]:
    async for order in orders:
        yield Order(order.id, order.qty * 2)


@svc.method
async def who(ctx: Context) -> dict[str, str]:
    return dict(ctx.metadata)


@svc.method
async def refuse(why: str) -> None:
    raise Refused(why, code="aborted", details={"left": 0})


@svc.method
async def crash() -> None:
    raise ValueError("a secret of the handler")


@svc.method
async def sleep() -> str:
    """Never answers; says on stderr when it starts and when it is cancelled."""
    print("sleeping", file=sys.stderr, flush=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", file=sys.stderr, flush=True)
        raise
    return "never"
