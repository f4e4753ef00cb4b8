"""Commands, and two machines back to back: what one is told to say, the other is told."""

from __future__ import annotations

import pytest

from holdfast.errors import InvalidArgument
from holdfast.wire import (
    ByteBudget,
    CallState,
    Connection,
    Drained,
    Event,
    Failed,
    IncomingCall,
    ItemReceived,
    Replied,
    Settings,
    Unusable,
    frames,
)
from holdfast.wire.machine import Role
from holdfast.wire.settings import encode_settings
from tests.wire.helpers import SMALL, Pair, call_frame, feed, frame, names, opened, parse

BIG = Settings(frame_max_bytes=65536, message_max_bytes=16 << 20, stream_window_bytes=256 << 10, connection_window_bytes=4 << 20)


def ask(pair: Pair, body: bytes = b"", *, sends: bool = False, takes: bool = False) -> CallState:
    call = CallState()
    pair.client.open_call(call, b"m", body, True, 1000, 1, sends_items=sends, takes_items=takes)
    return call


def called(pair: Pair) -> IncomingCall:
    """The one call the server was told of since the last time."""
    pair.pump()
    _, [event] = pair.events()
    call = getattr(event, "call", None)
    assert isinstance(call, IncomingCall)
    return call


def only_reply(events: list[Event]) -> bytes:
    [event] = events
    assert isinstance(event, Replied)
    return event.body


def items(events: list[Event]) -> list[ItemReceived]:
    return [event for event in events if isinstance(event, ItemReceived)]


def at_rest(pair: Pair) -> None:
    """Everything is over: nothing is held, and the windows are as they were."""
    pair.pump()
    assert pair.client.calls == pair.server.calls == {}
    assert pair.parent.used_bytes == 0
    assert [budget.used_bytes for budget in pair.budgets.values()] == [0, 0]
    pair.check_credit([], [])


# ------------------------------------------------------------------------------------------------------------ unary


@pytest.mark.parametrize("asked", [0, 1, 1009, 1010, 1024, 5000, 16384])
@pytest.mark.parametrize("answered", [0, 1024, 1025, 16384])
def test_a_call_and_its_reply_arrive_whatever_their_size(asked: int, answered: int) -> None:
    pair = Pair()
    ask(pair, b"a" * asked)
    call = called(pair)
    assert (call.body, call.raw, call.deadline_ms, call.number) == (b"a" * asked, True, 1000, 1)
    pair.server.send_reply(call, b"r" * answered, True)
    pair.pump()
    assert only_reply(pair.events()[0]) == b"r" * answered
    at_rest(pair)


def test_small_calls_overtake_a_large_one_and_ids_still_grow() -> None:
    pair = Pair(BIG, BIG)
    ask(pair, b"l" * 1_000_000)
    for number in range(10):
        ask(pair, bytes([number]))
    pair.write(limit_bytes=1)
    pair.deliver()
    assert names(pair.events()[1]) == ["Called"] * 10
    pair.pump()
    assert names(pair.events()[1]) == ["Called"]


def test_small_replies_overtake_a_large_one() -> None:
    pair = Pair(BIG, BIG, budget_bytes=16 << 20)
    for _ in range(3):
        ask(pair)
    pair.pump()
    large, *small = pair.server.calls.values()
    pair.server.send_reply(large, bytes(15 << 20), True)
    pair.write(limit_bytes=65536)
    for call in small:
        pair.server.send_reply(call, b"quick", True)
    pair.write(limit_bytes=65536)
    pair.deliver()
    assert names(pair.events()[0]) == ["Replied", "Replied"]
    pair.pump()
    assert len(only_reply(pair.events()[0])) == 15 << 20
    at_rest(pair)


