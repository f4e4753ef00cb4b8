"""A result as a page: one HTML file with its plots in it, nothing loaded from anywhere.

Owned here: the page and its SVG. Pure. What may never happen: text of a peer that becomes markup, or a reference to another host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from .document import Document
from .report import result_lines

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 30
GRID_LINES = 5
BAR_DECADES = 0.027
"""As wide as the narrowest bucket is on a logarithmic scale: wider ones would cover their neighbours."""

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --faint: #bbb; --a: #1f77b4; --b: #d95f02; --c: #7a3ea0; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --faint: #555; --a: #6baed6; --b: #fdae6b; --c: #c8a2e0; --ground: #1a1a1a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
body { max-width: 760px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin: 1.6em 0 .2em; }
pre { overflow-x: auto; font-size: 13px; line-height: 1.4; }
svg { width: 100%; height: auto; } text { fill: var(--ink); font-size: 11px; }
.grid { stroke: var(--faint); stroke-width: .5; } .line { fill: none; stroke-width: 1.5; }
.a { stroke: var(--a); } .b { stroke: var(--b); } .c { stroke: var(--c); }
rect { fill: var(--a); } .key { font-size: 13px; } .key b.a { color: var(--a); } .key b.b { color: var(--b); } .key b.c { color: var(--c); }
"""

Series = tuple[str, str, list[float]]
"""A colour (`a`, `b`, `c`), a name, and the values."""


def result_page(document: Document, command: str) -> str:
    """Return the page. `command` is what was typed, shown so that it can be repeated."""
    at = [point.at_s for point in document.over_time]
    latency: list[Series] = [
        ("a", "p50", [point.p50_ms for point in document.over_time]),
        ("b", "p99", [point.p99_ms for point in document.over_time]),
        ("c", "max", [point.max_ms for point in document.over_time]),
    ]
    rate: list[Series] = [
        ("a", "answered", [point.ok_per_s for point in document.over_time]),
        ("b", "errors", [point.errors_per_s for point in document.over_time]),
    ]
    title = f"holdfast bench {document.target}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{escape(title)}</h1>\n<pre>$ {escape(command)}\n{escape(chr(10).join(result_lines(document)))}</pre>\n"
        f"<h2>How long calls took</h2>\n{histogram_plot(document)}\n"
        f"<h2>Latency over time, ms</h2>\n{_key(latency)}{time_plot(at, latency)}\n"
        f"<h2>Calls per second over time</h2>\n{_key(rate)}{time_plot(at, rate)}\n"
        "</body></html>\n"
    )


def histogram_plot(document: Document) -> str:
    """Return an SVG with a bar for each bucket, on a logarithmic scale of milliseconds."""
    buckets = [bucket for bucket in document.histogram if bucket.le_ms > 0]
    if not buckets:
        return _nothing()
    low, high = math.log10(buckets[0].le_ms) - 0.06, math.log10(buckets[-1].le_ms) + 0.02
    most = nice_ceiling(max(bucket.count for bucket in buckets))
    across = _scale(low, high, LEFT, WIDTH - RIGHT)
    up = _scale(0, most, HEIGHT - BOTTOM, TOP)
    bars = []
    for bucket in buckets:
        right = across(math.log10(bucket.le_ms))
        left = across(math.log10(bucket.le_ms) - BAR_DECADES)
        bars.append(
            f'<rect x="{left:.1f}" y="{up(bucket.count):.1f}" width="{right - left:.1f}" height="{up(0) - up(bucket.count):.1f}">'
            f"<title>{bucket.count:,} calls up to {bucket.le_ms:g} ms</title></rect>"
        )
    ticks = [
        (across(math.log10(factor * 10.0**power)), f"{factor * 10.0**power:g} ms")
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in (1, 2, 5)
        if low <= math.log10(factor * 10.0**power) <= high
    ]
    return _svg(_grid(most, up) + _bottom(ticks) + "".join(bars))


def time_plot(at_s: Sequence[float], series: Sequence[Series]) -> str:
    """Return an SVG with a line for each series, over seconds."""
    if not at_s:
        return _nothing()
    top = nice_ceiling(max(max(values) for _, _, values in series))
    across = _scale(0, max(at_s[-1], 1e-9), LEFT, WIDTH - RIGHT)
    up = _scale(0, top, HEIGHT - BOTTOM, TOP)
    lines = []
    for colour, name, values in series:
        points = " ".join(f"{across(at):.1f},{up(value):.1f}" for at, value in zip(at_s, values, strict=True))
        lines.append(f'<polyline class="line {colour}" points="{points}"><title>{escape(name)}</title></polyline>')
    ticks = [(across(at_s[-1] * part / GRID_LINES), f"{at_s[-1] * part / GRID_LINES:.3g} s") for part in range(GRID_LINES + 1)]
    return _svg(_grid(top, up) + _bottom(ticks) + "".join(lines))


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that is not below the value; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if value <= factor * power * (1 + 1e-9))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _grid(top: float, up: Callable[[float], float]) -> str:
    parts = []
    for line in range(GRID_LINES + 1):
        value = top * line / GRID_LINES
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.4g}</text>')
    return "".join(parts)


def _bottom(ticks: Sequence[tuple[float, str]]) -> str:
    shown, last = [], -math.inf
    for x, text in ticks:
        if x - last >= 46:  # or the labels run into each other
            shown.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(text)}</text>')
            last = x
    return "".join(shown)


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{content}</svg>'


def _nothing() -> str:
    return "<p>Nothing was measured.</p>"


def _key(series: Sequence[Series]) -> str:
    return '<p class="key">' + " · ".join(f'<b class="{colour}">{escape(name)}</b>' for colour, name, _ in series) + "</p>"
