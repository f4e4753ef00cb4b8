"""From a method's name on the wire to the function that answers it.

A Route is a method ready to be called: contract, codec, and `invoke`, which puts the decoded values, the context and the stream at the
places the function wants them. The Router finds a Route by the name's bytes as they came. Both are made once, at start; nothing here
changes while calls run, awaits, or knows what a frame is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from ..errors import ConfigError
from ..handler import MethodInfo
from .catalogue import Catalogue
from .codec import MethodCodec
from .contract import Contract, contract_of

RESERVED_SERVICE = "holdfast"
"""The service whose methods are ours (`holdfast.catalogue`); they answer, and are not listed."""

NAME_SHOWN_MAX = 100

Kind = Literal["async", "sync", "blocking", "stream_out", "stream_in", "duplex"]
Invoke = Callable[[tuple[Any, ...], Any, Any], Any]


class Route(msgspec.Struct, frozen=True):
    """One method, ready to be called.

    Attributes:
        kind: how to run `fn`: await it, call it, call it in a thread, iterate it (stream_out, duplex), await it with a stream (stream_in).
        invoke(values, context, stream): call `fn` with the values of `codec.decode_args`; what comes back is what `fn` gives: a value,
            a coroutine or an async generator, by `kind`.
        direct: whether that is the same as `fn(*values)`.
    """

    contract: Contract
    codec: MethodCodec
    fn: Callable[..., Any]
    kind: Kind
    info: MethodInfo
    invoke: Invoke
    takes_context: bool = False
    streams_out: bool = False
    direct: bool = False

    @property
    def name(self) -> str:
        """The full name."""
        return self.contract.name


def make_route(fn: Callable[..., Any], full_name: str, *, idempotent: bool = False, blocking: bool = False) -> Route:
    """Read a function's hints and make its route. Raises: ConfigError when it cannot be called over a network."""
    contract = contract_of(fn, full_name, idempotent=idempotent, blocking=blocking)
    return Route(
        contract,
        MethodCodec(contract),
        fn,
        _kind(fn, contract),
        contract.info,
        make_invoke(fn, contract),
        contract.context_param is not None,
        contract.item_out is not None,
        _takes_values_only(fn, contract),
    )


def make_invoke(fn: Callable[..., Any], contract: Contract) -> Invoke:
    """Return `(values, context, stream) -> fn(...)`; the common orders of parameters have a closure without a loop."""
    if _takes_values_only(fn, contract):
        return lambda values, context, stream: fn(*values)
    by_name = {p.name for p in contract.params if p.keyword_only}
    kinds = inspect.signature(fn).parameters
    order = contract.order
    specials = [name for name in order if name in (contract.context_param, contract.stream_param)]
    if by_name or any(kinds[name].kind is inspect.Parameter.KEYWORD_ONLY for name in specials):
        return _invoke_by_name(fn, contract)
    if specials == [contract.context_param] and order[-1] == contract.context_param:
        return lambda values, context, stream: fn(*values, context)
    if specials == [contract.stream_param] and order[-1] == contract.stream_param:
        return lambda values, context, stream: fn(*values, stream)
    return _invoke_by_name(fn, contract)


def _takes_values_only(fn: Callable[..., Any], contract: Contract) -> bool:
    """Whether a function takes nothing but the values of its arguments, by their places."""
    return contract.context_param is None and contract.stream_param is None and not any(p.keyword_only for p in contract.params)


def _invoke_by_name(fn: Callable[..., Any], contract: Contract) -> Invoke:
    names = tuple(p.name for p in contract.params)
    context_param, stream_param = contract.context_param, contract.stream_param

    def invoke(values: tuple[Any, ...], context: Any, stream: Any) -> Any:
        arguments = dict(zip(names, values, strict=True))
        if context_param is not None:
            arguments[context_param] = context
        if stream_param is not None:
            arguments[stream_param] = stream
        return fn(**arguments)

    return invoke


def _kind(fn: Callable[..., Any], contract: Contract) -> Kind:
    if contract.shape == "duplex":
        return "duplex"
    if contract.shape == "server_stream":
        return "stream_out"
    if contract.shape == "client_stream":
        return "stream_in"
    if contract.blocking:
        return "blocking"
    return "async" if inspect.iscoroutinefunction(fn) else "sync"


class Router:
    """All routes of a server, by name, and the catalogue that lists them.

    Raises: ConfigError when two routes have one name.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_name: dict[bytes, Route] = {}
        self.find: Callable[[bytes], Route | None] = self._by_name.get
        """Return the route of that name, as it came over the wire, or None."""
        for route in self.routes:
            other = self._by_name.setdefault(route.name.encode(), route)
            if other is not route:
                raise ConfigError(f"two methods are called {route.name}: {_origin(other.fn)} and {_origin(route.fn)}; rename one")
        listed = (r.contract for r in self.routes if r.name.partition(".")[0] != RESERVED_SERVICE)
        self.catalogue = Catalogue.of(listed)

    def suggest(self, name: str, *, look: bool = True) -> str:
        """Give the message for a method that is not there: what was asked for, and the nearest names or a few of those there are.

        Args:
            look: whether to look for near names, which takes milliseconds where there are many methods.
        """
        asked = repr(name if len(name) <= NAME_SHOWN_MAX else name[:NAME_SHOWN_MAX] + "…")
        near = self.catalogue.suggest(name) if look else ()
        if near:
            return f"there is no method {asked}; did you mean {' or '.join(near)}?"
        names = [entry.name for entry in self.catalogue.entries[:8]]
        more = len(self.catalogue.entries) - len(names)
        if not names:
            return f"there is no method {asked}; this server has none"
        return f"there is no method {asked}; this server has {', '.join(names)}{f' and {more} more' if more else ''}"


def _origin(fn: Callable[..., Any]) -> str:
    return f"{fn.__module__}.{getattr(fn, '__qualname__', fn)}"
