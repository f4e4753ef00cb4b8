"""What a world of the spine campaign is like beyond its faults: limits of both sides, clients, operations, all drawn from the seed.

Owns: the draw. Limits are drawn far apart and independently of each other (a window of 4 KiB beside one of 4 MiB, one open call beside a
thousand): a mistake in flow control shows where two of them disagree, and never in the middle of their ranges.

What may never happen here: a draw from anything but the streams of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import holdfast
from holdfast.net.link import ListenOptions
from holdfast.net.options import ConnectOptions
from holdfast.net.trust import TlsConfig
from holdfast.rpc.dialer import DialConfig
from holdfast.sim import World
from holdfast.wire import Settings

T = TypeVar("T")

PAPERS = Path(__file__).with_name("papers")
"""Ed25519: its signatures have one length, and the sizes of what a world sends are part of its digest."""

HOSTS = ("ada", "bob")
REMOTE = "eve"
"""A host that no fault of the climate touches: so that nothing mends, too early, what cuts it off."""
CALM_AT_S = 6.0
BEGIN_S = 0.3
KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Op:
    """One thing a client does.

    Attributes:
        key: names the call, in arguments and in the log of executions.
        what: the kind; a method of the service, or of the client.
        size, reply: bytes of the argument and of the answer, or of each item.
        items: how many of them.
        nap_s: how long the handler takes, or waits between items.
        read_s: how long the reader waits between items. stop: after how many items the reader leaves, and how.
        deadline_s: None for ever. cancel_s: when the caller is cancelled.
    """

    key: str
    at_s: float
    what: str
    size: int = 0
    reply: int = 0
    items: int = 0
    nap_s: float = 0.0
    read_s: float = 0.0
    stop: int | None = None
    leave: str = "close"
    deadline_s: float | None = 10.0
    total_s: float | None = None
    idle_s: float | None = None
    cancel_s: float | None = None
    attempts: int = 3
    wait: bool = False
    trailers: bool = False
    metadata: bool = False

    def __str__(self) -> str:
        words = [f"{self.what} {self.key} at {self.at_s:.3f} s"]
        for name in ("size", "reply", "items", "nap_s", "read_s", "stop", "deadline_s", "total_s", "idle_s", "cancel_s", "attempts"):
            value = getattr(self, name)
            if value:
                words.append(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}")
        return " ".join([*words, *(name for name in ("wait", "trailers", "metadata") if getattr(self, name))])


@dataclass(frozen=True, kw_only=True)
class Party:
    """One client: where it runs, its limits and what it does."""

    name: str
    host: str
    config: holdfast.ClientConfig
    ops: tuple[Op, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A whole world.

    Attributes:
        tells_calls: whether somebody hears how each call ends, which is another way through the code.
        drains_at_s: when the server goes down politely, and comes back.
        silence_at_s: when the host of the first client is cut off, for so long that only silence can tell; None for never.
        water_server, water_client: how many bytes may wait for a slow reader before writing pauses, and when it goes on; None as shipped.
    """

    url: str
    bind: str
    tls_server: TlsConfig | None
    tls_client: TlsConfig | None
    server: holdfast.ServerConfig
    parties: tuple[Party, ...]
    tells_calls: bool
    drains_at_s: tuple[float, ...]
    silence_at_s: float | None
    water_server: tuple[int, int] | None
    water_client: tuple[int, int] | None
    bandwidth: float | None

    @property
    def security(self) -> dict[str, Any]:
        """What `serve` and `connect` want to be told about an address without TLS."""
        return {} if self.tls_server is not None else {"insecure": True}


