"""Ejection: few calls and many, one fault and everybody's, the cap, the way back; beside a slow model and a numeric integral."""

from __future__ import annotations

import json
import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.eject import LARGE, EjectConfig, Ejector, beta_above, median_without, worse
from holdfast.balance.endpoint import Endpoint, Node
from holdfast.errors import ConfigError
from holdfast.facts import Fact, NodeEjected
from holdfast.handler import Mode
from tests.balance.models import eject as slow

GOLDEN: dict[str, Any] = json.loads(slow.GOLDEN.read_text())


class Gate:
    """A breaker of which only this is looked at."""

    shut = False


class Cluster:
    """Nodes with an ejector, and a clock that a test turns."""

    def __init__(self, names: str | list[str], config: EjectConfig | None = None) -> None:
        self.facts: list[Fact] = []
        self.ejector = Ejector(config or EjectConfig(), self.facts.append)
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.join(name)

    def join(self, name: str) -> None:
        self.nodes[name] = Node(Endpoint(name), gate=Gate())  # type: ignore[arg-type]

    def did(self, name: str, attempts: int, failures: int = 0) -> None:
        self.nodes[name].attempts += attempts
        self.nodes[name].failures += failures

    def sweep(self, after_s: float = 10.0) -> tuple[list[tuple[str, float]], list[str]]:
        self.now += after_s
        sweep = self.ejector.sweep(self.nodes.values(), self.now)
        return [(each.node.key, each.for_s) for each in sweep.ejected], [node.key for node in sweep.back]

    def interval(self, **did: tuple[int, int]) -> list[str]:
        """Ten seconds in which each named node did so much; returns who is ejected at their end."""
        for name, counts in did.items():
            self.did(name, *counts)
        return [key for key, _ in self.sweep()[0]]


# ------------------------------------------------------------------------------------------------------------ how sure it is


@pytest.mark.parametrize(
    ("attempts", "failures", "median", "out"),
    [
        (4, 4, 0.0, False),
        (5, 5, 0.0, True),
        (8, 8, 0.0, True),
        (8, 8, 0.5, False),
        (30, 30, 0.5, True),
        (10, 5, 0.0, False),
        (12, 6, 0.0, True),
        (100, 15, 0.0, False),
        (300, 45, 0.0, True),
        (1000, 120, 0.0, False),
        (2000, 240, 0.0, True),
        (10**6, 10**5, 0.0, False),
        (10**6, 102_000, 0.0, True),
        (10**6, 10**6, 0.95, False),
    ],
)
def test_what_it_takes(attempts: int, failures: int, median: float, out: bool) -> None:
    assert (worse(attempts, failures, median, 0.1) > 0.99) is out


@pytest.mark.parametrize(("attempts", "cleared"), [(5, False), (10, False), (12, True), (20, True)])
def test_some_calls_without_a_failure_clear_a_node(attempts: int, cleared: bool) -> None:
    assert (worse(attempts, 0, 0.0, 0.1) < 0.01) is cleared


@given(st.floats(0.1, 400), st.floats(0.5, 400), st.floats(0.05, 0.95))
def test_the_tail_of_a_beta_is_the_integral(a: float, b: float, x: float) -> None:
    assert beta_above(a, b, x) == pytest.approx(slow.integral_above(a, b, x), abs=1e-6)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 0.99))
def test_with_whole_numbers_it_is_a_sum_of_binomials(a: int, b: int, x: float) -> None:
    n = a + b - 1
    exact = math.fsum(math.exp(math.log(math.comb(n, k)) + k * math.log(x) + (n - k) * math.log1p(-x)) for k in range(a))
    assert beta_above(a, b, x) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("x", [0.01, 0.1, 0.11, 0.12, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.98])
def test_for_large_numbers_the_two_ways_to_compute_it_agree(x: float, share: float) -> None:
    below, above = LARGE * 0.999, LARGE * 1.001
    assert beta_above(below * share, below * (1 - share), x) == pytest.approx(beta_above(above * share, above * (1 - share), x), abs=6e-3)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 1.0]), min_size=2, max_size=9), st.data())
def test_the_median_of_the_others(shares: list[float], data: st.DataObject) -> None:
    shares.sort()
    assert median_without(shares, None) == pytest.approx(statistics.median(shares))
    own = data.draw(st.sampled_from(shares))
    others = list(shares)
    others.remove(own)
    assert median_without(shares, own) == pytest.approx(statistics.median(others))


# ------------------------------------------------------------------------------------------------------------ who is ejected


