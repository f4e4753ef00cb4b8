"""The breaker while most nodes are too slow at once: closed again, if slowness is what opened it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from holdfast.facts import BreakerChanged, Fact
from holdfast.handler import Mode
from holdfast.policy.breaker import STRAY, Breaker
from tests.policy.test_breaker import make

IT_IS_THE_LOAD = "most nodes are too slow: it is the load"


def tripped(by_load: bool = True, mode: Mode = "enforce", emit: Any = None) -> Breaker:
    """Open from 0.0 until 3.75."""
    breaker = make(mode, **({} if emit is None else {"emit": emit}))
    for _ in range(5):
        breaker.failed(0.0, breaker.era, by_load=by_load)
    return breaker


def how(breaker: Breaker) -> tuple[str, bool, float]:
    return breaker.state, breaker.shut, breaker.retry_at


def test_what_slowness_opened_is_closed_and_starts_anew() -> None:
    facts: list[Fact] = []
    changed: list[Any] = []
    breaker = tripped(emit=facts.append)
    breaker.owner, breaker.on_change = "the node", changed.append
    stray, before = breaker.enter(1.0), breaker.era
    assert breaker.excuse(2.0)
    assert how(breaker) == ("closed", False, 0.0)
    assert facts[1:] == [BreakerChanged("n1", "closed", IT_IS_THE_LOAD, 0.0, True)]
    assert changed == ["the node"]
    assert (breaker.row, breaker.good, breaker.bad, breaker.since) == (0, 0, 0, 2.0)
    assert breaker.era > 1 > before
    breaker.failed(2.5, stray)
    breaker.failed(2.5, 1)
    assert (breaker.row, breaker.bad) == (0, 0), "what began before says nothing"
    for _ in range(5):
        breaker.failed(3.0, breaker.era, by_load=True)
    assert how(breaker) == ("open", True, 3.0 + 3.75), "for as long as the first time"


def test_what_errors_opened_stays_open() -> None:
    breaker = tripped(by_load=False)
    assert not breaker.excuse(2.0)
    assert how(breaker) == ("open", True, 3.75)
    assert breaker.probe(4.0)
    assert not breaker.excuse(4.5)
    assert how(breaker) == ("probing", True, math.inf)


def test_it_is_what_opened_it_last_that_counts() -> None:
    breaker = tripped()
    assert breaker.excuse(1.0)
    for _ in range(5):
        breaker.failed(2.0, breaker.era)
    assert not breaker.excuse(3.0)
    assert breaker.state == "open"


def test_a_share_that_is_too_small_by_slowness_is_excused_too() -> None:
    breaker = make()
    for number in range(20):
        if number % 2:
            breaker.succeeded(1.0, breaker.era)
        else:
            breaker.failed(1.0, breaker.era, by_load=True, counts_in_row=False)
    breaker.failed(1.0, breaker.era, by_load=True, counts_in_row=False)
    assert breaker.state == "open"
    assert breaker.excuse(2.0)


def test_a_probe_that_was_too_slow_is_excused_too() -> None:
    breaker = tripped()
    assert breaker.probe(4.0)
    breaker.failed(5.0, breaker.enter(4.0), by_load=True)
    assert breaker.state == "open"
    assert breaker.excuse(6.0)


def test_a_breaker_that_is_closed_has_nothing_to_excuse() -> None:
    facts: list[Fact] = []
    breaker = make(emit=facts.append)
    for _ in range(4):
        breaker.failed(0.0, breaker.era, by_load=True)
    era = breaker.era
    assert not breaker.excuse(1.0)
    assert (breaker.era, breaker.row, facts) == (era, 4, [])
    breaker = tripped()
    assert breaker.excuse(1.0)
    assert not breaker.excuse(1.0)


@pytest.mark.parametrize("ends", ["succeeded", "failed", "released"])
def test_the_probe_that_was_under_way_says_nothing_any_more_however_it_ends(ends: str) -> None:
    breaker = tripped()
    assert breaker.probe(4.0)
    token = breaker.enter(4.0)
    assert breaker.excuse(4.5)
    era = breaker.era
    assert (breaker.state, token != era) == ("closed", True)
    getattr(breaker, ends)(5.0, token)
    assert (breaker.state, breaker.era, breaker.good, breaker.bad, breaker.row) == ("closed", era, 0, 0, 0)


def test_a_token_that_was_taken_and_not_brought_in_is_not_given_to_another_one_later() -> None:
    breaker = tripped()
    assert breaker.probe(4.0)
    assert breaker.excuse(4.0)
    assert breaker.enter(4.0) == breaker.era
    for _ in range(5):
        breaker.failed(5.0, breaker.era)
    assert breaker.enter(6.0) == STRAY, "it is open, and no probe is due"


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_in_shadow_it_would_have_been_open_and_off_it_never_is(mode: Mode) -> None:
    facts: list[Fact] = []
    breaker = tripped(mode=mode, emit=facts.append)
    assert breaker.excuse(1.0) is (mode == "shadow")
    assert how(breaker) == ("closed", False, 0.0)
    assert facts[1:] == ([BreakerChanged("n1", "closed", IT_IS_THE_LOAD, 0.0, False)] if mode == "shadow" else [])


def test_the_only_node_is_excused_as_well() -> None:
    breaker = tripped()
    breaker.alone(True)
    assert breaker.excuse(1.0)
    breaker.alone(False)
    assert how(breaker) == ("closed", False, 0.0)


def test_a_failure_that_is_excused_is_not_counted_and_a_probe_fails_all_the_same() -> None:
    breaker = make()
    for _ in range(50):
        breaker.failed(0.0, breaker.era, by_load=True, excused=True)
    assert (breaker.state, breaker.bad, breaker.row) == ("closed", 0, 0)
    breaker = tripped(by_load=False)
    assert breaker.probe(4.0)
    breaker.failed(5.0, breaker.enter(4.0), by_load=True, excused=True)
    assert how(breaker) == ("open", True, 5.0 + 7.5), "for twice as long: the next one is not sent at once"
    assert not breaker.excuse(6.0), "what opened it was something else"


def test_what_most_of_its_failures_were_is_what_opened_it() -> None:
    for kinds, excused in (("eeeel", False), ("lllle", True), ("eelll", True), ("lleee", False)):
        breaker = make()
        for kind in kinds:
            breaker.failed(0.0, breaker.era, by_load=kind == "l")
        assert breaker.state == "open"
        assert breaker.excuse(1.0) is excused, kinds
