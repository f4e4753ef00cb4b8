"""Receivers that write down what they were told, and one place to listen and connect in, over each kind of network.

Nothing here sleeps: a test waits for a state with `Recorder.until`, which looks again each time the receiver was called.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from holdfast.control.wheel import Wheel
from holdfast.facts import Fact
from holdfast.net.address import Address, parse_address
from holdfast.net.link import Link, Listening, ListenOptions, Network, WhenFull
from holdfast.net.memory import MemoryNetwork
from holdfast.net.network import KernelNetwork
from holdfast.net.secure import SecureNetwork
from tests.net.papers import papers

KINDS = ("tcp4", "tcp6", "unix", "memory", "tls")
PATIENCE_S = 20.0


class Recorder:
    """A receiver that uses everything, and keeps a copy and the order of calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: Exception | None = None
        self.made_link: Link | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def link(self) -> Link:
        assert self.made_link is not None, "link_made has not come yet"
        return self.made_link

    @property
    def lost(self) -> bool:
        return "link_lost" in self.calls

    def link_made(self, link: Link) -> None:
        self.made_link = link
        self._note("link_made")

    def bytes_received(self, data: memoryview | bytes) -> int:
        self.data += data
        self._note("bytes_received")
        return len(data)

    def eof_received(self) -> None:
        self._note("eof_received")

    def link_lost(self, error: Exception | None) -> None:
        self.error = error
        self._note("link_lost")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    async def until(self, state: Callable[[], object]) -> None:
        """Return when `state()` is true; it is looked at after every call this receiver gets."""
        async with asyncio.timeout(PATIENCE_S):
            while not state():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _note(self, call: str) -> None:
        if not (call == "bytes_received" and self.calls[-1:] == [call]):  # a run of reads is one entry
            self.calls.append(call)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Echo(Recorder):
    """Sends back what comes."""

    def bytes_received(self, data: memoryview | bytes) -> int:
        self.link.write(bytes(data))
        return super().bytes_received(data)


class Place:
    """A network, an address to listen at, and what was made there. `make` can be exchanged before a connection comes."""

    def __init__(self, network: Network, address: Address, wheel: Wheel) -> None:
        self.network = network
        self.wanted = address
        self.wheel = wheel
        self.make: Callable[[], Recorder] = Recorder
        self.accepted: list[Recorder] = []
        self.connected: list[Recorder] = []
        self.facts: list[Fact] = []
        self.listening: Listening | None = None
        self.when_full: WhenFull | None = None

    @property
    def address(self) -> Address:
        assert self.listening is not None
        return self.listening.address

    async def listen(self, options: ListenOptions | None = None) -> Listening:
        self.listening = await self.network.listen(self.wanted, self._accept, options or ListenOptions(), self.facts.append, self.when_full)
        return self.listening

    def _accept(self) -> Recorder:
        receiver = self.make()
        self.accepted.append(receiver)
        return receiver

    async def connect(self, make: Callable[[], Recorder] = Recorder, timeout_s: float = PATIENCE_S) -> Recorder:
        receiver = make()
        await self.network.connect(self.address, lambda: receiver, timeout_s=timeout_s)
        self.connected.append(receiver)
        return receiver

    async def pair(self, make: Callable[[], Recorder] = Recorder) -> tuple[Recorder, Recorder]:
        """A connected client and server receiver, both made."""
        before = len(self.accepted)
        client = await self.connect(make)
        await turns_until(lambda: len(self.accepted) > before)
        server = self.accepted[-1]
        await server.until(lambda: "link_made" in server.calls)
        return client, server


@asynccontextmanager
async def place(kind: str, **limits: Any) -> AsyncIterator[Place]:
    """Somewhere to listen and connect; at the end every link is cut and must say so exactly once."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    folder = tempfile.mkdtemp(prefix="hf-")
    spawned: list[asyncio.Task[None]] = []

    def spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        spawned.append(loop.create_task(coroutine))
        return spawned[-1]

    texts = {"tcp4": "tcp://127.0.0.1:0", "tcp6": "tcp://[::1]:0", "unix": f"unix://{folder}/s", "memory": "memory://place"}
    texts["tls"] = "tls://127.0.0.1:0"
    network: Network = MemoryNetwork(wheel, **limits) if kind == "memory" else KernelNetwork(spawn, wheel, **limits)
    if kind == "tls":
        server, client = papers().server_contexts(), papers().client_contexts()
        network = SecureNetwork(network, wheel, server=server, client=client)
    here = Place(network, parse_address(texts[kind]), wheel)
    try:
        yield here
    finally:
        if here.listening is not None:
            here.listening.close()
        await asyncio.gather(*spawned)
        for receiver in (*here.connected, *here.accepted):
            if receiver.made_link is not None:
                receiver.link.abort()
                await receiver.until(lambda receiver=receiver: receiver.lost)  # type: ignore[misc]
                assert receiver.calls.count("link_lost") == 1
                assert receiver.calls[0] == "link_made"
                assert receiver.calls[-1] == "link_lost"
        shutil.rmtree(folder)


async def turns_until(state: Callable[[], object]) -> None:
    """Let the loop turn until `state()` is true: for what no receiver is told of."""
    async with asyncio.timeout(PATIENCE_S):
        while not state():  # noqa: ASYNC110 # there is no event to wait for: the state is the kernel's, or another task's
            await asyncio.sleep(0)


def open_sockets() -> int:
    """How many sockets this process holds. Other descriptors come and go with the loops' own needs."""
    found = 0
    for name in os.listdir("/dev/fd"):
        try:
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
        except OSError:
            pass  # the one that listed the folder
    return found
