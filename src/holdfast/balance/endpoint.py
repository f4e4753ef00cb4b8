"""One node as the balancer sees it: where it is, what state it is in, and how loaded.

Owns: the numbers that a pick reads and an answer writes (calls in flight, the latency estimate), kept in one place because each call
touches all of them. The estimate is a peak EWMA: it jumps to a slow answer at once and forgets it with `tau_s`; a failure counts as a
slow answer, or a node that fails fast would look like the best one (algorithms.md 2.9). All of it is ours alone and never stale.

What may never happen here: an await, a clock, a socket; a node whose `pending` is not given back, by whichever end of an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf
from typing import Any, Literal, Protocol

import msgspec

NodeState = Literal["idle", "connecting", "ready", "draining", "down", "gone"]

TAU_S = 10.0
SEED_S = 1.0
PENALTY_S = 5.0
PENALTY_MAX_S = 300.0
ASKED_MIN_S = 1.0
"""Who refuses in a millisecond and asks for one would look better than any node that works."""
LATENCY_MIN_S = 1e-6
"""An estimate of 0 means that there was no answer yet."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a node is.

    Attributes:
        key: its address as the source gives it, `tcp://10.0.0.7:7000`; one node per key.
        weight: how much of the traffic it should get, beside the others; above 0.
        labels: what the source says besides: zone, version.
    """

    key: str
    weight: float = 1.0
    labels: Mapping[str, str] = {}


class Gate(Protocol):
    """What may keep calls from a node: `policy.breaker.Breaker`. Asked and told synchronously.

    An attempt keeps the *era* it began in, and brings it back when it ends: what began before the gate last changed is not counted.

    Attributes:
        shut: calls in the ordinary way are kept out.
        retry_at: when one call may go in as a probe; inf while one is in there already.
        era: of an attempt that begins now; 0 when `enter` is to be asked for it.
        good, row, rolls_at: counted at a success that is of this era, as `policy.breaker.Breaker` says.
    """

    shut: bool
    retry_at: float
    era: int
    good: int
    row: int
    rolls_at: float

    def alone(self, alone: bool) -> None:
        """Say whether the node is the only one there is: calls are never kept from that."""

    def probe(self, now: float) -> bool:
        """Whether a call may go in as the probe; True takes the one token, which the `enter` of that call is given."""

    def enter(self, now: float) -> int:
        """The era of an attempt that goes in while `era` is 0."""

    def roll(self, now: float) -> None: ...
    def succeeded(self, now: float, era: int) -> None: ...
    def failed(self, now: float, era: int, *, counts_in_row: bool = True, by_load: bool = False, excused: bool = False) -> None: ...
    def excuse(self, now: float) -> bool: ...
    def released(self, now: float, era: int) -> None: ...


class OpenGate:
    """The gate of a node that nothing keeps calls from."""

    __slots__ = ("era", "good", "retry_at", "rolls_at", "row", "shut")

    def __init__(self) -> None:
        self.shut = False
        self.retry_at = 0.0
        self.era = 1
        self.good = 0
        self.row = 0
        self.rolls_at = inf

    def alone(self, alone: bool) -> None:
        """It makes no difference here."""

    def probe(self, now: float) -> bool:
        """Whether a call may go in as the probe: there is no need for one."""
        return False

    def enter(self, now: float) -> int:
        """The era of an attempt that goes in: there is one for ever."""
        return self.era

    def roll(self, now: float) -> None:
        """Nothing grows old here."""

    def succeeded(self, now: float, era: int) -> None:
        """An attempt went well."""

    def failed(self, now: float, era: int, *, counts_in_row: bool = True, by_load: bool = False, excused: bool = False) -> None:
        """An attempt did not."""

    def excuse(self, now: float) -> bool:
        """There is nothing to excuse."""
        return False

    def released(self, now: float, era: int) -> None:
        """An attempt was given up."""


class Node:
    """A node: its numbers, and whatever reaches it.

    Attributes:
        target: what reaches it; the balancer never looks at it.
        gate: what may keep calls from it.
        state: of its connection; set by whoever owns that, who then calls `Balancer.changed`.
        since: when it came into that state.
        serving, draining, load: what it said of itself last (0 idle to 1 full).
        ejected_until: until when it gets no calls because it does so much worse than the others; 0 when it is not ejected.
        pending: attempts in flight.
        cost: the latency estimate in seconds, as of `stamp`; 0 before its first answer.
        heard_at: when it last answered, or was given a call when it had none; inf while it has none.
        warm_at: when it began to take calls, from which slow start counts; -inf for one that is warm.
        attempts, failures, late, given_up: counted for ever; `late` are the failures by load, and `given_up` the attempts that we let go,
            which say nothing of the node.
        place: where it stands in the balancer's list; the balancer's business.
    """

    __slots__ = (
        "attempts",
        "cost",
        "draining",
        "ejected_until",
        "endpoint",
        "failures",
        "gate",
        "given_up",
        "heard_at",
        "key",
        "late",
        "load",
        "pending",
        "place",
        "serving",
        "since",
        "stamp",
        "state",
        "target",
        "warm_at",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, target: Any = None, gate: Gate | None = None, *, now: float = 0.0) -> None:
        self.endpoint = endpoint
        self.key = endpoint.key
        self.weight = endpoint.weight
        self.target = target
        self.gate: Gate = gate if gate is not None else OpenGate()
        self.state: NodeState = "idle"
        self.since = now
        self.serving = True
        self.draining = False
        self.load = 0.0
        self.ejected_until = 0.0
        self.pending = 0
        self.cost = 0.0
        self.stamp = now
        self.heard_at = inf
        self.warm_at = float("-inf")
        self.attempts = 0
        self.failures = 0
        self.late = 0
        self.given_up = 0
        self.place = -1

    def __repr__(self) -> str:
        return f"<Node {self.key} {self.state} pending={self.pending} cost={self.cost * 1000:.1f} ms>"

    # ------------------------------------------------------------------ an attempt, from both ends

    def begin(self, now: float) -> int:
        """An attempt goes to this node; one of the calls below ends it, exactly once, with the era that this returns."""
        if not self.pending:
            self.heard_at = now
        self.pending += 1
        self.attempts += 1
        return self.gate.era or self.gate.enter(now)

    def succeeded(self, started: float, now: float, era: int) -> None:
        """It was answered, well or with an error that is the caller's own."""
        self.pending -= 1
        self.observe(now - started, now)
        self.gate.succeeded(now, era)

    def failed(
        self,
        started: float,
        now: float,
        era: int,
        *,
        retry_after_s: float | None = None,
        overload: bool = False,
        by_load: bool = False,
        excused: bool = False,
    ) -> None:
        """It failed, and the node is to blame. What a node asks for counts as its latency, a second at least.

        Args:
            overload: it refused, because it has too much to do.
            by_load: that, or it was too slow.
            excused: most nodes are too slow, so it is not to blame for that.
        """
        self.pending -= 1
        self.failures += 1
        penalty_s = PENALTY_S if retry_after_s is None else min(max(retry_after_s, ASKED_MIN_S), PENALTY_MAX_S)
        self.observe(max(now - started, penalty_s), now)
        self.late += by_load
        self.gate.failed(now, era, counts_in_row=not overload, by_load=by_load, excused=excused)

    def let_go(self, started: float, now: float, era: int) -> None:
        """It was given up by us: cancelled, or another attempt was faster. Says nothing but that it took at least so long."""
        self.pending -= 1
        self.given_up += 1
        if now - started > self.cost:
            self.observe(now - started, now)
        elif not self.pending:
            self.heard_at = inf
        self.gate.released(now, era)

    def unsent(self, now: float, era: int) -> None:
        """It was picked and nothing was sent: as if it had not been."""
        self.pending -= 1
        self.attempts -= 1
        if not self.pending:
            self.heard_at = inf
        self.gate.released(now, era)

    def ended(self, now: float, era: int) -> None:
        """A stream whose first item was its answer came to its end."""
        self.pending -= 1
        if not self.pending:
            self.heard_at = inf
        self.gate.succeeded(now, era)

    # ------------------------------------------------------------------ load

    def observe(self, latency_s: float, now: float) -> None:
        """Take a latency into the estimate: a peak at once, anything less in proportion to the time since the last (FIN PeakEwma)."""
        cost = self.cost
        if latency_s < cost and now > self.stamp:
            decay = exp((self.stamp - now) / TAU_S)
            self.cost = cost * decay + latency_s * (1.0 - decay)
        elif latency_s >= cost:
            self.cost = latency_s or LATENCY_MIN_S
        self.stamp = now
        self.heard_at = now if self.pending else inf

    def overdue(self, elapsed_s: float, now: float) -> None:
        """An attempt has been under way for so long and is not over: as good as an answer that slow."""
        if elapsed_s > self.cost:
            self.cost = elapsed_s
            self.stamp = now

    def forget(self, now: float) -> None:
        """It is another one than it was, as far as we know: there is a new connection. It gets one trial call, and is judged by that."""
        self.cost = 0.0
        self.stamp = now
        self.heard_at = now if self.pending else inf

    def score(self, now: float) -> float:
        """How loaded it is: seconds a call would take here, about; the lower the better. Decays while nothing is heard of it.

        An unproven node costs nothing until it has its one trial call, and `SEED_S` a call while that is out. One that has calls and has
        answered none of them for longer than its estimate is as slow as it has been silent: a node that stands still would look the
        better the longer it does.
        """
        pending = self.pending
        if self.cost == 0.0:
            return SEED_S * pending / self.weight
        return self.pace_s(now) * (pending + 1) * (1.0 + self.load) / self.weight

    def pace_s(self, now: float) -> float:
        """How long it takes to answer, about, whatever is in flight; 0 before its first answer."""
        cost, stamp = self.cost, self.stamp
        silent_s = now - self.heard_at
        if silent_s > cost:
            return silent_s
        return cost * exp((stamp - now) / TAU_S) if now > stamp else cost
