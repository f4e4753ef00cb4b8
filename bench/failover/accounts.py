"""The accounts: what callers were told, against what the nodes' own logs say they executed.

Owns reading both and counting. What may never happen here: an outcome that is believed without the nodes' logs; a call that is in no row.
"""

from __future__ import annotations

import collections
import math
import pathlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.failover.script import LEAD_S, Stretch
from bench.failover.work import may_run_twice

NUMBER = re.compile(r"\d{4,}|(?<=/)\d+")
"""Ports and calls, but not a status or an errno."""
WORSE = 2.0
"""A second is disturbed when its p99 is above so many times that of the calm phase."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client wrote down about a call."""

    call_id: int
    planned_at: float
    latency_s: float
    outcome: str
    why: str = ""

    @property
    def idempotent(self) -> bool:
        """Return whether it went to the idempotent method."""
        return may_run_twice(self.call_id)

    @property
    def well(self) -> bool:
        """Return whether the caller has its answer."""
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class Execution:
    """What a node wrote down when it began a call."""

    call_id: int
    node: int
    at: float


@dataclass(frozen=True)
class Written:
    """Everything that was written down in a scene."""

    calls: list[Call]
    broken: list[tuple[float, str]]
    """When streams broke, and why."""
    in_flight: list[tuple[float, int]]
    """Calls in flight in one client, each second."""
    executions: list[Execution]


def read(records: Iterable[pathlib.Path], logs: Sequence[pathlib.Path]) -> Written:
    """Read the clients' records and the nodes' logs, which are in the nodes' order. A half line, cut by a kill, is not there."""
    calls, broken, in_flight = [], [], []
    for path in records:
        for line in _lines(path):
            kind, first, *rest = line.split(" ", 5)
            if kind == "c":
                calls.append(Call(int(first), float(rest[0]), float(rest[1]), rest[2], rest[3] if len(rest) > 3 else ""))
            elif kind == "s":
                broken.append((float(first), " ".join(rest)))
            elif kind == "f":
                in_flight.append((float(first), int(rest[0])))
    executions = []
    for node, path in enumerate(logs):
        for line in _lines(path):
            number, at = line.split()
            executions.append(Execution(int(number), node, float(at)))
    return Written(calls, broken, in_flight, executions)


def _lines(path: pathlib.Path) -> list[str]:
    text = path.read_text("utf-8") if path.exists() else ""
    return [line for line in text.split("\n")[:-1] if line]


def percentile(values: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile; nan of nothing."""
    return sorted(values)[max(math.ceil(part * len(values)) - 1, 0)] if values else math.nan


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one phase. Latencies count from when a call was due to when its end was known, however it ended."""

    contender: str
    phase: str
    calls: int
    failed_idempotent: int
    """The caller has no answer, for whatever reason."""
    failed: int
    """Of calls that are not idempotent: the caller was told that it was surely not executed, or that it was and failed."""
    unknown: int
    """Of calls that are not idempotent: the caller was told that nobody knows."""
    twice: int
    """Calls that are not idempotent and were executed more than once."""
    repeated: int
    """Idempotent calls that were executed more than once, as they may be."""
    wrongly_not_executed: int
    """The caller was told that it was surely not executed, and a node's log says otherwise."""
    p50_ms: float
    p99_ms: float
    longest_ms: float
    longest_idempotent_ms: float
    recovered_s: int | None
    """The second after the fault from which, to the end, p99 is at most twice that of calm and every call ends well; None is never."""
    streams_broken: int | None
    """None where there are no streams."""


class Accounts:
    """A scene's accounts: rows can be asked for."""

    def __init__(self, contender: str, written: Written, *, streams: bool) -> None:
        self.contender = contender
        self.written = written
        self._streams = streams
        self._times = collections.Counter(execution.call_id for execution in written.executions)

    def rows(self, stretches: Sequence[Stretch]) -> list[Row]:
        """Return a row for each phase, in order; all that lies between them is one row."""
        keys = list(dict.fromkeys(stretch.key for stretch in stretches if stretch.key != "between"))
        calm_s = math.nan
        rows = []
        for key in [*keys, "between"]:
            parts = [stretch for stretch in stretches if stretch.key == key]
            if not parts:
                continue
            calls = [call for call in self.written.calls if any(part.begun_at <= call.planned_at < part.ended_at for part in parts)]
            if key == "calm":
                calm_s = percentile([call.latency_s for call in calls], 0.99)
            recovered_s = recovery_s(calls, parts[0], calm_s * WORSE) if key != "between" else 0
            broken = sum(any(part.begun_at <= at < part.ended_at for part in parts) for at, _ in self.written.broken)
            rows.append(self._row(key, calls, recovered_s, broken if self._streams else None))
        return rows

    def _row(self, key: str, calls: list[Call], recovered_s: int | None, broken: int | None) -> Row:
        latencies_ms = [call.latency_s * 1e3 for call in calls]
        others = [call for call in calls if not call.idempotent]
        return Row(
            contender=self.contender,
            phase=key,
            calls=len(calls),
            failed_idempotent=sum(call.idempotent and not call.well for call in calls),
            failed=sum(call.outcome in ("failed", "not_executed") for call in others),
            unknown=sum(call.outcome == "unknown" for call in others),
            twice=sum(self._times[call.call_id] > 1 for call in others),
            repeated=sum(call.idempotent and self._times[call.call_id] > 1 for call in calls),
            wrongly_not_executed=sum(call.outcome == "not_executed" and self._times[call.call_id] > 0 for call in calls),
            p50_ms=percentile(latencies_ms, 0.5),
            p99_ms=percentile(latencies_ms, 0.99),
            longest_ms=max(latencies_ms, default=math.nan),
            longest_idempotent_ms=max((call.latency_s * 1e3 for call in calls if call.idempotent), default=math.nan),
            recovered_s=recovered_s,
            streams_broken=broken,
        )

    def unlogged(self) -> int:
        """Return how many calls have an answer and are in no node's log: anything but 0 means that the logs prove nothing."""
        return sum(call.well and not self._times[call.call_id] for call in self.written.calls)

    def reasons(self) -> list[tuple[str, int]]:
        """Return why calls did not end well, the most frequent first; ports and calls in it count as the same."""
        reasons = (f"{call.outcome}: {NUMBER.sub('N', call.why)}" for call in self.written.calls if not call.well)
        return collections.Counter(reasons).most_common()

    def in_flight(self, stretch: Stretch, clients: int) -> float:
        """Return how many calls were in flight, in all clients together, on average over the stretch."""
        seen = [count for at, count in self.written.in_flight if stretch.begun_at <= at < stretch.ended_at]
        return clients * sum(seen) / len(seen) if seen else math.nan


def recovery_s(calls: Sequence[Call], stretch: Stretch, limit_s: float) -> int | None:
    """Return the first whole second after the fault from which every second is well to its end; None when the last one is not."""
    seconds: dict[int, list[Call]] = collections.defaultdict(list)
    fault_at = stretch.begun_at + LEAD_S
    whole = max(int(stretch.ended_at - fault_at), 1)
    for call in calls:
        seconds[min(int(max(call.planned_at - fault_at, 0.0)), whole - 1)].append(call)
    bad = [
        second
        for second, those in seconds.items()
        if percentile([call.latency_s for call in those], 0.99) > limit_s or not all(call.well for call in those)
    ]
    first = max(bad, default=-1) + 1
    return first if first < whole else None
