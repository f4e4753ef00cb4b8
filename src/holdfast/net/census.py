"""How many connections there are, and whether there is room for one more.

Owns: the count, in all and by network, and the limit that follows from a process's descriptors. Pure.
What may never happen here: a connection counted twice, or one that left and still counts.
"""

from __future__ import annotations

from collections.abc import Hashable

HEADROOM_DESCRIPTORS = 256
PER_PREFIX_MAX = 256


class Census:
    """The connections of one listener, or of all of them.

    Attributes:
        count: how many are open.
    """

    __slots__ = ("_by_network", "count")

    def __init__(self) -> None:
        self._by_network: dict[Hashable, int] = {}
        self.count = 0

    def of(self, network: Hashable) -> int:
        """How many are open from one network."""
        return self._by_network.get(network, 0)

    def enter(self, network: Hashable) -> None:
        """One more. `network` None counts in all only."""
        self.count += 1
        if network is not None:
            self._by_network[network] = self._by_network.get(network, 0) + 1

    def leave(self, network: Hashable) -> None:
        """One less, of those that came in by `enter` with the same network."""
        self.count -= 1
        if network is not None:
            left = self._by_network[network] - 1
            if left:
                self._by_network[network] = left
            else:
                del self._by_network[network]


def room_for(descriptors: int) -> int:
    """How many connections a process with so many descriptors takes: it needs some for files, workers and its own connections."""
    return max(descriptors - HEADROOM_DESCRIPTORS, descriptors // 2, 1)
