"""What a world of the fleet campaign is like beyond its faults: nodes and their moods, clients and all their policies, drawn from the seed.

Owns: the draw. Policies are drawn independently of each other, each off, in shadow or enforced, with numbers that a few dozen calls can
reach: a breaker of one failure, a budget without a floor, a queue of two.

What may never happen here: a draw from anything but the streams of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from msgspec.structs import replace as replaced

import holdfast
from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.balance.members import MembersConfig
from holdfast.balance.picker import PICKER_NAMES
from holdfast.balance.pool import PoolConfig
from holdfast.balance.resolve import ResolveConfig
from holdfast.control.budget import BudgetConfig
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.limit import LimitConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.rpc.dialer import DialConfig
from holdfast.sim import World
from holdfast.wire import Settings
from tests.sim.spine.drawing import pick

from .truth import PATH

NODES = ("n0", "n1", "n2", "n3", "n4")
ROCK = "rock"
"""A node that no fault and no mood touches; in most worlds it is there."""

HOSTS = ("ada", "bob")
QUIET = "eve"
"""A host of clients that no fault touches."""

CALM_AT_S = 6.0
BEGIN_S = 0.4
PORT = 7000


@dataclass(frozen=True, kw_only=True)
class Op:
    """One thing a client does.

    Attributes:
        key: names the call, in arguments and in the log of executions. what: the method.
        nap_s: how long the handler takes. items: of a stream.
        deadline_s: None for ever. cancel_s: when the caller is cancelled.
    """

    key: str
    at_s: float
    what: str
    nap_s: float = 0.0
    items: int = 0
    deadline_s: float | None = 10.0
    cancel_s: float | None = None
    attempts: int = 3
    wait: bool = False
    hedge: bool = True
    explain: bool = False
    hashed: bool = False
    fallback: bool = False
    once: bool = False
    waiting_max: int | None = None

    def __str__(self) -> str:
        words = [f"{self.what} {self.key} at {self.at_s:.3f} s"]
        for name in ("nap_s", "items", "deadline_s", "cancel_s", "attempts", "waiting_max"):
            value = getattr(self, name)
            if value:
                words.append(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}")
        return " ".join([*words, *(name for name in ("wait", "explain", "hashed", "fallback", "once") if getattr(self, name))])


@dataclass(frozen=True, kw_only=True)
class Party:
    """One client: where it runs, its policies and what it does."""

    name: str
    host: str
    config: holdfast.ClientConfig
    ops: tuple[Op, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Mood:
    """How a node is for a while; see `service.begun`."""

    node: str
    at_s: float
    until_s: float
    kind: str
    number: float


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A whole world.

    Attributes:
        nodes: the hosts that serve. named: those that clients know of, at first and after each change of the file.
        source: `list`, `file` or `dns`.
        servers: what each node is told. drains: when each goes down politely, and comes back.
        capacity: places to work in and seconds of work, for all nodes; None without a bound.
    """

    nodes: tuple[str, ...]
    source: str
    named: tuple[tuple[float, tuple[str, ...] | None], ...]
    servers: dict[str, holdfast.ServerConfig]
    parties: tuple[Party, ...]
    moods: tuple[Mood, ...]
    drains: dict[str, tuple[float, ...]]
    capacity: tuple[int, float] | None
    tells_calls: bool

    @property
    def url(self) -> str:
        """Where the clients look for nodes."""
        if self.source == "file":
            return f"file://{PATH}"
        if self.source == "dns":
            return f"dns+tcp://fleet:{PORT}"
        return ",".join(address_of(node) for node in self.nodes)


def address_of(node: str) -> str:
    """Of a node, as the clients are told."""
    return f"tcp://{node}:{PORT}"


def draw(world: World) -> Draw:
    """The world of this seed."""
    rng: Any = world.rng.stream("fleet")
    recipe = pick(rng, [_free, _free, _free, _free, _free, _free, _free, _promising, _promising, _ejecting])
    return recipe(rng)


