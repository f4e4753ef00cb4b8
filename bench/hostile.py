"""What an honest client notices of hostile ones on the same server, and what these are told.

    python bench/hostile.py [--seconds 4] [--rate 500] [--rounds 3] [--json FILE]

The server, an ordinary one with its defaults, has core 0; an honest client that calls at a steady rate, and one attacker, share core 1.
A round measures the honest client alone, then beside each attack; medians over the rounds are printed. The attacker comes again as soon
as it has been turned away. `told` is the part of its connections that ended with a GOAWAY it could read; `tiny` and `bytewise` break no
rule, and are borne.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

ATTACKS = ("length", "nested", "tiny", "bytewise", "cancel", "ping")
PAIRS_PER_S = 10_000


async def honest(address: str, rate: float, seconds: float) -> None:
    """Open loop: a call is due at its time, whatever became of the one before; latency counts from when it was due."""
    from echo_api import Bench
    from echo_service import Echo

    import holdfast

    latencies: list[float] = []
    async with holdfast.connect(address) as client:
        bench = client.bind(Bench)
        await bench.echo(Echo(0, "x"))

        async def one(due: float) -> None:
            await bench.echo(Echo(1, "x" * 60))
            latencies.append(time.perf_counter() - due)

        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        tasks = []
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(loop.create_task(one(due)))
        await asyncio.gather(*tasks)
    latencies.sort()
    print(json.dumps({"p50_ms": latencies[len(latencies) // 2] * 1e3, "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3}), flush=True)


class Attacker:
    """One hostile peer, over a blocking socket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = self.told = self.sent = 0

    def session(self, send: Callable[[socket.socket], None]) -> None:
        """Connect, shake hands, be hostile, and listen to what is said about it."""
        from holdfast.wire import Settings, frames
        from holdfast.wire.settings import encode_settings

        self.connections += 1
        heard = b""
        with socket.create_connection(("127.0.0.1", self.port)) as peer:
            peer.settimeout(2)
            peer.sendall(frames.PREFACE + frames.pack_frame(frames.HELLO, 0, 0, encode_settings(Settings())))
            head = b""
            while len(head) < 22:
                head += peer.recv(22 - len(head))
            left = frames.LENGTH.unpack_from(head, 8)[0]
            while left > 0:
                left -= len(peer.recv(left))
            try:
                send(peer)
            except OSError:
                pass  # it was cut; what it was told may be there all the same
            try:
                while chunk := peer.recv(65536):
                    heard = (heard + chunk)[-2000:]
            except OSError:
                pass  # a reset: then the tail is what counts
        self.told += frames.pack_frame(frames.GOAWAY, 0, 0)[4:] in heard

    def run(self, kind: str, seconds: float) -> None:
        """Attack until the time is over."""
        stop_at = time.perf_counter() + seconds
        send = getattr(self, kind)
        while time.perf_counter() < stop_at:
            self.stop_at = stop_at
            self.session(send)
            time.sleep(0.002)
        print(json.dumps({"connections": self.connections, "told": self.told / self.connections, "sent": self.sent}), flush=True)

    # ------------------------------------------------------------------ attacks

    def length(self, peer: socket.socket) -> None:
        from holdfast.wire import frames

        peer.sendall(frames.HEADER.pack(2**31, frames.CALL, 0, 1))
        self.sent += 1

    def nested(self, peer: socket.socket) -> None:
        from holdfast.wire import frames

        body = b"\x81\xa1x" + b"\x91" * 60_000
        for number in range(1, 20):
            peer.sendall(self._call(number, body))
            self.sent += 1
        peer.sendall(frames.HEADER.pack(2**31, frames.CALL, 0, 1))  # and be gone

    def tiny(self, peer: socket.socket) -> None:
        """Frames of one byte, of a type the server skips."""
        from holdfast.wire import frames

        self._paced(peer, lambda number: frames.pack_frame(0x7E, 0, number, b"x"), 2 * PAIRS_PER_S)

    def bytewise(self, peer: socket.socket) -> None:
        """Calls, one byte of them at a time."""
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b"".join(self._call(number, b"\x80") for number in range(1, 400))
        for at in range(len(data)):
            if time.perf_counter() > self.stop_at:
                return
            peer.sendall(data[at : at + 1])
            self.sent += 1

    def cancel(self, peer: socket.socket) -> None:
        from holdfast.wire import frames

        self._paced(peer, lambda number: self._call(number, b"\x80") + frames.pack_frame(frames.CANCEL, 0, number), PAIRS_PER_S)

    def ping(self, peer: socket.socket) -> None:
        from holdfast.wire import frames

        self._paced(peer, lambda _: frames.pack_frame(frames.PING, 0, 0, bytes(8)), PAIRS_PER_S)

    def _paced(self, peer: socket.socket, make: Callable[[int], bytes], per_s: float) -> None:
        started, number = time.perf_counter(), 0
        while time.perf_counter() < self.stop_at:
            behind = int((time.perf_counter() - started) * per_s) - number
            if behind > 0:
                peer.sendall(b"".join(make(number + each) for each in range(1, behind + 1)))
                number += behind
                self.sent += behind
            time.sleep(0.001)

    def _call(self, number: int, body: bytes) -> bytes:
        from holdfast.wire import frames

        payload = frames.CALL_HEAD.pack(1000, number, 0, 10) + b"bench.echo" + body
        return frames.pack_frame(frames.CALL, 0, number, payload)


