"""Programs on cancelling: where it arrives, who swallows it, what it leaves usable."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from tests.sim.parity.stage import Half, Stage, accepted, alone, dialled, errors_of_the_loop, narrow, outcome, pair


@alone("cancel")
async def where_a_cancel_arrives(at: Stage) -> None:
    """At the await, with its message; `finally` may await; before the first step nothing runs at all."""

    async def work(name: str) -> None:
        at.log(name, "starts")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            at.log(name, error.args)
            raise
        finally:
            await asyncio.sleep(0)
            at.log(name, "cleaned up")

    begun, not_begun = asyncio.ensure_future(work("begun")), None
    await asyncio.sleep(0)
    not_begun = asyncio.ensure_future(work("not begun"))
    at.log(begun.cancel("please"), not_begun.cancel(), begun.cancelled(), begun.cancelling())
    at.log(await outcome(begun), await outcome(not_begun))
    at.log(begun.cancelled(), not_begun.cancelled(), begun.cancel(), begun.cancelling())


@alone("cancel")
async def counting_cancels(at: Stage) -> None:
    """`cancelling` counts, `uncancel` counts back; two cancels before a step are one CancelledError."""

    async def stubborn() -> str:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                at.log("caught", task.cancelling())
        at.log(task.uncancel(), task.uncancel(), task.uncancel(), task.uncancel(), task.cancelling())
        return "done"

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    at.log(task.cancel(), task.cancel(), task.cancelling())
    await asyncio.sleep(0)
    at.log(task.cancel(), task.cancelling())
    at.log(await task, task.cancelled())


@alone("cancel")
async def a_cancel_goes_down_the_chain(at: Stage) -> None:
    """A task that awaits a task passes the cancel on; a shield stops it, and the shielded goes on."""

    async def inner(name: str) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            at.log(name, "cancelled")
            raise
        at.log(name, "through")
        return name

    async def outer(awaited: Any) -> Any:
        return await awaited

    gate = asyncio.Event()
    plain, kept = asyncio.ensure_future(inner("plain")), asyncio.ensure_future(inner("kept"))
    over_plain, over_kept = asyncio.ensure_future(outer(plain)), asyncio.ensure_future(outer(asyncio.shield(kept)))
    await asyncio.sleep(0)
    over_plain.cancel()
    over_kept.cancel()
    at.log(await outcome(over_plain), await outcome(over_kept), plain.cancelled(), kept.done())
    gate.set()
    at.log(await kept)


@alone("cancel")
async def a_shielded_error_nobody_sees(at: Stage) -> None:
    """The shielded task fails after its waiter was cancelled: the loop is told, for nobody else can be."""

    async def failing() -> None:
        await gate.wait()
        raise ArithmeticError("too late")

    gate = asyncio.Event()
    with errors_of_the_loop(at):
        inner = asyncio.ensure_future(failing())
        outer = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(inner), None))
        await asyncio.sleep(0)
        outer.cancel()
        at.log(await outcome(outer))
        gate.set()
        await asyncio.wait({inner})
        await asyncio.sleep(0)
        at.log(await outcome(inner))


@alone("cancel")
async def cancelling_a_gather(at: Stage) -> None:
    """The gather's children are cancelled with it; one that fails leaves the others alone."""

    async def wait(name: str) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            at.log(name, "cancelled")
            raise
        return name

    async def fail() -> None:
        raise ArithmeticError("one of them")

    gate = asyncio.Event()
    children = [asyncio.ensure_future(wait(name)) for name in ("a", "b", "c")]
    together = asyncio.gather(*children)
    await asyncio.sleep(0)
    children[1].cancel()
    at.log(await outcome(together), [child.done() for child in children])
    rest = asyncio.gather(children[0], fail(), children[2], return_exceptions=True)
    await asyncio.sleep(0)
    rest.cancel()
    at.log(await outcome(rest), [child.cancelled() for child in children])
    left = asyncio.ensure_future(wait("d"))
    at.log(await outcome(asyncio.gather(fail(), left)), left.done())
    gate.set()
    at.log(await left)
    at.log(await asyncio.gather(), [type(each).__name__ for each in await asyncio.gather(fail(), wait("e"), return_exceptions=True)])


@alone("cancel")
async def a_cancel_and_a_result_at_once(at: Stage) -> None:
    """The result is set first, the cancel comes before the waiter runs: who wins depends on the Python (gh-86296), not on chance."""

    async def waiting(future: asyncio.Future[str], seconds: float | None) -> str:
        return await asyncio.wait_for(future, seconds)

    for seconds in (10.0, None):
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(waiting(future, seconds))
        await asyncio.sleep(0)
        future.set_result("the result")
        at.log(task.cancel())
        at.log(await outcome(task), task.cancelling())


@alone("cancel")
async def generators_and_contexts_are_left_in_order(at: Stage) -> None:
    """A cancel inside an async generator's body runs its `finally`, then that of the code around it."""

    async def numbers() -> Any:
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(0)
        finally:
            at.log("generator left")

    async def consume() -> None:
        source = numbers()
        try:
            async for number in source:
                at.log(number)
                if number == 2:
                    await asyncio.Event().wait()
        finally:
            at.log("loop left")
            await source.aclose()

    task = asyncio.ensure_future(consume())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    at.log(await outcome(task))