def test_a_dead_node_is_out_after_an_interval_with_five_failures() -> None:
    cluster = Cluster("abc")
    assert cluster.interval(a=(5, 5), b=(20, 0), c=(20, 0)) == ["a"]
    assert (cluster.nodes["a"].ejected_until, cluster.ejector.ejections, cluster.ejector.out) == (40.0, 1, 1)
    assert cluster.facts == [NodeEjected("a", "5 of 5 attempts failed in 10 s; of its peers' 0 %", 30.0, enforced=True)]


def test_with_few_calls_it_looks_back_further() -> None:
    cluster = Cluster("abc")
    verdicts = [cluster.interval(a=(1, 1), b=(1, 0), c=(1, 0)) for _ in range(8)]
    assert verdicts == [[], [], [], [], ["a"], [], [], []]


@pytest.mark.parametrize("failing", [0, 5, 20])
def test_when_all_do_the_same_nobody_is_out(failing: int) -> None:
    cluster = Cluster("abcde")
    assert [cluster.interval(**dict.fromkeys("abcde", (20, failing))) for _ in range(40)] == [[]] * 40


def test_of_two_nodes_none_is_out_and_of_three_one() -> None:
    two, three = Cluster("ab"), Cluster("abc")
    assert two.interval(a=(50, 50), b=(50, 0)) == []
    assert three.interval(a=(50, 50), b=(50, 50), c=(50, 0)) == ["a"]
    assert three.interval(b=(50, 50), c=(50, 0)) == []
    assert two.ejector.ejections == 0


def test_the_worst_go_first_and_no_more_than_a_tenth() -> None:
    names = [f"n{number:02}" for number in range(20)]
    cluster = Cluster(names)
    bad = {"n05": (20, 12), "n06": (20, 20), "n07": (20, 16)}
    assert cluster.interval(**{name: bad.get(name, (20, 0)) for name in names}) == ["n06", "n07"]
    assert cluster.interval(**{name: (20, 12) if name == "n05" else (20, 0) for name in names}) == []
    assert cluster.ejector.out == 2


def test_peers_with_next_to_no_calls_say_nothing() -> None:
    cluster = Cluster("abcd")
    assert cluster.interval(a=(50, 50), b=(4, 0), c=(4, 0), d=(50, 0)) == []
    assert cluster.interval(a=(50, 50), b=(4, 0), c=(4, 0), d=(50, 0)) == ["a"]


def test_one_that_has_recovered_is_not_judged_by_its_past() -> None:
    cluster = Cluster("abc")
    cluster.interval(a=(4, 4), b=(20, 0), c=(20, 0))
    assert cluster.interval(a=(20, 0), b=(20, 0), c=(20, 0)) == []
    assert cluster.interval(a=(1, 1), b=(20, 0), c=(20, 0)) == []


def test_attempts_in_flight_and_those_given_up_count_for_nothing() -> None:
    cluster = Cluster("abc")
    node = cluster.nodes["a"]
    node.attempts, node.pending, node.given_up, node.failures = 50, 20, 24, 5
    assert cluster.interval(b=(20, 0), c=(20, 0)) == ["a"]
    assert cluster.facts == [NodeEjected("a", "5 of 6 attempts failed in 10 s; of its peers' 0 %", 30.0, enforced=True)]


def test_a_node_of_the_node_class_is_counted_as_it_counts_itself() -> None:
    cluster = Cluster("bc")
    node = cluster.nodes["a"] = Node(Endpoint("a"))
    for _ in range(6):
        node.failed(0.0, 0.1, node.begin(0.0))
        node.let_go(0.0, 0.1, node.begin(0.0))
    node.begin(0.0)
    assert cluster.interval(b=(20, 0), c=(20, 0)) == ["a"]
    assert [fact.reason[:7] for fact in cluster.facts if isinstance(fact, NodeEjected)] == ["6 of 6 "]


def test_while_its_breaker_is_shut_a_node_is_left_to_it_and_what_it_did_is_forgotten() -> None:
    cluster = Cluster("abc")
    gate = cluster.nodes["a"].gate = Gate()  # type: ignore[assignment]
    gate.shut = True
    assert cluster.interval(a=(50, 50), b=(20, 0), c=(20, 0)) == []
    gate.shut = False
    assert cluster.interval(a=(3, 3), b=(20, 0), c=(20, 0)) == []
    assert cluster.interval(a=(3, 3), b=(20, 0), c=(20, 0)) == ["a"]


def test_a_node_that_joined_is_judged_by_all_it_did_and_one_that_left_is_forgotten() -> None:
    cluster = Cluster("bc")
    cluster.interval(b=(20, 0), c=(20, 0))
    cluster.join("a")
    assert cluster.interval(a=(10, 10), b=(20, 0), c=(20, 0)) == ["a"]
    del cluster.nodes["a"]
    assert (cluster.sweep(), cluster.ejector.out) == (([], []), 0)
    cluster.join("a")
    assert cluster.interval(a=(10, 10), b=(20, 0), c=(20, 0)) == ["a"]
    assert [fact.for_s for fact in cluster.facts if isinstance(fact, NodeEjected)] == [30.0, 30.0]


