"""Streams on both sides: what is buffered, how they end, and what becomes of one that is left."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.rpc.streams import PORTION_BYTES, ItemBuffer, Opened, Stream, send_items
from holdfast.wire import ByteBudget, CallState, ItemReceived, Settings
from holdfast.wire.inbox import Inbox
from holdfast.wire.outbox import Outbox

from ..faults.helpers import rig, until
from .links import turn


class FakeConn:
    """The part of a Connection that streams need: counts what is given back, and lets `room` items through."""

    def __init__(self, room: int = 100) -> None:
        self.ready: list[bytes] = []
        self.inbox = Inbox(Settings(), ByteBudget(1 << 20), Outbox(ByteBudget(1 << 20)))
        self.inbox.open(Settings())
        self.calls = {1: CallState(1)}
        self.room = room
        self.sent: list[bytes] = []
        self.consumed = 0
        self.forgotten = 0

    def consume(self, item: ItemReceived) -> None:
        self.consumed += item.cost

    def consume_plain(self, call: CallState, cost: int) -> None:
        self.consumed += cost

    def forget(self, call: CallState) -> None:
        self.forgotten += 1

    def send_item(self, call: CallState, body: bytes, raw: bool) -> bool:
        self.sent.append(body)
        return len(self.sent) <= self.room


class FakeSession:
    def __init__(self, room: int = 100) -> None:
        self.conn: Any = FakeConn(room)
        self.paused = self.flush_due = False

    def flush(self) -> None:
        self.conn.ready.clear()

    def flush_soon(self) -> None:
        pass

    async def writable(self) -> None:
        pass


def item(body: bytes) -> ItemReceived:
    return ItemReceived(CallState(1), body, True, len(body), 0)


def make_buffer(room: int = 100) -> tuple[ItemBuffer, FakeSession]:
    session = FakeSession(room)
    return ItemBuffer(session, asyncio.get_running_loop()), session


async def test_credit_goes_back_when_an_item_is_read() -> None:
    buffer, session = make_buffer()
    buffer.feed(item(b"a"))
    assert session.conn.consumed == 0
    assert (await buffer.next()).body == b"a"
    assert session.conn.consumed == 1, "nothing is left to read, so nothing is kept back"


async def test_credit_of_small_items_goes_back_together_and_at_the_latest_when_all_are_read() -> None:
    buffer, session = make_buffer()
    for _ in range(3):
        buffer.feed(item(b"x" * (PORTION_BYTES // 2)))
    buffer.feed(item(b"y"))
    seen = []
    for _ in range(4):
        await buffer.next()
        seen.append(session.conn.consumed)
    assert seen == [0, PORTION_BYTES, PORTION_BYTES, 3 * PORTION_BYTES // 2 + 1]


async def test_nothing_is_kept_back_while_the_connection_has_little_credit_left() -> None:
    buffer, session = make_buffer()
    inbox = session.conn.inbox
    assert inbox.spend(inbox.window // 2 + 1)
    buffer.feed(item(b"a"))
    buffer.feed(item(b"b"))
    await buffer.next()
    assert session.conn.consumed == 1


async def test_an_item_in_pieces_gives_back_what_it_held_at_once() -> None:
    buffer, session = make_buffer()
    buffer.feed(item(b"before"))
    buffer.feed(ItemReceived(CallState(1), b"large", True, 100, 100))
    buffer.feed(item(b"a"))
    await buffer.next()
    assert session.conn.consumed == 0
    await buffer.next()
    assert session.conn.consumed == 106, "and what was read before it: or a stream could stand still with credit nobody gives back"


async def test_what_is_there_is_read_before_the_end_or_its_error() -> None:
    buffer, _ = make_buffer()
    buffer.feed(item(b"a"))
    buffer.end(Unavailable("lost"))
    buffer.end(None)  # the first end counts
    assert (await buffer.next()).body == b"a"
    with pytest.raises(Unavailable):
        await buffer.next()


async def test_two_readers_are_refused_and_a_cancelled_one_loses_nothing() -> None:
    buffer, _ = make_buffer()
    first = asyncio.get_running_loop().create_task(buffer.next())  # type: ignore[var-annotated]
    await turn()
    with pytest.raises(RuntimeError, match="two tasks read one stream"):
        await buffer.next()
    first.cancel()
    await turn()
    buffer.feed(item(b"a"))
    assert (await buffer.next()).body == b"a"


async def test_the_gap_counts_only_while_somebody_waits() -> None:
    buffer, _ = make_buffer()
    gaps: list[float | None] = []
    buffer.idle_s, buffer.on_wait = 3.0, gaps.append
    buffer.feed(item(b"a"))
    await buffer.next()
    reader = asyncio.get_running_loop().create_task(buffer.next())
    await turn()
    assert gaps == [3.0]
    reader.cancel()
    await turn()
    assert gaps == [3.0, None]


async def test_the_end_of_their_items_does_not_hurry_ours() -> None:
    """A caller that has sent everything says END; a handler whose own item waits for credit must go on waiting."""
    buffer, session = make_buffer(room=1)

    async def numbers() -> AsyncIterator[bytes]:
        for n in range(4):
            yield b"%d" % n

    sending = asyncio.get_running_loop().create_task(send_items(session, CallState(1), buffer, numbers(), bytes, True))
    await turn()
    assert session.conn.sent == [b"0", b"1"]
    buffer.end()
    await turn()
    assert session.conn.sent == [b"0", b"1"], "the second one has not gone yet"
    session.conn.room = 100
    buffer.sent()
    await sending
    assert len(session.conn.sent) == 4


async def test_a_sender_goes_on_to_see_that_the_call_is_over() -> None:
    buffer, session = make_buffer(room=0)

    async def numbers() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    source = numbers()
    sending = asyncio.get_running_loop().create_task(send_items(session, CallState(1), buffer, source, bytes, True))
    await turn()
    session.conn.calls.clear()
    buffer.over()
    await sending
    await source.aclose()  # type: ignore[attr-defined]
    assert len(session.conn.sent) == 1


# ------------------------------------------------------------------------------------------------------------- a user's stream


def as_it_came(body: bytes, raw: bool) -> bytes:
    return body


def stream_of(
    buffer: ItemBuffer,
    closed: list[str],
    gate: asyncio.Future[None] | None = None,
    decode: Callable[[bytes, bool], bytes] = as_it_came,
) -> Stream[bytes]:
    call = CallState(1)

    def close() -> None:
        closed.append("closed")
        buffer.clear(call)

    async def open_stream() -> Opened[bytes]:
        if gate is not None:
            await gate
        return call, buffer, close, decode, lambda body: decode(body, False)

    return Stream("shop.watch", open_stream, closed.append)


async def test_a_stream_that_was_closed_is_at_its_end() -> None:
    buffer, _ = make_buffer()
    closed: list[str] = []
    stream = stream_of(buffer, closed)
    buffer.feed(item(b"a"))
    buffer.feed(item(b"b"))
    assert await anext(stream) == b"a"
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert closed == ["closed"]


async def test_closing_a_stream_wakes_whoever_reads_it() -> None:
    buffer, _ = make_buffer()
    stream = stream_of(buffer, [])

    async def read() -> list[bytes]:
        return [each async for each in stream]

    reading = asyncio.get_running_loop().create_task(read())
    await turn()
    await stream.aclose()
    assert await reading == []


async def test_an_error_is_told_once_and_then_it_is_the_end() -> None:
    buffer, _ = make_buffer()
    stream = stream_of(buffer, [])
    buffer.end(Unavailable("lost"))
    with pytest.raises(Unavailable):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_is_opened_once() -> None:
    buffer, _ = make_buffer()
    closed: list[str] = []
    gate = asyncio.get_running_loop().create_future()
    stream = stream_of(buffer, closed, gate)
    first = asyncio.get_running_loop().create_task(anext(stream))  # type: ignore[arg-type]
    await turn()
    with pytest.raises(RuntimeError, match="two tasks read one stream"):
        await anext(stream)
    await stream.aclose()  # while it opens
    gate.set_result(None)
    with pytest.raises(StopAsyncIteration):
        await first
    assert closed == ["closed"]


async def test_an_item_that_does_not_fit_closes_the_stream() -> None:
    buffer, _ = make_buffer()
    closed: list[str] = []

    def refuse(body: bytes, raw: bool) -> bytes:
        raise ValueError("no")

    stream = stream_of(buffer, closed, decode=refuse)
    buffer.feed(item(b"a"))
    with pytest.raises(ValueError, match="no"):
        await anext(stream)
    assert closed == ["closed"]


def test_a_stream_left_behind_by_a_closed_loop_is_let_go_quietly() -> None:
    kept: list[Stream[bytes]] = []

    async def main() -> None:
        buffer, _ = make_buffer()
        buffer.feed(item(b"a"))
        kept.append(stream_of(buffer, []))
        await anext(kept[0])

    asyncio.run(main())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept.clear()
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]


async def test_a_stream_collected_in_another_thread_is_closed_on_its_loop() -> None:
    loop = asyncio.get_running_loop()
    buffer, _ = make_buffer()
    closed: list[Any] = []
    buffer.feed(item(b"a"))
    kept = [stream_of(buffer, closed)]
    await anext(kept[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await loop.run_in_executor(None, kept.clear)
    await until(lambda: closed)
    assert closed == ["closed"]
    await loop.shutdown_default_executor()


# --------------------------------------------------------------------------------------------------------------- over the wire


@pytest.mark.both_loops
async def test_a_duplex_stream_outlives_the_end_of_what_is_sent() -> None:
    """The caller sends everything at once and reads late: the handler runs out of credit while END is on its way to it."""
    service = holdfast.Service("room")

    @service.method
    async def doubles(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            yield chunk

    async def sends() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(1000)

    small = holdfast.ClientConfig(wire=Settings(stream_window_bytes=4096))
    async with rig(service, bind="memory://duplex", client_config=small) as here:
        async with here.client.stream("room.doubles", chunks=sends(), returns=bytes) as chunks:
            for _ in range(50):
                await turn()
            assert sum([len(chunk) async for chunk in chunks]) == 40_000
        await here.clean()


@pytest.mark.both_loops
async def test_a_task_that_a_handler_left_behind_does_not_read_for_ever() -> None:
    service = holdfast.Service("room")
    left: list[asyncio.Task[None]] = []

    @service.method
    async def leaves(chunks: AsyncIterator[bytes]) -> int:
        async def reads() -> None:
            async for _ in chunks:
                pass

        left.append(asyncio.get_running_loop().create_task(reads()))
        await asyncio.sleep(0)
        return 1

    gate = asyncio.get_running_loop().create_future()

    async def sends() -> AsyncIterator[bytes]:
        yield b"a"
        await gate

    async with rig(service, bind="memory://left") as here:
        assert await here.client.call("room.leaves", chunks=sends(), returns=int) == 1
        await asyncio.wait(left)
        assert left[0].cancelled()
        await here.clean()


# ------------------------------------------------------------------------------------------- who is told how a stream goes


def listened() -> tuple[ItemBuffer, list[object]]:
    """A buffer, and what was said of it to whoever counts attempts."""
    buffer, _ = make_buffer()
    told: list[object] = []
    buffer.on_first = lambda: told.append("first")
    buffer.on_end = lambda error, ours: told.append((error, ours))
    return buffer, told


LOST = Unavailable("lost")

ENDS: dict[str, tuple[Callable[[ItemBuffer], object], object]] = {
    "the server ends it": (lambda buffer: buffer.end(), (None, False)),
    "it fails": (lambda buffer: buffer.over(LOST), (LOST, False)),
    "nobody reads it any more": (lambda buffer: buffer.clear(CallState(1)), (None, True)),
}


@pytest.mark.parametrize("items", [0, 1, 3])
@pytest.mark.parametrize("after", ["", *ENDS])
@pytest.mark.parametrize("end", ENDS)
async def test_the_end_of_a_stream_is_told_once_and_it_is_the_first_that_counts(end: str, after: str, items: int) -> None:
    buffer, told = listened()
    for _ in range(items):
        buffer.feed(item(b"x"))
    way, said = ENDS[end]
    way(buffer)
    if after:
        ENDS[after][0](buffer)
    assert told == [*(["first"] if items else []), said]


async def test_whoever_asks_nothing_is_told_nothing() -> None:
    buffer, _ = make_buffer()
    buffer.feed(item(b"x"))
    buffer.clear(CallState(1))
    assert (buffer.started, buffer.ended) == (True, True)
