"""The processes of a measurement: server and client, of holdfast and of the yardstick.

    python sides.py bare-server | bare-client PORT N SECONDS | holdfast-client ADDRESS N SECONDS | idle ADDRESS COUNT
                    | tls-server CERTIFICATE | half-open PORT COUNT

A client finds the authority of a `tls://` address in the file that HOLDFAST_TLS_TRUST names.

A client prints one JSON object: `{"calls", "seconds", "rate", "cpu_us", "p50_us", "p99_us"}`. Every reply is compared with what was asked.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pathlib
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

sys.path.insert(0, str(pathlib.Path(__file__).parent / "bare_rpc"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))

TEXT = "x" * 60


async def measure(call: Callable[[int, str], Awaitable[Any]], in_flight: int, seconds: float) -> dict[str, float]:
    """Closed loop: `in_flight` tasks, each with its next call as soon as the last is back."""
    latencies: list[float] = []
    stop_at = 0.0
    calls = 0

    async def worker(number: int) -> None:
        nonlocal calls
        clock = time.perf_counter
        while True:
            started = clock()
            if started >= stop_at:
                return
            number += 1
            text = f"{TEXT}{number & 4095:04d}"
            reply = await call(number, text)
            if reply.a != number or reply.s != text:
                raise SystemExit(f"asked for {number}, got {reply}")
            calls += 1
            if not number & 15:
                latencies.append(clock() - started)

    stop_at = time.perf_counter() + 0.5  # warm-up
    await asyncio.gather(*(worker(n << 32) for n in range(in_flight)))
    gc.collect()
    calls, latencies = 0, []
    started, cpu = time.perf_counter(), time.process_time()
    stop_at = started + seconds
    await asyncio.gather(*(worker(n << 32) for n in range(in_flight)))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    latencies.sort()
    return {
        "calls": calls,
        "seconds": took,
        "rate": calls / took,
        "cpu_us": cpu / calls * 1e6,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[len(latencies) * 99 // 100] * 1e6,
    }


async def bare_server() -> None:
    import l1

    loop = asyncio.get_running_loop()
    module = l1.build(set())
    server = await loop.create_server(lambda: module.Server(loop), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.create_future()


async def bare_client(port: int, in_flight: int, seconds: float) -> None:
    import l1

    loop = asyncio.get_running_loop()
    module = l1.build(set())
    _, client = await loop.create_connection(lambda: module.Client(loop), "127.0.0.1", port)
    print(json.dumps(await measure(client.echo, in_flight, seconds)), flush=True)


def connected(address: str) -> Any:
    """A client of that address, trusting whom the environment says."""
    import holdfast

    tls = holdfast.TlsConfig(trust=os.environ["HOLDFAST_TLS_TRUST"]) if address.startswith("tls://") else None
    return holdfast.connect(address, tls=tls)


async def holdfast_client(address: str, in_flight: int, seconds: float) -> None:
    from echo_api import Bench
    from echo_service import Echo

    async with connected(address) as client:
        bench = client.bind(Bench)

        def call(a: int, s: str) -> Awaitable[Echo]:
            return bench.echo(Echo(a, s))

        print(json.dumps(await measure(call, in_flight, seconds)), flush=True)


async def idle(address: str, count: int) -> None:
    """Open connections that make one call each, then hold them until stdin closes."""
    from echo_service import Echo

    clients = [connected(address) for _ in range(count)]
    for client in clients:
        await client.__aenter__()
        await client.call("bench.echo", Echo(1, "x"))
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def tls_server(certificate: str) -> None:
    """The service at one `tls://` address, with so much time for handshakes that those that never end can be counted."""
    from echo_service import svc

    import holdfast

    tls = holdfast.TlsConfig(certificate=certificate, handshake_timeout_s=600.0)
    async with holdfast.serve(svc, bind="tls://127.0.0.1:0", tls=tls) as server:
        print(json.dumps({"port": int(server.addresses[0].rpartition(":")[2])}), flush=True)
        await asyncio.get_running_loop().create_future()


def half_open(port: int, count: int) -> None:
    """Open connections that send a ClientHello but for its last byte, and hold them until stdin closes."""
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass
    data = outgoing.read()[:-1]
    held = []
    for _ in range(count):
        held.append(socket.create_connection(("127.0.0.1", port)))
        held[-1].send(data)
    print("open", flush=True)
    sys.stdin.read()


def main() -> None:
    """Run the side that is named."""
    side, *rest = sys.argv[1:]
    if side == "bare-server":
        uvloop.run(bare_server())
    elif side == "bare-client":
        uvloop.run(bare_client(int(rest[0]), int(rest[1]), float(rest[2])))
    elif side == "holdfast-client":
        uvloop.run(holdfast_client(rest[0], int(rest[1]), float(rest[2])))
    elif side == "tls-server":
        uvloop.run(tls_server(rest[0]))
    elif side == "half-open":
        half_open(int(rest[0]), int(rest[1]))
    elif side == "idle":
        uvloop.run(idle(rest[0], int(rest[1])))
    else:
        raise SystemExit(f"no side {side!r}")


if __name__ == "__main__":
    main()
