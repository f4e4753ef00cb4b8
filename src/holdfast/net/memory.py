"""A network inside one process: the same links without a kernel.

Owns: names, and links between two receivers of one loop. For `testing.client`, and for tests that cut a stream of bytes anywhere.

It keeps to the order and the meaning of calls that a kernel link has (one suite, tests/net/test_conformance.py, holds for all), and is
stricter in one thing: bytes a receiver kept beyond `bytes_received` are overwritten at once, not some time later.
What may never happen here: a receiver called from inside the other one's call; every delivery comes from the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import NoReturn

from ..context import PeerCertificate
from ..control.wheel import Timer, Wheel
from ..errors import ConfigError, ProtocolError, Unavailable
from ..facts import ConnectionRefused, Emit
from .address import Address
from .link import (
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    REST_MAX_BYTES,
    SEND_STALL_S,
    DatagramOptions,
    Link,
    Listening,
    ListenOptions,
    Receiver,
    WhenFull,
)
from .stall import StallWatch

CHUNK_BYTES = 64 * 1024
_POISON = b"\xdd"


class MemoryNetwork:
    """A place of names where `memory://name` can be listened at and connected to. One per loop; two of them do not see each other.

    Args:
        wheel: for the send stall deadline; one on the running loop unless given.
        chunk_bytes: how many bytes one delivery has at most; 1 feeds a receiver byte by byte.
    """

    def __init__(
        self,
        wheel: Wheel | None = None,
        *,
        send_stall_s: float = SEND_STALL_S,
        high_water_bytes: int = HIGH_WATER_BYTES,
        low_water_bytes: int = LOW_WATER_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        if chunk_bytes < 1:
            raise ConfigError(f"chunk_bytes={chunk_bytes}: expected at least 1")
        self._wheel = wheel
        self.send_stall_s = send_stall_s
        self.high_water_bytes = high_water_bytes
        self.low_water_bytes = low_water_bytes
        self.chunk_bytes = chunk_bytes
        self._names: dict[str, MemoryListening] = {}
        self._numbers = count(1)

    @property
    def wheel(self) -> Wheel:
        """The wheel deadlines go to."""
        if self._wheel is None:
            loop = asyncio.get_running_loop()
            self._wheel = Wheel(loop.time, loop.call_at)
        return self._wheel

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link to whoever listens at `address`; at once, so `timeout_s` cannot pass. See `Network.connect`.

        Raises: Unavailable when nobody listens there. ConfigError for any scheme but memory.
        Cancel: loses nothing; there is nothing to wait for.
        """
        _require_memory(address)
        listening = self._names.get(address.host)
        if listening is None:
            raise Unavailable(f"cannot connect to {address}: nobody listens there")
        name = f"memory://{next(self._numbers)}"
        ours = MemoryLink(self, local=name, peer=str(address))
        theirs = MemoryLink(self, local=str(address), peer=name)
        ours.other, theirs.other = theirs, ours
        # Theirs first: what we write from inside our link_made must find them made.
        asyncio.get_running_loop().call_soon(listening.take, theirs)
        ours.made(make_receiver)
        if ours.error is not None:
            raise ours.error
        return ours

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        """Accept links at `address`. The options say nothing to memory, and it is never full. See `Network.listen`.

        Raises: ConfigError when the name is in use, or for any scheme but memory.
        Cancel: loses nothing; there is nothing to wait for.
        """
        _require_memory(address)
        if address.host in self._names:
            raise ConfigError(f"cannot listen at {address}: the name is in use in this MemoryNetwork; choose another")
        listening = self._names[address.host] = MemoryListening(self._names, address, make_receiver, emit)
        return listening

    async def lookup(self, address: Address) -> list[Address]:
        """A name in memory stands for itself. Cancel: loses nothing."""
        return [address]

    async def datagrams(
        self,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connect: bool,
    ) -> NoReturn:
        """There are none here: a test of datagrams opens real ones, on udp://127.0.0.1:0.

        Raises: ConfigError, always.
        Cancel: loses nothing; there is nothing to wait for.
        """
        raise ConfigError(f"{address}: a MemoryNetwork has no datagrams; open udp://127.0.0.1:0 with a KernelNetwork instead")


def _require_memory(address: Address) -> None:
    if address.scheme != "memory":
        raise ConfigError(f"{address} is not in memory; a MemoryNetwork knows addresses such as memory://shop")


class MemoryListening:
    """A name that is listened at."""

    def __init__(self, names: dict[str, MemoryListening], address: Address, make_receiver: Callable[[], Receiver], emit: Emit) -> None:
        self.address = address
        self.options: Mapping[str, object] = {}
        self._names = names
        self._make_receiver = make_receiver
        self._emit = emit

    def take(self, link: MemoryLink) -> None:
        """Accept the far end of a link, unless the near one is gone already or we closed meanwhile."""
        if self._names.get(self.address.host) is not self:
            link.abort()
            return
        link.made(self._make_receiver)
        if link.error is not None:
            self._emit(ConnectionRefused(link.peer, f"its receiver failed at once: {link.error!r}"))

    def close(self) -> None:
        """Give the name back. Links live on. Idempotent."""
        if self._names.get(self.address.host) is self:
            del self._names[self.address.host]


