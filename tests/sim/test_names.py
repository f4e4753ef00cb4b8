"""What names stand for, and in which order."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from holdfast.sim.names import Names, literal

V4, V6 = socket.AF_INET, socket.AF_INET6


def known() -> Names:
    names = Names()
    names.add("Server", ("10.0.0.1", "fd00::1"))
    return names


def addresses(*args: Any, **options: Any) -> list[tuple[Any, ...]]:
    family, kind, proto, flags = (options.get(name, 0) for name in ("family", "kind", "proto", "flags"))
    return [(row[0], row[1], row[4]) for row in known().look_up(args[0], args[1], family, kind, proto, flags)]


def test_a_name_gives_all_its_addresses_for_streams_and_datagrams_ipv4_first() -> None:
    assert addresses("server", 80) == [
        (V4, socket.SOCK_STREAM, ("10.0.0.1", 80)),
        (V4, socket.SOCK_DGRAM, ("10.0.0.1", 80)),
        (V4, socket.SOCK_RAW, ("10.0.0.1", 80)),
        (V6, socket.SOCK_STREAM, ("fd00::1", 80, 0, 0)),
        (V6, socket.SOCK_DGRAM, ("fd00::1", 80, 0, 0)),
        (V6, socket.SOCK_RAW, ("fd00::1", 80, 0, 0)),
    ]


@pytest.mark.parametrize(
    ("host", "options", "found"),
    [
        ("SERVER.", {"kind": socket.SOCK_STREAM, "family": V4}, ["10.0.0.1"]),
        (b"server", {"kind": socket.SOCK_STREAM}, ["10.0.0.1", "fd00::1"]),
        ("server", {"proto": socket.IPPROTO_UDP, "family": V6}, ["fd00::1"]),
        ("localhost", {"kind": socket.SOCK_STREAM}, ["127.0.0.1", "::1"]),
        (None, {"kind": socket.SOCK_STREAM}, ["127.0.0.1", "::1"]),
        ("", {"kind": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}, ["0.0.0.0", "::"]),
        ("192.0.2.7", {"kind": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}, ["192.0.2.7"]),
        ("FD00::0:1", {"kind": socket.SOCK_STREAM}, ["fd00::1"]),
    ],
)
def test_what_is_asked_for(host: Any, options: dict[str, Any], found: list[str]) -> None:
    assert [row[2][0] for row in addresses(host, 80, **options)] == found


@pytest.mark.parametrize(
    ("host", "options", "number"),
    [
        ("nobody", {}, socket.EAI_NONAME),
        ("server", {"flags": socket.AI_NUMERICHOST}, socket.EAI_NONAME),
        ("10.0.0.1", {"family": V6}, socket.EAI_ADDRFAMILY),
    ],
)
def test_what_is_not_known(host: str, options: dict[str, Any], number: int) -> None:
    with pytest.raises(socket.gaierror) as raised:
        addresses(host, 80, **options)
    assert raised.value.errno == number


def test_ports_may_be_texts_and_services_are_not_known() -> None:
    assert addresses("server", "80", kind=socket.SOCK_STREAM, family=V4) == [(V4, socket.SOCK_STREAM, ("10.0.0.1", 80))]
    with pytest.raises(socket.gaierror):
        addresses("server", "http")


def test_a_set_of_answers_has_the_same_order_in_every_process() -> None:
    rows = known().look_up("server", 80, 0, 0, 0, 0)
    assert hash(rows[0]) == 3_514_034_305
    assert len({hash(row) for row in rows}) == 6


def test_names_come_and_go() -> None:
    names = known()
    assert names.name_of("fd00::1") == "server"
    assert names.name_of("fd00::2") is None
    names.forget("SERVER")
    assert names.addresses("server") == ()
    assert (literal("::0001"), literal("10.0.0.1"), literal("server")) == ("::1", "10.0.0.1", None)
