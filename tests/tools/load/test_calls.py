"""Calls of each shape, through the public client."""

from __future__ import annotations

import time

import pytest

from holdfast import testing
from holdfast.client import Client
from holdfast.context import Context
from holdfast.errors import ConfigError, DeadlineExceeded
from holdfast.handler import Shape
from holdfast.service import Service
from holdfast.tools.load.calls import Target, check_shape, method_task, scenario_tasks
from holdfast.tools.load.scenario import Part
from tests.tools.load.helpers import shop


async def test_a_unary_call_has_the_arguments_of_its_number() -> None:
    service, seen = shop()
    async with testing.client(service) as client:
        task = method_task(Target(method="shop.price", shape="unary"), lambda n: {"n": n * 10}, [client, client], 1.0)
        assert len(task.actions) == 2
        for number, action in enumerate(task.actions):
            assert await action(number, 0.0) == number * 10
    assert seen == [0, 10]


async def test_metadata_travels_with_every_call() -> None:
    service = Service("who")

    @service.method
    async def am_i(ctx: Context) -> dict[str, str]:
        return dict(ctx.metadata)

    async with testing.client(service) as client:
        task = method_task(Target(method="who.am_i", shape="unary", metadata={"k": "v"}), lambda _: {}, [client], 1.0)
        assert await task.actions[0](0, 0.0) == {"k": "v"}


async def test_a_stream_is_read_to_its_end_and_its_first_item_timed() -> None:
    service, _ = shop()
    async with testing.client(service) as client:
        task = method_task(Target(method="shop.watch", shape="server_stream"), lambda n: {"count": n}, [client], 1.0)
        task.tally.measuring_from = 10.0
        await task.actions[0](3, 9.0)  # warm-up
        assert task.tally.first_item is not None
        assert task.tally.first_item.count == 0
        await task.actions[0](3, time.monotonic())
        await task.actions[0](0, time.monotonic())  # no item, no time of one
        assert task.tally.first_item.count == 1


async def test_a_stream_without_end_is_ended_by_the_deadline() -> None:
    service, _ = shop()
    async with testing.client(service) as client:
        task = method_task(Target(method="shop.watch", shape="server_stream"), lambda _: {"count": 10**9}, [client], 0.05)
        with pytest.raises(DeadlineExceeded):
            await task.actions[0](0, 0.0)


@pytest.mark.parametrize("shape", ["client_stream", "duplex"])
def test_a_method_that_takes_a_stream_is_refused(shape: Shape) -> None:
    with pytest.raises(ConfigError, match=r"shop.upload takes a stream.*--scenario"):
        check_shape("shop.upload", shape)


async def test_a_scenario_has_a_task_for_each_function_over_each_connection() -> None:
    called: list[tuple[str, int]] = []

    async def look(client: Client, number: int) -> None:
        called.append(("look", number))

    async def buy(client: Client, number: int) -> None:
        called.append(("buy", number))

    service, _ = shop()
    async with testing.client(service) as client:
        tasks = scenario_tasks([Part("look", 9.0, look), Part("buy", 1.0, buy)], [client, client])
        assert [(task.weight, task.tally.name, len(task.actions)) for task in tasks] == [(9.0, "look", 2), (1.0, "buy", 2)]
        await tasks[0].actions[1](4, 0.0)
        await tasks[1].actions[0](5, 0.0)
    assert called == [("look", 4), ("buy", 5)]
