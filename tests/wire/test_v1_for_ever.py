"""One session with every frame type of version 1, byte for byte as it was when version 1 was made.

If this test fails, do not change `v1_session.txt`: peers in the field speak what stands there. Only settings may gain keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from holdfast.wire import ByteBudget, CallState, Connection, IncomingCall, ItemReceived, Settings, Status, Trailers, encode_trailers, frames
from tests.wire.helpers import feed, names, parse

PINNED = Path(__file__).with_name("v1_session.txt")
CHECKED = Path(__file__).with_name("v1_checked.txt")

CLIENT = Settings(frame_max_bytes=1024, stream_window_bytes=4096, instance=bytes(range(16)), name="client")
SERVER = Settings(frame_max_bytes=1024, stream_window_bytes=4096, connection_window_bytes=8192, name="server", catalogue=b"\xca" * 16)
TRACE = bytes(range(0x40, 0x40 + 25))

Said = list[tuple[str, bytes]]


class Session:
    """Two machines whose every frame is written down."""

    def __init__(self, client: Settings = CLIENT, server: Settings = SERVER) -> None:
        self.settings = server
        self.client = Connection("client", client, budget=ByteBudget(1 << 20))
        self.server = Connection("server", server, budget=ByteBudget(1 << 20))
        self.said: Said = []
        self.client_saw: list[str] = []
        self.server_saw: list[str] = []

    def go(self) -> None:
        """Let both say what they have to, until nothing moves."""
        while self.client.output_pending or self.server.output_pending:
            for who, speaker, listener in (("client", self.client, self.server), ("server", self.server, self.client)):
                data = speaker.take_output(1 << 20)
                self.said += [(who, each) for each in cut(data, speaker.checked)]
                assert feed(listener, data) == b""
            if self.server.state == "GREETED":
                self.server.send_welcome(self.settings)
            for connection, seen in ((self.client, self.client_saw), (self.server, self.server_saw)):
                seen += take(connection)

    def ask(self, body: bytes, *, sends: bool = False, takes: bool = False) -> tuple[CallState, IncomingCall]:
        call = CallState()
        extra = frames.pack_extra(TRACE, b"\x81\xa1k\xa1v") if not body else None
        self.client.open_call(call, b"shop.place", body, bool(body), 10_000, 7, frames.RETRY, extra, sends, takes)
        self.go()
        incoming = self.server.calls[call.id]
        assert isinstance(incoming, IncomingCall)
        return call, incoming


def cut(data: bytes, checked: bool) -> Iterator[bytes]:
    """The preface by itself, then each frame, with its check sum if it has one."""
    sums = frames.CHECK_BYTES if checked else 0
    if data.startswith(frames.PREFACE):
        yield frames.PREFACE
        data = data[len(frames.PREFACE) :]
        sums = 0
    while data:
        length = frames.HEADER_BYTES + int.from_bytes(data[:4]) + sums
        yield data[:length]
        data = data[length:]


def whole_session() -> Session:
    session = Session()
    session.go()
    _, incoming = session.ask(b"")
    session.server.send_reply(incoming, b"\xa7receipt", False)
    session.go()
    _, incoming = session.ask(b"a" * 1100)
    session.server.send_reply(incoming, b"r" * 1100, True)
    session.go()
    _, incoming = session.ask(b"b")
    session.server.send_error(incoming, msgspec.msgpack.encode({"c": 8, "m": "full", "x": 0}))
    session.go()
    call, incoming = session.ask(b"c", sends=True, takes=True)
    for size in (3, 1000, 1000, 3000):
        session.client.send_item(call, b"i" * size, True)
        session.go()
    session.client.send_end(call)
    session.go()
    session.server.send_item(incoming, b"\x01", False)
    session.server.send_end(incoming)
    session.go()
    call, incoming = session.ask(b"d")
    session.client.cancel(call)
    session.client.send_ping(b"are you?")
    session.go()
    session.server.finish(incoming)
    session.server.send_goaway("restarting")
    session.go()
    session.server.send_status(Status(serving=False, draining=True, load=0.25, message="no database"))
    session.client.send_ack(8)
    session.go()
    return session


def checked_session() -> Said:
    """A session with check sums, and an answer with trailers."""
    features = {"features": (frames.CHECKED,)}
    session = Session(msgspec.structs.replace(CLIENT, **features), msgspec.structs.replace(SERVER, **features))
    session.go()
    call = CallState()
    session.client.open_call(call, b"shop.price", b"\x80", False, 0, 1, extra=(frames.TRAILERS, b""))
    session.go()
    incoming = session.server.calls[call.id]
    session.server.send_reply(incoming, b"\x01", False, encode_trailers(Trailers(queue_us=7, run_us=300, load=0.5)))
    session.server.announce_goaway("restarting")
    session.go()
    return session.said


def pinned(page: Path = PINNED) -> Said:
    lines = [line.split() for line in page.read_text("ascii").splitlines() if line and not line.startswith("#")]
    return [(who, bytes.fromhex(data)) for who, data in lines]


def test_a_session_is_said_in_the_bytes_of_version_1() -> None:
    built, kept = whole_session().said, pinned()
    assert len(built) == len(kept)
    for (who, data), (expected_who, expected) in zip(built, kept, strict=True):
        assert who == expected_who
        if expected[4] in (frames.HELLO, frames.WELCOME) and expected != frames.PREFACE:
            [(kind, flags, call_id, settings)], [(*head, known)] = parse(data), parse(expected)
            assert [kind, flags, call_id] == head
            assert msgspec.msgpack.decode(settings).items() >= msgspec.msgpack.decode(known).items()
        else:
            assert data.hex() == expected.hex()


def test_a_checked_session_is_said_in_the_bytes_of_version_1() -> None:
    assert [(who, data.hex()) for who, data in checked_session()] == [(who, data.hex()) for who, data in pinned(CHECKED)]


def test_every_frame_type_is_in_it() -> None:
    assert {data[4] for _, data in pinned() if data != frames.PREFACE} == set(frames.NAMES)


def test_the_bytes_of_version_1_are_understood() -> None:
    server = Connection("server", SERVER, budget=ByteBudget(1 << 20))
    seen: list[str] = []
    rest = b""
    for who, data in pinned():
        if who == "client":
            rest += data
            rest = feed(server, rest)
            seen += take(server)
            if server.state == "GREETED":
                server.send_welcome(SERVER)
    items = ["ItemReceived"] * 4
    assert seen == ["HelloReceived", "Called", "Called", "Called", "Called", *items, "Ended", "Called", "CancelReceived"]
    assert whole_session().server_saw == seen


def take(connection: Connection) -> list[str]:
    """What a machine was told; items are used at once."""
    events, connection.events = connection.events, []
    for event in events:
        if isinstance(event, ItemReceived):
            connection.consume(event)
    return names(events)


def test_the_session_ran_to_its_end() -> None:
    session = whole_session()
    assert session.client_saw == [
        "Opened",
        "Replied",
        "Replied",
        "Failed",
        "Drained",
        "ItemReceived",
        "Ended",
        "Ponged",
        "GoneAway",
        "StatusReceived",
    ]
    assert session.client.calls == session.server.calls == {}
