"""When a call may be sent again, from the facts of its error alone; and the layer that does it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from holdfast.errors import (
    Cancelled,
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    Refused,
    Unavailable,
)
from holdfast.facts import CallRetried, Fact
from holdfast.handler import MethodInfo, Reply, Request
from holdfast.policy.retry import Retrier, RetryConfig, next_backoff_s

CONFIG = RetryConfig(base_s=0.001, cap_s=0.002)


def backoff(error: HoldfastError, attempt: int = 1, *, idempotent: bool = False, left_s: float | None = None) -> float | None:
    return next_backoff_s(error, attempt, 3, idempotent=idempotent, left_s=left_s, config=CONFIG, rng=random.Random(1))


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
