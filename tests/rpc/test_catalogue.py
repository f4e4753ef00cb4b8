"""The catalogue says the same in every process, survives the wire, and lets exactly the compatible versions of a method through."""

# The functions here are stubs: their hints are what is tested.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.context import Context
from holdfast.errors import ConfigError, ProtocolError
from holdfast.rpc.catalogue import Catalogue, Entry, EntryParam
from holdfast.rpc.codec import MethodCodec
from holdfast.rpc.contract import Contract, Param, contract_of, contracts_of


class Order(msgspec.Struct):
    id: str
    qty: int
    tags: frozenset[str] = frozenset({"a", "b", "c"})


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


async def place(order: Order, note: str = "") -> str:
    """Take an order."""
    return order.id


async def watch(since: int, ctx: Context) -> AsyncIterator[Order]:
    yield Order("a", since)


async def upload(name: str, chunks: AsyncIterator[bytes]) -> int:
    return sum([len(c) async for c in chunks])


async def put(data: bytes) -> bytes:
    return data


async def grow(tree: Tree) -> Tree:
    return tree


def shop() -> Catalogue:
    return Catalogue.of([contract_of(fn, f"shop.{fn.__name__}", idempotent=fn is put) for fn in (watch, place, upload, put, grow)])


def test_entries_say_what_the_contracts_say() -> None:
    c = shop()
    assert [e.name for e in c.entries] == ["shop.grow", "shop.place", "shop.put", "shop.upload", "shop.watch"]
    entry = c.find("shop.place")
    assert entry is not None
    assert (entry.shape, entry.idempotent, entry.signature) == ("unary", False, "place(order: Order, note: str = '') -> str")
    assert entry.doc == "Take an order."
    assert [(p.name, p.schema, p.required) for p in entry.params] == [
        ("order", {"$ref": "#/components/Order"}, True),
        ("note", {"type": "string"}, False),
    ]
    assert (entry.result, entry.item, entry.stream_in) == ({"type": "string"}, None, None)
    assert c.components["Order"]["required"] == ["id", "qty"]
    stream = c.find("shop.watch")
    assert stream is not None
    assert (stream.order, stream.result, stream.item) == (("since",), None, {"$ref": "#/components/Order"})
    assert c.find("shop.nothing") is None


def test_it_survives_the_wire() -> None:
    c = shop()
    got = Catalogue.decode(memoryview(c.encode()))
    assert got == c
    assert got.digest == c.digest
    assert len(c.digest) == 16


def test_the_digest_is_of_the_content() -> None:
    contracts = [contract_of(fn, f"s.{fn.__name__}") for fn in (place, put)]
    assert Catalogue.of(contracts).digest == Catalogue.of(reversed(contracts)).digest
    assert Catalogue.of(contracts).digest != Catalogue.of(contracts[:1]).digest
    assert Catalogue.of([contract_of(put, "s.put")]).digest != Catalogue.of([contract_of(put, "s.put", idempotent=True)]).digest


def test_the_digest_is_the_same_in_every_process() -> None:
    program = "from tests.rpc.test_catalogue import shop; print(shop().digest.hex())"
    digests = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1] == shop().digest.hex() + "\n"


ROOT = __file__.rsplit("/tests/", 1)[0]


NO_CATALOGUES = [
    b"",
    b"\xc1",
    b"\x80garbage",
    b"\x91" * 100_000,
    msgspec.msgpack.encode({"entries": [{"name": 1}]}),
    msgspec.msgpack.encode({"entries": [{"name": "a.b", "result": {"properties": {1: 2}}}]}),
]


