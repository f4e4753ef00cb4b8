"""What is printed of a run, and whether holdfast keeps what it promises.

What may never happen here: a figure that was not measured; a promise that counts as kept because it was not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.failover.accounts import WORSE, Row

HEAD = (
    "contender", "phase", "calls", "failed idem.", "failed other", "unknown other", "twice", "wrongly not ex.", "p50 ms", "p99 ms",
    "longest ms", "longest idem.", "recovered s", "streams broken",
)  # fmt: skip
LONGEST_MS = 1000.0


@dataclass(frozen=True)
class Line:
    """One thing that is promised, what was found, and whether that will do."""

    contender: str
    text: str
    met: bool

    def __str__(self) -> str:
        return f"  {'kept  ' if self.met else 'MISSED'}  {self.contender}: {self.text}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """Return columns that stand below one another; the first `words` of them are words, the others figures."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if column < words else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def of_rows(rows: Sequence[Row]) -> str:
    """Return the table of the script."""
    return table(HEAD, [cells(row) for row in rows], words=2)


def cells(row: Row) -> list[str]:
    """Return a row's cells."""
    counts = (row.calls, row.failed_idempotent, row.failed, row.unknown, row.twice, row.wrongly_not_executed)
    times = (row.p50_ms, row.p99_ms, row.longest_ms, row.longest_idempotent_ms)
    recovered = "–" if row.phase in ("calm", "between") else "never" if row.recovered_s is None else str(row.recovered_s)
    broken = "–" if row.streams_broken is None else str(row.streams_broken)
    return [row.contender, row.phase, *(str(count) for count in counts), *(f"{time_ms:.1f}" for time_ms in times), recovered, broken]


def promises(contender: str, rows: Sequence[Row], unlogged: int) -> list[Line]:
    """Return what one variant of holdfast promises for the script, each beside what was found."""
    by_phase = {row.phase: row for row in rows}
    lines = [Line(contender, f"calls with an answer that are in no node's log: {unlogged} (0)", unlogged == 0)]

    def none(what: str, field: str) -> None:
        count = sum(getattr(row, field) for row in rows)
        lines.append(Line(contender, f"{what}: {count} (0)", count == 0))

    none("idempotent calls that failed", "failed_idempotent")
    for phase in ("kill", "freeze"):
        if phase in by_phase:
            found, calm = by_phase[phase].p99_ms, by_phase["calm"].p99_ms
            text = f"p99 of the whole {phase} phase: {found:.1f} ms, {found / calm:.2f} × calm (at most {WORSE:.0f} ×)"
            lines.append(Line(contender, text, found <= WORSE * calm))
    longest = max((row.longest_idempotent_ms for row in rows if not math.isnan(row.longest_idempotent_ms)), default=math.nan)
    lines.append(Line(contender, f"longest idempotent call: {longest:.0f} ms (at most {LONGEST_MS:.0f})", longest <= LONGEST_MS))
    none("calls that are not idempotent and were executed twice", "twice")
    none('calls reported "not executed" that were executed', "wrongly_not_executed")
    return lines
