"""Every public coroutine of Client and Server, cancelled at each of its suspensions in a simulated world: nothing is left of it.

Owns: one scenario per coroutine. What is cut runs in a process of its own host, as its user would run it; the server, and all that is
looked at afterwards, are in the same process, so that one look finds what is left on either side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import holdfast
from holdfast.sim import Cut, World, cancel_everywhere
from holdfast.testing import client as in_memory
from holdfast.wire import Settings

from .judging import left_in_client, left_in_process, left_in_server

svc = holdfast.Service("t")
SMALL = Settings(frame_max_bytes=1024, stream_window_bytes=4096, connection_window_bytes=4096, open_calls_max=2)
SERVER = holdfast.ServerConfig(wire=SMALL, drain_s=2.0, cancel_grace_s=1.0)
CLIENT = holdfast.ClientConfig(wire=SMALL, closing_s=1.0)
URL = "tcp://127.0.0.1:7000"
SETTLE_S = 20.0
LOOK_S = 0.1


@svc.lifespan
async def things() -> AsyncIterator[object]:
    """A lifespan that takes time, at both ends."""
    await asyncio.sleep(0.001)
    yield object()
    await asyncio.sleep(0.001)


@svc.method
async def slow(text: str) -> str:
    await asyncio.sleep(0.01)
    return text


@svc.method(idempotent=True)
async def quick(text: str) -> str:
    return text


@svc.method(blocking=True)
def threaded(text: str) -> str:
    return text


@svc.method
async def items(n: int) -> AsyncIterator[bytes]:
    for _ in range(n):
        yield bytes(1000)


@svc.method
async def total(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


@svc.method
async def both(chunks: AsyncIterator[bytes]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield len(chunk)


class Source:
    """Chunks to send; knows whether whoever took them also closed them."""

    def __init__(self, n: int, size: int = 1000) -> None:
        self.n, self.size, self.open = n, size, 0

    async def chunks(self) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            for _ in range(self.n):
                await asyncio.sleep(0)
                yield bytes(self.size)
        finally:
            self.open -= 1


Act = Callable[[holdfast.Client, Source], Awaitable[Any]]


async def call(client: holdfast.Client, source: Source) -> None:
    assert await client.call("t.slow", "x", returns=str) == "x"


async def call_at_once(client: holdfast.Client, source: Source) -> None:
    assert await client.call("t.quick", "x", returns=str) == "x"


async def call_in_a_thread(client: holdfast.Client, source: Source) -> None:
    assert await client.call("t.threaded", "x", returns=str) == "x"


async def call_in_pieces(client: holdfast.Client, source: Source) -> None:
    assert await client.call("t.slow", "x" * 9_000, returns=str) == "x" * 9_000


async def call_with_metadata(client: holdfast.Client, source: Source) -> None:
    view = client.using(attempts=3, deadline=5.0, wait_for_ready=True, trailers=lambda method, trailers: None)
    assert await view.call("t.slow", "x", returns=str, metadata={"a": "b"}) == "x"


async def calls_that_wait_for_their_turn(client: holdfast.Client, source: Source) -> None:
    await asyncio.gather(*(client.call("t.slow", "x", returns=str) for _ in range(5)))


async def upload(client: holdfast.Client, source: Source) -> None:
    assert await client.call("t.total", chunks=source.chunks(), returns=int) == source.n * source.size


async def upload_in_pieces(client: holdfast.Client, source: Source) -> None:
    source.n, source.size = 3, 6_000
    await upload(client, source)


async def stream(client: holdfast.Client, source: Source) -> None:
    async with client.stream("t.items", n=12, returns=bytes) as answer:
        assert len([item async for item in answer]) == 12


async def stream_with_limits(client: holdfast.Client, source: Source) -> None:
    async with client.stream("t.items", n=12, returns=bytes, deadline=2.0, idle=1.0, deadline_total=5.0) as answer:
        assert len([item async for item in answer]) == 12


async def stream_left_early(client: holdfast.Client, source: Source) -> None:
    async with client.stream("t.items", n=12, returns=bytes) as answer:
        await anext(answer)


async def duplex(client: holdfast.Client, source: Source) -> None:
    async with client.stream("t.both", chunks=source.chunks(), returns=int) as answer:
        assert len([item async for item in answer]) == source.n


async def ready(client: holdfast.Client, source: Source) -> None:
    await client.ready(deadline=3.0)


async def catalogue(client: holdfast.Client, source: Source) -> None:
    assert (await client.catalogue()).entries


async def close_client(client: holdfast.Client, source: Source) -> None:
    await client.close()


async def close_client_with_calls(client: holdfast.Client, source: Source) -> None:
    calling = asyncio.ensure_future(client.call("t.slow", "x", returns=str))
    try:
        await asyncio.sleep(0.001)
        await client.close()
    finally:
        calling.cancel()


ACTS: list[Act] = [call, call_at_once, call_in_a_thread, call_in_pieces, call_with_metadata, calls_that_wait_for_their_turn]
ACTS += [upload, upload_in_pieces, stream, stream_with_limits, stream_left_early, duplex, ready, catalogue, close_client]
ACTS += [close_client_with_calls]
CLOSERS = (close_client, close_client_with_calls)


async def nothing(left: Callable[[], list[str]]) -> None:
    """Return when nothing is left; fail when that does not come."""
    for _ in range(int(SETTLE_S / LOOK_S)):
        if not left():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"nothing-left: {left()}")


async def in_process(world: World, main: Callable[[Any], Awaitable[None]]) -> None:
    """Run it in a process of its own, and look at what that has left; no error may have reached the loop."""

    async def whole() -> None:
        process: Any = world._engine.current  # type: ignore[attr-defined]
        await main(process)
        await nothing(lambda: left_in_process(process, None))

    await world.host("here").start(whole, name="whole")
    assert not world.unhandled, f"loop-clean: {world.unhandled}"


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_cancelled_call_leaves_nothing(act: Act, warm: bool) -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        async def main(process: Any) -> None:
            source = Source(6)
            async with holdfast.serve(svc, bind=URL, config=SERVER, seed=1) as server:
                async with holdfast.connect(URL, config=CLIENT, seed=2) as client:
                    if warm:
                        await client.ready()
                    await cut(act(client, source))
                    if act not in CLOSERS:
                        await nothing(lambda: left_in_client(client) + left_in_server(server))
                        assert await client.call("t.quick", "again", returns=str) == "again"
                assert source.open == 0, "nothing-left: the items were not closed"
                await nothing(lambda: left_in_server(server) + [f"{each} sessions" for each in [len(server._sessions)] if each])

        await in_process(world, main)

    assert cancel_everywhere(scenario) >= (0 if act in (ready, catalogue, close_client) and warm != (act is close_client) else 1)


async def enter_and_leave(server: holdfast.Server) -> None:
    async with server:
        pass


async def serve_a_call(server: holdfast.Server) -> None:
    async with server, holdfast.connect(URL, config=CLIENT, seed=2) as client:
        calling = asyncio.ensure_future(client.call("t.slow", "x", returns=str))
        try:
            await asyncio.sleep(0.005)
            await server.close()
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)


async def wait_closed(server: holdfast.Server) -> None:
    async with server:
        closing = asyncio.ensure_future(server.close())
        await server.wait_closed()
        await closing


@pytest.mark.parametrize("act", [enter_and_leave, serve_a_call, wait_closed], ids=lambda act: act.__name__)
def test_a_cancelled_server_leaves_nothing(act: Callable[[holdfast.Server], Awaitable[None]]) -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        async def main(process: Any) -> None:
            server = holdfast.serve(svc, bind=URL, config=SERVER, seed=1)
            await cut(act(server))
            await nothing(lambda: [f"{each} sessions" for each in [len(server._sessions)] if each])
            desk = server._desk
            assert desk is None or (desk.running, desk.threads_busy, len(desk.scope)) == (0, 0, 0), "nothing-left"
            async with holdfast.serve(svc, bind=URL, config=SERVER, seed=3):
                pass  # the address is free

        await in_process(world, main)

    assert cancel_everywhere(scenario) >= 1


def test_a_cancelled_client_of_testing_leaves_nothing() -> None:
    async def use() -> None:
        async with in_memory(svc, config=CLIENT, server_config=SERVER) as client:
            assert await client.call("t.slow", "x", returns=str) == "x"

    async def scenario(world: World, cut: Cut[Any]) -> None:
        async def main(process: Any) -> None:
            await cut(use())

        await in_process(world, main)

    assert cancel_everywhere(scenario) >= 1
