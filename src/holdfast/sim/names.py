"""Names: what a host name stands for in a world.

Owns: the table of names, and `getaddrinfo` over it. IPv4 comes first, as glibc sorts private addresses.
What may never happen here: an answer in an order that is not the same in every process.
"""

from __future__ import annotations

import ipaddress
import socket
import zlib
from collections.abc import Sequence
from typing import Any

KINDS = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.SOCK_RAW, 0),
)


class Row(tuple):  # type: ignore[type-arg]
    """One answer. asyncio puts them into a set before it binds: they hash by what they say, the same in every process."""

    __slots__ = ()

    def __hash__(self) -> int:
        return zlib.crc32(f"{int(self[0])} {int(self[1])} {self[2]} {self[4]}".encode())


def literal(host: str) -> str | None:
    """The address that a text is, in its usual spelling; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


class Names:
    """The names of a world."""

    def __init__(self) -> None:
        self.missed: dict[str, None] = {}
        """Names that were looked up and not found, in order: what a world that hangs tells its reader."""
        self._known: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, addresses: Sequence[str]) -> None:
        """A name stands for these from now on."""
        self._known[name.lower().rstrip(".")] = tuple(addresses)

    def forget(self, name: str) -> None:
        """Nobody knows the name any more."""
        self._known.pop(name.lower().rstrip("."), None)

    def addresses(self, name: str) -> tuple[str, ...]:
        """What it stands for; nothing for a name nobody knows."""
        name = name.lower().rstrip(".")
        return ("127.0.0.1", "::1") if name == "localhost" else self._known.get(name, ())

    def name_of(self, ip: str) -> str | None:
        """The name of an address."""
        return next((name for name, addresses in self._known.items() if ip in addresses), None)

    def look_up(self, host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> list[Any]:
        """As getaddrinfo. Raises: socket.gaierror."""
        if isinstance(host, bytes):
            host = host.decode("ascii")
        if port is not None and not isinstance(port, int):
            try:
                port = int(port)
            except (TypeError, ValueError):
                if flags & socket.AI_NUMERICSERV:
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
                raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype") from None
        if host is None and port is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        address = None
        if not host:
            found: tuple[str, ...] = ("0.0.0.0", "::") if flags & socket.AI_PASSIVE else ("127.0.0.1", "::1")  # noqa: S104
        else:
            address = literal(host.partition("%")[0])
            if address is None and flags & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = (address,) if address is not None else self.addresses(host)
            if not found:
                self.missed[host] = None
        rows: list[Any] = []
        for ip in found:
            its = socket.AF_INET6 if ":" in ip else socket.AF_INET
            if family and family != its:
                continue
            name: tuple[Any, ...] = (ip, port or 0, 0, 0) if its == socket.AF_INET6 else (ip, port or 0)
            rows += [Row((its, each, number, "", name)) for each, number in KINDS if kind in (0, each) and proto in (0, number)]
        if not rows and address is not None and family not in (0, socket.AF_INET6 if ":" in address else socket.AF_INET):
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
        if not rows:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return rows
