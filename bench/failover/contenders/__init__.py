"""Who is compared: one file each, and a row here.

A file has `connect(ports, variant)`, which gives a Link, and whatever its nodes run. Only the rows are read before a library is known to be
installed. Each contender is set up as its own documentation and its experienced users would for this very script; its note says how.
What may never happen here: a peer that does badly because we used it badly.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pathlib
import shutil
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
UNPACKED = ROOT / ".cache" / "haproxy"
"""Where `fetch_haproxy.sh` unpacks Debian's packages."""

DEADLINE_S = 10.0
"""What a caller is willing to wait in all; the same for every contender."""
DRAIN_S = 3.0
"""How long a node that is asked to stop may finish what it has."""

Outcome = Literal["ok", "not_executed", "unknown", "failed"]
"""What a caller knows at the end: it has the answer; surely nothing happened; it may have been executed; it was executed, and failed."""


class Link(Protocol):
    """One client process's way to all nodes."""

    async def ready(self) -> None:
        """Return when calls can be made. Cancel: loses nothing."""

    async def call(self, call_id: int, idempotent: bool) -> tuple[Outcome, str]:
        """Make a call; return how it ended and, unless well, why. Cancel: the call is given up."""
        ...

    def ticks(self, number: int) -> AsyncGenerator[int]:
        """Open a stream that goes on for ever."""
        ...

    async def close(self) -> None:
        """Close everything. Cancel: leaves some open."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row: what it needs, and what runs."""

    name: str
    module: str
    note: str
    packages: tuple[str, ...]
    """Distributions that must be installed."""
    variant: str = ""
    """Which of the file's ways to be a client."""
    node: tuple[str, ...] = ()
    """The node's command line behind the Python; without it the file itself, as a module."""
    streams: bool = False
    proxied: bool = False
    """Callers talk to HAProxy, which talks to the nodes."""

    def node_command(self) -> list[str]:
        """Return the command line of a node."""
        return [sys.executable, "-m", *(self.node or (self.module,))]

    def missing(self) -> str | None:
        """Return what it lacks here, in a line for people; None when it can run."""
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return f"{package} is not installed; `make failover` installs it into an environment of its own"
        if self.proxied and haproxy_path() is None:
            return "there is no haproxy: bench/failover/fetch_haproxy.sh unpacks Debian's, or put one on PATH"
        lacking = getattr(importlib.import_module(self.module), "lacking", None)
        return None if lacking is None else lacking(self.variant)

    def version(self) -> str:
        """Return the versions of what it needs."""
        return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in self.packages)


def haproxy_path() -> str | None:
    """Return where haproxy is: unpacked beside the sources, or on PATH."""
    unpacked = UNPACKED / "usr" / "sbin" / "haproxy"
    return str(unpacked) if unpacked.exists() else shutil.which("haproxy")


OURS = ("holdfast", "holdfast-hedged")
_SERVE = (
    "holdfast",
    "serve",
    "bench.failover.contenders.service:svc",
    "--bind",
    "tcp://127.0.0.1:0",
    "--drain",
    f"{DRAIN_S:.0f}s",
    "--json",
)
_HERE = "bench.failover.contenders"

CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        Contender(
            name="holdfast",
            module=f"{_HERE}.ours",
            note="`holdfast serve`; `connect` with three addresses, everything else its default",
            packages=("holdfast",),
            node=_SERVE,
            streams=True,
        ),
        Contender(
            name="holdfast-hedged",
            module=f"{_HERE}.ours",
            note="the same, with hedging on for idempotent methods",
            packages=("holdfast",),
            variant="hedged",
            node=_SERVE,
            streams=True,
        ),
        Contender(
            name="grpc.aio",
            module=f"{_HERE}.grpc_aio",
            note="round_robin; retryPolicy for the idempotent method: UNAVAILABLE, 3 attempts; keepalive 1 s + 1 s; back-off 0.1–1 s",
            packages=("grpcio",),
            streams=True,
        ),
        Contender(
            name="aiohttp+tenacity",
            module=f"{_HERE}.aiohttp_web",
            note="three attempts, each at the next node, of 2 s each (connecting 1 s); full jitter from 25 ms; whatever the method",
            packages=("aiohttp", "tenacity"),
            variant="tenacity",
        ),
        Contender(
            name="haproxy",
            module=f"{_HERE}.aiohttp_web",
            note="HAProxy before aiohttp nodes: leastconn, checks each 500 ms (fall 2, rise 2), retries 3 with redispatch, "
            "idempotent ones after 0.9 s without an answer too; the caller does not retry",
            packages=("aiohttp",),
            variant="plain",
            proxied=True,
        ),
    )
}
