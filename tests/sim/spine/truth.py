"""What really happened in a world, kept outside of all its hosts: executions, endings, facts, and the points it came by.

Owns: the ledger that invariants are judged by, and the spies: they watch production code from outside (how a connection fails, what it
holds when it is lost, when writing pauses) and change nothing of what it does.

What may never happen here: an effect on the world. A spy reads and notes; it makes no task, draws no number, and sends nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast import facts
from holdfast.facts import Fact
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.reception import Reception
from holdfast.sim import InvariantBroken, World
from holdfast.sim.cpu import Cpu
from holdfast.wire import Connection, frames
from holdfast.wire.machine import Machine
from holdfast.wire.outbox import Outbox

SOMETIMES = (
    "a call was tried again",
    "a call was executed twice, as it may",
    "an outcome was unknown",
    "the deadline passed in a handler",
    "the handlers were full",
    "the threads were full",
    "a goodbye refused a call",
    "a goodbye was answered with work",
    "a drain ran out of time",
    "a reply in pieces was cut",
    "a call in pieces was given up",
    "a stream got credit again",
    "writing paused",
    "a call waited for its turn",
    "a handshake was too late",
    "a silent peer was given up",
    "a suspect was given up",
    "a client connected again",
    "a server could not be reached",
    "a caller was cancelled",
    "a stream was abandoned",
    "an answer was too large",
    "there was no room to put a message together",
    "everything over TLS",
)
"""Points that a campaign must reach."""

LATE_S = 0.010
"""How long after a deadline somebody may wait."""

HONEST = (frames.GOING, frames.IDLE)
"""Reasons for which an honest peer may hear that a connection ends."""

CUT_SHORT = ("the server closed the connection before it welcomed us",)
"""What is said of a peer that died while it said hello: a fault, and no lie."""


class Truth:
    """The ledger of one world.

    Attributes:
        executed: when each call began, by its key; as often as it did.
        over: how each operation ended, by its key.
        broken: invariants that were seen broken, the first first.
        stage: how far the world is; clients and server look at it. See `campaign.py`.
        moved: counts items that were sent or read, and operations that ended: as long as it grows, something goes on.
        stalls: of each process, from when to when a callback of its was held up by what the world is like, in order.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = world.now
        self.executed: dict[str, list[float]] = {}
        self.over: dict[str, str] = {}
        self.broken: list[InvariantBroken] = []
        self.stage = "storm"
        self.drains = 0
        self.ended: Counter[str] = Counter()
        self.items_read: dict[str, int] = {}
        self.moved = 0
        self.stalls: dict[Cpu, list[tuple[float, float]]] = {}
        self._numbers: dict[str, tuple[str, int]] = {}
        self._points: dict[str, None] = {}

    # ------------------------------------------------------------------------------------------------------------ the ledger

    def begun(self, key: str) -> None:
        """A handler begins, for the call of that key."""
        self.executed.setdefault(key, []).append(self.now())

    def numbered(self, key: str, instance: str, number: int) -> None:
        """What the server was told of the identity of a call: the same over all its attempts, and no other call's."""
        known = self._numbers.setdefault(key, (instance, number))
        self.require(known == (instance, number), "once", f"{key} came as number {number} of {instance}, and before as {known}")
        others = [other for other, each in self._numbers.items() if each == (instance, number) and other != key]
        self.require(not others, "once", f"{key} and {others} both came as number {number} of {instance}")

    def broke(self, error: InvariantBroken) -> None:
        """An invariant is broken."""
        self.broken.append(error)

    def require(self, holds: object, invariant: str, story: str) -> None:
        """Note that an invariant is broken, unless it holds."""
        if not holds:
            self.broke(InvariantBroken(invariant, f"{story} (at {self.now():.6f} s)"))

    def reached(self, point: str) -> None:
        """The world came by a point; noted once."""
        if point not in self._points:
            self._points[point] = None
            self.world.reached(point)

    def in_time(self, who: str, due_at: float | None, what: str = "its end") -> None:
        """Nobody waits past a deadline. What a host is late without a processor, or in callbacks that stall, does not count.

        Args:
            due_at: on the clock of the host that asks; None for never.
        """
        process: Any = self.world._engine.current
        late_s = 0.0 if due_at is None or self.world._engine.over else asyncio.get_running_loop().time() - due_at
        if due_at is not None and late_s > LATE_S:
            since = max(due_at if process.clock is None else process.clock.true_time(due_at), process.stalled_until)
            late_s = min(late_s, self.now() - since) - self.stalled_s(process, since)
            self.require(late_s <= LATE_S, "deadline", f"{who} waited {late_s * 1000:.3f} ms past the deadline, for {what}")

    def stalled_s(self, process: Cpu, since: float) -> float:
        """How long, since that time, callbacks of a process stalled: any number of them may do so in a row."""
        found = 0.0
        for begun_at, over_at in reversed(self.stalls.get(process, ())):
            if over_at <= since:
                break
            found += over_at - max(begun_at, since)
        return found

    async def read_all(self, key: str, items: AsyncIterator[Any], size: int) -> int:
        """Read an upload to its end, as a handler, and look at the order."""
        expected = 0
        async for item in items:
            right = item.key == key and item.number == expected and len(item.body) == size
            self.require(right, "in-order", f"the server expected item {expected} of {key}, got {item.number} of {item.key}")
            expected += 1
            self.moved += 1
        self.items_read[key] = expected
        return expected

    # ----------------------------------------------------------------------------------------------------------------- facts

    def client_emit(self, tells_calls: bool) -> Emitter:
        """The ear of one client."""
        return Emitter(self, tells_calls)

    def heard(self, fact: Fact) -> None:
        """Turn what production says into points. What dead processes say while the world is taken apart is no point."""
        if self.world._engine.over:
            return
        if isinstance(fact, facts.CallRetried):
            self.reached("a call was tried again")
        elif isinstance(fact, facts.HandlerOverran):
            self.reached("the deadline passed in a handler")
        elif isinstance(fact, facts.CallShed):
            point = {"handlers_full": "the handlers were full", "threads_full": "the threads were full"}.get(fact.reason)
            if point is not None:  # `expired` takes more calls in one read than these worlds have
                self.reached(point)
        elif isinstance(fact, facts.ConnectFailed):
            self.reached("a server could not be reached")
            if "did not greet us in time" in fact.reason:
                self.reached("a handshake was too late")
        elif isinstance(fact, facts.ConnectionClosed):
            if fact.reason.startswith("nothing heard for"):
                self.reached("a silent peer was given up")
            elif fact.reason.startswith("a call is overdue"):
                self.reached("a suspect was given up")
        elif isinstance(fact, facts.ConnectionRefused) and "no handshake within" in fact.reason:
            self.reached("a handshake was too late")
        elif isinstance(fact, facts.StreamAbandoned):
            self.reached("a stream was abandoned")
        elif isinstance(fact, facts.Draining) and fact.open_calls:
            self.reached("a goodbye was answered with work")
        elif isinstance(fact, facts.Stopped) and fact.cut:
            self.reached("a drain ran out of time")


