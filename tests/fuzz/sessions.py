"""Inputs for the connection harness that were real sessions: two machines talk, and what either heard becomes an input.

Owns: the sessions. Between them they say every frame with every flag it knows, so that mutations begin with what makes sense.
"""

from __future__ import annotations

from holdfast.wire import frames
from tests.fuzz.commands import call_frame
from tests.fuzz.harnesses.connection import HANDSHAKES, HEAD_BYTES
from tests.wire.helpers import parse
from tests.wire.test_v1_for_ever import pinned

FEED, FEED_2, FEED_4 = 0x00, 0x10, 0x30
"""Script: hear one frame, two, four. The high half of a byte is the argument, the low half says what is done."""
TAKE_ALL, TAKE_LITTLE = 0x36, 0x06
CLIENT = {name: 7 + place for place, name in enumerate(("open", "open_", "plain", "cancel", "item", "end", "consume", "talk", "leave"))}
SERVER = {name: 7 + place for place, name in enumerate(("reply", "error", "item", "item_", "end", "consume", "finish", "talk", "leave"))}


def build(
    role: str, start: int, script: list[int] | bytes = b"", wire: bytes = b"", *, limits: int = 0, budget: int = 0, cuts: int = 7
) -> bytes:
    """Put an input together; see `harnesses/connection.py`."""
    head = bytes(((role == "client") | start << 1, limits, budget, cuts, len(script)))
    assert len(head) == HEAD_BYTES
    return head + bytes(script) + wire


def do(what: int, argument: int = 0) -> int:
    """A byte of a script."""
    return what | argument << 4


def recorded() -> list[bytes]:
    """The session that has every frame of version 1, as each side heard it."""
    found = []
    said = pinned()
    for role, other in (("server", "client"), ("client", "server")):
        heard = [data for who, data in said if who == other]
        wire = b"".join(heard)
        after = b"".join(each for each in heard[2:])
        asks: list[int] = []
        if role == "client":
            asks = [
                do(CLIENT["open"], 0),
                3,
                do(CLIENT["open"], 9),
                3,
                do(CLIENT["plain"], 1),
                do(CLIENT["open"], 1),
                3,
                do(CLIENT["open"], 1),
                0,
            ]
        for limits in (0, 2, 10):
            found.append(build(role, 0, asks, wire, limits=limits))
            found.append(build(role, 4, [*asks, *(FEED, TAKE_ALL, do(13, 1)) * 12], after, limits=limits))
    return found