def draw(world: World) -> Draw:
    """The world of this seed."""
    rng: Any = world.rng.stream("spine")
    tls = rng.random() < 0.12
    few = rng.random() < 0.5  # half of the worlds have a narrow place
    large = pick(rng, [300, 3_000, 3_000, 12_000, 40_000])
    kinds = [each for each in KINDS if rng.random() < 0.3] or [pick(rng, KINDS)]
    silence_at_s = rng.uniform(0.5, 3.0) if rng.random() < 0.08 else None
    server = _server(rng, few)
    parties = []
    for number in range(pick(rng, [1, 2, 2, 3])):
        name = f"c{number}"
        ops = _ops(rng, name, pick(rng, [3, 6, 10, 14]), large, kinds)
        host = REMOTE if silence_at_s is not None and number == 0 else HOSTS[number % 2]
        parties.append(Party(name=name, host=host, config=_client(rng, few), ops=ops, seed=rng.getrandbits(32)))
    scheme = "tls" if tls else "tcp"
    return Draw(
        url=f"{scheme}://server:7000",
        bind=f"{scheme}://0.0.0.0:7000",
        tls_server=TlsConfig(certificate=PAPERS / "server.pem", reload_s=0) if tls else None,
        tls_client=TlsConfig(trust=PAPERS / "authority.pem") if tls else None,
        server=server,
        parties=tuple(parties),
        tells_calls=rng.random() < 0.5,
        drains_at_s=tuple(sorted(rng.uniform(0.5, CALM_AT_S) for _ in range(pick(rng, [0, 0, 1, 2])))),
        silence_at_s=silence_at_s,
        water_server=pick(rng, WATER),
        water_client=pick(rng, WATER),
        bandwidth=pick(rng, [None, None, None, 60_000.0, 1_000_000.0]),
    )


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of them."""
    return items[rng.randrange(len(items))]


def _wire(rng: Random, few: bool) -> Settings:
    if not few:
        return Settings(heartbeat_s=pick(rng, [0.5, 1.0, 5.0]))
    return Settings(
        frame_max_bytes=pick(rng, [KIB, 2 * KIB, 64 * KIB]),
        message_max_bytes=pick(rng, [8 * KIB, 64 * KIB, 256 * KIB]),
        stream_window_bytes=pick(rng, [4 * KIB, 6 * KIB, 32 * KIB]),
        connection_window_bytes=pick(rng, [4 * KIB, 8 * KIB, 32 * KIB, 1024 * KIB]),
        open_calls_max=pick(rng, [1, 2, 4, 1024]),
        heartbeat_s=pick(rng, [0.5, 1.0, 5.0]),
    )


def _assembly(rng: Random, wire: Settings) -> int:
    return pick(rng, [wire.message_max_bytes, 2 * wire.message_max_bytes, 256 * 1024 * KIB])


def _server(rng: Random, few: bool) -> holdfast.ServerConfig:
    wire = _wire(rng, few)
    return holdfast.ServerConfig(
        handlers_max=pick(rng, [1, 2, 4, 1000]) if few else 1000,
        threads_max=pick(rng, [1, 4]),
        threads_queue_max=pick(rng, [1, 4]),
        drain_s=pick(rng, [0.1, 1.0, 5.0]),
        cancel_grace_s=pick(rng, [0.05, 1.0, 3.0]),
        assembly_max_bytes=_assembly(rng, wire),
        wire=wire,
        listen=ListenOptions(send_buffer_bytes=_buffer(rng), receive_buffer_bytes=_buffer(rng)),
        checksum=pick(rng, ["auto", "always", "never"]),
        debug=rng.random() < 0.2,
    )


def _client(rng: Random, few: bool) -> holdfast.ClientConfig:
    wire = _wire(rng, few and rng.random() < 0.8)
    return holdfast.ClientConfig(
        dial=DialConfig(connect_s=pick(rng, [0.3, 2.0]), base_s=pick(rng, [0.02, 0.1]), cap_s=pick(rng, [0.2, 1.0, 4.0]), useful_s=1.0),
        wire=wire,
        assembly_max_bytes=_assembly(rng, wire),
        closing_s=pick(rng, [0.1, 2.0]),
        checksum=pick(rng, ["auto", "always", "never"]),
        connect=ConnectOptions(send_buffer_bytes=_buffer(rng), receive_buffer_bytes=_buffer(rng)),
    )


def _buffer(rng: Random) -> int | None:
    return pick(rng, [None, None, 4 * KIB, 16 * KIB])


KINDS = ("echo", "put", "nap", "doze", "fail", "refuse", "shed", "plain", "block", "stubborn", "about", "timed", "count", "collect", "both")
KINDS += ("ready", "catalogue", "missing", "block")
"""Each world has some of them: a mixture of everything is always the same mixture."""

WATER = (None, None, None, (2 * KIB, 512), (16 * KIB, 4 * KIB))
STREAMS = ("count", "collect", "both")


def _ops(rng: Random, name: str, many: int, large: int, kinds: Sequence[str]) -> tuple[Op, ...]:
    at_once = rng.random() < 0.4
    moments = [pick(rng, [0.5, 1.0, 3.0]) + rng.uniform(0, 0.01) if at_once else rng.uniform(BEGIN_S, CALM_AT_S) for _ in range(many)]
    return tuple(_op(rng, f"{name}-{number}", at_s, large, pick(rng, kinds)) for number, at_s in enumerate(sorted(moments)))


def _op(rng: Random, key: str, at_s: float, large: int, what: str) -> Op:
    sized = [10, 10, 100, 900, large, large + 1]
    nap_s = pick(rng, [0.0, 0.001, 0.02, 0.1, 0.5, 2.0])
    stop = rng.randrange(1, 12) if what in ("count", "both") and rng.random() < 0.4 else None
    return Op(
        key=key,
        at_s=at_s,
        what=what,
        size=pick(rng, sized),
        reply=pick(rng, sized),
        items=pick(rng, [0, 1, 3, 12, 40]) if what in STREAMS else 0,
        nap_s=min(nap_s, 0.02) if what in STREAMS and rng.random() < 0.8 else nap_s,
        read_s=pick(rng, [0.0, 0.0, 0.01, 0.2]) if what in STREAMS else 0.0,
        stop=stop,
        leave=pick(rng, ["close", "abandon"]),
        deadline_s=pick(rng, [0.0005, 0.005, 0.03, 0.2, 1.0, 3.0, 3.0, 10.0, 10.0, None]),
        total_s=pick(rng, [None, None, 0.05, 1.0]) if what in ("count", "both") else None,
        idle_s=pick(rng, [None, None, 0.05, 1.0]) if what in ("count", "both") else None,
        cancel_s=pick(rng, [0.0, 0.0005, 0.004, 0.02, 0.1, 0.5]) if rng.random() < 0.2 else None,
        attempts=pick(rng, [1, 2, 3, 3, 5]),
        wait=rng.random() < 0.3,
        trailers=rng.random() < 0.3,
        metadata=rng.random() < 0.3,
    )
