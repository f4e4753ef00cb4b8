"""The retry budget while the servers are overloaded: nothing comes in, and of the floor a tenth is left; afterwards it is as before."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.budget import RetryBudget


@given(
    st.lists(st.tuples(st.sampled_from(["deposit", "take", "succeeded"]), st.floats(0, 1), st.integers(1, 20)), max_size=30),
    st.lists(st.tuples(st.sampled_from(["deposit", "take", "succeeded"]), st.floats(0, 1), st.integers(1, 20)), max_size=30),
    st.sampled_from([0.0, 0.5, 10.0]),
)
def test_what_is_there_only_becomes_less_whatever_happens(before: list[Any], during: list[Any], floor_per_s: float) -> None:
    budget, now = RetryBudget(floor_per_s=floor_per_s), 50.0
    for what, wait, times in before:
        now += wait
        for _ in range(times):
            getattr(budget, what)(now)
    now = math.floor(now) + 1.0
    budget.earn_nothing(now + 31.0)
    level = budget.level(now)
    for what, wait, times in during:
        now += wait
        taken = budget.taken
        for _ in range(times):
            getattr(budget, what)(now)
        assert budget.taken - taken <= level + 1e-6
        assert budget.level(now) <= level + 1e-6
        level = budget.level(now)


def test_of_the_floor_a_tenth_is_left_and_it_fills_at_its_rate_when_it_is_over() -> None:
    budget = RetryBudget(share=0.0)
    assert budget.level(0.0) == 100.0
    budget.succeeded(20.0)
    budget.earn_nothing(25.0)
    assert [budget.take(20.0) for _ in range(11)] == [True] * 10 + [False]
    budget.succeeded(24.5)
    assert budget.level(24.999) == 0.0
    budget.succeeded(25.0)
    assert budget.level(26.0) == pytest.approx(10.0)
    budget.succeeded(30.0)
    assert budget.level(30.0) == pytest.approx(50.0)


def test_the_advance_is_cut_to_a_tenth_too_and_earns_nothing_before_its_time() -> None:
    budget = RetryBudget(share=0.0)
    budget.earn_nothing(1003.0)
    budget.succeeded(1000.0)
    assert budget.level(1000.0) == 10.0, "though nobody had asked before"
    assert budget.level(1009.99) == 10.0, "it was there at the start, for ten seconds"
    budget.succeeded(1010.0)
    assert budget.level(1012.0) == pytest.approx(30.0)


def test_what_nobody_looked_at_while_it_lasted_is_earned_from_its_end_on() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=1.0)
    for _ in range(10):
        assert budget.take(0.0)
    budget.earn_nothing(30.0)
    budget.succeeded(34.0)
    assert budget.level(34.0) == pytest.approx(4.0)


def test_calls_pay_nothing_in_and_what_was_saved_before_can_be_spent() -> None:
    budget = RetryBudget(share=0.5, floor_per_s=0.0)
    for _ in range(8):
        budget.deposit(10.5)
    budget.deposit(11.0)
    budget.earn_nothing(14.0)
    for second in (11.0, 12.0, 13.0):
        for _ in range(100):
            budget.deposit(second)
        assert budget.level(second) == pytest.approx(4.0)
    assert [budget.take(13.5) for _ in range(5)] == [True] * 4 + [False]
    for _ in range(4):
        budget.deposit(14.0)
    assert budget.level(14.0) == pytest.approx(2.0), "and from then on they pay"
    assert budget.level(15.5) == pytest.approx(2.0)


def test_a_slot_that_began_before_its_end_pays_nothing() -> None:
    budget = RetryBudget(share=0.5, floor_per_s=0.0)
    budget.deposit(10.0)
    budget.earn_nothing(11.5)
    for at in (11.2, 11.2, 11.7, 11.7):
        budget.deposit(at)
    assert budget.level(12.0) == 0.0


def test_what_was_paid_in_while_it_lasted_cannot_be_spent_in_the_rest_of_its_slot_either() -> None:
    budget = RetryBudget(share=0.5, floor_per_s=0.0)
    budget.earn_nothing(11.5)
    for _ in range(100):
        budget.deposit(11.2)
    assert [budget.take(at) for at in (11.4, 11.6)] == [False, False]


def test_what_was_spent_in_the_slot_in_which_it_begins_is_no_debt() -> None:
    budget = RetryBudget(share=0.5, floor_per_s=1.0)
    for _ in range(20):
        budget.deposit(10.0)
    assert [budget.take(10.1) for _ in range(10)] == [True] * 10, "of what these have paid in"
    budget.earn_nothing(10.9)
    assert budget.level(10.2) == pytest.approx(1.0), "a tenth of the floor is left"
    assert budget.take(10.2)
    assert not budget.take(10.2)


def test_what_was_spent_in_the_slot_in_which_it_begins_costs_nothing_afterwards() -> None:
    budget = RetryBudget(share=0.5)
    for _ in range(20):
        budget.deposit(10.0)
    assert [budget.take(10.1) for _ in range(2)] == [True, True]
    budget.earn_nothing(18.0)
    assert budget.take(10.2)
    assert budget.level(11.0) == pytest.approx(9.0), "a tenth of the floor, less one"


def test_an_end_that_was_told_is_not_taken_back_by_an_earlier_one() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=1.0)
    budget.earn_nothing(30.0)
    budget.earn_nothing(15.0)
    assert [budget.take(0.0), budget.take(25.0), budget.take(32.0)] == [True, False, True]


def test_while_nothing_succeeds_a_tenth_of_what_is_left_of_the_floor_is_left() -> None:
    budget = RetryBudget(share=0.0)
    for second in range(21):
        budget.deposit(float(second))
    assert budget.level(20.0) == 25.0
    budget.earn_nothing(22.0)
    assert budget.level(20.0) == 2.5


def test_in_shadow_and_off_nothing_is_denied_while_it_lasts() -> None:
    for mode, would in (("shadow", 4), ("off", 0)):
        budget = RetryBudget(share=0.0, floor_per_s=1.0, mode=mode)  # type: ignore[arg-type]
        budget.earn_nothing(20.0)
        assert all(budget.take(10.0) for _ in range(5))
        assert (budget.would, budget.denied) == (would, 0)
