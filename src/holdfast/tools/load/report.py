"""A result as lines of text for people.

Owned here: how it reads on a terminal: what was asked and done, the latencies, the errors, a histogram, and in plain words what makes the
figures worth less. Pure. What may never happen: a warning that stands only in the JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .document import Bucket, Document, Latency, SearchDocument, SearchStep
from .judge import milliseconds
from .limits import CPU_FULL
from .run import Progress
from .tally import together

BAR_WIDTH = 30
ROWS_MAX = 12
LABEL_WIDTH = 11


def result_lines(document: Document) -> list[str]:
    """Return the whole result."""
    lines = [_line("rate", _rate(document)), _line("latency", _latency(document))]
    if document.first_item_ms is not None:
        lines.append(_line("first item", percentiles(document.first_item_ms)))
    lines.append(_line("status", _status(document)))
    lines += [_line("", f"{code}: {message}") for code, message in document.error_messages.items()]
    lines += histogram_lines(document.histogram)
    if len(document.steps) > 1:
        lines += _steps(document)
    lines += warnings(document)
    width = max((len(each.expect) for each in document.expectations), default=0)
    for number, each in enumerate(document.expectations):
        lines.append(_line("" if number else "expect", f"{each.expect:<{width}}  {'PASS' if each.held else 'FAIL'} ({each.value})"))
    return lines


def warnings(document: Document) -> list[str]:
    """Return what makes the figures worth less than they look."""
    lines = []
    if document.interrupted:
        open_calls = f"; {count(document.unfinished)} calls were still open" if document.unfinished else ""
        lines.append(_line("interrupted", f"after {document.elapsed_s:.1f} of {document.duration_s:g} s{open_calls}"))
    elif document.unfinished:
        lines.append(_line("warning", f"{count(document.unfinished)} calls had not ended when the run gave up waiting for them"))
    if document.not_sent:
        lines.append(
            _line(
                "warning",
                f"{count(document.not_sent)} calls were due and not sent, because too many were open (--max-open); "
                "the latencies do not have them",
            )
        )
    if document.generator.limited:
        lines.append(_line("warning", f"the generator was the limit: {document.generator.why}"))
        lines.append(_line("", _advice(document)))
    lines += [_line("warning", f"{why}; its calls are in no figure") for why in document.processes_lost]
    return lines


def _advice(document: Document) -> str:
    if any(share >= CPU_FULL for share in document.generator.cpu):
        return "the server may be faster than this; try more --processes, on cores the server does not need"
    return "the client did not get its core when it needed it; leave it one, or measure from another machine"


def progress_line(progress: Progress, warmup_s: float, duration_s: float) -> str:
    """Return one line about the last second: `3 of 10 s   4,998/s   p50 0.9  p99 6.8 ms   7 open`."""
    latency = together([progress.second.latency])
    ended = f"{count(progress.second.ok)}/s   p50 {milliseconds(latency.percentile(50))}  p99 {milliseconds(latency.percentile(99))} ms"
    line = f"{progress.at_s:3.0f} of {duration_s:g} s   {ended}   {count(progress.open)} open"
    if progress.second.failed:
        line += f"   {count(progress.second.failed)} errors"
    if progress.not_sent:
        line += f"   {count(progress.not_sent)} not sent"
    return line


def search_line(step: SearchStep) -> str:
    """Return one line about one step of a search."""
    verdicts = "  ".join(f"{each.expect} {'PASS' if each.held else 'FAIL'} ({each.value})" for each in step.expectations)
    line = f"{count(round(step.asked_rate_per_s)):>9}/s  {'holds' if step.held else 'fails'}   {verdicts}"
    decided = step.generator.limited and not step.held  # of a rate that held, it decided nothing
    return line + ("   (the generator was the limit)" if decided else "")


def search_lines(search: SearchDocument) -> list[str]:
    """Return what a search came to."""
    best = "none" if search.max_rate_per_s is None else f"{count(round(search.max_rate_per_s))}/s"
    return [_line("maximum", best), _line("", search.stopped_because)]


def percentiles(latency: Latency) -> str:
    """`p50 0.9  p90 1.6  p95 2.1  p99 6.8  p99.9 14.2  max 31.0 ms`."""
    names = (("p50", latency.p50), ("p90", latency.p90), ("p95", latency.p95), ("p99", latency.p99), ("p99.9", latency.p99_9))
    return "  ".join(f"{name} {milliseconds(value / 1000)}" for name, value in (*names, ("max", latency.max))) + " ms"


def count(number: float) -> str:
    """`99,951`."""
    return f"{number:,.0f}"


# ------------------------------------------------------------------------------------------------------------------ parts


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}} {text}".rstrip()


def _rate(document: Document) -> str:
    elapsed = max(document.elapsed_s, 1e-9)
    asked = f"{count(document.asked_rate_per_s)}/s asked, " if document.asked_rate_per_s is not None else ""
    what = "open loop" if document.mode == "open" else f"closed loop, {document.concurrency} at once"
    if document.arrivals == "poisson":
        what += ", poisson"
    sent = document.sent / min(elapsed, document.duration_s)
    return (
        f"{asked}{count(sent)}/s sent, {count(document.rate_per_s)}/s answered   {document.elapsed_s:.1f} s, "
        f"{_plural(document.connections, 'connection')}, {_plural(document.processes, 'process')}, {what}"
    )


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def _latency(document: Document) -> str:
    if not document.histogram:
        return "no call was answered"
    return percentiles(document.latency_ms) + ("   (from the planned send time)" if document.mode == "open" else "")


def _status(document: Document) -> str:
    return " · ".join([f"ok {count(document.ok)}", *(f"{code} {count(number)}" for code, number in document.errors.items())])


def histogram_lines(buckets: Sequence[Bucket]) -> list[str]:
    """Return the bars of a histogram: at most ROWS_MAX rows, each edge 1, 2 or 5 times a power of ten."""
    if not buckets:
        return []
    rows = _rows(buckets)
    whole = sum(bucket.count for bucket in buckets)
    most = max(rows.values())
    labels = {edge: f"≤ {_edge(edge)}" for edge in rows}
    widest = max(6, *map(len, labels.values()))
    return [
        f"  {labels[edge]:>{widest}} ms |{'#' * math.ceil(BAR_WIDTH * number / most):<{BAR_WIDTH}}| {_percent(number, whole)}"
        for edge, number in rows.items()
    ]


def _rows(buckets: Sequence[Bucket]) -> dict[float, int]:
    """Counts by the nearest edge above; edges that are far out and all but empty are one row at the end."""
    rows: dict[float, int] = {}
    for bucket in buckets:
        edge = edge_above(bucket.le_ms)
        rows[edge] = rows.get(edge, 0) + bucket.count
    first, last = min(rows), max(rows)
    edge = first
    while edge < last:  # those between have a row too, or the shape is lost
        rows.setdefault(edge, 0)
        edge = edge_above(edge * 1.01)
    ordered = dict(sorted(rows.items()))
    while len(ordered) > ROWS_MAX:
        edges = list(ordered)
        ordered[edges[1]] += ordered.pop(edges[0])  # the quickest: what is long is what people look for
    return ordered


def edge_above(value_ms: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below the value."""
    power = 10.0 ** math.floor(math.log10(max(value_ms, 1e-6)))
    for factor in (1.0, 2.0, 5.0, 10.0):
        if value_ms <= factor * power * (1 + 1e-9):
            return round(factor * power, 9)
    return round(10 * power, 9)


def _edge(value_ms: float) -> str:
    return f"{value_ms:,.6g}" if value_ms < 1000 else f"{value_ms:,.0f}"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    if part and share < 0.1:
        return "<0.1 %"
    return f"{share:4.0f} %" if share >= 1 or not part else f"{share:4.1f} %"


def _steps(document: Document) -> list[str]:
    width = max(len(step.name) for step in document.steps)
    lines = []
    for number, step in enumerate(document.steps):
        errors = "".join(f" · {code} {count(each)}" for code, each in step.errors.items())
        latency = f"p50 {milliseconds(step.latency_ms.p50 / 1000)}  p99 {milliseconds(step.latency_ms.p99 / 1000)} ms"
        lines.append(_line("" if number else "mix", f"{step.name:<{width}}  {latency}   ok {count(step.ok)}{errors}"))
    return lines
