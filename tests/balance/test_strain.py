"""Strain: one slow node and most of them, few calls and many, how long it lasts, and what shadow would have done."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint, Node, NodeState
from holdfast.balance.strain import LATE_MIN, Strain, StrainConfig
from holdfast.errors import ConfigError
from holdfast.handler import Mode


def connect(node: Node, state: NodeState) -> None:
    """As its balancer would: who is connected takes calls."""
    node.state, node.place = state, 0 if state == "ready" else -1


class Group:
    """Nodes that take calls, what is known of how slow they are, and a clock that a test turns."""

    def __init__(self, size: int = 3, **config: Any) -> None:
        self.strain = Strain(StrainConfig(**config))
        self.now = 100.0
        self.nodes = {name: self.join(name) for name in "abcdefghijklmnopqrst"[:size]}

    def join(self, name: str) -> Node:
        node = Node(Endpoint(name))
        connect(node, "ready")
        return node

    def late(self, name: str) -> bool:
        """One more attempt at that node, which is late."""
        node = self.nodes[name]
        node.attempts += 1
        return self.strain.late(node, self.now, len(self.nodes))

    def calls(self, for_s: float, late: str = "", *, every_s: float = 0.125) -> list[float]:
        """Each node is given an attempt at each step; those of the named ones are late. Return when a strain began, from now on."""
        began, start = [], self.now
        for _ in range(round(for_s / every_s)):
            self.now += every_s
            for name, node in self.nodes.items():
                if name not in late:
                    node.attempts += 1
                elif self.late(name):
                    began.append(self.now - start)
        return began

    @property
    def lasts(self) -> bool:
        return self.now < self.strain.until


# ---------------------------------------------------------------------------------------------------- one node, or most of them


@pytest.mark.parametrize("size", [2, 3, 5, 20])
def test_one_slow_node_among_good_ones_is_no_strain(size: int) -> None:
    group = Group(size)
    assert group.calls(120.0, late="a") == []
    assert (group.strain.begun, group.strain.until) == (0, -math.inf)


@pytest.mark.parametrize(
    ("size", "late", "strained"),
    [
        *[(1, "a", True), (2, "ab", True), (3, "ab", False), (3, "abc", True), (4, "abc", False), (4, "abcd", True), (5, "abc", False)],
        *[(5, "abcd", True), (20, "abcdefghijklmno", False), (20, "abcdefghijklmnop", True)],
    ],
)
def test_nearly_all_of_them_are_a_strain(size: int, late: str, strained: bool) -> None:
    group = Group(size)
    assert bool(group.calls(10.0, late=late)) is strained
    assert group.lasts is strained


def test_how_many_of_them_it_takes_can_be_said() -> None:
    assert Group(3, nodes_share=0.6).calls(10.0, late="ab")
    assert Group(3, nodes_share=0.7).calls(10.0, late="ab") == []
    assert Group(20, nodes_share=1.0).calls(10.0, late="abcdefghijklmnopqrs") == []
    assert Group(20, nodes_share=1.0).calls(10.0, late="abcdefghijklmnopqrst")


@pytest.mark.parametrize("state", ["idle", "connecting", "draining", "down", "gone"])
def test_a_node_that_is_not_connected_does_not_count(state: NodeState) -> None:
    group = Group(2)
    connect(group.nodes["b"], state)
    assert group.calls(10.0, late="ab") == []
    connect(group.nodes["b"], "ready")
    assert group.calls(2.0, late="ab"), "and does when it is again"


def test_a_node_that_was_strained_and_takes_no_calls_any_more_does_not_count() -> None:
    group = Group(2, hold_s=10.0)
    group.calls(2.0, late="b")
    connect(group.nodes["b"], "down")
    assert group.calls(2.0, late="a") == []
    connect(group.nodes["b"], "ready")
    assert group.calls(2.0, late="a"), "within 10 s both were"


def test_where_none_takes_calls_a_late_attempt_of_a_node_that_is_gone_is_no_strain() -> None:
    group = Group(1)
    connect(group.nodes["a"], "gone")
    for _ in range(10):
        group.now += 1.0
        assert not group.strain.late(group.nodes["a"], group.now, taking=0)


def test_nodes_that_were_slow_one_after_the_other_are_no_strain() -> None:
    group = Group(2)
    assert group.calls(4.0, late="a") == []
    assert group.calls(4.0) == []
    assert group.calls(4.0, late="b") == []
    assert group.calls(2.0, late="ab"), "together they are"


def test_a_node_that_is_gone_is_forgotten() -> None:
    group = Group(2)
    group.strain.forget(group.nodes["b"])  # nothing is known of it
    group.calls(2.0, late="a")
    group.strain.forget(group.nodes["a"])
    assert group.calls(2.0, late="b") == []
    assert group.calls(2.0, late="ab")


# ------------------------------------------------------------------------------------------------------- few of them, and when


def test_fewer_late_attempts_than_three_say_nothing_however_few_there_were() -> None:
    assert LATE_MIN == 3
    group = Group(2)
    began = []
    for _ in range(LATE_MIN):
        began.append([group.late(name) for name in "ab"])
        group.now += 10.0
    assert began == [[False, False], [False, False], [False, True]], "the second one makes it all"


@pytest.mark.parametrize(("every", "strained"), [(12, False), (11, False), (8, True), (2, True)])
def test_a_small_share_of_many_attempts_is_none(every: int, strained: bool) -> None:
    group = Group(2)
    for number in range(4000):
        group.now += 0.01
        for name, node in group.nodes.items():
            if number % every:
                node.attempts += 1
            else:
                group.late(name)
    assert (group.strain.begun > 0) is strained


def test_the_share_is_of_the_attempts_in_this_stretch_and_not_of_all_there_ever_were() -> None:
    group = Group(2)
    group.calls(3600.0)
    began = group.calls(10.0, late="ab")
    assert len(began) == 1
    assert began[0] <= 2.5


def test_a_stall_that_is_shorter_than_a_stretch_is_none() -> None:
    group = Group(2)
    for _ in range(20):
        assert group.calls(0.5, late="ab") == []
        assert group.calls(59.5) == []
    assert group.calls(2.0, late="ab", every_s=0.25), "one that is longer is"


def test_how_long_a_stretch_is_and_what_share_is_too_much_can_be_said() -> None:
    def began_at(**config: Any) -> list[float]:
        return Group(2, **config).calls(8.0, late="ab")

    assert (began_at(), began_at(interval_s=2.0), began_at(interval_s=0.25)) == ([1.125], [2.125], [0.375])
    half = Group(2, share=0.7)
    for _ in range(100):
        assert not half.calls(0.125, late="ab") + half.calls(0.125), "half of them are fewer than 70 %"


# ------------------------------------------------------------------------------------------------------------- how long it lasts


@pytest.mark.parametrize("hold_s", [3.0, 7.0])
def test_it_lasts_so_long_after_it_was_seen_last_and_no_longer(hold_s: float) -> None:
    group = Group(3, hold_s=hold_s)
    assert group.calls(1.125, late="abc") == [1.125]
    assert group.strain.until == group.now + hold_s
    group.calls(hold_s - 0.125)
    assert group.lasts
    group.calls(0.125)
    assert not group.lasts
    assert group.strain.until == group.now, "calls that go well do not prolong it"


def test_it_is_one_strain_while_it_goes_on_and_another_one_after_it() -> None:
    group = Group(3)
    assert group.calls(300.0, late="abc") == [1.125]
    assert group.strain.begun == 1
    assert group.strain.until > group.now + 2.0 - 0.125, "it was seen in each stretch"
    assert group.calls(60.0) == []
    assert len(group.calls(10.0, late="abc")) == 1
    assert group.strain.begun == 2


def test_one_slow_node_does_not_prolong_what_most_of_them_began() -> None:
    group = Group(3)
    group.calls(2.0, late="abc")
    assert group.lasts
    group.calls(8.0, late="a")
    assert not group.lasts
    assert group.strain.begun == 1


def test_with_few_calls_a_stretch_is_long_and_it_holds_twice_as_long() -> None:
    group = Group(3)
    assert group.calls(6.0, late="abc", every_s=2.0) == [6.0], "the third late attempt at the second node"
    assert group.strain.until == group.now + 8.0, "the stretch was 4 s, from the first late one on"
    for _ in range(50):
        assert group.calls(6.0, late="abc", every_s=2.0) == []
        assert group.lasts
    assert group.strain.begun == 1


def test_with_next_to_no_calls_it_holds_as_long_as_the_grace_after_it_at_most() -> None:
    group = Group(1, grace_s=20.0)
    assert group.calls(600.0, late="a", every_s=200.0) == [600.0]
    assert group.strain.until == group.now + 20.0
    short = Group(1, grace_s=0.0)
    assert short.calls(600.0, late="a", every_s=200.0) == [600.0]
    assert short.strain.until == short.now + 3.0, "and never shorter than it is to"


# ------------------------------------------------------------------------------------------------------------------- its modes

Moves = list[tuple[int, int, str, int]]
TRACES = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 12), st.sampled_from(["ok", "ok", "late", "late", "late", "down", "forget"]), st.integers(1, 9)
    ),
    max_size=120,
)
CONFIGS = st.sampled_from(
    [{}, {"nodes_share": 0.4}, {"share": 0.5}, {"interval_s": 0.25, "hold_s": 0.5}, {"hold_s": 10.0}, {"grace_s": 0.0}]
)


def history(mode: Mode, moves: Moves, config: dict[str, Any]) -> tuple[Strain, list[bool], list[float]]:
    """What became of a trace: the strain after it, what each late attempt was told, and until when it was to last."""
    group, answers, untils = Group(5, mode=mode, **config), [], []
    for place, wait, what, times in moves:
        group.now += wait / 8
        node = group.nodes["abcde"[place]]
        if what == "down":
            connect(node, "down" if node.state == "ready" else "ready")
        elif what == "forget":
            group.strain.forget(node)
        for _ in range(times):
            if what == "late":
                answers.append(group.late("abcde"[place]))
            node.attempts += what == "ok"
        untils.append(group.strain.until)
    return group.strain, answers, untils


@given(TRACES, CONFIGS)
def test_shadow_counts_as_often_as_it_would_have_begun_and_does_nothing(moves: Moves, config: dict[str, Any]) -> None:
    enforced, began, _ = history("enforce", moves, config)
    shadow, told, untils = history("shadow", moves, config)
    assert (shadow.would, shadow.begun, enforced.would) == (enforced.begun, 0, 0)
    assert enforced.begun == sum(began)
    assert not any(told)
    assert set(untils) <= {-math.inf}


def test_such_traces_begin_one() -> None:
    moves = [(place, 1, "late", 1) for _ in range(20) for place in range(5)]
    assert history("enforce", moves, {})[0].begun == history("shadow", moves, {})[0].would == 1


def test_off_it_does_nothing_and_knows_nobody() -> None:
    group = Group(2, mode="off")
    assert group.calls(60.0, late="ab") == []
    assert (group.strain.begun, group.strain.would, group.strain.until) == (0, 0, -math.inf)
    assert not group.strain._records


# --------------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("config", "said"),
    [
        *[
            ({"nodes_share": share}, f"nodes_share={share!r}: expected a share of the nodes above 0, at most 1, such as 0.8")
            for share in (0, 1.1, -0.1, math.nan)
        ],
        ({"mode": "on"}, "mode='on': expected one of off, shadow, enforce"),
        *[({"share": share}, f"share={share!r}: expected a share of the attempts between 0 and 1") for share in (0, 1, -0.1, math.nan)],
        *[({"grace_s": grace_s}, f"grace_s={grace_s!r}: expected 0 or more seconds") for grace_s in (-1.0, math.inf, math.nan)],
        *[
            ({"interval_s": one, "hold_s": two}, f"interval_s={one!r}, hold_s={two!r}: expected seconds above 0, the first not longer")
            for one, two in ((0.0, 3.0), (-1.0, 3.0), (math.nan, 3.0), (3.5, 3.0), (1.0, math.inf), (1.0, math.nan))
        ],
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_what_would(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        StrainConfig(**config)
    assert str(refused.value).startswith(said)


def test_the_edges_of_the_configuration_are_taken() -> None:
    StrainConfig(grace_s=0.0, interval_s=3.0, hold_s=3.0, share=0.999, nodes_share=1)
    defaults = StrainConfig()
    assert (defaults.mode, defaults.share, defaults.nodes_share) == ("enforce", 0.1, 0.8)
    assert (defaults.interval_s, defaults.hold_s, defaults.grace_s) == (1.0, 3.0, 30.0)


# ------------------------------------------------------------------------------------------------------------------- it never ...


def test_a_strain_that_goes_on_is_never_cut_short() -> None:
    """Few calls made it last for long; then there are more, and all of them are late as well."""
    group = Group(1)
    group.calls(60.0, late="a", every_s=10.0)
    until = group.strain.until
    assert until >= group.now + 30.0 - 10.0
    group.calls(4.0, late="a")
    assert group.strain.until >= until
