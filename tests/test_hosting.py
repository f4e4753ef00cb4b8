"""`serve` with a protocol instead of a service: what may be passed, how it is counted, and how it goes down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import holdfast
from holdfast.errors import ConfigError
from holdfast.facts import ConnectionClosed, ConnectionOpened, ConnectionRefused, Draining, Fact, Listening, ProtocolFailed, Stopped
from holdfast.net.link import DatagramOptions, ListenOptions
from holdfast.net.memory import MemoryNetwork
from tests.net.helpers import turns_until
from tests.net.papers import papers
from tests.net.protocols import PATIENCE_S, Plain, Told


class Echo(Plain):
    """Writes down what it is told, and sends it back. All of them tell the same `Told`, unless one is given."""

    all = Told()

    def __init__(self, told: Told | None = None) -> None:
        super().__init__(told or Echo.all)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class Made:
    """A factory that keeps what it made."""

    def __init__(self, kind: Callable[[Told], Any] = Echo) -> None:
        self.kind = kind
        self.told = Told()
        self.protocols: list[Any] = []

    def __call__(self) -> asyncio.BaseProtocol:
        self.protocols.append(self.kind(self.told))
        return self.protocols[-1]  # type: ignore[no-any-return]


@pytest.mark.both_loops
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tls://127.0.0.1:0", "tcp://[::1]:0", "unix://{}/s", "memory://echo"])
async def test_a_protocol_is_served_and_dialled_over_every_scheme(bind: str, tmp_path: Any) -> None:
    secure = bind.startswith("tls")
    network = MemoryNetwork() if bind.startswith("memory") else None
    serving, calling = (papers().serving(), papers().calling()) if secure else (None, None)
    facts: list[Fact] = []
    made, mine = Made(), Told()
    async with holdfast.serve(made, bind=bind.format(tmp_path), tls=serving, network=network, emit=facts.append) as server:
        transport, protocol = await holdfast.dial(lambda: Plain(mine), server.addresses[0], tls=calling, network=network)
        assert protocol.told is mine
        transport.write(b"hello")
        await mine.until("data", b"hello")
        assert server.stats() == type(server.stats())(connections=1, running=0, threads_busy=0, draining=False)
        transport.close()
        await mine.until("lost")
        await made.told.until("lost")
    peer = next(fact.peer for fact in facts if isinstance(fact, ConnectionOpened))
    assert facts == [
        Listening(server.addresses[0]),
        ConnectionOpened("server", peer),
        ConnectionClosed("server", peer, "the peer closed the connection"),
        Draining(0, 30.0),
        Stopped(0),
    ]
    assert peer.startswith(bind.partition("://")[0])


async def test_a_protocol_class_is_a_factory() -> None:
    Echo.all = Told()
    async with holdfast.serve(Echo, bind="tcp://127.0.0.1:0") as server:
        transport, protocol = await holdfast.dial(lambda: Plain(Told()), server.addresses[0])
        transport.write(b"hello")
        await protocol.told.until("data", b"hello")
        transport.close()
        await Echo.all.until("lost")


# ------------------------------------------------------------------------------------------------------------------------ datagrams


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with its own bytes; tells when it is asked to leave."""

    def __init__(self) -> None:
        self.told = Told()
        self.transport: Any = None
        self.last: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.last = addr
        self.told.note("data", data)
        if self.transport.get_extra_info("peername") is None:
            self.transport.sendto(data, addr)

    def drain_requested(self) -> None:
        self.told.note("drain")
        if self.last is not None:
            self.transport.sendto(b"goodbye", self.last)

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.note("lost")


