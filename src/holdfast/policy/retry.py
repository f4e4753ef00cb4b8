"""Sending a call again: when, how often, after what pause, beside another or in its place.

`judge_retry` is the pure half: from the facts of an error (`retry`, `executed`, `retry_after_s`) and nothing else it says whether a call
may be sent again, and when. `Retrier` is the layer around a handler. A call that may have been executed goes again only when it is
idempotent; one that surely was not, always. The pause never reaches beyond the deadline: then the error is told at once instead. Every
sending but the first draws on one budget, when it is sent (algorithms.md 2.4 to 2.7; full jitter, clamped before the jitter).

An idempotent call that is slow gets a second attempt *beside* the first: after the hedging delay of its method, or when its share of the
deadline is over. The first goes on, so that no call is lost that would have been answered in time; the first answer wins, and the other
attempts are cancelled.

What may never happen here: an attempt that is sent and not charged; an attempt that goes on after the call is over.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from ..clock import Rng
from ..control.backoff import full_jitter
from ..control.budget import RetryBudget
from ..errors import ConfigError, HoldfastError, OutcomeUnknown, Unavailable
from ..facts import CallHedged, CallRetried, Emit, RetryDenied
from ..handler import Attempt, Handler, Reply, Request, maybe_executed
from .classify import CANCELLED, OK, SUPERSEDED, Outcome, classify, why_not_again
from .deadline import attempt_until
from .hedge import Hedges
from .trial import begin_trial, end_trial, when_judged

Told = Reply | HoldfastError
"""How an attempt of its own task ended: what it failed with is returned, for it may be that nobody wants to know any more."""
Spawn = Callable[[Coroutine[Any, Any, Told]], "asyncio.Task[Told]"]


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Back-off of calls: U(0, min(cap_s, base_s * 2^n)), and not before what the server asked for.

    Attributes:
        base_s: 25 ms: about what a node needs to notice that a connection is gone, and little beside what people wait for.
        cap_s: 1 s: within the usual deadline there is time for three attempts.
        silent_s: an idempotent call at a node that stands still gets another attempt beside it: nothing was heard from there for so long,
            although it was asked for a sign of life after half of that. 0.5 s: networks and processes that are well answer sooner, and
            people hardly notice it. 0 turns it off.
        beside: when an attempt of an idempotent call has used up its share of the deadline (what is left, divided by the attempts left),
            send the next one beside it. Without it a node that stands still costs its callers the whole deadline.
    """

    base_s: float = 0.025
    cap_s: float = 1.0
    silent_s: float = 0.5
    beside: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.silent_s < math.inf:
            raise ConfigError(f"silent_s={self.silent_s!r} must be 0 (off) or more seconds")
        if not 0 < self.base_s <= self.cap_s:
            raise ConfigError(f"base_s={self.base_s!r} must be above 0 and at most cap_s={self.cap_s!r}")


def judge_retry(
    error: HoldfastError,
    attempt: int,
    attempts_max: int,
    *,
    idempotent: bool,
    left_s: float | None,
    config: RetryConfig,
    rng: Rng,
) -> tuple[float | None, str]:
    """Return how long to wait before sending the call again, or None and why it must not be.

    Args:
        attempt: how often it was sent, counting from 1.
        left_s: what is left of the deadline; None when there is none.
    """
    why = why_not_again(error, attempt, attempts_max, idempotent=idempotent)
    if why:
        return None, why  # before the dice are thrown
    backoff_s = full_jitter(rng, attempt - 1, base_s=config.base_s, cap_s=config.cap_s)
    if error.retry_after_s is not None:
        backoff_s = max(backoff_s, error.retry_after_s)
    why = why_not_again(error, attempt, attempts_max, idempotent=idempotent, left_s=left_s, backoff_s=backoff_s)
    return (None, why) if why else (backoff_s, "")


EARLY_S = 0.002
"""Timers may be early by a millisecond."""

LATE_S = 0.02
"""When a timer is later than that, our own loop was busy: answers may have come that it has not read yet, and no call looks slow for it."""


def _calm() -> bool:
    return False


def _heard(request: Request) -> float:
    return 0.0


def _in_time(request: Request) -> bool:
    """Whether all are slow, where nobody knows."""
    return False


def _nobody(request: Request, began: float) -> None:
    """Who is told of slow attempts while nobody listens."""


