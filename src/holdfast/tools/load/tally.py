"""What a run counted: while it runs, as a value that travels between processes, and merged.

Owned here: Tally (one step's counts on the hot path), Measured (the counts of a process or of all) and `merged`. What may never happen:
a call that is counted twice or not at all: sent is ok, failed and unfinished together, and what was due and not sent stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ...control.histogram import Histogram, HistogramSnapshot

NOTHING = Histogram().snapshot()
SAMPLE_CHARACTERS_MAX = 300
CODES_MAX = 64
"""Different errors told apart; what comes beyond them is counted as `other`."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted of one method, or of one function of a scenario.

    Attributes:
        errors: how many calls ended with which code.
        latency: of the calls that were answered, and of those whose deadline passed: leaving out the longest waits would flatter.
        first_item: of streams, from the planned send time to the first item; None for other methods.
    """

    name: str
    ok: int = 0
    errors: dict[str, int] = {}
    latency: HistogramSnapshot = NOTHING
    first_item: HistogramSnapshot | None = None


class Slot(msgspec.Struct, frozen=True):
    """What ended during one short part of the run."""

    ok: int
    failed: int
    latency: HistogramSnapshot


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a run counted, after its warm-up.

    Attributes:
        sent: calls that left; not_sent: calls that were due and did not leave, because too many were open.
        unfinished: calls that were still open when the run was ended early.
        late: calls that left clearly after they were due (`run.LATE_S`); late_max_s: the worst.
        lag_max_s: the longest that a client's loop kept a timer waiting.
        cpu: of each process, the share of a core it used.
        elapsed_s: from the end of the warm-up to the last answer.
        slots: one after the other, `slot_s` seconds each.
        samples: for each error code one message.
        interrupted: it was ended before its time.
        lost: for each process that died, what is known.
    """

    sent: int = 0
    not_sent: int = 0
    unfinished: int = 0
    late: int = 0
    late_max_s: float = 0.0
    lag_max_s: float = 0.0
    cpu: tuple[float, ...] = ()
    elapsed_s: float = 0.0
    slot_s: float = 1.0
    steps: tuple[Step, ...] = ()
    slots: tuple[Slot, ...] = ()
    samples: dict[str, str] = {}
    interrupted: bool = False
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> int:
        """Calls that were answered."""
        return sum(step.ok for step in self.steps)

    @property
    def errors(self) -> dict[str, int]:
        """How many calls ended with which code, the most frequent first."""
        codes = added(step.errors for step in self.steps)
        return dict(sorted(codes.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def failed(self) -> int:
        """Calls that ended with an error."""
        return sum(self.errors.values())

    @property
    def done(self) -> int:
        """Calls that ended."""
        return self.ok + self.failed

    @property
    def rate(self) -> float:
        """Answered calls per second."""
        return self.ok / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def latency(self) -> Histogram:
        """Return the latencies of all steps."""
        return together(step.latency for step in self.steps)

    def first_item(self) -> Histogram | None:
        """Return the latencies of first items; None when no step is a stream."""
        streams = [step.first_item for step in self.steps if step.first_item is not None]
        return together(streams) if streams else None


class Tally:
    """One step's counts in one process. `latency` is replaced at each `roll`: record into what stands there now.

    Attributes:
        latency: where the calls that end now are recorded.
        first_item: for streams; None otherwise.
        measuring_from: calls that were due before are warm-up, and must not be recorded.
    """

    __slots__ = ("_slot_failed", "_timed_out", "_whole", "errors", "first_item", "latency", "measuring_from", "name")

    def __init__(self, name: str, *, stream: bool = False) -> None:
        self.name = name
        self.errors: dict[str, int] = {}
        self.latency = Histogram()
        self.first_item = Histogram() if stream else None
        self.measuring_from = 0.0
        self._whole = Histogram()
        self._timed_out = 0  # of the current slot: they stand in `latency` too
        self._slot_failed = 0

    def fail(self, code: str, seconds: float) -> None:
        """Count a call that ended with an error after so many seconds."""
        if code not in self.errors and len(self.errors) >= CODES_MAX:
            code = "other"
        self.errors[code] = self.errors.get(code, 0) + 1
        self._slot_failed += 1
        if code == "deadline_exceeded":
            self.latency.record(seconds)
            self._timed_out += 1

    def roll(self) -> Slot:
        """Close the current slot and return it."""
        ended = self.latency.snapshot()
        slot = Slot(ended.count - self._timed_out, self._slot_failed, ended)
        self._whole.merge(ended)
        self.latency = Histogram()
        self._timed_out = self._slot_failed = 0
        return slot

    def step(self) -> Step:
        """Return what was counted up to the last `roll`."""
        whole = self._whole.snapshot()
        return Step(
            name=self.name,
            ok=whole.count - self.errors.get("deadline_exceeded", 0),
            errors=dict(self.errors),
            latency=whole,
            first_item=None if self.first_item is None else self.first_item.snapshot(),
        )


def added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Add up counts by key."""
    total: dict[str, int] = {}
    for each in counts:
        for key, count in each.items():
            total[key] = total.get(key, 0) + count
    return total


def together(snapshots: Iterable[HistogramSnapshot]) -> Histogram:
    """Add up histograms."""
    whole = Histogram()
    for each in snapshots:
        whole.merge(each)
    return whole


def joined(slots: Iterable[Slot]) -> Slot:
    """Add up what ended in the same slot in different places."""
    slots = list(slots)
    return Slot(sum(s.ok for s in slots), sum(s.failed for s in slots), together(s.latency for s in slots).snapshot())


def merged(parts: Sequence[Measured], lost: Sequence[str] = ()) -> Measured:
    """Add up what the processes of one run counted; `lost` says what became of those that gave nothing."""
    steps: dict[str, list[Step]] = {}
    samples: dict[str, str] = {}
    for part in parts:
        for step in part.steps:
            steps.setdefault(step.name, []).append(step)
        samples = {**part.samples, **samples}
    length = max((len(part.slots) for part in parts), default=0)
    return Measured(
        sent=sum(p.sent for p in parts),
        not_sent=sum(p.not_sent for p in parts),
        unfinished=sum(p.unfinished for p in parts),
        late=sum(p.late for p in parts),
        late_max_s=max((p.late_max_s for p in parts), default=0.0),
        lag_max_s=max((p.lag_max_s for p in parts), default=0.0),
        cpu=tuple(share for p in parts for share in p.cpu),
        elapsed_s=max((p.elapsed_s for p in parts), default=0.0),
        slot_s=parts[0].slot_s if parts else 1.0,
        steps=tuple(_merged_step(each) for each in steps.values()),
        slots=tuple(joined(p.slots[i] for p in parts if i < len(p.slots)) for i in range(length)),
        samples=samples,
        interrupted=any(p.interrupted for p in parts),
        lost=tuple(lost),
    )


def _merged_step(parts: Sequence[Step]) -> Step:
    streams = [part.first_item for part in parts if part.first_item is not None]
    return Step(
        name=parts[0].name,
        ok=sum(part.ok for part in parts),
        errors=added(part.errors for part in parts),
        latency=together(part.latency for part in parts).snapshot(),
        first_item=together(streams).snapshot() if streams else None,
    )
