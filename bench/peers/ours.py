"""holdfast: an ordinary Service file, served by `holdfast serve` with its defaults; called through the public Client."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from echo_api import Bench
from echo_service import Echo

import holdfast

Echoes = Callable[[int, str], Awaitable[Echo]]


class Link:
    """One client of the service."""

    def __init__(self, client: holdfast.Client) -> None:
        bench = client.bind(Bench)
        self._client = client
        self.echo: Echoes = lambda a, s, ask=bench.echo: ask(Echo(a, s))  # type: ignore[misc]
        self.suspend: Echoes = lambda a, s, ask=bench.suspend: ask(Echo(a, s))  # type: ignore[misc]
        self.bulk = bench.bulk
        self.items = bench.items

    async def close(self) -> None:
        """Close the connection. Cancel: the rest is aborted."""
        await self._client.close()


class Caller:
    """One client that calls by name: for many connections with a call each, where nobody would bind a contract five thousand times."""

    def __init__(self, client: holdfast.Client) -> None:
        self._client = client
        self.close = client.close

    def echo(self, a: int, s: str) -> Awaitable[Echo]:
        """Give back what came."""
        return self._client.call("bench.echo", Echo(a, s), returns=Echo)


async def opened(where: dict[str, Any]) -> holdfast.Client:
    """Return a client of the address that was chosen; the authority of a `tls://` one is in the file that HOLDFAST_TLS_TRUST names."""
    address: str = where["address"]
    tls = holdfast.TlsConfig(trust=os.environ["HOLDFAST_TLS_TRUST"]) if address.startswith("tls://") else None
    client = holdfast.connect(address, tls=tls)
    await client.__aenter__()
    return client


async def dial(where: dict[str, Any]) -> Caller:
    """Return a link for one call. Cancel: loses nothing."""
    return Caller(await opened(where))


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link. Cancel: loses nothing."""
    return Link(await opened(where))
