"""How many calls may be in flight at once: for a whole client, and for single methods (bulkheads).

A call takes a slot, or waits for one in a queue, first come first served, bounded in length and by the call's deadline, or is refused.
The limit is a number, or moves with how the calls go (`control.gradient`). A method with a bulkhead needs a slot of that first, so that
what waits for a slow method holds no slot that others could use.

Owns: the slots and the queues. Everything happens synchronously in `Slots` and `Turn`, the waiting call only finds out: a slot that comes
free belongs to the next in the queue from that moment, whether it has been woken yet or not. In shadow the very same happens and nobody
waits for it: calls go at once, and those that would have been refused are counted.

What may never happen here: a slot whose owner is not known at every moment; a queue without a bound; a free slot while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, get_args

import msgspec

from ..clock import Rng
from ..control.gradient import SLOW_S, Adaptive, Aimd, Gradient, Vegas, Windowed
from ..errors import ConfigError, DeadlineExceeded, HoldfastError, Overloaded
from ..facts import CallHeldBack, Emit, LimitChanged, discard
from ..handler import Handler, Layer, Mode, Reply, Request, held_back
from .classify import LimitSample, classify

Kind = Literal["fixed", "aimd", "gradient", "vegas"]
Stage = Literal["bulkhead", "limit", "holds", "refused", "expired", "left"]


class LimitConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls may be in flight at once.

    Attributes:
        mode: `off` by default: the deadline, the retry budget and the server's own refusals bound what a client does already, and a number
            that suits everybody does not exist. `shadow` counts what would be refused.
        kind: `fixed`; or moving. Of those `aimd` is the one for clients: it goes by the server's refusals, not by latency, which has many
            causes; `gradient` and `vegas` go by that.
        limit: of the fixed kind. 100: at 10 ms a call that is 10,000 calls a second.
        limit_min, limit_max: of the moving kinds, which begin at the lower one.
        queue_max: calls that wait, for the client and for each bulkhead; one more is refused. 1,000: with 100 slots and 10 ms a call the
            last of them waits a tenth of a second. 0 lets nobody wait.
        per_method: bulkheads: slots of single methods.
    """

    mode: Mode = "off"
    kind: Kind = "fixed"
    limit: int = 100
    limit_min: int = 20
    limit_max: int = 200
    queue_max: int = 1000
    per_method: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode={self.mode!r} must be one of {', '.join(get_args(Mode))}")
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind={self.kind!r} must be one of {', '.join(get_args(Kind))}")
        if self.limit < 1:
            raise ConfigError(f"limit={self.limit!r} must be at least 1 call; mode='off' is no limit")
        if not 1 <= self.limit_min <= self.limit_max:
            raise ConfigError(f"limit_min={self.limit_min!r} must be at least 1 and at most limit_max={self.limit_max!r}")
        if self.queue_max < 0:
            raise ConfigError(f"queue_max={self.queue_max!r} must be 0 or more calls that wait")
        for method, slots in self.per_method.items():
            if slots < 1:
                raise ConfigError(f"per_method[{method!r}]={slots!r} must be at least 1 call")


class Slots:
    """A number of slots, and who waits for one.

    Attributes:
        limit: how many there are.
        free: how many of them nobody has. Above 0 only when nobody waits; below 0 after the limit went down, until as many came back.
        waiting: who waits, the first to come first.
    """

    __slots__ = ("free", "limit", "queue_max", "waiting")

    def __init__(self, limit: int, queue_max: int) -> None:
        self.limit = limit
        self.free = limit
        self.queue_max = queue_max
        self.waiting: dict[Turn, None] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.limit - self.free} of {self.limit} taken, {len(self.waiting)} waiting>"

    def give(self) -> None:
        """Give one back: it goes to the first who waits and can use it."""
        if self.free < 0 or not self._pass_on():
            self.free += 1

    def resize(self, limit: int) -> None:
        """Have another number of them. Those that are taken stay taken."""
        self.free += limit - self.limit
        self.limit = limit
        while self.free > 0 and self._pass_on():
            self.free -= 1

    def _pass_on(self) -> bool:
        """Let the first who waits have a slot; False when nobody does, or nobody can use it."""
        waiting = self.waiting
        while waiting:
            turn = next(iter(waiting))
            del waiting[turn]
            if turn.go_on():
                return True
        return False


