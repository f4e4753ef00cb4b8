"""What a user wrote as addresses, as a source of nodes: a list, a name that is looked up again and again, or a file that is watched.

    tcp://a:7000,tcp://b:7000     these nodes
    dns+tls://shop.internal:7000  whatever nodes the name stands for at the moment
    file:///etc/shop.nodes        the nodes in a file, as it changes

Owns the reading of that, and the rule of TLS for nodes that become known later. What may never happen here: a node without TLS beyond this
machine that nobody allowed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from ..balance.endpoint import Endpoint
from ..balance.resolve import DnsResolver, FileResolver, ResolveConfig, Resolver, StaticResolver
from ..clock import Streams
from ..errors import ConfigError
from ..facts import Emit
from ..net.address import Address, parse_address, parse_addresses
from ..net.link import Network
from ..net.secure import check_tls
from ..net.trust import TlsConfig

DNS = "dns+"
FILE = "file:"


class SourceCore(Protocol):
    """The part of a core that a source needs."""

    network: Network
    rng: Streams
    emit: Emit


class Source:
    """Where the nodes of a client come from.

    Attributes:
        addresses: those that are known by what was written; a file's are not.
        tls: what was given, with the name to expect where the nodes are known by number only.
        may_use_tls: whether a node may turn out to have a `tls://` address.
    """

    def __init__(self, text: str, tls: TlsConfig | None, *, insecure: bool, resolve: ResolveConfig) -> None:
        """Raises: ConfigError that says what to write."""
        self.tls = tls
        self._text = text.strip()
        self._insecure = insecure
        self._resolve = resolve
        self.addresses: tuple[Address, ...] = ()
        if self._text.startswith(FILE):
            self._path = self._text.removeprefix("file://") if self._text.startswith("file://") else self._text.removeprefix(FILE)
            if not self._path.startswith("/"):
                raise ConfigError(f"{self._text!r}: expected file:///PATH of a file that lists the nodes")
            self.may_use_tls = True
            return
        if self._text.startswith(DNS):
            self.addresses = (parse_address(self._text.removeprefix(DNS)),)
            if self.addresses[0].scheme not in ("tcp", "tls"):
                raise ConfigError(f"{self._text!r}: only tcp:// and tls:// addresses have names to look up")
            if self.addresses[0].scheme == "tls" and not (tls is not None and tls.server_name):
                self.tls = dataclasses.replace(tls or TlsConfig(), server_name=self.addresses[0].host)
        else:
            self.addresses = parse_addresses(self._text)
        check_tls(self.addresses, self.tls, insecure=insecure, server=False)
        self.may_use_tls = any(address.scheme == "tls" for address in self.addresses)

    def resolver(self, core: SourceCore) -> Resolver:
        """Make what finds the nodes, for one client."""
        if not self.addresses:
            return FileResolver(self._path, emit=core.emit, address=self._key, config=self._resolve)
        if self._text.startswith(DNS):
            address, network = self.addresses[0], core.network

            async def lookup() -> Sequence[str]:
                return [self._key(str(found)) for found in await network.lookup(address)]  # `localhost` may be anywhere

            return DnsResolver(str(address), lookup, rng=core.rng.stream("resolve"), emit=core.emit, config=self._resolve)
        return StaticResolver([Endpoint(str(address)) for address in self.addresses])

    def _key(self, text: str) -> str:
        address = parse_address(text)
        check_tls([address], self.tls, insecure=self._insecure, server=False)
        return str(address)
