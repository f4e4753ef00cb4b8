"""UDP: datagrams that may be lost, come twice, or come in another order.

Owns: a UDP socket in the kernel, its queue, and what comes back when nobody is there. What may never happen here: half a datagram.
"""

from __future__ import annotations

import errno
from collections import deque

from .cpu import READ, WRITE, Cpu
from .kernel import Kernel, failure, family_of

PAYLOAD_MAX_BYTES = 65_507

Address = tuple[str, int]


class Datagrams:
    """A UDP socket.

    Attributes:
        local: where it is bound, if it is. remote: whom it is connected to, if it is.
        dropped: how many came while the queue was full.
    """

    def __init__(self, kernel: Kernel, cpu: Cpu, fd: int) -> None:
        self.kernel = kernel
        self.cpu = cpu
        self.fd = fd
        self.boot = kernel.boots
        self.number = kernel.engine.number()
        self.local: Address | None = None
        self.remote: Address | None = None
        self.reuse_port = self.v6_only = False
        self.receive_max = kernel.engine.options.receive_buffer_bytes
        self.dropped = 0
        self.closed = False
        self._error: OSError | None = None
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._queued = 0

    def mask(self) -> int:
        """Always writable: what the wire cannot take is lost."""
        return WRITE | (READ if self._queue or self._error is not None else 0)

    def send(self, data: bytes, remote: Address) -> int:
        """Send one. Raises: OSError as sendto(2) does."""
        kernel = self.kernel
        self._raise()
        if len(data) > PAYLOAD_MAX_BYTES:
            raise failure(errno.EMSGSIZE)
        if self.local is None:
            ip = "::" if family_of(remote[0]) == 6 else "0.0.0.0"  # noqa: S104 # as the kernel binds who has not
            self.local = (ip, kernel.bind("udp", ip, 0, self))
        ip = self.local[0] if self.local[0] not in ("0.0.0.0", "::") else kernel.source_for(remote[0])  # noqa: S104
        target = kernel.find(remote[0])
        lost: str | None = "no such host"
        if target is not None:
            source = (ip, self.local[1])
            lost = kernel.wires.datagram(kernel, target, len(data), self._arrives, target, remote, data, source)
        kernel.engine.record("udp", kernel.name, (self.number, *remote, len(data), lost))
        return len(data)

    def _arrives(self, target: Kernel, remote: Address, data: bytes, source: Address) -> None:
        ip = target.source_for(remote[0]) if target is self.kernel else remote[0]
        found = target.bound_at("udp", ip, remote[1], lambda each: each.remote is None or each.remote == source)
        engine = self.kernel.engine
        engine.record("datagram", target.name, (self.number, len(data), found is not None))
        if found is not None:
            found.arrived(data, source)
        elif self.remote is not None:  # the target says that nobody is there, and who is connected hears of it
            target.wires.datagram(target, self.kernel, 0, self._nobody_there)

    def _nobody_there(self) -> None:
        if not self.closed and self.boot == self.kernel.boots:
            self._error = failure(errno.ECONNREFUSED)
            self.cpu.poke(self.fd)

    def arrived(self, data: bytes, source: Address) -> None:
        """One came."""
        if self._queued + len(data) > self.receive_max or self.kernel.buffered + len(data) > self.kernel.memory_bytes:
            self.dropped += 1
            self.kernel.engine.record("datagram dropped", self.kernel.name, self.number)
            return
        self._queue.append((data, source))
        self._queued += len(data)
        self.kernel.buffered += len(data)
        self.cpu.poke(self.fd)

    def receive(self) -> tuple[bytes, Address]:
        """Take one, and who sent it. Raises: OSError as recvfrom(2) does."""
        self._raise()
        if not self._queue:
            raise failure(errno.EAGAIN)
        data, source = self._queue.popleft()
        self._queued -= len(data)
        self.kernel.buffered -= len(data)
        return data, source

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """No more come."""
        if not self.closed:
            self.closed = True
            self.cpu.files.pop(self.fd, None)
            if self.boot == self.kernel.boots and self.kernel.on:
                self.kernel.buffered -= self._queued
                if self.local is not None:
                    self.kernel.unbind("udp", self.local[1], self)
