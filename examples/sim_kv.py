"""A key-value server in plain asyncio, with a mistake that the simulation finds. The server knows nothing of holdfast.

    holdfast sim examples/sim_kv.py::test_store           fails: the seed, what is left of the story, the command to see it again
    holdfast sim examples/sim_kv.py::test_mended_store    holds, in a thousand worlds

What to look at: `Store.add` reads, waits, and writes what it read. Under a debugger, and in most tests, nobody comes in between.
"""

import asyncio
from functools import partial

from holdfast.sim import Climate, Counter, History, World, linearizable, operations, sim_test

PORT = 6380
CLIENTS = ("ada", "bob", "eve")
PATIENCE_S = 1.0


class Store:
    """Numbers by key. `add KEY N` answers with the new number, `get KEY` with the number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    async def audit(self, key: str, n: int) -> None:
        """Tell somebody who keeps a record; it takes a moment."""
        await asyncio.sleep(0.002)

    async def add(self, key: str, n: int) -> int:
        number = self.numbers.get(key, 0)
        await self.audit(key, n)
        self.numbers[key] = number + n
        return self.numbers[key]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's lines."""
        try:
            while line := await reader.readline():
                match line.decode().split():
                    case ["add", key, n]:
                        answer = await self.add(key, int(n))
                    case ["get", key]:
                        answer = self.numbers.get(key, 0)
                    case _:
                        break
                writer.write(b"%d\n" % answer)
                await writer.drain()
        except OSError:
            pass  # the client left
        finally:
            writer.close()

    async def serve(self) -> None:
        async with await asyncio.start_server(self.talk, "0.0.0.0", PORT) as server:
            await server.serve_forever()


class MendedStore(Store):
    """The same, with nothing between the read and the write."""

    async def add(self, key: str, n: int) -> int:
        self.numbers[key] = number = self.numbers.get(key, 0) + n
        await self.audit(key, n)
        return number


class Connection:
    """A client: one connection, made when it is needed."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, line: str) -> int:
        """Raises: OSError (a timeout too) when there is no answer; whether it was done, nobody knows."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self.streams is None:
                    self.streams = await asyncio.open_connection(self.host, PORT)
                reader, writer = self.streams
                writer.write(line.encode() + b"\n")
                answer = await reader.readline()
                if not answer.endswith(b"\n"):
                    raise ConnectionResetError("the server left")
                return int(answer)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


# ------------------------------------------------------------------------------------------- from here on it is about the simulation


async def client(history: History, name: str, lines: list[str]) -> None:
    """Do some operations, and write down what was seen of them."""
    connection = Connection("store")
    for line in lines:
        verb, key, *rest = line.split()
        try:
            with history.call(name, verb if verb == "add" else "read", key, *map(int, rest)) as call:
                call.result = await connection.ask(line)
            await asyncio.sleep(0.02)
        except OSError:
            await asyncio.sleep(0.2)
    connection.close()


async def play(world: World, store: Store) -> None:
    """Three clients, two keys, and a network that fails now and then; every answer must be one that a single counter could give."""
    history = History(world.now)
    world.host("store").start(store.serve)
    clients = []
    for name in CLIENTS:
        rng = world.rng.stream(name)
        lines = [f"add {rng.choice('xy')} {rng.randint(1, 9)}" if rng.random() < 0.7 else f"get {rng.choice('xy')}" for _ in range(15)]
        clients.append(world.host(name).start(partial(client, history, name, operations(world, lines, name)), name=name))
    for each in clients:
        await each
    if any(each.ending == "unknown" for each in history.operations):
        world.reached("an answer was lost")
    linearizable(history.operations, Counter()).require()


NETWORK = Climate(links=tuple(("store", name) for name in CLIENTS), calm_at_s=3.0)


@sim_test(seeds=200, climate=NETWORK, sometimes=["an answer was lost"])
async def test_store(world: World) -> None:
    await play(world, Store())


@sim_test(seeds=200, climate=NETWORK, sometimes=["an answer was lost"])
async def test_mended_store(world: World) -> None:
    await play(world, MendedStore())
