"""How many connections a node has, and which of them are to go.

One connection carries a thousand calls, so one is what a node gets; another is made when it is full (gRPC A105), or to have one warm
beside it. None lives for ever: after half an hour, more or less, it is replaced, so that calls find new nodes behind an address and an
old server comes free (algorithms.md 2.18). And none is used that the server may be closing at that moment because nothing went over it:
we let go of it earlier than it would.

The order is always *replacement first*: a connection that is too old goes when what it carries finds room on the others, and until then it
is used as ever. Only where the server itself goes away (GOAWAY) there is nothing to wait for: that connection does not count as one from
then on, so another is opened at once.

Owns: the rules. What is true of the connections is read from them each time, and nothing is remembered in between, so there is nothing
that can be wrong after a cancel. What may never happen here: an await, a clock, a connection opened or closed; a node left without a
connection by its rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from ..clock import Rng
from ..errors import ConfigError

CONNECTIONS_LIMIT = 10
AGAIN_S = 1.0
"""How often it is looked whether a connection that is too old can be let go of yet."""

DRAINING_MAX = 10
"""Of one node. A server that sends us away again and again would otherwise have us keep any number of connections with an open stream."""


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections to a node, and for how long.

    Attributes:
        connections_max: of one node, not counting those that drain and one that replaces another. 1: a connection takes 1,024 calls, and
            more connections are more heartbeats and handshakes for a server that many clients use. At most 10 (gRPC A105).
        connections_min: as many are kept although there are no calls: no call then waits for a handshake, and a node that is gone is
            noticed before a call is. Those beyond the first are warm spares. 0 connects only when a call waits.
        age_s: after this long it is replaced. 30 minutes. `age_jitter` is the share by which that differs, up or down, or all clients that
            came back together after an outage would come back together for ever.
        grace_s: how long a connection that is to go may take for the calls it has; then it is closed, and they end as lost. 60: only
            streams take longer.
        idle_s: of more connections than `connections_min`, one that was not used for so long is closed. 60: a burst rarely comes back
            after a minute.
    Raises: ConfigError naming the field that makes no sense.
    """

    connections_max: int = 1
    connections_min: int = 1
    age_s: float = 1800.0
    age_jitter: float = 0.1
    grace_s: float = 60.0
    idle_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.connections_max <= CONNECTIONS_LIMIT:
            raise ConfigError(f"connections_max={self.connections_max!r}: expected 1 to {CONNECTIONS_LIMIT}")
        if not 0 <= self.connections_min <= self.connections_max:
            raise ConfigError(f"connections_min={self.connections_min!r}: expected 0 to connections_max={self.connections_max}")
        for name in ("age_s", "grace_s", "idle_s"):
            if not 0.1 <= getattr(self, name) <= 30 * 86_400:
                raise ConfigError(f"{name}={getattr(self, name)!r}: expected 0.1 to {30 * 86_400} seconds")
        if not 0 <= self.age_jitter <= 0.5:
            raise ConfigError(f"age_jitter={self.age_jitter!r}: expected a share from 0 to 0.5")


DEFAULT_CONFIG = PoolConfig()


class SessionView(Protocol):
    """A connection as the rules see it.

    Attributes:
        opened_at: since when it takes calls.
        retire_at: when it is too old: what `PoolRules.retire_at` returned when it was opened.
        open_calls, calls_max: how many calls it has, and how many it may have.
        last_used_at: when a call began or ended on it last; `opened_at` when none did.
        draining_at: since when it takes no new calls, by a GOAWAY or because it was retired; inf while it takes them.
    """

    opened_at: float
    retire_at: float
    open_calls: int
    calls_max: int
    last_used_at: float
    draining_at: float


class Action(NamedTuple):
    """What to do, with which session (None to open one), and why.

    `open`: begin to connect. `retire`: no new calls go there, `draining_at` is now. `close`: now, whatever is open on it.
    """

    do: Literal["open", "retire", "close"]
    session: Any
    reason: str


