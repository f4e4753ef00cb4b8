"""aiohttp's server and client, on uvloop: HTTP/1.1, JSON by msgspec, no access log."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from bench.peers import says
from bench.peers.common import HttpLink, decode_json, encode_json, listening


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""

    async def echo(request: web.Request) -> web.Response:
        message = decode_json(await request.read())
        return web.Response(body=encode_json(message), content_type="application/json")

    app = web.Application()
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    ours = listening()
    await web.SockSite(runner, ours).start()
    says(ours.getsockname()[1])
    await asyncio.get_running_loop().create_future()


async def connect(where: dict[str, Any], in_flight: int) -> HttpLink:
    """Return a link."""
    return HttpLink(where["port"], in_flight)
