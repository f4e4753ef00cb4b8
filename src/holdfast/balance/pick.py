"""Which node takes the next call: seven ways to choose, power of two choices unless somebody asks for another (algorithms.md 2.8).

Owns: the pickers and their names; what they have in common stands in `picker.py`, the ring in `hashing.py`. All choose from the list of
nodes that may take ordinary calls, which the balancer keeps; its order says nothing. All avoid the nodes a call has been to while there is
another one, and hold back a node that has just begun (slow start, 2.14).

    p2c                      two at random, the less loaded one; the default: no herd, and the same cost at 3 nodes and at 1,000
    round_robin              in turn
    weighted_round_robin     in turn by weight, evenly spaced as nginx does; looks at every node
    random, weighted_random  by chance, and by chance and weight
    least_loaded             the fewest calls in flight for its weight; looks at every node
    hash                     the node that the call's key belongs to, unless it has much more than its share

What may never happen here: an await, a clock, dice of its own; a tie that is settled by the place in the list, for then the first node
would get everything that an idle client sends.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import accumulate, chain
from math import exp

from ..clock import Rng
from ..errors import ConfigError
from .endpoint import TAU_S, Node
from .hashing import HASH_FACTOR, ConsistentHash
from .picker import PICKER_NAMES, BasePicker, Compared, Picker, PickerName, SlowStart, best_of, drawn

__all__ = (
    "HASH_FACTOR",
    "PICKER_NAMES",
    "Compared",
    "ConsistentHash",
    "LeastLoaded",
    "Picker",
    "PickerName",
    "PowerOfTwo",
    "Random",
    "RoundRobin",
    "SlowStart",
    "SmoothWeightedRoundRobin",
    "WeightedRandom",
    "make_picker",
)


SPARE_MAX = 2.0
"""How many times as slow as a new node another one may be that is to take its calls."""


class PowerOfTwo(BasePicker):
    """Two nodes at random, and the less loaded of them by `Node.score`. Both orders of a pair are as likely, so a tie is settled by chance.

    Picking the best of all would send everybody to whoever was idle a moment ago; two are enough to leave the worst one alone.
    """

    __slots__ = ()
    name: PickerName = "p2c"

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`. Costs the same at any number of nodes. `_pair` and `_lighter`, written out here for speed."""
        count = len(ready)
        if tried or count < 2:
            return self._lighter(*self._pair(ready, tried), now)
        random = self._random
        first = int(random() * count)
        second = int(random() * (count - 1))
        if second >= first:
            second += 1
        one = ready[first]
        other = ready[second]
        load = one.cost
        other_load = other.cost
        if load > now - one.heard_at and other_load > now - other.heard_at:
            load *= (one.pending + 1) * (1.0 + one.load) / one.weight
            other_load *= (other.pending + 1) * (1.0 + other.load) / other.weight
            later_s = one.stamp - other.stamp
            if later_s > 0.0:
                other_load *= exp(-later_s / TAU_S)
            elif later_s:
                load *= exp(later_s / TAU_S)
        else:
            load = one.score(now)
            other_load = other.score(now)
        if other_load < load:
            if now - other.warm_at >= self._window_s:
                return other
            return self._unless_new(other, one, now)
        if now - one.warm_at >= self._window_s:
            return one
        return self._unless_new(one, other, now)

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """As in `Picker`: the two, with their loads."""
        one, other = self._pair(ready, tried)
        compared = [(each.key, each.score(now)) for each in ((one,) if other is one else (one, other))]
        return self._lighter(one, other, now), tuple(compared)

    def _pair(self, ready: list[Node], tried: tuple[Node, ...]) -> tuple[Node, Node]:
        """The first two untried nodes that are drawn; the same one twice when there is no second. Draws at most `len(tried) + 2`."""
        if len(ready) == 1:
            return ready[0], ready[0]
        all_drawn: list[Node] = []
        untried: list[Node] = []
        for node in drawn(self._random, ready, []):
            all_drawn.append(node)
            if node not in tried:
                untried.append(node)
                if len(untried) == 2:
                    break
        found = untried or all_drawn
        return found[0], found[1 if len(found) > 1 else 0]

    def _lighter(self, one: Node, other: Node, now: float) -> Node:
        """The less loaded of two. Both loads decay at the same rate, so only the difference between their stamps has to be made good."""
        if other is one:
            return one
        load = one.cost
        other_load = other.cost
        if load > now - one.heard_at and other_load > now - other.heard_at:
            load *= (one.pending + 1) * (1.0 + one.load) / one.weight
            other_load *= (other.pending + 1) * (1.0 + other.load) / other.weight
            later_s = one.stamp - other.stamp
            if later_s > 0.0:
                other_load *= exp(-later_s / TAU_S)
            elif later_s:
                load *= exp(later_s / TAU_S)
        else:
            load = one.score(now)
            other_load = other.score(now)
        return self._unless_new(other, one, now) if other_load < load else self._unless_new(one, other, now)

    def _unless_new(self, chosen: Node, other: Node, now: float) -> Node:
        """The chosen one, or the other as often as the chosen one is newer: two that are as new as one another spare neither.

        To spare a new node is worth a somewhat longer way, but not a node that fails, or stands still.
        """
        if now - chosen.warm_at >= self._window_s or other.pace_s(now) > SPARE_MAX * (chosen.cost or other.cost):
            return chosen
        return chosen if self._random() * self._factor(other, now) < self._factor(chosen, now) else other


