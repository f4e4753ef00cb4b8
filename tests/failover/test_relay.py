"""The links: bytes go through unchanged, and each way of taking a link away looks to both sides as it should."""

from __future__ import annotations

import errno
import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.failover.relay import HELD_MAX_BYTES, Relay

ROOT = Path(__file__).resolve().parent.parent.parent
TURNS = 2000
TURN_S = 0.01


class Place:
    """A relay with one lane, a node behind it that listens, and callers."""

    def __init__(self) -> None:
        self.relay = Relay(1)
        self.lane = self.relay.lanes[0]
        self.node = socket.create_server(("127.0.0.1", 0))
        self.node.settimeout(20)
        self._sockets = [self.node]

    def open(self) -> None:
        """Let the lane take connections for the node."""
        self.relay.obey(f"accept 0 {self.node.getsockname()[1]}")

    def caller(self) -> socket.socket:
        """Return a caller's socket, connected to the lane and relayed or waiting to be."""
        caller = socket.create_connection(self.lane.address, timeout=20)
        self._sockets.append(caller)
        return caller

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return a relayed connection: the caller's side, and the node's."""
        caller = self.caller()
        self.turn_until(lambda: readable(self.node))
        server, _ = self.node.accept()
        server.settimeout(20)
        self._sockets.append(server)
        return caller, server

    def turn_until(self, done: Callable[[], bool]) -> None:
        """Let the relay work until this is so."""
        for _ in range(TURNS):
            if done():
                return
            self.relay.turn(TURN_S)
        raise AssertionError(f"not so after {TURNS} turns of the relay")

    def quiet(self) -> None:
        """Let the relay work until it has nothing to do."""
        for _ in range(5):
            self.relay.turn(0)

    def close(self) -> None:
        """Close everything."""
        self.relay.close()
        for each in self._sockets:
            each.close()


@pytest.fixture
def place() -> Iterator[Place]:
    """A relay whose lane is open."""
    place = Place()
    place.open()
    yield place
    place.close()


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def test_bytes_and_ends_go_through_both_ways(place: Place) -> None:
    caller, server = place.pair()
    caller.sendall(b"question")
    place.turn_until(lambda: readable(server))
    assert server.recv(100) == b"question"
    caller.shutdown(socket.SHUT_WR)
    place.turn_until(lambda: readable(server))
    assert server.recv(100) == b""
    server.sendall(b"answer")  # the other direction goes on
    place.turn_until(lambda: readable(caller))
    assert caller.recv(100) == b"answer"
    server.close()
    place.turn_until(lambda: readable(caller))
    assert caller.recv(100) == b""
    place.turn_until(lambda: not place.lane.sides)


def test_a_side_that_does_not_read_holds_its_sender_back_and_gets_everything_in_order(place: Place) -> None:
    caller, server = place.pair()
    caller.setblocking(False)
    sent = bytearray()
    pattern = bytes(range(256)) * 256
    for _ in range(TURNS):  # until nothing more fits anywhere
        try:
            sent += pattern[: caller.send(pattern)]
        except BlockingIOError:
            before = len(sent)
            place.quiet()
            try:
                sent += pattern[: caller.send(pattern)]
            except BlockingIOError:
                assert len(sent) == before
                break
    held = max(len(side.held) for side in place.lane.sides)
    assert 0 < held < 2 * HELD_MAX_BYTES
    got = bytearray()
    while len(got) < len(sent):
        place.turn_until(lambda: readable(server))
        got += server.recv(1 << 20)
    assert got == sent


def test_a_reset_is_passed_on_as_a_reset(place: Place) -> None:
    caller, server = place.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.close()
    place.turn_until(lambda: readable(caller))
    with pytest.raises(ConnectionResetError):
        caller.recv(100)


def test_reset_cuts_both_sides_and_the_port_refuses_until_it_is_opened_again(place: Place) -> None:
    caller, server = place.pair()
    place.relay.obey("refuse 0")
    place.relay.obey("reset 0")
    for side in (caller, server):
        with pytest.raises(ConnectionResetError):
            side.recv(100)
    with pytest.raises(ConnectionRefusedError):
        place.caller()
    place.open()
    caller, server = place.pair()
    server.sendall(b"again")
    place.turn_until(lambda: readable(caller))
    assert caller.recv(100) == b"again"


def test_what_is_open_outlives_a_port_that_refuses(place: Place) -> None:
    caller, server = place.pair()
    place.relay.obey("refuse 0")
    caller.sendall(b"still")
    place.turn_until(lambda: readable(server))
    assert server.recv(100) == b"still"


def test_a_blackhole_closes_nothing_and_delivers_everything_when_it_heals(place: Place) -> None:
    caller, server = place.pair()
    place.relay.obey("blackhole 0")
    caller.sendall(b"question")
    server.sendall(b"answer")
    place.quiet()
    assert not readable(caller)
    assert not readable(server)
    place.relay.obey("heal 0")
    place.turn_until(lambda: readable(caller) and readable(server))
    assert (server.recv(100), caller.recv(100)) == (b"question", b"answer")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops what knocks at a full backlog")
def test_a_blackhole_answers_no_new_connection(place: Place) -> None:
    place.relay.obey("blackhole 0")
    knocking = socket.socket()
    knocking.setblocking(False)
    assert knocking.connect_ex(place.lane.address) == errno.EINPROGRESS
    place.quiet()
    assert not select.select([], [knocking], [], 0)[1]
    knocking.close()
    place.relay.obey("heal 0")
    fresh, server = place.pair()  # one of these two may be a filler's, which says nothing and ends
    del server
    assert fresh.getpeername() == place.lane.address


def test_a_node_that_does_not_listen_any_more_is_refused_from_the_second_knock_on(place: Place) -> None:
    place.node.close()
    first = place.caller()
    place.turn_until(lambda: readable(first))
    with pytest.raises(ConnectionResetError):
        first.recv(100)
    with pytest.raises(ConnectionRefusedError):
        place.caller()


def test_the_process_obeys_its_stdin_and_ends_with_it() -> None:
    command = [sys.executable, "-m", "bench.failover.relay", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        ports = json.loads(relay.stdout.readline())["ports"]
        assert len(set(ports)) == 2
        with socket.create_server(("127.0.0.1", 0)) as node:
            command_line = f"accept 1 {node.getsockname()[1]}\n"
            relay.stdin.write(command_line)
            relay.stdin.flush()
            assert relay.stdout.readline() == command_line
            with socket.create_connection(("127.0.0.1", ports[1]), timeout=20) as caller:
                caller.sendall(b"hello")
                server, _ = node.accept()
                server.settimeout(20)
                assert server.recv(100) == b"hello"
                server.close()
        relay.stdin.close()
        assert relay.wait(20) == 0


def test_an_unknown_command_is_refused() -> None:
    relay = Relay(1)
    with pytest.raises(SystemExit, match="blackhole"):
        relay.obey("vanish 0")
    relay.close()
