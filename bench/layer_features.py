"""Whole calls in memory: the base, and each feature switched on at the public surface. And the yardstick, joined the same way.

Owns the service that is called and the tasks that call it: IN_FLIGHT of them, each with its next call as soon as the last is back. What may
never happen here: a feature reached by anything but what users have; a reply that is counted and was not compared.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

import holdfast
from bench import yardstick
from bench.processes import WrongReply
from holdfast import testing
from holdfast.observe.metrics import Metrics

IN_FLIGHT = 64
TEXT = "x" * 60
WARM_UP_CALLS = 4
DEADLINE_S = 5.0
METADATA = {"tenant": "shop-7"}


class Echo(msgspec.Struct, array_like=True, gc=False):
    """The same message that the yardstick sends."""

    a: int
    s: str


Ask = Callable[[Echo], Awaitable[Echo]]
Task = Callable[[Any, int, int], Awaitable[None]]
"""What calls, so often, with numbers from the last argument on."""
Work = Callable[[Any, int], Awaitable[None]]
"""IN_FLIGHT of these, each so often."""


def message_of(number: int) -> Echo:
    """Return the argument of a call, which differs from the next one's."""
    return Echo(number, f"{TEXT}{number & 4095:04d}")


def compared(reply: Any, message: Echo) -> None:
    """Raises: WrongReply."""
    if reply.a != message.a or reply.s != message.s:
        raise WrongReply(f"asked for {message}, got {reply}")


class Bench(Protocol):
    """What `service` offers."""

    async def echo(self, message: Echo) -> Echo:
        """Give back what came."""
        ...

    async def with_context(self, message: Echo) -> Echo:
        """The same, by a handler that asks for its Context."""
        ...

    async def suspend(self, message: Echo) -> Echo:
        """The same, after one turn of the loop."""
        ...

    async def plain(self, message: Echo) -> Echo:
        """The same, by a function that is not `async`."""
        ...

    async def three(self, left: int, right: int, message: Echo) -> Echo:
        """The same, with two more arguments."""
        ...

    async def relay(self, each: int) -> int:
        """Have as many tasks as there are calls in flight, which call so often each, from inside a handler."""
        ...


def service(clients: list[holdfast.Client]) -> holdfast.Service:
    """Return the service that is called; `clients[0]` is what its `relay` calls with."""
    svc = holdfast.Service("bench")

    @svc.method
    async def echo(message: Echo) -> Echo:
        return message

    @svc.method
    async def with_context(message: Echo, context: holdfast.Context) -> Echo:
        return message

    @svc.method
    async def suspend(message: Echo) -> Echo:
        await asyncio.sleep(0)
        return message

    @svc.method
    def plain(message: Echo) -> Echo:
        return message

    @svc.method
    async def three(left: int, right: int, message: Echo) -> Echo:
        return message

    @svc.method
    async def relay(each: int) -> int:
        await at_once(in_order, clients[0].bind(Bench).echo, each)
        return each

    return svc


# ------------------------------------------------------------------------------------------------------------- tasks that call


async def in_order(ask: Ask, calls: int, first: int) -> None:
    """Call so often, one after the other."""
    for number in range(first, first + calls):
        message = message_of(number)
        reply = await ask(message)
        if reply.a != message.a or reply.s != message.s:
            compared(reply, message)


async def by_keyword(ask: Callable[..., Awaitable[Echo]], calls: int, first: int) -> None:
    """The same, with the argument given by its name."""
    for number in range(first, first + calls):
        message = message_of(number)
        reply = await ask(message=message)
        if reply.a != message.a or reply.s != message.s:
            compared(reply, message)


async def in_parts(ask: Callable[[int, str], Awaitable[Any]], calls: int, first: int) -> None:
    """The same for the yardstick, which makes the message of its parts."""
    for number in range(first, first + calls):
        text = f"{TEXT}{number & 4095:04d}"
        reply = await ask(number, text)
        if reply.a != number or reply.s != text:
            compared(reply, Echo(number, text))


async def at_once(task: Task, ask: Any, each: int) -> None:
    """Run IN_FLIGHT tasks that call `each` times."""
    await asyncio.gather(*(task(ask, each, number << 20) for number in range(IN_FLIGHT)))


async def from_tasks(ask: Ask, each: int) -> None:
    """Call as nearly everybody does."""
    await at_once(in_order, ask, each)


async def inside(relay: Callable[[int], Awaitable[int]], each: int) -> None:
    """The same, from inside one handler."""
    if (told := await relay(each)) != each:
        raise WrongReply(f"asked for {each} calls of each task inside a handler, got {told}")


