"""Pickers: each equal to its definition on any history, fair, blind to the order of the list, and of a cost that does not grow."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint, Node
from holdfast.balance.pick import PICKER_NAMES, Picker, make_picker
from holdfast.balance.picker import COMPARED_MAX
from holdfast.errors import ConfigError
from tests.balance.models.histories import GOLDEN, Dice, Event, dice_of, name_of, play

SIZES = [1, 3, 5, 50, 1000]

names = pytest.mark.parametrize("name", PICKER_NAMES)


def nodes_of(count: int, weights: tuple[float, ...] = (1.0,)) -> list[Node]:
    return [Node(Endpoint(name_of(n), weights[n % len(weights)])) for n in range(count)]


def proven(nodes: list[Node], cost_s: float = 0.01, at: float = 0.0) -> list[Node]:
    for node in nodes:
        node.observe(cost_s, at)
    return nodes


def picker_of(name: str, seed: int = 1, **more: Any) -> Picker:
    return make_picker(name, random.Random(seed), **more)


def shares(picker: Picker, nodes: list[Node], calls: int, now: float = 100.0, tried: tuple[Node, ...] = ()) -> Counter[str]:
    return Counter(picker.choose(nodes, now, None, tried).key for _ in range(calls))


# ------------------------------------------------------------------------------------------- the real machine and the models


def replay(name: str, events: list[Event], dice: Dice, *, explained: bool = False) -> list[str]:
    """The events of `models.histories`, played to the real picker and real nodes."""
    picker = make_picker(name, dice)
    ready: list[Node] = []
    chosen: list[Node] = []
    in_flight: list[tuple[Node, float, int]] = []
    now, joined = 1000.0, 0
    for event in events:
        match event:
            case ["pass", seconds]:
                now += seconds
            case ["join", weight, new]:
                node = Node(Endpoint(name_of(joined), weight), now=now)
                node.warm_at = now if new else float("-inf")
                ready.append(node)
                picker.changed(ready)
                joined += 1
            case ["leave", place] if ready:
                ready[place % len(ready)] = ready[-1]
                ready.pop()
                picker.changed(ready)
            case ["end", place, how] if in_flight:
                node, started, era = in_flight.pop(place % len(in_flight))
                end = {"ok": node.succeeded, "failed": node.failed, "let_go": node.let_go}[how]
                end(started, now, era)
            case ["choose", key, places, keep] if ready:
                tried = tuple([chosen[-1 - place] for place in places if place < len(chosen)])
                one = picker.explain(ready, now, key, tried)[0] if explained else picker.choose(ready, now, key, tried)
                chosen.append(one)
                if keep:
                    in_flight.append((one, now, one.begin(now)))
    return [node.key for node in chosen]


@names
def test_golden_traces(name: str) -> None:
    for trace in json.loads((GOLDEN / f"{name}.json").read_text("utf-8")):
        assert len(trace["chosen"]) > 15
        assert replay(name, trace["events"], dice_of(trace["dice_seed"])) == trace["chosen"]
        assert replay(name, trace["events"], dice_of(trace["dice_seed"]), explained=True) == trace["chosen"]


@names
def test_the_golden_traces_are_what_the_models_say(name: str) -> None:
    for trace in json.loads((GOLDEN / f"{name}.json").read_text("utf-8")):
        assert play(name, trace["events"], dice_of(trace["dice_seed"])) == (trace["chosen"], True)


weights = st.sampled_from([1.0, 1.0, 2.0, 0.5, 7.0])
joins = st.tuples(st.just("join"), weights, st.booleans())
happenings = st.one_of(
    *[
        st.tuples(
            st.just("choose"),
            st.none() | st.sampled_from(["a", "b", "c"]),
            st.sampled_from([[], [], [0], [0, 1], [0, 1, 2]]),
            st.sampled_from([True, True, True, False]),
        )
    ]
    * 3,
    st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(["ok", "ok", "failed", "let_go"])),
    st.tuples(st.just("pass"), st.floats(0.0, 20.0, allow_subnormal=False)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    joins,
)


@names
@given(st.lists(joins, min_size=1, max_size=8), st.lists(happenings, max_size=80), st.integers(0, 10**6))
def test_any_history_gives_what_the_definition_gives(name: str, first: list[Any], then: list[Any], seed: int) -> None:
    events = [list(event) for event in [*first, *then]]
    expected, _ = play(name, events, dice_of(seed))
    assert replay(name, events, dice_of(seed))[: len(expected)] == expected
    assert replay(name, events, dice_of(seed), explained=True)[: len(expected)] == expected


# ------------------------------------------------------------------------------------------------------------ what all promise


@names
@pytest.mark.parametrize("count", SIZES)
def test_the_chosen_node_is_one_of_the_list(name: str, count: int) -> None:
    picker, nodes = picker_of(name), nodes_of(count, (1.0, 2.0))
    picker.changed(nodes)
    for n in range(30):
        assert picker.choose(nodes, float(n), f"key {n}", ()) in nodes


@names
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("tried_count", [1, 2, 3])
def test_a_tried_node_is_chosen_only_when_there_is_no_other(name: str, count: int, tried_count: int) -> None:
    picker, nodes = picker_of(name), nodes_of(count, (5.0, 1.0))
    tried = tuple(nodes[:tried_count])
    for n in range(40):
        chosen = picker.choose(nodes, 1.0, f"key {n}", tried)
        assert (chosen in tried) == (count <= tried_count)
        chosen.begin(1.0)


@names
def test_tried_nodes_that_are_gone_are_in_nobodys_way(name: str) -> None:
    picker, nodes = picker_of(name), nodes_of(4)
    for n in range(20):
        assert picker.choose(nodes[:2], 1.0, f"{n}", (nodes[2], nodes[3], nodes[2])) in nodes[:2]


@names
def test_an_empty_list_is_taken_note_of_and_nodes_may_come_back(name: str) -> None:
    picker, nodes = picker_of(name), nodes_of(3)
    assert picker.choose(nodes, 0.0, "a", ()) in nodes
    picker.changed([])
    fresh = nodes_of(2)
    picker.changed(fresh)
    assert picker.choose(fresh, 0.0, "a", ()) in fresh


@names
def test_a_change_is_taken_in_at_once(name: str) -> None:
    picker, nodes = picker_of(name), nodes_of(5)
    picker.choose(nodes, 0.0, "a", ())
    while len(nodes) > 1:
        nodes[0] = nodes[-1]
        nodes.pop()
        picker.changed(nodes)
        for n in range(10):
            assert picker.choose(nodes, 0.0, f"{n}", ()) in nodes


@names
def test_the_same_dice_give_the_same_choices(name: str) -> None:
    nodes = nodes_of(7, (1.0, 3.0))
    runs = [[picker_of(name, seed).choose(nodes, 1.0, None, ()).key for seed in range(30)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(Counter(runs[0])) > 1, "other dice give other choices"


class Watched(list[Node]):
    """A list that counts how many of its nodes are looked at."""

    looked = 0

    def __getitem__(self, place: Any) -> Any:
        self.looked += 1
        return super().__getitem__(place)

    def __iter__(self) -> Any:
        self.looked += len(self)
        return super().__iter__()


@pytest.mark.parametrize(("name", "most"), [("p2c", 2), ("round_robin", 1), ("random", 1), ("weighted_random", 1)])
@pytest.mark.parametrize("tried_count", [0, 1, 2])
def test_a_choice_looks_at_as_few_of_1000_nodes_as_of_3(name: str, most: int, tried_count: int) -> None:
    for count in (3, 1000):
        nodes = Watched(proven(nodes_of(count)))
        picker = picker_of(name)
        tried = tuple(list.__getitem__(nodes, slice(tried_count)))
        picker.choose(nodes, 1.0, None, tried)
        nodes.looked = 0
        for _ in range(100):
            picker.choose(nodes, 1.0, None, tried)
        allowed = 2 * most + tried_count * 2 if tried_count else most
        assert 0 < nodes.looked <= 100 * allowed


@names
def test_1000_changes_make_tables_once(name: str) -> None:
    nodes = Watched(nodes_of(1000))
    picker = picker_of(name)
    picker.choose(nodes, 1.0, "key", ())
    nodes.looked = 0
    for _ in range(1000):
        picker.changed(nodes)
    assert nodes.looked == 0
    picker.choose(nodes, 1.0, "key", ())
    assert nodes.looked <= 6 * len(nodes)


@names
def test_explain_says_what_was_compared_and_not_more_than_a_few(name: str) -> None:
    picker, nodes = picker_of(name), proven(nodes_of(50))
    for n, node in enumerate(nodes):
        node.pending = 1 + n % 3
    chosen, compared = picker.explain(nodes, 1.0, "key", ())
    assert 1 <= len(compared) <= COMPARED_MAX
    assert chosen.key in [key for key, _ in compared]
    assert len(dict(compared)) == len(compared)


# ------------------------------------------------------------------------------------------------------------------- fairness


@pytest.mark.parametrize("name", [name for name in PICKER_NAMES if name != "hash"])
@pytest.mark.parametrize("count", [3, 5, 50])
def test_equal_nodes_at_rest_get_equal_shares_wherever_they_stand(name: str, count: int) -> None:
    got = shares(picker_of(name), nodes_of(count), 400 * count)
    assert len(got) == count
    assert all(280 < calls < 520 for calls in got.values()), got


@pytest.mark.parametrize("name", ["weighted_round_robin", "weighted_random"])
def test_weights_are_shares(name: str) -> None:
    nodes = nodes_of(4, (1.0, 2.0, 5.0, 0.5))
    got = shares(picker_of(name), nodes, 8500)
    assert [got[node.key] / 1000 for node in nodes] == pytest.approx([1.0, 2.0, 5.0, 0.5], rel=0.1)


@names
def test_clients_do_not_all_begin_with_the_same_node(name: str) -> None:
    nodes = nodes_of(10)
    first = Counter(picker_of(name, seed).choose(nodes, 0.0, None, ()).key for seed in range(400))
    assert len(first) == 10
    assert max(first.values()) < 90


def test_of_two_drawn_the_less_loaded_gets_the_call() -> None:
    nodes = proven(nodes_of(3))
    nodes[0].observe(1.0, 0.0)
    nodes[1].observe(0.1, 0.0)
    got = shares(picker_of("p2c"), nodes, 3000, now=0.0)
    assert got[nodes[0].key] == 0, "whoever is drawn beside it is better"
    assert got[nodes[1].key] / 3000 == pytest.approx(1 / 3, abs=0.03), "only drawn with the worst"


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_two_choices_give_the_nth_best_of_n_its_known_share(count: int, seed: int) -> None:
    nodes = nodes_of(count)
    for n, node in enumerate(nodes):
        node.observe(1.0 + n, 0.0)
    random.Random(seed).shuffle(nodes)
    got = shares(picker_of("p2c", seed), nodes, 2000, now=0.0)
    pairs = count * (count - 1) / 2
    for node in nodes:
        worse = count - node.cost
        assert got[node.key] / 2000 == pytest.approx(worse / pairs, abs=0.06), "it wins each pair with a worse one"


def test_the_load_of_two_is_compared_as_of_now_whichever_was_heard_of_last() -> None:
    for stamps in ((0.0, 9.0), (9.0, 0.0), (5.0, 5.0)):
        nodes = nodes_of(2)
        for node, stamp, cost_s in zip(nodes, stamps, (0.2, 0.1), strict=True):
            node.observe(cost_s, stamp)
        best = min(nodes, key=lambda node: node.score(9.0))
        assert set(shares(picker_of("p2c"), nodes, 20, now=9.0)) == {best.key}


def test_a_load_from_long_ago_is_compared_without_overflowing() -> None:
    nodes = nodes_of(2)
    nodes[0].observe(1e6, 0.0)
    nodes[1].observe(1e-6, 1e6)
    for order in (nodes, nodes[::-1]):
        assert set(shares(picker_of("p2c"), order, 20, now=1e6)) == {nodes[0].key}


def test_an_unproven_node_gets_one_trial_and_no_second_before_it_answers() -> None:
    nodes = proven(nodes_of(5), 0.01)
    new = Node(Endpoint("tcp://new:1"))
    nodes.append(new)
    picker = picker_of("p2c")
    for _ in range(500):
        if picker.choose(nodes, 0.0, None, ()) is new:
            new.begin(0.0)
    assert new.pending == 1


def test_what_said_it_is_full_counts_double() -> None:
    nodes = proven(nodes_of(2))
    nodes[1].load = 1.0
    assert set(shares(picker_of("p2c"), nodes, 50, now=0.0)) == {nodes[0].key}
    nodes[0].pending = 2
    assert set(shares(picker_of("p2c"), nodes, 50, now=0.0)) == {nodes[1].key}


def test_round_robin_visits_everybody_in_each_round() -> None:
    nodes = nodes_of(50)
    picker = picker_of("round_robin")
    for _ in range(3):
        assert len(shares(picker, nodes, 50)) == 50


def test_round_robin_goes_on_after_whoever_stood_in_for_a_tried_one() -> None:
    nodes = nodes_of(3)
    picker = make_picker("round_robin", Dice([0.0]))
    order = [nodes.index(picker.choose(nodes, 0.0, None, tried)) for tried in ((), (nodes[1],), (), (), (nodes[2],))]
    assert order == [0, 2, 0, 1, 0]


@pytest.mark.parametrize(
    ("weighted", "order"),
    [((5.0, 1.0, 1.0), "aabacaa"), ((1.0, 1.0, 1.0), "abcabc"), ((2.0, 1.0), "abaaba"), ((4.0, 2.0, 1.0), "abacaba" * 2)],
)
def test_smooth_weights_are_nginxs_own_order(weighted: tuple[float, ...], order: str) -> None:
    """The first row is the example of nginx's own commit message of 2012; dice that always show the same start nobody ahead."""
    nodes = nodes_of(len(weighted), weighted)
    picker = make_picker("weighted_round_robin", Dice([0.5]))
    assert "".join("abc"[nodes.index(picker.choose(nodes, 0.0, None, ()))] for _ in order) == order


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 10**6))
def test_smooth_weights_are_exact_over_each_period_and_spaced_within(weighted: list[int], seed: int) -> None:
    nodes = [Node(Endpoint(name_of(n), float(weight))) for n, weight in enumerate(weighted)]
    picker, period = picker_of("weighted_round_robin", seed), sum(weighted)
    order = [picker.choose(nodes, 0.0, None, ()) for _ in range(3 * period)]
    for node, weight in zip(nodes, weighted, strict=True):
        times = [at for at, each in enumerate(order) if each is node]
        assert abs(len(times) - 3 * weight) <= 2
        gaps = [after - before for before, after in pairwise(times)]
        assert all(gap <= 3 * period / weight + 1 for gap in gaps), "never long without"


