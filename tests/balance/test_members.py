"""The set of nodes: empty answers, too many gone at once, who comes back, who is named twice; beside a slow model of the same."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint
from holdfast.balance.members import Change, Members, MembersConfig
from holdfast.errors import ConfigError
from holdfast.facts import Fact, NodesChanged
from tests.balance.models import members as slow


def endpoints(names: str, weight: float = 1.0) -> list[Endpoint]:
    return [Endpoint(name, weight) for name in names]


def keys(found: Sequence[Endpoint]) -> str:
    return "".join(each.key for each in found)


def test_what_is_new_comes_in_at_once_and_what_is_gone_goes() -> None:
    facts: list[Fact] = []
    members = Members(emit=facts.append)
    first = members.update(endpoints("abcd"), 0.0)
    second = members.update(endpoints("abce"), 1.0)
    assert (keys(first.added), first.removed, keys(second.added), second.removed, second.held) == ("abcd", (), "e", ("d",), ())
    assert list(members.current) == ["a", "b", "c", "e"]
    assert facts == [NodesChanged(4, 4, 0), NodesChanged(4, 1, 1)]


def test_the_same_again_is_no_change_and_no_fact() -> None:
    facts: list[Fact] = []
    members = Members(emit=facts.append)
    members.update(endpoints("ab"), 0.0)
    assert not members.update(endpoints("ba"), 1.0)
    assert not members.tick(100.0)
    assert len(facts) == 1


def test_an_empty_set_takes_the_place_of_none() -> None:
    members = Members()
    assert not members.update([], 0.0)
    members.update(endpoints("ab"), 1.0)
    assert not members.update([], 2.0)
    assert list(members.current) == ["a", "b"]
    assert members.next_at == math.inf


def test_when_more_than_half_vanish_half_goes_and_the_rest_by_and_by() -> None:
    facts: list[Fact] = []
    members = Members(emit=facts.append)
    members.update(endpoints("abcdefghij"), 0.0)
    change = members.update(endpoints("ij"), 10.0)
    assert (change.removed, change.held, members.next_at) == (tuple("abcde"), tuple("fgh"), 40.0)
    assert not members.tick(39.9)
    assert (members.tick(40.0).removed, members.tick(40.0).removed, members.next_at) == (("f", "g"), (), 70.0)
    assert (members.tick(70.0).removed, list(members.current), members.next_at) == (("h",), ["i", "j"], math.inf)
    assert facts[1:] == [NodesChanged(5, 0, 5, 3), NodesChanged(3, 0, 2, 1), NodesChanged(2, 0, 1, 0)]


def test_exactly_half_goes_at_once() -> None:
    members = Members()
    members.update(endpoints("abcd"), 0.0)
    assert members.update(endpoints("cd"), 0.0).removed == ("a", "b")


def test_many_small_steps_are_no_way_around_the_limit() -> None:
    members = Members()
    members.update(endpoints("abcdefgh"), 0.0)
    gone = [members.update(endpoints("abcdefgh"[count:]), float(count)).removed for count in range(1, 8)]
    assert gone == [("a",), ("b",), ("c",), ("d",), (), (), ()]
    assert tuple(members.held) == ("e", "f", "g")


def test_who_comes_back_is_held_no_more() -> None:
    facts: list[Fact] = []
    members = Members(emit=facts.append)
    members.update(endpoints("abcd"), 0.0)
    members.update(endpoints("d"), 1.0)
    change = members.update(endpoints("cd"), 2.0)
    assert (change.added, change.removed, change.held, list(members.current), members.next_at) == ((), (), (), ["c", "d"], math.inf)
    assert facts[1:] == [NodesChanged(2, 0, 2, 1), NodesChanged(2, 0, 0, 0)]
    assert not members.tick(100.0)


def test_a_set_that_is_replaced_is_whole_all_the_time() -> None:
    members = Members()
    members.update(endpoints("a"), 0.0)
    change = members.update(endpoints("b"), 1.0)
    assert (keys(change.added), change.held, list(members.current)) == ("b", ("a",), ["a", "b"])
    assert members.tick(31.0).removed == ("a",)


def test_a_window_of_nothing_believes_the_source() -> None:
    members = Members(MembersConfig(removal_window_s=0))
    members.update(endpoints("abcdefghij"), 0.0)
    assert members.update(endpoints("z"), 0.0).removed == tuple("abcdefghij")
    assert (list(members.current), members.next_at) == (["z"], math.inf)


def test_other_weights_and_labels_go_through() -> None:
    facts: list[Fact] = []
    members = Members(emit=facts.append)
    members.update(endpoints("ab"), 0.0)
    heavier = Endpoint("b", 2.0, {"zone": "x"})
    change = members.update([Endpoint("a"), heavier], 1.0)
    assert (change.changed, members.current["b"], len(facts)) == ((heavier,), heavier, 1)


@pytest.mark.parametrize("turn", [1, -1])
def test_who_is_named_twice_is_one_node_in_whichever_order(turn: int) -> None:
    members = Members()
    named = [Endpoint("a", 1.0, {"zone": "y", "rack": "1"}), Endpoint("a", 3.0, {"zone": "x"})]
    assert members.update(named[::turn], 0.0).added == (Endpoint("a", 3.0, {"zone": "x", "rack": "1"}),)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 86_401])
def test_a_window_that_makes_no_sense_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="removal_window_s=.*expected 0"):
        MembersConfig(removal_window_s=value)


# ------------------------------------------------------------------------------------------------------------ beside the model


def step(members: Members, at: float, named: slow.Named | None) -> Change:
    return members.tick(at) if named is None else members.update([Endpoint(*each) for each in named], at)


def as_the_model_says_it(change: Change) -> dict[str, Any]:
    return {
        "added": sorted(each.key for each in change.added),
        "removed": sorted(change.removed),
        "held": list(change.held),
        "changed": sorted(each.key for each in change.changed),
    }


@pytest.mark.parametrize("trace", json.loads(slow.GOLDEN.read_text()))
def test_golden_traces(trace: dict[str, Any]) -> None:
    members = Members(MembersConfig(removal_window_s=trace["window_s"]))
    assert [as_the_model_says_it(step(members, *event)) for event in trace["events"]] == trace["changes"]


def test_the_golden_traces_are_the_models() -> None:
    assert json.loads(json.dumps(slow.golden())) == json.loads(slow.GOLDEN.read_text())


def test_the_golden_traces_show_everything() -> None:
    changes = [change for trace in json.loads(slow.GOLDEN.read_text()) for change in trace["changes"]]
    for what in ("added", "removed", "held", "changed"):
        assert sum(1 for change in changes if change[what]) >= 20


@given(st.integers(0, 2**32), st.sampled_from([0.0, 30.0, 100.0]))
def test_any_history_goes_as_in_the_model(seed: int, window_s: float) -> None:
    members, model = Members(MembersConfig(removal_window_s=window_s)), slow.SlowMembers(window_s)
    for event in slow.random_history(random.Random(seed), 30):
        assert as_the_model_says_it(step(members, *event)) == model.step(*event)
        assert list(members.held) == model.held()


@given(st.lists(st.tuples(st.floats(0, 60), st.one_of(st.none(), st.sets(st.sampled_from("abcdefghij")))), max_size=40))
def test_it_never_loses_more_than_half_in_a_window_and_ends_with_what_was_said(events: list[tuple[float, set[str] | None]]) -> None:
    members = Members()
    at, last = 0.0, None
    for passed, named in events:
        at += passed
        before = dict(members.current)
        change = members.tick(at) if named is None else members.update(endpoints("".join(sorted(named))), at)
        last = named or last
        assert len(change.removed) <= len(before) // 2
        assert not before or members.current
        assert set(members.current) == set(before) - set(change.removed) | {each.key for each in change.added}
        assert set(change.held) <= set(members.current)
    while members.next_at < math.inf:
        assert members.tick(members.next_at).removed, "a tick that is due lets something go"
    assert set(members.current) == (last or set())
