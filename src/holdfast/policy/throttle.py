"""Holding calls back while the servers refuse most of them anyway.

Owns the count of what was asked and what was accepted over the last two minutes, and the dice. While servers accept at least one call in
`requests_per_accept`, nothing is held back; below that, of what is asked only about so many times as much is sent as they accept:
`p = (asked - K * accepted) / (asked + 1)` are refused here, for nothing, instead of there, at a price. A call held back counts as
asked, and at most `held_back_max` of all are, or nobody would ever learn that the servers are well again.
Source: reference algorithms.md 2.21 (SRE book, with Finagle's floor on the rate and Envoy's cap).

One change: by that formula a service that has come back is throttled for minutes, until the refusals have aged out of the window. Under a
real overload the formula itself settles where one call in K is accepted, so many acceptances one after the other cannot come from that:
after `recovered_after` of them the past is forgotten.

Both are counted when a call has *ended*: counting it as asked when it begins would take slow calls for refused ones. What counts as
accepted stands in the column of `classify`: an answer of INTERNAL does, for it was work.

What may never happen here: a call held back at a low rate, where a few refusals say nothing; a caller held back for good.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import msgspec

from ..clock import Rng
from ..errors import ConfigError, HoldfastError
from ..facts import CallHeldBack, Emit
from ..handler import Handler, Layer, Mode, Reply, Request, held_back
from .classify import CANCELLED, Outcome, classify
from .trial import when_judged

SLOTS = 12


class ThrottleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Holding calls back that would be refused.

    Attributes:
        mode: `shadow` counts in `would` what it would have held back, and holds nothing back.
        requests_per_accept: K: how many calls may be sent for each that is accepted. 2: servers see twice what they can do at most, and
            know by the rest that we want more.
        window_s: how far it looks back, in twelfths. 2 min: longer than any deadline in use, so slow calls do not look refused.
        held_back_max: of all calls, the share that may be held back. 0.8: one in five always goes out to look.
        calls_min_per_s: below this rate it does nothing. 5: fewer tell too little, and hurt nobody.
        recovered_after: accepted calls in a row after which all is forgotten. 20: by chance, at one in two, once in a million calls.
    Raises: ConfigError for numbers that make no sense.
    """

    mode: Mode = "enforce"
    requests_per_accept: float = 2.0
    window_s: float = 120.0
    held_back_max: float = 0.8
    calls_min_per_s: float = 5.0
    recovered_after: int = 20

    def __post_init__(self) -> None:
        if self.mode not in ("off", "shadow", "enforce"):
            raise ConfigError(f"mode={self.mode!r} must be off, shadow or enforce")
        if not 1.1 <= self.requests_per_accept <= 10:
            raise ConfigError(f"requests_per_accept={self.requests_per_accept!r} must be from 1.1 to 10, such as 2")
        if not 1 <= self.window_s <= 3600:
            raise ConfigError(f"window_s={self.window_s!r} must be from 1 to 3600 seconds, and longer than two deadlines")
        if not 0 <= self.held_back_max <= 0.95:
            raise ConfigError(f"held_back_max={self.held_back_max!r} must be from 0 to 0.95: some calls must go out to look")
        if not 0 <= self.calls_min_per_s < math.inf:
            raise ConfigError(f"calls_min_per_s={self.calls_min_per_s!r} must be 0 or more calls a second")
        if self.recovered_after < 5:
            raise ConfigError(f"recovered_after={self.recovered_after!r} must be at least 5 calls, or chance would look like recovery")