class MemoryLink:
    """One end of a link. `_out` holds what was written here and the other end has not been offered yet."""

    __slots__ = (
        "_closing",
        "_delivering",
        "_high_bytes",
        "_lost",
        "_low_bytes",
        "_network",
        "_out",
        "_paused_reading",
        "_paused_writing",
        "_receiver",
        "_rest",
        "_watch",
        "error",
        "local",
        "other",
        "peer",
    )

    certificate: PeerCertificate | None = None
    other: MemoryLink

    def __init__(self, network: MemoryNetwork, *, local: str, peer: str) -> None:
        self._network = network
        self._high_bytes = network.high_water_bytes
        self._low_bytes = network.low_water_bytes
        self._receiver: Receiver | None = None
        self._out = bytearray()
        self._rest = b""
        self._delivering = False
        self._closing = False
        self._lost = False
        self._paused_reading = False
        self._paused_writing = False
        self._watch: StallWatch | Timer | None = None
        self.error: Exception | None = None
        self.local = local
        self.peer = peer

    def made(self, make_receiver: Callable[[], Receiver]) -> None:
        """Give this end its receiver. Nothing happens to an end that was cut before."""
        if self._lost or self._closing:
            return
        try:
            self._receiver = make_receiver()
            self._receiver.link_made(self)
        except Exception as error:
            self._fail(error)
            return
        self.other._deliver_soon()

    # -------------------------------------------------------------------------------------------------------------------- Link

    def write(self, data: bytes) -> bool:
        if self._closing:
            return False
        if data:
            self._out += data
            self._deliver_soon()
            self._pause_above_high_water()
        return True

    def _pause_above_high_water(self) -> None:
        if len(self._out) > self._high_bytes and not self._paused_writing:
            self._paused_writing = True
            network = self._network
            self._watch = StallWatch(network.wheel, network.send_stall_s, self.write_buffer_bytes, self._stalled)
            self._tell(lambda receiver: receiver.pause_writing())

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return len(self._out)

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        self._high_bytes, self._low_bytes = high_bytes, low_bytes
        if not self._closing:
            self._pause_above_high_water()

    def pause_reading(self) -> None:
        self._paused_reading = True

    def resume_reading(self) -> None:
        if self._paused_reading and not self._closing:
            self._paused_reading = False
            asyncio.get_running_loop().call_soon(self._resumed)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._rest = b""
        self._unwatch()
        if self._out:
            wheel = self._network.wheel
            self._watch = wheel.at(wheel.now() + self._network.send_stall_s, self._stalled)
        self.other._out.clear()  # we read no more
        self.other._deliver_soon()
        self._deliver_soon()

    def abort(self) -> None:
        if self._lost:
            return
        self._closing = True
        self._cut(self.error)
        self.other._cut(ConnectionResetError(f"{self.other.peer} cut the link"))

    def is_closing(self) -> bool:
        return self._closing

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _deliver_soon(self) -> None:
        if not self._delivering and not self._lost:
            self._delivering = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """One chunk from here to the other end; then the end of the stream, when we are closing."""
        self._delivering = False
        other = self.other
        unmade = other._receiver is None and not other._lost
        if self._lost or unmade or (other._paused_reading and not other._closing):
            return  # `made` and `_resumed` deliver again
        if other._closing:
            self._out.clear()  # it reads no more; so does the kernel's peer after its close
        if self._out:
            chunk = bytes(self._out[: self._network.chunk_bytes])
            del self._out[: self._network.chunk_bytes]
            other._offer(chunk)
        if self._over():  # by what the other end did with the chunk
            return
        if self._paused_writing and len(self._out) <= self._low_bytes:
            self._paused_writing = False
            if not self._closing:
                self._unwatch()
                self._tell(lambda receiver: receiver.resume_writing())
        if self._out:
            self._deliver_soon()
        elif self._closing:
            self._finish()

    def _over(self) -> bool:
        return self._lost

    def _offer(self, chunk: bytes) -> None:
        """Give the receiver of this end what is new, behind what it left before."""
        receiver = self._receiver
        if receiver is None or self._closing:
            return
        data = bytearray(self._rest + chunk)
        try:
            used = receiver.bytes_received(memoryview(data))
            if not 0 <= used <= len(data):
                raise ValueError(f"bytes_received returned {used}: expected how many of the {len(data)} bytes were used")
            self._rest = b"" if self._closing else bytes(data[used:])
        except Exception as error:
            self._fail(error)
        data[:] = _POISON * len(data)
        if len(self._rest) > REST_MAX_BYTES:
            self._fail(ProtocolError(f"{len(self._rest)} bytes of {self.peer} wait unused, and a link keeps at most {REST_MAX_BYTES}"))

    def _resumed(self) -> None:
        if self._closing or self._paused_reading:
            return
        if self._rest:
            self._offer(b"")
        self.other._deliver_soon()

    def _finish(self) -> None:
        """Everything written has been read: the other end learns that no more comes, and this one is over."""
        self._cut(self.error)
        self.other._end_of_stream()

    def _end_of_stream(self) -> None:
        if self._closing or self._receiver is None:
            return
        try:
            if self._receiver.eof_received():
                return
        except Exception as error:
            self._fail(error)
            return
        self.close()

    def _cut(self, error: Exception | None) -> None:
        """This end is over; the receiver hears of it from the loop."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        self._rest = b""
        self._unwatch()
        self.error = self.error or error
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            asyncio.get_running_loop().call_soon(receiver.link_lost, self.error)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.abort()

    def _tell(self, event: Callable[[Receiver], None]) -> None:
        if self._receiver is None:
            return
        try:
            event(self._receiver)
        except Exception as error:
            self._fail(error)

    def _stalled(self) -> None:
        waiting = len(self._out)
        self._fail(
            ConnectionAbortedError(f"{self.peer} stopped reading: {waiting} bytes wait for it after {self._network.send_stall_s:g} s")
        )

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
