"""TLS around a network: connecting and listening, what refusals say on both sides, resumption, room for others, and the TLS rule."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from holdfast.control.wheel import Wheel
from holdfast.errors import ConfigError, Unavailable
from holdfast.facts import ConnectionRefused
from holdfast.net.address import Address, parse_address
from holdfast.net.link import Link, Listening, ListenOptions, Network, Receiver, WhenFull
from holdfast.net.memory import MemoryNetwork
from holdfast.net.network import KernelNetwork
from holdfast.net.secure import HOLDFAST, SecureNetwork, check_tls, secure_client, secure_server
from holdfast.net.tls import TlsLink
from holdfast.net.trust import TlsConfig, TlsContexts
from tests.net.helpers import PATIENCE_S, Echo, Place, Recorder, turns_until
from tests.net.papers import SPIFFE, papers


class Mapped:
    """A MemoryNetwork that knows tcp:// addresses: `tcp://place:7` is its `memory://place-7`."""

    def __init__(self, **limits: Any) -> None:
        self.memory = MemoryNetwork(**limits)

    def _inside(self, address: Address) -> Address:
        return parse_address(f"memory://{address.host}-{address.port}") if address.scheme == "tcp" else address

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        return await self.memory.connect(self._inside(address), make_receiver, timeout_s=timeout_s)

    async def listen(self, address: Address, *rest: Any) -> Listening:
        return await self.memory.listen(self._inside(address), *rest)

    async def datagrams(self, *args: Any, **named: Any) -> Any:
        return args, named


def in_memory(**limits: Any) -> tuple[Mapped, SecureNetwork, Wheel]:
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    below = Mapped(**limits)
    return below, SecureNetwork(below, wheel, server=papers().server_contexts(), client=papers().client_contexts()), wheel


@pytest.mark.parametrize("chunk_bytes", [1, 7, 65536])
async def test_a_session_over_a_link_of_any_grain(chunk_bytes: int) -> None:
    _, network, wheel = in_memory(chunk_bytes=chunk_bytes)
    here = Place(network, parse_address("tls://place:7"), wheel)
    here.make = Echo
    await network.listen(here.wanted, here._accept, ListenOptions(), here.facts.append)
    client = Recorder()
    link = await network.connect(here.wanted, lambda: client, timeout_s=PATIENCE_S)
    link.write(b"x" * 20_000)
    await client.until(lambda: len(client.data) == 20_000)
    link.close()
    await client.until(lambda: client.lost)
    (server,) = here.accepted
    await server.until(lambda: server.lost)
    assert server.calls == ["link_made", "bytes_received", "eof_received", "link_lost"]
    assert (server.error, client.error) == (None, None)


async def test_other_schemes_are_the_business_of_the_network_below() -> None:
    _, network, _ = in_memory()
    address = parse_address("memory://plain")
    accepted = Echo()
    listening = await network.listen(address, lambda: accepted, ListenOptions(), lambda _: None)
    assert listening.address == address
    client = Recorder()
    link = await network.connect(address, lambda: client, timeout_s=1)
    link.write(b"hello")
    await client.until(lambda: client.data == b"hello")
    link.abort()
    await accepted.until(lambda: accepted.lost)
    udp = parse_address("udp://127.0.0.1:1")
    assert await network.datagrams(udp, "make", "options", "emit", connect=True) == ((udp, "make", "options", "emit"), {"connect": True})


async def test_a_side_that_has_no_tls_refuses() -> None:
    loop = asyncio.get_running_loop()
    bare = SecureNetwork(Mapped(), Wheel(loop.time, loop.call_at))
    address = parse_address("tls://place:7")
    with pytest.raises(ConfigError, match="no TLS for clients"):
        await bare.connect(address, Recorder, timeout_s=1)
    with pytest.raises(ConfigError, match="no TLS for servers"):
        await bare.listen(address, Recorder, ListenOptions(), lambda _: None)


# -------------------------------------------------------------------------------------------------------------------- refusals


