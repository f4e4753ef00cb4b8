"""What a picker is: the protocol, and the dice and slow start that all of them have.

Owns: how a node that has just begun is held back (slow start, algorithms.md 2.14), how nodes that a call has been to are avoided, and the
drawing of nodes without one coming twice. `pick.py` has the pickers.

What may never happen here: an await, a clock, dice of its own; a look at every node of the list.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest
from math import isfinite
from typing import Literal, Protocol, get_args

import msgspec

from ..clock import Rng
from ..errors import ConfigError
from .endpoint import Node

PickerName = Literal["p2c", "round_robin", "weighted_round_robin", "random", "weighted_random", "least_loaded", "hash"]
PICKER_NAMES: tuple[PickerName, ...] = get_args(PickerName)

Compared = tuple[tuple[str, float], ...]
"""What a choice went by: nodes by key, each with the number that this picker compares. At most `COMPARED_MAX`, the best ones."""

COMPARED_MAX = 8
"""A record of a call is kept by the thousand: it says who was nearly chosen, not how 1,000 nodes are."""

SIT_OUTS_MAX = 4
"""How many new nodes in a row one choice passes over. Where nearly all are new there is nobody to spare them for."""


class SlowStart(msgspec.Struct, frozen=True, kw_only=True):
    """How a node that begins gets its traffic: little at first, all of it after a while, in a straight line between.

    A new node is given by chance what it would be given if it were warm, as often as its factor says. Its load is not made to look
    greater: at low traffic, where loads are all the same, that would leave it with nothing and then all at once with everything.

    Attributes:
        window_s: how long it takes; 0 for none. 30 s, in which a Python process has imported, connected and filled its caches.
        min_factor: what it gets at first, of 1. A tenth, enough to warm up with.
    Raises: ConfigError for a window below 0 and for a factor outside of 0 (excluded) to 1.
    """

    window_s: float = 30.0
    min_factor: float = 0.1

    def __post_init__(self) -> None:
        if not (self.window_s >= 0.0 and isfinite(self.window_s)):
            raise ConfigError(f"slow start window_s={self.window_s!r}: expected seconds, 0 or more; 0 turns slow start off")
        if not 0.0 < self.min_factor <= 1.0:
            raise ConfigError(f"slow start min_factor={self.min_factor!r}: expected above 0 and at most 1; 0.1 is a tenth of its share")

    def factor(self, node: Node, now: float) -> float:
        """Return how much of its share a node gets at `now`: `min_factor` to 1."""
        passed_s = now - node.warm_at
        if passed_s >= self.window_s:
            return 1.0
        return max(self.min_factor, passed_s / self.window_s)


class Picker(Protocol):
    """What chooses. `ready` is the balancer's own list, never empty and never kept; `warm_at` and `weight` of a node do not change while it
    stands in it without `changed`.

    Attributes:
        name: as in the configuration.
    """

    name: PickerName

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """Return the node that takes the call: one of `tried` only when there is no other.

        Args:
            key: what `hash` goes by; the others do not look at it.
            tried: the nodes the call has been to.
        """

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """Choose, as `choose` would with the same dice, and say what was compared."""

    def changed(self, ready: list[Node]) -> None:
        """The list is not what it was. Cheap, however often it is called: tables are made anew by the next choice."""


# --------------------------------------------------------------------------------------------------------------- what all share


class BasePicker:
    """The dice and slow start that every picker has. One that compares nothing explains itself by the load of what it chose."""

    __slots__ = ("_factor", "_random", "_stale", "_window_s")

    name: PickerName

    def __init__(self, rng: Rng, slow_start: SlowStart) -> None:
        self._random = rng.random
        self._factor = slow_start.factor
        self._window_s = slow_start.window_s
        self._stale = True

    def changed(self, ready: list[Node]) -> None:
        """The list is not what it was."""
        self._stale = True

    def choose(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> Node:
        """As in `Picker`."""
        raise NotImplementedError

    def explain(self, ready: list[Node], now: float, key: str | None, tried: tuple[Node, ...]) -> tuple[Node, Compared]:
        """As in `Picker`."""
        node = self.choose(ready, now, key, tried)
        return node, ((node.key, node.score(now)),)

    def _first(self, nodes: Iterable[Node], now: float, tried: tuple[Node, ...]) -> Node:
        """The first node that was not tried and does not sit out as a new one; failing that, not tried; failing that, the very first."""
        very_first: Node | None = None
        untried: Node | None = None
        sat_out = 0
        for node in nodes:
            very_first = very_first or node
            if node in tried:
                continue
            untried = untried or node
            if now - node.warm_at < self._window_s and sat_out < SIT_OUTS_MAX and self._random() >= self._factor(node, now):
                sat_out += 1
                continue
            return node
        found = untried or very_first
        assert found is not None, "a choice is asked for only where there is a node"
        return found


def drawn(random: Callable[[], float], ready: Sequence[Node], taken: list[int]) -> Iterator[Node]:
    """Draw nodes from the list, none twice, each with the same chance. `taken` are the places drawn before, in ascending order."""
    while len(taken) < len(ready):
        place = int(random() * (len(ready) - len(taken)))
        for each in taken:
            if place >= each:
                place += 1
        insort(taken, place)
        yield ready[place]


def best_of(loads: Iterable[tuple[float, Node]], chosen: Node) -> Compared:
    """What was compared, the chosen one first, then the least loaded of the others."""
    ranked = nsmallest(COMPARED_MAX, loads, key=lambda each: (each[1] is not chosen, each[0]))
    return tuple([(node.key, load) for load, node in ranked])
