"""A network with TLS around one without: `tls://host:port` is the same place as `tcp://host:port` below, with a TlsLink between.

Owns: what a handshake that came to nothing means to each side: a fact for a server, an error for whoever connects.
What may never happen here: plain text at a `tls://` address; a link handed out before its handshake is complete.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ..control.wheel import Wheel
from ..errors import ConfigError, Unavailable
from ..facts import ConnectionRefused, Emit
from .address import Address
from .link import DatagramEndpoint, DatagramOptions, Link, Listening, ListenOptions, Network, Receiver, WhenFull
from .sockets import reason_of
from .tls import Opening, Refused, TlsLink
from .trust import TlsConfig, TlsContexts

HOLDFAST = ("holdfast/1",)
"""The name of holdfast's own protocol in ALPN. Both sides insist on it, so neither talks to something else that has a certificate."""


class SecureNetwork:
    """Links with TLS at `tls://` addresses; every other scheme is the business of the network below.

    Args:
        server: needed to listen. client: needed to connect.
    """

    def __init__(self, below: Network, wheel: Wheel, *, server: TlsContexts | None = None, client: TlsContexts | None = None) -> None:
        self._below = below
        self._wheel = wheel
        self._server = server
        self._client = client

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link; at a `tls://` address the handshake is complete when this returns. See `Network.connect`.

        `timeout_s` is for connecting; the handshake has its own time (`TlsConfig.handshake_timeout_s`).

        Raises: Unavailable naming the address, why, and what to do. ConfigError for an address that is not for this network.
        Cancel: loses nothing; no socket stays open.
        """
        if address.scheme != "tls":
            return await self._below.connect(address, make_receiver, timeout_s=timeout_s)
        if self._client is None:
            raise ConfigError(f"cannot connect to {address}: this network was given no TLS for clients")
        self._client.refresh(self._wheel.now())
        plain = msgspec.structs.replace(address, scheme="tcp")
        dial = _Dial(address, make_receiver, self._wheel, self._client)
        link = TlsLink(dial)
        try:
            await self._below.connect(plain, lambda: link, timeout_s=timeout_s)
            await dial.done
        except (Unavailable, ConfigError) as error:
            link.abort()
            raise _said_of(error, plain, address) from error.__cause__
        except BaseException:
            link.abort()
            raise
        return link

    async def lookup(self, address: Address) -> list[Address]:
        """What an address stands for at the moment; see `Network.lookup`. Raises: OSError. Cancel: loses nothing."""
        if address.scheme != "tls":
            return await self._below.lookup(address)
        found = await self._below.lookup(msgspec.structs.replace(address, scheme="tcp"))
        return [msgspec.structs.replace(each, scheme="tls") for each in found]

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        """Accept links at `address`; at a `tls://` address each has its receiver when its handshake is complete. See `Network.listen`.

        A peer that does not come so far is a ConnectionRefused. When the listener is full the oldest of those makes room.

        Raises: ConfigError saying why not, and what to do.
        Cancel: loses nothing; before the return nothing is open.
        """
        if address.scheme != "tls":
            return await self._below.listen(address, make_receiver, options, emit, when_full)
        if self._server is None:
            raise ConfigError(f"cannot listen at {address}: this network was given no TLS for servers")
        plain = msgspec.structs.replace(address, scheme="tcp")
        door = _Door(make_receiver, self._wheel, self._server, emit, when_full)
        room = WhenFull(make_room=door.make_room)  # and no last words: they would not be TLS
        try:
            listening = await self._below.listen(plain, lambda: TlsLink(door), options, emit, room)
        except ConfigError as error:
            raise _said_of(error, plain, address) from error.__cause__
        return _SecureListening(listening, door)

    async def datagrams(
        self,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connect: bool,
    ) -> DatagramEndpoint:
        """Open a datagram endpoint of the network below; there is no TLS for datagrams here. See `Network.datagrams`.

        Raises: as below. Cancel: as below.
        """
        return await self._below.datagrams(address, make_protocol, options, emit, connect=connect)


class _SecureListening:
    """A listener below, under its `tls://` name. Closing it also cuts those whose handshake is not done: nobody waits for them."""

    def __init__(self, below: Listening, door: _Door) -> None:
        self._below = below
        self._door = door

    @property
    def address(self) -> Address:
        return msgspec.structs.replace(self._below.address, scheme="tls")

    @property
    def options(self) -> Mapping[str, object]:
        return self._below.options

    def close(self) -> None:
        self._below.close()
        self._door.close()


def _said_of(error: Unavailable | ConfigError, below: Address, address: Address) -> Unavailable | ConfigError:
    """The same error about the address that was asked for."""
    return type(error)(str(error).replace(str(below), str(address)), retry_after_s=error.retry_after_s)


class _Door(Opening):
    """The server's side of every handshake at one address."""

    waits_for_hello = True

    def __init__(
        self, make_receiver: Callable[[], Receiver], wheel: Wheel, contexts: TlsContexts, emit: Emit, when_full: WhenFull | None
    ) -> None:
        super().__init__(make_receiver, wheel, contexts.config.handshake_timeout_s, contexts.protocols)
        self._contexts = contexts
        self._emit = emit
        self._when_full = when_full or WhenFull()
        self._half_open: dict[TlsLink, None] = {}
        self._leaving: dict[TlsLink, None] = {}  # refused, and given time to read why
        self._closed = False

    def make_room(self) -> bool:
        """Cut who was refused and has not gone, or the oldest whose handshake is not done; of those that are open the server chooses."""
        if self._leaving:
            self._leaving.popitem()[0].abort()
            return True
        for link in self._half_open:
            link.turn_away("its TLS handshake was not done when the room was needed")
            return True
        return self._when_full.make_room is not None and self._when_full.make_room()

    def close(self) -> None:
        """Cut every link whose handshake is not done, and those that are just being accepted."""
        self._closed = True
        for link in list(self._half_open):
            link.turn_away("the listener was closed during its TLS handshake")
        for link in list(self._leaving):
            link.abort()
        self._leaving.clear()

    def began(self, link: TlsLink) -> bool:
        self._half_open[link] = None
        return not self._closed

    def opened(self, link: TlsLink) -> None:
        self._half_open.pop(link, None)

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._contexts.current.wrap_bio(incoming, outgoing, server_side=True)

    def has_ended(self, sslobj: ssl.SSLObject) -> bool:
        return self._contexts.has_ended(sslobj)

    def refused(self, link: TlsLink, error: Exception) -> None:
        self._half_open.pop(link, None)
        self._leaving[link] = None
        self._emit(ConnectionRefused(link.peer, _reason(error)))

    def gone(self, link: TlsLink) -> None:
        self._leaving.pop(link, None)


