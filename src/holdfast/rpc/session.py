"""One connection, alive: the protocol machine on one side, the link on the other, and time.

Owns: when bytes are written (once per turn of the loop, sooner when much is waiting), the one timer of a connection (deadlines, heartbeat,
slow handshakes and frames), and the end of it all. `CallerSession` and `ResponderSession` say what events mean.

Theory. Nothing here is a task. Bytes come in by callback; what they cause is written in one go before the callback returns; what tasks
add later is written by one `call_soon` per turn; in both cases what has grown past `EARLY_CHUNKS` is written before that. All deadlines of
a connection share one entry in the wheel: `earliest` is a lower bound, and when it passes the open calls are looked at (there are at most
`open_calls_max`). So a call that ends in time costs nothing for its deadline, neither a timer nor its cancellation.

What may never happen: a write past what waits in `flush`; an event handled twice; an exception that kills the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Literal

import msgspec

from ..control.bucket import TokenBucket
from ..control.wheel import Timer, Wheel
from ..errors import ConfigError, HoldfastError, ProtocolError, Unavailable
from ..facts import ConnectionClosed, Emit
from ..net.address import parse_address
from ..net.link import Link
from ..wire import ByteBudget, CallState, Connection, Settings, frames

WRITE_BYTES = 128 * 1024
"""How much of large messages goes out in one turn; small frames never wait for more than this."""

EARLY_CHUNKS = 72
"""With so many chunks waiting (24 calls, 36 replies) they are written before the turn is over: the peer works on them while we go on.
Without this two busy processes take turns, and neither keeps its core busy."""

MIN_RATE_BYTES_PER_S = 16 * 1024

BITE_BYTES = 4 * 1024
"""A long read is parsed in bites, and what each of them says is dealt with before the next: so a peer that sends thousands of calls and
cancels in one go has the few hundred of one bite in our memory, and is stopped at the bite that was too much."""

SILENT_S = 1.0
"""A peer from which something came since then is alive, however slow one of its answers is."""

BUDGET_S = 10.0
"""A peer may use so much of its budgets (cancels, pings) at once."""


Checksum = Literal["auto", "always", "never"]


class SessionShared(msgspec.Struct, frozen=True):
    """What all sessions of a client or server have in common.

    Attributes:
        handshake_s: how long a peer may take for its HELLO or WELCOME.
        frame_s: how long a begun frame may take, plus what the longest one takes at 16 KiB/s.
        dead_after_s: with nothing heard for so long the peer is dead.
        suspect_s: and for so long after a ping, when a call is overdue.
        cancels_per_s: how many open calls a peer may cancel for nothing, and twice as many as it may have open at once besides.
        pings_per_s: how often a peer may ping, over ten seconds.
        checksum: whether frames have check sums: always, never, or where neither TLS nor the inside of one machine makes them needless.
        settled: the call number below which every call of this client is over.
    """

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    emit: Emit
    settings: Settings
    budget: ByteBudget
    handshake_s: float = 5.0
    frame_s: float = 2.0
    dead_after_s: float = 15.0
    suspect_s: float = 2.0
    cancels_per_s: float = 200.0
    pings_per_s: float = 10.0
    checksum: Checksum = "auto"
    settled: Callable[[], int] = int


class Session:
    """What both sides of a connection share. Implements the Receiver of `net`."""

    __slots__ = (
        "_cancels",
        "_due_at",
        "_earliest",
        "flush_due",
        "_gate",
        "_heard_at",
        "_made_at",
        "_now",
        "paused",
        "_pinged_at",
        "_pings",
        "_reason",
        "_rest_at",
        "_shared",
        "_spared",
        "_suspect_at",
        "_timer",
        "closed",
        "conn",
        "going",
        "link",
    )
    side = ""

    def __init__(self, shared: SessionShared, conn: Connection) -> None:
        self._shared = shared
        self._now = shared.wheel.now
        self.conn = conn
        self.link: Link | None = None
        self.closed = False
        self.going = False  # no new calls: it closes when those there are have been answered
        self.flush_due = False
        self.paused = False
        self._gate: list[asyncio.Future[None]] | None = None
        self._heard_at = self._made_at = 0.0
        self._pinged_at = -math.inf
        self._rest_at = 0.0
        self._suspect_at = 0.0
        self._earliest = math.inf
        self._due_at = math.inf
        self._timer: Timer | None = None
        self._reason: HoldfastError | None = None
        self._spared = 0  # cancels that count for nothing, since we last counted
        self._cancels: TokenBucket | None = None
        self._pings: TokenBucket | None = None

    # ------------------------------------------------------------------ from the link

    def link_made(self, link: Link) -> None:
        """The link is there: the clock of the handshake starts."""
        self.link = link
        self._heard_at = self._made_at = now = self._now()
        self.wake_at(now + self._shared.handshake_s)
        self.flush()

    def bytes_received(self, data: memoryview | bytes) -> int:
        """Bytes to events, events to whoever waits, and what that caused to the wire, in one go."""
        raise NotImplementedError

    def _received(self, data: memoryview | bytes, now: float) -> int:
        """What `bytes_received` does with what does not take the short way (`wire/lone.py`)."""
        self._heard_at = now
        conn, size = self.conn, len(data)
        if size <= BITE_BYTES:
            used = conn.receive_data(data)
            if conn.events:
                self._handle_events(now)
            if conn.cancels or conn.pings:
                self._judge_use(now)
        else:
            used = self._receive_in_bites(memoryview(data), now)
        if used == size:
            self._rest_at = 0.0
        elif used or not self._rest_at:
            self._rest_at = now
        if conn.ready or conn.outbox.special or self.going:
            self.flush()
        return used

    def _receive_in_bites(self, data: memoryview, now: float) -> int:
        conn = self.conn
        used, bite, total = 0, BITE_BYTES, len(data)
        while used < total:
            taken = conn.receive_data(data[used : used + bite])
            if not taken:
                need = conn.first_frame_bytes(data[used:])
                if conn.state != "OPEN":
                    need = min(need, total - used)
                if need <= bite or used + need > total:
                    break
                bite = need  # a frame longer than a bite, and nothing of what is behind it
                continue
            used, bite = used + taken, BITE_BYTES
            if conn.events:
                self._handle_events(now)
            if conn.cancels or conn.pings:
                self._judge_use(now)
        return used

    def _judge_use(self, now: float) -> None:
        """Count what is work for us and of no use to anybody; a peer that does too much of it is told so, and cut.

        Source: CVE-2023-44487 (HTTP/2 rapid reset) for cancels, gRPC's ENHANCE_YOUR_CALM for pings; `algorithms.md 2.20`.
        """
        conn, shared = self.conn, self._shared
        cancels, conn.cancels = conn.cancels, 0
        pings, conn.pings = conn.pings, 0
        if cancels:
            cancels, self._spared = max(0, cancels - self._spared), 0
            bucket = self._cancels
            if bucket is None:
                room = 2 * conn.local.open_calls_max + BUDGET_S * shared.cancels_per_s
                bucket = self._cancels = TokenBucket(shared.cancels_per_s, room)
            if not bucket.take(now, cancels):
                self._abused(f"open calls were cancelled faster than {shared.cancels_per_s:g} a second; open fewer of them", now)
        if pings:
            bucket = self._pings
            if bucket is None:
                bucket = self._pings = TokenBucket(shared.pings_per_s, BUDGET_S * shared.pings_per_s)
            if not bucket.take(now, pings):
                self._abused(f"pings came faster than {shared.pings_per_s:g} a second; one after some silence is enough", now)

    def _abused(self, what: str, now: float) -> None:
        self.conn.fail(frames.ABUSE, what)
        self._handle_events(now)

    def eof_received(self) -> None:
        """The peer stopped sending; the link closes after this."""
        self.conn.receive_eof()
        if self.conn.events:
            self._handle_events(self._now())
        self.flush()

    def link_lost(self, error: Exception | None) -> None:
        """The end, exactly once: every open call is told."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reason = self._reason or _lost_reason(error)
        self._reason = reason
        calls = self.conn.lost()
        self.conn.events.clear()
        self._tell_lost(self.link.peer if self.link is not None else "", str(reason), len(calls))
        self._open_gate()
        self._lost(calls, reason)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """The peer caught up."""
        self.paused = False
        self._open_gate()
        if self.conn.events:  # they were put off
            self._handle_events(self._now())
        self.flush()

    # ------------------------------------------------------------------ writing

    def flush_soon(self) -> None:
        """Have what is to be written written at the end of this turn of the loop."""
        if not self.flush_due:
            self.flush_due = True
            self._shared.loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self.flush_due = False
        self.flush()

    def flush(self) -> None:
        """Write what there is: one write, then the rest of large messages in later turns."""
        conn = self.conn
        if conn.outbox.special:
            self._flush_special()
        elif conn.ready:
            link = self.link
            if link is not None and not self.paused and not self.closed and not link.write(conn.take_plain()):
                conn.send_failed()
        if self.going:
            self._close_if_done()

    def _flush_special(self) -> None:
        """Write large chunks, pieces, last words; whoever waited for that is told, and what is left goes in the next turn."""
        link, conn = self.link, self.conn
        if link is None or self.closed or self.paused:
            return
        chunks = conn.take_chunks(WRITE_BYTES)
        if chunks and not link.write_chunks(chunks):
            conn.send_failed()
        if conn.events:
            self._handle_events(self._now())
        if conn.state == "ERROR":
            link.close()
        elif conn.output_pending:
            self.flush_soon()

    def _close_if_done(self) -> None:
        """No new calls come: close, when those there were have been answered."""
        raise NotImplementedError

    async def writable(self) -> None:
        """Wait until the link takes bytes again, or is lost. Cancel: loses nothing."""
        while self.paused and not self.closed:
            waiter: asyncio.Future[None] = self._shared.loop.create_future()
            if self._gate is None:
                self._gate = []
            self._gate.append(waiter)
            await waiter

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, None
        for waiter in gate or ():
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ time

    def wake_at(self, when: float) -> None:
        """Look at the clock at `when`, if not before."""
        if when < self._due_at and not self.closed:
            if self._timer is not None:
                self._timer.cancel()
            self._due_at = when
            self._timer = self._shared.wheel.at(when, self._look_at_the_clock)

    def expire_by(self, when: float) -> None:
        """An open call expires at `when`."""
        if when < self._earliest:
            self._earliest = when
            self.wake_at(when)

    def _look_at_the_clock(self) -> None:
        now = self._now()
        self._timer = None
        self._due_at = math.inf
        if now >= self._earliest:
            self._earliest = math.inf
            for call in list(self.conn.calls.values()):
                expires_at = self._expires_at(call)
                if expires_at <= now:
                    self._expired(call, now)
                else:
                    self._earliest = min(self._earliest, expires_at)
        next_at = self._liveness(now)
        if self.closed:
            return
        self.wake_at(min(next_at, self._earliest))
        if self.conn.events:
            self._handle_events(now)
        self.flush()

    def _liveness(self, now: float) -> float:
        """Judge the peer by the clock; return when to look again."""
        shared = self._shared
        if self.conn.state != "OPEN":
            due = self._made_at + shared.handshake_s
            if now >= due:
                self.end(ProtocolError(f"no handshake within {shared.handshake_s:g} s", executed="no"), tell=True)
                return now + shared.handshake_s
            return due
        heartbeat_s = shared.settings.heartbeat_s
        silent_at = self._heard_at + heartbeat_s
        next_at = silent_at
        if now >= silent_at:
            dead_at = self._heard_at + shared.dead_after_s
            if now >= dead_at and not self.paused:  # while we wait for its reading, the send stall deadline judges
                self.end(Unavailable(f"nothing heard for {now - self._heard_at:.1f} s", executed="maybe"), tell=False)
                return math.inf
            if self._pinged_at <= self._heard_at:  # one is enough: a peer that stands still finds them all at once, and may call that abuse
                self._pinged_at = now
                self.conn.send_ping(b"\0" * 8)
            next_at = min(now + heartbeat_s, dead_at) if now < dead_at else now + heartbeat_s
        if self._suspect_at:
            if self._heard_at + SILENT_S > self._suspect_at:
                self._suspect_at = 0.0  # heard since then: it lives, that one call is slow
            elif now >= self._suspect_at + shared.suspect_s:
                self.end(Unavailable("a call is overdue and the peer does not answer a ping", executed="maybe"), tell=False)
                return math.inf
            elif now < self._suspect_at:
                next_at = min(next_at, self._suspect_at)
            else:
                if self._pinged_at < self._suspect_at:
                    self._pinged_at = now
                    self.conn.send_ping(b"\0" * 8)
                next_at = min(next_at, self._suspect_at + shared.suspect_s)
        if self._rest_at:
            frame_at = self._rest_at + shared.frame_s + shared.settings.frame_max_bytes / MIN_RATE_BYTES_PER_S
            if now >= frame_at:
                self.end(ProtocolError("a frame that was begun did not come to its end in time"), tell=True)
                return math.inf
            next_at = min(next_at, frame_at)
        return next_at

    def suspect(self, now: float) -> None:
        """A call is overdue: when nothing has been heard for SILENT_S, ask the peer for a sign of life, and give it little time."""
        if not self._suspect_at and self.conn.state == "OPEN":
            self._suspect_at = max(now, self._heard_at + SILENT_S)
            self.wake_at(self._suspect_at)

    # ------------------------------------------------------------------ the end

    def end(self, reason: HoldfastError, *, tell: bool) -> None:
        """End the connection of a peer that is late. `tell`: it hears why; otherwise it is cut."""
        if self._reason is None:
            self._reason = reason
        if tell and self.link is not None:
            self.conn.fail(frames.IDLE, str(reason))
            self.flush()
            self.link.close()
        elif self.link is not None:
            self.link.abort()

    # ------------------------------------------------------------------ for the two sides

    def _handle_events(self, now: float) -> None:
        """Take everything the machine has to say, in order."""
        raise NotImplementedError

    def _item_sent(self, call: CallState) -> None:
        """The item of ours that waited for credit has gone: whoever sends goes on."""
        buffer = getattr(call, "buffer", None)
        if buffer is not None:
            buffer.sent()

    def _tell_lost(self, peer: str, reason: str, calls: int) -> None:
        self._shared.emit(ConnectionClosed(self.side, peer, reason, calls))

    def _expires_at(self, call: CallState) -> float:
        raise NotImplementedError

    def _expired(self, call: CallState, now: float) -> None:
        raise NotImplementedError

    def _lost(self, calls: list[CallState], reason: HoldfastError) -> None:
        raise NotImplementedError


def _lost_reason(error: Exception | None) -> HoldfastError:
    if isinstance(error, HoldfastError):
        return error
    if error is None:
        return Unavailable("the peer closed the connection")
    return Unavailable(f"the connection was lost: {error}")


def wants_checksum(checksum: Checksum, address: str) -> bool:
    """Whether frames to and from an address shall have check sums: by default only plain TCP that leaves the machine needs them."""
    if checksum != "auto":
        return checksum == "always"
    try:
        parsed = parse_address(address)
    except ConfigError:
        return True
    return parsed.scheme == "tcp" and not parsed.is_local


def wire_deadline_ms(deadline_at: float | None, now: float) -> int:
    """Return a deadline as it travels: whole milliseconds from now, rounded up, at least 1; 0 for none. Capped at u32."""
    if deadline_at is None:
        return 0
    left_ms = int((deadline_at - now) * 1000) + 1
    return 1 if left_ms < 1 else left_ms if left_ms < 2**32 else 2**32 - 1
