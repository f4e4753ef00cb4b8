"""UDP endpoints on real sockets: what is beyond a bound is dropped and counted, and nothing ends an endpoint but its owner."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from holdfast.context import Peer
from holdfast.control.wheel import Wheel
from holdfast.errors import ConfigError, Unavailable
from holdfast.facts import DatagramsDropped, Fact, ProtocolFailed, discard
from holdfast.net.address import Address, parse_address
from holdfast.net.link import DatagramEndpoint, DatagramOptions
from holdfast.net.memory import MemoryNetwork
from holdfast.net.network import KernelNetwork
from holdfast.net.resolver import Resolver
from holdfast.net.sockets import Target
from holdfast.net.udp import UdpEndpoint
from tests.net.handtime import HandTime
from tests.net.helpers import PATIENCE_S, open_sockets, turns_until


def has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1; turn IPv6 on for loopback")
FAMILIES = [pytest.param("127.0.0.1", id="ipv4"), pytest.param("[::1]", id="ipv6", marks=ipv6)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what its kernel dropped, and has all of 127/8; run it there")


class Notes(asyncio.DatagramProtocol):
    """Writes down every call; `until` looks again after each."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.got: list[bytes] = []
        self.sources: list[Any] = []
        self.errors: list[Exception] = []
        self.lost_with: list[Exception | None] = []
        self.transport: Any = None
        self._waiters: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)
        self.sources.append(addr)
        self._note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self._note("error_received")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_with.append(exc)
        self._note("connection_lost")

    async def until(self, state: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not state():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [call]:  # a run is one entry
            self.calls.append(call)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Echo(Notes):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)
        super().datagram_received(data, addr)


class Here:
    """A network, and what was opened there."""

    def __init__(self, resolver: Resolver | None) -> None:
        loop = asyncio.get_running_loop()
        self.wheel = Wheel(loop.time, loop.call_at)
        self.network = KernelNetwork(lambda coroutine: coroutine.close(), self.wheel, send_stall_s=0.01, resolver=resolver)
        self.facts: list[Fact] = []
        self.opened: list[tuple[DatagramEndpoint, Notes]] = []

    async def open(
        self, at: str | Address, make: Callable[[], Notes] = Notes, *, connect: bool = False, **options: Any
    ) -> tuple[DatagramEndpoint, Notes]:
        address = parse_address(at) if isinstance(at, str) else at
        endpoint = await self.network.datagrams(address, make, DatagramOptions(**options), self.facts.append, connect=connect)
        assert isinstance(endpoint.protocol, Notes)
        self.opened.append((endpoint, endpoint.protocol))
        return self.opened[-1]

    def over(self, sock: socket.socket, protocol: Notes, **options: Any) -> UdpEndpoint:
        """An endpoint over a socket of the test's own making."""
        sock.setblocking(False)
        endpoint = UdpEndpoint(
            sock,
            Address("udp", *sock.getsockname()[:2]),
            lambda: protocol,
            DatagramOptions(**options),
            self.facts.append,
            connected=False,
            loop=asyncio.get_running_loop(),
            wheel=self.wheel,
            close_s=0.01,
        )
        self.opened.append((endpoint, protocol))
        return endpoint

    def dropped(self) -> list[tuple[str, int]]:
        return [(fact.reason, fact.count) for fact in self.facts if isinstance(fact, DatagramsDropped)]


@asynccontextmanager
async def here(resolver: Resolver | None = None) -> AsyncIterator[Here]:
    """At the end every endpoint is closed, must say so exactly once and last, and leave neither socket nor timer."""
    before = open_sockets()
    place = Here(resolver)
    try:
        yield place
    finally:
        for endpoint, protocol in place.opened:
            endpoint.close()
            await protocol.until(lambda protocol=protocol: protocol.lost_with)  # type: ignore[misc]
            assert protocol.lost_with == [None]
            await endpoint.closed
            assert (protocol.calls[0], protocol.calls[-1]) == ("connection_made", "connection_lost")
        assert len(place.wheel) == 0
        assert open_sockets() == before


