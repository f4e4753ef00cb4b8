"""The client on one page: every layer between a caller and a connection, outermost first, and why it stands where it stands.

A call passes the upper layers once and the lower ones once for each attempt. `client_stack` is printable (`holdfast check --stack`) and
can be edited by role (`ClientConfig.stack`). A unary call whose node is ready takes its first attempt past them, by the same machines
(`path.py`); `tests/calling/test_merged.py` holds both ways to be equal. A stack that was edited is always walked.

What may never happen here: a decision. The machines stand in `policy` and `balance`.
"""

from __future__ import annotations

from ..handler import Layer, Placed, Stack


def client_stack(*, throttle: Layer | None, retry: Layer, limit: Layer | None) -> Stack:
    """The layers of a client, in request order. One that is off is not placed."""
    placed = [
        Placed("throttle", throttle, "outside of retry, so that a call that the servers cannot take costs them nothing, not even once")
        if throttle is not None
        else None,
        Placed("retry", retry, "above balance, so that each attempt may go to another node; retries and hedges draw on one budget"),
        Placed("limit", limit, "below retry, so that a call in its back-off holds no slot; above balance, for it is about us, not a node")
        if limit is not None
        else None,
    ]
    return Stack(each for each in placed if each is not None)


BELOW = (
    ("balance", "picks the node last, when all that waits has waited: what it knows of loads is of this very moment"),
    ("breaker", "one per node, below balance: a node that fails keeps itself out, and the others are not blamed for it"),
    ("attempt", "measures where the node is known, so that each attempt is counted for the node that it went to"),
    ("connection", "per node and shared by all calls: waits for room on it, up to the call's deadline"),
)
"""What stands below the stack and cannot be taken out, with the reasons: it is one machine, `nodes.Nodes.send`."""

ABOVE = (("deadline", "outermost: all that follows, waiting and trying again too, has one deadline, which the session's timer keeps"),)
"""What stands above it: the roof fixes the deadline before anything else, and the innermost timer enforces it."""


def rows(stack: Stack) -> list[tuple[str, str]]:
    """The whole way as (role, reason), outermost first."""
    return [*ABOVE, *((placed.role, placed.why) for placed in stack), *BELOW]
