"""A link over a kernel stream socket, TCP or Unix.

Owns: what a transport tells a link, and the end of a link in all its forms. Offering bytes and keeping what is left is in `rest.py`.

Theory of the close. A kernel that closes a socket with unread bytes, or gets more of them afterwards, sends a reset, and a reset may take
from the peer what we wrote last: the reason in a GOAWAY, the last answers. So `close` writes what there is, then says that no more comes,
and goes on reading, for nobody, until the peer says the same (RFC 9112, 9.6 has it for HTTP). That is bounded: LINGER_MAX_BYTES are taken,
then the peer is left to wait; and after `linger_s` in which the kernel got rid of nothing the socket is closed whatever comes.

What may never happen here: an exception of one receiver that reaches the loop or another link; a second call for the same end; a kernel
call of our own (`sockets.py` has the two that are needed, in `LinkShared`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from ..context import PeerCertificate
from ..control.wheel import Timer, Wheel
from .address import Address
from .link import Receiver
from .rest import Offering, scratch_of_this_thread
from .stall import StallWatch

LINGER_S = 1.0
COPY_MAX_BYTES = 32 * 1024
"""Chunks up to this are put together for one write; a larger one costs less as a write of its own than as a copy."""
SMALL_READ_BYTES = 4 * 1024
SMALL_READS = 16
"""So many reads of at most that size, one after the other, show that no large ones follow: between those come credit and heartbeats."""
LINGER_MAX_BYTES = 8 * 1024 * 1024
"""What a closing link takes of a peer that goes on sending: twice the largest window we give, so what was under way is in."""


class LinkShared(msgspec.Struct, frozen=True):
    """What all links of a network have in common, so that a link holds one reference instead of six.

    Attributes:
        unsent_bytes: how many bytes the kernel holds for the peer, of a transport's socket; 0 where it cannot tell.
        reset_on_close: makes the close of a transport's socket a reset.
        linger_s: how long a closing link waits for the peer's end while nothing moves.
    """

    wheel: Wheel
    send_stall_s: float
    high_water_bytes: int
    low_water_bytes: int
    unsent_bytes: Callable[[object], int]
    reset_on_close: Callable[[object], None]
    linger_s: float = LINGER_S


def _made() -> Receiver:
    raise AssertionError("a link has one receiver, which was made")


class StreamLink(Offering, asyncio.Protocol):
    """Both a Link (to the receiver above) and a protocol (to the transport below).

    Args:
        make_receiver: called when the connection is made; not at all when it never is.
        local, peer: printable ends, where they are known before; otherwise they are asked of the transport.

    Attributes:
        error: why the link ended, when it was not in the ordinary way.
    """

    __slots__ = ("_discarded", "_heard_all", "_make_receiver", "_said_all", "_shared", "_transport", "_watch", "local")
    certificate: PeerCertificate | None = None

    def __init__(self, shared: LinkShared, make_receiver: Callable[[], Receiver], *, local: str = "", peer: str = "") -> None:
        super().__init__(scratch_of_this_thread(), peer)
        self._shared = shared
        self._make_receiver = make_receiver
        self._transport: asyncio.Transport | None = None
        self._watch: StallWatch | Timer | None = None
        self._heard_all = False  # the peer said that no more comes
        self._said_all = False  # we are closing, and what was written has left the process
        self._discarded = 0
        self.local = local

    # ---------------------------------------------------------------------------------------------------- Link, for the receiver

    def write(self, data: bytes) -> bool:
        transport = self._transport
        if self._closing or transport is None:
            return False
        transport.write(data)
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        transport = self._transport
        if self._closing or transport is None:
            return False
        small: list[bytes | memoryview] = []
        for chunk in chunks:
            if len(chunk) < COPY_MAX_BYTES:
                small.append(chunk)
                continue
            if small:
                transport.write(b"".join(small))
                small.clear()
            transport.write(chunk)
        if small:
            transport.write(b"".join(small))
        return True

    def write_buffer_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        if not self._closing and self._transport is not None:
            self._transport.set_write_buffer_limits(high_bytes, low_bytes)

    def pause_reading(self) -> None:
        if not self._closing and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing and self._paused and self._transport is not None:
            self._resume_reading()

    def close(self) -> None:
        transport = self._transport
        if self._closing or transport is None:
            self._closing = True
            return
        self._closing = True
        self._forget_rest()
        self._unwatch()
        lingers = not self._heard_all and self._shared.linger_s > 0
        if transport.get_write_buffer_size():
            # From here on nothing is added, so this is bounded by time alone and not by progress.
            wheel = self._shared.wheel
            self._watch = wheel.at(wheel.now() + self._shared.send_stall_s, self._stalled)
            if lingers:
                transport.set_write_buffer_limits(0)  # so that `resume_writing` comes when all has left
        elif lingers:
            self._say_all()
        if not lingers:
            transport.close()
        elif not transport.is_reading():
            transport.resume_reading()

    def abort(self) -> None:
        self._closing = True
        self._forget_rest()
        self._unwatch()
        if self._transport is not None:
            self._shared.reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing

    @property
    def lost(self) -> bool:
        """Whether it is over, or never began."""
        return self._transport is None

    def give_up(self) -> None:
        """Abort a link whose making was cut short.

        uvloop closes the handle of a cancelled connect without a word, even when `connection_made` has been called; so the end is told
        from here, and `connection_lost` bears being called twice.
        """
        self.abort()
        asyncio.get_running_loop().call_soon(self.connection_lost, None)

    # -------------------------------------------------------------------------------------------------- Protocol, for the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection its receiver."""
        stream = cast("asyncio.Transport", transport)
        if self._closing:
            stream.abort()
            return
        self._transport = stream
        self.local = self.local or printable(stream.get_extra_info("sockname"))
        self.peer = self.peer or printable(stream.get_extra_info("peername"))
        stream.set_write_buffer_limits(self._shared.high_water_bytes, self._shared.low_water_bytes)
        try:
            receiver = self._receiver = self._make_receiver()
            self._make_receiver = _made
            receiver.link_made(self)
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The peer will send no more: tell the receiver, then close. A link that is closing ends here: the transport closes by itself."""
        self._heard_all = True
        if self._closing or self._receiver is None:
            return False
        try:
            if self._receiver.eof_received():
                return True  # the transport stays; the receiver goes on writing
        except Exception as error:
            self._fail(error)
            return False
        self.close()
        return False

    def pause_writing(self) -> None:
        """The transport holds more than the high water mark."""
        if self._receiver is None or self._closing:
            return
        self._unwatch()
        self._watch = StallWatch(self._shared.wheel, self._shared.send_stall_s, self._waiting_bytes, self._stalled)
        try:
            self._receiver.pause_writing()
        except Exception as error:
            self._fail(error)

    def resume_writing(self) -> None:
        """The transport is down to the low water mark."""
        if self._closing and not self._heard_all:
            asyncio.get_running_loop().call_soon(self._say_all)  # not from here: asyncio's transport is in the middle of a write
        if self._receiver is None or self._closing:
            return  # while closing, the watch is for the end of it
        self._unwatch()
        try:
            self._receiver.resume_writing()
        except Exception as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end. What points at others is let go first, so that a dead link keeps nothing alive."""
        receiver, self._receiver = self._receiver, None
        self._transport = None
        self._closing = True
        self._forget_rest()
        self._unwatch()
        if not self._said_all:  # a reset after our last word is how some peers hang up
            self.error = self.error or exc
        if receiver is not None:
            receiver.link_lost(self.error)

    def expect_little(self) -> None:
        """No more large reads follow: take small ones as they cost least again, unless something is left of the last large one."""
        if self._transport is not None and not self._rest and self._aside is None:
            self._transport.set_protocol(self)

    # ------------------------------------------------------------------------------------------------------------------- inside

    def _say_all(self) -> None:
        """What was written has left the process: tell the peer that this was all, and wait for its end."""
        transport = self._transport
        if transport is None or self._said_all or transport.is_closing():
            return
        self._unwatch()
        self._said_all = True
        try:
            transport.write_eof()
        except OSError:
            transport.abort()  # the peer is gone already
            return
        now = self._shared.wheel.now()
        self._linger(now + self._shared.send_stall_s, self._unsent_bytes())

    def _linger(self, until: float, unsent: int) -> None:
        """Wait for the peer's end, and longer than `linger_s` only while the kernel is still bringing it what we wrote."""
        wheel = self._shared.wheel
        self._watch = wheel.at(min(wheel.now() + self._shared.linger_s, until), lambda: self._lingered(until, unsent))

    def _lingered(self, until: float, before: int) -> None:
        unsent = self._unsent_bytes()
        if 0 < unsent < before and self._shared.wheel.now() < until:
            self._linger(until, unsent)
        elif self._transport is not None:
            self._transport.close()

    def _discard(self, nbytes: int) -> None:
        self._discarded += nbytes
        if self._discarded > LINGER_MAX_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def _stop_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()  # uvloop begins to read after `connection_made`, even when that paused it

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _expect_much(self) -> None:
        if self._transport is not None:
            self._transport.set_protocol(_LargeReads(self))

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.abort()

    def _waiting_bytes(self) -> int:
        if self._transport is None:
            return 0
        # The kernel's share counts: it takes megabytes before it asks for more, and a slow reader moves only that for a long time.
        return self._transport.get_write_buffer_size() + self._unsent_bytes()

    def _unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._shared.unsent_bytes(self._transport.get_extra_info("socket"))

    def _stalled(self) -> None:
        waiting = self.write_buffer_bytes()
        self._fail(
            ConnectionAbortedError(f"{self.peer} stopped reading: {waiting} bytes wait for it after {self._shared.send_stall_s:g} s")
        )

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class _LargeReads(asyncio.BufferedProtocol):
    """What stands between a transport and its link while large reads follow one another: these are written to the link's scratch."""

    def __init__(self, link: StreamLink) -> None:
        self._link = link
        self._small = 0  # reads in a row
        self.get_buffer = link.get_buffer  # type: ignore[method-assign] # a function less for each read

    def buffer_updated(self, nbytes: int) -> None:
        self._link.buffer_updated(nbytes)
        self._small = self._small + 1 if nbytes <= SMALL_READ_BYTES else 0
        if self._small >= SMALL_READS:
            self._link.expect_little()

    def eof_received(self) -> bool:
        return self._link.eof_received()

    def pause_writing(self) -> None:
        self._link.pause_writing()

    def resume_writing(self) -> None:
        self._link.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.connection_lost(exc)


def printable(name: object) -> str:
    """A socket's name as the kernel gives it, for people: `tcp://127.0.0.1:7000`, `unix:///run/x.sock`, or nothing."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(Address("tcp", str(name[0]), int(name[1])))
    if isinstance(name, bytes):  # Linux's abstract sockets
        name = name.decode(errors="replace").replace("\0", "@")
    return f"unix://{name}" if name else ""
