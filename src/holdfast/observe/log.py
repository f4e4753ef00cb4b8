"""Facts as log lines: one line per event, text for people, JSON for machines.

Owned here: how a fact reads, which facts are worth a line, and how many lines one kind may write. What may never happen: an exception or
an unbounded flood leaving this file. A mechanism on the hot path calls a log; a peer can provoke facts at will, and writes part of their
text, so each kind has a token bucket and nothing a peer said reaches a terminal unescaped.

A line that was suppressed is counted, and the next line of its kind says how many went missing; `close()` says so for the rest.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from ..clock import Clock
from ..control.bucket import TokenBucket
from ..facts import (
    BreakerChanged,
    CallEnded,
    CallExplained,
    CallHedged,
    CallHeldBack,
    CallRetried,
    CallShed,
    CertificateExpiring,
    ConnectFailed,
    ConnectionRefused,
    DatagramsDropped,
    Fact,
    FallbackUsed,
    HandlerFailed,
    HandlerOverran,
    LimitChanged,
    NodeChanged,
    NodeEjected,
    PanicChanged,
    ProtocolFailed,
    ResolveFailed,
    RetryDenied,
    StrainChanged,
    StreamAbandoned,
    TlsReloadFailed,
)
from ..handler import CallRecord
from .fan import EmitFailed

Level = Literal["debug", "info", "warning", "error"]

LEVELS: dict[type[Fact], Level] = {
    BreakerChanged: "warning",
    CallEnded: "debug",
    CallExplained: "warning",
    CallHedged: "debug",
    CallHeldBack: "warning",
    CallRetried: "debug",
    CallShed: "warning",
    CertificateExpiring: "warning",
    ConnectFailed: "warning",
    ConnectionRefused: "warning",
    DatagramsDropped: "warning",
    EmitFailed: "error",
    FallbackUsed: "debug",
    HandlerFailed: "error",
    HandlerOverran: "warning",
    LimitChanged: "debug",
    NodeChanged: "warning",
    NodeEjected: "warning",
    PanicChanged: "warning",
    StrainChanged: "warning",
    ProtocolFailed: "error",
    ResolveFailed: "warning",
    RetryDenied: "debug",
    StreamAbandoned: "warning",
    TlsReloadFailed: "error",
}
"""How loud each kind is at most; a kind that is not here is `info`. `debug` is written only when the log is verbose."""

VALUE_MAX_CHARS = 1_024
TRACEBACK_MAX_CHARS = 16_384

_COLOURS: dict[Level, str] = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"


def event_name(kind: type[Fact]) -> str:
    """The name of a fact in logs: its class in snake_case (`ConnectionOpened` gives `connection_opened`)."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def level_of(fact: Fact) -> Level:
    """How loud a fact is: as its kind, or less when it says that things are well, or what a policy in shadow would have done."""
    match fact:
        case CallExplained(record=CallRecord(code="ok" | "cancelled")):
            return "info"
        case BreakerChanged(state="probing") | CallHeldBack(enforced=False):
            return "debug"
        case BreakerChanged(state="closed") | BreakerChanged(enforced=False) | NodeEjected(enforced=False) | PanicChanged(on=False):
            return "info"
        case StrainChanged(on=False) | StrainChanged(enforced=False):
            return "info"
        case NodeChanged(state=state) if state != "down":
            return "info" if state == "ready" else "debug"
    return LEVELS.get(type(fact), "info")


class _Rate(TokenBucket):
    """The rate of one kind of line, and how many were left out. The clock is monotonic: it refills whatever the wall clock does."""

    __slots__ = ("suppressed",)

    def __init__(self, per_s: float, burst: float) -> None:
        super().__init__(per_s, burst)
        self.suppressed = 0


