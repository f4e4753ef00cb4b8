"""The record of one call as a timeline: lines for people, who want to know why it was slow or why it failed.

Owned here: how a CallRecord reads. Pure: a record in, lines out. What may never happen: a line that a terminal obeys, or an exception;
parts of a record came from peers, so any of its numbers and texts may be nonsense.

Times are milliseconds since the call began, by the caller's clock. What a server says of the calls that it made itself is by its own
clock; it is placed as if the way there and the way back had taken equally long, and marked with `~`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..handler import AttemptRecord, CallRecord
from .log import cut, printable

COMPARED_MAX = 3
"""Of the nodes that were compared, so many are named: a picker may have looked at a thousand."""

TEXT_MAX_CHARS = 240
LABEL_CHARS = 22
BAR_CHARS = 52
OUTCOME_CHARS = 20

WHY_THIS = {
    "only": "the only one that takes calls",
    "panic": "any that is connected, for most are unusable",
    "probe": "to see whether it is well again",
}
WHY_NOT_AGAIN = {
    "attempts": "it was sent as often as it may be",
    "budget": "the retry budget was spent",
    "deadline": "the deadline would have passed during the pause",
    "not_idempotent": "it may have been executed, and its method is not idempotent",
    "never": "trying again would not help with this error",
}
WHY_NOT_BESIDE = {
    "off": "hedging is off",
    "not_idempotent": "its method is not idempotent",
    "no_history": "too little is known of how long its method takes",
    "budget": "the budget was spent",
    "deadline": "too little of the deadline was left",
    "panic": "most nodes were unusable",
    "strained": "most nodes were as slow",
    "too_slow": "its method is slow in general",
    "too_many_methods": "too many methods are called for each to be measured",
    "no_other_node": "there was no other node",
    "shadow": "hedging is in shadow, which only counts",
}
EXECUTED = {"no": "surely not executed", "maybe": "maybe executed", "yes": "executed"}
KINDS = {"original": "", "retry": " again", "hedge": " beside the slow one"}

Event = tuple[float, str]


def timeline(record: CallRecord) -> list[str]:
    """Return a call's events in order, one line each, under a head line; with more than one attempt or call, bars in between."""
    lines = [_head(record)]
    if len(record.attempts) > 1 or record.hops:
        lines += _bars(record)
    lines += [f"{_clock(at, '~' if depth else '')}  {'  ' * depth}{text}" for depth, at, text in _told(record, 0.0, 0)]
    return lines


# ---------------------------------------------------------------------- events


def _head(record: CallRecord) -> str:
    attempts = f"{len(record.attempts)} attempt{'' if len(record.attempts) == 1 else 's'}"
    took = "" if record.duration_s is None else f" after {_ms(record.duration_s)}"
    deadline = "no deadline" if record.deadline_s is None else f"deadline {_ms(record.deadline_s)}"
    return f"{_safe(record.method)}: {_safe(record.code) or 'under way'}{took}, {attempts}, {deadline}"


def _told(record: CallRecord, began: float, depth: int) -> Iterator[tuple[int, float, str]]:
    """The events of a call and of the calls below it, as (depth, when, text). `began` is when it did, on the clock of the lines."""
    answered = _answered(record)
    events: list[tuple[float, int, str]] = []
    for number, trial in enumerate(record.attempts, 1):
        events += [(at, number, text) for at, text in _attempt(record, trial, number)]
    events.sort(key=lambda event: event[0] if math.isfinite(event[0]) else math.inf)
    below = _below(record, answered, began, depth)
    for at, number, text in events:
        if record.attempts[number - 1] is answered and text == _outcome_line(answered, number):
            yield from below  # what the server did stands in front of its answer
        yield depth, began + at, text
    yield from below
    for at, text in _closing(record):
        yield depth, began + at, text


def _attempt(record: CallRecord, trial: AttemptRecord, number: int) -> list[Event]:
    """What happened to one attempt, each at its time since the call began."""
    events: list[Event] = []
    if trial.kind != "hedge" and trial.backoff_s > 0:
        events.append((trial.began_s - trial.backoff_s, f"#{number} back-off: paused for {_ms(trial.backoff_s)}"))
    sent_s = _sent_s(trial)
    if trial.queue_s > 0:
        events.append((sent_s, f"#{number} waited {_ms(trial.queue_s)} for a node that takes calls"))
    if trial.node:
        events.append((sent_s, f"#{number} pick {_pick(trial)}"))
        events.append((sent_s, f"#{number} sent{KINDS.get(trial.kind, '')}, {_left(record, sent_s)}"))
    if trial.ended_s is not None:
        events.append((trial.ended_s, _outcome_line(trial, number)))
    return events


def _pick(trial: AttemptRecord) -> str:
    node = _safe(trial.node)
    if trial.why == "merged":
        return f"{node}: on the short way, which keeps no loads"
    why, comma, rest = trial.why.partition(",")
    why = WHY_THIS.get(why, why) + comma + rest
    loads = dict(trial.compared)
    others = [f"{_safe(name)} {load:.3g}" for name, load in trial.compared if name != trial.node]
    own = f", load {loads[trial.node]:.3g}" if trial.node in loads else ""
    more = len(others) - COMPARED_MAX
    against = f", against {', '.join(others[:COMPARED_MAX])}{f' and {more} more' if more > 0 else ''}" if others else ""
    return f"{node}: {_safe(why)}{own}{against}"


def _outcome_line(trial: AttemptRecord, number: int) -> str:
    if trial.outcome == "ok":
        return f"#{number} answered"
    if trial.outcome == "superseded":
        return f"#{number} given up: another attempt was answered"
    if trial.outcome == "cancelled" and not trial.executed:
        return f"#{number} given up: the caller cancelled the call"
    executed = f", {EXECUTED[trial.executed]}" if trial.executed in EXECUTED else ""
    message = f": {_safe(trial.message)}" if trial.message else ""
    return f"#{number} failed: {_safe(trial.outcome)}{executed}{message}"


