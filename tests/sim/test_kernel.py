"""Ports and addresses: who may bind where, and who gets what comes."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from holdfast.sim import WorldOptions
from holdfast.sim.engine import Engine
from holdfast.sim.kernel import PORT_FIRST, PORT_LAST, Kernel, failure, family_of
from holdfast.sim.links import Links


class Bound:
    """Something that is bound to a port."""

    def __init__(self, reuse_port: bool = False, v6_only: bool = True) -> None:
        self.reuse_port = reuse_port
        self.v6_only = v6_only


def kernel() -> Kernel:
    engine = Engine(0, WorldOptions())
    network: dict[str, Kernel] = {}
    made = Kernel(engine, network, Links(engine), "a", ("10.0.0.1", "fd00::1"))
    network["10.0.0.1"] = network["fd00::1"] = made
    network["10.0.0.2"] = Kernel(engine, network, Links(engine), "b", ("10.0.0.2", "fd00::2"))
    return made


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        (("10.0.0.1", {}), ("10.0.0.1", {}), False),
        (("10.0.0.1", {}), ("127.0.0.1", {}), True),
        (("0.0.0.0", {}), ("10.0.0.1", {}), False),
        (("10.0.0.1", {}), ("0.0.0.0", {}), False),
        (("0.0.0.0", {}), ("::", {}), True),
        (("0.0.0.0", {}), ("::", {"v6_only": False}), False),
        (("::", {"v6_only": False}), ("0.0.0.0", {}), False),
        (("::", {"v6_only": False}), ("10.0.0.1", {}), False),
        (("::", {}), ("fd00::1", {}), False),
        (("0.0.0.0", {}), ("fd00::1", {}), True),
        (("0.0.0.0", {"reuse_port": True}), ("0.0.0.0", {"reuse_port": True}), True),
        (("0.0.0.0", {"reuse_port": True}), ("0.0.0.0", {}), False),
        (("0.0.0.0", {}), ("0.0.0.0", {"reuse_port": True}), False),
    ],
)
def test_who_may_bind_beside_whom(first: tuple[str, Any], second: tuple[str, Any], free: bool) -> None:
    here = kernel()
    here.bind("tcp", first[0], 80, Bound(**first[1]))
    if free:
        assert here.bind("tcp", second[0], 80, Bound(**second[1])) == 80
    else:
        with pytest.raises(OSError) as raised:
            here.bind("tcp", second[0], 80, Bound(**second[1]))
        assert raised.value.errno == errno.EADDRINUSE
    assert here.bind("udp", second[0], 80, Bound()) == 80, "UDP has ports of its own"


def test_an_address_of_another_host_cannot_be_bound() -> None:
    with pytest.raises(OSError) as raised:
        kernel().bind("tcp", "10.0.0.2", 80, Bound())
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_a_port_that_was_given_back_is_free() -> None:
    here, first = kernel(), Bound()
    here.bind("tcp", "0.0.0.0", 80, first)
    here.unbind("tcp", 80, Bound())  # of somebody who has not got it: nothing
    with pytest.raises(OSError):
        here.bind("tcp", "0.0.0.0", 80, Bound())
    here.unbind("tcp", 80, first)
    assert here.bind("tcp", "0.0.0.0", 80, Bound()) == 80


def test_ports_drawn_are_free_ones_and_begin_anew_at_the_end() -> None:
    here = kernel()
    here.bind("tcp", "0.0.0.0", PORT_FIRST + 1, Bound())
    assert [here.bind("tcp", "0.0.0.0", 0, Bound()) for _ in range(3)] == [PORT_FIRST, PORT_FIRST + 2, PORT_FIRST + 3]
    assert here.bind("tcp", "::", 0, Bound()) == PORT_FIRST + 4, "a port that IPv4 has is not given to IPv6"
    here._next_port[4] = PORT_LAST
    assert [here.ephemeral("udp", 4) for _ in range(2)] == [PORT_LAST, PORT_FIRST]


def test_when_every_port_is_taken_there_is_none() -> None:
    here = kernel()
    for port in range(PORT_FIRST, PORT_LAST + 1):
        here._bound["tcp", port] = [("0.0.0.0", Bound())]
    with pytest.raises(OSError) as raised:
        here.ephemeral("tcp", 4)
    assert raised.value.errno == errno.EADDRINUSE


def test_the_exact_address_comes_before_any() -> None:
    here, exact, wide = kernel(), Bound(reuse_port=True), Bound(reuse_port=True)
    here.bind("tcp", "0.0.0.0", 80, wide)
    here.bind("tcp", "10.0.0.1", 80, exact)
    assert here.bound_at("tcp", "10.0.0.1", 80, lambda _: True) is exact
    assert here.bound_at("tcp", "127.0.0.1", 80, lambda _: True) is wide
    assert here.bound_at("tcp", "10.0.0.1", 80, lambda each: each is wide) is wide
    assert here.bound_at("tcp", "fd00::1", 80, lambda _: True) is None
    assert here.bound_at("tcp", "10.0.0.1", 81, lambda _: True) is None


def test_ipv6_that_is_not_only_itself_gets_ipv4_too() -> None:
    here, both, only = kernel(), Bound(v6_only=False), Bound()
    here.bind("tcp", "::", 80, both)
    here.bind("tcp", "::", 81, only)
    assert here.bound_at("tcp", "10.0.0.1", 80, lambda _: True) is both
    assert here.bound_at("tcp", "10.0.0.1", 81, lambda _: True) is None
    assert here.bound_at("tcp", "fd00::1", 81, lambda _: True) is only


def test_of_several_with_reuse_port_each_gets_some() -> None:
    here, holders = kernel(), [Bound(reuse_port=True) for _ in range(3)]
    for holder in holders:
        here.bind("tcp", "0.0.0.0", 80, holder)
    got = [here.bound_at("tcp", "10.0.0.1", 80, lambda _: True) for _ in range(60)]
    assert all(10 < got.count(holder) < 30 for holder in holders)


@pytest.mark.parametrize(
    ("to", "source"),
    [
        ("10.0.0.2", "10.0.0.1"),
        ("fd00::2", "fd00::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.3.2.1", "127.3.2.1"),
        ("::1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
    ],
)
def test_the_sender_of_a_packet_is_the_address_that_can_be_answered(to: str, source: str) -> None:
    assert kernel().source_for(to) == source


def test_loopback_is_the_host_itself_and_others_are_found_by_address() -> None:
    here = kernel()
    for ip in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1"):
        assert here.find(ip) is here
    found = here.find("10.0.0.2")
    assert found is not None
    assert found.name == "b"
    assert here.find("192.0.2.1") is None


def test_power_takes_everything_with_it() -> None:
    here = kernel()
    here.bind("tcp", "0.0.0.0", 80, Bound())
    here.buffered = 7
    here.connections[1] = object()
    here.power_off()
    assert (here.on, here.listens(), here.buffered, here.connections) == (False, False, 0, {})
    here.power_on()
    assert (here.on, here.listens(), here.boots) == (True, True, 1)
    assert here.bind("tcp", "0.0.0.0", 80, Bound()) == 80
    here.frozen = True
    assert not here.listens()


def test_errors_are_of_the_class_the_system_has_for_them() -> None:
    assert isinstance(failure(errno.ECONNREFUSED), ConnectionRefusedError)
    assert isinstance(failure(errno.EAGAIN), BlockingIOError)
    assert str(failure(errno.EPIPE)) == "[Errno 32] Broken pipe"
    assert (family_of("fd00::1"), family_of("10.0.0.1")) == (6, 4)
