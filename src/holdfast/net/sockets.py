"""The one file that imports `socket`: every kernel socket is made here, set up here, and asked here.

Owns: sockets from their making to the moment somebody else owns them, their options (set, and read back), and the words for what the
kernel refuses. What may never happen here: a wait (`lookup` alone blocks; `resolver.py` gives it a thread); a socket left open when making
it fails; an OSError without an owner; the removal of a file that is not a dead socket.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import resource
import socket
import stat
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from .address import Address
from .options import ListenOptions, StreamOptions

Socket = socket.socket

PORT_TRIES = 16
DISMISS_BYTES, DISMISS_READS = 65_536, 4
DESCRIPTORS_MAX = 2**20
"""Taken for a limit where there is none."""
LITERALS_MAX = 256
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

_LINGER_NONE = struct.pack("ii", 1, 0)
_SO_MEMINFO = 55
_SK_MEMINFO = struct.Struct("9I")  # the last of them is SK_MEMINFO_DROPS


class Target(NamedTuple):
    """One address a name stands for, as the kernel takes it.

    Attributes:
        family: socket.AF_INET, AF_INET6 or AF_UNIX.
        name: what bind and connect take: (host, port), (host, port, flow, scope), or the path of a Unix socket.
    """

    family: int
    name: Any

    def __str__(self) -> str:
        return str(self.name) if is_unix(self) else f"[{self.name[0]}]" if ":" in self.name[0] else str(self.name[0])


def is_unix(target: Target) -> bool:
    """Whether it is a path."""
    return target.family == socket.AF_UNIX


def unix_target(path: str) -> Target:
    """The Unix socket at a path."""
    return Target(socket.AF_UNIX, path)


def lookup(host: str, port: int, passive: bool = False) -> list[Target]:
    """What a host name stands for, in the order the system gives. Blocks for as long as the system's resolver likes.

    Raises: OSError (socket.gaierror) when the name cannot be resolved.
    """
    return _getaddrinfo(host, port, socket.AI_PASSIVE if passive else 0)


def numeric(host: str, port: int) -> list[Target]:
    """The one address a literal stands for; none for a name. Does not block: nobody is asked."""
    return list((_literal.__wrapped__ if "%" in host else _literal)(host, port))  # the number of an interface may change


@functools.lru_cache(maxsize=LITERALS_MAX)
def _literal(host: str, port: int) -> tuple[Target, ...]:
    try:
        return tuple(_getaddrinfo(host, port, socket.AI_NUMERICHOST))
    except OSError:
        return ()


def _getaddrinfo(host: str, port: int, flags: int) -> list[Target]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [Target(family, name) for family, _, _, _, name in found if family in (socket.AF_INET, socket.AF_INET6)]


# -------------------------------------------------------------------------------------------------------------------- options

# What is asked for by which name, besides the buffers: option, level, kernel's name, and kernel units in one of ours.
_TCP_OPTIONS: tuple[tuple[str, int, str, int], ...] = (
    ("nodelay", socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    ("keepalive", socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    ("keepalive_idle_s", socket.IPPROTO_TCP, "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE", 1),
    ("keepalive_interval_s", socket.IPPROTO_TCP, "TCP_KEEPINTVL", 1),
    ("keepalive_count", socket.IPPROTO_TCP, "TCP_KEEPCNT", 1),
    ("user_timeout_s", socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 1000),
)
_FLAGS = ("nodelay", "keepalive")
_TCPI_SACKED = 28
"""Where in Linux's tcp_info a listening socket says how long its backlog may be."""

INHERITS = sys.platform == "linux"
"""Whether an accepted socket has its options from the listening one."""


def set_options(sock: Socket, options: StreamOptions) -> None:
    """Set what is asked for. What this system has not is left alone; `read_options` does not show it then."""
    for number, size in ((socket.SO_SNDBUF, options.send_buffer_bytes), (socket.SO_RCVBUF, options.receive_buffer_bytes)):
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, number, size)
    if sock.family != socket.AF_UNIX:
        for name, level, kernel, units in _TCP_OPTIONS:
            found = getattr(socket, kernel, None)
            if found is not None:
                sock.setsockopt(level, found, int(getattr(options, name) * units))


def read_options(sock: Socket) -> dict[str, bool | int | float]:
    """The options of a socket, by our names, as the kernel has them; Linux counts its overhead to a buffer and says double."""
    read: dict[str, bool | int | float] = {}
    if sock.family != socket.AF_UNIX:
        read["reuse_port"] = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
        for name, level, kernel, units in _TCP_OPTIONS:
            found = getattr(socket, kernel, None)
            if found is not None:
                value = sock.getsockopt(level, found)
                read[name] = bool(value) if name in _FLAGS else value if units == 1 else value / units
        if sys.platform == "linux" and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_SACKED + 4)
            read["backlog"] = int.from_bytes(info[_TCPI_SACKED:], sys.byteorder)
    read["receive_buffer_bytes"], read["send_buffer_bytes"] = buffers_of(sock)
    return read


# ------------------------------------------------------------------------------------------------------------------------ TCP


def connecting_socket(target: Target, options: StreamOptions) -> Socket:
    """A non-blocking socket that is to connect to `target`. Raises: OSError."""
    made = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        set_options(made, options)
    except BaseException:
        made.close()
        raise
    return made


