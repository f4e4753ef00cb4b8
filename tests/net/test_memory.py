"""What memory does beyond the suite all links share: cuts anywhere, and no mercy for bytes kept too long."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import ConfigError, ProtocolError
from holdfast.facts import discard
from holdfast.net import memory
from holdfast.net.address import parse_address
from holdfast.net.link import ListenOptions
from holdfast.net.memory import MemoryNetwork
from tests.net.helpers import Echo, Recorder, place


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 1000])
async def test_a_stream_can_be_cut_at_every_byte(chunk_bytes: int) -> None:
    class Sizes(Recorder):
        sizes: list[int]

        def bytes_received(self, data: memoryview | bytes) -> int:
            self.sizes = [*getattr(self, "sizes", []), len(data)]
            return super().bytes_received(data)

    async with place("memory", chunk_bytes=chunk_bytes) as here:
        here.make = Sizes
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"twelve bytes")
        await server.until(lambda: len(server.data) == 12)
        assert isinstance(server, Sizes)
        assert max(server.sizes) == min(chunk_bytes, 12)


async def test_bytes_kept_beyond_the_call_are_overwritten() -> None:
    class Keeper(Recorder):
        kept: memoryview

        def bytes_received(self, data: memoryview | bytes) -> int:
            self.kept = data
            return super().bytes_received(data)

    async with place("memory") as here:
        here.make = Keeper
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"secret")
        await server.until(lambda: server.data == b"secret")
        assert isinstance(server, Keeper)
        await asyncio.sleep(0)
        assert bytes(server.kept) == b"\xdd" * 6


async def test_what_is_written_from_link_made_waits_for_the_other_end() -> None:
    class Eager(Recorder):
        def link_made(self, link: object) -> None:
            super().link_made(link)  # type: ignore[arg-type]
            self.link.write(b"first")

    async with place("memory") as here:
        here.make = Echo
        await here.listen()
        client = await here.connect(Eager)
        assert here.accepted == []
        await client.until(lambda: client.data == b"first")


async def test_a_listener_that_closes_before_it_takes_a_link_cuts_it() -> None:
    async with place("memory") as here:
        listening = await here.listen()
        client = await here.connect()
        listening.close()
        await client.until(lambda: client.lost)
        assert isinstance(client.error, ConnectionResetError)
        assert here.accepted == []


async def test_two_networks_do_not_see_each_other() -> None:
    address = parse_address("memory://same")
    for network in (MemoryNetwork(), MemoryNetwork()):
        listening = await network.listen(address, Recorder, ListenOptions(), discard)
        assert listening.address == address


async def test_a_network_without_a_wheel_makes_one_on_its_loop() -> None:
    network = MemoryNetwork()
    assert network.wheel is network.wheel
    assert network.wheel.now() == pytest.approx(asyncio.get_running_loop().time(), abs=1)


async def test_a_receiver_that_never_uses_anything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            return 0

    monkeypatch.setattr(memory, "REST_MAX_BYTES", 100_000)
    async with place("memory") as here:
        here.make = Never
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"x" * 200_000)
        await server.until(lambda: server.lost)
        assert isinstance(server.error, ProtocolError)


def test_a_chunk_holds_at_least_a_byte() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        MemoryNetwork(chunk_bytes=0)
