"""A hosted protocol cannot tell our transport from the loop's own.

The first half plays the same scenes on a server of the loop and on one of ours, and compares what the protocol was told, call by call. The
second half holds what is ours alone: limits of errors, the peer, and every method of the transport on a link that writes down what it gets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import holdfast
from holdfast.facts import ConnectionClosed, ConnectionOpened, Fact, ProtocolFailed
from holdfast.net.hosted import Hosted
from tests.net.protocols import PATIENCE_S, Buffered, Plain, Told, hosted, ours, stock

# ----------------------------------------------------------------------------------------------------------- the same scene twice

Scene = Callable[[Told, asyncio.StreamReader, asyncio.StreamWriter, list[Any]], Awaitable[None]]


async def play(where: Any, make: Callable[[Told], asyncio.BaseProtocol], scene: Scene) -> list[tuple[str, Any]]:
    """Play one scene between a client on plain streams and the protocol; return what the protocol was told."""
    told, made = Told(), []

    def factory() -> asyncio.BaseProtocol:
        made.append(make(told))
        return made[-1]

    async with where(factory) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await told.until("made")
            async with asyncio.timeout(PATIENCE_S):
                await scene(told, reader, writer, made)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await told.until("lost")
    return told.calls


async def alike(make: Callable[[Told], asyncio.BaseProtocol], scene: Scene) -> list[tuple[str, Any]]:
    """Play a scene on both servers; they must tell the protocol the same. Returns what that was."""
    expected = await play(stock, make, scene)
    assert await play(ours, make, scene) == expected
    return expected


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [Plain, Buffered])
async def test_bytes_and_the_end_by_the_peer(make: Any) -> None:
    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        writer.write(b"hello, " * 100)
        await told.until("data", b"hello, ")
        made[0].transport.write(b"bye")
        assert await reader.readexactly(3) == b"bye"
        writer.write_eof()
        assert await reader.read() == b""

    calls = await alike(make, scene)
    assert calls == [("made", None), ("data", b"hello, " * 100), ("eof", None), ("lost", None)]


@pytest.mark.both_loops
async def test_a_close_lets_what_was_written_leave() -> None:
    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        made[0].transport.write(b"x" * 1_000_000)
        made[0].transport.writelines([b"the ", bytearray(b"end"), memoryview(b".")])
        made[0].transport.close()
        made[0].transport.write(b"dropped")
        assert made[0].transport.is_closing()
        whole = await reader.read()
        assert whole == b"x" * 1_000_000 + b"the end."

    calls = await alike(Plain, scene)
    assert [call for call in calls if call[0] != "pause"] == [("made", None), ("lost", None)]


@pytest.mark.both_loops
async def test_an_abort_drops_what_was_written() -> None:
    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        made[0].transport.abort()
        await told.until("lost")

    assert await alike(Plain, scene) == [("made", None), ("lost", None)]


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [Plain, Buffered])
async def test_a_protocol_may_go_on_writing_behind_the_peers_end(make: Any) -> None:
    def half_closed(told: Told) -> asyncio.BaseProtocol:
        protocol = make(told)
        protocol.eof_received = lambda: told.note("eof") or True
        return protocol

    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        writer.write(b"question")
        writer.write_eof()
        await told.until("eof")
        made[0].transport.write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        assert not made[0].transport.is_closing()
        made[0].transport.close()
        assert await reader.read() == b""

    assert await alike(half_closed, scene) == [("made", None), ("data", b"question"), ("eof", None), ("lost", None)]


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [Plain, Buffered])
async def test_reading_can_be_paused_from_the_first_moment(make: Any, loop_name: str) -> None:
    class Paused(make):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            self.transport.pause_reading()

    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        transport = made[0].transport
        writer.write(b"early")
        transport.write(b"ping")
        assert await reader.readexactly(4) == b"ping"  # a round trip, and it was told nothing
        assert not transport.is_reading()
        assert told.calls == [("made", None)]
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await told.until("data", b"early")

    # uvloop itself begins to read after connection_made, even when that paused it
    calls = await play(ours, Paused, scene) if loop_name == "uvloop" else await alike(Paused, scene)
    assert calls[:2] == [("made", None), ("data", b"early")]


@pytest.mark.both_loops
async def test_a_buffered_protocol_that_pauses_in_the_middle_gets_the_rest_later() -> None:
    class OneAtATime(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        writer.write(b"0123456789" * 10 + b".")
        await told.until("data", b".")

    calls = await alike(OneAtATime, scene)
    assert calls[1] == ("data", b"0123456789" * 10 + b".")


@pytest.mark.both_loops
@pytest.mark.parametrize(("first", "second"), [(Plain, Buffered), (Buffered, Plain)])
async def test_another_protocol_takes_over(first: Any, second: Any) -> None:
    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        transport = made[0].transport
        writer.write(b"header\n")
        await told.until("data", b"header\n")
        other = second(told)
        other.transport = transport
        other.connection_lost = lambda exc: told.note("lost", "the second one")
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        told.note("switched")
        writer.write(b"body.")
        await told.until("data", b"body.")

    calls = await alike(first, scene)
    expected = [("made", None), ("data", b"header\n"), ("switched", None), ("data", b"body."), ("eof", None), ("lost", "the second one")]
    assert calls == expected


@pytest.mark.both_loops
async def test_writing_is_paused_at_the_marks_a_protocol_sets() -> None:
    async def scene(told: Told, reader: Any, writer: Any, made: list[Any]) -> None:
        transport = made[0].transport
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        size = 0
        while ("pause", None) not in told.calls:
            transport.write(bytes(65536))
            size += 65536
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 1000
        assert len(await reader.readexactly(size)) == size
        await told.until("resume")
        assert transport.get_write_buffer_size() <= 250

    calls = await alike(Plain, scene)
    assert calls[:3] == [("made", None), ("pause", None), ("resume", None)]


@pytest.mark.both_loops
async def test_streams_of_asyncio_run_on_it() -> None:
    """StreamReaderProtocol is the most used protocol there is, and leans on pausing, limits and the half-closed end."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = await reader.read()  # to the peer's end
        for start in range(0, len(whole), 100_000):
            writer.write(whole[start : start + 100_000])
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    def factory() -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), talk)

    data = bytes(range(256)) * 8192
    for where in (stock, ours):
        async with where(factory) as port, asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()


