"""First figures: holdfast beside the yardstick, and memory per idle connection.

    python bench/run.py [--rounds 5] [--seconds 3] [--in-flight 64] [--idle 1000] [--json FILE]

Server on core 0, client on core 1; rounds alternate between the two sides, so that a slow minute hits both alike; the median is quoted, as
a ratio. The yardstick is `bare_rpc/`, the least multiplexed RPC that can be written (uvloop and msgspec, no reliability); its hash is
printed. The service measured is an ordinary one, served by `holdfast serve` with its printed defaults, called through the public Client.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HERE = pathlib.Path(__file__).parent


def pinned(core: int) -> Any:
    """Return what a child runs first: it keeps to one core, where there are several."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (lambda: os.sched_setaffinity(0, {cores[core % len(cores)]})) if len(cores) > 1 else None


def start(*command: str, core: int) -> subprocess.Popen[str]:
    """Start a child with pipes, on that core."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(core))


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A server for the block; gives it and its first JSON line that says where it is."""
    child = start(*command, core=0)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            said = json.loads(line)
            if "port" in said or said.get("event") == "ready":
                yield child, said
                break
        else:
            raise SystemExit(f"{command} ended without saying where it listens")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def one_round(*command: str) -> dict[str, float]:
    """Run a client to its end and return what it measured."""
    child = start(*command, core=1)
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{command} failed with exit code {child.returncode}")
    measured: dict[str, float] = json.loads(out.splitlines()[-1])
    return measured


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise SystemExit("no VmRSS; memory is measured on Linux only")


def idle_memory(count: int) -> float:
    """Return KiB of server memory per idle connection that has made one call."""
    serve = (sys.executable, "-m", "holdfast", "serve", "echo_service:svc", "--app-dir", str(HERE), "--bind", "tcp://127.0.0.1:0", "--json")
    with running(*serve) as (server, said):
        before = 0
        for number in (50, count):  # the first few fill caches and pools
            child = start(sys.executable, str(HERE / "sides.py"), "idle", said["addresses"][0], str(number), core=1)
            assert child.stdout is not None
            assert child.stdin is not None
            child.stdout.readline()
            after = rss_kib(server.pid)
            if number == count:
                result = (after - before) / (count)
            child.stdin.close()
            child.wait(30)
            child.stdout.close()
            before = rss_kib(server.pid)
    return result


def main() -> None:
    """Measure, print, and write the raw rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--idle", type=int, default=1000, help="idle connections; 0 leaves memory out")
    parser.add_argument("--json", type=pathlib.Path, help="write the raw rounds here")
    arguments = parser.parse_args()
    sides, in_flight, seconds = str(HERE / "sides.py"), str(arguments.in_flight), str(arguments.seconds)
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((HERE / "bare_rpc").iterdir()) if p.is_file())).hexdigest()[:16]
    print(f"yardstick bare_rpc {digest} · python {sys.version.split()[0]} · load {os.getloadavg()[0]:.2f} before the run")
    serve = (sys.executable, "-m", "holdfast", "serve", "echo_service:svc", "--app-dir", str(HERE), "--bind", "tcp://127.0.0.1:0", "--json")
    rounds: list[dict[str, dict[str, float]]] = []
    with running(sys.executable, sides, "bare-server") as (_, bare), running(*serve) as (_, ours):
        for number in range(arguments.rounds):
            measured = {
                "bare": one_round(sys.executable, sides, "bare-client", str(bare["port"]), in_flight, seconds),
                "holdfast": one_round(sys.executable, sides, "holdfast-client", ours["addresses"][0], in_flight, seconds),
            }
            rounds.append(measured)
            b, h = measured["bare"], measured["holdfast"]
            print(
                f"round {number + 1}: bare {b['rate']:9,.0f}/s  holdfast {h['rate']:9,.0f}/s  ratio {h['rate'] / b['rate']:.3f}"
                f"  client cpu {b['cpu_us']:.2f} / {h['cpu_us']:.2f} us  p50 {b['p50_us']:.0f} / {h['p50_us']:.0f} us",
                flush=True,
            )
    ratio = statistics.median(r["holdfast"]["rate"] / r["bare"]["rate"] for r in rounds)
    print(f"unary, {in_flight} in flight: {ratio:.3f} x bare_rpc (median of {len(rounds)} rounds)")
    memory = idle_memory(arguments.idle) if arguments.idle else None
    if memory is not None:
        print(f"memory per idle connection: {memory:.2f} KiB of the server ({arguments.idle} connections, one call each)")
    if arguments.json:
        arguments.json.write_text(json.dumps({"yardstick": digest, "ratio": ratio, "idle_kib": memory, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
