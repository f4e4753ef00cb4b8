"""Any asyncio protocol on our links: the shell alone, for people who have a protocol and keep it.

Owns: `Hosted`, the receiver that gives the bytes of a link to an `asyncio.Protocol` or `asyncio.BufferedProtocol`, and how a server hosts a
protocol of datagrams. What the protocol writes to is in `transport.py`.

What may never happen here: an exception of a protocol that reaches the loop or another connection; a callback after `connection_lost`, or
from inside a method of the transport, `pause_writing` apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, cast

from ..errors import ConfigError
from ..facts import ConnectionClosed, ConnectionOpened, Emit, ProtocolFailed
from .address import Address
from .link import DatagramEndpoint, DatagramOptions, Link, Network
from .transport import LinkTransport

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def check_factory(factory: object, addresses: Iterable[Address]) -> ProtocolFactory:
    """Return what makes a protocol for each connection, or for each of the `udp://` addresses.

    Raises: ConfigError for what cannot be one; each message says what to pass.
    """
    if isinstance(factory, asyncio.BaseProtocol):
        name = type(factory).__name__
        raise ConfigError(f"expected what makes a {name} for each connection, and got one {name}; pass the class, or a function")
    if not callable(factory):
        raise ConfigError(f"expected a Service, several, or what makes an asyncio.Protocol, and got {type(factory).__name__}")
    for address in addresses:
        if not isinstance(factory, type):
            break  # what a function makes is seen when it has made it
        if address.scheme == "udp" and not hasattr(factory, "datagram_received"):
            raise ConfigError(f"{address} carries datagrams, and {factory.__name__} is no asyncio.DatagramProtocol")
        if address.scheme != "udp" and not hasattr(factory, "data_received") and not hasattr(factory, "get_buffer"):
            raise ConfigError(f"{address} carries a stream of bytes, and {factory.__name__} is no asyncio.Protocol")
    return cast("ProtocolFactory", factory)


async def listen_for_datagrams(
    network: Network, address: Address, factory: ProtocolFactory, options: DatagramOptions, emit: Emit
) -> HostedEndpoint:
    """Open a `udp://` address of a server. Raises: as `Network.datagrams`. Cancel: loses nothing."""
    make = cast("Callable[[], asyncio.DatagramProtocol]", factory)
    return HostedEndpoint(await network.datagrams(address, make, options, emit, connect=False), emit)


class HostedEndpoint:
    """A protocol of datagrams, as a listener of its server: it ends when the server stops accepting.

    Its protocol may send a last word in `drain_requested`; what it sends then leaves.
    """

    def __init__(self, endpoint: DatagramEndpoint, emit: Emit) -> None:
        self._endpoint = endpoint
        self._emit = emit

    @property
    def address(self) -> Address:
        """Where it is bound, with the port the kernel chose."""
        return self._endpoint.address

    @property
    def options(self) -> Mapping[str, object]:
        """Its buffers, as the kernel has them."""
        stats = self._endpoint.stats()
        return {"receive_buffer_bytes": stats.receive_buffer_bytes, "send_buffer_bytes": stats.send_buffer_bytes}

    def close(self) -> None:
        """Tell the protocol, then close. Idempotent."""
        endpoint = self._endpoint
        if not endpoint.transport.is_closing():
            _tell_drain(endpoint.protocol, str(endpoint.address), self._emit)
        endpoint.close()

    async def gone(self, within_s: float) -> None:
        """Wait until what is queued has left, at most `within_s` seconds; then cut. Cancel: cut at once."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._endpoint.closed)
        except TimeoutError:
            pass
        finally:
            self._endpoint.abort()


async def endpoints_gone(listeners: Iterable[object], within_s: float) -> None:
    """Wait for the end of those listeners that are endpoints and were closed. Cancel: they are cut at once."""
    for endpoint in listeners:
        if isinstance(endpoint, HostedEndpoint):
            await endpoint.gone(within_s)


def _tell_drain(protocol: object, address: str, emit: Emit) -> bool:
    """Call `drain_requested`, where there is one. Returns False when it raised."""
    drain_requested = getattr(protocol, "drain_requested", None)
    if drain_requested is not None:
        try:
            drain_requested()
        except Exception as error:
            emit(ProtocolFailed(address, "drain_requested", error))
            return False
    return True


class Drainable(Protocol):
    """A protocol that wants to know when its server goes down. Without this method it gets `drain_s` to end by itself, then is closed."""

    def drain_requested(self) -> None:
        """The server accepts no more. Finish what is in flight, take nothing new, then close the transport."""


