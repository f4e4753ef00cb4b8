"""Who is let in, who is turned away and how, and that nobody is counted who has gone: over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

import pytest

from holdfast.control.wheel import Wheel
from holdfast.facts import ConnectionRefused, discard
from holdfast.net import door
from holdfast.net.address import parse_address
from holdfast.net.door import Door
from holdfast.net.link import WhenFull
from holdfast.net.network import KernelNetwork
from holdfast.net.options import ListenOptions
from tests.net.helpers import PATIENCE_S, Echo, Place, Recorder, open_sockets, place, turns_until

KINDS = ["tcp4", "unix"]


def door_of(here: Place) -> Door:
    """The door behind the listener of a place."""
    return here.listening._acceptors[0]._trouble.__self__  # type: ignore[union-attr]


async def served(client: Recorder) -> bool:
    """Whether a client gets an answer; otherwise it has been turned away."""
    client.link.write(b"?")
    await client.until(lambda: client.lost or client.data == b"?")
    return bytes(client.data) == b"?"


def refusals(here: Place) -> list[str]:
    return [fact.reason for fact in here.facts if isinstance(fact, ConnectionRefused)]


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", KINDS)
async def test_one_more_than_the_limit_is_turned_away_until_somebody_leaves(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        await here.listen(ListenOptions(connections_max=2))
        first, second = await here.connect(), await here.connect()
        assert await served(first)
        assert await served(second)
        third = await here.connect()
        assert not await served(third)
        assert refusals(here) == [f"no room at {here.address}: 2 connections are open, the limit"]
        first.link.close()
        await first.until(lambda: first.lost)
        await turns_until(lambda: door_of(here)._census.count == 1)
        assert await served(await here.connect())


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", KINDS)
async def test_who_is_turned_away_reads_why_even_if_it_is_talking(kind: str) -> None:
    async with place(kind) as here:
        here.when_full = WhenFull(refusal=lambda reason: f"<{reason}>".encode())
        await here.listen(ListenOptions(connections_max=1))
        await here.pair()
        late = await here.connect()
        late.link.write(b"hello, " * 100)
        await late.until(lambda: late.lost)
        assert late.data == f"<no room at {here.address}: 1 connections are open, the limit; try again later>".encode()
        assert late.error is None
        await turns_until(lambda: door_of(here)._leaving == 0)


@pytest.mark.both_loops
async def test_where_many_are_leaving_the_next_is_told_and_closed_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LEAVING_MAX", 0)
    async with place("tcp4") as here:
        here.when_full = WhenFull(refusal=lambda _: b"no room")
        await here.listen(ListenOptions(connections_max=1))
        await here.pair()
        before = open_sockets()
        with closing(socket.create_connection((here.address.host, here.address.port))) as late:
            late.sendall(b"hello, " * 1000)
            late.setblocking(False)
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(late, 1000) == b"no room"
            assert await loop.sock_recv(late, 1000) == b"", "an end, and no reset"
        assert open_sockets() == before


@pytest.mark.both_loops
async def test_room_is_made_where_somebody_is_worth_less() -> None:
    async with place("tcp4") as here:
        here.make = Echo

        def cut_the_first() -> bool:
            for receiver in here.accepted:
                if receiver.made_link is not None and not receiver.link.is_closing():
                    receiver.link.abort()
                    return True
            return False

        here.when_full = WhenFull(make_room=cut_the_first)
        await here.listen(ListenOptions(connections_max=2))
        clients = [await here.connect() for _ in range(2)]
        for client in clients:
            assert await served(client)
        late = await here.connect()
        assert await served(late)
        await clients[0].until(lambda: clients[0].lost)
        assert not clients[1].lost
        assert refusals(here) == [], "whoever was cut says so itself"


@pytest.mark.both_loops
async def test_those_another_listener_let_in_are_not_waited_for_for_ever() -> None:
    """They fill the room of both and do not go: the newcomer is turned away as at any full listener, and nothing spins."""
    async with place("tcp4") as here:
        here.when_full = WhenFull(make_room=lambda: False)
        await here.listen()
        door_of(here).room = 1
        other = Place(here.network, here.wanted, here.wheel)
        listening = await other.listen(ListenOptions(connections_max=10))
        try:
            for _ in range(3):
                await other.pair()
            late = await here.connect()
            assert not await served(late)
            assert refusals(here) == [f"no room at {here.address}: 1 connections are open, the limit"]
        finally:
            listening.close()
            here.connected += other.connected
            here.accepted += other.accepted


@pytest.mark.both_loops
async def test_where_nobody_is_worth_less_the_newcomer_goes() -> None:
    async with place("tcp4") as here:
        here.make = Echo
        here.when_full = WhenFull(make_room=lambda: False)
        await here.listen(ListenOptions(connections_max=1))
        assert await served(await here.connect())
        assert not await served(await here.connect())


@pytest.mark.parametrize("kind", [*KINDS, "tcp6"])
async def test_a_network_has_a_limit_of_its_own_if_it_is_given_one(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        await here.listen(ListenOptions(connections_per_prefix_max=1))
        assert await served(await here.connect())
        assert not await served(await here.connect())
        assert refusals(here) == [f"no room at {here.address}: 1 connections from one network are open, the limit"]


async def test_networks_beyond_this_machine_have_a_limit_and_this_machine_has_none() -> None:
    async with place("tcp4") as here:
        await here.listen()
        of = door_of(here)._network_of
        assert of(("127.0.0.1", 1)) == of(("::1", 1, 0, 0)) == of("/run/s") == of("") == (None, 0)
        assert of(("192.0.2.1", 1)) == ("192.0.2.1", 256)
        assert of(("2001:db8::1", 1, 0, 0)) == of(("2001:db8::ffff:2", 9, 0, 0)) != of(("2001:db8:0:1::1", 1, 0, 0))


async def test_listeners_share_the_room_unless_one_has_its_own() -> None:
    async with place("tcp4") as here:
        here.make = Echo
        await here.listen()
        shared = door_of(here)
        assert isinstance(here.network, KernelNetwork)
        other = await here.network.listen(here.wanted, Echo, ListenOptions(), discard)
        assert shared.room > 100
        shared.room = 1
        first = Echo()
        await here.network.connect(other.address, lambda: first, timeout_s=PATIENCE_S)
        here.connected.append(first)
        await turns_until(lambda: shared._everybody.count == 1)
        assert not await served(await here.connect())
        other.close()


@pytest.mark.both_loops
async def test_a_crowd_that_comes_and_goes_is_not_counted_any_more() -> None:
    async with place("tcp4") as here:
        await here.listen(ListenOptions(connections_per_prefix_max=100))
        before = open_sockets()
        for n in range(30):
            client = await here.connect()
            if n % 3:
                client.link.abort()
            else:
                client.link.close()
        await turns_until(lambda: len(here.accepted) == 30 and all(server.lost for server in here.accepted) and open_sockets() == before)
        the_door = door_of(here)
        assert (the_door._census.count, the_door._everybody.count, the_door._census._by_network) == (0, 0, {})


class Descriptors:
    """Spawns nothing: tasks are cancelled before their first step."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.task = asyncio.get_running_loop().create_task(coroutine)
        self.task.cancel()
        return self.task


