"""When a peer counts as having stopped: progress decides, not speed."""

from __future__ import annotations

from holdfast.control.wheel import Wheel
from holdfast.net.stall import StallWatch
from tests.control.test_wheel import FakeLoop


class Watched:
    def __init__(self, waiting: int) -> None:
        self.loop = FakeLoop()
        self.wheel = Wheel(self.loop.now, self.loop.call_at)
        self.waiting = waiting
        self.failed_at: list[float] = []
        self.watch = StallWatch(self.wheel, 10.0, lambda: self.waiting, lambda: self.failed_at.append(self.loop.now_s))


def test_a_peer_that_takes_nothing_fails_once_after_the_deadline() -> None:
    watched = Watched(waiting=1000)
    watched.loop.advance(109.9)
    assert watched.failed_at == []
    watched.loop.advance(200.0)
    assert len(watched.failed_at) == 1
    assert 110.0 <= watched.failed_at[0] < 110.1
    assert len(watched.wheel) == 0


def test_a_peer_that_takes_one_byte_at_a_time_lives() -> None:
    watched = Watched(waiting=1000)
    for n in range(1, 50):
        watched.waiting -= 1
        watched.loop.advance(100.0 + 9.5 * n)
    assert watched.failed_at == []


def test_one_that_stops_after_a_start_fails_a_deadline_later() -> None:
    watched = Watched(waiting=1000)
    watched.waiting = 10
    watched.loop.advance(119.0)
    assert watched.failed_at == []
    watched.loop.advance(121.0)
    assert len(watched.failed_at) == 1


def test_a_watch_that_is_cancelled_leaves_nothing_behind() -> None:
    watched = Watched(waiting=1000)
    watched.watch.cancel()
    watched.watch.cancel()
    watched.loop.advance(200.0)
    assert watched.failed_at == []
    assert len(watched.wheel) == 0
