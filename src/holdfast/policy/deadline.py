"""How long a call, an attempt of it, and the calls it leads to may take.

Owns the arithmetic of what is left (`attempt_until`) and a layer that holds any Handler to a request's deadline
(`deadline_layer`), for whoever puts the layers around another protocol: our own calls are held to theirs by the timer wheel.
Source: reference algorithms.md 2.2.

What may never happen here: a wait beyond the deadline, a call begun after it, a deadline that is longer than the one it was made from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import DeadlineExceeded
from ..handler import Handler, Layer, Reply, Request


def attempt_until(now: float, deadline_at: float | None, attempts_left: int, *, idempotent: bool) -> float | None:
    """Return when an attempt has had its share of the time and another is to be sent *beside* it; None when none ever is.

    The share is what remains divided by the attempts left. When it runs out the attempt is not cut off: it goes on to the deadline, and the
    next one runs beside it until either answers (Envoy: hedge_on_per_try_timeout). So a node that has gone silent costs a call its share,
    not its life, and a call that is only slow, and would have been answered in time, is never lost. Both may be executed,
    therefore a call that is not idempotent has one attempt under way at most, and keeps it until the deadline.

    Args:
        now: when the attempt is sent.
        deadline_at: the call's; None when it has none, and then there is nothing to share out.
        attempts_left: how many may still be sent, this one among them.
        idempotent: whether it may be executed twice.
    """
    if deadline_at is None or attempts_left <= 1 or not idempotent:
        return None
    return now + max(0.0, deadline_at - now) / attempts_left


def deadline_layer(now: Callable[[], float]) -> Layer:
    """Return the layer that ends a call at its `deadline_at`, whatever the handler inside does.

    Args:
        now: the clock deadlines are measured on, which must be the running loop's (`loop.time`).
    """

    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            """Raises: DeadlineExceeded; `executed` is `no` when the deadline had passed before anything was begun, else `maybe`.

            Cancel: the handler is cancelled, and what it did so far stands. At the deadline the same happens to it, so an answer that
            arrives in that very turn of the loop may be lost, and the error then says `maybe`, which is true.
            """
            deadline_at = request.deadline_at
            if deadline_at is None:
                return await handler(request)
            left_s = deadline_at - now()
            if left_s <= 0:
                raise DeadlineExceeded(f"{request.info.name}: the deadline passed before the call was begun", executed="no")
            deadline = asyncio.timeout_at(deadline_at)
            try:
                async with deadline:
                    return await handler(request)
            except DeadlineExceeded:
                raise
            except TimeoutError as error:
                if not deadline.expired():
                    raise  # the handler's own, about something else
                raise DeadlineExceeded(f"{request.info.name}: no answer within {left_s:.3g} s") from error

        return send

    return layer
