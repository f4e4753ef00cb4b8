"""The result as one JSON object: what `--json` prints and `--compare` reads.

Owned here: its keys and units; they are a promise to programs (docs/en/reference/cli.md). What may never happen: a key that changes its
meaning; a new one gets a new name.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...control.histogram import Histogram, upper_edge_s
from ...errors import ConfigError
from .judge import Verdict
from .limits import limits
from .plan import Plan
from .tally import Measured, together


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds. Of the calls that were answered or whose deadline passed, from the planned send time."""

    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    p99_9: float = 0.0
    max: float = 0.0
    mean: float = 0.0


class Bucket(msgspec.Struct, frozen=True):
    """How many calls took at most `le_ms`, and more than the bucket before."""

    le_ms: float
    count: int


class Point(msgspec.Struct, frozen=True):
    """What ended in one part of the run, which begins `at_s` after the warm-up. Rates are per second."""

    at_s: float
    ok_per_s: float
    errors_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class StepResult(msgspec.Struct, frozen=True):
    """One method, or one function of a scenario."""

    name: str
    done: int
    ok: int
    errors: dict[str, int]
    latency_ms: Latency


class Generator(msgspec.Struct, frozen=True):
    """How the generator itself did. `limited`: the figures may be its own and not the server's; `why` says so in words."""

    limited: bool
    why: str
    late: int
    late_max_ms: float
    lag_max_ms: float
    cpu: tuple[float, ...]


class Expected(msgspec.Struct, frozen=True):
    """One expectation and whether it held."""

    expect: str
    held: bool
    value: str


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole result.

    Attributes:
        target: the method, or the path of the scenario; arguments: as typed.
        mode: `open` (then `asked_rate_per_s` and `arrivals` are set) or `closed` (then `concurrency` is).
        sent: calls that left. done: those that ended, well (`ok`) or with an error. not_sent: due, and not sent: too many were open.
        unfinished: open when the run was ended early.
        rate_per_s: answered calls per second of `elapsed_s`.
        processes_lost: what is known of client processes that died; their calls are in no figure.
    """

    target: str
    arguments: tuple[str, ...] = ()
    address: str = ""
    mode: str = "open"
    asked_rate_per_s: float | None = None
    arrivals: str | None = None
    concurrency: int | None = None
    connections: int = 1
    processes: int = 1
    duration_s: float = 0.0
    warmup_s: float = 0.0
    elapsed_s: float = 0.0
    sent: int
    done: int
    ok: int = 0
    not_sent: int = 0
    unfinished: int = 0
    errors: dict[str, int]
    error_messages: dict[str, str] = {}
    rate_per_s: float
    latency_ms: Latency
    first_item_ms: Latency | None = None
    histogram: tuple[Bucket, ...] = ()
    over_time: tuple[Point, ...] = ()
    steps: tuple[StepResult, ...] = ()
    generator: Generator = Generator(False, "", 0, 0.0, 0.0, ())
    expectations: tuple[Expected, ...] = ()
    processes_lost: tuple[str, ...] = ()
    interrupted: bool = False


class Subject(msgspec.Struct, frozen=True):
    """What was called, for the document."""

    address: str
    target: str
    arguments: tuple[str, ...] = ()


def make_document(subject: Subject, plan: Plan, measured: Measured, verdicts: Sequence[Verdict] = ()) -> Document:
    """Return the result of a run as a document."""
    latency = measured.latency()
    first_item = measured.first_item()
    why = limits(measured, plan)
    return Document(
        target=subject.target,
        arguments=subject.arguments,
        address=subject.address,
        mode="open" if plan.rate is not None else "closed",
        asked_rate_per_s=plan.rate,
        arrivals=plan.arrivals if plan.rate is not None else None,
        concurrency=plan.concurrency,
        connections=plan.connections,
        processes=plan.processes,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        elapsed_s=round(measured.elapsed_s, 6),
        sent=measured.sent,
        done=measured.done,
        ok=measured.ok,
        not_sent=measured.not_sent,
        unfinished=measured.unfinished,
        errors=measured.errors,
        error_messages=measured.samples,
        rate_per_s=round(measured.rate, 3),
        latency_ms=latency_of(latency),
        first_item_ms=None if first_item is None else latency_of(first_item),
        histogram=_buckets(latency),
        over_time=_points(measured),
        steps=tuple(
            StepResult(step.name, step.ok + sum(step.errors.values()), step.ok, step.errors, latency_of(together([step.latency])))
            for step in measured.steps
        ),
        generator=Generator(
            bool(why),
            why,
            measured.late,
            _ms(measured.late_max_s),
            _ms(measured.lag_max_s),
            tuple(round(share, 3) for share in measured.cpu),
        ),
        expectations=tuple(Expected(*verdict) for verdict in verdicts),
        processes_lost=measured.lost,
        interrupted=measured.interrupted,
    )


def encode_document(document: Document | SearchDocument) -> bytes:
    """Return it as one line of JSON."""
    return msgspec.json.encode(document) + b"\n"


def read_document(content: bytes, where: str) -> Document:
    """Read what `--json` printed. Raises: ConfigError that says what is wrong with it."""
    try:
        return msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{where} is not a result of holdfast bench --json: {error}") from error


class SearchStep(msgspec.Struct, frozen=True):
    """One step of a search for the highest rate."""

    asked_rate_per_s: float
    held: bool
    rate_per_s: float
    latency_ms: Latency
    errors: dict[str, int]
    expectations: tuple[Expected, ...]
    generator: Generator


class SearchDocument(msgspec.Struct, frozen=True):
    """What `--find-max` found. `max_rate_per_s` is the highest rate that held, null when none did; `best` its result."""

    max_rate_per_s: float | None
    stopped_because: str
    steps: tuple[SearchStep, ...]
    best: Document | None
    interrupted: bool = False


def search_step(document: Document, held: bool) -> SearchStep:
    """Return what a search says of one step."""
    assert document.asked_rate_per_s is not None
    return SearchStep(
        document.asked_rate_per_s,
        held,
        document.rate_per_s,
        document.latency_ms,
        document.errors,
        document.expectations,
        document.generator,
    )


def latency_of(histogram: Histogram) -> Latency:
    """Return the percentiles of a histogram, in milliseconds."""
    count = histogram.count
    p50, p90, p95, p99, p99_9 = (_ms(histogram.percentile(percent)) for percent in (50, 90, 95, 99, 99.9))
    return Latency(p50, p90, p95, p99, p99_9, _ms(histogram.max), _ms(histogram.sum / count) if count else 0.0)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 4)


def _buckets(histogram: Histogram) -> tuple[Bucket, ...]:
    counts = histogram.snapshot().counts
    filled = [bucket for bucket, count in enumerate(counts) if count]
    return tuple(Bucket(_ms(min(upper_edge_s(bucket), histogram.max)), counts[bucket]) for bucket in filled)


def _points(measured: Measured) -> tuple[Point, ...]:
    length = measured.slot_s
    points = []
    for number, slot in enumerate(measured.slots):
        latency = together([slot.latency])
        points.append(
            Point(
                round(number * length, 3),
                round(slot.ok / length, 2),
                round(slot.failed / length, 2),
                _ms(latency.percentile(50)),
                _ms(latency.percentile(99)),
                _ms(latency.max),
            )
        )
    return tuple(points)
