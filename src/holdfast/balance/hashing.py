"""Which node a key belongs to: the same one in every process and every run, and nearly the same when nodes come and go.

Owns: the ring and the picker that goes by it. A node stands at a few points of it, by its weight; a key looks from fifteen places and
belongs to the node whose point is nearest ahead of any (multi-probe hashing, Appleton and O'Reilly 2015). That spreads keys as evenly as a
hundred points a node would, and a set of 1,000 nodes is placed in about 2 ms, not 50; a look costs the same at 3 nodes and at 1,000. When
a node comes, keys move only to it; when one goes, only its own move (algorithms.md 2.12).

What may never happen here: `hash()`, which differs from process to process; an order that depends on that of the list; a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from math import ceil, floor, isfinite, log2
from struct import Struct

from ..clock import Rng
from ..errors import ConfigError
from .endpoint import Node
from .picker import COMPARED_MAX, SIT_OUTS_MAX, BasePicker, Compared, PickerName, SlowStart

CIRCLE = 1 << 30
"""Points of the circle. Python sorts and compares numbers of 30 bits faster than greater ones."""

POINTS = 4
"""Points of a node of weight 1 where none weighs 2 or more: enough for weights to count. That keys spread evenly comes from the looks."""

HASH_FACTOR = 1.25
"""Of consistent hashing: in flight at one node, beside its share of all. Less moves keys for nothing, more leaves a popular key's node
with the load of two; 1.25 to 2 are in use (algorithms.md 2.12)."""

ROUNDING = 1e-9
"""What arithmetic may add to a share that comes out whole."""

_LOOKS = Struct("<16I")
_STANDS = Struct("<8I")


def of_key(key: str) -> tuple[int, ...]:
    """Return where a key looks from: fifteen places, and one number more that is its own share of chance, below `CIRCLE`."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=64, person=b"key").digest()
    return tuple([number >> 2 for number in _LOOKS.unpack(digest)])


def of_node(key: str) -> tuple[int, ...]:
    """Return where a node stands: eight places below `CIRCLE`, of which the first ones are used."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32, person=b"node").digest()
    return tuple([number >> 2 for number in _STANDS.unpack(digest)])


class Ring:
    """The circle with the nodes on it. Empty to begin with; asking an empty one is a mistake.

    Weights count beside the greatest: the heaviest node gets 4 to 8 points, none less than one. So a weight is rounded to about an eighth
    of the greatest, and all keys are dealt anew only when the greatest weight passes a power of two.
    """

    __slots__ = ("_known", "_owners", "_points")

    def __init__(self) -> None:
        self._points: list[int] = []
        self._owners: list[Node] = []
        self._known: dict[str, tuple[int, ...]] = {}

    def place(self, nodes: Iterable[Node]) -> None:
        """Put exactly these nodes on the ring. The order they come in says nothing. What is known of nodes that are gone is forgotten."""
        nodes = list(nodes)
        known, self._known = self._known, {}
        owner: dict[int, Node] = {}
        if nodes:
            scale = POINTS / 2.0 ** floor(log2(max(node.weight for node in nodes)))
        for node in nodes:
            key = node.key
            points = self._known[key] = known.get(key) or of_node(key)
            for point in points[: max(1, round(node.weight * scale))]:
                other = owner.setdefault(point, node)
                if other is not node and key < other.key:
                    owner[point] = node
        self._points = sorted(owner)
        self._owners = [owner[point] for point in self._points]
        if nodes:  # the first one stands behind the last as well, so that nobody has to wrap around
            self._points.append(self._points[0] + CIRCLE)
            self._owners.append(self._owners[0])

    def find(self, places: tuple[int, ...]) -> Node:
        """Return the node that a key belongs to, from `of_key`."""
        points = self._points
        nearest = CIRCLE + 1
        found = 0
        for place in places[:15]:
            at = bisect_left(points, place)
            distance = points[at] - place
            if distance < nearest or (distance == nearest and at < found):
                nearest = distance
                found = at
        return self._owners[found]

    def walk(self, places: tuple[int, ...]) -> Iterator[Node]:
        """Yield every node once, in the order the key prefers them: the one it belongs to, the other ones it saw, then around the ring.

        The order is the key's own, so what one node has to turn away spreads over all others.
        """
        points, owners = self._points, self._owners
        seen: dict[Node, None] = {}
        looks = sorted((points[at] - place, at) for place in places[:15] for at in (bisect_left(points, place),))
        nearest = looks[0][1]
        for at in chain([at for _, at in looks], range(nearest + 1, len(points)), range(nearest)):
            node = owners[at]
            if node not in seen:
                seen[node] = None
                yield node


class ConsistentHash(BasePicker):
    """The node that the call's key belongs to, so that its caches are warm; the next one while that has more than `factor` times its share.

    A call without a key goes anywhere. Nobody gets a call that would give it more than `factor` times its share of all that is in flight,
    rounded up, unless the call has been to everybody else who has room. While a node is new it gets only some of its keys, and always the
    same ones, more as time goes on: each key moves once. A choice costs the same at any number of nodes while the key's node is idle;
    else the calls in flight of all are added up, about 0.03 µs for each.
    """

    __slots__ = ("_all_warm_at", "_bound", "_ring", "_weight")
    name: PickerName = "hash"

    def __init__(self, rng: Rng, slow_start: SlowStart, factor: float = HASH_FACTOR) -> None:
        super().__init__(rng, slow_start)
        if not (factor > 1.0 and isfinite(factor)):
            raise ConfigError(f"hash_factor={factor!r}: expected above 1, 1.25 to 2 in practice; at 1 no key would keep its node")
        self._bound = factor
        self._ring = Ring()
        self._weight = 0.0
        self._all_warm_at = 0.0

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        if self._stale:
            self._rebuild(ready)
        places = of_key(key if key is not None else repr(self._random()))
        node = self._ring.find(places)
        if not node.pending and not tried and now - node.warm_at >= self._window_s:
            return node  # one call is never more than its share, rounded up
        return self._walk(ready, now, places, tried)

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """As in `Picker`: the calls in flight of the nodes it walked by, in the order the key prefers them, up to the chosen one."""
        key = key if key is not None else repr(self._random())
        node = self.choose(ready, now, key, tried)
        walked: list[tuple[str, float]] = []
        for each in self._ring.walk(of_key(key)):
            if each is node or len(walked) < COMPARED_MAX - 1:
                walked.append((each.key, each.pending))
            if each is node:
                break
        return node, tuple(walked)

    def _rebuild(self, ready: list[Node]) -> None:
        self._stale = False
        self._ring.place(ready)
        self._weight = sum([node.weight for node in ready])
        self._all_warm_at = max([node.warm_at for node in ready], default=0.0) + self._window_s

    def _walk(self, ready: list[Node], now: float, places: tuple[int, ...], tried: tuple[Node, ...]) -> Node:
        """The first one on the key's way that was not tried, has room, and is not too new for this key; failing that, the first such."""
        factor = self._factor
        weight = self._weight if now >= self._all_warm_at else sum([node.weight * factor(node, now) for node in ready])
        room = self._bound * (sum([node.pending for node in ready]) + 1) / weight
        share = places[15] / CIRCLE
        new: list[Node] = []
        full: Node | None = None
        for node in self._ring.walk(places):
            if node in tried:
                continue
            warmth = factor(node, now)
            if node.pending >= ceil(room * node.weight * warmth - ROUNDING):
                full = full or node
            elif share < warmth:
                return node
            else:
                new.append(node)
                if len(new) > SIT_OUTS_MAX:
                    break
        if new:
            return new[0]
        return full or next(self._ring.walk(places))
