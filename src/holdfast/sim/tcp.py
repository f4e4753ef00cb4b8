"""TCP, as the programs at its two ends see it.

Owns: connections and listeners. Kept from the real one: the three-way handshake, the queue of a listener and what happens when it is full
(the SYN is dropped and sent again a second later), send buffers, receive windows, segments cut anywhere, half-close, keepalive, the times
after which a connection is given up, and when a reset is sent: for data nobody will read, for a close with unread data, for a connection
the kernel does not know, for a port nobody listens at, and on demand (SO_LINGER 0). Left out: congestion, checksums, TIME_WAIT.

What may never happen here: a byte twice, a byte lost without an error at one end, or out of order.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from .cpu import READ, WRITE, Cpu
from .kernel import Kernel, failure
from .listening import Listener, hears
from .patience import Patient

SEGMENT_MAX_BYTES = 64 * 1024
PROBE_S = 0.2
SYN_AGAIN_S = (1.0, 3.0, 7.0, 15.0, 31.0, 63.0)

Address = tuple[str, int]


class Connection(Patient):
    """One end of a connection, in the kernel. It outlives the process that had it, until all it has to say is said."""

    __slots__ = (
        "_limit",
        "_out",
        "_syns",
        "_told_free",
        "boot",
        "closed",
        "cpu",
        "error",
        "fd",
        "came",
        "early",
        "last_at",
        "packets",
        "linger_none",
        "local",
        "number",
        "read",
        "read_end",
        "receive_max",
        "received",
        "remote",
        "said_all",
        "say_all",
        "send_max",
        "sent",
        "sent_read",
        "unread",
    )

    def __init__(self, kernel: Kernel, local: Address, remote: Address, receive_max: int, send_max: int) -> None:
        engine = kernel.engine
        self.kernel = kernel
        self.boot = kernel.boots
        self.number = engine.number()
        self.local, self.remote = local, remote
        self.receive_max, self.send_max = receive_max, send_max
        self.cpu: Cpu | None = None
        self.fd = -1
        self.peer: Connection | None = None
        self.connecting = False
        self.closed = False  # by the process that had it
        self.error: OSError | None = None
        self.last_at = 0.0
        self.packets = self.came = 0
        self.early: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self.heard_at = self.progress_at = engine.now
        self.unread: deque[bytes] = deque()
        self.received = self.read = 0  # bytes that came, and of these, that the process took
        self.read_end = False  # the peer said that no more comes
        self._out = bytearray()  # what waits for the peer's window
        self.sent = self.sent_read = 0  # bytes on their way or there, and of these, acknowledged
        self.say_all = self.said_all = False
        self.linger_none = False
        self.keepalive: tuple[float, float, int] | None = None
        self.user_timeout_s = 0.0
        self._limit = 0
        self._told_free = receive_max
        self._reset = False
        self._stuck = self._probing = False
        self._listener: Listener | None = None  # while the handshake is under way, at the side that accepts
        self._syns = 0
        kernel.connections[self.number] = self

    # -------------------------------------------------------------------------------------------------------------- what is asked

    def mask(self) -> int:
        """What would not block."""
        if self.connecting:
            return 0
        if self.error is not None or self._reset:
            return READ | WRITE
        mask = READ if self.unread or self.read_end else 0
        if self.say_all or self.room() * 3 >= self.send_max:
            mask |= WRITE
        return mask

    def room(self) -> int:
        """How many bytes the send buffer takes."""
        return self.send_max - len(self._out) - self.sent + self.sent_read

    def unsent_bytes(self) -> int:
        """How many bytes the peer's kernel has not acknowledged."""
        return len(self._out) + self.sent - self.sent_read

    def gone(self) -> bool:
        """The machine lost power since: nothing of this exists any more."""
        return self.boot != self.kernel.boots or not self.kernel.on

    def _changed(self) -> None:
        if self.cpu is not None:
            self.cpu.poke(self.fd)

    def _tell(self, size: int, method: str, *args: Any) -> None:
        """Send a packet: the peer's method is called when it is there."""
        peer = self.peer
        if peer is not None:
            self.kernel.wires.stream(self.kernel, peer.kernel, self, size, peer.arrives, method, args)

    def arrives(self, method: str, args: tuple[Any, ...]) -> None:
        """A packet is here. The kernel may not know the connection: it was switched off and on, and answers with a reset."""
        self.heard_at = self.kernel.engine.now
        if not self.gone():
            getattr(self, method)(*args)
        elif method != "on_reset":
            self._tell(0, "on_reset")

    # ---------------------------------------------------------------------------------------------------------------- connecting

    def connect(self) -> None:
        """Begin the handshake."""
        self.connecting = True
        engine, kernel = self.kernel.engine, self.kernel
        engine.record("syn", kernel.name, (self.number, *self.remote))
        engine.at(engine.time(), self._syn, engine.time())

    def _syn(self, began_at: float) -> None:
        if not self.connecting or self.gone():
            return
        kernel = self.kernel
        target = kernel.find(self.remote[0])
        if target is not None:
            link = kernel.wires.between(kernel, target)
            if link.held or link.passes():
                kernel.wires.stream(kernel, target, self, 0, self._syn_arrives, target, began_at)
                return
        self._syn_lost(began_at)

    def _syn_lost(self, began_at: float) -> None:
        """Nobody heard it: try again at the times at which Linux does, and give up in the end."""
        engine = self.kernel.engine
        while self._syns < len(SYN_AGAIN_S) and began_at + SYN_AGAIN_S[self._syns] <= engine.now:
            self._syns += 1
        give_up_at = began_at + engine.options.connect_timeout_s
        if self.user_timeout_s:
            give_up_at = min(give_up_at, began_at + self.user_timeout_s)
        if self._syns < len(SYN_AGAIN_S) and began_at + SYN_AGAIN_S[self._syns] < give_up_at:
            engine.at(began_at + SYN_AGAIN_S[self._syns], self._syn, began_at)
        else:
            engine.at(max(give_up_at, engine.now), self._no_answer)

    def _no_answer(self) -> None:
        if self.connecting:
            self._fail(errno.ETIMEDOUT)

    def _syn_arrives(self, target: Kernel, began_at: float) -> None:
        if not self.connecting:
            return
        engine, wires = self.kernel.engine, self.kernel.wires
        ip = self.remote[0]
        listener = target.bound_at("tcp", target.source_for(ip) if target is self.kernel else ip, self.remote[1], hears)
        if listener is None:
            engine.record("refuse", target.name, (self.number, self.remote[1]))
            wires.stream(target, self.kernel, self, 0, self._refused)
            return
        if not listener.has_room():
            engine.record("backlog full", target.name, (self.number, self.remote[1]))
            self._syn_lost(began_at)
            return
        listener.half_open += 1
        local = (self.kernel.source_for(ip) if target is self.kernel else ip, self.remote[1])
        peer = Connection(target, local, self.local, listener.receive_max, listener.send_max)
        peer.keepalive, peer.user_timeout_s = listener.keepalive, listener.user_timeout_s
        peer._listener = listener
        peer.peer, self.peer = self, peer
        peer._limit = self.receive_max
        peer._tell(0, "on_syn_ack", peer)

    def _refused(self) -> None:
        if self.connecting:
            self._fail(errno.ECONNREFUSED)

    def on_syn_ack(self, peer: Connection) -> None:
        """The other side is there."""
        if not self.connecting:  # the program gave up meanwhile
            self._tell(0, "on_reset")
            return
        self.connecting = False
        self._limit = peer.receive_max
        self.kernel.engine.record("connected", self.kernel.name, (self.number, peer.number))
        self._tell(0, "on_handshake")
        self._changed()

    def on_handshake(self) -> None:
        """Ready to be accepted."""
        listener = self._leave_handshake()
        if listener is None or listener.closed or listener.boot != self.boot:
            self.abort()
        else:
            listener.arrived(self)

    def _leave_handshake(self) -> Listener | None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.half_open -= 1
        return listener

    # ----------------------------------------------------------------------------------------------------------------- sending

    def send(self, data: bytes | memoryview) -> int:
        """Take as much as there is room for. Raises: OSError as send(2) does."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self._reset or self.say_all or self.closed:
            raise failure(errno.EPIPE)
        if self.connecting:
            raise failure(errno.EAGAIN)
        room = self.room()
        if room <= 0:
            raise failure(errno.EAGAIN)
        size = len(data)
        if self._out or size > room or size > self._limit - self.sent or size > SEGMENT_MAX_BYTES:
            size = min(size, room)
            self._out += data[:size]
            self.kernel.buffered += size
            self._push()
        else:
            self._segments(bytes(data))
        return size

    def _segments(self, data: bytes) -> None:
        """Put bytes on the wire, now and then in more than one piece."""
        kernel = self.kernel
        options = kernel.engine.options
        start, size = 0, len(data)
        while start < size:
            end = size
            if options.slice_chance and size - start > 1 and kernel.chance.random() < options.slice_chance:
                end = start + 1 + int(kernel.chance.random() * (size - start - 1))
            piece = data if end - start == size else data[start:end]
            self.sent += end - start
            kernel.engine.record("send", kernel.name, (self.number, end - start))
            self._tell(end - start, "on_data", piece)
            start = end

    def _push(self) -> None:
        """Send what waits, as far as the peer has room."""
        while self._out:
            size = min(len(self._out), self._limit - self.sent, SEGMENT_MAX_BYTES)
            if size <= 0:
                return
            data = bytes(self._out[:size])
            del self._out[:size]
            self.kernel.buffered -= size
            self._segments(data)
        if self.say_all and not self.said_all:
            self.said_all = True
            self.kernel.engine.record("fin", self.kernel.name, self.number)
            self._tell(0, "on_end")

    def shutdown_write(self) -> None:
        """No more will be written. Raises: OSError (ENOTCONN) when there is no connection any more."""
        if self._reset or self.connecting:
            raise failure(errno.ENOTCONN)
        if not self.say_all:
            self.say_all = True
            self._push()

    def on_ack(self, received: int, limit: int) -> None:
        """The peer's kernel has so many bytes, and takes that many in all."""
        if received > self.sent_read or limit > self._limit:
            self.progress_at = self.kernel.engine.now
        self.sent_read = max(self.sent_read, received)
        self._limit = max(self._limit, limit)
        if self._out:
            self._push()
        self._changed()

    # --------------------------------------------------------------------------------------------------------------- receiving

    def on_data(self, data: bytes) -> None:
        """Bytes arrived."""
        kernel = self.kernel
        if self.closed or self._reset:  # nobody will read them
            kernel.engine.record("reset sent", kernel.name, self.number)
            self._drop()
            self._tell(0, "on_reset")
            return
        kernel.engine.record("data", kernel.name, (self.number, len(data)))
        self.unread.append(data)
        self.received += len(data)
        kernel.buffered += len(data)
        self._acknowledge()
        self._changed()

    def _free(self) -> int:
        left = self.kernel.memory_bytes - self.kernel.buffered
        return max(0, min(self.receive_max - self.received + self.read, left))

    def _acknowledge(self) -> None:
        self._told_free = free = self._free()
        if not free and not self.unread:
            # The memory is used up by others, so no read of ours will tell when there is room: the peer's probes ask.
            self.kernel.engine.at(self.kernel.engine.now + PROBE_S, self._acknowledge_again)
        self._tell(0, "on_ack", self.received, self.received + free)

    def _acknowledge_again(self) -> None:
        if not self._reset and not self.closed and not self._told_free and not self.gone():
            self._acknowledge()

    def on_end(self) -> None:
        """The peer will send no more."""
        if not self._reset:
            self.read_end = True
            self.kernel.engine.record("end", self.kernel.name, self.number)
            if self.closed and self.said_all:
                self._drop()
            self._changed()

    def receive(self, size: int) -> bytes:
        """Take up to so many bytes; none at the end. Raises: OSError as recv(2) does."""
        if not self.unread:
            if self.error is not None:
                error, self.error = self.error, None
                raise error
            if self.read_end or self._reset:
                return b""
            raise failure(errno.EAGAIN)
        first = self.unread.popleft()
        if len(first) < size and self.unread:
            parts, total = [first], len(first)
            while self.unread and total < size:
                part = self.unread.popleft()
                parts.append(part)
                total += len(part)
            first = b"".join(parts)
        if len(first) > size:
            self.unread.appendleft(first[size:])
            first = first[:size]
        self.read += len(first)
        self.kernel.buffered -= len(first)
        # Tell the peer of the room again once it is worth a packet; until then it knows of less.
        if self._told_free * 2 < self.receive_max and self._free() * 2 >= self.receive_max:
            self._acknowledge()
        return first

    # ------------------------------------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """The process lets go of it; the kernel sees to the rest."""
        if self.closed:
            return
        if self.cpu is not None:
            self.cpu.files.pop(self.fd, None)
        self.closed, self.cpu = True, None
        if self._reset or self.gone():
            self._drop()
        elif self.connecting:
            self.connecting = False
            self._drop()
        elif self.unread or self.linger_none or self.error is not None:
            self.abort()
        else:
            if not self.say_all:
                self.say_all = True
                self._push()
            if self.read_end and self.said_all:
                self._drop()

    def abort(self) -> None:
        """Reset the connection, and forget it."""
        if not self._reset:
            self.kernel.engine.record("reset sent", self.kernel.name, self.number)
            self._reset = True
            self._tell(0, "on_reset")
        self._drop()

    def on_reset(self) -> None:
        """The peer does not know this connection, or wants no more of it."""
        if self._reset:
            return
        self.kernel.engine.record("reset", self.kernel.name, self.number)
        self._fail(errno.EPIPE if self.read_end else errno.ECONNRESET)
        if self.kernel.engine.options.reset_discards_unread:
            self._forget_unread()

    def _fail(self, number: int) -> None:
        self.error = failure(number)
        self._reset = True
        self.connecting = False
        self._leave_handshake()
        self._forget_unsent()
        self.kernel.connections.pop(self.number, None)
        self._changed()

    def _drop(self) -> None:
        self._forget_unsent()
        self._forget_unread()
        self.kernel.connections.pop(self.number, None)

    def _forget_unsent(self) -> None:
        self.kernel.buffered -= len(self._out)
        self._out.clear()

    def _forget_unread(self) -> None:
        self.kernel.buffered -= sum(map(len, self.unread))
        self.read = self.received
        self.unread.clear()
