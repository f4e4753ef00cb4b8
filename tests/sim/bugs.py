"""Programs with bugs that a simulation is to find, and that other processes run too."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from functools import partial
from typing import Any

from holdfast.sim import World, run_world


class Swallowed(AssertionError):
    """A task was cancelled, and went on."""


async def wait_for_swallows(world: World) -> None:
    """CPython gh-86296: `wait_for` of 3.11 and older loses a cancellation that comes while the inner future is being finished."""
    state: Counter[str] = Counter()

    async def worker() -> None:
        while True:
            await asyncio.wait_for(asyncio.sleep(0.0005), 1)
            if state["cancelled"]:
                state["swallowed"] += 1
                return

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(worker())
        await asyncio.sleep(0.5)
        state["cancelled"] += 1
        task.cancel()
        await asyncio.wait([task], timeout=5)

    await world.host("a").start(main)
    if state["swallowed"]:
        raise Swallowed("the cancellation was swallowed")


class Shout(asyncio.Protocol):
    """Answers in capitals."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class Pong(asyncio.DatagramProtocol):
    """Answers each datagram."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"pong" + data, addr)


class Ping(asyncio.DatagramProtocol):
    """Counts answers."""

    def __init__(self) -> None:
        self.answers = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answers += 1


async def _serve() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await asyncio.sleep(0.001)
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()

    loop = asyncio.get_running_loop()
    streams = await asyncio.start_server(echo, "0.0.0.0", 7)
    await loop.create_server(Shout, port=8)
    await loop.create_datagram_endpoint(Pong, local_addr=("0.0.0.0", 9))
    async with streams:
        await streams.serve_forever()


async def _say(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("server", port)
    try:
        writer.write(data)
        return await reader.readexactly(len(data))
    finally:
        writer.close()


async def _use(name: str, said: list[Any]) -> None:
    transport, ping = await asyncio.get_running_loop().create_datagram_endpoint(Ping, remote_addr=("server", 9))
    for n in range(25):
        await asyncio.sleep(0.1)
        transport.sendto(b"%d" % n)
        try:
            async with asyncio.timeout(2):
                said.append((name, await _say(7, b"hello %d\n" % n)))
                said.append((name, len(await _say(8, b"abc" * 20_000))))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            said.append((name, type(error).__name__))
            await asyncio.sleep(0.5)
    said.append((name, ping.answers))
    transport.close()


async def everything(world: World) -> None:
    """Streams, protocols and datagrams of the standard library, on four hosts, with a fault of most kinds."""
    said: list[Any] = []
    server = world.host("server")
    server.start(_serve)
    await world.sleep(0.1)
    clients = [world.host(name) for name in ("c0", "c1", "c2")]
    world.link(server, clients, loss=0.1, duplicate=0.1, reorder=0.1)
    using = [client.start(partial(_use, client.name, said), name="use") for client in clients]
    await world.sleep(0.12)
    world.partition("server", "c1")
    await world.sleep(0.9)
    world.repair("server", "c1")
    world.reset("server", "c2")
    await world.sleep(0.3)
    server.power_loss()
    await world.sleep(1)
    server.restart()
    server.clock_drift(1.01)
    await asyncio.gather(*using)
    world.rng.stream("scenario").random()
    world.reached("the end")
    world.trace.add(world.now(), "said", "driver", repr(said))


if __name__ == "__main__":  # `python -m tests.sim.bugs FIRST LAST`: the digests of these seeds, run in a process of their own
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        print(run_world(everything, seed).digest)