class Emitter:
    """An Emit that keeps how many calls of each method ended, and says whether it wants to know."""

    def __init__(self, truth: Truth, tells_calls: bool) -> None:
        self._truth = truth
        self._tells_calls = tells_calls
        self.ended: Counter[str] = Counter()
        self.opened = 0

    def wants(self, kind: type[Fact]) -> bool:
        return self._tells_calls or kind is not facts.CallEnded

    def __call__(self, fact: Fact) -> None:
        if isinstance(fact, facts.CallEnded):
            self.ended[fact.method] += 1
        elif isinstance(fact, facts.ConnectionOpened):
            self.opened += 1
            if self.opened > 1 and fact.side == "client":
                self._truth.reached("a client connected again")
        self._truth.heard(fact)


# ---------------------------------------------------------------------------------------------------------------------- the spies


@contextmanager
def spying(truth: Truth) -> Iterator[None]:
    """Inside, production code is watched."""

    impatient = False

    def fail(self: Any, reason: int, message: str, **how: Any) -> None:
        nonlocal impatient
        impatient = impatient or (self._role == "client" and self.state == "OPENING" and reason == frames.IDLE)
        if impatient and message.startswith("frames came before the WELCOME"):
            return  # the last word of a client that gave up its handshake, read together with its HELLO: true, if not kind
        if self.state != "ERROR" and reason not in HONEST and message not in CUT_SHORT:
            truth.require(False, "honest", f"the {self._role} accuses its peer: {message}")
        if "no handshake within" in message:
            truth.reached("a handshake was too late")

    def lost(self: Any) -> None:
        if self._role == "client" and self.state == "OPEN":
            for call in self.calls.values():
                assembly = call.flow.assembly if call.flow is not None else None
                if assembly is not None and not assembly.item:
                    truth.reached("a reply in pieces was cut")

    def unusable(self: Any, call: Any, message: str, *, too_large: bool) -> None:
        if not too_large:
            truth.reached("there was no room to put a message together")

    def resume(self: Any, flow: Any) -> None:
        if flow.waiting:
            truth.reached("a stream got credit again")

    def cancel(self: Any, call: Any) -> None:
        flow = call.flow
        if call.id in self.calls and flow is not None and flow.outgoing is not None and flow.outgoing.kind == frames.CALL:
            truth.reached("a call in pieces was given up")

    def paused(self: Any) -> None:
        truth.reached("writing paused")

    def gone_away(self: Any, event: Any) -> None:
        if any(number > event.last_call_id for number in self.conn.calls):
            truth.reached("a goodbye refused a call")

    watched: list[tuple[Any, str, Callable[..., Any]]] = [
        (Machine, "fail", fail),
        (Machine, "lost", lost),
        (Machine, "_unusable", unusable),
        (Outbox, "resume", resume),
        (CallerSession, "pause_writing", paused),
        (Reception, "pause_writing", paused),
        (CallerSession, "_gone_away", gone_away),
        (Connection, "cancel", cancel),
    ]
    undo = [_watch(owner, name, spy) for owner, name, spy in watched]
    undo.append(_watch_room(truth))
    if truth.world.options.stall_chance:
        undo.append(_watch_stalls(truth))
    try:
        yield
    finally:
        for each in reversed(undo):
            each()


