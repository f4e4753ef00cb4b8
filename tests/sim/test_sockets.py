"""`socket.socket` in a world: the methods, errors and options that programs know."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from typing import Any

import pytest

from holdfast.net import sockets as ours
from holdfast.net.options import ListenOptions, StreamOptions
from holdfast.sim import Escape, World
from tests.sim.stages import dialled, listening, play


def code(call: Any) -> int | None:
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def test_it_passes_for_a_socket_and_puts_none_in_the_real_system() -> None:
    real = socket.socket

    async def scenario(world: World) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert isinstance(made, real)
        assert isinstance(made, socket.socket)
        assert (made.family, made.type, made.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert made.gettimeout() is None
        made.setblocking(False)
        assert (made.gettimeout(), made.getblocking()) == (0.0, False)
        with pytest.raises(OSError):
            os.fstat(made.fileno())
        assert made.getsockname() == ("0.0.0.0", 0)
        made.close()
        assert made.fileno() == -1
        assert code(made.getsockname) == errno.EBADF
        made.close()

    play(scenario)
    assert socket.socket is real


def test_blocking_calls_say_what_to_use() -> None:
    async def scenario(world: World) -> None:
        listener = listening(7)
        blocking = socket.socket()
        with pytest.raises(Escape, match="use asyncio, or setblocking"):
            blocking.connect(("127.0.0.1", 7))
        listener.setblocking(True)
        with pytest.raises(Escape, match="use asyncio"):
            listener.accept()
        client = await dialled("127.0.0.1", 7)
        client.settimeout(5)
        with pytest.raises(Escape, match="use asyncio"):
            client.recv(1)
        with pytest.raises(Escape, match="descriptors of the real system"):
            socket.socket(fileno=0)
        with pytest.raises(Escape, match="on 127.0.0.1 within a host"):
            socket.socket(socket.AF_UNIX)
        with pytest.raises(Escape, match="use SOCK_STREAM or SOCK_DGRAM"):
            socket.socket(socket.AF_INET, socket.SOCK_RAW)
        with pytest.raises(Escape, match="TCP on 127.0.0.1"):
            socket.socketpair()
        for each in (listener, blocking, client):
            each.close()

    play(scenario)


def test_calls_at_the_wrong_time_give_the_errno_of_linux() -> None:
    async def scenario(world: World) -> None:
        fresh, listener = socket.socket(), listening(7)
        fresh.setblocking(False)
        assert code(lambda: fresh.send(b"x")) == errno.EPIPE
        assert code(lambda: fresh.recv(1)) == errno.ENOTCONN
        assert code(fresh.getpeername) == errno.ENOTCONN
        assert code(lambda: fresh.shutdown(socket.SHUT_WR)) == errno.ENOTCONN
        assert code(fresh.accept) == errno.EINVAL
        assert code(listener.accept) == errno.EAGAIN
        assert code(lambda: listener.bind(("0.0.0.0", 8))) == errno.EINVAL
        assert fresh.connect_ex(("127.0.0.1", 7)) == errno.EINPROGRESS
        assert fresh.connect_ex(("127.0.0.1", 7)) == errno.EALREADY
        await asyncio.sleep(0.1)
        assert fresh.connect_ex(("127.0.0.1", 7)) == errno.EISCONN
        assert code(lambda: fresh.recv(1)) == errno.EAGAIN
        assert code(lambda: fresh.connect(("fd00::1", 7))) == errno.EAFNOSUPPORT
        with pytest.raises(TypeError, match="expected a tuple of host and port"):
            fresh.connect("127.0.0.1")
        with pytest.raises(OverflowError):
            fresh.connect(("127.0.0.1", 70_000))
        with pytest.raises(TypeError):
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, "yes")  # type: ignore[call-overload]
        fresh.close()
        listener.close()

    play(scenario)


def test_accepted_sockets_have_the_options_of_the_listener() -> None:
    async def scenario(world: World) -> None:
        listener = socket.socket()
        listener.setblocking(False)
        ours.set_options(listener, StreamOptions(keepalive_idle_s=11, keepalive_interval_s=3, user_timeout_s=7.5))
        listener.bind(("0.0.0.0", 7))
        listener.listen(5)
        client = await dialled("127.0.0.1", 7)
        accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
        read = ours.read_options(accepted)
        assert (read["keepalive_idle_s"], read["keepalive_interval_s"], read["user_timeout_s"]) == (11, 3, 7.5)
        assert accepted._file.keepalive[:2] == (11.0, 3.0)  # type: ignore[attr-defined]
        for each in (listener, client, accepted):
            each.close()

    play(scenario)


def test_what_production_asks_a_socket_is_answered_as_linux_does() -> None:
    async def scenario(world: World) -> None:
        from holdfast.net.address import Address

        made = ours.listen_tcp(
            Address("tcp", "0.0.0.0", 0), ours.numeric("0.0.0.0", 0), ListenOptions(backlog=77, receive_buffer_bytes=5000)
        )
        read = ours.read_options(made[0])
        assert (read["backlog"], read["receive_buffer_bytes"], read["reuse_port"]) == (77, 10_000, False)
        assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert ours.unsent_bytes(made[0]) == 0
        made[0].close()
        assert ours.unsent_bytes(made[0]) == 0
        assert ours.descriptors_max() == 1024
        spare = ours.spare_descriptor()
        assert spare is not None
        os.close(spare)

    play(scenario)


def test_descriptors_run_out_and_come_back() -> None:
    async def scenario(world: World) -> None:
        async def main() -> int:
            opened: list[Any] = [socket.socket() for _ in range(10)]
            assert code(socket.socket) == errno.EMFILE
            assert code(lambda: os.open(os.devnull, os.O_RDONLY)) == errno.EMFILE
            opened.pop().close()
            spare = os.open(os.devnull, os.O_RDONLY)
            assert code(socket.socket) == errno.EMFILE
            os.close(spare)
            opened.append(socket.socket())
            assert code(lambda: os.close(1 << 20)) == errno.EBADF
            del opened[0]  # nobody holds it: it is closed
            opened.append(socket.socket())
            return len(opened)

        assert await world.host("a", descriptors=10).start(main) == 10

    play(scenario)


def test_a_connection_that_finds_no_descriptor_stays_in_the_queue() -> None:
    async def scenario(world: World) -> None:
        listener = listening(7)
        client = await dialled("127.0.0.1", 7)
        await asyncio.sleep(0.1)
        world.driver.limit_descriptors(2)
        assert code(listener.accept) == errno.EMFILE
        world.driver.limit_descriptors(3)
        accepted, _ = listener.accept()
        for each in (listener, client, accepted):
            each.close()

    play(scenario)


def test_reading_and_writing_in_all_their_forms() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        listener = listening(7)
        client = await dialled("127.0.0.1", 7)
        server, _ = await loop.sock_accept(listener)
        assert client.sendmsg([b"ab", b"cd"]) == 4
        client.sendall(memoryview(b"ef"))
        await asyncio.sleep(0.1)
        buffer = bytearray(3)
        assert server.recv_into(buffer) == 3
        assert server.recv_into(buffer, 1) == 1
        assert (bytes(buffer), server.recvfrom(10)) == (b"dbc", (b"ef", None))
        await loop.sock_sendall(server, b"answer")
        assert await loop.sock_recv_into(client, buffer) == 3
        assert await loop.sock_sendfile(client, io.BytesIO(b"x" * 10_000)) == 10_000
        for each in (listener, client, server):
            each.close()

    play(scenario)


def test_ipv6_shows_four_parts_and_maps_ipv4() -> None:
    async def scenario(world: World) -> None:
        both = socket.socket(socket.AF_INET6)
        both.setblocking(False)
        both.bind(("::", 7))
        both.listen()
        client = await dialled("127.0.0.1", 7)
        server, name = await asyncio.get_running_loop().sock_accept(both)
        assert name[0] == "::ffff:127.0.0.1"
        assert server.getsockname()[1:] == (7, 0, 0)
        client.close()
        server.close()
        six = socket.socket(socket.AF_INET6)
        six.setblocking(False)
        await asyncio.get_running_loop().sock_connect(six, ("::1", 7))
        assert six.getpeername() == ("::1", 7, 0, 0)
        six.close()
        both.close()

    play(scenario)


def test_outside_of_a_world_there_are_none() -> None:
    from holdfast.sim.sockets import SimSocket

    real = SimSocket()
    assert type(real) is socket.socket
    real.close()