@pytest.mark.both_loops
async def test_a_protocol_of_datagrams_is_served_and_dialled() -> None:
    made: list[Datagrams] = []

    def factory() -> Datagrams:
        made.append(Datagrams())
        return made[-1]

    async with holdfast.serve(factory, bind=["udp://127.0.0.1:0", "udp://127.0.0.1:0"]) as server:
        assert [address.startswith("udp://127.0.0.1:") for address in server.addresses] == [True, True]
        transport, protocol = await holdfast.dial(Datagrams, server.addresses[1])
        transport.sendto(b"hello")
        await protocol.told.until("data", b"hello")
    assert [call for call, _ in made[1].told.calls] == ["data", "drain", "lost"]
    assert [call for call, _ in made[0].told.calls] == ["drain", "lost"]
    await protocol.told.until("data", b"goodbye")
    transport.close()
    await protocol.told.until("lost")


async def test_the_bounds_of_datagrams_are_the_servers() -> None:
    made: list[Datagrams] = []

    def factory() -> Datagrams:
        made.append(Datagrams())
        return made[-1]

    config = holdfast.ServerConfig(datagrams=DatagramOptions(datagram_max_bytes=5))
    async with holdfast.serve(factory, bind="udp://127.0.0.1:0", config=config) as server:
        transport, _ = await holdfast.dial(Datagrams, server.addresses[0])
        transport.sendto(b"too long")
        transport.sendto(b"short")
        await made[0].told.until("data", b"short")
        assert made[0].transport.stats().dropped["too_large"] == 1
        transport.close()


async def test_a_protocol_of_datagrams_that_raises_when_asked_to_leave_is_closed_all_the_same() -> None:
    class Stubborn(Datagrams):
        def drain_requested(self) -> None:
            raise LookupError("never")

    facts: list[Fact] = []
    async with holdfast.serve(Stubborn, bind="udp://127.0.0.1:0", emit=facts.append):
        pass
    assert [(fact.callback, str(fact.error)) for fact in facts if isinstance(fact, ProtocolFailed)] == [("drain_requested", "never")]


# ----------------------------------------------------------------------------------------------------------------- what may be passed