def test_a_message_the_peer_does_not_take_is_refused_before_anything_is_sent() -> None:
    pair = Pair()
    with pytest.raises(InvalidArgument, match="message of 16385 bytes; the server takes 16384"):
        ask(pair, bytes(16385))
    with pytest.raises(InvalidArgument, match="name, trace and metadata of this call take 2017 bytes; they must fit one frame of 1024"):
        pair.client.open_call(CallState(), b"m", b"", False, 0, 1, extra=frames.pack_extra(None, bytes(2000)))
    with pytest.raises(InvalidArgument, match="method name of 256 bytes; at most 255"):
        pair.client.open_call(CallState(), b"m" * 256, b"", False, 0, 1)
    with pytest.raises(InvalidArgument, match="method name of 256 bytes; at most 255"):
        pair.client.open_call(CallState(), b"m" * 256, bytes(5000), False, 0, 1)
    for deadline_ms, number in ((2**32, 1), (-1, 1), (0, 2**64), (0, -1)):
        with pytest.raises(InvalidArgument, match="deadline_ms="):
            pair.client.open_call(CallState(), b"m", b"", False, deadline_ms, number)
    assert not pair.client.output_pending
    assert ask(pair).id == 1
    call = called(pair)
    with pytest.raises(InvalidArgument, match="error of 1025 bytes; it must fit one frame of 1024"):
        pair.server.send_error(call, bytes(1025))
    pair.server.send_error(call, bytes(1024))
    at_rest(pair)
    assert names(pair.events()[0]) == ["Failed"]


def test_trace_and_metadata_travel_with_a_call_of_any_size() -> None:
    pair = Pair()
    trace, metadata = bytes(range(25)), b"\x81\xa1k\xa1v"
    for size in (0, 970, 5000):
        pair.client.open_call(CallState(), b"shop.place", bytes(size), False, 0, 2, frames.RETRY, frames.pack_extra(trace, metadata), True)
        call = called(pair)
        assert (call.method, call.trace, call.metadata, len(call.body)) == (b"shop.place", trace, metadata, size)
        assert (call.attempt, call.streams) == (frames.RETRY, True)
        pair.server.send_error(call, b"")
    at_rest(pair)


def test_a_reply_the_client_does_not_take_ends_that_call_alone() -> None:
    pair = Pair()
    ask(pair)
    ask(pair)
    pair.pump()
    first, second = pair.server.calls.values()
    pair.events()
    pair.server.send_reply(first, bytes(20_000), True)
    pair.server.send_reply(second, b"fine", True)
    pair.pump()
    assert names(pair.events()[0]) == ["Replied", "Unusable"]
    at_rest(pair)


def test_answers_to_a_call_that_is_over_say_nothing() -> None:
    pair = Pair()
    ask(pair)
    call = called(pair)
    pair.server.send_reply(call, b"", True)
    pair.server.send_reply(call, b"", True)
    pair.server.send_error(call, b"")
    pair.server.send_end(call)
    pair.server.finish(call)
    assert pair.server.send_item(call, b"", True)
    assert len(parse(pair.server.take_output(1 << 20))) == 1


# ------------------------------------------------------------------------------------------------------------ cancel


def test_cancel_is_told_and_the_server_ends_it() -> None:
    pair = Pair()
    call = ask(pair)
    incoming = called(pair)
    assert pair.client.cancel(call)
    assert pair.client.cancel(call), "once more says nothing, and nothing new"
    pair.pump()
    assert names(pair.events()[1]) == ["CancelReceived"]
    pair.server.finish(incoming)
    at_rest(pair)


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_call_given_up_half_way_was_surely_not_executed(written: int) -> None:
    pair = Pair()
    call = ask(pair, bytes(16000))
    for _ in range(written):
        pair.write(limit_bytes=1)
        pair.deliver()
    assert not pair.client.cancel(call)
    pair.pump()
    assert pair.events() == ([], [])
    at_rest(pair)


def test_a_call_whose_last_piece_has_left_may_be_executed() -> None:
    pair = Pair(BIG, BIG)
    call = ask(pair, bytes(200_000))
    pair.write(limit_bytes=1 << 20)
    assert pair.client.cancel(call)
    pair.pump()
    assert names(pair.events()[1]) == ["Called", "CancelReceived"]


