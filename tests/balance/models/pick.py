"""Each picker by its definition: slow and obvious, over plain views of the nodes. Dice are numbers in 0 to 1, taken one by one.

Where a choice hangs on a difference that rounding could make, the model says `TooClose` and the comparison ends there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tests.balance.models import ring

SIT_OUTS = 4

Die = Callable[[], float]


class TooClose(Exception):
    """Two numbers are equal but for rounding."""


@dataclass
class View:
    """A node as it is at the moment of a choice."""

    key: str
    weight: float
    warmth: float
    """How much of its share it gets, 1 when it is not new."""
    pending: int
    load: float
    estimate: float = 0.0
    pace: float = 0.0


Chooser = Callable[[list[View], str | None, list[str], Die], str]


def less(one: float, other: float) -> bool:
    if one != other and abs(one - other) <= 1e-9 * max(abs(one), abs(other)):
        raise TooClose
    return one < other


def untried_of(views: list[View], tried: list[str]) -> list[View]:
    return [view for view in views if view.key not in tried] or views


def two(views: list[View], key: str | None, tried: list[str], die: Die) -> str:
    """Draw without putting back until there are two untried; the less loaded, or the first if neither is; newer ones make way by chance.

    They do not make way for one that is more than twice as slow.
    """
    bag, drawn = list(views), list[View]()
    while bag and len([view for view in drawn if view.key not in tried]) < 2 and len(views) > 1:
        drawn.append(bag.pop(math.floor(die() * len(bag))))
    pair = untried_of(drawn or views, tried)[:2]
    if len(pair) == 1:
        return pair[0].key
    first, second = pair
    winner, loser = (second, first) if less(second.load, first.load) else (first, second)
    if winner.warmth < 1.0 and not less(2.0 * (winner.estimate or loser.estimate), loser.pace) and die() * loser.warmth >= winner.warmth:
        return loser.key
    return winner.key


def first_that_may(order: Callable[[], View | None], tried: list[str], die: Die) -> str:
    """The first that is untried and up for it. After four that sat out the next one is taken as it is."""
    seen: list[View] = []
    sat_out = 0
    while (view := order()) is not None:
        seen.append(view)
        if view.key in tried:
            continue
        if view.warmth == 1.0 or sat_out == SIT_OUTS or die() < view.warmth:
            return view.key
        sat_out += 1
    return untried_of(seen, tried)[0].key


def chance(views: list[View], key: str | None, tried: list[str], die: Die) -> str:
    bag = list(views)
    return first_that_may(lambda: bag.pop(math.floor(die() * len(bag))) if bag else None, tried, die)


def chance_by_weight(views: list[View], key: str | None, tried: list[str], die: Die) -> str:
    bag = untried_of(views, tried)

    def draw() -> View | None:
        if not bag:
            return None
        spot = Fraction(die()) * sum(Fraction(view.weight) for view in bag)
        for view in bag:
            spot -= Fraction(view.weight)
            if abs(spot) < 1e-9:
                raise TooClose
            if spot < 0:
                bag.remove(view)
                return view
        raise AssertionError("the die shows less than 1")

    return first_that_may(draw, [], die)


def least(views: list[View], key: str | None, tried: list[str], die: Die) -> str:
    def among(some: list[View]) -> View:
        fewest = min(Fraction(view.pending) / Fraction(view.weight) for view in some)
        equals = [view for view in some if Fraction(view.pending) / Fraction(view.weight) == fewest]
        return equals[math.floor(die() * len(equals))] if len(equals) > 1 else equals[0]

    left = untried_of(views, tried)
    chosen = among(left)
    if chosen.warmth < 1.0 and die() >= chosen.warmth:
        warm = [view for view in left if view.warmth == 1.0]
        return among(warm).key if warm else chosen.key
    return chosen.key


class Turns:
    """Round robin: the place after the last one chosen, from a random start."""

    def __init__(self) -> None:
        self.last: int | None = None

    def __call__(self, views: list[View], key: str | None, tried: list[str], die: Die) -> str:
        if self.last is None:
            start = math.floor(die() * len(views))
        else:
            start = self.last + 1 if self.last + 1 < len(views) else 0
        order = [(start + n) % len(views) for n in range(len(views))]
        looked: list[int] = []

        def next_one() -> View | None:
            if not order:
                return None
            looked.append(order.pop(0))
            return views[looked[-1]]

        chosen = first_that_may(next_one, tried, die)
        self.last = looked[-1]
        return chosen


class WeightedTurns:
    """nginx: everybody gains its weight, the richest is chosen and pays what all gained (ngx_http_upstream_get_peer)."""

    def __init__(self) -> None:
        self.phases: dict[str, Fraction] = {}
        """Current weights, in shares of the total."""
        self.seen: dict[str, float] | None = None

    def __call__(self, views: list[View], key: str | None, tried: list[str], die: Die) -> str:
        total = sum((Fraction(view.weight) for view in views), Fraction(0))
        now = {view.key: view.weight for view in views}
        if now != self.seen:
            self._set_changed(list(now), die)
            self.seen = now
        playing = untried_of(views, tried)
        paid = sum((Fraction(view.weight) * Fraction(view.warmth) for view in playing), Fraction(0))
        for view in playing:
            self.phases[view.key] += Fraction(view.weight) * Fraction(view.warmth) / total
        richest = max(playing, key=lambda view: self.phases[view.key])
        for view in playing:
            if view is not richest and abs(self.phases[view.key] - self.phases[richest.key]) < 1e-9:
                raise TooClose
        self.phases[richest.key] -= paid / total
        return richest.key

    def _set_changed(self, keys: list[str], die: Die) -> None:
        stayed = [key for key in keys if key in self.phases]
        if stayed:
            middle = sum((self.phases[key] for key in stayed), Fraction(0)) / len(stayed)
            self.phases = {key: self.phases[key] - middle if key in stayed else Fraction(0) for key in keys}
        else:
            drawn = [Fraction(die()) for _ in keys]
            self.phases = {key: phase - sum(drawn, Fraction(0)) / len(drawn) for key, phase in zip(keys, drawn, strict=True)}


class Hashed:
    """By the key: the first on its way that is untried, has room, and is warm enough for this key."""

    def __init__(self, factor: float = 1.25) -> None:
        self.factor = factor

    def __call__(self, views: list[View], key: str | None, tried: list[str], die: Die) -> str:
        key = repr(die()) if key is None else key
        by_key = {view.key: view for view in views}
        way = [by_key[each] for each in ring.preference(key, [(view.key, view.weight) for view in views])]
        room = self.room(views)
        left = [view for view in way if view.key not in tried]
        with_room = [view for view in left if view.pending + 1 <= room[view.key]]
        for at, view in enumerate(with_room):
            if view.warmth == 1.0 or ring.share_of_chance(key) < view.warmth:
                return view.key
            if at == SIT_OUTS:
                break
        return (with_room or left or way)[0].key

    def room(self, views: list[View]) -> dict[str, int]:
        """How many calls each may have, the one that comes included."""
        calls = sum(view.pending for view in views) + 1
        weights = {view.key: Fraction(view.weight) * Fraction(view.warmth) for view in views}
        exact = {key: Fraction(self.factor) * calls * weight / sum(weights.values(), Fraction(0)) for key, weight in weights.items()}
        return {key: math.ceil(value - Fraction(1, 10**9)) for key, value in exact.items()}


def make(name: str) -> Chooser:
    kinds: dict[str, Callable[[], Chooser]] = {
        "p2c": lambda: two,
        "round_robin": Turns,
        "weighted_round_robin": WeightedTurns,
        "random": lambda: chance,
        "weighted_random": lambda: chance_by_weight,
        "least_loaded": lambda: least,
        "hash": Hashed,
    }
    return kinds[name]()
