"""What users write: a Service, its methods, its lifespan.

    svc = Service("shop")

    @svc.method
    async def place(order: Order) -> str: ...

A Service is a named list of functions and nothing that runs: it opens no socket and makes no task. What cannot work is refused when a
function is decorated, or by `check()` when a server starts; never in the middle of a call. The functions themselves are given back
unchanged, so that a test can call them as they are.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from .errors import ConfigError
from .rpc.catalogue import Catalogue
from .rpc.contract import contracts_of, stream_item
from .rpc.router import RESERVED_SERVICE, Route, make_route

F = TypeVar("F", bound=Callable[..., Any])
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]

_SERVICE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_METHOD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class Service:
    """A named set of methods.

    Args:
        name: lower case letters, digits and `_`; the first half of every method's full name, `shop.place`.
        contract: a Protocol (or class) the methods are checked against at start.
    Raises: ConfigError when the name or the contract cannot work.
    """

    def __init__(self, name: str, *, contract: type | None = None) -> None:
        if not _SERVICE_NAME.fullmatch(name):
            raise ConfigError(f"the service name {name!r} is not lower case letters, digits and '_', beginning with a letter; write 'shop'")
        if name == RESERVED_SERVICE:
            raise ConfigError(f"the service name {name!r} is taken by holdfast itself; choose another")
        self.name = name
        self._promised = contracts_of(contract, name) if contract is not None else ()
        self._contract = contract
        self._routes: dict[str, Route] = {}
        self._lifespan: Lifespan | None = None
        self._state_type: type | None = None

    def __repr__(self) -> str:
        return f"<Service {self.name}: {', '.join(self._routes) or 'no methods'}>"

    @overload
    def method(self, fn: F, /) -> F: ...
    @overload
    def method(self, /, *, idempotent: bool = False, blocking: bool = False, name: str | None = None) -> Callable[[F], F]: ...
    def method(self, fn: Any = None, /, *, idempotent: bool = False, blocking: bool = False, name: str | None = None) -> Any:
        """Put a function on the network, as `@svc.method` or `@svc.method(idempotent=True)`; it is given back unchanged.

        Args:
            idempotent: doing it twice is as good as once: it may be retried and hedged.
            blocking: a plain `def` that waits for a disk or a library; it runs in a bounded thread pool.
            name: the method's name, when it is not the function's.
        Raises: ConfigError that names the function, the parameter and what to write instead.
        """

        def register(function: F) -> F:
            self._add(function, name, idempotent=idempotent, blocking=blocking)
            return function

        return register if fn is None else register(fn)

    def lifespan(self, fn: F) -> F:
        """Run this around the service: an async generator function (or an @asynccontextmanager one) that yields once.

        What it yields, handlers get with `ctx.state(Type)`. Raises: ConfigError when it is something else, or the second one.
        """
        if self._lifespan is not None:
            raise ConfigError(f"the service {self.name} has a lifespan already; open both things in one")
        label = f"the lifespan of {self.name} ({getattr(fn, '__qualname__', fn)!s})"
        inner = inspect.unwrap(fn)
        if not inspect.isasyncgenfunction(inner):
            raise ConfigError(f"{label} is not an async generator function; write `async def` with one `yield`")
        required = [
            p.name
            for p in inspect.signature(fn).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if required:
            raise ConfigError(f"{label} takes {', '.join(required)}; it is called without arguments")
        self._lifespan = asynccontextmanager(fn) if inspect.isasyncgenfunction(fn) else fn
        self._state_type = _yielded_type(inner, label)
        return fn

    def routes(self) -> list[Route]:
        """The methods, ready for a router, in the order in which they were decorated."""
        return list(self._routes.values())

    def check(self) -> None:
        """Compare the functions with the contract the service was given; called when a server starts.

        Raises: ConfigError naming the method that is missing, or both signatures of one that differs; or when there is no method at all.
        """
        if not self._routes:
            raise ConfigError(f"the service {self.name} has no methods; decorate a function with @{self.name}.method")
        if not self._promised:
            return
        catalogue = Catalogue.of(route.contract for route in self._routes.values())
        for promised in self._promised:
            short = promised.name.rpartition(".")[2]
            if short not in self._routes:
                raise ConfigError(f"the service {self.name} lacks {promised.signature}, which {self._contract_name()} promises")
            try:
                catalogue.check(promised)
            except ConfigError as error:
                raise ConfigError(f"the service {self.name} does not keep {self._contract_name()}: {error}") from error

    def open(self) -> AbstractAsyncContextManager[Mapping[type, object]]:
        """Run the lifespan around a block; gives what it yielded, by type, for `Context.states`.

        What the lifespan raises comes out as it is. Cancel: the lifespan sees it at its `yield` and closes what it opened.
        """
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Mapping[type, object]]:
        if self._lifespan is None:
            yield {}
            return
        async with self._lifespan() as value:
            states: dict[type, object] = {}
            if value is not None:
                states[type(value)] = value
                if self._state_type is not None:
                    states[self._state_type] = value
            yield states

    def _add(self, fn: Callable[..., Any], name: str | None, *, idempotent: bool, blocking: bool) -> None:
        short = name if name is not None else getattr(fn, "__name__", "")
        if not _METHOD_NAME.fullmatch(short):
            raise ConfigError(f"{self.name}: {short!r} cannot be a method's name; give one of letters, digits and '_' with name='...'")
        if short in self._routes:
            raise ConfigError(f"{self.name}.{short} is decorated twice; rename one function, or give one a name='...'")
        self._routes[short] = make_route(fn, f"{self.name}.{short}", idempotent=idempotent, blocking=blocking)

    def _contract_name(self) -> str:
        return getattr(self._contract, "__name__", "its contract")


def _yielded_type(fn: Callable[..., Any], label: str) -> type | None:
    """Return the class a lifespan says it yields, so that `ctx.state(Base)` finds a subclass; None when it does not say."""
    try:
        item = stream_item(typing.get_type_hints(fn).get("return"), label, "the return value")
    except NameError:
        return None
    return item if isinstance(item, type) and item is not type(None) else None
