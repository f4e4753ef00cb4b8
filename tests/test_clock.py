"""The clock is the loop's, and random streams do not disturb one another."""

from __future__ import annotations

import asyncio
import time

import pytest

from holdfast.clock import Streams, SystemClock, streams_for


@pytest.mark.both_loops
async def test_the_system_clock_is_comparable_with_the_loops() -> None:
    now = SystemClock().now()
    assert abs(asyncio.get_running_loop().time() - now) < 1.0
    assert SystemClock().now() >= now
    assert abs(time.monotonic() - now) < 1.0


def test_a_seed_repeats_and_names_are_independent() -> None:
    one, two = Streams(7), Streams(7)
    assert one.stream("dial").random() == two.stream("dial").random()
    one.stream("retry").random()  # one more draw here shifts nothing there
    assert one.stream("dial").random() == two.stream("dial").random()
    assert Streams(7).stream("a").random() != Streams(7).stream("b").random()
    assert Streams(7).stream("a").random() != Streams(8).stream("a").random()


def test_a_stream_is_kept_and_without_a_seed_differs_from_run_to_run() -> None:
    streams = Streams()
    assert streams.stream("a") is streams.stream("a")
    assert streams.stream("a").getrandbits(64) != Streams().stream("a").getrandbits(64)


def test_without_a_seed_all_streams_are_one_for_each_costs_more_than_a_call() -> None:
    streams = Streams()
    assert streams.stream("a") is streams.stream("b")
    assert Streams(0).stream("a") is not Streams(0).stream("b")


def test_a_secret_is_not_drawn_from_the_dice_that_others_see_and_repeats_with_a_seed() -> None:
    streams = Streams()
    state = streams.stream("a").getstate()
    assert streams.secret("instance").getrandbits(64) != streams.secret("instance").getrandbits(64)
    assert streams.stream("a").getstate() == state
    assert Streams(7).secret("instance").getrandbits(64) == Streams(7).secret("instance").getrandbits(64)


def test_without_a_seed_all_who_are_on_one_loop_have_the_same_streams() -> None:
    here, there = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert streams_for(None, here) is streams_for(None, here)
        assert streams_for(None, here) is not streams_for(None, there)
        assert streams_for(7, here) is not streams_for(7, here)
        assert streams_for(7, here).stream("a").random() == Streams(7).stream("a").random()
    finally:
        here.close()
        there.close()