@pytest.mark.parametrize("body", NO_CATALOGUES)
def test_what_is_no_catalogue_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="the server's catalogue cannot be read"):
        Catalogue.decode(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        got = Catalogue.decode(body)
    except ProtocolError:
        return
    assert Catalogue.decode(got.encode()) == got


def test_unknown_keys_of_a_newer_server_are_skipped() -> None:
    body = msgspec.msgpack.encode({"entries": [{"name": "a.b", "since": "2.0"}], "components": {}, "more": 1})
    assert Catalogue.decode(body).find("a.b") == Entry("a.b")


def test_only_what_a_peer_may_see() -> None:
    part = shop().only(lambda name: name in ("shop.put", "shop.grow"))
    assert [e.name for e in part.entries] == ["shop.grow", "shop.put"]
    assert list(part.components) == ["Tree"], "the types of hidden methods are hidden"
    assert "shop.place" not in part.suggest("shop.place")
    assert part.digest != shop().digest


def test_suggestions_prefer_the_service_and_are_bounded() -> None:
    assert shop().suggest("shop.plce")[0] == "shop.place"
    assert shop().suggest("x" * 100_000) == ()
    many = Catalogue((*(Entry(f"a.method{n}") for n in range(3000)), Entry("shop.price")))
    assert many.suggest("shop.pricf") == ("shop.price",)


# --- calling without types ---------------------------------------------------------------------------------------------------------------


def test_a_method_can_be_called_from_its_entry_alone() -> None:
    entry = Catalogue.decode(shop().encode()).find("shop.place")
    assert entry is not None
    here, there = MethodCodec(entry.contract(returns=str)), MethodCodec(contract_of(place, "shop.place"))
    assert there.decode_args(here.encode_args(({"id": "a", "qty": 1},), {"note": "n"}), here.raw_args) == (Order("a", 1), "n")
    assert there.decode_args(here.encode_args((Order("a", 1),), {}), False) == (Order("a", 1), "")
    assert here.decode_result(there.encode_result("ok"), there.raw_result) == "ok"


def test_bytes_stay_raw_without_types() -> None:
    entry = shop().find("shop.put")
    assert entry is not None
    c = MethodCodec(entry.contract())
    assert (c.raw_args, c.raw_result) == (True, True)
    up = shop().find("shop.upload")
    assert up is not None
    u = MethodCodec(up.contract(returns=int))
    assert u.raw_item_in
    assert u.take_stream(("a", gen := watch(1, None)), {}) == (("a",), {}, gen)  # type: ignore[arg-type]


def test_stream_items_are_typed_by_returns() -> None:
    entry = shop().find("shop.watch")
    assert entry is not None
    contract = entry.contract(returns=Order)
    assert (contract.item_out, contract.result) == (Order, None)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a.b", params=(EntryParam("not a name", {}),), order=("not a name",)),
        Entry("a.b", params=(EntryParam("class", {}),), order=("class",)),
        Entry("a.b", params=(EntryParam("__init__", {}),), order=("__init__",)),
        Entry("a.b", params=(EntryParam("x", {}), EntryParam("x", {})), order=("x", "x")),
        Entry("a.b", params=(EntryParam("x", {}),), order=()),
        Entry("a.b", shape="client_stream"),
        Entry("a.b", stream_param="x", order=("x",), stream_in={}),
    ],
)
def test_names_a_server_made_up_are_refused(entry: Entry) -> None:
    with pytest.raises(ProtocolError, match="the server's catalogue"):
        entry.contract()


# --- versions ----------------------------------------------------------------------------------------------------------------------------


def struct(name: str, *fields: Any, **options: Any) -> Any:
    return msgspec.defstruct(name, fields, **options)


def method(params: dict[str, Any] | None = None, result: Any = str, *, optional: tuple[str, ...] = ()) -> Contract:
    made = tuple(Param(n, t, n not in optional, ...) for n, t in (params or {}).items())
    return Contract(name="s.m", params=made, order=tuple(p.name for p in made), result=result, signature=f"m({', '.join(params or {})})")


def streaming(item: Any) -> Contract:
    return Contract(name="s.m", shape="server_stream", item_out=item, signature="m() -> AsyncIterator")


def feeding(item: Any, name: str = "items") -> Contract:
    return Contract(name="s.m", shape="client_stream", stream_param=name, item_in=item, order=(name,), result=int, signature=f"m({name})")


AB = struct("O", ("a", int), ("b", str))
A = struct("O", ("a", int))
A_OPT_B = struct("O", ("a", int), ("b", str, ""))
AB_OTHER = struct("O", ("a", int), ("b", int))
A_STRICT = struct("O", ("a", int), forbid_unknown_fields=True)
RENAMED = struct("Other", ("a", int), ("b", str))
DEEP_AB = struct("P", ("orders", dict[str, list[AB]]))  # type: ignore[valid-type]
DEEP_OTHER = struct("P", ("orders", dict[str, list[AB_OTHER]]))  # type: ignore[valid-type]


