"""What the tests of the simulator share: a world run to its end, and raw sockets in it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.sim import FaultPlan, World, WorldOptions, WorldRun, run_world

CALM: dict[str, Any] = {"latency_s": 0.001, "jitter_s": 0.0, "slice_chance": 0.0, "timer_slack_s": 0.0}
"""Options of a world in which a packet takes a millisecond and nothing is cut: for tests that say exactly what comes when."""


def play(scenario: Callable[[World], Awaitable[Any]], seed: int = 0, *, plan: FaultPlan | None = None, **options: Any) -> Any:
    """What the scenario returns, in one world. Raises: what failed in it."""
    found: list[Any] = []

    async def kept(world: World) -> None:
        found.append(await scenario(world))

    run = run_world(kept, seed, plan=plan, options=WorldOptions(**options))
    if run.failure is not None:
        raise run.failure
    return found[0]


def run(scenario: Callable[[World], Awaitable[Any]], seed: int = 0, *, plan: FaultPlan | None = None, **options: Any) -> WorldRun:
    """The whole run of a scenario."""
    return run_world(scenario, seed, plan=plan, options=WorldOptions(**options))


def kinds(of: WorldRun, *wanted: str) -> list[tuple[float, str, str, Any]]:
    """The events of these kinds, in order."""
    return [event for event in of.events if event[1] in wanted]


def listening(port: int, backlog: int = 100, ip: str = "0.0.0.0") -> socket.socket:
    """A socket that listens, in the process that calls."""
    made = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    made.setblocking(False)
    made.bind((ip, port))
    made.listen(backlog)
    return made


async def dialled(host: str, port: int, **options: int) -> socket.socket:
    """A connected socket. `options`: by the names of SOL_SOCKET or IPPROTO_TCP."""
    made = socket.socket()
    made.setblocking(False)
    for name, value in options.items():
        made.setsockopt(socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP, getattr(socket, name), value)
    try:
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    return made


async def pair(world: World, port: int = 7, **options: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection, for a process that has both: from its own host to its own host."""
    listener = listening(port)
    ours = await dialled("127.0.0.1", port, **options)
    theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
    listener.close()
    return ours, theirs
