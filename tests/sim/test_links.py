"""What lies between hosts: times, losses, and the packets that cannot get through."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim import WorldOptions
from holdfast.sim.engine import Engine
from holdfast.sim.links import Link, Links, Shape, _sent_again


class Station:
    """A machine that is on, or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.links: dict[Any, Link] = {}
        self.on = True

    def listens(self) -> bool:
        return self.on


class Flow:
    """One direction of a connection, which counts how often it was told that it is stuck."""

    def __init__(self) -> None:
        self.last_at = 0.0
        self.packets = self.came = 0
        self.early: dict[int, tuple[Any, tuple[Any, ...]]] | None = None
        self.stucks = 0

    def stuck(self) -> None:
        self.stucks += 1


class Wires:
    """Two stations and everything that arrives at the second one."""

    def __init__(self, seed: int = 0, **shape: Any) -> None:
        self.engine = Engine(seed, WorldOptions())
        self.links = Links(self.engine)
        self.a, self.b, self.flow = Station("a"), Station("b"), Flow()
        self.link = self.links.between(self.a, self.b)
        self.links.reshape(self.a, self.b, Shape(latency_s=0.01, **shape))
        self.came: list[tuple[float, int]] = []

    def arrive(self, n: int) -> None:
        self.came.append((self.engine.now, n))

    def stream(self, n: int, size: int = 100, flow: Flow | None = None) -> None:
        self.links.stream(self.a, self.b, flow or self.flow, size, self.arrive, n)

    def datagram(self, n: int, size: int = 100) -> str | None:
        return self.links.datagram(self.a, self.b, size, self.arrive, n)

    def run(self, until: float = 1e9) -> list[int]:
        """Let everything happen that happens before a time."""
        import heapq

        while self.engine.heap and self.engine.heap[0][0] <= until:
            self.engine.now, _, call, args = heapq.heappop(self.engine.heap)
            call(*args)
        self.engine.now = max(self.engine.now, until if until < 1e9 else 0.0)
        return [n for _, n in self.came]


@given(st.integers(0, 1000), st.lists(st.integers(1, 10_000), max_size=30), st.floats(0, 0.5))
def test_a_flow_keeps_its_order_and_loses_nothing(seed: int, sizes: list[int], loss: float) -> None:
    wires = Wires(seed, jitter_s=0.5, loss=loss, bandwidth_bytes_per_s=1e5)
    for n, size in enumerate(sizes):
        wires.stream(n, size)
    assert wires.run() == list(range(len(sizes)))


def test_two_flows_do_not_wait_for_one_another() -> None:
    wires = Wires(3, jitter_s=0.5)
    flows = [Flow() for _ in range(20)]
    for n, flow in enumerate(flows):
        wires.stream(n, flow=flow)
    assert wires.run() != list(range(20))


def test_latency_and_jitter_bound_the_time() -> None:
    wires = Wires(jitter_s=0.02)
    for n in range(500):
        wires.engine.at(float(n), wires.datagram, n)
    wires.run()
    times = [when - n for when, n in wires.came]
    assert min(times) >= 0.01
    assert max(times) <= 0.03
    assert max(times) - min(times) > 0.018


def test_bandwidth_is_shared_by_everything_on_the_link() -> None:
    wires = Wires(bandwidth_bytes_per_s=1000.0)
    wires.stream(0, 500)
    wires.stream(1, 500, Flow())
    wires.datagram(2, 100)
    wires.run()
    assert [(round(when, 6), n) for when, n in wires.came] == [(0.51, 0), (1.01, 1), (1.11, 2)]


def test_a_datagram_that_would_wait_for_a_second_is_dropped_and_a_stream_waits() -> None:
    wires = Wires(bandwidth_bytes_per_s=1000.0)
    wires.stream(0, 1500)
    assert wires.datagram(1) == "queue full"
    wires.stream(2, 100)
    assert wires.run() == [0, 2]


@pytest.mark.parametrize(("shape", "least", "most"), [({"loss": 0.2}, 740, 860), ({"duplicate": 0.2}, 1140, 1260), ({}, 1000, 1000)])
def test_loss_and_duplication_come_as_often_as_asked(shape: dict[str, float], least: int, most: int) -> None:
    wires = Wires(1, **shape)
    lost = sum(wires.datagram(n) == "lost" for n in range(1000))
    came = wires.run()
    assert least <= len(came) <= most
    assert lost == 1000 - len(set(came))


def test_datagrams_keep_their_order_unless_reordering_is_asked_for() -> None:
    def overtaken(**shape: float) -> int:
        wires = Wires(1, jitter_s=0.05, **shape)
        for n in range(200):
            wires.engine.at(n * 0.005, wires.datagram, n)
        came = wires.run()
        return sum(later < earlier for earlier, later in pairwise(came))

    assert overtaken() == 0
    assert overtaken(reorder=0.3) > 20


