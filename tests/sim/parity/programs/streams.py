"""Programs on asyncio streams: what readers return at the end, what limits do, when writers wait."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from tests.sim.parity.stage import Half, Stage, accepted, alone, closed, dialled, narrow, outcome, pair, reset

MEGABYTE = b"0123456789abcdef" * 65536


@pair("streams")
def lines_until_the_end() -> tuple[Half, Half]:
    """A last line without its newline is a line; after it the reader is at its end for ever."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            async for line in reader:
                at.log(line)
                writer.write(line.upper())
            at.log(reader.at_eof(), await reader.readline(), await reader.read(), await reader.read(5))

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.writelines(part for part in (b"one\nt", b"wo\n", b"\n", b"last"))
            writer.write_eof()
            at.log(await reader.read(-1), reader.at_eof())

    return server, client


@pair("streams")
def short_reads_keep_what_came() -> tuple[Half, Half]:
    """`readexactly` and `readuntil` say what there was when the stream ended, and take it out of the reader."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (_, writer):
            writer.write(b"abcdefgh--tail")

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, _):
            at.log(await reader.readexactly(4), await reader.readexactly(0))
            at.log(await reader.readuntil(b"--"))
            at.log(await outcome(reader.readexactly(10)))
            at.log(await outcome(reader.readexactly(1)), await outcome(reader.readuntil(b"x")), await reader.readline(), reader.at_eof())
            at.log(await outcome(reader.readuntil(b"")), await outcome(reader.readexactly(-1)))

    return server, client


@pair("streams")
def separators_across_segments() -> tuple[Half, Half]:
    """A separator that comes in pieces is found; several separators at once are for 3.13."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            for piece in (b"head\r", b"\n\r", b"\nbody", b"\r\n\r", b"x\r\n", b"\r\n", b"a|b\r\n", b"end"):
                writer.write(piece)
                await writer.drain()
                at.log(await reader.readexactly(1))

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.write(b"........")
            at.log(await reader.readuntil(b"\r\n\r\n"), await reader.readuntil(b"\r\n\r\n"))
            if sys.version_info >= (3, 13):
                at.log(await outcome(reader.readuntil((b"|", b"\r\n"))))
            at.log(await reader.readuntil(), await outcome(reader.readuntil()))

    return server, client


class Counted(asyncio.StreamReaderProtocol):
    """Streams that say when so many bytes have been fed to the reader, which itself cannot tell without giving them away."""

    def __init__(self, reader: asyncio.StreamReader, count: int) -> None:
        super().__init__(reader)
        self._left = count
        self.fed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._left -= len(data)
        if self._left <= 0 and not self.fed.done():
            self.fed.set_result(None)


@pair("streams")
def a_line_over_the_limit() -> tuple[Half, Half]:
    """`readuntil` names how much to give away and keeps it; `readline` gives that line away and goes on with the next."""
    text = b"x" * 20 + b"\n" + b"next\n"

    async def server(at: Stage) -> None:
        async with accepted(at) as (_, writer):
            writer.write(text)

    async def client(at: Stage) -> None:
        reader = asyncio.StreamReader(limit=16)
        port = await at.hear("port")
        transport, protocol = await asyncio.get_running_loop().create_connection(lambda: Counted(reader, len(text)), at.host, port)
        async with closed(asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())):
            await protocol.fed
            at.log(await outcome(reader.readuntil()))
            at.log(await outcome(reader.readuntil(b"#")))
            at.log(await outcome(reader.readline()), await outcome(reader.readline()), await outcome(reader.readline()))

    return server, client


@pair("streams")
def a_small_limit_pauses_the_transport() -> tuple[Half, Half]:
    """Reader's limit and kernel's window together hold a fast sender; everything comes in the end, once and in order."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            narrow(writer.transport)
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(MEGABYTE)
            waiting = asyncio.ensure_future(writer.drain())
            at.log((await asyncio.wait({waiting}, timeout=0.02))[1] == {waiting}, writer.transport.get_write_buffer_size() > 0)
            at.tell("blocked")
            await waiting
            at.log(writer.transport.get_write_buffer_size(), writer.is_closing())
            writer.write_eof()
            at.log(await reader.read())

    async def client(at: Stage) -> None:
        async with dialled(at, limit=1024) as (reader, writer):
            narrow(writer.transport)
            await at.hear("blocked")
            got = bytearray()
            while chunk := await reader.read(50_000):
                got += chunk
            at.log(len(got), got == MEGABYTE)
            writer.write(b"thanks")

    return server, client


@pair("streams")
def every_wait_ends_when_the_peer_resets() -> tuple[Half, Half]:
    """Reading, draining and waiting for the close all raise the reset; closing again is fine."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            at.log(await reader.readexactly(2))
            reset(writer.transport)
            at.log(writer.is_closing(), await outcome(writer.wait_closed()))
            at.log(await reader.read(), await outcome(writer.drain()))

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.write(b"hi")
            at.log(await outcome(reader.readline()), reader.at_eof(), type(reader.exception()).__name__)
            at.log(await outcome(reader.read(1)), await outcome(writer.drain()))
            at.log(writer.is_closing(), await outcome(writer.wait_closed()))
            writer.close()
            writer.write(b"into the void")

    return server, client


