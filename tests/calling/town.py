"""A client and its nodes in a time of their own: exact to the last bit, so that two ways of a call can be compared.

Owns: a loop whose clock moves only when nobody has anything to do, and a town of servers that do as they are told, moment by moment, with
a log of what reached them. Servers and client are the real ones; what is between them is a MemoryNetwork.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import holdfast
from holdfast.balance.endpoint import Node
from holdfast.calling.core import Core
from holdfast.errors import HoldfastError, Overloaded, Unavailable
from holdfast.facts import Fact
from holdfast.net.address import Address
from holdfast.net.link import Link, Receiver
from holdfast.net.memory import MemoryNetwork

BEGAN_AT = 1000.0
DIGITS = 9

ToFail = dict[str, Callable[[], Exception]]
FAILURES: ToFail = {
    "busy": lambda: Overloaded("too much to do"),
    "busy for long": lambda: Overloaded("too much to do", retry_after_s=0.25),
    "broken": lambda: RuntimeError("a bug"),
    "not found": lambda: holdfast.NotFound("no such thing"),
}


VIEWS: tuple[dict[str, Any], ...] = ({}, {"explain": lambda _: None})
"""What `using` is given for the merged way, and for the walked one."""


class _Idle(selectors.DefaultSelector):
    """Sleeps by moving the clock."""

    now = BEGAN_AT

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        if not found and timeout is not None and timeout > 0:
            self.now += timeout
        return found


class ExactLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time."""

    def __init__(self) -> None:
        self.idle = _Idle()
        super().__init__(self.idle)

    def time(self) -> float:
        return self.idle.now


class LoopClock:
    """The running loop's clock."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def run_exactly(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run `main()` on a loop of its own in virtual time; what reaches the loop unhandled fails it."""
    unhandled: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        return await main()

    with asyncio.Runner(loop_factory=ExactLoop) as runner:
        result = runner.run(watched())
    assert not unhandled, f"errors reached the loop that nobody handled: {unhandled}"
    return result


class Net(MemoryNetwork):
    """A network on which some addresses do not answer: `refusing` at once, `silent` never."""

    def __init__(self) -> None:
        super().__init__()
        self.refusing: dict[str, None] = {}
        self.silent: dict[str, asyncio.Future[None]] = {}
        self.connects: list[str] = []
        self.names: list[str] = []

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        key = str(address)
        self.connects.append(key)
        if key in self.silent:
            await self.silent[key]
        if key in self.refusing:
            raise Unavailable(f"{key}: connection refused")
        return await super().connect(address, make_receiver, timeout_s=timeout_s)

    async def lookup(self, address: Address) -> list[Address]:
        return [Address("memory", name, 0) for name in self.names]