@contextmanager
def plain(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A socket of the system, blocking and bounded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as made:
        made.settimeout(PATIENCE_S)
        made.bind((host.strip("[]"), port))
        yield made


def name(endpoint: DatagramEndpoint) -> tuple[str, int]:
    return endpoint.address.host, endpoint.address.port


# ------------------------------------------------------------------------------------------------------------------ the way


@pytest.mark.both_loops
@pytest.mark.parametrize("host", FAMILIES)
async def test_a_datagram_goes_there_and_back(host: str) -> None:
    async with here() as place:
        server, echo = await place.open(f"udp://{host}:0", Echo)
        assert server.address.port
        client, notes = await place.open(server.address, connect=True)
        for data in (b"one", b"", b"x" * 60_000):
            client.transport.sendto(data)
            await notes.until(lambda data=data: data in notes.got)  # type: ignore[misc]
        assert notes.got == echo.got == [b"one", b"", b"x" * 60_000]
        assert echo.sources[0][:2] == client.transport.get_extra_info("sockname")[:2]
        assert notes.sources[0][:2] == name(server)
        assert (server.stats().received, server.stats().received_bytes) == (3, 60_003)
        assert (server.stats().sent, server.stats().sent_bytes, server.stats().sources) == (3, 60_003, 1)
        assert not any(server.stats().dropped.values())


@pytest.mark.both_loops
async def test_a_name_is_looked_up() -> None:
    async with here() as place:
        server, echo = await place.open("udp://localhost:0", Echo)
        client, notes = await place.open(server.address, connect=True)
        client.transport.sendto(b"by name")
        await notes.until(lambda: notes.got)
        assert echo.got == [b"by name"]


@pytest.mark.both_loops
async def test_what_a_protocol_may_ask_of_its_transport() -> None:
    async with here() as place:
        server, echo = await place.open("udp://127.0.0.1:0")
        client, _ = await place.open(server.address, connect=True)
        ask = client.transport.get_extra_info
        assert ask("peername") == name(server)
        assert ask("holdfast.peer") == Peer(str(server.address))
        assert (ask("socket"), ask("socket", 7)) == (None, 7)
        assert server.transport.get_extra_info("sockname") == name(server)
        assert (server.transport.get_extra_info("peername"), server.transport.get_extra_info("holdfast.peer")) == (None, None)
        assert ask("holdfast.stats") == client.stats()
        assert server.transport.get_protocol() is echo
        assert not server.transport.is_closing()


@pytest.mark.both_loops
async def test_another_protocol_can_take_over() -> None:
    async with here() as place:
        server, first = await place.open("udp://127.0.0.1:0")
        second = Notes()
        server.transport.set_protocol(second)
        with plain() as peer:
            peer.sendto(b"for the second", name(server))
            await second.until(lambda: second.got)
        assert first.got == []
        with pytest.raises(TypeError, match="expected an asyncio.DatagramProtocol, got Protocol"):
            server.transport.set_protocol(asyncio.Protocol())
        server.transport.set_protocol(first)


# ----------------------------------------------------------------------------------------------------------------- receiving


@pytest.mark.both_loops
async def test_one_turn_takes_a_bounded_number() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", datagrams_per_turn=10)
        with plain() as peer:
            for _ in range(35):
                peer.sendto(b"x", name(server))
        seen = [0]
        while seen[-1] < 35:
            await asyncio.sleep(0)
            seen.append(len(notes.got))
        steps = [later - earlier for earlier, later in pairwise(seen)]
        assert max(steps) == 10, "others have their turn after each ten"


@linux
@pytest.mark.both_loops
async def test_what_the_kernel_drops_is_counted_to_the_last() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", receive_buffer_bytes=8192)
        assert server.stats().receive_buffer_bytes == 2 * 8192
        with plain() as peer:
            for _ in range(500):  # the loop does not turn meanwhile
                peer.sendto(b"x" * 100, name(server))
        lost = server.stats().dropped["kernel"]
        assert 0 < lost < 500
        await notes.until(lambda: len(notes.got) == 500 - lost)
        assert (server.stats().received, server.stats().dropped["kernel"]) == (500 - lost, lost)
        assert place.dropped() == [("kernel", lost)]


@linux
async def test_what_the_kernel_drops_is_told_without_being_asked() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", receive_buffer_bytes=8192)
        with plain() as peer:
            for _ in range(500):
                peer.sendto(b"x" * 100, name(server))
        await notes.until(lambda: notes.got)
        assert place.dropped() == []
        server.close()
        await notes.until(lambda: notes.lost_with)
        assert [reason for reason, _ in place.dropped()] == ["kernel"]


@linux
@pytest.mark.both_loops
async def test_the_kernel_is_asked_a_second_after_something_came() -> None:
    time, notes, told = HandTime(), Notes(), list[Fact]()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.bind(("127.0.0.1", 0))
    server = UdpEndpoint(
        *(sock, Address("udp", *sock.getsockname()), lambda: notes, DatagramOptions(), told.append),
        connected=False,
        loop=asyncio.get_running_loop(),
        wheel=time.wheel,
        close_s=1.0,
    )
    with plain() as peer:
        for _ in range(500):
            peer.sendto(b"x" * 100, name(server))
    await notes.until(lambda: notes.got)
    assert told == []
    time.move_to(102.0)
    [fact] = told
    assert isinstance(fact, DatagramsDropped)
    assert (fact.address, fact.reason, fact.count) == (str(server.address), "kernel", server.stats().dropped["kernel"])
    server.close()
    await notes.until(lambda: notes.lost_with)
    assert len(time.wheel) == 0


@pytest.mark.both_loops
async def test_a_datagram_that_is_too_large_is_dropped_and_never_cut() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", datagram_max_bytes=100)
        with plain() as peer:
            for size in (101, 5000, 100):
                peer.sendto(b"x" * size, name(server))
            await notes.until(lambda: notes.got)
        assert notes.got == [b"x" * 100]
        assert server.stats().dropped["too_large"] == 2


@linux
@pytest.mark.both_loops
async def test_each_source_has_its_own_limit() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", source_rate_per_s=0.001, source_burst=3)
        with plain("127.0.0.2") as loud, plain("127.0.0.3") as quiet:
            for _ in range(50):
                loud.sendto(b"loud", name(server))
            quiet.sendto(b"quiet", name(server))
            await notes.until(lambda: b"quiet" in notes.got)
        assert notes.got == [b"loud"] * 3 + [b"quiet"]
        assert (server.stats().dropped["source_limit"], server.stats().sources) == (47, 2)


@pytest.mark.both_loops
async def test_a_protocol_that_raises_costs_one_datagram_and_a_fact_a_second() -> None:
    class Choosy(Notes):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data == b"bad":
                raise ValueError("no such metric")
            super().datagram_received(data, addr)

    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", Choosy)
        with plain() as peer:
            for data in (b"bad", b"bad", b"bad", b"good"):
                peer.sendto(data, name(server))
            await notes.until(lambda: notes.got == [b"good"])
        assert (server.stats().dropped["receiver_failed"], server.stats().protocol_failures, server.stats().received) == (3, 3, 4)
        [failed] = [fact for fact in place.facts if isinstance(fact, ProtocolFailed)]
        assert (failed.address, failed.callback, str(failed.error)) == (str(server.address), "datagram_received", "no such metric")
    assert place.dropped() == [("receiver_failed", 1), ("receiver_failed", 2)]


class Breaking(socket.socket):
    """A socket whose kernel fails as the test says, once per entry."""

    def __init__(self, *failures: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.failures = list(failures)
        self.full = False
        self.tries = 0

    def recvfrom(self, *arguments: Any) -> Any:
        self.tries += 1
        if self.failures:
            raise OSError(self.failures.pop(0), "broken for a test")
        return super().recvfrom(*arguments)

    def sendto(self, *arguments: Any) -> int:
        self.tries += 1
        if self.full:
            raise BlockingIOError(errno.EAGAIN, "full for a test")
        if self.failures:
            raise OSError(self.failures.pop(0), "broken for a test")
        return super().sendto(*arguments)


@pytest.mark.both_loops
async def test_reading_rests_after_an_unknown_error_and_goes_on() -> None:
    async with here() as place:
        sock, notes = Breaking(*[errno.ENOMEM] * 1000), Notes()
        server = place.over(sock, notes)
        with plain() as peer:
            peer.sendto(b"after all", name(server))
            await notes.until(lambda: notes.errors)
            for _ in range(20):
                await asyncio.sleep(0)
            assert sock.tries == 1, "it must not spin"
            sock.failures.clear()
            await notes.until(lambda: notes.got)
        assert notes.calls == ["connection_made", "error_received", "datagram_received"]
        assert [error.errno for error in notes.errors if isinstance(error, OSError)] == [errno.ENOMEM]


# ------------------------------------------------------------------------------------------------------------------- sending


@pytest.mark.both_loops
async def test_a_full_socket_queues_within_bounds_and_drops_the_rest() -> None:
    async with here() as place:
        sock, notes = Breaking(), Notes()
        server = place.over(sock, notes, send_queue_max=10, datagram_max_bytes=1000, send_queue_max_bytes=5000)
        with plain() as peer:
            sock.full = True
            for number in range(25):
                server.sendto(bytes([number]), peer.getsockname())
            assert (server.stats().queued, server.get_write_buffer_size()) == (10, 10)
            assert server.stats().dropped["send_full"] == 15
            assert notes.calls == ["connection_made", "pause_writing"]
            sock.full = False
            await notes.until(lambda: "resume_writing" in notes.calls)
            await turns_until(lambda: server.stats().queued == 0)
            assert [peer.recv(10) for _ in range(10)] == [bytes([number]) for number in range(10)]
        assert (notes.calls, server.stats().sent) == (["connection_made", "pause_writing", "resume_writing"], 10)
        assert place.dropped() == [("send_full", 1)]


@pytest.mark.both_loops
async def test_a_full_socket_bounds_bytes_too() -> None:
    async with here() as place:
        sock, notes = Breaking(), Notes()
        server = place.over(sock, notes, datagram_max_bytes=1000, send_queue_max_bytes=2500)
        sock.full = True
        with plain() as peer:
            for _ in range(4):
                server.sendto(bytearray(1000), peer.getsockname())
            assert (server.get_write_buffer_size(), server.stats().dropped["send_full"]) == (2000, 2)
            server.abort()
            await notes.until(lambda: notes.lost_with)


async def test_what_was_queued_is_a_copy() -> None:
    async with here() as place:
        sock, notes = Breaking(), Notes()
        server = place.over(sock, notes)
        sock.full = True
        with plain() as peer:
            data = bytearray(b"as it was")
            server.sendto(memoryview(data), peer.getsockname())
            data[:] = b"overwrite"
            sock.full = False
            await turns_until(lambda: server.stats().queued == 0)
            assert peer.recv(20) == b"as it was"


@pytest.mark.both_loops
async def test_a_datagram_the_kernel_refuses_is_told_and_counted() -> None:
    async with here() as place:
        sock, notes = Breaking(errno.ENOBUFS, errno.EPERM), Notes()
        server = place.over(sock, notes)
        with plain() as peer:
            for data in (b"one", b"two", b"three"):
                server.sendto(data, peer.getsockname())
            assert notes.errors == [], "never from inside sendto: it may send again"
            assert peer.recv(10) == b"three"
        await notes.until(lambda: len(notes.errors) == 2)
        assert (server.stats().dropped["send_failed"], server.stats().sent) == (2, 1)


@pytest.mark.both_loops
async def test_too_much_for_a_datagram_is_refused_in_words() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0")
        with plain() as peer:
            server.transport.sendto(bytes(65_508), peer.getsockname())
            server.transport.sendto(bytes(65_507), peer.getsockname())
            await notes.until(lambda: notes.errors)
            assert len(peer.recv(70_000)) == 65_507
        [error] = notes.errors
        assert isinstance(error, OSError)
        assert error.errno == errno.EMSGSIZE
        assert "has 65508 bytes, and at most 65507 are sent" in str(error)
        assert (server.stats().dropped["send_too_large"], server.stats().sent) == (1, 1)


@pytest.mark.both_loops
async def test_nobody_there_is_told_and_does_not_end_the_endpoint() -> None:
    async with here() as place:
        with plain() as gone:
            where = gone.getsockname()
        client, notes = await place.open(f"udp://127.0.0.1:{where[1]}", connect=True)
        client.transport.sendto(b"to nobody")
        await notes.until(lambda: notes.errors)
        assert isinstance(notes.errors[0], ConnectionRefusedError)
        with plain(port=where[1]) as came:
            client.transport.sendto(b"hello")
            data, peer = came.recvfrom(100)
            assert data == b"hello"
            came.sendto(b"welcome", peer)
            await notes.until(lambda: notes.got)
        assert notes.got == [b"welcome"]


@linux  # there the answer to the first datagram is here before the next is sent
@pytest.mark.both_loops
async def test_a_late_error_does_not_cost_the_datagram_at_hand() -> None:
    async with here() as place:
        with plain() as gone:
            where = gone.getsockname()
        client, notes = await place.open(f"udp://127.0.0.1:{where[1]}", connect=True)
        client.transport.sendto(b"to nobody")
        with plain(port=where[1]) as came:
            client.transport.sendto(b"at hand")  # its send(2) fails with what became of the first
            assert came.recv(100) == b"at hand"
        await notes.until(lambda: notes.errors)
        assert [type(error) for error in notes.errors] == [ConnectionRefusedError]
        assert (client.stats().sent, client.stats().dropped["send_failed"]) == (2, 0)


@pytest.mark.both_loops
async def test_addresses_that_cannot_be_sent_to_are_refused_at_once() -> None:
    async with here() as place:
        server, _ = await place.open("udp://127.0.0.1:0")
        refused: list[tuple[Any, str]] = [
            (None, "only a connected endpoint knows its peer"),
            (("localhost", 5000), "look a name up first"),
            (("::1", 5000), "expected an IPv4 address"),
            (("127.0.0.1\0", 5000), "expected an IPv4 address"),
            (("127.0.0.1", 0), "expected a port from 1 to 65535"),
            (("127.0.0.1", 70_000), "expected a port from 1 to 65535"),
            (("127.0.0.1",), r"as \(host, port\)"),
            ("127.0.0.1:5000", r"as \(host, port\)"),
        ]
        for address, why in refused:
            with pytest.raises(ValueError, match=why):
                server.transport.sendto(b"x", address)
        with pytest.raises(TypeError):
            server.transport.sendto("text", ("127.0.0.1", 5000))  # type: ignore[arg-type]
        client, _ = await place.open(server.address, connect=True)
        client.transport.sendto(b"x", name(server))
        with pytest.raises(ValueError, match=f"connected to '127.0.0.1' port {server.address.port}"):
            client.transport.sendto(b"x", ("127.0.0.1", 9))
        assert (server.stats().sent, client.stats().sent) == (0, 1)


@pytest.mark.both_loops
async def test_an_error_that_is_answered_by_sending_does_not_recurse() -> None:
    class Stubborn(Notes):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            if len(self.errors) < 50:
                self.transport.sendto(bytes(65_508), ("127.0.0.1", 9))

    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", Stubborn)
        server.transport.sendto(bytes(65_508), ("127.0.0.1", 9))
        await notes.until(lambda: len(notes.errors) == 50)


@pytest.mark.both_loops
async def test_callbacks_that_raise_are_facts_and_the_endpoint_lives() -> None:
    class Bad(Notes):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ValueError("from error_received")

        def pause_writing(self) -> None:
            super().pause_writing()
            raise ValueError("from pause_writing")

        def resume_writing(self) -> None:
            super().resume_writing()
            raise ValueError("from resume_writing")

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ValueError("from connection_lost")

    async with here() as place:
        sock, notes = Breaking(errno.EPERM), Bad()
        server = place.over(sock, notes, send_queue_max=2)
        with plain() as peer:
            server.sendto(b"refused", peer.getsockname())
            await notes.until(lambda: notes.errors)
            sock.full = True
            for _ in range(2):
                server.sendto(b"x", peer.getsockname())
            sock.full = False
            await notes.until(lambda: "resume_writing" in notes.calls)
        assert server.stats().protocol_failures == 3
    assert notes.calls == ["connection_made", "error_received", "pause_writing", "resume_writing", "connection_lost"]
    assert [fact.callback for fact in place.facts if isinstance(fact, ProtocolFailed)] == ["error_received"], "one a second"


# ------------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.both_loops
async def test_after_close_nothing_comes_and_the_port_is_free() -> None:
    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0")
        with plain() as peer:
            peer.sendto(b"too late", name(server))
            server.close()
            server.close()
            assert server.transport.is_closing()
            assert notes.lost_with == [], "from the loop, not from inside close"
            server.transport.sendto(b"x", peer.getsockname())
            await notes.until(lambda: notes.lost_with)
            server.transport.sendto(b"x", peer.getsockname())
            server.abort()
        assert notes.calls == ["connection_made", "connection_lost"]
        assert server.stats().dropped["closed"] == 2
        again, other = await place.open(server.address)
        with plain() as peer:
            peer.sendto(b"for the next", name(again))
            await other.until(lambda: other.got)


@pytest.mark.both_loops
async def test_a_close_from_inside_a_callback_is_the_last_one() -> None:
    class Once(Notes):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", Once)
        with plain() as peer:
            for _ in range(5):
                peer.sendto(b"x", name(server))
            await notes.until(lambda: notes.lost_with)
        assert notes.got == [b"x"]


@pytest.mark.both_loops
async def test_close_sends_what_is_queued() -> None:
    async with here() as place:
        sock, notes = Breaking(), Notes()
        server = place.over(sock, notes)
        with plain() as peer:
            sock.full = True
            server.sendto(b"last words", peer.getsockname())
            sock.full = False
            server.close()
            await notes.until(lambda: notes.lost_with)
            assert peer.recv(100) == b"last words"
        assert server.stats().dropped["closed"] == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_what_cannot_leave_is_dropped_at_the_end(how: str) -> None:
    async with here() as place:
        sock, notes = Breaking(), Notes()
        server = place.over(sock, notes)
        sock.full = True
        for _ in range(3):
            server.sendto(b"stuck", ("127.0.0.1", 9))
        getattr(server, how)()
        await notes.until(lambda: notes.lost_with)
        assert (server.stats().dropped["closed"], server.stats().queued) == (3, 0)
        assert place.dropped() == [("closed", 3)]


# ------------------------------------------------------------------------------------------------------------------- opening


async def test_where_nothing_can_be_opened_is_said_with_what_to_do() -> None:
    async with here() as place:
        server, _ = await place.open("udp://127.0.0.1:0")
        before = open_sockets()
        refused = [
            (str(server.address), False, ConfigError, "is in use by another process; stop it, or choose another port"),
            ("udp://192.0.2.1:0", False, ConfigError, "no interface of this machine has the address 192.0.2.1"),
            ("udp://127.0.0.1:0", True, ConfigError, "give the port of the peer"),
            ("tcp://127.0.0.1:5000", False, ConfigError, "tcp://127.0.0.1:5000 is not for datagrams; write udp://127.0.0.1:5000"),
            ("udp://255.255.255.255:9", True, Unavailable, "cannot connect to udp://255.255.255.255:9: Permission denied"),
        ]
        for address, connect, error, why in refused:
            with pytest.raises(error, match=why):
                await place.open(address, connect=connect)
        assert open_sockets() == before


async def test_a_name_nobody_knows_is_named() -> None:
    def look(host: str, port: int, passive: bool) -> list[Target]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with here(Resolver(look)) as place:
        for connect, error in ((False, ConfigError), (True, Unavailable)):
            with pytest.raises(error, match=r"udp://nobody\.test:5000: the name cannot be resolved"):
                await place.open("udp://nobody.test:5000", connect=connect)


@linux
async def test_of_several_addresses_the_first_with_a_way_there_is_taken() -> None:
    def look(host: str, port: int, passive: bool) -> list[Target]:
        return [Target(socket.AF_INET, (each, port)) for each in ("255.255.255.255", "127.0.0.1")]

    async with here(Resolver(look)) as place:
        with plain() as peer:
            client, _ = await place.open(f"udp://both.test:{peer.getsockname()[1]}", connect=True)
            assert client.transport.get_extra_info("peername") == peer.getsockname()
            client.transport.sendto(b"found")
            assert peer.recv(10) == b"found"


@pytest.mark.both_loops
@pytest.mark.parametrize("where", ["the factory", "connection_made"])
async def test_a_protocol_that_refuses_to_begin_leaves_nothing_open(where: str) -> None:
    class Refusing(Notes):
        def __init__(self) -> None:
            if where == "the factory":
                raise LookupError(where)
            super().__init__()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise LookupError(where)

    async with here() as place:
        before = open_sockets()
        with pytest.raises(LookupError, match=where):
            await place.open("udp://127.0.0.1:0", Refusing)
        await asyncio.sleep(0)
        assert open_sockets() == before


@pytest.mark.both_loops
@pytest.mark.parametrize("turns", range(4))
async def test_an_opening_that_is_cancelled_leaves_nothing_open(turns: int) -> None:
    async with here() as place:
        opening = asyncio.create_task(place.open("udp://localhost:0"))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)


async def test_a_protocol_that_closes_in_connection_made_is_closed() -> None:
    class Hasty(Notes):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    async with here() as place:
        server, notes = await place.open("udp://127.0.0.1:0", Hasty)
        await notes.until(lambda: notes.lost_with)
        assert server.transport.is_closing()


async def test_memory_has_no_datagrams() -> None:
    with pytest.raises(ConfigError, match="a MemoryNetwork has no datagrams; open udp://127.0.0.1:0 with a KernelNetwork"):
        await MemoryNetwork().datagrams(Address("memory", "x"), Notes, DatagramOptions(), discard, connect=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"datagram_max_bytes": 0},
        {"datagram_max_bytes": 65_508},
        {"datagrams_per_turn": 0},
        {"receive_buffer_bytes": 0},
        {"receive_buffer_bytes": 2**31},
        {"send_queue_max": 0},
        {"send_queue_max_bytes": 65_506},
        {"source_rate_per_s": 0.0},
        {"source_rate_per_s": float("nan")},
        {"source_burst": 0.5},
        {"sources_max": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        DatagramOptions(**wrong)


def test_options_can_leave_the_kernels_buffer_alone() -> None:
    assert msgspec.structs.replace(DatagramOptions(), receive_buffer_bytes=None).receive_buffer_bytes is None
