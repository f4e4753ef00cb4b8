"""Keeping calls from a node that fails: a breaker per node, and the one probe that finds out whether it is back.

Two signals trip it, because each is blind where the other sees: so many failures in a row (a dead node, at once) and too small a share of
successes in a window (a node that fails half of the time, once there is enough to judge by). Both are looked at when a failure is
recorded; a success never shuts a node. Source: reference algorithms.md 2.15.

    CLOSED ── trips ──► OPEN until retry_at ── one attempt goes in ──► PROBING ── it succeeds ──► CLOSED, all counts forgotten
                          ▲                                              │
                          ├── it fails: for about twice as long ◄────────┤
                          └── it says nothing: the next may go in ◄──────┘

While most nodes are too slow at once (`balance/strain.py`) a breaker that slowness opened is closed again, and all counts are forgotten.

Owns: that state, and *eras*. An attempt notes at its start in which era it began and says so when it ends; what began before the breaker
last changed its mind says nothing about the node as it is now and is not counted. The probe is an era of its own with one attempt in it:
its number is the token, taken synchronously, so that no two callers can hold it.

What may never happen here: an await outside of the layer, a clock, a second probe, a token that nobody holds and nobody can get.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import msgspec

from ..clock import Rng
from ..control.backoff import equal_jitter
from ..control.window import Window
from ..errors import ConfigError, HoldfastError, Unavailable
from ..facts import BreakerChanged, CallHeldBack, Emit, discard
from ..handler import Handler, Layer, Mode, Reply, Request
from .classify import BreakerSignal, classify

State = Literal["closed", "open", "probing"]

STRAY = -1
"""The era of an attempt that does not count: it went in although the breaker was not closed, and is not the probe."""

BLAME_KEPT = 0.7
"""Of what the failures before say of why it trips, at each one: the last five make up five sixths."""

_NOBODY = -2
"""Where a probe's era would stand: there is no probe."""


class BreakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a node's breaker trips, and for how long.

    Attributes:
        mode: `enforce` keeps calls from the node, `shadow` only counts what it would have kept, `off` never trips.
        in_row: failures one after the other that trip it. 5: a dead node is noticed within as many calls, and a healthy one that fails
            one call in ten has five in a row once in 100,000.
        success_share: with a smaller share of successes in the window it trips. 80 %: what fails more than a fifth of its calls needs
            more retries than the retry budget of 20 % gives.
        calls_min: of fewer calls in the window the share says nothing. 20: then one call more or less moves it by 5 % at most.
        window_s, buckets: the window and how finely it is cut. 30 s in tenths: long enough for 20 calls at one call a second, short
            enough to forget a bad minute, and at most a tenth is forgotten at once.
        open_base_s, open_cap_s: how long it stays open: between half of the base and all of it the first time, twice as long each time a
            probe fails, never more than the cap. 5 s: a process that restarts is back by then; 300 s: a node that is gone for good costs
            one call in some minutes.
    """

    mode: Mode = "enforce"
    in_row: int = 5
    success_share: float = 0.8
    calls_min: int = 20
    window_s: float = 30.0
    buckets: int = 10
    open_base_s: float = 5.0
    open_cap_s: float = 300.0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode={self.mode!r} must be one of {', '.join(get_args(Mode))}")
        for name in ("in_row", "calls_min", "buckets"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be at least 1")
        if not 0 <= self.success_share <= 1:
            raise ConfigError(f"success_share={self.success_share!r} must be between 0 and 1; at 0 it never trips by the share")
        if not 0 < self.window_s < math.inf:
            raise ConfigError(f"window_s={self.window_s!r} must be a finite number of seconds above 0")
        if not 0 < self.open_base_s <= self.open_cap_s < math.inf:
            raise ConfigError(f"open_base_s={self.open_base_s!r} must be above 0 and at most open_cap_s={self.open_cap_s!r}, both finite")


class Breaker(Window):
    """The breaker of one node. It is a window itself, so that counting a success is an addition on this object.

    An attempt that goes to the node does, synchronously, `era = breaker.era or breaker.enter(now)`, keeps the era, and when it ends says
    exactly one of `succeeded`, `failed` and `released`. Where a call of `succeeded` is too dear, this may be written in its place:

        if now >= breaker.rolls_at:
            breaker.roll(now)
        if era == breaker.era:
            breaker.good += 1
            breaker.row = 0
        else:
            breaker.succeeded(now, era)

    Args:
        node: its name, for facts and messages.
        now: when it is made.
        on_change: called with `owner`, synchronously, after each change of `shut` or `retry_at`; may be set later, as `owner` may.

    Attributes:
        shut: calls in the ordinary way are kept out.
        retry_at: while it is open, when one attempt may go in as the probe; inf while one is in there; 0 when it is closed.
        reason: what opened it last.
        era: what an attempt that begins now notes; 0 while the breaker is not closed: then `enter` says. Never 0 for an attempt.
        state, since: closed, open or probing, and since when.
        row: failures in a row.
        mode: off, shadow or enforce.
        enforced: whether it acts: not in shadow, nor while the node is the only one (`alone`).
        trips: how often it opened, failed probes included.
        held: attempts that `admit` kept out.
        would: attempts that it would have kept out, had it been enforced.
    """

    __slots__ = (
        "_blame", "_blame_load", "_config", "_emit", "_eras", "_handed", "_opened", "_rng", "_token", "by_load", "enforced", "era",
        "held", "mode", "node", "on_change", "owner", "reason", "retry_at", "row", "shut", "since", "state", "trips", "would",
    )  # fmt: skip

    def __init__(
        self,
        node: str,
        config: BreakerConfig,
        rng: Rng,
        emit: Emit = discard,
        *,
        now: float = 0.0,
        on_change: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(config.buckets, config.window_s / config.buckets, now=now)
        self.node = node
        self.on_change = on_change
        self.owner: Any = None
        self.state: State = "closed"
        self.since = now
        self.reason = ""
        self.shut = False
        self.retry_at = 0.0
        self.era = 1
        self.row = 0
        self.enforced = config.mode == "enforce"
        self.trips = 0
        self.held = 0
        self.would = 0
        self.mode: Mode = config.mode
        self._config = config
        self._rng = rng
        self._emit = emit
        self._eras = 1
        self._token = _NOBODY  # the probe's era while there is a probe
        self.by_load = False
        self._blame = self._blame_load = 0.0
        self._handed = False  # `probe` took the token, and the attempt it is for has not come in yet
        self._opened = 0  # how often since it was last closed

    def __repr__(self) -> str:
        return f"<Breaker {self.node} {self.state} good={self.good} bad={self.bad} row={self.row}>"

    def alone(self, alone: bool) -> None:
        """Say whether the node is the only one there is. Keeping calls from that would be an outage we make ourselves: it only reports."""
        self.enforced = self.mode == "enforce" and not alone
        shut = self.enforced and self.state != "closed"
        if shut != self.shut:
            self.shut = shut
            if self.on_change is not None:
                self.on_change(self.owner)

    # ------------------------------------------------------------------ going in

    def probe(self, now: float) -> bool:
        """Whether a call may go in as the probe; True takes the one token, which the next `enter` is given."""
        if self.state != "open" or now < self.retry_at:
            return False
        self._eras += 1
        self._token = self._eras
        self._handed = True
        self._become("probing", now, "its time is up", retry_at=math.inf)
        return True

    def enter(self, now: float) -> int:
        """The era of an attempt that goes in while `era` is 0: the probe's when it is due, else STRAY, which shadow counts."""
        if self.era:
            return self.era
        if self._handed or self.probe(now):
            self._handed = False
            return self._token
        if not self.enforced:
            self.would += 1
        return STRAY

    def admit(self, now: float) -> int:
        """Where no balancer asks for `shut`: the era of an attempt that may go in, or 0 for one that may not, which is counted."""
        if self.shut and now < self.retry_at and not self._handed:
            self.held += 1
            return 0
        return self.era or self.enter(now)

    # ------------------------------------------------------------------ coming out

    def succeeded(self, now: float, era: int) -> None:
        """An attempt of that era was answered, well or with an error that is the caller's own."""
        if now >= self.rolls_at:
            self.roll(now)
        if era == self.era:
            self.good += 1
            self.row = 0
        elif era == self._token:
            self._close(now)

    def failed(self, now: float, era: int, *, counts_in_row: bool = True, by_load: bool = False, excused: bool = False) -> None:
        """An attempt of that era failed, and the node is to blame.

        Args:
            counts_in_row: False when the node refused because it has too much to do. That counts in the share and fails a probe, but five
                such in a row are a busy node, not a dead one.
            by_load: it was too slow, or refused; if mostly such trip it, `excuse` closes it again.
            excused: most nodes are too slow: it is not counted. A probe fails all the same, for what opened it was something else.
        """
        if era == self.era:
            if excused:
                return
            if now >= self.rolls_at:
                self.roll(now)
            self.bad += 1
            if counts_in_row:
                self.row += 1
            self._blame = self._blame * BLAME_KEPT + 1.0
            self._blame_load = self._blame_load * BLAME_KEPT + by_load
            self._judge(now)
        elif era == self._token:
            self._open(now, "a probe that failed", by_load=by_load and self.by_load)

    def released(self, now: float, era: int) -> None:
        """An attempt of that era ended and says nothing of the node: it was cancelled, or another was faster, or it never left.

        When it was the probe, the token is free again, and the next attempt may go in at once.
        """
        if era == self._token:
            self._token = _NOBODY
            self._handed = False
            self._become("open", now, "the probe was given up", retry_at=now)

    def ended(self, now: float, era: int, signal: BreakerSignal) -> None:
        """An attempt of that era ended, and the outcome table says this of it. A connection that could not be made has its own back-off."""
        if signal == "success":
            self.succeeded(now, era)
        elif signal == "failure" or signal == "overload":
            self.failed(now, era, counts_in_row=signal == "failure")
        else:
            self.released(now, era)

    def refusal(self, now: float) -> Unavailable:
        """The error for a call that is kept out: since when, and when the next one may try."""
        since = f"the breaker of {self.node} opened after {self.reason}"
        if self.retry_at == math.inf:
            return Unavailable(f"{since}, and a probe is under way; the call was not sent, try again when that has ended")
        left_s = max(0.0, self.retry_at - now)
        ago_s = now - self.since
        return Unavailable(f"{since} {ago_s:.1f} s ago; the call was not sent, try again in {left_s:.1f} s", retry_after_s=left_s)

    # ------------------------------------------------------------------ what changes its mind

    def _judge(self, now: float) -> None:
        config, total = self._config, self.good + self.bad
        by_load = self._blame_load > 0.5 * self._blame
        if self.mode == "off":
            return
        if self.row >= config.in_row:
            self._open(now, f"{self.row} failures in a row", by_load=by_load)
        elif total >= config.calls_min and self.good < config.success_share * total:
            self._open(now, f"{self.good} of {total} calls succeeded in the last {config.window_s:g} s", by_load=by_load)

    def _open(self, now: float, reason: str, *, by_load: bool) -> None:
        open_s = equal_jitter(self._rng, self._opened, base_s=self._config.open_base_s, cap_s=self._config.open_cap_s)
        self._opened += 1
        self._token = _NOBODY
        self.era = 0
        self.trips += 1
        self.by_load = by_load
        self.reason = reason
        self._become("open", now, reason, retry_at=now + open_s, open_s=open_s)

    def excuse(self, now: float) -> bool:
        """Most nodes are too slow at once, so that is not this one's fault: if that is what opened it, it is closed. True when it was."""
        if self.state == "closed" or not self.by_load:
            return False
        self._close(now, "most nodes are too slow: it is the load")
        return True

    def _close(self, now: float, reason: str = "the probe succeeded") -> None:
        self._eras += 1
        self._token = _NOBODY
        self._handed = False
        self.era = self._eras
        self._opened = 0
        self.row = 0
        self.reset()
        self._become("closed", now, reason, retry_at=0.0)

    def _become(self, state: State, now: float, reason: str, *, retry_at: float, open_s: float = 0.0) -> None:
        self.state = state
        self.since = now
        self.retry_at = retry_at
        self.shut = self.enforced and state != "closed"
        if self.on_change is not None:
            self.on_change(self.owner)
        self._emit(BreakerChanged(self.node, state, reason, open_s, self.enforced))


def breaker_layer(breaker: Breaker, now: Callable[[], float], emit: Emit = discard) -> Layer:
    """Return the layer that puts a breaker around whatever reaches one node."""

    def layer(handler: Handler) -> Handler:
        if breaker.mode == "off":
            return handler

        async def send(request: Request) -> Reply:
            """Cancel: the attempt is cancelled; when it was the probe, the next one may be it.

            Raises: Unavailable, surely not executed, when the breaker keeps the call out; `retry_after_s` says when a probe is due.
            """
            at = now()
            era = breaker.admit(at)
            if era <= 0 and not (era and breaker.enforced):
                emit(CallHeldBack(request.info.name, "breaker", breaker.enforced))
            if not era:
                raise breaker.refusal(at)
            signal: BreakerSignal = "ignore"
            try:
                reply = await handler(request)
                signal = "success"
                return reply
            except HoldfastError as error:
                signal = classify(error).breaker
                raise
            finally:
                breaker.ended(now(), era, signal)

        return send

    return layer