# ------------------------------------------------------------------------------------------------------- a protocol that raises


class Broken(Plain):
    """Raises in one callback."""

    def __init__(self, told: Told, where: str) -> None:
        super().__init__(told)

        def raises(*args: Any) -> None:
            told.note(where)
            raise LookupError(f"in {where}")

        setattr(self, where, raises)


@pytest.mark.both_loops
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "pause_writing", "connection_lost"])
async def test_what_a_callback_raises_ends_its_connection_and_no_other(where: str) -> None:
    facts: list[Fact] = []
    told, healthy, broken = Told(), Told(), []

    def factory() -> Plain:
        broken.append(Broken(told, where) if not broken else Plain(healthy))
        return broken[-1]

    async with holdfast.serve(factory, bind="tcp://127.0.0.1:0", emit=facts.append) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        if where == "pause_writing":
            await told.until("made")
            broken[0].transport.set_write_buffer_limits(0)
            while ("pause_writing", None) not in told.calls:
                broken[0].transport.write(bytes(65536))
                await asyncio.sleep(0)
        elif where in ("eof_received", "connection_lost"):
            writer.write_eof()
        else:
            writer.write(b"hello")
        _, other_writer = await asyncio.open_connection("127.0.0.1", port)
        await told.until(where)
        if where != "connection_lost":
            await told.until("lost")
            assert told.calls[-1] == ("lost", "LookupError")
        other_writer.write(b"are you there?")
        await healthy.until("data", b"are you there?")
        for each in (writer, other_writer):
            each.close()
        await healthy.until("lost")
    failed = [fact for fact in facts if isinstance(fact, ProtocolFailed)]
    assert [(fact.callback, str(fact.error)) for fact in failed] == [(where, f"in {where}")]
    assert failed[0].address.startswith("tcp://127.0.0.1:")
    assert len([fact for fact in facts if isinstance(fact, ConnectionClosed)]) == 2


async def test_a_factory_that_raises_refuses_its_connection_and_no_other() -> None:
    facts: list[Fact] = []
    told, calls = Told(), []

    def factory() -> Plain:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("no protocol today")
        return Plain(told)

    async with holdfast.serve(factory, bind="tcp://127.0.0.1:0", emit=facts.append) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        _, second = await asyncio.open_connection("127.0.0.1", port)
        await told.until("made")
        assert server.stats().connections == 1
        for each in (writer, second):
            each.close()
        await told.until("lost")
    assert [type(fact).__name__ for fact in facts].count("ConnectionRefused") == 1


