"""What a client knows of a method before it calls it, and what travels beside the arguments."""

from __future__ import annotations

import math
import random
from typing import Any, Protocol

import pytest

from holdfast.errors import ConfigError, DeadlineExceeded, InvalidArgument, MethodNotFound
from holdfast.rpc import bound
from holdfast.rpc.bound import BoundMethod, Methods, bind_methods, deadline_of, pack_beside
from holdfast.rpc.catalogue import Catalogue
from holdfast.rpc.contract import contract_of
from holdfast.wire import frames


async def price(sku: str) -> int: ...


async def other(sku: int) -> int: ...


def catalogue(*, idempotent: bool = True) -> Catalogue:
    return Catalogue.of([contract_of(price, "shop.price", idempotent=idempotent)])


def test_the_servers_word_decides_what_may_be_retried() -> None:
    method = BoundMethod(contract_of(price, "shop.price"))
    assert method.idempotent is False
    method.compare(catalogue(idempotent=True))
    assert (method.idempotent, method.info.idempotent) == (True, True)
    method.compare(catalogue(idempotent=False))
    assert method.idempotent is False


def test_a_method_that_differs_or_is_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match="price"):
        BoundMethod(contract_of(other, "shop.price")).compare(catalogue())
    with pytest.raises(MethodNotFound, match=r"did you mean shop\.price"):
        BoundMethod(contract_of(price, "shop.prise")).compare(catalogue())


def test_a_method_by_name_is_made_once_per_type_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "METHODS_MAX", 2)
    methods, known = Methods(), catalogue()
    first = methods.find(known, "shop.price", int)
    assert methods.find(known, "shop.price", int) is first
    assert methods.find(known, "shop.price", Any) is not first
    methods.find(known, "shop.price", float)
    assert len(methods) == 1
    with pytest.raises(MethodNotFound):
        methods.find(known, "shop.nothing", int)


def test_what_a_method_by_name_needs_is_made_once_for_all_clients() -> None:
    one, other = (Methods().find(catalogue(), "shop.price", int) for _ in range(2))
    assert one is not other
    assert one.codec is other.codec
    assert Methods().find(catalogue(), "shop.price", float).codec is not one.codec


def test_binding_gives_a_stub_per_method() -> None:
    class Shop(Protocol):
        async def price(self, sku: str) -> int: ...

    shop: Any = bind_methods(Shop, None, catalogue(), lambda method: lambda: method.info.name)
    assert shop.price() == "shop.price"


def test_a_contract_is_read_once_and_compared_once_with_each_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shop(Protocol):
        async def price(self, sku: str) -> int: ...

    made: list[BoundMethod] = []
    compared: list[Catalogue] = []
    check = Catalogue.check

    def counted(self: Catalogue, contract: object) -> None:
        compared.append(self)
        check(self, contract)  # type: ignore[arg-type]

    monkeypatch.setattr(Catalogue, "check", counted)
    first, again, changed = catalogue(), catalogue(), catalogue(idempotent=False)
    for known in (first, again, changed):
        bind_methods(Shop, None, known, lambda method: made.append(method) or method)  # type: ignore[func-returns-value, return-value]
    assert made[0].codec is made[1].codec is made[2].codec
    assert compared == [first, changed], "the second has the digest of the first"
    assert [method.idempotent for method in made] == [True, True, False]


@pytest.mark.parametrize(
    ("deadline_s", "inherited_at", "expected"),
    [
        (None, None, None),
        (math.inf, None, None),
        (2.0, None, 12.0),
        (None, 11.0, 11.0),
        (2.0, 11.0, 11.0),
        (0.5, 11.0, 10.5),
        (math.inf, 11.0, 11.0),
    ],
)
def test_it_is_never_later_than_the_inherited_one(deadline_s: float | None, inherited_at: float | None, expected: float | None) -> None:
    assert deadline_of(10.0, deadline_s, inherited_at) == expected


def test_work_whose_time_is_over_is_not_begun() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        deadline_of(10.0, None, 10.0)
    assert caught.value.executed == "no"
    with pytest.raises(InvalidArgument, match="above 0"):
        deadline_of(10.0, 0.0, None)


def test_a_hop_keeps_the_trace_and_gets_a_span_of_its_own() -> None:
    trace = bytes(range(25))
    packed = pack_beside(trace, None, random.Random(1))
    assert packed is not None
    flags, data = packed
    assert flags == frames.TRACE
    assert (data[:16], data[24:]) == (trace[:16], trace[24:])
    assert data[16:24] != trace[16:24]
    assert pack_beside(None, None, random.Random(1)) is None
