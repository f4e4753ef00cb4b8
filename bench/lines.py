"""The promised lines: thresholds, figures, and whether they are met.

Pure: everything is computed from the samples of one run. What may never happen here: a line called met without a figure.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

from bench import figures
from bench.figures import Ratio, Sample
from bench.peers import OURS, PEERS, YARDSTICK
from bench.workloads import TLS

JUDGED_ON = "3.11"
COMPARED_WITH = ("3.12", "3.13")
GRPC = "grpc.aio"
NOTHING = "–"
"""The figure of what was not measured."""
HOLDS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Line:
    """One promise: what, how much it should be, and what it is."""

    number: int
    what: str
    what_zh: str
    threshold: str
    figure: str
    met: bool | None
    """None when it was not measured."""


@dataclass(frozen=True)
class Promise:
    """What is promised, before anybody has measured."""

    number: int
    what: str
    what_zh: str
    workload: str
    metric: str
    side: str
    base: str
    """The side a ratio is to; empty for the figure itself."""
    sign: str
    threshold: float
    unit: str = "×"
    calls_least: int = 0
    """A sample with fewer is of another measurement (`--quick`)."""

    def judged(self, samples: list[Sample]) -> Line:
        """Return the line for these samples."""
        value, figure = self._figure(samples)
        met = None if value is None else bool(HOLDS[self.sign](value, self.threshold))
        return Line(self.number, self.what, self.what_zh, f"{self.sign} {self.threshold:g} {self.unit}", figure, met)

    def _figure(self, samples: list[Sample]) -> tuple[float | None, str]:
        mine = [each for each in figures.of(samples, self.workload, self.side) if (each.figures.get("calls") or 0) >= self.calls_least]
        if self.base:
            ratio = figures.ratio(mine, figures.of(samples, self.workload, self.base), self.metric)
            return (ratio.median, between(ratio)) if ratio is not None else (None, NOTHING)
        value = figures.median(mine, self.metric)
        return value, f"{value:.2f} {self.unit}" if value is not None else NOTHING


PROMISES = (
    Promise(1, "Unary, 64 in flight, to bare_rpc", "一元调用，64 个并发，与 bare_rpc 相比", "unary-64", "rate", OURS, YARDSTICK, "≥", 0.6),
    Promise(1, "Unary, 64 in flight, to grpc.aio", "一元调用，64 个并发，与 grpc.aio 相比", "unary-64", "rate", OURS, GRPC, "≥", 20),
    Promise(
        1, "Unary, 512 in flight, to bare_rpc", "一元调用，512 个并发，与 bare_rpc 相比", "unary-512", "rate", OURS, YARDSTICK, "≥", 0.5
    ),
    Promise(
        1,
        "A handler that suspends once, to bare_rpc's plain echo",
        "处理函数挂起一次，与 bare_rpc 的普通 echo 相比",
        "suspend",
        "rate",
        OURS,
        YARDSTICK,
        "≥",
        0.3,
    ),
    Promise(
        2,
        "Both processes on one core, one in flight: p50",
        "两个进程在同一个核上，1 个并发：p50",
        "one-core",
        "p50_us",
        OURS,
        YARDSTICK,
        "≤",
        1.6,
    ),
    Promise(3, "64 KiB bodies, to bare_rpc", "64 KiB 消息体，与 bare_rpc 相比", "bulk", "rate", OURS, YARDSTICK, "≥", 1.2),
    Promise(3, "One server stream, to bare_rpc", "一个服务端流，与 bare_rpc 相比", "stream", "rate", OURS, YARDSTICK, "≥", 0.5),
    Promise(3, "TLS, 64 in flight, to our own plain rate", "TLS，64 个并发，与自己的明文相比", "tls", "rate", TLS, OURS, "≥", 0.9),
    Promise(4, "Memory of an idle connection", "空闲连接的内存", "memory", "kib", OURS, "", "≤", 5, "KiB"),
    Promise(4, "Memory of an idle TLS connection", "空闲 TLS 连接的内存", "memory", "kib", TLS, "", "≤", 22, "KiB"),
    Promise(
        4, "5,000 connections opened and called once", "打开 5,000 个连接，各调用一次", "open", "seconds", OURS, "", "<", 5, "s", 5_000
    ),
)


def promised(samples: list[Sample], own_python: str) -> list[Line]:
    """Return the lines, in the order in which they were promised."""
    return [
        *(promise.judged(samples) for promise in PROMISES),
        *(ahead(samples, in_flight) for in_flight in (64, 512)),
        *(_on_python(samples, own_python, python) for python in COMPARED_WITH),
    ]


def beside(samples: list[Sample]) -> list[tuple[str, int, Ratio]]:
    """Return how we stand to what is shown beside and need not be beaten: its name, calls in flight, our rate to its."""
    return [
        (peer.name, in_flight, ratio)
        for peer in PEERS.values()
        if peer.beside
        for in_flight in (64, 512)
        if (ratio := _to(samples, in_flight, peer.name)) is not None
    ]


def ahead(samples: list[Sample], in_flight: int) -> Line:
    """Return the line about the peers: the one that comes nearest decides. It is open as long as one of them was not measured."""
    rivals = [peer.name for peer in PEERS.values() if peer.name not in (OURS, YARDSTICK) and not peer.beside]
    ratios = {name: ratio for name in rivals if (ratio := _to(samples, in_flight, name)) is not None}
    lacking = [name for name in rivals if name not in ratios]
    what, what_zh = f"Ahead of every peer, {in_flight} in flight", f"领先所有同类，{in_flight} 个并发"
    if not ratios:
        return Line(5, what, what_zh, "> 1 ×", NOTHING, None)
    nearest = min(ratios, key=lambda name: ratios[name].median)
    figure = "; ".join([f"{nearest}: {between(ratios[nearest])}", *(f"{name}: {NOTHING}" for name in lacking)])
    behind = ratios[nearest].median <= 1.0
    return Line(5, what, what_zh, "> 1 ×", figure, False if behind else None if lacking else True)


def _to(samples: list[Sample], in_flight: int, peer: str) -> Ratio | None:
    workload = f"unary-{in_flight}"
    return figures.ratio(figures.of(samples, workload, OURS), figures.of(samples, workload, peer), "rate")


def _on_python(samples: list[Sample], own_python: str, python: str) -> Line:
    promise = Promise(
        6,
        f"Python {python} to {JUDGED_ON}, 64 in flight",
        f"Python {python} 与 {JUDGED_ON} 相比，64 个并发",
        f"python-{OURS}",
        "rate",
        f"{OURS} {python}",
        f"{OURS} {own_python}",
        "≥",
        0.75,
    )
    return promise.judged(samples if own_python == JUDGED_ON else [])


def between(ratio: Ratio) -> str:
    """Return a ratio with its least and greatest: `0.71 × (0.65–0.74)`."""
    digits = 1 if ratio.median >= 10 else 2 if ratio.median >= 0.1 else 3
    return f"{ratio.median:.{digits}f} × ({ratio.least:.{digits}f}–{ratio.greatest:.{digits}f})"
