"""pyzmq: a DEALER that asks a ROUTER, both through zmq.asyncio on uvloop; msgpack by msgspec."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
import zmq.asyncio

from bench.peers import says
from bench.peers.common import Numbered, Pending, decode_numbered, encode


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    says(router.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        identity, body = await router.recv_multipart()
        await router.send_multipart([identity, encode(decode_numbered(body))])


class Link:
    """One DEALER, and the task that reads its replies."""

    def __init__(self, port: int) -> None:
        self._context = zmq.asyncio.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.connect(f"tcp://127.0.0.1:{port}")
        self._pending = Pending()
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        while True:
            self._pending.settle(await self._dealer.recv())

    async def echo(self, a: int, s: str) -> Numbered:
        """Give back what came. Cancel: the reply is lost."""
        body, future = self._pending.add(a, s)
        await self._dealer.send(body)
        return await future

    async def close(self) -> None:
        """Close the socket. Cancel: the rest is dropped."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._dealer.close(linger=0)
        self._context.term()


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    return Link(where["port"])
