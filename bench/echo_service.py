"""The service that is measured: an ordinary Service file, served by `holdfast serve` with its defaults."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from holdfast import Service

svc = Service("bench")


class Echo(msgspec.Struct, array_like=True, gc=False):
    """The same message that the yardstick sends."""

    a: int
    s: str


@svc.method
async def echo(message: Echo) -> Echo:
    """Give back what came."""
    return message


@svc.method
async def suspend(message: Echo) -> Echo:
    """Give back what came, after one turn of the loop."""
    await asyncio.sleep(0)
    return message


@svc.method
async def bulk(body: bytes) -> bytes:
    """Give back what came."""
    return body


@svc.method
async def items(count: int) -> AsyncIterator[Echo]:
    """Give so many small items."""
    for number in range(count):
        yield Echo(number, "item")
