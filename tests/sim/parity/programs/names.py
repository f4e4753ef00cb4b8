"""Programs on names and on the executor: what `getaddrinfo` gives, how dialling uses it, what happens in threads and around them."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.sim.parity.stage import Half, Recorder, Stage, alone, dial, errors_of_the_loop, listening, one_after_another, outcome, pair

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


@alone("names")
async def addresses_of_numbers(at: Stage) -> None:
    """A number is its own address: with all three socket types, or the one asked for; the port may be text."""
    loop = asyncio.get_running_loop()

    def short(rows: Any) -> list[Any]:
        return [(row[0].name, row[1].name, row[2], row[3], row[4]) for row in rows]

    at.log(short(await loop.getaddrinfo("127.0.0.1", 80)))
    at.log(short(await loop.getaddrinfo("127.0.0.1", "443", type=socket.SOCK_STREAM)))
    at.log(short(await loop.getaddrinfo("127.0.0.1", None, type=socket.SOCK_DGRAM)))
    at.log(short(await loop.getaddrinfo(None, 80, family=socket.AF_INET, type=socket.SOCK_STREAM)))
    at.log(short(await loop.getaddrinfo(None, 80, family=socket.AF_INET, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)))
    at.log(short(await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)))
    at.log(short(await loop.getaddrinfo("::1", 80, type=socket.SOCK_STREAM)))
    at.log(await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV))


@alone("names")
async def names_that_are_none(at: Stage) -> None:
    """What cannot be an address is a gaierror with its code, also out of `create_connection`."""
    loop = asyncio.get_running_loop()

    async def code(awaitable: Any) -> Any:
        try:
            return await awaitable
        except socket.gaierror as error:
            return [
                name for name in ("EAI_NONAME", "EAI_FAMILY", "EAI_SERVICE", "EAI_ADDRFAMILY") if getattr(socket, name, None) == error.errno
            ]

    at.log(await code(loop.getaddrinfo("no number", 80, flags=socket.AI_NUMERICHOST)))
    at.log(await code(loop.getaddrinfo("127.0.0.1", "no port", flags=socket.AI_NUMERICSERV)))
    at.log(await code(loop.getaddrinfo("::1", 80, family=socket.AF_INET)))
    at.log(await code(loop.getaddrinfo(None, None)))
    at.log(await code(loop.create_connection(Recorder, "no number", 80, flags=socket.AI_NUMERICHOST)))


@pair("names")
def dialling_by_name_and_number() -> tuple[Half, Half]:
    """Every way of naming the peer ends at the same server; happy eyeballs with one address is an ordinary dial."""

    async def server(at: Stage) -> None:
        ends = [Recorder() for _ in range(20)]
        async with listening(at, one_after_another(ends)):
            count = await at.hear("over")
            for end in ends[:count]:
                await end.lost
        at.log(count, *(end.facts for end in ends[:count]))

    async def client(at: Stage) -> None:
        name = "localhost" if at.host == "127.0.0.1" else at.host
        ways: list[dict[str, Any]] = [
            {},
            {"family": socket.AF_INET},
            {"happy_eyeballs_delay": 0.25},
            {"happy_eyeballs_delay": 0.25, "interleave": 1},
        ]
        if sys.version_info >= (3, 12):
            ways.append({"all_errors": True})
        for way in ways:
            port = await at.hear("port")
            for host in (name, at.host):
                family = {"family": socket.AF_INET} if host == "localhost" else {}
                transport, end = await asyncio.get_running_loop().create_connection(Recorder, host, port, **{**family, **way})
                at.log(sorted(way), transport.get_extra_info("peername")[1] == port)
                transport.write(b"hello")
                transport.close()
                await end.lost
        at.tell("over", 2 * len(ways))

    return server, client


@alone("names")
async def dials_that_cannot_be(at: Stage) -> None:
    """Wrong arguments are ValueErrors; one refused address is its own error, with `all_errors` (3.12) in a group."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, at.bind, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    at.log(await outcome(loop.create_connection(Recorder)))
    at.log(await outcome(loop.create_connection(Recorder, at.host, port, server_hostname="without.tls")))
    at.log(await outcome(loop.create_connection(Recorder, at.host, port, ssl_handshake_timeout=1)))
    at.log(await outcome(loop.create_connection(Recorder, at.host, port)))
    at.log(await outcome(loop.create_connection(Recorder, at.host, port, happy_eyeballs_delay=0.1)))
    try:
        await loop.create_connection(Recorder, at.host, port)
    except OSError as error:
        at.log(str(error).replace(str(port), "PORT").replace(at.host, "HOST"))
    if sys.version_info >= (3, 12):
        at.log(await outcome(loop.create_connection(Recorder, at.host, port, all_errors=True)))