def measure(seconds: float, rate: float, rounds: int) -> dict[str, Any]:
    """Run all rounds; return per attack the medians."""
    from run import one_round, rss_kib, running, start

    serve = (sys.executable, "-m", "holdfast", "serve", "echo_service:svc", "--app-dir", str(HERE), "--bind", "tcp://127.0.0.1:0", "--json")
    me = str(pathlib.Path(__file__))
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("alone", *ATTACKS)}
    for number in range(rounds):
        for kind in found:
            with running(*serve) as (server, said):
                address = said["addresses"][0] if "addresses" in said else said["address"]
                port = int(address.rpartition(":")[2])
                before = rss_kib(server.pid)
                attacker = start(sys.executable, me, "attack", str(port), kind, str(seconds + 1), core=1) if kind != "alone" else None
                result = one_round(sys.executable, me, "honest", address, str(rate), str(seconds))
                if attacker is not None:
                    out, _ = attacker.communicate()
                    result |= json.loads(out)
                result["grown_kib"] = rss_kib(server.pid) - before
                found[kind].append(result)
            print(f"round {number + 1}/{rounds} {kind:9} {json.dumps(result)}", file=sys.stderr, flush=True)
    table = {kind: {key: statistics.median(each[key] for each in results) for key in results[0]} for kind, results in found.items()}
    for row in table.values():
        row["p99_ratio"] = row["p99_ms"] / table["alone"]["p99_ms"]
    return table


def main() -> None:
    """Measure, or be one of the sides."""
    if sys.argv[1:2] == ["honest"]:
        import uvloop

        uvloop.run(honest(sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
        return
    if sys.argv[1:2] == ["attack"]:
        Attacker(int(sys.argv[2])).run(sys.argv[3], float(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    table = measure(options.seconds, options.rate, options.rounds)
    print("beside     p50 ms  p99 ms  ratio  connections  told  hostile frames  server grew")
    for kind, row in table.items():
        told = f"{row['told']:.0%}" if "told" in row else ""
        print(
            f"{kind:9} {row['p50_ms']:7.2f} {row['p99_ms']:7.2f} {row['p99_ratio']:6.2f} {row.get('connections', 0):12.0f} {told:>5}"
            f" {row.get('sent', 0):15.0f} {row['grown_kib']:8.0f} KiB"
        )
    if options.json:
        options.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
