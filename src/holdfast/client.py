"""The roof over the calling side: configuration, `connect`, and the client's stack on one page.

Only this file knows together: the policies, the session that sends, the catalogue, and the context that calls inherit from. What a caller
can say (`deadline=`, `attempts=`, a view made by `using`) becomes a Request here, and a Request is all that the layers see. The first
attempt of a unary call whose session is ready needs no layer, and goes to the session straight (`_unary`); a Request is made when it fails.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from .clock import Clock, Streams, SystemClock, wall_s
from .config import ClientConfig
from .context import CURRENT
from .control.wheel import Wheel
from .errors import ConfigError, HoldfastError, InvalidArgument
from .facts import Emit, StreamAbandoned, discard
from .handler import Handler, Placed, Stack
from .net.address import Address, parse_addresses
from .net.link import Network
from .net.network import KernelNetwork
from .net.secure import HOLDFAST, check_tls, secure_client
from .net.trust import TlsConfig
from .policy.retry import Retrier
from .rpc.bound import BoundMethod, bind_methods, deadline_of
from .rpc.caller import OnTrailers, Outcall
from .rpc.catalogue import Catalogue
from .rpc.sender import StreamPlan
from .rpc.session import wire_deadline_ms
from .rpc.streams import Stream
from .rpc.trunk import MakeNetwork, Options, Trunk
from .rpc.validation import MISFITS
from .wire import Replied
from .wire import Status as Status  # for users: what a client and its views hand them
from .wire import Trailers as Trailers

T = TypeVar("T")

Metadata = Mapping[str, str] | None
_UNSET: Any = object()
_NEVER = math.inf


class _Core(Trunk):
    """A trunk with the client's layers on it."""

    def __init__(self, address: Address, config: ClientConfig, clock: Clock, rng: Streams, emit: Emit, make_network: MakeNetwork) -> None:
        super().__init__(address, clock, rng, emit, make_network, config.wire, config.dial, config.assembly_max_bytes, config.checksum)
        self.retrier = Retrier(clock.now, rng.stream("retry"), emit, config.retry)
        self.handler: Handler = client_stack(self.retrier).around(self.once)


def client_stack(retrier: Retrier) -> Stack:
    """The client's layers, in request order. The deadline of a call is fixed above them and enforced by the session's timer below.

    A unary call whose session is ready takes its first attempt without them (`Client._unary`); what fails comes in by `Retrier.after`,
    which is all that the layer does. `tests/test_client.py` holds both ways to be equal.
    """
    return Stack([Placed("retry", retrier.layer, "above the session, so that each attempt may use another one")])