class Town:
    """Servers that do as they are told, and one client of all.

    Attributes:
        how: of each node: `ok`, `slow`, or a key of FAILURES.
        took_s: how long each takes; `slow_s` while it is slow.
        log: when a call reached a node, the number it came with, which sending of it.
        facts: what the client told, and when.
    """

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.net = Net()
        self.how = dict.fromkeys(keys, "ok")
        self.took_s = {key: 0.004 + 0.002 * place for place, key in enumerate(keys)}
        self.slow_s = 3.0
        self.began_at = asyncio.get_running_loop().time()
        self.log: list[tuple[float, str, int, str]] = []
        self.facts: list[tuple[float, Fact]] = []
        self.servers: dict[str, holdfast.Server] = {}
        self.client: holdfast.Client

    def now(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.began_at

    async def until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self.began_at + at - asyncio.get_running_loop().time()))

    @property
    def core(self) -> Core:
        return self.client._core

    def node(self, key: str) -> Node:
        return self.core.balancer.nodes[key]

    def seen(self, kind: type[Fact]) -> list[Any]:
        return [fact for _, fact in self.facts if isinstance(fact, kind)]

    # ------------------------------------------------------------------ what is done to the nodes

    def lose(self, key: str) -> None:
        """Cut every connection to it."""
        for session in list(self.servers[key]._sessions):
            assert session.link is not None
            session.link.abort()

    def leave(self, key: str) -> None:
        """It asks for no more calls on the connections there are."""
        for session in list(self.servers[key]._sessions):
            session.say_goodbye()

    def down(self, key: str) -> None:
        self.net.refusing[key] = None
        self.lose(key)

    def up(self, key: str) -> None:
        self.net.refusing.pop(key, None)

    def say(self, key: str, *, serving: bool = True, draining: bool = False) -> None:
        """It tells its clients how it is."""
        for session in list(self.servers[key]._sessions):
            status = holdfast.client.Status(serving=serving, draining=draining)
            session.conn.send_status(status)
            session.flush_soon()

    def settled(self) -> dict[str, Any]:
        """What attempts hold while they are under way; all of it is 0 when none is."""
        nodes = self.core.balancer.nodes.values()
        return {
            "pending": [node.pending for node in nodes],
            "calls": sum(len(session.conn.calls) for dialer in self.core.dialers for session in dialer.sessions),
            "waiters": len(self.core.nodes._waiters),
            "handed": [node.key for node in nodes if getattr(node.gate, "_handed", False)],
        }

    def nothing_is_held(self) -> None:
        held = self.settled()
        assert not any(held["pending"]) and not held["calls"] and not held["waiters"] and not held["handed"], held

    def service(self, key: str) -> holdfast.Service:
        service = holdfast.Service("shop")

        async def does(method: str, n: int, ctx: holdfast.Context) -> str:
            self.log.append((round(self.now(), DIGITS), key, n, ctx.attempt))
            how = self.how[key]
            await asyncio.sleep(self.slow_s if how == "slow" else self.took_s[key])
            if how in FAILURES:
                raise FAILURES[how]()
            return f"{method} at {key}"

        @service.method(idempotent=True)
        async def get(ctx: holdfast.Context, n: int = -1) -> str:
            return await does("get", n, ctx)

        @service.method
        async def put(ctx: holdfast.Context, n: int = -1) -> str:
            return await does("put", n, ctx)

        @service.method
        async def items(n: int, gap_s: float, ctx: holdfast.Context) -> AsyncIterator[int]:
            await does("items", n, ctx)
            for number in range(n):
                yield number
                await asyncio.sleep(gap_s)

        @service.method
        async def total(numbers: AsyncIterator[int], ctx: holdfast.Context) -> int:
            await does("total", -1, ctx)
            return sum([number async for number in numbers])

        return service


@asynccontextmanager
async def town(
    keys: Sequence[str] = ("memory://a", "memory://b", "memory://c"),
    *,
    config: holdfast.ClientConfig | None = None,
    connected: bool = True,
    address: str = "",
    attempts: int = 3,
    kind: type[Town] = Town,
) -> AsyncIterator[Town]:
    """Open one. With `connected`, when it begins all nodes are connected, at 0.05 s."""
    here = kind(*keys)
    clock = LoopClock()
    server_config = holdfast.ServerConfig(drain_s=0.1, cancel_grace_s=0.1)
    async with AsyncExitStack() as stack:
        for key in keys:
            server = holdfast.serve(here.service(key), bind=key, network=here.net, clock=clock, seed=1, config=server_config)
            here.servers[key] = await stack.enter_async_context(server)
        loop = asyncio.get_running_loop()
        here.client = holdfast.connect(
            address or ",".join(keys),
            attempts=attempts,
            config=config,
            network=here.net,
            clock=clock,
            seed=7,
            emit=lambda fact: here.facts.append((round(loop.time() - here.began_at, DIGITS), fact)),
        )
        await stack.enter_async_context(here.client)
        if connected:
            await here.client.ready()
            await here.until(0.05)
            assert len(here.core.ready) == len(keys)
        yield here


async def told(call: Coroutine[Any, Any, Any]) -> Any:
    """What a call returns, or the error it ends with."""
    try:
        return await call
    except HoldfastError as error:
        return error
