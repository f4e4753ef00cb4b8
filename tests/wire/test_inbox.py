"""The connection's receive window: when credit goes back, and that none is lost."""

from __future__ import annotations

import pytest

from holdfast.wire import ByteBudget, Settings, frames
from holdfast.wire.inbox import Inbox
from holdfast.wire.outbox import Outbox
from tests.wire.helpers import parse


def inbox(window: int = 8192, frame_max: int = 1024) -> tuple[Inbox, Outbox]:
    settings = Settings(connection_window_bytes=window, frame_max_bytes=frame_max)
    outbox = Outbox(ByteBudget(2**30))
    made = Inbox(settings, ByteBudget(1), outbox)
    assert not made.spend(1), "nothing may be sent before the handshake"
    made.open(settings)
    return made, outbox


def credits(outbox: Outbox) -> list[int]:
    found = parse(b"".join(outbox.ready))
    outbox.ready.clear()
    return [int.from_bytes(payload) for kind, _, call_id, payload in found if (kind, call_id) == (frames.CREDIT, 0)]


def test_credit_comes_back_in_halves_of_a_window() -> None:
    window, outbox = inbox()
    for _ in range(3):
        assert window.spend(1024)
        window.used(1024)
    assert credits(outbox) == []
    assert window.spend(1024)
    window.used(1024)
    assert credits(outbox) == [4096]
    assert (window.credit, window.owed) == (8192, 0)


def test_nothing_is_kept_back_when_the_peer_could_not_send_a_whole_item() -> None:
    window, outbox = inbox()
    assert window.spend(3000)
    window.used(3000)
    assert credits(outbox) == []
    # somebody stops reading: what lies unused takes the rest of the window
    assert window.spend(4104)
    assert credits(outbox) == []
    assert window.spend(1)
    assert credits(outbox) == [3000]
    assert window.credit == 8192 - 4105
    assert window.spend(window.credit)
    window.used(5)
    assert credits(outbox) == [5]


def test_the_peer_cannot_spend_what_it_does_not_have() -> None:
    window, _ = inbox()
    assert not window.spend(8193)
    assert window.spend(8192)
    assert not window.spend(1)


@pytest.mark.parametrize("size", [4096, 4097, 8191])
def test_at_rest_half_an_odd_window_is_there(size: int) -> None:
    window, outbox = inbox(window=size)
    for count in (1, 500, 1000, 547, 1, 2048, 63):
        assert window.spend(count)
        window.used(count)
        assert window.credit >= size // 2
        assert window.credit + window.owed == size
    assert credits(outbox)
