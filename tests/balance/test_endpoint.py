"""A node's load: equal to its definition over any history; peaks at once, fading, one trial for the unproven, failures that cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import PENALTY_MAX_S, PENALTY_S, SEED_S, TAU_S, Endpoint, Node
from tests.balance.models.load import History


def node_of(weight: float = 1.0, now: float = 0.0) -> Node:
    return Node(Endpoint("tcp://10.0.0.1:7000", weight), now=now)


def answered(node: Node, latency_s: float, now: float) -> None:
    era = node.begin(now - latency_s)
    node.succeeded(now - latency_s, now, era)


class Recorded:
    """A gate that writes down what it is told."""

    def __init__(self, era: int = 5) -> None:
        self.shut = False
        self.retry_at = math.inf
        self.era = era
        self.good = self.row = 0
        self.rolls_at = math.inf
        self.told: list[tuple[Any, ...]] = []

    def probe(self, now: float) -> bool:
        return False

    def enter(self, now: float) -> int:
        return 77

    def roll(self, now: float) -> None:
        raise AssertionError("rolls_at is never reached")

    def succeeded(self, now: float, era: int) -> None:
        self.told.append(("succeeded", now, era))

    def failed(self, now: float, era: int, *, counts_in_row: bool = True, by_load: bool = False, excused: bool = False) -> None:
        self.told.append(("failed", now, era, counts_in_row, by_load, excused))

    def excuse(self, now: float) -> bool:
        return False

    def released(self, now: float, era: int) -> None:
        self.told.append(("released", now, era))


# -------------------------------------------------------------------------------------------------------------- the definition


def test_the_numbers_are_those_of_the_design() -> None:
    assert (TAU_S, SEED_S, PENALTY_S, PENALTY_MAX_S) == (10.0, 1.0, 5.0, 300.0)


happenings = st.one_of(
    *[st.tuples(st.just("begin"))] * 3,
    st.tuples(st.just("pass"), st.floats(0.0, 30.0, allow_subnormal=False)),
    st.tuples(st.just("ok"), st.integers(0, 9)),
    st.tuples(st.just("failed"), st.integers(0, 9), st.none() | st.floats(0.0, 1000.0, allow_subnormal=False)),
    st.tuples(st.just("let_go"), st.integers(0, 9)),
    st.tuples(st.just("overdue"), st.integers(0, 9)),
    st.tuples(st.just("said"), st.floats(0.0, 1.0, allow_subnormal=False)),
)


@given(st.lists(happenings, max_size=60), st.sampled_from([1.0, 0.5, 4.0]))
def test_any_history_gives_the_load_that_the_definition_gives(happened: list[Any], weight: float) -> None:
    node, history, now, out = node_of(weight, 50.0), History(weight=weight), 50.0, list[tuple[float, int]]()
    for event in happened:
        match event:
            case ["begin"]:
                out.append((now, node.begin(now)))
                history.began(now)
            case ["pass", seconds]:
                now += seconds
            case ["said", load]:
                node.load = history.said = load
            case ["overdue", n] if out:
                elapsed_s = now - out[n % len(out)][0]
                node.overdue(elapsed_s, now)
                if elapsed_s > history.estimate() * (1 + 1e-12):
                    history.heard(elapsed_s, now, answer=False)
            case ["ok", n] if out:
                started, era = out.pop(n % len(out))
                node.succeeded(started, now, era)
                history.heard(now - started, now)
            case ["failed", n, retry_after_s] if out:
                started, era = out.pop(n % len(out))
                node.failed(started, now, era, retry_after_s=retry_after_s)
                history.heard(max(now - started, 5.0 if retry_after_s is None else min(300.0, max(1.0, retry_after_s))), now)
            case ["let_go", n] if out:
                started, era = out.pop(n % len(out))
                node.let_go(started, now, era)
                if now - started > history.estimate() * (1 + 1e-12):
                    history.heard(now - started, now)
        history.in_flight = len(out)
        assert node.pending == len(out)
        assert node.score(now) == pytest.approx(history.load(now), rel=1e-6, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------- row by row


def test_a_peak_is_taken_at_once() -> None:
    node = node_of()
    answered(node, 0.01, 1.0)
    answered(node, 2.0, 1.1)
    assert node.score(1.1) == pytest.approx(2.0)


def test_a_quick_answer_after_a_peak_counts_by_the_time_since() -> None:
    node = node_of()
    answered(node, 2.0, 0.0)
    answered(node, 0.5, 0.0)
    assert node.score(0.0) == pytest.approx(2.0), "no time has passed"
    answered(node, 0.5, TAU_S)
    assert node.score(TAU_S) == pytest.approx(2.0 / math.e + 0.5 * (1 - 1 / math.e))


def test_a_load_fades_while_nothing_is_heard() -> None:
    node = node_of()
    answered(node, 2.0, 0.0)
    assert [node.score(at) for at in (0.0, TAU_S, 3 * TAU_S)] == pytest.approx([2.0, 2.0 / math.e, 2.0 / math.e**3])
    assert node.score(-1.0) == pytest.approx(2.0), "a clock that goes back fades nothing and grows nothing"


@pytest.mark.parametrize(("pending", "factor"), [(0, 1), (1, 2), (9, 10)])
def test_calls_in_flight_multiply(pending: int, factor: int) -> None:
    node = node_of()
    answered(node, 0.1, 0.0)
    for _ in range(pending):
        node.begin(0.0)
    assert node.score(0.0) == pytest.approx(0.1 * factor)


def test_weight_divides_and_what_it_says_of_itself_adds() -> None:
    node = node_of(weight=4.0)
    answered(node, 0.1, 0.0)
    node.load = 0.5
    assert node.score(0.0) == pytest.approx(0.1 * 1.5 / 4.0)


def test_an_unproven_node_is_free_until_its_one_trial_is_out() -> None:
    node = node_of(weight=2.0)
    assert node.score(123.0) == 0.0
    era = node.begin(0.0)
    assert node.score(0.0) == SEED_S / 2.0
    node.begin(0.0)
    assert node.score(0.0) == SEED_S
    node.succeeded(0.0, 0.25, era)
    assert node.score(0.25) == pytest.approx(0.25 * 2 / 2.0), "proven now, with one still out"


@pytest.mark.parametrize(
    ("took_s", "retry_after_s", "counts_as_s"),
    [
        (0.001, None, 5.0),
        (8.0, None, 8.0),
        (0.001, 60.0, 60.0),
        (0.001, 3600.0, 300.0),
        (0.001, 300.0, 300.0),
        (2.0, 0.5, 2.0),
    ],
)
def test_a_failure_counts_as_a_slow_answer(took_s: float, retry_after_s: float | None, counts_as_s: float) -> None:
    node = node_of()
    answered(node, 0.001, 0.0)
    era = node.begin(10.0)
    node.failed(10.0, 10.0 + took_s, era, retry_after_s=retry_after_s)
    assert node.score(10.0 + took_s) == pytest.approx(counts_as_s)
    assert (node.pending, node.failures, node.attempts) == (0, 1, 2)


def test_a_node_that_fails_at_once_is_never_the_better_one() -> None:
    slow, failing = node_of(), node_of()
    for second in range(100):
        answered(slow, 0.5, float(second))
        era = failing.begin(second)
        failing.failed(second, second + 0.001, era)
        assert failing.score(second + 1.0) > 4 * slow.score(second + 1.0)


def test_what_we_gave_up_counts_only_when_it_took_longer_than_thought() -> None:
    node = node_of()
    answered(node, 0.1, 0.0)
    node.let_go(0.0, 0.05, node.begin(0.0))
    assert node.score(0.0) == pytest.approx(0.1)
    node.let_go(0.0, 0.4, node.begin(0.0))
    assert node.score(0.4) == pytest.approx(0.4)
    assert (node.pending, node.failures, node.given_up) == (0, 0, 2)


def test_an_overdue_call_is_a_peak_before_it_ends() -> None:
    node = node_of()
    answered(node, 0.1, 0.0)
    node.begin(0.0)
    node.overdue(0.05, 0.05)
    assert node.cost == pytest.approx(0.1)
    node.overdue(3.0, 3.0)
    assert node.score(3.0) == pytest.approx(3.0 * 2)


# ------------------------------------------------------------------------------------------------------- both ends of an attempt


def test_the_gate_hears_of_each_end_with_the_era_the_attempt_began_in() -> None:
    gate = Recorded()
    node = Node(Endpoint("tcp://10.0.0.1:7000"), gate=gate)
    eras = [node.begin(0.0) for _ in range(5)]
    assert eras == [5, 5, 5, 5, 5]
    node.succeeded(0.0, 1.0, eras[0])
    node.failed(0.0, 2.0, eras[1])
    node.failed(0.0, 3.0, eras[2], overload=True, by_load=True)
    node.failed(0.0, 3.5, eras[3], by_load=True)
    node.let_go(0.0, 4.0, eras[4])
    failed = [("failed", 2.0, 5, True, False, False), ("failed", 3.0, 5, False, True, False), ("failed", 3.5, 5, True, True, False)]
    assert gate.told == [("succeeded", 1.0, 5), *failed, ("released", 4.0, 5)]
    assert (node.pending, node.attempts, node.failures, node.late) == (0, 5, 3, 2)


def test_a_failure_that_is_excused_is_one_of_the_node_and_its_gate_hears_that_it_is() -> None:
    gate = Recorded()
    node = Node(Endpoint("tcp://10.0.0.1:7000"), gate=gate)
    eras = [node.begin(0.0) for _ in range(2)]
    node.failed(0.0, 2.0, eras[0], by_load=True, excused=True)
    assert gate.told == [("failed", 2.0, 5, True, True, True)]
    assert (node.pending, node.failures, node.given_up, node.cost) == (1, 1, 0, PENALTY_S)
    node.failed(0.0, 3.0, eras[1], retry_after_s=9.0, overload=True, by_load=True, excused=True)
    assert gate.told[1:] == [("failed", 3.0, 5, False, True, True)]
    assert (node.pending, node.failures, node.late, node.cost) == (0, 2, 2, 9.0)


def test_a_gate_between_eras_is_asked_for_one() -> None:
    assert Node(Endpoint("tcp://10.0.0.1:7000"), gate=Recorded(era=0)).begin(3.0) == 77


def test_a_node_without_a_gate_is_open_to_all() -> None:
    node = node_of()
    assert not node.gate.shut
    assert not node.gate.probe(0.0)
    assert not node.gate.excuse(0.0)
    node.failed(0.0, 0.5, node.begin(0.0), by_load=True)
    node.forget(0.5)
    answered(node, 0.1, 1.0)
    assert repr(node) == "<Node tcp://10.0.0.1:7000 idle pending=0 cost=100.0 ms>"


def test_a_trial_that_we_gave_up_says_how_slow_it_was_at_least() -> None:
    node = node_of()
    node.let_go(0.0, 3.0, node.begin(0.0))
    assert node.score(3.0) == pytest.approx(3.0), "or a new node that hangs would go on looking free"
    untried = node_of()
    untried.let_go(3.0, 3.0, untried.begin(0.0))
    assert untried.score(3.0) == 0.0, "nothing was learned"


def test_an_answer_in_no_time_is_an_answer() -> None:
    node = node_of()
    answered(node, 0.0, 1.0)
    node.begin(1.0)
    assert 0.0 < node.score(1.0) < 0.001, "it is proven, and takes more than its one trial call"


def test_a_node_with_a_new_connection_is_judged_anew() -> None:
    """A process that was killed and is back is not the one that failed."""
    node = node_of()
    node.failed(0.0, 1.0, node.begin(0.0))
    assert node.score(1.0) == pytest.approx(5.0)
    node.forget(2.0)
    assert node.score(2.0) == 0.0
    answered(node, 0.01, 3.0)
    assert node.score(3.0) == pytest.approx(0.01)
    node.begin(3.0)
    node.forget(4.0)
    assert (node.pending, node.heard_at) == (1, 4.0), "what is in flight there is still in flight"
