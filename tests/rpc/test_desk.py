"""The desk: slots counted, the last one told, threads made when they are wanted."""

from __future__ import annotations

import asyncio
import random

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import MethodNotFound
from holdfast.facts import discard
from holdfast.rpc.desk import Desk
from holdfast.rpc.router import Router
from holdfast.tasks import Scope


def make_desk() -> Desk:
    return Desk(
        Router([]),
        lambda name: {},
        Scope(lambda error: None),
        SystemClock(),
        discard,
        random.Random(1),
        handlers_max=10,
        threads_max=2,
        threads_queue_max=3,
        debug=False,
    )


async def test_the_last_slot_given_back_is_told() -> None:
    desk = make_desk()
    desk.running = 2
    desk.idle = asyncio.get_running_loop().create_future()
    desk.release()
    assert not desk.idle.done()
    desk.release()
    assert desk.idle.done()


def test_threads_are_made_once_and_let_go() -> None:
    desk = make_desk()
    desk.close()  # there are none yet
    assert desk.threads_room == 5
    pool = desk.pool()
    assert desk.pool() is pool
    assert pool.submit(lambda: 7).result() == 7
    desk.close()


def test_near_names_are_not_looked_for_without_end() -> None:
    desk = make_desk()
    looked: list[bool] = []
    desk.router.suggest = lambda name, *, look=True: str(looked.append(look))  # type: ignore[method-assign,func-returns-value]
    for _ in range(100):
        assert isinstance(desk.not_found(b"shop.\xff", 5.0), MethodNotFound)
    assert looked.count(True) == 20
    desk.not_found(b"shop.pric", 5.2)
    assert looked[-1]


def test_nobody_is_told_of_calls_when_nobody_listens() -> None:
    assert make_desk().tells_calls is False


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("tcp://127.0.0.1:1234", True),
        ("tls://[::1]:1234", True),
        ("tcp://[::ffff:127.0.0.1]:1234", True),
        ("unix:///run/shop.sock", True),
        ("unix://@of its own\n\x1b[31m", True),
        ("unix://relative", True),
        ("tcp://10.0.0.7:1234", False),
        ("tcp://[fe80::1%a-very-long-interface-name]:1234", False),
        ("", False),
    ],
)
def test_whoever_asks_whatever_its_name_it_is_decided_who_is_told(peer: str, local: bool) -> None:
    desk = make_desk()
    assert desk.explains_to(peer) is local
    desk.explain_to = "all"
    assert desk.explains_to(peer)
    desk.explain_to = "nobody"
    assert not desk.explains_to(peer)
