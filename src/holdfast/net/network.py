"""The kernel's network: addresses become links.

Owns: connecting, from a name to a link (by `resolver.py` and `eyeballs.py`), and putting listeners together (`listener.py`, `door.py`).
What may never happen here: a socket that nobody closes, whatever is cancelled when; an OSError that reaches a caller as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from ..control.bucket import TokenBucket
from ..control.wheel import Wheel
from ..errors import ConfigError, Unavailable
from ..facts import Emit
from .address import Address
from .census import Census, room_for
from .door import Door, Spawn
from .eyeballs import Race
from .link import (
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    SEND_STALL_S,
    DatagramEndpoint,
    DatagramOptions,
    Link,
    Listening,
    Receiver,
    WhenFull,
)
from .listener import COSTLY_BURST, COSTLY_PER_S, Acceptor, OpenListener
from .options import ConnectOptions, ListenOptions
from .resolver import Resolver
from .sockets import (
    Socket,
    Target,
    descriptors_max,
    listen_tcp,
    listen_unix,
    read_options,
    reason_of,
    reset_on_close,
    set_nodelay,
    unix_target,
    unsent_bytes,
)
from .tcp import LINGER_S, LinkShared, StreamLink, printable
from .udp import open_endpoint, require_datagrams

DEFAULT_CONNECTING = ConnectOptions()


class KernelNetwork:
    """Links over TCP (IPv4, IPv6) and Unix sockets. One per loop.

    Args:
        spawn: runs a coroutine as a task that somebody watches; used once per accepted connection.
        send_stall_s: how long a peer may take nothing at all while more than `high_water_bytes` wait for it, in seconds.
        linger_s: how long a link that was closed waits for its peer's end while nothing moves (see `tcp.py`); 0 for not at all.
        connecting: how connections are made.
        resolver: looks names up; one of its own unless given.
    """

    def __init__(
        self,
        spawn: Spawn,
        wheel: Wheel,
        *,
        send_stall_s: float = SEND_STALL_S,
        high_water_bytes: int = HIGH_WATER_BYTES,
        low_water_bytes: int = LOW_WATER_BYTES,
        linger_s: float = LINGER_S,
        connecting: ConnectOptions = DEFAULT_CONNECTING,
        resolver: Resolver | None = None,
    ) -> None:
        self._spawn = spawn
        self._resolver = resolver if resolver is not None else Resolver()
        self._connecting = connecting
        self._everybody: Census | None = None  # made with the first listener
        self._shared = LinkShared(wheel, send_stall_s, high_water_bytes, low_water_bytes, unsent_bytes, reset_on_close, linger_s)

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link to `address`; of a name with several addresses, to the first that answers (`eyeballs.py`). See `Network.connect`.

        Raises: Unavailable naming address and reason, for each address that was tried. ConfigError for a scheme not for this network.
        Cancel: loses nothing; no socket stays open.
        """
        _require_stream(address)
        loop = asyncio.get_running_loop()
        link = StreamLink(self._shared, make_receiver, peer=str(address) if address.scheme == "unix" else "")
        race: Race | None = None
        connected: Socket | None = None
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                race = Race(loop, await self._targets(address), self._connecting)
                connected = await race.run()
                await loop.create_connection(lambda: link, sock=connected)
            if not link.lost:
                set_nodelay(connected, self._connecting.nodelay)  # the loops have a view of their own on it
            elif connected.fileno() >= 0:
                connected.detach()  # uvloop closed the descriptor of a connection lost so soon, and not the object that bears its number
        except BaseException as error:
            link.give_up()
            if connected is not None:
                connected.close()
            if not isinstance(error, OSError):
                raise
            late = isinstance(error, TimeoutError) and deadline.expired()  # a TimeoutError is an OSError
            reason = _why(race, f"no answer within {timeout_s:g} s" if late else "", error)
            raise Unavailable(f"cannot connect to {address}: {reason}") from error
        if link.local == link.peer and address.scheme == "tcp":
            # The kernel gave us the very port we asked for, and TCP let us connect to ourselves.
            link.abort()
            raise Unavailable(f"cannot connect to {address}: nobody listens there")
        if isinstance(link.error, OSError):
            raise Unavailable(f"cannot connect to {address}: {reason_of(link.error)}") from link.error
        if link.error is not None:
            raise link.error
        return link

    async def _targets(self, address: Address, *, passive: bool = False) -> list[Target]:
        if address.scheme == "unix":
            return [unix_target(address.path)]
        return await self._resolver.resolve(address.host, address.port, passive=passive, timeout_s=self._connecting.dns_timeout_s)

    async def lookup(self, address: Address) -> list[Address]:
        """What an address stands for at the moment; see `Network.lookup`. Raises: OSError. Cancel: loses nothing."""
        if address.scheme == "unix":
            return [address]
        targets = await self._targets(address)
        return [Address(address.scheme, _with_zone(*target.name), target.name[1]) for target in targets]

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        """Accept links at `address`; at every address its name stands for, with one port. See `Network.listen`.

        A dead socket file (one nobody listens at) is replaced; a live one, or anything else at that path, is left alone. `[::]` means
        IPv6 only: to take both, listen at 0.0.0.0 too.

        Raises: ConfigError saying why not, and what to do.
        Cancel: loses nothing; before the return nothing is open.
        """
        _require_stream(address)
        loop = asyncio.get_running_loop()
        if address.scheme == "unix":
            opened = [listen_unix(address, options)]
            bound = address
        else:
            try:
                targets = await self._targets(address, passive=True)
            except OSError as error:
                raise ConfigError(f"cannot listen at {address}: {reason_of(error)}") from error
            opened = [(each, each.close) for each in listen_tcp(address, targets, options)]
            bound = Address("tcp", address.host, opened[0][0].getsockname()[1])
        if self._everybody is None:
            self._everybody = Census()
        door = Door(
            self._shared,
            self._spawn,
            loop,
            bound,
            make_receiver,
            options,
            when_full if when_full is not None else WhenFull(),
            everybody=self._everybody,
            room=room_for(descriptors_max()),
            emit=emit,
        )
        pace = TokenBucket(COSTLY_PER_S, COSTLY_BURST)
        acceptors = [
            Acceptor(
                loop,
                listening.fileno(),
                take=partial(door.take, listening, _local(listening, bound)),
                trouble=door.trouble,
                release=release,
                pace=pace,
                accepts_per_turn=options.accepts_per_turn,
            )
            for listening, release in opened
        ]
        first = opened[0][0]
        read = {**read_options(first), "connections_max": door.room, "bound": " ".join(printable(each.getsockname()) for each, _ in opened)}
        return OpenListener(bound, read, acceptors, door.close)

    async def datagrams(
        self,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connect: bool,
    ) -> DatagramEndpoint:
        """Open a UDP endpoint at the first address of a name that works, or bound to the first. See `Network.datagrams`.

        Raises: ConfigError for a scheme other than udp, or saying why it cannot be bound. Unavailable when there is no way to a peer.
            What the protocol raises.
        Cancel: loses nothing; before the return nothing is open.
        """
        require_datagrams(address, connect=connect)
        try:
            targets = await self._targets(address, passive=not connect)
        except OSError as error:
            if connect:
                raise Unavailable(f"cannot connect to {address}: {reason_of(error)}") from error
            raise ConfigError(f"cannot listen at {address}: {reason_of(error)}") from error
        return open_endpoint(
            address,
            targets,
            make_protocol,
            options,
            emit,
            connect=connect,
            loop=asyncio.get_running_loop(),
            wheel=self._shared.wheel,
            close_s=self._shared.send_stall_s,
        )


def _require_stream(address: Address) -> None:
    if address.scheme not in ("tcp", "unix"):
        if address.scheme == "memory":
            raise ConfigError(f"{address} exists only inside a MemoryNetwork; use tcp:// or unix://")
        raise ConfigError(f"{address.scheme}:// is not supported yet; use tcp:// or unix://")


def _local(listening: Socket, bound: Address) -> str:
    """Our end of what a socket accepts, where it is known: who listens on every interface must ask each connection."""
    if bound.scheme == "unix":
        return str(bound)
    name = listening.getsockname()
    return "" if name[0] in ("0.0.0.0", "::") else printable(name)  # noqa: S104 # a comparison, not a bind


def _why(race: Race | None, late: str, error: OSError) -> str:
    """Why nothing came of connecting: of one address its reason, of several each with its own."""
    if race is None or len(race.errors) + bool(late) < 2:
        return late or reason_of(error)
    tried = [f"{target}: {reason_of(each)}" for target, each in race.errors]
    return "; ".join([late, *tried] if late else tried)


def _with_zone(host: str, _port: int, _flow: int = 0, scope: int = 0) -> str:
    """A host as an address has it: of IPv6 a link-local one is nothing without its interface."""
    return f"{host}%{scope}" if scope and "%" not in host else host
