"""Faults happen, are written down, and happen again from what was written."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.sim import Fault, FaultPlan, World
from tests.sim.stages import dialled, kinds, listening, play, run


async def echo() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "0.0.0.0", 7)
    await server.serve_forever()


async def ask() -> list[str]:
    """One question every 100 ms, each on a connection of its own."""
    said = []
    for n in range(20):
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("s", 7)
                writer.write(b"%d\n" % n)
                said.append((await reader.readuntil(b"\n")).decode().strip())
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            said.append(type(error).__name__)
    return said


async def chaos(world: World) -> None:
    """A scenario with faults of its own."""
    server, client = world.host("s"), world.host("c")
    server.start(echo)
    asking = client.start(ask)
    await world.sleep(0.35)
    world.partition(server, client, one_way=True)
    await world.sleep(0.4)
    world.repair(server, client)
    await world.sleep(0.1)
    world.hold("s", "c")
    await world.sleep(0.3)
    world.release("s", "c")
    world.reset("s", "c")
    server.kill()
    await world.sleep(0.2)
    server.restart()
    world.stall("s", 0.2)
    client.clock_jump(5)
    await asking


def test_a_recorded_plan_repeats_the_run_to_the_byte() -> None:
    first = run(chaos, 3)
    assert first.failure is None, first.details
    assert [fault.kind for fault in first.plan] == [
        *("partition", "repair", "hold", "release", "reset", "kill", "restart", "stall", "clock_jump"),
    ]
    assert [fault.call for fault in first.plan] == list(range(9))
    again = run(chaos, 3, plan=FaultPlan.from_json(first.plan.to_json()))
    assert (again.digest, again.events) == (first.digest, first.events)
    assert again.plan == first.plan


@given(st.sets(st.integers(0, 8)))
def test_every_part_of_a_recorded_plan_is_a_run_with_these_faults_and_no_other(keep: set[int]) -> None:
    whole = run(chaos, 3).plan
    part = whole.only(sorted(keep))
    done = run(chaos, 3, plan=part)
    assert done.failure is None, done.details
    assert [fault.kind for fault in done.plan] == [fault.kind for fault in part]
    assert run(chaos, 3, plan=done.plan).digest == done.digest


def test_faults_of_a_plan_come_by_themselves_and_beside_those_of_the_scenario() -> None:
    async def scenario(world: World) -> None:
        world.host("s").start(echo)
        asking = world.host("c").start(ask)
        await world.sleep(1.0)
        world.reset("s", "c")
        await asking

    plan = FaultPlan.of(
        [Fault(0.5, "kill", "s"), Fault(0.9, "restart", "s"), Fault(1.2, "partition", "s", ("c", False)), Fault(1.5, "repair", "s", ("c",))]
    )
    done = run(scenario, plan=plan)
    assert done.failure is None, done.details
    assert [(round(fault.at_s, 3), fault.kind, fault.call) for fault in done.plan] == [
        (0.5, "kill", None),
        (0.9, "restart", None),
        (pytest.approx(1.0, abs=0.01), "reset", 0),
        (1.2, "partition", None),
        (1.5, "repair", None),
    ]
    assert [(when, detail[0]) for when, _, _, detail in kinds(done, "fault")][:2] == [(0.5, "kill"), (0.9, "restart")]
    assert run(scenario, plan=done.plan).digest == done.digest


def test_a_group_is_cut_from_a_group_and_stays_whole_itself() -> None:
    async def scenario(world: World) -> list[str]:
        async def server() -> None:
            with listening(7):
                await asyncio.sleep(1000)

        async def reach(to: str) -> str:
            try:
                (await asyncio.wait_for(dialled(to, 7), 0.5)).close()
            except TimeoutError:
                return "cut"
            return "ok"

        hosts = {name: world.host(name) for name in "abcd"}
        for host in hosts.values():
            host.start(server)
        await world.sleep(0.1)
        world.partition([hosts["a"], "b"], ["c", hosts["d"]])
        pairs = [tuple(each) for each in ("ab", "ac", "ad", "ba", "bd", "ca", "cd", "dc")]
        return [f"{at}{to} {await hosts[at].start(partial(reach, to), name='reach')}" for at, to in pairs]

    assert play(scenario) == ["ab ok", "ac cut", "ad cut", "ba ok", "bd cut", "ca cut", "cd ok", "dc ok"]


def test_a_host_can_be_cut_from_everybody_by_naming_all() -> None:
    async def scenario(world: World) -> None:
        world.host("a"), world.host("b")
        world.partition("a,b", "a,b")
        between = world._happenings.between
        assert all(link.cut for link in between("a", "b"))
        world.repair("a", "b")
        assert not any(link.cut for link in between("a", "b"))

    play(scenario)


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (lambda world: world.partition("a", "nobody"), "no host is called 'nobody'; there are driver, a"),
        (lambda world: world.stall("nobody", 1), "no host is called 'nobody'"),
        (lambda world: world.driver.kill(), "kill of 'driver': the scenario runs there"),
        (lambda world: world.driver.power_loss(), "power_loss of 'driver'"),
    ],
)
def test_faults_that_cannot_be(cause: Any, says: str) -> None:
    async def scenario(world: World) -> None:
        world.host("a")
        cause(world)

    with pytest.raises(ConfigError, match=says):
        play(scenario)


def test_settle_ends_everything_and_what_the_plan_still_has_does_not_come() -> None:
    async def scenario(world: World) -> bool:
        server, client = world.host("s"), world.host("c")
        server.start(echo)
        asking = client.start(ask)
        await world.sleep(0.3)
        world.partition("s", "c")
        server.power_loss()
        await world.sleep(0.2)
        quiet = await world.settle()
        assert server.up
        assert len(server.processes) == 1
        said = await asking
        assert said[-5:] == ["15", "16", "17", "18", "19"]
        return quiet

    done: list[bool] = []

    async def kept(world: World) -> None:
        done.append(await scenario(world))

    whole = run(kept, plan=FaultPlan.of([Fault(1.0, "kill", "s"), Fault(1.1, "repair", "s", ("c",))]))
    assert whole.failure is None, whole.details
    assert done == [True]
    assert [fault.kind for fault in whole.plan] == ["partition", "power_loss", "repair"]


def test_settle_says_when_it_does_not_become_quiet() -> None:
    async def scenario(world: World) -> tuple[bool, float]:
        async def chatter() -> None:
            while True:
                await ask()

        world.host("s").start(echo)
        world.host("c").start(chatter)
        begun = world.now()
        return await world.settle(within_s=5), world.now() - begun

    assert play(scenario) == (False, pytest.approx(5, abs=0.1))


def test_any_fault_can_be_injected_by_name() -> None:
    async def scenario(world: World) -> None:
        world.host("a")
        world.inject(Fault(99.0, "descriptors", "a", (7,)))
        world.inject(Fault(0.0, "memory", "a", (1000,)))
        assert world.host("a").kernel.memory_bytes == 1000

    done = run(scenario)
    assert [(fault.kind, fault.args) for fault in done.plan] == [("descriptors", (7,)), ("memory", (1000,))]
