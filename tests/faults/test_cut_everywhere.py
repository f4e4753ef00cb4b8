"""A connection that is cut at every byte, in both directions: each call ends, and what its error says about execution is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import holdfast
from holdfast.errors import HoldfastError
from holdfast.net.link import Network
from holdfast.net.memory import MemoryNetwork
from holdfast.policy.retry import RetryConfig
from holdfast.rpc.dialer import DialConfig
from holdfast.wire import Settings

from .helpers import PATIENCE_S, Cut, CuttingNetwork, Rig, kernel, rig

pytestmark = pytest.mark.slow  # a connection per byte

SMALL = Settings(frame_max_bytes=1024)
QUICK = DialConfig(base_s=0.0001, cap_s=0.0001)


class Counted:
    """A service that knows how often it ran."""

    def __init__(self) -> None:
        self.runs = 0
        svc = self.service = holdfast.Service("t")

        @svc.method
        async def once(text: str) -> str:
            self.runs += 1
            return text[::-1]

        @svc.method(idempotent=True)
        async def again(text: str) -> str:
            self.runs += 1
            return text[::-1]

        @svc.method
        async def items(n: int) -> AsyncIterator[int]:
            self.runs += 1
            for number in range(n):
                yield number

        @svc.method
        async def total(numbers: AsyncIterator[int]) -> int:
            self.runs += 1
            return sum([number async for number in numbers])

        @svc.method
        async def both(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
            self.runs += 1
            async for number in numbers:
                yield number


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def unary(client: holdfast.Client) -> None:
    assert await client.call("t.once", "abc", returns=str) == "cba"


async def idempotent(client: holdfast.Client) -> None:
    assert await client.call("t.again", "abc", returns=str) == "cba"


async def in_pieces(client: holdfast.Client) -> None:
    assert await client.call("t.once", "ab" * 1200, returns=str) == "ba" * 1200


async def server_stream(client: holdfast.Client) -> None:
    async with client.stream("t.items", 3, returns=int) as items:
        assert [item async for item in items] == [0, 1, 2]


async def client_stream(client: holdfast.Client) -> None:
    assert await client.call("t.total", numbers=numbers(4), returns=int) == 6


async def duplex(client: holdfast.Client) -> None:
    async with client.stream("t.both", numbers=numbers(3), returns=int) as items:
        assert [item async for item in items] == [0, 1, 2]


Call = Callable[[holdfast.Client], Awaitable[None]]
CALLS: dict[str, Call] = {
    "unary": unary,
    "idempotent": idempotent,
    "server_stream": server_stream,
    "client_stream": client_stream,
    "duplex": duplex,
}


async def attempt(here: Rig, call: Call) -> HoldfastError | None:
    """Make the call; what it ended with. It ends."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await call(here.client)
    except HoldfastError as error:
        return error
    return None


def judge(error: HoldfastError | None, runs: int, where: str) -> None:
    """What the caller was told about execution is what happened."""
    if error is None:
        assert runs == 1, f"{where}: the call succeeded and ran {runs} times"
        return
    assert isinstance(error, (holdfast.Unavailable, holdfast.OutcomeUnknown, holdfast.ProtocolError)), f"{where}: {error!r}"
    assert runs <= 1, f"{where}: it ran {runs} times"
    if error.executed == "no":
        assert runs == 0, f"{where}: told that it was not executed ({error!r}), and it ran"


def network_of(kind: str) -> Network:
    return MemoryNetwork() if kind == "memory" else kernel()


BIND = {"memory": "memory://cut", "tcp": "tcp://127.0.0.1:0"}


async def cut_once(kind: str, call: Call, cut: Cut, attempts: int) -> tuple[HoldfastError | None, int]:
    """Make one call over a connection with that cut; what it ended with, and how often it ran."""
    counted = Counted()
    config = holdfast.ClientConfig(wire=SMALL, dial=QUICK, retry=RetryConfig(base_s=0.0001))
    server = holdfast.ServerConfig(wire=SMALL, drain_s=2.0)
    network = CuttingNetwork(network_of(kind), cut)
    async with rig(
        counted.service, bind=BIND[kind], attempts=attempts, network=network, ready=False, client_config=config, config=server
    ) as here:
        error = await attempt(here, call)
        await here.clean()
    return error, counted.runs


def cut_at(direction: str, at: int, *, politely: bool = False) -> Cut:
    return Cut(to_server=at, politely=politely) if direction == "to_server" else Cut(to_client=at, politely=politely)


async def cut_at_every_byte(kind: str, call: Call, *, politely: bool, step: int = 1) -> None:
    """Cut both directions after every `step`-th byte, from the first of the connection to the last of the call."""
    whole = Cut()
    for _ in range(2):  # the first time fetches the catalogue too, which is kept
        whole = Cut()
        assert await cut_once(kind, call, whole, 1) == (None, 1)
    outcomes: set[str] = set()
    for direction in ("to_server", "to_client"):
        end = whole.counted[direction]
        for at in (*range(0, end, step), end):
            error, runs = await cut_once(kind, call, cut_at(direction, at, politely=politely), 1)
            judge(error, runs, f"cut after {at} bytes {direction}")
            outcomes.add("ok" if error is None else error.executed)
    assert outcomes == {"ok", "no", "maybe"}


@pytest.mark.parametrize("politely", [False, True], ids=["reset", "end"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_connection_cut_at_every_byte_ends_every_call_truthfully(name: str, politely: bool) -> None:
    await cut_at_every_byte("memory", CALLS[name], politely=politely)


async def test_a_message_in_pieces_cut_anywhere_ends_truthfully() -> None:
    await cut_at_every_byte("memory", in_pieces, politely=False, step=17)


@pytest.mark.parametrize("name", ["unary", "client_stream"])
async def test_over_real_sockets_too(name: str) -> None:
    await cut_at_every_byte("tcp", CALLS[name], politely=False, step=3)


async def test_with_three_attempts_a_call_runs_at_most_once_and_fails_only_when_that_is_unknown() -> None:
    whole = Cut()
    for _ in range(2):
        whole = Cut()
        await cut_once("memory", unary, whole, 3)
    for direction in ("to_server", "to_client"):
        for at in range(whole.counted[direction] + 1):
            error, runs = await cut_once("memory", unary, cut_at(direction, at), 3)
            judge(error, runs, f"cut after {at} bytes {direction}")
            assert error is None or error.executed == "maybe", f"{at} bytes {direction}: not executed, and not tried again: {error!r}"


async def test_an_idempotent_call_survives_one_cut_wherever_it_is() -> None:
    whole = Cut()
    for _ in range(2):
        whole = Cut()
        await cut_once("memory", idempotent, whole, 3)
    for direction in ("to_server", "to_client"):
        for at in range(whole.counted[direction] + 1):
            error, runs = await cut_once("memory", idempotent, cut_at(direction, at), 3)
            assert error is None, f"cut after {at} bytes {direction}: {error!r}"
            assert 1 <= runs <= 2