class LeftTree(msgspec.Struct):
    value: int
    children: list[LeftTree] = []


class OtherTree(msgspec.Struct):
    value: str
    children: list[OtherTree] = []


class DeepTree(msgspec.Struct):
    children: list[DeepTree]
    value: int
    more: str | None = None


FITS = {
    "the same": (method({"o": AB}), method({"o": AB})),
    "another class name": (method({"o": AB}), method({"o": RENAMED})),
    "server's new parameter with a default": (method({"a": int}), method({"a": int, "b": str}, optional=("b",))),
    "client's new parameter with a default": (method({"a": int, "b": str}, optional=("b",)), method({"a": int})),
    "server made a parameter optional": (method({"a": int}), method({"a": int}, optional=("a",))),
    "another order": (method({"a": int, "b": str}), method({"b": str, "a": int})),
    "server's new field with a default": (method({"o": A}), method({"o": A_OPT_B})),
    "client's new field with a default": (method({"o": A_OPT_B}), method({"o": A})),
    "result with a new field": (method(result=A), method(result=AB)),
    "result's field the client has a default for": (method(result=A_OPT_B), method(result=A)),
    "int into float": (method({"a": int}), method({"a": float})),
    "client's Any": (method({"a": Any}), method({"a": AB})),
    "server's Any": (method({"a": AB}), method({"a": Any})),
    "a wider union at the reader": (method({"a": int}), method({"a": int | None})),
    "fewer values at the sender": (method({"a": Literal["x"]}), method({"a": Literal["x", "y"]})),
    "values into their type": (method({"a": Literal["x"]}), method({"a": str})),
    "the same recursive type": (method({"t": Tree}), method({"t": LeftTree})),
    "a list for a tuple of any length": (method({"a": list[int]}), method({"a": tuple[int, ...]})),
    "a fixed tuple into a list": (method({"a": tuple[int, int]}), method({"a": list[int]})),
    "a struct into a dict of anything": (method({"a": A}), method({"a": dict[str, Any]})),
    "stream items with a default": (streaming(A_OPT_B), streaming(A)),
    "fed items": (feeding(A), feeding(A_OPT_B)),
    "array-like with one more place that has a default": (
        method({"a": struct("T", ("x", int), array_like=True)}),
        method({"a": struct("T", ("x", int), ("y", int, 0), array_like=True)}),
    ),
}

DIFFERS = {
    "parameter required by the server": (method({"a": int}), method({"a": int, "b": str}), "the server requires 'b'"),
    "parameter the server does not know": (method({"a": int, "b": str}), method({"a": int}), "the server does not know 'b'"),
    "parameter the contract may leave out": (method({"a": int}, optional=("a",)), method({"a": int}), "may leave out"),
    "parameter's type": (method({"a": str}), method({"a": int}), "a is string at the sender and integer at the reader"),
    "float into int": (method({"a": float}), method({"a": int}), "a is number"),
    "bytes and str": (method({"a": bytes}), method({"a": str}), "a is bytes"),
    "uuid and str": (method({"a": uuid.UUID}), method({"a": str}), "a is uuid"),
    "date and str": (method({"a": str}), method({"a": dt.date}), "date at the reader"),
    "field required by the server": (method({"o": A}), method({"o": AB}), "o.b is required by the reader"),
    "field the server would drop": (method({"o": AB}), method({"o": A}), "o.b is required by the sender"),
    "field the server forbids": (method({"o": A_OPT_B}), method({"o": A_STRICT}), "forbids unknown fields"),
    "field's type": (method({"o": AB}), method({"o": AB_OTHER}), "o.b is string"),
    "a type deep inside": (method({"p": DEEP_AB}), method({"p": DEEP_OTHER}), "p.orders[...][].b is string"),
    "result's type": (method(result=str), method(result=int), "the result is integer at the sender and string"),
    "result's missing field": (method(result=AB), method(result=A), "the result.b is required by the reader"),
    "a result that may be None": (method(result=str), method(result=str | None), "the result is null"),
    "no result": (method(result=str), method(result=None), "the result is null"),
    "more values at the sender": (method({"a": Literal["x", "y"]}), method({"a": Literal["x"]}), "a may be ['y']"),
    "any string for values": (method({"a": str}), method({"a": Literal["x"]}), "one of ['x']"),
    "values of another type": (method({"a": Literal["x"]}), method({"a": int}), "a is one of ['x']"),
    "recursive type": (method({"t": Tree}), method({"t": OtherTree}), "t.value is integer"),
    "shape": (method(), streaming(str), "the shape is unary here and server_stream there"),
    "stream items": (streaming(str), streaming(int), "an item is integer"),
    "fed items": (feeding(str), feeding(int), "items[] is string"),
    "the stream's name": (feeding(int, "a"), feeding(int, "b"), "called a here and b there"),
    "a longer tuple": (method({"a": tuple[int, int]}), method({"a": tuple[int]}), "more places"),
    "a shorter tuple": (method({"a": tuple[int]}), method({"a": tuple[int, int]}), "at least 2"),
    "a place of a tuple": (method({"a": tuple[int, str]}), method({"a": tuple[int, int]}), "a[1] is string"),
    "a list's items": (method({"a": list[str]}), method({"a": list[int]}), "a[] is string"),
}


