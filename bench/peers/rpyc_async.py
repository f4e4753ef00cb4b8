"""rpyc: its threaded server; the client keeps calls in flight on one connection by `rpyc.async_`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rpyc
from rpyc.utils.server import ThreadedServer

from bench.peers import says
from bench.peers.common import Echo

PUMP_S = 10.0


class Answering(rpyc.Service):
    """The server's side."""

    def exposed_echo(self, a: int, s: str) -> tuple[int, str]:
        """Give back what came: immutable values travel by value."""
        return a, s


def serve() -> None:
    """Serve until a signal."""
    server = ThreadedServer(Answering, hostname="127.0.0.1", port=0)
    says(server.port)
    server.start()


class Link:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._connection = rpyc.connect("127.0.0.1", port)
        self._echo = rpyc.async_(self._connection.root.echo)

    def begin(self, a: int, s: str, done: Callable[[Echo], None]) -> None:
        """Send a call; `done` gets its reply."""
        self._echo(a, s).add_callback(lambda result: done(Echo(*result.value)))

    def pump(self) -> None:
        """Wait for something to come back, and take it. Raises: TimeoutError."""
        if not self._connection.serve(PUMP_S):
            raise TimeoutError(f"rpyc answered nothing for {PUMP_S:g} s")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def connect(where: dict[str, Any]) -> Link:
    """Return a link."""
    return Link(where["port"])
