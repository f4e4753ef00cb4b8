"""What a client does while its nodes are too slow, most of them at once: see `balance/strain.py`.

Owns the two detectors, which are told of different things, and what follows from them. Attempts that ended by their deadline or were
refused are *overload*: while most nodes have it, none of them is kept out for it, by its breaker or by ejection, and the budget earns no
retries. Attempts that are not over when their share of the deadline is may be as slow as they always are: when most nodes have *those*,
another attempt beside them would be as slow, and is not made; everything else is as it was.

What may never happen here: a node taken back that fails for another reason; a strain that is told of and never over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..balance.balancer import Balancer
from ..balance.eject import Ejector
from ..balance.endpoint import Node
from ..balance.strain import Strain, StrainConfig
from ..control.wheel import Timer, Wheel
from ..facts import Emit, StrainChanged


class Load:
    """Made for the first attempt that was late.

    Args:
        unearned: told until when the budget is to earn nothing.
    """

    def __init__(self, config: StrainConfig, balancer: Balancer, wheel: Wheel, emit: Emit, unearned: Callable[[float], None]) -> None:
        self._balancer = balancer
        self._wheel = wheel
        self._emit = emit
        self._unearned = unearned
        self._enforced = config.mode == "enforce"
        self._grace_s = config.grace_s
        self.overload = Strain(config)
        self.pace = Strain(config)
        self._timer: Timer | None = None  # while it was told that it began, and not yet that it is over

    def strained(self, now: float) -> bool:
        """Whether most nodes are overloaded."""
        return now < self.overload.until

    def excused(self, now: float) -> bool:
        """Whether most nodes are overloaded, or were a short time ago: what is left of it stands before some of them."""
        return now < self.overload.until + self._grace_s

    def late(self, node: Node, now: float) -> bool:
        """An attempt at `node` is not over when its share of the deadline is. Return whether that is so at most nodes."""
        self.pace.late(node, now, len(self._balancer.ready))
        return now < self.pace.until

    def overloaded(self, node: Node, now: float, ejector: Ejector | None) -> bool:
        """An attempt at `node` was refused, or ended by its deadline. Return whether that is not the node's fault."""
        if self.overload.late(node, now, len(self._balancer.ready)):
            if self._enforced:
                self.excuse(now, ejector)
            if self._timer is None:  # or the last one was not told to be over yet
                self._emit(StrainChanged(True, len(self._balancer.nodes), self._enforced))
                self._timer = self._wheel.at(self.overload.seen_until, self._look)
        if self.strained(now):
            self._balancer.warm_until = self.overload.until + self._grace_s
            self._unearned(self.overload.until)
        return self.excused(now)

    def excuse(self, now: float, ejector: Ejector | None) -> None:
        """Take back all that are kept out for being slow. Nobody is spared for being new, either: the others cannot take more."""
        balancer = self._balancer
        for node in balancer.nodes.values():
            node.gate.excuse(now)
        for node in ejector.excuse(balancer.nodes.values(), now) if ejector is not None else ():
            balancer.changed(node, now)
        for node in balancer.ready:
            node.warm_at = -math.inf

    def forget(self, node: Node) -> None:
        """A node is gone."""
        self.overload.forget(node)
        self.pace.forget(node)

    def close(self) -> None:
        """Nobody is told any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """See whether it is over."""
        if self._wheel.now() < self.overload.seen_until:
            self._timer = self._wheel.at(self.overload.seen_until, self._look)
        else:
            self._timer = None
            self._emit(StrainChanged(False, len(self._balancer.nodes), self._enforced))
