"""Both alarms: when they ring, and that they do not after."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import pytest

from holdfast.tools.load.alarm import LoopAlarm, TimerDescriptor, make_alarm

KINDS = [LoopAlarm, *([TimerDescriptor] if sys.platform == "linux" else [])]


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after_s", [-1.0, 0.0, 0.0003, 0.02])
async def test_it_rings_at_its_moment_and_never_before(kind: Any, after_s: float) -> None:
    rang: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    alarm = kind(asyncio.get_running_loop(), lambda: rang.set_result(time.monotonic()))
    at = time.monotonic() + after_s
    alarm.set(at)
    assert await rang >= at
    alarm.close()
    alarm.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_set_again_it_rings_once_at_the_new_moment(kind: Any) -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    done = loop.create_future()

    def ring() -> None:
        rang.append(time.monotonic())
        if not done.done():
            done.set_result(None)

    alarm = kind(loop, ring)
    alarm.set(time.monotonic() + 3600)
    at = time.monotonic() + 0.005
    alarm.set(at)
    await done
    alarm.close()
    assert len(rang) == 1
    assert rang[0] >= at


@pytest.mark.parametrize("kind", KINDS)
async def test_closed_it_does_not_ring(kind: Any) -> None:
    loop = asyncio.get_running_loop()
    rang: list[int] = []
    alarm = kind(loop, lambda: rang.append(1))
    alarm.set(time.monotonic())
    alarm.close()
    later = loop.create_future()
    loop.call_later(0.005, later.set_result, None)
    await later
    assert rang == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timer descriptors")
async def test_on_linux_the_kernel_rings_and_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    alarm = make_alarm(asyncio.get_running_loop(), lambda: None)
    assert isinstance(alarm, TimerDescriptor)
    alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before
