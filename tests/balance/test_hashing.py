"""Consistent hashing: equal to looking at every point, even, the same everywhere, little moved by a change, and never over the bound."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint, Node
from holdfast.balance.hashing import CIRCLE, ConsistentHash, Ring, of_key, of_node
from holdfast.balance.picker import SlowStart
from tests.balance.models import ring as model
from tests.balance.models.histories import name_of
from tests.balance.models.pick import Hashed, View

KEYS = [f"user {n}" for n in range(2000)]


def nodes_of(count: int, weights: tuple[float, ...] = (1.0,)) -> list[Node]:
    return [Node(Endpoint(name_of(n), weights[n % len(weights)])) for n in range(count)]


def ring_of(nodes: list[Node]) -> Ring:
    ring = Ring()
    ring.place(nodes)
    return ring


def owners(nodes: list[Node]) -> dict[str, str]:
    ring = ring_of(nodes)
    return {key: ring.find(of_key(key)).key for key in KEYS}


def picker_of(seed: int = 1, **more: float) -> ConsistentHash:
    return ConsistentHash(random.Random(seed), SlowStart(), **more)


# ---------------------------------------------------------------------------------------------------------------------- the ring


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.sampled_from([1.0, 2.0, 0.25, 3.0, 100.0])), min_size=1, max_size=12, unique_by=lambda n: n[0]
    ),
    st.lists(st.text(max_size=8), max_size=10),
)
def test_a_key_prefers_what_a_look_at_every_point_says(nodes: list[tuple[str, float]], keys: list[str]) -> None:
    ring = ring_of([Node(Endpoint(key, weight)) for key, weight in nodes])
    for key in keys:
        expected = model.preference(key, nodes)
        assert [node.key for node in ring.walk(of_key(key))] == expected
        assert ring.find(of_key(key)).key == expected[0]
        assert len(expected) == len(nodes)


@pytest.mark.parametrize("count", [1, 3, 5, 50, 1000])
def test_a_walk_meets_everybody_once(count: int) -> None:
    ring = ring_of(nodes_of(count))
    for key in KEYS[:3]:
        walked = list(ring.walk(of_key(key)))
        assert len(walked) == len({node.key for node in walked}) == count
        assert walked[0] is ring.find(of_key(key))


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_the_order_of_the_list_says_nothing(count: int, seed: int) -> None:
    nodes = nodes_of(count, (1.0, 3.0))
    shuffled = nodes[:]
    random.Random(seed).shuffle(shuffled)
    first, second = ring_of(nodes), ring_of(shuffled)
    for key in KEYS[:50]:
        assert list(first.walk(of_key(key))) == list(second.walk(of_key(key)))


@pytest.mark.parametrize(("count", "most"), [(3, 1.25), (5, 1.25), (50, 1.45)])
def test_keys_are_spread_evenly(count: int, most: float) -> None:
    ring = ring_of(nodes_of(count))
    got = Counter(ring.find(of_key(f"{n}")).key for n in range(400 * count))
    assert len(got) == count
    assert max(got.values()) < most * 400


def test_a_heavier_node_gets_more_keys() -> None:
    nodes = nodes_of(6, (1.0, 3.0))
    got = Counter(owners(nodes).values())
    heavy = sum(got[node.key] for node in nodes if node.weight == 3.0)
    assert heavy / len(KEYS) == pytest.approx(0.75, abs=0.1)


def test_only_the_ratio_of_weights_counts() -> None:
    assert owners(nodes_of(6, (1.0, 3.0))) == owners(nodes_of(6, (16384.0, 49152.0)))


@pytest.mark.parametrize("count", [3, 5, 50, 1000])
def test_a_node_that_comes_takes_its_share_and_nothing_else_moves(count: int) -> None:
    nodes = nodes_of(count + 1)
    before, after = owners(nodes[:-1]), owners(nodes)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} <= {nodes[-1].key}
    assert len(moved) / len(KEYS) <= 1.5 / (count + 1) + 0.005
    assert moved or count == 1000


@pytest.mark.parametrize("count", [3, 5, 50, 1000])
def test_a_node_that_goes_gives_its_keys_to_many_and_nothing_else_moves(count: int) -> None:
    nodes = nodes_of(count)
    gone = Counter(owners(nodes).values()).most_common(1)[0][0]
    before, after = owners(nodes), owners([node for node in nodes if node.key != gone])
    moved = [key for key in KEYS if before[key] != after[key]]
    assert moved == [key for key in KEYS if before[key] == gone]
    assert len({after[key] for key in moved}) >= min(count - 1, 5), "not all to its neighbour"


@given(st.lists(st.integers(0, 40), min_size=2, max_size=20, unique=True), st.data())
def test_whatever_comes_or_goes_only_its_own_keys_move(numbers: list[int], data: st.DataObject) -> None:
    nodes = [Node(Endpoint(name_of(number))) for number in numbers]
    one = data.draw(st.sampled_from(nodes))
    with_it, without_it = ring_of(nodes), ring_of([node for node in nodes if node is not one])
    for key in KEYS[:200]:
        places = of_key(key)
        assert with_it.find(places) in (one, without_it.find(places))


def test_a_ring_placed_again_is_as_a_new_one_and_forgets_who_is_gone() -> None:
    nodes = nodes_of(20)
    ring = ring_of(nodes)
    ring.place(nodes[5:8])
    fresh = ring_of(nodes[5:8])
    for key in KEYS[:100]:
        assert ring.find(of_key(key)) is fresh.find(of_key(key))
    assert len(ring._known) == 3
    ring.place([])
    ring.place(nodes)
    again = ring_of(nodes)
    assert all(ring.find(of_key(key)) is again.find(of_key(key)) for key in KEYS[:20])


def test_two_nodes_on_one_point_are_told_apart_by_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.balance.hashing.of_node", lambda key: (7,) * 8)
    nodes = nodes_of(3)
    for order in (nodes, nodes[::-1]):
        assert ring_of(order).find(of_key("any")) is nodes[0]


def test_places_are_pinned_for_ever_and_the_same_in_every_process() -> None:
    code = "from holdfast.balance.hashing import of_key, of_node; print(of_key('user 7')[:2], of_node('tcp://10.0.0.1:7000')[:2])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == "(730017498, 1054229180) (452664264, 207980560)"
    assert all(0 <= place < CIRCLE for place in (*of_key("user 7"), *of_node("user 7")))
    assert of_key("\ud800"), "text that came in broken is a key as well"


# -------------------------------------------------------------------------------------------------------------------- the picker


def test_a_key_keeps_its_node_while_that_is_at_rest() -> None:
    nodes, picker = nodes_of(50), picker_of()
    expected = owners(nodes)
    for key in KEYS[:300]:
        assert {picker.choose(nodes, 0.0, key, ()).key for _ in range(2)} == {expected[key]}


def test_calls_without_a_key_go_everywhere() -> None:
    nodes, picker = nodes_of(10), picker_of()
    got = Counter(picker.choose(nodes, 0.0, None, ()).key for _ in range(3000))
    assert len(got) == 10
    assert max(got.values()) < 450


@given(
    st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=1, max_size=9),
    st.lists(st.tuples(st.sampled_from(["hot", "hot", "hot", "a", "b", "c"]), st.booleans()), max_size=120),
    st.sampled_from([1.1, 1.25, 2.0]),
)
def test_nobody_ever_gets_more_than_its_bound(weights: list[float], calls: list[tuple[str, bool]], factor: float) -> None:
    nodes = [Node(Endpoint(name_of(n), weight)) for n, weight in enumerate(weights)]
    picker, out = picker_of(factor=factor), list[Node]()
    total = sum(weights)
    for key, one_ends in calls:
        if one_ends and out:
            out.pop(len(out) // 2).pending -= 1
        chosen = picker.choose(nodes, 0.0, key, ())
        chosen.pending += 1
        out.append(chosen)
        assert chosen.pending <= math.ceil(factor * len(out) * chosen.weight / total - 1e-9)


def test_one_popular_key_spreads_over_all_in_its_own_order() -> None:
    nodes, picker = nodes_of(5), picker_of()
    for _ in range(100):
        picker.choose(nodes, 0.0, "hot", ()).pending += 1
    assert sorted(node.pending for node in nodes)[-1] == 25
    assert [node.pending for node in ring_of(nodes).walk(of_key("hot"))] == [25, 25, 25, 25, 0]


def test_what_two_popular_keys_of_one_node_spill_goes_different_ways() -> None:
    nodes = nodes_of(20)
    ring = ring_of(nodes)
    same = [key for key in KEYS if ring.find(of_key(key)) is nodes[3]]
    second = Counter(list(ring.walk(of_key(key)))[1].key for key in same)
    assert len(second) > 5


def test_a_tried_node_is_passed_by_even_when_all_others_are_full() -> None:
    nodes, picker = nodes_of(2), picker_of()
    nodes[1].pending = 10
    assert picker.choose(nodes, 0.0, "a", (nodes[0],)) is nodes[1]
    assert picker.choose(nodes, 0.0, "a", (nodes[0], nodes[1])) in nodes


def test_a_new_node_gets_more_and_more_of_its_keys_and_each_moves_once() -> None:
    nodes, picker = nodes_of(5), picker_of()
    new = nodes[0]
    new.warm_at = 100.0
    final = owners(nodes)
    own = [key for key in KEYS if final[key] == new.key]
    has = {passed_s: {key for key in own if picker.choose(nodes, 100.0 + passed_s, key, ()) is new} for passed_s in (0.0, 9.0, 21.0, 30.0)}
    assert [len(keys) / len(own) for keys in has.values()] == pytest.approx([0.1, 0.3, 0.7, 1.0], abs=0.08)
    assert has[0.0] < has[9.0] < has[21.0] < has[30.0] == set(own)
    others = [key for key in KEYS if final[key] != new.key]
    assert all(picker.choose(nodes, 100.0, key, ()).key == final[key] for key in others)


def test_a_new_node_has_a_smaller_bound_too() -> None:
    nodes, picker = nodes_of(2), picker_of()
    nodes[0].warm_at = 0.0
    ring = ring_of(nodes)
    key = next(key for key in KEYS if ring.find(of_key(key)) is nodes[0] and model.share_of_chance(key) < 0.1)
    for _ in range(110):
        picker.choose(nodes, 0.0, key, ()).pending += 1
    assert [node.pending for node in nodes] == [13, 97], "1.25 times its eleventh, rounded up"
    views = [View(node.key, node.weight, warmth, node.pending - 1, 0.0) for node, warmth in zip(nodes, (0.1, 1.0), strict=True)]
    assert Hashed().room(views)[nodes[0].key] == 13


def test_where_all_that_are_left_are_full_the_key_gets_the_one_it_likes_best() -> None:
    nodes, picker = nodes_of(3), picker_of()
    for key in KEYS[:20]:
        way = list(ring_of(nodes).walk(of_key(key)))
        way[0].pending = way[1].pending = 10
        way[2].pending = 0
        assert picker.choose(nodes, 0.0, key, (way[2],)) is way[0]


def test_two_nodes_as_near_as_one_another_are_told_apart_the_same_way_everywhere() -> None:
    nodes = nodes_of(2)
    one, other = of_node(nodes[0].key)[0] - 1, of_node(nodes[1].key)[0] - 1
    ring = ring_of(nodes)
    for places in ((one, other) * 8, (other, one) * 8):
        assert ring.find(places) is next(ring.walk(places)) is (nodes[0] if one < other else nodes[1])


def test_explain_shows_the_way_from_the_keys_own_node_to_the_one_with_room() -> None:
    nodes, picker = nodes_of(5), picker_of()
    way = list(ring_of(nodes).walk(of_key("hot")))
    way[0].pending = way[1].pending = 4
    chosen, compared = picker.explain(nodes, 0.0, "hot", ())
    assert chosen is way[2]
    assert compared == ((way[0].key, 4), (way[1].key, 4), (way[2].key, 0))
