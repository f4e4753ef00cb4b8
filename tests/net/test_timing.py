"""The timer that all wheels of a loop share: when it calls, who pays for it, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from holdfast import ConfigError, Service, TlsConfig, connect, serve
from holdfast.net import timing
from holdfast.net.timing import KernelTimer, LoopTimer
from tests.conftest import LOOPS
from tests.net.helpers import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timer descriptors")


LOOP_EARLY_S = 0.001
"""How much too early the loop's own timers may be: uvloop counts in milliseconds."""


def descriptors() -> list[str]:
    """What this process has open, by what it is; of timers there are no others."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # the one the list was read by
    return [each for each in found if "timerfd" in each]


def soon(after_s: float = 0.003) -> float:
    return time.monotonic() + after_s


async def called(call_at: Callable[[float, Callable[[], None]], object], when: float) -> float:
    """Wait until something set for `when` has come, and return when that was."""
    came: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    call_at(when, lambda: came.set_result(time.monotonic()))
    async with asyncio.timeout(PATIENCE_S):
        return await came


# ------------------------------------------------------------------------------------------------------------ the kernel's


@pytest.mark.both_loops
@pytest.mark.parametrize("after_s", [-1e9, -1.0, 0.0, 0.0003, 0.02])
async def test_the_kernels_timer_rings_at_its_moment_and_is_asked_once(after_s: float) -> None:
    loop = asyncio.get_running_loop()
    timer = KernelTimer()
    rang = loop.create_future()
    at = soon(after_s)

    def ring() -> None:
        loop.remove_reader(timer.descriptor)
        rang.set_result(time.monotonic())

    loop.add_reader(timer.descriptor, ring)
    timer.set(at)
    when, first, second = await rang, timer.take(), timer.take()
    timer.close()
    timer.close()
    assert when >= at
    assert (first, second) == (True, False)
    assert descriptors() == []


async def test_a_closed_timer_touches_no_descriptor_that_has_its_number_now() -> None:
    first = KernelTimer()
    first.close()
    second = KernelTimer()
    with pytest.raises(OSError, match="a timer of the kernel"):
        first.set(soon())
    second.close()


# ---------------------------------------------------------------------------------------------------------------- call_at


@pytest.mark.both_loops
@pytest.mark.parametrize("after_s", [-1.0, 0.0, 0.0003, 0.02])
async def test_a_callback_comes_at_its_moment_and_never_before(after_s: float) -> None:
    timer = LoopTimer(asyncio.get_running_loop())
    at = soon(after_s)
    assert await called(timer.call_at, at) >= at
    timer.close()


@pytest.mark.both_loops
async def test_callbacks_come_in_the_order_of_their_moments_whoever_set_them() -> None:
    loop = asyncio.get_running_loop()
    one, two = LoopTimer(loop), LoopTimer(loop)
    came: list[str] = []
    start = soon()
    one.call_at(start + 0.003, lambda: came.append("third"))
    two.call_at(start + 0.002, lambda: came.append("second"))
    one.call_at(start + 0.001, lambda: came.append("first"))
    two.call_at(start + 3600, lambda: came.append("never"))
    await called(two.call_at, start + 0.004)
    assert came == ["first", "second", "third"]
    one.close()
    two.close()


@pytest.mark.both_loops
async def test_what_was_taken_back_does_not_come_even_when_its_turn_had_come() -> None:
    timer = LoopTimer(asyncio.get_running_loop())
    came: list[str] = []
    when = soon()
    calls: list[Any] = []

    def first() -> None:
        came.append("first")
        calls[0].cancel()

    timer.call_at(when, first)
    calls.append(timer.call_at(when + 1e-9, lambda: came.append("taken back")))
    timer.call_at(when - 0.001, lambda: came.append("taken back")).cancel()  # type: ignore[attr-defined]
    await called(timer.call_at, when + 0.002)
    assert came == ["first"]
    timer.close()


async def test_what_one_callback_raises_is_told_to_the_loop_and_keeps_no_other_from_running() -> None:
    loop = asyncio.get_running_loop()
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    timer = LoopTimer(loop)
    when = soon()
    timer.call_at(when, lambda: 1 // 0)  # type: ignore[arg-type]
    await called(timer.call_at, when)
    assert [type(each) for each in told] == [ZeroDivisionError]
    timer.close()


async def test_what_is_taken_back_again_and_again_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = LoopTimer(asyncio.get_running_loop())
    when = soon(3600)
    set_to: list[float] = []
    monkeypatch.setattr(KernelTimer, "set", lambda _, at: set_to.append(at))
    for number in range(10_000):
        timer.call_at(when + number, lambda: None).cancel()  # type: ignore[attr-defined]
    assert len(timer._shared._calls) <= 2 * timing.SPARE_CALLS  # type: ignore[union-attr]
    assert set_to == [when]  # and no kernel call for each
    timer.close()


# ----------------------------------------------------------------------------------------------------------- who pays, and how much


@pytest.mark.parametrize("calls", [0, 3])
def test_with_client_and_server_connected_the_loop_has_no_timer(calls: int) -> None:
    """On asyncio, whose timers can be counted; the same code runs on uvloop."""
    service = Service("quiet")

    @service.method
    async def echo(text: str) -> str:
        return text

    async def pending() -> tuple[int, list[str]]:
        loop: Any = asyncio.get_running_loop()
        async with serve(service, bind="tcp://127.0.0.1:0") as server, connect(server.addresses[0]) as client:
            for _ in range(calls):
                assert await client.call("quiet.echo", "x") == "x"
            return sum(not each.cancelled() for each in loop._scheduled), descriptors()

    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
        timers, open_timers = runner.run(pending())
    assert timers == 0
    assert len(open_timers) == 1
    assert descriptors() == []


async def test_a_client_that_cannot_be_made_has_no_part_in_it(tmp_path: Path) -> None:
    client = connect("tls://127.0.0.1:1", tls=TlsConfig(trust=str(tmp_path / "not there.pem")))
    with pytest.raises(ConfigError):
        await client.__aenter__()
    assert descriptors() == []


@pytest.mark.both_loops
async def test_all_on_a_loop_share_one_descriptor_and_the_last_closes_it() -> None:
    loop = asyncio.get_running_loop()
    timers = [LoopTimer(loop) for _ in range(3)]
    assert len(descriptors()) == 1
    timers[0].close()
    timers[0].close()
    timers[1].close()
    assert len(descriptors()) == 1
    at = soon()
    assert await called(timers[0].call_at, at) >= at  # a wheel may outlive its client
    timers[2].close()
    assert descriptors() == []
    another = LoopTimer(loop)
    at = soon()
    assert await called(another.call_at, at) >= at
    another.close()


@pytest.mark.both_loops
async def test_what_is_still_to_come_when_the_last_one_closes_comes_all_the_same() -> None:
    timer = LoopTimer(asyncio.get_running_loop())
    came: list[str] = []
    at = soon()
    timer.call_at(at, lambda: came.append("before the close"))
    timer.call_at(at, lambda: came.append("taken back")).cancel()  # type: ignore[attr-defined]
    timer.close()
    await called(timer.call_at, at + 0.002)
    assert came == ["before the close"]


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_nobody_closed_its_timer_on_is_collected_and_so_is_the_descriptor(make_loop: Callable[[], Any]) -> None:
    loop = make_loop()
    timer = LoopTimer(loop)
    timer.call_at(soon(3600), lambda: None)
    assert len(descriptors()) == 1
    gone = weakref.ref(loop)
    loop.close()
    del loop, timer
    gc.collect()
    assert gone() is None
    assert descriptors() == []


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_it_can_be_closed_after_the_loop(make_loop: Callable[[], Any]) -> None:
    loop = make_loop()
    timer = LoopTimer(loop)
    timer.call_at(soon(3600), lambda: None)
    loop.close()
    timer.close()
    assert descriptors() == []


# ----------------------------------------------------------------------------------------------------- where the loop does it itself


class OwnTime(asyncio.SelectorEventLoop):
    """A loop that somebody derived may have a time of its own; so has that of a simulated world."""


class OwnUvTime(uvloop.Loop):
    """The same over uvloop."""


@pytest.mark.parametrize("kind", [OwnTime, OwnUvTime])
def test_a_loop_that_may_have_a_time_of_its_own_keeps_it(kind: type[asyncio.AbstractEventLoop]) -> None:
    loop = kind()
    timer = LoopTimer(loop)
    assert timer.call_at == loop.call_at
    assert descriptors() == []
    timer.close()
    loop.close()


@pytest.mark.parametrize("error", [OSError(24, "no descriptor is left"), AttributeError("timerfd_create")])
async def test_where_there_is_no_such_timer_the_loop_has_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(timing, "KernelTimer", refuse)
    timer = LoopTimer(asyncio.get_running_loop())
    at = soon()
    assert await called(timer.call_at, at) >= at - LOOP_EARLY_S
    timer.close()


def test_after_a_fork_the_child_leaves_the_timer_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wait with one object of the kernel: what the child sets or takes out, it sets for the parent and takes out for it."""
    set_to: list[float] = []

    async def in_the_child() -> None:
        loop = asyncio.get_running_loop()
        timer = LoopTimer(loop)
        monkeypatch.setattr(KernelTimer, "set", lambda _, at: set_to.append(at))
        child = os.getpid() + 1
        monkeypatch.setattr(os, "getpid", lambda: child)
        at = soon()
        assert await called(timer.call_at, at) >= at - LOOP_EARLY_S
        assert timer._shared is not None
        assert timer._shared._timer is not None
        descriptor = timer._shared._timer.descriptor
        timer.close()
        assert descriptors() == []
        assert loop.remove_reader(descriptor), "it was taken out"

    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:  # uvloop does not tell what it had
        runner.run(in_the_child())
    assert set_to == []
