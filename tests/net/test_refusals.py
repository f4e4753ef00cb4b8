"""Refusals are folded and counted, everything else passes; the time is the test's."""

from __future__ import annotations

from holdfast.control.wheel import Wheel
from holdfast.facts import CallEnded, ConnectionRefused, Fact, Listening, discard
from holdfast.net.refusals import OTHERS, REASONS_MAX, RefusalFold
from tests.control.test_wheel import FakeLoop


class Scene:
    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.wheel = Wheel(self.loop.now, self.loop.call_at)
        self.facts: list[Fact] = []
        self.fold = RefusalFold(self.facts.append, self.wheel)

    def refuse(self, times: int = 1, reason: str = "full", peer: str = "p") -> None:
        for n in range(times):
            self.fold(ConnectionRefused(f"{peer}{n}", reason))

    def said(self) -> list[tuple[str, str, int]]:
        facts, self.facts[:] = list(self.facts), []
        return [(fact.reason, fact.peer, fact.count) for fact in facts if isinstance(fact, ConnectionRefused)]


def test_the_first_is_told_at_once_and_the_rest_once_a_second_with_their_count() -> None:
    scene = Scene()
    scene.refuse(1000)
    assert scene.said() == [("full", "p0", 1)]
    scene.loop.advance(101.05)
    assert scene.said() == [("full", "p999", 999)]
    scene.refuse(5)
    assert scene.said() == []
    scene.loop.advance(102.1)
    assert scene.said() == [("full", "p4", 5)]
    scene.loop.advance(103.2)
    assert scene.said() == []
    scene.refuse()
    assert scene.said() == [("full", "p0", 1)], "it was quiet in between: this one is told at once again"


def test_reasons_do_not_wait_for_one_another() -> None:
    scene = Scene()
    scene.refuse(2, "full")
    scene.refuse(2, "spoke HTTP")
    assert [reason for reason, _, _ in scene.said()] == ["full", "spoke HTTP"]
    scene.loop.advance(101.1)
    assert sorted(scene.said()) == [("full", "p1", 1), ("spoke HTTP", "p1", 1)]


def test_strangers_cannot_flood_with_reasons_of_their_own() -> None:
    scene = Scene()
    for n in range(1000):
        scene.refuse(1, f"reason {n}")
    said = scene.said()
    assert len(said) == REASONS_MAX + 1
    assert said[-1] == (OTHERS, "p0", 1)
    scene.loop.advance(101.1)
    assert scene.said() == [(OTHERS, "p0", 1000 - REASONS_MAX - 1)]


def test_counts_that_come_folded_are_added() -> None:
    scene = Scene()
    scene.fold(ConnectionRefused("p", "full", 3))
    scene.fold(ConnectionRefused("p", "full", 4))
    scene.fold(ConnectionRefused("p", "full", 5))
    scene.fold.close()
    assert scene.said() == [("full", "p", 3), ("full", "p", 9)]


def test_closing_tells_the_rest_and_leaves_no_timer() -> None:
    scene = Scene()
    scene.refuse(3)
    scene.fold.close()
    scene.fold.close()
    assert scene.said() == [("full", "p0", 1), ("full", "p2", 2)]
    assert len(scene.wheel) == 0
    scene.refuse(2)
    assert scene.said() == [("full", "p0", 1), ("full", "p1", 1)], "whoever tells after the end is heard all the same"


def test_other_facts_pass_as_they_are() -> None:
    scene = Scene()
    for _ in range(3):
        scene.fold(Listening("tcp://a:1"))
    assert len(scene.facts) == 3


def test_who_hears_nothing_is_asked_through_the_fold() -> None:
    scene = Scene()
    assert scene.fold.wants(CallEnded)
    assert not RefusalFold(discard, scene.wheel).wants(CallEnded)
