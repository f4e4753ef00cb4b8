"""The service that every node of the campaign offers, and the log of what was really executed, on any of them.

Owns: the methods, and what the mood of a node does to them. Each says in the log that it begins, before anything else, with the key of its
call, unless the node's mood is to turn calls away: then it does nothing and says so.

What may never happen here: a handler that runs without saying so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import holdfast
from holdfast import Context, errors
from tests.sim.spine.service import TRAVELS_S, Answer, Item, filler

from .truth import Truth

STUCK_LOOK_S = 0.1


class Log:
    """Where handlers write: the ledger of the world that runs. There is one at a time; to make a service for each takes too long."""

    truth: Truth


svc = holdfast.Service("fleet")


async def begun(key: str, nap_s: float = 0.0) -> None:
    """A handler begins, takes its time, and more than that on a node in a bad mood."""
    truth = Log.truth
    mood, number = truth.moods.get(truth.here, ("", 0.0))
    if mood == "refusing":
        raise errors.Overloaded("it did nothing and says so", retry_after_s=number or None)
    model = truth.models.get(truth.here)
    if model is not None:
        await model.request()
    truth.begun(key)
    if mood == "failing":
        raise ValueError(key)
    while mood == "stuck" and truth.moods.get(truth.here) == (mood, number):  # noqa: ASYNC110 # hosts share no event
        await asyncio.sleep(STUCK_LOOK_S)
    if mood == "slow":
        nap_s = max(nap_s, 0.001) * number
    if nap_s:
        await asyncio.sleep(nap_s)


async def quick(key: str, nap_s: float) -> Answer:
    await begun(key, nap_s)
    return Answer(key, filler(key, 20))


@svc.method
async def refuse(key: str, nap_s: float) -> Answer:
    await begun(key, nap_s)
    raise errors.Refused(f"no {key}", details={"key": key})


@svc.method(idempotent=True)
async def timed(ctx: Context, key: str, nap_s: float, most_s: float) -> Answer:
    """Looks at its own deadline, when it begins and when it is cut off."""
    truth = Log.truth
    left_s = ctx.remaining()
    right = left_s is None if most_s < 0 else left_s is not None and left_s <= most_s + TRAVELS_S
    truth.require(right, "deadline", f"{key} has {left_s} s left in its handler, of {most_s} s")
    truth.numbered(key, ctx.peer.instance, ctx.call_number)
    try:
        await begun(key, nap_s)
    finally:
        truth.in_time(f"the handler of {key}", ctx.deadline_at)
    return Answer(key, filler(key, 20))


@svc.method(idempotent=True)
async def count(key: str, items: int, nap_s: float) -> AsyncIterator[Item]:
    await begun(key)
    for number in range(items):
        if nap_s:
            await asyncio.sleep(nap_s)
        yield Item(key, number, filler(key, 20))


@svc.method
async def collect(key: str, items: AsyncIterator[Item]) -> Answer:
    await begun(key)
    return Answer(key, b"", await Log.truth.read_all(key, items, 20))


for name, idempotent in (("echo", True), ("doze", True), ("put", False), ("nap", False)):
    svc.method(idempotent=idempotent, name=name)(quick)
IDEMPOTENT = ("echo", "doze", "timed", "count")