def test_cancel_stops_a_reply_on_its_way() -> None:
    pair = Pair()
    call = ask(pair)
    pair.server.send_reply(called(pair), bytes(16000), True)
    pair.write(limit_bytes=1)
    pair.deliver()
    assert pair.budgets["client"].used_bytes > 0
    pair.client.cancel(call)
    at_rest(pair)
    assert pair.events() == ([], [])
    assert pair.server.outbox.bulk is None


def test_an_error_in_the_middle_of_an_item() -> None:
    pair = Pair()
    ask(pair, takes=True)
    call = called(pair)
    assert not pair.server.send_item(call, bytes(12_000), True)
    pair.write(limit_bytes=1)
    pair.deliver()
    pair.server.send_error(call, b"why")
    pair.pump()
    [event] = pair.events()[0]
    assert isinstance(event, Failed)
    assert event.body == b"why"
    at_rest(pair)


# ----------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_server_streams_and_ends(count: int) -> None:
    pair = Pair()
    call = ask(pair, takes=True)
    incoming = called(pair)
    got = []
    for number in range(count):
        assert pair.server.send_item(incoming, bytes([number]) * 100, True)
        pair.pump()
        [item] = items(pair.events()[0])
        got.append(item.body)
        pair.client.consume(item)
    pair.server.send_end(incoming)
    pair.pump()
    [event] = pair.events()[0]
    assert names([event]) == ["Ended"]
    assert got == [bytes([number]) * 100 for number in range(count)]
    assert call.id not in pair.client.calls
    at_rest(pair)


SIZES = [0, 1, 959, 960, 961, 1020, 1024, 1984, 1985, 2048, 3968, 4032, 4033, 4096, 8128, 8192, 12_288, 16_384]


@pytest.mark.parametrize("first", [0, 100, 960, 1984])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame_max", [1024, 4096])
def test_items_of_every_size_get_through_the_narrowest_windows(first: int, size: int, frame_max: int) -> None:
    settings = Settings(frame_max_bytes=frame_max, message_max_bytes=16384, stream_window_bytes=4096, connection_window_bytes=4096)
    pair = Pair(settings, settings)
    sender = ask(pair, sends=True)
    incoming = called(pair)
    for body in (b"f" * first, b"s" * size, b"f" * first, b"s" * size):
        sent = pair.client.send_item(sender, body, True)
        pair.pump()
        ours, theirs = pair.events()
        assert names(ours) == ([] if sent else ["Drained"])
        [item] = items(theirs)
        assert item.body == body
        pair.server.consume(item)
        pair.pump()
        pair.check_credit([sender], [incoming])
    pair.client.send_end(sender)
    pair.pump()
    pair.server.send_reply(incoming, b"", True)
    at_rest(pair)


def test_a_reader_that_stops_stops_its_sender() -> None:
    pair = Pair()
    ask(pair, takes=True)
    incoming = called(pair)
    sent = 0
    while pair.server.send_item(incoming, bytes(100), True):
        sent += 1
    assert sent == 4096 // 164
    pair.pump()
    unread = items(pair.events()[0])
    assert len(unread) == sent
    pair.pump()
    assert pair.events() == ([], [])
    for item in unread:
        pair.client.consume(item)
    pair.pump()
    [drained] = pair.events()[1]
    assert isinstance(drained, Drained)


def test_streams_that_nobody_reads_do_not_starve_the_one_that_is_read() -> None:
    settings = Settings(frame_max_bytes=4096, message_max_bytes=16384, stream_window_bytes=4096, connection_window_bytes=16384)
    pair = Pair(settings, settings)
    incoming = []
    for _ in range(3):
        ask(pair, takes=True)
        incoming.append(called(pair))
    read, *stalled = incoming
    for call in stalled:
        while pair.server.send_item(call, bytes(1900), True):
            pass
    pair.pump()
    pair.events()
    for _ in range(50):
        pair.server.send_item(read, bytes(1900), True)
        pair.pump()
        [item] = items(pair.events()[0])
        pair.client.consume(item)


