"""nats-py: a responder and a requester, on uvloop, with nats-server between them, which may use both cores."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.peers import PEERS, says
from bench.peers.common import Echo, decode, encode, free_port, is_open

SUBJECT = "bench.echo"
WAIT_S = 10.0


def all_cores() -> None:
    """Let the broker go where the kernel puts it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


async def serve() -> None:
    """Start the broker and answer until a signal. Cancel: stops it."""
    port = free_port()
    program = PEERS["nats"].program_path()
    assert program is not None
    broker = await asyncio.create_subprocess_exec(
        *(program, "-a", "127.0.0.1", "-p", str(port)), preexec_fn=all_cores, stderr=subprocess.DEVNULL
    )
    async with asyncio.timeout(WAIT_S):
        while not is_open(port):  # noqa: ASYNC110 - another process's port has no event
            await asyncio.sleep(0.02)

    async def echo(message: Msg) -> None:
        await message.respond(encode(decode(message.data)))

    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    await connection.subscribe(SUBJECT, cb=echo)
    await connection.flush()
    says(port)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        broker.terminate()


class Link:
    """One connection to the broker."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def echo(self, a: int, s: str) -> Echo:
        """Give back what came. Cancel: the reply is lost."""
        return decode((await self._connection.request(SUBJECT, encode(Echo(a, s)), timeout=WAIT_S)).data)

    async def close(self) -> None:
        """Close the connection. Cancel: the rest is dropped."""
        await self._connection.close()


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    return Link(await nats.connect(f"nats://127.0.0.1:{where['port']}"))
