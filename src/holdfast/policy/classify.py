"""What the end of an attempt means to everybody who learns from it: one table.

Owns the rows (`Outcome`) and the way from an error's facts to its row (`classify`). The latency estimate, the hedge's histogram, the
breaker, the retry budget, the adaptive limit and the throttle each read their own column and decide nothing about errors themselves; so no
two of them can disagree on whether an answer of INTERNAL in 2 ms was quick or broken. `why_not_again` says which failures may be tried
again. Source: reference algorithms.md 2.0 and 2.4.

What may never happen here: a look at an error's type or text, state, a clock; an error without a row.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..errors import HoldfastError

Latency = Literal["took", "penalty", "retry_after", "peak", "at_least", "nothing"]
HedgeSample = Literal["took", "nothing"]
BreakerSignal = Literal["success", "failure", "overload", "connect_failure", "ignore"]
BudgetCharge = Literal["succeeded", "withdraw", "nothing"]
LimitSample = Literal["took", "took_if_slow", "dropped", "ignore"]
ThrottleCount = Literal["accepted", "not_accepted", "nothing"]


class Outcome(msgspec.Struct, frozen=True):
    """A row: what one way for an attempt to end means to each who learns from it.

    Attributes:
        name: of the row, for people and traces.
        latency: what the node's latency estimate learns. `took`: how long it took. `penalty`: the same, but at least the penalty for a
            failure, or failing fast would look good. `retry_after`: what the server asked for, else the penalty. `peak`: what has elapsed,
            as a peak. `at_least`: what has elapsed, if that is more than the estimate: nobody knows how long it would have taken.
        hedge: whether how long it took enters the histogram that says when to hedge. Failures do not: fast ones would pull it down.
        breaker: what the node's breaker counts. `overload` counts in the ratio and fails a probe, and is not one of the failures in a row.
            `connect_failure` has a counter of its own. `ignore` counts for nothing; a probe that ends so gives its token back.
        budget: what the retry budget does. `succeeded`: proof of life, the floor is whole again. `withdraw`: another attempt is paid for
            when it is sent, also after one that surely was not taken: only what is always paid for has a bound. (Deposits are made once
            for each call, when it begins, whatever becomes of it.)
        limit: what the adaptive limit learns. `dropped` makes it smaller.
        throttle: `accepted` counts as asked and accepted, `not_accepted` as asked only.
    """

    name: str
    latency: Latency
    hedge: HedgeSample
    breaker: BreakerSignal
    budget: BudgetCharge
    limit: LimitSample
    throttle: ThrottleCount


OK = Outcome("ok", "took", "took", "success", "succeeded", "took", "accepted")
CALLER_ERROR = Outcome("caller_error", "took", "took", "success", "succeeded", "took", "accepted")
SERVER_ERROR = Outcome("server_error", "penalty", "nothing", "failure", "withdraw", "took_if_slow", "accepted")
TIMEOUT = Outcome("timeout", "peak", "took", "failure", "withdraw", "dropped", "not_accepted")
LOST = Outcome("lost", "penalty", "nothing", "failure", "withdraw", "ignore", "nothing")
CANCELLED = Outcome("cancelled", "at_least", "nothing", "ignore", "nothing", "ignore", "not_accepted")
SUPERSEDED = Outcome("superseded", "at_least", "took", "ignore", "nothing", "ignore", "nothing")
CONNECT_FAILED = Outcome("connect_failed", "penalty", "nothing", "connect_failure", "withdraw", "ignore", "nothing")
OVERLOAD = Outcome("overload", "retry_after", "nothing", "overload", "withdraw", "dropped", "not_accepted")
LOCAL_REJECT = Outcome("local_reject", "nothing", "nothing", "ignore", "nothing", "ignore", "not_accepted")
NOT_TAKEN = Outcome("not_taken", "nothing", "nothing", "ignore", "withdraw", "ignore", "nothing")

OUTCOMES = (
    OK,
    CALLER_ERROR,
    SERVER_ERROR,
    TIMEOUT,
    LOST,
    CANCELLED,
    SUPERSEDED,
    CONNECT_FAILED,
    OVERLOAD,
    LOCAL_REJECT,
    NOT_TAKEN,
)
"""Every row. LOST is a connection that broke under a call: a failure of the node, and no answer that a throttle or limit could learn from.
NOT_TAKEN is a call that surely did not reach a handler through nobody's fault, as when a server goes away: it counts for nobody."""

# The server answered, so the code alone decides. What is not here, as `internal` or a code of a later version, is the server's failure.
_REMOTE = {
    "resource_exhausted": OVERLOAD,
    "deadline_exceeded": TIMEOUT,
    "already_exists": CALLER_ERROR,
    "failed_precondition": CALLER_ERROR,
    "aborted": CALLER_ERROR,
    "out_of_range": CALLER_ERROR,
}

# We said so ourselves: code, then whether it surely did not run or may have. What is not here fell on our side of the connection.
_LOCAL = {
    "resource_exhausted": (LOCAL_REJECT, OVERLOAD),
    "deadline_exceeded": (LOCAL_REJECT, TIMEOUT),
    "cancelled": (CANCELLED, CANCELLED),
    "unavailable": (NOT_TAKEN, LOST),
}


def classify(error: HoldfastError) -> Outcome:
    """Return the row for how an attempt ended, from the error's facts: connecting, fault, remote, code, executed. Total.

    OK and SUPERSEDED have no error, and neither has a cancel by the caller, which is CANCELLED: whoever sees those knows the row.
    """
    if error.connecting and not error.remote:
        return CONNECT_FAILED
    if error.fault == "caller":
        return CALLER_ERROR
    if error.remote:
        return _REMOTE.get(error.code, SERVER_ERROR)
    rows = _LOCAL.get(error.code)
    if rows is not None:
        return rows[error.executed != "no"]
    if error.executed == "no":
        return NOT_TAKEN
    return LOST if error.fault == "network" and error.executed == "maybe" else SERVER_ERROR


def why_not_again(
    error: HoldfastError, attempt: int, attempts_max: int, *, idempotent: bool, left_s: float | None = None, backoff_s: float = 0.0
) -> str:
    """Say why a call must not be sent again after `error`, or return "" when it may; then the budget is still to be asked.

    Args:
        attempt: how often it was sent, counting from 1.
        left_s: what is left of the deadline; None when there is none.
        backoff_s: how long it would pause before.
    Returns: `never`, `not_idempotent`, `attempts` or `deadline`, the first of them that holds: what the error says before what we count.
    """
    if error.retry == "never":
        return "never"
    if not idempotent and (error.executed != "no" or error.retry == "if_idempotent"):
        return "not_idempotent"
    if attempt >= attempts_max:
        return "attempts"
    if left_s is not None and backoff_s >= left_s:
        return "deadline"
    return ""
