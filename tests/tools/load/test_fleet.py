"""Real client processes: merged, heard, stopped, and missed when they die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import pytest

from holdfast.errors import ConfigError, InternalError, Unavailable
from holdfast.server import serve
from holdfast.tools.load.calls import Target
from holdfast.tools.load.fleet import Child, Fleet
from holdfast.tools.load.messages import Job
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.run import Progress
from tests.tools.load.helpers import shop

pytestmark = pytest.mark.slow  # processes

THREE = Plan(rate=300, duration_s=1.0, warmup_s=0.0, processes=3, connections=3)


def job(address: str, **changed: Any) -> Job:
    target = Target(method="shop.price", shape="unary", words=("n={i}",), sample={"n": 0})
    return Job(**{"address": address, "plan": THREE, "target": target, **changed})


def no_progress(progress: Progress) -> None:
    """Nobody looks."""


def pids(fleet: Fleet) -> list[int]:
    found = []
    for child in fleet._children:
        assert child._transport is not None
        pid = child._transport.get_pid()
        assert pid is not None
        found.append(pid)
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.both_loops
async def test_no_call_number_comes_twice_and_the_counts_are_those_of_the_server() -> None:
    service, seen = shop()
    told: list[Progress] = []
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        fleet = Fleet(job(server.addresses[0]), told.append)
        result = await fleet.run()
        processes = pids(fleet)
    assert max(Counter(seen).values()) == 1
    assert sorted(seen) == list(range(300))
    assert (result.sent, result.ok, result.lost) == (300, 300, ())
    assert len(result.cpu) == 3
    assert [(round(progress.at_s), progress.second.ok > 200) for progress in told] == [(1, True)]
    assert not any(alive(pid) for pid in processes)


async def test_stopped_early_it_gives_what_was_counted() -> None:
    service, seen = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        plan = Plan(rate=300, duration_s=3600, warmup_s=0.0, processes=2, connections=2)
        fleet = Fleet(job(server.addresses[0], plan=plan), lambda _: fleet.stop())
        result = await fleet.run()
    assert result.interrupted
    assert 0 < result.ok <= len(seen)


async def test_a_process_that_dies_is_reported_and_the_others_are_counted() -> None:
    service, _ = shop()
    killed: list[int] = []

    def kill_first(progress: Progress) -> None:
        if not killed:
            killed.append(pids(fleet)[0])
            os.kill(killed[0], signal.SIGKILL)

    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        plan = Plan(rate=200, duration_s=2.0, warmup_s=0.0, processes=2, connections=2)
        fleet = Fleet(job(server.addresses[0], plan=plan), kill_first)
        result = await fleet.run()
    assert result.lost == ("client process 1 of 2 was killed by SIGKILL",)
    assert 150 <= result.ok <= 200


async def test_when_all_die_it_is_an_error() -> None:
    service, _ = shop()

    def kill(progress: Progress) -> None:
        for pid in pids(fleet):
            os.kill(pid, signal.SIGKILL)

    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        fleet = Fleet(job(server.addresses[0], plan=Plan(rate=100, duration_s=60, warmup_s=0.0)), kill)
        with pytest.raises(InternalError, match="client process 1 of 1 was killed by SIGKILL"):
            await fleet.run()


async def test_what_keeps_the_processes_from_running_is_raised_here() -> None:
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        address = server.addresses[0]
        fleet = Fleet(job(address, target=None, scenario="nowhere.py"), no_progress)
        with pytest.raises(ConfigError, match=r"there is no scenario nowhere.py"):
            await fleet.run()
    with pytest.raises(Unavailable):
        await Fleet(job(address, plan=Plan(rate=100, deadline_s=0.2)), no_progress).run()


async def test_cancelled_it_leaves_no_process() -> None:
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        running = asyncio.current_task()
        assert running is not None
        fleet = Fleet(job(server.addresses[0], plan=Plan(rate=100, duration_s=60, warmup_s=0.0)), lambda _: running.cancel())
        with pytest.raises(asyncio.CancelledError):
            await fleet.run()
        running.uncancel()
        assert not any(alive(pid) for pid in pids(fleet))


@pytest.mark.parametrize(
    ("code", "said"), [(3, "client process 1 of 1 ended with exit code 3"), (-9, "client process 1 of 1 was killed by SIGKILL")]
)
async def test_how_a_process_ended_is_in_words(code: int, said: str) -> None:
    class Transport:
        def get_returncode(self) -> int:
            return code

    child = Child("client process 1 of 1", no_progress)
    child.connection_made(Transport())  # type: ignore[arg-type]
    child.process_exited()
    assert child.why == said
    assert child.settled.done()
    assert child.exited.done()
