"""Drops are counted one by one and told together, never more often than agreed, and never forgotten."""

from __future__ import annotations

from itertools import pairwise

from holdfast.facts import DatagramsDropped, Fact
from holdfast.net.drops import SAY_EVERY_S, Drops
from tests.net.handtime import HandTime


def test_the_first_is_told_at_once_and_the_next_together() -> None:
    time, told = HandTime(), list[Fact]()
    drops = Drops("udp://x:1", ["kernel", "send_full"], time.wheel, told.append)
    drops.count("kernel")
    assert told == [DatagramsDropped("udp://x:1", "kernel", 1)]
    for _ in range(1000):
        drops.count("kernel")
    drops.count("kernel", 500)
    assert len(told) == 1
    time.move_to(100.0 + SAY_EVERY_S + 0.1)
    assert told[1:] == [DatagramsDropped("udp://x:1", "kernel", 1500)]
    assert drops.totals() == {"kernel": 1501, "send_full": 0}


def test_each_reason_is_told_at_most_once_per_period() -> None:
    time, told = HandTime(), list[tuple[float, str, int]]()
    drops = Drops("a", ["kernel", "send_full"], time.wheel, lambda fact: told.append((time.now_s, fact.reason, fact.count)))  # type: ignore[attr-defined]
    for step in range(80):
        drops.count("kernel")
        if step >= 9:
            drops.count("send_full")
        time.move_to(100.0 + (step + 1) / 10)
    for reason, dropped in (("kernel", 80), ("send_full", 71)):
        times = [at for at, of, _ in told if of == reason]
        assert all(later - earlier >= SAY_EVERY_S for earlier, later in pairwise(times))
        assert len(times) >= 7
        assert dropped - 11 <= sum(count for _, of, count in told if of == reason) <= dropped


def test_a_quiet_time_ends_the_folding() -> None:
    time, told = HandTime(), list[Fact]()
    drops = Drops("a", ["kernel"], time.wheel, told.append)
    drops.count("kernel")
    time.move_to(200.0)
    assert (len(told), len(time.wheel)) == (1, 0), "nothing to tell, no timer"
    drops.count("kernel")
    assert len(told) == 2


def test_the_end_tells_the_rest_and_leaves_no_timer() -> None:
    time, told = HandTime(), list[Fact]()
    drops = Drops("a", ["kernel", "closed"], time.wheel, told.append)
    drops.count("kernel", 2)
    drops.count("kernel", 3)
    drops.close()
    assert told == [DatagramsDropped("a", "kernel", 2), DatagramsDropped("a", "kernel", 3)]
    assert len(time.wheel) == 0
    drops.count("closed", 7)
    drops.close()
    assert (len(told), drops.totals()["closed"], len(time.wheel)) == (2, 7, 0)


def test_none_is_nothing_to_tell() -> None:
    time, told = HandTime(), list[Fact]()
    Drops("a", ["kernel"], time.wheel, told.append).count("kernel", 0)
    assert told == []
