"""The set of nodes in use: what a source says, less what we do not believe at once.

Sources lie. A name server that is being restarted answers with nothing, a registry that lost its data with three of a hundred nodes, and
whoever believes it has an outage that none of the nodes had. So an empty set never takes the place of another one; what is new, or is
back, comes in at once; and of what is gone by the source's word, no more than half of the set goes within `removal_window_s`. The rest is
*held*: it stays in use, and goes by and by if the source stays with it (algorithms.md 2.33). A node that is really gone does no harm by
that: its connection fails, and calls go elsewhere.

    set of 10 ── the source says 2 ──► 5 go, 3 are held ── 30 s ──► of 5 left 2 go, 1 is held ── 30 s ──► the last goes

Owns: that set, who is held, and the facts about both. What may never happen here: an await, a clock, a node; a set that becomes empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from ..errors import ConfigError
from ..facts import Emit, NodesChanged, discard
from .endpoint import Endpoint


class MembersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How quickly nodes are let go.

    Attributes:
        removal_window_s: at most half of the nodes go in so many seconds. 30: as often as names are looked up, so that a source that was
            wrong once has a chance to be right before the next half goes. 0 believes the source at once.
    Raises: ConfigError naming the field that makes no sense.
    """

    removal_window_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.removal_window_s <= 86_400:
            raise ConfigError(f"removal_window_s={self.removal_window_s!r}: expected 0 (at once) to 86400 seconds")


DEFAULT_CONFIG = MembersConfig()


class Change(msgspec.Struct, frozen=True):
    """What is different about the set. False when nothing is.

    Attributes:
        added: they are in use from now on.
        removed: the keys of those that are not any more.
        held: the keys of all that are in use although the source does not name them, those that were held before included.
        changed: they were in use and are, with another weight or other labels.
    """

    added: tuple[Endpoint, ...] = ()
    removed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    changed: tuple[Endpoint, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Members:
    """Whole sets in, what to use out. Costs about a microsecond for a node in the set, and nothing per call.

    Attributes:
        current: what is in use, by key.
        held: of these, what the source does not name any more; who has been held for longest first.
        next_at: when `tick` has something to do; inf when it has not.
    """

    __slots__ = ("_emit", "_left", "_window_ends_at", "_window_s", "current", "held", "next_at")

    def __init__(self, config: MembersConfig = DEFAULT_CONFIG, emit: Emit = discard) -> None:
        self.current: dict[str, Endpoint] = {}
        self.held: dict[str, None] = {}
        self.next_at = math.inf
        self._window_s = config.removal_window_s
        self._window_ends_at = -math.inf
        self._left = 0  # how many may still go in this window
        self._emit = emit

    def update(self, endpoints: Iterable[Endpoint], now: float) -> Change:
        """Take a whole set from the source.

        Who is named twice is one node: with the larger weight and the labels of both; of two values of a label the one that sorts first,
        so that the order in which a source names them makes no difference.
        """
        named = _by_key(endpoints)
        current = self.current
        if not named:
            return Change(held=tuple(self.held))
        size = len(current)
        held_before = tuple(self.held)
        gone = [key for key in current if key not in named and key not in self.held]
        self.held = dict.fromkeys([*(key for key in self.held if key not in named), *gone])
        added, changed = [], []
        for key, endpoint in named.items():
            before = current.get(key)
            if before is None:
                added.append(endpoint)
            elif before != endpoint:
                changed.append(endpoint)
            current[key] = endpoint
        removed = self._let_go(size, now)
        return self._changed(added, removed, changed, held_before)

    def tick(self, now: float) -> Change:
        """Let go of what was held for long enough. To be called when `next_at` has come; at other times there is nothing to do."""
        held_before = tuple(self.held)
        return self._changed([], self._let_go(len(self.current), now), [], held_before)

    def _let_go(self, size: int, now: float) -> list[str]:
        """Let as many go as may, of a set that had `size` nodes; those that have been held for longest first."""
        if self.held and now >= self._window_ends_at:
            self._window_ends_at = now + self._window_s
            self._left = size // 2 if self._window_s else size
        removed = list(self.held)[: self._left]
        for key in removed:
            del self.held[key]
            del self.current[key]
        self._left -= len(removed)
        self.next_at = self._window_ends_at if self.held else math.inf
        return removed

    def _changed(self, added: list[Endpoint], removed: list[str], changed: list[Endpoint], held_before: tuple[str, ...]) -> Change:
        held = tuple(self.held)
        if added or removed or held != held_before:
            self._emit(NodesChanged(len(self.current), len(added), len(removed), len(held)))
        return Change(tuple(added), tuple(removed), held, tuple(changed))


def _by_key(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    named: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        before = named.setdefault(endpoint.key, endpoint)
        if before is not endpoint and before != endpoint:
            labels = dict(before.labels)
            for name, value in endpoint.labels.items():
                labels[name] = min(value, labels.get(name, value))
            named[endpoint.key] = Endpoint(endpoint.key, max(before.weight, endpoint.weight), labels)
    return named
