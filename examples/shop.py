"""A service with every kind of method: unary, quick, blocking, and streams both ways.

cd examples
holdfast serve shop:svc --bind tcp://127.0.0.1:7000
holdfast call tcp://127.0.0.1:7000 shop.place order.id=o-1 order.qty=2
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from holdfast import Context, Service

svc = Service("shop")


class Order(msgspec.Struct):
    id: str
    qty: int


@dataclass
class Pool:
    """Stands for what a real service opens once and shares: a database pool, an HTTP client."""

    rows: dict[str, Order] = field(default_factory=dict[str, Order])
    is_open: bool = True


@asynccontextmanager
async def make_pool() -> AsyncGenerator[Pool, None]:
    pool = Pool()
    try:
        yield pool
    finally:
        pool.is_open = False


@svc.method  # unary; retried only when surely not executed
async def place(order: Order, ctx: Context) -> str:
    """Place an order."""
    ctx.state(Pool).rows[order.id] = order
    return f"receipt-{order.id}"


@svc.method(idempotent=True)  # may be retried and hedged
def price(sku: str) -> float:  # a plain def runs inline: for pure, quick work
    """The price of one piece."""
    return 9.9


@svc.method(blocking=True)  # a plain def that blocks: a bounded thread pool
def report(day: str) -> bytes:
    """The report of a day, as a file."""
    return f"orders of {day}\n".encode()


@svc.method
async def watch(since: int, ctx: Context) -> AsyncIterator[Order]:  # server stream; ctx is injected when asked for
    """Orders from number `since` on."""
    for n in range(since, since + 3):
        yield Order(f"o-{n}", n)


@svc.method
async def upload(name: str, chunks: AsyncIterator[bytes]) -> int:  # client stream; both at once is a duplex stream
    """Take a file; answer with its size."""
    return sum([len(c) async for c in chunks])


@svc.lifespan
async def lifespan() -> AsyncIterator[Pool]:  # what it yields, handlers get from ctx.state(Pool)
    async with make_pool() as pool:
        yield pool
