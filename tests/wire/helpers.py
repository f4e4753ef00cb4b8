"""Machines in any state, bytes fed in any cut, and two machines back to back, all without a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.wire import ByteBudget, CallState, Connection, Errored, Event, IncomingCall, Settings, frames
from holdfast.wire.machine import Role
from holdfast.wire.settings import encode_settings

SMALL = Settings(
    frame_max_bytes=1024,
    message_max_bytes=16 * 1024,
    stream_window_bytes=4096,
    connection_window_bytes=8192,
    open_calls_max=4,
)
"""The narrowest limits that are of any use, so that each of them is met early."""

frame = frames.pack_frame


def machine(role: Role, settings: Settings = SMALL, *, budget_bytes: int = 1 << 20, parent: ByteBudget | None = None) -> Connection:
    """A fresh machine; what a client says first has been taken already."""
    connection = Connection(role, settings, budget=ByteBudget(budget_bytes, parent))
    connection.take_output(1 << 20)
    return connection


def opened(role: Role, settings: Settings = SMALL, remote: Settings = SMALL, *, budget_bytes: int = 1 << 20) -> Connection:
    """A machine in state OPEN, with no events and no output left from the handshake."""
    connection = machine(role, settings, budget_bytes=budget_bytes)
    kind = frames.HELLO if role == "server" else frames.WELCOME
    feed(connection, frames.PREFACE + frame(kind, 0, 0, encode_settings(remote)))
    if role == "server":
        connection.send_welcome(settings)
    assert connection.state == "OPEN"
    connection.events.clear()
    connection.take_output(1 << 20)
    return connection


def feed(connection: Connection, data: bytes, step: int = 1 << 30, read: Callable[[bytes], memoryview | bytes] = memoryview) -> bytes:
    """Feed `data` as a link would, `step` bytes at a time, each of what `read` makes of them; return what was not used."""
    rest = bytearray()
    for start in range(0, len(data), step):
        rest += data[start : start + step]
        used = connection.receive_data(read(bytes(rest)))
        assert 0 <= used <= len(rest)
        del rest[:used]
    return bytes(rest)


def describe(event: Event) -> tuple[Any, ...]:
    """An event as plain values, so that events of two machines can be compared."""
    parts: list[Any] = [type(event).__name__]
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, IncomingCall):
            value = tuple(getattr(value, field) for field in value.__struct_fields__ if field != "flow")
        elif isinstance(value, CallState):
            value = value.id
        elif isinstance(value, Exception):
            value = str(value)
        parts.append(value)
    return tuple(parts)


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def error_of(connection: Connection) -> str:
    """The one error a machine ended with."""
    errors = [event for event in connection.events if isinstance(event, Errored)]
    assert connection.state == "ERROR"
    assert len(errors) == 1
    assert connection.events[-1] is errors[0]
    return str(errors[0].error)


def feed_three_ways(setup: Callable[[], Connection], data: bytes) -> Connection:
    """Feed `data` whole, byte by byte and with trailing bytes; events, output and state must be the same. Return the machine fed whole."""
    whole, split, trailed = setup(), setup(), setup()
    rest = feed(whole, data)
    assert feed(split, data, 1) == rest
    tail = b""
    if whole.state in ("OPEN", "ERROR"):
        tail = b"\x00\x00\x00\x08\x20\x00"  # the beginning of a PING
    left = feed(trailed, data + tail)
    assert left == (b"" if whole.state == "ERROR" else rest + tail)
    expected = [describe(event) for event in whole.events]
    output = whole.take_output(1 << 20)
    for other in (split, trailed):
        assert [describe(event) for event in other.events] == expected
        assert other.state == whole.state
        assert sorted(other.calls) == sorted(whole.calls)
        assert other.take_output(1 << 20) == output
    return whole


def parse(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Cut bytes into frames: (type, flags, call id, payload). Written apart from the machine, to judge it."""
    found = []
    data = data.removeprefix(frames.PREFACE)
    while data:
        length = int.from_bytes(data[:4])
        found.append((data[4], data[5], int.from_bytes(data[6:14]), data[14 : 14 + length]))
        assert len(found[-1][3]) == length
        data = data[14 + length :]
    return found


