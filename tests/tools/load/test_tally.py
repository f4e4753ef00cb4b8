"""Counting: nothing twice, nothing lost, over slots and processes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.tools.load.tally import CODES_MAX, Measured, Slot, Tally, merged
from tests.tools.load.helpers import histogram, measured, step


def test_a_call_is_counted_once_over_slots() -> None:
    tally = Tally("shop.price")
    tally.latency.record(0.001)
    tally.fail("aborted", 0.5)
    first = tally.roll()
    tally.latency.record(0.002)
    tally.fail("deadline_exceeded", 10.0)
    second = tally.roll()
    assert [(slot.ok, slot.failed) for slot in (first, second, tally.roll())] == [(1, 1), (1, 1), (0, 0)]
    done = tally.step()
    assert (done.ok, done.errors) == (2, {"aborted": 1, "deadline_exceeded": 1})


def test_a_passed_deadline_is_a_latency_and_a_quick_refusal_is_none() -> None:
    tally = Tally("shop.price")
    tally.fail("deadline_exceeded", 10.0)
    tally.fail("resource_exhausted", 0.001)
    tally.roll()
    assert (tally.step().latency.count, tally.step().latency.max_s) == (1, 10.0)


def test_different_codes_are_bounded() -> None:
    tally = Tally("mix")
    for number in range(CODES_MAX + 10):
        tally.fail(f"Error{number}", 0.1)
    errors = tally.step().errors
    assert len(errors) == CODES_MAX + 1
    assert errors["other"] == 10


def test_what_several_steps_come_to() -> None:
    both = Measured(
        sent=6,
        elapsed_s=2.0,
        steps=(step("a", seconds=[0.1, 0.2], errors={"aborted": 1}), step("b", seconds=[0.3], errors={"internal": 2})),
    )
    assert (both.ok, both.failed, both.done, both.rate) == (3, 3, 6, 1.5)
    assert list(both.errors.items()) == [("internal", 2), ("aborted", 1)]
    assert both.latency().count == 3
    assert both.first_item() is None


def test_nothing_measured_has_no_rate() -> None:
    assert Measured().rate == 0.0


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 99))
def test_processes_merged_are_as_one(seconds: list[float], processes: int, seed: int) -> None:
    parts: list[list[float]] = [[] for _ in range(processes)]
    rng = random.Random(seed)
    for each in seconds:
        rng.choice(parts).append(each)
    whole = merged([measured(seconds=part) for part in parts])
    one = measured(seconds=seconds)
    assert whole.latency().snapshot().counts == one.latency().snapshot().counts
    assert (whole.sent, whole.ok, whole.latency().max) == (one.sent, one.ok, one.latency().max)
    assert sum(slot.ok for slot in whole.slots) == len(seconds)


def test_merging_adds_counts_and_keeps_the_worst() -> None:
    a = Measured(sent=1, not_sent=2, late=3, late_max_s=0.1, lag_max_s=0.5, cpu=(0.2,), elapsed_s=1.0, slot_s=0.1, samples={"x": "first"})
    b = Measured(
        sent=10,
        not_sent=20,
        unfinished=1,
        late=30,
        late_max_s=0.3,
        lag_max_s=0.2,
        cpu=(0.4,),
        elapsed_s=2.0,
        slot_s=0.1,
        slots=(Slot(1, 0, histogram(0.1).snapshot()),),
        samples={"x": "second", "y": "other"},
        interrupted=True,
    )
    whole = merged([a, b], ["client process 3 of 3 was killed by SIGKILL"])
    assert (whole.sent, whole.not_sent, whole.unfinished, whole.late) == (11, 22, 1, 33)
    assert (whole.late_max_s, whole.lag_max_s, whole.elapsed_s, whole.cpu) == (0.3, 0.5, 2.0, (0.2, 0.4))
    assert whole.samples == {"x": "first", "y": "other"}
    assert [slot.ok for slot in whole.slots] == [1]
    assert whole.interrupted
    assert whole.lost == ("client process 3 of 3 was killed by SIGKILL",)


def test_first_items_are_merged_too() -> None:
    tally = Tally("shop.watch", stream=True)
    assert tally.first_item is not None
    tally.first_item.record(0.25)
    one = Measured(steps=(tally.step(),))
    both = merged([one, one]).first_item()
    assert both is not None
    assert (both.count, both.max) == (2, pytest.approx(0.25))
