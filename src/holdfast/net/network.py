"""The kernel's network: the one file that imports `socket`.

Owns: every kernel socket there is, from its making to the moment a link has it, and the words for what the kernel refuses.
What may never happen here: a socket that nobody closes, whatever is cancelled when; an OSError that reaches a caller as it is; the
removal of a file that is not a dead socket.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
import termios
from collections.abc import Callable, Coroutine
from typing import Any

from ..control.wheel import Wheel
from ..errors import ConfigError, Unavailable
from ..facts import ConnectionRefused, Emit
from .address import Address
from .link import HIGH_WATER_BYTES, LOW_WATER_BYTES, SEND_STALL_S, Link, Listening, ListenOptions, Network, Receiver
from .listener import Acceptor
from .tcp import LinkShared, StreamLink, printable

__all__ = ["KernelNetwork", "Link", "ListenOptions", "Listening", "Network", "Receiver", "reason_of"]

_LINGER_NONE = struct.pack("ii", 1, 0)

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class KernelNetwork:
    """Links over TCP (IPv4, IPv6) and Unix sockets. One per loop.

    Args:
        spawn: runs a coroutine as a task that somebody watches; used once per accepted connection.
        send_stall_s: how long a peer may take nothing at all while more than `high_water_bytes` wait for it, in seconds.
    """

    def __init__(
        self,
        spawn: Spawn,
        wheel: Wheel,
        *,
        send_stall_s: float = SEND_STALL_S,
        high_water_bytes: int = HIGH_WATER_BYTES,
        low_water_bytes: int = LOW_WATER_BYTES,
    ) -> None:
        self._spawn = spawn
        self._shared = LinkShared(wheel, send_stall_s, high_water_bytes, low_water_bytes, unsent_bytes, reset_on_close)

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link to `address`, trying what its name resolves to in turn. See `Network.connect`.

        Raises: Unavailable naming address and reason. ConfigError for a scheme that is not for this network.
        Cancel: loses nothing; no socket stays open.
        """
        _require_stream(address)
        link = StreamLink(self._shared, make_receiver, peer=str(address) if address.scheme == "unix" else "")
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                await self._open(address, link)
        except OSError as error:  # TimeoutError is one
            link.give_up()
            late = isinstance(error, TimeoutError) and deadline.expired()
            reason = f"no answer within {timeout_s:g} s" if late else reason_of(error)
            raise Unavailable(f"cannot connect to {address}: {reason}") from error
        except BaseException:
            link.give_up()
            raise
        if link.local == link.peer and address.scheme == "tcp":
            # The kernel gave us the very port we asked for, and TCP let us connect to ourselves.
            link.abort()
            raise Unavailable(f"cannot connect to {address}: nobody listens there")
        if isinstance(link.error, OSError):
            raise Unavailable(f"cannot connect to {address}: {reason_of(link.error)}") from link.error
        if link.error is not None:
            raise link.error
        return link

    async def _open(self, address: Address, link: StreamLink) -> None:
        loop = asyncio.get_running_loop()
        if address.scheme == "unix":
            await loop.create_unix_connection(lambda: link, address.path)
        else:
            await loop.create_connection(lambda: link, address.host, address.port)

    async def listen(self, address: Address, make_receiver: Callable[[], Receiver], options: ListenOptions, emit: Emit) -> Listening:
        """Accept links at `address`. A name is resolved, and its first address taken. See `Network.listen`.

        A dead socket file (one nobody listens at) is replaced; a live one, or anything else at that path, is left alone. `[::]` means
        IPv6 only: to take both, listen at 0.0.0.0 too.

        Raises: ConfigError saying why not, and what to do.
        Cancel: loses nothing; before the return nothing is open.
        """
        _require_stream(address)
        loop = asyncio.get_running_loop()
        if address.scheme == "unix":
            listening, release = _listen_unix(address, options)
            bound = address
        else:
            listening = _listen_tcp(address, await _resolve(loop, address), options)
            release = listening.close
            bound = Address("tcp", address.host, listening.getsockname()[1])
        door = _Door(self._shared, self._spawn, loop, listening, bound, make_receiver, options, emit)
        return Acceptor(
            loop,
            listening.fileno(),
            bound,
            accept=door.accept,
            release=release,
            accepts_per_turn=options.accepts_per_turn,
            emit=emit,
        )


