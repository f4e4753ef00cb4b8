"""The accept loop against a loop and a kernel that do what the test says."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import cast

import pytest

from holdfast.control.bucket import TokenBucket
from holdfast.net.address import Address
from holdfast.net.listener import PACE_S, RETRY_S, Acceptor, OpenListener, Taken


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.later: list[tuple[float, Callable[[], None], FakeHandle]] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle()
        self.later.append((delay_s, callback, handle))
        return handle


class Scene:
    """An acceptor on descriptor 7. `outcomes` are what the next accepts give or raise; an empty list is an empty backlog."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.outcomes: list[Taken | int] = []
        self.accepted = 0
        self.asked = 0
        self.released = 0
        self.troubles: list[int | None] = []
        self.acceptor = Acceptor(
            cast("asyncio.AbstractEventLoop", self.loop),
            7,
            take=self.take,
            trouble=lambda error: self.troubles.append(error.errno),
            release=self.release,
            pace=TokenBucket(10, 5),
            accepts_per_turn=4,
        )

    def take(self) -> Taken:
        self.asked += 1
        outcome = self.outcomes.pop(0) if self.outcomes else errno.EAGAIN
        if isinstance(outcome, int):
            raise OSError(outcome, "as the test says")
        self.accepted += 1
        return outcome

    def release(self) -> None:
        self.released += 1

    def readable(self) -> None:
        self.loop.readers[7]()

    @property
    def resting(self) -> bool:
        return self.loop.readers == {}

    def wake(self, after_s: float) -> None:
        delay_s, again, _ = self.loop.later.pop()
        assert delay_s == after_s
        self.loop.now += delay_s
        again()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_turn_takes_a_bounded_number(scene: Scene) -> None:
    scene.outcomes = ["taken"] * 10
    scene.readable()
    assert scene.accepted == 4
    scene.readable()
    scene.readable()
    assert scene.accepted == 10
    assert not scene.resting


def test_what_must_wait_for_the_loop_ends_the_turn_and_costs_nothing(scene: Scene) -> None:
    scene.outcomes = ["taken", "later", "taken"]
    scene.readable()
    assert scene.asked == 2
    assert not scene.resting
    scene.readable()
    assert scene.outcomes == []


def test_an_empty_backlog_ends_the_turn(scene: Scene) -> None:
    scene.outcomes = ["taken"]
    scene.readable()
    assert (scene.accepted, scene.asked) == (1, 2)


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPROTO, errno.ENETUNREACH])
def test_one_that_died_in_the_backlog_costs_the_next_one_nothing(scene: Scene, error: int) -> None:
    scene.outcomes = [error, "taken"]
    scene.readable()
    assert scene.accepted == 1
    assert scene.troubles == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOBUFS, errno.ENOMEM, errno.EIO])
def test_a_shortage_nobody_can_do_anything_about_rests_the_loop(scene: Scene, error: int) -> None:
    for n in range(3):
        scene.outcomes = [error]
        scene.readable()
        assert scene.resting, "a readable backlog we cannot take from would spin"
        assert scene.troubles == [error] * (n + 1)
        scene.wake(RETRY_S)
    scene.outcomes = ["taken"]
    scene.readable()
    assert scene.accepted == 1


def test_what_costs_and_ends_the_turn_does_both(scene: Scene) -> None:
    scene.outcomes = ["costly and last"] * 10
    for n in range(6):
        assert not scene.resting
        scene.readable()
        assert scene.asked == n + 1
    assert scene.resting


def test_what_costs_is_paced_over_the_turns(scene: Scene) -> None:
    scene.outcomes = ["costly"] * 100
    scene.readable()
    scene.readable()
    assert scene.accepted == 6, "five at once, and the one that finds the bucket empty"
    assert scene.resting
    for _ in range(20):
        scene.wake(PACE_S)
        scene.readable()
        assert scene.resting
    assert 20 <= scene.accepted - 6 <= 40, "ten a second in the long run, and at most one too many at each look"


def test_close_releases_once_and_stops_asking(scene: Scene) -> None:
    scene.acceptor.close()
    scene.acceptor.close()
    assert scene.released == 1
    assert scene.resting


def test_close_while_resting_cancels_the_retry(scene: Scene) -> None:
    scene.outcomes = [errno.ENOMEM]
    scene.readable()
    scene.acceptor.close()
    assert scene.loop.later[0][2].cancelled
    assert scene.released == 1


def test_a_connection_that_closes_the_listener_is_the_last(scene: Scene) -> None:
    scene.outcomes = ["costly"] * 30
    take = scene.take

    def take_and_close() -> Taken:
        taken = take()
        scene.acceptor.close()
        return taken

    scene.acceptor._take = take_and_close
    scene.readable()
    assert scene.accepted == 1
    assert scene.loop.later == []


def test_a_listener_closes_all_its_acceptors_and_what_goes_with_them_once(scene: Scene) -> None:
    closed: list[str] = []
    address = Address("tcp", "localhost", 7)
    listener = OpenListener(address, {"backlog": 7}, [scene.acceptor], lambda: closed.append(f"released {scene.released}"))
    assert (listener.address, listener.options) == (address, {"backlog": 7})
    listener.close()
    listener.close()
    assert closed == ["released 1"]
