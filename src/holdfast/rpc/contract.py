"""What a function promises, read from its type hints: the contract of one method.

A Contract is made twice: from the function a server decorates and from the method of a Protocol a client binds. Both sides derive codec
and catalogue entry from it, so what one side sends is what the other side expects. Everything that cannot work is refused here, when the
function is decorated, with the name of the function, the parameter and what to write instead: nothing that fails here fails later, under
load, in front of a caller. Never here: I/O, encoding of values, knowledge of connections.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from ..context import Context
from ..errors import ConfigError
from ..handler import MethodInfo, Shape

RESERVED_PARAMETERS = ("returns", "deadline", "metadata", "idle", "deadline_total")
"""Keywords of `client.call` and `client.stream`; a method may not have parameters of these names."""

Side = Literal["server", "client"]

_STREAM_ORIGINS = (collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.AsyncGenerator)


class Param(msgspec.Struct, frozen=True):
    """One parameter that travels. `default` says nothing when it is required; it is `...` (as in a stub) when only the server knows it."""

    name: str
    type: Any
    required: bool = True
    default: Any = None
    keyword_only: bool = False


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What one method takes and gives.

    Attributes:
        name: the full name, `shop.place`.
        shape: unary, server_stream, client_stream or duplex.
        params: the parameters that travel in the arguments, in the function's order; without the context and the stream.
        order: every parameter's name, in the function's order, with the context and the stream.
        context_param: the parameter that wants the Context, or None.
        stream_param: the parameter that is a stream going in, or None.
        stream_keyword_only: the stream is passed by keyword only.
        item_in, item_out: the types of the items of the streams, None where there is no such stream.
        result: the type of the answer; None for server streams and duplex.
        signature: for people: `place(order: Order) -> str`.
        doc: the first line of the docstring.
    """

    name: str
    shape: Shape = "unary"
    idempotent: bool = False
    blocking: bool = False
    params: tuple[Param, ...] = ()
    order: tuple[str, ...] = ()
    context_param: str | None = None
    stream_param: str | None = None
    stream_keyword_only: bool = False
    item_in: Any = None
    item_out: Any = None
    result: Any = None
    signature: str = ""
    doc: str = ""

    @property
    def info(self) -> MethodInfo:
        """The catalogue's row, without the schemas."""
        return MethodInfo(self.name, self.shape, self.idempotent)


def contract_of(
    fn: Callable[..., object],
    full_name: str,
    *,
    idempotent: bool = False,
    blocking: bool = False,
    side: Side = "server",
) -> Contract:
    """Read a function's contract from its type hints.

    `side="client"` reads a method of a Protocol: `self` is skipped, and a stream is a plain `def` annotated AsyncIterator.
    Raises: ConfigError, naming the function, the parameter and what to write instead.
    """
    label = f"{full_name} ({getattr(fn, '__qualname__', fn)!s})"
    hints, signature = _read(fn, label, side)
    parts = _Parts(label, side)
    for parameter in signature:
        parts.take(parameter, hints)
    if "return" not in hints:
        raise ConfigError(f"{label} does not say what it returns; write `-> None` if that is nothing")
    item_out = stream_item(hints["return"], label, "the return value")
    result = None if item_out is not None else hints["return"]
    contract = Contract(
        name=full_name,
        shape=_shape(parts.stream_param is not None, item_out is not None),
        idempotent=idempotent,
        blocking=blocking,
        params=tuple(parts.params),
        order=tuple(p.name for p in signature),
        context_param=parts.context_param,
        stream_param=parts.stream_param,
        stream_keyword_only=parts.stream_keyword_only,
        item_in=parts.item_in,
        item_out=item_out,
        result=result,
        signature=_signature_text(full_name, signature, hints, parts.context_param),
        doc=_first_line(fn),
    )
    (_check_function if side == "server" else _check_stub)(fn, label, contract)
    _check_types(contract, label)
    return contract


def contracts_of(protocol: type, service: str) -> tuple[Contract, ...]:
    """Read the contracts of every public method of a Protocol (or class), those of its bases first.

    Raises: ConfigError when a method cannot be called over a network, or there is none.
    """
    methods: dict[str, object] = {}
    for base in reversed(protocol.__mro__):
        if base.__module__ != "typing" and base is not object:
            methods.update({name: member for name, member in vars(base).items() if not name.startswith("_")})
    contracts = []
    for name, member in methods.items():
        if inspect.isfunction(member):
            contracts.append(contract_of(member, f"{service}.{name}", side="client"))
        elif callable(member) or isinstance(member, (property, staticmethod, classmethod)):
            raise ConfigError(f"{protocol.__name__}.{name} is a {type(member).__name__}; a contract has plain methods with self only")
    if not contracts:
        raise ConfigError(f"{protocol.__name__} has no public methods; a contract is a Protocol with a method for each call")
    return tuple(contracts)


