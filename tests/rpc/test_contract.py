"""A contract says what the hints say, and what cannot work is refused with the function, the parameter and the fix."""

# The functions here are stubs: their hints are what is tested.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal, Optional, Protocol

import msgspec
import pytest

from holdfast.context import Context
from holdfast.errors import ConfigError
from holdfast.rpc.contract import RESERVED_PARAMETERS, contract_of, contracts_of, service_name_of, type_text


class Order(msgspec.Struct):
    id: str
    qty: int = 1


class Tree(msgspec.Struct):
    children: list[Tree] = []


class Colour(enum.Enum):
    RED = "red"


class View(msgspec.Struct):
    parts: list[memoryview]


class Plain:
    """A class msgspec knows nothing about."""


async def place(order: Order) -> str:
    """Take an order.

    More.
    """
    return order.id


async def watch(since: int, ctx: Context, *, limit: int = 10) -> AsyncIterator[Order]:
    yield Order(str(since), limit)


async def upload(name: str, chunks: AsyncIterator[bytes]) -> int:
    return sum([len(c) async for c in chunks])


async def chat(lines: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    async for line in lines:
        yield line


def price(sku: str) -> float:
    return len(sku)


def test_unary() -> None:
    c = contract_of(place, "shop.place", idempotent=True)
    assert (c.name, c.shape, c.idempotent, c.result) == ("shop.place", "unary", True, str)
    assert [(p.name, p.type, p.required) for p in c.params] == [("order", Order, True)]
    assert c.signature == "place(order: Order) -> str"
    assert c.doc == "Take an order."
    assert c.info.name == "shop.place"
    assert c.info.idempotent


def test_server_stream_with_context_and_keyword_only() -> None:
    c = contract_of(watch, "shop.watch")
    assert (c.shape, c.item_out, c.result, c.context_param) == ("server_stream", Order, None, "ctx")
    assert [(p.name, p.required, p.default, p.keyword_only) for p in c.params] == [("since", True, None, False), ("limit", False, 10, True)]
    assert c.order == ("since", "ctx", "limit")
    assert c.signature == "watch(since: int, *, limit: int = 10) -> AsyncIterator[Order]"


def test_client_stream_and_duplex() -> None:
    c = contract_of(upload, "shop.upload")
    assert (c.shape, c.stream_param, c.item_in, c.result) == ("client_stream", "chunks", bytes, int)
    assert [p.name for p in c.params] == ["name"]
    assert c.signature == "upload(name: str, chunks: AsyncIterator[bytes]) -> int"
    d = contract_of(chat, "shop.chat")
    assert (d.shape, d.item_in, d.item_out) == ("duplex", str, str)


def test_plain_def_and_none() -> None:
    def touch() -> None: ...

    assert contract_of(price, "shop.price").shape == "unary"
    c = contract_of(touch, "shop.touch", blocking=True)
    assert (c.result, c.blocking, c.params) == (type(None), True, ())
    assert c.signature == "touch() -> None"


def test_a_recursive_type_travels() -> None:
    async def grow(tree: Tree) -> Tree:
        return tree

    assert contract_of(grow, "t.grow").params[0].type is Tree


def test_wrappers_keep_the_contract() -> None:
    @functools.wraps(place)
    async def wrapped(*args: Any, **kwargs: Any) -> str:
        return await place(*args, **kwargs)

    assert contract_of(wrapped, "shop.place").signature == "place(order: Order) -> str"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (None, "None"),
        (Any, "Any"),
        (Optional[Order], "Order | None"),  # noqa: UP045 (both spellings are users' spellings)
        (int | str, "int | str"),
        (dict[str, list[Order]], "dict[str, list[Order]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a.b", 1], "Literal['a.b', 1]"),
        (Annotated[int, msgspec.Meta(ge=1)], "int"),
        (AsyncIterator[bytes], "AsyncIterator[bytes]"),
        (Callable[[int], str], "Callable[[int], str]"),
    ],
)
def test_types_are_written_as_people_write_them(hint: Any, text: str) -> None:
    assert type_text(hint) == text


