"""What can be done to a host, and what its processes notice."""

from __future__ import annotations

import asyncio
import errno
import time
from functools import partial
from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.sim import World
from holdfast.sim.engine import Engine
from holdfast.sim.machine import HostClock
from holdfast.sim.options import WorldOptions
from tests.sim.stages import CALM, dialled, listening, play


async def serve() -> None:
    with listening(7) as listener:
        kept = []
        while True:
            kept.append(await asyncio.get_running_loop().sock_accept(listener))


async def read(client: Any) -> Any:
    try:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(client, 10)
    except TimeoutError:
        return "nothing"
    except OSError as error:
        return error.errno


@pytest.mark.parametrize(
    ("how", "unread", "then"), [("kill", False, b""), ("kill", True, errno.ECONNRESET), ("power_loss", True, "nothing")]
)
def test_what_a_peer_sees_of_a_kill_and_of_a_power_loss(how: str, unread: bool, then: Any) -> None:
    async def scenario(world: World) -> Any:
        server = world.host("s")
        server.start(serve)
        await world.sleep(0.1)
        client = await dialled("s", 7)
        if unread:
            client.send(b"x")
        await world.sleep(0.1)
        getattr(server, how)()
        found = await read(client)
        client.close()
        return found

    assert play(scenario) == then


def test_a_killed_server_refuses_and_a_host_that_is_off_is_silent() -> None:
    async def scenario(world: World) -> None:
        server = world.host("s")
        server.start(serve)
        await world.sleep(0.1)
        server.kill()
        assert server.up
        with pytest.raises(ConnectionRefusedError):
            await dialled("s", 7)
        server.power_loss()
        assert not server.up
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dialled("s", 7), 3)
        with pytest.raises(ConfigError, match="host 's' is off"):
            server.start(serve)

    play(scenario)


def test_a_restart_starts_what_it_was_given_and_what_is_not_to_start_again_does_not() -> None:
    async def scenario(world: World) -> None:
        began: list[str] = []

        async def main(name: str) -> None:
            began.append(name)
            await asyncio.sleep(1000)

        host = world.host("a")
        for name, again in (("one", True), ("two", True), ("once", False)):
            host.start(partial(main, name), name=name, again=again)
        await world.sleep(0.1)
        assert sorted(began) == ["once", "one", "two"]
        boots = host.kernel.boots
        host.kill()
        host.restart()  # nothing runs: the machine stays on
        await world.sleep(0.1)
        assert sorted(began[3:]) == ["one", "two"]
        assert host.kernel.boots == boots
        host.restart()  # something runs: the power goes first
        await world.sleep(0.1)
        assert sorted(began[5:]) == ["one", "two"]
        assert host.kernel.boots == boots + 1
        assert [each.name for each in host.processes] == ["one", "two"]

    play(scenario)


def test_a_paused_machine_does_nothing_and_then_everything() -> None:
    async def scenario(world: World) -> list[Any]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                ticks.append(round(world.now(), 2))
                await asyncio.sleep(0.1)

        server = world.host("s")
        server.start(tick)
        server.start(serve)
        await world.sleep(0.25)
        server.pause(1.0)
        begun = world.now()
        client = await asyncio.wait_for(dialled("s", 7), 5)
        client.close()
        assert world.now() - begun > 0.99
        await world.sleep(0.2)
        return ticks

    ticks = play(scenario, **CALM)
    assert ticks[:3] == [0.0, 0.1, 0.2]
    assert ticks[3] == pytest.approx(1.25, abs=0.01)


def test_two_pauses_that_overlap_end_with_the_last() -> None:
    async def scenario(world: World) -> float:
        server = world.host("s")
        server.start(serve)
        await world.sleep(0.1)
        server.pause(1.0)
        await world.sleep(0.5)
        server.pause(2.0)
        await world.sleep(0.1)
        begun = world.now()
        (await dialled("s", 7)).close()
        return world.now() - begun

    assert play(scenario, **CALM) > 1.85


