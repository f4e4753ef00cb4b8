"""The nodes of one client: which there are, the connection to each, and an attempt at one of them.

Owns: a Node (its numbers, its breaker) and a Dialer (its connections) for every endpoint in use; who waits for any of them; the timers
that look after them. The balancer decides, the dialers connect; here they hear of one another.

What may never happen here: an attempt that is begun and not settled, exactly once; a caller that waits for a node without a bound on how
many do; a node of the set without somebody who connects it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..balance.balancer import Balancer
from ..balance.eject import Ejector
from ..balance.endpoint import Endpoint, Node
from ..balance.members import Members
from ..balance.pick import make_picker
from ..balance.picker import SlowStart
from ..balance.resolve import Resolver
from ..balance.subset import subset
from ..clock import Streams
from ..config import ClientConfig
from ..control.wheel import Timer, Wheel
from ..errors import DeadlineExceeded, HoldfastError, Unavailable
from ..facts import CallHeldBack, Emit, NodeChanged
from ..handler import Reply, Request, held_back
from ..policy.breaker import Breaker
from ..policy.classify import classify
from ..rpc.dialer import Dialer
from .following import follow
from .load import Load

LAG_EVERY_S = 0.05
LAG_S = 0.02

MakeDialer = Callable[[str, bool], Dialer]


class NodeStatus(msgspec.Struct, frozen=True):
    """How one node is. Times are in seconds before, or after, the moment it was asked.

    Attributes:
        address: where it is.
        state: of its connection: `idle`, `connecting`, `ready`, `draining`, `down`, `gone`.
        for_s: how long it has been in that state.
        last_error: why the last attempt to connect came to nothing; empty when none did.
        next_attempt_in_s: when it is tried again; None unless it is down.
        breaker: `closed`, `open` or `probing`.
        ejected_for_s: how long it still gets no calls because it did so much worse than the others; 0 when it is not ejected.
        pending: attempts in flight.
        latency_s: the estimate that picks go by.
        load: what it said of itself last, 0 to 1.
        attempts, failures: since it became a node.
    """

    address: str
    state: str
    for_s: float
    last_error: str
    next_attempt_in_s: float | None
    breaker: str
    ejected_for_s: float
    pending: int
    latency_s: float
    load: float
    attempts: int
    failures: int


class Nodes:
    """Made with the client's core, on its loop.

    Attributes:
        balancer: who takes calls.
        lagged_at: when our own loop was last seen to be late; latencies of calls begun before that are our fault, not the node's.
        lag_due: when it is looked at next; inf while nobody does: an answer begins it by `watch_lag`.
    """

    def __init__(
        self,
        resolver: Resolver,
        make_dialer: MakeDialer,
        config: ClientConfig,
        wheel: Wheel,
        rng: Streams,
        emit: Emit,
        unearned: Callable[[float], None],
    ) -> None:
        """`unearned`: told until when the budget is to earn nothing."""
        self._loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._make_dialer = make_dialer
        self._config = config
        self._wheel = wheel
        self.now = wheel.now
        self._emit = emit
        self._breaker_rng = rng.stream("breaker")
        self._subset_seed = rng.stream("subset").getrandbits(64).to_bytes(8)
        balance = config.balance
        slow_start = SlowStart(window_s=balance.slow_start_s)
        picker = make_picker(balance.picker, rng.stream("pick"), slow_start=slow_start, hash_factor=balance.hash_factor)
        self.balancer = Balancer(picker, balance, emit)
        self._members = Members(config.members, emit)
        self._ejector: Ejector | None = None  # made when there is more than one node, for it compares them
        self._load: Load | None = None  # made for the first attempt that is late
        self._unearned = unearned
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.lag_due = math.inf
        self._sweep_due = math.inf
        self._sweep_timer: Timer | None = None
        self.lagged_at = -math.inf
        self.resolved = False

    # ------------------------------------------------------------------ which there are

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """The source says that these are all. Calls on nodes that are gone end as they end."""
        self.resolved = True
        now = self.now()
        self._members.update(endpoints, now)
        self._use(now)

    def _use(self, now: float) -> None:
        """Bring the nodes in use in line with the members."""
        if self._closed:
            return  # nobody would close what is made now
        config, nodes = self._config.balance, self.balancer.nodes
        endpoints = list(self._members.current.values())
        if config.picker != "hash":  # clients with other subsets would send a key to other nodes
            endpoints = subset(endpoints, config.subset_size, config.subset_above, seed=self._subset_seed)
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        gone = [node for key, node in nodes.items() if key not in wanted]
        new = [endpoint for key, endpoint in wanted.items() if key not in nodes]
        for key, node in nodes.items():
            if key in wanted and node.endpoint is not wanted[key]:
                node.endpoint, node.weight = wanted[key], wanted[key].weight
                self.balancer.picker.changed(self.balancer.ready)
        if gone:
            self.balancer.remove(gone, now)
            for node in gone:
                node.target.retire()
                if self._load is not None:
                    self._load.forget(node)
        keep = len(wanted) > 1
        made = [self._make_node(endpoint, now, keep) for endpoint in new]
        self.balancer.add(made, now)
        for node in nodes.values():
            node.gate.alone(len(nodes) == 1)
        if keep:
            for node in nodes.values():
                node.target.stay()  # one that was the only one so far, too
        if gone or new:
            self._wake()
        self._look_after(now)

    def _make_node(self, endpoint: Endpoint, now: float, keep: bool) -> Node:
        dialer = self._make_dialer(endpoint.key, keep)
        breaker = Breaker(endpoint.key, self._config.breaker, self._breaker_rng, self._emit, now=now)
        node = Node(endpoint, dialer, breaker, now=now)
        breaker.owner = dialer.owner = node
        breaker.on_change, dialer.on_change = self._gate_changed, self._dialer_changed
        return node

    def _gate_changed(self, node: Node) -> None:
        self.balancer.changed(node, self.now())

    def _dialer_changed(self, node: Node) -> None:
        """Its connection came, went, or the server said how it is."""
        dialer: Dialer = node.target
        session = dialer.session
        if session is not None:
            status = session.status
            node.serving, node.draining, node.load = status.serving, status.draining, status.load
        if node.state != dialer.state:
            was, node.state, node.since = node.state, dialer.state, dialer.since
            if node.state == "ready" and was != "idle":
                node.forget(node.since)
            if node.state == "down" or was == "ready":
                self._resolver.poke()  # the node may be gone for good, and others there in its place
            self._emit(NodeChanged(node.key, node.state, str(dialer.last_error or "") if node.state == "down" else ""))
        self.balancer.changed(node, self.now())
        if self._waiters:
            self._wake()

    # ------------------------------------------------------------------ waiting for one

    async def ready(self, deadline_at: float | None, *, wait: bool, waiting_max: int | None = None, name: str = "") -> None:
        """Wait until a node takes calls, or may be probed by one.

        Args:
            wait: go on until the deadline; otherwise it is over when no node is left to hope for.
            waiting_max: how many may wait, this one included.
        Raises: Unavailable, ProtocolError, Overloaded, DeadlineExceeded; all surely not executed. Cancel: loses nothing.
        """
        nodes = self.balancer.nodes
        bound = self._config.waiting_max if waiting_max is None else waiting_max
        if len(self._waiters) >= bound:
            self._emit(CallHeldBack(name, "queue"))
            raise held_back(f"{bound} calls wait for a connection already")
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline_at):
                while not self.balancer.ready:
                    if waiter.done():
                        self._waiters.remove(waiter)
                        waiter = self._loop.create_future()
                        self._waiters.append(waiter)
                    if self._closed:
                        raise Unavailable("the client is closed")
                    if len(nodes) == 1:
                        await self._only(next(iter(nodes.values())), waiter, wait=wait)
                        continue
                    if not wait:
                        self._refuse_if_hopeless()
                    for node in nodes.values():
                        if node.target.session is None:
                            node.target.begin()
                    if not await self._woken(waiter):
                        return
        except TimeoutError as error:
            if isinstance(error, HoldfastError):
                raise
            where = next(iter(nodes)) if len(nodes) == 1 else f"any of {len(nodes)} nodes"
            raise DeadlineExceeded(f"no connection to {where} before the deadline", executed="no") from self._last_error()
        finally:
            self._waiters.remove(waiter)

    async def _only(self, node: Node, waiter: asyncio.Future[None], *, wait: bool) -> None:
        """Wait for the only node, or until others take its place. Raises: why it cannot be connected, unless we are to wait on."""
        dialer: Dialer = node.target
        if dialer.session is not None:
            if not wait:
                self._refuse_if_hopeless()
            await waiter  # for what it says next
            return
        if not wait:
            dialer.refuse_if_down()
        attempt = dialer.begin()
        either: list[asyncio.Future[Any]] = [attempt, waiter]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        error = attempt.exception() if attempt.done() else None
        if error is not None and not wait and self.balancer.nodes.get(node.key) is node:
            raise error

    async def _woken(self, waiter: asyncio.Future[None]) -> bool:
        """Wait until something is another way; False when a node that is kept out may be probed, which the next pick does."""
        connected = any(node.state == "ready" for node in self.balancer.nodes.values())
        probe_at = self.balancer.wake_at if connected else math.inf
        if probe_at <= self.now():
            return False
        timer = self._loop.call_at(probe_at, self._wake) if probe_at < math.inf else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
        return True

    def _refuse_if_hopeless(self) -> None:
        """Raise when no node is left that may take calls by itself before somebody's pause is over."""
        dialers: list[Dialer] = [node.target for node in self.balancer.nodes.values()]
        if not dialers and self.resolved:
            raise Unavailable("no node is known: the source of addresses names none")
        if not dialers and self._resolver.last_error:
            raise Unavailable(f"no node is known yet: {self._resolver.source}: {self._resolver.last_error}")
        down = [dialer for dialer in dialers if dialer.state == "down"]
        refusing = [node.key for node in self.balancer.nodes.values() if node.state == "ready" and not node.draining]
        if len(down) + len(refusing) < len(dialers) or not dialers:
            return
        if down:
            min(down, key=lambda dialer: dialer.next_attempt_at or 0.0).refuse_if_down()
        else:
            raise Unavailable(f"{', '.join(refusing[:3])}: connected, and not taking calls at the moment")

    def _last_error(self) -> HoldfastError | None:
        errors = [node.target.last_error for node in self.balancer.nodes.values()]
        return next((error for error in errors if error is not None), None)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ an attempt

    async def send(self, request: Request) -> Reply:
        """Make one attempt, at one node. Raises: what it ended with. Cancel: it is cancelled on the wire too."""
        now = started = self.now()
        trial, key, why = request.trial, request.key, ""
        while True:
            if trial is None:
                node = self.balancer.pick(now, key, tuple(request.tried))
            else:
                node, trial.compared, why = self.balancer.explain(now, key, tuple(request.tried))
            if node is not None:
                break
            await self.ready(request.deadline_at, wait=request.wait_for_ready, waiting_max=request.waiting_max, name=request.info.name)
            now = self.now()
        era = node.begin(now)
        request.tried.append(node)
        if trial is not None and request.record is not None:
            trial.node, trial.why, trial.queue_s = node.key, why if now == started else f"{why}, waited", now - started
            trial.sent_s = now - request.record.began_at
        try:
            reply: Reply = await node.target.send(request)
        except HoldfastError as error:
            self.settle(node, now, era, error)
            raise
        except BaseException:
            node.let_go(now, self.now(), era)
            raise
        if reply.stream is not None:
            follow(self, node, now, era, reply)
        else:
            self.answered(node, now, self.now(), era)
        return reply

    def answered(self, node: Node, started: float, now: float, era: int) -> None:
        """An attempt was answered."""
        node.pending -= 1
        if started > self.lagged_at:
            node.observe(now - started, now)
        else:
            node.heard_at = now if node.pending else math.inf
        node.gate.succeeded(now, era)
        if self.lag_due == math.inf:
            self.watch_lag(now)

    def settle(self, node: Node, started: float, era: int, error: HoldfastError) -> None:
        """An attempt failed: what that says of the node stands in the outcome table."""
        now = self.now()
        outcome = classify(error)
        signal = outcome.breaker
        if signal == "success":
            node.succeeded(started, now, era)
        elif signal == "failure" or signal == "overload":
            by_load = outcome.limit == "dropped"
            excused = by_load and not self._closed and self._load_of().overloaded(node, now, self._ejector)
            overload = signal == "overload"
            node.failed(started, now, era, retry_after_s=error.retry_after_s, overload=overload, by_load=by_load, excused=excused)
        else:
            node.let_go(now if outcome.latency == "nothing" else started, now, era)

    # ------------------------------------------------------------------ nodes, or load

    def late(self, node: Node, now: float) -> bool:
        """An attempt at `node` has used up its share of the deadline. Return whether that is so at most nodes: another would, too."""
        return self._load_of().late(node, now)

    def strained(self, now: float) -> bool:
        """Whether most nodes are overloaded."""
        return self._load is not None and self._load.strained(now)

    def _load_of(self) -> Load:
        made = self._load
        if made is None:
            made = self._load = Load(self._config.strain, self.balancer, self._wheel, self._emit, self._unearned)
        return made

    # ------------------------------------------------------------------ looking after them

    def _look_after(self, now: float) -> None:
        """Have the nodes looked at when the ejector or the members have something to do."""
        due = self._members.next_at
        if len(self.balancer.nodes) > 1:
            if self._ejector is None:
                self._ejector = Ejector(self._config.eject, self._emit, now=now)
            due = min(due, self._ejector.next_at)
        if due < self._sweep_due and not self._closed:
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
            self._sweep_due = due
            self._sweep_timer = self._wheel.at(due, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        self._sweep_due = math.inf
        now = self.now()
        if now >= self._members.next_at and self._members.tick(now):
            self._use(now)
        if self._ejector is not None and self._load is not None and self._load.excused(now):
            self._load.excuse(now, self._ejector)
        elif self._ejector is not None:
            swept = self._ejector.sweep(list(self.balancer.nodes.values()), now)
            for node in [ejection.node for ejection in swept.ejected] + list(swept.back):
                self.balancer.changed(node, now)
        self._look_after(now)

    def watch_lag(self, now: float) -> None:
        """Look in a moment whether the loop is late."""
        self.lag_due = now + LAG_EVERY_S
        self._wheel.at(self.lag_due, self._lag)

    def _lag(self) -> None:
        now = self.now()
        if now - self.lag_due > LAG_S:
            self.lagged_at = now
        self.lag_due = math.inf

    # ------------------------------------------------------------------ from outside

    def status(self) -> list[NodeStatus]:
        """How each node in use is, now."""
        now = self.now()
        return [_status_of(node, now) for node in self.balancer.nodes.values()]

    def poke(self) -> None:
        """Look for nodes again, and connect now to those that are down."""
        self._resolver.poke()
        for node in self.balancer.nodes.values():
            node.target.poke()

    def close(self) -> None:
        """No attempt begins any more."""
        self._closed = True
        if self._load is not None:
            self._load.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._wake()


def _status_of(node: Node, now: float) -> NodeStatus:
    dialer: Dialer = node.target
    gate = node.gate
    next_at = dialer.next_attempt_at
    return NodeStatus(
        node.key,
        dialer.state,
        now - dialer.since,
        str(dialer.last_error or ""),
        None if next_at is None else max(0.0, next_at - now),
        gate.state if isinstance(gate, Breaker) else "closed",
        max(0.0, node.ejected_until - now),
        node.pending,
        node.cost,
        node.load,
        node.attempts,
        node.failures,
    )
