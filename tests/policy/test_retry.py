"""When a call may be sent again, from the facts of its error alone; and the layer that does it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from holdfast.control.budget import RetryBudget
from holdfast.errors import (
    Cancelled,
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    Refused,
    Unavailable,
)
from holdfast.facts import CallHedged, CallRetried, Fact, RetryDenied
from holdfast.handler import CallRecord, MethodInfo, Mode, Reply, Request
from holdfast.policy.hedge import HedgeConfig, Hedges
from holdfast.policy.retry import Retrier, RetryConfig, judge_retry
from holdfast.sim import Cut, World, cancel_everywhere
from holdfast.tasks import Scope
from tests.calling.town import run_exactly

CONFIG = RetryConfig(base_s=0.001, cap_s=0.002, silent_s=0.0)


def backoff(error: HoldfastError, attempt: int = 1, *, idempotent: bool = False, left_s: float | None = None) -> float | None:
    return judge_retry(error, attempt, 3, idempotent=idempotent, left_s=left_s, config=CONFIG, rng=random.Random(1))[0]


@pytest.mark.parametrize(
    ("error", "plain", "idempotent"),
    [
        (Unavailable(), True, True),
        (Overloaded(), True, True),
        (OutcomeUnknown(), False, True),
        (DeadlineExceeded(), False, True),
        (DeadlineExceeded(executed="no"), True, True),
        (Unavailable(executed="maybe"), False, True),
        (Overloaded(executed="yes"), False, False),
        (Refused("no"), False, False),
        (InvalidArgument(), False, False),
        (InternalError(), False, False),
        (Cancelled(), False, False),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.executed}" if isinstance(value, HoldfastError) else str(value),
)
def test_what_may_have_run_goes_again_only_when_it_is_idempotent(error: HoldfastError, plain: bool, idempotent: bool) -> None:
    assert (backoff(error) is not None) is plain
    assert (backoff(error, idempotent=True) is not None) is idempotent


def test_the_attempts_are_counted() -> None:
    assert backoff(Unavailable(), 2) is not None
    assert backoff(Unavailable(), 3) is None


def test_it_waits_as_long_as_the_server_asked() -> None:
    assert backoff(Overloaded(retry_after_s=0.7)) == 0.7


def test_it_does_not_wait_beyond_the_deadline() -> None:
    assert backoff(Overloaded(retry_after_s=0.7), left_s=0.7) is None
    assert backoff(Overloaded(retry_after_s=0.7), left_s=0.8) == 0.7


class Handler:
    """Fails as often as it is told to, then answers."""

    def __init__(self, *errors: HoldfastError) -> None:
        self.errors = list(errors)
        self.attempts: list[str] = []

    async def __call__(self, request: Request) -> Reply:
        self.attempts.append(request.attempt)
        if self.errors:
            raise self.errors.pop(0)
        return Reply(b"done")


def request(**more: Any) -> Request:
    return Request(MethodInfo("shop.place"), b"", False, more.pop("deadline_at", None), 7, attempts_max=3, **more)


def retrier(facts: list[Fact]) -> Retrier:
    return Retrier(asyncio.get_running_loop().time, random.Random(1), facts.append, CONFIG)


@pytest.mark.both_loops
async def test_the_layer_sends_again_and_says_so() -> None:
    facts: list[Fact] = []
    handler = Handler(Unavailable("a"), Overloaded("b"))
    reply = await retrier(facts).layer(handler)(request())
    assert (reply.body, handler.attempts) == (b"done", ["original", "retry", "retry"])
    assert [(fact.attempt, fact.code) for fact in facts if isinstance(fact, CallRetried)] == [(1, "unavailable"), (2, "resource_exhausted")]


async def test_the_last_error_is_told() -> None:
    handler = Handler(Unavailable("a"), Unavailable("b"), Unavailable("c"), Unavailable("d"))
    with pytest.raises(Unavailable, match="^c$"):
        await retrier([]).layer(handler)(request())
    assert len(handler.attempts) == 3


async def test_coming_in_after_the_first_attempt_is_the_same() -> None:
    handler = Handler(Unavailable("b"))
    reply = await retrier([]).after(Unavailable("a"), request(), handler)
    assert (reply.body, handler.attempts) == (b"done", ["retry", "retry"])


async def test_a_cancel_in_the_pause_ends_it() -> None:
    handler = Handler()
    task = asyncio.get_running_loop().create_task(retrier([]).after(Overloaded(retry_after_s=60.0), request(), handler))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), handler.attempts) == (True, [])


async def test_only_errors_of_ours_are_retried() -> None:
    async def breaks(_request: Request) -> Reply:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await retrier([]).layer(breaks)(request())


# ------------------------------------------------------------------------------------------------------------- one budget


class Bench:
    """A retrier on a loop in virtual time, with a budget, tasks, and a handler that does what its script says, attempt by attempt.

    An entry of the script is how long the attempt takes, and what comes of it: an error, or a body.
    """

    def __init__(self, *script: tuple[float, HoldfastError | bytes], budget: RetryBudget | None = None, **more: Any) -> None:
        loop = asyncio.get_running_loop()
        self.script = list(script)
        self.errors: list[BaseException] = []
        self.scope = Scope(self.errors.append)
        self.budget = budget or RetryBudget(share=0.0, floor_per_s=1.0, ttl_s=10.0)
        self.facts: list[Fact] = []
        self.sent: list[tuple[float, str]] = []
        self.open = 0
        self.cancelled = 0
        self.began_at = loop.time()
        self.slow: list[float] = []
        now = more.pop("now", loop.time)
        self.retrier = Retrier(
            now,
            random.Random(1),
            self.facts.append,
            more.pop("config", CONFIG),
            self.budget,
            spawn=self.scope.spawn,
            slow=lambda _, began: self.slow.append(round(began - self.began_at, 6)),
            **more,
        )

    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self.began_at, 6)

    async def handler(self, request: Request) -> Reply:
        self.sent.append((self.now(), request.attempt))
        took_s, end = self.script.pop(0)
        self.open += 1
        try:
            await asyncio.sleep(took_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1
        if isinstance(end, HoldfastError):
            raise end
        return Reply(end)

    def request(self, **more: Any) -> Request:
        more = {"idempotent": True, "deadline_s": 3.0, "attempts_max": 3, **more}
        deadline_s = more.pop("deadline_s")
        deadline_at = None if deadline_s is None else asyncio.get_running_loop().time() + deadline_s
        return Request(MethodInfo("shop.get", "unary", True), b"", False, deadline_at, 7, **more)

    async def call(self, **more: Any) -> bytes:
        return (await self.retrier.layer(self.handler)(self.request(**more))).body

    async def clean(self) -> None:
        """Nothing goes on after the call."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (self.open, len(self.scope), self.errors) == (0, 0, [])

    def denied(self) -> list[str]:
        return [fact.reason for fact in self.facts if isinstance(fact, RetryDenied)]

    def hedged(self) -> list[float]:
        return [round(fact.after_s, 6) for fact in self.facts if isinstance(fact, CallHedged)]


