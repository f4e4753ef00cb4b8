"""Facts as counts: how many of each kind, and how calls ended and how long they took, per method.

Owned here: the counters and their bound. What may never happen: growth with traffic. Method names on the server's side come from its own
catalogue, but a client may be pointed at any number of methods, so past `methods_max` names a call is counted under `other`.
"""

from __future__ import annotations

import msgspec

from ..control.histogram import Histogram
from ..errors import CODE_NAMES
from ..facts import CallEnded, Fact
from .log import event_name

OTHER = "other"

_CODES = frozenset(("ok", *CODE_NAMES))


class CallStats(msgspec.Struct, frozen=True):
    """How the calls of one method ended, seen from one side. Times in seconds."""

    side: str
    method: str
    codes: dict[str, int]
    count: int
    p50_s: float
    p99_s: float
    max_s: float


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """Everything counted so far: facts by event name, and one row per (side, method), sorted."""

    events: dict[str, int]
    calls: tuple[CallStats, ...]


class _Row:
    __slots__ = ("codes", "latency")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.latency = Histogram()


class Metrics:
    """An Emit that counts.

    Args:
        methods_max: how many distinct (side, method) pairs get a row of their own.
    """

    def __init__(self, *, methods_max: int = 1_000) -> None:
        self._methods_max = methods_max
        self._events: dict[type[Fact], int] = {}
        self._rows: dict[tuple[str, str], _Row] = {}

    def __call__(self, fact: Fact) -> None:
        kind = type(fact)
        self._events[kind] = self._events.get(kind, 0) + 1
        if kind is CallEnded:
            self._call_ended(fact)  # type: ignore[arg-type]

    def _call_ended(self, fact: CallEnded) -> None:
        row = self._rows.get((fact.side, fact.method)) or self._new_row(fact)
        code = fact.code if fact.code in _CODES else OTHER
        row.codes[code] = row.codes.get(code, 0) + 1
        row.latency.record(fact.duration_s)

    def _new_row(self, fact: CallEnded) -> _Row:
        side = fact.side if fact.side in ("client", "server") else OTHER
        key = (side, fact.method if len(self._rows) < self._methods_max else OTHER)
        return self._rows.setdefault(key, _Row())

    def snapshot(self) -> MetricsSnapshot:
        """Return what was counted so far; later facts do not change it."""
        return MetricsSnapshot(
            events={event_name(kind): self._events[kind] for kind in sorted(self._events, key=event_name)},
            calls=tuple(_stats(key, self._rows[key]) for key in sorted(self._rows)),
        )


def _stats(key: tuple[str, str], row: _Row) -> CallStats:
    latency = row.latency
    return CallStats(
        side=key[0],
        method=key[1],
        codes=dict(sorted(row.codes.items())),
        count=latency.count,
        p50_s=latency.percentile(50),
        p99_s=latency.percentile(99),
        max_s=latency.max,
    )
