"""The run: rounds that alternate over all sides, one sample at a time.

Owns the servers of a round, the order, and what becomes of a side that fails. Servers are made anew for each round, clients for each
sample. What may never happen here: two clients at once, or figures of a side that gave a wrong reply.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench import memory
from bench.figures import Sample
from bench.peers import OURS, YARDSTICK
from bench.processes import (
    ClientFailed,
    ServerFailed,
    WrongReply,
    end,
    end_all,
    family,
    one_round,
    said,
    serve_command,
    start,
)
from bench.workloads import Side, Workload

CLIENT_CORE = 1
SERVER_CORE = 0
CLIENT_S = 45.0
"""A client that has not ended so long after its ten windows never will."""
EXPECTED_EXTRA_S = 1.4
"""What a sample takes beside its window, until we know: the warm-up, and starting its processes."""

Told = Callable[[str], None]


@dataclass(kw_only=True)
class Plan:
    """What a run does."""

    workloads: list[Workload]
    rounds: int
    seconds: float
    pythons: dict[str, str]
    """The interpreter of each version that is compared."""
    certificate: str
    tell: Told


@dataclass
class Record:
    """What a run has found so far."""

    samples: list[Sample] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Sides that are not measured, or no longer, and why."""
    interrupted: bool = False


class Servers:
    """The servers of one round: each is started when it is first asked for."""

    def __init__(self, pythons: dict[str, str]) -> None:
        self._pythons = pythons
        self._running: dict[tuple[str, str, str], tuple[subprocess.Popen[str], dict[str, Any]]] = {}

    def at(self, side: Side) -> tuple[int, dict[str, Any]]:
        """Return the server's process and where that side's client finds it. Raises: ServerFailed."""
        key = (side.peer, side.python, side.variant)
        if key not in self._running:
            child = start(*self._command(side), core=SERVER_CORE)
            try:
                self._running[key] = child, said(child)
            except BaseException:
                end(child)
                raise
        child, where = self._running[key]
        if side.peer == OURS:
            where = {"address": where["addresses"][side.scheme == "tls"]}
        return child.pid, where

    def _command(self, side: Side) -> tuple[str, ...]:
        python = self._pythons.get(side.python, sys.executable)
        if side.peer == OURS:
            return serve_command("tcp://127.0.0.1:0", "tls://127.0.0.1:0", python=python)
        return (python, "-m", "bench.server", side.peer, *filter(None, [side.variant]))

    def close(self) -> None:
        """End them all."""
        while self._running:
            _, (child, _) = self._running.popitem()
            end(child)


def cells(plan: Plan, number: int) -> Iterable[tuple[Workload, tuple[Side, ...]]]:
    """Return what one round measures, in order, and which sides at once; every other round goes through them the other way round."""
    for workload in plan.workloads:
        if workload.rounds_max and number > workload.rounds_max:
            continue
        sides = workload.sides if number % 2 else workload.sides[::-1]
        for together in [sides] if workload.by_turns else [(side,) for side in sides]:
            yield workload, together


def measure(plan: Plan, record: Record) -> None:
    """Run all rounds, adding to the record as they go. Raises: WrongReply; and what stops holdfast or the yardstick."""
    total = [cell for number in range(1, plan.rounds + 1) for cell in cells(plan, number)]
    clock = Progress(len(total), plan.seconds, plan.tell)
    try:
        for number in range(1, plan.rounds + 1):
            servers = Servers(plan.pythons)
            try:
                one_of_the_rounds(plan, record, servers, clock, number)
            finally:
                servers.close()
    except KeyboardInterrupt:
        record.interrupted = True
    finally:
        end_all()


def one_of_the_rounds(plan: Plan, record: Record, servers: Servers, clock: Progress, number: int) -> None:
    """Measure every side of every workload once."""
    for workload, sides in cells(plan, number):
        names, peers = " and ".join(side.name for side in sides), {side.peer for side in sides}
        head = f"round {number}/{plan.rounds}  {workload.key:15} {names:26}"
        if peers & record.missing.keys():
            clock.passed()
            continue
        try:
            found = sample(plan, servers, workload, sides)
        except WrongReply as error:
            raise WrongReply(f"{workload.key}, {names}: {error}") from error
        except (ClientFailed, ServerFailed) as error:
            if peers & {OURS, YARDSTICK}:
                raise type(error)(f"{workload.key}, {names}: {error}") from error
            record.missing |= dict.fromkeys(peers, str(error))
            clock.done(f"{head} left out from here on: {error}")
            continue
        record.samples += [Sample(number, workload.key, side.name, rounded(each)) for side, each in zip(sides, found, strict=True)]
        clock.done(f"{head} {'   '.join(in_short(workload, each) for each in found)}")


