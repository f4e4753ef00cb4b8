"""What all pickers have in common: slow start in a straight line, nodes drawn evenly and never twice, and few of them told of."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import islice, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint, Node
from holdfast.balance.picker import COMPARED_MAX, SlowStart, best_of, drawn
from holdfast.errors import ConfigError
from tests.balance.models.histories import Dice, name_of


def nodes_of(count: int) -> list[Node]:
    return [Node(Endpoint(name_of(n))) for n in range(count)]


# ---------------------------------------------------------------------------------------------------------------- slow start


@pytest.mark.parametrize(
    ("passed_s", "factor"), [(0.0, 0.1), (1.0, 0.1), (3.0, 0.1), (15.0, 0.5), (29.9, 29.9 / 30), (30.0, 1.0), (1e9, 1.0)]
)
def test_a_new_node_gets_a_tenth_and_then_more_in_a_straight_line(passed_s: float, factor: float) -> None:
    node = nodes_of(1)[0]
    node.warm_at = 100.0
    assert SlowStart().factor(node, 100.0 + passed_s) == pytest.approx(factor)


def test_a_warm_node_and_one_without_slow_start_get_all() -> None:
    node = nodes_of(1)[0]
    assert SlowStart().factor(node, 0.0) == 1.0
    node.warm_at = 100.0
    assert SlowStart(window_s=0.0).factor(node, 100.0) == 1.0


def test_a_node_that_has_not_begun_gets_the_least() -> None:
    node = nodes_of(1)[0]
    node.warm_at = float("inf")
    assert SlowStart().factor(node, 100.0) == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SlowStart(window_s=-1.0), "window_s=-1.0: expected seconds, 0 or more"),
        (lambda: SlowStart(window_s=float("nan")), "window_s=nan"),
        (lambda: SlowStart(window_s=float("inf")), "window_s=inf"),
        (lambda: SlowStart(min_factor=0.0), "min_factor=0.0: expected above 0"),
        (lambda: SlowStart(min_factor=1.1), "min_factor=1.1: expected above 0 and at most 1"),
    ],
)
def test_a_slow_start_that_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# -------------------------------------------------------------------------------------------------------------------- drawing


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_nodes_are_drawn_as_from_a_bag(count: int, seed: int) -> None:
    nodes, rng = nodes_of(count), random.Random(seed)
    bag, expected = nodes[:], list[Node]()
    while bag:
        expected.append(bag.pop(int(rng.random() * len(bag))))
    assert list(drawn(random.Random(seed).random, nodes, [])) == expected


def test_every_order_is_as_likely() -> None:
    nodes, rng = nodes_of(4), random.Random(5)
    orders = Counter(tuple(drawn(rng.random, nodes, [])) for _ in range(4800))
    assert len(orders) == len(list(permutations(nodes)))
    assert all(130 < times < 270 for times in orders.values()), "200 on average"


def test_what_was_drawn_before_is_not_drawn_again() -> None:
    nodes = nodes_of(6)
    assert set(drawn(random.Random(1).random, nodes, [0, 3, 5])) == {nodes[1], nodes[2], nodes[4]}
    assert list(drawn(random.Random(1).random, nodes[:1], [0])) == []


def test_a_few_are_drawn_with_as_many_dice() -> None:
    dice = Dice([0.999999])
    assert len(list(islice(drawn(dice.random, nodes_of(1000), []), 3))) == 3
    assert dice.thrown == 3


# ------------------------------------------------------------------------------------------------------------- what is told


def test_the_chosen_one_is_told_first_and_then_the_least_loaded() -> None:
    nodes = nodes_of(50)
    told = best_of(((float(50 - n), node) for n, node in enumerate(nodes)), nodes[20])
    assert len(told) == COMPARED_MAX
    assert told[:3] == ((nodes[20].key, 30.0), (nodes[49].key, 1.0), (nodes[48].key, 2.0))
