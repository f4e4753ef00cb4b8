"""Telling a node that is slow from a load that is too high: when nearly all are too slow at once, it is not the nodes.

A node that times out is kept out, as long as it is the only one. When all do, each one that is kept out leaves its calls to the others,
which then are too slow as well, and when it comes back they are kept out in its place: what takes capacity away from an overload keeps it
up long after its cause is gone (Bronson et al., "Metastable failures in distributed systems", HotOS 2021). The same holds for attempts
beside those that are slow. So while nearly all of the nodes that take calls are *strained*, their slowness is nobody's fault: the
client keeps no node out for it, makes no attempt beside another because that is slow, and earns no retries.

The rule for one node: over stretches of `interval_s` at least, more than `share` of the attempts that it was given were late, and at least
`LATE_MIN`. What late means is the business of whoever tells: an attempt that ended by its deadline or was refused for want of capacity,
or one that is not over when its share of the deadline is. It costs a call that goes well nothing: a node's attempts are counted for its own
sake, and read here when one is late.

What may never happen here: a clock; a strain that is the work of one node among many; a strain that outlives what told of it by more than
`hold_s`, or twice the time that it took to tell.
"""

from __future__ import annotations

import math
from typing import get_args

import msgspec

from ..errors import ConfigError
from ..handler import Mode
from .endpoint import Node

LATE_MIN = 3
"""Of fewer late attempts in a stretch nothing follows, however few there were in all."""


class StrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When slowness is taken for load.

    Attributes:
        mode: `enforce`, or `shadow`, which only counts how often it would have been, or `off`.
        share: of the attempts at a node in a stretch that may be late. 0.1: the budget pays for twice as many, and fewer are no overload.
        nodes_share: of the nodes that take calls that must be strained. 0.8: all of up to four, and 16 of 20, for chance spares some. With
            less, two nodes out of three that are broken would be taken for load, and there is a third to go to.
        interval_s: how long a stretch is at least. 1 s: a stall of half a second is none.
        hold_s: how long it lasts after a node was found strained last, at least. 3 s: three stretches.
        grace_s: for how long after it no node is kept out for being slow, or spared for being new. 30 s, as long as a breaker looks back:
            what piled up is worked off by then, and who has more of it than others is not to blame.
    Raises: ConfigError naming the field that makes no sense.
    """

    mode: Mode = "enforce"
    share: float = 0.1
    nodes_share: float = 0.8
    interval_s: float = 1.0
    hold_s: float = 3.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode={self.mode!r}: expected one of {', '.join(get_args(Mode))}")
        if not 0 < self.nodes_share <= 1:
            raise ConfigError(f"nodes_share={self.nodes_share!r}: expected a share of the nodes above 0, at most 1, such as 0.8")
        if not 0 < self.share < 1:
            raise ConfigError(f"share={self.share!r}: expected a share of the attempts between 0 and 1, such as 0.1")
        if not 0 <= self.grace_s < math.inf:
            raise ConfigError(f"grace_s={self.grace_s!r}: expected 0 or more seconds")
        if not 0 < self.interval_s <= self.hold_s < math.inf:
            raise ConfigError(f"interval_s={self.interval_s!r}, hold_s={self.hold_s!r}: expected seconds above 0, the first not longer")


DEFAULT_CONFIG = StrainConfig()


class _Record:
    """What is known of one node: the stretch that is under way, and until when it counts as strained."""

    __slots__ = ("attempts", "late", "since", "until")

    def __init__(self, now: float, attempts: int) -> None:
        self.since = now
        self.attempts = attempts
        self.late = 0
        self.until = -math.inf


class Strain:
    """Whether the nodes of one client are strained.

    Attributes:
        until: until when they are, as far as anything follows from it; never in shadow.
        seen_until: until when they are, in shadow too.
        begun: how often it began.
        would: how often it would have, in shadow: the same number for the same attempts.
    """

    __slots__ = ("_config", "_records", "begun", "seen_until", "until", "would")

    def __init__(self, config: StrainConfig = DEFAULT_CONFIG) -> None:
        self._config = config
        self._records: dict[Node, _Record] = {}
        self.seen_until = -math.inf
        self.until = -math.inf
        self.begun = self.would = 0

    def late(self, node: Node, now: float, taking: int) -> bool:
        """An attempt at `node` was late. Return whether a strain begins with this, or would in shadow.

        Args:
            taking: how many nodes take calls, this one or not.
        """
        config = self._config
        if config.mode == "off" or node.place < 0:  # one that takes no calls only ends those it had
            return False
        record = self._records.get(node)
        if record is None:
            record = self._records[node] = _Record(now, node.attempts)
        record.late += 1
        stretch_s = now - record.since
        if stretch_s < config.interval_s or record.late < LATE_MIN:
            return False
        given = node.attempts - record.attempts
        strained = record.late > config.share * given
        record.since, record.attempts, record.late = now, node.attempts, 0
        if not strained:
            return False
        hold_s = max(config.hold_s, min(2 * stretch_s, config.grace_s))  # with few calls a stretch is long
        record.until = now + hold_s
        return self._judge(now, hold_s, taking)

    def _judge(self, now: float, hold_s: float, taking: int) -> bool:
        strained = sum(1 for node, record in self._records.items() if record.until > now and node.place >= 0)
        if strained < self._config.nodes_share * taking:
            return False
        begins = now >= self.seen_until
        self.seen_until = max(self.seen_until, now + hold_s)
        if self._config.mode == "shadow":
            self.would += begins
        else:
            self.begun += begins
            self.until = self.seen_until
        return begins

    def forget(self, node: Node) -> None:
        """A node is gone."""
        self._records.pop(node, None)
