"""How a server opens and closes: lifespans, draining, and every awkward moment of a close."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

import holdfast
from holdfast.control.wheel import Wheel
from holdfast.errors import Cancelled, ConfigError, Overloaded, Unavailable
from holdfast.facts import ConnectionRefused, Draining, Listening, Stopped
from holdfast.net import ListenOptions
from holdfast.net.memory import MemoryNetwork
from holdfast.net.network import KernelNetwork

from .faults.helpers import rig, until


class Room:
    """A service whose lifespan and handlers write down what happens."""

    def __init__(self, *, fail: str = "", name: str = "room") -> None:
        self.log: list[str] = []
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        svc = self.service = holdfast.Service(name)

        @svc.lifespan
        async def lifespan() -> AsyncIterator[dict[str, int]]:
            if fail == "start":
                raise RuntimeError("cannot start")
            self.log.append("open")
            yield {"n": 1}
            self.log.append("closed")
            if fail == "end":
                raise RuntimeError("cannot end")

        @svc.method
        async def waits() -> int:
            try:
                await self.gate
                return 1
            finally:
                await asyncio.sleep(0)
                self.log.append("handler over")

        @svc.method
        async def state(ctx: holdfast.Context) -> int:
            return ctx.state(dict)["n"]

        @svc.method
        async def stubborn() -> int:
            while not self.gate.done():
                try:
                    await asyncio.shield(self.gate)
                except asyncio.CancelledError:
                    self.log.append("not me")
            return 1

        @svc.method
        async def big(n: int) -> bytes:
            return bytes(n)


def spawn(coro: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(coro)


@pytest.mark.both_loops
async def test_what_is_open_finishes_and_nothing_new_begins() -> None:
    room = Room()
    async with rig(room.service, bind="memory://drain") as here:
        assert await here.client.call("room.state", returns=int) == 1
        call = spawn(here.client.call("room.waits", returns=int))
        await until(lambda: here.desk.running)
        closing = spawn(here.server.close())
        await until(lambda: here.ours.going)
        assert here.server.stats().draining
        with pytest.raises((Unavailable, Overloaded)):
            await here.client.call("room.state", returns=int)
        room.gate.set_result(None)
        assert await call == 1
        await closing
        assert room.log == ["open", "handler over", "closed"]
        assert here.server.stats().connections == 0
        assert [fact.cut for fact in here.seen(Stopped)] == [0]
        assert len(here.seen(Draining)) == 1


@pytest.mark.both_loops
async def test_what_does_not_finish_in_time_is_cut_and_told() -> None:
    room = Room()
    async with rig(room.service, bind="memory://cut", drain_s=0.01) as here:
        call = spawn(here.client.call("room.waits"))
        await until(lambda: here.desk.running)
        await here.server.close()
        with pytest.raises(Cancelled, match="the server went down"):
            await call
        assert room.log == ["open", "handler over", "closed"]
        assert [fact.cut for fact in here.seen(Stopped)] == [1]


@pytest.mark.both_loops
async def test_a_second_close_waits_for_the_first() -> None:
    room = Room()
    async with rig(room.service, bind="memory://twice") as here:
        call = spawn(here.client.call("room.waits"))
        await until(lambda: here.desk.running)
        closings = [spawn(here.server.close()) for _ in range(2)]
        waits = spawn(here.server.wait_closed())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in (*closings, waits))
        room.gate.set_result(None)
        await asyncio.gather(call, waits, *closings)
        await here.server.close()
        assert room.log[-1] == "closed"
        assert len(here.seen(Stopped)) == 1


@pytest.mark.both_loops
async def test_a_cancelled_close_cuts_at_once_and_still_ends_handlers_before_lifespans() -> None:
    room = Room()
    async with rig(room.service, bind="memory://cancelled", drain_s=60.0) as here:
        call = spawn(here.client.call("room.waits"))
        await until(lambda: here.desk.running)
        closing = spawn(here.server.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, call])
        assert closing.cancelled()
        assert isinstance(call.exception(), holdfast.OutcomeUnknown)
        assert room.log == ["open", "handler over", "closed"]
        await here.server.wait_closed()


async def test_a_handler_that_will_not_end_is_not_waited_for_twice() -> None:
    room = Room()
    async with rig(room.service, bind="memory://stubborn", drain_s=0.0, cancel_grace_s=0.02) as here:
        call = spawn(here.client.call("room.stubborn"))
        await until(lambda: here.desk.running)
        await here.server.close()
        assert room.log[-1] == "closed"
        assert isinstance(await asyncio.gather(call, return_exceptions=True), list)
        room.gate.set_result(None)
        await until(lambda: not here.desk.running)


async def test_a_large_reply_that_is_half_out_arrives_whole() -> None:
    room = Room()
    async with rig(room.service) as here:
        call = spawn(here.client.call("room.big", n=8_000_000, returns=bytes))
        await until(lambda: here.theirs[0].conn.busy)
        await here.server.close()
        assert len(await call) == 8_000_000


@pytest.mark.both_loops
async def test_a_client_that_connects_while_the_server_goes_is_turned_away() -> None:
    room = Room()
    async with rig(room.service, bind="memory://late", ready=False) as here:
        call = spawn(here.client.call("room.state"))
        for _ in range(3):
            await asyncio.sleep(0)
        await here.server.close()
        with pytest.raises((Unavailable, Overloaded)) as caught:
            await call
        assert caught.value.executed == "no"


@pytest.mark.both_loops
async def test_a_connection_that_is_let_in_when_the_server_is_closed_is_closed_too() -> None:
    """Accepted in its last moment, by a network whose tasks are not the server's: nothing may be left of a closed server."""
    loop, room = asyncio.get_running_loop(), Room()
    opened: asyncio.Future[None] = loop.create_future()
    adopting: list[asyncio.Task[Any]] = []

    async def later(coro: Any) -> None:
        await opened
        await coro

    def held(coro: Any) -> asyncio.Task[Any]:
        adopting.append(loop.create_task(later(coro)))
        return adopting[-1]

    network = KernelNetwork(held, Wheel(loop.time, loop.call_at))
    server = holdfast.serve(room.service, bind="tcp://127.0.0.1:0", network=network)
    async with server:
        host, port = server.addresses[0].removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await until(lambda: adopting)
    with closing(writer):
        opened.set_result(None)
        await asyncio.gather(*adopting)
        assert server.stats().connections == 0
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_lifespan_that_fails_at_its_start_stops_the_server_and_closes_the_others() -> None:
    first, second = Room(), Room(fail="start", name="second")
    with pytest.raises(RuntimeError, match="cannot start"):
        async with holdfast.serve([first.service, second.service], bind="memory://x", network=MemoryNetwork()):
            raise AssertionError("it did not start")
    assert first.log == ["open", "closed"]