@pytest.mark.both_loops
async def test_a_connection_whose_task_is_cancelled_at_birth_is_closed_and_not_counted() -> None:
    loop = asyncio.get_running_loop()
    network = KernelNetwork(Descriptors().spawn, Wheel(loop.time, loop.call_at))
    listening = await network.listen(parse_address("tcp://127.0.0.1:0"), Recorder, ListenOptions(), discard)
    receiver = Recorder()
    await network.connect(listening.address, lambda: receiver, timeout_s=PATIENCE_S)
    await receiver.until(lambda: receiver.lost)
    await turns_until(lambda: network._everybody.count == 0)
    listening.close()


async def test_a_door_gives_its_spare_descriptor_back() -> None:
    async with place("tcp4") as here:
        before = len(os.listdir("/dev/fd"))
        listening = await here.listen()
        assert door_of(here)._spare is not None
        listening.close()
        assert len(os.listdir("/dev/fd")) == before


SHORTAGE = """
import asyncio, resource, socket, sys
sys.path.insert(0, ".")
from holdfast.net.link import WhenFull
from tests.net.helpers import Echo, place

async def main():
    async with place("tcp4") as here:
        here.make = Echo
        here.when_full = WhenFull(refusal=str.encode)
        await here.listen()
        first, _ = await here.pair()
        loop = asyncio.get_running_loop()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        peers = [socket.socket() for _ in range(4)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (peers[-1].fileno() + 1, hard))
        for peer in peers:
            peer.setblocking(False)
            await loop.sock_connect(peer, (here.address.host, here.address.port))
            print((await loop.sock_recv(peer, 1000)).decode())
        first.link.write(b"still served")
        await first.until(lambda: first.data == b"still served")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        here.listening.close()
        print(len(here.facts), here.facts[0].reason)

asyncio.run(main())
"""


def test_without_descriptors_whoever_comes_is_told_so_and_who_is_there_is_served() -> None:
    run = subprocess.run([sys.executable, "-c", SHORTAGE], capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False)
    assert run.returncode == 0, run.stderr
    *said, last = run.stdout.splitlines()
    assert len(said) == 4
    assert all("Too many open files; raise `ulimit -n`; try again later" in each for each in said)
    assert last.startswith("4 no room at tcp://127.0.0.1:")
