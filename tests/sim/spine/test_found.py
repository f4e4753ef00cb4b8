"""What the campaign found in holdfast and in the simulator, each as small as it could be made. One for each mistake; none may come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast import errors, facts
from holdfast.facts import Fact
from holdfast.sim import Case, FaultPlan, World
from holdfast.wire import Settings
from tests.sim.stages import play

from .campaign import spine

svc = holdfast.Service("t")
executed: list[str] = []


@svc.method(idempotent=True)
async def again(key: str) -> str:
    executed.append(key)
    await asyncio.sleep(5.0)
    return key


@svc.method
async def total(chunks: AsyncIterator[bytes]) -> int:
    executed.append("total")
    return sum([len(chunk) async for chunk in chunks])


@svc.method
async def size(body: bytes) -> int:
    return len(body)


async def serve(**limits: Any) -> None:
    async with holdfast.serve(svc, bind="tcp://0.0.0.0:7000", insecure=True, config=holdfast.ServerConfig(**limits)):
        await asyncio.Event().wait()


def connect(**options: Any) -> holdfast.Client:
    return holdfast.connect("tcp://server:7000", insecure=True, seed=1, **options)


def test_an_error_speaks_for_all_attempts_and_not_for_the_last_alone() -> None:
    """`no-means-no`: the first attempt was executed and lost, the second found no server, and the caller was told "surely not"."""

    async def scenario(world: World) -> None:
        server = world.host("server")
        server.start(serve)
        await world.sleep(0.5)
        executed.clear()

        async def main() -> None:
            async with connect(attempts=2) as client:
                with pytest.raises(errors.Unavailable, match="an earlier attempt may have been executed") as caught:
                    await client.call("t.again", "x", returns=str)
                assert (caught.value.executed, caught.value.retry) == ("maybe", "if_idempotent")
                with pytest.raises(errors.Unavailable) as caught:
                    await client.call("t.again", "x", returns=str)
                assert caught.value.executed == "no", "the next call is another one"

        calling = world.host("client").start(main)
        await world.sleep(1.0)
        assert executed == ["x"]
        server.kill()
        await calling

    play(scenario)


@pytest.mark.parametrize("mistake", ["too large", "its own"])
def test_what_goes_wrong_with_an_item_does_not_say_that_the_call_was_not_executed(mistake: str) -> None:
    """`no-means-no`: the handler was reading; an item that could not be sent made the whole call "surely not executed"."""

    async def items() -> AsyncIterator[bytes]:
        yield b"small"
        await asyncio.sleep(0.5)
        if mistake == "its own":
            raise errors.Unavailable("another server was not there")
        yield bytes(5000)

    async def scenario(world: World) -> None:
        executed.clear()

        async def main() -> None:
            async with connect(attempts=1) as client:
                with pytest.raises(errors.HoldfastError, match="the call it is an item of may have been executed") as caught:
                    await client.call("t.total", chunks=items(), returns=int)
                assert caught.value.executed == "maybe"

        limits = {"wire": Settings(message_max_bytes=4096)}
        world.host("server").start(lambda: serve(**limits))
        await world.sleep(0.5)
        await world.host("client").start(main)
        assert executed == ["total"]

    play(scenario)


def test_an_item_for_which_there_is_no_room_does_not_say_that_the_call_was_not_executed() -> None:
    """`no-means-no`: the handler was reading, an item in pieces found no room, and the caller was told "surely not"."""

    async def items() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(3500)

    async def scenario(world: World) -> None:
        executed.clear()

        async def main() -> None:
            async with connect(attempts=1) as client:
                uploads = [client.call("t.total", chunks=items(), returns=int) for _ in range(4)]
                answers = await asyncio.gather(*uploads, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, errors.Overloaded)]
            assert refused, answers
            assert {each.executed for each in refused} == {"maybe"}
            assert all("the call had begun" in str(each) for each in refused)

        limits = {"wire": Settings(message_max_bytes=4096, frame_max_bytes=1024), "assembly_max_bytes": 4096}
        world.host("server").start(lambda: serve(**limits))
        await world.sleep(0.5)
        await world.host("client").start(main)
        assert executed == ["total"] * 4

    play(scenario)


def test_the_deadline_of_a_whole_stream_bounds_connecting_too() -> None:
    """`deadline`: a stream that was to be over in 50 ms waited three seconds for a connection."""

    async def scenario(world: World) -> None:
        world.host("server")

        async def main() -> None:
            async with connect() as client:
                began_at = world.now()
                view = client.using(wait_for_ready=True)
                with pytest.raises(errors.DeadlineExceeded):
                    await view.stream("t.again", "x", returns=str, deadline=3.0, deadline_total=0.05).__aenter__()
                assert world.now() - began_at < 0.06

        await world.host("client").start(main)

    play(scenario)


def test_a_call_cancelled_while_it_connects_is_told_like_any_other() -> None:
    """`ended-once`: whoever counted calls by CallEnded lost this one."""

    async def scenario(world: World) -> None:
        world.host("server")
        told: list[Fact] = []

        async def main() -> None:
            async with connect(emit=told.append) as client:
                calling = asyncio.ensure_future(client.using(wait_for_ready=True).call("t.again", "x", returns=str))
                await asyncio.sleep(0.1)
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)

        await world.host("client").start(main)
        assert [(fact.method, fact.code) for fact in told if isinstance(fact, facts.CallEnded)] == [("t.again", "cancelled")]

    play(scenario)


def test_bytes_that_were_under_way_to_a_machine_that_stands_still_come_in_order() -> None:
    """The simulator's: what came while the machine stood still was sent again behind what was under way."""

    async def scenario(world: World) -> None:
        server = world.host("server")
        server.start(serve)
        await world.sleep(0.5)

        async def main() -> None:
            async with connect() as client:
                await client.ready()
                for _ in range(10):
                    sizes = [3000 + number for number in range(12)]
                    calls = [asyncio.ensure_future(send(client, 0.003 * number, size)) for number, size in enumerate(sizes)]
                    await asyncio.sleep(0.02)
                    server.pause(0.02)
                    assert [await each for each in calls] == sizes

        async def send(client: holdfast.Client, after_s: float, length: int) -> int:
            await asyncio.sleep(after_s)
            return int(await client.call("t.size", bytes(length), returns=int, deadline=30.0))

        await world.host("client").start(main)

    for seed in range(5):
        play(scenario, seed, latency_s=0.004, jitter_s=0.05, slice_chance=0.9)


SOAKED = {
    "deadline: four callbacks stalled before a caller heard of it, and three were allowed for": Case(seed=4190),
    "nothing-left: a connection was accepted in the turn in which the server was closed": Case(seed=38577),
    "deadline: when a clock had shown something was computed by the rate that it has now": Case(seed=1984),
    "the campaign: of attempts beside one another the last told of is not the one that answered": Case(seed=144999),
    "no-hang: two megabytes through small buffers took longer than a minute": Case(
        seed=24096, plan=FaultPlan((), recorded=True), kept=(("c1", 8), ("c1", 9), ("c1", 12))
    ),
}
"""What a soak found in tens of thousands of worlds, and how it failed. The second was the server's, the others the simulation's own."""


@pytest.mark.parametrize("case", SOAKED.values(), ids=[f"seed {case.seed}" for case in SOAKED.values()])
def test_a_world_that_failed_in_a_soak_holds(case: Case) -> None:
    outcome = spine.run(case)
    assert outcome.failure is None, outcome.failure.message
