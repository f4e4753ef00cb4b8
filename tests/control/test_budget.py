"""The retry budget: against the model that remembers everything, on golden traces, in shadow, and what it promises of attempts."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.budget import BudgetConfig, Mode, RetryBudget
from holdfast.errors import ConfigError
from tests.policy.models import golden
from tests.policy.models.budget import BudgetModel

TRACES = golden.named("budget")

# ---------------------------------------------------------------------------------------------------------- golden traces


def replayed(trace: golden.Trace, mode: Mode = "enforce") -> tuple[RetryBudget, list[list[Any]]]:
    """The machine after a trace, and the trace with its decisions in place of the model's."""
    budget = RetryBudget(**trace["config"], mode=mode)
    decided: list[list[Any]] = []
    for what, at, *expected in trace["events"]:
        if what == "take":
            decided.append([what, at, budget.take(at)])
        elif what == "level":
            assert budget.level(at) == pytest.approx(expected[0], abs=1e-5)
            decided.append([what, at, *expected])
        else:
            getattr(budget, what)(at)
            decided.append([what, at])
    return budget, decided


@pytest.mark.parametrize("name", TRACES)
def test_it_decides_as_the_golden_trace_does(name: str) -> None:
    trace = golden.read(name)
    budget, decided = replayed(trace)
    assert decided == trace["events"]
    assert {"taken": budget.taken, "denied": budget.denied} == trace["counted"]
    assert budget.would == 0


@pytest.mark.parametrize("name", TRACES)
def test_in_shadow_it_would_have_denied_what_it_denies_and_denies_nothing(name: str) -> None:
    trace = golden.read(name)
    budget, decided = replayed(trace, "shadow")
    assert all(event[2] for event in decided if event[0] == "take")
    assert (budget.would, budget.denied) == (trace["counted"]["denied"], 0)


def test_the_traces_deny_and_allow() -> None:
    counted = [golden.read(name)["counted"] for name in TRACES]
    assert len(TRACES) == 7
    assert min(sum(each["taken"] for each in counted), sum(each["denied"] for each in counted)) > 400


@pytest.mark.slow
def test_the_files_are_what_the_models_say() -> None:
    for file, content in golden.everything():
        assert (golden.FOLDER / file).read_text("utf-8") == golden.as_text(content), f"{file}: python -m tests.policy.models.golden"


def test_off_it_allows_everything_and_counts_nothing() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=0.0, mode="off")
    assert all(budget.take(float(at)) for at in range(100))
    assert (budget.taken, budget.denied, budget.would, budget.fullness(100.0)) == (0, 0, 0, 1.0)


# -------------------------------------------------------------------------------------------------------- against the model

EVENTS = st.lists(
    st.tuples(st.sampled_from(["deposit"] * 4 + ["take"] * 3 + ["succeeded", "level"]), st.integers(0, 96), st.integers(1, 4)), max_size=60
)


@given(EVENTS, st.sampled_from([(0.2, 10, 10), (0.2, 0.5, 10), (0.25, 0, 5), (1.0, 2, 20), (0, 1, 10)]), st.integers(0, 64 * 20))
def test_it_is_the_model(events: list[tuple[str, int, int]], config: tuple[float, float, float], start: int) -> None:
    share, floor_per_s, ttl_s = config
    machine = RetryBudget(share=share, floor_per_s=floor_per_s, ttl_s=ttl_s)
    model = BudgetModel(share=share, floor_per_s=floor_per_s, ttl_s=ttl_s)
    now = start / 64
    for what, wait, times in events:
        now += wait / 64
        for _ in range(times):
            if what == "take":
                assert machine.take(now) == model.take(now)
            elif what == "level":
                assert machine.level(now) == pytest.approx(model.level(now), abs=1e-6)
                model.looked_at(now)
            else:
                getattr(machine, what)(now)
                getattr(model, what)(now)


# --------------------------------------------------------------------------------------------------------- what it promises


