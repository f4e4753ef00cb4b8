"""The deadline of a peer that stops reading.

Owns: the decision that a peer has stopped. A link whose buffer is above the high water mark is watched; a peer that took nothing at all
for `within_s` will not start again, and what is buffered for it is memory lost to others.
What may never happen here: a verdict against a peer that is slow but reads. Progress is what counts, not speed.
"""

from __future__ import annotations

from collections.abc import Callable

from ..control.wheel import Timer, Wheel


class StallWatch:
    """Looks every `within_s` at how many bytes wait for the peer, and calls `fail` when they did not become fewer.

    Args:
        waiting: how many bytes wait now. It must count everything that only the peer's reading makes fewer.
        fail: called once, at most; the watch is over then.
    """

    __slots__ = ("_fail", "_seen", "_timer", "_waiting", "_wheel", "_within_s")

    def __init__(self, wheel: Wheel, within_s: float, waiting: Callable[[], int], fail: Callable[[], None]) -> None:
        self._wheel = wheel
        self._within_s = within_s
        self._waiting = waiting
        self._fail = fail
        self._seen = waiting()
        self._timer: Timer = wheel.at(wheel.now() + within_s, self._look)

    def cancel(self) -> None:
        """Stop watching. Idempotent."""
        self._timer.cancel()

    def _look(self) -> None:
        waiting = self._waiting()
        if waiting >= self._seen:
            self._fail()
            return
        self._seen = waiting
        self._timer = self._wheel.at(self._wheel.now() + self._within_s, self._look)