def served() -> list[bytes]:
    """What servers hear and do: each kind of call, answered in each way."""
    server = SERVER
    call, stream = call_frame(1, body=b"abc"), call_frame(1, flags=frames.STREAM)
    items = b"".join(frames.pack_frame(frames.DATA, flags, 1, bytes(size)) for flags, size in ((0, 5), (2, 900), (0, 0), (0, 500)))
    end, cancel = frames.pack_frame(frames.END, 0, 1), frames.pack_frame(frames.CANCEL, 0, 1)
    credit = frames.pack_frame(frames.CREDIT, 0, 1, (4096).to_bytes(4)) + frames.pack_frame(frames.CREDIT, 0, 0, (4000).to_bytes(4))
    large = call_frame(1, flags=frames.MORE, total=2500, body=bytes(500)) + frames.pack_frame(frames.PIECE, frames.MORE, 1, bytes(1000))
    large += frames.pack_frame(frames.PIECE, 0, 1, bytes(1000))
    item = frames.pack_frame(frames.DATA, frames.MORE, 1, (4500).to_bytes(4) + bytes(996))
    item += b"".join(frames.pack_frame(frames.PIECE, more, 1, bytes(size)) for more, size in ((1, 1024), (1, 1024), (1, 1024), (0, 432)))
    traced = frames.pack_frame(frames.CALL, 0x0E, 1, bytes(13) + b"\x01m" + bytes(25) + b"\0\x01\x80" + b"body")
    talk = frames.pack_frame(frames.PING, 0, 0, bytes(8)) + frames.pack_frame(frames.PONG, 0, 0, bytes(8))
    talk += frames.pack_frame(frames.ACK, 0, 0, (5).to_bytes(8)) + frames.pack_frame(frames.GOAWAY, 0, 0, bytes(9) + b"bye")
    late = call_frame(1, number=4) + call_frame(2, number=9) + cancel + frames.pack_frame(frames.CANCEL, 0, 2)
    found = []
    for limits in (0, 5, 10, 15):
        found += [
            build("server", 4, [FEED, 0, do(server["reply"], size), 0, flags], call, limits=limits)
            for size in (1, 9, 15)
            for flags in (0, 0x30)
        ]
        found += [build("server", 4, [FEED, 0, do(server["error"], size), 0], call, limits=limits) for size in (1, 8, 15)]
        found.append(build("server", 4, [FEED_4, 0, 1, 0, 0, 1, do(13, 0), do(server["end"], 1), 0], stream + items + end, limits=limits))
        found.append(
            build(
                "server",
                4,
                [FEED, 0, *(do(server["item"], 10), 0, FEED, TAKE_LITTLE) * 3, do(server["end"], 1), 0],
                call + credit,
                limits=limits,
            )
        )
        found.append(build("server", 4, [FEED_4, 0, 0, 0, do(server["reply"], 4), 0], large, limits=limits))
        found.append(build("server", 4, [FEED, 0, FEED_4, 0, do(server["consume"])], stream + item + end, limits=limits))
        found.append(build("server", 4, [FEED, 0, FEED, 0, do(server["finish"]), 0], call + cancel, limits=limits))
        found.append(
            build("server", 4, [FEED, 0, do(server["talk"], 1), do(server["talk"], 9), FEED_4, TAKE_ALL], call + talk, limits=limits)
        )
        found.append(build("server", 4, [FEED, 0, do(server["leave"], 5), do(server["leave"], 1), TAKE_ALL, FEED_4], late, limits=limits))
    greedy = stream + frames.pack_frame(frames.DATA, 0, 1, bytes(1000)) * 5
    found += [
        build("server", 4, [FEED, 0] * 6, greedy, limits=limits) for limits in (0, 1)
    ]  # more than there is credit for, and nobody reads
    found += [build("server", 4, b"", traced), build("server", 4, b"", call_frame(1, flags=frames.TRAILERS) + call_frame(1))]
    found += [build("server", 4, [FEED_4, 0, 0], large, budget=budget) for budget in (1, 2, 3)]
    found += [build("server", 4, [FEED, 0, FEED_4], stream + item, budget=3), build("server", 4, b"", talk[:22] * 70)]
    found += [build("server", start, b"", call * (start > 4) + items + end) for start in (5, 6, 7)]
    found += [
        build("server", 4, b"", frames.pack_frame(kind, flags, 1, bytes(20))) for kind in (*frames.NAMES, 0x30) for flags in (0, 0x80)
    ]
    found += [build("server", 4, [FEED, 0, *([do(server["leave"], argument)] * 2), 0, 0], call) for argument in (0, 1, 8, 10, 12)]
    return found