def _free(rng: Random) -> Draw:
    """Anything with anything."""
    nodes = NODES[: pick(rng, [0, 1, 1, 2, 2, 3, 4, 5])]
    if not nodes or rng.random() < 0.7:
        nodes = (*nodes, ROCK)
    source = pick(rng, ["list", "list", "list", "file", "file", "dns"])
    few = rng.random() < 0.3
    kinds = [each for each in KINDS if rng.random() < 0.4] or [pick(rng, KINDS)]
    parties = []
    for number in range(pick(rng, [1, 1, 2])):
        host = QUIET if rng.random() < 0.5 else HOSTS[number % 2]
        ops = _ops(rng, f"c{number}", kinds)
        parties.append(Party(name=f"c{number}", host=host, config=_client(rng), ops=ops, seed=rng.getrandbits(32)))
    frail = [node for node in nodes if node != ROCK]
    return Draw(
        nodes=nodes,
        source=source,
        named=_named(rng, nodes, source),
        servers={node: _server(rng, few) for node in nodes},
        parties=tuple(parties),
        moods=tuple(_moods(rng, frail)),
        drains={node: tuple(sorted(rng.uniform(0.5, CALM_AT_S) for _ in range(pick(rng, [0, 0, 0, 1, 2])))) for node in frail},
        capacity=(pick(rng, [1, 3]), pick(rng, [0.005, 0.05])) if rng.random() < 0.2 else None,
        tells_calls=rng.random() < 0.5,
    )


def _promising(rng: Random) -> Draw:
    """All is set up so that no call should fail, while everything but one node does."""
    nodes = (*NODES[: pick(rng, [1, 2, 4])], ROCK)
    drawn, source = _free(rng), pick(rng, ["list", "file", "dns"])
    config = replace(
        drawn.parties[0].config,
        retry=RetryConfig(base_s=0.005, cap_s=0.1),
        budget=BudgetConfig(floor_per_s=pick(rng, [10.0, 100.0])),
        limit=LimitConfig(),
        throttle=ThrottleConfig(mode=pick(rng, ["off", "shadow"])),
        waiting_max=10_000,
        balance=replaced(drawn.parties[0].config.balance, subset_size=20, subset_above=40),
        eject=EjectConfig(mode="off"),
    )
    wish: dict[str, Any] = {
        "attempts": len(nodes),
        "deadline_s": 3.0,
        "cancel_s": None,
        "once": False,
        "fallback": False,
        "waiting_max": None,
    }
    ops = [replace(op, **wish, nap_s=min(op.nap_s, 0.1)) for op in _ops(rng, "c0", ("echo", "doze", "timed"))]
    party = Party(name="c0", host=QUIET, config=config, ops=tuple(ops), seed=rng.getrandbits(32))
    moods = [*_moods(rng, NODES[: len(nodes) - 1]), *_moods(rng, NODES[: len(nodes) - 1])]
    for node in nodes[:-1] if rng.random() < 0.7 else ():  # all but the rock turn calls away, for long
        moods.append(  # noqa: PERF401 # each draws in its turn
            Mood(node=node, at_s=1.0, until_s=rng.uniform(2.0, 6.0), kind=pick(rng, ["refusing", "stuck"]), number=0.0)
        )
    servers = {node: replace(_server(rng, False), drain_s=5.0) for node in nodes}
    named = _named(rng, nodes, source)
    return replace(
        drawn, nodes=nodes, source=source, named=named, servers=servers, parties=(party,), moods=tuple(moods), drains={}, capacity=None
    )


def _ejecting(rng: Random) -> Draw:
    """Many quick calls, and a node that is worse than its peers, with nobody but the ejector to notice."""
    drawn, nodes = _free(rng), NODES[: pick(rng, [4, 5])]
    config = replace(
        drawn.parties[0].config,
        breaker=BreakerConfig(mode="off"),
        throttle=ThrottleConfig(mode="off"),
        limit=LimitConfig(),
        balance=BalanceConfig(picker=pick(rng, ["round_robin", "random"]), slow_start_s=0.0),
        eject=EjectConfig(mode=pick(rng, ["enforce", "enforce", "shadow"]), interval_s=1.0, base_s=0.5, failures_min=2),
    )
    wish = _wish(rng) | {"nap_s": 0.001, "deadline_s": 1.0, "attempts": 2, "cancel_s": None, "waiting_max": None}
    ops = tuple(_op(rng, f"c0-{number}", BEGIN_S + number / 30, "echo", wish) for number in range(160))
    party = Party(name="c0", host=QUIET, config=config, ops=ops, seed=rng.getrandbits(32))
    mood = Mood(node="n1", at_s=0.5, until_s=rng.uniform(2.0, 5.5), kind=pick(rng, ["failing", "refusing"]), number=0.0)
    servers = {node: _server(rng, False) for node in nodes}
    named = ((0.0, nodes),)
    return replace(
        drawn, nodes=nodes, source="list", named=named, servers=servers, parties=(party,), moods=(mood,), drains={}, capacity=None
    )


