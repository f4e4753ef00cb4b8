"""Buckets: never more than a burst at once and the rate in the long run, and a table that strangers cannot grow or empty."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.bucket import LOOKED_AT_MAX, SourceBuckets, TokenBucket

steps = st.lists(st.tuples(st.floats(0, 10, allow_subnormal=False), st.integers(1, 5)), max_size=60)


def test_a_new_bucket_is_full_and_then_empty() -> None:
    bucket = TokenBucket(10.0, 3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_it_refills_at_its_rate_and_no_further_than_its_burst() -> None:
    bucket = TokenBucket(2.0, 3)
    assert bucket.take(0.0, 3)
    assert not bucket.take(0.25)
    assert bucket.take(0.5)
    assert bucket.take(1000.0, 3)
    assert not bucket.take(1000.0)


def test_several_are_taken_together_or_not_at_all() -> None:
    bucket = TokenBucket(1.0, 5)
    assert bucket.take(0.0, 3)
    assert not bucket.take(0.0, 3)
    assert bucket.take(0.0, 2)


def test_more_than_a_burst_is_never_there() -> None:
    assert not TokenBucket(1.0, 5).take(1e9, 6)


def test_a_clock_that_goes_back_refills_nothing() -> None:
    bucket = TokenBucket(1.0, 1)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.inf, 1), (math.nan, 1), (1, 0), (1, 0.5), (1, math.inf), (1, math.nan)])
def test_numbers_that_make_no_sense_are_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="expected a"):
        TokenBucket(rate, burst)


@given(st.floats(0.5, 100), st.integers(1, 20), steps)
def test_in_no_window_does_more_pass_than_burst_and_rate_allow(rate: float, burst: int, moves: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 1000.0, list[tuple[float, int]]()
    for wait, count in moves:
        now += wait
        if bucket.take(now, count):
            taken.append((now, count))
    for start in range(len(taken)):
        passed = 0
        for at, count in taken[start:]:
            passed += count
            assert passed <= burst + (at - taken[start][0]) * rate + 1e-6


@given(st.floats(0.5, 100), st.integers(1, 20))
def test_whoever_keeps_to_the_rate_is_never_refused(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    assert all(bucket.take(1000.0 + n * (1.001 / rate)) for n in range(200))


# ------------------------------------------------------------------------------------------------------------- by source


def test_each_source_has_its_own() -> None:
    buckets = SourceBuckets(1.0, 2, sources_max=10)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert buckets.take("b", 0.0)


def test_a_full_table_gives_the_place_of_one_that_is_full_again() -> None:
    buckets = SourceBuckets(1.0, 2, sources_max=2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.5)
    assert buckets.take("c", 1.0), "a's token came back, so a's place holds nothing"
    assert ("a" in buckets, "b" in buckets, "c" in buckets) == (False, True, True)


def test_the_longest_unused_is_the_one_that_goes() -> None:
    buckets = SourceBuckets(1.0, 2, sources_max=2)
    for source in ("a", "b", "a"):
        assert buckets.take(source, 0.0)
    assert buckets.take("c", 10.0)
    assert ("a" in buckets, "b" in buckets) == (True, False)


def test_strangers_share_one_bucket_while_all_places_are_in_debt() -> None:
    buckets = SourceBuckets(1.0, 2, sources_max=2)
    for known in ("a", "b"):
        assert buckets.take(known, 0.0, 2)
    passed = [buckets.take(f"stranger {n}", 0.0) for n in range(1000)]
    assert sum(passed) == 2
    assert len(buckets) == 2
    assert not buckets.take("a", 0.5), "a did not get rid of its debt"


def test_a_few_debtors_in_front_do_not_close_the_table() -> None:
    buckets = SourceBuckets(1.0, 100, sources_max=LOOKED_AT_MAX)
    for n in range(LOOKED_AT_MAX - 1):
        assert buckets.take(n, 0.0, 100)
    assert buckets.take("light", 0.0)
    assert buckets.take("new", 2.0)
    assert "new" in buckets
    assert "light" not in buckets


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 0.5)), max_size=200))
def test_the_table_never_outgrows_its_bound_and_no_source_its_rate(moves: list[tuple[int, float]]) -> None:
    buckets, now, passed = SourceBuckets(5.0, 3, sources_max=4), 0.0, 0
    for source, wait in moves:
        now += wait
        passed += buckets.take(source, now)
        assert len(buckets) <= 4
    # Four places and the shared one; a place changes hands only when it is full again.
    assert passed <= 5 * (3 + now * 5.0) + 1e-6


@pytest.mark.parametrize(("rate", "burst", "places"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_table_that_makes_no_sense_is_refused(rate: float, burst: float, places: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        SourceBuckets(rate, burst, sources_max=places)