def _watch(owner: Any, name: str, spy: Callable[..., Any]) -> Callable[[], None]:
    own = owner.__dict__.get(name)
    real = getattr(owner, name)

    def watched(self: Any, *args: Any, **how: Any) -> Any:
        spy(self, *args, **how)
        return real(self, *args, **how)

    setattr(owner, name, watched)
    return lambda: setattr(owner, name, own) if own is not None else delattr(owner, name)


def _watch_room(truth: Truth) -> Callable[[], None]:
    real = CallerSession.room

    async def room(self: Any) -> None:
        truth.reached("a call waited for its turn")
        await real(self)

    CallerSession.room = room  # type: ignore[method-assign]

    def undo() -> None:
        CallerSession.room = real  # type: ignore[method-assign]

    return undo


def _watch_stalls(truth: Truth) -> Callable[[], None]:
    real = Cpu._run
    no_stall_s = 10 * truth.world.options.callback_s

    def run(self: Cpu, handle: Any) -> None:
        real(self, handle)
        handle = None  # as there: an error's traceback would keep its task
        if self._free_at - self.engine.now > no_stall_s:
            truth.stalls.setdefault(self, []).append((self.engine.now, self._free_at))

    Cpu._run = run  # type: ignore[method-assign]

    def undo() -> None:
        Cpu._run = real  # type: ignore[method-assign]

    return undo