# ------------------------------------------------------------------------------------------------- the rest, on a link that notes


def test_nothing_raises_when_it_is_over() -> None:
    one, link, transport, told, facts = hosted()
    link.closing = True
    one.link_lost(None)
    transport.write(b"too late")
    transport.pause_reading()
    transport.resume_reading()
    transport.set_write_buffer_limits(1)
    transport.close()
    transport.abort()
    assert transport.get_write_buffer_size() == 42
    assert transport.get_protocol() is None
    assert told.calls == [("made", None), ("lost", None)]
    assert "10.0.0.1" in repr(transport)
    assert [type(fact) for fact in facts] == [ConnectionOpened, ConnectionClosed]


@pytest.mark.parametrize(
    ("error", "asked", "reason"),
    [
        (None, False, "the peer closed the connection"),
        (None, True, "closed by us"),
        (ConnectionResetError("cut"), False, "cut"),
        (LookupError(), True, "LookupError"),
    ],
)
def test_the_fact_says_who_ended_it(error: Exception | None, asked: bool, reason: str) -> None:
    one, _, transport, _, facts = hosted()
    if asked:
        transport.close()
    one.link_lost(error)
    assert facts[-1] == ConnectionClosed("server", "tcp://10.0.0.1:5000", reason)


def test_an_empty_buffer_is_a_mistake() -> None:
    one, _, _, _, facts = hosted(lambda told: _WithoutRoom(told))
    with pytest.raises(RuntimeError, match=r"get_buffer\(\) returned an empty buffer"):
        one.bytes_received(memoryview(b"hello"))
    assert [fact.callback for fact in facts if isinstance(fact, ProtocolFailed)] == ["buffer_updated"]


class _WithoutRoom(Buffered):
    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray()


def test_a_buffered_protocol_gets_no_more_once_it_closed() -> None:
    one, _, transport, told, _ = hosted(lambda told: _Closing(told))
    assert one.bytes_received(memoryview(b"0123456789")) == 7
    assert told.calls[-1] == ("data", b"0123456")
    assert transport.is_closing()


class _Closing(Buffered):
    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.transport.close()


def test_a_buffered_protocol_may_hand_over_in_the_middle() -> None:
    told_second = Told()

    class HandsOver(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.set_protocol(Plain(told_second))

    one, _, _, told, _ = hosted(lambda told: HandsOver(told))
    assert one.bytes_received(memoryview(b"0123456789")) == 10
    assert told.calls[-1] == ("data", b"0123456")
    assert told_second.calls == [("data", b"789")]


def test_each_wish_to_close_is_told() -> None:
    asked: list[int] = []
    one, _, transport, _, _ = hosted(on_asked=lambda: asked.append(1))
    assert not one.asked_to_close
    transport.close()
    transport.abort()
    assert (len(asked), one.asked_to_close) == (2, True)


# ------------------------------------------------------------------------------------------------------------------------ draining


class Draining(Plain):
    def drain_requested(self) -> None:
        self.told.note("drain")


def test_a_protocol_is_told_once_that_its_server_goes_down() -> None:
    one, link, _, told, _ = hosted(lambda told: Draining(told))
    one.say_goodbye()
    one.say_goodbye()
    assert told.calls == [("made", None), ("drain", None)]
    assert one.cut_off() == 1
    assert one.cut_off() == 0
    assert link.said == ["close"]


def test_one_that_comes_late_is_told_at_once() -> None:
    _, _, _, told, _ = hosted(lambda told: Draining(told), is_draining=lambda: True)
    assert told.calls == [("made", None), ("drain", None)]


def test_nothing_is_told_before_the_connection_is_there() -> None:
    told = Told()
    one = Hosted(lambda: Draining(told), lambda fact: None, "server", on_closed=lambda hosted: None)
    one.say_goodbye()
    assert (told.calls, one.cut_off()) == ([], 0)
    one.tell_status()


def test_a_protocol_that_raises_when_asked_to_leave_is_cut() -> None:
    class Stubborn(Plain):
        def drain_requested(self) -> None:
            raise LookupError("never")

    one, link, _, _, facts = hosted(lambda told: Stubborn(told))
    one.say_goodbye()
    assert link.said == ["abort"]
    assert [fact.callback for fact in facts if isinstance(fact, ProtocolFailed)] == ["drain_requested"]
