"""What a call's record says of one attempt: begun when it is sent, completed when it is over; and when it is known what came of it.

Owns: these moments, for whoever sends attempts or learns from them. What may never happen here: a record of a call that nobody will ask
about.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import HoldfastError
from ..handler import Attempt, AttemptRecord, Reply, Request
from .classify import OK, Outcome


def begin_trial(request: Request, kind: Attempt, now: float, backoff_s: float = 0.0) -> AttemptRecord | None:
    """Begin the record of an attempt, if anybody will ask."""
    record = request.record
    if record is None:
        return None
    trial = request.trial = AttemptRecord(kind, now - record.began_at, backoff_s=backoff_s)
    if request.deadline_at is not None:
        trial.left_s = request.deadline_at - now
    record.attempts.append(trial)
    return trial


def end_trial(request: Request, trial: AttemptRecord | None, now: float, error: HoldfastError | None, outcome: str = "ok") -> None:
    """It is over: with an error, or with that outcome."""
    if trial is None or request.record is None:
        return
    trial.ended_s = now - request.record.began_at
    trial.outcome = outcome if error is None else error.code
    if error is not None:
        trial.executed = error.executed
        trial.message = str(error)


def when_judged(reply: Reply, tell: Callable[[Outcome], None]) -> None:
    """Tell what a server made of an attempt: now, if it was answered; of a stream that was opened, as soon as that is known."""
    if reply.judged is None:
        tell(OK)
    else:
        reply.judged.tell(tell)
