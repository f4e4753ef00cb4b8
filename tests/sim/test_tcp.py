"""TCP as programs see it: handshake, windows, ends of every kind."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim import World
from tests.sim.stages import CALM, dialled, kinds, listening, play, run

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
Ends = Callable[[World, socket.socket, socket.socket], Awaitable[Any]]


def between(ends: Ends, seed: int = 0, **options: Any) -> Any:
    """Play with both ends of a connection, on two hosts, from one process: the driver has one end, and its peer is itself."""

    async def scenario(world: World) -> Any:
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
        listener.close()
        result = await ends(world, ours, theirs)
        ours.close()
        theirs.close()
        return result

    return play(scenario, seed, **{"slice_chance": 0.0, **options})


async def outcome(end: socket.socket) -> Any:
    """What a read gives: bytes, or an errno."""
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 100), 5)
    except TimeoutError:
        return "nothing"
    except OSError as error:
        return error.errno


# ------------------------------------------------------------------------------------------------------------------- handshakes


def test_a_handshake_takes_a_round_trip_and_accepting_half_of_one_more() -> None:
    times: dict[str, float] = {}

    async def serve() -> None:
        with listening(7) as listener:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            times["accepted"] = asyncio.get_running_loop().time()
            connection.close()

    async def scenario(world: World) -> None:
        server = world.host("s").start(serve)
        await world.sleep(0.1)
        begun = world.now()
        client = await dialled("10.0.0.2", 7)
        times["connected"] = world.now()
        await server
        client.close()
        assert times["connected"] - begun == pytest.approx(0.02, abs=1e-3)
        assert times["accepted"] - begun == pytest.approx(0.03, abs=1e-3)

    play(scenario, **{**CALM, "latency_s": 0.01})


def test_a_port_nobody_listens_at_refuses() -> None:
    async def scenario(world: World) -> float:
        world.host("s")
        with pytest.raises(ConnectionRefusedError):
            await dialled("s", 7)
        return world.now()

    assert play(scenario) < 0.1


@pytest.mark.parametrize("where", ["192.0.2.1", "off"])
def test_an_address_that_does_not_answer_times_out_as_linux_does(where: str) -> None:
    async def scenario(world: World) -> float:
        world.host("off").power_loss()
        with pytest.raises(OSError) as raised:
            await dialled(where, 7)
        assert raised.value.errno == errno.ETIMEDOUT
        return world.now()

    assert play(scenario) == pytest.approx(127, abs=0.1)


def test_a_user_timeout_ends_a_connect_earlier() -> None:
    async def scenario(world: World) -> float:
        with pytest.raises(TimeoutError):
            await dialled("192.0.2.1", 7, TCP_USER_TIMEOUT=5000)
        return world.now()

    assert play(scenario) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(("open_at", "connected_at"), [(0.5, 1.0), (1.5, 3.0), (6.0, 7.0), (20.0, 31.0)])
def test_a_syn_that_is_lost_is_sent_again_when_linux_does(open_at: float, connected_at: float) -> None:
    async def serve() -> None:
        with listening(7):
            await asyncio.Event().wait()

    async def scenario(world: World) -> float:
        world.host("s").start(serve)
        await world.sleep(0.1)
        world.partition("driver", "s")
        begun = world.now()
        asyncio.get_running_loop().call_later(open_at, world.repair, "driver", "s")
        (await dialled("s", 7)).close()
        return world.now() - begun

    assert play(scenario, **CALM) == pytest.approx(connected_at, abs=0.05)


def test_a_full_backlog_drops_the_syn_and_room_lets_it_in_a_second_later() -> None:
    async def serve(accepts_at: float) -> None:
        with listening(7, backlog=1) as listener:
            await asyncio.sleep(accepts_at)
            for _ in range(3):
                (await asyncio.get_running_loop().sock_accept(listener))[0].close()

    async def scenario(world: World) -> list[float]:
        world.host("s").start(lambda: serve(0.6), name="serve")
        await world.sleep(0.1)
        begun = world.now()
        times = []

        async def connect() -> None:
            (await dialled("s", 7)).close()
            times.append(world.now() - begun)

        await asyncio.gather(connect(), connect(), connect())
        return times

    done: list[list[float]] = []

    async def kept(world: World) -> None:
        done.append(await scenario(world))

    whole = run(kept, **CALM)
    assert whole.failure is None
    assert [round(each) for each in done[0]] == [0, 0, 1], "backlog + 1 get in at once, as on Linux"
    assert len(kinds(whole, "backlog full")) == 1


def test_who_gives_up_connecting_leaves_nothing_behind() -> None:
    async def serve() -> list[Any]:
        with listening(7, backlog=1) as listener:
            loop = asyncio.get_running_loop()
            got = []
            for _ in range(3):
                connection, _ = await loop.sock_accept(listener)
                got.append(await outcome(connection))
                connection.close()
            return got

    async def scenario(world: World) -> Any:
        server = world.host("s").start(serve)
        await world.sleep(0.1)
        world.partition("s", "driver", one_way=True)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(dialled("s", 7), 0.5)
        world.repair("s", "driver")
        await world.sleep(5)
        for _ in range(3):
            client = await dialled("s", 7)
            client.close()
        return await server

    assert play(scenario, **CALM) == [b"", b"", b""]


def test_a_listener_that_closes_resets_who_waits() -> None:
    async def scenario(world: World) -> Any:
        listener = listening(7)
        client = await dialled("127.0.0.1", 7)
        await world.sleep(0.1)
        listener.close()
        result = await outcome(client)
        client.close()
        with pytest.raises(ConnectionRefusedError):
            await dialled("127.0.0.1", 7)
        listening(7).close()  # the port is free
        return result

    assert play(scenario) == errno.ECONNRESET


def test_what_was_written_before_the_accept_is_there_after_it() -> None:
    async def scenario(world: World) -> Any:
        loop = asyncio.get_running_loop()
        listener = listening(7)
        client = await dialled("127.0.0.1", 7)
        client.send(b"early")
        client.shutdown(socket.SHUT_WR)
        await world.sleep(1)
        server, name = await loop.sock_accept(listener)
        assert name == client.getsockname() == server.getpeername()
        assert server.getsockname() == client.getpeername() == ("127.0.0.1", 7)
        result = [await outcome(server), await outcome(server)]
        for each in (listener, client, server):
            each.close()
        return result

    assert play(scenario) == [b"early", b""]


# ----------------------------------------------------------------------------------------------------------------------- bytes


@given(st.integers(0, 10_000), st.lists(st.integers(1, 40_000), min_size=1, max_size=4), st.integers(100, 30_000), st.integers(1, 4))
def test_bytes_arrive_once_and_in_order(seed: int, sizes: list[int], read_size: int, slow: int) -> None:
    data = [(bytes(range(256)) * 160)[n : n + size] for n, size in enumerate(sizes)]

    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        async def write() -> None:
            for each in data:
                await loop.sock_sendall(ours, each)
            ours.shutdown(socket.SHUT_WR)

        writing = asyncio.ensure_future(write())
        got = bytearray()
        while piece := await loop.sock_recv(theirs, read_size):
            got += piece
            if len(got) % slow == 0:
                await asyncio.sleep(0.01)
        await writing
        assert got == b"".join(data)

    between(ends, seed, slice_chance=0.5, receive_buffer_bytes=20_000, send_buffer_bytes=10_000)


def test_a_peer_that_does_not_read_takes_both_buffers_and_no_more() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> tuple[int, int, int]:
        taken = 0
        for _ in range(50):
            try:
                taken += ours.send(b"x" * 65_536)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        import fcntl
        import sys
        import termios

        unsent = int.from_bytes(fcntl.ioctl(ours.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
        read = 0
        while read < taken:
            read += len(await asyncio.get_running_loop().sock_recv(theirs, 65_536))
        return taken, unsent, read

    taken, unsent, read = between(ends, receive_buffer_bytes=100_000, send_buffer_bytes=50_000)
    assert (taken, unsent, read) == (150_000, 50_000, 150_000)


def test_segments_are_cut_when_the_world_wants_it() -> None:
    def pieces(chance: float) -> int:
        async def scenario(world: World) -> None:
            listener = listening(7)
            ours = await dialled("127.0.0.1", 7)
            for _ in range(100):
                ours.send(b"x" * 100)
            await asyncio.sleep(0.1)
            ours.close()
            listener.close()

        done = run(scenario, slice_chance=chance)
        sizes = [detail[1] for _, _, _, detail in kinds(done, "data")]
        assert sum(sizes) == 10_000
        return len(sizes)

    assert pieces(0.0) == 100
    assert 150 < pieces(0.5) < 400


def test_a_send_larger_than_a_segment_goes_in_several() -> None:
    async def scenario(world: World) -> None:
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        await asyncio.get_running_loop().sock_sendall(ours, b"x" * 100_000)
        await asyncio.sleep(0.1)
        ours.close()
        listener.close()

    sizes = [detail[1] for _, _, _, detail in kinds(run(scenario, slice_chance=0.0), "send")]
    assert sizes == [65_536, 34_464]


# ------------------------------------------------------------------------------------------------------------------------ ends


def test_half_closed_is_half_open() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> list[Any]:
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")
        first = await outcome(theirs)
        theirs.send(b"answer")
        return [first, await outcome(ours), await outcome(theirs)]

    assert between(ends) == [b"", b"answer", b""]


def test_shutting_down_both_ways_reads_nothing_more() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> list[Any]:
        ours.shutdown(socket.SHUT_RDWR)
        return [await outcome(ours), await outcome(theirs)]

    assert between(ends) == [b"", b""]


def test_an_orderly_close_lets_the_peer_read_everything_then_the_end() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> list[Any]:
        ours.send(b"last words")
        ours.close()
        await asyncio.sleep(0.1)
        return [await outcome(theirs), await outcome(theirs), await outcome(theirs)]

    assert between(ends) == [b"last words", b"", b""]


def test_what_waits_in_the_send_buffer_is_sent_after_the_close() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> int:
        for _ in range(10):
            try:
                ours.send(b"x" * 5_000)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        ours.close()
        await asyncio.sleep(0.1)
        got = 0
        while piece := await asyncio.get_running_loop().sock_recv(theirs, 1000):
            got += len(piece)
        return got

    assert between(ends, receive_buffer_bytes=3_000, send_buffer_bytes=20_000) == 23_000


@pytest.mark.parametrize(
    ("how", "then"),
    [
        ("unread data", errno.ECONNRESET),
        ("linger 0", errno.ECONNRESET),
        ("written to after the close", errno.EPIPE),
    ],
)
def test_when_a_close_is_a_reset(how: str, then: int) -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> Any:
        if how == "unread data":
            theirs.send(b"nobody reads this")
            await asyncio.sleep(0.1)
        elif how == "linger 0":
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        ours.close()
        await asyncio.sleep(0.1)
        if how.startswith("written"):
            assert await outcome(theirs) == b""
            theirs.send(b"nobody reads this")
            await asyncio.sleep(0.1)
        first = await outcome(theirs)
        second = await outcome(theirs)
        assert second == b"", "an error is told once"
        with pytest.raises(BrokenPipeError):
            theirs.send(b"x")
        return first

    assert between(ends) == then


def test_an_error_is_told_to_whoever_asks_first_and_then_it_is_a_broken_pipe() -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> list[Any]:
        world.reset("driver", "driver")
        found: list[Any] = []
        for _ in range(2):
            try:
                ours.send(b"x")
            except OSError as error:
                found.append(error.errno)
        found.append(theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        found.append(theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        with pytest.raises(OSError) as raised:
            ours.getpeername()
        found.append(raised.value.errno)
        with pytest.raises(OSError) as raised:
            ours.shutdown(socket.SHUT_WR)
        found.append(raised.value.errno)
        return found

    assert between(ends) == [errno.ECONNRESET, errno.EPIPE, errno.ECONNRESET, 0, errno.ENOTCONN, errno.ENOTCONN]


@pytest.mark.parametrize(("discards", "then"), [(False, [b"before", errno.ECONNRESET]), (True, [errno.ECONNRESET, b""])])
def test_a_reset_leaves_what_had_come_before_as_on_linux_or_takes_it(discards: bool, then: list[Any]) -> None:
    async def ends(world: World, ours: socket.socket, theirs: socket.socket) -> list[Any]:
        ours.send(b"before")
        await asyncio.sleep(0.1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        ours.close()
        await asyncio.sleep(0.1)
        return [await outcome(theirs), await outcome(theirs)]

    assert between(ends, reset_discards_unread=discards) == then


def test_a_connection_of_before_the_power_loss_is_reset_by_the_new_kernel() -> None:
    async def serve() -> None:
        with listening(7) as listener:
            kept = []
            while True:
                kept.append(await asyncio.get_running_loop().sock_accept(listener))

    async def scenario(world: World) -> list[Any]:
        server = world.host("s")
        server.start(serve)
        await world.sleep(0.1)
        client = await dialled("s", 7)
        await world.sleep(0.1)
        server.power_loss()
        await world.sleep(1)
        server.restart()
        await world.sleep(0.1)
        found = [await outcome(client)]  # nobody told it
        client.send(b"are you there?")
        found.append(await outcome(client))
        client.close()
        return found

    assert play(scenario) == ["nothing", errno.ECONNRESET]


def test_what_was_sent_into_a_machine_that_is_off_is_answered_with_a_reset_when_it_is_on() -> None:
    async def serve() -> None:
        with listening(7) as listener:
            kept = []
            while True:
                kept.append(await asyncio.get_running_loop().sock_accept(listener))

    async def scenario(world: World) -> Any:
        server = world.host("s")
        server.start(serve)
        await world.sleep(0.1)
        client = await dialled("s", 7)
        await world.sleep(0.1)
        server.power_loss()
        client.send(b"are you there?")
        await world.sleep(1)
        assert await asyncio.wait_for(outcome(client), 10) == "nothing"
        server.restart()
        result = await outcome(client)
        client.close()
        return result

    assert play(scenario) == errno.ECONNRESET


def test_bytes_of_both_ends_are_counted_and_given_back() -> None:
    async def scenario(world: World) -> list[int]:
        kernel = world.driver.kernel
        loop = asyncio.get_running_loop()
        found = [kernel.buffered]
        listener = listening(7)
        ours = await dialled("127.0.0.1", 7)
        theirs, _ = await loop.sock_accept(listener)
        ours.send(b"x" * 1000)
        await asyncio.sleep(0.1)
        found.append(kernel.buffered)
        await loop.sock_recv(theirs, 400)
        found.append(kernel.buffered)
        theirs.close()
        await asyncio.sleep(0.1)
        found.append(kernel.buffered)
        ours.close()
        listener.close()
        await asyncio.sleep(0.1)
        assert not kernel.connections
        return found

    assert play(scenario, slice_chance=0.0) == [0, 1000, 600, 0]


def test_a_kernel_without_memory_gives_no_window_and_gives_it_again_later() -> None:
    async def scenario(world: World) -> int:
        loop = asyncio.get_running_loop()
        listener = listening(7)
        first, second = [await dialled("127.0.0.1", 7) for _ in range(2)]
        third, fourth = [(await loop.sock_accept(listener))[0] for _ in range(2)]
        world.driver.limit_memory(50_000)
        first.send(b"x" * 50_000)
        await asyncio.sleep(0.1)
        second.send(b"y" * 30_000)  # the last window it knew of
        second.send(b"z" * 30_000)
        await asyncio.sleep(1)
        assert world.driver.kernel.buffered <= 50_000 + 60_000
        got = 0
        while got < 50_000:
            got += len(await loop.sock_recv(third, 65_536))
        got = 0
        while got < 60_000:
            got += len(await loop.sock_recv(fourth, 65_536))
        for each in (listener, first, second, third, fourth):
            each.close()
        return got

    assert play(scenario) == 60_000
