"""What is left of a deadline and who gets how much of it; and the layer that holds a handler to it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DeadlineExceeded, Unavailable
from holdfast.handler import MethodInfo, Reply, Request
from holdfast.policy.deadline import attempt_until, deadline_layer
from holdfast.sim import Cut, World, cancel_everywhere, sim_test

# ------------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("now", "deadline_at", "attempts_left", "idempotent", "until"),
    [
        (100.0, 106.0, 3, True, 102.0),
        (102.0, 106.0, 2, True, 104.0),
        (104.0, 106.0, 1, True, None),
        (100.0, 106.0, 0, True, None),
        (100.0, 106.0, 3, False, None),
        (100.0, None, 3, True, None),
        (107.0, 106.0, 3, True, 107.0),
    ],
)
def test_an_attempt_has_its_share(now: float, deadline_at: float | None, attempts_left: int, idempotent: bool, until: float | None) -> None:
    assert attempt_until(now, deadline_at, attempts_left, idempotent=idempotent) == until


@given(st.floats(0, 1e6), st.floats(0.001, 1000), st.integers(2, 5))
def test_attempts_that_all_go_silent_share_the_deadline_evenly(now: float, left_s: float, attempts: int) -> None:
    deadline_at, starts = now + left_s, [now]
    for left in range(attempts, 1, -1):
        until = attempt_until(starts[-1], deadline_at, left, idempotent=True)
        assert until is not None
        assert starts[-1] <= until <= deadline_at
        starts.append(until)
    assert attempt_until(starts[-1], deadline_at, 1, idempotent=True) is None
    share = left_s / attempts
    assert [b - a for a, b in itertools.pairwise(starts)] == pytest.approx([share] * (attempts - 1), rel=1e-3, abs=1e-6)


# -------------------------------------------------------------------------------------------------------------- the layer


def request(deadline_at: float | None) -> Request:
    return Request(MethodInfo("shop.place"), b"", False, deadline_at, 7)


class Slow:
    """A handler that answers after a while, and remembers what became of it."""

    def __init__(self, takes_s: float, error: BaseException | None = None) -> None:
        self.takes_s = takes_s
        self.error = error
        self.begun = self.cancelled = self.done = 0

    async def __call__(self, _request: Request) -> Reply:
        self.begun += 1
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.done += 1
        if self.error is not None:
            raise self.error
        return Reply(b"done")


async def ended(layered: Any, made: Request) -> BaseException | Reply:
    try:
        reply: Reply = await layered(made)
        return reply
    except Exception as error:
        return error


@sim_test(seeds=1)
async def test_a_call_ends_at_its_deadline_and_its_handler_with_it(world: World) -> None:
    handler, began = Slow(60.0), world.now()
    error = await ended(deadline_layer(world.now)(handler), request(began + 2.0))
    assert isinstance(error, DeadlineExceeded)
    assert (str(error), error.executed, error.retry) == ("shop.place: no answer within 2 s", "maybe", "if_idempotent")
    assert 2.0 <= world.now() - began < 2.1
    assert (handler.begun, handler.cancelled, handler.done) == (1, 1, 0)


@sim_test(seeds=1)
async def test_what_is_answered_in_time_is_answered(world: World) -> None:
    for deadline_at in (world.now() + 2.0, None):
        handler = Slow(1.0)
        reply = await ended(deadline_layer(world.now)(handler), request(deadline_at))
        assert isinstance(reply, Reply)
        assert (reply.body, handler.cancelled) == (b"done", 0)


@sim_test(seeds=1)
async def test_a_call_whose_deadline_has_passed_is_not_begun(world: World) -> None:
    await asyncio.sleep(5)
    for late_s in (0.0, 3.0):
        handler = Slow(0.0)
        error = await ended(deadline_layer(world.now)(handler), request(world.now() - late_s))
        assert isinstance(error, DeadlineExceeded)
        assert (error.executed, error.retry, handler.begun) == ("no", "safe", 0)


@sim_test(seeds=1)
async def test_what_the_handler_raises_is_its_own(world: World) -> None:
    told = DeadlineExceeded("the server's", remote=True)
    for raised in (Unavailable("no"), told, TimeoutError("of a file"), KeyError("a bug")):
        error = await ended(deadline_layer(world.now)(Slow(1.0, raised)), request(world.now() + 2.0))
        assert error is raised


@sim_test(seeds=1)
async def test_a_handler_that_says_more_when_it_is_ended_is_heard(world: World) -> None:
    class Tells(Slow):
        async def __call__(self, made: Request) -> Reply:
            try:
                return await super().__call__(made)
            except asyncio.CancelledError:
                raise DeadlineExceeded("it had not left", executed="no") from None

    error = await ended(deadline_layer(world.now)(Tells(60.0)), request(world.now() + 2.0))
    assert (str(error), getattr(error, "executed", "")) == ("it had not left", "no")


@pytest.mark.both_loops
async def test_on_a_real_loop_a_deadline_in_the_next_turn_ends_the_call() -> None:
    now = asyncio.get_running_loop().time
    forever: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def hangs(_request: Request) -> Reply:
        return await forever

    with pytest.raises(DeadlineExceeded) as raised:
        await deadline_layer(now)(hangs)(request(now() + 0.001))
    assert raised.value.executed == "maybe"
    assert forever.cancelled()


def test_a_cancel_at_every_await_reaches_the_handler_and_leaves_nothing() -> None:
    async def scenario(world: World, cut: Cut[Reply]) -> None:
        handler = Slow(1.0)
        await cut(deadline_layer(world.now)(handler)(request(world.now() + 2.0)))  # type: ignore[arg-type]
        assert (handler.cancelled, handler.done) == ((1, 0) if cut.happened else (0, 1))
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(5)
        assert task.cancelling() == 0, "the deadline's timer is gone with the call"

    assert cancel_everywhere(scenario) == 1
