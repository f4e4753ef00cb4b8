"""For users' own tests: a client and a server in one process, over the real wire and the real layers, without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from .client import Client, connect
from .config import ClientConfig, ServerConfig
from .facts import Emit, discard
from .net.memory import MemoryNetwork
from .server import serve
from .service import Service


@asynccontextmanager
async def client(
    service: Service | Sequence[Service],
    *,
    attempts: int = 3,
    config: ClientConfig | None = None,
    server_config: ServerConfig | None = None,
    emit: Emit = discard,
) -> AsyncIterator[Client]:
    """Serve in memory and give a client of it; lifespans run, every byte is encoded and parsed as over a network.

    Raises: ConfigError. Cancel: both are closed.
    """
    network = MemoryNetwork()
    async with (
        serve(service, bind="memory://test", config=server_config, emit=emit, network=network),
        connect("memory://test", attempts=attempts, config=config, emit=emit, network=network) as made,
    ):
        yield made
