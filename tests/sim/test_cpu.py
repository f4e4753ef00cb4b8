"""The order of callbacks is one that asyncio allows, and between two callbacks anything may happen elsewhere."""

from __future__ import annotations

import asyncio
import heapq
import time
from asyncio import base_events
from functools import partial
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim import World
from tests.sim.stages import CALM, dialled, kinds, listening, play, run

# A program is a tree: what a callback does is to add others, soon or later (in steps of 10 ms), and to take back one of those before.
Program = list[tuple[str, int, "Program"]]
programs: st.SearchStrategy[Program] = st.recursive(
    st.just([]),
    lambda inner: st.lists(st.tuples(st.sampled_from(["soon", "later", "cancel"]), st.integers(0, 3), inner), max_size=4),
    max_leaves=12,
)


def behave(program: Program, order: list[str], handles: list[asyncio.Handle], name: str, base: float) -> None:
    loop = asyncio.get_running_loop()
    order.append(name)
    for n, (what, number, rest) in enumerate(program):
        label = f"{name}.{n}"
        if what == "soon":
            handles.append(loop.call_soon(behave, rest, order, handles, label, base))
        elif what == "later":
            handles.append(loop.call_at(base + number * 0.01, behave, rest, order, handles, label, base))
        elif handles:
            handles[number % len(handles)].cancel()