@alone("names")
async def work_in_threads(at: Stage) -> None:
    """Values and errors come back; `to_thread` takes the context along, `run_in_executor` does not; neither can change ours."""

    def look() -> tuple[str, Any]:
        before = variable.get()
        variable.set("changed in the thread")
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            return before, str(error)
        return before, "a loop runs here"

    def fail() -> None:
        raise LookupError("in the thread")

    loop = asyncio.get_running_loop()
    variable.set("ours")
    at.log(await asyncio.to_thread(look), variable.get())
    with ThreadPoolExecutor(1) as pool:
        at.log(await loop.run_in_executor(pool, look), variable.get())
    at.log(await asyncio.to_thread(lambda *args, **named: (args, named), 1, 2, three=3))
    at.log(await outcome(asyncio.to_thread(fail)), await loop.run_in_executor(None, pow, 2, 10))
    at.log(asyncio.get_running_loop() is loop)


@alone("names")
async def one_thread_one_thing_at_a_time(at: Stage) -> None:
    """A pool of one thread does what it is given in that order; the loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    done: list[Any] = []

    def work(number: int) -> int:
        done.append(number)
        return number * 10

    with ThreadPoolExecutor(1) as pool:
        at.log(await asyncio.gather(*(loop.run_in_executor(pool, work, number) for number in range(8))))
    at.log(done)
    sleeping = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.1))
    for _ in range(3):
        await asyncio.sleep(0)
    at.log("the loop goes on", sleeping.done())
    started = time.monotonic()
    await sleeping
    at.log(time.monotonic() - started > 0.01)


@alone("names")
async def words_from_a_thread(at: Stage) -> None:
    """`call_soon_threadsafe` from a thread reaches the loop in order, before the thread's own result does."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def work() -> str:
        for number in range(3):
            loop.call_soon_threadsafe(at.log, "called", number)
        loop.call_soon_threadsafe(event.set)
        return "result"

    at.log(await asyncio.to_thread(work), event.is_set())


@alone("names")
async def giving_up_on_a_thread(at: Stage) -> None:
    """A cancelled wait for a thread ends at once; the thread's work is done all the same, and its result dropped."""
    finished = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        time.sleep(0.1)
        loop.call_soon_threadsafe(finished.set)
        return "nobody wants it"

    waiting = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        async with asyncio.timeout(0.002):
            await waiting
    except TimeoutError:
        at.log("gave up", waiting.cancelled(), finished.is_set())
    await finished.wait()
    at.log("done all the same")


@alone("names")
async def no_more_threads(at: Stage) -> None:
    """After `shutdown_default_executor` there is no default executor; one's own still works."""
    loop = asyncio.get_running_loop()
    at.log(await asyncio.to_thread(len, "four"))
    await loop.shutdown_default_executor()
    at.log(await outcome(asyncio.to_thread(len, "four")))
    try:
        loop.run_in_executor(None, len, "four")
    except RuntimeError as error:
        at.log(str(error))
    with ThreadPoolExecutor(1) as pool:
        at.log(await loop.run_in_executor(pool, len, "four"))


@pair("names")
def an_answer_out_of_a_thread() -> tuple[Half, Half]:
    """A handler that computes in a thread, while another connection of the same server is served."""

    async def server(at: Stage) -> None:
        with errors_of_the_loop(at):
            ends = [Recorder(), Recorder()]
            async with listening(at, one_after_another(ends)):
                await ends[0].received(1)
                at.tell("first came")
                slow = asyncio.ensure_future(asyncio.to_thread(sum, range(1000)))
                await ends[1].received(1)
                ends[1].transport.write(b"quick")
                ends[0].transport.write(str(await slow).encode())
                for end in ends:
                    await end.lost
            at.log([end.facts for end in ends])

    async def client(at: Stage) -> None:
        first = await dial(at, Recorder)
        first.transport.write(b"1")
        await at.hear("first came")
        second = await dial(at, Recorder)
        second.transport.write(b"2")
        at.log(await second.received(5), await first.received(6))
        for end in (first, second):
            end.transport.close()
            at.log(await end.lost)

    return server, client
