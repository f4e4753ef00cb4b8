"""Facts as counts: how many of each kind and for which reason, and how calls ended and how long they took, per method.

Owned here: the counters and their bound. What may never happen: growth with traffic. Method names on the server's side come from its own
catalogue, but a client may be pointed at any number of methods, so past `methods_max` names a call is counted under `other`. So is a reason
past `REASONS_MAX` of one kind of fact.
"""

from __future__ import annotations

import msgspec

from ..control.histogram import Histogram
from ..errors import CODE_NAMES
from ..facts import (
    BreakerChanged,
    CallEnded,
    CallExplained,
    CallHeldBack,
    CallRetried,
    CallShed,
    Fact,
    FallbackUsed,
    LimitChanged,
    NodeChanged,
    NodeEjected,
    PanicChanged,
    RetryDenied,
    StrainChanged,
)
from ..handler import CallRecord
from .log import event_name

OTHER = "other"

REASONS_MAX = 32
"""Of one kind of fact. None of ours has as many; this holds whatever others put there."""

REASONS: dict[type[Fact], str] = {
    BreakerChanged: "state",
    CallHeldBack: "by",
    CallRetried: "code",
    CallShed: "reason",
    FallbackUsed: "code",
    LimitChanged: "enforced",
    NodeChanged: "state",
    NodeEjected: "enforced",
    PanicChanged: "on",
    RetryDenied: "reason",
    StrainChanged: "on",
}
"""The field by which a kind of fact is counted, beside how many there were of it."""

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
    """Everything counted so far: facts by event name, and one row per (side, method), sorted.

    Attributes:
        reasons: of some events, how many there were for each reason (or state, or code); with `shadow:` in front for what a policy in
            shadow would have done.
    """

    events: dict[str, int]
    calls: tuple[CallStats, ...]
    reasons: dict[str, dict[str, int]] = {}


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
        self._reasons: dict[type[Fact], dict[str, int]] = {}

    def __call__(self, fact: Fact) -> None:
        kind = type(fact)
        self._events[kind] = self._events.get(kind, 0) + 1
        if kind is CallEnded:
            self._call_ended(fact)  # type: ignore[arg-type]
        elif kind in REASONS or kind is CallExplained:
            self._count_reason(kind, fact)

    def _count_reason(self, kind: type[Fact], fact: Fact) -> None:
        if isinstance(fact, CallExplained):
            reason = fact.record.code if isinstance(fact.record, CallRecord) else OTHER
        elif REASONS[kind] == "enforced":
            reason = "enforced" if fact.enforced else "shadow"  # type: ignore[attr-defined]
        else:
            said = getattr(fact, REASONS[kind])
            reason = said if isinstance(said, str) else "on" if said else "off"
            if not getattr(fact, "enforced", True):
                reason = f"shadow:{reason}"
        counts = self._reasons.setdefault(kind, {})
        if reason not in counts and len(counts) >= REASONS_MAX:
            reason = OTHER
        counts[reason] = counts.get(reason, 0) + 1

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
            reasons={event_name(kind): dict(sorted(self._reasons[kind].items())) for kind in sorted(self._reasons, key=event_name)},
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
