"""`holdfast.testing.client`: the real wire in memory, for users' own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast import testing
from holdfast.facts import CallEnded, ConnectionOpened, Fact

from .faults.helpers import until


class Pool:
    open = True


def service(name: str = "shop") -> holdfast.Service:
    made = holdfast.Service(name)

    @made.lifespan
    async def lifespan() -> AsyncIterator[Pool]:
        pool = Pool()
        yield pool
        pool.open = False

    @made.method
    async def price(sku: str, ctx: holdfast.Context) -> bool:
        return ctx.state(Pool).open

    @made.method
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    return made


@pytest.mark.both_loops
async def test_it_serves_calls_and_streams_with_the_lifespan_running() -> None:
    facts: list[Fact] = []
    async with testing.client(service(), emit=facts.append) as client:
        assert await client.call("shop.price", "a", returns=bool) is True
        async with client.stream("shop.count", n=3, returns=int) as numbers:
            assert [number async for number in numbers] == [0, 1, 2]
        await until(lambda: [f.side for f in facts if isinstance(f, ConnectionOpened)].count("server"))
        assert {fact.peer.partition(":")[0] for fact in facts if isinstance(fact, ConnectionOpened)} == {"memory"}
        assert "server" in [fact.side for fact in facts if isinstance(fact, CallEnded)]


async def test_several_services_and_configurations() -> None:
    config = holdfast.ClientConfig(deadline_s=1.0)
    server_config = holdfast.ServerConfig(handlers_max=1)
    async with testing.client([service("a"), service("b")], attempts=1, config=config, server_config=server_config) as client:
        assert await client.call("a.price", "x") is await client.call("b.price", "x") is True


async def test_two_of_them_do_not_see_each_other() -> None:
    async with testing.client(service("a")) as one, testing.client(service("b")) as two:
        assert await one.call("a.price", "x") is True
        with pytest.raises(holdfast.MethodNotFound):
            await two.call("a.price", "x")
