"""The connection machine under any bytes and any commands: the harness, and how an input is read.

    start · limits · budget · cuts · script length n · script (n bytes) · wire (the rest)

`start` says the role and where the run begins: half of the values before or inside the handshake, half in an open session, with calls,
streams or messages in pieces under way. The wire is what the peer says, frame by frame; the script says when which command comes between
its frames and what is done about each event. On a checked connection the harness adds the check sums, or no mutation would ever get past
them; one value of `cuts` leaves them out.

Each input runs twice: fed in whole frames from a buffer that is written over afterwards, and cut at other places. The first takes the short
way of what is alone (`wire/lone.py`) where it may, the second never. Both must be told the same and say the same. Everything else that must
hold stands in `Run`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from zlib import crc32

from holdfast.wire import (
    ByteBudget,
    Called,
    CancelReceived,
    Connection,
    Drained,
    Ended,
    Errored,
    Event,
    Failed,
    HelloReceived,
    ItemReceived,
    Replied,
    Settings,
    StatusReceived,
    Unusable,
    frames,
)
from holdfast.wire.machine import Role
from holdfast.wire.settings import encode_settings
from tests.fuzz.commands import ANY_TIME, CLIENT, SERVER, TRAILERS, Asked, Incoming, open_at_client, open_at_server, reply
from tests.fuzz.judge import Judge, Tally, granted
from tests.fuzz.script import Script

HEAD_BYTES = 5

LIMITS = (
    Settings(frame_max_bytes=1024, message_max_bytes=16_384, stream_window_bytes=4096, connection_window_bytes=8192, open_calls_max=4),
    Settings(frame_max_bytes=1500, message_max_bytes=4096, stream_window_bytes=5001, connection_window_bytes=4096, open_calls_max=2),
    Settings(features=("crc32",), open_calls_max=8, connection_window_bytes=65_536, stream_window_bytes=8193),
    Settings(features=("crc32",), frame_max_bytes=1024, message_max_bytes=9000, stream_window_bytes=4096, connection_window_bytes=8193),
)
BUDGETS = (1 << 20, 20_000, 3000, 0)
OUTPUT_LIMITS = (1, 1000, 4096, 1 << 20)
JUNK = b"\xaa" * 65_536

HANDSHAKES: dict[tuple[Role, int], bytes] = {
    (role, index): frames.PREFACE + frames.pack_frame(kind, 0, 0, encode_settings(limits))
    for index, limits in enumerate(LIMITS)
    for role, kind in (("server", frames.HELLO), ("client", frames.WELCOME))
}
"""What a machine of that role is told first by a peer with those limits."""

_length = struct.Struct(">I").unpack_from


class Plan:
    """An input, taken apart."""

    __slots__ = ("budget_bytes", "checks", "cuts", "local", "remote", "role", "script", "start", "wire")

    def __init__(self, data: bytes) -> None:
        head = data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
        self.role: Role = "client" if head[0] & 1 else "server"
        self.start = head[0] >> 1 & 7
        self.local = head[1] & 3
        self.remote = head[1] >> 2 & 3
        self.budget_bytes = BUDGETS[head[2] & 3]
        self.cuts = head[3]
        self.checks = head[3] & 15 != 15
        length = head[4]
        self.script = data[HEAD_BYTES : HEAD_BYTES + length]
        self.wire = data[HEAD_BYTES + length :]


def seal(data: bytes) -> bytes:
    """Put a check sum behind each whole frame."""
    out: list[bytes] = []
    at, total = 0, len(data)
    while at + frames.HEADER_BYTES <= total:
        end = at + frames.HEADER_BYTES + _length(data, at)[0]
        if end > total:
            break
        frame = data[at:end]
        out += (frame, crc32(frame).to_bytes(4))
        at = end
    out.append(data[at:])
    return b"".join(out)


def in_order(given_back: list[int], table: list[int]) -> None:
    assert given_back == sorted(table), "lost gives every open call back, oldest first"


_FIELDS: dict[type, tuple[str, ...]] = {}
_KNOWN_OF_CALLS = ("id", "method", "body", "raw", "streams", "deadline_ms", "number", "attempt", "trace", "metadata", "wants")


def told(event: Event) -> tuple[object, ...]:
    """An event as plain values."""
    kind = type(event)
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(name for name in kind.__struct_fields__ if name not in ("call", "error"))
    values: list[object] = [kind, *[getattr(event, name) for name in names]]
    call = getattr(event, "call", None)
    if call is not None:
        values += [getattr(call, name) for name in _KNOWN_OF_CALLS] if kind is Called else [call.id]
    if kind is Errored:
        values.append(str(event.error))  # type: ignore[attr-defined]
    return tuple(values)


class Run:
    """One machine from its making to `lost`, with the layer above played by a script."""

    def __init__(self, plan: Plan, *, whole: bool, every_byte: bool = False) -> None:
        self.plan = plan
        self.whole = whole
        self.every_byte = every_byte
        self.script = Script(plan.script)
        self.parent = ByteBudget(1 << 40)
        self.budget = ByteBudget(plan.budget_bytes, self.parent)
        self.conn = Connection(plan.role, LIMITS[plan.local], budget=self.budget, make_call=Incoming)
        self.judge = Judge(plan.role)
        self.tally = Tally()
        self.agreed = False
        self.log: list[object] = []
        self.rest = b""
        self.turn = 1
        self.errored = self.eof = self.cut_off = False
        self.calls: list[Incoming | Asked] = []
        self.unread: list[ItemReceived] = []
        self.cut_at = plan.cuts * 257 + 1
        self.acked = 0
        self.said_bytes = self.heard_bytes = 0

    def go(self) -> None:
        """Run to the end and check that nothing is left."""
        plan, script = self.plan, self.script
        self.begin()
        wire, at = plan.wire, 0
        commands = CLIENT if plan.role == "client" else SERVER
        while not script.over and not self.cut_off:
            op = script.byte()
            kind, argument = op & 15, op >> 4
            if kind < 6:
                end = min(at + argument, len(wire)) if kind == 5 else self.frames_end(wire, at, argument & 3)
                if not self.eof:
                    self.feed(wire[at:end])
                    at = end
                self.handle()
            elif kind == 6:
                self.take(OUTPUT_LIMITS[argument & 3])
            elif self.conn.state == "OPEN" or commands[kind - 7] in ANY_TIME:
                commands[kind - 7](self, argument)
                if self.conn.events:
                    self.handle()
        if not self.eof and not self.cut_off:
            self.feed(wire[at:])
            self.handle()
        self.end()

    def frames_end(self, wire: bytes, at: int, more: int) -> int:
        """Where the frame that begins at `at` ends, and `more` after it."""
        if at == 0 and wire.startswith(b"\x89"):
            at = len(frames.PREFACE)
        for _ in range(more + 1):
            if at + frames.HEADER_BYTES > len(wire):
                return len(wire)
            at += frames.HEADER_BYTES + _length(wire, at)[0]
        return min(at, len(wire))

    # ------------------------------------------------------------------ where it begins

    def begin(self) -> None:
        plan = self.plan
        if plan.start < 3:
            return
        greeting = HANDSHAKES[plan.role, plan.remote]
        self.feed(greeting if plan.start > 3 else greeting[: -1 - plan.cuts % 20])
        if plan.start > 3:
            self.take(1 << 20)
            for event in self.events():
                if type(event) is HelloReceived:
                    self.conn.send_welcome(LIMITS[plan.local])
            self.take(1 << 20)
            if plan.start > 4:
                (open_at_client if plan.role == "client" else open_at_server)(self, plan.start)

    # ------------------------------------------------------------------ bytes come in

    def feed(self, chunk: bytes) -> None:
        conn = self.conn
        plain = chunk
        if conn.checked and self.plan.checks:
            chunk = seal(chunk)
        self.heard_bytes += len(chunk)
        if self.whole:
            self.receive_and_count(chunk, plain)
        elif not chunk:
            return
        elif self.every_byte:
            for at in range(len(chunk)):
                self.receive(chunk[at : at + 1])
        else:
            start, total = 0, len(chunk)
            while start < total:
                self.cut_at = (self.cut_at * 25_173 + 13_849) & 0xFFFF
                step = self.cut_at >> 8
                end = start + (1 + step % 15 if step < 200 else 20 + step * 8)
                self.receive(chunk[start:end])
                start = end
        state = conn.state
        rest = len(self.rest)
        if state == "OPEN":
            limit = conn.local.frame_max_bytes + frames.HEADER_BYTES + (frames.CHECK_BYTES if conn.checked else 0)
            assert rest < limit, f"{rest} bytes are kept; a frame has at most {limit}"
            needed = conn.first_frame_bytes(memoryview(self.rest))
            assert rest < (needed or frames.HEADER_BYTES), "a whole frame was left"
        elif state == "ERROR":
            assert rest == 0, "bytes are kept after the error"
        else:
            assert rest < 8 + frames.HEADER_BYTES + frames.HANDSHAKE_MAX_BYTES

    def receive_and_count(self, chunk: bytes, plain: bytes) -> None:
        """Receive, and see that the machine refuses what its peer has no credit for, and frames that are too long."""
        conn, tally = self.conn, self.tally
        if conn.checked and not self.plan.checks:
            self.receive(chunk)
            return
        allowed = LIMITS[self.plan.local].connection_window_bytes + self.judge.granted + granted(conn.ready)
        heard = tally.hear(plain)
        self.receive(chunk)
        if conn.state == "OPEN":
            assert heard != 1 or tally.spent <= allowed, "the peer sent what it had no credit for, and was not told"
            assert tally.longest <= conn.local.frame_max_bytes, "a frame that was too long has been taken"

    def receive(self, piece: bytes) -> None:
        data = self.rest + piece
        buffer = bytearray(data)
        used = len(data) if self.whole and self.receive_lone(memoryview(buffer)) else self.conn.receive_data(memoryview(buffer))
        assert 0 <= used <= len(data)
        self.rest = data[used:]
        if self.whole:
            buffer[:] = JUNK[: len(data)]  # the next read writes over it: nothing may point into it
            buffer.clear()  # raises BufferError if anything does

    def receive_lone(self, data: memoryview) -> bool:
        """Try the short way first, as sessions do."""
        conn = self.conn
        if self.plan.role == "server":
            call = conn.receive_lone_call(data)
            event: Event | None = None if call is None else Called(call)
        else:
            event = conn.receive_lone_reply(data)
        if event is not None:
            conn.events.append(event)
        return event is not None

    # ------------------------------------------------------------------ events go up

    def events(self) -> list[Event]:
        """Take what there is; each event is one that may come now."""
        conn = self.conn
        events, conn.events = conn.events, []
        log = self.log
        for event in events:
            assert not self.errored, f"{event} after the error"
            log.append(told(event))
            call = getattr(event, "call", None)
            if call is not None:
                assert call.over in (0, self.turn), f"{type(event).__name__} of call {call.id}, which was over before"
            if type(event) is Errored:
                self.errored = True
        return events

    def handle(self) -> None:
        """Do about every event what the layer above might, until there are no more."""
        self.turn += 1
        while self.conn.events:
            for event in self.events():
                call = getattr(event, "call", None)
                if call is None or not call.over:
                    self.handle_one(event)
            self.turn += 1
        used = self.budget.used_bytes
        assert 0 <= used <= self.budget.limit_bytes
        assert used == self.parent.used_bytes

    def handle_one(self, event: Event) -> None:
        kind = type(event)
        if kind is Called:
            self.calls.append(event.call)  # type: ignore[attr-defined]
            self.answer_now(event.call)  # type: ignore[attr-defined]
        elif kind is ItemReceived:
            if self.script.byte() & 1:
                self.conn.consume(event)  # type: ignore[arg-type]
            else:
                self.unread.append(event)  # type: ignore[arg-type]
        elif kind is Drained:
            call = event.call  # type: ignore[attr-defined]
            assert call.waiting, "Drained for a call where nothing waited"
            call.waiting = False
            if call.id not in self.conn.calls:
                call.over = self.turn
        elif kind in (Replied, Failed):
            event.call.over = self.turn  # type: ignore[attr-defined]
        elif kind is Ended:
            if self.plan.role == "client":
                event.call.over = self.turn  # type: ignore[attr-defined]
        elif kind is Unusable:
            self.unusable(event.call)  # type: ignore[attr-defined]
        elif kind is CancelReceived:
            if self.script.byte() & 3:
                self.conn.finish(event.call)  # type: ignore[attr-defined]
                event.call.over = self.turn  # type: ignore[attr-defined]
        elif kind is HelloReceived:
            if self.conn.state == "GREETED":
                self.conn.send_welcome(LIMITS[self.plan.local])
        elif kind is StatusReceived:
            assert self.plan.role == "client"

    def unusable(self, call: Incoming | Asked) -> None:
        if isinstance(call, Asked):
            call.over = self.turn
            return
        call.refused = True
        if self.script.byte() & 3:
            self.conn.send_error(call, b"no")
            call.over = self.turn
        elif call not in self.calls:
            self.calls.append(call)

    def answer_now(self, call: Incoming) -> None:
        """Many handlers answer before they suspend for the first time."""
        choice = self.script.byte()
        if choice & 3 == 3:
            reply(self, call, choice >> 2)
        elif choice & 15 == 14:
            self.conn.send_error(call, b"refused", TRAILERS[choice >> 7])
            call.over = self.turn

    # ------------------------------------------------------------------ bytes go out

    def take(self, limit_bytes: int) -> None:
        conn = self.conn
        pending = conn.output_pending
        in_chunks = conn.outbox.special or len(self.log) % 2 == 1  # as a session takes it, and sometimes without need
        data = b"".join(conn.take_chunks(limit_bytes)) if in_chunks else conn.take_output(limit_bytes)
        assert pending == bool(data), "output_pending and take_output must agree"
        self.say(data)
        if conn.events:
            self.handle()

    def say(self, data: bytes) -> None:
        conn = self.conn
        if not self.agreed and conn.remote is not None and conn.state in ("OPEN", "ERROR"):
            self.agreed = True
            self.judge.agree(conn.remote.frame_max_bytes, conn.checked)
        self.said_bytes += len(data)
        if self.whole:
            self.judge.see(data)
        self.log.append(data)

    # ------------------------------------------------------------------ the end

    def end(self) -> None:
        """The link is gone: every call comes back once, and everything they held."""
        conn = self.conn
        self.take(1 << 20)
        assert self.said_bytes <= 30 * (self.heard_bytes + 1) + 20_000 * (len(self.calls) + len(self.plan.script) + 2)
        was_open = conn.remote is not None and conn.local is not None and conn.state == "OPEN"
        table = list(conn.calls)
        lost = conn.lost()
        in_order([call.id for call in lost], table)
        assert not any(call.over for call in lost), "a call that was over came back"  # type: ignore[attr-defined]
        assert conn.lost() == []
        self.log += (conn.state, table)
        for index, item in enumerate(self.unread):
            if index & 1:
                conn.consume(item)
            conn.forget(item.call)
        assert self.budget.used_bytes == self.parent.used_bytes == 0, f"{self.budget.used_bytes} bytes of the budget are missing"
        assert not conn.calls
        if was_open:
            inbox = conn.inbox
            assert inbox.credit + inbox.owed == inbox.window, "connection credit is missing"
        conn.events.clear()
        if conn.receive_data(memoryview(b"\0" * 20)) != 20:
            raise AssertionError("bytes are kept after lost")
        assert not conn.events, "events after lost"

    # ------------------------------------------------------------------ picking

    def pick(self, wanted: Callable[[Incoming | Asked], bool]) -> Incoming | Asked | None:
        found = [call for call in self.calls if not call.over and wanted(call)]
        return found[self.script.byte() % len(found)] if found else None


# ----------------------------------------------------------------------------------------------------------------- the harness


def one(data: bytes, *, every_byte: bool = False) -> None:
    """Run one input. Raises: AssertionError, or whatever the machine raised: both are findings."""
    plan = Plan(data)
    whole = Run(plan, whole=True)
    whole.go()
    cut = Run(plan, whole=False, every_byte=every_byte)
    cut.go()
    if whole.log != cut.log:
        for position, (expected, found) in enumerate(zip(whole.log, cut.log, strict=False)):
            assert found == expected, f"entry {position}: fed whole {expected!r}, fed in pieces {found!r}"
        raise AssertionError(f"fed whole {len(whole.log)} entries, fed in pieces {len(cut.log)}")


def seeds() -> list[bytes]:
    """Real sessions as each side heard them."""
    from tests.fuzz.sessions import all_sessions  # it builds on this file

    return all_sessions()
