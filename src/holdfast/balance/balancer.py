"""Which nodes may take calls, and which one takes the next.

Owns: the set of nodes in use, the list of those that take calls in the ordinary way, and panic. The list is kept up to date when something
changes, not looked through when a call comes: a pick costs the same at 3 nodes and at 1,000. Time alone changes two things, a shut breaker
that may be probed and an ejection that is over; `wake_at` is the earliest of them, so that a pick asks with one comparison.

Panic (algorithms.md 2.13): when fewer than half of the nodes are usable and others are kept out that are connected, what we believe of
those is likely to be wrong, or there is nothing to gain by it; then every connected node takes calls. What a client knows about nodes is
a hint, and never becomes a total refusal.

Slow start (2.14): a node that comes in while others work, or comes back, is counted as more loaded than it is for a while. The nodes of
the first set are not: when all are cold nobody gains.

What may never happen here: an await, a node in the list that is not connected, a probe token that nobody holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ..errors import ConfigError
from ..facts import Emit, NodeChanged, PanicChanged, discard
from .endpoint import Node

if TYPE_CHECKING:
    from .pick import Picker


class BalanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How calls are spread over nodes.

    Attributes:
        picker: `p2c` looks at two nodes and takes the less loaded one, which is nearly as good as looking at all and never sends everybody
            to the same; or `round_robin`, `weighted_round_robin`, `random`, `weighted_random`, `least_loaded`, `hash` (by the call's key).
        subset_size: of more than `subset_above` nodes we use so many, and connect to no others.
        panic_share: with a smaller share of the nodes usable, all that are connected take calls; 0 turns it off.
        slow_start_s: a node that joins or comes back gets its full share only after this long; 0 turns it off.
        hash_factor: with `hash`, how many times the average number of calls in flight a node may have before the next one is taken.
    """

    picker: str = "p2c"
    subset_size: int = 20
    subset_above: int = 40
    panic_share: float = 0.5
    slow_start_s: float = 30.0
    hash_factor: float = 1.25

    def __post_init__(self) -> None:
        if not 1 <= self.subset_size <= self.subset_above:
            raise ConfigError(f"subset_size={self.subset_size} must be at least 1 and at most subset_above={self.subset_above}")
        if not 0 <= self.panic_share <= 1:
            raise ConfigError(f"panic_share={self.panic_share!r} must be between 0 and 1")
        if not 0 <= self.slow_start_s < math.inf:
            raise ConfigError(f"slow_start_s={self.slow_start_s!r} must be 0 or more seconds")
        if not 1 < self.hash_factor < math.inf:
            raise ConfigError(f"hash_factor={self.hash_factor!r} must be above 1")


