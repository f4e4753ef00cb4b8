"""A few nodes and a client in a world where everything is as the test says: for what is measured and not drawn.

Owns: the start of nodes and clients, and a steady load that waits for no answer. What may never happen here: a fault that the test did not
ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import holdfast
from holdfast import errors
from holdfast.facts import Fact
from holdfast.sim import World

PORT = 7000
CALM: dict[str, Any] = {"latency_s": 0.0003, "jitter_s": 0.0002, "slice_chance": 0.0, "timer_slack_s": 0.0}
"""Half a millisecond from host to host, and nothing is cut."""


async def serve(svc: holdfast.Service, config: holdfast.ServerConfig | None = None) -> None:
    """A node, for as long as its host lives."""
    async with holdfast.serve(svc, bind=f"tcp://0.0.0.0:{PORT}", insecure=True, config=config):
        await asyncio.Event().wait()


def start(world: World, svc: holdfast.Service, *names: str, config: holdfast.ServerConfig | None = None) -> str:
    """Start a node on each of these hosts; return the address of all of them."""
    for name in names:
        world.host(name).start(partial(serve, svc, config), name=name)
    return ",".join(f"tcp://{name}:{PORT}" for name in names)


def here(world: World) -> str:
    """The host whose program runs at this moment."""
    process: Any = world._engine.current
    host: str = process.host
    return host


@dataclass
class Load:
    """What became of the calls of a steady load.

    Attributes:
        began: when each call began, in the order of the world. took: how long those took that came to good, by when they began.
        failed: those that did not, by when they began. facts: all that the client said.
    """

    began: list[float] = field(default_factory=list)
    took: dict[float, float] = field(default_factory=dict)
    failed: dict[float, BaseException] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def good(self, begin_s: float, end_s: float) -> float:
        """The share of calls that began in that time and came to good."""
        began = [at for at in self.began if begin_s <= at < end_s]
        return sum(at in self.took for at in began) / len(began)

    def percentile(self, share: float, begin_s: float, end_s: float) -> float:
        """How long so many of the calls took at most that began in that time; a failed one takes for ever."""
        took = sorted(self.took.get(at, float("inf")) for at in self.began if begin_s <= at < end_s)
        return took[min(len(took) - 1, int(share * len(took)))]


async def steady(world: World, load: Load, call: Callable[[int], Awaitable[Any]], rate: float, begin_s: float, end_s: float) -> None:
    """Make calls at that rate, in the process of a client. Returns when all have ended. Raises: what is no error of holdfast."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    number = 0

    async def one(number: int) -> None:
        at = world.now()
        load.began.append(at)
        try:
            await call(number)
        except errors.HoldfastError as error:
            load.failed[at] = error
        else:
            load.took[at] = world.now() - at

    while (at := begin_s + number / rate) < end_s:
        if at > world.now():
            await asyncio.sleep(at - world.now())
        running.add(loop.create_task(one(number)))
        number += 1
        if number % 100 == 0:
            for task in [each for each in running if each.done()]:
                running.discard(task)
                task.result()
    for task in running:
        await task