@asynccontextmanager
async def places(server: TlsContexts | None, client: TlsContexts | None) -> AsyncIterator[Place]:
    """A kernel's network with such contexts; without any, that side is plain."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    below = KernelNetwork(loop.create_task, wheel)
    serving: Network = below if server is None else SecureNetwork(below, wheel, server=server)
    calling: Network = below if client is None else SecureNetwork(below, wheel, client=client)
    here = Place(serving, parse_address("tcp://127.0.0.1:0" if server is None else "tls://127.0.0.1:0"), wheel)
    here.make = Echo
    listening = await here.listen()
    address = msgspec.structs.replace(listening.address, scheme="tcp" if client is None else "tls")

    async def connect(make: Callable[[], Recorder] = Recorder) -> Recorder:
        receiver = make()
        await calling.connect(address, lambda: receiver, timeout_s=PATIENCE_S)
        here.connected.append(receiver)
        return receiver

    here.connect = connect  # type: ignore[method-assign, assignment]
    try:
        yield here
    finally:
        listening.close()
        for receiver in (*here.connected, *here.accepted):
            receiver.link.abort()
            await receiver.until(lambda receiver=receiver: receiver.lost)  # type: ignore[misc]


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "unknown authority": (
        {},
        {"trust": "other"},
        "its certificate comes from an authority we do not trust",
        "it does not trust the authority that issued our certificate",
    ),
    "wrong name": (
        {},
        {"server_name": "other.example"},
        "its certificate is for another name (Hostname mismatch, certificate is not valid for 'other.example')",
        "it does not accept our certificate",
    ),
    "another protocol": (
        {},
        {"protocols": ("h2",)},
        "it speaks TLS, and another protocol than ours (ALPN)",
        "it speaks 'h2' over TLS; this port speaks holdfast/1",
    ),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_says_why_on_both_sides(case: str) -> None:
    serving, calling, to_client, to_server = REFUSALS[case]
    if calling.get("trust") == "other":
        calling = {"trust": papers().stranger}
    async with places(papers().server_contexts(**serving), papers().client_contexts(**calling)) as here:
        with pytest.raises(Unavailable) as caught:
            await here.connect()
        assert str(caught.value).startswith(f"cannot connect to {here.address}: ")
        assert to_client in str(caught.value)
        assert caught.value.executed == "no"
        await turns_until(lambda: here.facts)
        (fact,) = here.facts
        assert isinstance(fact, ConnectionRefused)
        assert fact.peer.startswith("tls://127.0.0.1:")
        assert to_server in fact.reason
        assert here.accepted == []


async def test_plain_text_to_a_tls_port_reads_why() -> None:
    async with places(papers().server_contexts(), None) as here:
        client = await here.connect()
        client.link.write(b"\x89HFST\r\n\x01")
        await client.until(lambda: client.lost)
        assert client.data == b"holdfast: this port wants TLS; connect with tls://\r\n"
        (fact,) = here.facts
        assert isinstance(fact, ConnectionRefused)
        assert "plain text" in fact.reason


async def test_tls_to_a_plain_port_is_told_so() -> None:
    class Answering(Recorder):
        def link_made(self, link: Link) -> None:
            super().link_made(link)
            link.write(b"220 welcome\r\n")

    async with places(None, papers().client_contexts()) as here:
        here.make = Answering
        with pytest.raises(Unavailable, match="it does not speak TLS; connect with tcp://"):
            await here.connect()


async def test_a_server_that_says_nothing_is_given_up_at_the_handshakes_deadline() -> None:
    class Silent(Recorder):
        pass

    async with places(None, papers().client_contexts(handshake_timeout_s=0.05)) as here:
        here.make = Silent
        with pytest.raises(Unavailable, match=r"no TLS handshake within 0\.05 s"):
            await here.connect()
        await turns_until(lambda: here.accepted)


async def test_a_server_that_hangs_up_during_the_handshake() -> None:
    class Rude(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            self.link.abort()
            return len(data)

    async with places(None, papers().client_contexts()) as here:
        here.make = Rude
        with pytest.raises(Unavailable, match=r"during the TLS handshake|Connection reset"):
            await here.connect()


@pytest.mark.parametrize("after_turns", [0, 1, 2, 3, 5, 8, 13])
async def test_a_connect_that_is_cancelled_leaves_nothing(after_turns: int) -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        receiver = Recorder()
        attempt = asyncio.ensure_future(here.connect(lambda: receiver))
        for _ in range(after_turns):
            await asyncio.sleep(0)
        attempt.cancel()
        try:
            await attempt
        except asyncio.CancelledError:
            await turns_until(lambda: receiver.calls in ([], ["link_made", "link_lost"]))
        await turns_until(lambda: all(server.lost for server in here.accepted) or receiver in here.connected)


# ------------------------------------------------------------------------------------------------------- identity, resumption


async def test_required_client_certificates_are_required_and_shown() -> None:
    server = papers().server_contexts(clients="required", client_trust=papers().ca)
    async with places(server, papers().client_contexts(certificate=papers().client)) as here:
        client, accepted = await here.pair()
        assert accepted.link.certificate is not None
        assert accepted.link.certificate.names == (f"URI:{SPIFFE}",)
        assert accepted.link.certificate.subject == ""
        assert client.link.certificate is not None
        assert "DNS:localhost" in client.link.certificate.names


async def test_a_client_without_the_certificate_that_is_required_is_refused() -> None:
    """In TLS 1.3 the client's handshake is done before the server looks: the refusal is the first thing it reads."""
    server = papers().server_contexts(clients="required", client_trust=papers().ca)
    async with places(server, papers().client_contexts()) as here:
        client = await here.connect()
        await client.until(lambda: client.lost)
        assert isinstance(client.error, ConnectionAbortedError)
        assert "it wants a certificate from us; give TlsConfig(certificate=…, key=…)" in str(client.error)
        await turns_until(lambda: here.facts)
        (fact,) = here.facts
        assert isinstance(fact, ConnectionRefused)
        assert "it showed no certificate, and we require one" in fact.reason


