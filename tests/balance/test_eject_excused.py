"""Ejection while most nodes are too slow at once: all are back, and what they did until then is nobody's fault."""

from __future__ import annotations

import math

import pytest

from holdfast.balance.eject import EjectConfig
from holdfast.facts import NodeEjected
from tests.balance.test_eject import Cluster


class Slow(Cluster):
    """One whose nodes fail by being too slow."""

    def did(self, name: str, attempts: int, failures: int = 0) -> None:
        super().did(name, attempts, failures)
        self.nodes[name].late += failures


def excuse(here: Cluster) -> list[str]:
    return [node.key for node in here.ejector.excuse(here.nodes.values(), here.now)]


def test_all_that_are_out_are_back_at_once_and_may_be_ejected_again() -> None:
    here = Slow("abcdefghijklmnopqrst")
    well = dict.fromkeys("cdefghijklmnopqrst", (100, 0))
    assert here.interval(a=(100, 100), b=(100, 90), **well) == ["a", "b"]
    here.now += 3.0
    assert excuse(here) == ["a", "b"]
    assert [here.nodes[name].ejected_until for name in "ab"] == [0.0, 0.0]
    assert here.ejector.out == 0
    assert excuse(here) == [], "once"
    assert here.interval(a=(100, 100), b=(100, 90), **well) == ["a", "b"], "there is room for both again"


def test_who_is_out_for_errors_stays_out_for_as_long_as_it_was_to() -> None:
    here = Slow("abcdefghijklmnopqrst")
    well = dict.fromkeys("cdefghijklmnopqrst", (100, 0))
    here.nodes["b"].late -= 50
    assert here.interval(a=(100, 100), b=(100, 90), **well) == ["a", "b"]
    here.now += 3.0
    assert excuse(here) == ["a"], "most failures of the other one were errors"
    assert here.nodes["b"].ejected_until == here.now + 27.0
    assert (here.ejector.out, here.ejector.next_at) == (1, here.now + 10.0)
    assert here.sweep(27.0)[1] == ["b"]


def test_an_ejection_that_was_nobodys_fault_does_not_make_the_next_one_longer() -> None:
    here = Slow("abcd", EjectConfig(base_s=20.0))
    bad, well = (100, 100), dict.fromkeys("bcd", (100, 0))
    assert here.interval(a=bad, **well) == ["a"]
    assert excuse(here) == ["a"]
    here.did("a", *bad)
    for name, counts in well.items():
        here.did(name, *counts)
    assert here.sweep()[0] == [("a", 20.0)], "not 40"
    here.now += 15.0
    here.sweep()
    for name, counts in {"a": bad, **well}.items():
        here.did(name, *counts)
    assert here.sweep()[0] == [("a", 40.0)], "that one counted"


def test_what_came_before_counts_no_more_neither_failures_nor_what_cleared_a_node() -> None:
    here = Slow("abcd")
    well = dict.fromkeys("bcd", (100, 0))
    here.interval(a=(10, 0), **well)
    for name, counts in {"a": (100, 100), **well}.items():
        here.did(name, *counts)
    here.now += 9.0
    assert excuse(here) == []
    assert here.interval(a=(10, 0), **well) == [], "its hundred failures are forgotten"
    here = Slow("abcd")
    assert here.interval(a=(1000, 0), **well) == []
    assert excuse(here) == []
    assert here.interval(a=(10, 10), **well) == ["a"], "and so are a thousand answers"


def test_what_came_before_counts_no_more_of_nodes_that_nobody_has_looked_at_yet_either() -> None:
    here = Slow("abcd")
    well = dict.fromkeys("bcd", (100, 0))
    for name, counts in {"a": (100, 100), **well}.items():
        here.did(name, *counts)
    here.now += 9.0
    assert excuse(here) == []
    assert here.interval(a=(10, 0), **well) == []


def test_an_interval_begins_anew() -> None:
    here = Slow("abcd")
    well = dict.fromkeys("bcd", (100, 0))
    here.interval(a=(100, 0), **well)
    here.now += 7.0
    excuse(here)
    for name, counts in {"a": (100, 100), **well}.items():
        here.did(name, *counts)
    assert here.sweep(5.0)[0] == [], "5 s are no interval"
    assert [key for key, _ in here.sweep(5.0)[0]] == ["a"]


def test_in_shadow_nobody_was_out_and_the_counts_go_on_as_they_would_have() -> None:
    shadow, enforced = Slow("abcd", EjectConfig(mode="shadow")), Slow("abcd")
    well = dict.fromkeys("bcd", (100, 0))
    for here in (shadow, enforced):
        here.interval(a=(100, 100), **well)
        here.now += 1.0
        excuse(here)
        here.interval(a=(100, 100), **well)
        here.now += 1.0
        excuse(here)
        here.interval(a=(100, 100), **well)
    assert (shadow.ejector.would, shadow.ejector.ejections) == (enforced.ejector.ejections, 0) == (3, 0)
    assert shadow.nodes["a"].ejected_until == 0.0
    assert [fact.for_s for fact in shadow.facts if isinstance(fact, NodeEjected)] == [30.0, 30.0, 30.0]


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_there_is_something_to_do_again_an_interval_later_and_not_before(mode: str) -> None:
    here = Slow("abcd", EjectConfig(mode=mode))  # type: ignore[arg-type]
    here.interval(a=(100, 0), b=(100, 0))
    here.now += 10.5
    excuse(here)
    assert here.ejector.next_at == here.now + 10.0


def test_off_there_is_never_anything_to_do() -> None:
    here = Slow("abcd", EjectConfig(mode="off"))
    excuse(here)
    assert here.ejector.next_at == math.inf
