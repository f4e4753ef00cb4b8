"""Which nodes take calls: random histories against the definition, panic, slow start, the waking times, probe tokens, and what it costs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest

from holdfast.balance.balancer import BalanceConfig, Balancer
from holdfast.balance.endpoint import Endpoint, Node, NodeState
from holdfast.balance.pick import make_picker
from holdfast.balance.picker import SlowStart
from holdfast.errors import ConfigError
from holdfast.facts import Fact, NodeChanged, PanicChanged
from holdfast.policy.breaker import Breaker, BreakerConfig

SIZES = (0, 1, 3, 5, 50)
BREAKER = BreakerConfig(in_row=2, open_base_s=4.0, open_cap_s=16.0)


class Place:
    """A balancer of real nodes with real breakers, and a clock in quarters of a second."""

    def __init__(self, size: int = 0, *, seed: int = 1, **config: Any) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.facts: list[Fact] = []
        self.config = BalanceConfig(**config)
        picker = make_picker("p2c", random.Random(seed), slow_start=SlowStart(window_s=self.config.slow_start_s), hash_factor=1.25)
        self.balancer = Balancer(picker, self.config, self.facts.append)
        self.open: list[tuple[Node, float, int]] = []
        self.gone: list[Node] = []
        self.add(*(f"n{number}" for number in range(size)))

    @property
    def nodes(self) -> list[Node]:
        return list(self.balancer.nodes.values())

    def make(self, key: str) -> Node:
        breaker = Breaker(key, BREAKER, random.Random(key), now=self.now)
        node = Node(Endpoint(key), None, breaker, now=self.now)
        breaker.on_change = lambda _: self.balancer.changed(node, self.now)
        return node

    def add(self, *keys: str) -> list[Node]:
        made = [self.make(key) for key in keys]
        self.balancer.add(made, self.now)
        return made

    def remove(self, *nodes: Node) -> None:
        self.gone += nodes
        self.balancer.remove(nodes, self.now)

    def become(self, node: Node, state: NodeState) -> None:
        node.state, node.draining, node.serving = state, False, True
        self.balancer.changed(node, self.now)

    def connect(self, *nodes: Node) -> None:
        for node in nodes or self.nodes:
            self.become(node, "ready")

    def trip(self, node: Node) -> None:
        for _ in range(BREAKER.in_row):
            node.gate.failed(self.now, node.gate.era)

    # ------------------------------------------------------------------ attempts

    def call(self) -> Node | None:
        node = self.balancer.pick(self.now)
        if node is not None:
            self.open.append((node, self.now, node.begin(self.now)))
        return node

    def end(self, how: str, place: int = 0) -> Node:
        node, started, era = self.open.pop(place)
        if how == "failed":
            node.failed(started, self.now, era)
        else:
            getattr(node, how)(started, self.now, era)
        return node

    # ------------------------------------------------------------------ the definition

    def connected(self) -> list[Node]:
        return [node for node in self.nodes if node.state == "ready" and not node.draining]

    def usable(self) -> list[Node]:
        return [node for node in self.connected() if node.serving and not node.gate.shut and not node.ejected_until > self.now]

    def expected(self) -> tuple[set[str], bool]:
        usable, connected = self.usable(), self.connected()
        panic = len(usable) < self.config.panic_share * len(self.nodes) and len(usable) < len(connected)
        return {node.key for node in (connected if panic else usable)}, panic

    def check(self) -> None:
        """What must hold after a pick, which is when time has been looked at."""
        ready = self.balancer.ready
        assert ({node.key for node in ready}, self.balancer.panicking) == self.expected()
        assert len(ready) == len({node.key for node in ready})
        assert [node.place for node in ready] == list(range(len(ready)))
        assert all(node.place == -1 for node in (*self.nodes, *self.gone) if node not in ready)
        assert all(node.pending == sum(each is node for each, _, _ in self.open) for node in (*self.nodes, *self.gone))
        for node in self.nodes:
            breaker = cast(Breaker, node.gate)
            out = [era for each, _, era in self.open if each is node and era == breaker._token]
            assert len(out) == (breaker.state == "probing"), "a probe token that nobody holds, or two do"
            if node.place >= 0:
                assert node.warm_at <= self.now
        assert self.balancer.wake_at <= self.next_wake(), "it may be early, and is looked at once then; never late"

    def next_wake(self) -> float:
        """When time alone changes something. In panic all are in the list, and a probe needs nobody to wake it."""
        at = [node.ejected_until for node in self.nodes if node.ejected_until]
        if not self.balancer.panicking:
            at += [node.gate.retry_at for node in self.connected() if node.gate.shut]
        return min(at, default=math.inf)


def steps(here: Place, count: int) -> Iterator[str]:
    """Let random things happen to it."""
    rng, fresh = here.rng, 0
    for _ in range(count):
        node = rng.choice(here.nodes) if here.nodes else None
        what = rng.choice(["time", "time", "call", "call", "call", "end", "end", "state", "say", "trip", "eject", "add", "remove", "again"])
        if what == "time":
            here.now += rng.choice([0.0, 0.25, 1.0, 5.0])
        elif what == "end" and here.open:
            here.end(rng.choice(["succeeded", "succeeded", "failed", "let_go"]), rng.randrange(len(here.open)))
        elif what == "add" and len(here.nodes) < 60:
            fresh += 1
            here.connect(*here.add(f"fresh{fresh}")[: rng.randrange(2)] or here.nodes[:1])
        elif node is not None:
            happens(here, node, what, rng)
        here.call()
        yield what


def happens(here: Place, node: Node, what: str, rng: random.Random) -> None:
    if what == "state":
        here.become(node, rng.choice(["idle", "connecting", "ready", "ready", "ready", "draining", "down"]))
    elif what == "say":
        node.serving, node.draining = rng.random() < 0.7, rng.random() < 0.2
        here.balancer.changed(node, here.now)
    elif what == "trip":
        here.trip(node)
    elif what == "eject":
        node.ejected_until = here.now + rng.choice([0.25, 3.0, 30.0])
        here.balancer.changed(node, here.now)
    elif what == "remove" and len(here.nodes) > 1:
        here.remove(node)
    elif what == "again":
        here.remove(node)
        here.connect(*here.add(node.key))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("panic_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_list_is_what_the_definition_says(size: int, panic_share: float, seed: int) -> None:
    here = Place(size, seed=seed, panic_share=panic_share)
    for _ in steps(here, 150):
        here.check()
    while here.open:
        here.end("let_go")
    here.call()
    here.check()
    assert all(node.pending == 0 for node in here.gone)


def test_a_thousand_nodes_are_no_different() -> None:
    here = Place(1000, seed=3)
    here.connect(*here.nodes[:600])
    for _ in steps(here, 25):
        here.check()


# ---------------------------------------------------------------------------------------------------------- 0, 1, some


def test_of_no_nodes_there_is_none() -> None:
    here = Place(0)
    assert here.balancer.pick(here.now) is None
    assert here.balancer.explain(here.now) == (None, (), "")
    assert (here.balancer.panicking, here.balancer.wake_at, here.facts) == (False, math.inf, [])


def test_a_node_takes_calls_when_it_is_connected_and_not_before() -> None:
    here = Place(1)
    assert here.call() is None
    here.connect()
    assert here.call() is here.nodes[0]
    assert here.balancer.explain(here.now)[2] == "only"
    here.become(here.nodes[0], "down")
    assert here.call() is None


@pytest.mark.parametrize(("usable", "panics"), [(5, False), (3, False), (2, True), (0, True)])
def test_panic_is_fewer_than_half_usable_and_others_kept_out(usable: int, panics: bool) -> None:
    here = Place(5)
    here.connect()
    for node in here.nodes[usable:]:
        node.serving = False
        here.balancer.changed(node, here.now)
    assert here.balancer.panicking is panics
    assert len(here.balancer.ready) == (5 if panics else usable)
    assert here.balancer.explain(here.now)[2] == ("panic" if panics else "p2c")
    told = [fact for fact in here.facts if isinstance(fact, PanicChanged)]
    assert [(fact.on, fact.usable, fact.nodes) for fact in told] == ([(True, 2, 5)] if panics else [])
    for node in here.nodes:
        node.serving = True
        here.balancer.changed(node, here.now)
    assert not here.balancer.panicking
    assert len(here.balancer.ready) == 5


def test_who_comes_back_kept_out_may_be_what_panic_was_waiting_for() -> None:
    """One usable of three is no panic while the others are not connected; it is when one of them is, and kept out."""
    here = Place(3)
    first, second, _ = here.nodes
    here.connect(first)
    assert not here.balancer.panicking, "there is nobody else to send calls to"
    here.trip(second)
    here.connect(second)
    assert here.balancer.panicking
    assert {node.key for node in here.balancer.ready} == {first.key, second.key}


def test_panic_can_be_turned_off() -> None:
    here = Place(3, panic_share=0.0)
    here.connect()
    for node in here.nodes:
        node.serving = False
        here.balancer.changed(node, here.now)
    assert (here.balancer.ready, here.balancer.panicking) == ([], False)


# -------------------------------------------------------------------------------------------------------------- slow start


def test_the_first_nodes_are_warm_and_who_comes_later_or_back_is_not() -> None:
    here = Place(2)
    here.connect()
    assert [node.warm_at for node in here.nodes] == [-math.inf, -math.inf]
    (late,) = here.add("late")
    here.now += 5
    here.connect(late)
    assert late.warm_at == here.now, "from when it takes calls, not from when it was named"
    here.now += 100
    here.become(late, "down")
    here.connect(late)
    assert late.warm_at == here.now


def test_a_change_that_keeps_it_in_the_list_does_not_cool_it() -> None:
    here = Place(3)
    here.connect()
    (late,) = here.add("late")
    here.connect(late)
    began = late.warm_at
    here.now += 5
    late.load = 0.5
    here.balancer.changed(late, here.now)
    here.add("another")
    assert late.warm_at == began


def test_slow_start_can_be_turned_off() -> None:
    here = Place(1, slow_start_s=0.0)
    here.connect()
    (late,) = here.add("late")
    here.connect(late)
    here.become(late, "down")
    assert late.warm_at == -math.inf


def test_there_is_none_while_the_others_have_too_much_to_do() -> None:
    here = Place(2)
    here.connect()
    new, late, old = here.add("new", "late", "old")
    here.connect(old)
    here.become(old, "down")
    here.balancer.warm_until = here.now + 5
    here.now += 4.75
    here.connect(new, old)
    assert (new.warm_at, old.warm_at) == (-math.inf, -math.inf)
    here.now += 0.25
    here.connect(late)
    assert late.warm_at == here.now, "from then on it is as it was"
    here.become(new, "down")
    here.connect(new)
    assert new.warm_at == here.now


# ------------------------------------------------------------------------------------------------------- probes and tokens


def shut_one(**config: Any) -> tuple[Place, Node, Breaker]:
    here = Place(3, **config)
    here.connect()
    node = here.nodes[1]
    here.trip(node)
    return here, node, cast(Breaker, node.gate)


def test_a_shut_node_gets_its_probe_when_its_time_has_come_and_one_only() -> None:
    here, node, breaker = shut_one()
    assert here.balancer.wake_at == breaker.retry_at
    assert {here.call() for _ in range(30)} == {each for each in here.nodes if each is not node}
    here.now = breaker.retry_at
    assert here.call() is node
    assert {here.call() for _ in range(30)} == {each for each in here.nodes if each is not node}
    assert here.balancer.wake_at == math.inf
    probe = next(place for place, (each, _, _) in enumerate(here.open) if each is node)
    here.end("succeeded", probe)
    assert node in here.balancer.ready


def test_a_probe_that_says_nothing_is_followed_by_another_one_at_once() -> None:
    here, node, breaker = shut_one()
    here.now = breaker.retry_at
    assert here.call() is node
    here.end("let_go")
    assert here.balancer.wake_at == here.now
    assert here.call() is node
    assert here.balancer.explain(here.now)[2] != "probe"


def test_explain_gives_the_probe_too() -> None:
    here, node, breaker = shut_one()
    here.now = breaker.retry_at
    found, compared, why = here.balancer.explain(here.now)
    assert (found, compared, why) == (node, (), "probe")
    here.open.append((node, here.now, node.begin(here.now)))
    here.check()


def test_a_call_that_has_been_to_a_node_is_not_its_probe_while_there_is_another_one() -> None:
    """The last attempt of a call went to the node that had turned it away before, and a healthy one was there."""
    here, node, breaker = shut_one()
    here.now = breaker.retry_at
    others = [each for each in here.nodes if each is not node]
    assert here.balancer.pick(here.now, tried=(node,)) in others
    assert here.balancer.explain(here.now, tried=(node, others[0]))[0] is others[1]
    here.check()
    assert here.balancer.wake_at <= here.now, "the probe is still due"
    assert here.call() is node, "and the next call is it"


def test_a_call_that_has_been_everywhere_may_be_the_probe() -> None:
    here, node, breaker = shut_one()
    here.now = breaker.retry_at
    assert here.balancer.pick(here.now, tried=tuple(here.nodes)) is node


def test_two_that_are_due_are_probed_one_after_the_other() -> None:
    here = Place(6)
    here.connect()
    first, second = here.nodes[:2]
    here.trip(first)
    here.trip(second)
    here.now += 100
    assert {here.call(), here.call()} == {first, second}
    here.check()


def test_a_shut_node_that_is_not_connected_is_not_probed_and_is_as_soon_as_it_is() -> None:
    here, node, breaker = shut_one()
    here.become(node, "down")
    assert here.balancer.wake_at == math.inf or here.balancer.wake_at == breaker.retry_at
    here.now = breaker.retry_at + 1
    assert here.call() is not node
    assert here.balancer.wake_at == math.inf
    here.connect(node)
    assert here.balancer.wake_at <= here.now
    assert here.call() is node


def test_in_panic_the_first_to_go_in_is_the_probe_and_picks_stay_cheap() -> None:
    here = Place(3)
    here.connect()
    for node in here.nodes:
        here.trip(node)
    assert here.balancer.panicking
    here.now += 100
    assert here.balancer.wake_at == math.inf, "every pick would look at every node"
    for _ in range(30):
        here.call()
    here.check()
    assert {cast(Breaker, node.gate).state for node in here.nodes} == {"probing"}


def test_what_ends_after_its_node_was_removed_changes_nothing_for_the_others() -> None:
    here, node, breaker = shut_one()
    here.now = breaker.retry_at
    assert here.call() is node
    here.remove(node)
    (again,) = here.add(node.key)
    here.connect(again)
    here.end("succeeded")
    assert (node.pending, node.place, again.pending) == (0, -1, 0)
    assert here.nodes[-1] is again
    here.balancer.changed(node, here.now)
    assert node not in here.balancer.ready
    here.check()


def test_who_is_removed_says_so_and_is_gone() -> None:
    here = Place(3)
    here.connect()
    node = here.nodes[0]
    here.remove(node)
    assert (node.state, node.since) == ("gone", here.now)
    assert [fact for fact in here.facts if isinstance(fact, NodeChanged)] == [NodeChanged("n0", "gone")]


def test_an_ejection_ends_by_time_alone() -> None:
    here = Place(3)
    here.connect()
    node = here.nodes[0]
    node.ejected_until = here.now + 30
    here.balancer.changed(node, here.now)
    assert (node in here.balancer.ready, here.balancer.wake_at) == (False, here.now + 30)
    here.now += 30
    here.call()
    assert (node in here.balancer.ready, node.ejected_until, here.balancer.wake_at) == (True, 0.0, math.inf)


# -------------------------------------------------------------------------------------------------------------- what it costs


class Looks:
    """A gate that counts how often it is looked at."""

    def __init__(self, counted: list[int]) -> None:
        self._counted = counted
        self.retry_at, self.era = 0.0, 1

    @property
    def shut(self) -> bool:
        self._counted[0] += 1
        return False


def crowd(size: int, **config: Any) -> tuple[Place, list[int], list[Node]]:
    counted = [0]
    here = Place(0, **config)
    nodes = [Node(Endpoint(f"n{number}"), None, cast(Any, Looks(counted))) for number in range(size)]
    return here, counted, nodes


@pytest.mark.parametrize("size", [100, 1000])
def test_a_set_change_looks_at_each_node_a_few_times(size: int) -> None:
    here, counted, nodes = crowd(size)
    here.balancer.add(nodes, 0.0)
    assert counted[0] <= 4 * size
    counted[0] = 0
    for node in nodes:
        node.state = "connecting"
        here.balancer.changed(node, 0.0)
    for node in nodes:
        node.state = "ready"
        here.balancer.changed(node, 0.0)
    assert len(here.balancer.ready) == size
    assert counted[0] <= 8 * size, "each change must look at one node"
    counted[0] = 0
    here.balancer.remove(nodes[: size // 2], 0.0)
    assert counted[0] <= 4 * size
    assert len(here.balancer.ready) == size - size // 2


@pytest.mark.parametrize("size", [3, 1000])
def test_a_pick_looks_at_no_gate(size: int) -> None:
    here, counted, nodes = crowd(size)
    here.balancer.add(nodes, 0.0)
    here.connect()
    counted[0] = 0
    for _ in range(50):
        assert here.balancer.pick(1.0) is not None
    assert counted[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"subset_size": 0},
        {"subset_size": 50, "subset_above": 40},
        {"panic_share": 1.1},
        {"panic_share": -0.1},
        {"slow_start_s": math.inf},
        {"slow_start_s": -1.0},
        {"hash_factor": 1.0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BalanceConfig(**wrong)
