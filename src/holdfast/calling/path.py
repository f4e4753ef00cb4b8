"""The way of nearly all calls: a first attempt at a ready node, past the layers and by the same machines.

Owns the order of things when a unary call goes well, written out where a layer each would cost more than the call: deadline, throttle,
budget, pick, breaker, session, and back. What does not go well leaves here for the stack: it is asked to go on (`Retrier.after`,
`Retrier.beside`) with exactly what has happened so far. `tests/calling/test_merged.py` holds this way and the layers to be equal.

What may never happen here: an attempt that is begun at a node and not settled there, exactly once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from ..context import CURRENT
from ..errors import HoldfastError
from ..policy.classify import CANCELLED
from ..rpc.bound import BoundMethod, deadline_of
from ..rpc.caller import CallerSession
from ..rpc.outcall import Outcall, StillOpen
from ..rpc.session import wire_deadline_ms
from ..rpc.trunk import Options
from ..rpc.validation import MISFITS
from ..wire import Replied
from .core import UNSET, Core
from .sending import go_beside, go_on, misread, upload

_NEVER = math.inf
_current = CURRENT.get


async def unary(view: Any, method: BoundMethod, deadline: Any, metadata: Mapping[str, str] | None, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method that answers with one result. Raises: what the call ends with. Cancel: it is cancelled at the server too."""
    core: Core = view._core_
    if core is None:
        core = view._core
    clock = core.now  # loaded first, here and below: CPython 3.11 is slow to call what stands in a slot
    began = started = clock()
    ambient = _current()
    default_s = view._default_s
    if ambient is None and deadline is UNSET and default_s is not None:
        deadline_at: float | None = started + default_s
        deadline_ms = view._default_ms
    else:
        deadline_at = deadline_of(started, default_s if deadline is UNSET else deadline, None if ambient is None else ambient.deadline_at)
        deadline_ms = wire_deadline_ms(deadline_at, started)
    options: Options = view._options
    if method.compared_with is None or not core.ready:
        try:
            method.compare(await core.connected(deadline_at, options, method.info.name))
        except HoldfastError as error:
            return core.unreached(method.info.name, error, options, began, deadline_at)
        started = clock()  # connecting took its part of the deadline, and says nothing of how quick the node is
        deadline_ms = wire_deadline_ms(deadline_at, started)
    if method.uploads:
        return await upload(core, method, args, kwargs, deadline_at, metadata, options, began)
    encode = method.codec.encode_args
    body = encode(args, kwargs)
    throttle = core.throttle
    core.sampled -= 1
    if metadata is not None or ambient is not None or options.walks or not core.merged or core.sampled <= 0 or not throttle.calm:
        extra = None if ambient is None and metadata is None else core.beside(metadata)
        request = core.request(method, body, deadline_at, extra, options, None)
        return await core.finished(method, began, request, core.handler(request))
    ready, balancer = core.ready, core.balancer
    if started >= balancer.wake_at:
        node = balancer.pick(started)
    elif len(ready) > 1:
        choose = balancer.choose
        node = choose(ready, started, None, ())
    else:
        node = ready[0] if ready else None
    if node is None:
        request = core.request(method, body, deadline_at, None, options, None)
        return await core.finished(method, began, request, core.handler(request))
    gate = node.gate
    if not node.pending:
        node.heard_at = started
    node.pending += 1
    node.attempts += 1
    era = gate.era or gate.enter(started)
    dialer = node.target
    session: CallerSession = dialer.session
    if method.compared_with is not dialer.catalogue:
        try:
            method.compare(dialer.catalogue)
        except HoldfastError:
            node.let_go(started, started, era)
            raise
    core.number = number = core.number + 1
    create_future = core.create_future
    future: asyncio.Future[Replied] = create_future()
    expires_at = _NEVER if deadline_at is None else deadline_at
    beside_at = _NEVER
    idempotent = method.idempotent and options.idempotent  # by the word of this node: while we wait the method may be compared with another
    if idempotent and options.attempts > 1:
        beside_at = core.beside_at(method.info.name, started, expires_at, options)
    call = Outcall(0, None, future, expires_at, None, _NEVER, method.info.name, number, None, beside_at)
    if session is None or not session.open_unary(call, method.wire_name, body, method.flags, deadline_ms, number):
        node.unsent(started, era)
        request = core.request(method, body, deadline_at, None, options, None, number)
        return await core.finished(method, began, request, core.handler(request))
    if beside_at < core.beside_due:
        core.watch(beside_at)
    budget = core.budget
    if started >= budget.rolls_at:
        budget.roll(started)
    budget.calls += 1
    hedges = core.hedges if idempotent else None
    if hedges is not None and options.hedge:
        hedges.own.deposit(started)
    try:
        replied = await future
    except HoldfastError as error:
        call.future = None  # it holds the error, whose traceback holds this call
        core.nodes.settle(node, started, era, error)
        request = core.request(method, body, deadline_at, None, options, None, number)
        request.idempotent = idempotent
        return await core.finished(method, began, request, go_on(core, request, node, started, error))
    except StillOpen as still:
        request = core.request(method, body, deadline_at, None, options, None, number)
        request.idempotent = idempotent
        return await core.finished(method, began, request, go_beside(core, request, node, started, era, session, call, still.future))
    except asyncio.CancelledError:
        session.give_up(call)
        now = core.now()
        node.let_go(started, now, era)
        throttle.record(CANCELLED, now)
        core.tell(method.info.name, "cancelled", began)
        raise
    now = clock()
    nodes = core.nodes
    # a success, written out: `Nodes.answered`, `Node.succeeded`, `Breaker.succeeded`, `RetryBudget.succeeded`, `Throttle.accepted`
    node.pending -= 1
    if started > nodes.lagged_at:
        node.observe(now - started, now)
    else:
        node.heard_at = now if node.pending else _NEVER
    if now >= gate.rolls_at:
        gate.roll(now)
    if era == gate.era:
        gate.good += 1
        gate.row = 0
    else:
        gate.succeeded(now, era)
    if not budget.lit or now >= budget.rolls_at:
        budget.succeeded(now)
    if now >= throttle.rolls_at:
        throttle.roll(now)
    throttle.accepts += 1
    if not throttle.calm:
        throttle.accepted_again(now)
    if hedges is not None:
        hedges.of(method.info.name).record(now - started, now)
    if nodes.lag_due == _NEVER:
        nodes.watch_lag(now)
    try:
        if replied.raw or core.tells_calls:
            return core.taken(method, replied, began)
        decode = method.codec.bytes_to_result
        return decode(replied.body)
    except MISFITS as misfit:
        bad: HoldfastError = method.codec.blame_result(misfit)
        bad.__cause__ = misfit
    except HoldfastError as error:
        bad = error
    request = core.request(method, body, deadline_at, None, options, None, number)
    request.idempotent = idempotent
    return misread(core, request, node, began, started, bad)
