"""What several peers share: the message, a client for HTTP, and finding a port.

What may never happen here: anything that makes a peer slower than its own documentation would have it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.peers import says

WAIT_S = 20.0


class Echo(msgspec.Struct, array_like=True, gc=False):
    """The same message that everybody sends."""

    a: int
    s: str


class Numbered(msgspec.Struct, array_like=True, gc=False):
    """The same, for transports that do not match replies with requests themselves."""

    number: int
    a: int
    s: str


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Echo).decode
decode_numbered = msgspec.msgpack.Decoder(Numbered).decode
encode_json = msgspec.json.Encoder().encode
decode_json = msgspec.json.Decoder(Echo).decode


class Pending:
    """The calls in flight of one connection, by number."""

    def __init__(self) -> None:
        self._new_future = asyncio.get_running_loop().create_future
        self._waiting: dict[int, asyncio.Future[Numbered]] = {}
        self._number = 0

    def add(self, a: int, s: str) -> tuple[bytes, asyncio.Future[Numbered]]:
        """Return what to send for a call, and what will have its reply."""
        self._number = number = self._number + 1
        self._waiting[number] = future = self._new_future()
        return encode(Numbered(number, a, s)), future

    def settle(self, body: Any) -> None:
        """Hand a reply to its call."""
        reply = decode_numbered(body)
        self._waiting.pop(reply.number).set_result(reply)


class HttpLink:
    """aiohttp's client with as many connections as calls in flight."""

    def __init__(self, port: int, in_flight: int) -> None:
        import aiohttp

        self._url = f"http://127.0.0.1:{port}/echo"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))

    async def echo(self, a: int, s: str) -> Echo:
        """Give back what came. Cancel: the request is dropped."""
        async with self._session.post(self._url, data=encode_json(Echo(a, s))) as response:
            return decode_json(await response.read())

    async def close(self) -> None:
        """Close all connections. Cancel: leaves some open."""
        await self._session.close()


def listening(backlog: int = 1024) -> socket.socket:
    """Return a socket that listens at a free port, for servers that take one."""
    ours = socket.socket()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ours.bind(("127.0.0.1", 0))
    ours.listen(backlog)
    ours.setblocking(False)
    return ours


def free_port() -> int:
    """Return a port that is free now, for servers that must be told one."""
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        return int(ours.getsockname()[1])


def is_open(port: int) -> bool:
    """Return whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def says_when_open(port: int, tell: Callable[[int], None] = says) -> None:
    """Say where we listen as soon as that is so, from a thread: for servers that do not come back once they serve."""

    def watch() -> None:
        give_up_at = time.monotonic() + WAIT_S
        while not is_open(port):
            if time.monotonic() > give_up_at:
                return
            time.sleep(0.02)
        tell(port)

    threading.Thread(target=watch, daemon=True).start()
