"""Two results side by side, the old one and the new one.

Owned here: which figures are set beside each other, and when two results must not be. Pure. What may never happen: a change in per cent
between things that were not measured alike, without a word about it.
"""

from __future__ import annotations

from typing import NamedTuple

from .document import Document, Latency


class Row(NamedTuple):
    """One figure of both results."""

    name: str
    old: float
    new: float

    @property
    def change(self) -> str:
        """`+12.3 %`; nothing when there is nothing to divide by."""
        if not self.old:
            return "" if not self.new else "new"
        return f"{100 * (self.new - self.old) / self.old:+.1f} %"


def differences(old: Document, new: Document) -> list[str]:
    """Say in which ways the two were not measured alike; empty when they can be compared."""
    said = []
    asked = (
        ("method", old.target, new.target),
        ("arguments", " ".join(old.arguments), " ".join(new.arguments)),
        ("mode", old.mode, new.mode),
        ("rate", _per_second(old.asked_rate_per_s), _per_second(new.asked_rate_per_s)),
        ("arrivals", old.arrivals, new.arrivals),
        ("concurrency", old.concurrency, new.concurrency),
        ("connections", old.connections, new.connections),
        ("processes", old.processes, new.processes),
    )
    for name, before, now in asked:
        if before != now and not (old.mode != new.mode and name in ("rate", "arrivals", "concurrency")):
            said.append(f"{name} {before if before not in (None, '') else 'none'} before, {now if now not in (None, '') else 'none'} now")
    for name, document in (("old", old), ("new", new)):
        if document.generator.limited:
            said.append(f"the generator was the limit in the {name} one")
        if document.interrupted:
            said.append(f"the {name} one was interrupted")
    return said


def rows(old: Document, new: Document) -> list[Row]:
    """Return the figures of both."""
    found = [Row("answered/s", old.rate_per_s, new.rate_per_s)]
    found += [
        Row(f"{name.replace('_', '.')} ms", getattr(old.latency_ms, name), getattr(new.latency_ms, name))
        for name in Latency.__struct_fields__
    ]
    found.append(Row("errors", sum(old.errors.values()), sum(new.errors.values())))
    found.append(Row("not sent", old.not_sent, new.not_sent))
    return found


def comparison_lines(old: Document, new: Document) -> list[str]:
    """Return the two side by side, for people."""
    lines = [f"{'compare':<11} {'':<10} {'old':>12} {'new':>12} {'change':>10}"]
    lines += [f"{'':<11} {row.name:<10} {_figure(row.old):>12} {_figure(row.new):>12} {row.change:>10}".rstrip() for row in rows(old, new)]
    told = differences(old, new)
    if told:
        lines.append(f"{'warning':<11} these two are not comparable: {'; '.join(told)}")
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"


def _per_second(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:,.6g}/s"
