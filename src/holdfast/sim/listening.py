"""A listening socket in the kernel: the queue of connections nobody has accepted yet.

Owns: that queue and its bound. What may never happen here: a connection in the queue of a listener that is closed.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .cpu import READ, Cpu
from .kernel import Kernel


class Listener:
    """A socket that listens.

    Attributes:
        half_open: handshakes under way; they have a place in the queue already.
        queue: connections that wait to be accepted.
    """

    def __init__(self, kernel: Kernel, cpu: Cpu, fd: int, local: tuple[str, int], backlog: int) -> None:
        self.kernel = kernel
        self.cpu = cpu
        self.fd = fd
        self.local = local
        self.backlog = backlog
        self.boot = kernel.boots
        self.closed = False
        self.half_open = 0
        self.queue: deque[Any] = deque()
        self.receive_max = kernel.engine.options.receive_buffer_bytes
        self.send_max = kernel.engine.options.send_buffer_bytes
        self.reuse_port = self.v6_only = False
        self.keepalive: tuple[float, float, int] | None = None
        self.user_timeout_s = 0.0

    def mask(self) -> int:
        """Readable while somebody waits."""
        return READ if self.queue else 0

    def has_room(self) -> bool:
        """Whether one more may come. Linux lets in one more than was asked for."""
        return len(self.queue) + self.half_open <= self.backlog

    def arrived(self, connection: Any) -> None:
        """A handshake is complete."""
        self.kernel.engine.record("arrived", self.kernel.name, connection.number)
        self.queue.append(connection)
        self.cpu.poke(self.fd)

    def close(self) -> None:
        """Who waits in the queue is reset."""
        if not self.closed:
            self.closed = True
            self.cpu.files.pop(self.fd, None)
            if self.boot == self.kernel.boots and self.kernel.on:
                self.kernel.unbind("tcp", self.local[1], self)
            for connection in self.queue:
                connection.abort()
            self.queue.clear()


def hears(bound: object) -> bool:
    """Whether what is bound to a port listens there."""
    return isinstance(bound, Listener) and not bound.closed
