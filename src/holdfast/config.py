"""Everything a client and a server can be told, on one page.

Owns: the fields, their defaults and what is refused. Every default is bounded and defended where it stands; docs/en/reference/defaults.md
shows them all, and a test compares. What may never happen here: a mechanism; a field that nothing reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from .balance.balancer import BalanceConfig
from .balance.eject import EjectConfig
from .balance.members import MembersConfig
from .balance.pool import PoolConfig
from .balance.resolve import ResolveConfig
from .balance.strain import StrainConfig
from .control.budget import BudgetConfig
from .errors import ConfigError
from .handler import Stack
from .net.link import DatagramOptions, ListenOptions
from .net.options import ConnectOptions
from .policy.breaker import BreakerConfig
from .policy.fallback import Fallback, FallbackConfig
from .policy.hedge import HedgeConfig
from .policy.limit import LimitConfig
from .policy.retry import RetryConfig
from .policy.throttle import ThrottleConfig
from .rpc.dialer import DialConfig
from .rpc.hops import ExplainTo
from .rpc.session import Checksum
from .wire import Settings

__all__ = (
    "BalanceConfig",
    "BreakerConfig",
    "BudgetConfig",
    "ClientConfig",
    "ConnectOptions",
    "DatagramOptions",
    "DialConfig",
    "EjectConfig",
    "Fallback",
    "FallbackConfig",
    "HedgeConfig",
    "LimitConfig",
    "ListenOptions",
    "MembersConfig",
    "PoolConfig",
    "ResolveConfig",
    "RetryConfig",
    "ServerConfig",
    "Settings",
    "StrainConfig",
    "ThrottleConfig",
)

FRAME_MAX_BYTES = 65 * 1024
"""A body of 64 KiB, which people like, and 1 KiB for what stands in front of it: so a message of that size travels whole, not in pieces."""


def _our_settings() -> Settings:
    """What we tell every peer about ourselves, unless we are told otherwise."""
    return Settings(frame_max_bytes=FRAME_MAX_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything a client can be told. Each default is bounded, and defended here.

    Attributes:
        deadline_s: of a call that names none. 10 s: long enough for people, short enough to free what waits.
        dial: connecting and reconnecting.
        retry: back-off between attempts of a call, and attempts beside one another.
        budget: how many attempts beyond the first all calls together may cost.
        hedge: a second attempt for the slowest calls of methods that are idempotent. Off: it costs every server one call in a hundred.
        breaker: of each node.
        throttle: holding calls back that would be refused.
        limit: calls in flight at once. Off.
        fallback: what stands in for the answers of single methods.
        balance: which node takes a call.
        eject: taking out nodes that do much worse than the others.
        strain: telling nodes that are slow from a load that is too high.
        members, resolve: where the set of nodes comes from, and how fast it may change.
        pool: the connections to each node.
        waiting_max: calls that may wait for a connection while there is none. 10,000 hold about 20 MiB; one more is refused.
        explain_every: of so many calls one is explained in a fact, `CallExplained`; 0 for none but those that fail.
        stack: what edits the layers: `lambda stack: stack.replace("retry", mine)`; `holdfast check --stack` prints them.
        wire: what we tell servers about ourselves.
        assembly_max_bytes: large messages being put together, over the connection.
        closing_s: how long `close` waits for what was written to leave.
        checksum: CRC-32 behind every frame, if the server wants it too: `auto` over plain TCP between machines, `always`, `never`.
        connect: how a connection is made, and its socket's options.
    """

    deadline_s: float | None = 10.0
    dial: DialConfig = field(default_factory=DialConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    hedge: HedgeConfig = field(default_factory=HedgeConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    throttle: ThrottleConfig = field(default_factory=ThrottleConfig)
    limit: LimitConfig = field(default_factory=LimitConfig)
    fallback: FallbackConfig = field(default_factory=FallbackConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    eject: EjectConfig = field(default_factory=EjectConfig)
    strain: StrainConfig = field(default_factory=StrainConfig)
    members: MembersConfig = field(default_factory=MembersConfig)
    resolve: ResolveConfig = field(default_factory=ResolveConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    waiting_max: int = 10_000
    explain_every: int = 1000
    stack: Callable[[Stack], Stack] | None = None
    wire: Settings = field(default_factory=_our_settings)
    assembly_max_bytes: int = 256 * 1024 * 1024
    closing_s: float = 2.0
    checksum: Checksum = "auto"
    connect: ConnectOptions = field(default_factory=ConnectOptions)

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ConfigError(f"deadline_s={self.deadline_s!r} must be above 0, or None for no deadline")
        if self.waiting_max < 1:
            raise ConfigError(f"waiting_max={self.waiting_max} must be at least 1")
        if self.explain_every < 0:
            raise ConfigError(f"explain_every={self.explain_every} must be 0 (none) or more calls")
        if self.assembly_max_bytes < self.wire.message_max_bytes:
            raise ConfigError(f"assembly_max_bytes={self.assembly_max_bytes} must hold one message of {self.wire.message_max_bytes} bytes")
        if self.checksum not in get_args(Checksum):
            raise ConfigError(f"checksum={self.checksum!r} must be one of {', '.join(get_args(Checksum))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything a server can be told. Each default is bounded, and defended here.

    Attributes:
        handlers_max: suspended handlers at once; one more is refused with Overloaded. 1,000 waiting coroutines are about 10 MiB.
        threads_max: threads for blocking handlers; `threads_queue_max` more calls may wait for one.
        drain_s: how long `close` lets calls finish. 30 s: what orchestrators give a process.
        cancel_grace_s: how long cancelled handlers may take to clean up.
        assembly_max_bytes: large messages being put together and large answers on their way, over all connections.
        wire: what we tell clients, and hold them to.
        listen: how listeners accept.
        datagrams: the bounds of `udp://` addresses.
        debug: send the text of unexpected exceptions to callers.
        explain_to: who is told, when it asks, which calls its call led to: callers on this machine (`local`), `all` or `nobody`. They learn
            the addresses of what stands behind us.
        cancels_per_s: calls one connection may cancel soon after it opened them, in the long run, each of which costs us a handler's start;
            at once it may cancel ten seconds of them, and twice `wire.open_calls_max` besides. Every answered call pays for one.
        pings_per_s: pings one connection may send, over ten seconds. Our own come after five seconds of silence.
        checksum: CRC-32 behind every frame, if the client wants it too: `auto` over plain TCP between machines, `always`, `never`.
    """

    handlers_max: int = 1000
    threads_max: int = 16
    threads_queue_max: int = 256
    drain_s: float = 30.0
    cancel_grace_s: float = 3.0
    assembly_max_bytes: int = 512 * 1024 * 1024
    wire: Settings = field(default_factory=_our_settings)
    listen: ListenOptions = field(default_factory=ListenOptions)
    datagrams: DatagramOptions = field(default_factory=DatagramOptions)
    debug: bool = False
    explain_to: ExplainTo = "local"
    cancels_per_s: float = 200.0
    pings_per_s: float = 10.0
    checksum: Checksum = "auto"

    def __post_init__(self) -> None:
        for name in ("handlers_max", "threads_max", "threads_queue_max"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("cancels_per_s", "pings_per_s"):
            if not 0.1 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 0.1 a second")
        if self.checksum not in get_args(Checksum):
            raise ConfigError(f"checksum={self.checksum!r} must be one of {', '.join(get_args(Checksum))}")
        if self.explain_to not in get_args(ExplainTo):
            raise ConfigError(f"explain_to={self.explain_to!r} must be one of {', '.join(get_args(ExplainTo))}")
        for name in ("drain_s", "cancel_grace_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more seconds")
        if self.assembly_max_bytes < self.wire.message_max_bytes:
            raise ConfigError(f"assembly_max_bytes={self.assembly_max_bytes} must hold one message of {self.wire.message_max_bytes} bytes")
