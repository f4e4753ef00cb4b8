"""Adaptive limits: against models that look at the whole history, row by row, and what must hold whatever happens."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.gradient import Adaptive, Aimd, Gradient, Judge, Vegas, Windowed
from tests.policy.models import limit_adaptive as reference
from tests.policy.models.limit_adaptive import Sample

histories = st.lists(
    st.builds(
        lambda wait, rtt_s, in_flight, dropped: (wait / 8, rtt_s, in_flight, dropped),
        st.integers(0, 6),
        st.sampled_from([50e-6, 0.01, 0.02, 0.05, 0.25, 1.0, 6.0]),
        st.integers(1, 60),
        st.sampled_from([False, False, False, False, False, False, False, False, False, True]),
    ),
    max_size=150,
)


def timed(moves: list[tuple[float, float, int, bool]]) -> list[Sample]:
    now, history = 100.0, list[Sample]()
    for wait, rtt_s, in_flight, dropped in moves:
        now += wait
        history.append(Sample(now, rtt_s, in_flight, dropped))
    return history


def tell(adaptive: Adaptive, sample: Sample) -> None:
    say = adaptive.dropped if sample.dropped else adaptive.answered
    say(sample.rtt_s, sample.in_flight, sample.at)


class Half(random.Random):
    """Throws the middle of what it is asked for."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


# -------------------------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize(
    ("rtt_s", "in_flight", "dropped", "limit"),
    [
        (0.01, 50, False, 101),
        (0.01, 49, False, 100),  # less than half in use: no need for more
        (5.0, 100, False, 101),
        (5.1, 100, False, 90),  # an answer that slow is as good as a refusal
        (0.01, 1, True, 90),
    ],
)
def test_aimd_row_by_row(rtt_s: float, in_flight: int, dropped: bool, limit: int) -> None:
    aimd = Aimd(10, 200)
    for _ in range(90):
        aimd.answered(0.01, 200, 0.0)
    assert aimd.limit == 100
    tell(aimd, Sample(1.0, rtt_s, in_flight, dropped))
    assert aimd.limit == limit


def judged(judge: Judge, windows: list[tuple[float, int, bool]]) -> int:
    for rtt_s, in_flight, dropped in windows:
        judge.judge(rtt_s, in_flight, samples=100, dropped=dropped)
    return judge.limit


@pytest.mark.parametrize(
    ("last", "limit"),
    [
        ((0.1, 60, False), 101),  # as usual: a fifth of the room for a queue on top
        ((0.1, 40, False), 100),  # less than half in use
        ((0.14, 60, False), 101),  # within the tolerance
        ((0.2, 60, False), 96),  # twice as long as usual: 0.75 of the limit and the queue are wanted, a fifth of the way is gone
        ((5.0, 60, False), 91),  # however long, not less than half of it is wanted
        ((0.1, 60, True), 90),  # a refusal is the worst there is
        ((0.0, 40, True), 90),  # also when nothing was answered, and when little was in flight
    ],
)
def test_gradient_row_by_row(last: tuple[float, int, bool], limit: int) -> None:
    gradient = Gradient(20, 200)
    assert judged(gradient, [(0.1, 200, False)] * 101) == 100
    assert judged(gradient, [last]) == limit


def test_gradient_does_not_wait_long_to_believe_that_it_is_quick_again() -> None:
    gradient = Gradient(20, 200)
    judged(gradient, [(1.0, 20, False)] * 50)
    assert gradient.usual_s == pytest.approx(1.0)
    judged(gradient, [(0.1, 20, False)] * 40)
    assert gradient.usual_s < 0.2


@pytest.mark.parametrize(
    ("last", "limit"),
    [
        ((0.1, 100, False), 112),  # no queue: six steps of log10(100) up
        ((0.1, 49, False), 100),
        ((0.101, 100, False), 112),
        ((0.104, 100, False), 102),  # a queue of 4: one step
        ((0.109, 100, False), 100),  # of 9: as it should be
        ((0.12, 100, False), 98),  # of 17: one step down
        ((0.1, 100, True), 98),
        ((0.05, 100, False), 100),  # a new best time is only noted
    ],
)
def test_vegas_row_by_row(last: tuple[float, int, bool], limit: int) -> None:
    vegas = Vegas(Half(), 1, 1000, limit=100)
    assert judged(vegas, [(0.1, 100, False)]) == 100
    assert vegas.least_s == 0.1
    assert judged(vegas, [last]) == limit