# ------------------------------------------------------------------------------------------------------------ out and back


def test_it_is_back_when_its_time_is_up_not_at_the_next_look() -> None:
    cluster = Cluster("abc", EjectConfig(base_s=12.0))
    cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
    assert cluster.sweep(10.0) == ([], [])
    assert cluster.ejector.next_at == 22.0
    assert cluster.sweep(1.9) == ([], [])
    assert cluster.sweep(0.1) == ([], ["a"])
    assert (cluster.nodes["a"].ejected_until, cluster.ejector.out, cluster.ejector.next_at) == (0.0, 0, 30.0)


def test_each_time_it_is_out_for_longer_up_to_the_maximum() -> None:
    cluster = Cluster("abc", EjectConfig(max_s=100.0))
    times: list[float] = []
    while len(times) < 6:
        cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
        times = [fact.for_s for fact in cluster.facts if isinstance(fact, NodeEjected)]
    assert times == [30.0, 60.0, 90.0, 100.0, 100.0, 100.0]


def test_an_interval_in_which_it_does_well_takes_one_ejection_off_and_one_without_calls_none() -> None:
    def out_again_after(*good: int) -> float:
        cluster = Cluster("abc")
        for _ in range(2):
            while not cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0)):
                pass
        while cluster.nodes["a"].ejected_until:
            cluster.interval(b=(20, 0), c=(20, 0))
        for attempts in good:
            assert cluster.interval(a=(attempts, 0), b=(20, 0), c=(20, 0)) == []
        cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
        return [fact.for_s for fact in cluster.facts if isinstance(fact, NodeEjected)][-1]

    assert [out_again_after(*good) for good in ((), (0, 0, 0), (20,), (20, 0), (20, 20), (20, 20, 20))] == [90, 90, 60, 60, 30, 30]


def test_however_often_it_was_out_it_can_make_good_what_counts() -> None:
    cluster = Cluster("abc", EjectConfig(max_s=60.0))

    def times() -> list[float]:
        return [fact.for_s for fact in cluster.facts if isinstance(fact, NodeEjected)]

    while len(times()) < 5:
        cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
    while cluster.nodes["a"].ejected_until:
        cluster.interval(b=(20, 0), c=(20, 0))
    for _ in range(2):
        cluster.interval(a=(20, 0), b=(20, 0), c=(20, 0))
    cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
    assert times() == [30.0, 60.0, 60.0, 60.0, 60.0, 30.0]


def test_what_it_does_while_it_is_out_is_not_looked_at() -> None:
    cluster = Cluster("abc")
    cluster.interval(a=(20, 20), b=(20, 0), c=(20, 0))
    cluster.interval(a=(500, 500), b=(20, 0), c=(20, 0))
    cluster.interval(a=(500, 500), b=(20, 0), c=(20, 0))
    assert cluster.sweep() == ([], ["a"])
    assert cluster.interval(a=(4, 4), b=(20, 0), c=(20, 0)) == []


# ------------------------------------------------------------------------------------------------------------ modes


def test_off_looks_at_nothing() -> None:
    cluster = Cluster("abc", EjectConfig(mode="off"))
    assert cluster.ejector.next_at == math.inf
    assert cluster.interval(a=(50, 50), b=(50, 0), c=(50, 0)) == []
    assert (cluster.facts, cluster.ejector.ejections, cluster.ejector.would) == ([], 0, 0)


def test_shadow_says_what_it_would_do_and_does_nothing() -> None:
    cluster = Cluster("abc", EjectConfig(mode="shadow"))
    assert cluster.interval(a=(50, 50), b=(50, 0), c=(50, 0)) == []
    assert (cluster.nodes["a"].ejected_until, cluster.ejector.would, cluster.ejector.ejections, cluster.ejector.out) == (0.0, 1, 0, 1)
    assert [(fact.node, fact.enforced) for fact in cluster.facts if isinstance(fact, NodeEjected)] == [("a", False)]
    assert cluster.sweep(30.0) == ([], [])
    assert cluster.ejector.out == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "on"),
        ("interval_s", 0),
        ("interval_s", 301),
        ("window_max_s", math.inf),
        ("margin", 0.01),
        ("margin", 1),
        ("confidence", 0.89),
        ("confidence", 1),
        ("failures_min", 0),
        ("base_s", 0),
        ("base_s", 301),
        ("max_s", math.inf),
        ("share_max", 0),
        ("share_max", 1.1),
        ("share_max", math.nan),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value!r}.*: expected "):
        EjectConfig(**{field: value})


