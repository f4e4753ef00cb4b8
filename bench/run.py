"""First figures: holdfast beside the yardstick, and memory per idle connection.

    python bench/run.py [--rounds 5] [--seconds 3] [--in-flight 64] [--idle 1000] [--half-open 10000] [--json FILE]

Server on core 0, client on core 1; rounds alternate between the sides, so that a slow minute hits all alike; the median is quoted, as a
ratio. The yardstick is `bare_rpc/`, the least multiplexed RPC that can be written (uvloop and msgspec, no reliability); its hash is
printed. The service measured is an ordinary one, served by `holdfast serve` with its printed defaults, called through the public Client.
TLS is compared with our own plain rate, from the same server process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trustme

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


SERVE = (
    *(sys.executable, "-m", "holdfast", "serve", "echo_service:svc", "--app-dir", str(HERE), "--json"),
    *("--bind", "tcp://127.0.0.1:0", "--bind", "tls://127.0.0.1:0"),
)


def held_memory(pid: int, count: int, side: str, *where: str) -> float:
    """Return KiB of a server's memory per connection that a child opens and holds."""
    before, result = 0, 0.0
    for number in (50, count):  # the first few fill caches and pools
        connected = descriptors(pid) + number
        child = start(sys.executable, str(HERE / "sides.py"), side, *where, str(number), core=1)
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        while descriptors(pid) < connected:  # the last ones wait in the backlog
            time.sleep(0.01)
        result = (rss_kib(pid) - before) / number
        child.stdin.close()
        child.wait(30)
        child.stdout.close()
        before = rss_kib(pid)
    return result


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def idle_memory(count: int, address: int) -> float:
    """Return KiB of server memory per idle connection, at that one of its addresses, that has made one call."""
    with running(*SERVE) as (server, said):
        return held_memory(server.pid, count, "idle", said["addresses"][address])


def half_open_memory(count: int, certificate: str) -> tuple[float, int]:
    """Return KiB of server memory per connection whose ClientHello is not complete, and of how many: descriptors may allow fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, hard - 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 512), hard))
    with running(sys.executable, str(HERE / "sides.py"), "tls-server", certificate) as (server, said):
        return held_memory(server.pid, count, "half-open", str(said["port"])), count


def certificates(folder: pathlib.Path) -> str:
    """Make an authority and a certificate of it, for this run; the environment of the children says where they are."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    os.environ["HOLDFAST_TLS_TRUST"] = str(folder / "ca.pem")
    os.environ["HOLDFAST_TLS_CERT"] = str(folder / "server.pem")
    return os.environ["HOLDFAST_TLS_CERT"]


def main() -> None:
    """Parse the options and run in a folder with certificates."""
    with tempfile.TemporaryDirectory() as folder:
        measure(parse(), certificates(pathlib.Path(folder)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--idle", type=int, default=1000, help="idle connections; 0 leaves memory out")
    parser.add_argument("--half-open", type=int, default=10_000, help="connections with an incomplete ClientHello; 0 leaves them out")
    parser.add_argument("--json", type=pathlib.Path, help="write the raw rounds here")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, certificate: str) -> None:
    """Measure, print, and write the raw rounds."""
    sides, in_flight, seconds = str(HERE / "sides.py"), str(arguments.in_flight), str(arguments.seconds)
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((HERE / "bare_rpc").iterdir()) if p.is_file())).hexdigest()[:16]
    print(f"yardstick bare_rpc {digest} · python {sys.version.split()[0]} · load {os.getloadavg()[0]:.2f} before the run")
    rounds: list[dict[str, dict[str, float]]] = []
    with running(sys.executable, sides, "bare-server") as (_, bare), running(*SERVE) as (_, ours):
        for number in range(arguments.rounds):
            measured = {
                "bare": one_round(sys.executable, sides, "bare-client", str(bare["port"]), in_flight, seconds),
                "holdfast": one_round(sys.executable, sides, "holdfast-client", ours["addresses"][0], in_flight, seconds),
                "tls": one_round(sys.executable, sides, "holdfast-client", ours["addresses"][1], in_flight, seconds),
            }
            rounds.append(measured)
            b, h, t = measured["bare"], measured["holdfast"], measured["tls"]
            print(
                f"round {number + 1}: bare {b['rate']:9,.0f}/s  holdfast {h['rate']:9,.0f}/s  ratio {h['rate'] / b['rate']:.3f}"
                f"  client cpu {b['cpu_us']:.2f} / {h['cpu_us']:.2f} us  p50 {b['p50_us']:.0f} / {h['p50_us']:.0f} us"
                f"  TLS {t['rate']:9,.0f}/s  ratio to plain {t['rate'] / h['rate']:.3f}",
                flush=True,
            )
    ratio = statistics.median(r["holdfast"]["rate"] / r["bare"]["rate"] for r in rounds)
    print(f"unary, {in_flight} in flight: {ratio:.3f} x bare_rpc (median of {len(rounds)} rounds)")
    secure = statistics.median(r["tls"]["rate"] / r["holdfast"]["rate"] for r in rounds)
    print(f"TLS, {in_flight} in flight: {secure:.3f} x our plain rate")
    memory: dict[str, float] = {}
    if arguments.idle:
        memory["idle_kib"] = idle_memory(arguments.idle, 0)
        memory["idle_tls_kib"] = idle_memory(arguments.idle, 1)
        for name, what in (("idle_kib", "connection"), ("idle_tls_kib", "TLS connection")):
            print(f"memory per idle {what}: {memory[name]:.2f} KiB of the server ({arguments.idle} connections, one call each)")
    if arguments.half_open:
        memory["half_open_kib"], count = half_open_memory(arguments.half_open, certificate)
        print(f"memory per half-open TLS connection: {memory['half_open_kib']:.2f} KiB of the server ({count} connections)")
    if arguments.json:
        figures = {"yardstick": digest, "ratio": ratio, "tls_ratio": secure, **memory, "rounds": rounds}
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