@given(
    st.lists(
        st.tuples(st.sampled_from(["deposit", "take", "take", "succeeded", "earn_nothing"]), st.floats(0, 3), st.integers(1, 30)),
        max_size=80,
    ),
    st.sampled_from([0.0, 0.01, 0.2, 1.0]),
    st.sampled_from([0.0, 0.5, 10.0]),
    st.booleans(),
)
def test_attempts_never_outgrow_calls_and_time(moves: list[tuple[str, float, int]], share: float, floor_per_s: float, first: bool) -> None:
    """The theorem at the head of the file, at every moment of every history, also of those with times in which nothing is earned."""
    budget, start, now, calls = RetryBudget(share=share, floor_per_s=floor_per_s), 7.3, 7.3, 0
    if first:
        budget.earn_nothing(now + 4.0)
    budget.deposit(now)
    calls += 1
    for what, wait, times in moves:
        now += wait
        for _ in range(times):
            if what == "earn_nothing":
                budget.earn_nothing(now + times / 4)
            else:
                getattr(budget, what)(now)
            calls += what == "deposit"
        assert budget.taken <= share * calls + floor_per_s * max(now - start, 10.0) + 1e-6
        assert 0.0 <= budget.level(now) <= share * calls + floor_per_s * 10.0 + 1e-6
        assert 0.0 <= budget.fullness(now) <= 1.0 + 1e-6


@pytest.mark.parametrize("calls_per_s", [20, 200, 2000])
@pytest.mark.parametrize("failing", [0.01, 0.1, 0.5, 0.9, 1.0])
def test_attempts_to_calls_at_any_rate_of_failure(calls_per_s: int, failing: float) -> None:
    """Three attempts a call, 12 s, which is the advance of a ttl and a little: after it the bound holds, not only in the long run."""
    rng, budget, calls, attempts = random.Random(f"{calls_per_s} {failing}"), RetryBudget(), calls_per_s * 12, 0
    for number in range(calls):
        now = 1000.0 + number / calls_per_s
        budget.deposit(now)
        attempts += 1
        for attempt in range(3):
            if rng.random() >= failing:
                budget.succeeded(now)
                break
            if attempt < 2 and budget.take(now):
                attempts += 1
            else:
                break
    assert attempts / calls <= 1.2 + 10 / calls_per_s
    if failing <= 0.1:
        assert budget.denied == 0, "few failures: each of them is tried again"
    elif calls_per_s >= 200:
        assert attempts / calls > 1.17, "and what it allows is there to be had"


def test_what_is_paid_in_after_a_burst_can_be_spent_at_once() -> None:
    budget = RetryBudget(floor_per_s=0)
    for _ in range(50):
        budget.deposit(0.0)
    assert [budget.take(9.0) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(5):
        budget.deposit(10.5)
    assert budget.take(10.5), "the burst is paid for and does not weigh on what comes after it"
    assert not budget.take(10.5)


def test_a_payment_expires_after_its_ttl() -> None:
    budget = RetryBudget(floor_per_s=0)
    for _ in range(10):
        budget.deposit(3.0)
    assert budget.level(12.99) == pytest.approx(2.0)
    assert budget.level(13.0) == 0.0
    assert not budget.take(13.0)


def test_a_pause_of_many_ttls_forgets_all_that_was_paid_in() -> None:
    budget = RetryBudget(floor_per_s=0)
    for _ in range(100):
        budget.deposit(3.0)
    assert budget.level(1e7) == 0.0


def test_the_floor_is_full_at_first_and_earns_nothing_before_a_ttl() -> None:
    budget = RetryBudget()
    assert budget.level(100.0) == 100.0
    assert [budget.take(100.0) for _ in range(101)].count(True) == 100
    assert not budget.take(109.99)
    budget.succeeded(110.0)
    assert [budget.take(111.0) for _ in range(11)].count(True) == 10


def test_the_floor_halves_with_each_ten_slots_in_which_nothing_succeeds() -> None:
    budget, levels = RetryBudget(), []
    for second in range(61):
        budget.deposit(float(second))
        levels.append(round(budget.level(second) - 0.2 * min(second + 1, 10), 6))
    assert levels[::10] == [100.0, 50.0, 25.0, 12.5, 6.25, 3.125, 1.5625]


def test_the_first_success_makes_the_floor_whole_and_it_fills_at_its_rate() -> None:
    budget = RetryBudget(share=0.0)
    for second in range(41):
        budget.deposit(float(second))
    assert budget.level(40.0) == 6.25
    budget.succeeded(40.5)
    assert budget.dark == 0
    for second in range(41, 51):
        budget.deposit(float(second))
        budget.succeeded(second + 0.5)
    assert budget.level(50.5) == pytest.approx(6.25 + 0.5 * 10 / 16 + 100, abs=7), "and no further than its purse"
    assert budget.level(50.5) <= 100


def test_from_the_end_of_the_tenth_dark_slot_the_floor_earns_half() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=1.0)
    for second in range(10):
        budget.deposit(float(second))
    assert [budget.take(9.5) for _ in range(11)].count(True) == 10
    assert budget.level(14.0) == pytest.approx(4 * 0.5)