@pytest.mark.parametrize(("ours", "theirs"), FITS.values(), ids=FITS.keys())
def test_versions_that_fit(ours: Contract, theirs: Contract) -> None:
    server = Catalogue.decode(Catalogue.of([theirs]).encode())
    server.check(ours)
    assert server.find("s.m") is not None


@pytest.mark.parametrize(("ours", "theirs", "says"), DIFFERS.values(), ids=DIFFERS.keys())
def test_versions_that_do_not_fit(ours: Contract, theirs: Contract, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Catalogue.decode(Catalogue.of([theirs]).encode()).check(ours)
    message = str(caught.value)
    assert says in message
    assert f"the contract has {ours.signature}" in message
    assert f"the server has {theirs.signature}" in message


def test_a_recursive_type_that_grew_a_default() -> None:
    Catalogue.of([method({"t": DeepTree})]).check(method({"t": DeepTree}))
    with pytest.raises(ConfigError, match=r"t\.children is required"):
        Catalogue.of([method({"t": DeepTree})]).check(method({"t": struct("DeepTree", ("value", int))}))


def test_a_method_that_is_not_there() -> None:
    class Shop(Protocol):
        async def plase(self, order: Order) -> str: ...

    with pytest.raises(ConfigError, match=r"no method shop\.plase.*plase\(order: Order\) -> str; the nearest it has is shop\.place"):
        shop().check(contracts_of(Shop, "shop")[0])


def test_idempotent_and_the_context_are_the_server_s_business() -> None:
    class Shop(Protocol):
        async def put(self, data: bytes) -> bytes: ...
        def watch(self, since: int) -> AsyncIterator[Order]: ...

    for contract in contracts_of(Shop, "shop"):
        shop().check(contract)
    entry = shop().find("shop.put")
    assert entry is not None
    assert entry.idempotent


def test_a_hostile_catalogue_is_compared_without_harm() -> None:
    chain = {f"T{n}": {"$ref": f"#/components/T{n + 1}"} for n in range(5000)}
    hostile = Catalogue(
        (Entry("s.m", result={"$ref": "#/components/T0"}, signature="m()"),), {**chain, "Loop": {"$ref": "#/components/Loop"}}
    )
    with pytest.raises(ConfigError, match="nested too deeply"):
        hostile.check(method(result=AB))
    looping = Catalogue((Entry("s.m", result={"$ref": "#/components/Loop"}, signature="m()"),), {"Loop": {"$ref": "#/components/Loop"}})
    with pytest.raises(ConfigError, match="nested too deeply"):
        looping.check(method(result=str))


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": 5},
        {"type": "object", "properties": 3},
        {"enum": 1},
        {"type": ["a"]},
        {"type": "array", "prefixItems": 1},
    ],
)
def test_a_schema_that_is_none_is_refused_as_such(schema: dict[str, Any]) -> None:
    server = Catalogue((Entry("s.m", result=schema, signature="m()"),))
    with pytest.raises(ConfigError, match=r"s\.m differs"):
        server.check(method(result=AB if schema.get("type") == "object" else tuple[int] if schema.get("type") == "array" else str))
