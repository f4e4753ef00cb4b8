"""The client on one page: which layers there are and why, which are off, and that an edit is what calls then go through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast.calling.stack import ABOVE, BELOW, client_stack, rows
from holdfast.errors import ConfigError, Overloaded, PermissionDenied
from holdfast.handler import Handler, Layer, Reply, Request, Stack
from holdfast.policy.limit import LimitConfig
from holdfast.policy.throttle import ThrottleConfig
from tests.calling.test_nodes import AB, exactly
from tests.calling.town import told, town


def nothing(handler: Handler) -> Handler:
    return handler


def roles(stack: Stack) -> list[str]:
    return [placed.role for placed in stack]


def noted(notes: list[str]) -> Layer:
    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            notes.append(request.info.name)
            return await handler(request)

        return send

    return layer


def test_the_layers_in_request_order_each_with_its_reason() -> None:
    stack = client_stack(throttle=nothing, retry=nothing, limit=nothing)
    assert roles(stack) == ["throttle", "retry", "limit"]
    page = rows(stack)
    assert [role for role, _ in page] == ["deadline", "throttle", "retry", "limit", "balance", "breaker", "attempt", "connection"]
    assert all(why for _, why in page)
    assert page == [*ABOVE, *((placed.role, placed.why) for placed in stack), *BELOW]


def test_what_is_off_is_not_there() -> None:
    assert roles(client_stack(throttle=None, retry=nothing, limit=None)) == ["retry"]


@exactly
async def test_the_stack_of_a_client_is_what_its_config_says() -> None:
    for config, expected in (
        (holdfast.ClientConfig(), ["throttle", "retry"]),
        (holdfast.ClientConfig(throttle=ThrottleConfig(mode="off")), ["retry"]),
        (holdfast.ClientConfig(limit=LimitConfig(mode="enforce")), ["throttle", "retry", "limit"]),
    ):
        async with town(AB[:1], config=config) as here:
            assert roles(here.core.stack) == expected if config.throttle.mode != "off" or expected == ["retry"] else True
            assert here.core.merged is (config.limit.mode == "off")


@exactly
async def test_a_stack_that_was_edited_is_always_walked_whatever_the_call() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    notes: list[str] = []
    config = holdfast.ClientConfig(stack=lambda stack: stack.replace("retry", noted(notes)))
    async with town(AB[:1], config=config) as here:
        await here.client.call("shop.get")
        await here.client.call("shop.put")
        assert [item async for item in here.client.stream("shop.items", n=1, gap_s=0.0, returns=int)] == [0]
        assert await here.client.call("shop.total", numbers(), returns=int) == 1
        assert notes == ["shop.get", "shop.put", "shop.items", "shop.total"]
        here.how[AB[0]] = "busy"
        assert isinstance(await told(here.client.call("shop.put")), Overloaded)
        assert len(here.log) == 5, "retry was taken out"
        here.nothing_is_held()


@exactly
async def test_a_layer_that_refuses_leaves_nothing_behind() -> None:
    def refusing(_handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            raise PermissionDenied(f"{request.info.name} is not for you")

        return send

    config = holdfast.ClientConfig(stack=lambda stack: stack.replace("retry", refusing))
    async with town(AB, config=config) as here:
        error = await told(here.client.call("shop.put"))
        assert (type(error), here.log) == (PermissionDenied, [])
        here.nothing_is_held()


@exactly
async def test_the_way_without_retries() -> None:
    config = holdfast.ClientConfig(stack=lambda stack: stack.without("retry"))
    async with town(AB, config=config) as here:
        here.how = dict.fromkeys(AB, "busy")
        assert isinstance(await told(here.client.call("shop.get")), Overloaded)
        assert (len(here.log), here.core.budget.taken) == (1, 0)


@exactly
async def test_a_role_that_is_not_there_is_refused_when_the_client_is_entered() -> None:
    config = holdfast.ClientConfig(stack=lambda stack: stack.without("retri"))
    client = holdfast.connect(AB[0], config=config)
    with pytest.raises(ConfigError, match="no role 'retri'; it has throttle, retry"):
        await client.__aenter__()


@exactly
async def test_uploads_count_for_the_throttle_and_are_never_sent_twice() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async with town(AB[:1]) as here:
        here.how[AB[0]] = "busy"
        before: Any = here.core.throttle._refused_now
        assert isinstance(await told(here.client.call("shop.total", numbers())), Overloaded)
        assert (here.core.throttle._refused_now, len(here.log), here.core.budget.taken) == (before + 1, 1, 0)
