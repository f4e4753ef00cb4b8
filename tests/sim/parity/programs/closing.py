"""Programs on the ends of TCP connections: one direction at a time, with data on the way, by reset, or never begun.

What Linux does is the truth here: which ends are a FIN and which a RST, and what can still be read after one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sim.parity.stage import (
    Half,
    Recorder,
    Stage,
    accepted,
    alone,
    dial,
    dialled,
    errors_of_the_loop,
    listening,
    narrow,
    one_after_another,
    outcome,
    pair,
    reset,
)

MEGABYTE = b"0123456789abcdef" * 65536


@pair("closing")
def ask_until_the_end_then_listen() -> tuple[Half, Half]:
    """The client ends its direction, the server answers a megabyte after that, and ends its own."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            at.log(await reader.read(), reader.at_eof(), writer.is_closing())
            writer.write(MEGABYTE)
            await writer.drain()
            writer.write_eof()
            try:
                writer.write(b"more")
            except RuntimeError as error:
                at.log(str(error))
            writer.write_eof()

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.write(b"a question")
            writer.write_eof()
            at.log(writer.is_closing(), (await reader.read()) == MEGABYTE, reader.at_eof())

    return server, client


@pair("closing")
def both_end_their_own_direction() -> tuple[Half, Half]:
    """Both keep open on the other's end: nobody is closed until somebody closes."""

    async def server(at: Stage) -> None:
        end = Recorder(keep_open=True)
        async with listening(at, lambda: end):
            await end.ended
            at.log(end.transport.is_closing(), end.transport.is_reading())
            end.transport.write(b"mine")
            end.transport.write_eof()
            await at.hear("ended")
            await at.quiet()
            at.log(list(end.facts), end.transport.is_closing())
            end.transport.close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, lambda: Recorder(keep_open=True))
        end.transport.write(b"yours")
        end.transport.write_eof()
        await end.ended
        at.tell("ended")
        at.log(list(end.facts), end.transport.is_closing())
        end.transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("closing")
def an_end_behind_a_megabyte() -> tuple[Half, Half]:
    """`write_eof` and `close` wait for what was written before them, however slowly it is taken."""

    async def server(at: Stage) -> None:
        for number in range(2):
            end = Recorder()
            async with listening_again(at, number, end):
                transport = await end.made
                narrow(transport)
                transport.pause_reading()
                at.tell(f"paused {number}")
                await at.hear(f"ended {number}")
                transport.resume_reading()
                await end.lost
            at.log(bytes(end.data) == MEGABYTE, end.facts[2:])

    async def client(at: Stage) -> None:
        for number in range(2):
            port = await at.hear(f"port {number}")
            end = (await asyncio.get_running_loop().create_connection(Recorder, at.host, port))[1]
            narrow(end.transport)
            await at.hear(f"paused {number}")
            end.transport.write(MEGABYTE)
            if number:
                end.transport.close()
            else:
                end.transport.write_eof()
            at.log(end.transport.is_closing(), end.transport.get_write_buffer_size() > 0, end.lost.done())
            at.tell(f"ended {number}")
            at.log(await end.lost, end.transport.get_write_buffer_size())

    return server, client


class listening_again:
    """A server of its own for the n-th connection, for programs that make several with one listener each."""

    def __init__(self, at: Stage, number: int, end: Recorder) -> None:
        self._at, self._number, self._end = at, number, end

    async def __aenter__(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: self._end, self._at.bind, 0)
        self._at.tell(f"port {self._number}", self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


@pair("closing")
def a_close_with_bytes_unread_is_a_reset() -> tuple[Half, Half]:
    """Linux resets when the closed socket holds data nobody read; the closing side itself sees an ordinary close."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            transport.pause_reading()
            at.tell("paused")
            await at.arrived(transport, 6)
            transport.close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        await at.hear("paused")
        end.transport.write(b"unread")
        await end.lost
        at.log(*end.facts)
        at.log(end.transport.is_closing())

    return server, client


@pair("closing")
def an_abort_is_an_end_unless_something_is_lost() -> tuple[Half, Half]:
    """`abort` of an idle connection sends a FIN, for that is what closing a socket does: the peer sees an ordinary end."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            await end.received(2)
            end.transport.abort()
            at.log(end.transport.is_closing(), list(end.facts))
            end.transport.write(b"nowhere")
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"hi")
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("closing")
def an_abort_drops_what_was_buffered() -> tuple[Half, Half]:
    """What the kernel has taken still comes, the rest does not; the buffer is empty at once."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            narrow(transport)
            transport.pause_reading()
            at.tell("paused")
            await at.hear("aborted")
            transport.resume_reading()
            await end.lost
        at.log(0 < len(end.data) < len(MEGABYTE), MEGABYTE.startswith(end.data), end.facts[2:])

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        narrow(end.transport)
        await at.hear("paused")
        end.transport.write(MEGABYTE)
        at.log(end.transport.get_write_buffer_size() > 0)
        end.transport.abort()
        at.log(end.transport.get_write_buffer_size())
        at.log(await end.lost)
        at.tell("aborted")

    return server, client


@pair("closing")
def linger_of_zero_is_a_reset() -> tuple[Half, Half]:
    """SO_LINGER with zero seconds makes the close a RST: an error at the peer, none here."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            await end.received(2)
            reset(end.transport)
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"hi")
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("closing")
def a_reset_leaves_what_had_come() -> tuple[Half, Half]:
    """While reading is paused a reset is not noticed; then comes what was received before it, and only then the error."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            transport.pause_reading()
            at.tell("paused")
            await at.arrived(transport, 5)
            at.tell("arrived")
            await at.hear("reset")
            await at.quiet()
            at.log(list(end.facts), transport.is_closing())
            transport.resume_reading()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        await at.hear("paused")
        end.transport.write(b"early")
        await at.hear("arrived")
        reset(end.transport)
        await end.lost
        at.tell("reset")

    return server, client


@pair("closing")
def writing_to_one_who_has_left() -> tuple[Half, Half]:
    """The peer has closed, we kept open and write on: the first write is answered by a reset, a later one finds a broken pipe."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            (await end.made).close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, lambda: Recorder(keep_open=True))
        await end.ended
        at.log(end.transport.is_closing())
        while not end.lost.done():
            end.transport.write(b"still there?")
            await asyncio.sleep(0.001)
        at.log(*end.facts)
        at.log(end.transport.is_closing())

    return server, client