class _Call:
    """One call while it is more than one attempt."""

    __slots__ = (
        "attempt", "backoff_s", "began_at", "beside_at", "cancelled", "error", "hedged", "latest_at", "maybe", "strained", "unsent",
    )  # fmt: skip

    def __init__(self, attempt: int, began_at: float) -> None:
        self.attempt = attempt
        self.began_at = began_at
        self.backoff_s = 0.0
        self.error: HoldfastError | None = None
        self.maybe = False
        self.cancelled = self.unsent = self.hedged = self.strained = False
        self.latest_at = 0.0
        self.beside_at: float | None = None


class Retrier:
    """Sends requests again while that is right.

    `layer` is how it stands in a stack. A roof that has made the first attempt itself may come in with its error by `after`, or while it is
    still open by `beside`: the layer does nothing else, so all ways are one.

    Args:
        budget: what every sending but the first is charged to; without it the number of attempts alone is the bound.
        hedges: when a slow call is worth a second attempt; without them only the deadline's share says so.
        panicking: whether most nodes are unusable: no time to hedge.
        silent_s: for how long nothing was heard from the node that a request was sent to last, which is asked for a sign of life by
            that; inf when it has no connection.
        spawn: makes a task, for attempts beside one another; without it there are none.
        slow: told of a request whose latest attempt, sent at that time, is still under way when another one is due.
        late: told of a request whose latest attempt has used up its share of the deadline; whether that is so everywhere, and another
            attempt beside it would be as slow.
        strained: whether most nodes are overloaded: then nothing is hedged.
    """

    def __init__(
        self,
        now: Callable[[], float],
        rng: Rng,
        emit: Emit,
        config: RetryConfig,
        budget: RetryBudget | None = None,
        *,
        hedges: Hedges | None = None,
        panicking: Callable[[], bool] = _calm,
        silent_s: Callable[[Request], float] = _heard,
        spawn: Spawn | None = None,
        slow: Callable[[Request, float], None] = _nobody,
        late: Callable[[Request], bool] = _in_time,
        strained: Callable[[], bool] = _calm,
    ) -> None:
        self._now = now
        self._rng = rng
        self._emit = emit
        self._config = config
        self._budget = budget if budget is not None else RetryBudget(mode="off")
        self._hedges = hedges
        self._panicking = panicking
        self._silent_s = silent_s
        self._spawn = spawn
        self._slow = slow
        self._late = late
        self._strained = strained

    def layer(self, handler: Handler) -> Handler:
        """Return the handler with retries around it."""

        async def send(request: Request) -> Reply:
            """Cancel: the attempts under way are cancelled; no other follows."""
            now = self._now()
            self._budget.deposit(now)
            if self._hedges is not None and request.idempotent and request.hedge:
                self._hedges.own.deposit(now)
            if self._spawn is not None and self.beside_at(request, now, 1) is not None:
                return await self.beside(request, handler, None, now)
            trial = begin_trial(request, "original", now)
            try:
                reply = await handler(request)
            except HoldfastError as error:
                failed = error
            else:
                when_judged(reply, functools.partial(self.took, request, now))
                end_trial(request, trial, self._now(), None)
                return reply
            self.took(request, now, classify(failed))
            end_trial(request, trial, self._now(), failed)
            return await self.after(failed, request, handler)

        return send

    async def after(self, error: HoldfastError, request: Request, handler: Handler) -> Reply:
        """Go on after the first attempt failed. Cancel: no other attempt follows.

        Raises: the last attempt's error. When that one surely was not executed and an earlier one may have been, it says `maybe`.
        """
        call = _Call(1, self._now())
        while True:
            await self._pause_after(error, call, request)
            now = self._now()
            call.attempt += 1
            if self._spawn is not None and self.beside_at(request, now, call.attempt) is not None:
                return await self._race(request, handler, call, {self._launch(request, handler, "retry", call, now): now})
            request.attempt = "retry"
            trial = begin_trial(request, "retry", now, call.backoff_s)
            try:
                reply = await handler(request)
            except HoldfastError as another:
                error = another
            else:
                when_judged(reply, functools.partial(self.took, request, now))
                end_trial(request, trial, self._now(), None)
                return reply
            self.took(request, now, classify(error))
            end_trial(request, trial, self._now(), error)

    async def _pause_after(self, error: HoldfastError, call: _Call, request: Request) -> None:
        """Wait until the call may be sent again, and charge that. Raises: the error, when it may not."""
        now = self._now()
        left_s = None if request.deadline_at is None else request.deadline_at - now
        backoff_s, why = judge_retry(
            error, call.attempt, request.attempts_max, idempotent=request.may_repeat, left_s=left_s, config=self._config, rng=self._rng
        )
        if backoff_s is not None:
            call.maybe = request.maybe = call.maybe or error.executed != "no"
            await asyncio.sleep(backoff_s)
            now = self._now()
            call.backoff_s = backoff_s
            if self._paid(request, now):
                self._emit(CallRetried(request.info.name, call.attempt, error.code, backoff_s))
                return
            why = "budget"
        record = request.record
        if record is not None:
            record.denied = why
            record.budget = self._budget.level(now)
        if error.retry != "never":
            self._emit(RetryDenied(request.info.name, why))
        if call.maybe and error.executed == "no":
            raise maybe_executed(error, "an earlier attempt may have been executed") from error
        raise error

    def _paid(self, request: Request, now: float) -> bool:
        """Charge one more attempt to the budget; a budget in shadow pays always, and it is told what it would not have paid."""
        budget = self._budget
        would = budget.would
        paid = budget.take(now)
        if budget.would != would:
            self._emit(RetryDenied(request.info.name, "budget", enforced=False))
        return paid

    # ------------------------------------------------------------------ attempts beside one another

    def beside_at(self, request: Request, now: float, attempt: int) -> float | None:
        """When an attempt sent now gets another one beside it if it is not over; None for never.

        Args:
            attempt: the number of the one sent now, counting from 1.
        """
        if not request.idempotent or attempt >= request.attempts_max or request.stream is not None:
            return None
        share_at = attempt_until(now, request.deadline_at, request.attempts_max - attempt + 1, idempotent=True)
        return self._next_look_at(share_at, self._hedge_at(request, now, now), now + self._config.silent_s / 2)

    def _next_look_at(self, share_at: float | None, hedge_at: float | None, silent_at: float) -> float | None:
        """When its share is over, or it is to be hedged, or its node may have been silent for too long; None for never."""
        shared_at = share_at if self._config.beside else None
        heard_at = silent_at if self._config.silent_s else None
        return min((at for at in (shared_at, hedge_at, heard_at) if at is not None), default=None)

    def _hedge_at(self, request: Request, sent_at: float, now: float) -> float | None:
        if self._hedges is None or not request.hedge:
            return None
        delay_s = self._hedges.of(request.info.name).delay_s(now)
        return None if delay_s is None else sent_at + delay_s

    async def beside(self, request: Request, handler: Handler, first: asyncio.Task[Told] | None, began: float) -> Reply:
        """Make attempts beside one another; `first` is one under way since `began`, whose time alone is over.

        Raises: the last attempt's error, when all have failed. Cancel: the attempts under way are cancelled; no other follows.
        """
        now = self._now()
        call = _Call(1, began)
        if first is None:
            running = {self._launch(request, handler, "original", call, now): began}
        else:
            running = {first: began}
            call.latest_at, call.beside_at = began, now
        return await self._race(request, handler, call, running)

    async def _race(self, request: Request, handler: Handler, call: _Call, running: dict[asyncio.Task[Told], float]) -> Reply:
        try:
            while True:
                if not running:
                    assert call.error is not None
                    await self._pause_after(call.error, call, request)
                    call.attempt += 1
                    now = self._now()
                    running[self._launch(request, handler, "retry", call, now)] = now
                over = await self._first_over(running, call)
                if over is None:
                    if call.beside_at is not None and self._now() - call.beside_at > LATE_S:
                        call.beside_at = self._now() + EARLY_S  # our own loop is late: what has come meanwhile is read first
                    else:
                        self._go_beside(request, handler, call, running)
                    continue
                del running[over]
                error = self._closed(call) if over.cancelled() else over.result()
                if isinstance(error, Reply):
                    return error
                call.maybe = call.maybe or error.executed != "no" or bool(running)
                call.error = error
                if running and error.retry == "never":
                    raise maybe_executed(error, "another attempt may have been executed") if error.executed == "no" else error
        except asyncio.CancelledError:
            call.cancelled = True  # by its caller: no attempt was faster
            raise
        finally:
            for task in running:
                task.cancel()

    def _closed(self, call: _Call) -> HoldfastError:
        """What an attempt ends with that was cancelled from outside, as the client does when it is closed."""
        return Unavailable("the client is closed") if call.unsent else OutcomeUnknown("the client was closed while the call was open")

    async def _first_over(self, running: dict[asyncio.Task[Told], float], call: _Call) -> asyncio.Task[Told] | None:
        """Wait until an attempt is over; None when it is time for another one beside them."""
        over = [task for task in running if task.done()]  # in the order they began
        if not over:  # those that a deadline ended together are told one after the other, at once: to wait costs a turn for each
            timeout = None if call.beside_at is None else max(0.0, call.beside_at - self._now())
            await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            over = [task for task in running if task.done()]
        for task in over:
            if not task.cancelled() and task.exception() is None and isinstance(task.result(), Reply):
                return task  # both may have ended in one turn
        return over[0] if over else None

    def _go_beside(self, request: Request, handler: Handler, call: _Call, running: dict[asyncio.Task[Told], float]) -> None:
        """The attempts under way are slow: send another one, if that may be."""
        now = self._now()
        name = request.info.name
        share_at = None  # of an attempt of which it was said that another would be as slow
        if not call.strained:
            share_at = attempt_until(call.latest_at, request.deadline_at, request.attempts_max - call.attempt + 1, idempotent=True)
        hedge_at = None if call.hedged else self._hedge_at(request, call.latest_at, now)
        due = max(now, call.beside_at or now)  # timers may be early by a millisecond
        call.beside_at = None
        self._slow(request, call.latest_at)
        if not request.may_repeat:
            return
        if self._config.beside and share_at is not None and due >= share_at:
            if request.deadline_at is not None and now >= request.deadline_at:
                return
            call.strained = self._late(request)
            if call.strained:  # it may stand still all the same
                call.beside_at = self._next_look_at(None, None, now + self._config.silent_s / 2)
            why = "strained" if call.strained else "" if self._paid(request, now) else "budget"
        elif hedge_at is None or due < hedge_at:
            silent_s = min(self._silent_s(request), now - call.latest_at)  # before that nobody wanted anything of it
            if not self._config.silent_s or silent_s < self._config.silent_s - EARLY_S:
                wait_s = self._config.silent_s / 2 if silent_s < self._config.silent_s / 2 - EARLY_S else self._config.silent_s - silent_s
                call.beside_at = self._next_look_at(share_at, hedge_at, now + wait_s)
                return
            why = "" if self._paid(request, now) else "budget"
            if why:
                call.beside_at = share_at
        else:
            assert self._hedges is not None
            hedge = self._hedges.of(name)
            left_s = None if request.deadline_at is None else request.deadline_at - now
            why = "strained" if self._strained() else hedge.may_hedge(now, left_s, self._panicking())
            if not why and not hedge.send(now):
                why = "budget" if self._hedges.config.mode == "enforce" else "shadow"
            if why:  # there is one more chance
                call.hedged = True
                call.beside_at = self._next_look_at(share_at, None, now + self._config.silent_s / 2)
        if why:
            if request.record is not None:
                request.record.hedging = why
            self._emit(RetryDenied(name, why, enforced=why != "shadow"))
            return
        call.attempt += 1
        task = self._launch(request, handler, "hedge", call, now)
        self._emit(CallHedged(name, now - call.began_at))
        running[task] = now

    def _launch(self, request: Request, handler: Handler, kind: Attempt, call: _Call, now: float) -> asyncio.Task[Told]:
        """Begin an attempt of its own task, with a copy of the request: what it changes there is its own."""
        assert self._spawn is not None
        call.latest_at = now
        call.hedged = call.strained = False
        call.beside_at = self.beside_at(request, now, call.attempt)
        mine = copy.copy(request)
        mine.attempt = kind
        mine.maybe = request.maybe or kind == "hedge"
        trial = begin_trial(mine, kind, now, call.backoff_s)

        async def attempt() -> Told:
            try:
                reply = await handler(mine)
            except HoldfastError as error:
                self.took(mine, now, classify(error))
                end_trial(mine, trial, self._now(), error)
                return error
            except asyncio.CancelledError:
                self.took(mine, now, CANCELLED if call.cancelled else SUPERSEDED)
                end_trial(mine, trial, self._now(), None, "cancelled" if call.cancelled else "superseded")
                raise
            self.took(mine, now, OK)
            end_trial(mine, trial, self._now(), None)
            return reply

        task = self._spawn(attempt())
        call.unsent = task.cancelling() > 0  # whoever owns the tasks is closed
        return task

    def took(self, request: Request, began: float, outcome: Outcome) -> None:
        """An attempt is over: what that says of how long its method takes."""
        if outcome.budget == "succeeded":
            self._budget.succeeded(self._now())
        if self._hedges is not None and outcome.hedge == "took" and request.idempotent:
            now = self._now()
            self._hedges.of(request.info.name).record(now - began, now)

    def next_backoff_s(
        self, error: HoldfastError, attempt: int, attempts_max: int, *, idempotent: bool, left_s: float | None
    ) -> float | None:
        """As `judge_retry`, with this retrier's configuration and dice."""
        return judge_retry(error, attempt, attempts_max, idempotent=idempotent, left_s=left_s, config=self._config, rng=self._rng)[0]