def test_small_items_read_late_let_the_large_one_behind_them_go_on() -> None:
    pair = Pair()
    ask(pair, takes=True)
    incoming = called(pair)
    for size in (900, 900, 12_000):
        pair.server.send_item(incoming, bytes(size), True)
        pair.pump()
    small = items(pair.events()[0])
    assert [len(item.body) for item in small] == [900, 900]
    for item in small:
        pair.client.consume(item)
    pair.pump()
    assert [len(item.body) for item in items(pair.events()[0])] == [12_000]


def test_an_item_may_follow_arguments_that_are_still_on_their_way() -> None:
    pair = Pair()
    call = ask(pair, b"a" * 10_000, sends=True)
    assert not pair.client.send_item(call, b"first", True)
    with pytest.raises(RuntimeError, match="waiting already"):
        pair.client.send_item(call, b"second", True)
    pair.client.send_end(call)
    with pytest.raises(RuntimeError, match="END was sent already"):
        pair.client.send_item(call, b"third", True)
    pair.pump()
    ours, theirs = pair.events()
    assert names(ours) == ["Drained"]
    assert names(theirs) == ["Called", "ItemReceived", "Ended"]
    assert [item.body for item in items(theirs)] == [b"first"]


def test_an_end_may_follow_arguments_that_are_still_on_their_way() -> None:
    pair = Pair()
    pair.client.send_end(ask(pair, b"a" * 10_000, sends=True))
    pair.pump()
    assert names(pair.events()[1]) == ["Called", "Ended"]


def test_an_end_waits_for_the_item_before_it() -> None:
    pair = Pair()
    ask(pair, takes=True)
    incoming = called(pair)
    assert not pair.server.send_item(incoming, b"i" * 12_000, True)
    pair.server.send_end(incoming)
    pair.pump()
    got, _ = pair.events()
    assert names(got) == ["ItemReceived", "Ended"]
    assert incoming.id not in pair.server.calls
    assert pair.budgets["client"].used_bytes == 12_000
    pair.client.consume(items(got)[0])
    pair.client.consume(items(got)[0])
    at_rest(pair)


def test_a_stream_that_ends_leaves_no_item_of_ours_waiting() -> None:
    pair = Pair()
    call = ask(pair, sends=True, takes=True)
    incoming = called(pair)
    assert not pair.client.send_item(call, bytes(12_000), True)
    pair.write(limit_bytes=1)
    pair.server.send_end(incoming)
    pair.pump()
    assert names(pair.events()[0]) == ["Ended"]
    assert pair.client.send_item(call, b"too late", True), "the call is over; its sender is about to be told"
    pair.client.send_end(call)
    at_rest(pair)


def test_items_left_unread_give_their_credit_back_when_they_are_forgotten() -> None:
    pair = Pair()
    call = ask(pair, takes=True)
    incoming = called(pair)
    for size in (500, 500, 6000):
        pair.server.send_item(incoming, bytes(size), True)
        pair.pump()
    unread = items(pair.events()[0])
    pair.client.consume(unread[0])
    pair.pump()
    unread += items(pair.events()[0])
    pair.server.send_error(incoming, b"")
    pair.pump()
    pair.client.forget(call)
    pair.client.forget(call)
    for item in unread:
        pair.client.consume(item)
    at_rest(pair)


def test_who_may_not_stream_is_told_so() -> None:
    pair = Pair()
    unary, taking = ask(pair), ask(pair, takes=True)
    for call in (unary, taking):
        with pytest.raises(RuntimeError, match="takes no items from us"):
            pair.client.send_item(call, b"", True)
        pair.client.send_end(call)
    stream = ask(pair, sends=True)
    with pytest.raises(InvalidArgument, match="item of 16385 bytes; the peer takes 16384"):
        pair.client.send_item(stream, bytes(16385), True)
    assert not pair.client.send_item(stream, bytes(16384), True)
    with pytest.raises(RuntimeError, match="waiting already"):
        pair.client.send_item(stream, b"", True)
    pair.client.consume(ItemReceived(unary, b"", True, 64, 0))


