"""The processes of a measurement: where they run, what they have used, how they end.

Owns pinning, start and end of children, and everything read from /proc. What may never happen here: a child that outlives the run.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROC = pathlib.Path("/proc")
END_S = 10.0
SPIN_TURNS = 400_000
INTERRUPTS = {signal.SIGINT, signal.SIGTERM}

# ------------------------------------------------------------------------------------------------------- starting and ending


_children: set[subprocess.Popen[str]] = set()
"""All that were started and not ended yet: an interrupt can come between a start and the line that keeps its result."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is over: a child made half-way would have nobody who ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settled(core: int) -> Callable[[], None]:
    """Return what a child runs first: it keeps to one core, where there are several, and may be interrupted."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def settle() -> None:
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[core % len(cores)]})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)

    return settle


def start(*command: str, core: int) -> subprocess.Popen[str]:
    """Start a child with pipes, on that core, in a group of its own: a Ctrl-C is for the run, which ends its children itself."""
    with uninterrupted():
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            preexec_fn=settled(core),
            start_new_session=True,
        )
        _children.add(child)
    return child


def end(child: subprocess.Popen[str]) -> None:
    """End a child and whatever it started: politely, then not."""
    with uninterrupted():
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                pass  # the whole group is gone already
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                continue
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        _children.discard(child)


@atexit.register
def end_all() -> None:
    """End what an interrupt left without an owner."""
    for child in tuple(_children):
        end(child)


def said(child: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the first JSON line that says where a server listens. Raises: ServerFailed."""
    assert child.stdout is not None
    for line in child.stdout:
        try:
            what = json.loads(line)
        except ValueError:
            continue  # a library's own banner
        if isinstance(what, dict) and ("port" in what or what.get("event") == "ready"):
            return what
    raise ServerFailed(f"the server ended with exit code {child.wait(END_S)} without saying where it listens")


class ServerFailed(Exception):
    """A server that does not come up."""


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A server for the block; gives it and its first JSON line that says where it is."""
    child = start(*command, core=0)
    try:
        yield child, said(child)
    finally:
        end(child)


def one_round(*command: str, core: int = 1, within_s: float = 120.0) -> Any:
    """Run a client to its end and return what it measured, its last line, which is JSON. Raises: ClientFailed, WrongReply."""
    child = start(*command, core=core)
    try:
        out, _ = child.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        raise ClientFailed(f"the client did not end within {within_s:.0f} s") from None
    finally:
        end(child)
    if child.returncode == WrongReply.exit_code:
        raise WrongReply(out.strip().splitlines()[-1])
    if child.returncode:
        raise ClientFailed(f"the client ended with exit code {child.returncode}")
    return json.loads(out.splitlines()[-1])


class ClientFailed(Exception):
    """A client that could not measure."""


class WrongReply(Exception):
    """A reply that is not what was asked for: then no figure of that side means anything."""

    exit_code = 3


def serve_command(*binds: str, python: str = sys.executable) -> tuple[str, ...]:
    """Return the command line of the measured service, an ordinary one."""
    options = [word for bind in binds for word in ("--bind", bind)]
    return (python, "-m", "holdfast", "serve", "echo_service:svc", "--app-dir", str(ROOT / "bench"), "--json", *options)


def allow_descriptors(count: int) -> int:
    """Raise the soft limit, for us and our children, to `count` or as far as it goes; return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# ------------------------------------------------------------------------------------------------------------- what was used


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise SystemExit("no VmRSS; memory is measured on Linux only")


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(PROC / str(pid) / "fd"))


def family(pid: int) -> list[int]:
    """Return a process and everything it started."""
    parents: dict[int, int] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
    found = [pid]
    for each in found:
        found.extend(child for child, parent in parents.items() if parent == each)
    return found


def cpu_s(pids: list[int]) -> float:
    """Return the processor time these have used, all their threads; of one that has ended, nothing."""
    total_ns = 0
    for pid in pids:
        for path in (PROC / str(pid) / "task").glob("*/schedstat"):
            try:
                total_ns += int(path.read_text().split()[0])
            except OSError:
                continue
    return total_ns / 1e9


def busy_s() -> float | None:
    """Return the processor time that everybody has used, the hypervisor's other guests too; None where there is no /proc."""
    try:
        fields = [int(each) for each in (PROC / "stat").read_text().partition("\n")[0].split()[1:9]]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def spin_ms() -> float:
    """Return how long a fixed piece of work takes here and now."""
    started = time.perf_counter()
    number = 0
    for each in range(SPIN_TURNS):
        number += each & 7
    return (time.perf_counter() - started) * 1e3
