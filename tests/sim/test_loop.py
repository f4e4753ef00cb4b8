"""What a simulated loop is beyond asyncio's: the same order in every run, and fences that say what to use."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import signal
import socket
import sys
from typing import Any

import pytest

from holdfast.sim import Escape, Killed, World
from tests.sim.stages import play


def test_tasks_and_futures_hash_by_the_order_in_which_they_were_made() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(asyncio.sleep(0)) for _ in range(10)]
        futures = [loop.create_future() for _ in range(10)]
        assert [hash(each) for each in tasks] == sorted(hash(each) for each in tasks)
        assert [hash(each) for each in futures] == sorted(hash(each) for each in futures)
        assert len({hash(each) for each in (*tasks, *futures)}) == 20
        gathered = [asyncio.gather(each) for each in tasks]
        assert [hash(each) for each in gathered] == sorted(hash(each) for each in gathered)
        await asyncio.wait(gathered)

    play(scenario)


def test_a_task_group_cancels_in_the_same_order_in_every_run() -> None:
    def order() -> list[int]:
        ended: list[int] = []

        async def scenario(world: World) -> None:
            async def member(n: int) -> None:
                try:
                    await asyncio.sleep(10)
                finally:
                    ended.append(n)

            try:
                async with asyncio.TaskGroup() as group:
                    for n in range(20):
                        group.create_task(member(n))
                    await asyncio.sleep(0.01)
                    raise ValueError
            except* ValueError:
                pass

        play(scenario)
        return ended

    orders = {tuple(order()) for _ in range(5)}
    assert len(orders) == 1
    assert sorted(*orders) == list(range(20))


def test_names_of_tasks_begin_anew_in_every_process() -> None:
    async def scenario(world: World) -> list[str]:
        async def main() -> str:
            return asyncio.get_running_loop().create_task(asyncio.sleep(0)).get_name()

        return [await world.host(name).start(main) for name in "ab"]

    assert play(scenario) == ["Task-1", "Task-1"]


def test_each_process_has_a_loop_of_its_own() -> None:
    async def scenario(world: World) -> None:
        async def main() -> tuple[int, int]:
            return id(asyncio.get_running_loop()), len(asyncio.all_tasks())

        first, second = [await world.host(name).start(main) for name in "ab"]
        assert first[0] != second[0]
        assert first[1] == second[1] == 1

    play(scenario)


def test_code_in_an_empty_context_still_knows_its_host() -> None:
    async def scenario(world: World) -> str:
        async def main() -> str:
            found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(lambda: found.set_result(socket.gethostname()), context=contextvars.Context())
            return await found

        return str(await world.host("a").start(main))

    assert play(scenario) == "a"


if sys.version_info >= (3, 12):  # eager tasks came with it

    def test_eager_tasks_hash_by_number_too() -> None:
        async def scenario(world: World) -> list[int]:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            tasks = [loop.create_task(asyncio.sleep(0.01)) for _ in range(5)]
            await asyncio.wait(tasks)
            return [hash(each) for each in tasks]

        hashes = play(scenario)
        assert hashes == sorted(hashes)
        assert hashes == play(scenario)


def test_a_task_factory_of_ones_own_is_used() -> None:
    async def scenario(world: World) -> bool:
        made: list[Any] = []

        def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        await loop.create_task(asyncio.sleep(0))
        loop.set_task_factory(None)
        assert loop.get_task_factory() is None
        return len(made) == 1

    assert play(scenario)


def test_asynchronous_generators_are_closed_in_the_order_in_which_they_began() -> None:
    closed: list[int] = []

    async def scenario(world: World) -> None:
        async def numbers(n: int) -> Any:
            try:
                yield n
                yield n
            finally:
                closed.append(n)

        async def main() -> None:
            opened = [numbers(n) for n in range(10)]
            for each in opened:
                await anext(each)
            del each
            main_holds.append(opened)

        main_holds: list[Any] = []
        await world.host("a").start(main)

    play(scenario)
    assert closed == list(range(10))


def test_debug_mode_checks_what_it_checks_on_a_real_loop() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with pytest.raises(TypeError, match="a callable object was expected"):
            loop.call_soon("not callable")  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        loop.set_debug(False)

    play(scenario)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda loop: loop.subprocess_exec(None, "true"), "host.start"),
        (lambda loop: loop.subprocess_shell(None, "true"), "host.start"),
        (lambda loop: asyncio.create_subprocess_exec("true"), "host.start"),
        (lambda loop: loop.connect_read_pipe(None, None), "TCP on 127.0.0.1"),
        (lambda loop: loop.connect_write_pipe(None, None), "TCP on 127.0.0.1"),
        (lambda loop: loop.create_unix_connection(None, "/x"), "TCP on 127.0.0.1"),
        (lambda loop: loop.create_unix_server(None, "/x"), "TCP on 127.0.0.1"),
    ],
)
def test_what_is_outside_says_what_to_use(what: Any, says: str) -> None:
    async def scenario(world: World) -> None:
        await what(asyncio.get_running_loop())

    with pytest.raises(Escape, match=says):
        play(scenario)


def test_a_real_descriptor_cannot_be_waited_for() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        for wait in (loop.add_reader, loop.add_writer):
            with pytest.raises(Escape, match="descriptor 0 is not one of this simulated process"):
                wait(0, print)

    play(scenario)


def test_a_process_pool_is_refused() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(Escape, match="use a ThreadPoolExecutor or None"):
            asyncio.get_running_loop().run_in_executor(pool, int)

    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        play(scenario)


def test_a_signal_reaches_its_handler_or_ends_the_process() -> None:
    async def scenario(world: World) -> None:
        async def patient() -> str:
            told = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, told.set)
            await told.wait()
            assert loop.remove_signal_handler(signal.SIGTERM)
            assert not loop.remove_signal_handler(signal.SIGTERM)
            return "drained"

        async def deaf() -> None:
            await asyncio.sleep(100)

        first, second = world.host("a").start(patient), world.host("a").start(deaf)
        await world.sleep(0.1)
        first.signal(signal.SIGTERM)
        second.signal(signal.SIGTERM)
        assert await first == "drained"
        with pytest.raises(Killed):
            await second
        first.signal(signal.SIGTERM)  # to one that has gone: nothing

    play(scenario)


def test_one_can_be_killed_although_it_handles_everything() -> None:
    async def scenario(world: World) -> None:
        async def main() -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGKILL, print)
            await asyncio.sleep(100)

        process = world.host("a").start(main)
        await world.sleep(0.1)
        process.signal(signal.SIGKILL)
        with pytest.raises(Killed):
            await process

    play(scenario)