def test_smooth_weights_go_on_where_they_were_when_the_set_changes() -> None:
    nodes = nodes_of(1000)
    picker = picker_of("weighted_round_robin")
    shares(picker, nodes, 500)
    del nodes[3:]
    picker.changed(nodes)
    got = shares(picker, nodes, 12)
    assert all(calls == pytest.approx(4, abs=2) for calls in got.values())
    assert len(got) == 3, "nobody pays in a small set what it owed in a large one"


def test_least_loaded_counts_calls_for_the_weight() -> None:
    nodes = nodes_of(3, (1.0, 2.0, 4.0))
    picker = picker_of("least_loaded")
    for _ in range(70):
        picker.choose(nodes, 0.0, None, ()).begin(0.0)
    assert [node.pending for node in nodes] == [10, 20, 40]


# ----------------------------------------------------------------------------------------------------------------- slow start


@pytest.mark.parametrize("name", [name for name in PICKER_NAMES if name != "hash"])
@pytest.mark.parametrize(("passed_s", "factor"), [(0.0, 0.1), (15.0, 0.5)])
def test_while_it_is_new_a_node_gets_its_factor_of_a_share(name: str, passed_s: float, factor: float) -> None:
    nodes = nodes_of(5)
    nodes[2].warm_at = 100.0
    got = shares(picker_of(name), nodes, 20000, now=100.0 + passed_s)
    share = got[nodes[2].key] / 20000
    assert 0.88 * factor / 5 < share < 1.12 * factor / (4 + factor), "its factor of a fifth, or of what the others get"
    assert shares(picker_of(name), nodes, 5000, now=130.0)[nodes[2].key] > 850


