"""The links of a scene: one small process that stands in front of every node, and can take its link away.

    python -m bench.failover.relay COUNT

Prints `{"ports": [...]}`, then reads commands, one a line, and answers each with a line. N counts from 0.

    accept N PORT   the node listens at PORT: take connections for it
    refuse N        refuse new connections, as a port does where nobody listens; open ones go on
    reset N         cut all connections of the node with RST, on both sides
    blackhole N     forward nothing in either direction, answer no new connection, close nothing
    heal N          go on where it stopped: what was held is delivered

It ends when its stdin does. A port stays ours while it refuses, so that nobody else gets it. What may never happen here: a byte lost,
doubled or out of order; an end made nicer than it was (a reset is passed on as a reset); a buffer without a bound.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CHUNK_BYTES = 65536
HELD_MAX_BYTES = 256 * 1024
"""Of one direction of one connection; then its sender is not read any more."""
BACKLOG = 1024
FILLERS = 2
"""Connections that fill a backlog of 0, which holds one more than it says: from then on the kernel drops what knocks."""
HARD = struct.pack("ii", 1, 0)


class Side:
    """One of the two sockets of a relayed connection, and what waits to be written to it."""

    def __init__(self, lane: Lane, sock: socket.socket, *, connected: bool) -> None:
        self.lane = lane
        self.sock = sock
        self.connected = connected
        self.held = bytearray()
        self.ended = False
        """It has sent its last byte."""
        self.told = False
        """It was told that the other side has."""
        self.other: Side = self

    @property
    def interest(self) -> int:
        """Return what to wait for."""
        if not self.connected:
            return WRITE
        reading = READ if not self.ended and self.other.connected and len(self.other.held) < HELD_MAX_BYTES else 0
        return reading | (WRITE if self.held else 0)


class Lane:
    """One node's link."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._place = socket.socket()  # never listens: it keeps the port ours while nobody does
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._place.getsockname()
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._node_port = 0
        self.sides: dict[Side, None] = {}
        self.dark = False

    # ------------------------------------------------------------------ commands

    def accept(self, port: int) -> None:
        """Take connections for the node at this port."""
        self.refuse()
        self._node_port = port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(self.address)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._relay.wait_for(self._listener, READ, self._knocked)

    def refuse(self) -> None:
        """Refuse new connections."""
        if self._listener is not None:
            self._relay.forget(self._listener)
            self._listener.close()
            self._listener = None

    def reset(self) -> None:
        """Cut every connection, both sides, with RST."""
        for side in list(self.sides):
            self.cut(side)

    def blackhole(self) -> None:
        """Stop in every respect, without closing anything."""
        self.dark = True
        for side in self.sides:
            self._relay.forget(side.sock)
        if self._listener is not None:
            self._relay.forget(self._listener)
            self._listener.listen(0)
            for _ in range(FILLERS):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(self.address)
                self._fillers.append(filler)

    def heal(self) -> None:
        """Go on where it stopped."""
        self.dark = False
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        for side in list(self.sides):
            self._relay.wait_for(side.sock, side.interest, self._ready, side)
        if self._listener is not None:
            self._listener.listen(BACKLOG)
            self._relay.wait_for(self._listener, READ, self._knocked)

    # ------------------------------------------------------------------ connections

    def _knocked(self, _mask: int) -> None:
        """Somebody connects: connect to the node for it."""
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it has gone again
        ahead = socket.socket()
        for each in (sock, ahead):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller, node = Side(self, sock, connected=True), Side(self, ahead, connected=False)
        caller.other, node.other = node, caller
        self.sides[caller] = self.sides[node] = None
        code = ahead.connect_ex(("127.0.0.1", self._node_port))
        if code not in (0, errno.EINPROGRESS):
            self._refused(node, code)
            return
        for side in (caller, node):
            self._relay.wait_for(side.sock, side.interest, self._ready, side)

    def _refused(self, node: Side, code: int) -> None:
        """The node does not listen any more: then this port does not either, from the next knock on."""
        if code == errno.ECONNREFUSED:
            self.refuse()
        self.cut(node)

    def _ready(self, mask: int, side: Side) -> None:
        """A socket can be read or written."""
        try:
            if mask & WRITE:
                if not side.connected:
                    if code := side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        self._refused(side, code)
                        return
                    side.connected = True
                self._write(side)
            if mask & READ and side in self.sides:
                self._read(side)
        except BlockingIOError:
            pass  # woken for nothing
        except OSError:
            self.cut(side)
            return
        if side in self.sides:
            self._settle(side)

    def _read(self, side: Side) -> None:
        data = side.sock.recv(CHUNK_BYTES)
        other = side.other
        if not data:
            side.ended = True
        elif other.held:
            other.held += data
        else:
            try:
                sent = other.sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                other.held += data[sent:]

    def _write(self, side: Side) -> None:
        if side.held:
            del side.held[: side.sock.send(side.held)]

    def _settle(self, side: Side) -> None:
        """Pass an end on behind the last byte, close what has ended both ways, wait for what is next."""
        for each in (side, side.other):
            if each.other.ended and not each.held and not each.told and each.connected:
                each.told = True
                with contextlib.suppress(OSError):
                    each.sock.shutdown(socket.SHUT_WR)
        if side.told and side.other.told:
            self._drop(side)
            return
        for each in (side, side.other):
            self._relay.wait_for(each.sock, each.interest, self._ready, each)

    def cut(self, side: Side) -> None:
        """End a connection with RST on both sides."""
        for each in (side, side.other):
            with contextlib.suppress(OSError):
                each.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
        self._drop(side)

    def _drop(self, side: Side) -> None:
        for each in (side, side.other):
            self.sides.pop(each, None)
            self._relay.forget(each.sock)
            each.sock.close()

    def close(self) -> None:
        """Cut everything and give the port back."""
        self.refuse()
        self.reset()
        for filler in self._fillers:
            filler.close()
        self._place.close()