def service_name_of(protocol: type) -> str:
    """Give the service a Protocol speaks of, from its name: `Shop` is shop, `UserAccounts` is user_accounts."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", protocol.__name__).lower()


def stream_item(hint: Any, label: str, where: str) -> Any:
    """Return the type of the items when the hint is a stream, else None.

    Raises: ConfigError for a stream that does not say of what.
    """
    if (get_origin(hint) or hint) not in _STREAM_ORIGINS:
        return None
    if not get_args(hint):
        raise ConfigError(f"{label}: {where} is a stream that does not say of what; write for example AsyncIterator[bytes]")
    return get_args(hint)[0]


def type_text(hint: Any) -> str:
    """Write a type as people write it: `dict[str, Order] | None`, without modules."""
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, list):
        return f"[{', '.join(type_text(h) for h in hint)}]"
    origin = get_origin(hint)
    if origin is Literal:
        return f"Literal[{', '.join(repr(a) for a in get_args(hint))}]"
    if origin is typing.Annotated:
        return type_text(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(a) for a in get_args(hint))
    if origin is not None and get_args(hint):
        return f"{type_text(origin)}[{', '.join(type_text(a) for a in get_args(hint))}]"
    return getattr(hint, "__name__", None) or str(hint).rpartition(".")[2]


class _Parts:
    """What the parameters of one function turn out to be, collected one by one."""

    def __init__(self, label: str, side: Side) -> None:
        self.label = label
        self.side = side
        self.params: list[Param] = []
        self.context_param: str | None = None
        self.stream_param: str | None = None
        self.stream_keyword_only = False
        self.item_in: Any = None

    def take(self, parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
        """Sort one parameter into its place. Raises: ConfigError."""
        name, label = parameter.name, self.label
        self._check_parameter(parameter)
        if name not in hints:
            raise ConfigError(f"{label}: the parameter {name!r} has no annotation; write for example `{name}: str`")
        hint = hints[name]
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        item = stream_item(hint, label, f"the parameter {name!r}")
        if hint is Context:
            self._take_context(name)
        elif item is not None:
            if self.stream_param is not None:
                raise ConfigError(f"{label} takes two streams, {self.stream_param!r} and {name!r}; a call carries one: tag its items")
            if parameter.default is not parameter.empty:
                raise ConfigError(f"{label}: the stream {name!r} has a default; a stream is always sent: take the default away")
            self.stream_param, self.item_in, self.stream_keyword_only = name, item, keyword_only
        else:
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            self.params.append(Param(name, hint, required, default, keyword_only))

    def _take_context(self, name: str) -> None:
        if self.side == "client":
            raise ConfigError(f"{self.label}: the parameter {name!r} is a Context, which does not travel; leave it out of the contract")
        if self.context_param is not None:
            raise ConfigError(f"{self.label} asks for the Context twice, as {self.context_param!r} and {name!r}; keep one")
        self.context_param = name

    def _check_parameter(self, parameter: inspect.Parameter) -> None:
        name, label = parameter.name, self.label
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigError(f"{label}: *{name} cannot be described to a caller; write `{name}: list[...]`")
        if parameter.kind is parameter.VAR_KEYWORD:
            raise ConfigError(f"{label}: **{name} cannot be described to a caller; write `{name}: dict[str, ...]`")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(f"{label}: the parameter {name!r} is positional-only, but arguments travel by name; remove the `/`")
        if name in RESERVED_PARAMETERS:
            raise ConfigError(f"{label}: the parameter name {name!r} is taken by client.call(); call it for example `{name}_`")
        if parameter.default is ... and self.side == "server":
            raise ConfigError(f"{label}: the parameter {name!r} has the default `...`, which only a contract may have; write the real one")
        if name.startswith("__"):
            raise ConfigError(f"{label}: the parameter name {name!r} begins with two underscores; write `{name.strip('_') or 'value'}`")


def _read(fn: Callable[..., object], label: str, side: Side) -> tuple[dict[str, Any], list[inspect.Parameter]]:
    """Return the resolved hints and the parameters (without self on the client side)."""
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        raise ConfigError(f"{label} is a {type(fn).__name__}, not a function; give a function written with def or async def")
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"{label}: an annotation names {error.name!r}, which is not defined in {fn.__module__} yet;"
            " define it at module level above the function (not under TYPE_CHECKING)"
        ) from error
    except Exception as error:  # an annotation is code of the user's: whatever it raises, we say where
        raise ConfigError(f"{label}: an annotation cannot be evaluated: {error}") from error
    parameters = list(inspect.signature(fn).parameters.values())
    if side == "client" and not inspect.ismethod(fn):
        if not parameters or parameters[0].name in hints:
            raise ConfigError(f"{label} has no self; the methods of a contract take self first")
        del parameters[0]
    return hints, parameters


def _shape(stream_in: bool, stream_out: bool) -> Shape:
    if stream_in:
        return "duplex" if stream_out else "client_stream"
    return "server_stream" if stream_out else "unary"


def _check_function(fn: Callable[..., object], label: str, contract: Contract) -> None:
    """Refuse a server's function whose kind does not fit its hints. Raises: ConfigError."""
    is_async, yields = inspect.iscoroutinefunction(fn), inspect.isasyncgenfunction(fn)
    text = type_text(contract.item_out)
    if inspect.isgeneratorfunction(fn):
        raise ConfigError(f"{label} is a plain def with a yield; a stream is an `async def` with a yield, annotated AsyncIterator[...]")
    inner = inspect.unwrap(fn)
    if not is_async and not yields and (inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)):
        raise ConfigError(f"{label} is an async function inside a decorator that is a plain def; make the wrapper `async def` too")
    if contract.item_out is not None and is_async:
        raise ConfigError(
            f"{label} is an async def annotated AsyncIterator[{text}] without a `yield`: calling it gives a coroutine, not a stream;"
            " to pass another stream on write `async for item in other(): yield item`"
        )
    if contract.item_out is not None and not yields:
        raise ConfigError(f"{label} is a plain def that returns a stream; write `async def` and `yield` the items of type {text}")
    if contract.item_out is None and yields:
        raise ConfigError(f"{label} yields, but is annotated -> {type_text(contract.result)}; write -> AsyncIterator[...]")
    if contract.stream_param is not None and not is_async and not yields:
        raise ConfigError(f"{label} takes a stream, {contract.stream_param!r}, but is a plain def, which cannot read it; write `async def`")
    if contract.blocking and (is_async or yields):
        raise ConfigError(f"{label} is an async def with blocking=True; blocking is for a plain def that blocks: leave one of the two out")
    if contract.idempotent and contract.stream_param is not None:
        raise ConfigError(f"{label} takes a stream and says idempotent=True; a stream cannot be sent twice: leave idempotent out")


