"""The roof over the answering side: configuration, `serve`, and the order in which a server opens and closes.

Only this file knows together: services, router, sessions, listeners. Order of refusals per call, cheapest first (`rpc/responder.py`):
method ▸ deadline ▸ handlers' slots ▸ draining ▸ arguments ▸ handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec

from .clock import Clock, Streams, SystemClock
from .control.wheel import Wheel
from .errors import ConfigError
from .facts import Draining, Emit, Listening, Stopped, discard
from .net import link as net_link
from .net.address import Address, parse_address
from .net.network import KernelNetwork
from .rpc.desk import Desk
from .rpc.responder import ResponderSession
from .rpc.router import Route, Router, make_route
from .rpc.session import SessionShared
from .service import Service
from .tasks import Scope
from .wire import ByteBudget, Settings


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
        debug: send the text of unexpected exceptions to callers.
    """

    handlers_max: int = 1000
    threads_max: int = 16
    threads_queue_max: int = 256
    drain_s: float = 30.0
    cancel_grace_s: float = 3.0
    assembly_max_bytes: int = 512 * 1024 * 1024
    wire: Settings = field(default_factory=Settings)
    listen: net_link.ListenOptions = field(default_factory=net_link.ListenOptions)
    debug: bool = False

    def __post_init__(self) -> None:
        for name in ("handlers_max", "threads_max", "threads_queue_max"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("drain_s", "cancel_grace_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more seconds")
        if self.assembly_max_bytes < self.wire.message_max_bytes:
            raise ConfigError(f"assembly_max_bytes={self.assembly_max_bytes} must hold one message of {self.wire.message_max_bytes} bytes")


class ServerStats(msgspec.Struct, frozen=True):
    """A server at one moment."""

    connections: int
    running: int
    threads_busy: int
    draining: bool


class Server:
    """Answers calls to services. Make it with `serve`; use it as an async context manager."""

    def __init__(
        self,
        services: Sequence[Service],
        bind: Sequence[Address],
        config: ServerConfig,
        clock: Clock,
        rng: Streams,
        emit: Emit,
        network: net_link.Network | None,
    ) -> None:
        self._services = services
        self._bind = bind
        self._config = config
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._network = network
        self._listeners: list[net_link.Listening] = []
        self._sessions: dict[ResponderSession, None] = {}
        self._empty: asyncio.Future[None] | None = None
        self._stack = AsyncExitStack()
        self._states: dict[str, Mapping[type, Any]] = {}
        self._desk: Desk | None = None
        self._closing: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------ opening

    async def __aenter__(self) -> Server:
        """Run the lifespans, then listen. Raises: ConfigError; what a lifespan raises. Cancel: what was opened is closed."""
        if self._desk is not None:
            raise RuntimeError("this server was opened already; make another one with serve()")
        try:
            await self._open()
        except BaseException:
            await self._shut(self._config.cancel_grace_s)
            raise
        return self

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        config = self._config
        for service in self._services:
            service.check()
        router = self._router()
        scope = Scope(self._background_error)
        wheel = Wheel(self._clock.now, loop.call_at)
        instance = self._rng.stream("instance").getrandbits(128).to_bytes(16)
        settings = msgspec.structs.replace(config.wire, instance=instance)
        shared = SessionShared(loop, wheel, self._emit, settings, ByteBudget(config.assembly_max_bytes))
        desk = self._desk = Desk(
            router,
            self._states_of,
            scope,
            self._clock,
            self._emit,
            self._rng.stream("incident"),
            handlers_max=config.handlers_max,
            threads_max=config.threads_max,
            threads_queue_max=config.threads_queue_max,
            debug=config.debug,
        )
        for service in self._services:
            self._states[service.name] = await self._stack.enter_async_context(service.open())
        network = self._network if self._network is not None else KernelNetwork(scope.spawn, wheel)

        def make_session() -> ResponderSession:
            session = ResponderSession(shared, desk, self._session_closed)
            self._sessions[session] = None
            return session

        for address in self._bind:
            listening = await network.listen(address, make_session, config.listen, self._emit)
            self._listeners.append(listening)
            self._emit(Listening(str(listening.address)))

    def _router(self) -> Router:
        routes: list[Route] = [route for service in self._services for route in service.routes()]
        encoded: list[bytes] = []

        def catalogue() -> bytes:
            return encoded[0]

        router = Router([*routes, make_route(catalogue, "holdfast.catalogue", idempotent=True)])
        encoded.append(router.catalogue.encode())
        return router

    def _states_of(self, method: str) -> Mapping[type, Any]:
        return self._states.get(method.partition(".")[0], {})

    def _background_error(self, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "holdfast server: a background task failed", "exception": error})

    # ------------------------------------------------------------------ open

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, with the ports the kernel chose."""
        return tuple(str(listening.address) for listening in self._listeners)

    def stats(self) -> ServerStats:
        """Return what is going on now."""
        desk = self._desk
        if desk is None:
            return ServerStats(0, 0, 0, False)
        return ServerStats(len(self._sessions), desk.running, desk.threads_busy, desk.draining)

    async def wait_closed(self) -> None:
        """Wait until somebody has closed the server. Cancel: loses nothing."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------ closing

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop accepting, tell the peers, let calls finish for at most `drain_s`, then cancel them. Idempotent.

        A second caller waits for the first. Raises: what a lifespan raises at its end. Cancel: what still runs is cut at once.
        """
        desk = self._desk
        if desk is None:
            return
        if desk.draining:  # somebody else is at it
            await self.wait_closed()
            return
        desk.draining = True
        config = self._config
        cut, grace_s = 0, config.cancel_grace_s
        try:
            self._emit(Draining(sum(len(s.conn.calls) for s in self._sessions), config.drain_s))
            for listening in self._listeners:
                listening.close()
            for session in list(self._sessions):
                session.say_goodbye()
            if not await self._sessions_gone(config.drain_s):
                cut = sum(session.cut_off() for session in list(self._sessions))
                await self._sessions_gone(grace_s)
                grace_s = 0.0
        finally:
            try:
                await self._shut(grace_s)
            finally:
                self._emit(Stopped(cut))
                if self._closing is None:
                    self._closing = asyncio.get_running_loop().create_future()
                if not self._closing.done():
                    self._closing.set_result(None)

    async def _sessions_gone(self, within_s: float) -> bool:
        """Wait until every connection is closed and no handler runs; each session closes when its last call is answered."""
        desk = self._desk
        assert desk is not None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                while self._sessions or desk.running:
                    if self._sessions:
                        self._empty = loop.create_future()
                        await self._empty
                    else:
                        desk.idle = loop.create_future()
                        await desk.idle
        except TimeoutError:
            return False
        return True

    def _session_closed(self, session: ResponderSession) -> None:
        self._sessions.pop(session, None)
        if not self._sessions and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _shut(self, grace_s: float) -> None:
        """Close everything there is, in reverse order, whatever state it is in. Handlers have `grace_s` to end."""
        for listening in self._listeners:
            listening.close()
        for session in list(self._sessions):
            if session.link is not None:
                session.link.abort()
        desk = self._desk
        try:
            if desk is not None:
                await self._sessions_gone(grace_s)  # handlers first: they use what the lifespans hold
                await desk.scope.close(grace_s=self._config.cancel_grace_s)
        finally:
            if desk is not None:
                desk.close()
            await self._stack.aclose()


def serve(
    service: Service | Sequence[Service],
    *,
    bind: str | Sequence[str],
    insecure: bool = False,
    config: ServerConfig | None = None,
    emit: Emit = discard,
    network: net_link.Network | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
) -> Server:
    """Return a server for one or more services; `async with` opens it.

    Args:
        bind: one address or several: `tcp://127.0.0.1:7000`, `tcp://[::1]:0`, `unix:///run/shop.sock`.
        insecure: allow an address that other machines can reach without TLS.
        emit: gets every fact the server has to tell.
        network, clock, seed: for tests and simulation.
    Raises: ConfigError that says what to write.
    """
    services = (service,) if isinstance(service, Service) else tuple(service)
    if not services:
        raise ConfigError("no service to serve; pass one Service, or several")
    names = [s.name for s in services]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two services are called {name!r}; rename one")
    addresses = [parse_address(text) for text in ([bind] if isinstance(bind, str) else bind)]
    if not addresses:
        raise ConfigError("no address to listen on; pass bind='tcp://127.0.0.1:7000'")
    for address in addresses:
        if not address.is_local and not insecure:
            raise ConfigError(
                f"{address} can be reached from other machines and has no TLS; "
                "pass insecure=True (or --insecure) if that network is trusted"
            )
    return Server(
        services,
        addresses,
        config if config is not None else ServerConfig(),
        clock if clock is not None else SystemClock(),
        Streams(seed),
        emit,
        network,
    )