def sample(plan: Plan, servers: Servers, workload: Workload, sides: tuple[Side, ...]) -> list[dict[str, float | None]]:
    """Measure these sides once, in one client."""
    if workload.call == "half-open":
        return [half_open(plan, workload)]
    if workload.call == "hold":
        return [held(plan, workload, side) for side in sides]
    spec = {"in_flight": workload.in_flight, "seconds": plan.seconds, "count": workload.count}
    places = [place(servers, workload, side) for side in sides]
    core = SERVER_CORE if workload.one_core else CLIENT_CORE
    within_s = CLIENT_S + 10 * plan.seconds * len(sides)
    return one_round(*client_command(plan, sides[0].python, spec, *places), core=core, within_s=within_s)


def place(servers: Servers, workload: Workload, side: Side) -> dict[str, Any]:
    """Return what a client has to know of a side."""
    pid, where = servers.at(side)
    return {"peer": side.peer, "where": where, "call": side.call or workload.call, "server_pids": family(pid)}


def client_command(plan: Plan, python: str, spec: dict[str, Any], *places: dict[str, Any]) -> tuple[str, ...]:
    """Return the command line of a client."""
    return (plan.pythons.get(python, sys.executable), "-m", "bench.client", *map(json.dumps, (spec, *places)))


def held(plan: Plan, workload: Workload, side: Side) -> dict[str, float | None]:
    """Measure a server's memory per idle connection, on a server that has done nothing else."""
    servers = Servers(plan.pythons)
    try:
        pid = servers.at(side)[0]

        def hold(count: int) -> subprocess.Popen[str]:
            return start(*client_command(plan, side.python, {"count": count}, place(servers, workload, side)), core=CLIENT_CORE)

        return {"kib": memory.held_kib(pid, workload.count, hold), "count": workload.count}
    finally:
        servers.close()


def half_open(plan: Plan, workload: Workload) -> dict[str, float | None]:
    """Measure our server's memory per connection whose ClientHello is not complete."""
    server = start(sys.executable, "-m", "bench.memory", "serve", plan.certificate, core=SERVER_CORE)
    try:
        port = said(server)["port"]

        def hold(count: int) -> subprocess.Popen[str]:
            return start(sys.executable, "-m", "bench.memory", "hold", str(port), str(count), core=CLIENT_CORE)

        return {"kib": memory.held_kib(server.pid, workload.count, hold), "count": workload.count}
    finally:
        end(server)


def rounded(figures: dict[str, float | None]) -> dict[str, float | None]:
    """Keep five digits: the file of the raw rounds is committed."""
    return {name: None if value is None else float(f"{value:.5g}") for name, value in figures.items()}


def in_short(workload: Workload, figures: dict[str, float | None]) -> str:
    """Return one sample in a few words."""
    value = figures[workload.metric] or 0.0
    digits = 0 if abs(value) >= 100 else 2
    foreign = figures.get("foreign_cores")
    return f"{value:>12,.{digits}f} {workload.unit:8}" + ("" if foreign is None else f" foreign {foreign:.2f} cores")


class Progress:
    """Says what was measured, and how much time is left."""

    def __init__(self, total: int, seconds: float, tell: Told) -> None:
        self._left = total
        self._seconds = seconds
        self._tell = tell
        self._taken_s = 0.0
        self._number = 0
        self._last = time.monotonic()

    def left_s(self) -> float:
        """Return what the rest will take, by what each sample has taken until now."""
        each = self._taken_s / self._number if self._number else self._seconds + EXPECTED_EXTRA_S
        return each * self._left

    def passed(self) -> None:
        """Count one that was not measured."""
        self._left -= 1

    def done(self, what: str) -> None:
        """Count one, and say so."""
        now = time.monotonic()
        self._taken_s += now - self._last
        self._last = now
        self._left -= 1
        self._number += 1
        left = self.left_s()
        self._tell(f"{what}  {left / 60:4.1f} min left" if left >= 60 else f"{what}  {left:4.0f} s left")


def load_before() -> float:
    """Return the machine's load before the run."""
    return os.getloadavg()[0]
