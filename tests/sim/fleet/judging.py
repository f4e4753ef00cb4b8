"""Looks into clients of many nodes: is anything left of calls that are over?

Owns: what `nothing-left` means for the machines between a call and its connection: nodes, breakers, slots, queues. What it means for
sessions and servers stands in the judging of the spine.
What may never happen here: a number that is read while its owner runs; whoever calls this is another process, or asks about itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import holdfast
from holdfast.balance.balancer import Balancer
from holdfast.policy.limit import Limiter, Slots
from tests.sim.spine.judging import held_by


def sessions_of(client: holdfast.Client) -> list[Any]:
    """The connections of a client, to any node, that are not over."""
    core = client._core_
    return [] if core is None else [each for dialer in core.dialers for each in dialer.sessions if not each.closed]


def left_in_client(client: holdfast.Client) -> list[str]:
    """What is left in a client that is open and has nothing to do. Tasks that connect to a node are no call's."""
    core = client._core
    found = [f"client: {what}" for session in sessions_of(client) for what in held_by(session)]
    if core._waiting:
        found.append(f"client: calls between two attempts {sorted(core._waiting)}")
    connecting = sum(dialer._attempt is not None for dialer in core.dialers)
    others = len(core.scope) - connecting - (not core.resolver.static)
    if others:
        found.append(f"client: {others} tasks")
    return [*found, *(f"client: {what}" for what in held_by_policies(core))]


def unheard(client: holdfast.Client, clock: Any, since: float) -> list[str]:
    """The connections on which nothing was heard since then: whether the node at their other end still knows of them, nobody knows.

    Args:
        clock: of the client's host; None while it is right. since: in the world's time.
    """
    found = []
    for session in sessions_of(client):
        heard_at = session.heard_at if clock is None else clock.true_time(session.heard_at)
        if heard_at <= since:
            found.append(f"nothing was heard of {session.link.peer} since {heard_at:.6f} s")
    return found


def misplaced(balancer: Balancer, now: float) -> Iterator[str]:
    """The nodes that are in the list and should not be, or should be and are not; nothing while time alone changes that."""
    if now >= balancer.wake_at:
        return
    for node in balancer.nodes.values():
        wanted = balancer._is_connected(node) if balancer.panicking else balancer._is_usable(node, now)
        if wanted != (node in balancer.ready):
            yield f"{node.key} is {'not ' if wanted else ''}in the list, and should{'' if wanted else ' not'} be"


def held_by_policies(core: Any) -> Iterator[str]:
    """What the machines of a client hold, when there is no call."""
    for node in core.balancer.nodes.values():
        if node.pending:
            yield f"{node.pending} attempts pending at {node.key}"
        if node.gate.state == "probing":
            yield f"a probe at {node.key}"
    if core.nodes._waiters:
        yield f"{len(core.nodes._waiters)} calls that wait for a node"
    limiter: Limiter | None = core.limiter
    if limiter is not None:
        for name, slots in (("the limit", limiter.slots), *limiter.bulkheads.items()):
            yield from _held(name, slots)


def _held(name: str, slots: Slots) -> Iterator[str]:
    if slots.free != slots.limit:
        yield f"{slots.limit - slots.free} slots of {name}"
    if slots.waiting:
        yield f"{len(slots.waiting)} calls that wait for a slot of {name}"


def overdrawn_policies(core: Any) -> Iterator[str]:
    """What is below zero in the machines of a client, or above what there is, or does not agree."""
    yield from misplaced(core.balancer, core.now())
    for node in core.balancer.nodes.values():
        if node.pending < 0:
            yield f"{node.pending} attempts pending at {node.key}"
        if node.failures + node.given_up + node.pending > node.attempts:
            yield f"{node.key}: {node.attempts} attempts, but {node.failures} failed, {node.given_up} given up, {node.pending} pending"
    limiter: Limiter | None = core.limiter
    if limiter is not None:
        for slots in (limiter.slots, *limiter.bulkheads.values()):
            if slots.free > slots.limit or (slots.free > 0 and slots.waiting) or len(slots.waiting) > slots.queue_max:
                yield f"slots {slots!r}, {slots.free} free, queue_max={slots.queue_max}"
