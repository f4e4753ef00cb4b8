"""One world at a time, in one thread."""

from __future__ import annotations

import threading

import pytest

from holdfast.sim import Escape, World, run_world
from holdfast.sim.here import engine_here, here
from tests.sim.stages import play


def test_nobody_is_here_outside_of_a_world_or_in_another_thread() -> None:
    assert engine_here() is None
    with pytest.raises(Escape, match="outside of a running world"):
        here()

    async def scenario(world: World) -> None:
        assert here().host == "driver"
        assert engine_here() is world._engine
        ask.set()
        assert answered.acquire(timeout=10)

    ask, answered = threading.Event(), threading.Lock()
    seen: list[object] = []

    def other() -> None:
        ask.wait(10)
        seen.append(engine_here())
        answered.release()

    answered.acquire()
    thread = threading.Thread(target=other)
    thread.start()
    play(scenario)
    thread.join()
    assert seen == [None]
    assert engine_here() is None


def test_a_world_inside_a_world_is_refused() -> None:
    async def scenario(world: World) -> None:
        async def inner(world: World) -> None:
            return

        run_world(inner, 1)

    with pytest.raises(Escape, match="a simulated world runs already"):
        play(scenario)
