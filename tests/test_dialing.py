"""`dial`: connecting somebody's protocol, again and again if that is wanted, and never once more than that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import holdfast
from holdfast.clock import Streams
from holdfast.context import CURRENT
from holdfast.control.backoff import equal_jitter
from holdfast.errors import ConfigError, DeadlineExceeded, InvalidArgument, Unavailable
from holdfast.facts import ConnectFailed, ConnectionClosed, ConnectionOpened, Fact
from holdfast.net.memory import MemoryNetwork
from holdfast.rpc.dialer import DialConfig
from tests.net.helpers import open_sockets, turns_until
from tests.net.papers import papers
from tests.net.protocols import PATIENCE_S, NotingLink, Plain, Told

QUICK = DialConfig(base_s=0.001, cap_s=0.002)


class Made:
    """A factory that keeps what it made."""

    def __init__(self, kind: Callable[[Told], Any] = Plain) -> None:
        self.kind = kind
        self.protocols: list[Any] = []

    def __call__(self) -> Plain:
        self.protocols.append(self.kind(Told()))
        return self.protocols[-1]  # type: ignore[no-any-return]

    async def number(self, n: int) -> Any:
        """The n-th protocol, once it is connected."""
        await turns_until(lambda: len(self.protocols) > n and ("made", None) in self.protocols[n].told.calls)
        return self.protocols[n]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long somebody would have slept; nobody does."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def at_once(delay: float) -> None:
        if delay:
            asked.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return asked


def expected_pauses(seed: int, count: int, config: DialConfig) -> list[float]:
    rng = Streams(seed).stream("dial")
    return [equal_jitter(rng, n, base_s=config.base_s, cap_s=config.cap_s) for n in range(count)]


# ----------------------------------------------------------------------------------------------------------------------- connecting


@pytest.mark.both_loops
async def test_it_tries_again_until_somebody_listens(pauses: list[float]) -> None:
    network, facts, made = MemoryNetwork(), list[Fact](), Made()
    loop = asyncio.get_running_loop()
    dialling = loop.create_task(holdfast.dial(made, "memory://late", network=network, emit=facts.append, seed=7))
    await turns_until(lambda: len(pauses) >= 3)
    async with holdfast.serve(Made(), bind="memory://late", network=network):
        transport, protocol = await dialling
        assert protocol is made.protocols[0]
        assert len(made.protocols) == 1, "no protocol is made before there is a connection"
        failed = [fact for fact in facts if isinstance(fact, ConnectFailed)]
        assert [fact.retry_in_s for fact in failed] == pauses == expected_pauses(7, len(pauses), DialConfig())
        assert "nobody listens there" in failed[0].reason
        assert facts[-1] == ConnectionOpened("client", "memory://late")
        transport.close()
        await protocol.told.until("lost")
    assert facts[-1] == ConnectionClosed("client", "memory://late", "closed by us")


@pytest.mark.both_loops
async def test_when_the_time_is_over_the_last_reason_is_told() -> None:
    with pytest.raises(
        DeadlineExceeded, match="no connection before the deadline: cannot connect to memory://no: nobody listens"
    ) as caught:
        await holdfast.dial(Plain, "memory://no", network=MemoryNetwork(), deadline=0.02, config=QUICK)  # type: ignore[type-var]
    assert caught.value.executed == "no"
    assert isinstance(caught.value.__cause__, Unavailable)


async def test_without_a_deadline_only_cancelling_ends_it(pauses: list[float]) -> None:
    loop = asyncio.get_running_loop()
    dialling = loop.create_task(holdfast.dial(Made(), "memory://no", network=MemoryNetwork(), deadline=None))
    await turns_until(lambda: len(pauses) > 50)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert max(pauses) <= DialConfig().cap_s


async def test_in_a_handler_its_call_bounds_it() -> None:
    now = asyncio.get_running_loop().time()
    token = CURRENT.set(SimpleNamespace(deadline_at=now + 0.02, trace=None))  # type: ignore[arg-type]
    try:
        with pytest.raises(DeadlineExceeded):
            await holdfast.dial(Made(), "memory://no", network=MemoryNetwork(), deadline=None, config=QUICK)
    finally:
        CURRENT.reset(token)


@pytest.mark.both_loops
async def test_a_certificate_nobody_vouches_for_is_named() -> None:
    facts: list[Fact] = []
    async with holdfast.serve(Made(), bind="tls://127.0.0.1:0", tls=papers().serving()) as server:
        dialling = asyncio.get_running_loop().create_task(holdfast.dial(Made(), server.addresses[0], emit=facts.append))
        await turns_until(lambda: facts)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
    assert isinstance(facts[0], ConnectFailed)
    assert "certificate" in facts[0].reason


class Failing(Plain):
    """Raises where it is told to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        raise LookupError("not today")


