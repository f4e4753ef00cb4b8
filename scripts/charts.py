"""Charts over time as SVG, for pictures that a script draws: lines, steps, bars and bands on one pair of axes that begin at zero.

Pure: numbers in, a document out; coordinates are rounded to a tenth, so that the same numbers give the same bytes everywhere. The colours
are those of the benchmark's plots. What may never happen here: a clock, dice, a number that was not handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from bench.plots import STYLE, nice_ticks

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 74, 46
Points = Sequence[tuple[float, float]]

MORE_STYLE = """
  .line { fill: none; stroke-width: 2 }
  .line.ours { fill: none; stroke: #1a7f5a }
  .line.plain { fill: none; stroke: #8c959f; stroke-dasharray: 5 3 }
  .line.yardstick { fill: none; stroke: #5b6fd6 }
  .line.bad { fill: none; stroke: #cf222e }
  .bad { fill: #cf222e }
  .band { fill: #bf3989; fill-opacity: 0.14 }
  .box { fill: #8c959f; fill-opacity: 0.14; stroke: #8c959f }
  .box.ours { fill: #1a7f5a; fill-opacity: 0.16; stroke: #1a7f5a }
"""


def document(title: str, subtitle: str, height: int, parts: Sequence[str]) -> str:
    """Return the whole document around its parts."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label={quoteattr(title)}>',
        f"<style>{STYLE}{MORE_STYLE}</style>",
        f'<text class="title" x="12" y="22">{escape(title)}</text>',
        f'<text class="small" x="12" y="40">{escape(subtitle)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


class Chart:
    """One pair of axes, and what is drawn between them, in the order it is added.

    Args:
        x_max, y_max: where the axes end, at least.
        x_label, y_label: what they are, with their units.
        x_names: what stands at the x axis, by value, instead of round numbers.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        *,
        x_max: float,
        y_max: float,
        x_label: str,
        y_label: str,
        x_names: Mapping[float, str] | None = None,
    ) -> None:
        self._title, self._subtitle = title, subtitle
        self._x_max = x_max
        self._y_ticks = nice_ticks(y_max)
        self._y_max = self._y_ticks[-1]
        self._parts: list[str] = []
        self._legend_x = 40 + 5.8 * len(y_label)
        bottom = HEIGHT - BOTTOM
        for tick in self._y_ticks:
            y = self.y(tick)
            self._parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
            self._parts.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{tick:,g}</text>')
        if x_names is None:
            x_names = {tick: f"{tick:,g}" for tick in nice_ticks(x_max) if tick <= x_max}
        for tick, name in x_names.items():
            self._parts.append(f'<text class="small" x="{self.x(tick)}" y="{bottom + 18}" text-anchor="middle">{escape(name)}</text>')
        self._parts.append(f'<text class="small" x="{WIDTH - RIGHT}" y="{bottom + 36}" text-anchor="end">{escape(x_label)}</text>')
        self._parts.append(f'<text class="small" x="12" y="{TOP - 10}">{escape(y_label)}</text>')

    def x(self, value: float) -> float:
        """Where a value stands from left to right."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / self._x_max, 1)

    def y(self, value: float) -> float:
        """Where a value stands from top to bottom."""
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self._y_max, 1)

    def line(self, points: Points, kind: str, label: str = "") -> None:
        """A line from point to point."""
        path = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        self._parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        if label:
            self.legend(kind, label)

    def steps(self, points: Points, kind: str, label: str = "") -> None:
        """A line that stays where it is until the next point."""
        stairs = [points[0]]
        for x, y in points[1:]:
            stairs += [(x, stairs[-1][1]), (x, y)]
        self.line(stairs, kind, label)

    def bar(self, start: float, end: float, value: float, kind: str, *, base: float = 0.0) -> None:
        """A bar from `base` to `value`, over a part of the x axis."""
        top, left = self.y(value), self.x(start)
        width, height = round(self.x(end) - left - 1, 1), round(self.y(base) - top, 1)
        self._parts.append(f'<rect class="{kind}" x="{left}" y="{top}" width="{width:g}" height="{height:g}"/>')

    def band(self, start: float, end: float, label: str) -> None:
        """A time in which something was otherwise, with its name below the axis."""
        left, right = self.x(start), self.x(end)
        height = HEIGHT - BOTTOM - TOP
        self._parts.append(f'<rect class="band" x="{left}" y="{TOP}" width="{round(right - left, 1):g}" height="{height}"/>')
        self._parts.append(f'<text class="small" x="{left}" y="{HEIGHT - BOTTOM + 36}">{escape(label)}</text>')

    def legend(self, kind: str, label: str) -> None:
        """A name for a colour, above the axes."""
        x = round(self._legend_x, 1)
        self._parts.append(f'<rect class="{kind}" x="{x:g}" y="{TOP - 19}" width="12" height="10" rx="2"/>')
        self._parts.append(f'<text class="small" x="{x + 17:g}" y="{TOP - 10}">{escape(label)}</text>')
        self._legend_x += 36 + 6 * len(label)

    def svg(self) -> str:
        """The document."""
        return document(self._title, self._subtitle, HEIGHT, self._parts)
