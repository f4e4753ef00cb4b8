"""Twisted AMP, its reactor on uvloop: one connection, one command."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import asyncioreactor, endpoints, protocol
from twisted.protocols import amp

from bench.peers import says
from bench.peers.common import Echo


class EchoCommand(amp.Command):
    """The message."""

    arguments = [(b"a", amp.Integer()), (b"s", amp.Unicode())]  # noqa: RUF012 - how Twisted has it
    response = arguments


class Answering(amp.AMP):
    """The server's side."""

    @EchoCommand.responder
    def echo(self, a: int, s: str) -> dict[str, Any]:
        """Give back what came."""
        return {"a": a, "s": s}


def running_reactor() -> Any:
    """Return Twisted's reactor, on the loop that runs."""
    asyncioreactor.install(asyncio.get_running_loop())
    from twisted.internet import reactor

    reactor.startRunning(installSignalHandlers=False)
    return reactor


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""
    endpoint = endpoints.TCP4ServerEndpoint(running_reactor(), 0, interface="127.0.0.1")
    port = await endpoint.listen(protocol.Factory.forProtocol(Answering)).asFuture(asyncio.get_running_loop())
    says(port.getHost().port)
    await asyncio.get_running_loop().create_future()


class Link:
    """One connection."""

    def __init__(self, connected: amp.AMP) -> None:
        self._amp = connected
        self._loop = asyncio.get_running_loop()

    async def echo(self, a: int, s: str) -> Echo:
        """Give back what came. Cancel: the reply is lost."""
        return Echo(**await self._amp.callRemote(EchoCommand, a=a, s=s).asFuture(self._loop))

    async def close(self) -> None:
        """Close the connection. Cancel: loses nothing."""
        self._amp.transport.loseConnection()


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    endpoint = endpoints.TCP4ClientEndpoint(running_reactor(), "127.0.0.1", where["port"])
    return Link(await endpoints.connectProtocol(endpoint, amp.AMP()).asFuture(asyncio.get_running_loop()))
