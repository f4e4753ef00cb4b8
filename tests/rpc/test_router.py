"""A name finds its function, and the function gets every value, the context and the stream at the place it wants them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holdfast.context import Context
from holdfast.errors import ConfigError
from holdfast.rpc.router import Route, Router, make_route


async def plain(a: int, b: str = "b") -> Any:
    return (a, b)


async def context_last(a: int, ctx: Context) -> Any:
    return (a, ctx)


async def context_first(ctx: Context, a: int) -> Any:
    return (ctx, a)


async def stream_last(a: int, items: AsyncIterator[int]) -> Any:
    return (a, items)


async def stream_first(items: AsyncIterator[int], a: int, ctx: Context) -> Any:
    return (items, a, ctx)


async def by_name(a: int, *, items: AsyncIterator[int], c: int = 3) -> Any:
    return (a, items, c)


async def context_by_name(a: int, *, ctx: Context) -> Any:
    return (a, ctx)


async def watch(since: int) -> AsyncIterator[int]:
    yield since


async def chat(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item


def price(sku: str) -> float:
    return len(sku)


@pytest.mark.parametrize(
    ("fn", "values", "gives"),
    [
        (plain, (1, "x"), (1, "x")),
        (context_last, (1,), (1, "CTX")),
        (context_first, (1,), ("CTX", 1)),
        (stream_last, (1,), (1, "STREAM")),
        (stream_first, (1,), ("STREAM", 1, "CTX")),
        (by_name, (1, 2), (1, "STREAM", 2)),
        (context_by_name, (1,), (1, "CTX")),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_invoke_puts_everything_at_its_place(fn: Callable[..., Any], values: tuple[Any, ...], gives: Any) -> None:
    route = make_route(fn, f"t.{fn.__name__}")
    assert asyncio.run(route.invoke(values, "CTX", "STREAM")) == gives


def test_decoded_arguments_go_straight_in() -> None:
    route = make_route(by_name, "t.by_name")
    body = route.codec.encode_args((1,), {"c": 7})
    assert asyncio.run(route.invoke(route.codec.decode_args(body, False), None, "S")) == (1, "S", 7)


@pytest.mark.parametrize(
    ("fn", "blocking", "kind"),
    [
        (plain, False, "async"),
        (price, False, "sync"),
        (price, True, "blocking"),
        (watch, False, "stream_out"),
        (stream_last, False, "stream_in"),
        (chat, False, "duplex"),
    ],
)
def test_kinds(fn: Callable[..., Any], blocking: bool, kind: str) -> None:
    route = make_route(fn, "t.f", blocking=blocking)
    assert route.kind == kind
    assert route.fn is fn


def routes(*names: str) -> list[Route]:
    return [make_route(price, name) for name in names]


def test_find_by_the_bytes_on_the_wire() -> None:
    router = Router(routes("shop.price", "shop.cost"))
    found = router.find(b"shop.price")
    assert found is not None
    assert (found.name, found.info.shape) == ("shop.price", "unary")
    assert router.find(b"shop.nothing") is None
    assert router.find(b"\xff\x00") is None


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"two methods are called shop\.price: .*test_router\.price and .*test_router\.price"):
        Router(routes("shop.price", "shop.price"))


def test_our_own_methods_answer_and_are_not_listed() -> None:
    router = Router(routes("shop.price", "holdfast.catalogue"))
    assert router.find(b"holdfast.catalogue") is not None
    assert [e.name for e in router.catalogue.entries] == ["shop.price"]


def test_suggestions() -> None:
    router = Router(routes("shop.price", "shop.place", "bank.transfer"))
    assert router.suggest("shop.pric") == "there is no method 'shop.pric'; did you mean shop.price or shop.place?"
    assert router.suggest("zzz") == "there is no method 'zzz'; this server has bank.transfer, shop.place, shop.price"
    assert Router([]).suggest("a.b") == "there is no method 'a.b'; this server has none"
    assert "and 4 more" in Router(routes(*(f"s.m{n}" for n in range(12)))).suggest("qqqqqqqqqqqqqqqq")


def test_a_suggestion_is_bounded_whatever_is_asked() -> None:
    router = Router(routes("shop.price"))
    assert len(router.suggest("x" * 1_000_000)) < 300
    assert "\\n" in router.suggest("a\nb"), "a name from the wire must not break a log line"
