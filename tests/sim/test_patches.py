"""Python's clocks, dice, sockets and threads during a run, and after it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest

from holdfast.clock import Streams, SystemClock, wall_s
from holdfast.sim import Deadlock, Escape, World, WorldOptions
from holdfast.sim.engine import Engine
from holdfast.sim.patches import replacements
from tests.sim.stages import play

REPLACED = [(owner, name) for owner, name, _ in replacements(Engine(0, WorldOptions()))]


def current() -> list[Any]:
    return [owner.__dict__.get(name, "absent") for owner, name in REPLACED]


@pytest.mark.parametrize("how", ["ends", "raises", "deadlocks", "is stopped"])
def test_everything_is_put_back_however_a_world_ends(how: str) -> None:
    before, state = current(), random.getstate()

    async def scenario(world: World) -> None:
        random.random()
        if how == "raises":
            raise ValueError
        if how == "deadlocks":
            await asyncio.Event().wait()
        if how == "is stopped":
            raise KeyboardInterrupt

    with nullcontext() if how == "ends" else pytest.raises((ValueError, Deadlock, KeyboardInterrupt)):
        play(scenario)
    assert current() == before
    assert random.getstate() == state
    assert asyncio._get_running_loop() is None


def test_during_a_run_each_of_them_is_another() -> None:
    before = current()

    async def scenario(world: World) -> list[Any]:
        return [where for where, then, now in zip(REPLACED, before, current(), strict=True) if then is now]

    assert [name for _, name in play(scenario)] == ["_last_timestamp"], "None before and during: what a run leaves there is put back"


def hold_up(seconds: float) -> None:
    time.sleep(seconds)


def test_clocks_are_virtual_and_agree() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(5)
        assert time.monotonic() == time.perf_counter() == loop.time() == world.now() == SystemClock.now()
        assert time.time() == 1_700_000_000 + world.now()
        assert wall_s() == pytest.approx(time.time(), abs=1e-5)
        assert time.time_ns() == pytest.approx(time.time() * 1e9)
        assert time.monotonic_ns() == time.perf_counter_ns() == int(world.now() * 1e9)
        before = world.now()
        hold_up(3)
        assert world.now() == before + 3
        with pytest.raises(ValueError, match="non-negative"):
            hold_up(-1)

    started = time.monotonic()
    play(scenario)
    assert time.monotonic() - started < 5


def test_sleeping_holds_up_one_process_and_no_other() -> None:
    async def scenario(world: World) -> None:
        async def sleeper() -> None:
            hold_up(2)

        async def neighbour() -> int:
            ticks = 0
            while world.now() < 1.9:
                ticks += 1
                await asyncio.sleep(0.1)
            return ticks

        host = world.host("a")
        first, second = host.start(sleeper), host.start(neighbour)
        assert await second > 15
        await first
        assert world.now() > 2

    play(scenario)


def entropy() -> tuple[Any, ...]:
    return (
        random.random(),
        random.SystemRandom().random(),
        random.Random().random(),
        uuid.uuid4(),
        uuid.uuid1(),
        os.urandom(4),
        secrets.token_hex(4),
        Streams().stream("x").random(),
    )


def test_dice_come_from_the_seed() -> None:
    async def scenario(world: World) -> tuple[Any, ...]:
        return entropy()

    first, again, other = play(scenario, 1), play(scenario, 1), play(scenario, 2)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True) if not isinstance(a, uuid.UUID) or a.version != 1)
    assert entropy() != entropy()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda: threading.Thread(target=print).start(), "use asyncio.to_thread or loop.run_in_executor"),
        (lambda: threading.Event().wait(), "use asyncio's own locks, events and queues"),
        (lambda: concurrent.futures.Future().result(), "use asyncio's own locks, events and queues"),
        (lambda: subprocess.run(["true"], check=False), "host.start"),
        (lambda: os.fork(), "host.start"),
        (lambda: os.system("true"), "host.start"),
        (lambda: os.posix_spawn("/bin/true", [], {}), "host.start"),
        (lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL), "use loop.add_signal_handler"),
        (lambda: os.kill(1, 0), "use loop.add_signal_handler"),
        (lambda: socket.socketpair(), "TCP on 127.0.0.1"),
        (lambda: socket.create_connection(("127.0.0.1", 7)), "use asyncio"),
    ],
)
def test_the_fences_say_what_to_use(what: Callable[[], Any], says: str) -> None:
    async def scenario(world: World) -> None:
        what()

    with pytest.raises(Escape) as raised:
        play(scenario)
    assert says in str(raised.value)


def test_waiting_with_a_bound_passes_the_time() -> None:
    async def scenario(world: World) -> float:
        assert not threading.Event().wait(2.0)
        return world.now()

    assert play(scenario) == pytest.approx(2, abs=0.1)


def test_other_threads_of_the_program_keep_the_real_ones() -> None:
    asked, told = threading.Event(), threading.Lock()
    seen: list[Any] = []

    def watchdog() -> None:
        asked.wait(10)
        before = time.monotonic()
        time.sleep(0.001)
        real = socket.socket()
        seen.append((time.monotonic() > before, type(real).__name__, os.getpid() == pid, len(os.urandom(3))))
        real.close()
        inner = threading.Thread(target=seen.append, args=("ran",))
        inner.start()
        inner.join()
        told.release()

    async def scenario(world: World) -> None:
        asked.set()
        assert told.acquire(timeout=10)

    pid = os.getpid()
    told.acquire()
    thread = threading.Thread(target=watchdog)
    thread.start()
    play(scenario)
    thread.join()
    assert seen == [(True, "socket", True, 3), "ran"]


def test_processes_know_who_and_where_they_are() -> None:
    async def scenario(world: World) -> None:
        async def main() -> tuple[str, int]:
            return socket.gethostname(), os.getpid()

        host = world.host("a")
        assert await host.start(main) == ("a", 100)
        assert await host.start(main) == ("a", 101)

        async def suicidal() -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.append, "told")
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)

        told: list[str] = []
        await host.start(suicidal)
        assert told == ["told"]

    play(scenario)


def test_names_are_looked_up_in_the_world_and_take_a_moment() -> None:
    async def scenario(world: World) -> None:
        world.host("server")
        world.names.add("db.internal", ["10.9.8.7"])
        before = world.now()
        assert socket.gethostbyname("server") == "10.0.0.2"
        assert before < world.now() < before + 0.002
        assert socket.getaddrinfo("db.internal", 80, type=socket.SOCK_STREAM)[0][4] == ("10.9.8.7", 80)
        assert socket.getnameinfo(("10.0.0.2", 80), 0) == ("server", "80")
        assert socket.getnameinfo(("10.0.0.2", 80), socket.NI_NUMERICHOST) == ("10.0.0.2", "80")
        loop = asyncio.get_running_loop()
        assert (await loop.getaddrinfo("server", 80))[0][4] == ("10.0.0.2", 80)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("nobody", 80)

    play(scenario)


def test_what_holdfast_asks_for_the_date_outside_of_a_world_is_the_real_one() -> None:
    from holdfast.sim.patches import _Datetime

    assert abs(_Datetime.now().timestamp() - datetime.now().timestamp()) < 5
