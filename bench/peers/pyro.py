"""Pyro5: its threaded daemon, a proxy and a connection for each call in flight, the marshal serializer, its fastest."""

from __future__ import annotations

from typing import Any

import Pyro5.api
import Pyro5.configure

from bench.peers import says
from bench.peers.common import Echo

THREADS_MAX = 600

Pyro5.configure.global_config.SERIALIZER = "marshal"


@Pyro5.api.expose
class Answering:
    """The server's side."""

    def echo(self, a: int, s: str) -> tuple[int, str]:
        """Give back what came."""
        return a, s


def serve() -> None:
    """Serve until a signal."""
    Pyro5.configure.global_config.THREADPOOL_SIZE = THREADS_MAX
    daemon = Pyro5.api.Daemon(host="127.0.0.1", port=0)
    daemon.register(Answering(), objectId="echo")
    says(int(daemon.locationStr.rpartition(":")[2]))
    daemon.requestLoop()


class Link:
    """One proxy, for one thread."""

    def __init__(self, port: int) -> None:
        self._proxy = Pyro5.api.Proxy(f"PYRO:echo@127.0.0.1:{port}")
        self._proxy._pyroBind()

    def claim(self) -> None:
        """Make the calling thread the proxy's."""
        self._proxy._pyroClaimOwnership()

    def echo(self, a: int, s: str) -> Echo:
        """Give back what came."""
        return Echo(*self._proxy.echo(a, s))

    def close(self) -> None:
        """Close the connection."""
        self.claim()
        self._proxy._pyroRelease()


def connect(where: dict[str, Any]) -> Link:
    """Return a link."""
    return Link(where["port"])
