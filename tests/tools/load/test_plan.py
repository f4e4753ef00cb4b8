"""Who sends which call when: shares, numbers and due moments."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.tools.load.plan import Plan


@given(processes=st.integers(1, 20), extra=st.integers(0, 50))
def test_the_shares_are_the_whole_and_differ_by_one_at_most(processes: int, extra: int) -> None:
    plan = Plan(concurrency=processes + extra, processes=processes, connections=processes + extra, outstanding_max=processes + extra)
    shares = [plan.share(process) for process in range(processes)]
    for name in ("concurrency", "connections", "outstanding_max"):
        parts = [getattr(share, name) for share in shares]
        assert sum(parts) == processes + extra
        assert min(parts) >= 1
        assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_no_number_belongs_to_two_processes(processes: int) -> None:
    plan = Plan(rate=100, processes=processes, connections=processes)
    shares = [plan.share(process) for process in range(processes)]
    numbers = [n for share in shares for n in itertools.islice(itertools.count(share.first, share.stride), 50)]
    assert sorted(numbers) == list(range(50 * processes))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_constant_arrivals_of_all_processes_are_one_even_row(processes: int) -> None:
    plan = Plan(rate=500, processes=processes, connections=processes)
    rows = [itertools.islice(plan.due(process, random.Random(1)), 100) for process in range(processes)]
    due = sorted(itertools.chain(*rows))
    assert due == [pytest.approx(n / 500) for n in range(100 * processes)]


def test_constant_arrivals_do_not_drift() -> None:
    late = next(itertools.islice(Plan(rate=3).due(0, random.Random(1)), 3_000_000, None))
    assert late == 1_000_000.0


def test_poisson_arrivals_keep_the_rate_and_vary_as_they_should() -> None:
    plan = Plan(rate=1000, arrivals="poisson", processes=2, connections=2)
    due = list(itertools.islice(plan.due(0, random.Random(7)), 20_000))
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 500, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)  # of an exponential distribution they are equal
    assert min(gaps) >= 0


def test_poisson_arrivals_repeat_with_the_seed_and_differ_without() -> None:
    plan = Plan(rate=10, arrivals="poisson")
    first, again, other = (list(itertools.islice(plan.due(0, random.Random(seed)), 5)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "either a rate"),
        ({"rate": 1.0, "concurrency": 1}, "either a rate"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": float("inf")}, "above 0"),
        ({"rate": 1.0, "duration_s": 0.0}, "a duration of 0.0 s"),
        ({"rate": 1.0, "warmup_s": -1.0}, "a warm-up of -1.0 s"),
        ({"rate": 1.0, "deadline_s": 0.0}, "a deadline of 0.0 s"),
        ({"rate": 1.0, "deadline_s": float("inf")}, "and an end"),
        ({"rate": 1.0, "processes": 2, "connections": 1}, "connections=1 for 2 processes"),
        ({"concurrency": 1, "processes": 2, "connections": 2}, "concurrency=1 for 2 processes"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**given)  # type: ignore[arg-type]


def test_slots_are_a_hundredth_of_the_run_and_not_too_short() -> None:
    assert Plan(rate=1, duration_s=60).slot_s == 0.6
    assert Plan(rate=1, duration_s=1).slot_s == 0.1
    assert Plan(rate=1, duration_s=0.25).slot_s == 0.125
    assert Plan(rate=1, duration_s=0.01).slot_s == 0.01
