"""holdfast itself between simulated hosts: production code from the socket upwards."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast import errors
from holdfast.net import door, eyeballs, listener, network, resolver, tcp
from holdfast.sim import World
from tests.sim.stages import play, run

svc = holdfast.Service("shop")


@svc.method
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@svc.method(blocking=True)
def block(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@svc.method
async def count(to: int) -> AsyncIterator[int]:
    for n in range(to):
        yield n


async def serve() -> None:
    async with holdfast.serve(svc, bind="tcp://0.0.0.0:7000", insecure=True):
        await asyncio.Event().wait()


async def shop(world: World) -> Any:
    """A host with the service, running."""
    server = world.host("server")
    server.start(serve)
    await world.sleep(0.5)
    return server


def client(world: World, use: Any, name: str = "client", **options: Any) -> Any:
    """A process that connects and does something with the client."""

    async def main() -> Any:
        async with holdfast.connect("tcp://server:7000", insecure=True, **options) as connected:
            return await use(connected)

    return world.host(name).start(main, name="main")


def test_calls_blocking_calls_and_streams_work_as_they_do_over_a_kernel() -> None:
    async def scenario(world: World) -> None:
        await shop(world)

        async def use(c: holdfast.Client) -> list[Any]:
            begun = world.now()
            found: list[Any] = [await c.call("shop.wait", 1.0, returns=float), await c.call("shop.block", 2.0, returns=float, deadline=5.0)]
            found.append(round(world.now() - begun, 1))
            async with c.stream("shop.count", 100, returns=int) as items:
                found.append([n async for n in items] == list(range(100)))
            return found

        assert await client(world, use) == [1.0, 2.0, 3.0, True]

    play(scenario)


def test_a_server_killed_in_the_middle_of_a_call_leaves_an_unknown_outcome() -> None:
    async def scenario(world: World) -> None:
        server = await shop(world)

        async def use(c: holdfast.Client) -> float:
            with pytest.raises(errors.OutcomeUnknown, match="whether the call was executed is unknown"):
                await c.call("shop.wait", 10.0, returns=float, deadline=30.0)
            failed_at = world.now()
            await world.sleep(1)
            assert await c.call("shop.wait", 0.1, returns=float) == 0.1, "the same client goes on once the server is back"
            return failed_at

        calling = client(world, use)
        await world.sleep(2)
        killed_at = world.now()
        server.kill()
        await world.sleep(0.5)
        server.restart()
        assert 0 < await calling - killed_at < 0.1

    play(scenario)


def test_a_server_without_power_is_noticed_by_the_deadline_and_not_later() -> None:
    async def scenario(world: World) -> None:
        server = await shop(world)

        async def use(c: holdfast.Client) -> float:
            begun = world.now()
            with pytest.raises(errors.DeadlineExceeded):
                await c.call("shop.wait", 10.0, returns=float, deadline=3.0)
            return world.now() - begun

        calling = client(world, use)
        await world.sleep(1)
        server.power_loss()
        assert 3.0 <= await calling < 3.010

    play(scenario)


def test_a_full_server_turns_away_with_a_reason_and_without_descriptors_too() -> None:
    async def scenario(world: World) -> None:
        server = world.host("server", descriptors=14)
        server.start(serve)
        await world.sleep(0.5)

        async def use(c: holdfast.Client) -> float:
            return await c.call("shop.wait", 5.0, returns=float, deadline=20.0)

        async def guarded(c: holdfast.Client) -> str:
            try:
                return str(await use(c))
            except errors.HoldfastError as error:
                return type(error).__name__

        answers = [await each for each in [client(world, guarded, f"c{n}", attempts=1) for n in range(20)]]
        assert 5 < answers.count("5.0") < 14
        assert set(answers) <= {"5.0", "Unavailable", "Overloaded", "DeadlineExceeded"}
        assert await client(world, use, "late") == 5.0, "those who left made room"

    play(scenario)


def test_the_network_of_a_host_is_what_production_uses_anyway() -> None:
    async def scenario(world: World) -> None:
        server, caller = world.host("server"), world.host("client")

        async def main() -> None:
            async with holdfast.serve(svc, bind="tcp://0.0.0.0:7000", insecure=True, network=server.network):
                await asyncio.Event().wait()

        server.start(main)
        await world.sleep(0.5)

        async def use(c: holdfast.Client) -> float:
            return await c.call("shop.wait", 1.0, returns=float)

        assert await client(world, use, network=caller.network) == 1.0
        assert await client(world, use, network=caller.network) == 1.0, "one for each process"

    play(scenario)


def test_the_production_code_really_runs_below_a_call() -> None:
    """Taking one of these parts away ends the call: what passes here is not a copy of them."""
    called: list[str] = []

    def watch(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_filename)

    async def scenario(world: World) -> None:
        await shop(world)

        async def use(c: holdfast.Client) -> float:
            return await c.call("shop.wait", 0.1, returns=float)

        await client(world, use)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        play(scenario)
    finally:
        sys.setprofile(before)
    for module in (door, listener, eyeballs, resolver, tcp, network):
        assert module.__file__ in called, module.__name__


def test_one_seed_is_one_run_whatever_ran_before() -> None:
    async def scenario(world: World) -> None:
        server = await shop(world)

        async def use(c: holdfast.Client) -> list[Any]:
            found: list[Any] = []
            for _ in range(5):
                try:
                    found.append(await c.call("shop.wait", 0.3, returns=float, deadline=2.0))
                except errors.HoldfastError as error:
                    found.append(type(error).__name__)
            return found

        calls = [client(world, use, name) for name in ("c1", "c2")]
        await world.sleep(0.7)
        world.partition(server, "c1")
        await world.sleep(0.5)
        world.repair(server, "c1")
        server.kill()
        await world.sleep(0.2)
        server.restart()
        for each in calls:
            await each

    digests = [[run(scenario, seed).digest for seed in range(10)] for _ in range(2)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 10