class Relay:
    """The loop, and one lane per node."""

    def __init__(self, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket | int, int] = {}
        self.lanes = [Lane(self) for _ in range(count)]

    def wait_for(self, sock: socket.socket | int, interest: int, ready: Callable[..., None], *arguments: Side) -> None:
        """Call `ready(mask, *arguments)` when the socket can do what we are interested in; 0 is nothing."""
        before = self._waiting.get(sock, 0)
        if interest == before:
            return
        if not interest:
            self.forget(sock)
            return
        (self._selector.modify if before else self._selector.register)(sock, interest, (ready, arguments))
        self._waiting[sock] = interest

    def forget(self, sock: socket.socket | int) -> None:
        """Wait for nothing of this socket."""
        if self._waiting.pop(sock, 0):
            self._selector.unregister(sock)

    def turn(self, timeout_s: float | None = None) -> None:
        """Wait for something to happen and act on it. Of a socket that an earlier event of the same turn closed, nothing is heard."""
        for key, mask in self._selector.select(timeout_s):
            if key.fileobj in self._waiting:
                ready, arguments = key.data
                ready(mask, *arguments)

    def obey(self, line: str) -> str:
        """Do what a command says; return the answer."""
        word, number, *rest = line.split()
        lane = self.lanes[int(number)]
        if word == "accept":
            lane.accept(int(rest[0]))
        elif word in ("refuse", "reset", "blackhole", "heal"):
            getattr(lane, word)()
        else:
            raise SystemExit(f"the relay knows no command {word!r}: accept, refuse, reset, blackhole, heal")
        return line

    def close(self) -> None:
        """Close everything."""
        for lane in self.lanes:
            lane.close()
        self._selector.close()


def main() -> None:
    """Relay until stdin ends."""
    relay = Relay(int(sys.argv[1]))
    print(json.dumps({"ports": [lane.address[1] for lane in relay.lanes]}), flush=True)
    open_ = True
    rest = b""

    def told(_mask: int) -> None:
        nonlocal open_, rest
        data = os.read(0, CHUNK_BYTES)
        open_ = bool(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            print(relay.obey(line.decode()), flush=True)

    relay.wait_for(0, READ, told)
    while open_:
        relay.turn()
    relay.close()


if __name__ == "__main__":
    main()
