"""The kernel of a machine: who listens where, which connections there are, which ports are taken, how much memory is left.

Owns: these tables, and their end: when the power goes, everything in them is gone at once and nobody is told. Connections are in `tcp.py`,
datagrams in `udp.py`; the interface programs use is in `sockets.py`.

What may never happen here: a port given out twice, or a packet taken by a kernel that is not there any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from .engine import Engine
from .links import Link, Links

PORT_FIRST, PORT_LAST = 32_768, 60_999
ANY = ("0.0.0.0", "::")  # noqa: S104 # names, not a bind
LOOPBACK = ("127.0.0.1", "::1")


class Bound(Protocol):
    """What can be bound to a port."""

    reuse_port: bool
    v6_only: bool


def failure(number: int) -> OSError:
    """The OSError of an errno, in the words and of the class the system has for it."""
    return OSError(number, os.strerror(number))


def family_of(ip: str) -> int:
    """6 or 4."""
    return 6 if ":" in ip else 4


class Kernel:
    """One machine's.

    Attributes:
        name: the host's.
        addresses: what it answers to, besides loopback.
        boots: how often it was switched on; a connection of an earlier boot does not exist for it.
        on: it has power. frozen: it stands still (`Host.pause`).
        buffered: bytes in its sockets. memory_bytes: what there may be.
        connections: the ends that are here, by number.
    """

    def __init__(self, engine: Engine, network: dict[str, Kernel], links: Links, name: str, addresses: tuple[str, ...]) -> None:
        self.engine = engine
        self.wires = links
        self.name = name
        self.addresses = addresses
        self.links: dict[Any, Link] = {}
        self.boots = 0
        self.on = True
        self.frozen = False
        self.memory_bytes = engine.options.memory_bytes
        self.buffered = 0
        self.connections: dict[int, Any] = {}
        self.chance: Random = engine.streams.stream(f"kernel/{name}")
        self._network = network
        self._bound: dict[tuple[str, int], list[tuple[str, Any]]] = {}
        self._next_port = {4: PORT_FIRST, 6: PORT_FIRST}

    def listens(self) -> bool:
        """Whether a packet that arrives now is taken."""
        return self.on and not self.frozen

    def power_off(self) -> None:
        """Everything is gone."""
        self.on = False
        self._bound.clear()
        self.connections.clear()
        self.buffered = 0

    def power_on(self) -> None:
        """A new kernel, which knows nothing of what was."""
        self.on = True
        self.boots += 1
        self.wires.reopen_to(self)

    # ---------------------------------------------------------------------------------------------------------------- addresses

    def find(self, ip: str) -> Kernel | None:
        """The machine with that address, seen from here."""
        if ip in LOOPBACK or ip in ANY or ip.startswith("127."):
            return self
        return self._network.get(ip)

    def own(self, ip: str) -> bool:
        """Whether something can be bound to it here."""
        return ip in self.addresses or ip in ANY or ip in LOOPBACK or ip.startswith("127.")

    def source_for(self, ip: str) -> str:
        """Which of our addresses a packet to `ip` has as its sender."""
        if ip in ANY:
            ip = LOOPBACK[ip == "::"]
        if ip in LOOPBACK or ip.startswith("127.") or ip in self.addresses:
            return ip
        family = family_of(ip)
        for each in self.addresses:
            if family_of(each) == family:
                return each
        raise failure(errno.ENETUNREACH)

    # -------------------------------------------------------------------------------------------------------------------- ports

    def bind(self, kind: str, ip: str, port: int, file: Bound) -> int:
        """Take a port, any if it is 0. Raises: OSError as bind(2) does."""
        if not self.own(ip):
            raise failure(errno.EADDRNOTAVAIL)
        if port:
            if self._taken(kind, ip, port, file):
                raise failure(errno.EADDRINUSE)
        else:
            port = self.ephemeral(kind, family_of(ip))
        self._bound.setdefault((kind, port), []).append((ip, file))
        return port

    def ephemeral(self, kind: str, family: int) -> int:
        """A port nobody has."""
        for _ in range(PORT_LAST - PORT_FIRST):
            port = self._next_port[family]
            self._next_port[family] = port + 1 if port < PORT_LAST else PORT_FIRST
            if not self._bound.get((kind, port)):
                return port
        raise failure(errno.EADDRINUSE)

    def unbind(self, kind: str, port: int, file: Bound) -> None:
        """Give a port back."""
        left = [each for each in self._bound.get((kind, port), ()) if each[1] is not file]
        if left:
            self._bound[kind, port] = left
        else:
            self._bound.pop((kind, port), None)

    def rebind(self, kind: str, port: int, before: Bound, after: Bound) -> None:
        """Something else has the port from now on."""
        self._bound[kind, port] = [(ip, after if each is before else each) for ip, each in self._bound.get((kind, port), ())]

    def _taken(self, kind: str, ip: str, port: int, file: Bound) -> bool:
        for other, holder in self._bound.get((kind, port), ()):
            overlap = other == ip or (
                (other in ANY or ip in ANY)
                and (family_of(other) == family_of(ip) or (other == "::" and not holder.v6_only) or (ip == "::" and not file.v6_only))
            )
            if overlap and not (file.reuse_port and holder.reuse_port):
                return True
        return False

    def bound_at(self, kind: str, ip: str, port: int, want: Callable[[Any], bool]) -> Any:
        """Who gets what comes for an address and a port: who bound to that address, else who bound to any. Of several, one by lot."""
        exact, wide = [], []
        for other, holder in self._bound.get((kind, port), ()):
            if not want(holder):
                continue
            if other == ip:
                exact.append(holder)
            elif other in ANY and (family_of(other) == family_of(ip) or (other == "::" and not holder.v6_only)):
                wide.append(holder)
        found = exact or wide
        if len(found) > 1:
            return found[self.chance.randrange(len(found))]
        return found[0] if found else None