class Asyncio(base_events.BaseEventLoop):
    """asyncio's own `_run_once`, over a clock that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = self
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> list[Any]:
        self.now += timeout or 0.0
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        return


@given(programs)
def test_callbacks_come_in_the_order_asyncio_has_for_them(program: Program) -> None:
    expected: list[str] = []
    real = Asyncio()
    try:
        real.call_soon(lambda: behave(program, expected, [], "0", real.now))
        real.call_later(1.0, real.stop)
        real.run_forever()
    finally:
        real.close()
    found: list[str] = []

    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        base = loop.time()
        loop.call_soon(behave, program, found, [], "0", base)
        await asyncio.sleep(1)

    play(scenario, timer_slack_s=0.0)
    assert found == expected


def test_what_came_during_a_turn_is_seen_after_what_the_turn_added() -> None:
    """The bytes are there while the callbacks of a turn still run; their callback comes after those that these have added."""

    async def scenario(world: World) -> list[str]:
        order: list[str] = []
        loop = asyncio.get_running_loop()
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        theirs, _ = await loop.sock_accept(listener)
        await asyncio.sleep(0.01)

        def first() -> None:
            order.append("first")
            ours.send(b"x")
            time.sleep(0.01)  # it arrives before `second` runs
            loop.call_soon(order.append, "added")

        def readable() -> None:
            order.append("readable")
            loop.remove_reader(theirs)

        loop.add_reader(theirs, readable)
        loop.call_soon(first)
        loop.call_soon(order.append, "second")
        await asyncio.sleep(0.1)
        for each in (listener, ours, theirs):
            each.close()
        return order

    assert play(scenario) == ["first", "second", "added", "readable"]


def hold_up(seconds: float) -> None:
    time.sleep(seconds)


def test_what_comes_while_a_callback_still_takes_its_time_waits_for_its_end() -> None:
    async def scenario(world: World) -> float:
        async def main() -> float:
            with listening(7) as listener:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                hold_up(0.5)  # the last thing before the process goes to sleep
                await asyncio.get_running_loop().sock_recv(connection, 1)
                connection.close()
                return world.now()

        server = world.host("a").start(main)
        await world.sleep(0.1)
        client = await dialled("a", 7)
        begun = world.now()
        await world.sleep(0.1)
        client.send(b"x")
        woken_at = await server
        client.close()
        return float(woken_at - begun)

    assert play(scenario, **CALM) > 0.5


def test_descriptors_stay_ready_until_they_are_not() -> None:
    async def scenario(world: World) -> list[bytes]:
        loop = asyncio.get_running_loop()
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        theirs, _ = await loop.sock_accept(listener)
        read: list[bytes] = []

        def readable() -> None:
            read.append(theirs.recv(1))
            if read[-1] == b"c":
                loop.remove_reader(theirs)

        loop.add_reader(theirs, readable)
        ours.send(b"abcd")
        await asyncio.sleep(0.1)
        loop.add_reader(theirs, readable)  # what is left is there at once, without anything new
        await asyncio.sleep(0.1)
        loop.remove_reader(theirs)
        for each in (listener, ours, theirs):
            each.close()
        return read

    assert play(scenario) == [b"a", b"b", b"c", b"d"]


def test_a_writer_waits_for_room() -> None:
    async def scenario(world: World) -> list[int]:
        loop = asyncio.get_running_loop()
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        theirs, _ = await loop.sock_accept(listener)
        sent = [0]
        for _ in range(100):  # what has left for the other kernel makes room once more
            try:
                sent[0] += ours.send(b"x" * 65_536)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        loop.add_writer(ours, lambda: sent.append(len(sent)))
        await asyncio.sleep(1)
        assert len(sent) == 1, "nobody read, and it was called writable"
        for _ in range(4):
            await loop.sock_recv(theirs, 65_536)
            await asyncio.sleep(0.01)
            if len(sent) > 1:
                break
        loop.remove_writer(ours)
        for each in (listener, ours, theirs):
            each.close()
        return sent

    assert len(play(scenario)) > 1


def test_callbacks_take_time_and_a_few_take_much_longer() -> None:
    async def scenario(world: World) -> list[float]:
        times = []
        for _ in range(2000):
            times.append(world.now())
            await asyncio.sleep(0)
        return times

    times = play(scenario, callback_s=1e-3)
    costs = [b - a for a, b in pairwise(times)]
    assert 0.9e-3 < sum(costs) / len(costs) < 1.1e-3
    assert min(costs) >= 0.3e-3
    assert max(costs) <= 3.2e-3
    stalled = play(scenario, stall_chance=0.1, stall_max_s=1.0)
    assert sum(b - a > 0.01 for a, b in pairwise(stalled)) in range(120, 280)


def test_which_host_runs_first_is_drawn() -> None:
    def order(seed: int) -> tuple[str, ...]:
        came: list[str] = []

        async def scenario(world: World) -> None:
            async def main(name: str) -> None:
                for _ in range(2):
                    came.append(name)
                    await asyncio.sleep(0)

            processes = [world.host(name).start(partial(main, name)) for name in "abc"]
            for process in processes:
                await process

        play(scenario, seed)
        return tuple(came)

    assert len({order(seed) for seed in range(40)}) > 20


def test_a_timer_is_never_early_and_late_by_the_slack_at_most() -> None:
    async def scenario(world: World) -> list[float]:
        late = []
        for _ in range(200):
            before = world.now()
            await asyncio.sleep(0.01)
            late.append(world.now() - before - 0.01)
        return late

    late = play(scenario, timer_slack_s=1e-3)
    assert min(late) >= 0
    assert max(late) < 1.3e-3
    assert max(late) > 0.8e-3


def test_many_cancelled_timers_do_not_stay() -> None:
    async def scenario(world: World) -> int:
        loop: Any = asyncio.get_running_loop()
        for _ in range(50):
            for _ in range(100):
                loop.call_later(1000, print).cancel()
            await asyncio.sleep(0.001)
        kept = len(loop._scheduled)
        assert list(loop._scheduled) == sorted(loop._scheduled) or heapq.heappop(list(loop._scheduled)) is not None
        return kept

    assert play(scenario) < 500


def test_the_trace_tells_each_step_of_a_task_with_its_host() -> None:
    async def job() -> None:
        await asyncio.sleep(0)

    async def scenario(world: World) -> None:
        await world.host("a").start(job)

    steps = [(host, str(detail).rpartition(".")[2]) for _, _, host, detail in kinds(run(scenario), "run")]
    assert ("a", "job") in steps
    assert ("driver", "life") in steps


def test_a_process_is_not_woken_for_what_its_loop_does_not_wait_for() -> None:
    async def scenario(world: World) -> int:
        async def idle() -> None:
            with listening(7):
                await asyncio.Event().wait()

        host = world.host("a")
        process = host.start(idle)
        await world.sleep(0.1)
        turns = process.turns
        (await dialled("a", 7)).close()
        await world.sleep(0.1)
        return process.turns - turns

    assert play(scenario, **CALM) == 0
