"""picows, a WebSocket library in Cython, on uvloop: bare messages with a number, no RPC; msgpack by msgspec."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from bench.peers import says
from bench.peers.common import Numbered, Pending, decode_numbered, encode

BINARY = WSMsgType.BINARY


class Answering(WSListener):
    """The server's side."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Give back what came."""
        if frame.msg_type == BINARY:
            transport.send(BINARY, encode(decode_numbered(frame.get_payload_as_memoryview())))


class Asking(WSListener):
    """The client's side."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand a reply to its call."""
        if frame.msg_type == BINARY:
            self.pending.settle(frame.get_payload_as_memoryview())


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""
    server = await ws_create_server(lambda _request: Answering(), "127.0.0.1", 0)
    says(server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


class Link:
    """One connection."""

    def __init__(self, transport: WSTransport, pending: Pending) -> None:
        self._transport = transport
        self._pending = pending

    def echo(self, a: int, s: str) -> Awaitable[Numbered]:
        """Give back what came."""
        body, future = self._pending.add(a, s)
        self._transport.send(BINARY, body)
        return future

    async def close(self) -> None:
        """Close the connection. Cancel: loses nothing."""
        self._transport.disconnect()


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    transport, listener = await ws_connect(Asking, f"ws://127.0.0.1:{where['port']}/")
    return Link(transport, listener.pending)
