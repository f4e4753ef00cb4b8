"""A UDP socket that hosts an `asyncio.DatagramProtocol`: bounded in both directions, and counting what it drops.

Owns: one non-blocking socket from its making to its end, the queue in front of it, and the limits per source.

Theory. UDP loses datagrams, so whoever uses it can bear a loss; what they cannot bear is a process that grows, or a loop that does nothing
else. So each place where datagrams could pile up has a bound, and beyond it they are dropped *and counted*: the kernel's buffer, the work
of one turn of the loop, a source that sends too fast, the queue behind a full socket. The loops' own endpoints (asyncio's and uvloop's)
queue without bound, and differ from one another; this one is the same on both.

What may never happen here: an exception of the protocol that reaches the loop or ends the endpoint; an error of one datagram that ends it;
a name lookup (`sendto` takes literals only); a callback of the protocol from inside `sendto`, but `pause_writing`.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, get_args

from ..context import Peer
from ..control.bucket import SourceBuckets
from ..control.wheel import Timer, Wheel
from ..errors import ConfigError, Unavailable
from ..facts import Emit, ProtocolFailed
from .address import Address
from .drops import SAY_EVERY_S, Drops
from .link import DatagramOptions, DatagramStats, DropReason
from .sendqueue import Name, SendQueue
from .sockets import (
    Socket,
    Target,
    buffers_of,
    cannot_listen,
    is_literal,
    kernel_drops,
    reason_of,
    source_network,
    udp_socket,
)

LATE_ERRORS = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EPROTO,
        errno.EACCES,
        errno.ENOPROTOOPT,
        errno.EMSGSIZE,
    }
)
"""What a connected socket says about a datagram that left earlier: an ICMP message came back. The one at hand is not to blame."""

REST_S = 0.1
"""How long reading rests after an error we do not know: it would come again at once, and must not become a busy loop."""

ERRORS_MAX = 16
"""Errors that wait to be told in one turn; of more, the last ones are told."""


class UdpEndpoint(asyncio.DatagramTransport):
    """The transport of one protocol, and the endpoint of whoever opened it; see `DatagramEndpoint`.

    Args:
        sock: non-blocking, bound or connected; ours from here on.
        address: where it is bound, or what it is connected to.
        close_s: how long `close` lets queued datagrams leave, in seconds.
    Raises: what `make_protocol` or its `connection_made` raises; the socket is closed then.
    """

    def __init__(
        self,
        sock: Socket,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connected: bool,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        close_s: float,
    ) -> None:
        super().__init__()
        self.address = address
        self._sock = sock
        self._descriptor = sock.fileno()
        self._sockname: Name = sock.getsockname()
        self._peername: Name | None = sock.getpeername() if connected else None
        self._peer_network = source_network(self._peername) if self._peername is not None else None
        self._options = options
        self._emit = emit
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._wheel = wheel
        self._close_s = close_s
        self._receive_max_bytes = options.datagram_max_bytes + 1  # one more than is taken, so that a cut can be told from a fit
        self._buckets = SourceBuckets(options.source_rate_per_s, options.source_burst, sources_max=options.sources_max)
        self._queue = SendQueue(options.send_queue_max_bytes, options.send_queue_max)
        self._errors: deque[OSError] = deque(maxlen=ERRORS_MAX)
        self._closing = False
        self._lost = False
        self._look: Timer | None = None  # at the kernel's count of drops
        self._rest: Timer | None = None  # from reading
        self._closer: Timer | None = None
        self._said_failure_at = -SAY_EVERY_S
        self._received = self._received_bytes = self._sent = self._sent_bytes = self._failures = 0
        self._kernel_seen = kernel_drops(sock)
        reasons = [reason for reason in get_args(DropReason) if reason != "kernel" or self._kernel_seen is not None]
        self._drops = Drops(str(address), reasons, wheel, emit)
        self._buffers = buffers_of(sock)
        self._start(make_protocol)

    def _start(self, make_protocol: Callable[[], asyncio.DatagramProtocol]) -> None:
        try:
            self.protocol = make_protocol()
        except BaseException:
            self._closing = self._lost = True
            self._sock.close()
            raise
        try:
            self.protocol.connection_made(self)
        except BaseException:
            self.abort()
            raise
        if not self._closing:
            self._loop.add_reader(self._descriptor, self._readable)

    # ----------------------------------------------------------------------------------------------- for whoever opened it

    @property
    def transport(self) -> asyncio.DatagramTransport:
        """What the protocol was given in `connection_made`."""
        return self

    def stats(self) -> DatagramStats:
        """What has come, gone and been dropped since it was opened. The kernel is asked now."""
        self._count_kernel_drops()
        return DatagramStats(
            received=self._received,
            received_bytes=self._received_bytes,
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            dropped=self._drops.totals(),
            protocol_failures=self._failures,
            queued=len(self._queue),
            queued_bytes=self._queue.waiting_bytes,
            sources=len(self._buckets),
            receive_buffer_bytes=self._buffers[0],
            send_buffer_bytes=self._buffers[1],
        )

    # -------------------------------------------------------------------------------------- DatagramTransport, for the protocol

    def sendto(self, data: bytes | bytearray | memoryview, addr: object = None) -> None:
        """Send one datagram, or queue it, or drop it and count why. Never waits.

        Args:
            addr: (host, port) as `datagram_received` gave it, the host a literal. None on a connected endpoint.
        Raises: TypeError for data that is not bytes. ValueError for an address this endpoint cannot send to; names are not looked up.
        """
        target = self._target(addr)
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        if self._closing:
            self._drops.count("closed")
        elif size > self._options.datagram_max_bytes:
            self._drops.count("send_too_large")
            limit = self._options.datagram_max_bytes
            self._tell_error(OSError(errno.EMSGSIZE, f"the datagram has {size} bytes, and at most {limit} are sent (datagram_max_bytes)"))
        elif self._queue or not self._send(data, size, target):
            self._enqueue(bytes(data), target)

    def get_write_buffer_size(self) -> int:
        """How many bytes of datagrams wait for the socket."""
        return self._queue.waiting_bytes

    def close(self) -> None:
        """Receive no more, send what is queued, then close. What has not left in time is dropped. Idempotent."""
        if self._closing:
            return
        self._stop()
        if self._queue:
            self._closer = self._wheel.at(self._wheel.now() + self._close_s, self.abort)
        else:
            self._finish()

    def abort(self) -> None:
        """Close now, and drop what is queued. Idempotent."""
        self._stop()
        if not self._lost:
            self._finish()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called."""
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sockname`; `holdfast.stats`, the `DatagramStats` of now; of a connected endpoint `peername` and `holdfast.peer`, a `Peer`."""
        if name == "sockname":
            return self._sockname
        if name == "holdfast.stats":
            return self.stats()
        peername = self._peername
        if name == "peername" and peername is not None:
            return peername
        if name == "holdfast.peer" and peername is not None:
            return Peer(str(Address("udp", str(peername[0]), int(peername[1]))))
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes from here on to another protocol. Raises: TypeError unless it is a DatagramProtocol."""
        if not isinstance(protocol, asyncio.DatagramProtocol):
            raise TypeError(f"expected an asyncio.DatagramProtocol, got {type(protocol).__name__}")
        self.protocol = protocol

    def get_protocol(self) -> asyncio.DatagramProtocol:
        """The protocol that is given what comes."""
        return self.protocol

    # -------------------------------------------------------------------------------------------------------------- receiving

    def _readable(self) -> None:
        """Take what is there, at most `datagrams_per_turn`: the loop asks again, after all others had their turn."""
        sock, peer, limit, network = self._sock, self._peername, self._receive_max_bytes, self._peer_network
        now = self._wheel.now()
        if self._look is None:
            self._look = self._wheel.at(now + SAY_EVERY_S, self._looked)
        for _ in range(self._options.datagrams_per_turn):
            if self._closing:
                return  # by what the protocol did with the last one
            try:
                if peer is None:
                    data, source = sock.recvfrom(limit)
                else:
                    data, source = sock.recv(limit), peer
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._receive_failed(error)
                return
            if len(data) >= limit:
                self._drops.count("too_large")
            elif not self._buckets.take(network or source_network(source), now):
                self._drops.count("source_limit")
            else:
                self._give(data, source)

    def _give(self, data: bytes, source: Name) -> None:
        self._received += 1
        self._received_bytes += len(data)
        try:
            self.protocol.datagram_received(data, source)
        except Exception as error:
            self._drops.count("receiver_failed")
            self._protocol_failed("datagram_received", error)

    def _receive_failed(self, error: OSError) -> None:
        self._tell_error(error)
        if error.errno not in LATE_ERRORS:
            self._loop.remove_reader(self._descriptor)
            self._rest = self._wheel.at(self._wheel.now() + REST_S, self._read_again)

    def _read_again(self) -> None:
        self._rest = None
        self._loop.add_reader(self._descriptor, self._readable)

    def _looked(self) -> None:
        self._look = None
        self._count_kernel_drops()

    def _count_kernel_drops(self) -> None:
        seen = None if self._lost else kernel_drops(self._sock)
        if seen is not None and self._kernel_seen is not None:
            self._drops.count("kernel", (seen - self._kernel_seen) % 2**32)
            self._kernel_seen = seen

    # ---------------------------------------------------------------------------------------------------------------- sending

    def _target(self, addr: object) -> Name | None:
        """Where to, as the kernel takes it; None for the peer of a connected socket. A name would be looked up by `sendto`, and block."""
        peer = self._peername
        if peer is not None:
            if addr is None or addr == peer or (isinstance(addr, tuple) and addr[:2] == peer[:2]):
                return None
            raise ValueError(f"this endpoint is connected to {peer[0]!r} port {peer[1]}: send to None or to that, not to {addr!r}")
        if not (isinstance(addr, tuple) and 2 <= len(addr) <= 4):
            raise ValueError(f"expected the address to send to, as (host, port), got {addr!r}; only a connected endpoint knows its peer")
        host, port = addr[:2]
        if not (isinstance(host, str) and is_literal(self._sock, host)):
            kind = "IPv6" if ":" in str(self._sockname[0]) else "IPv4"
            raise ValueError(f"expected an {kind} address such as datagram_received gives, got {host!r}; look a name up first")
        if not (isinstance(port, int) and 0 < port < 65536):
            raise ValueError(f"expected a port from 1 to 65535, got {port!r}")
        return addr

    def _send(self, data: bytes | bytearray | memoryview, size: int, target: Name | None) -> bool:
        """Give one datagram to the kernel. False when it has no room; True when it was sent, or never can be."""
        told = 0
        while True:
            try:
                if target is None:
                    self._sock.send(data)
                else:
                    self._sock.sendto(data, target)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno != told:
                    self._tell_error(error)
                if self._peername is not None and error.errno in LATE_ERRORS and not told:
                    told = error.errno
                    continue  # the kernel told us about an earlier one instead of sending this one
                self._drops.count("send_failed")
                return True
            self._sent += 1
            self._sent_bytes += size
            return True

    def _enqueue(self, data: bytes, target: Name | None) -> None:
        queue = self._queue
        if not queue.push(data, target):
            self._drops.count("send_full")
            return
        if len(queue) == 1:
            self._loop.add_writer(self._descriptor, self._writable)
        if queue.must_pause():
            self._call("pause_writing", self.protocol.pause_writing)

    def _writable(self) -> None:
        queue = self._queue
        for _ in range(min(len(queue), self._options.datagrams_per_turn)):
            data, target = queue.first()
            if not self._send(data, len(data), target):
                break
            queue.pop()
        if not queue:
            self._loop.remove_writer(self._descriptor)
            if self._closing:
                self._finish()
        if not self._closing and queue.may_resume():
            self._call("resume_writing", self.protocol.resume_writing)

    # ------------------------------------------------------------------------------------------------------ errors and the end

    def _tell_error(self, error: OSError) -> None:
        """From the loop, not from here: a protocol may send again in `error_received`, and would never come back."""
        if not self._errors:
            self._loop.call_soon(self._tell_errors)
        self._errors.append(error)

    def _tell_errors(self) -> None:
        errors = list(self._errors)
        self._errors.clear()
        if not self._closing and self._rest is None:
            # libuv stops watching a socket that had an error, and says nothing (uvloop's reader then sleeps for ever).
            self._loop.remove_reader(self._descriptor)
            self._loop.add_reader(self._descriptor, self._readable)
        for error in errors:
            if not self._lost:
                self._call("error_received", self.protocol.error_received, error)

    def _call(self, callback: str, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._protocol_failed(callback, error)

    def _protocol_failed(self, callback: str, error: Exception) -> None:
        """Count it; tell it at most once per SAY_EVERY_S, since a traceback per datagram would do more harm than the failure."""
        self._failures += 1
        now = self._wheel.now()
        if now - self._said_failure_at >= SAY_EVERY_S:
            self._said_failure_at = now
            self._emit(ProtocolFailed(str(self.address), callback, error))

    def _stop(self) -> None:
        """No more reading, no more timers."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._descriptor)
        for timer in (self._look, self._rest, self._closer):
            if timer is not None:
                timer.cancel()
        self._look = self._rest = self._closer = None

    def _finish(self) -> None:
        """The end, from the loop. What is still queued is dropped here and now."""
        if self._queue:
            self._loop.remove_writer(self._descriptor)
            self._drops.count("closed", self._queue.clear())
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        self._count_kernel_drops()
        self._lost = True
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._sock.close()
        self._call("connection_lost", self.protocol.connection_lost, None)
        self._drops.close()
        if not self.closed.done():
            self.closed.set_result(None)


def require_datagrams(address: Address, *, connect: bool) -> None:
    """Refuse what no UDP socket can be opened at. Raises: ConfigError saying what to write instead."""
    if address.scheme != "udp":
        raise ConfigError(f"{address} is not for datagrams; write udp://{address.host or '127.0.0.1'}:{address.port}")
    if connect and not address.port:
        raise ConfigError(f"{address} is nobody's address; give the port of the peer")


def open_endpoint(
    address: Address,
    targets: Sequence[Target],
    make_protocol: Callable[[], asyncio.DatagramProtocol],
    options: DatagramOptions,
    emit: Emit,
    *,
    connect: bool,
    loop: asyncio.AbstractEventLoop,
    wheel: Wheel,
    close_s: float,
) -> UdpEndpoint:
    """An endpoint connected to the first of `targets` there is a way to, or bound to the first of them.

    Args:
        targets: what `address` stands for, at least one.
    Raises: Unavailable when there is no way to any. ConfigError when it cannot be bound. What the protocol raises.
    """
    failed: OSError | None = None
    for target in targets if connect else targets[:1]:
        try:
            sock = udp_socket(address, target, connect=connect, receive_buffer_bytes=options.receive_buffer_bytes)
        except OSError as error:
            failed = error
            continue
        here = address if connect else Address("udp", address.host, sock.getsockname()[1])
        return UdpEndpoint(sock, here, make_protocol, options, emit, connected=connect, loop=loop, wheel=wheel, close_s=close_s)
    assert failed is not None
    if connect:
        raise Unavailable(f"cannot connect to {address}: {reason_of(failed)}") from failed
    raise cannot_listen(address, targets[0].family, failed) from failed
