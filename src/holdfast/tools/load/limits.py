"""Whether the generator itself was the limit of what it measured.

Owned here: the thresholds and the words. Pure. What may never happen: a slow client whose slowness is read as the server's.
"""

from __future__ import annotations

from .plan import Plan
from .run import LATE_S
from .tally import Measured

CPU_FULL = 0.9
"""From here on a process waits for its core, and what waits is late."""

LATE_SHARE = 0.01
"""More late calls than this, and they are in the p99."""

LAG_S = 0.05


def limits(measured: Measured, plan: Plan) -> str:
    """Say why the generator was the limit; empty when it was not."""
    reasons: list[str] = []
    full = [share for share in measured.cpu if share >= CPU_FULL]
    if full:
        reasons.append(f"{_processes(len(full), plan)} used {max(full):.0%} of a core")
    if measured.sent and measured.late / measured.sent > LATE_SHARE:
        share = measured.late / measured.sent
        reasons.append(f"{share:.1%} of the calls left more than {LATE_S * 1000:g} ms late, at worst {measured.late_max_s * 1000:,.0f} ms")
    if measured.lag_max_s > LAG_S:
        reasons.append(f"a client's loop stood still for {measured.lag_max_s * 1000:,.0f} ms")
    return "; ".join(reasons)


def _processes(count: int, plan: Plan) -> str:
    if plan.processes == 1:
        return "the client process"
    return f"{count} of {plan.processes} client processes"