def _check_stub(fn: Callable[..., object], label: str, contract: Contract) -> None:
    """Refuse a Protocol's method that cannot be typed as what a client gives. Raises: ConfigError."""
    is_async = inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)
    if contract.item_out is not None and is_async:
        raise ConfigError(f"{label} is an async def annotated AsyncIterator; in a contract a stream is a plain `def`")
    if contract.item_out is None and not is_async:
        raise ConfigError(f"{label} is a plain def; a call over the network is awaited: write `async def`")


def _check_types(contract: Contract, label: str) -> None:
    """Build what will be needed later, now, so that a type that cannot travel is refused here. Raises: ConfigError."""
    checks = [(p.type, f"the parameter {p.name!r}") for p in contract.params]
    if contract.stream_param is not None:
        checks.append((contract.item_in, f"the items of {contract.stream_param!r}"))
    if contract.item_out is not None:
        checks.append((contract.item_out, "the items it yields"))
    else:
        checks.append((contract.result, "the return value"))
    for hint, where in checks:
        try:
            msgspec.msgpack.Decoder(hint)
            msgspec.json.schema_components([hint])
            views = _holds_views(hint)
        except Exception as error:  # msgspec raises TypeError, but a user's metaclass or hook may raise anything
            reason = str(error).partition("\n")[0].partition("requires either")[0].strip()
            fix = "use Any" if hint is object else "use msgspec Structs, dataclasses, TypedDicts or builtins"
            raise ConfigError(f"{label}: {where} is of a type that cannot travel, {type_text(hint)} ({reason}); {fix}") from error
        if views:
            raise ConfigError(f"{label}: {where} holds a {views}, a view into a buffer that is used again; write bytes")


def _holds_views(hint: Any) -> str:
    """Name the type inside `hint` that would point into the receive buffer after the read is over; "" when there is none."""
    seen: dict[int, object] = {}  # keeps what it names alive, so that an id is not used twice
    todo: list[object] = [msgspec.inspect.type_info(hint)]
    while todo:
        node = todo.pop()
        if isinstance(node, msgspec.inspect.MemoryViewType):
            return "memoryview"
        if isinstance(node, msgspec.inspect.RawType):
            return "msgspec.Raw"
        if isinstance(node, (list, tuple)):
            todo.extend(node)
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
            seen[id(node)] = node
            todo.extend(getattr(node, name) for name in node.__struct_fields__ if name not in ("default", "default_factory"))
    return ""


def _first_line(fn: Callable[..., object]) -> str:
    return next((line.strip() for line in (fn.__doc__ or "").splitlines() if line.strip()), "")


def _default_text(default: object) -> str:
    """Write a default when it reads the same in every process (an object's address does not), else `...`."""
    plain = default is None or isinstance(default, (bool, int, float, str, bytes, enum.Enum)) or default in ((), [], {})
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    return repr(default) if plain and len(repr(default)) <= 40 else "..."


def _signature_text(full_name: str, parameters: list[inspect.Parameter], hints: dict[str, Any], context_param: str | None) -> str:
    """Write the signature a caller sees: the context is left out, it does not travel."""
    written: list[str] = []
    keyword_only = False
    for parameter in parameters:
        if parameter.name == context_param:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            written.append("*")
        text = f"{parameter.name}: {type_text(hints[parameter.name])}"
        if parameter.default is not parameter.empty:
            text += f" = {_default_text(parameter.default)}"
        written.append(text)
    return f"{full_name.rpartition('.')[2]}({', '.join(written)}) -> {type_text(hints['return'])}"