async def test_an_optional_client_certificate_may_be_missing() -> None:
    server = papers().server_contexts(clients="optional", client_trust=papers().ca)
    async with places(server, papers().client_contexts()) as here:
        _, accepted = await here.pair()
        assert accepted.link.certificate is None


def _resumed(receiver: Recorder) -> bool:
    link = receiver.link
    assert isinstance(link, TlsLink)
    assert link._sslobj is not None
    return bool(link._sslobj.session_reused)


async def _visit(here: Place) -> bool:
    client, server = await here.pair()
    client.link.write(b"hello")
    await client.until(lambda: client.data == b"hello")
    assert _resumed(client) == _resumed(server)
    return _resumed(client)


@pytest.mark.parametrize("minimum", ["1.3", "1.2"])
async def test_the_second_connection_resumes_the_session_of_the_first(minimum: str) -> None:
    client = papers().client_contexts(minimum=minimum)
    if minimum == "1.2":
        client.current.maximum_version = client.current.minimum_version
    async with places(papers().server_contexts(minimum=minimum), client) as here:
        assert [await _visit(here) for _ in range(3)] == [False, True, True]


async def test_a_resumed_session_still_knows_the_client_and_a_reload_ends_them_all() -> None:
    server = papers().server_contexts(clients="required", client_trust=papers().ca)
    async with places(server, papers().client_contexts(certificate=papers().client)) as here:
        assert [await _visit(here) for _ in range(2)] == [False, True]
        assert here.accepted[-1].link.certificate == here.accepted[0].link.certificate is not None
        server.reload()
        assert await _visit(here) is False, "tickets of the old context are worth nothing to the new one"


async def test_a_client_whose_certificate_expired_does_not_come_back_by_resuming() -> None:
    """A ticket brings the next one: without a look at the dates they would let it in for as long as it comes back."""
    told_s = [0.0]
    config = papers().serving(clients="required", client_trust=papers().ca)
    server = TlsContexts(config, "server", HOLDFAST, lambda _: None, lambda: told_s[0])
    async with places(server, papers().client_contexts(certificate=papers().client)) as here:
        assert [await _visit(here) for _ in range(2)] == [False, True]
        certificate = here.accepted[-1].link.certificate
        assert certificate is not None
        told_s[0] = certificate.not_after
        late = await here.connect()
        await late.until(lambda: late.lost)
        await turns_until(lambda: here.facts)
        (fact,) = here.facts
        assert isinstance(fact, ConnectionRefused)
        assert "it resumed a session, and the certificate it showed at its beginning is expired" in fact.reason
        assert len(here.accepted) == 2, "no receiver was made"


