"""What a server is worth when strangers take all its descriptors: ours beside asyncio's own.

Each server runs in a process of its own with 64 descriptors. 200 connections come and say nothing. Then, for some seconds each: they stay
as they are; and each comes back as soon as it is closed. Measured meanwhile: the processor's time the server takes, the lines it writes,
and how long a good client needs from nothing to its answer. Linux only: the figures come from /proc.

    python bench/exhaustion.py [--seconds 6]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

DESCRIPTORS = 64
STRANGERS = 200
GIVE_UP_S = 5.0
TRIES = 8


# ------------------------------------------------------------------------------------------------------------- the servers


def serve_ours(loop: str) -> None:
    """A service, its log on stderr, its port on stdout."""
    from datetime import UTC, datetime

    import holdfast
    from holdfast.clock import SystemClock
    from holdfast.observe.log import JsonLog

    svc = holdfast.Service("echo")

    @svc.method
    async def say(text: str) -> str:
        return text

    async def main() -> None:
        log = JsonLog(sys.stderr, wall=lambda: datetime.now(UTC), clock=SystemClock())
        async with holdfast.serve(svc, bind="tcp://127.0.0.1:0", emit=log) as server:
            print(server.addresses[0].rpartition(":")[2], flush=True)
            await server.wait_closed()

    if loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


def serve_theirs() -> None:
    """asyncio's own server as its documentation has it: a line comes back."""
    import logging

    logging.basicConfig()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------------------- the good clients


async def call_ours(port: int) -> None:
    """From nothing to an answer, by the service."""
    import holdfast

    async with holdfast.connect(f"tcp://127.0.0.1:{port}") as client:
        assert await client.call("echo.say", "hello", returns=str, deadline=GIVE_UP_S) == "hello"


async def call_theirs(port: int) -> None:
    """The same, by a line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    finally:
        writer.close()


def time_to_answer(call: Callable[[int], Awaitable[None]], port: int) -> float:
    """Seconds until a new client has its answer; infinity when it has none within GIVE_UP_S."""

    async def once() -> float:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await call(port)
        except Exception:
            return float("inf")
        return time.perf_counter() - began

    return asyncio.run(once())


# ------------------------------------------------------------------------------------------------------------ the strangers


class Strangers:
    """Connections that say nothing, in a thread. When `persistent`, each comes back as soon as it is closed."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._over = False
        self._count = count
        self.persistent = False
        self.came = 0
        self._fill()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _fill(self) -> None:
        while len(self._selector.get_map()) < self._count:
            stranger = socket.socket()
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", self._port))
            self._selector.register(stranger, selectors.EVENT_READ)
            self.came += 1

    def _watch(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.05):
                stranger = key.fileobj
                assert isinstance(stranger, socket.socket)
                try:
                    gone = not stranger.recv(4096)
                except BlockingIOError:
                    continue
                except OSError:
                    gone = True
                if gone:
                    self._selector.unregister(stranger)
                    stranger.close()
            if self.persistent:
                self._fill()

    def close(self) -> None:
        self._over = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------- measuring


class Server:
    """A server in its own process."""

    def __init__(self, kind: str) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))

        command = [sys.executable, __file__, "--serve", kind]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.lines = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        assert self.process.stderr is not None
        for _ in self.process.stderr:
            self.lines += 1

    def cpu_s(self) -> float:
        """The processor's time it has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def measure(server: Server, strangers: Strangers, call: Callable[[int], Awaitable[None]], seconds: float) -> str:
    """CPU and lines while nobody else asks, then the worst of some good clients."""
    cpu, lines, came, began = server.cpu_s(), server.lines, strangers.came, time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    cpu_percent, lines_per_s, came_per_s = (
        (server.cpu_s() - cpu) / took * 100,
        (server.lines - lines) / took,
        (strangers.came - came) / took,
    )
    answers = [time_to_answer(call, server.port) for _ in range(TRIES)]
    got = [each for each in answers if each < GIVE_UP_S]
    best = f"{max(got):6.3f} s" if got else "   none"
    return f"{came_per_s:10.0f}/s  {cpu_percent:8.1f} %  {lines_per_s:8.1f}  {best:>20}  {len(got):7}/{TRIES}"


def warm_up() -> None:
    """Import what the good clients need: that is not what they are timed for."""
    server = Server("ours-asyncio")
    try:
        time_to_answer(call_ours, server.port)
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each state lasts")
    arguments = parser.parse_args()
    if arguments.serve == "asyncio":
        serve_theirs()
    elif arguments.serve:
        serve_ours(arguments.serve.removeprefix("ours-"))
    else:
        print(f"{DESCRIPTORS} descriptors, {STRANGERS} strangers, Python {sys.version.split()[0]}")
        print(f"{'':34} {'strangers':>12}  {'processor':>10}  {'lines/s':>8}  {'slowest good client':>20}  {'answered':>9}")
        warm_up()
        for kind, call in (("ours-uvloop", call_ours), ("ours-asyncio", call_ours), ("asyncio", call_theirs)):
            server = Server(kind)
            strangers = Strangers(server.port, STRANGERS)
            name = {"ours-uvloop": "holdfast on uvloop", "ours-asyncio": "holdfast on asyncio", "asyncio": "asyncio's own"}[kind]
            try:
                print(f"{name + ', they stay':34} {measure(server, strangers, call, arguments.seconds)}", flush=True)
                strangers.persistent = True
                print(f"{name + ', they come back':34} {measure(server, strangers, call, arguments.seconds)}", flush=True)
            finally:
                strangers.close()
                server.close()


if __name__ == "__main__":
    main()