async def test_a_lifespan_that_fails_at_its_end_is_told_and_the_server_is_closed_all_the_same() -> None:
    room = Room(fail="end")
    server = holdfast.serve(room.service, bind="memory://x", network=MemoryNetwork())
    with pytest.raises(RuntimeError, match="cannot end"):
        async with server:
            pass
    await server.wait_closed()


async def test_a_port_in_use_closes_what_was_open() -> None:
    room, network = Room(), MemoryNetwork()
    with pytest.raises(ConfigError, match="in use"):
        async with holdfast.serve(room.service, bind=["memory://a", "memory://a"], network=network):
            raise AssertionError("it did not start")
    assert room.log == ["open", "closed"]
    async with holdfast.serve(room.service, bind="memory://a", network=network) as server:
        assert server.addresses == ("memory://a",)


async def test_entering_a_server_twice_leaves_the_first_entry_alone() -> None:
    room = Room()
    async with rig(room.service, bind="memory://again") as here:
        with pytest.raises(RuntimeError, match="opened already"):
            await here.server.__aenter__()
        assert await here.client.call("room.state", returns=int) == 1


async def test_one_service_may_be_served_twice() -> None:
    room, network = Room(), MemoryNetwork()
    async with (
        holdfast.serve(room.service, bind="memory://a", network=network),
        holdfast.serve(room.service, bind="memory://b", network=network),
        holdfast.connect("memory://a", network=network) as a,
        holdfast.connect("memory://b", network=network) as b,
    ):
        assert (await a.call("room.state"), await b.call("room.state")) == (1, 1)
    assert room.log == ["open", "open", "closed", "closed"]


async def test_it_says_where_it_listens() -> None:
    facts: list[Any] = []
    room = Room()
    async with holdfast.serve(room.service, bind=["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"], emit=facts.append) as server:
        assert [fact.address for fact in facts if isinstance(fact, Listening)] == list(server.addresses)
        assert len(set(server.addresses)) == 2


async def test_it_says_how_it_listens_as_the_kernel_has_it() -> None:
    config = holdfast.ServerConfig(listen=ListenOptions(keepalive_idle_s=123, connections_max=5))
    server = holdfast.serve(Room().service, bind="tcp://127.0.0.1:0", config=config)
    assert server.listeners() == ()
    async with server:
        (listener,) = server.listeners()
        assert listener.address == server.addresses[0]
        assert (listener.options["keepalive_idle_s"], listener.options["connections_max"]) == (123, 5)
        assert listener.options["bound"] == server.addresses[0]


async def test_clients_are_cut_for_nobody_and_strangers_for_the_next_client() -> None:
    facts: list[Any] = []
    config = holdfast.ServerConfig(listen=ListenOptions(connections_max=2))
    async with holdfast.serve(Room().service, bind="tcp://127.0.0.1:0", config=config, emit=facts.append) as server:
        url = server.addresses[0]
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        with closing(socket.create_connection((host, int(port)))) as silent, closing(socket.create_connection((host, int(port)))) as other:
            async with holdfast.connect(url, attempts=1) as first, holdfast.connect(url, attempts=1) as second:
                await first.ready(deadline=10)
                await second.ready(deadline=10)
                async with holdfast.connect(url, attempts=1) as third:
                    with pytest.raises(holdfast.Unavailable, match="no room at"):
                        await third.call("room.any")
                assert not server._strangers
                await first.ready(deadline=10)
            for stranger in (silent, other):
                with pytest.raises(ConnectionResetError):
                    stranger.recv(100)
    refused = {fact.reason: fact.count for fact in facts if isinstance(fact, ConnectionRefused)}
    assert [reason.partition(" at ")[0] for reason in refused] == ["cut to make room: it had not said hello yet", "no room"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bind": []}, "no address to listen on"),
        ({"bind": "tcp://0.0.0.0:7000"}, "insecure=True"),
        ({"bind": "nonsense://x"}, "nonsense"),
    ],
)
def test_a_bad_bind_is_refused_with_what_to_write(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        holdfast.serve(holdfast.Service("shop"), **arguments)


def test_services_must_be_there_and_differ() -> None:
    with pytest.raises(ConfigError, match="no service"):
        holdfast.serve([], bind="memory://x")
    with pytest.raises(ConfigError, match="two services are called 'shop'"):
        holdfast.serve([holdfast.Service("shop"), holdfast.Service("shop")], bind="memory://x")


@pytest.mark.parametrize("field", ["handlers_max", "threads_max", "threads_queue_max", "drain_s", "cancel_grace_s", "assembly_max_bytes"])
def test_a_configuration_that_cannot_work_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        holdfast.ServerConfig(**{field: -1})