def test_a_lost_packet_of_a_stream_comes_after_a_retransmission() -> None:
    wires = Wires(loss=1.0)
    wires.stream(0)
    wires.run()
    assert [when for when, _ in wires.came] == [pytest.approx(0.21)]


def test_a_cut_loses_datagrams_and_keeps_streams_for_their_next_retransmission() -> None:
    wires = Wires()
    wires.stream(0)  # is under way already
    wires.link.cut = True
    wires.stream(1)
    assert wires.datagram(9) == "cut"
    wires.engine.at(0.1, wires.stream, 2)
    assert wires.run(5.0) == [0]
    assert (wires.flow.stucks, wires.links.waiting()) == (2, 2)
    wires.link.cut = False
    wires.links.reopen(wires.link)
    wires.run()
    assert [n for _, n in wires.came] == [0, 1, 2]
    assert wires.came[1][0] == pytest.approx(_sent_again(0.0, 5.0) + 0.01)
    assert wires.links.waiting() == 0


def test_what_is_sent_behind_a_packet_that_waits_waits_too() -> None:
    wires = Wires()
    wires.link.cut = True
    wires.stream(0)
    wires.link.cut = False  # open again, but nobody has told the packets yet
    wires.stream(1)
    assert wires.run(1.0) == []
    wires.links.reopen(wires.link)
    assert wires.run() == [0, 1]


@pytest.mark.parametrize(("now", "again"), [(0.1, 0.2), (0.2, 0.6), (0.5, 0.6), (1.0, 1.4), (3.1, 6.2), (25.3, 25.4), (1000.0, 1044.6)])
def test_tcp_sends_again_when_its_back_off_says(now: float, again: float) -> None:
    assert _sent_again(0.0, now) == pytest.approx(again)


def test_a_hold_keeps_everything_and_a_release_lets_it_go_at_once_in_order() -> None:
    wires = Wires()
    wires.link.held = True
    wires.stream(0)
    assert wires.datagram(1) is None
    wires.stream(2)
    assert wires.run(5.0) == []
    wires.links.release(wires.link)
    wires.run()
    assert wires.came == [(5.01, 0), (5.01, 1), (5.01, 2)]


def test_a_release_does_not_open_what_is_cut() -> None:
    wires = Wires()
    wires.link.held = wires.link.cut = True
    wires.stream(0)
    wires.links.release(wires.link)
    assert wires.run() == []
    wires.link.cut = False
    wires.links.reopen(wires.link)
    assert wires.run() == [0]


def test_a_machine_that_is_off_gets_streams_when_it_is_on_again_and_no_datagrams() -> None:
    wires = Wires()
    wires.stream(0)
    wires.datagram(1)
    wires.b.on = False  # while both are under way
    wires.engine.at(1.0, wires.stream, 2)
    wires.engine.at(1.0, wires.datagram, 3)
    assert wires.run(2.0) == []
    wires.b.on = True
    wires.links.reopen_to(wires.a)  # somebody else came back
    assert wires.run(3.0) == []
    wires.links.reopen_to(wires.b)
    assert wires.run() == [0, 2]


def test_what_is_sent_again_to_a_machine_that_stood_still_is_not_overtaken() -> None:
    wires = Wires()
    wires.stream(0)
    wires.engine.at(0.005, wires.stream, 1)  # is under way when the machine goes on
    wires.engine.at(0.014, wires.stream, 2)
    wires.b.on = False
    assert wires.run(0.012) == []
    wires.b.on = True
    wires.links.reopen_to(wires.b)
    assert wires.run(0.1) == [], "both came, and wait for the first, which is sent again"
    assert wires.run() == [0, 1, 2]


def test_what_a_callback_sends_after_it_slept_leaves_later() -> None:
    wires = Wires()
    wires.engine.spent = 0.5
    wires.stream(0)
    wires.datagram(1)
    wires.engine.spent = 0.0
    wires.run()
    assert sorted(wires.came) == [(0.51, 0), (0.51, 1)]


def test_each_direction_and_each_pair_draws_for_itself() -> None:
    def times(more: bool) -> list[float]:
        wires = Wires(7, jitter_s=0.5)
        if more:
            for _ in range(5):
                wires.links.datagram(wires.b, wires.a, 1, print)
        for n in range(5):
            wires.datagram(n)
        wires.engine.heap = [entry for entry in wires.engine.heap if entry[3][1] is not print]
        wires.run()
        return [when for when, _ in wires.came]

    assert times(False) == times(True)


def test_packets_with_something_in_them_are_counted() -> None:
    wires = Wires()
    wires.stream(0, 0)
    wires.stream(1, 5)
    wires.datagram(2)
    assert wires.links.carried == 2
