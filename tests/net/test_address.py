"""Addresses as text and back; every refusal says what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.net.address import SCHEMES, Address, is_host, parse_address, parse_addresses

GOOD = [
    ("tcp://127.0.0.1:7000", Address("tcp", "127.0.0.1", 7000)),
    ("tcp://[::1]:0", Address("tcp", "::1", 0)),
    ("tls://Shop.Example.com:7000", Address("tls", "shop.example.com", 7000)),
    ("udp://10.0.0.1:65535", Address("udp", "10.0.0.1", 65535)),
    ("tcp://[fe80::1%eth0]:7", Address("tcp", "fe80::1%eth0", 7)),
    ("tcp://[0:0:0:0:0:0:0:1]:7", Address("tcp", "::1", 7)),
    ("tcp://my_db-1.internal.:7", Address("tcp", "my_db-1.internal.", 7)),
    ("unix:///run/x.sock", Address("unix", path="/run/x.sock")),
    ("unix:///run/a b:c.sock", Address("unix", path="/run/a b:c.sock")),
    ("memory://shop", Address("memory", "shop")),
    ("127.0.0.1:7000", Address("tcp", "127.0.0.1", 7000)),
    ("localhost:7000", Address("tcp", "localhost", 7000)),
    ("[::1]:7000", Address("tcp", "::1", 7000)),
    ("  tcp://127.0.0.1:1 ", Address("tcp", "127.0.0.1", 1)),
]

BAD = [
    ("", "expected a port"),
    ("7000", "expected a port"),
    ("tcp://127.0.0.1", "expected a port"),
    ("tcp://[::1]", "expected a port"),
    ("tcp://127.0.0.1:", "expected a port from 0"),
    ("tcp://127.0.0.1:65536", "expected a port from 0 to 65535"),
    ("tcp://127.0.0.1:-1", "expected a port from 0"),
    ("tcp://127.0.0.1:７", "expected a port from 0"),
    ("tcp://127.0.0.1:7000/x", "expected a port from 0"),
    ("tcp://:7000", "0.0.0.0 or [::]"),
    ("tcp://::1:7000", "brackets"),
    ("tcp://[::g]:7000", "not an IPv6 address"),
    ("tcp://[::1%]:7000", "not the name of a network interface"),
    ("tcp://[fe80::1%a/b]:7000", "not the name of a network interface"),
    ("tcp://300.1.1.1:7000", "not an IPv4 address"),
    ("tcp://127.1:7000", "not an IPv4 address"),
    ("tcp://me@host:7000", "not a host name"),
    ("tcp://a..b:7000", "not a host name"),
    ("tcp://a:7000,tcp://b:7000", "a comma separates"),
    ("http://127.0.0.1:80", "the schemes are tcp, tls, unix, udp, memory"),
    ("TCP://127.0.0.1:80", "is no scheme"),
    ("unix://run/x.sock", "unix:///run/shop.sock"),
    ("unix:///", "path of a socket file"),
    ("unix:///run/", "path of a socket file"),
    ("unix:///a\0b", "path of a socket file"),
    ("unix:///" + "x" * 120, "at most 103"),
    ("/run/x.sock", "unix:///run/x.sock"),
    ("unix:/run/x.sock", "unix:///run/x.sock"),
    ("memory://", "memory://NAME"),
    ("memory://a/b", "memory://NAME"),
    ("shop.example.com:7000", "tls://shop.example.com:7000"),
    ("10.0.0.1:7000", "tls://10.0.0.1:7000"),
]


@pytest.mark.parametrize(("text", "address"), GOOD)
def test_it_reads_and_writes_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(("text", "advice"), BAD)
def test_it_refuses_and_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert advice in str(caught.value)
    assert "cannot read the address" in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 100_000, f"tcp://{'x' * 3000}:1", f"tcp://[{'1' * 3000}]:1", f"tcp://a:{'1' * 3000}"])
def test_a_long_text_is_not_repeated_whole(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert len(str(caught.value)) < 500


near_misses = st.builds("{}://{}".format, st.sampled_from(SCHEMES), st.text(alphabet="[]:./%@,a1_-", max_size=30))


@given(st.one_of(st.text(max_size=60), near_misses))
def test_whatever_it_is_given_it_answers_or_raises_config_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.8.9.1:1", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://[::ffff:127.0.0.1]:1", True),
        ("unix:///x", True),
        ("memory://x", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://[::ffff:10.0.0.1]:1", False),
        ("tls://localhost.example.com:1", False),
    ],
)
def test_local_is_what_cannot_leave_the_machine(text: str, local: bool) -> None:
    assert parse_address(text).is_local is local


def test_several_are_separated_by_commas() -> None:
    assert [str(a) for a in parse_addresses("tcp://a:1, tls://b:2,unix:///c")] == ["tcp://a:1", "tls://b:2", "unix:///c"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [("", "one of them is empty"), ("tcp://a:1,", "one of them is empty"), ("tcp://a:1,tcp://A:1", "given twice")],
)
def test_a_list_with_a_gap_or_a_repetition_is_refused(text: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        parse_addresses(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a.example", True),
        ("A", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("", False),
        (".a", False),
        ("a..b", False),
        ("ä", False),
        ("a b", False),
    ],
)
def test_what_can_be_a_host(text: str, is_one: bool) -> None:
    assert is_host(text) is is_one
