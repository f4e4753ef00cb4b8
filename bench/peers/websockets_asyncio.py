"""websockets: its asyncio server and client on uvloop, no compression; msgpack by msgspec, replies matched by number."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen

from bench.peers import says
from bench.peers.common import Numbered, Pending, decode_numbered, encode


async def answer(peer: ServerConnection) -> None:
    """Give back what comes. Cancel: stops it."""
    async for body in peer:
        await peer.send(encode(decode_numbered(body)))


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""
    async with listen(answer, "127.0.0.1", 0, compression=None) as server:
        says(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


class Link:
    """One connection, and the task that reads its replies."""

    def __init__(self, peer: ClientConnection) -> None:
        self._peer = peer
        self._pending = Pending()
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for body in self._peer:
            self._pending.settle(body)

    async def echo(self, a: int, s: str) -> Numbered:
        """Give back what came. Cancel: the reply is lost."""
        body, future = self._pending.add(a, s)
        await self._peer.send(body)
        return await future

    async def close(self) -> None:
        """Close the connection. Cancel: the rest is dropped."""
        await self._peer.close()
        await self._reader


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    return Link(await open_connection(f"ws://127.0.0.1:{where['port']}", compression=None))