@pair("closing")
def writing_to_one_who_reset() -> tuple[Half, Half]:
    """Paused and writing when the reset comes: the write finds it."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            await end.made
            await at.hear("paused")
            reset(end.transport)
            await end.lost
        at.log(end.facts[-1])

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.pause_reading()
        at.tell("paused")
        while not end.lost.done():
            end.transport.write(b"still there?")
            await asyncio.sleep(0.001)
        at.log(*end.facts)

    return server, client


@pair("closing")
def an_end_while_reading_is_paused() -> tuple[Half, Half]:
    """The end waits its turn behind the data, and both wait for `resume_reading`; a close meanwhile delivers neither."""

    async def server(at: Stage) -> None:
        ends = [Recorder(), Recorder()]
        async with listening(at, one_after_another(ends)):
            for number in range(2):
                transport = await ends[number].made
                transport.pause_reading()
                at.tell(f"paused {number}")
                await at.arrived(transport, 4)
                await at.quiet()
                at.log(list(ends[number].facts))
                if number:
                    transport.close()
                    transport.resume_reading()
                else:
                    transport.resume_reading()
                await ends[number].lost
                at.log(*ends[number].facts)

    async def client(at: Stage) -> None:
        for number in range(2):
            end = await dial(at, Recorder)
            await at.hear(f"paused {number}")
            end.transport.write(b"data")
            end.transport.write_eof()
            await end.lost
            at.log(*end.facts)

    return server, client


@alone("closing")
async def nobody_listens(at: Stage) -> None:
    """A port that is bound but does not listen refuses, as does one that was closed; listening opens it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, at.bind, 0, start_serving=False)
    port = server.sockets[0].getsockname()[1]
    at.log(server.is_serving(), await outcome(loop.create_connection(asyncio.Protocol, at.host, port)))
    await server.start_serving()
    transport, _ = await loop.create_connection(Recorder, at.host, port)
    at.log(server.is_serving(), transport.is_closing())
    at.log(await outcome(loop.create_server(asyncio.Protocol, at.bind, port)))
    transport.close()
    await _.lost
    server.close()
    server.close()
    await server.wait_closed()
    at.log(server.is_serving(), await outcome(asyncio.open_connection(at.host, port)))
    again = await loop.create_server(asyncio.Protocol, at.bind, port)
    at.log(again.sockets[0].getsockname()[1] == port)
    again.close()
    await again.wait_closed()


@pair("closing")
def serving_for_ever() -> tuple[Half, Half]:
    """`serve_forever` ends when it is cancelled, and has closed the server then; twice at once is refused."""

    async def server(at: Stage) -> None:
        end = Recorder()
        server = await asyncio.get_running_loop().create_server(lambda: end, at.bind, 0, start_serving=False)
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        at.tell("port", server.sockets[0].getsockname()[1])
        at.log(await outcome(server.serve_forever()))
        await end.lost
        serving.cancel()
        at.log(await outcome(serving), server.is_serving(), server.sockets)
        at.log(*end.facts)
        at.tell("closed")

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.close()
        await end.lost
        await at.hear("closed")
        at.log(await outcome(dial(at, Recorder)))

    return server, client


@pair("closing")
def a_connection_lost_that_raises() -> tuple[Half, Half]:
    """The loop is told, and the socket is closed all the same."""

    class Broken(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            raise ArithmeticError("at the very end")

    async def server(at: Stage) -> None:
        with errors_of_the_loop(at):
            end = Broken()
            async with listening(at, lambda: end):
                (await end.made).write(b"bye")
                end.transport.close()
                await end.lost
                await at.hear("seen")

    async def client(at: Stage) -> None:
        end: Any = await dial(at, Recorder)
        await end.lost
        at.log(*end.facts)
        at.tell("seen")

    return server, client