class PoolRules:
    """What is to be done about the connections of one node.

    Attributes:
        server_idle_s: after how much silence the server closes a connection, as it says when we connect; inf when it says nothing.
    """

    __slots__ = ("_config", "_rng", "server_idle_s")

    def __init__(self, config: PoolConfig, rng: Rng) -> None:
        self._config = config
        self._rng = rng
        self.server_idle_s = math.inf

    def retire_at(self, opened_at: float) -> float:
        """Throw the dice for one connection: when it is too old."""
        config = self._config
        return opened_at + config.age_s * self._rng.uniform(1 - config.age_jitter, 1 + config.age_jitter)

    def decide(self, now: float, sessions: Sequence[SessionView], *, opening: int = 0, waiting: int = 0) -> list[Action]:
        """Return what to do now; do all of it before asking again. Ask when a session opened, ended, began to drain or filled up, and at
        `next_at`.

        Args:
            sessions: all that are open, those that drain as well.
            opening: how many are being connected, or wait for their next attempt.
            waiting: calls that wait for a connection.
        """
        actions, live = self._close(now, sessions)
        config = self._config
        count = len(live) + opening
        aged = min((each for each in live if each.retire_at <= now), key=lambda each: each.retire_at, default=None)
        if aged is not None:
            others = [each for each in live if each is not aged]
            needed = max(config.connections_min, 1 if aged.open_calls else 0)
            if len(others) >= needed and _room(others) >= aged.open_calls:
                actions.append(Action("retire", aged, "age"))
                live, count = others, count - 1
            elif not opening and count <= config.connections_max:
                actions.append(Action("open", None, "age"))
                opening, count = 1, count + 1
        while count < config.connections_min:
            actions.append(Action("open", None, "warm"))
            opening, count = opening + 1, count + 1
        if not opening and count < config.connections_max and _room(live) == 0 and (live or waiting):
            actions.append(Action("open", None, "full" if live else "called"))
        return actions

    def next_at(self, now: float, sessions: Sequence[SessionView]) -> float:
        """Return when to decide again although nothing happened, inf for never. To be asked after a decision was carried out."""
        config = self._config
        spare = sum(1 for each in sessions if each.draining_at == math.inf) > config.connections_min
        soonest = math.inf
        for each in sessions:
            if each.draining_at < math.inf:
                at = each.draining_at + config.grace_s
            else:
                at = each.retire_at
                if each.open_calls == 0:
                    at = min(at, each.last_used_at + self._idle_s(spare=spare))
            soonest = min(soonest, at if at > now else now + AGAIN_S)
        return soonest

    def _close(self, now: float, sessions: Sequence[SessionView]) -> tuple[list[Action], list[SessionView]]:
        """Close what is over. Returns that, and the sessions that take calls."""
        actions: list[Action] = []
        draining = sorted((each for each in sessions if each.draining_at < math.inf), key=lambda each: each.draining_at)
        for index, each in enumerate(draining):
            if each.open_calls == 0:
                actions.append(Action("close", each, "drained"))
            elif now >= each.draining_at + self._config.grace_s:
                actions.append(Action("close", each, f"{each.open_calls} calls were not over after {self._config.grace_s:g} s"))
            elif len(draining) - index > DRAINING_MAX:
                actions.append(Action("close", each, f"more than {DRAINING_MAX} connections drain"))
        live = [each for each in sessions if each.draining_at == math.inf]
        for each in sorted(live, key=lambda each: each.last_used_at):
            spare = len(live) > self._config.connections_min
            if each.open_calls == 0 and now >= each.last_used_at + self._idle_s(spare=spare):
                actions.append(Action("close", each, "idle"))
                live = [other for other in live if other is not each]
        return actions, live

    def _idle_s(self, *, spare: bool) -> float:
        """After how much silence we let go of a connection: a spare one when we please, each one before the server does.

        What we send when it is about to close arrives too late. A second before, or a tenth of its time, is enough; of a server that gives
        it less than two seconds, half of that.
        """
        server_s = self.server_idle_s
        before_s = max(server_s / 2, server_s - max(1.0, server_s / 10)) if server_s < math.inf else math.inf
        return min(self._config.idle_s, before_s) if spare else before_s


def _room(sessions: Sequence[SessionView]) -> int:
    return sum(max(0, each.calls_max - each.open_calls) for each in sessions)
