"""aiohttp: its nodes, its client with tenacity, and its client alone for where HAProxy does the work."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import aiohttp
from aiohttp import web

from bench.failover.contenders import DEADLINE_S, DRAIN_S, Link, Outcome
from bench.failover.work import from_environment
from bench.peers.common import listening

ATTEMPTS = 3
ATTEMPT_S = 2.0
CONNECT_S = 1.0
CONNECTIONS = 1000
"""Instead of aiohttp's 100: else a frozen node takes all of them, and its whole client stands still."""
LAME_DUCK_S = 1.5
"""A node that stops says so to health checks first, for as long as these need to hear it (2 × 500 ms), and goes on serving."""


# -------------------------------------------------------------------------------------------------------------------- a node


async def serve() -> None:
    """Serve until SIGTERM; then be unwell, then finish what is open. Cancel: stops it."""
    work = from_environment()
    stop = asyncio.Event()

    async def execute(request: web.Request) -> web.Response:
        call_id = int(request.match_info["call_id"])
        await asyncio.sleep(work.begin(call_id))
        return web.Response(text=str(call_id))

    async def health(_request: web.Request) -> web.Response:
        return web.Response(status=503 if stop.is_set() else 200)

    app = web.Application()
    app.router.add_get("/look/{call_id}", execute)
    app.router.add_post("/place/{call_id}", execute)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_S, keepalive_timeout=3600)
    await runner.setup()
    ours = listening()
    await web.SockSite(runner, ours).start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"event": "ready", "port": ours.getsockname()[1]}), flush=True)
    await stop.wait()
    await asyncio.sleep(LAME_DUCK_S)
    await runner.cleanup()


# ------------------------------------------------------------------------------------------------------------------- callers


class Caller:
    """One session; one node, or the proxy, per attempt."""

    def __init__(self, ports: list[int], attempt_s: float) -> None:
        self._bases = [f"http://127.0.0.1:{port}" for port in ports]
        self._turn = itertools.count()
        timeout = aiohttp.ClientTimeout(total=attempt_s, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=timeout)

    async def ready(self) -> None:
        """Return when every node, or the proxy, answers. Cancel: loses nothing."""
        for base in self._bases:
            async with self._session.get(f"{base}/health"):
                pass

    async def once(self, call_id: int, idempotent: bool, nodes: Iterator[str]) -> int:
        """Make one attempt at the next of these nodes; return the answer. Raises: what aiohttp raises. Cancel: the request is given up."""
        base = next(nodes)
        method, path = ("GET", "look") if idempotent else ("POST", "place")
        async with self._session.request(method, f"{base}/{path}/{call_id}", raise_for_status=True) as response:
            return int(await response.text())

    async def call(self, call_id: int, idempotent: bool) -> tuple[Outcome, str]:
        """Make a call; return how it ended and why. Cancel: the call is given up."""
        try:
            found = await self.attempts(call_id, idempotent)
        except (aiohttp.ClientError, TimeoutError) as error:
            return outcome_of(error), f"{type(error).__name__}: {error}"
        return ("ok", "") if found == call_id else ("failed", "the answer to another call")

    async def attempts(self, call_id: int, idempotent: bool) -> int:
        """Make one attempt; the proxy makes the others. Cancel: the request is given up."""
        return await self.once(call_id, idempotent, self.nodes())

    def nodes(self) -> Iterator[str]:
        """Return where this call's attempts go, in order; each call begins at the next node."""
        first = next(self._turn) % len(self._bases)
        return itertools.cycle(self._bases[first:] + self._bases[:first])

    def ticks(self, number: int) -> AsyncGenerator[int]:
        """Streams are not compared here."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close all connections. Cancel: leaves some open."""
        await self._session.close()


class TenaciousCaller(Caller):
    """The same with tenacity around each call, as its own pages show it: on any error of the client, whatever the method."""

    def __init__(self, ports: list[int]) -> None:
        import tenacity

        super().__init__(ports, ATTEMPT_S)
        self._retrying: Any = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.025, max=1.0),
            retry=tenacity.retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
            reraise=True,
        )

    async def attempts(self, call_id: int, idempotent: bool) -> int:
        """Make up to three attempts, each at the next node. Cancel: the request is given up."""
        return int(await self._retrying.copy()(self.once, call_id, idempotent, self.nodes()))


def outcome_of(error: Exception) -> Outcome:
    """Return what an error tells a caller about its last attempt, which is all that aiohttp knows of."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return "not_executed"
    if isinstance(error, aiohttp.ClientResponseError):
        # 503 is HAProxy's word for "no server took it"; 500 is the node's own.
        return {503: "not_executed", 500: "failed"}.get(error.status, "unknown")  # type: ignore[return-value]
    return "unknown"


async def connect(ports: list[int], variant: str) -> Link:
    """Return a link to the nodes, or to the proxy, at these ports. Cancel: loses nothing."""
    return TenaciousCaller(ports) if variant == "tenacity" else Caller(ports, DEADLINE_S)


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