class Balancer:
    """The nodes of one client.

    Attributes:
        nodes: by key, all that are in use.
        ready: those that take calls in the ordinary way; in panic, all that are connected.
        wake_at: when time alone may change something; a pick before that need not ask.
        panicking: fewer than `panic_share` of the nodes are usable.
        warm_until: until when there is no slow start, because the others have too much to do to spare anybody.
    """

    __slots__ = ("_config", "_emit", "_kept_out", "_usable", "choose", "nodes", "panicking", "picker", "ready", "wake_at", "warm_until")

    def __init__(self, picker: Picker, config: BalanceConfig, emit: Emit = discard) -> None:
        self.nodes: dict[str, Node] = {}
        self.ready: list[Node] = []
        self.wake_at = math.inf
        self.panicking = False
        self.warm_until = -math.inf
        self.picker = picker
        self.choose = picker.choose
        self._config = config
        self._emit = emit
        self._usable = 0
        self._kept_out: dict[Node, None] = {}  # connected, and not usable

    # ------------------------------------------------------------------ the set

    def add(self, nodes: Iterable[Node], now: float) -> None:
        """Take nodes in. They take calls once they are connected."""
        cold = math.inf if self._config.slow_start_s > 0 and self.ready else -math.inf
        for node in nodes:
            node.warm_at = cold
            self.nodes[node.key] = node
        self._rebuild(now)

    def remove(self, nodes: Iterable[Node], now: float) -> None:
        """Let nodes go. What is in flight on them ends as it ends."""
        for node in nodes:
            self.nodes.pop(node.key, None)
            if node.place >= 0:
                self._take_out(node)
            node.state, node.since = "gone", now
            self._emit(NodeChanged(node.key, "gone"))
        self._rebuild(now)

    def changed(self, node: Node, now: float) -> None:
        """Something about a node is not as it was: its state, its gate, what it says of itself, an ejection."""
        if self.nodes.get(node.key) is not node:
            return
        connected, usable, listed = self._is_connected(node), self._is_usable(node, now), node.place >= 0
        if node.gate.shut or node.ejected_until:
            self.wake_at = min(self.wake_at, self._wakes_at(node))
        self._usable += usable - (listed and node not in self._kept_out)
        if connected and not usable:
            self._kept_out[node] = None
        else:
            self._kept_out.pop(node, None)
        if self._is_panic() != self.panicking:
            self._rebuild(now)
            return
        wanted = connected if self.panicking else usable
        if wanted == listed:
            return
        if wanted:
            self._put_in(node, now)
        else:
            self._take_out(node)
        self.picker.changed(self.ready)

    # ------------------------------------------------------------------ the pick

    def pick(self, now: float, key: str | None = None, tried: tuple[Node, ...] = ()) -> Node | None:
        """Return the node for a call, or None when none takes any. The caller then says `node.begin()`."""
        if now >= self.wake_at:
            probed = self._wake(now, tried)
            if probed is not None:
                return probed
        ready = self.ready
        if not ready:
            return None
        if len(ready) == 1:
            return ready[0]
        return self.choose(ready, now, key, tried)

    def explain(
        self, now: float, key: str | None = None, tried: tuple[Node, ...] = ()
    ) -> tuple[Node | None, tuple[tuple[str, float], ...], str]:
        """As `pick`, with the nodes that were compared, their loads, and why it is this one."""
        if now >= self.wake_at:
            probed = self._wake(now, tried)
            if probed is not None:
                return probed, (), "probe"
        ready = self.ready
        if not ready:
            return None, (), ""
        if len(ready) == 1:
            return ready[0], ((ready[0].key, ready[0].score(now)),), "panic" if self.panicking else "only"
        node, compared = self.picker.explain(ready, now, key, tried)
        return node, compared, "panic" if self.panicking else self.picker.name

    def _wake(self, now: float, tried: tuple[Node, ...]) -> Node | None:
        """Something's time has come: an ejection is over, or a shut node may have its probe, which is this call.

        A call that has been there is no probe while there is another node for it: its last attempt would go where it failed before.
        """
        probed: Node | None = None
        over = [node for node in self.nodes.values() if 0.0 < node.ejected_until <= now]
        for node in over:
            node.ejected_until = 0.0
            self.changed(node, now)
        if not self.panicking:
            spared = tried if any(node not in tried for node in self.ready) else ()
            for node in self.nodes.values():
                if node in spared:
                    continue
                gate = node.gate
                if probed is None and gate.shut and gate.retry_at <= now and self._is_connected(node) and gate.probe(now):
                    probed = node
        self.wake_at = min((self._wakes_at(node) for node in self.nodes.values()), default=math.inf)
        return probed

    # ------------------------------------------------------------------ who is in the list

    def _wakes_at(self, node: Node) -> float:
        at = node.ejected_until or math.inf
        if self.panicking or not node.gate.shut or not self._is_connected(node):
            return at  # in panic all nodes are in the list, and who goes in first is the probe
        return min(at, node.gate.retry_at)

    def _is_connected(self, node: Node) -> bool:
        return node.state == "ready" and not node.draining

    def _is_usable(self, node: Node, now: float) -> bool:
        return self._is_connected(node) and node.serving and not node.gate.shut and not node.ejected_until > now

    def _is_panic(self) -> bool:
        """Whether too few nodes are usable while others that are connected are kept out."""
        return bool(self._kept_out) and self._usable < self._config.panic_share * len(self.nodes)

    def _rebuild(self, now: float) -> None:
        """Make the list anew: the set is another one, or panic begins or ends. O(nodes)."""
        nodes = self.nodes.values()
        usable = [node for node in nodes if self._is_usable(node, now)]
        self._usable = len(usable)
        connected = [node for node in nodes if self._is_connected(node)]
        self._kept_out = {node: None for node in connected if not self._is_usable(node, now)}
        panic = self._is_panic()
        before, after = self.ready[:], connected if panic else usable
        for node in before:
            node.place = -1
        self.ready.clear()
        for node in after:
            self._put_in(node, now)
        for node in before:
            if node.place < 0:
                self._cool(node)
        if panic != self.panicking:
            self.panicking = panic
            self._emit(PanicChanged(panic, len(usable), len(self.nodes)))
        self.wake_at = min((self._wakes_at(node) for node in nodes), default=math.inf)
        self.picker.changed(self.ready)

    def _put_in(self, node: Node, now: float) -> None:
        node.place = len(self.ready)
        self.ready.append(node)
        if node.warm_at == math.inf:
            node.warm_at = now if now >= self.warm_until else -math.inf

    def _take_out(self, node: Node) -> None:
        last = self.ready.pop()
        if last is not node:
            self.ready[node.place] = last
            last.place = node.place
        node.place = -1
        self._cool(node)

    def _cool(self, node: Node) -> None:
        """It left the list; when it comes back it starts slowly."""
        if self._config.slow_start_s > 0:
            node.warm_at = math.inf
