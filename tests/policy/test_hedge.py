"""Hedging: the delay against the sorted list of everything measured, each reason not to, what it costs, golden traces and shadow."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.budget import RetryBudget
from holdfast.errors import ConfigError
from holdfast.handler import Mode
from holdfast.policy.hedge import METHODS_MAX, SAMPLES_MAX, HedgeConfig, HedgeDelay, Hedges
from tests.policy.models import golden
from tests.policy.models.hedge import HedgeModel

TRACES = golden.named("hedge")


class Shared:
    """The retry budget, as the trace says it is."""

    def __init__(self, level: float = 100.0, fullness: float = 1.0) -> None:
        self.left = level
        self.full = fullness
        self.taken = 0

    def level(self, now: float) -> float:
        return self.left

    def fullness(self, now: float) -> float:
        return self.full

    def take(self, now: float) -> bool:
        self.taken += 1
        return self.left >= 1


def own(extra: float) -> RetryBudget:
    return RetryBudget(share=extra, floor_per_s=0.0)


def warm(config: HedgeConfig | None = None, *latencies_s: float, shared: Shared | None = None) -> HedgeDelay:
    """One with a history as of 9 s, and a full purse of its own."""
    config = config or HedgeConfig(mode="enforce", extra=0.05)
    purse = own(config.extra)
    hedge = HedgeDelay(config, purse, shared or Shared())
    for latency_s in latencies_s or [0.010] * 100:
        hedge.record(latency_s, 6.5)
    for _ in range(2000):
        purse.deposit(9.0)
    return hedge


# ---------------------------------------------------------------------------------------------------------- golden traces


def replayed(trace: golden.Trace, mode: Mode) -> tuple[HedgeDelay, Shared, list[list[Any]]]:
    config = HedgeConfig(mode=mode, **trace["config"])
    purse, shared = own(config.extra), Shared()
    hedge = HedgeDelay(config, purse, shared)
    decided: list[list[Any]] = []
    for what, at, *more in trace["events"]:
        if what == "record":
            hedge.record(more[0], at)
            decided.append([what, at, *more])
        elif what == "deposit":
            purse.deposit(at)
            decided.append([what, at])
        elif what == "delay":
            decided.append([what, at, hedge.delay_s(at)])
        else:
            left_s, panic, shared.left, shared.full, _ = more
            why = hedge.may_hedge(at, left_s, panic)
            if not why:
                assert hedge.send(at) is (mode == "enforce")
            decided.append([what, at, *more[:-1], why])
    return hedge, shared, decided


@pytest.mark.parametrize("name", TRACES)
def test_it_decides_as_the_golden_trace_does(name: str) -> None:
    trace = golden.read(name)
    hedge, shared, decided = replayed(trace, "enforce")
    assert decided == trace["events"]
    assert {"sent": hedge.sent} == trace["counted"]
    assert (hedge.would, shared.taken) == (0, hedge.sent)


@pytest.mark.parametrize("name", TRACES)
def test_in_shadow_it_would_have_sent_what_it_sends_and_leaves_the_retries_alone(name: str) -> None:
    trace = golden.read(name)
    hedge, shared, decided = replayed(trace, "shadow")
    assert decided == trace["events"]
    assert {"sent": hedge.would} == trace["counted"]
    assert (hedge.sent, shared.taken) == (0, 0)


def test_every_reason_is_in_a_trace() -> None:
    said = {event[-1] for name in TRACES for event in golden.read(name)["events"] if event[0] == "ask"}
    assert said == {"", "no_history", "too_slow", "panic", "deadline", "budget"}


# -------------------------------------------------------------------------------------------------------------- the delay


@given(
    st.lists(st.tuples(st.integers(0, 64 * 6), st.floats(0.0002, 3.0), st.integers(1, 12)), max_size=40),
    st.sampled_from([0.01, 0.05, 0.1]),
    st.integers(0, 6400),
)
def test_the_delay_is_that_of_the_sorted_list(moves: list[tuple[int, float, int]], extra: float, start: int) -> None:
    machine, model = HedgeDelay(HedgeConfig(mode="enforce", extra=extra), own(extra), Shared()), HedgeModel(extra=extra)
    now = start / 64
    for wait, latency_s, times in moves:
        now += wait / 64
        assert machine.delay_s(now) == model.delay_s(now)
        assert machine.why_not == model.why_none(now)
        for _ in range(times):
            machine.record(latency_s, now)
            model.record(latency_s, now)


@given(st.lists(st.floats(0.001, 1.7), min_size=100, max_size=300))
def test_it_is_never_below_the_percentile_so_no_more_than_extra_are_hedged(latencies_s: list[float]) -> None:
    hedge = warm(HedgeConfig(mode="enforce", extra=0.01), *latencies_s)
    delay_s = hedge.delay_s(9.0)
    assert delay_s is not None
    assert sum(latency_s > delay_s for latency_s in latencies_s) <= 0.01 * len(latencies_s)


@pytest.mark.parametrize(("extra", "enough"), [(0.01, 100), (0.05, 20), (0.1, 10)])
def test_there_is_none_before_there_is_history(extra: float, enough: int) -> None:
    config = HedgeConfig(mode="enforce", extra=extra)
    few, just = warm(config, *[0.01] * (enough - 1)), warm(config, *[0.01] * enough)
    assert (few.delay_s(9.0), few.why_not, few.may_hedge(9.0, None)) == (None, "no_history", "no_history")
    assert just.delay_s(9.0) == 0.01


def test_it_is_looked_at_anew_every_three_seconds() -> None:
    hedge = HedgeDelay(HedgeConfig(mode="enforce", extra=0.05), own(0.05), Shared())
    for _ in range(20):
        hedge.record(0.010, 6.0)
    assert hedge.delay_s(8.99) is None
    assert hedge.delay_s(9.0) == 0.010


def test_what_is_older_than_the_window_is_forgotten() -> None:
    hedge = warm()
    assert hedge.delay_s(27.0) == 0.010
    assert hedge.delay_s(30.0) is None
    assert hedge.why_not == "no_history"


def test_a_pause_of_an_hour_forgets_all() -> None:
    hedge = warm()
    hedge.record(0.5, 3600.0)
    assert hedge.delay_s(3603.0) is None


def test_the_shortest_delay_is_that_of_the_configuration() -> None:
    assert warm(None, *[0.0001] * 100).delay_s(9.0) == 0.001


def test_at_the_top_of_the_range_there_is_none() -> None:
    hedge = warm(None, *[0.010] * 90, *[2.5] * 10)
    assert (hedge.delay_s(9.0), hedge.may_hedge(9.0, None)) == (None, "too_slow")
    assert hedge.median_s == pytest.approx(0.010, rel=0.125)


def test_no_more_is_kept_of_three_seconds_than_its_bound() -> None:
    hedge = HedgeDelay(HedgeConfig(mode="enforce"), own(0.01), Shared())
    for number in range(10 * SAMPLES_MAX):
        hedge.record(0.01 if number < SAMPLES_MAX else 1.0, 6.0)
    assert len(hedge._fresh) == SAMPLES_MAX
    assert hedge.delay_s(9.0) == 0.01


# ------------------------------------------------------------------------------------------------------------ whether it may


@pytest.mark.parametrize(
    ("left_s", "panic", "level", "fullness", "why"),
    [
        (None, False, 100.0, 1.0, ""),
        (10.0, False, 1.0, 0.5, ""),
        (0.0101, False, 100.0, 1.0, ""),
        (0.0099, False, 100.0, 1.0, "deadline"),
        (-1.0, False, 100.0, 1.0, "deadline"),
        (None, True, 100.0, 1.0, "panic"),
        (None, False, 0.9, 1.0, "budget"),
        (None, False, 100.0, 0.49, "budget"),
    ],
)
def test_each_reason_not_to(left_s: float | None, panic: bool, level: float, fullness: float, why: str) -> None:
    hedge = warm(shared=Shared(level, fullness))
    assert hedge.may_hedge(9.0, left_s, panic) == why
    assert (hedge.sent, hedge.would) == (0, 0), "asking costs nothing"


def test_off_it_never_may() -> None:
    assert warm(HedgeConfig()).may_hedge(9.0, None) == "off"


def test_its_own_budget_holds_it_to_the_extra_load() -> None:
    config = HedgeConfig(mode="enforce", extra=0.05)
    purse = own(config.extra)
    hedge = HedgeDelay(config, purse, Shared())
    for _ in range(100):
        purse.deposit(8.5)
        hedge.record(0.010, 8.5)
    assert [hedge.may_hedge(9.0, None) or hedge.send(9.0) for _ in range(7)] == [True] * 5 + ["budget"] * 2


def test_when_everything_becomes_slow_at_once_hedges_stay_a_share_of_the_calls() -> None:
    """All calls outlast the delay: without the budget every one would be sent twice."""
    config = HedgeConfig(mode="enforce", extra=0.05)
    hedges = Hedges(config, RetryBudget())
    hedge, sent, slow_calls = hedges.of("shop.price"), 0, 0
    for number in range(100 * 40):
        now = 1000 + number / 100
        hedges.own.deposit(now)
        hedge.record(0.01, now)
        if number >= 2000:
            slow_calls += 1
            if not hedge.may_hedge(now, None):
                sent += hedge.send(now)
    assert 0.03 * slow_calls <= sent <= 0.05 * slow_calls + 50, "the share, and what had been saved in a ttl"


def test_retry_and_hedge_share_one_budget() -> None:
    shared = RetryBudget(share=0.0, floor_per_s=0.2, ttl_s=10.0)
    purse = own(0.05)
    hedge = HedgeDelay(HedgeConfig(mode="enforce", extra=0.05), purse, shared)
    for _ in range(100):
        hedge.record(0.01, 6.5)
        purse.deposit(9.0)
    assert shared.level(9.0) == 2.0
    assert (hedge.may_hedge(9.0, None), hedge.send(9.0)) == ("", True)
    assert (shared.level(9.0), shared.taken) == (1.0, 1)
    assert shared.take(9.0), "the retry that is still in it"
    assert hedge.may_hedge(9.0, None) == "budget"


def test_a_hedge_that_cannot_be_paid_for_after_all_is_not_sent() -> None:
    hedge = warm(shared=Shared(level=0.0))
    assert not hedge.send(9.0)
    assert hedge.sent == 0


# -------------------------------------------------------------------------------------------------------------- the table


def test_each_method_has_its_own_history() -> None:
    hedges = Hedges(HedgeConfig(mode="enforce", extra=0.05), Shared())
    for _ in range(100):
        hedges.of("quick").record(0.002, 6.5)
        hedges.of("slow").record(0.5, 6.5)
    assert hedges.of("quick").delay_s(9.0) == 0.002
    assert hedges.of("slow").delay_s(9.0) == 0.5
    assert hedges.of("quick") is hedges.of("quick")


def test_the_table_is_bounded_and_further_methods_are_not_hedged() -> None:
    hedges = Hedges(HedgeConfig(mode="enforce", extra=0.05), Shared())
    for number in range(METHODS_MAX + 50):
        method = hedges.of(f"m{number}")
        for _ in range(30):
            method.record(0.01, 6.5)
    assert len(hedges) == METHODS_MAX
    late = hedges.of(f"m{METHODS_MAX}")
    assert late is hedges.of(f"m{METHODS_MAX + 1}")
    assert (late.delay_s(9.0), late.may_hedge(9.0, None)) == (None, "too_many_methods")
    assert hedges.of("m0").delay_s(9.0) == 0.01


@pytest.mark.parametrize(("mode", "sent", "would"), [("enforce", 2, 0), ("shadow", 0, 2)])
def test_the_table_counts_over_all_methods(mode: Mode, sent: int, would: int) -> None:
    hedges = Hedges(HedgeConfig(mode=mode, extra=0.05), Shared())
    for _ in range(100):
        hedges.own.deposit(6.5)
    for name in ("a", "b"):
        for _ in range(20):
            hedges.of(name).record(0.01, 6.5)
        assert hedges.of(name).may_hedge(9.0, None) == ""
        hedges.of(name).send(9.0)
    assert (hedges.sent, hedges.would) == (sent, would)


def test_about_as_many_are_hedged_as_was_asked_for() -> None:
    """The whole of it over calls with a long tail: 5 % asked for, about 5 % sent, and never more."""
    rng, shared = random.Random(5), RetryBudget()
    hedges, calls = Hedges(HedgeConfig(mode="enforce", extra=0.05), shared), 12000
    hedge = hedges.of("shop.price")
    for number in range(calls):
        now = 1000 + number / 200
        hedges.own.deposit(now)
        shared.deposit(now)
        shared.succeeded(now)
        latency_s, delay_s = rng.lognormvariate(-4.6, 0.7), hedge.delay_s(now)
        if delay_s is not None and latency_s > delay_s and not hedge.may_hedge(now, None):
            hedge.send(now)
        hedge.record(latency_s, now)
    assert 0.03 * calls < hedges.sent <= 0.05 * calls


# ---------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"mode": "on"}, "mode='on'"),
        *[({"extra": value}, "extra=") for value in (0, 0.2, math.nan)],
        *[({"min_s": value}, "min_s=") for value in (0, 2.0, math.nan)],
        *[({"max_s": value}, "max_s=") for value in (0.0005, 61)],
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(given_: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HedgeConfig(**given_)


def test_the_default_is_off() -> None:
    assert (HedgeConfig().mode, HedgeConfig().extra, HedgeConfig().min_s, HedgeConfig().max_s) == ("off", 0.01, 0.001, 2.0)
