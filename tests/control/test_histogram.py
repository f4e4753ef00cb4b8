"""The histogram against the sorted list of what was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.histogram import BUCKETS, Histogram, upper_edge_s

durations = st.floats(1.1e-6, 4000)


def recorded(*seconds: float) -> Histogram:
    histogram = Histogram()
    for duration in seconds:
        histogram.record(duration)
    return histogram


def test_an_empty_one_answers_zero() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.max, histogram.percentile(99)) == (0, 0.0, 0.0)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0, 100))
def test_a_percentile_is_never_below_the_truth_and_at_most_an_eighth_above(values: list[float], p: float) -> None:
    histogram = recorded(*values)
    ordered = sorted(values)
    rank = next(n for n in range(1, len(ordered) + 1) if n >= len(ordered) * p / 100)
    truth = ordered[rank - 1]
    assert truth <= histogram.percentile(p) <= min(truth * 1.125, ordered[-1]) * (1 + 1e-12)


@given(st.lists(durations, max_size=50), st.lists(durations, max_size=50))
def test_two_merged_are_one_that_saw_both(left: list[float], right: list[float]) -> None:
    merged = recorded(*left)
    merged.merge(recorded(*right))
    both = recorded(*left, *right)
    assert merged.snapshot().counts == both.snapshot().counts
    assert (merged.count, merged.max) == (both.count, both.max)
    assert merged.sum == pytest.approx(both.sum)


def test_a_snapshot_does_not_change_and_can_be_merged() -> None:
    histogram = recorded(0.001, 0.002)
    snapshot = histogram.snapshot()
    histogram.record(5.0)
    assert (snapshot.count, snapshot.max_s) == (2, 0.002)
    other = Histogram()
    other.merge(snapshot)
    assert other.snapshot() == snapshot


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-9, 5e-324])
def test_what_is_too_short_to_tell_is_counted_as_the_shortest(seconds: float) -> None:
    assert recorded(seconds).snapshot().counts[0] == 1


def test_what_is_longer_than_an_hour_is_counted_last_and_its_maximum_is_exact() -> None:
    histogram = recorded(1e6)
    assert histogram.snapshot().counts[-1] == 1
    assert histogram.percentile(50) == 1e6


def test_memory_is_fixed() -> None:
    histogram = recorded(*(1e-7 * 1.1**n for n in range(300)))
    assert len(histogram.snapshot().counts) == BUCKETS == 258
    assert histogram.count == 300


def test_edges_rise_and_each_bucket_holds_what_lies_under_its_edge() -> None:
    edges = [upper_edge_s(bucket) for bucket in range(BUCKETS - 1)]
    assert edges == sorted(set(edges))
    for bucket in range(1, BUCKETS - 1):
        below = edges[bucket - 1]
        assert recorded(below).snapshot().counts[bucket] == 1


@pytest.mark.parametrize("p", [-1, 101])
def test_a_percentile_outside_0_to_100_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        Histogram().percentile(p)


def test_a_histogram_of_another_shape_is_not_merged() -> None:
    strange = type(Histogram().snapshot())(counts=(1, 2), count=3, sum_s=1.0, max_s=1.0)
    with pytest.raises(ValueError, match="2 buckets"):
        Histogram().merge(strange)
