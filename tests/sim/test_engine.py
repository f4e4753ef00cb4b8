"""Time moves from one entry of the heap to the next, and only so."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim import Deadlock, Escape, Overrun, World, WorldOptions
from holdfast.sim.engine import Engine
from tests.sim.stages import play, run


class Ticker:
    """A process that has its turn when it is told."""

    def __init__(self) -> None:
        self.turns = 0
        self.loop = asyncio.new_event_loop()


@contextmanager
def ticking(engine: Engine) -> Iterator[Ticker]:
    ticker = Ticker()
    try:
        yield ticker
    finally:
        asyncio._set_running_loop(None)
        ticker.loop.close()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_entries_come_by_time_and_those_of_one_time_as_they_were_made(times: list[int]) -> None:
    engine = Engine(0, WorldOptions())
    came: list[tuple[float, int]] = []
    with ticking(engine) as ticker:
        for n, when in enumerate(times):
            engine.at(float(when), lambda n=n: came.append((engine.now, n)))

        def last() -> None:
            ticker.turns += 1

        engine.at(9.0, last)
        engine.run_turn(ticker)
    assert came == sorted((float(when), n) for n, when in enumerate(times))
    assert engine.now == 9.0


def test_time_for_the_running_code_is_ahead_by_what_it_has_slept() -> None:
    engine = Engine(0, WorldOptions())
    engine.now, engine.spent = 2.0, 0.5
    engine.record("x", "host")
    assert (engine.time(), engine.trace.events) == (2.5, [(2.5, "x", "host", None)])


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def scenario(world: World) -> None:
        await world.host("a").start(stuck, name="worker")

    failure = run(scenario).failure
    assert isinstance(failure, Deadlock)
    assert re.search(r"a: worker at test_engine\.py:\d+ in stuck$", str(failure))
    assert re.search(r"driver: Task-1 at test_engine\.py:\d+ in scenario; ", str(failure))


def test_a_deadlock_is_seen_at_once_although_connections_have_keepalive() -> None:
    async def serve() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(handle, "0.0.0.0", 7)
        await server.serve_forever()

    async def scenario(world: World) -> None:
        world.host("s").start(serve)
        await world.sleep(0.1)
        _, writer = await asyncio.open_connection("s", 7)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.Event().wait()

    done = run(scenario)
    assert isinstance(done.failure, Deadlock)
    assert done.virtual_s < 1


def test_a_world_that_does_not_end_is_an_overrun() -> None:
    async def scenario(world: World) -> None:
        while True:
            await world.sleep(1)

    done = run(scenario, virtual_max_s=10.0)
    assert isinstance(done.failure, Overrun)
    assert "within 10 virtual seconds" in str(done.failure)
    counted = run(scenario, steps_max=100, collect_every=10)
    assert isinstance(counted.failure, Overrun)
    assert "within 100 callbacks" in str(counted.failure)


def test_a_busy_loop_does_not_hold_time() -> None:
    async def scenario(world: World) -> int:
        spins = 0
        try:
            async with asyncio.timeout(0.05):
                while True:
                    spins += 1
                    await asyncio.sleep(0)
        except TimeoutError:
            return spins

    assert 1000 < play(scenario) < 3000


def test_a_world_stays_in_its_thread() -> None:
    world = World(0)
    raised: list[BaseException | None] = []

    async def nothing(world: World) -> None:
        return

    thread = threading.Thread(target=lambda: raised.append(world.run(nothing).failure))
    thread.start()
    thread.join()
    assert isinstance(raised[0], Escape)
