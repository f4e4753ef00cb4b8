"""One connection to one address: shared attempts, back-off, coming back after a loss, and a close that leaves nobody waiting."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import holdfast
from holdfast.control.wheel import Wheel
from holdfast.errors import DeadlineExceeded, HoldfastError, Unavailable
from holdfast.facts import ConnectFailed, Fact, discard
from holdfast.net.address import Address, parse_address
from holdfast.net.link import Link, ListenOptions, Receiver
from holdfast.net.memory import MemoryNetwork
from holdfast.rpc.catalogue import Catalogue
from holdfast.rpc.contract import contract_of
from holdfast.rpc.dialer import DialConfig, Dialer
from holdfast.rpc.session import SessionShared
from holdfast.tasks import Scope
from holdfast.wire import ByteBudget, Called, Connection, HelloReceived, Settings

from ..faults.helpers import until
from ..net.helpers import Recorder


class Network(MemoryNetwork):
    """Counts attempts; `gate` holds them up, `error` fails them."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0
        self.gate: asyncio.Future[None] | None = None
        self.error: Exception | None = None

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        self.attempts += 1
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        return await super().connect(address, make_receiver, timeout_s=timeout_s)


class Stuck:
    """A link whose close does not come to an end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.local, self.peer = link.local, link.peer
        self.write, self.write_buffer_bytes = link.write, link.write_buffer_bytes
        self.pause_reading, self.resume_reading = link.pause_reading, link.resume_reading
        self.abort, self.is_closing = link.abort, link.is_closing

    def close(self) -> None:
        pass


class Place:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.network = Network()
        self.facts: list[Fact] = []
        self.errors: list[BaseException] = []
        self.scope = Scope(self.errors.append)
        shared = SessionShared(loop, Wheel(loop.time, loop.call_at), self.facts.append, Settings(), ByteBudget(1 << 20), handshake_s=0.2)
        config = DialConfig(connect_s=0.1, base_s=0.02, cap_s=0.04)
        address = parse_address("memory://dial")
        self.dialer = Dialer(address, self.network, shared, config, random.Random(1), self.scope.spawn)

    def deadline(self, seconds: float = 10.0) -> float:
        return asyncio.get_running_loop().time() + seconds

    def backoffs(self) -> list[float]:
        return [fact.retry_in_s for fact in self.facts if isinstance(fact, ConnectFailed)]


@asynccontextmanager
async def place(*, serving: bool = True) -> AsyncIterator[Place]:
    here = Place()
    service = holdfast.Service("shop")

    @service.method
    async def price(sku: str) -> int:
        return len(sku)

    try:
        if serving:
            async with holdfast.serve(service, bind="memory://dial", network=here.network):
                yield here
                await here.dialer.close(within_s=2.0)
        else:
            yield here
    finally:
        await here.dialer.close(within_s=2.0)
        await here.scope.close(grace_s=2.0)


@pytest.mark.both_loops
async def test_all_who_wait_share_one_attempt_and_it_outlives_the_one_who_began_it() -> None:
    async with place() as here:
        here.network.gate = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(here.dialer.ready(here.deadline(), wait=False)) for _ in range(3)]
        await until(lambda: here.network.attempts)
        waiting[0].cancel()
        here.network.gate.set_result(None)
        sessions = await asyncio.gather(*waiting[1:])
        assert sessions[0] is sessions[1] is await here.dialer.ready(None, wait=False)
        assert here.network.attempts == 1
        assert here.dialer.catalogue is not None
        assert here.dialer.catalogue.find("shop.price") is not None


async def test_a_failure_is_told_and_holds_the_next_attempt_back() -> None:
    async with place(serving=False) as here:
        with pytest.raises(Unavailable, match="nobody listens"):
            await here.dialer.ready(here.deadline(), wait=False)
        with pytest.raises(Unavailable, match="next attempt in") as caught:
            await here.dialer.ready(here.deadline(), wait=False)
        assert here.network.attempts == 1
        assert caught.value.executed == "no"
        assert caught.value.retry_after_s is not None
        assert 0.0 < caught.value.retry_after_s <= 0.02


async def test_who_waits_goes_on_until_the_deadline() -> None:
    async with place(serving=False) as here:
        with pytest.raises(DeadlineExceeded) as caught:
            await here.dialer.ready(here.deadline(0.2), wait=True)
        assert caught.value.executed == "no"
        assert isinstance(caught.value.__cause__, Unavailable)
        assert here.network.attempts > 2
        assert all(backoff <= 0.04 for backoff in here.backoffs())


async def test_a_peer_that_accepts_and_says_nothing_is_given_up() -> None:
    async with place(serving=False) as here:
        listening = await here.network.listen(parse_address("memory://dial"), Recorder, ListenOptions(), here.facts.append)
        with pytest.raises(HoldfastError, match=r"in time|handshake") as caught:
            await here.dialer.ready(here.deadline(), wait=False)
        assert caught.value.executed == "no"
        listening.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("turns", range(4))
async def test_a_close_at_any_moment_tells_who_waits(turns: int) -> None:
    """Even before the task that connects has taken its first step."""
    async with place() as here:
        waiting = asyncio.get_running_loop().create_task(here.dialer.ready(None, wait=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        await here.dialer.close(within_s=1.0)
        await here.scope.close(grace_s=1.0)
        await asyncio.wait([waiting])
        assert waiting.exception() is None or isinstance(waiting.exception(), Unavailable)
        with pytest.raises(Unavailable, match="the client is closed"):
            await here.dialer.ready(None, wait=True)


async def test_an_unexpected_error_does_not_leave_anybody_waiting() -> None:
    async with place(serving=False) as here:
        here.network.error = ZeroDivisionError("a bug")
        with pytest.raises(Unavailable, match="a bug"):
            await here.dialer.ready(None, wait=False)
        await until(lambda: here.errors)
        assert isinstance(here.errors[0], ZeroDivisionError)


@pytest.mark.parametrize("answered", [True, False])
async def test_a_session_that_was_of_use_is_replaced_at_once_another_is_not(answered: bool) -> None:
    async with place() as here:
        session = await here.dialer.ready(here.deadline(), wait=False)
        assert not session.answered, "the catalogue alone is no use"
        session.answered = answered
        assert session.link is not None
        session.link.abort()
        await session.gone()
        if answered:
            assert await here.dialer.ready(here.deadline(), wait=False) is not session
            assert here.backoffs() == []
        else:
            with pytest.raises(Unavailable, match="before it answered a call"):
                await here.dialer.ready(here.deadline(), wait=False)
            assert len(here.backoffs()) == 1


async def test_closing_waits_until_the_sessions_are_gone() -> None:
    async with place() as here:
        session = await here.dialer.ready(here.deadline(), wait=False)
        await here.dialer.close(within_s=2.0)
        assert session.closed
        assert not session.usable


async def test_closing_cuts_a_session_that_does_not_end() -> None:
    async with place() as here:
        session = await here.dialer.ready(here.deadline(), wait=False)
        assert session.link is not None
        session.link = Stuck(session.link)
        await here.dialer.close(within_s=0.01)
        await session.gone()
        assert session.closed


class Impostor(Recorder):
    """A server whose WELCOME names a digest, and whose catalogue is another."""

    def __init__(self, digest: bytes, catalogue: bytes) -> None:
        super().__init__()
        self.conn = Connection("server", Settings(), budget=ByteBudget(1 << 20))
        self.digest = digest
        self.catalogue = catalogue

    def bytes_received(self, data: memoryview) -> int:
        used = self.conn.receive_data(data)
        for event in self.conn.events:
            if isinstance(event, HelloReceived):
                self.conn.send_welcome(Settings(catalogue=self.digest))
            elif isinstance(event, Called):
                self.conn.send_reply(event.call, self.catalogue, True)
        self.conn.events.clear()
        self.link.write(self.conn.take_output(1 << 20))
        return used


@pytest.mark.parametrize("digest", ["theirs", ""])
async def test_a_server_cannot_say_what_another_one_can_do(digest: str) -> None:
    def price(sku: str) -> int:
        return len(sku)

    theirs = Catalogue.of([contract_of(price, "impostor.price", idempotent=False)])
    lie = Catalogue.of([contract_of(price, "impostor.price", idempotent=True)])
    named = theirs.digest if digest else b""
    for catalogue in (lie, theirs):
        async with place(serving=False) as here:
            make = functools.partial(Impostor, named, catalogue.encode())
            listening = await here.network.listen(parse_address("memory://dial"), make, ListenOptions(), discard)
            await here.dialer.ready(here.deadline(), wait=False)
            assert here.dialer.catalogue is not None
            assert here.dialer.catalogue.entries == catalogue.entries
            listening.close()
