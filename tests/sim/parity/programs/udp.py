"""Programs on datagrams: boundaries are kept, refusals are reported where the kernel promises it, and errors do not end an endpoint."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from tests.sim.parity.stage import Half, Stage, alone, kind, outcome, pair

Address = tuple[Any, ...]


class Post(asyncio.DatagramProtocol):
    """An endpoint that keeps what comes, and wakes whoever waits for it."""

    def __init__(self) -> None:
        self.facts: list[Any] = []
        self.senders: list[Address] = []
        self._came = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # before 3.12 it does not say that it is one
        self.facts.append("made")

    def datagram_received(self, data: bytes, address: Address) -> None:
        self.senders.append(address)
        self._add(bytes(data))

    def error_received(self, error: Exception) -> None:
        self._add(("error", kind(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self._add(("lost", kind(error)))

    def _add(self, fact: Any) -> None:
        self.facts.append(fact)
        self._came.set()

    async def until(self, count: int) -> Any:
        """Until there are `count` facts after `made`; the last of them."""
        while len(self.facts) <= count:
            self._came.clear()
            await self._came.wait()
        return self.facts[count]

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])


async def post(factory: Any = Post, **how: Any) -> Any:
    return (await asyncio.get_running_loop().create_datagram_endpoint(factory, **how))[1]


@pair("udp")
def boundaries_are_kept() -> tuple[Half, Half]:
    """One `sendto`, one `datagram_received`, up to the largest there is; an echo goes to where it came from."""

    async def server(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        at.tell("port", end.port)
        for number in range(1, 6):
            await end.until(number)
            end.transport.sendto(end.facts[number] + b"!", end.senders[-1])
        at.log([len(fact) for fact in end.facts[1:]], {sender[1] for sender in end.senders} == {await at.hear("client port")})
        end.transport.close()
        at.log(end.transport.is_closing(), await end.until(6))

    async def client(at: Stage) -> None:
        end = await post(remote_addr=(at.host, await at.hear("port")))
        at.tell("client port", end.port)
        for number, size in enumerate((1, 2, 1400, 9000, 65506), 1):
            end.transport.sendto(b"x" * size)
            at.log(len(await end.until(number)))
        at.log(end.transport.get_extra_info("peername")[1] == await at.hear("port"), end.transport.get_write_buffer_size())
        end.transport.abort()
        at.log(await end.until(6))

    return server, client


@pair("udp")
def an_empty_datagram() -> tuple[Half, Half]:
    """Whether `sendto(b"")` sends anything depends on the Python; where it does, it comes as an empty datagram."""

    async def server(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        at.tell("port", end.port)
        await at.hear("sent")
        await at.quiet()
        at.log(*end.facts)
        end.transport.close()
        await end.until(len(end.facts))

    async def client(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        end.transport.sendto(b"", (at.host, await at.hear("port")))
        at.tell("sent")
        end.transport.close()
        await end.until(1)
        at.log(*end.facts)

    return server, client


@pair("udp")
def a_refusal_reaches_a_connected_endpoint() -> tuple[Half, Half]:
    """Nobody at that port: a connected endpoint is told, once a datagram, and goes on; an unconnected one hears nothing."""

    async def server(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        port = end.port
        end.transport.close()
        await end.until(1)
        at.tell("port", port)
        await at.hear("refused")
        end = await post(local_addr=(at.bind, port))
        at.tell("there")
        at.log(await end.until(1))
        end.transport.close()
        await end.until(2)

    async def client(at: Stage) -> None:
        port = await at.hear("port")
        connected, free = await post(remote_addr=(at.host, port)), await post(local_addr=(at.bind, 0))
        free.transport.sendto(b"anybody?", (at.host, port))
        for number in (1, 2):
            connected.transport.sendto(b"anybody?")
            at.log(await connected.until(number), connected.transport.is_closing())
        await at.quiet()
        at.log(free.facts, connected.facts)
        at.tell("refused")
        await at.hear("there")
        connected.transport.sendto(b"found you")
        connected.transport.close()
        free.transport.close()
        at.log(await connected.until(3), await free.until(1))

    return server, client


@pair("udp")
def a_connected_endpoint_hears_its_peer_alone() -> tuple[Half, Half]:
    """The kernel drops what others send to a connected endpoint; sending elsewhere from it is refused."""

    async def server(at: Stage) -> None:
        peer, stranger = await post(local_addr=(at.bind, 0)), await post(local_addr=(at.bind, 0))
        at.tell("port", peer.port)
        await peer.until(1)
        client = peer.senders[0]
        stranger.transport.sendto(b"from a stranger", client)
        at.tell("sent")
        await at.hear("looked")
        peer.transport.sendto(b"from the peer", client)
        peer.transport.close()
        stranger.transport.close()
        at.log(await peer.until(2), await stranger.until(1))

    async def client(at: Stage) -> None:
        end = await post(remote_addr=(at.host, await at.hear("port")))
        try:
            end.transport.sendto(b"x", (at.host, 9))
        except ValueError as error:
            at.log(str(error).split(":")[0])
        end.transport.sendto(b"here I am", None)
        await at.hear("sent")
        await at.quiet()
        at.log(list(end.facts))
        at.tell("looked")
        at.log(await end.until(1))
        end.transport.close()
        at.log(await end.until(2))

    return server, client


@pair("udp")
def more_than_a_datagram_can_hold() -> tuple[Half, Half]:
    """Too long is an error of the send, given to `error_received`; the endpoint goes on."""

    async def server(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        at.tell("port", end.port)
        at.log(len(await end.until(1)))
        end.transport.close()
        await end.until(2)

    async def client(at: Stage) -> None:
        end = await post(remote_addr=(at.host, await at.hear("port")))
        end.transport.sendto(b"x" * 65508)
        at.log(await end.until(1), end.transport.is_closing())
        end.transport.sendto(b"x" * 65507)
        try:
            end.transport.sendto("text")
        except TypeError as error:
            at.log(str(error))
        end.transport.close()
        at.log(await end.until(2))

    return server, client


@pair("udp")
def a_datagram_callback_that_raises() -> tuple[Half, Half]:
    """The loop is told, the endpoint lives: unlike a stream transport, which ends."""

    class Broken(Post):
        def datagram_received(self, data: bytes, address: Address) -> None:
            super().datagram_received(data, address)
            if data == b"bad":
                raise ArithmeticError("bad datagram")

    async def server(at: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: at.log("loop error", kind(context["exception"])))
        end = await post(Broken, local_addr=(at.bind, 0))
        at.tell("port", end.port)
        await end.until(1)
        at.tell("first came")
        at.log(await end.until(2), end.transport.is_closing())
        end.transport.close()
        await end.until(3)

    async def client(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        to = (at.host, await at.hear("port"))
        end.transport.sendto(b"bad", to)
        await at.hear("first came")
        end.transport.sendto(b"good", to)
        end.transport.close()
        at.log(await end.until(1))

    return server, client


@alone("udp")
async def one_port_one_endpoint(at: Stage) -> None:
    """A port that is taken is refused, with the error of the kernel, until it is free; TCP's ports are others."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, at.bind, 0)
    first = await post(local_addr=(at.bind, server.sockets[0].getsockname()[1]))
    server.close()
    await server.wait_closed()
    at.log(await outcome(post(local_addr=(at.bind, first.port))))
    first.transport.close()
    first.facts.append("closed")
    await first.until(2)
    at.log(*first.facts)
    second = await post(local_addr=(at.bind, first.port))
    at.log(second.port == first.port)
    second.transport.close()
    await second.until(1)