class Hosted:
    """One connection of a protocol: the receiver of its link, and what a roof needs to count, drain and cut it.

    Args:
        make_protocol: called once, here. What it raises is raised.
        side: `server` or `client`, for the facts.
        is_draining: whether the server is going down; a protocol that comes so late is told at once.
        on_closed: told when the connection is over, after the protocol's `connection_lost`.
        on_asked: told when the protocol, or somebody else with its transport, asks for the end; each time, also when it is over.

    Attributes:
        asked_to_close: whether it ended, or will, because we wanted it to.
        closed: whether it is over.
    """

    __slots__ = (
        "_emit",
        "_is_draining",
        "_on_asked",
        "_on_closed",
        "_side",
        "_told",
        "asked_to_close",
        "closed",
        "link",
        "protocol",
        "transport",
    )

    def __init__(
        self,
        make_protocol: ProtocolFactory,
        emit: Emit,
        side: str,
        *,
        is_draining: Callable[[], bool] = lambda: False,
        on_closed: Callable[[Hosted], None],
        on_asked: Callable[[], None] = lambda: None,
    ) -> None:
        self._emit = emit
        self._side = side
        self._is_draining = is_draining
        self._on_closed = on_closed
        self._on_asked = on_asked
        self._told = False
        self.asked_to_close = False
        self.closed = False
        self.link: Link | None = None
        self.transport: LinkTransport | None = None
        self.protocol = make_protocol()

    # ------------------------------------------------------------------------------------------------------------- from the link

    def link_made(self, link: Link) -> None:
        """The connection is there: the protocol gets its transport."""
        self.link = link
        self.transport = LinkTransport(link, self.protocol, self._close_asked)
        self._emit(ConnectionOpened(self._side, link.peer))
        try:
            self.protocol.connection_made(self.transport)
        except Exception as error:
            self._failed("connection_made", error)
            raise
        if self._is_draining():
            self.say_goodbye()

    def bytes_received(self, data: memoryview | bytes) -> int:
        """Give the protocol what came: a copy, or into its own buffer."""
        transport = self.transport
        assert transport is not None
        try:
            if transport._buffered:
                return self._fill_buffers(transport, memoryview(data))
            transport._protocol.data_received(bytes(data))
        except Exception as error:
            self._failed("buffer_updated" if transport._buffered else "data_received", error)
            raise
        return len(data)

    def _fill_buffers(self, transport: LinkTransport, data: memoryview) -> int:
        """Copy into the buffers a BufferedProtocol gives, until it wants no more or is another one."""
        used, size = 0, len(data)
        while used < size and transport._reading and not transport._link.is_closing():
            if not transport._buffered:
                transport._protocol.data_received(bytes(data[used:]))
                return size
            with memoryview(transport._protocol.get_buffer(size - used)).cast("B") as buffer:
                room = min(len(buffer), size - used)
                if not room:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:room] = data[used : used + room]
            transport._protocol.buffer_updated(room)
            used += room
        return used

    def eof_received(self) -> bool:
        """The peer will send no more. Returns whether the protocol wants to go on writing."""
        assert self.transport is not None
        try:
            return bool(self.transport._protocol.eof_received())
        except Exception as error:
            self._failed("eof_received", error)
            raise

    def pause_writing(self) -> None:
        """The peer reads slower than the protocol writes."""
        self._flow(True)

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._flow(False)

    def _flow(self, pause: bool) -> None:
        transport = self.transport
        assert transport is not None
        transport._protocol_paused = pause
        try:
            if pause:
                transport._protocol.pause_writing()
            else:
                transport._protocol.resume_writing()
        except Exception as error:
            self._failed("pause_writing" if pause else "resume_writing", error)
            raise

    def link_lost(self, error: Exception | None) -> None:
        """The end: the protocol hears of it, whoever it is by now, and is let go."""
        transport, link = self.transport, self.link
        assert transport is not None
        assert link is not None
        self.closed = True
        protocol, transport._protocol = transport._protocol, None
        transport._buffered = False
        try:
            protocol.connection_lost(error)
        except Exception as raised:
            self._failed("connection_lost", raised)
        if error is not None:
            reason = str(error) or type(error).__name__
        else:
            reason = "closed by us" if self.asked_to_close else "the peer closed the connection"
        self._emit(ConnectionClosed(self._side, link.peer, reason))
        self._on_closed(self)

    def _failed(self, callback: str, error: Exception) -> None:
        assert self.link is not None
        self._emit(ProtocolFailed(self.link.peer, callback, error))

    def _close_asked(self) -> None:
        self.asked_to_close = True
        self._on_asked()

    # ------------------------------------------------------------------------------------------------------------- from the roof

    def tell_status(self) -> None:
        """A protocol that is not ours has no frame for it."""

    def say_goodbye(self) -> None:
        """The server is going down: tell the protocol, if it wants to know. Once."""
        if self.transport is None or self._told:
            return
        self._told = True
        assert self.link is not None
        if not _tell_drain(self.transport._protocol, self.link.peer, self._emit):
            self.link.abort()

    def cut_off(self) -> int:
        """The time to end is over: close, and let what is written leave. Returns how many connections that cut short, 1 or 0."""
        if self.transport is None or self.transport.is_closing():
            return 0
        self.transport.close()
        return 1