@alone("cancel")
async def handles_that_are_cancelled(at: Stage) -> None:
    """A cancelled handle never runs, even one whose turn has come; callbacks run first in, first out."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    second = loop.call_later(0, at.log, "never, later")
    loop.call_soon(at.log, "first")
    third = loop.call_soon(at.log, "never, soon")
    loop.call_soon(third.cancel)
    fourth = loop.call_soon(at.log, "cancelled too late? no: it runs")
    loop.call_soon(fourth.cancel)
    fifth = loop.call_soon(at.log, "never")
    fifth.cancel()
    second.cancel()
    loop.call_soon(loop.call_soon, done.set_result, None)
    third.cancel()
    await done
    at.log(second.cancelled(), third.cancelled(), fourth.cancelled())


@pair("cancel")
def a_reader_goes_on_after_a_cancel() -> tuple[Half, Half]:
    """A cancelled `readline` or `readexactly` loses no byte."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            writer.write(b"half a ")
            await at.hear("cancelled")
            writer.write(b"line\nand more")
            at.log(await reader.read())

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            for wait in (reader.readline, lambda: reader.readexactly(100)):
                task = asyncio.ensure_future(wait())
                await asyncio.wait({task}, timeout=0.01)
                at.log(task.cancel(), await outcome(task))
            at.tell("cancelled")
            at.log(await reader.readline(), await reader.readexactly(8))
            writer.write(b"end")

    return server, client


@pair("cancel")
def a_writer_goes_on_after_a_cancel() -> tuple[Half, Half]:
    """A cancelled `drain` loses nothing that was written, and can be asked for again, twice at a time."""
    size = 1 << 20

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            narrow(writer.transport)
            transport = cast(asyncio.Transport, writer.transport)
            transport.pause_reading()
            at.tell("paused")
            await at.hear("cancelled")
            transport.resume_reading()
            got = await reader.read()
            at.log(len(got), got.count(b"x"), got[-1:])

    async def client(at: Stage) -> None:
        async with dialled(at) as (_, writer):
            narrow(writer.transport)
            await at.hear("paused")
            writer.write(b"x" * size)
            first, second = asyncio.ensure_future(writer.drain()), asyncio.ensure_future(writer.drain())
            at.log(len((await asyncio.wait({first, second}, timeout=0.01))[1]))
            first.cancel()
            at.log(await outcome(first), second.done())
            writer.write(b".")
            at.tell("cancelled")
            await second
            await writer.drain()
            at.log("drained", writer.transport.get_write_buffer_size() <= 16 * 1024)

    return server, client


@pair("cancel")
def dialling_after_a_cancelled_dial() -> tuple[Half, Half]:
    """A dial cancelled on its way ends as cancelled and leaves nothing in the way of the next."""

    async def server(at: Stage) -> None:
        async with asyncio.timeout(None):
            answered = asyncio.Event()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if await reader.read(1) == b"?":
                    writer.write(b"!")
                    answered.set()
                writer.close()
                await outcome(writer.wait_closed())

            async with await asyncio.start_server(answer, at.bind, 0) as server:
                at.tell("port", server.sockets[0].getsockname()[1])
                await answered.wait()
                at.log("answered")
                await at.hear("over")

    async def client(at: Stage) -> None:
        port = await at.hear("port")
        dial = asyncio.ensure_future(asyncio.open_connection(at.host, port))
        await asyncio.sleep(0)
        at.log(dial.cancel(), await outcome(dial))
        reader, writer = await asyncio.open_connection(at.host, port)
        writer.write(b"?")
        at.log(await reader.read())
        writer.close()
        await writer.wait_closed()
        at.tell("over")

    return server, client


@alone("cancel")
async def a_future_tells_in_order(at: Stage) -> None:
    """Done callbacks run in the order they were added, each through the loop; a removed one and a cancelled future's result do not."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    calls = [lambda _f, name=name: at.log(name) for name in ("one", "two", "three")]
    for call in calls:
        future.add_done_callback(call)
    at.log(future.remove_done_callback(calls[1]), future.remove_done_callback(calls[1]))
    at.log(future.cancel("no more"), future.cancelled(), future.cancel())
    at.log("nothing called yet")
    future.add_done_callback(lambda f: at.log("late", f.cancelled()))
    try:
        future.result()
    except asyncio.CancelledError as error:
        at.log(error.args)
    try:
        future.set_result(1)
    except asyncio.InvalidStateError:
        at.log("InvalidStateError")
    await asyncio.sleep(0)
    at.log("now they were")


@pair("cancel")
def a_socket_goes_on_after_a_cancel() -> tuple[Half, Half]:
    """Cancelled `sock_accept`, `sock_recv` and `sock_recv_into` take nothing with them."""

    async def server(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.setblocking(False)
            listener.bind((at.bind, 0))
            listener.listen()
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await asyncio.sleep(0)
            at.log(accepting.cancel(), await outcome(accepting))
            at.tell("port", listener.getsockname()[1])
            sock, _ = await loop.sock_accept(listener)
            with sock:
                at.log(sock.gettimeout())
                for wait in (lambda: loop.sock_recv(sock, 10), lambda: loop.sock_recv_into(sock, bytearray(10))):
                    task = asyncio.ensure_future(wait())
                    await asyncio.sleep(0)
                    at.log(task.cancel(), await outcome(task))
                at.tell("cancelled")
                at.log(await loop.sock_recv(sock, 1), await loop.sock_recv(sock, 1))
                await loop.sock_sendall(sock, b"y")

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            await at.hear("cancelled")
            writer.write(b"ab")
            at.log(await reader.readexactly(1))

    return server, client
