"""The shop and the talk run as their docstrings say, and the shop keeps the contract that stands beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from holdfast import testing
from holdfast.service import Service
from tests.examples.conductor import EXAMPLES, python, serving


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield importlib.import_module("shop")
    for name in ("shop", "shop_api"):  # so common a name must not stay for other tests
        sys.modules.pop(name, None)


@pytest.fixture
def contract(shop: ModuleType) -> Any:
    return importlib.import_module("shop_api").Shop


async def test_every_kind_of_method_answers(shop: ModuleType, contract: Any) -> None:
    async with testing.client(shop.svc) as client:
        bound = client.bind(contract)
        assert await bound.place(shop.Order("o-1", 2)) == "receipt-o-1"
        assert await bound.price("A") == 9.9
        assert await bound.report("2026-01-31") == b"orders of 2026-01-31\n"
        assert [order.id async for order in bound.watch(7)] == ["o-7", "o-8", "o-9"]


def test_the_shop_keeps_its_contract(shop: ModuleType, contract: Any) -> None:
    checked = Service("shop", contract=contract)
    for route in shop.svc.routes():
        function = getattr(shop, route.contract.name.partition(".")[2])
        checked.method(idempotent=route.contract.idempotent, blocking=route.contract.blocking)(function)
    checked.check()
    assert len(checked.routes()) == 5


@pytest.mark.slow
def test_the_client_of_the_shop_gets_its_answers() -> None:
    with serving("shop:svc") as served:
        done = python("shop_client.py", served.address)
    assert (done.stderr, done.returncode) == ("", 0)
    *answers, refused = done.stdout.splitlines()
    assert answers == [
        "place    receipt-o-1",
        "again    receipt-o-2",
        "watch    o-0",
        "watch    o-1",
        "watch    o-2",
        "upload   3072 bytes",
        "price    9.9",
        "report   b'orders of 2026-01-31\\n'",
    ]
    assert refused.startswith("refused  ")
    assert "order.qty" in refused


@pytest.mark.slow
def test_the_talk_is_a_conversation() -> None:
    done = python("talk.py")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == [
        *("> hello", "< hello, who is there?"),
        *("> a client", "< how are you, client?"),
        *("> bye", "< bye"),
    ]
