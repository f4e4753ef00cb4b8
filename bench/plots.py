"""Plots as SVG, drawn by hand: bars on a line from zero.

Pure: values in, a document out. Readable on a light and on a dark page: the text takes its side by `prefers-color-scheme`, and the bars
keep enough contrast on both. What may never happen here: an axis that does not begin at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 760
LABEL_WIDTH = 250
VALUE_WIDTH = 120
BAR_HEIGHT = 18
STEP = 26
TOP = 58
BOTTOM = 30
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #8c959f; stroke-opacity: 0.35 }
  .mark { stroke: #bf3989; stroke-width: 2; stroke-dasharray: 4 3 }
  .plain { fill: #8c959f }
  .ours { fill: #1a7f5a }
  .yardstick { fill: #5b6fd6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9da7b3 }
    .mark { stroke: #f778ba }
    .plain { fill: #7d8590 }
    .ours { fill: #3fb984 }
    .yardstick { fill: #8393f5 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its value, what is written beside it, its colour, and where its promise stands, if there is one."""

    label: str
    value: float
    text: str
    kind: str = "plain"
    mark: float | None = None


def bars(title: str, subtitle: str, rows: list[Bar]) -> str:
    """Return horizontal bars, in the order given."""
    top = max([bar.value for bar in rows] + [bar.mark or 0.0 for bar in rows] + [1e-9])
    ticks = nice_ticks(top)
    span = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    height = TOP + STEP * len(rows) + BOTTOM
    bottom = TOP + STEP * len(rows)

    def x(value: float) -> float:
        return round(LABEL_WIDTH + span * value / ticks[-1], 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label={quoteattr(title)}>',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="12" y="22">{escape(title)}</text>',
        f'<text class="small" x="12" y="40">{escape(subtitle)}</text>',
    ]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick)}" y1="{TOP - 6}" x2="{x(tick)}" y2="{bottom}"/>')
        parts.append(f'<text class="small" x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick:,g}</text>')
    for at, bar in enumerate(rows):
        y = TOP + STEP * at
        middle = y + BAR_HEIGHT - 4
        parts.append(f'<text x="{LABEL_WIDTH - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>')
        width = max(x(bar.value) - LABEL_WIDTH, 1)
        parts.append(f'<rect class="{bar.kind}" x="{LABEL_WIDTH}" y="{y}" width="{width:g}" height="{BAR_HEIGHT}" rx="2"/>')
        if bar.mark is not None:
            parts.append(f'<line class="mark" x1="{x(bar.mark)}" y1="{y - 3}" x2="{x(bar.mark)}" y2="{y + BAR_HEIGHT + 3}"/>')
        end = max(bar.value, bar.mark or 0.0)
        parts.append(f'<text x="{x(end) + 8:g}" y="{middle}">{escape(bar.text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def nice_ticks(top: float) -> list[float]:
    """Return round numbers from zero to at least `top`, four to six of them."""
    rough = top / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)
    return [round(step * at, 12) for at in range(math.ceil(top / step - 1e-9) + 1)]