class Turn:
    """The way of one call that did not get its slots at once. It has one owner, who says `leave` when the call is over, however it ends.

    Attributes:
        stage: where it stands: waits for a slot of its `bulkhead`, or of the `limit`, or `holds` what it needs; or is `refused`, or has
            `expired`; or has `left`.
        by: what refused it or let it wait too long: `limit` or `bulkhead`.
        deadline_at: until when it waits; None for as long as it takes.
        wake: told when the waiting is over, whatever the end.
    """

    __slots__ = ("_bulkhead", "_limiter", "by", "deadline_at", "method", "stage", "wake")

    def __init__(self, limiter: Limiter, method: str, bulkhead: Slots | None, deadline_at: float | None) -> None:
        self._limiter = limiter
        self._bulkhead = bulkhead
        self.method = method
        self.deadline_at = deadline_at
        self.stage: Stage = "bulkhead"
        self.by = ""
        self.wake: Callable[[], None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it stands in a queue."""
        return self.stage == "bulkhead" or self.stage == "limit"

    def begin(self) -> None:
        """Take what there is, else queue for it, else be refused."""
        bulkhead = self._bulkhead
        if bulkhead is None:
            self.go_on()
        elif bulkhead.free > 0:
            bulkhead.free -= 1
            if not self.go_on():
                bulkhead.free += 1
        else:
            self._queue(bulkhead, "bulkhead")

    def go_on(self) -> bool:
        """A slot that it waited for is there; False when it cannot use it, because the next thing it needs refuses it."""
        slots = self._limiter.slots
        if self.stage == "bulkhead":
            if slots.free <= 0:
                return self._queue(slots, "limit")
            slots.free -= 1
        self._settle("holds")
        return True

    def expire(self) -> None:
        """Its deadline has passed. If it still waits, it has waited in vain."""
        if self.waits:
            self._end("expired")

    def leave(self, now: float) -> None:
        """The call is over, or nobody waits for it any more; what it holds goes to the next."""
        if self.waits and self.deadline_at is not None and now >= self.deadline_at:
            self.expire()
        self._end("left")

    def _queue(self, slots: Slots, by: Literal["bulkhead", "limit"]) -> bool:
        if len(slots.waiting) >= slots.queue_max:
            self.by = by
            self._settle("refused")
            return False
        self.stage = by
        slots.waiting[self] = None
        return True

    def _end(self, stage: Stage) -> None:
        """Give back everything it holds or waits for. The stage changes first: giving lets others go on, who may look."""
        was, bulkhead, slots = self.stage, self._bulkhead, self._limiter.slots
        if was == "bulkhead" or was == "limit":
            self.by = was
        self._settle(stage)
        if was == "bulkhead":
            assert bulkhead is not None
            del bulkhead.waiting[self]
            return
        if was == "limit":
            del slots.waiting[self]
        elif was == "holds":
            slots.give()
        else:
            return
        if bulkhead is not None:
            bulkhead.give()

    def _settle(self, stage: Stage) -> None:
        self.stage = stage
        if stage == "refused" or stage == "expired":
            self._limiter.count(self)
        if self.wake is not None:
            self.wake()


class Limiter:
    """The limit of one client.

    On the way in: `turn = None if limiter.take(method) else await limiter.wait(method, deadline_at)`. On the way out, always:
    `limiter.give(method)` when there is no turn, else `turn.leave(now)`; before it, `learn` if `adaptive` is not None. Where there are no
    `bulkheads`, `if slots.free > 0: slots.free -= 1` is what `take` does, and `slots.free += 1` what `give` does while nobody is `waiting`.

    Args:
        rng: dice of the adaptive kinds.

    Attributes:
        slots: of the client.
        bulkheads: of single methods, by name.
        adaptive: what moves the limit; None when it is fixed.
        mode: off, shadow or enforce; `enforced` is whether it is the last.
        held: calls that were refused, or waited until their deadline.
        would: calls that would have been, had it been enforced.
    """

    __slots__ = ("_emit", "_told", "adaptive", "bulkheads", "enforced", "held", "mode", "slots", "would")

    def __init__(self, config: LimitConfig, rng: Rng, emit: Emit = discard) -> None:
        self._emit = emit
        self.mode = config.mode
        self.enforced = config.mode == "enforce"
        self.held = 0
        self.would = 0
        self.adaptive = _make_adaptive(config, rng)
        limit = config.limit if self.adaptive is None else self.adaptive.limit
        self.slots = Slots(limit, config.queue_max)
        self.bulkheads = {method: Slots(slots, config.queue_max) for method, slots in config.per_method.items()}
        self._told = limit

    def take(self, method: str) -> bool:
        """Take the slots for a call, if they are there at once."""
        slots = self.slots
        if slots.free <= 0:
            return False
        if self.bulkheads:
            bulkhead = self.bulkheads.get(method)
            if bulkhead is not None:
                if bulkhead.free <= 0:
                    return False
                bulkhead.free -= 1
        slots.free -= 1
        return True

    def give(self, method: str) -> None:
        """Give back what `take` took."""
        slots = self.slots
        if slots.waiting:
            slots.give()
        else:
            slots.free += 1
        if self.bulkheads:
            bulkhead = self.bulkheads.get(method)
            if bulkhead is not None:
                bulkhead.give()

    def queue(self, method: str, deadline_at: float | None) -> Turn:
        """Begin the way of a call for which `take` said no."""
        turn = Turn(self, method, self.bulkheads.get(method), deadline_at)
        turn.begin()
        return turn

    async def wait(self, method: str, deadline_at: float | None) -> Turn:
        """Wait for the slots of a call for which `take` said no. In shadow it does not wait.

        Args:
            deadline_at: how long at most, on the loop's clock; None for as long as it takes.
        Returns: the turn, to be left when the call is over.
        Raises: Overloaded when the queue is full; DeadlineExceeded when the deadline came first. Both surely not executed.
        Cancel: the place in the queue is given up, or the slots, if they just came free, to the next.
        """
        turn = self.queue(method, deadline_at)
        if not self.enforced:
            return turn
        if turn.waits:
            loop = asyncio.get_running_loop()
            woken: asyncio.Future[None] = loop.create_future()
            turn.wake = partial(_wake, woken)
            timer = None if deadline_at is None else loop.call_at(deadline_at, turn.expire)
            try:
                await woken
            except BaseException:
                turn.leave(loop.time())
                raise
            finally:
                turn.wake = None
                if timer is not None:
                    timer.cancel()
        if turn.stage != "holds":
            raise self.refusal(turn)
        return turn

    def learn(self, rtt_s: float, now: float, sample: LimitSample) -> None:
        """Move an adaptive limit by a call that ended and still has its slots; `sample` is what the outcome table says of it."""
        adaptive = self.adaptive
        if adaptive is None or sample == "ignore":
            return
        slots = self.slots
        if sample == "dropped":
            adaptive.dropped(rtt_s, slots.limit - slots.free, now)
        elif sample == "took" or rtt_s >= SLOW_S:
            adaptive.answered(rtt_s, slots.limit - slots.free, now)
        if adaptive.limit != slots.limit:
            slots.resize(adaptive.limit)
            if abs(adaptive.limit - self._told) * 10 >= self._told:
                self._told = adaptive.limit
                self._emit(LimitChanged(adaptive.limit, self.enforced))

    def count(self, turn: Turn) -> None:
        """A call was refused, or has waited in vain; or would have."""
        if self.enforced:
            self.held += 1
        else:
            self.would += 1
        self._emit(CallHeldBack(turn.method, turn.by, self.enforced))

    def refusal(self, turn: Turn) -> Overloaded | DeadlineExceeded:
        """The error for a call that was refused, or has waited in vain."""
        slots = self.bulkheads[turn.method] if turn.by == "bulkhead" else self.slots
        what = f"the bulkhead of {turn.method}" if turn.by == "bulkhead" else "this client's limit"
        if turn.stage == "expired":
            return DeadlineExceeded(
                f"{turn.method} was not sent: it waited until its deadline for one of the {slots.limit} slots of {what}; "
                f"call less at once, or give more slots or more time",
                executed="no",
            )
        return held_back(
            f"{turn.method} was not sent: all {slots.limit} slots of {what} are taken and {len(slots.waiting)} calls wait for one "
            f"(queue_max={slots.queue_max}); call less at once, or give more slots"
        )


def _make_adaptive(config: LimitConfig, rng: Rng) -> Adaptive | None:
    low, high = config.limit_min, config.limit_max
    if config.kind == "aimd":
        return Aimd(low, high)
    if config.kind == "gradient":
        return Windowed(Gradient(low, high))
    if config.kind == "vegas":
        return Windowed(Vegas(rng, low, high, limit=low))
    return None


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def limit_layer(limiter: Limiter, now: Callable[[], float]) -> Layer:
    """Return the layer that keeps the calls of a handler within a limit."""

    def layer(handler: Handler) -> Handler:
        if limiter.mode == "off":
            return handler

        async def send(request: Request) -> Reply:
            """Cancel: the call is cancelled, and its slots, or its place in the queue, go to the next.

            Raises: Overloaded or DeadlineExceeded, surely not executed, when it got no slot.
            """
            method = request.info.name
            turn = None if limiter.take(method) else await limiter.wait(method, request.deadline_at)
            began_at = now()
            sample: LimitSample = "ignore"
            try:
                reply = await handler(request)
                sample = "took"
                return reply
            except HoldfastError as error:
                sample = classify(error).limit
                raise
            finally:
                ended_at = now()
                if turn is None or turn.stage == "holds":
                    limiter.learn(ended_at - began_at, ended_at, sample)
                if turn is None:
                    limiter.give(method)
                else:
                    turn.leave(ended_at)

        return send

    return layer
