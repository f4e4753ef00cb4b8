"""What the kernel is asked and told, on real sockets; its words; and that nothing stays open when making a socket fails."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from contextlib import closing
from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.net.address import parse_address
from holdfast.net.options import ListenOptions, StreamOptions
from holdfast.net.sockets import (
    Target,
    connecting_socket,
    descriptors_max,
    dismiss,
    is_literal,
    kernel_drops,
    listen_tcp,
    numeric,
    read_options,
    reason_of,
    set_options,
    source_network,
    spare_descriptor,
    unix_target,
    unsent_bytes,
)
from tests.net.helpers import open_sockets


def test_the_kernel_says_what_it_still_holds() -> None:
    one, other = socket.socketpair()
    with closing(one), closing(other):
        one.send(b"x" * 1000)
        if sys.platform == "linux":
            assert unsent_bytes(one) >= 1000
            other.recv(2000)
        assert unsent_bytes(one) == 0
    assert unsent_bytes(one) == 0


def test_reasons_read_alike_whoever_raises_them() -> None:
    refused = [OSError(errno.ECONNREFUSED, text) for text in ("Connect call failed ('127.0.0.1', 1)", "Connection refused")]
    assert {reason_of(error) for error in refused} == {"Connection refused"}
    assert reason_of(OSError("Multiple exceptions: a, b")) == "Multiple exceptions: a, b"
    assert reason_of(OSError()) == "OSError"


# ------------------------------------------------------------------------------------------------------------------------ UDP


def test_the_kernel_says_what_it_dropped_without_another_datagram() -> None:
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as one,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other,
    ):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        for _ in range(200):
            other.sendto(b"x" * 100, one.getsockname())
        dropped, taken = kernel_drops(one), 0
        while True:
            try:
                one.recv(100)
            except BlockingIOError:
                break
            taken += 1
        assert dropped == (200 - taken if sys.platform == "linux" else None)
    assert kernel_drops(one) is None, "of a closed one nothing is known, and that is no error"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%1", "fe80::2", True),
    ],
)
def test_who_counts_as_one_source(one: str, other: str, same: bool) -> None:
    assert (source_network((one, 1, 0, 0)) == source_network((other, 2, 0, 0))) is same


@pytest.mark.parametrize(
    ("family", "host", "literal"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "localhost", False),
        (socket.AF_INET, "127.1", False),
        (socket.AF_INET, "::1", False),
        (socket.AF_INET, "1.1.1.1\0", False),
        (socket.AF_INET, "1.1.1.1%eth0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "fe80::1%eth0", True),
        (socket.AF_INET6, "127.0.0.1", False),
        (socket.AF_INET6, "x.example", False),
    ],
)
def test_what_needs_no_look_up(family: int, host: str, literal: bool) -> None:
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        assert is_literal(sock, host) is literal


# ------------------------------------------------------------------------------------------------------------- small kernel calls


def test_a_literal_stands_for_itself_and_a_name_is_not_asked_for() -> None:
    assert numeric("127.0.0.1", 7) == [Target(socket.AF_INET, ("127.0.0.1", 7))]
    assert [str(target) for host in ("::1", "10.0.0.1") for target in numeric(host, 7)] == ["[::1]", "10.0.0.1"]
    assert numeric("localhost", 7) == numeric("shop.example.com", 7) == []
    assert str(unix_target("/run/s")) == "/run/s"


def test_a_literal_is_read_once_unless_it_names_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = socket.getaddrinfo

    def counting(host: str, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return ask(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    for _ in range(3):
        numeric("192.0.2.77", 7).clear()  # a list of one's own
        assert numeric("192.0.2.77", 7) == [Target(socket.AF_INET, ("192.0.2.77", 7))]
        numeric("fe80::1%lo", 7)
    assert asked == ["192.0.2.77", "fe80::1%lo", "fe80::1%lo", "fe80::1%lo"]


def test_who_is_dismissed_reads_why_and_then_the_end_whatever_it_has_sent() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, closing(socket.create_connection(listener.getsockname())) as peer:
        peer.sendall(b"x" * 100_000)
        connection, _ = listener.accept()
        dismiss(connection, b"no room")
        assert connection.fileno() == -1
        assert peer.recv(1000) == b"no room"
        assert peer.recv(1000) == b""


def test_a_peer_that_is_gone_is_dismissed_all_the_same() -> None:
    one, other = socket.socketpair()
    other.close()
    dismiss(one, b"no room")
    assert one.fileno() == -1


def test_there_is_a_limit_of_descriptors_even_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors_max() == 2**20
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 4096))
    assert descriptors_max() == 64


def test_where_descriptors_have_run_out_there_is_no_spare_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", none_left)
    assert spare_descriptor() is None


def test_an_option_this_system_has_not_is_left_alone_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    with closing(socket.socket()) as sock:
        set_options(sock, StreamOptions(keepalive_count=9))
        read = read_options(sock)
    assert read["keepalive_count"] == 9
    assert "user_timeout_s" not in read


def test_a_socket_that_cannot_be_set_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(socket.socket):
        def setsockopt(self, *_: object) -> None:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    before = open_sockets()
    monkeypatch.setattr(socket, "socket", Stubborn)
    with pytest.raises(OSError, match="Protocol not available"):
        connecting_socket(Target(socket.AF_INET, ("127.0.0.1", 7)), StreamOptions())
    with pytest.raises(ConfigError, match="Protocol not available"):
        listen_tcp(parse_address("tcp://127.0.0.1:0"), [Target(socket.AF_INET, ("127.0.0.1", 0))], ListenOptions())
    assert open_sockets() == before