@pytest.mark.parametrize("name", [name for name in PICKER_NAMES if name != "hash"])
def test_where_all_are_new_none_is_spared(name: str) -> None:
    nodes = nodes_of(5)
    for node in nodes:
        node.warm_at = 100.0
    got = shares(picker_of(name), nodes, 5000, now=100.0)
    assert all(800 < calls < 1200 for calls in got.values()), got


@names
def test_a_new_node_that_is_alone_or_the_only_untried_one_gets_the_call(name: str) -> None:
    nodes = nodes_of(2)
    nodes[0].warm_at = 100.0
    picker = picker_of(name)
    assert all(picker.choose(nodes, 100.0, f"{n}", (nodes[1],)) is nodes[0] for n in range(40))
    assert all(picker.choose(nodes[:1], 100.0, f"{n}", ()) is nodes[0] for n in range(40) if not picker.changed(nodes[:1]))


def test_a_new_node_that_is_much_less_loaded_is_not_flooded() -> None:
    nodes = proven(nodes_of(5), 1.0)
    nodes[0].warm_at = 0.0
    for node in nodes[1:]:
        for _ in range(10):
            node.begin(0.0)
    got = shares(picker_of("p2c"), nodes, 10000, now=0.0)
    assert got[nodes[0].key] / 10000 == pytest.approx(0.1 * 2 / 5, rel=0.2), "drawn in two pairs of five, taken once in ten"


# --------------------------------------------------------------------------------------------------------------------- refusals


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="picker='best': expected one of p2c, round_robin, weighted_round_robin, random"):
        picker_of("best")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: picker_of("hash", hash_factor=1.0), "hash_factor=1.0: expected above 1"),
        (lambda: picker_of("hash", hash_factor=float("inf")), "hash_factor=inf"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_no_new_node_makes_way_for_one_that_stands_still_or_fails() -> None:
    """Or the calls that spare it would all go where nobody answers."""
    picker = picker_of("p2c")
    new, other = nodes_of(2)
    proven([new, other], at=1.0)
    new.warm_at = 1.0
    other.begin(1.0)
    assert shares(picker, [new, other], 1000, now=1.01)[other.key] > 700, "it is one call busier"
    assert shares(picker, [new, other], 1000, now=1.1)[other.key] == 0, "it has not answered for ten times its time"
    other.failed(1.0, 1.1, 1)
    assert shares(picker, [new, other], 1000, now=1.2)[other.key] == 0