class Throttle:
    """Asked before a call goes out (`admit`, unless `calm`), told how it ended (`accepted`, `not_accepted`).

    A call that it held back, or in shadow would have, has no outcome for it: it was counted when it was held back. On the hot path:
    `if not throttle.calm: ...admit...`, and for a success `if now >= throttle.rolls_at: throttle.roll(now)`, `throttle.accepts += 1`,
    `if not throttle.calm: throttle.accepted_again(now)`.

    Attributes:
        calm: nothing would be held back, so `admit` need not be asked. A call that is not accepted may end the calm, and nothing else does:
            what has aged out of the window since is noticed then.
        accepts: accepted calls of the present twelfth of the window.
        rolls_at: when that ends.
        enforced: whether it acts.
        held: calls held back, ever.
        would: calls that would have been, ever: counted in shadow.
    """

    __slots__ = (
        "_accepted",
        "_config",
        "_old_accepted",
        "_old_refused",
        "_refused",
        "_refused_now",
        "_run",
        "_since",
        "_slot",
        "_slot_s",
        "accepts",
        "calm",
        "enforced",
        "held",
        "rolls_at",
        "would",
    )

    def __init__(self, config: ThrottleConfig) -> None:
        self._config = config
        self._slot_s = config.window_s / SLOTS
        self._slot = 0
        self.rolls_at = -math.inf
        self.enforced = config.mode == "enforce"
        self.held = 0
        self.would = 0
        self.accepts = 0
        self.calm = True
        self._refused_now = 0
        self._old_accepted = 0
        self._old_refused = 0
        self._accepted = [0] * (SLOTS - 1)
        self._refused = [0] * (SLOTS - 1)
        self._run = 0  # accepted one after the other, while it was not calm
        self._since = 0

    def admit(self, now: float, rng: Rng) -> bool:
        """Whether a call may go out. In shadow always; `would` goes up when it would have been held back.

        The dice are thrown only when there is something to decide.
        """
        if now >= self.rolls_at:
            self.roll(now)
        chance = self._chance(now)
        self.calm = chance <= 0.0
        if self.calm or rng.random() >= chance:
            return True
        self._refused_now += 1
        if not self.enforced:
            self.would += 1
            return True
        self.held += 1
        return False

    def record(self, outcome: Outcome, now: float) -> None:
        """A call ended so. Not for one that was held back, or would have been."""
        if outcome.throttle == "accepted":
            self.accepted(now)
        elif outcome.throttle == "not_accepted":
            self.not_accepted(now)

    def accepted(self, now: float) -> None:
        """A call was taken on by a server, whatever it answered."""
        if now >= self.rolls_at:
            self.roll(now)
        self.accepts += 1
        if not self.calm:
            self.accepted_again(now)

    def not_accepted(self, now: float) -> None:
        """A call was refused, or ended without a word from a server."""
        if now >= self.rolls_at:
            self.roll(now)
        self._refused_now += 1
        self._run = 0
        self.calm = self._config.mode == "off" or self._chance(now) <= 0.0

    def accepted_again(self, now: float) -> None:
        """The second half of `accepted`, for when it is not calm: see whether that is over."""
        self._run += 1
        if self._run >= self._config.recovered_after:
            self._forget()
        self.calm = self._chance(now) <= 0.0

    def chance(self, now: float) -> float:
        """The share of calls that are to be held back at this moment."""
        if now >= self.rolls_at:
            self.roll(now)
        return self._chance(now)

    def roll(self, now: float) -> None:
        """Begin the twelfth of the window that `now` is in, and forget the one that is too old."""
        slot = math.floor(now / self._slot_s)
        if now >= (slot + 1) * self._slot_s:  # the quotient may be a rounding error short
            slot += 1
        if self.rolls_at == -math.inf:
            self._slot = self._since = slot
        for _ in range(min(slot - self._slot, SLOTS)):
            self._accepted.append(self.accepts)
            self._refused.append(self._refused_now)
            self._old_accepted += self.accepts - self._accepted.pop(0)
            self._old_refused += self._refused_now - self._refused.pop(0)
            self.accepts = self._refused_now = 0
        self._slot = slot
        self.rolls_at = (slot + 1) * self._slot_s

    def _chance(self, now: float) -> float:
        config = self._config
        accepted = self._old_accepted + self.accepts
        asked = accepted + self._old_refused + self._refused_now
        too_many = asked - config.requests_per_accept * accepted
        if too_many <= 0:
            return 0.0
        began = max(self._since, self._slot - SLOTS + 1) * self._slot_s
        if asked < config.calls_min_per_s * max(now - began, self._slot_s):
            return 0.0
        return min(config.held_back_max, too_many / (asked + 1))

    def _forget(self) -> None:
        """Begin anew, with the twelfth that is under way."""
        self._accepted = [0] * (SLOTS - 1)
        self._refused = [0] * (SLOTS - 1)
        self._old_accepted = self._old_refused = self._refused_now = self.accepts = 0
        self._run = 0
        self._since = self._slot


async def counted(throttle: Throttle, now: Callable[[], float], sending: Awaitable[Reply]) -> Reply:
    """Await a call that went out, and tell the throttle how it ended; of a stream that was opened, when that is known.

    Raises: as `sending`. Cancel: counts as asked and not accepted.
    """
    try:
        reply = await sending
    except HoldfastError as error:
        throttle.record(classify(error), now())
        raise
    except asyncio.CancelledError:
        throttle.record(CANCELLED, now())
        raise
    when_judged(reply, lambda outcome: throttle.record(outcome, now()))
    return reply


def throttle_layer(throttle: Throttle, now: Callable[[], float], rng: Rng, emit: Emit) -> Layer:
    """Return the layer that asks `throttle` before each call and tells it how the call ended."""

    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            """Raises: Overloaded, surely not executed, for a call held back. Cancel: counts as asked and not accepted."""
            would = throttle.would
            if not throttle.calm and not throttle.admit(now(), rng):
                emit(CallHeldBack(request.info.name, "throttle"))
                raise held_back(f"{request.info.name}: held back, because the servers refuse most calls at the moment")
            counts = throttle.would == would
            if not counts:
                emit(CallHeldBack(request.info.name, "throttle", enforced=False))
            sending = handler(request)
            return await (counted(throttle, now, sending) if counts else sending)

        return send

    return layer
