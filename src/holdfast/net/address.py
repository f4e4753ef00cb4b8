"""Where something listens, as a value and as text.

Owns: the grammar of addresses, in both directions. What may never happen here: a name lookup, or any error but ConfigError.

    tcp://127.0.0.1:7000   tcp://[::1]:0   tls://shop.example.com:7000   udp://10.0.0.1:5000   unix:///run/shop.sock   memory://shop

Port 0 lets the kernel choose. Only `host:port` with a loopback host may leave the scheme out: elsewhere the scheme decides about TLS,
and that is nothing to guess. One address has one spelling: hosts are lower case, IPv6 is written as RFC 5952 has it.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Literal, NoReturn, cast, get_args

import msgspec

from ..errors import ConfigError

Scheme = Literal["tcp", "tls", "unix", "udp", "memory"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

UNIX_PATH_MAX_BYTES = 103
"""What every kernel takes in a sockaddr_un: macOS 104 with the closing zero, Linux 108."""

ADDRESS_MAX_CHARS = 300
"""A host name has 253."""

PARSED_MAX = 256
"""Addresses that are remembered as read: a process reads the same few again for every connection."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class Address(msgspec.Struct, frozen=True):
    """A place to listen at or to connect to. `str()` gives text that `parse_address` reads back.

    Attributes:
        host: a host name or a literal, without brackets; of `memory://` its name.
        port: 0 to 65535; 0 lets the kernel choose.
        path: of `unix://`, absolute.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        if self.scheme == "memory":
            return f"memory://{self.host}"
        return f"{self.scheme}://[{self.host}]:{self.port}" if ":" in self.host else f"{self.scheme}://{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether it cannot leave this machine: loopback literals, `localhost`, Unix sockets and memory. Other names are not looked up."""
        return self.scheme in ("unix", "memory") or is_loopback(self.host)


@lru_cache(maxsize=PARSED_MAX)
def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback literal, in any of its spellings."""
    if host.rstrip(".") == "localhost":
        return True
    try:
        literal = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = literal.ipv4_mapped if isinstance(literal, ipaddress.IPv6Address) else None
    return (mapped or literal).is_loopback


def is_host(text: str) -> bool:
    """Whether `text` can be a host: a name, or a literal without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text.lower()) is not None
    return True


def parse_address(text: str) -> Address:
    """Read one address.

    Raises: ConfigError that quotes the text and says what to write instead.
    """
    return _parse(text.strip())


@lru_cache(maxsize=PARSED_MAX)
def _parse(text: str) -> Address:
    if len(text) > ADDRESS_MAX_CHARS:
        _refuse(text, f"it has {len(text)} characters, and no address has more than {ADDRESS_MAX_CHARS}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _without_scheme(text)
    if scheme not in SCHEMES:
        _refuse(text, f"{_quoted(scheme)} is no scheme; the schemes are {', '.join(SCHEMES)}")
    if "," in rest:
        _refuse(text, "a comma separates addresses; give one")
    if scheme == "unix":
        return _unix(text, rest)
    if scheme == "memory":
        if not _NAME.fullmatch(rest):
            _refuse(text, "write memory://NAME, the name in letters, digits, '_', '-' and '.'")
        return Address("memory", rest)
    host, port = _host_and_port(text, rest)
    return Address(cast("Scheme", scheme), host, port)


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read addresses separated by commas; at least one.

    Raises: ConfigError for the first that cannot be read, and for one given twice.
    """
    found: list[Address] = []
    for part in text.split(","):
        if not part.strip():
            _refuse(text, "expected addresses separated by commas, such as tcp://a:7000,tcp://b:7000; one of them is empty")
        address = parse_address(part)
        if address in found:
            _refuse(text, f"{address} is given twice; give it once")
        found.append(address)
    return tuple(found)


def _without_scheme(text: str) -> Address:
    if ":/" in text or text.startswith("/"):
        path = "/" + text.rpartition(":")[2].lstrip("/")
        _refuse(text, f"expected a scheme and '://'; for a Unix socket write unix://{path}")
    host, port = _host_and_port(text, text)
    if not is_loopback(host):
        _refuse(text, f"only a loopback address may leave the scheme out; write tls://{text}, or tcp://{text} for plain text")
    return Address("tcp", host, port)


def _unix(text: str, path: str) -> Address:
    if not path.startswith("/"):
        _refuse(text, "expected an absolute path after unix://, with three slashes in all: unix:///run/shop.sock")
    if "\0" in path or path.endswith("/") or not path.isprintable():
        _refuse(text, "expected the path of a socket file, such as unix:///run/shop.sock")
    size = len(path.encode(errors="surrogateescape"))
    if size > UNIX_PATH_MAX_BYTES:
        _refuse(text, f"the path has {size} bytes and a Unix socket takes at most {UNIX_PATH_MAX_BYTES}; choose a shorter one")
    return Address("unix", path=path)


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, separator, port_text = rest.rpartition(":")
    if not separator or rest.endswith("]"):
        _refuse(text, "expected a port at the end, such as tcp://127.0.0.1:7000; port 0 lets the kernel choose")
    host = _host(text, host)
    if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        _refuse(text, f"expected a port from 0 to 65535 at the end, and found {_quoted(port_text)}")
    return host, int(port_text)


def _host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        literal, _, zone = host[1:-1].partition("%")
        try:
            compressed = ipaddress.IPv6Address(literal).compressed
        except ValueError:
            _refuse(text, f"{_quoted(literal)} is not an IPv6 address")
        if "%" in host and not _ZONE.fullmatch(zone):
            _refuse(text, f"{_quoted(zone)} is not the name of a network interface")
        return f"{compressed}%{zone}" if zone else compressed
    if ":" in host:
        _refuse(text, "an IPv6 address stands in brackets, such as tcp://[::1]:7000")
    host = host.lower()
    if not host:
        _refuse(text, "expected a host; to listen on every interface write 0.0.0.0 or [::]")
    if re.fullmatch(r"[0-9]+", host.rpartition(".")[2]):  # what ends in a number is meant as IPv4, and nothing else (WHATWG URL)
        try:
            return ipaddress.IPv4Address(host).compressed
        except ValueError:
            _refuse(text, f"{_quoted(host)} is not an IPv4 address; it takes four numbers from 0 to 255, such as 127.0.0.1")
    if not _HOST.fullmatch(host):
        _refuse(text, f"{_quoted(host)} is not a host name")
    return host


def _refuse(text: str, why: str) -> NoReturn:
    raise ConfigError(f"cannot read the address {_quoted(text)}: {why}")


def _quoted(text: str) -> str:
    """Text as it can be shown: escaped, and only so much of it."""
    quoted = repr(text)
    return quoted if len(quoted) <= 200 else quoted[:200] + "…"