class _Dial(Opening):
    """The client's side of one handshake."""

    def __init__(self, address: Address, make_receiver: Callable[[], Receiver], wheel: Wheel, contexts: TlsContexts) -> None:
        config = contexts.config
        super().__init__(make_receiver, wheel, config.handshake_timeout_s, contexts.protocols)
        self._address = address
        self._contexts = contexts
        self._name = config.server_name or address.host.partition("%")[0].rstrip(".")
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def _place(self) -> tuple[str, str]:
        return str(self._address), self._name

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        session = self._contexts.recall(self._place)
        return self._contexts.current.wrap_bio(incoming, outgoing, server_hostname=self._name, session=session)

    def has_ended(self, sslobj: ssl.SSLObject) -> bool:
        return self._contexts.has_ended(sslobj)

    def heard(self, sslobj: ssl.SSLObject) -> None:
        self._contexts.remember(self._place, sslobj)

    def opened(self, link: TlsLink) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def refused(self, link: TlsLink, error: Exception) -> None:
        if self.done.done():
            return
        if isinstance(error, Refused | OSError):
            said = Unavailable(f"cannot connect to {self._address}: {_reason(error)}")
            said.__cause__ = error
            self.done.set_exception(said)
        else:
            self.done.set_exception(error)  # of the receiver
        self.done.exception()  # nobody may be left to hear it


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, OSError):
        return f"the connection was lost during the TLS handshake: {reason_of(error)}"
    return f"its receiver failed at once: {error!r}"


# -------------------------------------------------------------------------------------------------------------------- for the roofs


def check_tls(addresses: Sequence[Address], tls: TlsConfig | None, *, insecure: bool, server: bool) -> None:
    """Hold addresses to the rule: what other machines can reach has TLS, or somebody said that they know.

    Raises: ConfigError that says what to write.
    """
    for address in addresses:
        if address.scheme == "tls":
            if server and (tls is None or not tls.certificate):
                raise ConfigError(f"{address} needs a certificate: pass tls=TlsConfig(certificate=…, key=…), or --tls-cert and --tls-key")
        elif not address.is_local and not insecure:
            where = "can be reached from other machines" if server else "is not on this machine"
            what_to_do = "use tls://, or pass insecure=True (or --insecure) if that network is trusted"
            raise ConfigError(f"{address} {where} and has no TLS; {what_to_do}")
    if tls is not None and all(address.scheme != "tls" for address in addresses):
        raise ConfigError(f"TLS was configured, and {addresses[0]} does not use it; write tls://")


def secure_server(
    below: Network,
    wheel: Wheel,
    addresses: Sequence[Address],
    tls: TlsConfig | None,
    protocols: tuple[str, ...],
    emit: Emit,
    wall_s: Callable[[], float],
) -> tuple[Network, TlsContexts | None]:
    """Put TLS around a server's network, where an address asks for it; the contexts watch their files until they are closed.

    Raises: ConfigError naming the file that cannot be used.
    """
    if tls is None or all(address.scheme != "tls" for address in addresses):
        return below, None
    contexts = TlsContexts(tls, "server", protocols, emit, wall_s)
    contexts.watch(wheel)
    return SecureNetwork(below, wheel, server=contexts), contexts


def secure_client(
    below: Network,
    wheel: Wheel,
    needed: bool,
    tls: TlsConfig | None,
    protocols: tuple[str, ...],
    emit: Emit,
    wall_s: Callable[[], float],
) -> Network:
    """Put TLS around a client's network, if an address may ask for it (`needed`). Without a configuration it trusts what the system trusts.

    Raises: ConfigError naming the file that cannot be used.
    """
    if not needed:
        return below
    return SecureNetwork(below, wheel, client=TlsContexts(tls or TlsConfig(), "client", protocols, emit, wall_s))
