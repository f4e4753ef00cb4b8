"""Saying that peers were turned away, without a flood of it. A server's listeners and sessions tell their refusals through one of these.

Owns: when a ConnectionRefused is due. The first of a reason is told at once, the next ones together, at most once per SAY_EVERY_S and
reason: whoever turns away a thousand strangers has one thing to say about it.

What may never happen here: a refusal that is not counted (`close` tells the rest); more reasons kept than REASONS_MAX, since strangers may
choose their words; a timer that stays behind.
"""

from __future__ import annotations

import msgspec

from ..control.wheel import Timer, Wheel
from ..facts import ConnectionRefused, Emit, Fact, wants

SAY_EVERY_S = 1.0
REASONS_MAX = 16
OTHERS = "for various reasons"


class RefusalFold:
    """An Emit that gives every fact on, and of the refusals of one second and reason one, with their count."""

    __slots__ = ("_closed", "_emit", "_folded", "_wheel")

    def __init__(self, emit: Emit, wheel: Wheel) -> None:
        self._emit = emit
        self._wheel = wheel
        self._folded: dict[str, _Reason] = {}
        self._closed = False

    def __call__(self, fact: Fact) -> None:
        if type(fact) is not ConnectionRefused or self._closed:
            self._emit(fact)
            return
        reason = fact.reason
        folded = self._folded.get(reason)
        if folded is None and len(self._folded) >= REASONS_MAX:
            reason = OTHERS
            fact = ConnectionRefused(fact.peer, reason, fact.count)
            folded = self._folded.get(reason)
        if folded is None:
            self._folded[reason] = _Reason(self._wheel.at(self._wheel.now() + SAY_EVERY_S, lambda: self._due(reason)))
            self._emit(fact)
        else:
            folded.count += fact.count
            folded.last = fact

    def wants(self, kind: type[Fact]) -> bool:
        """Whether anybody hears facts of that kind; see `facts.wants`."""
        return wants(self._emit, kind)

    def close(self) -> None:
        """Tell what was not told yet; from now on every fact is given on as it is. Idempotent."""
        self._closed = True
        folded, self._folded = self._folded, {}
        for each in folded.values():
            each.timer.cancel()
            self._tell(each)

    def _due(self, reason: str) -> None:
        folded = self._folded[reason]
        if not folded.count:
            del self._folded[reason]
            return
        folded.timer = self._wheel.at(self._wheel.now() + SAY_EVERY_S, lambda: self._due(reason))
        self._tell(folded)

    def _tell(self, folded: _Reason) -> None:
        last, count = folded.last, folded.count
        folded.last, folded.count = None, 0
        if last is not None:
            self._emit(msgspec.structs.replace(last, count=count))


class _Reason:
    """Refusals for one reason since the last was told."""

    __slots__ = ("count", "last", "timer")

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.count = 0
        self.last: ConnectionRefused | None = None
