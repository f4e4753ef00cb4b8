"""One listener's failure is its own."""

from __future__ import annotations

import pytest

from holdfast.facts import Fact, Listening, discard
from holdfast.observe.fan import EmitFailed, fan_out

A, B = Listening(address="a"), Listening(address="b")


def test_every_listener_gets_every_fact_in_order() -> None:
    first: list[Fact] = []
    second: list[Fact] = []
    emit = fan_out(first.append, second.append)
    emit(A)
    emit(B)
    assert first == second == [A, B]


@pytest.mark.parametrize("emits", [(), (discard,), (discard, discard)])
def test_nobody_listening_costs_nothing(emits: tuple[object, ...]) -> None:
    assert fan_out(*emits) is discard  # type: ignore[arg-type]


def test_a_listener_that_raises_is_taken_out_and_the_others_are_told() -> None:
    calls: list[Fact] = []
    heard: list[Fact] = []
    failure = RuntimeError("broken")

    def broken(fact: Fact) -> None:
        calls.append(fact)
        raise failure

    emit = fan_out(broken, heard.append)
    emit(A)
    emit(B)
    assert calls == [A]
    told = heard[1]
    assert isinstance(told, EmitFailed)
    assert told.error is failure
    assert "broken" in told.listener
    assert [heard[0], heard[2]] == [A, B]


def test_all_listeners_may_fail() -> None:
    calls: list[int] = []

    def one(fact: Fact) -> None:
        calls.append(1)
        raise ValueError

    def two(fact: Fact) -> None:
        calls.append(2)
        raise ValueError

    emit = fan_out(one, two)
    emit(A)
    emit(B)
    assert calls == [1, 2, 2]