@pytest.mark.parametrize(
    ("what", "bind", "message"),
    [
        (Plain(Told()), "tcp://127.0.0.1:0", "expected what makes a Plain for each connection, and got one Plain; pass the class"),
        (7, "tcp://127.0.0.1:0", "expected a Service, several, or what makes an asyncio.Protocol, and got int"),
        (object, "tcp://127.0.0.1:0", "carries a stream of bytes, and object is no asyncio.Protocol"),
        (Datagrams, "tcp://127.0.0.1:0", "carries a stream of bytes, and Datagrams is no asyncio.Protocol"),
        (Echo, "udp://127.0.0.1:0", "carries datagrams, and Echo is no asyncio.DatagramProtocol"),
        (holdfast.Service("shop"), "udp://127.0.0.1:0", "carries datagrams, and a Service needs a connection"),
        ([], "tcp://127.0.0.1:0", "no service to serve"),
        ([Echo], "tcp://127.0.0.1:0", "expected Services in the sequence, and got type; a protocol is passed alone"),
        ("shop:svc", "tcp://127.0.0.1:0", "expected Services in the sequence, and got str"),
        (Echo, [], "no address to listen on"),
        (Echo, "tcp://0.0.0.0:0", "can be reached from other machines and has no TLS"),
        (Datagrams, "udp://0.0.0.0:0", "can be reached from other machines and has no TLS"),
        (Echo, "tls://127.0.0.1:0", "needs a certificate"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_write(what: Any, bind: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        holdfast.serve(what, bind=bind)


# -------------------------------------------------------------------------------------------------------------------- going down


class Polite(Echo):
    """Says goodbye when its server goes down, and leaves."""

    def drain_requested(self) -> None:
        self.told.note("drain")
        self.transport.write(b"goodbye")
        self.transport.close()


@pytest.mark.both_loops
async def test_a_protocol_that_wants_to_know_leaves_by_itself() -> None:
    made, mine, facts = Made(Polite), Told(), list[Fact]()
    async with holdfast.serve(made, bind="tcp://127.0.0.1:0", emit=facts.append) as server:
        await holdfast.dial(lambda: Plain(mine), server.addresses[0])
        await made.told.until("made")
    assert [call for call, _ in made.told.calls] == ["made", "drain", "lost"]
    await mine.until("data", b"goodbye")
    await mine.until("lost")
    assert facts[-1] == Stopped(0)
    assert Draining(1, 30.0) in facts


@pytest.mark.both_loops
async def test_one_that_does_not_has_the_time_there_is() -> None:
    """Nothing is closed before `drain_s`: the peer ends it, and so ends the drain."""
    made, mine = Made(), Told()
    async with asyncio.timeout(PATIENCE_S), holdfast.serve(made, bind="tcp://127.0.0.1:0") as server:
        transport, _ = await holdfast.dial(lambda: Plain(mine), server.addresses[0])
        await made.told.until("made")
        closing = asyncio.get_running_loop().create_task(server.close())
        await turns_until(lambda: server.stats().draining)
        transport.write(b"still served")
        await mine.until("data", b"still served")
        assert not closing.done()
        transport.close()
        await closing
        assert ("lost", None) in made.told.calls


@pytest.mark.both_loops
async def test_at_the_end_of_that_time_it_is_closed_and_what_it_wrote_leaves() -> None:
    made, mine, facts = Made(), Told(), list[Fact]()
    config = holdfast.ServerConfig(drain_s=0.0)
    async with holdfast.serve(made, bind="tcp://127.0.0.1:0", config=config, emit=facts.append) as server:
        await holdfast.dial(lambda: Plain(mine), server.addresses[0])
        await made.told.until("made")
        made.protocols[0].transport.write(b"x" * 1_000_000)
    assert made.told.calls[-1] == ("lost", None)
    await mine.until("lost")
    assert mine.calls[1] == ("data", b"x" * 1_000_000)
    assert [fact.reason for fact in facts if isinstance(fact, ConnectionClosed)] == ["closed by us"]
    assert facts[-1] == Stopped(1)


@pytest.mark.both_loops
async def test_one_whose_peer_does_not_read_is_cut_in_the_end_and_told() -> None:
    made, mine = Made(), Told()
    config = holdfast.ServerConfig(drain_s=0.0, cancel_grace_s=0.0)
    async with holdfast.serve(made, bind="tcp://127.0.0.1:0", config=config) as server:
        transport, _ = await holdfast.dial(lambda: Plain(mine), server.addresses[0])
        transport.pause_reading()
        await made.told.until("made")
        made.protocols[0].transport.write(bytes(64 * 1024 * 1024))
    assert made.told.calls[-1] == ("lost", None)
    assert server.stats().connections == 0
    transport.abort()
    await mine.until("lost")


@pytest.mark.both_loops
async def test_the_limits_on_connections_are_those_of_a_service() -> None:
    made, facts = Made(), list[Fact]()
    config = holdfast.ServerConfig(listen=ListenOptions(connections_max=1))
    async with holdfast.serve(made, bind="tcp://127.0.0.1:0", config=config, emit=facts.append) as server:
        first, _ = await holdfast.dial(lambda: Plain(Told()), server.addresses[0])
        await made.told.until("made")
        second, refused = await holdfast.dial(lambda: Plain(Told()), server.addresses[0])
        await refused.told.until("lost")
        assert not any(call == "data" for call, _ in refused.told.calls), "no words of ours in somebody else's protocol"
        assert (len(made.protocols), server.stats().connections) == (1, 1)
        first.close()
        await made.told.until("lost")
        second.close()
    reasons = [fact.reason for fact in facts if isinstance(fact, ConnectionRefused)]
    assert len(reasons) == 1
    assert "1 connection" in reasons[0]


async def test_health_has_no_meaning_for_a_protocol_and_does_no_harm() -> None:
    made = Made()
    async with holdfast.serve(made, bind="tcp://127.0.0.1:0") as server:
        transport, _ = await holdfast.dial(lambda: Plain(Told()), server.addresses[0])
        await made.told.until("made")
        server.set_health(False, "for nobody")
        transport.close()
        await made.told.until("lost")