def _closing(record: CallRecord) -> list[Event]:
    """Why it did not go on, and how it ended."""
    ended = [trial.ended_s for trial in record.attempts if trial.ended_s is not None]
    last = record.duration_s if record.duration_s is not None else max(ended, default=0.0)
    events: list[Event] = []
    if not any(trial.node for trial in record.attempts):
        events.append((last, "sent to no node"))
    if record.hedging:
        events.append((last, f"not sent beside a slow attempt: {WHY_NOT_BESIDE.get(record.hedging) or _safe(record.hedging)}"))
    if record.denied:
        events.append((last, f"not tried again: {WHY_NOT_AGAIN.get(record.denied) or _safe(record.denied)}"))
    if record.budget is not None:
        events.append((last, f"retry budget: {record.budget:.1f} retries left"))
    if record.code:
        events.append((last, f"{_safe(record.code)}, {_left(record, last)}"))
    return events


def _below(record: CallRecord, answered: AttemptRecord | None, began: float, depth: int) -> Iterator[tuple[int, float, str]]:
    """What the server says: how long the call waited and ran there, and the calls it made. An iterator: it is told once."""
    there = began + _arrived_s(record, answered)
    if record.queue_us is not None and record.run_us is not None:
        yield depth + 1, there, f"at the server: waited {_ms(record.queue_us / 1e6)}, ran {_ms(record.run_us / 1e6)}"
    for hop in record.hops:
        yield depth + 1, there + hop.began_at, f"call {_safe(hop.method)}, {_left(hop, 0.0)}"
        yield from _told(hop, there + hop.began_at, depth + 2)


# ---------------------------------------------------------------------- bars


def _bars(record: CallRecord) -> list[str]:
    """One bar for each attempt and each call below: `.` while it paused or waited, `#` while it was out."""
    bars = list(_spans(record, 0.0, 0))
    whole = max([record.duration_s or 0.0, *(end for _, _, _, end, _ in bars if math.isfinite(end))])
    if not 0 < whole < math.inf:
        return []
    lines = []
    for label, began, sent, ended, outcome in bars:
        first, middle, last = (_column(at, whole) for at in (began, sent, ended))
        bar = " " * first + "." * (middle - first) + "#" * max(last - middle, 1)
        lines.append(
            f"{cut(label, LABEL_CHARS - 1):<{LABEL_CHARS}} |{bar[:BAR_CHARS]:<{BAR_CHARS}}| {cut(outcome, OUTCOME_CHARS - 1)}".rstrip()
        )
    return [f"{'':<{LABEL_CHARS}} |{'0 ms':<{BAR_CHARS // 2}}{_ms(whole):>{BAR_CHARS - BAR_CHARS // 2}}|", *lines]


def _spans(record: CallRecord, began: float, depth: int) -> Iterator[tuple[str, float, float, float, str]]:
    """(label, began, sent, ended, outcome) of each attempt and of each call below."""
    indent = "  " * depth
    answered = _answered(record)
    over = record.duration_s if record.duration_s is not None else 0.0
    for number, trial in enumerate(record.attempts, 1):
        start = trial.began_s - (trial.backoff_s if trial.kind != "hedge" else 0.0)
        ended = over if trial.ended_s is None else trial.ended_s
        yield f"{indent}#{number} {_safe(trial.kind)}", began + start, began + _sent_s(trial), began + ended, _safe(trial.outcome)
        if trial is answered:
            there = began + _arrived_s(record, answered)
            for hop in record.hops:
                at = there + hop.began_at
                yield f"{indent}  {_safe(hop.method)}", at, at, at + (hop.duration_s or 0.0), _safe(hop.code)
                if len(hop.attempts) > 1 or hop.hops:
                    yield from _spans(hop, at, depth + 1)


def _column(at: float, whole: float) -> int:
    share = at / whole
    return min(BAR_CHARS - 1, int(min(max(share, 0.0), 1.0) * BAR_CHARS)) if math.isfinite(share) else 0


# ---------------------------------------------------------------------- small things


def _answered(record: CallRecord) -> AttemptRecord | None:
    """The attempt that what the server says belongs to."""
    out = [trial for trial in record.attempts if trial.node]
    return next((trial for trial in reversed(out) if trial.outcome == "ok"), out[-1] if out else None)


def _sent_s(trial: AttemptRecord) -> float:
    return trial.sent_s if trial.sent_s is not None else trial.began_s + trial.queue_s


def _arrived_s(record: CallRecord, answered: AttemptRecord | None) -> float:
    """When the server read the call, if both ways took equally long."""
    if answered is None:
        return 0.0
    sent_s = _sent_s(answered)
    if answered.ended_s is None or record.queue_us is None or record.run_us is None:
        return sent_s
    return sent_s + max(0.0, answered.ended_s - sent_s - (record.queue_us + record.run_us) / 1e6) / 2


def _left(record: CallRecord, at: float) -> str:
    if record.deadline_s is None:
        return "no deadline"
    left_s = record.deadline_s - at
    return f"deadline left {_ms(left_s)}" if not left_s < 0 else f"deadline over by {_ms(-left_s)}"


def _clock(at: float, mark: str) -> str:
    return f"{mark + f'{at * 1e3:,.2f}':>10} ms"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if abs(seconds) >= 1 else f"{seconds * 1e3:,.2f} ms"


def _safe(text: str) -> str:
    return printable(cut(text, TEXT_MAX_CHARS))
