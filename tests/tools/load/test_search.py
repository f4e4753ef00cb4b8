"""The search for the highest rate, against servers that hold up to a known one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.tools.load.search import CLOSE_ENOUGH, STEPS_MAX, MaxSearch


def searched(start: float, holds_up_to: float, *, generator_up_to: float = 1e12) -> MaxSearch:
    """Search with a measurement that holds below a rate; above another the generator is the limit."""
    search = MaxSearch(start)
    while not search.over:
        limited = "the client process used 100% of a core" if search.rate > generator_up_to else ""
        search.tell(search.rate <= min(holds_up_to, generator_up_to), limited)
    return search


@given(st.floats(1, 1e6), st.floats(2, 1e6))
def test_it_finds_the_highest_rate_from_wherever_it_starts(start: float, true: float) -> None:
    search = searched(start, true)
    assert search.best is not None
    assert search.best <= true
    assert search.best * (1 + CLOSE_ENOUGH) >= true * (1 - 1e-9)
    assert len(search.tried) < STEPS_MAX


def test_it_doubles_then_halves_in_between() -> None:
    assert [step.rate for step in searched(100, 1000).tried] == [100, 200, 400, 800, 1600, 1200, 1000, 1100, 1050]


def test_it_says_why_it_ended() -> None:
    assert searched(100, 1000).over == "1,050/s does not hold, and that is within 5%"


def test_a_start_that_is_too_high_is_halved() -> None:
    search = searched(1000, 100)
    assert [step.rate for step in search.tried][:4] == [1000, 500, 250, 125]
    assert search.best is not None


def test_when_nothing_holds_there_is_no_rate() -> None:
    search = searched(8, 0.1)
    assert search.best is None
    assert search.over == "it does not hold at 1/s either"


def test_the_limit_of_the_generator_is_not_the_servers() -> None:
    search = searched(100, 5000, generator_up_to=500)
    assert [step.rate for step in search.tried] == [100, 200, 400, 800, 800]
    assert search.best == 400
    assert search.over == "at 800/s the generator was the limit, so the server may do more: the client process used 100% of a core"


def test_a_moment_of_the_generators_is_tried_again() -> None:
    search = MaxSearch(100)
    search.tell(False, "late")
    assert (search.rate, search.over) == (100, "")
    search.tell(True)
    assert (search.best, search.rate) == (100, 200)


def test_a_step_that_holds_counts_though_the_generator_was_busy() -> None:
    search = MaxSearch(100)
    search.tell(True, "busy")
    assert (search.best, search.rate, search.over) == (100, 200, "")


def test_it_ends_in_any_case() -> None:
    search = MaxSearch(1)
    for _ in range(STEPS_MAX):
        assert not search.over
        search.tell(True)
    assert search.over == f"{STEPS_MAX} steps were tried"


@pytest.mark.parametrize("held", [True, False])
def test_each_step_is_remembered(held: bool) -> None:
    search = MaxSearch(10)
    search.tell(held)
    assert search.tried == [(10, held, "")]