async def test_a_server_whose_certificate_expired_is_not_believed_by_resuming() -> None:
    told_s = [0.0]
    client = TlsContexts(papers().calling(), "client", HOLDFAST, lambda _: None, lambda: told_s[0])
    async with places(papers().server_contexts(), client) as here:
        assert [await _visit(here) for _ in range(2)] == [False, True]
        certificate = here.connected[-1].link.certificate
        assert certificate is not None
        told_s[0] = certificate.not_after
        assert await _visit(here) is False, "it has to prove itself anew"


async def test_a_server_shows_the_certificate_of_the_name_that_is_asked_for() -> None:
    special, wild = papers().issue("special.example"), papers().issue("*.wild.example")
    by_name = {"special.example": (special, ""), "*.wild.example": (wild, "")}
    for name, expected in (("special.example", "special.example"), ("A.Wild.example", "*.wild.example"), ("localhost", "localhost")):
        client = papers().client_contexts(server_name=name)
        async with places(papers().server_contexts(by_name=by_name), client) as here:
            receiver = await here.connect()
            assert receiver.link.certificate is not None
            assert f"DNS:{expected}" in receiver.link.certificate.names


# ---------------------------------------------------------------------------------------------------------------------- room


async def test_when_the_listener_is_full_the_oldest_half_open_link_makes_room() -> None:
    below, network, _ = in_memory()
    rooms: list[WhenFull] = []
    listen = below.listen

    async def listening(address: Address, make: Any, options: Any, emit: Any, when_full: WhenFull) -> Listening:
        rooms.append(when_full)
        return await listen(address, make, options, emit, when_full)

    below.listen = listening  # type: ignore[method-assign]
    facts: list[Any] = []
    asked: list[str] = []
    full = WhenFull(make_room=lambda: not asked.append("the server"), refusal=lambda _: b"words")
    await network.listen(parse_address("tls://place:7"), Echo, ListenOptions(), facts.append, full)
    (room,) = rooms
    assert room.refusal is None, "words before a handshake would be plain text"
    strangers = [Recorder() for _ in range(2)]
    for stranger in strangers:
        await below.connect(parse_address("tcp://place:7"), lambda stranger=stranger: stranger, timeout_s=1)  # type: ignore[misc]
    client = Recorder()
    await network.connect(parse_address("tls://place:7"), lambda: client, timeout_s=1)
    assert room.make_room is not None
    assert room.make_room()
    await strangers[0].until(lambda: strangers[0].lost)
    assert not strangers[1].lost
    assert room.make_room()
    await strangers[1].until(lambda: strangers[1].lost)
    assert asked == []
    assert room.make_room()
    assert asked == ["the server"], "no stranger is left; the server chooses among those that are open"
    assert not client.lost
    client.link.abort()
    await client.until(lambda: client.lost)
    assert len(facts) == 2


