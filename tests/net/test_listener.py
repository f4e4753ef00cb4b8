"""The accept loop against a loop and a kernel that do what the test says."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import cast

import pytest

from holdfast.facts import ConnectionRefused, Fact
from holdfast.net.address import Address
from holdfast.net.listener import RETRY_S, Acceptor


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.later: list[tuple[float, Callable[[], None], FakeHandle]] = []

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle()
        self.later.append((delay_s, callback, handle))
        return handle


class Scene:
    """An acceptor on descriptor 7. `outcomes` are what the next accepts raise; None is a connection, an empty list an empty backlog."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.outcomes: list[int | None] = []
        self.accepted = 0
        self.asked = 0
        self.released = 0
        self.facts: list[Fact] = []
        self.acceptor = Acceptor(
            cast("asyncio.AbstractEventLoop", self.loop),
            7,
            Address("tcp", "127.0.0.1", 7000),
            accept=self.accept,
            release=self.release,
            accepts_per_turn=4,
            emit=self.facts.append,
        )

    def accept(self) -> None:
        self.asked += 1
        outcome = self.outcomes.pop(0) if self.outcomes else errno.EAGAIN
        if outcome is not None:
            raise OSError(outcome, "as the test says")
        self.accepted += 1

    def release(self) -> None:
        self.released += 1

    def readable(self) -> None:
        self.loop.readers[7]()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_turn_takes_a_bounded_number(scene: Scene) -> None:
    scene.outcomes = [None] * 10
    scene.readable()
    assert scene.accepted == 4
    scene.readable()
    scene.readable()
    assert scene.accepted == 10


def test_an_empty_backlog_ends_the_turn(scene: Scene) -> None:
    scene.outcomes = [None]
    scene.readable()
    assert (scene.accepted, scene.asked) == (1, 2)


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPROTO, errno.ENETUNREACH])
def test_one_that_died_in_the_backlog_costs_the_next_one_nothing(scene: Scene, error: int) -> None:
    scene.outcomes = [error, None]
    scene.readable()
    assert scene.accepted == 1
    assert scene.facts == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EIO])
def test_a_shortage_rests_the_loop_and_is_told_once(scene: Scene, error: int) -> None:
    for _ in range(3):
        scene.outcomes = [error]
        scene.readable()
        assert scene.loop.readers == {}, "a readable backlog we cannot take from would spin"
        delay_s, again, _ = scene.loop.later.pop()
        assert delay_s == RETRY_S
        again()
    (fact,) = scene.facts
    assert isinstance(fact, ConnectionRefused)
    assert "tcp://127.0.0.1:7000 cannot accept" in fact.reason
    scene.outcomes = [None]
    scene.readable()
    assert scene.accepted == 1
    scene.outcomes = [error]
    scene.readable()
    assert len(scene.facts) == 2, "the shortage was over in between: this is another one"


def test_close_releases_once_and_stops_asking(scene: Scene) -> None:
    scene.acceptor.close()
    scene.acceptor.close()
    assert scene.released == 1
    assert scene.loop.readers == {}


def test_close_while_resting_cancels_the_retry(scene: Scene) -> None:
    scene.outcomes = [errno.EMFILE]
    scene.readable()
    scene.acceptor.close()
    assert scene.loop.later[0][2].cancelled
    assert scene.released == 1


def test_a_connection_that_closes_the_listener_is_the_last(scene: Scene) -> None:
    scene.outcomes = [None] * 3
    accept = scene.accept

    def accept_and_close() -> None:
        accept()
        scene.acceptor.close()

    scene.acceptor._accept = accept_and_close
    scene.readable()
    assert scene.accepted == 1
