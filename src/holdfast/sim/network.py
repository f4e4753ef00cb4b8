"""holdfast's `Network` for code that runs on a simulated host.

It is `KernelNetwork`, the one that production uses, over simulated sockets: door, acceptor, the race between addresses, links, TLS and
datagrams are the code that ships. One per loop, as in production; this object finds the one of the process that asks.

What may never happen here: anything that production does not do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from ..control.wheel import Wheel
from ..facts import Emit
from ..net.address import Address
from ..net.link import DatagramEndpoint, DatagramOptions, Link, Listening, Receiver, WhenFull
from ..net.network import KernelNetwork
from ..net.options import ListenOptions
from ..tasks import Scope


class SimNetwork:
    """See `Network`. Usable from any process of its host."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, KernelNetwork] = WeakKeyDictionary()

    def _here(self) -> KernelNetwork:
        loop = asyncio.get_running_loop()
        network = self._of.get(loop)
        if network is None:
            scope = Scope(lambda error: loop.call_exception_handler({"message": "adopting a connection failed", "exception": error}))
            network = self._of[loop] = KernelNetwork(scope.spawn, Wheel(loop.time, loop.call_at))
        return network

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """See `Network.connect`. Cancel: loses nothing."""
        return await self._here().connect(address, make_receiver, timeout_s=timeout_s)

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        """See `Network.listen`. Cancel: loses nothing."""
        return await self._here().listen(address, make_receiver, options, emit, when_full)

    async def lookup(self, address: Address) -> list[Address]:
        """See `Network.lookup`. Cancel: loses nothing."""
        return await self._here().lookup(address)

    async def datagrams(
        self,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connect: bool,
    ) -> DatagramEndpoint:
        """See `Network.datagrams`. Cancel: loses nothing."""
        return await self._here().datagrams(address, make_protocol, options, emit, connect=connect)