class _Door:
    """Brings one accepted connection after the other to its receiver."""

    __slots__ = ("_address", "_emit", "_listening", "_local", "_loop", "_make_receiver", "_nodelay", "_shared", "_spawn")

    def __init__(
        self,
        shared: LinkShared,
        spawn: Spawn,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
    ) -> None:
        self._shared = shared
        self._spawn = spawn
        self._loop = loop
        self._listening = listening
        self._address = str(address)
        # Where we listen on every interface, each link knows better which of them it came through.
        self._local = "" if address.host in ("0.0.0.0", "::") else self._address  # noqa: S104 # a comparison, not a bind
        self._make_receiver = make_receiver
        self._nodelay = options.nodelay
        self._emit = emit

    def accept(self) -> None:
        connection, name = self._listening.accept()
        connection.setblocking(False)
        peer = printable(name) or self._address
        adoption = self._spawn(self._adopt(connection, peer))
        if isinstance(adoption, asyncio.Future):
            # A task that is cancelled before its first step never runs its coroutine, and nobody would own the connection.
            adoption.add_done_callback(lambda done: connection.close() if done.cancelled() and connection.fileno() >= 0 else None)

    async def _adopt(self, connection: socket.socket, peer: str) -> None:
        link = StreamLink(self._shared, self._make_receiver, local=self._local, peer=peer)
        try:
            await self._loop.connect_accepted_socket(lambda: link, connection)
            if connection.family != socket.AF_UNIX and connection.fileno() >= 0:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self._nodelay)
            if link.error is not None:
                self._emit(ConnectionRefused(peer, f"its receiver failed at once: {link.error!r}"))
        except OSError as error:
            link.give_up()
            connection.close()
            self._emit(ConnectionRefused(peer, f"lost while it was accepted: {reason_of(error)}"))
        except BaseException:
            link.give_up()
            connection.close()
            raise


def _require_stream(address: Address) -> None:
    if address.scheme not in ("tcp", "unix"):
        if address.scheme == "memory":
            raise ConfigError(f"{address} exists only inside a MemoryNetwork; use tcp:// or unix://")
        raise ConfigError(f"{address.scheme}:// is not supported yet; use tcp:// or unix://")


# ------------------------------------------------------------------------------------------------------------------------ TCP


async def _resolve(loop: asyncio.AbstractEventLoop, address: Address) -> tuple[socket.AddressFamily, Any]:
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"cannot listen at {address}: {reason_of(error)}") from error
    family, _, _, _, name = found[0]
    return socket.AddressFamily(family), name


def _listen_tcp(address: Address, resolved: tuple[socket.AddressFamily, Any], options: ListenOptions) -> socket.socket:
    family, name = resolved
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(address, family, error) from error
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(name)
        listening.listen(options.backlog)
    except BaseException as error:
        listening.close()
        if isinstance(error, OSError):
            raise _cannot_listen(address, family, error) from error
        raise
    return listening


def _cannot_listen(address: Address, family: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        advice = f"port {address.port} is in use by another process; stop it, or choose another port (0 lets the kernel choose)"
    elif error.errno in (errno.EACCES, errno.EPERM):
        advice = f"port {address.port} needs rights this process does not have; choose a port above 1023"
    elif error.errno == errno.EAFNOSUPPORT:
        advice = f"this machine has no {'IPv6' if family == socket.AF_INET6 else 'IPv4'}; choose another address"
    elif error.errno == errno.EADDRNOTAVAIL:
        ipv6 = ", or IPv6 is turned off" if family == socket.AF_INET6 else ""
        advice = f"no interface of this machine has the address {address.host}{ipv6}"
    else:
        advice = reason_of(error)
    return ConfigError(f"cannot listen at {address}: {advice}")


# ----------------------------------------------------------------------------------------------------------------------- Unix


def _listen_unix(address: Address, options: ListenOptions) -> tuple[socket.socket, Callable[[], None]]:
    path = address.path
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(address)
        listening.setblocking(False)
        try:
            os.fchmod(listening.fileno(), options.unix_mode)  # on Linux the file is born with it: no moment at which anybody may connect
        except OSError:
            pass  # macOS refuses; the chmod below closes the gap
        listening.bind(path)
        os.chmod(path, options.unix_mode)
        born = os.stat(path)
        listening.listen(options.backlog)
    except BaseException as error:
        listening.close()
        if isinstance(error, OSError):
            raise ConfigError(f"cannot listen at {address}: {reason_of(error)}") from error
        raise

    def release() -> None:
        listening.close()
        try:
            now = os.stat(path)
            if (now.st_dev, now.st_ino) == (born.st_dev, born.st_ino):  # not that of whoever came after us
                os.unlink(path)
        except FileNotFoundError:
            pass

    return listening, release


def _make_way(address: Address) -> None:
    """Remove the socket file a dead process left behind.

    Raises: ConfigError when something else is at that path: a socket somebody listens at, or no socket at all. OSError as the kernel's.
    """
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"cannot listen at {address}: that path is taken, and not by a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        outcome = probe.connect_ex(address.path)
    if outcome in (0, errno.EAGAIN):  # EAGAIN: it listens, and its backlog is full
        raise ConfigError(f"cannot listen at {address}: another process listens there; stop it or choose another path")
    if outcome not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConfigError(f"cannot listen at {address}: a socket is there already, and asking it gave {os.strerror(outcome)!r}")
    try:
        os.unlink(address.path)
    except FileNotFoundError:
        pass


# --------------------------------------------------------------------------------------------------------------- small kernel calls


def reason_of(error: OSError) -> str:
    """What the operating system said, the same on every loop and without numbers."""
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror})"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def unsent_bytes(sock: object) -> int:
    """How many bytes the kernel holds that the peer has not acknowledged; 0 where the kernel does not say."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # closed meanwhile
        return 0
    return int.from_bytes(answer, sys.byteorder)


def reset_on_close(sock: object) -> None:
    """Make the close of `sock` a reset, which frees what the kernel holds for a peer that does not read. Unix sockets ignore it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        pass  # it is closed already; uvloop then says None instead of the socket