def connect_error(sock: Socket) -> int:
    """How connecting went, once the socket is writable: an errno, 0 for well."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def listen_tcp(address: Address, targets: Sequence[Target], options: ListenOptions) -> list[Socket]:
    """Listening sockets at all targets, which are what `address` stands for, and all at the same port. `[::]` means IPv6 only.

    Of several targets one that this machine has not (IPv6 is turned off) is left out.
    Raises: ConfigError saying why not, and what to do. Then nothing stays open.
    """
    tries = PORT_TRIES if address.port == 0 and len(targets) > 1 else 1
    while True:
        tries -= 1
        try:
            return _listen_at_all(address, targets, options)
        except ConfigError as error:
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if not (taken and tries):  # the port the kernel chose for one family is in use in the other: it may choose again
                raise


def _listen_at_all(address: Address, targets: Sequence[Target], options: ListenOptions) -> list[Socket]:
    port = address.port
    made: list[Socket] = []
    try:
        for n, (family, name) in enumerate(targets):
            try:
                made.append(_listen_at(family, (name[0], port, *name[2:]), options))
            except OSError as error:
                last = n == len(targets) - 1
                if error.errno in NOT_HERE and (made or not last):
                    continue
                raise cannot_listen(address, family, error) from error
            port = made[-1].getsockname()[1]
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _listen_at(family: int, name: tuple[Any, ...], options: ListenOptions) -> Socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(listening, options)  # before listen: what is accepted has the buffers from the first segment on
        listening.bind(name)
        listening.listen(options.backlog)
    except BaseException:
        listening.close()
        raise
    return listening


def cannot_listen(address: Address, family: int, error: OSError) -> ConfigError:
    """The error for people, from what the kernel said to a bind at `address`."""
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


def listen_unix(address: Address, options: ListenOptions) -> tuple[Socket, Callable[[], None]]:
    """A listening socket at a path, and what closes it and removes its file.

    A dead socket file (one nobody listens at) is replaced; a live one, or anything else at that path, is left alone.
    Raises: ConfigError saying why not, and what to do.
    """
    path = address.path
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(address)
        listening.setblocking(False)
        set_options(listening, options)
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


# ------------------------------------------------------------------------------------------------------------------------ UDP


def udp_socket(
    address: Address, target: Target, *, connect: bool, receive_buffer_bytes: int | None = None, send_buffer_bytes: int | None = None
) -> Socket:
    """A non-blocking UDP socket at `target`, one of the addresses that `address` stands for.

    Args:
        connect: connect to it; otherwise bind to it, `[::]` meaning IPv6 only.
        receive_buffer_bytes, send_buffer_bytes: None leaves the kernel's. `buffers_of` reads back what came of it.
    Raises: ConfigError when it cannot be bound, saying what to do. OSError when it cannot be made or connected.
    """
    made = socket.socket(target.family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if receive_buffer_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if send_buffer_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        if connect:
            made.connect(target.name)  # UDP: it only says to whom; nothing is sent and nothing waits
            return made
        if target.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind(target.name)
        except OSError as error:
            raise cannot_listen(address, target.family, error) from error
    except BaseException:
        made.close()
        raise
    return made


def buffers_of(sock: Socket) -> tuple[int, int]:
    """The receive and send buffer of a socket in bytes, as the kernel says; Linux counts its own overhead and says double."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def kernel_drops(sock: Socket) -> int | None:
    """How many datagrams the kernel dropped for want of room, since the socket was made, modulo 2**32. None where it cannot tell.

    Asked for when it is wanted (SO_MEMINFO, Linux 4.12). SO_RXQ_OVFL would tell it beside each datagram: `recvmsg` costs more than
    `recvfrom`, and a loss at the end of a burst is not told before the next one.
    """
    if sys.platform != "linux":
        return None
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO.size)
    except OSError:
        return None
    return int(_SK_MEMINFO.unpack(answer)[-1]) if len(answer) == _SK_MEMINFO.size else None


def source_network(name: tuple[Any, ...]) -> str | bytes:
    """Whom a socket's name counts as, for limits: an IPv4 address is one source, and so is an IPv6 /64, which is what one host is given."""
    host = name[0]
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8] if ":" in host else str(host)


def is_literal(sock: Socket, host: str) -> bool:
    """Whether `host` is an address of the socket's own family, so that sending to it looks no name up."""
    try:
        socket.inet_pton(sock.family, host.partition("%")[0] if sock.family == socket.AF_INET6 else host)
    except (OSError, ValueError):  # ValueError: a zero byte in it
        return False
    return True


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


def dismiss(connection: Socket, data: bytes) -> None:
    """Say something to a peer and close, at once: what it has sent so far is read away first, so that no reset overtakes what we said."""
    try:
        connection.setblocking(False)
        if data:
            connection.send(data)
        connection.shutdown(socket.SHUT_WR)
        for _ in range(DISMISS_READS):
            if len(connection.recv(DISMISS_BYTES)) < DISMISS_BYTES:
                break
    except OSError:
        pass  # it is gone, or there is nothing to read
    finally:
        connection.close()


def spare_descriptor() -> int | None:
    """A descriptor that is good for nothing but to be closed when another is needed; None when there is none."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def descriptors_max() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else min(soft, DESCRIPTORS_MAX)


def set_nodelay(sock: Socket, nodelay: bool) -> None:
    """Send small writes at once, or not. Nothing happens to a Unix socket, or to one that was closed meanwhile."""
    if sock.family != socket.AF_UNIX and sock.fileno() >= 0:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
