"""A process lives as asyncio.run does, and dies in every way there is."""

from __future__ import annotations

import asyncio
import errno
import sys
from typing import Any

import pytest

from holdfast.sim import Killed, World
from tests.sim.stages import dialled, kinds, listening, play, run


def test_waiting_for_a_process_gives_what_main_returned_or_raised() -> None:
    async def scenario(world: World) -> None:
        async def good() -> int:
            await asyncio.sleep(1)
            return 7

        async def bad() -> None:
            raise ValueError("broken")

        host = world.host("a")
        process = host.start(good)
        assert await process == await process == 7
        assert not process.alive
        with pytest.raises(ValueError, match="broken"):
            await host.start(bad)
        assert host.processes == []

    play(scenario)


def test_a_failure_nobody_waited_for_fails_the_world_and_says_where() -> None:
    async def scenario(world: World) -> None:
        async def bad() -> None:
            raise ValueError("broken")

        world.host("a").start(bad, name="worker")
        await world.sleep(1)

    done = run(scenario)
    assert isinstance(done.failure, ValueError)
    assert "in process 'worker' of host 'a', which nobody waited for" in done.details
    assert [detail for _, _, _, detail in kinds(done, "exit")] == [(100, "ValueError")]


def test_when_main_returns_the_rest_is_cancelled_and_the_sockets_are_closed() -> None:
    async def scenario(world: World) -> list[Any]:
        seen: list[Any] = []

        async def rest() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.5)
                seen.append("cleaned")

        async def main() -> None:
            asyncio.get_running_loop().create_task(rest())
            kept.append(listening(7))
            await asyncio.sleep(0.1)

        kept: list[Any] = []
        process = world.host("a").start(main)
        await world.sleep(0.05)
        client = await dialled("a", 7)
        await process
        seen.append(round(world.now(), 1))
        try:
            await asyncio.get_running_loop().sock_recv(client, 1)
        except OSError as error:
            seen.append(error.errno)
        client.close()
        assert kept[0].fileno() >= 0, "the object is the program's; the descriptor behind it is gone"
        with pytest.raises(ConnectionRefusedError):
            await dialled("a", 7)
        return seen

    assert play(scenario) == ["cleaned", 0.6, errno.ECONNRESET]


def test_an_error_of_a_task_left_behind_is_told() -> None:
    async def scenario(world: World) -> None:
        async def rest() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                raise ValueError("while cleaning")

        async def main() -> None:
            asyncio.get_running_loop().create_task(rest())
            await asyncio.sleep(0.1)

        await world.host("a").start(main)

    done = run(scenario)
    assert done.failure is None
    assert len(done.unhandled) == 1
    assert done.unhandled[0].startswith("a: unhandled exception while the process ended\nTraceback")
    assert "ValueError: while cleaning" in done.unhandled[0]


@pytest.mark.parametrize(("code", "fails"), [(0, False), (3, True)])
def test_sys_exit_ends_the_process_and_no_other(code: int, fails: bool) -> None:
    async def scenario(world: World) -> None:
        async def main() -> None:
            sys.exit(code)

        process = world.host("a").start(main)
        await world.sleep(1)
        assert not process.alive
        if fails:
            with pytest.raises(SystemExit):
                await process
        else:
            await process

    play(scenario)


@pytest.mark.parametrize("how", ["kill", "power_loss"])
def test_a_process_that_is_killed_runs_no_finally(how: str) -> None:
    ran: list[str] = []

    async def scenario(world: World) -> list[str]:
        async def helper() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ran.append("helper")

        async def main() -> None:
            asyncio.get_running_loop().create_task(helper())
            try:
                await asyncio.sleep(100)
            finally:
                ran.append("main")

        host = world.host("a")
        process = host.start(main)
        await world.sleep(0.1)
        getattr(host, how)()
        with pytest.raises(Killed):
            await process
        await world.sleep(200)
        return list(ran)

    assert play(scenario) == []


def test_a_process_can_end_its_own_host() -> None:
    async def scenario(world: World) -> None:
        host = world.host("a")

        async def main() -> None:
            asyncio.get_running_loop().call_soon(after.append, "next callback")
            host.kill()
            after.append("rest of the callback")
            await asyncio.sleep(0)
            after.append("next step")

        after: list[str] = []
        process = host.start(main)
        await world.sleep(1)
        assert not process.alive
        assert after == ["rest of the callback"]

    play(scenario)


def test_errors_in_callbacks_are_kept_with_the_host() -> None:
    async def scenario(world: World) -> None:
        async def main() -> None:
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0.1)

        await world.host("a").start(main)

    done = run(scenario)
    assert done.failure is None
    assert "ZeroDivisionError" in done.unhandled[0]
    assert kinds(done, "unhandled")[0][2:] == ("a", "ZeroDivisionError")


def test_the_largest_process_is_killed_when_memory_runs_out() -> None:
    async def scenario(world: World) -> None:
        async def serve() -> None:
            with listening(7) as listener:
                kept = []
                while True:
                    kept.append(await asyncio.get_running_loop().sock_accept(listener))

        async def greedy(nbytes: int) -> None:
            _, writer = await asyncio.open_connection("s", 7)
            for _ in range(nbytes // 10_000):
                writer.write(b"x" * 10_000)
                await asyncio.sleep(0.001)
            await asyncio.sleep(100)

        world.host("s").start(serve)
        await world.sleep(0.1)
        host = world.host("a", memory_bytes=3_000_000)
        small, large = host.start(lambda: greedy(500_000), name="small"), host.start(lambda: greedy(20_000_000), name="large")
        with pytest.raises(Killed, match="out of memory"):
            await large
        assert small.alive

    play(scenario)
