"""The judge says no to what no machine may say, and counts what machines hear."""

from __future__ import annotations

import pytest

from holdfast.wire import frames
from holdfast.wire.checksum import seal
from tests.fuzz import judge
from tests.fuzz.commands import call_frame
from tests.wire.test_v1_for_ever import pinned

frame = frames.pack_frame
HELLO, WELCOME = (frames.PREFACE + frame(kind, 0, 0, b"\x80") for kind in (frames.HELLO, frames.WELCOME))


def judged(role: str, *said: bytes, checked: bool = False) -> judge.Judge:
    found = judge.Judge(role)
    found.see(HELLO if role == "client" else WELCOME)
    found.agree(1024, checked)
    for data in said:
        found.see(data)
    return found


def test_a_real_session_is_right() -> None:
    for role in ("client", "server"):
        said = b"".join(data for who, data in pinned() if who == role)
        start = len(frames.PREFACE) + frames.HEADER_BYTES + int.from_bytes(said[8:12])
        found = judge.Judge(role)
        found.see(said[:start])
        found.agree(1024, False)
        found.see(said[start:])


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("server", call_frame(1)),
        ("client", frame(frames.REPLY, 0, 1)),
        ("server", frame(0x30, 0, 0)),
        ("server", frame(frames.REPLY, 0x40, 1)),
        ("server", frame(frames.REPLY, 0, 1, bytes(1025))),
        ("server", frame(frames.REPLY, 0, 1) + frame(frames.CREDIT, 0, 1, bytes(4))),
        ("server", frame(frames.END, 0, 1) + frame(frames.DATA, 0, 1)),
        ("server", frame(frames.REPLY, 1, 1, bytes(8)) + frame(frames.PIECE, 0, 1, b"x") + frame(frames.ERROR, 0, 1)),
        ("client", frame(frames.CANCEL, 0, 1) + frame(frames.DATA, 0, 1)),
        ("client", call_frame(2) + call_frame(1)),
        ("client", frame(frames.PING, 0, 1, bytes(8))),
        ("server", frame(frames.GOAWAY, 0, 0, bytes(8) + b"\x01") + frame(frames.PING, 0, 0, bytes(8))),
        ("server", frame(frames.PING, 0, 0, bytes(8))[:-1]),
    ],
)
def test_what_is_wrong_is_seen(role: str, said: bytes) -> None:
    with pytest.raises(AssertionError):
        judged(role, said)


def test_check_sums_are_looked_at() -> None:
    ping = frame(frames.PING, 0, 0, bytes(8))
    judged("server", seal(ping), checked=True)
    with pytest.raises(AssertionError):
        judged("server", ping + bytes(4), checked=True)


def test_the_first_frame_is_the_handshake_and_a_stranger_gets_one_line() -> None:
    with pytest.raises(AssertionError):
        judge.Judge("server").see(HELLO)
    found = judge.Judge("server")
    found.see(b"holdfast: this port speaks something else.\r\n")
    with pytest.raises(AssertionError):
        found.see(WELCOME)


@pytest.mark.parametrize(
    ("heard", "cost"),
    [
        (call_frame(1, body=bytes(500)), 0),
        (call_frame(1, flags=frames.MORE, total=900, body=bytes(500)), 500),
        (frame(frames.CALL, 0x0D, 1, (900).to_bytes(4) + bytes(13) + b"\x01m" + bytes(25) + b"\0\x01\x80" + b"body"), 4),
        (frame(frames.DATA, 0, 1, bytes(10)), 74),
        (frame(frames.DATA, frames.MORE, 1, bytes(14)), 74),
        (frame(frames.PIECE, 0, 1, bytes(7)), 7),
        (frame(frames.REPLY, frames.MORE, 1, bytes(14)), 10),
        (frame(frames.REPLY, frames.MORE | frames.TRAILERS, 1, bytes(4) + b"\0\x03abc" + bytes(10)), 10),
        (frame(frames.ERROR, 0, 1, bytes(50)) + frame(frames.CREDIT, 0, 1, bytes(4)), 0),
    ],
)
def test_credit_is_counted_as_the_protocol_says(heard: bytes, cost: int) -> None:
    tally = judge.Tally()
    tally.hear(HELLO)
    for byte in heard:
        tally.hear(bytes((byte,)))
    assert tally.spent == cost


def test_granted_credit_is_found_among_what_waits() -> None:
    waiting = [frame(frames.CREDIT, 0, 0, (70_000).to_bytes(4)), frame(frames.CREDIT, 0, 1, bytes(4)), b"body", memoryview(b"x" * 18)]
    assert judge.granted(waiting) == 70_000
    assert judged("server", *map(bytes, waiting[:2])).granted == 70_000