@alone("udp")
async def endpoints_that_cannot_be(at: Stage) -> None:
    """Wrong arguments are told apart before any socket is made."""
    loop = asyncio.get_running_loop()
    at.log(await outcome(loop.create_datagram_endpoint(Post)))
    at.log(await outcome(loop.create_datagram_endpoint(Post, local_addr=cast(Any, ("127.0.0.1",)))))
    at.log(await outcome(loop.create_datagram_endpoint(Post, local_addr=("192.0.2.77", 0))))


@pair("udp")
def many_senders() -> tuple[Half, Half]:
    """Every sender is told apart by its address, and gets its own answer back."""

    async def server(at: Stage) -> None:
        end = await post(local_addr=(at.bind, 0))
        at.tell("port", end.port)
        for number in range(1, 11):
            word = await end.until(number)
            end.transport.sendto(b"to " + word, end.senders[number - 1])
        at.log(sorted(end.facts[1:]), len(set(end.senders)))
        end.transport.close()
        await end.until(11)

    async def client(at: Stage) -> None:
        ends = [await post(remote_addr=(at.host, await at.hear("port"))) for _ in range(10)]
        for number, end in enumerate(ends):
            end.transport.sendto(b"%d" % number)
        for end in ends:
            at.log(await end.until(1))
            end.transport.close()
            await end.until(2)

    return server, client


@pair("udp")
def a_datagram_cut_by_its_reader() -> tuple[Half, Half]:
    """`sock_recvfrom` with too small a size gets the beginning; the rest of that datagram is gone, and the next one is whole."""

    async def server(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((at.bind, 0))
            at.tell("port", sock.getsockname()[1])
            data, address = await loop.sock_recvfrom(sock, 4)
            at.log(data, address[1] == await at.hear("client port"))
            await loop.sock_sendto(sock, b"next", address)
            buffer = bytearray(6)
            count, _ = await loop.sock_recvfrom_into(sock, buffer)
            at.log(count, bytes(buffer))
            try:
                sock.recvfrom(10)
            except BlockingIOError as error:
                at.log(kind(error))

    async def client(at: Stage) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((at.bind, 0))
            at.tell("client port", sock.getsockname()[1])
            at.log(await loop.sock_sendto(sock, b"too long", (at.host, await at.hear("port"))))
            at.log((await loop.sock_recvfrom(sock, 100))[0])
            at.log(await loop.sock_sendto(sock, b"whole", (at.host, await at.hear("port"))))

    return server, client
