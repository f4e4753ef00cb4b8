"""The yardstick: the least multiplexed RPC that can be written, without reliability."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from bench import yardstick
from bench.peers import says

yardstick.importable()

import l1  # noqa: E402 - found by the line above


async def serve(variant: str = "") -> None:
    """Serve until a signal. With the variant `task` the handler suspends once, in a task per request: it cannot otherwise."""
    loop = asyncio.get_running_loop()
    module = l1.build({"s_task", "s_async"} if variant == "task" else set())
    if variant == "task":

        async def suspending(message: Any) -> Any:
            await asyncio.sleep(0)
            return message

        module.h_echo = suspending
    server = await loop.create_server(lambda: module.Server(loop), "127.0.0.1", 0, backlog=1024)
    says(server.sockets[0].getsockname()[1])
    await loop.create_future()


class Link:
    """One connection."""

    def __init__(self, client: Any, module: types.ModuleType) -> None:
        self._client = client
        self._module = module
        self.echo = self.suspend = client.echo
        self.bulk: Any = client.bulk

    def items(self, count: int) -> AsyncIterator[Any]:
        """Give the items of a stream: what the yardstick's `stream` begins with, before it counts them."""
        client, module = self._client, self._module
        for number in [number for number, stream in client.streams.items() if stream.done and not stream.items]:
            del client.streams[number]
        stream: AsyncIterator[Any] = module.Stream(client)
        client.streams[client.send(module.STREAM, module.encode(module.IntMsg(count)))] = stream
        return stream

    def close(self) -> Awaitable[None]:
        """Close the connection."""
        closed: Awaitable[None] = self._client.close()
        return closed


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    loop = asyncio.get_running_loop()
    module = l1.build(set())
    _, client = await loop.create_connection(lambda: module.Client(loop), "127.0.0.1", where["port"])
    return Link(client, module)


async def dial(where: dict[str, Any]) -> Link:
    """Return a link for one call."""
    return await connect(where, 1)