def test_defaults_in_signatures_read_the_same_in_every_process() -> None:
    async def f(a: Colour = Colour.RED, b: Order = Order("x"), c: str = "y" * 50, d: tuple[int, ...] = ()) -> None: ...  # noqa: B008, RUF100

    assert contract_of(f, "t.f").signature == "f(a: Colour = Colour.RED, b: Order = ..., c: str = ..., d: tuple[int, ...] = ()) -> None"


# --- refusals ----------------------------------------------------------------------------------------------------------------------------


async def no_annotation(a) -> str: ...  # type: ignore[no-untyped-def]
async def no_return(a: int): ...  # type: ignore[no-untyped-def]
async def star(*items: int) -> str: ...
async def double_star(**items: int) -> str: ...
async def by_place(a: int, /) -> str: ...
async def two_streams(a: AsyncIterator[int], b: AsyncIterator[int]) -> str: ...
async def two_contexts(a: Context, b: Context) -> str: ...
async def stream_default(a: AsyncIterator[int] | None = None) -> str: ...
async def stream_real_default(a: AsyncIterator[int] = price) -> str: ...  # type: ignore[assignment]
async def stub_default(a: int = ...) -> str: ...
async def bare_stream(a: AsyncIterator) -> str: ...  # type: ignore[type-arg]
async def no_yield(a: int) -> AsyncIterator[int]: ...
def plain_stream(a: int) -> AsyncIterator[int]: ...
def sync_upload(a: AsyncIterator[int]) -> int: ...
async def foreign(a: Plain) -> str: ...
async def foreign_deep(a: list[dict[str, Plain]]) -> str: ...
async def foreign_result(a: int) -> Plain: ...
async def foreign_items(a: int) -> AsyncIterator[threading.Thread]:
    yield threading.Thread()


async def foreign_input(a: AsyncIterator[Plain]) -> int: ...
async def takes_object(a: object) -> str: ...
async def awaitable() -> Awaitable[str]: ...
async def two_structs(a: Order | Tree) -> str: ...
async def view(a: memoryview) -> str: ...
async def view_inside(a: View) -> str: ...
async def raw(a: msgspec.Raw) -> str: ...
async def undefined(a: Missing) -> str: ...  # type: ignore[name-defined]  # noqa: F821
async def broken(a: 1 / 0) -> str: ...  # type: ignore[valid-type]
async def dunder(__a: int) -> str: ...
async def yields_wrong(a: int) -> int:  # type: ignore[misc]
    yield a


def sync_generator(a: int) -> AsyncIterator[int]:  # type: ignore[misc]
    yield a


REFUSED: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (no_annotation, ("'a'", "annotation", "a: str")),
    (no_return, ("-> None",)),
    (star, ("*items", "list[")),
    (double_star, ("**items", "dict[str")),
    (by_place, ("'a'", "positional-only", "/")),
    (two_streams, ("two streams", "'a'", "'b'")),
    (two_contexts, ("Context", "twice")),
    (stream_default, ("'a'", "cannot travel")),
    (stream_real_default, ("'a'", "default")),
    (stub_default, ("'a'", "`...`", "real one")),
    (bare_stream, ("'a'", "AsyncIterator[bytes]")),
    (no_yield, ("without a `yield`", "async for item in")),
    (plain_stream, ("plain def", "async def")),
    (sync_upload, ("'a'", "plain def", "async def")),
    (foreign, ("'a'", "Plain", "Struct")),
    (foreign_deep, ("'a'", "Plain")),
    (foreign_result, ("return value", "Plain")),
    (foreign_items, ("items it yields", "Thread")),
    (foreign_input, ("items of 'a'", "Plain")),
    (takes_object, ("'a'", "use Any")),
    (awaitable, ("return value", "Awaitable")),
    (two_structs, ("'a'", "Order | Tree")),
    (view, ("'a'", "memoryview", "bytes")),
    (view_inside, ("'a'", "memoryview")),
    (raw, ("'a'", "Raw")),
    (undefined, ("'Missing'", "module level")),
    (broken, ("annotation", "evaluated")),
    (dunder, ("'__a'", "`a`")),
    (yields_wrong, ("yields", "AsyncIterator")),
    (sync_generator, ("plain def", "async def")),
]


