"""Back-off: clamped before the jitter, spread as said, never above its cap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.backoff import equal_jitter, full_jitter


class Most(random.Random):
    """Dice that always show the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Least(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.mark.parametrize(("attempt", "most"), [(0, 0.1), (1, 0.2), (3, 0.8), (4, 1.0), (1000, 1.0)])
def test_it_doubles_up_to_the_cap(attempt: int, most: float) -> None:
    for jitter in (full_jitter, equal_jitter):
        assert jitter(Most(), attempt, base_s=0.1, cap_s=1.0) == pytest.approx(most)


def test_full_jitter_begins_at_nothing_and_equal_jitter_at_half() -> None:
    assert full_jitter(Least(), 2, base_s=0.1, cap_s=1.0) == 0.0
    assert equal_jitter(Least(), 2, base_s=0.1, cap_s=1.0) == pytest.approx(0.2)


@given(st.integers(0, 10**6), st.integers(0, 2**32))
def test_it_stays_in_its_range_and_is_not_always_the_cap(attempt: int, seed: int) -> None:
    rng = random.Random(seed)
    assert 0.0 <= full_jitter(rng, attempt, base_s=0.025, cap_s=1.0) <= 1.0
    drawn = [equal_jitter(rng, attempt, base_s=0.1, cap_s=30.0) for _ in range(5)]
    assert all(0.05 <= each <= 30.0 for each in drawn)
    assert len({round(each, 12) for each in drawn}) > 1, "clamped after the jitter, everybody would come back at once"
