"""What becomes of a stream, once it is open: who hears of its first item and of its end.

Owns: the two moments at which an open stream says something of its node, and of the servers as a whole. Its first item is the node's
latency, and shows that the stream was taken on; its end gives the place at the node back. Until one of the two has come, throttle and
budget know nothing (`Judged`): a stream is open as soon as it was sent, and a server that has no room for it says so later.

What may never happen here: a place that is given back twice, or never; a stream that is refused and counts as accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..balance.endpoint import Node
from ..errors import HoldfastError
from ..handler import Judged, Reply
from ..policy.classify import CANCELLED, NOT_TAKEN, OK, Outcome, classify
from ..rpc.streams import ItemBuffer


class Settles(Protocol):
    """Who is told what an attempt says of its node: `nodes.Nodes`."""

    now: Callable[[], float]
    lagged_at: float

    def settle(self, node: Node, started: float, era: int, error: HoldfastError) -> None: ...


def follow(nodes: Settles, node: Node, started: float, era: int, reply: Reply) -> None:
    """Listen to a stream that was opened at a node, for an attempt of that era, begun at `started`."""
    buffer: ItemBuffer
    _, buffer, _ = reply.stream
    judged = reply.judged = Judged()

    def first() -> None:
        judged.settle(OK)
        now = nodes.now()
        if started > nodes.lagged_at:
            node.observe(now - started, now)

    def end(error: BaseException | None, ours: bool) -> None:
        now = nodes.now()
        outcome = _outcome_of(error)
        if isinstance(error, HoldfastError) and not (outcome.breaker == "success" and buffer.started):
            nodes.settle(node, now if buffer.started else started, era, error)  # how long a stream went on is no latency
        elif ours or outcome.breaker != "success":
            node.let_go(now, now, era)
        else:
            node.ended(now, era)
        judged.settle(CANCELLED if ours else outcome)

    if buffer.ended:
        end(buffer.error, False)
    else:
        buffer.on_first, buffer.on_end = first, end


def _outcome_of(error: BaseException | None) -> Outcome:
    """The row for a stream that ended so, and not because nobody reads it any more."""
    if error is None:
        return OK
    return classify(error) if isinstance(error, HoldfastError) else NOT_TAKEN