def test_vegas_measures_the_least_latency_anew() -> None:
    vegas = Vegas(Half(), 1, 100, limit=20)
    judged(vegas, [(0.1, 1, False)] + [(0.2, 1, False)] * 3)  # 400 samples; 0.75 * 30 * 20 are 450
    assert vegas.least_s == 0.1
    judged(vegas, [(0.2, 1, False)])
    assert vegas.least_s == 0.2


# ------------------------------------------------------------------------------------------------------------- the windows


class Notes:
    """Keeps what it is shown."""

    limit = 7

    def __init__(self) -> None:
        self.shown: list[tuple[float, int, int, bool]] = []

    def judge(self, rtt_s: float, in_flight: int, *, samples: int, dropped: bool) -> None:
        self.shown.append((rtt_s, in_flight, samples, dropped))


def test_a_window_is_a_second_and_ten_calls() -> None:
    notes = Notes()
    windowed = Windowed(notes)
    for number in range(12):
        windowed.answered(0.25, number, number / 16)
    assert notes.shown == []
    windowed.answered(0.5, 3, 1.0)
    assert notes.shown == [(3.5 / 13, 11, 13, False)]
    for number in range(9):
        windowed.answered(0.25, 2, 9.0 + number)
    assert len(notes.shown) == 1
    windowed.dropped(9.0, 4, 20.0)
    assert notes.shown[1:] == [(0.25, 4, 10, True)]


def test_answers_too_quick_to_mean_anything_are_not_seen() -> None:
    notes = Notes()
    windowed = Windowed(notes)
    for number in range(100):
        windowed.answered(99e-6, 50, float(number))
    assert notes.shown == []
    for number in range(10):
        windowed.dropped(50e-6, 3, 100.0 + number)
    assert notes.shown == [(0.0, 3, 10, True)]


# --------------------------------------------------------------------------------------------------------------- the models


@given(histories)
def test_aimd_is_what_its_history_says(moves: list[tuple[float, float, int, bool]]) -> None:
    aimd, history = Aimd(20, 60), timed(moves)
    for sample in history:
        tell(aimd, sample)
    assert aimd.limit == reference.aimd(history, 20, 60)


@given(histories, st.sampled_from([(20, 200), (1, 30)]))
def test_gradient_is_what_its_history_says(moves: list[tuple[float, float, int, bool]], bounds: tuple[int, int]) -> None:
    gradient, history = Gradient(*bounds), timed(moves)
    windowed = Windowed(gradient)
    for sample in history:
        tell(windowed, sample)
    assert gradient.exact == pytest.approx(reference.gradient(history, *bounds), rel=1e-9)
    assert windowed.limit == int(gradient.exact)


@given(histories)
def test_vegas_is_what_its_history_says(moves: list[tuple[float, float, int, bool]]) -> None:
    vegas, history = Vegas(Half(), 2, 80, limit=2), timed(moves)
    windowed = Windowed(vegas)
    for sample in history:
        tell(windowed, sample)
    assert vegas.exact == pytest.approx(reference.vegas(history, 2, 80, [0.5]), rel=1e-9)
    assert windowed.limit == int(vegas.exact)


MAKERS: dict[str, Callable[[], Adaptive]] = {
    "aimd": lambda: Aimd(5, 50),
    "gradient": lambda: Windowed(Gradient(5, 50)),
    "vegas": lambda: Windowed(Vegas(random.Random(1), 5, 50, limit=5)),
}


@pytest.mark.parametrize("kind", MAKERS)
@given(moves=histories)
def test_no_history_leads_out_of_the_bounds(kind: str, moves: list[tuple[float, float, int, bool]]) -> None:
    adaptive = MAKERS[kind]()
    for sample in timed(moves):
        tell(adaptive, sample)
        assert 5 <= adaptive.limit <= 50


@pytest.mark.parametrize("kind", MAKERS)
def test_a_limit_that_is_not_used_does_not_grow(kind: str) -> None:
    adaptive = MAKERS[kind]()
    for number in range(5000):
        adaptive.answered(0.01, 2, number / 100)
    assert adaptive.limit == 5


@pytest.mark.parametrize("kind", MAKERS)
def test_a_limit_that_is_used_grows_and_refusals_bring_it_down(kind: str) -> None:
    adaptive = MAKERS[kind]()
    for number in range(5000):
        adaptive.answered(0.01, adaptive.limit, number / 100)
    grown = adaptive.limit
    assert grown > 10
    for number in range(5000):
        adaptive.dropped(0.0001, adaptive.limit, 50 + number / 100)
    assert adaptive.limit < math.ceil(grown / 2)
