"""The roof over the calling side of somebody else's protocol: `dial`, which connects it, and connects it again.

Only this file knows together: the back-off, the protocol that is hosted, and the network. What it owns is one connection at a time, and at
most one task, which waits to connect again. What may never happen: two connections of one dial; an attempt after somebody closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from .clock import Clock, Rng, Streams, SystemClock, wall_s
from .context import CURRENT
from .control.backoff import equal_jitter
from .control.wheel import Wheel
from .errors import ConfigError, DeadlineExceeded, HoldfastError, Unavailable
from .facts import ConnectFailed, Emit, discard
from .net.address import Address, parse_address
from .net.hosted import Hosted, ProtocolFactory, check_factory
from .net.link import DatagramEndpoint, DatagramOptions, Network
from .net.network import KernelNetwork
from .net.secure import check_tls, secure_client
from .net.trust import TlsConfig
from .rpc.bound import deadline_of
from .rpc.dialer import DialConfig
from .tasks import Scope

S = TypeVar("S", bound=asyncio.Protocol | asyncio.BufferedProtocol)
D = TypeVar("D", bound=asyncio.DatagramProtocol)


class _Dial:
    """One address, one connection at a time; made by `dial`, kept alive by its connection or its task."""

    def __init__(
        self,
        factory: ProtocolFactory,
        address: Address,
        config: DialConfig,
        clock: Clock,
        rng: Rng,
        emit: Emit,
        network: Network | None,
        tls: TlsConfig | None,
        reconnect: bool,
    ) -> None:
        self._factory = factory
        self._address = address
        self._config = config
        self._now = clock.now
        self._rng = rng
        self._emit = emit
        self._reconnect = reconnect
        self._scope = Scope(self._background_error)
        wheel = Wheel(clock.now, asyncio.get_running_loop().call_at)
        below = network if network is not None else KernelNetwork(self._scope.spawn, wheel)
        self._network = secure_client(below, wheel, address.scheme == "tls", tls, tls.alpn if tls is not None else (), emit, wall_s)
        self._current: Hosted | None = None
        self._opened_at = 0.0
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    # ------------------------------------------------------------------ connecting

    async def first(self, deadline_at: float | None) -> Hosted:
        """Connect, trying again until the deadline."""
        reason: list[HoldfastError] = []
        deadline = asyncio.timeout_at(deadline_at)
        try:
            async with deadline:
                return await self._connect(reason)
        except BaseException as error:
            self._ended = True
            if not isinstance(error, TimeoutError) or not deadline.expired():
                raise
            last = reason[0] if reason else None
            raise DeadlineExceeded(f"no connection before the deadline: {last or self._address}", executed="no") from last

    async def endpoint(self, deadline_at: float | None) -> DatagramEndpoint:
        """Open an endpoint of datagrams. There is nobody to answer, so there is nothing to try again."""
        deadline = asyncio.timeout_at(deadline_at)
        make = cast("Callable[[], asyncio.DatagramProtocol]", self._factory)
        try:
            async with deadline:
                return await self._network.datagrams(self._address, make, DatagramOptions(), self._emit, connect=True)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(f"{self._address} was not resolved before the deadline", executed="no") from None

    async def _connect(self, reason: list[HoldfastError]) -> Hosted:
        """Try until there is a connection. `reason` holds why the last attempt came to nothing."""
        while True:
            try:
                return await self._open()
            except Unavailable as error:
                reason[:] = [error]
                backoff_s = self._backoff_s()
                self._emit(ConnectFailed(str(self._address), str(error), backoff_s))
            await asyncio.sleep(backoff_s)

    async def _open(self) -> Hosted:
        made: list[Hosted] = []

        def make_receiver() -> Hosted:
            made.append(Hosted(self._factory, self._emit, "client", on_closed=self._lost, on_asked=self._asked))
            return made[-1]

        await self._network.connect(self._address, make_receiver, timeout_s=self._config.connect_s)
        hosted = self._current = made[-1]
        self._opened_at = self._now()
        if hosted.closed:  # already
            self._lost(hosted)
        return hosted

    def _backoff_s(self) -> float:
        backoff_s = equal_jitter(self._rng, self._failures, base_s=self._config.base_s, cap_s=self._config.cap_s)
        self._failures += 1
        return backoff_s

    # ------------------------------------------------------------------ connecting again

    def _lost(self, hosted: Hosted) -> None:
        """A connection is over. One that was of no use counts as a failure, or a server that only accepts would be hammered."""
        if hosted is not self._current:
            return
        self._current = None
        if self._ended or not self._reconnect:
            return
        if self._now() - self._opened_at >= self._config.useful_s:
            self._failures = 0
        self._task = self._scope.spawn(self._again())

    async def _again(self) -> None:
        await asyncio.sleep(self._backoff_s())
        while True:
            try:
                await self._connect([])
                return
            except Exception as error:  # theirs: of the factory, or of connection_made
                backoff_s = self._backoff_s()
                self._emit(ConnectFailed(str(self._address), f"the protocol failed: {error!r}", backoff_s))
            await asyncio.sleep(backoff_s)

    def _asked(self) -> None:
        """Somebody closed or aborted a transport of ours, of now or before: that was all."""
        if self._ended:
            return
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        if self._current is not None and self._current.transport is not None:
            self._current.transport.close()

    def _background_error(self, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "holdfast dial: a background task failed", "exception": error})


@overload
async def dial(
    factory: Callable[[], S],
    address: str,
    *,
    insecure: bool = ...,
    tls: TlsConfig | None = ...,
    deadline: float | None = ...,
    reconnect: bool = ...,
    config: DialConfig | None = ...,
    emit: Emit = ...,
    network: Network | None = ...,
    clock: Clock | None = ...,
    seed: int | None = ...,
) -> tuple[asyncio.Transport, S]: ...
@overload
async def dial(
    factory: Callable[[], D],
    address: str,
    *,
    insecure: bool = ...,
    tls: TlsConfig | None = ...,
    deadline: float | None = ...,
    reconnect: bool = ...,
    config: DialConfig | None = ...,
    emit: Emit = ...,
    network: Network | None = ...,
    clock: Clock | None = ...,
    seed: int | None = ...,
) -> tuple[asyncio.DatagramTransport, D]: ...
async def dial(
    factory: ProtocolFactory,
    address: str,
    *,
    insecure: bool = False,
    tls: TlsConfig | None = None,
    deadline: float | None = 10.0,
    reconnect: bool = False,
    config: DialConfig | None = None,
    emit: Emit = discard,
    network: Network | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Connect a protocol of your own to an address, and return its transport and the protocol.

    Args:
        factory: what makes an `asyncio.Protocol` (for `udp://` a `DatagramProtocol`): its class, or a function.
        insecure: allow an address beyond this machine without TLS.
        tls: whom a `tls://` address must prove to be, what we show, and which protocols we offer (ALPN).
        deadline: seconds until there is a connection, over all attempts; None for ever. Inside a handler never more than its call has left.
        reconnect: when the connection is lost and nobody here asked for that, connect another protocol from the factory, with back-off,
            until somebody calls `close` or `abort` on a transport of this dial, be it the first or the last one.
        config: back-off, and how long one attempt may take.
        emit: gets every fact the connection has to tell.
        network, clock, seed: for tests and simulation.
    Raises: DeadlineExceeded naming the last reason. Unavailable when datagrams have no way there. ConfigError that says what to write. What
        the factory or `connection_made` raises.
    Cancel: loses nothing; no connection stays open.
    """
    parsed = parse_address(address)
    factory = check_factory(factory, [parsed])
    check_tls([parsed], tls, insecure=insecure, server=False)
    if reconnect and parsed.scheme == "udp":
        raise ConfigError(f"{parsed} carries datagrams: there is no connection that could be lost; leave reconnect out")
    config = config if config is not None else DialConfig()
    clock = clock if clock is not None else SystemClock()
    ambient = CURRENT.get()
    deadline_at = deadline_of(clock.now(), deadline, None if ambient is None else ambient.deadline_at)
    dialled = _Dial(factory, parsed, config, clock, Streams(seed).stream("dial"), emit, network, tls, reconnect)
    if parsed.scheme == "udp":
        endpoint = await dialled.endpoint(deadline_at)
        return endpoint.transport, endpoint.protocol
    hosted = await dialled.first(deadline_at)
    return hosted.transport, hosted.protocol
