"""What all views of a client share: the machines of its policies, its nodes, and the handler that a Request goes to.

Owns: one budget, one throttle, one limit and one set of hedging delays for the client, whatever its views; the watch over calls that
are slow. What may never happen here: a second budget.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable
from typing import Any

from ..balance.pool import PoolRules
from ..balance.resolve import Resolver
from ..clock import Clock, Streams
from ..config import ClientConfig
from ..control.budget import RetryBudget
from ..errors import DeadlineExceeded, HoldfastError
from ..facts import CallExplained, Emit
from ..handler import CallRecord, Handler, MethodInfo, Reply, Request, Stack
from ..net.address import parse_address
from ..policy.fallback import Fallbacks
from ..policy.hedge import Hedges
from ..policy.limit import Limiter, limit_layer
from ..policy.retry import EARLY_S, LATE_S, Retrier
from ..policy.throttle import Throttle, throttle_layer
from ..rpc.bound import BoundMethod
from ..rpc.catalogue import Catalogue
from ..rpc.dialer import Dialer
from ..rpc.hops import HOPS_MAX
from ..rpc.trunk import MakeNetwork, Options, Trunk
from .nodes import Nodes
from .stack import client_stack

MakeResolver = Callable[["Core"], Resolver]
LOOK_EVERY_S = 0.001
"""All open calls are looked at for slow ones no more often than this, however many become slow at once."""

UNSET: Any = object()
"""What stands for "as the view says" where None means "for ever"."""


class Core(Trunk):
    """Made when a client is entered.

    Attributes:
        merged: whether first attempts may go past the stack: nobody edited it.
        budget, hedges, nodes: machines.
    """

    __slots__ = (
        "_beside_timer", "_besides", "_config", "_explain_every", "_handler", "_pool_rng", "_retrier", "_silent_after_s", "_stack",
        "balancer", "beside_due", "budget", "fallbacks", "hedges", "limiter", "merged", "nodes", "ready", "resolver", "rng", "sampled",
        "throttle",
    )  # fmt: skip

    def __init__(
        self, make_resolver: MakeResolver, config: ClientConfig, clock: Clock, rng: Streams, emit: Emit, make_network: MakeNetwork
    ) -> None:
        super().__init__(clock, rng, emit, make_network, config.wire, config.dial, config.assembly_max_bytes, config.checksum)
        try:
            self._build(make_resolver, config, rng, emit)
        except BaseException:  # of what the user gave us: the stack's edit
            self.timer.close()
            raise

    def _build(self, make_resolver: MakeResolver, config: ClientConfig, rng: Streams, emit: Emit) -> None:
        self.rng = rng
        self._config = config
        self._pool_rng = rng.stream("pool")
        budget = config.budget
        self.budget = RetryBudget(share=budget.share, floor_per_s=budget.floor_per_s, ttl_s=budget.ttl_s, mode=budget.mode)
        self.hedges = Hedges(config.hedge, self.budget) if config.hedge.mode != "off" else None
        self.resolver = make_resolver(self)
        self.nodes = Nodes(self.resolver, self._make_dialer, config, self.wheel, rng, emit, self.budget.earn_nothing)
        self.balancer = self.nodes.balancer
        self.ready = self.balancer.ready
        self.throttle = Throttle(config.throttle)
        self.fallbacks = Fallbacks(config.fallback, emit)
        self.limiter = Limiter(config.limit, rng.stream("limit"), emit) if config.limit.mode != "off" else None
        self._retrier: Retrier | None = None
        self._stack: Stack | None = None
        self._handler: Handler | None = None
        self.merged = config.stack is None and self.limiter is None
        if config.stack is not None:
            _ = self.handler  # now: what it raises is the business of whoever edited it, who enters the client
        self._besides = config.retry.beside
        self._silent_after_s = config.retry.silent_s / 2 or math.inf
        self.beside_due = math.inf
        self._beside_timer: Any = None
        self._explain_every = config.explain_every or math.inf
        self.sampled = self._explain_every
        endpoints = self.resolver.initial()
        if endpoints:
            self.nodes.update(endpoints)
        if not self.resolver.static:
            self.spawn(self.resolver.run(self.nodes.update))

    # ------------------------------------------------------------------ made for the first call that walks the stack: few clients make one

    @property
    def retrier(self) -> Retrier:
        """Sends calls again."""
        made = self._retrier
        if made is None:
            made = self._retrier = Retrier(
                self.now,
                self.rng.stream("retry"),
                self.emit,
                self._config.retry,
                self.budget,
                hedges=self.hedges,
                panicking=lambda: self.balancer.panicking,
                late=self._late,
                strained=lambda: self.nodes.strained(self.now()),
                silent_s=self._silent_s,
                spawn=self.spawn,
                slow=self._slow,
            )
        return made

    @property
    def stack(self) -> Stack:
        """The layers, as the configuration has them."""
        made = self._stack
        if made is None:
            config, now, emit = self._config, self.now, self.emit
            throttled = config.throttle.mode != "off"
            made = client_stack(
                throttle=throttle_layer(self.throttle, now, self.rng.stream("throttle"), emit) if throttled else None,
                retry=self.retrier.layer,
                limit=limit_layer(self.limiter, now) if self.limiter is not None else None,
            )
            made = self._stack = made if config.stack is None else config.stack(made)
        return made

    @property
    def handler(self) -> Handler:
        """The whole stack."""
        made = self._handler
        if made is None:
            made = self._handler = self.stack.around(self.nodes.send)
        return made

    def _make_dialer(self, key: str, keep: bool) -> Dialer:
        charge = self.budget.take if self.budget.mode != "off" else None
        return self.make_dialer(parse_address(key), keep=keep, charge=charge, rules=PoolRules(self._config.pool, self._pool_rng))

    async def close(self, *, within_s: float) -> None:
        """As in Trunk. Cancel: the rest is cut."""
        self.nodes.close()
        if self._beside_timer is not None:
            self._beside_timer.cancel()
        await super().close(within_s=within_s)

    # ------------------------------------------------------------------ before a call

    @property
    def catalogue(self) -> Catalogue | None:
        """Of a node that takes calls, or is connected and kept out for now; None while there is none."""
        for node in self.ready or self.balancer.nodes.values():
            if node.state == "ready":
                catalogue: Catalogue = node.target.catalogue
                return catalogue
        return None

    async def connected(self, deadline_at: float | None, options: Options, name: str = "") -> Catalogue:
        """Return the catalogue of a node that takes calls; wait for one first, as often as a call may be sent.

        Args:
            name: the method this is for, which ends here if it fails.
        Raises: Unavailable, ProtocolError, Overloaded, DeadlineExceeded; all surely not executed. Cancel: loses nothing.
        """
        started = self.now()
        try:
            return await self._connected(deadline_at, options, name)
        except (HoldfastError, asyncio.CancelledError) as error:
            if name:
                self.tell(name, error.code if isinstance(error, HoldfastError) else "cancelled", started)
            raise

    async def _connected(self, deadline_at: float | None, options: Options, name: str) -> Catalogue:
        attempt = 1
        while (catalogue := self.catalogue) is None:
            try:
                await self.nodes.ready(deadline_at, wait=options.wait_for_ready, waiting_max=options.waiting_max, name=name)
            except HoldfastError as error:
                left_s = None if deadline_at is None else deadline_at - self.now()
                backoff_s = self.retrier.next_backoff_s(error, attempt, options.attempts, idempotent=True, left_s=left_s)
                if backoff_s is None or isinstance(error, DeadlineExceeded):
                    raise
                attempt += 1
                await asyncio.sleep(backoff_s)
        return catalogue

    def unreached(self, name: str, error: HoldfastError, options: Options, started: float, deadline_at: float | None) -> Any:
        """A call of that method found no node that takes it: return what stands in for its answer. Raises: the error, if nothing does."""
        request = Request(MethodInfo(name), b"", False, deadline_at, 0, fallback=options.fallback, on_record=options.explain)
        return self.instead(self.explain(request, started), request, error)

    # ------------------------------------------------------------------ calls that are slow

    def _slow(self, request: Request, began: float) -> None:
        """An attempt has been under way for long: as good as an answer that slow. Its connection is asked for a sign of life."""
        if request.tried and request.tried[-1].pending:
            node, now = request.tried[-1], self.now()
            if began > self.nodes.lagged_at:
                node.overdue(now - began, now)
            if node.target.session is not None:
                node.target.session.suspect(now)

    def _late(self, request: Request) -> bool:
        """An attempt has used up its share of the deadline. Return whether that is so at most nodes, so that another one would too."""
        return bool(request.tried) and self.nodes.late(request.tried[-1], self.now())

    def watch(self, at: float) -> None:
        """A call is under way that may get another attempt beside it at `at`."""
        if at < self.beside_due:
            if self._beside_timer is not None:
                self._beside_timer.cancel()
            self.beside_due = at
            self._beside_timer = self.timer.call_at(at, self._look_beside)  # the wheel is too coarse for calls of milliseconds

    def _look_beside(self) -> None:
        """Tell the callers of calls that have been under way for too long; the nodes they are at count as that slow."""
        now = self.now()
        late_s = now - self.beside_due
        self.beside_due, self._beside_timer = math.inf, None
        if late_s > LATE_S:  # we are: let what has come meanwhile be read first, or all calls would look slow
            self.watch(now + LOOK_EVERY_S)
            return
        earliest = math.inf
        for dialer in list(self.dialers):
            for session in list(dialer.sessions):
                earliest = min(earliest, session.look_beside(now))
        if earliest < math.inf:
            self.watch(max(earliest, now + LOOK_EVERY_S))

    def beside_at(self, name: str, started: float, expires_at: float, options: Options) -> float:
        """When a first attempt that is sent now may get another one beside it: `Retrier.beside_at` for the merged way; inf for never."""
        at = started + self._silent_after_s
        if self._besides:
            at = min(at, started + (expires_at - started) / options.attempts)
        if self.hedges is not None and options.hedge:
            delay_s = self.hedges.of(name).delay_s(started)
            if delay_s is not None:
                at = min(at, started + delay_s)
        return at

    def _silent_s(self, request: Request) -> float:
        """For how long nothing was heard from the node that a request was sent to last; it is asked for a sign of life."""
        session = request.tried[-1].target.session if request.tried else None
        if session is None:
            return math.inf
        silent_s: float = self.now() - session.heard_at
        if silent_s >= self._silent_after_s - EARLY_S:
            session.ask()
        return silent_s

    # ------------------------------------------------------------------ how a call ends, and what explains it

    async def finished(self, method: BoundMethod, started: float, request: Request, sending: Awaitable[Reply]) -> Any:
        """As in Trunk, with the call's record completed and told, and a fallback where there is one for what it ended with.

        Cancel: as `sending`.
        """
        sampled = self.sampled <= 0
        if sampled:
            self.sampled = self._explain_every
        record = self.explain(request, started)
        try:
            result = await super().finished(method, started, request, sending)
        except HoldfastError as error:
            return self.instead(record, request, error)
        except asyncio.CancelledError:
            self._explained(record, request, "cancelled", tell=sampled)
            raise
        self._explained(record, request, "ok", tell=sampled)
        return result

    def instead(self, record: CallRecord, request: Request, error: HoldfastError) -> Any:
        """A call failed: return what stands in for its answer. Raises: the error, with the call's record, if nothing does."""
        self._explained(record, request, error.code, tell=True)
        fallback = self.fallbacks.choose(request.info.name, error, idempotent=request.may_repeat, own=request.fallback)
        if fallback is not None:
            return fallback.instead(error)
        if error.record is not None and error.record is not record:
            error, cause = copy.copy(error), error.__cause__  # somebody else's call ended with the same one
            error.__cause__ = cause
        error.record = record
        raise error from error.__cause__

    def _explained(self, record: CallRecord, request: Request, code: str, *, tell: bool) -> None:
        record.code = code
        record.duration_s = self.now() - record.began_at
        if request.hops is not None and len(request.hops) < HOPS_MAX:
            request.hops.append(record)
        if request.on_record is not None:
            try:
                request.on_record(record)
            except Exception as error:  # theirs
                told = {"message": f"holdfast client: what was told of {record.method} raised", "exception": error}
                self.loop.call_exception_handler(told)
        if tell:
            self.emit(CallExplained(record))

    def explain(self, request: Request, started: float) -> CallRecord:
        """Begin the record of a call, or go on with it."""
        if request.record is None:
            left_s = None if request.deadline_at is None else request.deadline_at - started
            request.record = CallRecord(request.info.name, request.number, started, left_s)
        return request.record

    @property
    def dialer(self) -> Dialer:
        """What connects to the only node, or to the first of them."""
        found: Dialer = next(iter(self.balancer.nodes.values())).target
        return found
