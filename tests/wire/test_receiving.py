"""Every frame in every state of a call, legal and illegal, in both roles; fed whole, byte by byte and with trailing bytes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from holdfast.wire import CallState, Connection, IncomingCall, frames
from holdfast.wire.checksum import seal
from holdfast.wire.machine import Role
from tests.wire.helpers import SMALL, call_frame, error_of, feed, feed_three_ways, frame, machine, names, opened, parse

MORE, RAW, TRACE, METADATA, STREAM = frames.MORE, frames.RAW, frames.TRACE, frames.METADATA, frames.STREAM
TRAILERS = frames.TRAILERS
PING8 = b"12345678"


def total(count: int) -> bytes:
    return count.to_bytes(4)


def ack(number: int) -> bytes:
    return number.to_bytes(8)


def head(method: bytes = b"m", attempt: int = 0, number: int = 0) -> bytes:
    return bytes(4) + number.to_bytes(8) + bytes([attempt, len(method)]) + method


# ---------------------------------------------------------------------------------- machines with a call in each state


def server(*before: bytes) -> Callable[[], Connection]:
    def made() -> Connection:
        connection = opened("server")
        assert feed(connection, b"".join(before)) == b""
        assert connection.state == "OPEN"
        connection.events.clear()
        connection.take_output(1 << 20)
        return connection

    return made


def client(*, sends: bool = False, takes: bool = False, before: bytes = b"") -> Callable[[], Connection]:
    def made() -> Connection:
        connection = opened("client")
        connection.open_call(CallState(), b"m", b"", False, 0, 1, sends_items=sends, takes_items=takes)
        assert feed(connection, before) == b""
        assert connection.state == "OPEN"
        connection.events.clear()
        connection.take_output(1 << 20)
        return connection

    return made


UNARY = server(call_frame(1))
STREAMING = server(call_frame(1, flags=STREAM))
ENDED = server(call_frame(1, flags=STREAM), frame(frames.END, 0, 1))
PIECES = server(frame(frames.CALL, MORE, 1, total(10) + head() + b"12345"))
ITEM_PIECES = server(call_frame(1, flags=STREAM), frame(frames.DATA, MORE, 1, total(10) + b"12345"))
REFUSED = server(frame(frames.CALL, MORE | STREAM, 1, total(SMALL.message_max_bytes + 1) + head()))


def _gone() -> Connection:
    connection = UNARY()
    connection.send_goaway("bye")
    connection.take_output(1 << 20)
    return connection


GONE = _gone
FULL = server(*(call_frame(call_id) for call_id in range(1, 5)))
NOTHING = server()

ASKED = client()
SENDING = client(sends=True)
TAKING = client(takes=True)
HALF_REPLY = client(before=frame(frames.REPLY, MORE, 1, total(10) + b"12345"))
HALF_ITEM = client(takes=True, before=frame(frames.DATA, MORE, 1, total(10) + b"12345"))
OVER = client(takes=True, before=frame(frames.END, 0, 1))

LEGAL = [
    # server: calls
    ("call", NOTHING, call_frame(1), ["Called"]),
    ("call with the last id there is", NOTHING, call_frame(frames.CALL_ID_MAX), ["Called"]),
    ("calls may leave ids out", NOTHING, call_frame(3) + call_frame(9), ["Called", "Called"]),
    ("call without a name and a body", NOTHING, call_frame(1, b""), ["Called"]),
    ("call in pieces", NOTHING, frame(16, MORE, 1, total(3) + head()) + frame(23, MORE, 1, b"a") + frame(23, 0, 1, b"bc"), ["Called"]),
    ("call is finished", PIECES, frame(frames.PIECE, 0, 1, b"67890"), ["Called"]),
    ("half a call is cancelled, the rest skipped", PIECES, frame(frames.CANCEL, 0, 1) + frame(frames.PIECE, 0, 1, b"67890"), []),
    ("another call inside the pieces of one", PIECES, call_frame(2) + frame(frames.PIECE, 0, 1, b"67890"), ["Called", "Called"]),
    ("cancel", UNARY, frame(frames.CANCEL, 0, 1), ["CancelReceived"]),
    ("cancel with a trailer", UNARY, frame(frames.CANCEL, 0, 1, b"why"), ["CancelReceived"]),
    ("cancel of a stream that ended", ENDED, frame(frames.CANCEL, 0, 1), ["CancelReceived"]),
    ("cancel of a call that is over", server(call_frame(5)), frame(frames.CANCEL, 0, 4), []),
    # server: a stream comes in
    ("item", STREAMING, frame(frames.DATA, 0, 1, b"x"), ["ItemReceived"]),
    ("empty items", STREAMING, frame(frames.DATA, 0, 1) * 2, ["ItemReceived", "ItemReceived"]),
    ("item of bytes", STREAMING, frame(frames.DATA, RAW, 1, b"x"), ["ItemReceived"]),
    ("end", STREAMING, frame(frames.END, 0, 1), ["Ended"]),
    ("end with a trailer of a later version", STREAMING, frame(frames.END, 0, 1, b"\x81\xa1q\x01"), ["Ended"]),
    ("item in pieces, then the end", ITEM_PIECES, frame(frames.PIECE, 0, 1, b"67890") + frame(20, 0, 1), ["ItemReceived", "Ended"]),
    ("item beginning with nothing", STREAMING, frame(19, MORE, 1, total(2)) + frame(23, 0, 1, b"ab"), ["ItemReceived"]),
    ("cancel inside an item", ITEM_PIECES, frame(frames.CANCEL, 0, 1), ["CancelReceived"]),
    ("item, end, piece, credit of a call that is over", server(call_frame(5)),
     frame(19, 0, 4, b"x") + frame(20, 0, 4) + frame(23, 0, 4, b"x") + frame(21, 0, 4, total(1)), []),
    # server: what it refuses
    ("call too large", NOTHING, frame(16, MORE, 1, total(16385) + head()), ["Unusable"]),
    ("what belongs to a refused call is skipped", REFUSED,
     frame(23, MORE, 1, b"x" * 900) * 5 + frame(19, 0, 1, b"x") + frame(19, MORE, 1, total(9) + b"x") + frame(20, 0, 1), []),
    ("a refused call that is cancelled is over", REFUSED, frame(22, 0, 1) + frame(20, 0, 1), []),
    ("item too large", STREAMING, frame(19, MORE, 1, total(16385)), ["Unusable"]),
    ("one call too many", FULL, call_frame(5), ["Unusable"]),
    ("one stream too many, with its items", FULL, call_frame(5, flags=STREAM) + frame(19, 0, 5, b"x") + frame(20, 0, 5), ["Unusable"]),
    ("one call in pieces too many", FULL, frame(16, MORE, 5, total(9) + head()) + frame(23, 0, 5, bytes(9)), ["Unusable"]),
    # client
    ("reply", ASKED, frame(frames.REPLY, 0, 1, b"x"), ["Replied"]),
    ("empty reply", ASKED, frame(frames.REPLY, 0, 1), ["Replied"]),
    ("reply of bytes", ASKED, frame(frames.REPLY, RAW, 1, b"x"), ["Replied"]),
    ("reply in pieces", HALF_REPLY, frame(frames.PIECE, MORE, 1, b"6789") + frame(frames.PIECE, 0, 1, b"0"), ["Replied"]),
    ("reply before we ended our stream", SENDING, frame(frames.REPLY, 0, 1, b"x"), ["Replied"]),
    ("error", ASKED, frame(frames.ERROR, 0, 1, b"x"), ["Failed"]),
    ("error inside a reply", HALF_REPLY, frame(frames.ERROR, 0, 1, b"x") + frame(23, 0, 1, b"67890"), ["Failed"]),
    ("error inside an item", HALF_ITEM, frame(frames.ERROR, 0, 1, b"x"), ["Failed"]),
    ("error in a stream", TAKING, frame(frames.DATA, 0, 1, b"x") + frame(frames.ERROR, 0, 1, b"x"), ["ItemReceived", "Failed"]),
    ("items and end", TAKING, frame(frames.DATA, 0, 1, b"x") + frame(frames.END, 0, 1), ["ItemReceived", "Ended"]),
    ("reply too large", ASKED, frame(17, MORE, 1, total(16385)) + frame(23, MORE, 1, b"x"), ["Unusable"]),
    ("item too large", TAKING, frame(19, MORE, 1, total(16385)) + frame(23, MORE, 1, b"x"), ["Unusable"]),
    ("anything for a call that is over", OVER, frame(17, 0, 1) + frame(18, 0, 1) + frame(19, 0, 1) + frame(20, 0, 1)
     + frame(21, 0, 1, total(1)) + frame(17, MORE, 1, total(9) + b"x") + frame(23, 0, 1, b"x"), []),
    ("credit for our stream", SENDING, frame(frames.CREDIT, 0, 1, total(1)), []),
    ("credit of nothing", SENDING, frame(frames.CREDIT, 0, 1, total(0)), []),
    # both
    ("ping", ASKED, frame(frames.PING, 0, 0, PING8), []),
    ("ping", NOTHING, frame(frames.PING, 0, 0, PING8), []),
    ("pong", ASKED, frame(frames.PONG, 0, 0, PING8), ["Ponged"]),
    ("pong", NOTHING, frame(frames.PONG, 0, 0, PING8), ["Ponged"]),
    ("goaway", ASKED, frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(7, 0) + b"\xff"), ["GoneAway"]),
    ("goaway", UNARY, frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(0, 0)), ["GoneAway"]),
    ("types of later versions", ASKED, frame(0x18, 255, 2**64 - 1, b"x" * 1024) + frame(0, 0, 0) + frame(0xFF, 1, 1), []),
    ("types of later versions", UNARY, frame(0x25, 255, 0, b"x" * 1024), []),
    # trailers, status, ack
    ("call that wants trailers", NOTHING, call_frame(1, flags=TRAILERS), ["Called"]),
    ("reply with trailers", ASKED, frame(frames.REPLY, TRAILERS, 1, b"\0\1\x80x"), ["Replied"]),
    ("reply in pieces with trailers", ASKED,
     frame(frames.REPLY, TRAILERS | MORE, 1, total(3) + b"\0\1\x80a") + frame(frames.PIECE, 0, 1, b"bc"), ["Replied"]),
    ("error with trailers", ASKED, frame(frames.ERROR, TRAILERS, 1, b"\0\0x"), ["Failed"]),
    ("end with trailers", TAKING, frame(frames.END, TRAILERS, 1, b"\0\1\x80"), ["Ended"]),
    ("end with trailers from a client", STREAMING, frame(frames.END, TRAILERS, 1, b"\0\1\x80"), ["Ended"]),
    ("answers with trailers to calls that are over", OVER,
     frame(17, TRAILERS, 1, b"\0\0") + frame(18, TRAILERS, 1, b"\0\0") + frame(20, TRAILERS, 1, b"\0\0"), []),
    ("status", ASKED, frame(frames.STATUS, 0, 0, b"\x82\xa8draining\xc3\xa7unknown\x01"), ["StatusReceived"]),
    ("acks that grow", NOTHING, frame(frames.ACK, 0, 0, ack(5)) + frame(frames.ACK, 0, 0, ack(5)) + frame(frames.ACK, 0, 0, ack(9)), []),
    ("calls from the acknowledged number on, and one without a number", NOTHING,
     frame(frames.ACK, 0, 0, ack(5)) + call_frame(1, number=5) + call_frame(2, number=0), ["Called", "Called"]),
    ("calls after our last word are skipped, with their items and pieces", GONE,
     call_frame(5) + call_frame(6, flags=STREAM) + frame(19, 0, 6, b"x") + frame(20, 0, 6)
     + frame(16, MORE, 7, total(2) + head() + b"a") + frame(23, 0, 7, b"b"), []),
]  # fmt: skip

ILLEGAL = [
    # roles
    ("server sends CALL", ASKED, call_frame(1), "CALL from a server"),
    ("server sends CANCEL", ASKED, frame(frames.CANCEL, 0, 1), "CANCEL from a server"),
    ("client sends REPLY to its own call", UNARY, frame(frames.REPLY, 0, 1, b"x"), "REPLY from a client"),
    ("client sends REPLY in pieces", UNARY, frame(frames.REPLY, MORE, 1, total(9)), "REPLY from a client"),
    ("client sends ERROR", UNARY, frame(frames.ERROR, 0, 1, b"x"), "ERROR from a client"),
    ("second HELLO", NOTHING, frame(frames.HELLO, 0, 0, b"\x80"), "HELLO after the handshake"),
    ("second WELCOME", ASKED, frame(frames.WELCOME, 0, 0, b"\x80"), "WELCOME after the handshake"),
    # ids
    ("call 0", NOTHING, call_frame(0), "call id 0 after 0"),
    ("the same call again", UNARY, call_frame(1), "call id 1 after 1"),
    ("an id too large", NOTHING, call_frame(frames.CALL_ID_MAX + 1), "ids only grow, up to"),
    *((f"{frames.name_of(kind)} of a call that never was", UNARY, frame(kind, 0, call_id, b"\0\0\0\1"), "never opened")
      for kind in (frames.DATA, frames.END, frames.PIECE, frames.CANCEL, frames.CREDIT) for call_id in (0, 2) if kind != 21 or call_id),
    *((f"{frames.name_of(kind)} of a call that never was", ASKED, frame(kind, 0, call_id, b"\0\0\0\1"), "never opened")
      for kind in (frames.REPLY, frames.ERROR, frames.DATA, frames.END, frames.PIECE) for call_id in (0, 2)),
    ("REPLY in pieces of a call that never was", ASKED, frame(frames.REPLY, MORE, 2, total(9) + b"x"), "never opened"),
    *((f"{frames.name_of(kind)} with a call id", ASKED, frame(kind, 0, 1, PING8 + b"x"), "belongs to the connection")
      for kind in (frames.PING, frames.PONG, frames.GOAWAY, frames.STATUS, frames.ACK)),
    # flags
    *((f"{frames.name_of(kind)} with an unknown flag", setup, frame(kind, 0x80, 1, b"x"), "with flags 0x80; version 1 knows")
      for kind in frames.KNOWN_FLAGS if kind != frames.CALL for setup in (ASKED, UNARY)),
    ("CALL with an unknown flag", NOTHING, frame(frames.CALL, 0x40, 1, head()), "CALL with flags 0x40; version 1 knows 0x3f"),
    # trailers, status, ack
    ("client sends STATUS", UNARY, frame(frames.STATUS, 0, 0, b"\x80"), "STATUS from a client"),
    ("server sends ACK", ASKED, frame(frames.ACK, 0, 0, ack(1)), "ACK from a server"),
    ("short ACK", NOTHING, frame(frames.ACK, 0, 0, ack(1)[1:]), "ACK frame whose payload of 7 bytes"),
    ("ACK that shrinks", NOTHING, frame(frames.ACK, 0, 0, ack(5)) + frame(frames.ACK, 0, 0, ack(4)), "what is settled stays so"),
    ("a call that was settled", NOTHING, frame(frames.ACK, 0, 0, ack(5)) + call_frame(1, number=4), "call number 4 after the ACK"),
    ("a call with trace that was settled", NOTHING,
     frame(frames.ACK, 0, 0, ack(5)) + frame(16, TRACE, 1, head(number=4) + bytes(25)), "call number 4 after the ACK"),
    ("STATUS that is no map", ASKED, frame(frames.STATUS, 0, 0, b"\x93"), "a STATUS that cannot be used"),
    ("STATUS of a load beyond full", ASKED, frame(frames.STATUS, 0, 0, b"\x81\xa4load\x02"), "`$.load`"),
    ("trailers without a length", ASKED, frame(frames.REPLY, TRAILERS, 1, b"\0"), "REPLY frame whose payload of 1 bytes"),
    ("trailers that are cut", ASKED, frame(frames.ERROR, TRAILERS, 1, b"\0\2x"), "ERROR frame whose payload of 3 bytes"),
    ("trailers that are cut", TAKING, frame(frames.END, TRAILERS, 1, b"\0\2x"), "END frame whose payload of 3 bytes"),
    ("REPLY in pieces whose trailers are cut", ASKED, frame(17, TRAILERS | MORE, 1, total(9) + b"\0\2x"), "REPLY frame whose payload"),
    ("DATA with trailers", STREAMING, frame(frames.DATA, TRAILERS, 1, b"\0\0"), "DATA with flags 0x20"),
    # lengths
    ("CALL with half a head", NOTHING, frame(frames.CALL, 0, 1, bytes(13)), "CALL frame whose payload of 13 bytes"),
    ("CALL in pieces without a total", NOTHING, frame(frames.CALL, MORE, 1, bytes(3)), "payload of 3 bytes"),
    ("CALL whose name is cut", NOTHING, frame(frames.CALL, 0, 1, bytes(13) + b"\x05name"), "payload of 18 bytes"),
    ("CALL whose trace is cut", NOTHING, frame(frames.CALL, TRACE, 1, head() + bytes(24)), "payload of 39 bytes"),
    ("CALL without the length of its metadata", NOTHING, frame(frames.CALL, METADATA, 1, head() + b"\0"), "payload of 16 bytes"),
    ("CALL whose metadata is cut", NOTHING, frame(frames.CALL, METADATA, 1, head() + b"\0\2a"), "payload of 18 bytes"),
    ("CALL of an attempt class of a later version", NOTHING, frame(16, 0, 1, head(attempt=3)), "attempt class 3; version 1 knows 0 to 2"),
    ("REPLY in pieces without a total", ASKED, frame(frames.REPLY, MORE, 1, b"abc"), "REPLY frame whose payload of 3 bytes"),
    ("DATA in pieces without a total", STREAMING, frame(frames.DATA, MORE, 1, b"abc"), "DATA frame whose payload of 3 bytes"),
    ("short CREDIT", SENDING, frame(frames.CREDIT, 0, 1, b"abc"), "CREDIT frame whose payload of 3 bytes"),
    ("long CREDIT", SENDING, frame(frames.CREDIT, 0, 0, bytes(5)), "CREDIT frame whose payload of 5 bytes"),
    ("short PING", ASKED, frame(frames.PING, 0, 0, b"1234567"), "PING frame whose payload of 7 bytes"),
    ("long PONG", ASKED, frame(frames.PONG, 0, 0, b"123456789"), "PONG frame whose payload of 9 bytes"),
    ("short GOAWAY", ASKED, frame(frames.GOAWAY, 0, 0, bytes(8)), "GOAWAY frame whose payload of 8 bytes"),
    ("too long a frame", NOTHING, frames.HEADER.pack(1025, frames.CALL, 0, 1), "a CALL frame of 1025 bytes; the limit is 1024"),
    ("far too long a frame of a later version", ASKED, frames.HEADER.pack(2**32 - 1, 0x7F, 0, 1), "type 0x7f frame of 4294967295 bytes"),
    # pieces
    ("PIECE of a small call", UNARY, frame(frames.PIECE, 0, 1, b"x"), "where no message began"),
    ("PIECE of a finished call", server(frame(16, MORE, 1, total(1) + head()), frame(23, 0, 1, b"x")), frame(23, 0, 1, b"x"), "no message"),
    ("PIECE in a stream without an item", STREAMING, frame(frames.PIECE, 0, 1, b"x"), "where no message began"),
    ("PIECE to an unanswered call", ASKED, frame(frames.PIECE, 0, 1, b"x"), "where no message began"),
    ("empty PIECE", PIECES, frame(frames.PIECE, MORE, 1), "do not add up: 5 of 10 bytes"),
    ("PIECE too much", PIECES, frame(frames.PIECE, 0, 1, b"678901"), "do not add up: 11 of 10 bytes"),
    ("last PIECE that says more", PIECES, frame(frames.PIECE, MORE, 1, b"67890"), "do not add up: 10 of 10 bytes, last=False"),
    ("last PIECE too early", PIECES, frame(frames.PIECE, 0, 1, b"6789"), "do not add up: 9 of 10 bytes, last=True"),
    ("pieces of nothing", NOTHING, frame(frames.CALL, MORE, 1, total(0) + head()), "message of 0 bytes whose first piece has 0"),
    ("a first piece that is all", ASKED, frame(frames.REPLY, MORE, 1, total(2) + b"ab"), "message of 2 bytes whose first piece has 2"),
    ("a REPLY in pieces inside another", HALF_REPLY, frame(17, MORE, 1, total(9) + b"a"), "second message of call 1 began inside"),
    ("a whole REPLY inside another", HALF_REPLY, frame(frames.REPLY, 0, 1, b"a"), "REPLY to call 1 inside another message"),
    ("a REPLY inside an item", HALF_ITEM, frame(frames.REPLY, 0, 1, b"a"), "REPLY to call 1 inside another message"),
    # streams
    ("DATA to a call that does not stream", UNARY, frame(frames.DATA, 0, 1), "DATA on call 1, which takes none now"),
    ("DATA to a call in pieces that does not stream", PIECES, frame(23, 0, 1, b"67890") + frame(19, 0, 1), "DATA on call 1"),
    ("DATA inside an item", ITEM_PIECES, frame(frames.DATA, 0, 1), "DATA on call 1, which takes none now"),
    ("DATA after END", ENDED, frame(frames.DATA, 0, 1), "DATA on call 1, which takes none now"),
    ("DATA to a client that takes none", SENDING, frame(frames.DATA, 0, 1), "DATA on call 1, which takes none now"),
    ("DATA to a unary client", ASKED, frame(frames.DATA, 0, 1), "DATA on call 1, which takes none now"),
    ("END of a call that does not stream", UNARY, frame(frames.END, 0, 1), "END on call 1, which takes none now"),
    ("END inside an item", ITEM_PIECES, frame(frames.END, 0, 1), "END on call 1, which takes none now"),
    ("END twice", ENDED, frame(frames.END, 0, 1), "END on call 1, which takes none now"),
    ("END to a unary client", ASKED, frame(frames.END, 0, 1), "END on call 1, which takes none now"),
    # credit
    ("CREDIT on a call that does not stream", UNARY, frame(frames.CREDIT, 0, 1, total(1)), "which does not stream"),
    ("connection credit from nothing", ASKED, frame(frames.CREDIT, 0, 0, total(1)), "more connection credit than was ever spent"),
    ("stream credit without end", SENDING, frame(frames.CREDIT, 0, 1, total(2**32 - 1)) * 2, "credit of call 1 overflows"),
    ("an item above the stream's credit", STREAMING, frame(19, 0, 1, bytes(960)) * 4 + frame(19, 0, 1), "less left"),
    ("a piece above the stream's credit", STREAMING,
     frame(19, 0, 1, bytes(960)) * 3 + frame(19, MORE, 1, total(1500) + bytes(500)) + frame(23, 0, 1, bytes(1000)), "the stream had less"),
    ("an item above the connection's credit", server(*(call_frame(n, flags=STREAM) for n in (1, 2, 3))),
     frame(19, 0, 1, bytes(960)) * 4 + frame(19, 0, 2, bytes(960)) * 4 + frame(19, 0, 3), "the connection had less left"),
]  # fmt: skip


@pytest.mark.parametrize(("setup", "data", "expected"), [case[1:] for case in LEGAL], ids=[case[0] for case in LEGAL])
def test_what_is_legal(setup: Callable[[], Connection], data: bytes, expected: list[str]) -> None:
    connection = feed_three_ways(setup, data)
    assert connection.state == "OPEN"
    assert names(connection.events) == expected


@pytest.mark.parametrize(("setup", "data", "message"), [case[1:] for case in ILLEGAL], ids=[case[0] for case in ILLEGAL])
def test_what_is_illegal(setup: Callable[[], Connection], data: bytes, message: str) -> None:
    connection = feed_three_ways(setup, data)
    assert message in error_of(connection)
    assert feed(connection, call_frame(99)) == b""
    again = setup()
    feed(again, data)
    frame_kinds = [kind for kind, *_ in parse(again.take_output(1 << 20))]
    assert frame_kinds[-1] == frames.GOAWAY
    calls = again.lost()
    assert again.inbox.budget.used_bytes == 0
    assert again.calls == {}
    assert [call.id for call in calls] == sorted(call.id for call in calls)


def test_the_tables_hold_every_type_in_both_roles_legal_and_illegal() -> None:
    for table in (LEGAL, ILLEGAL):
        seen = {(setup()._role, kind) for _, setup, data, _ in table for kind in _kinds(data)}
        wanted = set(frames.NAMES) - {frames.HELLO, frames.WELCOME}
        for role, foreign in (
            ("server", {frames.REPLY, frames.ERROR, frames.STATUS}),
            ("client", {frames.CALL, frames.CANCEL, frames.ACK}),
        ):
            missing = {frames.name_of(kind) for kind in wanted if (role, kind) not in seen}
            assert missing == ({frames.name_of(kind) for kind in foreign} if table is LEGAL else set())


def _kinds(data: bytes) -> list[int]:
    kinds = []
    while data:
        kinds.append(data[4])
        data = data[14 + int.from_bytes(data[:4]) :]
    return kinds


def test_the_parts_of_a_call_arrive() -> None:
    trace, metadata = bytes(range(25)), b"\x81\xa1k\xa1v"
    payload = (1500).to_bytes(4) + (2**64 - 1).to_bytes(8) + b"\x02\x0a" + b"shop.place" + trace + b"\x00\x05" + metadata + b"body"
    connection = feed_three_ways(NOTHING, frame(frames.CALL, RAW | TRACE | METADATA | STREAM, 7, payload))
    [call] = connection.calls.values()
    assert isinstance(call, IncomingCall)
    assert (call.id, call.method, call.body, call.raw, call.streams) == (7, b"shop.place", b"body", True, True)
    assert (call.deadline_ms, call.number, call.attempt, call.trace, call.metadata) == (1500, 2**64 - 1, frames.HEDGE, trace, metadata)


def test_a_pong_answers_each_ping() -> None:
    connection = NOTHING()
    feed(connection, frame(frames.PING, 0, 0, PING8) + frame(frames.PING, 0, 0, b"abcdefgh"))
    assert parse(connection.take_output(1 << 20)) == [(frames.PONG, 0, 0, PING8), (frames.PONG, 0, 0, b"abcdefgh")]


def test_pings_without_end_do_not_fill_our_memory() -> None:
    connection = NOTHING()
    ping = frame(frames.PING, 0, 0, PING8)
    for _ in range(10):
        feed(connection, ping * frames.PONGS_MAX)
        assert len(connection.take_output(1 << 20)) == 22 * frames.PONGS_MAX
    feed(connection, ping * (frames.PONGS_MAX + 1))
    assert "64 pings came before one answer could be written" in error_of(connection)
    assert len(connection.take_output(1 << 20)) < 1000


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_body_that_looks_like_a_pong_is_none(role: Role) -> None:
    body = msgspec.msgpack.encode({"id": 33, "name": "abcdefghijk"})
    assert (len(body), body[4]) == (22, frames.PONG), "as long as a PONG, and with its type where a PONG has it"
    remote = msgspec.structs.replace(SMALL, open_calls_max=1024)
    connection = opened(role, remote, remote)
    for number in range(1, frames.PONGS_MAX + 1):
        if role == "client":
            connection.open_plain_call(CallState(), b"m", body, 0, 0, number)
        else:
            feed(connection, call_frame(number))
            connection.send_reply(connection.calls[number], body, False)
    feed(connection, frame(frames.PING, 0, 0, PING8))
    assert connection.state == "OPEN"
    assert parse(connection.take_output(1 << 20))[-1] == (frames.PONG, 0, 0, PING8)


@pytest.mark.parametrize("features", [(), (frames.CHECKED,)])
def test_how_long_a_frame_is_by_its_own_account(features: tuple[str, ...]) -> None:
    settings = msgspec.structs.replace(SMALL, features=features)
    assert machine("server", settings).first_frame_bytes(memoryview(b"")) > frames.HANDSHAKE_MAX_BYTES
    connection = opened("server", settings, settings)
    ping = frame(frames.PING, 0, 0, PING8)
    assert connection.first_frame_bytes(memoryview(ping)[:13]) == 0
    whole = connection.first_frame_bytes(memoryview(ping * 2))
    data = memoryview(seal(ping * 2) if features else ping * 2)
    assert connection.receive_data(data[: whole - 1]) == 0
    assert connection.receive_data(data[:whole]) == whole


def test_what_skipped_calls_cost_comes_back() -> None:
    connection = opened("server")
    connection.send_goaway("bye")
    connection.take_output(1 << 20)
    for call_id in range(1, 21):  # more than the window
        feed(connection, frame(frames.CALL, MORE, call_id, total(5000) + head() + bytes(900)))
    assert connection.calls == {}
    given = [int.from_bytes(payload) for kind, _, call_id, payload in parse(connection.take_output(1 << 20)) if kind == frames.CREDIT]
    assert sum(given) + connection.inbox.owed == 20 * 900


def test_replies_on_their_way_count_as_open_calls() -> None:
    connection = opened("server")
    feed(connection, b"".join(call_frame(call_id) for call_id in range(1, 5)))
    for call in list(connection.calls.values()):
        connection.send_reply(call, bytes(5000), True)
    connection.events.clear()
    connection.take_output(1 << 20)  # as far as the peer's credit goes
    feed(connection, call_frame(5))
    assert names(connection.events) == ["Unusable"]
    connection.events.clear()
    connection.send_error(connection.calls[5], b"full")
    feed(connection, frame(frames.CANCEL, 0, 4) + call_frame(6))
    assert names(connection.events) == ["Called"]


@pytest.mark.parametrize("role", ["client", "server"])
def test_receive_data_takes_nothing_of_an_incomplete_frame(role: str) -> None:
    connection = ASKED() if role == "client" else NOTHING()
    ping = frame(frames.PING, 0, 0, PING8)
    for cut in range(len(ping)):
        assert feed(connection, ping + ping[:cut]) == ping[:cut]
