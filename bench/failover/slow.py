"""The second experiment: one node of five is a hundred times slower, then another one fails everything at once. Who still asks them?

Owns its timeline and its figures. What may never happen here: a share that clients report; it is counted from the nodes' own logs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.failover import work
from bench.failover.accounts import WORSE, Accounts, Written, percentile
from bench.failover.scene import Scale, Scene
from bench.failover.script import sleep_until
from bench.failover.tables import Line, table

SCALE = Scale(nodes=5, clients=1, rate=500.0, streams=0, shortest_ms=5.0, longest_ms=5.0)
"""One client process: like HAProxy, each contender's balancer sees all calls."""
CONTENDERS = ("holdfast", "grpc.aio", "aiohttp+tenacity", "haproxy")
SLOW_NODE, FAILING_NODE = 0, 1

WARM_S, HEALTHY_S = 2.0, 6.0
NOTICED_S, SLOW_S = 5.0, 8.0
WELL_AGAIN_S = 3.0
SEEN_S, FAILING_S = 1.0, 5.0

SLOW_SHARE, FAILING_SHARE = 0.005, 0.02
HEAD = ("contender", "healthy p99 ms", "slow: share", "p50 ms", "p99 ms", "× healthy", "failing: share", "failed calls")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was found for one contender."""

    contender: str
    healthy_p99_ms: float
    slow_share: float
    """The part of all executions that were at the slow node, from five seconds after it became slow."""
    slow_p50_ms: float
    slow_p99_ms: float
    failing_share: float
    """The part of all executions that were at the failing node, from one second after it began to fail."""
    failing_failed: float
    """The part of the calls that failed in that time."""


@dataclass(frozen=True)
class Times:
    """When what began and ended, on the clock of the records."""

    healthy: tuple[float, float]
    slow: tuple[float, float]
    failing: tuple[float, float]


def run(scene: Scene, tell: Callable[[str], None]) -> Times:
    """Play the experiment; return the windows that count. Raises: ChildFailed."""
    begins_at = scene.begin()
    sleep_until(begins_at + WARM_S + HEALTHY_S)
    slow_at = time.monotonic()
    tell(f"node {SLOW_NODE} becomes {work.SLOWER} × slower")
    work.set_mode(scene.mode_path(SLOW_NODE), work.SLOW)
    sleep_until(slow_at + NOTICED_S + SLOW_S)
    slow_ended_at = time.monotonic()
    work.set_mode(scene.mode_path(SLOW_NODE), work.NORMAL)
    sleep_until(slow_ended_at + WELL_AGAIN_S)
    failing_at = time.monotonic()
    tell(f"node {FAILING_NODE} fails everything at once")
    work.set_mode(scene.mode_path(FAILING_NODE), work.FAILING)
    sleep_until(failing_at + SEEN_S + FAILING_S)
    failing_ended_at = time.monotonic()
    scene.finish()
    return Times((begins_at + WARM_S, slow_at), (slow_at + NOTICED_S, slow_ended_at), (failing_at + SEEN_S, failing_ended_at))


def figures(contender: str, written: Written, times: Times) -> Figures:
    """Return what the records and logs say."""
    accounts = Accounts(contender, written, streams=False)
    if lost := accounts.unlogged():
        raise SystemExit(f"failover: {lost} calls of {contender} have an answer and are in no node's log: the logs prove nothing")

    def latencies_ms(window: tuple[float, float]) -> list[float]:
        return [call.latency_s * 1e3 for call in written.calls if window[0] <= call.planned_at < window[1]]

    def share(node: int, window: tuple[float, float]) -> float:
        nodes = [execution.node for execution in written.executions if window[0] <= execution.at < window[1]]
        return nodes.count(node) / max(len(nodes), 1)

    failing = [call.well for call in written.calls if times.failing[0] <= call.planned_at < times.failing[1]]
    return Figures(
        contender=contender,
        healthy_p99_ms=percentile(latencies_ms(times.healthy), 0.99),
        slow_share=share(SLOW_NODE, times.slow),
        slow_p50_ms=percentile(latencies_ms(times.slow), 0.5),
        slow_p99_ms=percentile(latencies_ms(times.slow), 0.99),
        failing_share=share(FAILING_NODE, times.failing),
        failing_failed=failing.count(False) / max(len(failing), 1),
    )


def shown(all_figures: list[Figures]) -> str:
    """Return the table."""
    rows = [
        [
            each.contender,
            f"{each.healthy_p99_ms:.1f}",
            f"{each.slow_share:.2%}",
            f"{each.slow_p50_ms:.1f}",
            f"{each.slow_p99_ms:.1f}",
            f"{each.slow_p99_ms / each.healthy_p99_ms:.2f}",
            f"{each.failing_share:.2%}",
            f"{each.failing_failed:.2%}",
        ]
        for each in all_figures
    ]
    return table(HEAD, rows, words=1)


def promises(each: Figures) -> list[Line]:
    """Return what holdfast promises here, each beside what was found."""
    ratio = each.slow_p99_ms / each.healthy_p99_ms
    return [
        Line(each.contender, f"share of a slow node: {each.slow_share:.2%} (at most {SLOW_SHARE:.1%})", each.slow_share <= SLOW_SHARE),
        Line(each.contender, f"p99 beside a slow node: {ratio:.2f} × healthy (at most {WORSE:.0f} ×)", ratio <= WORSE),
        Line(
            each.contender,
            f"share of a failing node: {each.failing_share:.2%} (at most {FAILING_SHARE:.0%})",
            each.failing_share <= FAILING_SHARE,
        ),
    ]
