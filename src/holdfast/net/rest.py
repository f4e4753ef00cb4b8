"""Offering bytes to a receiver, and keeping what it leaves.

Owns: the scratch a thread reads into, and the bytes that were read and not used yet.

Theory. A private read buffer per connection costs 256 KiB times the number of connections, nearly all of them idle. So every link of a
thread reads into the same scratch: between `get_buffer` and the return of `buffer_updated` the loop does nothing else, and by then the
receiver has used what is whole. What is left, the beginning of a frame, is kept as `bytes` of its own size and put in front of the
next read. When it is large (over half the scratch) the link gets a buffer of its own until it has been used.

A small read costs less when the loop makes `bytes` of it (`data_received`): no buffer is asked for, no view is made. A large one would be
copied once more that way. So a link may take either, and goes over to the scratch (`_expect_much`) when large reads come.

What may never happen here: an exception of a receiver that reaches whoever brought the bytes; more than REST_MAX_BYTES kept.
"""

from __future__ import annotations

import asyncio
import threading
from typing import cast

from ..errors import ProtocolError
from .link import REST_MAX_BYTES, Receiver

SCRATCH_BYTES = 256 * 1024
REST_IN_SCRATCH_BYTES = SCRATCH_BYTES // 2
LARGE_READ_BYTES = 16 * 1024
"""A read of this size costs more to copy than to ask for a buffer and make a view of it."""

_threads = threading.local()


def scratch_of_this_thread(layer: str = "link") -> memoryview:
    """The buffer every link of this thread reads into, one per layer: what TLS decrypts must not write over what it decrypts from.

    One per thread, because two loops may read at the same moment.
    """
    found = getattr(_threads, layer, None)
    if found is None:
        found = memoryview(bytearray(SCRATCH_BYTES))
        setattr(_threads, layer, found)
    return cast("memoryview", found)


class Offering:
    """The half of a link that faces its receiver. A base and not a part: an object more would cost each read an attribute and a call.

    Whoever brings bytes writes them where `get_buffer` says and tells how many with `buffer_updated`, or hands them to `data_received`.

    Attributes:
        error: why the link ended, when it was not in the ordinary way.
        peer: their end, printable.
    """

    __slots__ = ("_aside", "_closing", "_filled", "_paused", "_receiver", "_rest", "_scratch", "error", "peer")

    def __init__(self, scratch: memoryview, peer: str) -> None:
        self._scratch = scratch
        self._receiver: Receiver | None = None
        self._rest = b""  # what the receiver left unused, while it is small
        self._aside: memoryview | None = None  # and while it is large: a buffer of our own, of which the first _filled bytes count
        self._filled = 0
        self._closing = False
        self._paused = False
        self.error: Exception | None = None
        self.peer = peer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: behind what was left of the last ones."""
        if self._aside is not None:
            return self._aside[self._filled :]
        rest = self._rest
        if rest:
            size = len(rest)
            self._scratch[:size] = rest
            return self._scratch[size:]
        return self._scratch

    def data_received(self, data: bytes) -> None:
        """Offer a read that is an object of its own. With something in front of it, or in the way, it goes through the scratch."""
        receiver = self._receiver
        if self._rest or self._closing or self._paused or self._aside is not None or receiver is None:
            self._through_scratch(data)
            return
        try:
            used = receiver.bytes_received(data)
        except Exception as error:
            self._fail(error)
            return
        size = len(data)
        if used != size:
            self._left(memoryview(data), used)
        if size >= LARGE_READ_BYTES and not self._closing:
            self._expect_much()

    def _through_scratch(self, data: bytes) -> None:
        if self._closing:
            self._discard(len(data))
            return
        view = memoryview(data)
        while view:
            space = self.get_buffer(len(view))
            size = min(len(space), len(view))
            space[:size] = view[:size]
            view = view[size:]
            self.buffer_updated(size)
        if len(data) >= LARGE_READ_BYTES and not self._closing:
            self._expect_much()

    def buffer_updated(self, nbytes: int) -> None:
        """Offer what was read to the receiver, with what was left before in front."""
        receiver = self._receiver
        if self._closing or self._paused or self._aside is not None or receiver is None:
            self._updated(nbytes)
            return
        rest = self._rest
        size = nbytes + len(rest) if rest else nbytes
        data = self._scratch[:size]
        try:
            used = receiver.bytes_received(data)
        except Exception as error:
            self._fail(error)
            return
        if used != size:
            self._left(data, used)
        elif rest:
            self._rest = b""

    def _updated(self, nbytes: int) -> None:
        """As `buffer_updated`, when it is not as simple as it mostly is."""
        if self._closing:
            self._discard(nbytes)
            return
        aside = self._aside
        data = self._scratch[: len(self._rest) + nbytes] if aside is None else aside[: self._filled + nbytes]
        if self._paused:  # a read that was under way when reading was paused
            self._keep(data, 0)
            self._stop_reading()
        else:
            self._offer(data)

    def _offer(self, data: memoryview) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            used = receiver.bytes_received(data)
        except Exception as error:
            self._fail(error)
            return
        self._left(data, used)

    def _left(self, data: memoryview, used: int) -> None:
        """The receiver used so much of what it was offered."""
        if not 0 <= used <= len(data):
            self._fail(ValueError(f"bytes_received returned {used}: expected how many of the {len(data)} bytes were used"))
        elif not self._closing:
            self._keep(data, used)

    def _resume_reading(self) -> None:
        """Reading is wanted again: first what was left is offered once more, from the loop, then more is read."""
        self._paused = False
        if self._rest or self._aside is not None:
            asyncio.get_running_loop().call_soon(self._offer_rest)
        else:
            self._read_on()

    def _offer_rest(self) -> None:
        """What was left may well be whole, only the receiver did not want it then."""
        if self._closing or self._paused:
            return
        if self._rest or self._aside is not None:
            self._offer(memoryview(self._rest) if self._aside is None else self._aside[: self._filled])
        if not self._closing and not self._paused:
            self._read_on()

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

    def _discard(self, nbytes: int) -> None:
        """So many bytes came after the close: nobody wants them."""

    def _stop_reading(self) -> None:
        """Something came while reading was paused: have no more brought."""

    def _expect_much(self) -> None:
        """More large reads may follow, and each would be copied: have them written to the scratch."""

    def _read_on(self) -> None:
        """Have more brought."""
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        """End the link for a reason."""
        raise NotImplementedError