class Log:
    """What both formats share: which facts get a line, the rate, and never raising."""

    def __init__(
        self,
        stream: TextIO,
        *,
        wall: Callable[[], datetime],
        clock: Clock,
        verbose: bool = False,
        quiet: bool = False,
        lines_per_s: float = 10.0,
        burst: int = 50,
    ) -> None:
        self._stream = stream
        self._wall = wall
        self._clock = clock
        self._loudness: frozenset[Level] = frozenset(_levels(verbose, quiet))
        self._per_s = lines_per_s
        self._burst = float(burst)
        self._buckets: dict[type[Fact], _Rate] = {}
        self.lost = 0

    def __call__(self, fact: Fact) -> None:
        kind = type(fact)
        if LEVELS.get(kind, "info") not in self._loudness or level_of(fact) not in self._loudness:
            return
        now = self._clock.now()
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = _Rate(self._per_s, self._burst)
        if bucket.take(now):
            suppressed, bucket.suppressed = bucket.suppressed, 0
            self._write(kind, fact, suppressed)
        else:
            bucket.suppressed += 1

    def wants(self, kind: type[Fact]) -> bool:
        """Whether facts of that kind may get a line; see `facts.wants`."""
        return LEVELS.get(kind, "info") in self._loudness

    def always(self, fact: Fact) -> None:
        """Write a fact whatever its level and the rate: for the few that are an answer, not a remark."""
        self._write(type(fact), fact, 0)

    def close(self) -> None:
        """Say how many lines of each kind were suppressed and not yet accounted for. The stream stays open."""
        for kind, bucket in self._buckets.items():
            if bucket.suppressed:
                suppressed, bucket.suppressed = bucket.suppressed, 0
                self._write(kind, None, suppressed)

    def _write(self, kind: type[Fact], fact: Fact | None, suppressed: int) -> None:
        """Write one line; a stream that is closed or full costs the line and is counted in `lost`."""
        try:
            self._stream.write(self.line(kind, fact, suppressed) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def line(self, kind: type[Fact], fact: Fact | None, suppressed: int) -> str:
        """The line for a fact, without its newline; `fact` is None for a line that only accounts for suppressed ones."""
        raise NotImplementedError


class TextLog(Log):
    """An Emit that writes for people: time, event, fields; a traceback below it when a handler failed.

    Args:
        stream: where lines go.
        wall: the time of day, aware; printed in its own time zone.
        clock: the monotonic clock that the rate limit runs on.
        colour: whether to colour; the caller knows if the stream is a terminal.
        verbose: also write a line per call. quiet: only warnings and errors.
        lines_per_s, burst: how many lines one kind may write.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        wall: Callable[[], datetime],
        clock: Clock,
        colour: bool = False,
        verbose: bool = False,
        quiet: bool = False,
        lines_per_s: float = 10.0,
        burst: int = 50,
    ) -> None:
        super().__init__(stream, wall=wall, clock=clock, verbose=verbose, quiet=quiet, lines_per_s=lines_per_s, burst=burst)
        self._colour = colour

    def line(self, kind: type[Fact], fact: Fact | None, suppressed: int) -> str:
        """`12:04:31.123 connection opened  side=server peer=tcp://127.0.0.1:51234`."""
        words = [f"{name}={_quoted(value)}" for name, value in _fields(fact)]
        if suppressed:
            words.append(f"suppressed={suppressed}")
        head = event_name(kind).replace("_", " ")
        text = f"{self._wall().strftime('%H:%M:%S.%f')[:-3]} {head:<18} {' '.join(words)}".rstrip()
        start = _COLOURS[LEVELS.get(kind, "info") if fact is None else level_of(fact)] if self._colour else ""
        if start:
            text = f"{start}{text}{_RESET}"
        below = _traceback(fact)
        return f"{text}\n{printable(below, keep=chr(10)).rstrip()}" if below else text


class JsonLog(Log):
    """An Emit that writes one JSON object per line: `{"event": …, "at": ISO 8601 in UTC, …fields}`.

    `HandlerFailed` carries `error` (type and message) and `traceback`; a line that follows suppressed ones carries `suppressed`.
    """

    def line(self, kind: type[Fact], fact: Fact | None, suppressed: int) -> str:
        """The object; keys stay in the order event, at, fields."""
        at = self._wall().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record: dict[str, object] = {"event": event_name(kind), "at": at}
        for name, value in _fields(fact):
            record[name] = value if not isinstance(value, str) else _encodable(cut(value, VALUE_MAX_CHARS))
        below = _traceback(fact)
        if below:
            record["traceback"] = _encodable(below)
        if suppressed:
            record["suppressed"] = suppressed
        return msgspec.json.encode(record).decode()


def _levels(verbose: bool, quiet: bool) -> list[Level]:
    if quiet:
        return ["warning", "error"]
    return ["debug", "info", "warning", "error"] if verbose else ["info", "warning", "error"]


def _fields(fact: Fact | None) -> Iterable[tuple[str, object]]:
    """The fields of a fact, an exception as `Type: message`."""
    if fact is None:
        return
    if isinstance(fact, CallExplained) and isinstance(fact.record, CallRecord):
        yield from _explained(fact.record)
        return
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        yield name, _one_line(value) if isinstance(value, BaseException) else value


def _explained(record: CallRecord) -> Iterable[tuple[str, object]]:
    """What a line has room for of a call's record, in this order; what does not apply is left out."""
    said: dict[str, object] = {
        "method": record.method,
        "code": record.code,
        "duration_s": record.duration_s,
        "deadline_s": record.deadline_s,
        "attempts": len(record.attempts),
        "nodes": ", ".join(trial.node for trial in record.attempts if trial.node),
        "waited_s": sum(trial.queue_s for trial in record.attempts),
        "backoff_s": sum(trial.backoff_s for trial in record.attempts if trial.kind != "hedge"),
        "denied": record.denied,
        "hedging": record.hedging,
        "budget": record.budget,
        "error": record.attempts[-1].message if record.attempts else "",
    }
    always = ("method", "code", "duration_s", "attempts")
    yield from ((name, value) for name, value in said.items() if name in always or value or (name == "budget" and value is not None))


def _one_line(error: BaseException) -> str:
    """`Type: message`; an exception whose `__str__` raises must not take the log down."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _traceback(fact: Fact | None) -> str:
    """The traceback of the exception a fact carries, its end kept when it is long; empty without one."""
    error = getattr(fact, "error", None)
    if not isinstance(error, BaseException):
        return ""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        return _one_line(error)
    return text if len(text) <= TRACEBACK_MAX_CHARS else "…\n" + text[-TRACEBACK_MAX_CHARS:]


def cut(text: str, max_chars: int) -> str:
    """The text, or its beginning and `…`."""
    return text if len(text) <= max_chars else text[:max_chars] + "…"


def _quoted(value: object) -> str:
    """A value for a line of text: as it is when it is one plain word, else in quotes, never with a control character."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(cut(str(value), VALUE_MAX_CHARS))
    if text and " " not in text and '"' not in text:
        return text
    return '"' + text.replace('"', '\\"') + '"'


def printable(text: str, keep: str = "") -> str:
    """Escape what a terminal would obey or could not show (a peer may have written it)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def _encodable(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates (file names, broken peers) become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
