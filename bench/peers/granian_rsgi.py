"""granian by its own interface, RSGI, called by aiohttp: one worker, uvloop, HTTP/1.1, JSON by msgspec."""

from __future__ import annotations

from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

from bench.peers.common import HttpLink, decode_json, encode_json, free_port, says_when_open

HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """Give back what came. Cancel: loses the answer."""
    message = decode_json(await protocol())
    protocol.response_bytes(200, HEADERS, encode_json(message))


def serve() -> None:
    """Serve until a signal."""
    port = free_port()
    says_when_open(port)
    Granian(
        "bench.peers.granian_rsgi:app",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    ).serve()


async def connect(where: dict[str, Any], in_flight: int) -> HttpLink:
    """Return a link."""
    return HttpLink(where["port"], in_flight)
