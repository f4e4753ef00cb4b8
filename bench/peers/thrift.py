"""thriftpy2: its threaded server and its blocking client, a connection for each call in flight, the compiled binary protocol."""

from __future__ import annotations

import pathlib
from typing import Any

import thriftpy2
from thriftpy2.rpc import make_client, make_server

from bench.peers.common import free_port, says_when_open

idl = thriftpy2.load(str(pathlib.Path(__file__).with_name("echo.thrift")), module_name="echo_thrift")


class Answering:
    """The server's side."""

    def echo(self, message: Any) -> Any:
        """Give back what came."""
        return message


def serve() -> None:
    """Serve until a signal."""
    port = free_port()
    says_when_open(port)
    make_server(idl.Echo, Answering(), "127.0.0.1", port, client_timeout=None).serve()


class Link:
    """One connection, for one thread."""

    def __init__(self, port: int) -> None:
        self._client = make_client(idl.Echo, "127.0.0.1", port, timeout=30_000)

    def claim(self) -> None:
        """Any thread may use it."""

    def echo(self, a: int, s: str) -> Any:
        """Give back what came."""
        return self._client.echo(idl.Message(a, s))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def connect(where: dict[str, Any]) -> Link:
    """Return a link."""
    return Link(where["port"])
