"""A server's goodbye in two steps, what it says of itself, and which connections get check sums."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

import holdfast
from holdfast.clock import Streams, SystemClock
from holdfast.control.wheel import Wheel
from holdfast.facts import ConnectionRefused, Fact
from holdfast.rpc.codes import decode_error
from holdfast.rpc.desk import Desk
from holdfast.rpc.responder import ResponderSession
from holdfast.rpc.router import Router
from holdfast.rpc.session import Checksum, SessionShared
from holdfast.tasks import Scope
from holdfast.wire import ByteBudget, CallState, Connection, Failed, GoneAway, Settings, Status, StatusReceived, frames
from tests.rpc.links import FakeLink, Time, turn

svc = holdfast.Service("shop")
waiting: list[asyncio.Future[None]] = []


@svc.method
async def quick() -> str:
    return "done"


@svc.method
async def slow() -> str:
    waiting.append(asyncio.get_running_loop().create_future())
    await waiting[-1]
    return "done"


class Door:
    """A responder on a fake link, and the machine of its client."""

    def __init__(self, *, peer: str = "tcp://127.0.0.1:5", checksum: Checksum = "auto", features: tuple[str, ...] = ()) -> None:
        self.time = Time()
        self.facts: list[Fact] = []
        self.lost: list[ResponderSession] = []
        loop = asyncio.get_running_loop()
        wheel = Wheel(self.time.now, self.time.call_at)
        self.shared = SessionShared(loop, wheel, self.facts.append, Settings(), ByteBudget(1 << 24), checksum=checksum)
        self.desk = Desk(
            Router(svc.routes()),
            lambda _: {},
            Scope(lambda error: None),
            SystemClock(),
            self.facts.append,
            Streams(1).stream("incident"),
            handlers_max=10,
            threads_max=1,
            threads_queue_max=1,
            debug=False,
        )
        self.link = FakeLink()
        self.link.peer = peer
        self.client = Connection("client", Settings(features=features), budget=ByteBudget(1 << 24))
        self.session = ResponderSession(self.shared, self.desk, self.lost.append)
        self.session.link_made(self.link)

    async def say(self) -> None:
        """Hand on what the client has to say, from the loop as a link does."""
        data = self.client.take_output(1 << 24)
        asyncio.get_running_loop().call_soon(self.session.bytes_received, memoryview(data))
        await turn()

    async def hear(self) -> list[object]:
        """What the client understands of what was written since the last look; its answers are not sent."""
        await turn()
        self.client.events.clear()
        self.client.receive_data(memoryview(self.link.taken()))
        return list(self.client.events)

    async def open(self) -> Door:
        await self.say()
        await self.hear()
        return self

    def call(self, method: bytes, number: int = 1) -> CallState:
        call = CallState()
        self.client.open_call(call, method, b"\x80", False, 0, number)
        return call


async def test_what_was_on_its_way_is_executed_and_what_comes_after_the_last_word_is_not() -> None:
    door = await Door().open()
    door.session.say_goodbye()
    crossing = door.call(b"shop.quick")  # sent before the client has read the goodbye
    said_before = door.client.take_output(1 << 24)
    events = await door.hear()
    assert [type(event) for event in events] == [StatusReceived, GoneAway]
    assert events[0] == StatusReceived(Status(draining=False, load=0.0))
    assert isinstance(events[1], GoneAway)
    assert events[1].last_call_id == frames.CALL_ID_MAX
    door.session.bytes_received(memoryview(said_before))
    [replied] = await door.hear()
    assert replied.call is crossing  # type: ignore[attr-defined]
    assert not door.link.ended
    late = door.call(b"shop.quick")
    deaf = door.client.take_output(1 << 24)  # the PONG, then a call that should not have been sent
    door.session.bytes_received(memoryview(deaf[:22]))
    assert door.link.ended == "closed"
    [final] = await door.hear()
    assert isinstance(final, GoneAway)
    assert (final.last_call_id, final.reason) == (crossing.id, frames.GOING)
    assert late.id > final.last_call_id
    door.session.link_lost(None)


async def test_a_call_behind_the_last_word_is_skipped_while_others_are_answered() -> None:
    door = await Door().open()
    open_call = door.call(b"shop.slow")
    await door.say()
    door.session.say_goodbye()
    await door.hear()
    await door.say()  # the PONG
    late = door.call(b"shop.quick")
    await door.say()
    final, *rest = await door.hear()
    assert isinstance(final, GoneAway)
    assert final.last_call_id == open_call.id < late.id
    assert rest == []
    assert not door.link.ended
    waiting[-1].set_result(None)
    await turn()
    [replied] = await door.hear()
    assert replied.call is open_call  # type: ignore[attr-defined]
    assert door.link.ended == "closed"
    door.session.link_lost(None)


async def test_a_client_that_answers_no_ping_is_not_waited_for() -> None:
    door = await Door().open()
    door.session.say_goodbye()
    await door.hear()
    door.time.advance(door.shared.suspect_s - 0.1)
    assert await door.hear() == [], "it may answer yet"
    door.time.advance(0.2)
    final, *_ = await door.hear()
    assert isinstance(final, GoneAway)
    assert final.last_call_id == 0
    assert door.link.ended == "closed"
    door.session.link_lost(None)


async def test_who_is_cut_off_hears_whether_the_call_had_begun() -> None:
    door = await Door().open()
    count = len(waiting)
    door.call(b"shop.slow")
    await door.say()
    assert len(waiting) == count + 1
    large = CallState()
    door.client.open_call(large, b"shop.quick", bytes(200_000), False, 0, 2)
    door.session.bytes_received(memoryview(door.client.take_output(1)))  # its beginning
    assert door.session.cut_off() == 2
    failed = [decode_error(event.body) for event in await door.hear() if isinstance(event, Failed)]
    assert [(error.code, error.executed) for error in failed] == [("cancelled", "maybe"), ("unavailable", "no")]
    door.session.link_lost(None)


async def test_an_answer_to_a_goodbye_that_was_not_said_is_nothing() -> None:
    door = await Door().open()
    door.session.bytes_received(memoryview(frames.pack_frame(frames.PONG, 0, 0, b"goodbye\0")))
    assert door.link.taken() == b""
    assert not door.link.ended
    door.session.link_lost(None)


async def test_who_leaves_without_a_hello_was_a_refusal_and_no_connection() -> None:
    door = Door()
    door.session.link_lost(None)
    assert door.facts == [ConnectionRefused("tcp://127.0.0.1:5", "the peer closed the connection")]


async def test_a_stranger_is_told_of_once() -> None:
    door = Door()
    door.session.bytes_received(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
    door.session.link_lost(ConnectionResetError("reset"))
    assert [type(fact) for fact in door.facts] == [ConnectionRefused]


async def test_who_has_not_said_hello_can_be_cut_for_another_and_who_has_cannot() -> None:
    stranger = Door()
    assert stranger.session.evict()
    assert stranger.link.ended == "aborted"
    stranger.session.link_lost(None)
    assert stranger.facts == [ConnectionRefused("tcp://127.0.0.1:5", "cut to make room: it had not said hello yet")]
    assert not stranger.session.evict(), "nobody is cut twice"
    leaving = Door()
    leaving.session.bytes_received(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
    assert leaving.link.ended == "closed", "turned away, and waiting for it to go"
    assert leaving.session.evict()
    assert leaving.link.ended == "aborted"
    client = await Door().open()
    assert not client.session.evict()
    assert not client.link.ended


@pytest.mark.parametrize("hello", [True, False])
async def test_who_is_not_in_yet_when_we_go_is_turned_away_with_the_reason(hello: bool) -> None:
    door = Door()
    door.desk.draining = True
    if hello:
        await door.say()
    else:
        door.session.say_goodbye()
    [gone] = await door.hear()
    assert isinstance(gone, GoneAway)
    assert gone.message == "the server is going down"
    assert door.link.ended == "closed"
    assert [type(fact) for fact in door.facts] == [ConnectionRefused]
    door.session.link_lost(None)


async def test_a_server_that_is_not_well_says_so_to_those_who_are_there_and_to_those_who_come() -> None:
    door = await Door().open()
    door.desk.serving, door.desk.message = False, "no database"
    door.session.tell_status()
    assert await door.hear() == [StatusReceived(Status(serving=False, message="no database"))]
    other = Door()
    other.session._desk = door.desk
    await other.say()
    assert [type(event).__name__ for event in await other.hear()] == ["Opened", "StatusReceived"]
    for each in (door, other):
        each.session.link_lost(None)


@pytest.mark.parametrize(
    ("peer", "checksum", "expected"),
    [
        ("tcp://10.0.0.9:5", "auto", True),
        ("tcp://[fe80::1%eth0]:5", "auto", True),
        ("tcp://127.0.0.1:5", "auto", False),
        ("tcp://[::ffff:127.0.0.1]:5", "auto", False),
        ("tls://10.0.0.9:5", "auto", False),
        ("unix:///run/x", "auto", False),
        ("memory://1", "auto", False),
        ("tls://10.0.0.9:5", "always", True),
        ("tcp://10.0.0.9:5", "never", False),
    ],
)
async def test_frames_have_check_sums_where_bytes_may_change_on_their_way(peer: str, checksum: Checksum, expected: bool) -> None:
    door = await Door(peer=peer, checksum=checksum, features=(frames.CHECKED,)).open()
    assert door.client.checked == door.session.conn.checked == expected
    call = door.call(b"shop.quick")
    await door.say()
    [replied] = await door.hear()
    assert replied.call is call  # type: ignore[attr-defined]
    door.session.link_lost(None)


async def test_a_client_that_does_not_want_them_gets_none() -> None:
    door = await Door(peer="tcp://10.0.0.9:5").open()
    assert not door.session.conn.checked
    door.session.link_lost(None)


async def test_a_call_cancelled_in_the_same_read_starts_no_handler() -> None:
    door = await Door().open()
    count = len(waiting)
    call = door.call(b"shop.slow")
    door.client.cancel(call)
    await door.say()
    assert len(waiting) == count
    assert door.session.conn.calls == {}
    assert door.desk.running == 0
    door.session.link_lost(None)


async def test_a_settled_number_is_forgotten_and_refused() -> None:
    door = await Door().open()
    door.client.send_ack(7)
    await door.say()
    assert door.session.conn.settled == 7
    door.call(b"shop.quick", 6)
    await door.say()
    [gone] = await door.hear()
    assert isinstance(gone, GoneAway)
    assert "call number 6 after the ACK that all below 7 are settled" in gone.message
    assert msgspec.to_builtins(gone)["reason"] == frames.PROTOCOL
    door.session.link_lost(None)