def call_frame(call_id: int, method: bytes = b"m", body: bytes = b"", flags: int = 0, deadline_ms: int = 0, number: int = 0) -> bytes:
    """A CALL in one frame, built by hand."""
    payload = deadline_ms.to_bytes(4) + number.to_bytes(8) + b"\x00" + bytes([len(method)]) + method + body
    return frame(frames.CALL, flags, call_id, payload)


class Pair:
    """A client and a server machine with bytes on their way between them; nothing moves unless told to."""

    def __init__(self, client: Settings = SMALL, server: Settings = SMALL, *, budget_bytes: int = 1 << 20) -> None:
        self.parent = ByteBudget(1 << 40)
        self.budgets = {"client": ByteBudget(budget_bytes, self.parent), "server": ByteBudget(budget_bytes, self.parent)}
        self.client = Connection("client", client, budget=self.budgets["client"])
        self.server = Connection("server", server, budget=self.budgets["server"])
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []
        self.settings = server
        self.pump()
        assert names(self.client_events + self.server_events) == ["Opened", "HelloReceived"]
        self.client_events.clear()
        self.server_events.clear()

    def write(self, limit_bytes: int = 4096) -> None:
        """Take what both have to say."""
        for connection, wire in ((self.client, self.to_server), (self.server, self.to_client)):
            pending = connection.output_pending
            data = connection.take_output(limit_bytes)
            assert pending == bool(data), "output_pending and take_output must agree"
            wire += data
        self._collect()

    def deliver(self, count: int = 1 << 30) -> None:
        """Move up to `count` bytes each way."""
        for wire, connection in ((self.to_server, self.server), (self.to_client, self.client)):
            view = bytes(wire[:count])
            used = connection.receive_data(memoryview(view))
            del wire[:used]
        self._collect()

    def _collect(self) -> None:
        self.client_events += self.client.events
        self.client.events.clear()
        for event in self.server.events:
            self.server_events.append(event)
            if type(event).__name__ == "HelloReceived":
                self.server.send_welcome(self.settings)
        self.server.events.clear()

    def pump(self) -> None:
        """Move everything until nothing moves any more."""
        for _ in range(100_000):
            self.write()
            if not self.to_server and not self.to_client:
                return
            before = len(self.to_server), len(self.to_client)
            self.deliver()
            assert (len(self.to_server), len(self.to_client)) != before or self.client.output_pending or self.server.output_pending
        raise AssertionError("two machines talk for ever")

    def events(self) -> tuple[list[Event], list[Event]]:
        """What the client and the server were told since the last time."""
        found = self.client_events, self.server_events
        self.client_events, self.server_events = [], []
        return found

    def check_credit(self, client_calls: list[CallState], server_calls: list[CallState]) -> None:
        """When nothing is on its way: what one side may send is what the other expects, and no credit was lost.

        Args:
            client_calls, server_calls: every call there ever was, with the items each side has not used yet still in its flow.
        """
        assert not self.to_client
        assert not self.to_server
        for sender, receiver, calls in ((self.client, self.server, server_calls), (self.server, self.client, client_calls)):
            inbox = receiver.inbox
            unused = sum(call.flow.unused for call in calls if call.flow is not None)
            assert sender.outbox.credit == inbox.credit
            assert inbox.credit + inbox.owed + unused == inbox.window
            for call_id, call in receiver.calls.items():
                twin = sender.calls.get(call_id)
                if call.flow is not None and call.flow.receiving and twin is not None and twin.flow is not None:
                    assert twin.flow.send_credit == call.flow.receive_credit


def with_calls(role: Role) -> Connection:
    """An open machine in which calls 1 to 3 have begun: one plain, one with streams, one of which a part has come or is to go."""
    connection = opened(role)
    if role == "server":
        half = frame(frames.CALL, frames.MORE, 3, (100).to_bytes(4) + bytes(14) + b"half")
        feed(connection, call_frame(1) + call_frame(2, flags=frames.STREAM) + half)
    else:
        for sends, takes, size in ((False, False, 0), (True, True, 0), (True, False, 5000)):
            connection.open_call(CallState(), b"m", bytes(size), True, 0, 1, sends_items=sends, takes_items=takes)
    return connection
