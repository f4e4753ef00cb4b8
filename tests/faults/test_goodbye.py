"""A server closes under load: for a client that never retries, no call is lost and none is executed twice or unheard."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

import holdfast
from holdfast.errors import HoldfastError
from tests.cli.processes import serving
from tests.faults.helpers import PATIENCE_S, rig, until

CALLERS = 64


class Counted:
    """A service that counts what it has executed."""

    def __init__(self) -> None:
        self.service = holdfast.Service("shop")
        self.executed: Counter[int] = Counter()
        self.release: asyncio.Event = asyncio.Event()
        self.held = 0
        self.service.method(self.add)
        self.service.method(self.hold)

    async def add(self, number: int) -> int:
        self.executed[number] += 1
        await asyncio.sleep(0)
        return number

    async def hold(self, number: int) -> bytes:
        self.executed[number] += 1
        self.held += 1
        await self.release.wait()
        return bytes(200_000)


class Ledger:
    """What callers were told."""

    def __init__(self) -> None:
        self.next = 0
        self.answered: set[int] = set()
        self.refused: set[int] = set()
        self.executed_or_not: set[int] = set()

    async def caller(self, client: holdfast.Client) -> None:
        """Call, one after the other, until one is refused."""
        while True:
            self.next += 1
            number = self.next
            try:
                await client.call("shop.add", number, returns=int)
            except HoldfastError as error:
                if error.executed == "no":
                    self.refused.add(number)
                else:
                    self.executed_or_not.add(number)
                return
            self.answered.add(number)


@pytest.mark.both_loops
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "memory://shop"])
async def test_a_close_under_load_loses_no_call_of_a_client_that_never_retries(bind: str) -> None:
    counted, ledger = Counted(), Ledger()
    async with rig(counted.service, bind=bind, attempts=1) as here:
        loop = asyncio.get_running_loop()
        held = [loop.create_task(here.client.call("shop.hold", -n, returns=bytes)) for n in range(1, 9)]
        callers = [loop.create_task(ledger.caller(here.client)) for _ in range(CALLERS)]
        await until(lambda: len(ledger.answered) > 500 and counted.held == 8)
        closing = loop.create_task(here.server.close())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*callers)  # each ends with a call that was surely not executed
            assert not closing.done(), "what is in flight holds the close"
            counted.release.set()
            assert [len(body) for body in await asyncio.gather(*held)] == [200_000] * 8
            await closing
    assert ledger.executed_or_not == set()
    assert len(ledger.refused) == CALLERS
    assert set(counted.executed) == ledger.answered | {-n for n in range(1, 9)}
    assert set(counted.executed.values()) == {1}


async def test_a_new_client_is_told_that_the_server_goes_down() -> None:
    counted = Counted()
    async with rig(counted.service) as here:
        loop = asyncio.get_running_loop()
        held = loop.create_task(here.client.call("shop.hold", 1, returns=bytes))
        await until(lambda: counted.held)
        closing = loop.create_task(here.server.close())
        await until(lambda: here.ours.going)
        assert here.client.status is not None
        assert here.client.status.draining
        with pytest.raises(HoldfastError) as caught:
            await here.client.call("shop.add", 2, returns=int)
        assert caught.value.executed == "no"
        counted.release.set()
        assert len(await held) == 200_000
        await closing
    assert 2 not in counted.executed


@pytest.mark.parametrize("round_", range(3))
async def test_a_process_that_is_told_to_end_under_load_loses_no_call(round_: int) -> None:
    ledger = Ledger()
    with serving() as (server, address):
        loop = asyncio.get_running_loop()

        async def caller(client: holdfast.Client) -> None:
            while True:
                ledger.next += 1
                number = ledger.next
                try:
                    assert await client.call("shop.place", order={"id": str(number), "qty": 1}) == f"receipt-{number}-1"
                except HoldfastError as error:
                    (ledger.refused if error.executed == "no" else ledger.executed_or_not).add(number)
                    return
                ledger.answered.add(number)

        clients = [holdfast.connect(address, attempts=1) for _ in range(3)]
        async with clients[0], clients[1], clients[2]:
            callers = [loop.create_task(caller(client)) for client in clients for _ in range(32)]
            await until(lambda: len(ledger.answered) > 1000)
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*callers)
    assert ledger.executed_or_not == set()
    assert len(ledger.refused) == 96
