"""Pieces take turns, in order, and nothing that waits blocks what could go."""

from __future__ import annotations

import pytest

from holdfast.wire import CallState, Flow, frames
from holdfast.wire.flow import ByteBudget, Outgoing
from holdfast.wire.outbox import PIECE_MIN_BYTES, Outbox
from tests.wire.helpers import parse


def outbox(frame_max: int = 2048, window: int = 1 << 20) -> Outbox:
    made = Outbox(ByteBudget(2**30))
    made.open(frame_max, window)
    return made


def reply(call_id: int, size: int) -> Outgoing:
    return Outgoing(CallState(call_id), frames.REPLY, 0, bytes([call_id]) * size)


def item(call_id: int, size: int, credit: int, window: int = 1 << 20) -> Outgoing:
    call = CallState(call_id, Flow(window, window))
    assert call.flow is not None
    call.flow.send_credit = credit
    call.flow.outgoing = Outgoing(call, frames.DATA, 0, bytes([call_id]) * size)
    return call.flow.outgoing


def written(box: Outbox, limit: int = 1 << 20) -> bytes:
    box.fill(limit, [])
    data = b"".join(box.ready)
    box.ready.clear()
    return data


def taken(box: Outbox, limit: int = 1 << 20) -> list[tuple[str, int, int, int]]:
    """(type, flags, call id, payload length) of what a take gives."""
    pending = box.pending
    data = written(box, limit)
    assert pending == bool(data)
    return [(frames.name_of(kind), flags, call_id, len(payload)) for kind, flags, call_id, payload in parse(data)]


def test_large_messages_take_turns() -> None:
    box = outbox()
    box.queue_answer(reply(1, 5000))
    box.queue_answer(reply(2, 3000))
    assert taken(box) == [
        ("REPLY", 1, 1, 2048),
        ("REPLY", 1, 2, 2048),
        ("PIECE", 1, 1, 2048),
        ("PIECE", 0, 2, 956),
        ("PIECE", 0, 1, 908),
    ]
    assert box.bulk is None
    assert box.answers == {}


def test_small_frames_go_first_and_every_take_moves_one_piece() -> None:
    box = outbox()
    box.queue_answer(reply(1, 100_000))
    for _ in range(3):
        box.ready.append(frames.pack_frame(frames.PING, 0, 0, bytes(8)) * 100)
        kinds = [kind for kind, *_ in taken(box, limit=100)]
        assert kinds == ["PING"] * 100 + [kinds[-1]]
        assert kinds[-1] in ("REPLY", "PIECE")


def test_credit_never_goes_below_zero_and_slivers_wait() -> None:
    box = outbox(window=3000)
    box.queue_answer(reply(1, 10_000))
    assert taken(box) == [("REPLY", 1, 1, 2048)]
    assert box.credit == 956 < PIECE_MIN_BYTES
    assert taken(box) == []
    assert box.bulk
    box.credit += 2044
    assert taken(box) == [("PIECE", 1, 1, 2048)]


def test_the_last_bytes_are_no_sliver() -> None:
    box = outbox(window=2100)
    box.queue_answer(reply(1, 2060))
    assert taken(box) == [("REPLY", 1, 1, 2048), ("PIECE", 0, 1, 16)]


@pytest.mark.parametrize("frame_max", [1024, 1025, 1028, 2048])
def test_the_narrowest_frames_still_carry_first_pieces(frame_max: int) -> None:
    box = outbox(frame_max=frame_max)
    box.queue_answer(reply(1, 3000))
    found = taken(box)
    assert found[0] == ("REPLY", 1, 1, frame_max)
    assert sum(length for *_, length in found) == 3000 + frames.TOTAL.size


def test_an_item_whose_stream_has_no_credit_lets_others_pass() -> None:
    box = outbox()
    starved = item(1, 5000, credit=100)
    box.queue(starved)
    box.queue_answer(reply(2, 3000))
    assert [call_id for _, _, call_id, _ in taken(box)] == [2, 2]
    assert not box.pending
    flow = starved.call.flow
    assert flow is not None
    assert flow.waiting
    flow.send_credit += 10_000
    box.resume(flow)
    assert [call_id for _, _, call_id, _ in taken(box)] == [1, 1, 1]
    assert flow.send_credit == 10_100 - 5000 - frames.ITEM_OVERHEAD_BYTES


def test_an_item_that_lacks_the_connections_credit_waits_in_its_place() -> None:
    box = outbox(window=4096)
    box.credit = 1000
    box.queue(item(1, 1500, credit=5000))
    assert taken(box) == []
    box.credit = 1564
    assert taken(box) == [("DATA", 0, 1, 1500)]
    assert box.credit == 0


def test_an_empty_item_costs_its_overhead_and_goes() -> None:
    box = outbox()
    box.credit = 63
    box.queue(item(1, 0, credit=1000))
    assert taken(box) == []
    box.credit = 64
    assert taken(box) == [("DATA", 0, 1, 0)]
    assert box.credit == 0


def test_half_a_window_decides_what_goes_whole() -> None:
    box = outbox(frame_max=4096, window=8192)
    flow = Flow(4096, 4096)
    assert box.fits(flow, 4096 // 2 - 64)
    assert not box.fits(flow, 4096 // 2 - 63)
    box.open(1024, 8192)
    assert not box.fits(flow, 1025)
    box.open(4096, 4096)
    assert not box.fits(Flow(1 << 20, 1), 4096 // 2 - 63)


def test_what_is_dropped_is_gone_wherever_it_waited() -> None:
    box = outbox()
    starved, queued = item(1, 5000, credit=0), item(2, 5000, credit=10_000)
    for outgoing in (starved, queued):
        box.queue(outgoing)
    box.queue_answer(reply(3, 5000))
    assert len(taken(box, limit=1)) == 1
    for outgoing in (starved, queued):
        assert outgoing.call.flow is not None
        box.drop(outgoing.call.flow)
        box.resume(outgoing.call.flow)
        box.drop(outgoing.call.flow)
    assert box.drop_answer(3)
    assert not box.drop_answer(3)
    assert taken(box) == []
    assert box.bulk is None


def test_clear_forgets_everything() -> None:
    box = outbox()
    box.ready.append(b"x")
    box.queue_answer(reply(3, 5000))
    box.clear()
    assert not box.pending
    assert not box.drop_answer(3)
    assert written(box) == b""