async def timed(work: Work, ask: Any, calls: int) -> float:
    """Call about `calls` times; return the µs of processor time that one took."""
    each = max(1, calls // IN_FLIGHT)
    started = time.process_time()
    await work(ask, each)
    return (time.process_time() - started) / (each * IN_FLIGHT) * 1e6


# ------------------------------------------------------------------------------------------------------------------- features


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A way to call, and what it is compared with.

    Attributes:
        ask: from a client to what is called.
        work: who calls it.
        over: the key of the way of calling that differs in this one thing.
        options: of `holdfast.testing.client`, made anew for each round.
    """

    key: str
    name: str
    ask: Callable[[holdfast.Client], Any]
    over: str = "base"
    work: Work = from_tasks
    options: Callable[[], dict[str, Any]] = field(default=dict)


def bound(method: str) -> Callable[[holdfast.Client], Any]:
    """Return how to get a bound method of a client."""
    return lambda client: getattr(client.bind(Bench), method)


def named(**more: Any) -> Callable[[holdfast.Client], Any]:
    """Return how to get `client.call` of the method, with more keywords."""

    def ask(client: holdfast.Client) -> Any:
        return functools.partial(client.call, "bench.echo", returns=Echo, **more)

    return ask


def viewed(**habits: Any) -> Callable[[holdfast.Client], Any]:
    """Return how to get the bound method of a view."""
    return lambda client: client.using(**habits).bind(Bench).echo


def checked() -> dict[str, Any]:
    """Return the options of two sides that want check sums."""
    return {"config": holdfast.ClientConfig(checksum="always"), "server_config": holdfast.ServerConfig(checksum="always")}


def heard(method: str, trailers: Any) -> None:
    """What is told of trailers: nothing is done with them."""


BASE = Feature(key="base", name="base: a bound method, an async handler", ask=bound("echo"))
FEATURES = (
    Feature(key="again", name="the base again: the noise", ask=bound("echo")),
    Feature(key="metrics", name="emit that hears CallEnded: Metrics, both sides", ask=bound("echo"), options=lambda: {"emit": Metrics()}),
    Feature(key="view", name="a view made by using()", ask=viewed()),
    Feature(key="trailers", name="trailers asked for", ask=viewed(trailers=heard), over="view"),
    Feature(key="by_name", name="client.call by name", ask=named()),
    Feature(key="metadata", name="metadata", ask=named(metadata=METADATA), over="by_name"),
    Feature(key="deadline", name="an explicit deadline", ask=named(deadline=DEADLINE_S), over="by_name"),
    Feature(key="no_deadline", name="deadline=None", ask=named(deadline=None), over="by_name"),
    Feature(key="keyword", name="the argument by keyword", ask=bound("echo"), work=functools.partial(at_once, by_keyword)),
    Feature(key="arguments", name="2 more arguments", ask=lambda client: functools.partial(bound("three")(client), 1, 2)),
    Feature(key="context", name="a Context parameter", ask=bound("with_context")),
    Feature(key="sync", name="a sync handler", ask=bound("plain")),
    Feature(key="suspend", name="a handler that suspends once", ask=bound("suspend")),
    Feature(key="checksum", name='checksum="always"', ask=bound("echo"), options=checked),
    Feature(key="inside", name="calls from inside a handler", ask=bound("relay"), work=inside),
)


BY_KEY = {feature.key: feature for feature in (BASE, *FEATURES)}


@asynccontextmanager
async def opened(feature: Feature) -> AsyncIterator[Callable[[int], Awaitable[float]]]:
    """Give what calls so often in that way, after a warm-up, and returns the µs of a whole call, both sides together."""
    clients: list[holdfast.Client] = []
    async with testing.client(service(clients), **feature.options()) as client:
        clients.append(client)
        measured = functools.partial(timed, feature.work, feature.ask(client))
        await measured(WARM_UP_CALLS * IN_FLIGHT)
        gc.collect()
        yield measured


async def whole(calls: int) -> float:
    """Return the µs of a whole call in the way that all else is compared with."""
    async with opened(BY_KEY["base"]) as measured:
        return await measured(calls)


async def more(feature: Feature, calls: int) -> float:
    """Return the µs that a feature adds: it and what it is over are measured side by side, without, with, with and without."""
    async with opened(BY_KEY[feature.over]) as without, opened(feature) as with_it:
        before = await without(calls // 2)
        took = await with_it(calls // 2) + await with_it(calls // 2)
        return (took - before - await without(calls // 2)) / 2


# ------------------------------------------------------------------------------------------------------------- the yardstick


class Pipe:
    """A transport to an object beside it: what is written is there in the next turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.far: Any = None

    def write(self, data: bytes) -> None:
        """Hand it over."""
        self._loop.call_soon(self.far.data_received, data)

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""


async def bare(calls: int) -> float:
    """Return the µs of a whole call of the yardstick, which has no feature at all."""
    yardstick.importable()
    import l1

    loop = asyncio.get_running_loop()
    module = l1.build(set())
    client, server = module.Client(loop), module.Server(loop)
    for near, far in ((client, server), (server, client)):
        pipe = Pipe(loop)
        pipe.far = far
        near.connection_made(pipe)

    work = functools.partial(at_once, in_parts)
    await work(client.echo, WARM_UP_CALLS)
    gc.collect()
    return await timed(work, client.echo, calls)
