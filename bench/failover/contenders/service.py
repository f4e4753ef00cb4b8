"""holdfast's node: an ordinary Service file, served by `holdfast serve`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bench.failover.work import TICK_S, from_environment
from holdfast import Service

svc = Service("node")
work = from_environment()


@svc.method(idempotent=True)
async def look(call_id: int) -> int:
    """Work; twice is as good as once."""
    await asyncio.sleep(work.begin(call_id))
    return call_id


@svc.method
async def place(call_id: int) -> int:
    """Work; not twice."""
    await asyncio.sleep(work.begin(call_id))
    return call_id


@svc.method
async def ticks(number: int) -> AsyncIterator[int]:
    """Give an item now and then, for ever."""
    while True:
        yield number
        await asyncio.sleep(TICK_S)
