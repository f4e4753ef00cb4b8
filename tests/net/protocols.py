"""Protocols that write down what they are told, servers to host them on, and a link that notes what a transport says to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import holdfast
from holdfast.facts import Fact
from holdfast.net.hosted import Hosted
from holdfast.net.transport import LinkTransport

PATIENCE_S = 20.0
Factory = Callable[[], asyncio.BaseProtocol]


class Told:
    """What a protocol was told: each callback once, runs of data as one entry with all their bytes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._changed: list[asyncio.Future[None]] = []

    def note(self, name: str, value: Any = None) -> None:
        if name == "data" and self.calls and self.calls[-1][0] == "data":
            value = self.calls.pop()[1] + value
        self.calls.append((name, value))
        waiting, self._changed = self._changed, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, name: str, value: Any = None) -> None:
        """Wait for a callback; of data, until at least `value` came in all."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(call == name and (value is None or got.endswith(value)) for call, got in self.calls):
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._changed.append(waiter)
                await waiter


class Base(asyncio.BaseProtocol):
    """What both kinds of protocol of these tests have in common."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.note("made")

    def eof_received(self) -> bool | None:
        self.told.note("eof")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.note("lost", type(exc).__name__ if exc is not None else None)

    def pause_writing(self) -> None:
        self.told.note("pause")

    def resume_writing(self) -> None:
        self.told.note("resume")


class Plain(Base, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.told.note("data", data)


class Buffered(Base, asyncio.BufferedProtocol):
    """Takes seven bytes at a time."""

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.buffer = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        assert sizehint != 0
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.told.note("data", bytes(self.buffer[:nbytes]))


@contextlib.asynccontextmanager
async def stock(factory: Factory) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def ours(factory: Factory) -> AsyncIterator[int]:
    async with holdfast.serve(factory, bind="tcp://127.0.0.1:0") as server:
        yield int(server.addresses[0].rpartition(":")[2])


class NotingLink:
    """A link that writes down what it is told."""

    certificate = None

    def __init__(self, peer: str = "tcp://10.0.0.1:5000") -> None:
        self.local = "memory://here"
        self.peer = peer
        self.said: list[Any] = []
        self.closing = False

    def write(self, data: bytes) -> bool:
        self.said.append(data)
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return 42

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        self.said.append((high_bytes, low_bytes))

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def close(self) -> None:
        self.closing = True
        self.said.append("close")

    def abort(self) -> None:
        self.closing = True
        self.said.append("abort")

    def is_closing(self) -> bool:
        return self.closing


def hosted(make: Callable[[Told], asyncio.BaseProtocol] = Plain, **more: Any) -> tuple[Hosted, NotingLink, LinkTransport, Told, list[Fact]]:
    facts: list[Fact] = []
    told, link = Told(), NotingLink()
    more = {"on_closed": lambda hosted: None, **more}
    one = Hosted(lambda: make(told), facts.append, "server", **more)
    one.link_made(link)
    assert one.transport is not None
    return one, link, one.transport, told, facts