@pytest.mark.both_loops
async def test_when_the_listener_is_full_of_refused_peers_that_stay_they_make_room() -> None:
    """One that was refused reads why and is given a second for that: not while somebody better waits."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    below = KernelNetwork(loop.create_task, wheel, linger_s=3600.0)
    network = SecureNetwork(below, wheel, server=papers().server_contexts(), client=papers().client_contexts())
    here = Place(network, parse_address("tls://127.0.0.1:0"), wheel)
    here.make = Echo
    listening = await here.listen(ListenOptions(connections_max=2))
    strangers = [socket.create_connection((here.address.host, here.address.port)) for _ in range(2)]
    for stranger in strangers:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")  # and it does not close
    await turns_until(lambda: len(here.facts) == 2)
    client, server = await here.pair()
    door = listening._door  # type: ignore[attr-defined]
    assert len(door._leaving) == 1, "one is enough"
    assert len(here.facts) == 2, "its refusal has been told"
    listening.close()
    assert door._leaving == {}
    for receiver in (client, server):
        receiver.link.abort()
        await receiver.until(lambda receiver=receiver: receiver.lost)  # type: ignore[misc]
    for stranger in strangers:
        stranger.close()


async def test_closing_the_listener_cuts_those_that_are_half_open_and_takes_no_more() -> None:
    below, network, wheel = in_memory()
    facts: list[Any] = []
    made: list[Recorder] = []
    listening = await network.listen(parse_address("tls://place:7"), lambda: made.append(Echo()) or made[-1], ListenOptions(), facts.append)
    client, stranger, late = Recorder(), Recorder(), Recorder()
    await network.connect(parse_address("tls://place:7"), lambda: client, timeout_s=1)
    await below.connect(parse_address("tcp://place:7"), lambda: stranger, timeout_s=1)
    await turns_until(lambda: len(wheel) == 1)
    listening.close()
    listening.close()
    await stranger.until(lambda: stranger.lost)
    (fact,) = facts
    assert "the listener was closed during its TLS handshake" in fact.reason
    assert len(wheel) == 0
    door = listening._door  # type: ignore[attr-defined]
    ours = MemoryNetwork(wheel)
    await ours.listen(parse_address("memory://x"), lambda: TlsLink(door), ListenOptions(), facts.append)
    await ours.connect(parse_address("memory://x"), lambda: late, timeout_s=1)
    await late.until(lambda: late.lost)
    client.link.write(b"still")
    await client.until(lambda: client.data == b"still")
    assert len(made) == 1
    client.link.abort()
    await made[0].until(lambda: made[0].lost)


# ----------------------------------------------------------------------------------------------------------------------- rule


def _addresses(*texts: str) -> list[Address]:
    return [parse_address(text) for text in texts]


@pytest.mark.parametrize(
    ("texts", "tls", "server", "text"),
    [
        (["tls://127.0.0.1:1"], None, True, "needs a certificate: pass tls=TlsConfig(certificate=…, key=…), or --tls-cert"),
        (["tls://127.0.0.1:1"], TlsConfig(), True, "needs a certificate"),
        (["tcp://0.0.0.0:1"], None, True, "can be reached from other machines and has no TLS; use tls://, or pass insecure=True"),
        (["tcp://a.example:1"], None, False, "is not on this machine and has no TLS"),
        (["tcp://127.0.0.1:1"], TlsConfig(), False, "TLS was configured, and tcp://127.0.0.1:1 does not use it; write tls://"),
    ],
)
def test_the_rule_is_held(texts: list[str], tls: TlsConfig | None, server: bool, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_tls(_addresses(*texts), tls, insecure=False, server=server)
    assert text in str(caught.value)


def test_what_the_rule_allows() -> None:
    config = TlsConfig(certificate="c.pem")
    check_tls(_addresses("tls://0.0.0.0:1", "tcp://127.0.0.1:1", "unix:///s"), config, insecure=False, server=True)
    check_tls(_addresses("tls://a.example:1"), None, insecure=False, server=False)
    check_tls(_addresses("tcp://a.example:1"), None, insecure=True, server=False)
    check_tls(_addresses("memory://x"), None, insecure=False, server=True)


async def test_the_roofs_get_tls_only_where_an_address_asks_for_it() -> None:
    below, _, wheel = in_memory()
    plain, secure = _addresses("tcp://127.0.0.1:1", "tls://127.0.0.1:1")
    rest = (HOLDFAST, lambda _: None, lambda: 0.0)
    assert secure_client(below, wheel, False, None, *rest) is below
    assert isinstance(secure_client(below, wheel, True, None, *rest), SecureNetwork)
    assert secure_server(below, wheel, [plain], None, *rest) == (below, None)
    network, contexts = secure_server(below, wheel, [plain, secure], papers().serving(), *rest)
    assert isinstance(network, SecureNetwork)
    assert contexts is not None
    assert len(wheel) == 1, "it watches its files"
    contexts.close()
    assert len(wheel) == 0
