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
from ..policy.classify import CANCELLED, OK, SUPERSEDED, classify
from ..policy.retry import Told
from ..policy.throttle import counted
from ..policy.trial import begin_trial, end_trial
from ..rpc.bound import BoundMethod
from ..rpc.caller import CallerSession
from ..rpc.outcall import Outcall
from ..rpc.sender import StreamPlan
from ..rpc.trunk import Options
from ..wire import Replied
from .core import Core


async def go_on(core: Core, request: Request, node: Node, started: float, error: HoldfastError) -> Reply:
    """Go on with a call whose first attempt failed. Raises: what the call ends with. Cancel: no other attempt follows."""
    end_trial(request, _first(request, node, started), core.now(), error)
    core.retrier.took(request, started, classify(error))
    return await counted(core.throttle, core.now, core.retrier.after(error, request, core.nodes.send))


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
    trial = _first(request, node, started)
    cancelled = False

    async def rest() -> Told:
        try:
            replied = await again
        except HoldfastError as error:
            call.future = None
            core.nodes.settle(node, started, era, error)
            core.retrier.took(request, started, classify(error))
            end_trial(request, trial, core.now(), error)
            return error
        except asyncio.CancelledError:
            session.give_up(call)
            node.let_go(started, core.now(), era)
            ours = CANCELLED if cancelled else SUPERSEDED
            core.retrier.took(request, started, ours)
            end_trial(request, trial, core.now(), None, ours.name)
            raise
        now = core.now()
        core.nodes.answered(node, started, now, era)
        core.retrier.took(request, started, OK)
        end_trial(request, trial, now, None)
        return Reply(replied.body, replied.raw)

    try:
        sending = core.retrier.beside(request, core.nodes.send, core.spawn(rest()), started)
        return await counted(core.throttle, core.now, sending)
    except asyncio.CancelledError:
        cancelled = True
        raise


def misread(core: Core, request: Request, node: Node, began: float, started: float, error: HoldfastError) -> Any:
    """A call whose first attempt was answered with what is no result: return what stands in for it. Raises: the error, if nothing does."""
    record = core.explain(request, began)
    end_trial(request, _first(request, node, started), core.now(), None)
    return core.instead(record, request, error)


def _first(request: Request, node: Node, started: float) -> AttemptRecord | None:
    """What the record says of a first attempt that was made without one; `Core.finished`, which awaits all this, has begun the record."""
    request.tried.append(node)
    trial = begin_trial(request, "original", started)
    if trial is not None:
        trial.node, trial.why, trial.sent_s = node.key, "merged", trial.began_s
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
