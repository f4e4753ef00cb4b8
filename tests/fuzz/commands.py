"""The layer above the machine, as the connection harness plays it: the commands, and the sessions that are open already.

Owns: what a command is given, and which commands somebody may give now who keeps to the docstrings of `Connection`. An error out of a
command that was given rightly is a finding; one that a docstring promises is checked to have sent nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.errors import InvalidArgument
from holdfast.wire import Called, CallState, IncomingCall, ItemReceived, Status, Unusable, frames

if TYPE_CHECKING:
    from tests.fuzz.harnesses.connection import Run

SIZES = (0, 1, 10, 100, 512, 900, 960, 1010, 1024, 1100, 1984, 2100, 4032, 5000, 9000, 16_384)
BODIES = tuple(bytes((index + 0x61,)) * size for index, size in enumerate(SIZES))
TRACE = bytes(frames.TRACE_BYTES)
EXTRAS = (None, frames.pack_extra(TRACE, None), frames.pack_extra(None, b"\x81\xa1k\xa1v"), frames.pack_extra(TRACE, b"\x80"))
TRAILERS = (b"", b"\x81\xa6run_us\x05")
STATUSES = (Status(), Status(draining=True, load=0.5), Status(serving=False, message="no database"))


class Incoming(IncomingCall, eq=False):
    """A call as the layer above a server would keep it."""

    waiting: bool = False
    ended: bool = False
    over: int = 0
    refused: bool = False
    streaming: bool = False


class Asked(CallState, eq=False):
    """A call of a client. `over` is the turn in which it ended, 0 before."""

    sends: bool = False
    takes: bool = False
    waiting: bool = False
    ended: bool = False
    over: int = 0


# ---------------------------------------------------------------------------------------------------------------- commands


def reply(run: Run, call: Incoming, argument: int) -> None:
    body = BODIES[argument & 15][: run.conn.message_max_bytes]
    if run.conn.send_reply(call, body, bool(argument & 16), TRAILERS[argument >> 5 & 1]):
        call.over = run.turn
        return
    assert call.id in run.conn.calls, "a reply that was not taken leaves its call open"
    run.conn.send_error(call, b"busy")
    call.over = run.turn


def open_call(run: Run, argument: int) -> None:
    how = run.script.byte()
    call = Asked(sends=bool(how & 1), takes=bool(how & 2))
    extra = EXTRAS[how >> 2 & 3]
    if how & 16:
        extra = (extra[0] | frames.TRAILERS, extra[1]) if extra else (frames.TRAILERS, b"")
    before = len(run.conn.ready), run.conn.last_id
    name = b"n" * 255 if how & 32 else b"shop.place"
    raw, number = bool(how & 64), run.acked + how
    try:
        run.conn.open_call(call, name, BODIES[argument], raw, how, number, how % 3, extra, sends_items=call.sends, takes_items=call.takes)
    except InvalidArgument:
        assert (len(run.conn.ready), run.conn.last_id) == before, "a command that raised has sent something"
    else:
        run.calls.append(call)


def open_plain(run: Run, argument: int) -> None:
    """As a session opens it: alone and at once when nobody else is under way, or with what else goes out."""
    call, conn = Asked(), run.conn
    given = call, b"shop.get", BODIES[argument], frames.RAW * (argument & 1), 1000, run.acked + argument
    at_once = not conn.calls
    data = conn.open_lone_call(*given) if at_once and run.whole else b""
    if not data and not conn.open_plain_call(*given):
        return
    run.calls.append(call)
    if data:
        run.say(data)
    elif at_once:
        run.take(1 << 20)


def cancel(run: Run, argument: int) -> None:
    call = run.pick(lambda each: True)
    if call is not None:
        run.conn.cancel(call)
        call.over = run.turn
        run.turn += 1


def send_item(run: Run, argument: int) -> None:
    call = run.pick(may_send)
    if call is None:
        return
    if isinstance(call, Incoming):
        call.streaming = True
    try:
        call.waiting = not run.conn.send_item(call, BODIES[argument], bool(argument & 1))
    except InvalidArgument:
        assert SIZES[argument] > run.conn.message_max_bytes


def may_send(call: Incoming | Asked) -> bool:
    if call.waiting or call.ended:
        return False
    return call.sends if isinstance(call, Asked) else not call.refused


def send_end(run: Run, argument: int) -> None:
    call = run.pick(lambda each: not each.ended and (each.sends if isinstance(each, Asked) else not each.refused))
    if call is None:
        return
    call.ended = True
    run.conn.send_end(call, TRAILERS[argument & 1] if isinstance(call, Incoming) else b"")
    if isinstance(call, Incoming) and call.id not in run.conn.calls:
        call.over = run.turn
        run.turn += 1


def consume(run: Run, argument: int) -> None:
    """Use items that wait; or let go of all those of a call that is over."""
    if not run.unread:
        return
    item = run.unread.pop(argument % len(run.unread))
    if argument & 8 and item.call.over:  # type: ignore[attr-defined]
        run.conn.forget(item.call)
        run.unread = [each for each in run.unread if each.call is not item.call]
    else:
        run.conn.consume(item)


def send_reply(run: Run, argument: int) -> None:
    call = run.pick(lambda each: not each.ended and not each.refused and not each.streaming)  # type: ignore[union-attr]
    if isinstance(call, Incoming):
        reply(run, call, run.script.byte() & 0xF0 | argument)
        run.turn += 1


def send_error(run: Run, argument: int) -> None:
    call = run.pick(lambda each: True)
    if call is None:
        return
    try:
        run.conn.send_error(call, BODIES[argument], TRAILERS[argument & 1])
    except InvalidArgument:
        assert call.id in run.conn.calls or run.conn.remote is None or SIZES[argument] > run.conn.remote.frame_max_bytes
        return
    call.over = run.turn
    run.turn += 1


def finish(run: Run, argument: int) -> None:
    call = run.pick(lambda each: isinstance(each, Incoming) and each.cancelled)
    if call is not None:
        run.conn.finish(call)
        call.over = run.turn
        run.turn += 1


def small_talk(run: Run, argument: int) -> None:
    """A ping; what only one side says."""
    if argument < 8:
        run.conn.send_ping(bytes((argument,)) * 8)
    elif run.plan.role == "server":
        run.conn.send_status(STATUSES[argument % 3])
    else:
        run.acked += argument
        run.conn.send_ack(run.acked)


def leave(run: Run, argument: int) -> None:
    """Ways to an end; some of them come before there was a beginning."""
    conn = run.conn
    if argument in (8, 9):
        conn.receive_eof()
        run.eof = True
    elif argument in (10, 11):
        conn.fail(frames.IDLE, "enough")
        conn.fail(frames.IDLE, "twice")
        run.rest = b""
    elif conn.state != "OPEN":
        return
    elif argument < 4:
        conn.send_goaway("going" if argument & 1 else "ü" * 2000)
    elif argument < 8 and run.plan.role == "server":
        conn.announce_goaway("soon")
    elif argument == 12:
        conn.send_failed()
        assert conn.sent_id <= conn.last_id
        run.cut_off = True
    elif argument > 12:
        misuse(run)


def misuse(run: Run) -> None:
    """What a docstring forbids says so, and has done nothing."""
    conn = run.conn
    wrong: list[tuple[type[Exception], Callable[[], object]]] = [
        (RuntimeError, lambda: conn.send_welcome(conn.local)),
        (ValueError, lambda: conn.send_ping(b"short")),
    ]
    over = [call for call in run.calls if call.ended and call.id in conn.calls]
    if over:
        wrong.append((RuntimeError, lambda: conn.send_item(over[0], b"late", False)))
    if run.plan.role == "client":
        wrong.append((InvalidArgument, lambda: conn.open_call(Asked(), b"n" * 256, b"", False, 0, 0)))
        wrong.append((InvalidArgument, lambda: conn.open_plain_call(Asked(), b"m", b"", 0, 2**32, 0)))
        wrong.append((InvalidArgument, lambda: conn.open_call(Asked(), b"m", b"", False, 0, 0, extra=(frames.METADATA, bytes(70_000)))))
    before = len(conn.ready), len(conn.calls), len(conn.events), conn.last_id
    for kind, command in wrong:
        try:
            command()
        except kind:
            continue
        raise AssertionError(f"a command that was wrong raised no {kind.__name__}")
    assert (len(conn.ready), len(conn.calls), len(conn.events), conn.last_id) == before, "a command that raised has done something"


CLIENT = (open_call, open_call, open_plain, cancel, send_item, send_end, consume, small_talk, leave)
SERVER = (send_reply, send_error, send_item, send_item, send_end, consume, finish, small_talk, leave)
ANY_TIME = (send_reply, send_error, send_item, send_end, consume, finish, cancel, leave)
"""What may come at any time: handlers and callers have not heard yet that it is over."""


# ------------------------------------------------------------------------------------------------------ open sessions


def open_at_server(run: Run, start: int) -> None:
    """Calls 1 to 3 are open: plain ones, streams both ways, or messages half arrived and half sent."""
    if start == 5:
        wire = call_frame(1, body=b"a") + call_frame(2, flags=frames.TRAILERS) + call_frame(3, flags=frames.RAW, body=b"raw")
    elif start == 6:
        wire = call_frame(1, flags=frames.STREAM) + call_frame(2, flags=frames.STREAM | frames.RAW)
        wire += frames.pack_frame(frames.DATA, 0, 1, b"item") + frames.pack_frame(frames.DATA, frames.RAW, 2, b"raw item")
    else:
        wire = call_frame(1, flags=frames.MORE, total=3000, body=b"half") + call_frame(2, flags=frames.STREAM) + call_frame(3)
        wire += frames.pack_frame(frames.DATA, frames.MORE, 2, (4000).to_bytes(4) + b"half")
    run.feed(wire)
    for event in run.events():
        if type(event) is Called:
            run.calls.append(event.call)  # type: ignore[arg-type]
        elif type(event) is ItemReceived:
            run.unread.append(event)
        elif type(event) is Unusable:
            event.call.refused = True  # type: ignore[attr-defined]
            run.calls.append(event.call)  # type: ignore[arg-type]
    calls = [call for call in run.calls if isinstance(call, Incoming) and not call.refused]
    if start == 6 and calls:
        calls[0].streaming = True
        calls[0].waiting = not run.conn.send_item(calls[0], BODIES[9], True)
    elif start == 7 and len(calls) > 1:
        reply(run, calls[1], 15)
        run.turn += 1


def open_at_client(run: Run, start: int) -> None:
    """The same from the other side: calls 1 to 3 of ours."""
    conn = run.conn
    shapes = {5: ((0, 0, 3), (0, 0, 0), (0, 0, 1)), 6: ((1, 1, 3), (0, 1, 0), (1, 0, 1)), 7: ((0, 0, 14), (1, 1, 9), (1, 0, 0))}[start]
    for sends, takes, size in shapes:
        call = Asked(sends=bool(sends), takes=bool(takes))
        body = BODIES[size][: conn.message_max_bytes]
        conn.open_call(call, b"shop.place", body, True, 0, call.id, sends_items=call.sends, takes_items=call.takes)
        run.calls.append(call)
    if start == 6:
        run.feed(frames.pack_frame(frames.DATA, 0, 2, b"item"))
        run.calls[0].waiting = not conn.send_item(run.calls[0], BODIES[9], True)
    elif start == 7:
        run.feed(frames.pack_frame(frames.REPLY, frames.MORE, 1, (3000).to_bytes(4) + b"half"))
        run.feed(frames.pack_frame(frames.DATA, frames.MORE, 2, (4000).to_bytes(4) + b"half"))
    run.take(1000)
    run.handle()


def call_frame(call_id: int, *, body: bytes = b"", flags: int = 0, total: int = 0, method: bytes = b"m", number: int = 0) -> bytes:
    """A CALL, built by hand."""
    payload = total.to_bytes(4) if flags & frames.MORE else b""
    payload += bytes(4) + number.to_bytes(8) + b"\0" + bytes((len(method),)) + method + body
    return frames.pack_frame(frames.CALL, flags, call_id, payload)