class Client:
    """Calls methods of one service address. Make it with `connect`; use it as an async context manager.

    Entering waits for no server: the first call does, up to its deadline. Methods may be used from any task of the loop it was entered on.
    """

    def __init__(self, enter: Callable[[], _Core], options: Options, config: ClientConfig) -> None:
        self._enter = enter
        self._core_: _Core | None = None
        self._options = options
        self._config = config
        self._default_s: float | None = config.deadline_s if options.deadline is _UNSET else options.deadline
        if self._default_s == math.inf:
            self._default_s = None
        self._default_ms = wire_deadline_ms(self._default_s, 0.0)
        self._parent: Client | None = None

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Client:
        if self._parent is not None:
            raise RuntimeError("a view made by using() has its client's connections; enter the client, then use the view")
        if self._core_ is not None:
            raise RuntimeError("this client was entered already; make another one with connect()")
        self._core_ = self._enter()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Calls that are open end with OutcomeUnknown or Unavailable. Idempotent. Cancel: the rest is aborted."""
        await self._core.close(within_s=self._config.closing_s)

    @property
    def status(self) -> Status | None:
        """What the server said last about how it is; None while there is no connection."""
        session = self._core.dialer.session
        return session.status if session is not None and not session.closed else None

    async def ready(self, *, deadline: float | None = None) -> None:
        """Wait until a server has answered and its catalogue is known.

        Raises: DeadlineExceeded after `deadline` seconds (the view's, or the configured one, when None). Cancel: loses nothing.
        """
        core = self._core
        await core.dialer.ready(self._deadline_at(core.now(), _UNSET if deadline is None else deadline), wait=True)

    async def catalogue(self) -> Catalogue:
        """Return what the server can do, connecting if need be. Raises: Unavailable, DeadlineExceeded. Cancel: loses nothing."""
        core = self._core
        return await self._connected(self._deadline_at(core.now(), _UNSET))

    def using(
        self,
        *,
        deadline: float | None = _UNSET,
        attempts: int | None = None,
        idempotent: bool | None = None,
        wait_for_ready: bool | None = None,
        trailers: OnTrailers | None = None,
    ) -> Client:
        """Return a view: the same connection with other habits.

        Args:
            deadline: seconds for each call; None for ever.
            attempts: how often a call may be sent in all, at least 1.
            idempotent: False treats every method as one that must not run twice. (True cannot widen what the server says.)
            wait_for_ready: wait for a connection until the deadline instead of failing when there is none.
            trailers: ask the server how each call went, and be told its method and `Trailers`: how long it waited and ran there, and how
                loaded the server is. Called on the loop, before the call returns; must not raise.
        Raises: ConfigError.
        """
        if attempts is not None and attempts < 1:
            raise ConfigError(f"attempts={attempts} must be at least 1")
        if deadline is not _UNSET and deadline is not None and not deadline > 0:
            raise ConfigError(f"deadline={deadline!r} must be above 0 seconds, or None for no deadline")
        old = self._options
        options = Options(
            old.deadline if deadline is _UNSET else deadline,
            old.attempts if attempts is None else attempts,
            old.idempotent if idempotent is None else old.idempotent and idempotent,
            old.wait_for_ready if wait_for_ready is None else wait_for_ready,
            old.trailers if trailers is None else trailers,
        )
        view = Client(self._enter, options, self._config)
        view._parent = self._parent or self
        return view

    @property
    def _core(self) -> _Core:
        core = self._core_ if self._parent is None else self._parent._core_
        if core is None:
            raise RuntimeError("the client is not open; use it inside `async with holdfast.connect(...) as client:`")
        return core

    # ------------------------------------------------------------------ calls

    def bind(self, contract: Callable[..., T], /, *, service: str | None = None) -> T:
        """Return an object with the contract's methods, each of which calls the server.

        Args:
            contract: a Protocol (or class) with annotated methods; a stream is a plain `def` that returns AsyncIterator.
            service: the service's name; without it the contract's own, `Shop` becomes `shop`.
        Raises: ConfigError when a method cannot travel, or does not fit the server's (at once if that is known, else at the first call).
        """
        core = self._core_ if self._parent is None else self._parent._core_
        catalogue = core.dialer.catalogue if core is not None else None
        return cast(T, bind_methods(cast("type[Any]", contract), service, catalogue, self._stub))

    def _stub(self, method: BoundMethod) -> Callable[..., Any]:
        if method.streams_out:

            def stream(*args: Any, **kwargs: Any) -> Stream[Any]:
                return self._stream(lambda _: method, method.info.name, args, kwargs, _UNSET, None, None, None)

            return stream
        return functools.partial(self._unary, method, _UNSET, None)

    @overload
    async def call(
        self, method: str, /, *args: Any, returns: type[T], deadline: float | None = ..., metadata: Metadata = ..., **kwargs: Any
    ) -> T: ...
    @overload
    async def call(
        self, method: str, /, *args: Any, returns: Any = ..., deadline: float | None = ..., metadata: Metadata = ..., **kwargs: Any
    ) -> Any: ...
    async def call(
        self,
        method: str,
        /,
        *args: Any,
        returns: Any = Any,
        deadline: float | None = _UNSET,
        metadata: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a method by its name, `shop.place`, and return its result.

        Args:
            returns: the type of the result, validated; without it plain data.
            deadline: seconds, over all attempts; None for ever; without it the view's.
            metadata: strings that travel with the call.
        Raises: the errors of holdfast.errors; each says whether the call was executed.
        Cancel: the call is cancelled at the server too; whether it was executed is unknown.
        """
        core = self._core
        dialer = core.dialer
        if dialer.session is None or not dialer.session.usable:
            now = core.now()
            deadline_at = self._deadline_at(now, deadline)
            await self._connected(deadline_at, method)
            deadline = None if deadline_at is None else max(deadline_at - core.now(), 1e-9)  # connecting took its part of it
        assert dialer.catalogue is not None
        found = core.methods.find(dialer.catalogue, method, returns)
        if found.streams_out:
            raise InvalidArgument(f"{method} answers with a stream; use client.stream({method!r}, ...)")
        return await self._unary(found, deadline, metadata, *args, **kwargs)

    @overload
    def stream(
        self,
        method: str,
        /,
        *args: Any,
        returns: type[T],
        deadline: float | None = ...,
        idle: float | None = ...,
        deadline_total: float | None = ...,
        metadata: Mapping[str, str] | None = ...,
        **kwargs: Any,
    ) -> Stream[T]: ...
    @overload
    def stream(
        self,
        method: str,
        /,
        *args: Any,
        returns: Any = ...,
        deadline: float | None = ...,
        idle: float | None = ...,
        deadline_total: float | None = ...,
        metadata: Mapping[str, str] | None = ...,
        **kwargs: Any,
    ) -> Stream[Any]: ...
    def stream(
        self,
        method: str,
        /,
        *args: Any,
        returns: Any = Any,
        deadline: float | None = _UNSET,
        idle: float | None = None,
        deadline_total: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Stream[Any]:
        """Open a stream of items: an async iterator and an async context manager. Nothing is sent before it is used.

        Args:
            returns: the type of an item.
            deadline: seconds until the first item.
            idle: seconds the reader waits between items; None for ever (the heartbeat notices a dead peer).
            deadline_total: seconds for the whole stream.
        """

        def find(catalogue: Catalogue) -> BoundMethod:
            found = self._core.methods.find(catalogue, method, returns)
            if not found.streams_out:
                raise InvalidArgument(f"{method} gives one result, not a stream; use client.call({method!r}, ...)")
            return found

        return self._stream(find, method, args, kwargs, deadline, idle, deadline_total, metadata)

    # ------------------------------------------------------------------ how a call goes

    async def _unary(self, method: BoundMethod, deadline: Any, metadata: Metadata, /, *args: Any, **kwargs: Any) -> Any:
        core = self._core_
        if core is None:
            core = self._core
        started = core.now()
        ambient = CURRENT.get()
        default_s = self._default_s
        if ambient is None and deadline is _UNSET and default_s is not None:
            deadline_at: float | None = started + default_s
            deadline_ms = self._default_ms
        else:
            deadline_at = self._deadline_at(started, deadline)
            deadline_ms = wire_deadline_ms(deadline_at, started)
        dialer = core.dialer
        if method.compared_with is None or method.compared_with is not dialer.catalogue:
            method.compare(await self._connected(deadline_at, method.info.name))
            deadline_ms = wire_deadline_ms(deadline_at, core.now())  # connecting took its part of it
        if method.uploads:
            return await self._upload(core, method, args, kwargs, deadline_at, metadata, started)
        body = method.codec.encode_args(args, kwargs)
        extra = None if ambient is None and metadata is None else core.beside(metadata)
        options = self._options
        session = dialer.session
        if session is not None and extra is None and options.trailers is None:
            core.number = number = core.number + 1
            future: asyncio.Future[Replied] = core.create_future()
            call = Outcall(0, None, future, _NEVER if deadline_at is None else deadline_at, None, _NEVER, method.info.name, number)
            if session.open_unary(call, method.wire_name, body, method.flags, deadline_ms, number):
                try:
                    replied = await future
                except asyncio.CancelledError:
                    session.give_up(call)
                    core.tell(method.info.name, "cancelled", started)
                    raise
                except HoldfastError as error:
                    call.future = None  # it holds the error, whose traceback holds this call
                    request = core.request(method, body, deadline_at, None, options, None, number)
                    return await core.finished(method, started, request, core.retrier.after(error, request, core.once))
                if replied.raw or core.tells_calls:
                    return core.taken(method, replied, started)
                try:
                    return method.codec.bytes_to_result(replied.body)
                except MISFITS as misfit:
                    raise method.codec.blame_result(misfit) from misfit
        request = core.request(method, body, deadline_at, extra, options, None)
        return await core.finished(method, started, request, core.handler(request))

    async def _upload(
        self, core: _Core, method: BoundMethod, args: Any, kwargs: Any, deadline_at: float | None, metadata: Any, started: float
    ) -> Any:
        """A call that sends a stream. Its items cannot be sent twice, so it does not pass the layers."""
        codec = method.codec
        args, kwargs, source = codec.take_stream(args, kwargs)
        plan = StreamPlan(source, codec.encode_item_in, codec.raw_item_in, False)
        request = core.request(method, codec.encode_args(args, kwargs), deadline_at, core.beside(metadata), self._options, plan)
        return await core.finished(method, started, request, core.once(request))

    def _stream(
        self,
        find: Callable[[Catalogue], BoundMethod],
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        deadline: Any,
        idle: float | None,
        deadline_total: float | None,
        metadata: Any,
    ) -> Stream[Any]:
        async def open_stream() -> Any:
            core = self._core
            now = core.now()
            total_at = None if deadline_total is None else now + deadline_total
            deadline_at = _earlier(self._deadline_at(now, deadline), total_at)
            catalogue = await self._connected(deadline_at, name)
            method = find(catalogue)
            if method.compared_with is not catalogue:
                method.compare(catalogue)
            codec = method.codec
            rest, named, source = codec.take_stream(args, kwargs)
            plan = StreamPlan(source, codec.encode_item_in, codec.raw_item_in, True, idle, total_at)
            body = codec.encode_args(rest, named)
            request = core.request(method, body, deadline_at, core.beside(metadata), self._options, plan)
            reply = await core.until_settled(request, core.handler(request))
            return *reply.stream, codec.decode_item_out

        def abandon(method: str) -> None:
            if self._parent is not None or self._core_ is not None:
                self._core.emit(StreamAbandoned(method))

        return Stream(name, open_stream, abandon)

    def _deadline_at(self, now: float, deadline: Any) -> float | None:
        """What the call says, else the view, else the configuration; and never later than the call we are answering."""
        if deadline is _UNSET:
            deadline = self._default_s
        ambient = CURRENT.get()
        return deadline_of(now, deadline, None if ambient is None else ambient.deadline_at)

    async def _connected(self, deadline_at: float | None, name: str = "") -> Catalogue:
        core = self._core
        return await core.connected(deadline_at, core.retrier, self._options, name)


def _earlier(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def connect(
    addresses: str,
    *,
    insecure: bool = False,
    tls: TlsConfig | None = None,
    attempts: int = 3,
    config: ClientConfig | None = None,
    emit: Emit = discard,
    network: Network | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
) -> Client:
    """Return a client for the service at an address, `tls://shop.example.com:7000`, `tcp://127.0.0.1:7000`, `unix:///run/shop.sock`.

    Args:
        insecure: allow an address beyond this machine without TLS.
        tls: whom a `tls://` address must prove to be, and what we show; without it, what the system trusts.
        attempts: how often a call may be sent in all; only what surely was not executed, or is idempotent, is sent again.
        emit: gets every fact the client has to tell.
        network, clock, seed: for tests and simulation.
    Raises: ConfigError that says what to write.
    """
    parsed = parse_addresses(addresses)
    if len(parsed) != 1:
        raise ConfigError(f"{len(parsed)} addresses: one is what this version connects to")
    check_tls(parsed, tls, insecure=insecure, server=False)
    if attempts < 1:
        raise ConfigError(f"attempts={attempts} must be at least 1")
    config = config if config is not None else ClientConfig()

    def make_network(spawn: Callable[..., asyncio.Task[Any]], wheel: Wheel) -> Network:
        below = network if network is not None else KernelNetwork(spawn, wheel, connecting=config.connect)
        return secure_client(below, wheel, parsed, tls, HOLDFAST, emit, wall_s)

    clock = clock if clock is not None else SystemClock()
    make = functools.partial(_Core, parsed[0], config, clock, Streams(seed), emit, make_network)
    return Client(make, Options(_UNSET, attempts=attempts), config)
