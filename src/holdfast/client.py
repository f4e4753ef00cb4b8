"""The roof over the calling side: `connect`, and what a user does with a client.

What a caller can say (`deadline=`, `attempts=`, a view made by `using`) becomes a Request in `calling`, where the client's stack stands on
one page (`calling/stack.py`), and a Request is all that the layers see.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import msgspec

from .calling.core import UNSET, Core
from .calling.nodes import NodeStatus as NodeStatus  # for users, as below
from .calling.path import unary
from .calling.sources import Source
from .clock import Clock, SystemClock, streams_for, wall_s
from .config import ClientConfig
from .context import CURRENT
from .control.wheel import Wheel
from .errors import ConfigError, HoldfastError, InvalidArgument
from .facts import Emit, StreamAbandoned, discard
from .net.link import Network
from .net.network import KernelNetwork
from .net.secure import HOLDFAST, secure_client
from .net.trust import TlsConfig
from .policy.fallback import as_fallback
from .rpc.bound import BoundMethod, bind_methods, deadline_of
from .rpc.catalogue import Catalogue
from .rpc.outcall import OnTrailers
from .rpc.sender import StreamPlan
from .rpc.session import wire_deadline_ms
from .rpc.streams import Stream
from .rpc.trunk import OnRecord, Options
from .wire import Status as Status  # for users: what a client and its views hand them
from .wire import Trailers as Trailers

T = TypeVar("T")
_DEFAULTS = ClientConfig()
_CLOCK = SystemClock()

Metadata = Mapping[str, str] | None


class _Plan(msgspec.Struct, frozen=True):
    """What `connect` was told: all that a core is made of, when the client is entered."""

    source: Source
    config: ClientConfig
    clock: Clock
    seed: int | None
    emit: Emit
    network: Network | None

    def core(self) -> Core:
        """Make the core, on the running loop. Raises: what an edit of the stack raises."""
        rng = streams_for(self.seed, asyncio.get_running_loop())
        return Core(self.source.resolver, self.config, self.clock, rng, self.emit, self._network)

    def _network(self, spawn: Callable[..., asyncio.Task[Any]], wheel: Wheel) -> Network:
        below = self.network if self.network is not None else KernelNetwork(spawn, wheel, connecting=self.config.connect)
        return secure_client(below, wheel, self.source.may_use_tls, self.source.tls, HOLDFAST, self.emit, wall_s)


class Client:
    """Calls methods of one service address. Make it with `connect`; use it as an async context manager.

    Entering waits for no server: the first call does, up to its deadline. Methods may be used from any task of the loop it was entered on.
    """

    def __init__(self, plan: _Plan, options: Options) -> None:
        self._plan = plan
        self._core_: Core | None = None
        self._options = options
        self._default_s: float | None = plan.config.deadline_s if options.deadline is UNSET else options.deadline
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
        self._core_ = self._plan.core()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Calls that are open end with OutcomeUnknown or Unavailable. Idempotent. Cancel: the rest is aborted."""
        await self._core.close(within_s=self._plan.config.closing_s)

    @property
    def status(self) -> Status | None:
        """What the server said last about how it is, the first connected one of many; None while there is no connection."""
        for node in self._core.balancer.nodes.values():
            for session in reversed(node.target.sessions):
                if not session.closed:
                    status: Status = session.status
                    return status
        return None

    @property
    def nodes(self) -> list[NodeStatus]:
        """The nodes in use, and how each is: its state and since when, the last error, the next attempt to connect, its load."""
        return self._core.nodes.status()

    def poke(self) -> None:
        """Look again for nodes, and connect now to those that are down, without waiting for their back-off.

        For whoever knows that something changed: the network is back, the deployment is over.
        """
        self._core.nodes.poke()

    async def ready(self, *, deadline: float | None = None) -> None:
        """Wait until a server has answered and its catalogue is known.

        Raises: DeadlineExceeded after `deadline` seconds (the view's, or the configured one, when None). Cancel: loses nothing.
        """
        core = self._core
        await core.nodes.ready(self._deadline_at(core.now(), UNSET if deadline is None else deadline), wait=True)

    async def catalogue(self) -> Catalogue:
        """Return what the server can do, connecting if need be. Raises: Unavailable, DeadlineExceeded. Cancel: loses nothing."""
        core = self._core
        return await core.connected(self._deadline_at(core.now(), UNSET), self._options)

    def using(
        self,
        *,
        deadline: float | None = UNSET,
        attempts: int | None = None,
        idempotent: bool | None = None,
        wait_for_ready: bool | None = None,
        waiting_max: int | None = None,
        hedge: bool | None = None,
        key: str | None = None,
        fallback: Any = UNSET,
        trailers: OnTrailers | None = None,
        explain: OnRecord | None = None,
    ) -> Client:
        """Return a view: the same connections with other habits.

        Args:
            deadline: seconds for each call; None for ever.
            attempts: how often a call may be sent in all, at least 1.
            idempotent: False treats every method as one that must not run twice. (True cannot widen what the server says.)
            wait_for_ready: wait for a connection until the deadline instead of failing when there is none.
            waiting_max: how many calls may wait for a connection, these included; one more is refused with Overloaded. 0: none waits.
            hedge: False never sends a slow call a second time because it is slow.
            key: what a `hash` picker goes by: calls with the same key go to the same node, as long as it is there and not overloaded.
            fallback: what a call returns when its servers are unavailable, overloaded or too slow, instead of raising. Not for streams.
            trailers: ask the server how each call went, and be told its method and `Trailers`: how long it waited and ran there, and how
                loaded the server is. Called on the loop, before the call returns; must not raise.
            explain: be told the `CallRecord` of each call: which nodes it went to and why, what it waited for. Called as `trailers`.
        Raises: ConfigError.
        """
        if attempts is not None and attempts < 1:
            raise ConfigError(f"attempts={attempts} must be at least 1")
        if deadline is not UNSET and deadline is not None and not deadline > 0:
            raise ConfigError(f"deadline={deadline!r} must be above 0 seconds, or None for no deadline")
        if waiting_max is not None and waiting_max < 0:
            raise ConfigError(f"waiting_max={waiting_max} must be 0 or more calls")
        old = self._options
        said = {
            "deadline": old.deadline if deadline is UNSET else deadline,
            "attempts": attempts,
            "idempotent": None if idempotent is None else old.idempotent and idempotent,
            "wait_for_ready": wait_for_ready,
            "waiting_max": waiting_max,
            "hedge": hedge,
            "key": key,
            "fallback": old.fallback if fallback is UNSET else as_fallback(fallback),
            "trailers": trailers,
            "explain": explain,
        }
        kept = ("deadline",)  # for which None means something
        options = msgspec.structs.replace(old, **{name: value for name, value in said.items() if value is not None or name in kept})
        walks = options.trailers is not None or options.explain is not None or options.key is not None or options.waiting_max is not None
        view = Client(self._plan, msgspec.structs.replace(options, walks=walks or options.fallback is not None))
        view._parent = self._parent or self
        return view

    @property
    def _core(self) -> Core:
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
        catalogue = core.catalogue if core is not None else None
        return cast(T, bind_methods(cast("type[Any]", contract), service, catalogue, self._stub))

    def _stub(self, method: BoundMethod) -> Callable[..., Any]:
        if method.streams_out:

            def stream(*args: Any, **kwargs: Any) -> Stream[Any]:
                return self._stream(lambda _: method, method.info.name, args, kwargs, UNSET, None, None, None)

            return stream
        return functools.partial(unary, self, method, UNSET, None)

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
        deadline: float | None = UNSET,
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
        catalogue = core.catalogue
        if catalogue is None:
            now = core.now()
            deadline_at = self._deadline_at(now, deadline)
            try:
                catalogue = await core.connected(deadline_at, self._options, method)
            except HoldfastError as error:
                return core.unreached(method, error, self._options, now, deadline_at)
            deadline = None if deadline_at is None else max(deadline_at - core.now(), 1e-9)  # connecting took its part of it
        found = core.methods.find(catalogue, method, returns)
        if found.streams_out:
            raise InvalidArgument(f"{method} answers with a stream; use client.stream({method!r}, ...)")
        return await unary(self, found, deadline, metadata, *args, **kwargs)

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
        deadline: float | None = UNSET,
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
            catalogue = await core.connected(deadline_at, self._options, name)
            method = find(catalogue)
            if method.compared_with is not catalogue:
                method.compare(catalogue)
            codec = method.codec
            rest, named, source = codec.take_stream(args, kwargs)
            plan = StreamPlan(source, codec.encode_item_in, codec.raw_item_in, True, idle, total_at)
            body = codec.encode_args(rest, named)
            request = core.request(method, body, deadline_at, core.beside(metadata), self._options, plan)
            reply = await core.until_settled(request, core.handler(request))
            return *reply.stream, codec.decode_item_out, codec.bytes_to_item_out

        def abandon(method: str) -> None:
            if self._parent is not None or self._core_ is not None:
                self._core.emit(StreamAbandoned(method))

        return Stream(name, open_stream, abandon)

    def _deadline_at(self, now: float, deadline: Any) -> float | None:
        """What the call says, else the view, else the configuration; and never later than the call we are answering."""
        if deadline is UNSET:
            deadline = self._default_s
        ambient = CURRENT.get()
        return deadline_of(now, deadline, None if ambient is None else ambient.deadline_at)


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
    """Return a client for the service at its addresses.

    Args:
        addresses: `tls://shop.example.com:7000`, `tcp://127.0.0.1:7000`, `unix:///run/shop.sock`; several with commas, each of which is
            a node; `dns+tls://shop.internal:7000`, a name whose addresses are the nodes; `file:///etc/shop.nodes`, a list that is watched.
        insecure: allow an address beyond this machine without TLS.
        tls: whom a `tls://` address must prove to be, and what we show; without it, what the system trusts.
        attempts: how often a call may be sent in all; only what surely was not executed, or is idempotent, is sent again.
        emit: gets every fact the client has to tell.
        network, clock, seed: for tests and simulation.
    Raises: ConfigError that says what to write.
    """
    config = config if config is not None else _DEFAULTS
    source = Source(addresses, tls, insecure=insecure, resolve=config.resolve)
    if attempts < 1:
        raise ConfigError(f"attempts={attempts} must be at least 1")
    clock = clock if clock is not None else _CLOCK
    plan = _Plan(source, config, clock, seed, emit, network)
    return Client(plan, Options(UNSET, attempts=attempts))