def _named(rng: Random, nodes: tuple[str, ...], source: str) -> tuple[tuple[float, tuple[str, ...] | None], ...]:
    """Which nodes the source names, from when on; None while it cannot be read. In the end it names all of them."""
    if source == "list":
        return ((0.0, nodes),)
    named: list[tuple[float, tuple[str, ...] | None]] = []
    for at_s in (0.0, *sorted(rng.uniform(0.5, CALM_AT_S) for _ in range(pick(rng, [0, 1, 2, 4])))):
        some = tuple(each for each in nodes if each == ROCK or rng.random() < 0.6)
        named.append((at_s, some or None))
    return (*named, (CALM_AT_S, nodes))


def _moods(rng: Random, frail: Sequence[str]) -> list[Mood]:
    if not frail or rng.random() < 0.3:
        return []
    kinds = [each for each in MOODS if rng.random() < 0.4] or [pick(rng, MOODS)]
    found = []
    for _ in range(pick(rng, [1, 2, 4])):
        at_s = rng.uniform(BEGIN_S, CALM_AT_S - 0.5)
        kind = pick(rng, kinds)
        number = {"slow": pick(rng, [10.0, 100.0]), "refusing": pick(rng, [0.0, 0.0, 0.2])}.get(kind, 0.0)
        until_s = min(CALM_AT_S, at_s + pick(rng, [0.3, 1.0, 5.0]))
        found.append(Mood(node=pick(rng, frail), at_s=at_s, until_s=until_s, kind=kind, number=number))
    return found


MOODS = ("slow", "failing", "refusing", "stuck")


def _server(rng: Random, few: bool) -> holdfast.ServerConfig:
    return holdfast.ServerConfig(
        handlers_max=pick(rng, [1, 2, 1000]) if few else 1000,
        drain_s=pick(rng, [0.1, 1.0, 5.0]),
        cancel_grace_s=pick(rng, [0.05, 1.0]),
        wire=Settings(heartbeat_s=pick(rng, [0.5, 1.0, 5.0]), open_calls_max=pick(rng, [2, 16]) if few else 1024),
    )


def _mode(rng: Random) -> Any:
    return pick(rng, ["enforce", "enforce", "enforce", "shadow", "off"])


def _client(rng: Random) -> holdfast.ClientConfig:
    subset_size, subset_above = pick(rng, [(20, 40), (20, 40), (2, 3), (1, 2)])
    return holdfast.ClientConfig(
        dial=DialConfig(connect_s=pick(rng, [0.5, 2.0]), base_s=pick(rng, [0.02, 0.1]), cap_s=pick(rng, [0.2, 1.0, 4.0]), useful_s=1.0),
        retry=RetryConfig(base_s=pick(rng, [0.005, 0.025]), cap_s=pick(rng, [0.1, 1.0]), beside=rng.random() < 0.8),
        budget=BudgetConfig(
            mode=_mode(rng),
            share=pick(rng, [0.0, 0.2, 0.2, 1.0]),
            floor_per_s=pick(rng, [0.0, 0.5, 10.0]),
            ttl_s=pick(rng, [1.0, 2.0, 10.0]),
        ),
        hedge=HedgeConfig(mode=pick(rng, ["off", "enforce", "enforce", "shadow"]), extra=0.1, min_s=0.001),
        breaker=BreakerConfig(
            mode=_mode(rng),
            in_row=pick(rng, [1, 2, 5]),
            calls_min=pick(rng, [2, 20]),
            open_base_s=pick(rng, [0.1, 0.5, 5.0]),
            open_cap_s=pick(rng, [5.0, 10.0]),
        ),
        throttle=ThrottleConfig(
            mode=_mode(rng),
            window_s=pick(rng, [1.0, 5.0, 120.0]),
            calls_min_per_s=pick(rng, [0.0, 0.0, 5.0]),
            requests_per_accept=pick(rng, [1.1, 2.0]),
            recovered_after=pick(rng, [5, 20]),
        ),
        limit=_limit(rng),
        balance=BalanceConfig(
            picker=pick(rng, ["p2c", "p2c", *PICKER_NAMES]),
            subset_size=subset_size,
            subset_above=subset_above,
            panic_share=pick(rng, [0.0, 0.0, 0.5, 1.0]),
            slow_start_s=pick(rng, [0.0, 1.0, 30.0]),
        ),
        eject=EjectConfig(
            mode=_mode(rng), interval_s=pick(rng, [0.3, 1.0, 10.0]), window_max_s=60.0, base_s=pick(rng, [0.5, 30.0]), failures_min=2
        ),
        members=MembersConfig(removal_window_s=pick(rng, [0.0, 1.0, 30.0])),
        resolve=ResolveConfig(
            refresh_s=pick(rng, [0.5, 2.0]), poke_min_s=0.2, poke_max_s=1.0, failed_base_s=0.1, failed_cap_s=1.0, file_poll_s=0.2
        ),
        pool=pick(rng, [PoolConfig(), PoolConfig(), PoolConfig(age_s=1.0, grace_s=0.5)]),
        waiting_max=pick(rng, [1, 3, 10_000, 10_000]),
        explain_every=pick(rng, [0, 1, 1, 3]),
        stack=pick(rng, [None, None, None, _same]),
        wire=Settings(heartbeat_s=pick(rng, [0.5, 1.0, 5.0])),
        closing_s=pick(rng, [0.1, 2.0]),
    )


