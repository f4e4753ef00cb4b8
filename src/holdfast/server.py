"""The roof over the answering side: configuration, `serve`, and the order in which a server opens and closes.

Only this file knows together: services, router, sessions, listeners. Order of refusals per call, cheapest first (`rpc/responder.py`):
method ▸ deadline ▸ handlers' slots ▸ arguments ▸ handler.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any

import msgspec

from .clock import Clock, Streams, SystemClock, wall_s
from .config import ServerConfig
from .control.wheel import Wheel
from .errors import ConfigError, Unavailable
from .facts import Draining, Emit, Listening, Stopped, discard
from .net import link as net_link
from .net.address import Address, parse_address
from .net.hosted import Hosted, ProtocolFactory, check_factory, endpoints_gone, listen_for_datagrams
from .net.network import KernelNetwork
from .net.refusals import RefusalFold
from .net.secure import HOLDFAST, check_tls, secure_server
from .net.timing import LoopTimer
from .net.trust import TlsConfig, TlsContexts
from .rpc.desk import Desk
from .rpc.responder import ResponderSession
from .rpc.router import Route, Router, make_route
from .rpc.session import SessionShared
from .service import Service
from .tasks import Scope
from .wire import ByteBudget, frames
from .wire.status import TEXT_MAX


class ServerStats(msgspec.Struct, frozen=True):
    """A server at one moment."""

    connections: int
    running: int
    threads_busy: int
    draining: bool


class ListenerInfo(msgspec.Struct, frozen=True):
    """One listener. `options` as read back from the kernel, by the names of `ListenOptions`; what the system has not is missing."""

    address: str
    options: Mapping[str, object]


class Server:
    """Answers calls to services. Make it with `serve`; use it as an async context manager."""

    def __init__(
        self,
        services: Sequence[Service],
        factory: ProtocolFactory | None,
        bind: Sequence[Address],
        config: ServerConfig,
        clock: Clock,
        rng: Streams,
        emit: Emit,
        network: net_link.Network | None,
        tls: TlsConfig | None,
    ) -> None:
        self._services = services
        self._factory = factory
        self._bind = bind
        self._config = config
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._network = network
        self._tls = tls
        self._contexts: TlsContexts | None = None
        self._listeners: list[net_link.Listening] = []
        self._sessions: dict[ResponderSession | Hosted, None] = {}
        self._strangers: OrderedDict[ResponderSession, None] = OrderedDict()
        self._empty: asyncio.Future[None] | None = None
        self._stack = AsyncExitStack()
        self._states: dict[str, Mapping[type, Any]] = {}
        self._desk: Desk | None = None
        self._closing: asyncio.Future[None] | None = None
        self._cut = False

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
        wheel = self._wheel(loop)
        instance = self._rng.secret("instance").getrandbits(128).to_bytes(16)
        settings = msgspec.structs.replace(config.wire, instance=instance)
        told = RefusalFold(self._emit, wheel)
        self._stack.callback(told.close)
        shared = SessionShared(
            loop,
            wheel,
            told,
            settings,
            ByteBudget(config.assembly_max_bytes),
            cancels_per_s=config.cancels_per_s,
            pings_per_s=config.pings_per_s,
            checksum=config.checksum,
        )
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
            explain_to=config.explain_to,
        )
        await self._open_services()
        network = self._secured(self._network if self._network is not None else KernelNetwork(scope.spawn, wheel), wheel)

        def make_session() -> ResponderSession | Hosted:
            session: ResponderSession | Hosted
            if self._cut:  # it was accepted before, and nobody is left to close it
                raise Unavailable("the server is closed")
            if self._factory is None:
                session = ResponderSession(shared, desk, self._session_closed)
                self._strangers[session] = None
            else:
                session = Hosted(self._factory, self._emit, "server", is_draining=lambda: desk.draining, on_closed=self._session_closed)
            self._sessions[session] = None
            return session

        when_full = None if self._factory is not None else net_link.WhenFull(self._make_room, partial(frames.pack_refusal, frames.FULL))
        for address in self._bind:
            if self._factory is not None and address.scheme == "udp":
                listening: net_link.Listening = await listen_for_datagrams(network, address, self._factory, config.datagrams, self._emit)
            else:
                listening = await network.listen(address, make_session, config.listen, told, when_full)
            self._listeners.append(listening)
            self._emit(Listening(str(listening.address)))

    def _secured(self, network: net_link.Network, wheel: Wheel) -> net_link.Network:
        protocols = HOLDFAST if self._factory is None else self._tls.alpn if self._tls is not None else ()
        network, self._contexts = secure_server(network, wheel, self._bind, self._tls, protocols, self._emit, wall_s)
        if self._contexts is not None:
            self._stack.callback(self._contexts.close)
        return network

    async def _open_services(self) -> None:
        for service in self._services:
            self._states[service.name] = await self._stack.enter_async_context(service.open())

    def _wheel(self, loop: asyncio.AbstractEventLoop) -> Wheel:
        timer = LoopTimer(loop)
        self._stack.callback(timer.close)  # the last thing there is to close: what still ends does it in time
        return Wheel(self._clock.now, timer.call_at)

    def _make_room(self) -> bool:
        """Cut whoever has been here longest without saying hello; one who has said it is a stranger no more."""
        while self._strangers:
            stranger, _ = self._strangers.popitem(last=False)
            if stranger.evict():
                return True
        return False

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

    def listeners(self) -> tuple[ListenerInfo, ...]:
        """Where and how it listens: each address with the options read back from the kernel."""
        return tuple(ListenerInfo(str(each.address), each.options) for each in self._listeners)

    def stats(self) -> ServerStats:
        """Return what is going on now."""
        desk = self._desk
        if desk is None:
            return ServerStats(0, 0, 0, False)
        return ServerStats(len(self._sessions), desk.running, desk.threads_busy, desk.draining)

    def set_health(self, serving: bool, message: str = "") -> None:
        """Tell every client, now and when it connects, whether this server can do its work.

        Args:
            serving: False while something is missing that calls need. Calls are taken all the same: a client with other servers asks those.
            message: for people: what is missing.
        Raises: ConfigError for a message of more than 256 characters. RuntimeError before the server is open.
        """
        desk = self._desk
        if desk is None:
            raise RuntimeError("the server is not open; use it inside `async with serve(...) as server:`")
        if len(message) > TEXT_MAX:
            raise ConfigError(f"a message of {len(message)} characters; at most {TEXT_MAX} travel")
        desk.serving, desk.message = serving, message
        for session in list(self._sessions):
            session.tell_status()

    def reload_tls(self) -> None:
        """Read certificates, keys and authorities again; new handshakes use them, open connections stay as they are.

        Raises: ConfigError saying what is wrong with the files; the old ones stay in use. RuntimeError before a server with TLS is open.
        """
        if self._contexts is None:
            raise RuntimeError("there is no TLS to reload; the server is not open, or has no tls:// address")
        self._contexts.reload()

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
            self._emit(Draining(sum(len(s.conn.calls) if isinstance(s, ResponderSession) else 1 for s in self._sessions), config.drain_s))
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

    def _session_closed(self, session: ResponderSession | Hosted) -> None:
        self._sessions.pop(session, None)
        if isinstance(session, ResponderSession):
            self._strangers.pop(session, None)
        if not self._sessions and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _shut(self, grace_s: float) -> None:
        """Close everything there is, in reverse order, whatever state it is in. Handlers have `grace_s` to end."""
        self._cut = True
        for listening in self._listeners:
            listening.close()
        for session in list(self._sessions):
            if session.link is not None:
                session.link.abort()
        desk = self._desk
        try:
            if desk is not None:
                await self._sessions_gone(grace_s)  # handlers first: they use what the lifespans hold
                await endpoints_gone(self._listeners, self._config.cancel_grace_s)
                await desk.scope.close(grace_s=self._config.cancel_grace_s)
        finally:
            if desk is not None:
                desk.close()
            await self._stack.aclose()


def serve(
    service: Service | Sequence[Service] | ProtocolFactory,
    *,
    bind: str | Sequence[str],
    insecure: bool = False,
    tls: TlsConfig | None = None,
    config: ServerConfig | None = None,
    emit: Emit = discard,
    network: net_link.Network | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
) -> Server:
    """Return a server for one or more services, or for a protocol of your own; `async with` opens it.

    Args:
        service: one Service, or several; or what makes an `asyncio.Protocol` for each connection: its class, or a function.
        bind: one address or several: `tcp://127.0.0.1:7000`, `tcp://[::1]:0`, `unix:///run/shop.sock`.
        insecure: allow an address that other machines can reach without TLS.
        tls: the certificate for `tls://` addresses, and whom to trust.
        emit: gets every fact the server has to tell.
        network, clock, seed: for tests and simulation.
    Raises: ConfigError that says what to write.
    """
    services = (service,) if isinstance(service, Service) else tuple(service) if isinstance(service, Sequence) else ()
    if not services and isinstance(service, Sequence):
        raise ConfigError("no service to serve; pass one Service, or several")
    if strangers := [type(each).__name__ for each in services if not isinstance(each, Service)]:
        raise ConfigError(
            f"expected Services in the sequence, and got {strangers[0]}; a protocol is passed alone, as its class or a function"
        )
    names = [s.name for s in services]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two services are called {name!r}; rename one")
    addresses = [parse_address(text) for text in ([bind] if isinstance(bind, str) else bind)]
    if not addresses:
        raise ConfigError("no address to listen on; pass bind='tcp://127.0.0.1:7000'")
    factory = None if services else check_factory(service, addresses)
    for address in addresses:
        if address.scheme == "udp" and services:
            raise ConfigError(f"{address} carries datagrams, and a Service needs a connection; use tcp://, tls:// or unix://")
    check_tls(addresses, tls, insecure=insecure, server=True)
    return Server(
        services,
        factory,
        addresses,
        config if config is not None else ServerConfig(),
        clock if clock is not None else SystemClock(),
        Streams(seed),
        emit,
        network,
        tls,
    )
