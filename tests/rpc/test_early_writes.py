"""Much that is ready is written before the turn is over, so that the peer works while we go on; little leaves in one write at its end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from holdfast.control.wheel import Wheel
from holdfast.facts import discard
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.session import EARLY_CHUNKS, SessionShared
from holdfast.wire import ByteBudget, Called, Connection, Settings


class FakeLink:
    """A link that keeps what is written, write by write."""

    local = peer = "fake://"

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> bool:
        self.writes.append(data)
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool:
        return False


def opened() -> tuple[CallerSession, FakeLink, Connection]:
    """A session after its handshake with a server that is a bare machine."""
    loop = asyncio.get_running_loop()
    shared = SessionShared(loop, Wheel(loop.time, loop.call_at), discard, Settings(heartbeat_s=3600), ByteBudget(2**26))
    session, link = CallerSession(shared), FakeLink()
    server = Connection("server", Settings(), budget=ByteBudget(2**26))
    session.link_made(link)
    server.receive_data(memoryview(b"".join(link.writes)))
    server.send_welcome(Settings())
    server.events.clear()
    link.writes.clear()
    session.bytes_received(memoryview(server.take_output(2**20)))
    return session, link, server


def open_calls(session: CallerSession, count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        call = Outcall(0, None, loop.create_future(), math.inf, None, math.inf, "a.b", number)
        assert session.open_unary(call, b"a.b", b"%d" % number, 0, 0, number)


def answer_all(session: CallerSession, link: FakeLink, server: Connection) -> list[int]:
    """Let the server read what was written and answer it; return the call numbers in the order they came."""
    server.receive_data(memoryview(b"".join(link.writes)))
    calls = [event.call for event in server.events if isinstance(event, Called)]
    for call in calls:
        server.send_reply(call, b"", True)
    session.bytes_received(memoryview(server.take_output(2**20)))
    session.link_lost(None)
    return [call.number for call in calls]


async def test_a_call_that_is_alone_leaves_at_once_and_a_few_more_of_the_turn_in_one_write() -> None:
    session, link, server = opened()
    open_calls(session, 10)
    assert len(link.writes) == 1
    await asyncio.sleep(0)
    assert len(link.writes) == 2
    assert answer_all(session, link, server) == list(range(10))


async def test_many_calls_of_one_turn_begin_to_leave_before_it_ends_and_keep_their_order() -> None:
    session, link, server = opened()
    open_calls(session, 100)
    assert len(link.writes) == 1 + 99 * 3 // EARLY_CHUNKS
    await asyncio.sleep(0)
    assert len(link.writes) == 1 + 99 * 3 // EARLY_CHUNKS + 1
    assert answer_all(session, link, server) == list(range(100))