def _same(stack: Any) -> Any:
    """An edited stack is always walked, even if the edit changes nothing."""
    return stack


def _limit(rng: Random) -> LimitConfig:
    low = pick(rng, [1, 4])
    return LimitConfig(
        mode=pick(rng, ["off", "off", "enforce", "enforce", "shadow"]),
        kind=pick(rng, ["fixed", "fixed", "aimd", "gradient", "vegas"]),
        limit=pick(rng, [1, 3, 100]),
        limit_min=low,
        limit_max=50 * low,
        queue_max=pick(rng, [0, 2, 1000]),
        per_method=pick(rng, [{}, {"fleet.doze": 1, "fleet.nap": 2}]),
    )


KINDS = ("echo", "doze", "doze", "put", "nap", "refuse", "timed", "count", "collect")
"""Each world has some of them: a mixture of everything is always the same mixture."""


def _ops(rng: Random, name: str, kinds: Sequence[str]) -> tuple[Op, ...]:
    """Some calls here and there, or many of one kind one after the other: hedging and ejection need a history."""
    shape = pick(rng, ["some", "some", "burst", "steady", "steady"])
    if shape == "some":
        moments = [rng.uniform(BEGIN_S, CALM_AT_S) for _ in range(pick(rng, [5, 15]))]
    elif shape == "burst":
        moments = [pick(rng, [0.6, 1.0, 3.0]) + rng.uniform(0, 0.02) for _ in range(pick(rng, [10, 25]))]
    else:
        rate = pick(rng, [5.0, 10.0, 20.0])
        moments = [BEGIN_S + number / rate for number in range(int((CALM_AT_S - BEGIN_S) * rate))]
    wish = _wish(rng)
    same = shape == "steady" and rng.random() < 0.7
    return tuple(
        _op(rng, f"{name}-{number}", at_s, pick(rng, kinds), wish if same else _wish(rng)) for number, at_s in enumerate(sorted(moments))
    )


def _wish(rng: Random) -> dict[str, Any]:
    """What a caller wants of a call."""
    return {
        "nap_s": pick(rng, [0.0, 0.001, 0.02, 0.1]) if rng.random() < 0.9 else pick(rng, [0.5, 2.0]),
        "items": pick(rng, [0, 1, 3, 12]),
        "deadline_s": pick(rng, [0.005, 0.05, 0.2, 1.0, 3.0, 3.0, 3.0, 10.0, None]),
        "cancel_s": pick(rng, [0.0, 0.0005, 0.004, 0.02, 0.1, 0.5]) if rng.random() < 0.12 else None,
        "attempts": pick(rng, [1, 2, 3, 3, 6, 6]),
        "wait": rng.random() < 0.3,
        "hedge": rng.random() < 0.9,
        "explain": rng.random() < 0.3,
        "hashed": rng.random() < 0.3,
        "fallback": rng.random() < 0.1,
        "once": rng.random() < 0.1,
        "waiting_max": pick(rng, [0, 1, 3]) if rng.random() < 0.1 else None,
    }


def _op(rng: Random, key: str, at_s: float, what: str, wish: dict[str, Any]) -> Op:
    return Op(key=key, at_s=at_s, what=what, **wish)
