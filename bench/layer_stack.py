"""What the client's stack costs a call that goes well: its machines driven as the merged way drives them (`calling/path.py`).

Owns: one call's worth of each machine, in a loop less the loop, with 3 nodes and with 1,000; and a change of a set of 1,000 nodes. The
statements are those of the merged way, written out as they are there. What may never happen here: a machine that is not the real one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from holdfast.balance.balancer import BalanceConfig, Balancer
from holdfast.balance.endpoint import Endpoint, Node
from holdfast.balance.pick import make_picker
from holdfast.clock import Streams
from holdfast.control.budget import RetryBudget
from holdfast.policy.breaker import Breaker, BreakerConfig
from holdfast.policy.throttle import Throttle, ThrottleConfig

clock = time.process_time
Sums = dict[str, float]

FEW, MANY = 3, 1000
LATENCY_S = 0.001
QUICKER_S = 0.0009
"""Less than the estimate, which is what nearly all answers are: a peak costs less to take in."""
TICK_S = 1e-6
ACCUSTOMED = 200


class Machines:
    """The machines of one client with so many nodes, all connected and used."""

    def __init__(self, count: int) -> None:
        rng = Streams(1)
        self.balancer = Balancer(make_picker("p2c", rng.stream("pick")), BalanceConfig())
        self.nodes = [self._node(number, rng) for number in range(count)]
        self.balancer.add(self.nodes, 0.0)
        for node in self.nodes:
            node.state = "ready"
            self.balancer.changed(node, 0.0)
            node.succeeded(0.0, LATENCY_S, node.begin(0.0))
        self.budget = RetryBudget()
        self.throttle = Throttle(ThrottleConfig())

    def _node(self, number: int, rng: Streams) -> Node:
        key = f"tcp://10.0.{number // 250}.{number % 250}:7000"
        return Node(Endpoint(key), gate=Breaker(key, BreakerConfig(), rng.stream("breaker")))


def pick(machines: Machines, now: float, calls: int) -> None:
    """The node for a call."""
    balancer = machines.balancer
    ready = balancer.ready
    for _ in range(calls):
        if now >= balancer.wake_at:
            node = balancer.pick(now)
        else:
            node = balancer.choose(ready, now, None, ())
        assert node is not None


def attempt(machines: Machines, now: float, calls: int) -> None:
    """An attempt at a node, from both ends: what is in flight there, the breaker, the latency estimate."""
    nodes = machines.nodes
    count = len(nodes)
    for number in range(calls):
        node = nodes[number % count]
        now += TICK_S
        gate = node.gate
        if not node.pending:
            node.heard_at = now
        node.pending += 1
        node.attempts += 1
        era = gate.era or gate.enter(now)
        node.pending -= 1
        node.observe(QUICKER_S, now)
        if now >= gate.rolls_at:
            gate.roll(now)
        if era == gate.era:
            gate.good += 1
            gate.row = 0


def purse(machines: Machines, now: float, calls: int) -> None:
    """The retry budget and the throttle: a call pays in, and is accepted."""
    budget, throttle = machines.budget, machines.throttle
    for _ in range(calls):
        if throttle.calm and now >= budget.rolls_at:
            budget.roll(now)
        budget.calls += 1
        if not budget.lit or now >= budget.rolls_at:
            budget.succeeded(now)
        if now >= throttle.rolls_at:
            throttle.roll(now)
        throttle.accepts += 1
        if not throttle.calm:
            throttle.accepted_again(now)


def nothing(machines: Machines, now: float, calls: int) -> None:
    """The loop alone."""
    nodes = machines.nodes
    count = len(nodes)
    for number in range(calls):
        nodes[number % count]
        now += TICK_S


def stack(calls: int) -> Sums:
    """Return µs a call of each machine with few and with many nodes, their sums, and the ms of a change of the set."""
    sums: Sums = {}
    for count, suffix in ((FEW, "few"), (MANY, "many")):
        machines = Machines(count)
        whole = 0.0
        for key, drive in (("pick", pick), ("attempt", attempt), ("purse", purse)):
            sums[f"{key}_{suffix}"] = us = _timed(machines, drive, calls) - _timed(machines, nothing, calls)
            whole += us
        sums[f"stack_{suffix}"] = whole
    sums["change"] = _change()
    return sums


def _timed(machines: Machines, drive: Callable[[Machines, float, int], None], calls: int) -> float:
    drive(machines, 1.0, ACCUSTOMED)
    gc.collect()
    started = clock()
    drive(machines, 1.0, calls)
    return (clock() - started) / calls * 1e6


def _change() -> float:
    """A thousand nodes, half of which are replaced: what the balancer and the next pick do about it, in ms."""
    machines = Machines(MANY)
    balancer, half = machines.balancer, machines.nodes[: MANY // 2]
    others = Machines(MANY // 2).nodes
    for number, node in enumerate(others):
        node.key = f"tcp://10.1.{number // 250}.{number % 250}:7000"
        node.place = -1
    gc.collect()
    started = clock()
    balancer.remove(half, 2.0)
    balancer.add(others, 2.0)
    balancer.pick(2.0)
    return (clock() - started) * 1e3
