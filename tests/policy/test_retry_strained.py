"""Attempts beside one that is slow, where all are: none is made, none is paid for, and it is said."""

from __future__ import annotations

import asyncio
import random

from holdfast.facts import RetryDenied
from holdfast.handler import CallRecord, Request
from holdfast.policy.retry import Retrier, RetryConfig
from tests.policy.test_retry import Bench, exactly, hedging, warmed


@exactly
async def test_an_attempt_that_has_used_up_its_share_gets_none_beside_it_where_all_are_as_slow() -> None:
    asked: list[Request] = []

    def late(request: Request) -> bool:
        asked.append(request)
        return True

    bench = Bench((2.5, b"first"), late=late)
    record = CallRecord("shop.get", 7, 0.0, 3.0)
    request = bench.request(record=record)
    assert (await bench.retrier.layer(bench.handler)(request)).body == b"first"
    assert asked == [request], "once, when its share is over"
    assert bench.facts == [RetryDenied("shop.get", "strained", enforced=True)]
    assert (record.hedging, bench.budget.taken, bench.hedged()) == ("strained", 0, [])
    assert bench.sent == [(0.0, "original")]
    await bench.clean()


@exactly
async def test_where_only_this_one_is_it_gets_another_one() -> None:
    bench = Bench((60.0, b"first"), (0.01, b"second"), late=lambda _: False)
    assert await bench.call() == b"second"
    assert (bench.hedged(), bench.denied(), bench.budget.taken) == ([1.0], [], 1)
    await bench.clean()


@exactly
async def test_nobody_is_asked_for_an_attempt_that_is_over_in_time_or_may_not_be_sent_again() -> None:
    asked: list[Request] = []

    def late(request: Request) -> bool:
        asked.append(request)
        return True

    bench = Bench((0.9, b"quick"), (2.0, b"alone"), (2.0, b"last"), late=late)
    assert await bench.call() == b"quick"
    assert await bench.call(idempotent=False) == b"alone"
    assert await bench.call(attempts_max=1) == b"last"
    assert (asked, bench.denied()) == ([], [])
    await bench.clean()


@exactly
async def test_where_all_are_as_slow_a_node_that_stands_still_is_noticed_all_the_same() -> None:
    bench = Bench((60.0, b"first"), (0.01, b"second"), late=lambda _: True, silent_s=lambda _: 10.0, config=RetryConfig(silent_s=1.5))
    assert await bench.call() == b"second"
    assert (bench.denied(), bench.hedged()) == (["strained"], [1.75])
    await bench.clean()


@exactly
async def test_nothing_is_hedged_while_most_nodes_are_overloaded_and_the_record_says_so() -> None:
    bench = hedging("enforce", (0.2, b"first"), strained=lambda: True)
    record = CallRecord("shop.get", 7, 0.0, None)
    reply = await bench.retrier.layer(bench.handler)(bench.request(deadline_s=None, record=record))
    assert (reply.body, record.hedging, bench.hedged()) == (b"first", "strained", [])
    await bench.clean()


@exactly
async def test_without_a_look_at_silence_a_look_that_comes_too_early_sends_nothing() -> None:
    """The delay has grown since the look was planned."""
    bench = Bench((0.2, b"first"), config=RetryConfig(silent_s=0.0))
    hedges = warmed(bench)
    now = asyncio.get_running_loop().time
    config = RetryConfig(silent_s=0.0, beside=False)
    bench.retrier = Retrier(now, random.Random(1), bench.facts.append, config, bench.budget, hedges=hedges, spawn=bench.scope.spawn)
    asyncio.get_running_loop().call_later(0.001, setattr, hedges.of("shop.get"), "after_s", 1.0)
    assert await bench.call(deadline_s=None) == b"first"
    assert (bench.hedged(), bench.budget.taken) == ([], 0)
    await bench.clean()
