"""The wheel against a sorted list, with a clock that only moves when told to."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.wheel import EARLY_S, Timer, Wheel

TICK_S = 0.005


class FakeTimer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A clock and its timers; `advance` runs what falls due on the way."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[FakeTimer] = []
        self.armed_total = 0
        self.errors: list[Exception] = []

    def now(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        self.armed_total += 1
        return timer

    @property
    def armed(self) -> list[FakeTimer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, to: float) -> None:
        while True:
            due = [timer for timer in self.armed if timer.when <= to]
            if not due:
                break
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.when)
            try:
                first.callback()
            except Exception as error:
                self.errors.append(error)
        self.now_s = to


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def wheel(loop: FakeLoop) -> Wheel:
    return Wheel(loop.now, loop.call_at, tick_s=TICK_S)


def test_a_callback_runs_after_its_time_and_within_a_tick_of_it(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[float] = []
    wheel.at(100.5031, lambda: ran.append(loop.now_s))
    loop.advance(100.5)
    assert ran == []
    loop.advance(101.0)
    assert len(ran) == 1
    assert 100.5031 <= ran[0] <= 100.5031 + TICK_S + 2 * EARLY_S


def test_a_loop_that_wakes_early_runs_nothing_early_and_does_not_spin(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[int] = []
    wheel.at(101.0, lambda: ran.append(1))
    timer = loop.armed[0]
    loop.timers.clear()
    loop.now_s = 100.9999
    timer.callback()
    assert ran == []
    assert [again.when > 101.0 for again in loop.armed] == [True]
    loop.advance(101.01)
    assert ran == [1]


def test_a_time_that_has_passed_runs_at_the_next_tick_and_never_at_once(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[str] = []
    wheel.at(3.0, lambda: ran.append("past"))
    assert ran == []
    loop.advance(100.0 + 2 * TICK_S)
    assert ran == ["past"]


def test_a_callback_that_asks_for_now_again_waits_for_a_later_tick(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[float] = []

    def again() -> None:
        ran.append(loop.now_s)
        if len(ran) < 3:
            wheel.at(loop.now_s, again)

    wheel.at(100.1, again)
    loop.advance(101.0)
    assert len(ran) == 3
    assert ran == sorted(set(ran)), "each in a turn of its own"


def test_a_callback_that_asks_for_the_past_again_cannot_spin_in_one_turn(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[float] = []

    def again() -> None:
        ran.append(loop.now_s)
        if len(ran) < 3:
            wheel.at(0.0, again)

    wheel.at(100.1, again)
    loop.advance(101.0)
    assert len(ran) == 3
    assert ran == sorted(set(ran)), "each in a turn of its own"


def test_within_a_tick_the_earlier_comes_first_and_equals_in_the_order_they_came(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[str] = []
    for name, when in (("d", 101.004), ("a", 101.001), ("b", 101.002), ("c", 101.002)):
        wheel.at(when, lambda name=name: ran.append(name))  # type: ignore[misc]
    loop.advance(102.0)
    assert ran == ["a", "b", "c", "d"]


def test_one_loop_timer_serves_all_and_none_is_set_again_when_nothing_is_due(loop: FakeLoop, wheel: Wheel) -> None:
    assert loop.armed == []
    timers = [wheel.at(101.0 + n / 1000, lambda: None) for n in range(500)]
    assert len(loop.armed) == 1
    for timer in timers:
        timer.cancel()
    assert len(wheel) == 0
    loop.advance(110.0)
    assert loop.armed == []
    assert loop.armed_total == 1


def test_an_earlier_deadline_takes_the_loop_timer_over(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[str] = []
    wheel.at(110.0, lambda: ran.append("late"))
    for n in range(100):
        wheel.at(109.0 - n / 10, lambda: ran.append("early"))
        assert len(loop.armed) == 1
    loop.advance(120.0)
    assert ran == ["early"] * 100 + ["late"]


def test_a_call_at_that_cannot_be_cancelled_is_enough(loop: FakeLoop) -> None:
    def call_at(when: float, callback: Callable[[], None]) -> None:
        loop.call_at(when, callback)

    wheel = Wheel(loop.now, call_at, tick_s=TICK_S)
    ran: list[int] = []
    wheel.at(102.0, lambda: ran.append(2))
    wheel.at(101.0, lambda: ran.append(1))
    loop.advance(103.0)
    assert ran == [1, 2]
    assert loop.armed == []


def test_cancel_is_idempotent_and_lets_go_of_the_callback(loop: FakeLoop, wheel: Wheel) -> None:
    class Held:
        def run(self) -> None:
            raise AssertionError("cancelled")

    held = Held()
    timer = wheel.at(105.0, held.run)
    pending = [timer.is_pending]
    timer.cancel()
    timer.cancel()
    pending.append(timer.is_pending)
    assert pending == [True, False]
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None
    loop.advance(106.0)


def test_cancelled_timers_do_not_pile_up_until_their_time(loop: FakeLoop, wheel: Wheel) -> None:
    for n in range(20_000):
        wheel.at(110.0 + n % 10, lambda: None).cancel()
    assert len(wheel) == 0
    assert len(wheel._slots) <= 10


def test_a_callback_may_cancel_one_of_the_same_tick(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[str] = []
    second: list[Timer] = []

    def first() -> None:
        ran.append("first")
        second[0].cancel()

    wheel.at(101.0, first)
    second.append(wheel.at(101.0, lambda: ran.append("second")))
    loop.advance(102.0)
    assert ran == ["first"]


def test_a_callback_that_raises_stops_no_other_and_is_heard_of(loop: FakeLoop, wheel: Wheel) -> None:
    ran: list[int] = []

    def fail() -> None:
        raise RuntimeError("one")

    wheel.at(101.0, fail)
    wheel.at(101.0, lambda: ran.append(1))
    wheel.at(102.0, lambda: ran.append(2))
    loop.advance(103.0)
    assert ran == [1, 2]
    assert [str(error) for error in loop.errors] == ["one"]


def test_several_that_raise_in_one_tick_are_told_of_together(loop: FakeLoop, wheel: Wheel) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    wheel.at(101.0, fail)
    wheel.at(101.0, fail)
    loop.advance(102.0)
    (error,) = loop.errors
    assert isinstance(error, ExceptionGroup)
    assert len(error.exceptions) == 2


@pytest.mark.parametrize("when", [math.inf, math.nan])
def test_a_time_that_never_comes_is_refused(wheel: Wheel, when: float) -> None:
    with pytest.raises((OverflowError, ValueError)):
        wheel.at(when, lambda: None)
    assert len(wheel) == 0


def test_a_tick_must_have_a_length(loop: FakeLoop) -> None:
    with pytest.raises(ValueError, match="tick_s=0"):
        Wheel(loop.now, loop.call_at, tick_s=0)


def first_tick_at_or_after(when: float) -> int:
    tick = int(when / TICK_S) - 2
    while tick * TICK_S < when:
        tick += 1
    return tick


ADD, CANCEL, ADVANCE = "add", "cancel", "advance"
whole_ticks = st.integers(0, 50).map(lambda n: n * TICK_S)
operations = st.lists(
    st.one_of(
        st.tuples(st.just(ADD), st.one_of(st.floats(0, 0.1), st.floats(0, 20), st.floats(3000, 4000), whole_ticks)),
        st.tuples(st.just(CANCEL), st.floats(0, 1)),
        st.tuples(st.just(ADVANCE), st.one_of(st.floats(0, 0.05), st.floats(0, 30), st.just(5000.0))),
    ),
    max_size=60,
)


@given(operations)
def test_it_does_what_a_sorted_list_would(steps: list[tuple[str, float]]) -> None:
    loop = FakeLoop()
    wheel = Wheel(loop.now, loop.call_at, tick_s=TICK_S)
    ran: list[int] = []
    model: list[tuple[float, int]] = []  # (when, number), the ones still to come
    timers: dict[int, Timer] = {}
    for number, (operation, value) in enumerate(steps):
        if operation == ADD:
            when = loop.now_s + value
            timers[number] = wheel.at(when, lambda number=number: ran.append(number))  # type: ignore[misc]
            model.append((when, number))
        elif operation == CANCEL and model:
            _, victim = model.pop(int(value * (len(model) - 1)))
            timers.pop(victim).cancel()
        elif operation == ADVANCE:
            target = loop.now_s + value
            before = loop.now_s
            ran.clear()
            loop.advance(target)
            certain = [n for when, n in sorted(model) if first_tick_at_or_after(when) * TICK_S + 2 * EARLY_S + TICK_S <= target]
            allowed = [n for when, n in sorted(model) if when <= target]
            assert ran[: len(certain)] == certain, f"advanced from {before} to {target}"
            assert ran == allowed[: len(ran)]
            model = [entry for entry in model if entry[1] not in ran]
        assert len(wheel) == len(model)
        assert len(loop.armed) <= 1
    ran.clear()
    loop.advance(loop.now_s + 10_000)
    assert ran == [n for _, n in sorted(model)]
    assert loop.armed == []


@pytest.mark.both_loops
async def test_on_a_real_loop_nothing_comes_early() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    done: asyncio.Future[None] = loop.create_future()
    late_by: list[float] = []

    def note(when: float, last: bool) -> None:
        late_by.append(loop.time() - when)
        if last:
            done.set_result(None)

    start = loop.time()
    for n in range(10):
        when = start + 0.004 * n
        wheel.at(when, lambda when=when, last=n == 9: note(when, last))  # type: ignore[misc]
    async with asyncio.timeout(10):
        await done
    assert len(late_by) == 10
    assert min(late_by) >= 0