def called() -> list[bytes]:
    """What clients do and hear."""
    client = CLIENT
    reply = frames.pack_frame(frames.REPLY, 0, 1, b"done")
    told = frames.pack_frame(frames.REPLY, frames.TRAILERS, 1, b"\0\x01\x80done") + frames.pack_frame(
        frames.ERROR, 0x20, 2, b"\0\x01\x80no"
    )
    large = frames.pack_frame(frames.REPLY, frames.MORE, 1, (2500).to_bytes(4) + bytes(500)) + frames.pack_frame(
        frames.PIECE, 1, 1, bytes(1000)
    )
    large += frames.pack_frame(frames.PIECE, 0, 1, bytes(1000))
    items = frames.pack_frame(frames.DATA, 0, 1, b"item") * 3 + frames.pack_frame(frames.END, frames.TRAILERS, 1, b"\0\x01\x80")
    rest = frames.pack_frame(frames.PIECE, frames.MORE, 1, bytes(996)) + frames.pack_frame(frames.PIECE, 0, 1, bytes(2000))
    credit = frames.pack_frame(frames.CREDIT, 0, 1, (4096).to_bytes(4)) + frames.pack_frame(frames.CREDIT, 0, 0, (2000).to_bytes(4))
    status = frames.pack_frame(frames.STATUS, 0, 0, b"\x81\xa8draining\xc3") + frames.pack_frame(frames.PONG, 0, 0, bytes(8))
    away = frames.pack_frame(frames.GOAWAY, 0, 0, (2**53 - 1).to_bytes(8) + b"\0") + frames.pack_frame(
        frames.GOAWAY, 0, 0, bytes(8) + b"\x01bad"
    )
    refused = frames.PREFACE + frames.pack_frame(frames.GOAWAY, 0, 0, bytes(8) + b"\x07full")
    found = [build("client", 0, b"", refused), build("client", 4, [0x18, 0x18, do(client["leave"], 8)], refused[8:])]
    for limits in (0, 5, 10, 15):
        for size in (0, 1, 9, 15):
            found.append(build("client", 4, [do(client["open"], size), 0, TAKE_LITTLE, FEED, TAKE_ALL], reply, limits=limits))
            found.append(build("client", 4, [do(client["open"], size), 16, do(client["plain"], 2), FEED_2], told, limits=limits))
            found.append(
                build(
                    "client",
                    4,
                    [do(client["open"], size), 3, do(client["item"], size), 0, TAKE_LITTLE, FEED_2],
                    credit + items,
                    limits=limits,
                )
            )
        found.append(build("client", 4, [do(client["plain"], 1), FEED_4], large, limits=limits))
        found.append(
            build(
                "client", 4, [do(client["open"], 1), 3, do(client["end"]), 0, FEED_4, 0, 1, 0, do(client["consume"])], items, limits=limits
            )
        )
        found.append(build("client", 4, [do(client["open"], 15), 1, do(client["cancel"]), 0, TAKE_ALL, FEED], reply, limits=limits))
        found.append(build("client", 4, [do(client["talk"], 1), do(client["talk"], 9), FEED_2, TAKE_ALL], status, limits=limits))
    found += [
        build("client", start, [FEED, TAKE_LITTLE, FEED, TAKE_ALL], wire)
        for start in (5, 6, 7)
        for wire in (reply, told, items, rest, credit)
    ]
    found += [build("client", 7, [FEED_2], rest, budget=budget) for budget in (1, 2, 3)]
    found += [build("client", start, [FEED, 0, FEED], away) for start in (4, 5)]
    found += [
        build("client", 5, b"", frames.pack_frame(kind, flags, 1, bytes(20))) for kind in (*frames.NAMES, 0x30) for flags in (0, 0x80)
    ]
    found += [build("client", start, [FEED, do(client["leave"], argument)], reply) for start in (4, 6) for argument in (0, 8, 10, 12)]
    return found


def strangers() -> list[bytes]:
    """Those who never come to an open session."""
    first = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\x10" + bytes(16),
        b"\x15\x03\x03\0\x02\x02\x28",
        b"hello\n",
        b"\0" * 30,
        b"\x89HFST\r\n\x02",
    ]
    first += [b"", b"\x89", b"\x89HFST\n\x01", frames.PREFACE, frames.PREFACE + frames.pack_frame(frames.PING, 0, 0, bytes(8))]
    first += [
        frames.PREFACE + frames.pack_frame(kind, 0, 0, payload) for kind in (1, 2) for payload in (b"\x80", b"\xc1", b"", bytes(20_000)[:9])
    ]
    first += [frames.PREFACE + frames.HEADER.pack(20_000, kind, 0, 0) for kind in (1, 2)]
    first += [greeting + more for greeting in HANDSHAKES.values() for more in (b"", call_frame(1))]
    found = [
        build(role, start, script, wire)
        for role in ("server", "client")
        for start in (0, 3)
        for wire in first
        for script in (b"", b"\x00\x00\x8f")
    ]
    assert all(parse(greeting)[0][0] in (frames.HELLO, frames.WELCOME) for greeting in HANDSHAKES.values())
    return found


def all_sessions() -> list[bytes]:
    """Every input of this file."""
    return recorded() + served() + called() + strangers()