@pytest.mark.parametrize(("fn", "says"), REFUSED, ids=[fn.__name__ for fn, _ in REFUSED])
def test_refused_with_the_fix(fn: Callable[..., Any], says: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        contract_of(fn, f"shop.{fn.__name__}")
    message = str(caught.value)
    assert message.startswith(f"shop.{fn.__name__} ({fn.__qualname__})")
    for part in says:
        assert part in message, message


@pytest.mark.parametrize("name", RESERVED_PARAMETERS)
def test_reserved_names_are_refused(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"async def f({name}: int) -> None: ...", scope)
    with pytest.raises(ConfigError, match=f"'{name}' is taken"):
        contract_of(scope["f"], "shop.f")


def test_options_that_contradict_the_function_are_refused() -> None:
    with pytest.raises(ConfigError, match="blocking=True"):
        contract_of(place, "shop.place", blocking=True)
    with pytest.raises(ConfigError, match="leave idempotent out"):
        contract_of(upload, "shop.upload", idempotent=True)


def test_what_is_no_function_is_refused() -> None:
    for thing in (len, 5, Order, functools.partial(place)):
        with pytest.raises(ConfigError, match="not a function"):
            contract_of(thing, "shop.x")  # type: ignore[arg-type]


def test_an_async_function_in_a_plain_wrapper_is_refused() -> None:
    @functools.wraps(place)
    def wrapped(order: Order) -> Any:
        return place(order)

    with pytest.raises(ConfigError, match="make the wrapper `async def`"):
        contract_of(wrapped, "shop.place")


# --- contracts of a Protocol -------------------------------------------------------------------------------------------------------------


class Base(Protocol):
    async def ping(self) -> None: ...


class Shop(Base, Protocol):
    limit: int

    async def place(self, order: Order) -> str: ...
    def watch(self, since: int = ...) -> AsyncIterator[Order]: ...
    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> int: ...
    def _private(self) -> None: ...


def test_a_protocol_gives_its_methods() -> None:
    contracts = {c.name: c for c in contracts_of(Shop, "shop")}
    assert list(contracts) == ["shop.ping", "shop.place", "shop.watch", "shop.upload"]
    assert contracts["shop.watch"].shape == "server_stream"
    assert contracts["shop.watch"].signature == "watch(since: int = ...) -> AsyncIterator[Order]"
    assert contracts["shop.upload"].order == ("name", "chunks")


def test_service_names_come_from_the_class() -> None:
    assert service_name_of(Shop) == "shop"
    assert service_name_of(type("UserAccounts", (), {})) == "user_accounts"
    assert service_name_of(type("HTTPProxyV2", (), {})) == "http_proxy_v2"


class PlainDef(Protocol):
    def place(self, order: Order) -> str: ...


class AsyncStream(Protocol):
    async def watch(self) -> AsyncIterator[Order]: ...


class WithContext(Protocol):
    async def place(self, order: Order, ctx: Context) -> str: ...


class WithStatic(Protocol):
    @staticmethod
    async def place(order: Order) -> str: ...


class WithProperty(Protocol):
    @property
    def size(self) -> int: ...


class NoSelf(Protocol):
    async def place() -> str: ...  # type: ignore[misc]


class Empty(Protocol): ...


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        (PlainDef, "write `async def`"),
        (AsyncStream, "in a contract a stream is a plain `def`"),
        (WithContext, "does not travel"),
        (WithStatic, "staticmethod"),
        (WithProperty, "property"),
        (NoSelf, "self"),
        (Empty, "no public methods"),
    ],
)
def test_protocols_that_cannot_be_called_are_refused(protocol: type, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        contracts_of(protocol, "shop")