def test_what_was_earned_before_a_success_was_earned_at_the_rate_of_then() -> None:
    budget = RetryBudget(share=0.0)
    for second in range(21):
        budget.deposit(float(second))
    assert [budget.take(20.0) for _ in range(26)].count(True) == 25
    budget.succeeded(20.75)
    assert budget.level(20.75) == pytest.approx(0.75 * 10 / 4)
    assert budget.level(20.95) == pytest.approx(0.75 * 10 / 4 + 0.2 * 10)


def test_ten_tenths_are_one() -> None:
    budget = RetryBudget(share=0.1, floor_per_s=0)
    for second in range(10):
        budget.deposit(float(second))
    assert 0.999 < budget.level(9.5) <= 1.0, "a little less where floating point adds it up so"
    assert budget.take(9.5)


def test_slots_in_which_nothing_is_tried_say_nothing() -> None:
    budget = RetryBudget()
    for hour in range(9):
        budget.deposit(hour * 3600.0)
    assert (budget.level(9 * 3600.0), budget.dark) == (100.0, 9)


def test_an_attempt_that_was_denied_is_something_that_was_tried() -> None:
    budget = RetryBudget(share=0, floor_per_s=0)
    for second in range(12):
        assert not budget.take(float(second))
    assert budget.dark == 11


def test_fullness_is_what_is_there_of_what_could_be() -> None:
    budget = RetryBudget(share=0.5, floor_per_s=1)
    for _ in range(20):
        budget.deposit(5.0)
    assert (budget.level(5.0), budget.fullness(5.0)) == (20.0, 1.0)
    for _ in range(15):
        assert budget.take(5.5)
    assert budget.fullness(5.5) == 0.25
    assert RetryBudget(share=0, floor_per_s=0).fullness(1.0) == 0.0


def test_fullness_falls_while_nothing_succeeds() -> None:
    budget = RetryBudget(share=0)
    for second in range(21):
        budget.deposit(float(second))
    assert budget.fullness(20.0) == 0.25


def test_the_hot_path_may_be_written_out() -> None:
    written, called = RetryBudget(floor_per_s=1.0), RetryBudget(floor_per_s=1.0)
    rng, now = random.Random(3), 0.0
    for _ in range(2000):
        now += rng.random() * 0.05
        called.deposit(now)
        if now >= written.rolls_at:
            written.roll(now)
        written.calls += 1
        if rng.random() < 0.3:
            called.succeeded(now)
            if not written.lit:
                written.succeeded(now)
        if rng.random() < 0.4:
            assert written.take(now) == called.take(now)
    assert (written.taken, written.denied, written.level(now)) == (called.taken, called.denied, called.level(now))
    assert min(written.taken, written.denied) > 100


def test_a_time_that_lies_a_rounding_error_before_a_slot_loses_nothing() -> None:
    budget = RetryBudget(floor_per_s=0, ttl_s=3.0)
    for number in range(1, 2000):
        now = number * 0.3
        budget.deposit(now)
        budget.deposit(math.nextafter(now, math.inf))
        assert now < budget.rolls_at <= now + 0.6
    assert budget.level(1999 * 0.3 - 0.01) == pytest.approx(0.2 * 2 * 10, abs=0.41)


# ------------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("share", value) for value in (-0.1, 11, math.nan, math.inf)],
        *[("floor_per_s", value) for value in (-1, math.inf, math.nan)],
        *[("ttl_s", value) for value in (0.5, 61, math.nan)],
        ("mode", "on"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field}={value!r} must be"):
        BudgetConfig(**{field: value})
    with pytest.raises(ConfigError, match=f"^{field}="):
        RetryBudget(**{field: value})


def test_the_defaults_are_those_of_the_machine() -> None:
    config, budget = BudgetConfig(), RetryBudget()
    assert (config.share, config.floor_per_s, config.ttl_s, config.mode) == (0.2, 10.0, 10.0, "enforce")
    assert (budget.share, budget.floor_per_s, budget.ttl_s, budget.mode) == (0.2, 10.0, 10.0, "enforce")
