"""Results made by hand, and a service that does what a test wants to see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from holdfast.control.histogram import Histogram
from holdfast.errors import Refused
from holdfast.service import Service
from holdfast.tools.load.tally import Measured, Slot, Step

STALL_S = 0.3


def histogram(*seconds: float) -> Histogram:
    """The histogram of these durations."""
    made = Histogram()
    for each in seconds:
        made.record(each)
    return made


def step(name: str = "shop.price", *, seconds: Sequence[float] = (), errors: dict[str, int] | None = None) -> Step:
    """A step whose calls took so long."""
    errors = errors or {}
    latency = histogram(*seconds)
    return Step(name=name, ok=latency.count - errors.get("deadline_exceeded", 0), errors=errors, latency=latency.snapshot())


def measured(
    *, seconds: Sequence[float] = (), errors: dict[str, int] | None = None, elapsed_s: float = 1.0, not_sent: int = 0, unfinished: int = 0
) -> Measured:
    """A result whose calls took so long."""
    only = step(seconds=seconds, errors=errors)
    done = only.ok + sum(only.errors.values())
    return Measured(
        sent=done + unfinished,
        not_sent=not_sent,
        unfinished=unfinished,
        elapsed_s=elapsed_s,
        slot_s=0.5,
        steps=(only,),
        slots=(Slot(only.ok, sum(only.errors.values()), only.latency), Slot(0, 0, Histogram().snapshot())),
        samples={code: f"what {code} said" for code in only.errors},
        cpu=(0.1,),
    )


def shop() -> tuple[Service, list[int]]:
    """A service, and the numbers it was called with."""
    service = Service("shop")
    seen: list[int] = []

    @service.method
    async def price(n: int) -> int:
        seen.append(n)
        return n

    @service.method
    def stall(n: int, at: int) -> int:
        """Stand still with the whole loop at call number `at`."""
        seen.append(n)
        if n == at:
            time.sleep(STALL_S)
        return n

    @service.method
    async def refuse(n: int) -> int:
        raise Refused("sold out", code="aborted")

    @service.method
    async def never(n: int) -> int:
        seen.append(n)
        await asyncio.Event().wait()
        return n

    @service.method
    async def watch(count: int) -> AsyncIterator[int]:
        for n in range(count):
            yield n

    @service.method
    async def upload(chunks: AsyncIterator[bytes]) -> int:
        return sum([len(chunk) async for chunk in chunks])

    return service, seen
