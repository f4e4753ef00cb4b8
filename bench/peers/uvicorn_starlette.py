"""uvicorn with Starlette, called by aiohttp: uvloop, httptools, JSON by msgspec, no access log."""

from __future__ import annotations

from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers import says
from bench.peers.common import HttpLink, decode_json, encode_json, listening


async def echo(request: Request) -> Response:
    """Give back what came. Cancel: loses the answer."""
    message = decode_json(await request.body())
    return Response(encode_json(message), media_type="application/json")


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning")
    ours = listening()
    says(ours.getsockname()[1])
    await uvicorn.Server(config).serve(sockets=[ours])


async def connect(where: dict[str, Any], in_flight: int) -> HttpLink:
    """Return a link."""
    return HttpLink(where["port"], in_flight)