@pair("streams")
def draining_after_the_peer_closed() -> tuple[Half, Half]:
    """`drain` of a connection that has ended raises; a clean close leaves no error with `wait_closed`."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            writer.write(b"bye")
            await writer.drain()
            writer.close()
            at.log(writer.is_closing(), await outcome(writer.wait_closed()), await outcome(writer.drain()))
            at.log(await reader.read())

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            at.log(await reader.read(), reader.at_eof(), writer.is_closing(), writer.can_write_eof())
            writer.close()
            at.log(await outcome(writer.wait_closed()), await outcome(writer.drain()))

    return server, client


@pair("streams")
def a_server_that_closes_keeps_its_connections() -> tuple[Half, Half]:
    """No new ones, the old ones go on; whether `wait_closed` waits for them depends on the Python."""

    async def server(at: Stage) -> None:
        first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: first.set_result(streams), at.bind, 0)
        at.tell("port", server.sockets[0].getsockname()[1])
        reader, writer = await first
        async with closed(writer):
            at.log(server.is_serving(), len(server.sockets))
            server.close()
            at.log(server.is_serving(), server.sockets)
            waiting = asyncio.ensure_future(server.wait_closed())
            done, _ = await asyncio.wait({waiting}, timeout=0.01)
            at.log("wait_closed returned", bool(done))
            at.tell("closed")
            writer.write(await reader.readline())
            at.log(await reader.read())
        await waiting
        at.log(await outcome(server.wait_closed()))

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            await at.hear("closed")
            at.log(await outcome(asyncio.open_connection(at.host, await at.hear("port"))))
            writer.write(b"still here\n")
            at.log(await reader.readline())

    return server, client


@pair("streams")
def two_readers_at_once() -> tuple[Half, Half]:
    """A second reader is told off at once and the first goes on."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            at.log(await reader.readexactly(1))
            writer.write(b"line\n")

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            first = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0)
            at.log(await outcome(reader.read(1)), first.done())
            writer.write(b"!")
            at.log(await first)

    return server, client


@pair("streams")
def both_ends_know_each_other() -> tuple[Half, Half]:
    """The name of the one is the peer of the other, and asking for what is not there is no error."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (_, writer):
            mine, theirs = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
            at.log(len(mine), len(theirs), mine[1] == await at.hear("port"), mine == await at.hear("peer of client"))
            at.log(theirs == await at.hear("name of client"), writer.get_extra_info("sslcontext"), writer.get_extra_info("nothing", 7))

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            at.tell("peer of client", writer.get_extra_info("peername"))
            at.tell("name of client", writer.get_extra_info("sockname"))
            sock = writer.get_extra_info("socket")
            at.log(sock.getpeername() == writer.get_extra_info("peername"), sock.getsockname() == writer.get_extra_info("sockname"))
            at.log(sock.family.name, sock.type.name, await reader.read())

    return server, client


@pair("streams")
def many_connections_one_server() -> tuple[Half, Half]:
    """Twenty clients at once: each gets its own answer, on a connection of its own."""

    async def server(at: Stage) -> None:
        ended: list[int] = []
        enough = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with closed(writer):
                number = int(await reader.readline())
                writer.write(b"%d\n" % (number * number))
                await reader.read()
            ended.append(number)
            if len(ended) == 20:
                enough.set()

        server = await asyncio.start_server(answer, at.bind, 0)
        at.tell("port", server.sockets[0].getsockname()[1])
        async with server:
            await enough.wait()
        at.log(sorted(ended), server.is_serving())

    async def client(at: Stage) -> None:
        port = await at.hear("port")

        async def ask(number: int) -> int:
            reader, writer = await asyncio.open_connection(at.host, port)
            async with closed(writer):
                writer.write(b"%d\n" % number)
                answer = int(await reader.readline())
                writer.write_eof()
                assert await reader.read() == b""
                return answer

        at.log(await asyncio.gather(*(ask(number) for number in range(20))))

    return server, client


@alone("streams")
async def a_reader_fed_by_hand(at: Stage) -> None:
    """No network at all: the reader's own rules, on the loop's futures."""
    reader = asyncio.StreamReader(limit=8)
    reader.feed_data(b"abc\nde")
    at.log(await reader.readline(), reader.at_eof())
    waiting = asyncio.ensure_future(reader.readexactly(4))
    await asyncio.sleep(0)
    reader.feed_data(b"fg")
    at.log(waiting.done(), await waiting)
    late = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    reader.set_exception(ValueError("broken"))
    at.log(await outcome(late), await outcome(reader.readline()))


@pair("streams")
def streams_over_ones_own_sockets() -> tuple[Half, Half]:
    """`sock=` takes a socket that listens, or one that is connected; data that came before there was a transport is there."""

    async def server(at: Stage) -> None:
        listener = socket.socket()
        listener.bind((at.bind, 0))
        first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: first.set_result(streams), sock=listener)
        at.tell("port", server.sockets[0].getsockname()[1])
        async with server:
            reader, writer = await first
            async with closed(writer):
                writer.write(b"welcome\n")
                at.log(await reader.read())

    async def client(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, (at.host, await at.hear("port")))
        at.log(await loop.sock_recv(sock, 1))
        at.log(await outcome(asyncio.open_connection(at.host, 1, sock=sock)))
        reader, writer = await asyncio.open_connection(sock=sock)
        async with closed(writer):
            at.log(await reader.readline(), writer.get_extra_info("socket").fileno() >= 0)
            writer.write(b"thanks")

    return server, client
