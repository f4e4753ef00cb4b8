"""An aiohttp service in a simulated world: orders over HTTP, a database, clients that ask again, and everything that can happen to them.

    holdfast sim examples/sim_aiohttp.py

Neither the service nor its clients know that they are simulated. What must hold: an order whose client was told "done" is in the database
once, whatever was cut, killed or slow meanwhile; and when the faults are over, every client gets its answers.

What to look at: take `if key not in database` out of `place`, and run it again.
"""

import asyncio
from functools import partial

import aiohttp
from aiohttp import web

from holdfast.sim import Climate, World, exactly_once, operations, sim_test

PORT = 8080
CLIENTS = ("ada", "bob")
Database = dict[str, list[str]]
"""What was ordered, by idempotency key. It stands for a database elsewhere: it outlives the service."""


# ----------------------------------------------------------------------------------------------------------------- the service


def make_app(database: Database) -> web.Application:
    """A shop with one route: `POST /orders` with an `Idempotency-Key`."""

    async def place(request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        order = await request.json()
        if key not in database:
            database.setdefault(key, []).append(order["what"])
        return web.json_response({"placed": order["what"]}, status=201)

    app = web.Application()
    app.router.add_post("/orders", place)
    return app


async def serve(database: Database) -> None:
    """What `main` of the service is."""
    runner = web.AppRunner(make_app(database))
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", PORT).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


# ------------------------------------------------------------------------------------------------------------------ its clients


async def order(session: aiohttp.ClientSession, key: str, what: str) -> int:
    """Place an order, asking until there is an answer. Returns: how many times it had to ask."""
    asked = 0
    while True:
        asked += 1
        try:
            async with session.post(f"http://shop:{PORT}/orders", json={"what": what}, headers={"Idempotency-Key": key}) as response:
                if response.status == 201:
                    await response.read()
                    return asked
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(0.1 * min(asked, 10))


async def client(world: World, name: str, things: list[str], done: list[str]) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:
        for what in things:
            if await order(session, f"{name}/{what}", what) > 1:
                world.reached("asked again")
            done.append(what)
            await asyncio.sleep(0.3)


# ------------------------------------------------------------------------------------------------------------------- the world


@sim_test(
    seeds=100,
    climate=Climate(hosts=("shop",), links=tuple(("shop", name) for name in CLIENTS), calm_at_s=5.0),
    sometimes=["asked again"],
)
async def test_orders(world: World) -> None:
    database: Database = {}
    done: list[str] = []
    world.host("shop").start(partial(serve, database), name="shop")
    clients = []
    for name in CLIENTS:
        things = operations(world, [f"{name}-{number}" for number in range(8)], name)
        clients.append(world.host(name).start(partial(client, world, name, things, done), name=name))
    for each in clients:
        await each
    exactly_once(acked=done, applied=[what for placed in database.values() for what in placed]).require()