# ------------------------------------------------------------------------------------------------------------ beside the model


def replay(looks: list[slow.Look], config: dict[str, Any], mode: Mode) -> tuple[Ejector, list[dict[str, Any]], list[Fact]]:
    facts: list[Fact] = []
    ejector = Ejector(EjectConfig(mode=mode, **config), facts.append)
    nodes: dict[str, Node] = {}
    sweeps = []
    for at, did in looks:
        nodes = {key: nodes.get(key) or Node(Endpoint(key), gate=Gate()) for key in did}  # type: ignore[arg-type]
        for key, (attempts, failures, shut) in did.items():
            nodes[key].attempts += attempts
            nodes[key].failures += failures
            nodes[key].gate.shut = shut
        sweep = ejector.sweep(nodes.values(), at)
        for node in nodes.values():
            assert not node.ejected_until or (mode == "enforce" and node.ejected_until > at)
        sweeps.append({"ejected": [[each.node.key, each.for_s] for each in sweep.ejected], "back": [node.key for node in sweep.back]})
    return ejector, sweeps, facts


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_traces(name: str) -> None:
    trace = GOLDEN[name]
    ejector, sweeps, facts = replay(trace["looks"], trace["config"], "enforce")
    assert sweeps == trace["sweeps"]
    shadow, nothing, shadow_facts = replay(trace["looks"], trace["config"], "shadow")
    assert shadow.would == ejector.ejections == len(facts) == sum(len(each["ejected"]) for each in trace["sweeps"])
    assert [(fact.node, fact.for_s) for fact in shadow_facts if isinstance(fact, NodeEjected)] == [
        (fact.node, fact.for_s) for fact in facts if isinstance(fact, NodeEjected)
    ]
    assert not any(each["ejected"] or each["back"] for each in nothing)


def test_the_golden_traces_are_the_models() -> None:
    name = "it fails each time it is back"
    assert json.loads(json.dumps(slow.golden(name)[name])) == GOLDEN[name]


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("a dead node of five", {"a"}),
        ("a dead node of three, one call in five seconds", {"a"}),
        ("it dies after ten good minutes", {"a"}),
        ("half of its calls fail", {"a"}),
        ("a fifth of its calls fail", {"a"}),
        ("all fail", set()),
        ("all fail at times", set()),
        ("two nodes", set()),
        ("nobody calls", set()),
        ("seven of thirty are worse and three may be out", {"n02", "n03", "n04", "n05", "n06", "n07"}),
    ],
)
def test_the_golden_traces_say_what_their_names_say(name: str, nodes: set[str]) -> None:
    assert {key for sweep in GOLDEN[name]["sweeps"] for key, _ in sweep["ejected"]} == nodes


@given(
    st.integers(0, 2**32),
    st.sampled_from([{}, {"margin": 0.3, "share_max": 0.5}, {"failures_min": 1, "window_max_s": 50.0}, {"base_s": 7.0}]),
)
def test_any_history_goes_as_in_the_model(seed: int, config: dict[str, Any]) -> None:
    looks = slow.random_history(random.Random(seed))
    model = slow.SlowEjector(**config)
    expected = json.loads(json.dumps([model.look(at, nodes) for at, nodes in looks]))
    ejector, sweeps, _ = replay(looks, config, "enforce")
    assert sweeps == expected
    assert replay(looks, config, "shadow")[0].would == ejector.ejections


# ------------------------------------------------------------------------------------------------------------ how often it is wrong


@pytest.mark.parametrize("failing", [0.001, 0.01, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("per_s", [0.2, 1.0, 10.0])
def test_equal_nodes_are_left_alone(failing: float, per_s: float) -> None:
    rng = random.Random(f"{failing}/{per_s}")
    rates = {f"n{number}": slow.steady(per_s, failing) for number in range(10)}
    ejections = sum(replay(slow.history(rng, rates, 600.0, 10.0), {}, "enforce")[0].ejections for _ in range(3))
    assert ejections <= 1, "of 1,800 looks at equal nodes"


@pytest.mark.parametrize(
    ("per_s", "failing", "within_s"), [(0.2, 1.0, 60), (1.0, 1.0, 20), (1.0, 0.5, 60), (2.0, 0.3, 120), (10.0, 0.15, 300)]
)
def test_a_worse_node_is_found(per_s: float, failing: float, within_s: float) -> None:
    rates = {"a": slow.steady(per_s, failing), **dict.fromkeys("bcde", slow.steady(per_s, 0.001))}
    found = sum(replay(slow.history(random.Random(seed), rates, within_s, 10.0), {}, "enforce")[0].ejections > 0 for seed in range(20))
    assert found >= 18, "of 20"
