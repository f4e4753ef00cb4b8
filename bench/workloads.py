"""What is measured: the workloads, and the sides of each.

Pure data. A workload says what its client does, what is quoted, and which side its ratios are to; a side says whose server and client, at
which address and on which Python. What may never happen here: a size that is not written down in `Sizes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.peers import OURS, PEERS, YARDSTICK

Metric = Literal["rate", "p50_us", "seconds", "kib"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of each; `QUICK` is for seeing that everything works, not for figures."""

    items: int = 100_000
    items_of_many: int = 2_000
    streams: int = 64
    opened: int = 5_000
    idle: int = 1_000
    half_open: int = 10_000


FULL = Sizes()
QUICK = Sizes(items=10_000, items_of_many=200, opened=500, idle=100, half_open=200)


@dataclass(frozen=True, kw_only=True)
class Side:
    """Who is measured, and how."""

    name: str
    peer: str
    scheme: str = "tcp"
    python: str = ""
    """A version; empty is the Python of the run."""
    variant: str = ""
    """Handed to the peer's `serve`."""
    call: str = ""
    """What its client does, where it is not what the workload says."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One table: what its clients do, and who they are."""

    key: str
    title: str
    title_zh: str
    call: str
    """`echo`, `suspend`, `bulk`, `items`, `open`, or the memory of `hold` and `half-open`."""
    sides: tuple[Side, ...]
    in_flight: int = 1
    count: int = 0
    """Items of a stream, or connections."""
    metric: Metric = "rate"
    unit: str = "calls/s"
    base: str = YARDSTICK
    """The side that ratios are to."""
    one_core: bool = False
    rounds_max: int = 0
    """Measured in the first so many rounds only; 0 is in all. For what foreign load does not change."""
    by_turns: bool = False
    """One client measures all sides, in slices of a tenth of a second that alternate, where samples one after the other would vary by more
    than what we reach is away from what we promise."""


def all_of(names: list[str]) -> tuple[Side, ...]:
    """Return plain sides of these peers."""
    return tuple(Side(name=name, peer=name) for name in names)


TLS = "holdfast TLS"
SUSPENDING_YARDSTICK = "bare_rpc with tasks"
BOTH = all_of([YARDSTICK, OURS])


def on(peer: str, python: str) -> Side:
    """Return that peer on that Python."""
    return Side(name=f"{peer} {python}", peer=peer, python=python)


def workloads(sizes: Sizes, own_python: str, pythons: list[str]) -> list[Workload]:
    """Return all workloads; `pythons` are the versions to compare with our own."""
    everybody = all_of([YARDSTICK, OURS, *(name for name in PEERS if name not in (OURS, YARDSTICK))])
    unary = [
        Workload(
            key=f"unary-{number}",
            title=f"Unary, {number} in flight",
            title_zh=f"一元调用，{number} 个并发",
            call="echo",
            in_flight=number,
            sides=everybody,
        )
        for number in (1, 64, 512)
    ]
    return [*unary, *_our_calls(sizes), *_our_connections(sizes), *_pythons(own_python, pythons)]


def _our_calls(sizes: Sizes) -> list[Workload]:
    suspending = (
        *all_of([YARDSTICK]),
        Side(name=OURS, peer=OURS, call="suspend"),
        Side(name=SUSPENDING_YARDSTICK, peer=YARDSTICK, variant="task"),
    )
    many = sizes.streams
    return [
        Workload(
            key="one-core",
            title="Unary, one in flight, both processes on one core",
            title_zh="一元调用，1 个并发，两个进程在同一个核上",
            call="echo",
            metric="p50_us",
            unit="µs",
            sides=BOTH,
            one_core=True,
        ),
        Workload(
            key="bulk", title="64 KiB bodies, 16 in flight", title_zh="64 KiB 消息体，16 个并发", call="bulk", in_flight=16, sides=BOTH
        ),
        Workload(
            key="stream",
            title=f"One server stream of {sizes.items:,} small items",
            title_zh=f"一个服务端流，{sizes.items:,} 个小条目",
            call="items",
            count=sizes.items,
            unit="items/s",
            sides=BOTH,
            by_turns=True,
        ),
        Workload(
            key="streams",
            title=f"{many} server streams at once, {sizes.items_of_many:,} items each",
            title_zh=f"{many} 个服务端流同时进行，每个 {sizes.items_of_many:,} 个条目",
            call="items",
            count=sizes.items_of_many,
            in_flight=many,
            unit="items/s",
            sides=BOTH,
        ),
        Workload(
            key="suspend",
            title="A handler that suspends once, 64 in flight (bare_rpc: its plain echo)",
            title_zh="处理函数挂起一次，64 个并发（bare_rpc 用它的普通 echo）",
            call="echo",
            in_flight=64,
            sides=suspending,
        ),
        Workload(
            key="tls",
            title="TLS, 64 in flight, beside plain on the same server",
            title_zh="TLS，64 个并发，与同一服务器的明文相比",
            call="echo",
            in_flight=64,
            sides=(*all_of([OURS]), Side(name=TLS, peer=OURS, scheme="tls")),
            base=OURS,
            by_turns=True,
        ),
    ]


def _our_connections(sizes: Sizes) -> list[Workload]:
    return [
        Workload(
            key="memory",
            title=f"Server memory per idle connection, {sizes.idle:,} that made one call each",
            title_zh=f"每个空闲连接占用的服务器内存，{sizes.idle:,} 个连接，各调用过一次",
            call="hold",
            count=sizes.idle,
            metric="kib",
            unit="KiB",
            sides=(*BOTH, Side(name=TLS, peer=OURS, scheme="tls")),
            rounds_max=3,
        ),
        Workload(
            key="half-open",
            title=f"Server memory per half-open TLS connection, {sizes.half_open:,} of them",
            title_zh=f"每个半开 TLS 连接占用的服务器内存，{sizes.half_open:,} 个连接",
            call="half-open",
            count=sizes.half_open,
            metric="kib",
            unit="KiB",
            sides=(Side(name=TLS, peer=OURS, scheme="tls"),),
            base="",
            rounds_max=3,
        ),
        Workload(
            key="open",
            title=f"{sizes.opened:,} connections opened and called once each",
            title_zh=f"打开 {sizes.opened:,} 个连接，各调用一次",
            call="open",
            count=sizes.opened,
            metric="seconds",
            unit="s",
            sides=BOTH,
        ),
    ]


def _pythons(own: str, others: list[str]) -> list[Workload]:
    return [
        Workload(
            key=f"python-{peer}",
            title=f"{peer} on each Python, 64 in flight",
            title_zh=f"{peer} 在各个 Python 版本上，64 个并发",
            call="echo",
            in_flight=64,
            sides=tuple(on(peer, python) for python in [own, *others]),
            base=f"{peer} {own}",
        )
        for peer in (OURS, YARDSTICK)
    ]