class RoundRobin(BasePicker):
    """In turn, from a random start, or all clients that begin together would go round together. Costs the same at any number of nodes."""

    __slots__ = ("_begun", "_next")
    name: PickerName = "round_robin"

    def __init__(self, rng: Rng, slow_start: SlowStart) -> None:
        super().__init__(rng, slow_start)
        self._next = 0
        self._begun = False

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        place = self._next
        if place >= len(ready) or not self._begun:
            place = 0 if self._begun else int(self._random() * len(ready))
            self._begun = True
        self._next = place + 1
        node = ready[place]
        if tried or now - node.warm_at < self._window_s:
            return self._first(self._turns(ready, place), now, tried)
        return node

    def _turns(self, ready: list[Node], place: int) -> Iterator[Node]:
        for at in range(place, place + len(ready)):
            self._next = at % len(ready) + 1
            yield ready[at % len(ready)]


class SmoothWeightedRoundRobin(BasePicker):
    """In turn by weight and evenly spaced, as nginx does: each node gains its weight, the richest is chosen and pays the weight of all.

    Looks at every node, as the rule says: about 0.1 µs for each; fine for the 40 that a client holds at most unless it is told otherwise.
    A new node gains its weight times its factor. The start is random; when the set changes, everybody stays where they are in the round.
    """

    __slots__ = ("_current", "_total")
    name: PickerName = "weighted_round_robin"

    def __init__(self, rng: Rng, slow_start: SlowStart) -> None:
        super().__init__(rng, slow_start)
        self._current: dict[Node, float] = {}
        self._total = 0.0

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        return self._turn(ready, now, tried)[0]

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """As in `Picker`: what each still lacked to its turn, in weights; the chosen one least."""
        node, paid = self._turn(ready, now, tried)
        current = self._current
        left = [each for each in ready if each not in tried] or ready
        return node, best_of(((-(current[each] + paid) if each is node else -current[each], each) for each in left), node)

    def _turn(self, ready: list[Node], now: float, tried: tuple[Node, ...]) -> tuple[Node, float]:
        if self._stale:
            self._rebuild(ready)
        current, window_s = self._current, self._window_s
        nodes = [node for node in ready if node not in tried] or ready if tried else ready
        chosen = nodes[0]
        most = float("-inf")
        total = 0.0
        for node in nodes:
            weight = node.weight if now - node.warm_at >= window_s else node.weight * self._factor(node, now)
            total += weight
            has = current[node] = current[node] + weight
            if has > most:
                most, chosen = has, node
        current[chosen] -= total
        return chosen, total

    def _rebuild(self, ready: list[Node]) -> None:
        old, old_total = self._current, self._total
        self._stale = False
        self._total = sum([node.weight for node in ready])
        if any(node in old for node in ready):
            kept = [old[node] for node in ready if node in old]
            middle = sum(kept) / len(kept)
            scale = self._total / old_total
            self._current = {node: (old[node] - middle) * scale if node in old else 0.0 for node in ready}
        elif ready:
            phases = [self._random() for _ in ready]
            middle = sum(phases) / len(phases)
            self._current = {node: (phase - middle) * self._total for node, phase in zip(ready, phases, strict=True)}
        else:
            self._current = {}


