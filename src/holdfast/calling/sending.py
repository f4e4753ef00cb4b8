"""The ways of calls that are not over with their first attempt, or never could be: retries, attempts beside others, uploads.

Owns: handing a call that began on the merged way to the machines of the stack, with all that has happened so far. What may never happen
here: a first attempt that is counted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..balance.endpoint import Node
from ..errors import HoldfastError
from ..handler import AttemptRecord, Reply, Request
from ..policy.classify import CANCELLED, NOT_TAKEN, OK, SUPERSEDED, Outcome, classify
from ..policy.retry import Told
from ..rpc.bound import BoundMethod
from ..rpc.caller import CallerSession
from ..rpc.outcall import Outcall
from ..rpc.sender import StreamPlan
from ..rpc.trunk import Options
from ..wire import Replied
from .core import Core


async def go_on(core: Core, request: Request, node: Node, started: float, error: HoldfastError) -> Reply:
    """Go on with a call whose first attempt failed. Raises: what the call ends with. Cancel: no other attempt follows."""
    trial = _first(core, request, node, started)
    trial.ended_s, trial.outcome, trial.executed, trial.message = core.now() - started, error.code, error.executed, str(error)
    core.retrier.took(request, started, classify(error))
    outcome: Outcome = NOT_TAKEN
    try:
        reply = await core.retrier.after(error, request, core.attempt)
        outcome = OK
        return reply
    except HoldfastError as last:
        outcome = classify(last)
        raise
    except asyncio.CancelledError:
        outcome = CANCELLED
        raise
    finally:
        core.throttle.record(outcome, core.now())


async def go_beside(
    core: Core,
    request: Request,
    node: Node,
    started: float,
    era: int,
    session: CallerSession,
    call: Outcall,
    again: asyncio.Future[Replied],
) -> Reply:
    """Go on with a call whose first attempt is slow, and is answered in `again`. Raises: as the call. Cancel: all attempts are."""
    trial = _first(core, request, node, started)
    outcome: Outcome = NOT_TAKEN

    async def rest() -> Told:
        try:
            replied = await again
        except HoldfastError as error:
            call.future = None
            core.nodes.settle(node, started, era, error)
            core.retrier.took(request, started, classify(error))
            trial.ended_s, trial.outcome, trial.executed, trial.message = core.now() - started, error.code, error.executed, str(error)
            return error
        except asyncio.CancelledError:
            session.give_up(call)
            node.let_go(started, core.now(), era)
            ours = CANCELLED if outcome is CANCELLED else SUPERSEDED
            core.retrier.took(request, started, ours)
            trial.ended_s, trial.outcome = core.now() - started, ours.name
            raise
        now = core.now()
        core.nodes.answered(node, started, now, era)
        core.retrier.took(request, started, OK)
        trial.ended_s, trial.outcome = now - started, "ok"
        return Reply(replied.body, replied.raw)

    try:
        reply = await core.retrier.beside(request, core.attempt, core.scope.spawn(rest()), started)
        outcome = OK
        return reply
    except HoldfastError as last:
        outcome = classify(last)
        raise
    except asyncio.CancelledError:
        outcome = CANCELLED
        raise
    finally:
        core.throttle.record(outcome, core.now())


def _first(core: Core, request: Request, node: Node, started: float) -> AttemptRecord:
    """What the record says of a first attempt that was made without one."""
    request.tried.append(node)
    record = core.explain(request, started)
    trial = AttemptRecord("original", 0.0, node.key, why="merged", sent_s=0.0)
    if request.deadline_at is not None:
        trial.left_s = request.deadline_at - started
    record.attempts.append(trial)
    return trial


async def upload(
    core: Core,
    method: BoundMethod,
    args: Any,
    kwargs: Any,
    deadline_at: float | None,
    metadata: Mapping[str, str] | None,
    options: Options,
    started: float,
) -> Any:
    """A call that sends a stream. Its items cannot be sent twice, so it has one attempt. Raises: as the call. Cancel: as the call."""
    codec = method.codec
    args, kwargs, source = codec.take_stream(args, kwargs)
    plan = StreamPlan(source, codec.encode_item_in, codec.raw_item_in, False)
    request = core.request(method, codec.encode_args(args, kwargs), deadline_at, core.beside(metadata), options, plan)
    request.attempts_max = 1
    return await core.finished(method, started, request, core.handler(request))
