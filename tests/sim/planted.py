"""Five small services over plain asyncio streams, each with one mistake as people make them; and each of them without it.

What may never happen here: a service without its mistake that fails. Then it is the simulation that is wrong, or the checker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

from holdfast.sim import Climate, Counter, History, Scenario, World, exactly_once, linearizable, operations, sessions
from holdfast.sim.scenario import Body

PORT = 99
PATIENCE_S = 0.4
CLIENTS = ("a", "b", "c")
EACH = 12
LINKS = tuple(("server", client) for client in CLIENTS)

Message = dict[str, Any]
Handle = Callable[[Message], Awaitable[Message]]

# ------------------------------------------------------------------------------------------------------------- lines over streams


async def serve(session: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Run a server for ever; a connection that breaks is over, and that is all."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await session(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "0.0.0.0", PORT) as server:
        await server.serve_forever()


async def answer_lines(handle: Handle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(json.dumps(await handle(json.loads(line))).encode() + b"\n")
        await writer.drain()


class Line:
    """A connection to the server, made when it is needed, and made anew when it broke."""

    def __init__(self) -> None:
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: Message) -> Message:
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self.streams is None:
                    self.streams = await asyncio.open_connection("server", PORT)
                reader, writer = self.streams
                writer.write(json.dumps(message).encode() + b"\n")
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise ConnectionResetError("the server left")
                answer: Message = json.loads(line)
                return answer
        except (OSError, TimeoutError):
            self.leave()
            raise

    def leave(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def insist(ask: Callable[[], Awaitable[Message]]) -> Message:
    """Ask until there is an answer."""
    for attempt in count(1):
        try:
            return await ask()
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05 * min(attempt, 8))
    raise AssertionError


async def finish(world: World, clients: list[Callable[[], Awaitable[object]]]) -> None:
    """Run a client on each of its hosts, and wait for all of them."""
    running = [world.host(name).start(client, name=name) for name, client in zip(CLIENTS, clients, strict=False)]
    for each in running:
        await each


# ------------------------------------------------------------------------------------------- 1 says "done" before it is safe


def store(*, mistake: bool) -> Body:
    async def body(world: World) -> None:
        safe: list[str] = []  # stands for a disk
        acked: list[str] = []

        async def server() -> None:
            unsaved: list[str] = []

            async def save() -> None:
                while True:
                    await asyncio.sleep(0.05)
                    safe.extend(unsaved)
                    unsaved.clear()

            async def handle(message: Message) -> Message:
                if message["id"] not in safe and message["id"] not in unsaved:
                    (unsaved if mistake else safe).append(message["id"])
                return {}

            async with asyncio.TaskGroup() as group:
                group.create_task(save())
                group.create_task(serve(partial(answer_lines, handle)))

        async def client(name: str, ids: list[str]) -> None:
            line = Line()
            for each in ids:
                await insist(partial(line.ask, {"id": each}))
                acked.append(each)
                await asyncio.sleep(0.1)
            line.leave()

        world.host("server").start(server)
        todo = {name: operations(world, [f"{name}{n}" for n in range(EACH)], name) for name in CLIENTS}
        await finish(world, [partial(client, name, ids) for name, ids in todo.items()])
        await asyncio.sleep(1.0)
        exactly_once(acked=acked, applied=safe).require()

    return body


# ------------------------------------------------------------------------------------------------- 2 a new id for each attempt


def journal(*, mistake: bool) -> Body:
    async def body(world: World) -> None:
        effects: dict[str, str] = {}
        acked: list[str] = []

        async def handle(message: Message) -> Message:
            effects.setdefault(message["id"], message["what"])
            return {}

        async def client(name: str, things: list[str]) -> None:
            line, ids = Line(), count()
            for what in things:
                key = f"{name}-{next(ids)}"

                async def ask(what: str = what, key: str = key) -> Message:
                    return await line.ask({"id": f"{name}-again-{next(ids)}" if mistake else key, "what": what})

                await insist(ask)
                acked.append(what)
            line.leave()

        world.host("server").start(partial(serve, partial(answer_lines, handle)), name="server")
        todo = {name: operations(world, [f"{name}{n}" for n in range(EACH * 3)], name) for name in CLIENTS}
        await finish(world, [partial(client, name, things) for name, things in todo.items()])
        exactly_once(acked=acked, applied=effects.values()).require()

    return body


# ---------------------------------------------------------------------------------------------------- 3 reads, waits, and writes


def counter(*, mistake: bool) -> Body:
    async def body(world: World) -> None:
        totals: dict[str, int] = {}
        history = History(world.now)

        async def handle(message: Message) -> Message:
            before = totals.get(message["key"], 0)
            if mistake:
                await asyncio.sleep(0.001)  # "is this caller allowed to?"
            totals[message["key"]] = before + message["add"]
            return {"total": totals[message["key"]]}

        async def client(name: str, adds: list[tuple[str, int]]) -> None:
            line = Line()
            for key, add in adds:
                try:
                    with history.call(name, "add", key, add) as call:
                        call.result = (await line.ask({"key": key, "add": add}))["total"]
                except (OSError, TimeoutError):
                    await asyncio.sleep(0.2)
                await asyncio.sleep(0.05)
            line.leave()

        world.host("server").start(partial(serve, partial(answer_lines, handle)), name="server")
        todo = {name: operations(world, [("xy"[n % 2], n + 1) for n in range(EACH)], name) for name in CLIENTS}
        await finish(world, [partial(client, name, adds) for name, adds in todo.items()])
        linearizable(history.operations, Counter()).require()

    return body


# -------------------------------------------------------------------------------------- 4 a lock that is not given back on an error


def locked(*, mistake: bool) -> Body:
    async def body(world: World) -> None:
        async def server() -> None:
            lock = asyncio.Lock()

            async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while await reader.readline():
                    await lock.acquire()
                    try:
                        await asyncio.sleep(0.02)
                        writer.write(b"{}\n")
                        await writer.drain()
                    except OSError:
                        if not mistake:
                            lock.release()
                        raise
                    lock.release()

            await serve(session)

        async def client(name: str, asks: list[int]) -> None:
            line = Line()
            for _ in asks:
                await insist(partial(line.ask, {}))
                await asyncio.sleep(0.05)
            line.leave()

        world.host("server").start(server)
        todo = {name: operations(world, list(range(EACH * 2)), name) for name in CLIENTS}
        await finish(world, [partial(client, name, asks) for name, asks in todo.items()])

    return body


# ---------------------------------------------------------------------------------------------------- 5 goes on at the wrong place


def feed(*, mistake: bool) -> Body:
    async def body(world: World) -> None:
        items = operations(world, list(range(60)), "items")
        received: list[int] = []

        async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            since = int(await reader.readline())
            for item in items[since:]:
                writer.write(b"%d\n" % item)
                await writer.drain()
                await asyncio.sleep(0.02)

        async def client() -> None:
            while len(received) < len(items):
                try:
                    async with asyncio.timeout(PATIENCE_S * 10):
                        reader, writer = await asyncio.open_connection("server", PORT)
                        try:
                            since = len(received) - (1 if mistake and received else 0)
                            writer.write(b"%d\n" % since)
                            while (line := await reader.readline()).endswith(b"\n"):
                                received.append(int(line))
                        finally:
                            writer.close()
                except (OSError, TimeoutError):
                    await asyncio.sleep(0.1)

        world.host("server").start(partial(serve, session), name="server")
        await finish(world, [client])
        sessions({"feed": items}, {"feed": received}).require()

    return body


# ------------------------------------------------------------------------------------------------------------------ all of them

ROUGH = Climate(hosts=("server",), links=LINKS, calm_at_s=5.0)
ONE_LINK = Climate(links=LINKS[:1], calm_at_s=5.0)
NETWORK = Climate(links=LINKS, calm_at_s=5.0)


def _scenario(name: str, make: Callable[..., Body], climate: Climate | None, *, mistake: bool) -> Scenario:
    return Scenario(name=name if mistake else f"{name}_mended", body=make(mistake=mistake), climate=climate, within_s=30.0)


lost_ack = _scenario("lost_ack", store, ROUGH, mistake=True)
new_id = _scenario("new_id", journal, NETWORK, mistake=True)
check_then_await = _scenario("check_then_await", counter, NETWORK, mistake=True)
held_lock = _scenario("held_lock", locked, NETWORK, mistake=True)
wrong_place = _scenario("wrong_place", feed, ONE_LINK, mistake=True)

lost_ack_mended = _scenario("lost_ack", store, ROUGH, mistake=False)
new_id_mended = _scenario("new_id", journal, NETWORK, mistake=False)
check_then_await_mended = _scenario("check_then_await", counter, NETWORK, mistake=False)
held_lock_mended = _scenario("held_lock", locked, NETWORK, mistake=False)
wrong_place_mended = _scenario("wrong_place", feed, ONE_LINK, mistake=False)

PLANTED = (lost_ack, new_id, check_then_await, held_lock, wrong_place)
MENDED = (lost_ack_mended, new_id_mended, check_then_await_mended, held_lock_mended, wrong_place_mended)
