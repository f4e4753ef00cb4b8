"""Addresses: any text gives an address that reads back as itself, or a ConfigError.

first byte: one or many · the rest: UTF-8, with surrogates for what is none, as they come from a command line
"""

from __future__ import annotations

from holdfast.errors import ConfigError
from holdfast.net.address import SCHEMES, Address, is_loopback, parse_address, parse_addresses


def one(data: bytes) -> None:
    """Run one input."""
    text = data[1:].decode("utf-8", "surrogateescape")
    if data and data[0] & 1:
        try:
            found = parse_addresses(text)
        except ConfigError as refused:
            assert str(refused)
            return
        assert found
        assert len(frozenset(found)) == len(found)
        assert parse_addresses(",".join(map(str, found))) == found
        return
    is_loopback(text)
    try:
        address = parse_address(text)
    except ConfigError as refused:
        short(str(refused))
        return
    check(address)


def short(message: str) -> None:
    assert len(message) < 2000, "an error message as long as the nonsense it is about"


def check(address: Address) -> None:
    """An address that was read has one spelling, and is what it says."""
    assert address.scheme in SCHEMES
    assert 0 <= address.port <= 65_535
    assert parse_address(str(address)) == address
    assert address.is_local in (True, False)
    assert len(address.host) <= 260
    assert len(address.path.encode(errors="surrogateescape")) <= 103
    assert "\0" not in str(address)
    assert (address.scheme == "unix") == bool(address.path)
    assert (address.scheme != "unix") == bool(address.host)


def seeds() -> list[bytes]:
    """What people write, right and wrong."""
    right = ["tcp://127.0.0.1:7000", "tcp://[::1]:0", "tls://shop.example.com:7000", "udp://10.0.0.1:5000", "unix:///run/shop.sock"]
    right += ["memory://shop", "127.0.0.1:80", "localhost:1", "LOCALHOST.:1", "[::1]:80", "tcp://[fe80::1%eth0]:9", "tcp://a_b.c-d.:65535"]
    right += ["tcp://[::ffff:127.0.0.1]:1", "tcp://[::]:1", " tcp://0.0.0.0:0 ", "unix:///tmp/ü.sock", "tcp://xn--bcher-kva.example:80"]
    wrong = ["", ":", "://", "tcp://", "tcp://host", "tcp://host:", "tcp://host:99999", "tcp://:1", "tcp://[::1]", "tcp://::1:80"]
    wrong += ["tcp://256.1.1.1:1", "tcp://1.2.3:1", "tcp://0x7f.1:1", "unix://relative", "unix:///", "unix:///a/", "unix:///" + "x" * 110]
    wrong += ["memory://", "memory://" + "x" * 80, "http://host:80", "tcp://a,b:1", "tcp://-a:1", "tcp://a..b:1", "unix:/run/x", "/run/x"]
    wrong += ["tcp://[fe80::1%]:9", "tcp://[" + "f" * 300 + "]:1", "tcp://ü:1", "tcp://a:١", "tcp://" + "a" * 64 + ":1", "example.com:80"]
    many = ["tcp://a:1,tcp://b:2", "tcp://a:1,tcp://a:1", "tcp://a:1,", ",", "tcp://a:1, tls://b:2 ,unix:///x", "tcp://A:1,tcp://a:1"]
    return [b"\0" + each.encode() for each in right + wrong] + [b"\x01" + each.encode() for each in many + right[:5]]
