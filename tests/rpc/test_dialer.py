"""One connection to one address: shared attempts, back-off, coming back after a loss, and a close that leaves nobody waiting."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

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
from holdfast.wire import ByteBudget, Called, CallState, Connection, HelloReceived, Settings
from tests.calling.town import LoopClock, run_exactly

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

    def bytes_received(self, data: memoryview | bytes) -> int:
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


async def test_behind_one_address_there_may_be_two_versions_and_each_connection_has_its_own_catalogue() -> None:
    def price(sku: str) -> int:
        return len(sku)

    old, new = (Catalogue.of([contract_of(price, "versions.price", idempotent=idempotent)]) for idempotent in (True, False))
    async with place(serving=False) as here:
        sessions = []
        for catalogue in (old, new):
            make = functools.partial(Impostor, b"", catalogue.encode())
            listening = await here.network.listen(parse_address("memory://dial"), make, ListenOptions(), discard)
            sessions.append(await here.dialer.begin())
            listening.close()
        assert here.dialer.session is sessions[1]
        assert here.dialer.catalogue is not None
        assert here.dialer.catalogue.entries == new.entries
        assert sessions[1].link is not None
        sessions[1].link.abort()
        await until(lambda: here.dialer.session is sessions[0])
        assert here.dialer.catalogue.entries == old.entries


class Going(Connection):
    """Says with the answer that there are to be no more calls: both are in one read."""

    def send_reply(self, call: CallState, body: bytes, raw: bool, trailers: bytes = b"") -> bool:
        sent = super().send_reply(call, body, raw, trailers)
        self.send_goaway("going")
        return sent


class Leaver(Impostor):
    """A server that is gone, or says that it goes, as soon as it has answered the catalogue."""

    def __init__(self, catalogue: bytes, how: str) -> None:
        super().__init__(b"", catalogue)
        self.how = how
        if how == "at once":
            self.conn = Going("server", Settings(), budget=ByteBudget(1 << 20))

    def bytes_received(self, data: memoryview | bytes) -> int:
        known = self.conn._last_id
        used = super().bytes_received(data)
        if self.conn._last_id == known:
            return used
        if self.how == "cut":
            self.link.abort()
        elif self.how == "closed":
            self.link.close()
        elif self.how == "goaway":
            self.conn.send_goaway("going")
            self.link.write(self.conn.take_output(1 << 20))
        return used


@pytest.mark.parametrize("how", ["goaway", "at once", "closed", "cut"])
async def test_a_connection_that_is_over_with_the_answer_of_the_catalogue_is_none(how: str) -> None:
    def price(sku: str) -> int:
        return len(sku)

    catalogue = Catalogue.of([contract_of(price, "leaver.price", idempotent=True)])
    async with place(serving=False) as here:
        listening = await here.network.listen(
            parse_address("memory://dial"), functools.partial(Leaver, catalogue.encode(), how), ListenOptions(), discard
        )
        with pytest.raises(Unavailable) as raised:
            await here.dialer.ready(here.deadline(), wait=False)
        assert raised.value.executed == "no"
        assert (here.dialer.state, here.dialer.session) == ("down", None)
        assert here.network.attempts == 1
        listening.close()


# ----------------------------------------------------------------------------------------------------- the reconnect contract


class Diary:
    """What a dialer becomes, and when: in virtual time, with a budget that may be empty."""

    def __init__(self, *, keep: bool = False, useful_s: float = 10.0) -> None:
        loop = asyncio.get_running_loop()
        self.network = Network()
        self.facts: list[Fact] = []
        self.scope = Scope(lambda error: loop.call_exception_handler({"message": "a task failed", "exception": error}))
        shared = SessionShared(loop, Wheel(loop.time, loop.call_at), self.facts.append, Settings(), ByteBudget(1 << 20))
        config = DialConfig(base_s=1.0, cap_s=8.0, useful_s=useful_s)
        self.began_at = loop.time()
        self.charged: list[float] = []
        self.may_charge = True
        self.states: list[str] = []
        self.dialer = Dialer(
            parse_address("memory://dial"), self.network, shared, config, random.Random(1), self.scope.spawn, keep=keep, charge=self.charge
        )
        self.dialer.on_change = lambda _: self.states.append(self.dialer.state)

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.began_at

    def charge(self, now: float) -> bool:
        self.charged.append(now - self.began_at)
        return self.may_charge

    def refuse(self, refused: bool = True) -> None:
        self.network.error = Unavailable("connection refused") if refused else None

    def backoffs(self) -> list[float]:
        return [fact.retry_in_s for fact in self.facts if isinstance(fact, ConnectFailed)]

    async def told(self, *, wait: bool = False) -> str:
        try:
            await self.dialer.ready(None, wait=wait)
        except HoldfastError as error:
            return str(error)
        return "ready"


def in_diary(test: Callable[[Diary, holdfast.Server], Coroutine[Any, Any, None]], **more: Any) -> Callable[[], None]:
    """Run a test in virtual time beside a server."""

    def run() -> None:
        async def main() -> None:
            diary = Diary(**more)
            service = holdfast.Service("shop")

            @service.method
            async def price(sku: str) -> int:
                await asyncio.sleep(float(sku))
                return 1

            config = holdfast.ServerConfig(drain_s=5.0)
            async with holdfast.serve(service, bind="memory://dial", network=diary.network, clock=LoopClock(), config=config) as server:
                await test(diary, server)
                await diary.dialer.close(within_s=2.0)
                await diary.scope.close(grace_s=2.0)

        run_exactly(main)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def kept(test: Callable[[Diary, holdfast.Server], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return in_diary(test, keep=True)


def cut(server: holdfast.Server) -> None:
    for session in list(server._sessions):
        assert session.link is not None
        session.link.abort()


def lost(diary: Diary) -> None:
    """The present connection breaks, after it was of use."""
    session = diary.dialer.session
    assert session is not None
    assert session.link is not None
    session.answered = True
    session.link.abort()


@in_diary
async def test_its_states_come_in_order_and_say_since_when(diary: Diary, server: holdfast.Server) -> None:
    dialer = diary.dialer
    assert (dialer.state, dialer.since, dialer.next_attempt_at) == ("idle", diary.began_at, None)
    diary.refuse()
    assert await diary.told() == "connection refused"
    assert (diary.states, dialer.state) == (["connecting", "down"], "down")
    assert dialer.next_attempt_at == dialer.since + diary.backoffs()[0]
    assert str(dialer.last_error) == "connection refused"
    diary.refuse(False)
    assert await diary.told(wait=True) == "ready"
    assert (dialer.state, dialer.since, dialer.next_attempt_at) == ("ready", diary.began_at + diary.now(), None)
    lost(diary)
    await asyncio.sleep(0.1)
    assert diary.states == ["connecting", "down", "connecting", "ready", "idle"]


@kept
async def test_one_that_is_kept_connects_again_by_itself(diary: Diary, server: holdfast.Server) -> None:
    await diary.told()
    for _ in range(3):
        lost(diary)
        await asyncio.sleep(0.01)
        assert diary.dialer.state == "ready"
    assert diary.states == ["connecting", "ready", *["idle", "connecting", "ready"] * 3]
    assert diary.charged == [], "after a useful session it costs nothing"


@kept
async def test_the_pauses_become_longer_and_short_again_only_after_a_useful_session(diary: Diary, server: holdfast.Server) -> None:
    diary.refuse()
    diary.dialer.begin()
    await asyncio.sleep(30.0)
    assert all(min(8.0, 2**n) / 2 <= backoff <= min(8.0, 2**n) for n, backoff in enumerate(diary.backoffs()[:5]))
    diary.refuse(False)
    await diary.told(wait=True)
    cut(server)
    await asyncio.sleep(0.01)
    assert diary.backoffs()[-1] >= 4.0, "it was connected for a moment, and of no use"
    await diary.told(wait=True)
    await asyncio.sleep(10.0)
    cut(server)
    await asyncio.sleep(0.01)
    diary.refuse()
    lost(diary)
    await asyncio.sleep(0.1)
    assert diary.backoffs()[-1] <= 1.0


@in_diary
async def test_staying_connects_now_and_from_now_on(diary: Diary, server: holdfast.Server) -> None:
    diary.dialer.stay()
    await asyncio.sleep(0.01)
    assert diary.dialer.state == "ready"
    diary.dialer.stay()
    await asyncio.sleep(0.01)
    assert diary.network.attempts == 1, "it is connected"
    lost(diary)
    await asyncio.sleep(0.01)
    assert diary.dialer.state == "ready"


@in_diary
async def test_a_poke_connects_now_what_is_down(diary: Diary, server: holdfast.Server) -> None:
    diary.dialer.poke()
    await asyncio.sleep(0.01)
    assert diary.network.attempts == 0, "nobody asked for it yet"
    diary.refuse()
    await diary.told()
    diary.refuse(False)
    diary.dialer.poke()
    await asyncio.sleep(0.01)
    assert (diary.dialer.state, diary.network.attempts, diary.charged) == ("ready", 2, [])
    diary.dialer.poke()
    await asyncio.sleep(0.01)
    assert diary.network.attempts == 2


@kept
async def test_a_poke_ends_the_pause(diary: Diary, server: holdfast.Server) -> None:
    diary.refuse()
    await diary.told()
    await asyncio.sleep(20.0)
    attempts, moment = diary.network.attempts, diary.now()
    waiting = asyncio.get_running_loop().create_task(diary.told(wait=True))
    await asyncio.sleep(0)
    diary.refuse(False)
    diary.dialer.poke()
    diary.dialer.poke()
    assert await waiting == "ready"
    assert (diary.network.attempts, diary.now()) == (attempts + 1, moment)


@kept
async def test_connecting_again_is_charged_and_waits_twice_as_long_when_there_is_nothing_left(
    diary: Diary, server: holdfast.Server
) -> None:
    diary.refuse()
    await diary.told()
    assert diary.charged == [], "the first attempt is somebody's call"
    await asyncio.sleep(diary.backoffs()[0])
    await asyncio.sleep(0)
    assert (diary.network.attempts, len(diary.charged)) == (2, 1)
    diary.may_charge = False
    pause_s, began = diary.backoffs()[1], diary.now()
    await asyncio.sleep(1.5 * pause_s)
    assert (diary.network.attempts, len(diary.charged)) == (2, 2)
    assert diary.dialer.next_attempt_at == pytest.approx(diary.began_at + began + 2 * pause_s, abs=0.01)
    await asyncio.sleep(0.6 * pause_s)
    assert (diary.network.attempts, len(diary.charged)) == (3, 2), "tried all the same, once more as late"


@kept
async def test_a_server_that_leaves_is_draining_until_there_is_another_connection(diary: Diary, server: holdfast.Server) -> None:
    await diary.told()
    old = diary.dialer.session
    assert old is not None
    old.answered = True
    gate = diary.network.gate = asyncio.get_running_loop().create_future()
    for session in list(server._sessions):
        session.say_goodbye()
    await asyncio.sleep(0.01)
    assert diary.states[2:] == ["ready", "draining", "connecting"] or diary.states[2:] == ["draining", "connecting"]
    await asyncio.sleep(1.0)
    assert old.closed
    assert diary.dialer.state == "connecting", "the end of the old connection says nothing of the new one"
    gate.set_result(None)
    await asyncio.sleep(0.01)
    assert diary.states[-2:] == ["connecting", "ready"]


@pytest.mark.parametrize("turns", range(12))
def test_one_that_is_retired_while_it_connects_leaves_no_connection(turns: int) -> None:
    async def retires(diary: Diary, server: holdfast.Server) -> None:
        waiting = asyncio.get_running_loop().create_task(diary.told(wait=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        diary.dialer.retire()
        said = await waiting
        assert said == "ready" or "no longer one of the nodes" in said
        await asyncio.sleep(0.5)
        assert (diary.dialer.state, diary.dialer.closed, list(server._sessions)) == ("gone", True, [])
        assert "no longer one of the nodes" in await diary.told(wait=True)
        diary.dialer.poke()
        diary.dialer.stay()
        await asyncio.sleep(0.5)
        assert list(server._sessions) == []
        assert diary.states[-1] == "gone"

    in_diary(retires)()


@in_diary
async def test_one_that_is_retired_while_the_network_connects_closes_what_it_gets(diary: Diary, server: holdfast.Server) -> None:
    gate = diary.network.gate = asyncio.get_running_loop().create_future()
    waiting = asyncio.get_running_loop().create_task(diary.told(wait=True))
    await asyncio.sleep(0.01)
    diary.dialer.retire()
    assert "no longer one of the nodes" in await waiting
    gate.set_result(None)
    await asyncio.sleep(0.5)
    assert (list(server._sessions), diary.dialer.session, diary.dialer.state) == ([], None, "gone")


@kept
async def test_one_that_is_retired_in_its_pause_makes_no_attempt_any_more(diary: Diary, server: holdfast.Server) -> None:
    diary.refuse()
    await diary.told()
    attempts = diary.network.attempts
    diary.dialer.retire()
    await asyncio.sleep(60.0)
    assert (diary.network.attempts, diary.states[-1], len(diary.scope)) == (attempts, "gone", 0)


async def test_a_session_whose_catalogue_is_not_known_yet_takes_nobodys_place() -> None:
    """One is being made beside another, and that one is lost: who calls waits for the catalogue, or would call what nobody knows."""
    async with place() as here:
        first = await here.dialer.ready(here.deadline(), wait=False)
        first.answered = True
        learn, learned = here.dialer._learn, asyncio.get_running_loop().create_future()

        async def late(session: Any) -> None:
            await learned
            await learn(session)

        here.dialer._learn = late  # type: ignore[method-assign]
        made = here.dialer.begin()
        await until(lambda: any(session is not first and session.usable for session in here.dialer.sessions))
        assert first.link is not None
        first.link.abort()
        await until(lambda: first.closed)
        assert here.dialer.session is None
        learned.set_result(None)
        assert here.dialer.roomy() is None
        assert await made is here.dialer.session
        assert here.dialer.catalogue is not None