class Random(BasePicker):
    """Any node, each with the same chance. Costs the same at any number of nodes."""

    __slots__ = ()
    name: PickerName = "random"

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        if tried:
            return self._first(drawn(self._random, ready, []), now, tried)
        place = int(self._random() * len(ready))
        node = ready[place]
        if now - node.warm_at >= self._window_s:
            return node
        return self._first(chain((node,), drawn(self._random, ready, [place])), now, ())


class WeightedRandom(BasePicker):
    """Any node, each with a chance by its weight. Searches a table, which the first choice after a change makes anew."""

    __slots__ = ("_places", "_table")
    name: PickerName = "weighted_random"

    def __init__(self, rng: Rng, slow_start: SlowStart) -> None:
        super().__init__(rng, slow_start)
        self._table: list[float] = []
        self._places: dict[Node, int] = {}

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        if self._stale:
            self._stale = False
            self._table = list(accumulate([node.weight for node in ready]))
            self._places.clear()
        if tried:
            return self._first(self._by_weight(ready, self._taken(ready, tried)), now, ())
        table = self._table
        place = bisect_right(table, self._random() * table[-1], 0, len(table) - 1)
        node = ready[place]
        if now - node.warm_at >= self._window_s:
            return node
        return self._first(chain((node,), self._by_weight(ready, [place])), now, ())

    def _taken(self, ready: list[Node], tried: tuple[Node, ...]) -> list[int]:
        """The places of the tried nodes, in order; none when that would be all of them."""
        if not self._places:
            self._places = {node: place for place, node in enumerate(ready)}
        places = {self._places[node]: None for node in tried if node in self._places}
        return sorted(places) if len(places) < len(ready) else []

    def _by_weight(self, ready: list[Node], taken: list[int]) -> Iterator[Node]:
        """Draw nodes, none twice and none of `taken`, each with a chance by its weight beside those that are left."""
        table = self._table
        while len(taken) < len(ready):
            spot = self._random() * (table[-1] - sum([ready[place].weight for place in taken]))
            for place in taken:
                if spot >= (table[place - 1] if place else 0.0):
                    spot += ready[place].weight
            at = bisect_right(table, spot, 0, len(table) - 1)
            while at in taken:  # rounding put it at the edge of its neighbour
                at = (at + 1) % len(ready)
            insort(taken, at)
            yield ready[at]


class LeastLoaded(BasePicker):
    """The node with the fewest calls in flight for its weight; among equals by chance.

    Looks at every node, about 0.1 µs for each. A new node that would be chosen makes way for one that is not new as often as its factor
    says.
    """

    __slots__ = ()
    name: PickerName = "least_loaded"

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        nodes = [node for node in ready if node not in tried] or ready if tried else ready
        node = self._least(nodes)
        if now - node.warm_at < self._window_s and self._random() >= self._factor(node, now):
            warm = [each for each in nodes if now - each.warm_at >= self._window_s]
            return self._least(warm) if warm else node
        return node

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """As in `Picker`: calls in flight for each node's weight."""
        node = self.choose(ready, now, key, tried)
        left = [each for each in ready if each not in tried] or ready
        return node, best_of(((each.pending / each.weight, each) for each in left), node)

    def _least(self, nodes: list[Node]) -> Node:
        loads = [node.pending / node.weight for node in nodes]
        least = min(loads)
        equals = [node for node, load in zip(nodes, loads, strict=True) if load == least]
        return equals[0] if len(equals) == 1 else equals[int(self._random() * len(equals))]


def make_picker(name: str, rng: Rng, *, slow_start: SlowStart | None = None, hash_factor: float = HASH_FACTOR) -> Picker:
    """Return a new picker of that name.

    Args:
        rng: its dice; a stream of its own.
        hash_factor: of `hash`, how many times its share of the calls in flight a node may have; the others do not look at it.
    Raises: ConfigError for a name that is none of `PICKER_NAMES`, and for a factor of 1 or less.
    """
    slow_start = slow_start if slow_start is not None else SlowStart()
    if name == "hash":
        return ConsistentHash(rng, slow_start, hash_factor)
    for kind in (PowerOfTwo, RoundRobin, SmoothWeightedRoundRobin, Random, WeightedRandom, LeastLoaded):
        if kind.name == name:
            return kind(rng, slow_start)
    raise ConfigError(f"picker={name!r}: expected one of {', '.join(PICKER_NAMES)}")