def exactly(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time."""

    def run() -> None:
        run_exactly(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@exactly
async def test_each_sending_but_the_first_is_charged_and_when_there_is_nothing_left_the_error_is_told() -> None:
    bench = Bench(*[(0.0, Unavailable(text)) for text in "abc"], budget=RetryBudget(share=0.0, floor_per_s=1.0, ttl_s=1.0))
    with pytest.raises(Unavailable, match="^b$"):
        await bench.call(idempotent=False)
    assert (len(bench.sent), bench.budget.taken, bench.budget.denied) == (2, 1, 1)
    assert bench.denied() == ["budget"]
    await bench.clean()


@exactly
async def test_in_shadow_it_is_sent_all_the_same_and_what_would_have_been_denied_is_told() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=1.0, ttl_s=1.0, mode="shadow")
    bench = Bench((0.0, Unavailable()), (0.0, Unavailable()), (0.0, b"done"), budget=budget)
    assert await bench.call() == b"done"
    assert (len(bench.sent), budget.taken, budget.would) == (3, 1, 1)
    assert [fact for fact in bench.facts if isinstance(fact, RetryDenied)] == [RetryDenied("shop.get", "budget", enforced=False)]
    slow = Bench((2.5, b"first"), (0.1, b"second"), budget=RetryBudget(share=0.0, floor_per_s=0.0, mode="shadow"))
    assert await slow.call() == b"second"
    assert [fact for fact in slow.facts if isinstance(fact, RetryDenied)] == [RetryDenied("shop.get", "budget", enforced=False)]
    await slow.clean()


@exactly
async def test_it_is_charged_when_it_is_sent_not_when_it_is_wanted() -> None:
    bench = Bench((0.0, Overloaded(retry_after_s=1.0)), (0.0, b"done"))
    call = asyncio.get_running_loop().create_task(bench.call(idempotent=False))
    await asyncio.sleep(0.9)
    assert bench.budget.taken == 0
    assert await call == b"done"
    assert bench.budget.taken == 1


@exactly
async def test_a_call_pays_in_once_however_often_it_is_sent() -> None:
    bench = Bench((0.0, Unavailable()), (0.0, Unavailable()), (0.0, b"done"), budget=RetryBudget(share=0.5, floor_per_s=10.0, ttl_s=10.0))
    assert await bench.call() == b"done"
    assert (bench.budget.calls, bench.budget.taken, bench.budget.lit) == (1, 2, True)


@exactly
async def test_an_error_that_is_the_callers_own_shows_that_somebody_is_alive() -> None:
    bench = Bench((0.0, NotFound("x")))
    with pytest.raises(NotFound):
        await bench.call()
    assert bench.budget.lit
    assert bench.denied() == [], "nobody wanted another attempt"


# ----------------------------------------------------------------------------------------------- attempts beside one another


@exactly
async def test_a_slow_attempt_gets_another_one_beside_it_and_the_first_answer_wins() -> None:
    bench = Bench((60.0, b"first"), (0.25, b"second"))
    assert await bench.call() == b"second"
    assert bench.now() == 1.25
    assert bench.sent == [(0.0, "original"), (1.0, "hedge")]
    assert (bench.hedged(), bench.slow, bench.budget.taken) == ([1.0], [0.0], 1)
    await bench.clean()
    assert bench.cancelled == 1


@exactly
async def test_the_first_attempt_goes_on_and_may_win() -> None:
    bench = Bench((1.5, b"first"), (60.0, b"second"))
    assert await bench.call() == b"first"
    assert bench.now() == 1.5
    await bench.clean()


@exactly
async def test_what_is_left_is_shared_out_anew_and_there_are_no_more_than_it_may_have() -> None:
    bench = Bench((60.0, b""), (60.0, b""), (0.5, b"third"))
    assert await bench.call() == b"third"
    assert [at for at, _ in bench.sent] == [0.0, 1.0, 2.0]
    await bench.clean()
    late = Bench((60.0, b""), (60.0, b""), (60.0, b""))
    task = asyncio.get_running_loop().create_task(late.call())
    await asyncio.sleep(30.0)
    assert len(late.sent) == 3
    task.cancel()
    await asyncio.wait([task])
    await late.clean()


@pytest.mark.parametrize("more", [{"idempotent": False}, {"attempts_max": 1}, {"stream": "a plan"}, {"deadline_s": None}], ids=str)
def test_one_that_may_not_be_sent_twice_is_not(more: dict[str, Any]) -> None:
    async def main() -> None:
        bench = Bench((2.9, b"done"))
        assert await bench.call(**more) == b"done"
        assert len(bench.sent) == 1

    run_exactly(main)


@exactly
async def test_without_it_a_slow_call_is_left_alone() -> None:
    bench = Bench((2.9, b"done"), config=RetryConfig(beside=False, silent_s=0.0))
    assert await bench.call() == b"done"
    assert len(bench.sent) == 1


@exactly
async def test_a_failed_attempt_is_followed_by_one_that_may_get_another_beside_it() -> None:
    bench = Bench((0.5, Unavailable()), (60.0, b""), (0.25, b"third"))
    assert await bench.call() == b"third"
    assert [kind for _, kind in bench.sent] == ["original", "retry", "hedge"]
    sent_at = bench.sent[1][0]
    assert bench.sent[2][0] == pytest.approx(sent_at + (3.0 - sent_at) / 2, abs=1e-5)
    await bench.clean()


@exactly
async def test_while_another_attempt_is_under_way_a_failure_is_waited_out() -> None:
    bench = Bench((1.2, OutcomeUnknown("lost")), (0.4, b"second"))
    assert await bench.call() == b"second"
    assert len(bench.sent) == 2


@exactly
async def test_when_all_have_failed_it_is_tried_again_or_the_last_error_is_told() -> None:
    bench = Bench((1.2, OutcomeUnknown("lost")), (0.4, Unavailable("down")), (0.1, b"third"))
    assert await bench.call() == b"third"
    assert [kind for _, kind in bench.sent] == ["original", "hedge", "retry"]
    bench = Bench((1.2, OutcomeUnknown("lost")), (0.4, Unavailable("down")))
    with pytest.raises(Unavailable, match="down; an earlier attempt may have been executed") as caught:
        await bench.call(attempts_max=2, deadline_s=2.0)
    assert (caught.value.executed, bench.denied()) == ("maybe", ["attempts"])
    await bench.clean()


@exactly
async def test_a_no_for_good_ends_it_and_does_not_hide_that_the_other_attempt_may_have_run() -> None:
    bench = Bench((60.0, b""), (0.25, PermissionDenied("no")))
    with pytest.raises(PermissionDenied, match="no; another attempt may have been executed") as caught:
        await bench.call()
    assert (caught.value.executed, bench.now()) == ("maybe", 1.25)
    await bench.clean()


@exactly
async def test_of_two_that_end_in_one_turn_the_answer_counts() -> None:
    """Whichever of them began first."""
    for first, second in ((OutcomeUnknown("lost"), b"done"), (b"done", OutcomeUnknown("lost"))):
        bench = Bench((1.25, first), (0.25, second))  # type: ignore[arg-type]
        assert await bench.call() == b"done"
        assert (bench.now(), len(bench.sent)) == (1.25, 2)
        await bench.clean()


@exactly
async def test_attempts_that_end_together_are_told_in_as_many_turns_as_one() -> None:
    """A deadline ends all attempts of a call at once: to wait for each anew kept its caller for a turn of the loop more."""

    async def turns(attempts: int) -> int:
        all_open, over, counted = asyncio.Event(), asyncio.Event(), 0
        bench = Bench()

        async def handler(_: Request) -> Reply:
            bench.open += 1
            if bench.open == attempts:
                all_open.set()
            await over.wait()
            bench.open -= 1
            raise OutcomeUnknown("no answer before the deadline")

        calling = asyncio.ensure_future(bench.retrier.layer(handler)(bench.request(attempts_max=attempts)))
        await all_open.wait()
        over.set()
        while not calling.done():
            counted += 1
            await asyncio.sleep(0)
        assert isinstance(calling.exception(), OutcomeUnknown)
        await bench.clean()
        return counted

    assert await turns(5) == await turns(2)


@exactly
async def test_without_budget_the_slow_attempt_goes_on_alone() -> None:
    bench = Bench((2.5, b"first"), budget=RetryBudget(share=0.0, floor_per_s=0.0))
    assert await bench.call() == b"first"
    assert (bench.denied(), bench.budget.denied) == (["budget"], 1)


@exactly
async def test_timers_that_are_early_are_no_surprise() -> None:
    """uvloop's are, by up to a millisecond: the loop says that it is time, and the clock not quite yet."""
    loop = asyncio.get_running_loop()
    bench = Bench((60.0, b"first"), (0.25, b"second"), now=lambda: loop.time() - (0.0004 if loop.time() > began else 0.0))
    began = bench.began_at
    assert await bench.call() == b"second"
    assert len(bench.sent) == 2
    await bench.clean()


@exactly
async def test_a_client_that_is_closed_ends_its_attempts_as_unknown() -> None:
    bench = Bench((60.0, b"first"))
    call = asyncio.get_running_loop().create_task(bench.call())
    await asyncio.sleep(0.5)
    await bench.scope.close(grace_s=1.0)
    await asyncio.wait([call])
    error = call.exception()
    assert isinstance(error, HoldfastError)
    assert "closed" in str(error)
    assert error.executed == "maybe", "it was sent"
    await bench.clean()


@exactly
async def test_an_attempt_that_the_closed_client_never_made_was_surely_not_executed() -> None:
    bench = Bench((0.0, Overloaded(retry_after_s=0.5)))
    call = asyncio.get_running_loop().create_task(bench.call())
    await asyncio.sleep(0.1)
    await bench.scope.close(grace_s=1.0)
    await asyncio.wait([call])
    error = call.exception()
    assert isinstance(error, Unavailable)
    assert (str(error), error.executed, len(bench.sent)) == ("the client is closed", "no", 1)
    await bench.clean()


# -------------------------------------------------------------------------------------- nodes that are silent, and a late loop


SILENT = RetryConfig(base_s=0.001, cap_s=0.002, silent_s=0.5)


@exactly
async def test_a_node_that_is_silent_gets_an_attempt_beside_it_and_one_that_is_heard_of_does_not() -> None:
    bench = Bench((60.0, b"first"), (0.01, b"second"), config=SILENT, silent_s=lambda _: math.inf)
    assert await bench.call() == b"second"
    assert bench.hedged() == [0.5], "although nothing was heard before it was sent: nobody wanted anything"
    bench = Bench((0.9, b"first"), config=SILENT, silent_s=lambda _: 0.1)
    assert await bench.call() == b"first"
    assert bench.hedged() == []
    await bench.clean()


@exactly
async def test_a_node_that_falls_silent_later_is_noticed_as_late() -> None:
    loop = asyncio.get_running_loop()
    heard_at = loop.time() + 0.6
    bench = Bench((60.0, b"first"), (0.01, b"second"), config=SILENT, silent_s=lambda _: max(0.0, loop.time() - heard_at))
    assert await bench.call() == b"second"
    (after_s,) = bench.hedged()
    assert 0.6 + 0.5 - 0.01 <= after_s <= 0.6 + 0.75 or after_s == 1.0, "or its share of the deadline is over"


@exactly
async def test_a_loop_that_was_late_reads_what_has_come_before_it_calls_anything_slow() -> None:
    loop: Any = asyncio.get_running_loop()
    bench = Bench((0.9, b"first"), (60.0, b"second"))

    async def over_a_network(request: Request) -> Reply:
        reply = await bench.handler(request)
        for _ in range(3):
            await asyncio.sleep(0)  # it has come, and is read in a later turn
        return reply

    loop.call_later(0.5, setattr, loop.idle, "now", loop.time() + 1.5)
    assert (await bench.retrier.layer(over_a_network)(bench.request())).body == b"first"
    assert (bench.hedged(), len(bench.sent)) == ([], 1)
    bench = Bench((60.0, b"first"), (0.01, b"second"))
    loop.call_later(0.5, setattr, loop.idle, "now", loop.time() + 1.5)
    assert await bench.call() == b"second"
    assert bench.hedged()[0] < 1.6
    await bench.clean()


@exactly
async def test_an_error_that_is_not_ours_ends_it() -> None:
    bench = Bench()

    async def breaks(_request: Request) -> Reply:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await bench.retrier.layer(breaks)(bench.request())


def test_a_cancel_anywhere_leaves_no_attempt_and_takes_what_was_sent() -> None:
    """In the first attempt, in the back-off, in one beside another: what was charged is what was sent."""

    async def scenario(world: World, cut: Cut[bytes]) -> None:
        bench = Bench((0.5, Unavailable()), (60.0, b""), (0.25, b"third"))
        hedges = Hedges(HedgeConfig(mode="enforce", extra=0.1), bench.budget)
        bench.retrier = Retrier(
            asyncio.get_running_loop().time,
            random.Random(1),
            bench.facts.append,
            CONFIG,
            bench.budget,
            hedges=hedges,
            spawn=bench.scope.spawn,
        )
        await cut(bench.call())
        await asyncio.sleep(0.01)
        await bench.clean()
        assert bench.budget.taken == len(bench.sent) - 1, "charged and not sent, or sent and not charged"
        delays = hedges.of("shop.get")._fresh
        assert all(took_s < 0.3 for took_s in delays) or not cut.happened, "a caller who leaves says nothing of how long calls take"
        assert len(delays) == 2 or cut.happened, "the one that won, and the one it overtook"

    assert cancel_everywhere(scenario) >= 4


# --------------------------------------------------------------------------------------------------------------- hedging


def warmed(bench: Bench, mode: Mode = "enforce", calls: int = 400) -> Hedges:
    """Hedges with a history: calls take 20 ms."""
    hedges = Hedges(HedgeConfig(mode=mode, extra=0.1), bench.budget)
    now = asyncio.get_running_loop().time()
    for _ in range(calls):
        hedges.own.deposit(now)
        hedges.of("shop.get").record(0.020, now - 4.0)
    return hedges


def hedging(mode: Mode, *script: tuple[float, HoldfastError | bytes], budget: RetryBudget | None = None, **more: Any) -> Bench:
    bench = Bench(*script, budget=budget or RetryBudget(floor_per_s=1.0))
    hedges = warmed(bench, mode)
    now = asyncio.get_running_loop().time
    bench.retrier = Retrier(now, random.Random(1), bench.facts.append, CONFIG, bench.budget, hedges=hedges, spawn=bench.scope.spawn, **more)
    return bench


@exactly
async def test_a_call_slower_than_nearly_all_is_hedged_on_the_same_budget() -> None:
    bench = hedging("enforce", (60.0, b"first"), (0.01, b"second"))
    assert await bench.call(deadline_s=None) == b"second"
    (after_s,) = bench.hedged()
    assert 0.019 < after_s < 0.022
    assert bench.budget.taken == 1
    await bench.clean()


@exactly
async def test_one_that_asked_not_to_be_is_not() -> None:
    bench = hedging("enforce", (0.5, b"first"))
    assert await bench.call(deadline_s=None, hedge=False) == b"first"
    assert bench.hedged() == []


@exactly
async def test_in_shadow_it_is_counted_and_the_share_of_the_deadline_still_holds() -> None:
    bench = hedging("shadow", (60.0, b"first"), (0.01, b"second"))
    assert await bench.call() == b"second"
    assert bench.hedged() == [1.0]
    assert bench.denied() == ["shadow"]
    assert bench.retrier._hedges is not None
    assert (bench.retrier._hedges.would, bench.retrier._hedges.sent) == (1, 0)


@exactly
async def test_nothing_is_hedged_in_panic() -> None:
    bench = hedging("enforce", (0.5, b"first"), panicking=lambda: True)
    assert await bench.call(deadline_s=None) == b"first"
    assert bench.denied() == ["panic"]


@exactly
async def test_how_long_calls_of_other_methods_take_is_nobodys_business() -> None:
    """One that is not idempotent is never hedged, so it takes no place among those that are watched."""
    bench = hedging("enforce", (0.01, b"done"))
    hedges = bench.retrier._hedges
    assert hedges is not None
    request = bench.request(idempotent=False)
    request.info = MethodInfo("shop.put")
    await bench.retrier.layer(bench.handler)(request)
    assert len(hedges) == 1


# ------------------------------------------------------------------------------------------------------------- the record


@exactly
async def test_the_record_tells_each_attempt_and_why_there_was_no_other() -> None:
    bench = Bench((1.2, OutcomeUnknown("lost")), (0.4, Unavailable("down")))
    request = bench.request(attempts_max=2, deadline_s=2.0)
    record = request.record = CallRecord("shop.get", 7, asyncio.get_running_loop().time(), 2.0)
    with pytest.raises(Unavailable):
        await bench.retrier.layer(bench.handler)(request)
    told = [
        (trial.kind, round(trial.began_s, 6), round(trial.ended_s or 0.0, 6), trial.outcome, trial.executed) for trial in record.attempts
    ]
    assert told == [("original", 0.0, 1.2, "unavailable", "maybe"), ("hedge", 1.0, 1.4, "unavailable", "no")]
    assert (record.denied, record.budget) == ("attempts", bench.budget.level(asyncio.get_running_loop().time()))


@exactly
async def test_the_record_tells_who_was_overtaken_and_who_was_cancelled() -> None:
    bench = Bench((60.0, b"first"), (0.25, b"second"), (60.0, b"third"))
    request = bench.request()
    record = request.record = CallRecord("shop.get", 7, asyncio.get_running_loop().time(), 3.0)
    await bench.retrier.layer(bench.handler)(request)
    await bench.clean()
    assert [trial.outcome for trial in record.attempts] == ["superseded", "ok"]
    request = bench.request()
    record = request.record = CallRecord("shop.get", 7, asyncio.get_running_loop().time(), 3.0)
    task = asyncio.get_running_loop().create_task(bench.retrier.layer(bench.handler)(request))  # type: ignore[arg-type]
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])
    await bench.clean()
    assert [trial.outcome for trial in record.attempts] == ["cancelled"]
