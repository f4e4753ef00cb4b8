"""Where two traces part."""

from __future__ import annotations

from holdfast.sim.divergence import NOTHING, first_divergence


def test_equal_traces_do_not_part() -> None:
    assert first_divergence([1, (2, "a")], [1, (2, "a")]) is None
    assert first_divergence([], []) is None


def test_the_first_event_that_differs_is_told_with_what_came_before() -> None:
    found = first_divergence(range(10), [*range(7), "x", 8, 9])
    assert found is not None
    assert (found.at, found.one, found.other) == (7, "7", "x")
    assert found.before == ("3", "4", "5", "6")
    assert str(found).splitlines() == ["the traces part at event 7:", "    3", "    4", "    5", "    6", "  1 7", "  2 x"]


def test_a_trace_that_ends_early_differs_where_it_ends() -> None:
    found = first_divergence([1, 2], [1])
    assert found is not None
    assert (found.at, found.one, found.other) == (1, "2", NOTHING)
