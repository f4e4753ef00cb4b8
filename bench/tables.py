"""The figures as text: one table for each workload, then the promised lines, for a terminal and for the docs.

Pure: samples in, Markdown out. What may never happen here: a figure that is not in the samples.
"""

from __future__ import annotations

import statistics
import unicodedata
from dataclasses import dataclass
from typing import Literal

from bench import figures
from bench.figures import Sample
from bench.lines import Line, beside, between
from bench.workloads import Workload

Language = Literal["en", "zh"]
Rows = list[list[str]]

HEADS: dict[Language, dict[str, str]] = {
    "en": {
        "side": "side",
        "ratio": "{what} to {base} (min–max)",
        "rate": "rate",
        "p50_us": "p50",
        "kib": "memory",
        "seconds": "time",
        "p50": "p50 µs",
        "p99": "p99 µs",
        "server": "server CPU µs",
        "client": "client CPU µs",
        "samples": "samples (flagged)",
        "lines": "The promised lines",
        "line": "line",
        "promise": "promise",
        "threshold": "threshold",
        "figure": "figure",
        "verdict": "verdict",
        "met": "met",
        "not met": "not met",
        "open": "not measured",
        "beside": "Beside, and no RPC: {name}, {in_flight} in flight: holdfast has {ratio} of it.",
        "missing": "Not measured: {name}: {why}.",
        "steady": (
            "The machine: a fixed piece of work took {median:.1f} ms beside the samples ({least:.1f}–{greatest:.1f}); "
            "in {flagged} of {count} samples other programs took more than {foreign_max:g} core."
        ),
    },
    "zh": {
        "side": "对象",
        "ratio": "{what}，与 {base} 之比（最小–最大）",
        "rate": "速率",
        "p50_us": "p50",
        "kib": "内存",
        "seconds": "时间",
        "p50": "p50 µs",
        "p99": "p99 µs",
        "server": "服务器 CPU µs",
        "client": "客户端 CPU µs",
        "samples": "样本（有干扰的）",
        "lines": "承诺的指标",
        "line": "编号",
        "promise": "承诺",
        "threshold": "门槛",
        "figure": "结果",
        "verdict": "结论",
        "met": "达到",
        "not met": "未达到",
        "open": "未测",
        "beside": "仅作对照，不是 RPC：{name}，{in_flight} 个并发：holdfast 是它的 {ratio}。",
        "missing": "未测：{name}：{why}。",
        "steady": (
            "机器：采样时一段固定的计算用时 {median:.1f} ms（{least:.1f}–{greatest:.1f}）；"
            "{count} 个样本中有 {flagged} 个，其他程序占用超过 {foreign_max:g} 个核。"
        ),
    },
}
UNITS_ZH = {"calls/s": "调用/秒", "items/s": "条目/秒", "s": "秒"}


@dataclass(frozen=True)
class Table:
    """A title, a head and rows."""

    title: str
    head: list[str]
    rows: Rows
    words: int = 1
    """So many columns are words, and stand to the left; the rest are numbers."""

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [f"### {self.title}", "", _row(self.head), _row(["---" if at < self.words else "---:" for at in range(len(self.head))])]
        return "\n".join([*lines, *(_row(row) for row in self.rows)]) + "\n"

    def text(self) -> str:
        """Return it for a terminal, in columns."""
        widths = [max(_width(row[at]) for row in [self.head, *self.rows]) for at in range(len(self.head))]
        lines = [self.title, *(_aligned(row, widths, self.words) for row in [self.head, *self.rows])]
        return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _aligned(row: list[str], widths: list[int], words: int) -> str:
    return (
        "  "
        + "  ".join(
            cell + " " * (width - _width(cell)) if at < words else " " * (width - _width(cell)) + cell
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
    )


def number(value: float | None) -> str:
    """Return a figure as it is printed: three digits at least, none that mean nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def of_workload(workload: Workload, samples: list[Sample], language: Language = "en") -> Table | None:
    """Return the table of one workload; None when nothing of it was measured."""
    words = HEADS[language]
    timed = workload.metric != "kib"
    unit = UNITS_ZH.get(workload.unit, workload.unit) if language == "zh" else workload.unit
    named = "rate" if workload.metric == "p50_us" else workload.metric
    value_head = ("calls/s" if language == "en" else UNITS_ZH["calls/s"]) if workload.metric == "p50_us" else unit
    head = [words["side"], value_head]
    if workload.base:
        head.append(words["ratio"].format(what=words[workload.metric], base=workload.base))
    if timed:
        head += [words[name] for name in ("p50", "p99", "server", "client")]
    head.append(words["samples"])
    base = figures.of(samples, workload.key, workload.base)
    rows: Rows = []
    for side in workload.sides:
        mine = figures.of(samples, workload.key, side.name)
        if not mine:
            continue
        ratio = figures.ratio(mine, base, workload.metric)
        row = [side.name, number(figures.median(mine, named))]
        if workload.base:
            row.append("–" if ratio is None or side.name == workload.base else between(ratio))
        if timed:
            row += [number(figures.median(mine, name)) for name in ("p50_us", "p99_us", "server_cpu_us", "client_cpu_us")]
        flagged = sum(each.flagged for each in mine)
        rows.append([*row, f"{len(mine)} ({flagged})"])
    title = workload.title if language == "en" else workload.title_zh
    return Table(title, head, rows) if rows else None


def of_lines(lines: list[Line], language: Language = "en") -> Table:
    """Return the table of the promised lines."""
    words = HEADS[language]
    verdict = {True: words["met"], False: words["not met"], None: words["open"]}
    texts = [line.what if language == "en" else line.what_zh for line in lines]
    rows = [[str(line.number), text, line.threshold, line.figure, verdict[line.met]] for line, text in zip(lines, texts, strict=True)]
    head = [words[name] for name in ("line", "promise", "threshold", "figure", "verdict")]
    return Table(words["lines"], head, rows, len(head))


def notes(samples: list[Sample], missing: dict[str, str], language: Language = "en") -> list[str]:
    """Return what stands under the tables: how steady the machine was, what is shown beside, and what was not measured."""
    words = HEADS[language]
    spins = [spin for each in samples if (spin := each.figures.get("spin_ms")) is not None]
    steady = words["steady"].format(
        median=statistics.median(spins or [0.0]),
        least=min(spins, default=0.0),
        greatest=max(spins, default=0.0),
        flagged=sum(each.flagged for each in samples),
        count=len(spins),
        foreign_max=figures.FOREIGN_MAX,
    )
    return [
        *([steady] if spins else []),
        *(words["beside"].format(name=name, in_flight=count, ratio=between(ratio)) for name, count, ratio in beside(samples)),
        *(words["missing"].format(name=name, why=why) for name, why in missing.items()),
    ]