def test_an_item_too_large_for_the_client_ends_that_stream_alone() -> None:
    pair = Pair(SMALL, SMALL, budget_bytes=8000)
    ask(pair, takes=True)
    incoming = called(pair)
    assert not pair.server.send_item(incoming, bytes(9000), True)
    pair.pump()
    ours, theirs = pair.events()
    [event] = ours
    assert isinstance(event, Unusable)
    assert not event.too_large
    assert "CancelReceived" in names(theirs)
    pair.server.finish(incoming)
    at_rest(pair)


# -------------------------------------------------------------------------------------------------------- connection


def test_pings_and_goodbyes() -> None:
    pair = Pair()
    pair.client.send_ping(b"12345678")
    with pytest.raises(ValueError, match="a ping of 7 bytes; it has 8"):
        pair.client.send_ping(b"1234567")
    ask(pair)
    pair.pump()
    pair.server.send_goaway("the server is restarting")
    pair.pump()
    assert names(pair.client_events) == ["Ponged", "GoneAway"]
    assert getattr(pair.client_events[1], "last_call_id", None) == 1
    assert getattr(pair.client_events[1], "message", None) == "the server is restarting"


def test_output_pending_says_what_take_output_does() -> None:
    connection = opened("server")
    assert not connection.output_pending
    assert connection.take_output(1 << 20) == b""
    feed(connection, call_frame(1) + call_frame(2, flags=frames.STREAM))
    first, second = connection.calls.values()
    connection.send_reply(first, bytes(16_000), True)
    while connection.send_item(second, bytes(900), True):
        pass
    while connection.output_pending:
        assert connection.take_output(2000)
    assert connection.take_output(2000) == b""
    feed(connection, frame(frames.CREDIT, 0, 0, (2048).to_bytes(4)))
    assert connection.output_pending
    assert connection.take_output(2000)


def test_large_replies_hold_the_budget_until_they_have_gone_and_one_too_many_is_refused() -> None:
    connection = opened("server", budget_bytes=20_000)
    budget = connection.inbox.budget
    feed(connection, call_frame(1) + call_frame(2) + call_frame(3))
    first, second, third = connection.calls.values()
    assert connection.send_reply(first, bytes(16_000), True)
    assert budget.used_bytes == 16_000
    assert not connection.send_reply(second, bytes(16_000), True)
    assert second.id in connection.calls, "what was refused is still to be answered"
    connection.send_error(second, b"no room")
    assert connection.send_reply(third, b"small", True), "what fits a frame needs no room"
    feed(connection, frame(frames.CANCEL, 0, 1))
    assert budget.used_bytes == 0, "nobody waits for the first one any more"
    feed(connection, call_frame(4) + call_frame(5))
    assert connection.send_reply(connection.calls[4], bytes(4_000), True)
    while connection.output_pending:
        connection.take_output(1 << 20)
    assert budget.used_bytes == 0, "it has gone"
    assert connection.send_reply(connection.calls[5], bytes(16_000), True)
    connection.lost()
    assert budget.used_bytes == 0


def test_the_layer_above_may_bring_its_own_records() -> None:
    class Mine(IncomingCall, eq=False):
        note: str = "mine"

    server = Connection("server", SMALL, budget=ByteBudget(1), make_call=Mine)
    feed(server, frames.PREFACE + frame(frames.HELLO, 0, 0, encode_settings(SMALL)))
    server.send_welcome(SMALL)
    feed(server, call_frame(1, b"name", b"body"))
    [call] = server.calls.values()
    assert isinstance(call, Mine)
    assert (call.note, call.method, call.body) == ("mine", b"name", b"body")


@pytest.mark.parametrize("role", ["client", "server"])
def test_frames_are_no_longer_than_either_side_takes(role: Role) -> None:
    """Or a peer that says it takes 16 MiB would have answers go whole, which draw on no budget."""
    assert opened(role, SMALL, BIG).outbox.frame_max_bytes == SMALL.frame_max_bytes
    assert opened(role, BIG, SMALL).outbox.frame_max_bytes == SMALL.frame_max_bytes
