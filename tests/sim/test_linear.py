"""Linearizability: known histories, words, and the search against trying every order there is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.sim.history import FOR_EVER, UNSEEN, History, Operation
from holdfast.sim.linear import Counter, Members, Model, Register, TooWide, linearizable


def op(name: str, *args: Any, at: tuple[int, int | None], result: Any = UNSEEN, key: str = "k", process: str = "c") -> Operation:
    """An operation between two places; without an end it is unknown."""
    begin, end = at
    return Operation(
        process=process,
        name=name,
        key=key,
        args=args,
        ending="unknown" if end is None else "ok",
        result=result,
        invoked=begin,
        returned=FOR_EVER if end is None else end,
        invoked_at=float(begin),
        returned_at=float(end or 0),
    )


WRITE_1 = op("write", 1, at=(1, 2))


@pytest.mark.parametrize(
    ("history", "holds"),
    [
        ([WRITE_1, op("read", at=(3, 4), result=1)], True),
        ([WRITE_1, op("read", at=(3, 4), result=None)], False),  # stale
        ([op("write", 1, at=(1, 4)), op("read", at=(2, 3), result=None)], True),  # they overlap: either order
        ([op("write", 1, at=(1, 4)), op("read", at=(2, 3), result=1)], True),
        ([op("write", 1, at=(1, 8)), op("read", at=(2, 3), result=1), op("read", at=(4, 5), result=None)], False),  # new, then old again
        ([op("write", 1, at=(1, None)), op("read", at=(2, 3), result=None), op("read", at=(4, 5), result=1)], True),  # takes effect later
        ([op("write", 1, at=(1, None)), op("read", at=(2, 3), result=1), op("read", at=(4, 5), result=None)], False),  # not undone
        ([op("write", 1, at=(1, None)), op("write", 2, at=(2, 3)), op("read", at=(4, 5), result=1)], True),  # later than the second
        ([op("read", at=(1, 2), result=1), op("write", 1, at=(3, 4))], False),  # from the future
        ([WRITE_1, op("cas", 1, 2, at=(3, 4), result=True), op("read", at=(5, 6), result=2)], True),
        ([WRITE_1, op("cas", 1, 2, at=(3, 6), result=True), op("cas", 1, 3, at=(4, 5), result=True)], False),  # both cannot win
        ([WRITE_1, op("read", at=(3, 4))], True),  # nobody looked
    ],
)
def test_a_register(history: list[Operation], holds: bool) -> None:
    assert linearizable(history, Register()).ok == holds


def test_a_counter_shows_a_lost_and_a_doubled_addition() -> None:
    adds = [op("add", 1, at=(1, 4), result=1), op("add", 1, at=(2, 5), result=2)]
    assert linearizable([*adds, op("read", at=(6, 7), result=2)], Counter()).ok
    assert not linearizable([op("add", 1, at=(1, 4), result=1), op("add", 1, at=(2, 5), result=1)], Counter()).ok
    assert not linearizable([*adds, op("read", at=(6, 7), result=3)], Counter()).ok


def test_a_set_knows_who_added_first() -> None:
    first, second = op("add", "x", at=(1, 4), result=True), op("add", "x", at=(2, 3), result=False)
    assert linearizable([first, second, op("has", "x", at=(5, 6), result=True)], Members()).ok
    assert not linearizable([first, op("add", "x", at=(2, 3), result=True)], Members()).ok
    gone = op("remove", "x", at=(7, 8), result=True)
    assert linearizable([first, gone, op("read", at=(9, 10), result=frozenset())], Members()).ok


def test_an_operation_that_surely_failed_does_not_count() -> None:
    with pytest.raises(ConnectionError), (history := History(lambda: 0.0)).call("c", "write", "k", 9) as call:
        call.failed()
        raise ConnectionError
    with history.call("c", "read", "k") as read:
        read.result = None
    assert linearizable(history.operations, Register()).ok


def test_keys_are_judged_by_themselves_and_the_wrong_one_is_named() -> None:
    history = [WRITE_1, op("read", at=(3, 4), result=1), op("write", 5, at=(5, 6), key="b"), op("read", at=(7, 8), result=None, key="b")]
    (problem,) = linearizable(history, Register()).problems
    assert problem == (
        "no order of the operations on 'b' explains read('b') by c at 7.000 s → None (returned at 8.000 s); it could have answered 5"
        " (before it: write('b', 5) by c at 5.000 s (returned at 6.000 s))"
    )


def test_the_first_operation_that_cannot_be_explained_is_blamed_with_all_it_could_have_said() -> None:
    history = [
        WRITE_1,
        op("write", 2, at=(3, 8), process="d"),
        op("read", at=(4, 5), result=7),
        op("read", at=(9, 10), result=8),
    ]
    (problem,) = linearizable(history, Register()).problems
    assert "explains read('k') by c at 4.000 s → 7" in problem
    assert "it could have answered 1 or 2 " in problem or "it could have answered 2 or 1 " in problem


def test_an_operation_the_model_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="Register has no operation 'push'; it knows read, write and cas"):
        linearizable([op("push", 1, at=(1, 2))], Register())


def test_a_history_that_is_too_wide_is_an_error_and_not_an_answer() -> None:
    history = [*(op("add", 1 << n, at=(n, None)) for n in range(20)), op("read", at=(100, 101), result=-1)]
    with pytest.raises(TooWide, match="overlap too widely: over 1000 configurations"):
        linearizable(history, Counter(), configurations_max=1000)


def test_a_long_history_of_few_clients_is_quick() -> None:
    history = [op("add", 1, at=(2 * n, 2 * n + 3), result=n + 1) for n in range(2000)]
    assert linearizable(history, Counter(), configurations_max=10_000).ok


# ------------------------------------------------------------------------------------------------------------------- brute force


def by_brute_force(history: Sequence[Operation], model: Model) -> bool:
    """Every subset of the unknown operations, in every order with all others."""
    sure = [each for each in history if each.ending == "ok"]
    maybe = [each for each in history if each.ending == "unknown"]
    for count in range(len(maybe) + 1):
        for some in itertools.combinations(maybe, count):
            if any(_legal(order, model) for order in itertools.permutations([*sure, *some])):
                return True
    return False


def _legal(order: Sequence[Operation], model: Model) -> bool:
    for number, each in enumerate(order):
        if any(later.returned < each.invoked for later in order[number + 1 :]):
            return False
    state: Any = model.initial()
    for each in order:
        state, answer = model.step(state, each.name, each.args)
        if each.result is not UNSEEN and each.result != answer:
            return False
    return True


register_calls = st.one_of(
    st.tuples(st.just("write"), st.tuples(st.integers(0, 2)), st.just(None)),
    st.tuples(st.just("read"), st.just(()), st.one_of(st.none(), st.integers(0, 2))),
    st.tuples(st.just("cas"), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.booleans()),
)
counter_calls = st.one_of(
    st.tuples(st.just("add"), st.tuples(st.integers(1, 2)), st.integers(1, 5)),
    st.tuples(st.just("read"), st.just(()), st.integers(0, 5)),
)
set_calls = st.one_of(
    st.tuples(st.sampled_from(["add", "remove", "has"]), st.tuples(st.sampled_from("ab")), st.booleans()),
    st.tuples(st.just("read"), st.just(()), st.frozensets(st.sampled_from("ab"))),
)


@st.composite
def histories(draw: st.DrawFn, calls: st.SearchStrategy[Any]) -> list[Operation]:
    """Up to five operations at any places, some of which never return."""
    count = draw(st.integers(1, 5))
    places = draw(st.permutations(range(2 * count)))
    found = []
    for number in range(count):
        name, args, result = draw(calls)
        begin, end = sorted(places[2 * number : 2 * number + 2])
        unknown = draw(st.integers(0, 3)) == 0
        found.append(op(name, *args, at=(begin, None if unknown else end), result=UNSEEN if unknown else result))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "model"), [(register_calls, Register()), (counter_calls, Counter()), (set_calls, Members())])
@settings(max_examples=400)
@given(data=st.data())
def test_the_search_says_what_trying_everything_says(calls: st.SearchStrategy[Any], model: Model, data: st.DataObject) -> None:
    history = data.draw(histories(calls))
    assert linearizable(history, model).ok == by_brute_force(history, model)


def outcomes_of_a_real_thing(draws: Sequence[int], model: Model) -> list[Operation]:
    """A history that is right by construction: operations take effect at one moment between their call and their return."""
    state: Any = model.initial()
    found = []
    for number, value in enumerate(draws):
        name, args = ("read", ()) if value % 3 == 0 else ("write", (value,))
        state, answer = model.step(state, name, args)
        effect = 10 * number
        found.append(op(name, *args, at=(effect - value % 15, effect + 1 + value % 14), result=answer))
    return found


@given(st.lists(st.integers(0, 100), max_size=25))
def test_what_really_happened_in_some_order_is_always_accepted(draws: list[int]) -> None:
    history = outcomes_of_a_real_thing(draws, Register(value=0))
    assert linearizable(history, Register(value=0)).ok
