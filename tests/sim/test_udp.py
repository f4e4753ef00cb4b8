"""Datagrams: whole, or not at all."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from holdfast.sim import World
from tests.sim.stages import CALM, play


def opened(port: int = 0, ip: str = "0.0.0.0", to: tuple[str, int] | None = None) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    if to is not None:
        made.connect(to)
    else:
        made.bind((ip, port))
    return made


async def got(sock: socket.socket) -> Any:
    try:
        async with asyncio.timeout(1):
            return await asyncio.get_running_loop().sock_recvfrom(sock, 65_536)
    except TimeoutError:
        return "nothing"


def test_a_datagram_arrives_whole_with_its_sender() -> None:
    async def scenario(world: World) -> None:
        server, client = opened(9), opened()
        client.sendto(b"ping", ("127.0.0.1", 9))
        client.sendto(b"", ("127.0.0.1", 9))
        data, name = await got(server)
        assert (data, name) == (b"ping", ("127.0.0.1", client.getsockname()[1]))
        assert (await got(server))[0] == b""
        server.sendto(b"x" * 65_507, name)
        await asyncio.sleep(0.1)
        assert client.recv(10) == b"x" * 10
        assert await got(client) == "nothing", "the rest of a datagram that was read in part is gone"
        with pytest.raises(OSError) as raised:
            server.sendto(b"x" * 65_508, name)
        assert raised.value.errno == errno.EMSGSIZE
        server.close()
        client.close()

    play(scenario, **CALM)


def test_a_connected_one_hears_only_its_peer_and_that_nobody_is_there() -> None:
    async def scenario(world: World) -> None:
        server, stranger = opened(9), opened()
        client = opened(to=("127.0.0.1", 9))
        assert client.getpeername() == ("127.0.0.1", 9)
        stranger.sendto(b"psst", client.getsockname())
        client.send(b"ping")
        _, name = await got(server)
        server.sendto(b"pong", name)
        assert (await got(client))[0] == b"pong"
        assert await got(client) == "nothing"
        server.close()
        client.send(b"ping")
        with pytest.raises(ConnectionRefusedError):
            await got(client)
        client.send(b"again")  # it is told once
        stranger.sendto(b"ping", ("127.0.0.1", 9))
        assert await got(stranger) == "nothing", "who is not connected is not told"
        client.close()
        stranger.close()

    play(scenario)


def test_a_full_queue_drops_and_counts() -> None:
    async def scenario(world: World) -> None:
        server, client = opened(9), opened()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
        for _ in range(15):
            client.sendto(b"x" * 100, ("127.0.0.1", 9))
        await asyncio.sleep(0.1)
        drops = int.from_bytes(server.getsockopt(socket.SOL_SOCKET, 55, 36)[-4:], "little")
        assert drops == 5
        received = 0
        while await got(server) != "nothing":
            received += 1
        assert received == 10
        assert world.driver.kernel.buffered == 0
        client.sendto(b"x" * 100, ("127.0.0.1", 9))
        await asyncio.sleep(0.1)
        assert world.driver.kernel.buffered == 100
        server.close()
        client.close()
        assert world.driver.kernel.buffered == 0
        opened(9).close()

    play(scenario)


def test_names_families_and_hosts_that_are_not_there() -> None:
    async def scenario(world: World) -> None:
        world.host("s")

        async def serve() -> Any:
            with opened(9, "::") as sock:
                return await got(sock)

        server = world.host("s").start(serve)
        await world.sleep(0.1)
        client = opened(ip="::")
        client.sendto(b"x", ("s", 9))
        assert (await server)[0] == b"x"
        client.sendto(b"x", ("fd00::ffff", 9))
        with pytest.raises(socket.gaierror):
            client.sendto(b"x", ("nobody", 9))
        unconnected = opened()
        with pytest.raises(OSError) as raised:
            unconnected.send(b"x")
        assert raised.value.errno == errno.EDESTADDRREQ
        client.close()
        unconnected.close()

    play(scenario)


def test_a_machine_without_memory_takes_no_datagrams() -> None:
    async def scenario(world: World) -> None:
        server, client = opened(9), opened()
        world.driver.limit_memory(150)
        for _ in range(3):
            client.sendto(b"x" * 100, ("127.0.0.1", 9))
        await asyncio.sleep(0.1)
        assert (await got(server))[0] == b"x" * 100
        assert await got(server) == "nothing"
        server.close()
        client.close()

    play(scenario)


def test_asyncio_has_its_endpoints_over_them() -> None:
    async def scenario(world: World) -> list[Any]:
        heard: list[Any] = []

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data.upper(), addr)

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                heard.append(data)

            def error_received(self, exc: Exception) -> None:
                heard.append(type(exc))

        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 9))
        client, _ = await loop.create_datagram_endpoint(Client, remote_addr=("localhost", 9))
        client.sendto(b"hello")
        await asyncio.sleep(0.1)
        server.close()
        await asyncio.sleep(0.1)
        client.sendto(b"hello")
        await asyncio.sleep(0.1)
        client.close()
        return heard

    assert play(scenario) == [b"HELLO", ConnectionRefusedError]
