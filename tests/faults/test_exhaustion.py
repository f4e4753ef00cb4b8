"""A real server with few descriptors, and more strangers than it has: good clients are served, and the log stays short.

How much of a processor that takes, and how long a good client waits, is measured by bench/exhaustion.py; here are the facts alone.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

import holdfast
from tests.faults.helpers import PATIENCE_S

STRANGERS = 200
ROOM = 32
"""Of 64 descriptors half are for connections."""

SERVER = """
import asyncio, os, sys
from datetime import UTC, datetime
import uvloop
import holdfast
from holdfast.clock import SystemClock
from holdfast.observe.log import JsonLog

svc = holdfast.Service("small")
files = []

@svc.method
async def look() -> list[int]:
    return [server.stats().connections, len(os.listdir("/dev/fd"))]

@svc.method
async def hoard() -> int:
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return len(files)

@svc.method
async def let_go() -> None:
    while files:
        os.close(files.pop())

async def main():
    global server
    log = JsonLog(sys.stdout, wall=lambda: datetime.now(UTC), clock=SystemClock(), lines_per_s=1e6, burst=10**6)
    async with holdfast.serve(svc, bind="tcp://127.0.0.1:0", emit=log) as server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.close()

(uvloop.run if sys.argv[1] == "uvloop" else asyncio.run)(main())
"""


class Small:
    """The server, its address, and at the end its log."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def refusals(self) -> list[dict[str, Any]]:
        """End the server and read what it had to say about those it turned away."""
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0
        return [line for line in map(json.loads, said.splitlines()) if line["event"] == "connection_refused"]

    def stranger(self) -> socket.socket:
        """Somebody who connects and says nothing."""
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE_S)


@contextmanager
def small_server(loop: str) -> Iterator[Small]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * ROOM, 2 * ROOM))

    command = [sys.executable, "-c", SERVER, loop]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=limit) as process:
        try:
            assert process.stdout is not None
            yield Small(process, json.loads(process.stdout.readline())["address"])
        finally:
            if process.poll() is None:
                process.kill()


async def ask(server: Small, method: str, returns: Any) -> Any:
    """One call of a client that comes for it and leaves again."""
    async with holdfast.connect(server.address, attempts=1) as client:
        return await client.call(method, returns=returns, deadline=PATIENCE_S)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_strangers_cannot_keep_good_clients_out(loop: str) -> None:
    with small_server(loop) as server, ExitStack() as stack:
        for _ in range(STRANGERS):
            stack.enter_context(closing(server.stranger()))
        connections, descriptors = await ask(server, "small.look", list[int])
        assert connections <= ROOM
        assert descriptors < 2 * ROOM
        refusals = server.refusals()
        assert sum(line["count"] for line in refusals) >= STRANGERS + 1 - ROOM
        assert {line["reason"] for line in refusals} <= {
            "cut to make room: it had not said hello yet",
            "no handshake within 5 s",
            "the peer closed the connection",
            "the server is going down",
        }
        assert len(refusals) < 20


@pytest.mark.slow
async def test_clients_keep_good_clients_out_and_are_told_so() -> None:
    with small_server("uvloop") as server:
        clients = [holdfast.connect(server.address, attempts=1) for _ in range(ROOM)]
        try:
            for client in clients:
                await client.__aenter__()
                await client.ready(deadline=PATIENCE_S)
            with pytest.raises(holdfast.Unavailable, match=r"no room at .*: 32 connections are open, the limit; try again later") as caught:
                await ask(server, "small.look", list[int])
            assert caught.value.executed == "no"
            await clients.pop().close()
            assert (await ask(server, "small.look", list[int]))[0] <= ROOM
        finally:
            for client in clients:
                await client.close()


@pytest.mark.slow
async def test_a_service_that_uses_up_its_descriptors_serves_whom_it_has_and_recovers() -> None:
    with small_server("uvloop") as server:
        async with holdfast.connect(server.address, attempts=1) as inside:
            assert await inside.call("small.hoard", returns=int, deadline=PATIENCE_S) > 10
            with pytest.raises(holdfast.Unavailable, match="Too many open files; raise `ulimit -n`; try again later"):
                await ask(server, "small.look", list[int])
            await inside.call("small.let_go", returns=None, deadline=PATIENCE_S)
            await ask(server, "small.look", list[int])
        (refusal,) = [line for line in server.refusals() if "no room" in line["reason"]]
        assert refusal["count"] == 1