@pytest.mark.both_loops
async def test_a_protocol_that_raises_at_once_raises_here() -> None:
    theirs, mine = Made(), Made(Failing)
    async with holdfast.serve(theirs, bind="tcp://127.0.0.1:0") as server:
        with pytest.raises(LookupError, match="not today"):
            await holdfast.dial(mine, server.addresses[0], reconnect=True)
        await mine.protocols[0].told.until("lost")
        with pytest.raises(ZeroDivisionError):
            await holdfast.dial(lambda: Plain(1 // 0), server.addresses[0])  # type: ignore[arg-type]
    assert len(mine.protocols) == 1


async def test_a_time_out_of_the_protocol_is_not_taken_for_ours() -> None:
    def late() -> Plain:
        raise TimeoutError("theirs")

    network = MemoryNetwork()
    async with holdfast.serve(Made(), bind="memory://here", network=network):
        with pytest.raises(TimeoutError, match="theirs"):
            await holdfast.dial(late, "memory://here", network=network)


@pytest.mark.parametrize(
    ("what", "address", "more", "message"),
    [
        (Plain(Told()), "tcp://127.0.0.1:1", {}, "expected what makes a Plain for each connection"),
        (Plain, "udp://127.0.0.1:1", {}, "carries datagrams, and Plain is no asyncio.DatagramProtocol"),
        (asyncio.DatagramProtocol, "tcp://127.0.0.1:1", {}, "carries a stream of bytes, and DatagramProtocol is no asyncio.Protocol"),
        (asyncio.DatagramProtocol, "udp://127.0.0.1:1", {"reconnect": True}, "no connection that could be lost"),
        (Plain, "tcp://10.0.0.1:1", {}, "is not on this machine and has no TLS"),
        (asyncio.DatagramProtocol, "udp://10.0.0.1:1", {}, "is not on this machine and has no TLS"),
        (Plain, "tcp://127.0.0.1:1", {"tls": holdfast.TlsConfig()}, "does not use it; write tls://"),
        (Plain, "shop", {}, "cannot read the address"),
    ],
)
async def test_what_cannot_be_dialled_is_refused_with_what_to_write(what: Any, address: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await holdfast.dial(what, address, **more)


async def test_a_deadline_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="must be above 0 seconds"):
        await holdfast.dial(Made(), "memory://x", network=MemoryNetwork(), deadline=0)


@pytest.mark.both_loops
async def test_cancelled_at_any_moment_it_leaves_nothing_open() -> None:
    async with holdfast.serve(lambda: Plain(Told()), bind="tcp://127.0.0.1:0") as server:
        before = open_sockets()
        loop = asyncio.get_running_loop()
        for turns in itertools.count():
            made = Made()
            dialling = loop.create_task(holdfast.dial(made, server.addresses[0], reconnect=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                transport, _ = await dialling
                transport.abort()
                break
            assert all(("lost", None) in p.told.calls or not p.told.calls for p in made.protocols) or await settled(made)
        await turns_until(lambda: open_sockets() == before and server.stats().connections == 0)


async def settled(made: Made) -> bool:
    for protocol in made.protocols:
        await protocol.told.until("lost")
    return True


# -------------------------------------------------------------------------------------------------------------------- connecting again


@pytest.mark.both_loops
async def test_after_a_loss_another_protocol_is_connected() -> None:
    theirs, mine, facts = Made(), Made(), list[Fact]()
    async with holdfast.serve(theirs, bind="tcp://127.0.0.1:0") as server:
        transport, first = await holdfast.dial(mine, server.addresses[0], reconnect=True, config=QUICK, emit=facts.append)
        (await theirs.number(0)).transport.close()  # in order
        second = await mine.number(1)
        (await theirs.number(1)).transport.abort()  # by a reset
        third = await mine.number(2)
        third.transport.write(b"still here")
        await (await theirs.number(2)).told.until("data", b"still here")
        assert [p.told.calls[-1] for p in (first, second)] == [("lost", None), ("lost", "ConnectionResetError")]
        transport.close()  # of the first: that was all, and the last one ends
        await third.told.until("lost")
        assert third.told.calls[-1] == ("lost", None)
    assert len(mine.protocols) == 3
    assert [type(fact) for fact in facts] == [ConnectionOpened, ConnectionClosed] * 3


@pytest.mark.both_loops
@pytest.mark.parametrize("way", ["close", "abort"])
async def test_what_was_closed_here_stays_closed(way: str) -> None:
    theirs, mine = Made(), Made()
    async with holdfast.serve(theirs, bind="tcp://127.0.0.1:0") as server:
        transport, protocol = await holdfast.dial(mine, server.addresses[0], reconnect=True, config=QUICK)
        await theirs.number(0)
        getattr(transport, way)()
        await protocol.told.until("lost")
        await theirs.protocols[0].told.until("lost")
    assert len(mine.protocols) == 1  # and the test would fail for a task that is left


async def test_what_a_protocol_closes_when_it_is_lost_stays_closed() -> None:
    class Done(Plain):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.transport.close()

    network, theirs, mine = MemoryNetwork(), Made(), Made(Done)
    async with holdfast.serve(theirs, bind="memory://here", network=network):
        await holdfast.dial(mine, "memory://here", network=network, reconnect=True, config=QUICK)
        (await theirs.number(0)).transport.close()
        await mine.protocols[0].told.until("lost")
    assert len(mine.protocols) == 1


async def test_closing_during_the_pause_ends_it() -> None:
    network, theirs, mine = MemoryNetwork(), Made(), Made()
    async with holdfast.serve(theirs, bind="memory://here", network=network):
        transport, protocol = await holdfast.dial(
            mine, "memory://here", network=network, reconnect=True, config=DialConfig(base_s=1000.0, cap_s=1000.0)
        )
        (await theirs.number(0)).transport.close()
        await protocol.told.until("lost")
        await asyncio.sleep(0)  # the pause begins
        transport.close()


async def test_the_pauses_grow_while_a_server_only_accepts(pauses: list[float]) -> None:
    class Rude(Plain):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.close()

    network, mine = MemoryNetwork(), Made()
    async with holdfast.serve(Made(Rude), bind="memory://rude", network=network):
        transport, _ = await holdfast.dial(mine, "memory://rude", network=network, reconnect=True, seed=3)
        await turns_until(lambda: len(pauses) >= 8)
        transport.close()
    assert pauses[:8] == expected_pauses(3, 8, DialConfig())


async def test_a_useful_connection_begins_them_anew(pauses: list[float]) -> None:
    network, theirs, mine = MemoryNetwork(), Made(), Made()
    config = DialConfig(useful_s=0.0)
    async with holdfast.serve(theirs, bind="memory://here", network=network):
        transport, _ = await holdfast.dial(mine, "memory://here", network=network, reconnect=True, config=config)
        for n in range(5):
            (await theirs.number(n)).transport.close()
            await mine.number(n + 1)
        transport.close()
    assert len(pauses) == 5
    assert max(pauses) <= config.base_s


async def test_while_the_server_is_away_every_attempt_is_a_fact(pauses: list[float]) -> None:
    network, theirs, mine, facts = MemoryNetwork(), Made(), Made(), list[Fact]()
    async with holdfast.serve(theirs, bind="memory://here", network=network):
        transport, _ = await holdfast.dial(mine, "memory://here", network=network, reconnect=True, emit=facts.append)
        await theirs.number(0)
        theirs.protocols[0].transport.close()
    await turns_until(lambda: len([fact for fact in facts if isinstance(fact, ConnectFailed)]) >= 4)
    async with holdfast.serve(theirs, bind="memory://here", network=network):
        await mine.number(1)
        transport.close()


async def test_a_protocol_that_raises_when_it_is_connected_again_is_tried_again(pauses: list[float]) -> None:
    network, theirs, facts = MemoryNetwork(), Made(), list[Fact]()
    kinds = [Plain, Failing, Failing, Plain]
    mine = Made(lambda told: kinds[len(mine.protocols)](told))
    async with asyncio.timeout(PATIENCE_S), holdfast.serve(theirs, bind="memory://here", network=network):
        transport, _ = await holdfast.dial(mine, "memory://here", network=network, reconnect=True, emit=facts.append)
        (await theirs.number(0)).transport.close()
        await (await mine.number(3)).told.until("made")
        transport.close()
    reasons = [fact.reason for fact in facts if isinstance(fact, ConnectFailed)]
    assert reasons == ["the protocol failed: LookupError('not today')"] * 2


async def test_a_connection_that_is_lost_before_it_is_handed_out_is_made_again(pauses: list[float]) -> None:
    links: list[NotingLink] = []

    class Hasty(MemoryNetwork):
        """Its first link is over when `connect` returns."""

        async def connect(self, address: Any, make_receiver: Any, *, timeout_s: float) -> Any:
            links.append(NotingLink())
            receiver = make_receiver()
            receiver.link_made(links[-1])
            if len(links) == 1:
                receiver.link_lost(ConnectionResetError("at once"))
            return links[-1]

    mine = Made()
    transport, _ = await holdfast.dial(mine, "memory://hasty", network=Hasty(), reconnect=True)
    assert mine.protocols[0].told.calls == [("made", None), ("lost", "ConnectionResetError")]
    await mine.number(1)
    assert len(pauses) == 1
    transport.close()
    assert links[1].said == ["close"]
