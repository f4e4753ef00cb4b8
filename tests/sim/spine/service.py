"""The service of the campaign: every kind of handler, and the log of what was really executed.

Owns: the methods. Each says so in the log when it begins, before anything else, with the key of its call; what it answers is a function of
its arguments, so that an answer that belongs to another call is seen. The log outlives the server's process, as the world does.

What may never happen here: a handler that runs without saying so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

import holdfast
from holdfast import Context, errors
from holdfast.sim import InvariantBroken

from .truth import Truth

TRAVELS_S = 0.0011
"""A deadline travels in whole milliseconds, rounded up."""


class Answer(msgspec.Struct, frozen=True):
    """What a unary method answers."""

    key: str
    body: bytes
    taken: int = 0
    metadata: dict[str, str] = {}


class Item(msgspec.Struct, frozen=True):
    """An item, in either direction."""

    key: str
    number: int
    body: bytes


def filler(key: str, size: int) -> bytes:
    """`size` bytes that no other key has."""
    piece = key.encode() + b"."
    return (piece * (size // len(piece) + 1))[:size]


class Log:
    """Where handlers write: the ledger of the world that runs. There is one at a time; to make a service for each takes too long."""

    truth: Truth


svc = holdfast.Service("spine")


def begun(key: str) -> None:
    """A handler begins."""
    Log.truth.begun(key)


async def quick(key: str, body: bytes, reply: int) -> Answer:
    begun(key)
    return Answer(key, filler(key, reply), len(body))


async def slow(key: str, body: bytes, reply: int, nap_s: float) -> Answer:
    begun(key)
    await asyncio.sleep(nap_s)
    return Answer(key, filler(key, reply), len(body))


async def fail(key: str, body: bytes) -> Answer:
    begun(key)
    raise ValueError(key)


async def refuse(key: str, body: bytes, nap_s: float) -> Answer:
    begun(key)
    await asyncio.sleep(nap_s)
    raise errors.Refused(f"no {key}", details={"key": key})


async def shed(key: str, body: bytes) -> Answer:
    raise errors.Overloaded("it did nothing and says so")


def plain(key: str, body: bytes, reply: int) -> Answer:
    begun(key)
    return Answer(key, filler(key, reply), len(body))


def block(key: str, body: bytes, reply: int, nap_s: float) -> Answer:
    begun(key)
    time.sleep(nap_s)
    return Answer(key, filler(key, reply), len(body))


async def stubborn(key: str, body: bytes, nap_s: float) -> Answer:
    begun(key)
    try:
        await asyncio.sleep(nap_s)
    finally:
        await asyncio.sleep(0.02)
    return Answer(key, b"", len(body))


async def about(ctx: Context, key: str, body: bytes) -> Answer:
    begun(key)
    Log.truth.numbered(key, ctx.peer.instance, ctx.call_number)
    return Answer(key, body, ctx.call_number, dict(ctx.metadata))


async def timed(ctx: Context, key: str, body: bytes, nap_s: float, most_s: float) -> Answer:
    """Looks at its own deadline, when it begins and when it is cut off."""
    begun(key)
    truth = Log.truth
    truth.numbered(key, ctx.peer.instance, ctx.call_number)
    left_s = ctx.remaining()
    right = left_s is None if most_s < 0 else left_s is not None and left_s <= most_s + TRAVELS_S
    truth.require(right, "deadline", f"the handler of {key} was given {left_s} s, its caller had {most_s} s")
    try:
        await asyncio.sleep(nap_s)
    finally:
        truth.in_time(f"the handler of {key}", ctx.deadline_at)
    return Answer(key, b"", len(body))


async def count(key: str, items: int, size: int, nap_s: float) -> AsyncIterator[Item]:
    begun(key)
    for number in range(items):
        if nap_s:
            await asyncio.sleep(nap_s)
        yield Item(key, number, filler(key, size))


async def collect(key: str, size: int, items: AsyncIterator[Item]) -> Answer:
    begun(key)
    return Answer(key, b"", await Log.truth.read_all(key, items, size))


async def both(key: str, size: int, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    begun(key)
    expected = 0
    async for item in items:
        if (item.key, item.number) != (key, expected):
            Log.truth.broke(
                InvariantBroken("in-order", f"the server expected item {expected} of {key} and got {item.number} of {item.key}")
            )
        expected += 1
        yield item


for idempotent, functions in ((True, {"echo": quick, "doze": slow}), (False, {"put": quick, "nap": slow})):
    for name, function in functions.items():
        svc.method(idempotent=idempotent, name=name)(function)
for each in (fail, refuse, shed, plain, stubborn, about, collect, both):
    svc.method(each)
svc.method(blocking=True)(block)
svc.method(idempotent=True)(count)
svc.method(idempotent=True)(timed)