def test_a_stalled_host_answers_by_its_kernel_alone() -> None:
    async def scenario(world: World) -> None:
        async def tick() -> None:
            while True:
                ticks.append(world.now())
                await asyncio.sleep(0.1)

        ticks: list[float] = []
        server = world.host("s")
        server.start(serve)
        server.start(tick)
        await world.sleep(0.05)
        world.stall(server, 1.0)
        begun = world.now()
        (await dialled("s", 7)).close()
        assert world.now() - begun < 0.05
        await world.sleep(1.2)
        assert not [tick for tick in ticks if begun < tick < begun + 0.99]
        assert [tick for tick in ticks if tick >= begun + 0.99]

    play(scenario)


def test_the_time_of_day_jumps_and_the_monotonic_clock_does_not() -> None:
    async def scenario(world: World) -> None:
        async def main() -> list[tuple[float, float]]:
            seen = []
            for _ in range(3):
                seen.append((time.time() - 1_700_000_000, time.monotonic()))
                await asyncio.sleep(1)
            return seen

        host = world.host("a")
        process = host.start(main)
        await world.sleep(0.5)
        host.clock_jump(-3600)
        await world.sleep(1)
        host.clock_jump(7200)
        seen = await process
        assert [round(wall) for wall, _ in seen] == [0, 1 - 3600, 2 + 3600]
        assert [round(mono) for _, mono in seen] == [0, 1, 2]

        async def later() -> float:
            return time.time()

        assert await host.start(later) > 1_700_003_600, "a process that starts later has the same clock"
        assert time.time() < 1_700_000_100

    play(scenario)


@pytest.mark.parametrize(("rate", "true_s"), [(2.0, 5.0), (0.5, 20.0), (1.0, 10.0)])
def test_a_clock_that_runs_wrong_makes_timers_come_wrong(rate: float, true_s: float) -> None:
    async def scenario(world: World) -> tuple[float, float]:
        async def main() -> float:
            begun = time.monotonic()
            await asyncio.sleep(10)
            return time.monotonic() - begun

        host = world.host("a")
        host.clock_drift(rate)
        begun = world.now()
        shown = await host.start(main)
        return shown, world.now() - begun

    shown, lasted = play(scenario, **CALM)
    assert (shown, lasted) == (pytest.approx(10, abs=0.01), pytest.approx(true_s, abs=0.01))


def test_drift_changes_timers_that_run_already_and_clocks_never_go_back() -> None:
    async def scenario(world: World) -> float:
        async def main() -> None:
            await asyncio.sleep(10)

        host = world.host("a")
        process = host.start(main)
        await world.sleep(5)
        host.clock_drift(5.0)
        await process
        with pytest.raises(ConfigError, match="expected a rate above 0"):
            host.clock_drift(0.0)
        return world.now()

    assert play(scenario, **CALM) == pytest.approx(6, abs=0.01)
    engine = Engine(0, WorldOptions())
    clock = HostClock(engine)
    shown = []
    for rate in (1.0, 3.0, 0.1, 2.0):
        clock.set_rate(rate)
        engine.now += 1
        shown.append(clock.monotonic())
        assert clock.true_time(clock.monotonic() + rate) == pytest.approx(engine.now + 1)
    assert shown == pytest.approx([1.0, 4.0, 4.1, 6.1])
    assert [clock.true_time(local) for local in (0.5, *shown)] == pytest.approx([0.5, 1.0, 2.0, 3.0, 4.0]), "at the rates it had then"


def test_budgets_hold_for_processes_of_now_and_later() -> None:
    async def scenario(world: World) -> None:
        async def main() -> int:
            await asyncio.sleep(0.1)
            import resource

            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

        host = world.host("a", descriptors=50)
        first = host.start(main)
        host.limit_descriptors(20)
        second = host.start(main)
        assert (await first, await second) == (20, 20)

    play(scenario)


def test_what_is_no_function_is_refused_at_once() -> None:
    async def serve() -> None:
        await asyncio.sleep(0)

    async def scenario(world: World) -> None:
        host = world.host("office")
        with pytest.raises(ConfigError, match=r"expected a function, got a coroutine: write `start\(serve\)`, not `start\(serve\(\)\)`"):
            host.start(serve())  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="expected an `async def` function without arguments, got 3"):
            host.start(3)  # type: ignore[arg-type]
        assert not host.processes

    play(scenario)
