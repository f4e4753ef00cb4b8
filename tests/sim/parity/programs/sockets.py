"""Programs on the ends of TCP connections as a bare socket sees them, without a transport between it and the kernel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from tests.sim.parity.stage import Half, Recorder, Stage, accepted, alone, kind, listening, outcome, pair, reset


@pair("closing")
def what_a_socket_says_at_the_end() -> tuple[Half, Half]:
    """On a bare socket: what came before the reset, the error once, then nothing for ever; a write finds a broken pipe."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            (await end.made).write(b"last words")
            await end.received(1)
            reset(end.transport)
            await end.lost
            at.tell("reset")
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (at.host, await at.hear("port")))
            got = b""
            while len(got) < 5:
                got += await loop.sock_recv(sock, 5 - len(got))
            at.log(got)
            await loop.sock_sendall(sock, b"!")
            await at.hear("reset")
            await at.quiet()
            while len(got) < 10:
                got += await loop.sock_recv(sock, 100)
            at.log(got, await outcome(loop.sock_recv(sock, 1)), await outcome(loop.sock_recv(sock, 1)))
            at.log(await outcome(loop.sock_sendall(sock, b"x")), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    return server, client


@pair("closing")
def one_direction_of_a_socket() -> tuple[Half, Half]:
    """`shutdown` for writing is an end for the peer and EPIPE here, while reading goes on; without a connection it is refused."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            at.log(await reader.read())
            writer.write(b"answer")

    async def client(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        calls: list[Callable[[socket.socket], object]] = [
            lambda lone: lone.shutdown(socket.SHUT_WR),
            lambda lone: lone.getpeername(),
            lambda lone: lone.send(b"x"),
        ]
        for call in calls:
            with socket.socket() as lone:
                try:
                    call(lone)
                except OSError as error:
                    at.log(kind(error))
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (at.host, await at.hear("port")))
            await loop.sock_sendall(sock, b"question")
            sock.shutdown(socket.SHUT_WR)
            at.log(await outcome(loop.sock_sendall(sock, b"more")))
            got = b""
            while data := await loop.sock_recv(sock, 100):
                got += data
            at.log(got, await loop.sock_recv(sock, 100))

    return server, client


@alone("closing")
async def a_refusal_on_a_socket(at: Stage) -> None:
    """`sock_connect` raises the refusal; a socket in use or closed is told apart."""
    loop = asyncio.get_running_loop()
    with socket.socket() as bound, socket.socket() as sock:
        bound.bind((at.bind, 0))
        sock.setblocking(False)
        at.log(await outcome(loop.sock_connect(sock, (at.host, bound.getsockname()[1]))))
        at.log(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        bound.listen()
        try:
            bound.setblocking(False)
            bound.accept()
        except BlockingIOError as error:
            at.log(kind(error))
        with socket.socket() as other:
            other.setblocking(False)
            await loop.sock_connect(other, bound.getsockname())
            await outcome(loop.sock_connect(other, bound.getsockname()))  # the second time may be told how the first one ended
            at.log(await outcome(loop.sock_connect(other, bound.getsockname())))
            accepted_socket, address = await loop.sock_accept(bound)
            at.log(address == other.getsockname(), accepted_socket.getpeername() == other.getsockname())
            accepted_socket.close()
            at.log(await loop.sock_recv(other, 10), accepted_socket.fileno())
    at.log(await outcome(loop.sock_recv(sock, 1)))
