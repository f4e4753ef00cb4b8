"""Trying again: when, how often, after what pause.

`next_backoff_s` is the pure half: from the facts of an error (`retry`, `executed`, `retry_after_s`) and nothing else it says whether a
call may be sent again, and when. `Retrier` is the layer around a handler. A call that may have been executed goes again only when it is
idempotent; one that surely was not, always. The pause never reaches beyond the deadline: then the error is told at once instead.
Source: reference algorithms.md 2.4 and 2.5 (full jitter, clamped before the jitter).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from ..clock import Rng
from ..control.backoff import full_jitter
from ..errors import HoldfastError
from ..facts import CallRetried, Emit
from ..handler import Handler, Reply, Request, maybe_executed


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Back-off of calls: U(0, min(cap_s, base_s * 2^n)), and not before what the server asked for."""

    base_s: float = 0.025
    cap_s: float = 1.0


def next_backoff_s(
    error: HoldfastError,
    attempt: int,
    attempts_max: int,
    *,
    idempotent: bool,
    left_s: float | None,
    config: RetryConfig,
    rng: Rng,
) -> float | None:
    """Return how long to wait before sending the call again; None when it must not be.

    Args:
        attempt: how often it was sent, counting from 1.
        left_s: what is left of the deadline; None when there is none.
    """
    if attempt >= attempts_max or error.retry == "never" or (error.retry == "if_idempotent" and not idempotent):
        return None
    backoff_s = full_jitter(rng, attempt - 1, base_s=config.base_s, cap_s=config.cap_s)
    if error.retry_after_s is not None:
        backoff_s = max(backoff_s, error.retry_after_s)
    if left_s is not None and backoff_s >= left_s:
        return None
    return backoff_s


class Retrier:
    """Sends requests again while that is right.

    `layer` is how it stands in a stack. A roof that has made the first attempt itself may come in with its error by `after`: the layer does
    nothing else, so both ways are one.
    """

    def __init__(self, now: Callable[[], float], rng: Rng, emit: Emit, config: RetryConfig) -> None:
        self._now = now
        self._rng = rng
        self._emit = emit
        self._config = config

    def layer(self, handler: Handler) -> Handler:
        """Return the handler with retries around it."""

        async def send(request: Request) -> Reply:
            """Cancel: the attempt under way is cancelled; no other follows."""
            try:
                return await handler(request)
            except HoldfastError as error:
                failed = error
            return await self.after(failed, request, handler)

        return send

    async def after(self, error: HoldfastError, request: Request, handler: Handler) -> Reply:
        """Go on after the first attempt failed. Cancel: no other attempt follows.

        Raises: the last attempt's error. When that one surely was not executed and an earlier one may have been, it says `maybe`.
        """
        attempt, maybe = 1, False
        while True:
            left_s = None if request.deadline_at is None else request.deadline_at - self._now()
            backoff_s = self.next_backoff_s(error, attempt, request.attempts_max, idempotent=request.idempotent, left_s=left_s)
            if backoff_s is None:
                if maybe and error.executed == "no":
                    raise maybe_executed(error, "an earlier attempt may have been executed") from error
                raise error
            maybe = maybe or error.executed != "no"
            self._emit(CallRetried(request.info.name, attempt, error.code, backoff_s))
            await asyncio.sleep(backoff_s)
            attempt += 1
            request.attempt = "retry"
            try:
                return await handler(request)
            except HoldfastError as another:
                error = another

    def next_backoff_s(
        self, error: HoldfastError, attempt: int, attempts_max: int, *, idempotent: bool, left_s: float | None
    ) -> float | None:
        """As the function of that name, with this retrier's configuration and dice."""
        return next_backoff_s(error, attempt, attempts_max, idempotent=idempotent, left_s=left_s, config=self._config, rng=self._rng)
