"""The record of operations, and the checkers that read it in one pass; each of them against a second, slower way to say the same."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim.history import FOR_EVER, UNSEEN, History, InvariantBroken, Verdict, exactly_once, sessions

ids = st.integers(0, 5)


class Clock:
    """A clock that goes on by a second each time somebody looks."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        self.at += 1.0
        return self.at


# ------------------------------------------------------------------------------------------------------------------ the record


def test_an_operation_has_its_times_its_result_and_its_place_in_the_order() -> None:
    history = History(Clock().now)
    with history.call("c1", "write", "k", 7):
        with history.call("c2", "read", "k") as call:
            call.result = 7
    write, read = history.operations
    assert (write.name, write.key, write.args, write.ending, write.result) == ("write", "k", (7,), "ok", UNSEEN)
    assert (read.process, read.result, read.invoked_at, read.returned_at) == ("c2", 7, 2.0, 3.0)
    assert write.invoked < read.invoked < read.returned < write.returned
    assert str(read) == "read('k') by c2 at 2.000 s → 7 (returned at 3.000 s)"
    assert len(history) == 2


@pytest.mark.parametrize("error", [TimeoutError(), asyncio.CancelledError(), ConnectionResetError()])
def test_an_operation_left_by_an_error_has_an_unknown_outcome_and_never_returned(error: BaseException) -> None:
    history = History(Clock().now)
    with pytest.raises(type(error)), history.call("c", "add", "k", 1) as call:
        call.result = 5
        raise error
    (operation,) = history.operations
    assert (operation.ending, operation.returned, operation.returned_at, operation.result) == ("unknown", FOR_EVER, math.inf, UNSEEN)
    assert str(operation).endswith("which never returned")


@pytest.mark.parametrize("raises", [False, True])
def test_only_who_knows_says_that_it_failed(raises: bool) -> None:
    history = History(Clock().now)
    try:
        with history.call("c", "add", "k", 1) as call:
            call.failed()
            if raises:
                raise ConnectionRefusedError
    except ConnectionRefusedError:
        assert raises
    assert history.operations[0].ending == "failed"
    assert str(history.operations[0]).endswith("which failed")


def test_an_operation_whose_process_died_in_it_is_unknown() -> None:
    history = History(Clock().now)
    history.call("c", "write", "k", 1).__enter__()
    assert [each.ending for each in history.operations] == ["unknown"]
    assert len(history) == 1


def test_a_verdict_requires_by_raising_what_is_wrong() -> None:
    Verdict(invariant="all is well").require()
    assert str(Verdict(invariant="all is well")) == "all is well: holds"
    bad = Verdict(invariant="all is well", problems=("it is not", "nor is this"))
    with pytest.raises(InvariantBroken, match="all is well: it is not; nor is this") as raised:
        bad.require()
    assert raised.value.invariant == "all is well"
    assert isinstance(raised.value, AssertionError)


# ------------------------------------------------------------------------------------------------------------------ exactly once


@pytest.mark.parametrize(
    ("acked", "applied", "unknown", "failed", "problems"),
    [
        ([1, 2], [2, 1], [], [], []),
        ([1], [1], [2, 3], [], []),
        ([1], [1, 3], [2, 3], [4], []),
        ([1, 2], [1], [], [], ["2 was acknowledged and is not there"]),
        ([1], [1, 1, 1], [], [], ["1 was applied more than once (3 times)"]),
        ([], [2, 2], [2], [], ["2 was applied more than once (2 times)"]),
        ([], [4], [], [4], ["4 was refused and is there all the same"]),
        ([], ["x"], [], [], ["'x' is there and nobody asked for it"]),
        ([4], [4], [], [4], []),  # refused once, asked again
    ],
)
def test_effects_against_what_callers_were_told(
    acked: list[object], applied: list[object], unknown: list[object], failed: list[object], problems: list[str]
) -> None:
    verdict = exactly_once(acked=acked, applied=applied, unknown=unknown, failed=failed)
    assert list(verdict.problems) == problems
    assert verdict.ok == (not problems)


def test_a_thousand_lost_effects_are_five_and_a_number() -> None:
    problems = exactly_once(acked=range(1000), applied=[]).problems
    assert len(problems) == 6
    assert problems[-1] == "and 995 more like it"


@given(acked=st.lists(ids, unique=True), unknown=st.lists(ids, unique=True), applied=st.lists(ids))
def test_exactly_once_says_what_counting_every_possible_world_says(acked: list[int], unknown: list[int], applied: list[int]) -> None:
    """Brute force: which multisets of effects are possible? Every acked one once, and any subset of the unknown ones."""
    open_ = [each for each in unknown if each not in acked]
    worlds = [Counter([*acked, *(each for number, each in enumerate(open_) if chosen >> number & 1)]) for chosen in range(1 << len(open_))]
    assert exactly_once(acked=acked, applied=applied, unknown=unknown).ok == (Counter(applied) in worlds)


# ---------------------------------------------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize(
    ("received", "problems"),
    [
        ([0, 1, 2, 3], []),
        ([0, 1, 2], ["session 's': the last 1 of 4 items never came, from 3 on"]),
        ([0, 2, 3], ["session 's': after 0 came 2: 1 left out"]),
        ([1, 2, 3], ["session 's': first came 1: 0 left out"]),
        ([0, 1, 1, 2, 3], ["session 's': 1 came twice, at places 1 and 2"]),
        ([0, 1, 9, 2, 3], ["session 's': 9 came at place 2, and was never sent"]),
        ([0, 2, 1, 3], ["session 's': after 0 came 2: 1 left out", "session 's': 1 came at place 2, after 2, which was sent after it"]),
    ],
)
def test_a_session_in_order_without_gap_or_repeat(received: list[int], problems: list[str]) -> None:
    assert list(sessions({"s": range(4)}, {"s": received}).problems) == problems


def test_a_session_that_is_not_over_may_lack_its_end_and_only_that() -> None:
    assert sessions({"s": range(4)}, {"s": [0, 1]}, complete=False).ok
    assert sessions({"s": range(4)}, {}, complete=False).ok
    assert not sessions({"s": range(4)}, {"s": [0, 2]}, complete=False).ok
    assert not sessions({}, {"s": [1]}, complete=False).ok


def test_items_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="number the items"):
        sessions({"s": ["a", "a"]}, {})


@given(count=st.integers(0, 5), received=st.lists(ids, max_size=7), complete=st.booleans())
def test_sessions_say_what_comparing_with_every_prefix_says(count: int, received: list[int], complete: bool) -> None:
    sent: Sequence[int] = range(count)
    allowed = [list(sent)] if complete else [list(sent[:end]) for end in range(count + 1)]
    assert sessions({"s": sent}, {"s": received}, complete=complete).ok == (received in allowed)
