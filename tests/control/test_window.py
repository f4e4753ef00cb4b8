"""Exact counts of the last so many seconds: against a list of everything that happened, and what they cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.window import Window

# Times are eighths of a second, which floats hold exactly: then the model's buckets and ours cannot differ by a rounding.
steps = st.lists(st.tuples(st.integers(0, 200).map(lambda n: n / 8), st.booleans()), max_size=120)


def count(window: Window, now: float, good: bool) -> None:
    if now >= window.rolls_at:
        window.roll(now)
    if good:
        window.good += 1
    else:
        window.bad += 1


def test_what_is_older_than_the_window_is_let_go_a_bucket_at_a_time() -> None:
    window = Window(10, 3.0)
    for second in range(30):
        count(window, float(second), good=second % 3 == 0)
    assert (window.good, window.bad) == (10, 20)
    window.roll(29.9)
    assert (window.good, window.bad) == (10, 20)
    window.roll(30.0)
    assert (window.good, window.bad) == (9, 18)
    window.roll(58.0)
    assert (window.good, window.bad) == (0, 0)


def test_a_long_silence_empties_it_and_counting_goes_on() -> None:
    window = Window(4, 0.5, now=10.0)
    count(window, 10.1, good=True)
    count(window, 1e9, good=False)
    assert (window.good, window.bad) == (0, 1)
    assert window.rolls_at > 1e9


def test_a_burst_of_failures_is_not_hidden_by_how_close_together_they_are() -> None:
    window = Window(10, 3.0)
    for second in range(20):
        count(window, float(second), good=True)
    for _ in range(100):
        count(window, 20.0, good=False)
    assert (window.good, window.bad) == (20, 100)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    window = Window(2, 1.0)
    count(window, 5.0, good=True)
    window.roll(1.0)
    count(window, 0.5, good=False)
    assert (window.good, window.bad, window.rolls_at) == (1, 1, 6.0)


def test_reset_forgets_the_counts_and_keeps_the_buckets_in_step() -> None:
    window = Window(3, 1.0)
    for second in range(3):
        count(window, float(second), good=True)
    window.reset()
    assert (window.good, window.bad, window.rolls_at) == (0, 0, 3.0)
    for second in range(3, 9):
        count(window, float(second), good=False)
    assert (window.good, window.bad) == (0, 3)


@pytest.mark.parametrize(("buckets", "bucket_s"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, math.inf), (1, math.nan)])
def test_numbers_that_make_no_sense_are_refused(buckets: int, bucket_s: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Window(buckets, bucket_s)


@given(st.integers(1, 12), st.sampled_from([0.125, 1.0, 3.0]), steps, st.sampled_from([0.0, 1000.0]))
def test_it_is_what_a_list_of_everything_says(buckets: int, bucket_s: float, moves: list[tuple[float, bool]], origin: float) -> None:
    window, now, seen = Window(buckets, bucket_s, now=origin), origin, list[tuple[int, bool]]()
    for wait, good in moves:
        now += wait
        count(window, now, good)
        current = int((now - origin) // bucket_s)
        seen.append((current, good))
        recent = [good for bucket, good in seen if bucket > current - buckets]
        assert (window.good, window.bad) == (recent.count(True), recent.count(False))
        assert origin + (current + 1) * bucket_s == window.rolls_at


@given(st.lists(st.floats(0, 1e7, allow_nan=False), max_size=60))
def test_no_times_at_all_bring_a_count_below_nothing(times: list[float]) -> None:
    window = Window(10, 3.0)
    for now in times:
        count(window, now, good=True)
        assert 1 <= window.good <= len(times)
        assert window.bad == 0
