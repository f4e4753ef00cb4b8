"""A link over a kernel stream socket, TCP or Unix.

Owns: reading into one scratch buffer, keeping what a receiver left unused, and the end of a link in all its forms.

Theory. A private read buffer per connection costs 256 KiB times the number of connections, nearly all of them idle. So every link of a
thread reads into the same scratch: between `get_buffer` and the return of `buffer_updated` the loop does nothing else, and by then the
receiver has used what is whole. What is left, the beginning of a frame, is kept as `bytes` of its own size and put in front of the
next read. When it is large (over half the scratch) the link gets a buffer of its own until it has been used.

What may never happen here: an exception of one receiver that reaches the loop or another link; a second call for the same end; a kernel
call of our own (`network.py` hands in the two that are needed, in `LinkShared`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

import msgspec

from ..control.wheel import Timer, Wheel
from ..errors import ProtocolError
from .address import Address
from .link import REST_MAX_BYTES, Receiver
from .stall import StallWatch

SCRATCH_BYTES = 256 * 1024
REST_IN_SCRATCH_BYTES = SCRATCH_BYTES // 2

_threads = threading.local()


def scratch_of_this_thread() -> memoryview:
    """The buffer every link of this thread reads into. One per thread, because two loops may read at the same moment."""
    found = getattr(_threads, "scratch", None)
    if found is None:
        found = _threads.scratch = memoryview(bytearray(SCRATCH_BYTES))
    return cast("memoryview", found)


class LinkShared(msgspec.Struct, frozen=True):
    """What all links of a network have in common, so that a link holds one reference instead of six.

    Attributes:
        unsent_bytes: how many bytes the kernel holds for the peer, of a transport's socket; 0 where it cannot tell.
        reset_on_close: makes the close of a transport's socket a reset.
    """

    wheel: Wheel
    send_stall_s: float
    high_water_bytes: int
    low_water_bytes: int
    unsent_bytes: Callable[[object], int]
    reset_on_close: Callable[[object], None]


class StreamLink(asyncio.BufferedProtocol):
    """Both a Link (to the receiver above) and a protocol (to the transport below).

    Args:
        make_receiver: called when the connection is made; not at all when it never is.
        local, peer: printable ends, where they are known before; otherwise they are asked of the transport.

    Attributes:
        error: why the link ended, when it was not in the ordinary way.
    """

    __slots__ = (
        "_aside",
        "_closing",
        "_filled",
        "_paused",
        "_receiver",
        "_rest",
        "_scratch",
        "_shared",
        "_transport",
        "_watch",
        "_make_receiver",
        "error",
        "local",
        "peer",
    )

    def __init__(self, shared: LinkShared, make_receiver: Callable[[], Receiver], *, local: str = "", peer: str = "") -> None:
        self._shared = shared
        self._make_receiver = make_receiver
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._scratch = scratch_of_this_thread()
        self._rest = b""  # what the receiver left unused, while it is small
        self._aside: memoryview | None = None  # and while it is large: a buffer of our own, of which the first _filled bytes count
        self._filled = 0
        self._watch: StallWatch | Timer | None = None
        self._closing = False
        self._paused = False
        self.error: Exception | None = None
        self.local = local
        self.peer = peer

    # ---------------------------------------------------------------------------------------------------- Link, for the receiver

    def write(self, data: bytes) -> None:
        if not self._closing and self._transport is not None:
            self._transport.write(data)

    def write_buffer_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if not self._closing and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._closing or not self._paused or self._transport is None:
            return
        self._paused = False
        if self._rest or self._aside is not None:
            asyncio.get_running_loop().call_soon(self._offer_rest)
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        transport = self._transport
        if self._closing or transport is None:
            self._closing = True
            return
        self._closing = True
        self._forget_rest()
        self._unwatch()
        if transport.get_write_buffer_size():
            # From here on nothing is added, so this is bounded by time alone and not by progress.
            wheel = self._shared.wheel
            self._watch = wheel.at(wheel.now() + self._shared.send_stall_s, self._stalled)
        transport.close()

    def abort(self) -> None:
        self._closing = True
        self._forget_rest()
        self._unwatch()
        if self._transport is not None:
            self._shared.reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing

    def give_up(self) -> None:
        """Abort a link whose making was cut short.

        uvloop closes the handle of a cancelled connect without a word, even when `connection_made` has been called; so the end is told
        from here, and `connection_lost` bears being called twice.
        """
        self.abort()
        asyncio.get_running_loop().call_soon(self.connection_lost, None)

    # ------------------------------------------------------------------------------------------ BufferedProtocol, for the transport

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
            receiver.link_made(self)
        except Exception as error:
            self._fail(error)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes: behind what was left of the last one."""
        if self._aside is not None:
            return self._aside[self._filled :]
        rest = self._rest
        if rest:
            size = len(rest)
            self._scratch[:size] = rest
            return self._scratch[size:]
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Offer what was read to the receiver, with what was left before in front."""
        if self._closing:
            return
        aside = self._aside
        data = self._scratch[: len(self._rest) + nbytes] if aside is None else aside[: self._filled + nbytes]
        if self._paused:  # a read that was under way when reading was paused
            self._keep(data, 0)
        else:
            self._offer(data)

    def eof_received(self) -> None:
        """The peer will send no more: tell the receiver, then close."""
        if self._closing or self._receiver is None:
            return
        try:
            self._receiver.eof_received()
        except Exception as error:
            self._fail(error)
            return
        self.close()

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
        self.error = self.error or exc
        if receiver is not None:
            receiver.link_lost(self.error)

    # ------------------------------------------------------------------------------------------------------------------- inside

    def _offer(self, data: memoryview) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            used = receiver.bytes_received(data)
            if not 0 <= used <= len(data):
                raise ValueError(f"bytes_received returned {used}: expected how many of the {len(data)} bytes were used")
        except Exception as error:
            self._fail(error)
            return
        if not self._closing:
            self._keep(data, used)

    def _offer_rest(self) -> None:
        """Reading was resumed: what was left may well be whole, only the receiver did not want it then."""
        if self._closing or self._paused or self._transport is None:
            return
        data = memoryview(self._rest) if self._aside is None else self._aside[: self._filled]
        self._offer(data)
        if not self._closing and not self._paused:
            self._transport.resume_reading()

    def _keep(self, data: memoryview, used: int) -> None:
        left = len(data) - used
        if left > REST_IN_SCRATCH_BYTES:
            self._keep_aside(data, used, left)
            return
        self._rest = bytes(data[used:]) if left else b""
        self._aside = None

    def _keep_aside(self, data: memoryview, used: int, left: int) -> None:
        """Keep what is too much for the scratch. `data` may be the buffer we have: then nothing needs to move."""
        if left > REST_MAX_BYTES:
            self._fail(ProtocolError(f"{left} bytes of {self.peer} wait unused, and a link keeps at most {REST_MAX_BYTES}"))
            return
        aside = self._aside
        if aside is None or used or left > len(aside) * 3 // 4:
            # A new one, never a longer one: a loop may still hold a view of the old, and a bytearray with views cannot grow.
            self._aside = memoryview(bytearray(left * 2))
            self._aside[:left] = data[used:]
        self._filled = left
        self._rest = b""

    def _forget_rest(self) -> None:
        self._rest = b""
        self._aside = None
        self._filled = 0

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.abort()

    def _waiting_bytes(self) -> int:
        if self._transport is None:
            return 0
        # The kernel's share counts: it takes megabytes before it asks for more, and a slow reader moves only that for a long time.
        return self._transport.get_write_buffer_size() + self._shared.unsent_bytes(self._transport.get_extra_info("socket"))

    def _stalled(self) -> None:
        waiting = self.write_buffer_bytes()
        self._fail(
            ConnectionAbortedError(f"{self.peer} stopped reading: {waiting} bytes wait for it after {self._shared.send_stall_s:g} s")
        )

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def printable(name: object) -> str:
    """A socket's name as the kernel gives it, for people: `tcp://127.0.0.1:7000`, `unix:///run/x.sock`, or nothing."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(Address("tcp", str(name[0]), int(name[1])))
    if isinstance(name, bytes):  # Linux's abstract sockets
        name = name.decode(errors="replace").replace("\0", "@")
    return f"unix://{name}" if name else ""
