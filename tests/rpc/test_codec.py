"""What goes in comes out, typed; what does not fit is refused with the method and the path, on either side; bombs are refused too."""

# The functions here are stubs: their hints are what is tested.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.context import Context
from holdfast.errors import BadReply, ConfigError, InvalidArgument
from holdfast.rpc.codec import MethodCodec, decode_as, plain_decode, plain_encode
from holdfast.rpc.contract import Contract, Param, contract_of, contracts_of


class Order(msgspec.Struct):
    id: str
    qty: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Row(TypedDict):
    key: str
    note: NotRequired[str]


class Tree(msgspec.Struct):
    children: list[Tree] = []


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


async def place(order: Order) -> str:
    return order.id


async def two(order: Order, times: int = 1) -> list[Order]:
    return [order] * times


async def many(a: int, ctx: Context, b: str = "b", *, c: float = 1.5, d: list[int] = [1]) -> None: ...  # noqa: B006
async def nothing() -> None: ...
async def put(data: bytes) -> bytes: ...
async def put_more(data: bytes, name: str = "n", tags: list[str] = []) -> bytes: ...  # noqa: B006
async def put_any(data: bytearray) -> bytearray: ...
async def put_if(data: bytes = b"") -> bytes: ...
async def anything(value: Any) -> Any: ...
async def grow(tree: Tree) -> None: ...
async def upload(name: str, chunks: AsyncIterator[bytes], size: int = 0) -> int: ...
async def send(*, items: AsyncIterator[Order]) -> int: ...
async def watch(since: int) -> AsyncIterator[Order]:
    yield Order("a", since)


def codec(fn: Callable[..., Any]) -> MethodCodec:
    return MethodCodec(contract_of(fn, f"shop.{fn.__name__}"))


def through(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Encode on one side, decode on the other, from a buffer that is then used again."""
    c = codec(fn)
    buffer = bytearray(c.encode_args(args, kwargs))
    with memoryview(buffer) as view:
        values = c.decode_args(view, c.raw_args)
    buffer[:] = b"\xff" * len(buffer)
    return values


# --- arguments ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "values"),
    [
        (place, (Order("a", 1),), {}, (Order("a", 1),)),
        (place, (), {"order": Order("a", 1)}, (Order("a", 1),)),
        (two, (Order("a", 1), 3), {}, (Order("a", 1), 3)),
        (two, (Order("a", 1),), {}, (Order("a", 1), 1)),
        (two, (), {"times": 2, "order": Order("a", 1)}, (Order("a", 1), 2)),
        (many, (1,), {}, (1, "b", 1.5, [1])),
        (many, (1, "x"), {"d": [], "c": 2}, (1, "x", 2.0, [])),
        (many, (), {"a": 1, "c": 2.5}, (1, "b", 2.5, [1])),
        (nothing, (), {}, ()),
        (put, (b"\x00raw",), {}, (b"\x00raw",)),
        (put, (), {"data": bytearray(b"x")}, (b"x",)),
        (put, (memoryview(b"xyz"),), {}, (b"xyz",)),
        (put_more, (b"x",), {"name": "y"}, (b"x", "y", [])),
        (put_if, (), {}, (b"",)),
        (anything, ({"a": [1, None, b"x"]},), {}, ({"a": [1, None, b"x"]},)),
        (anything, (None,), {}, (None,)),
        (grow, (Tree([Tree()]),), {}, (Tree([Tree()]),)),
    ],
)
def test_arguments_arrive(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], values: tuple[Any, ...]) -> None:
    assert through(fn, *args, **kwargs) == values


def test_raw_is_the_bytes_themselves() -> None:
    assert codec(put).raw_args
    assert codec(put).raw_result
    assert codec(put).encode_args((b"abc",), {}) == b"abc"
    assert not any(codec(fn).raw_args for fn in (put_more, put_if, put_any, place))


def test_a_parameter_left_out_is_not_sent_and_one_given_is() -> None:
    assert msgspec.msgpack.decode(codec(two).encode_args((Order("a", 1),), {})) == {"order": {"id": "a", "qty": 1}}
    sent = msgspec.msgpack.decode(codec(two).encode_args((Order("a", 1), 1), {}))
    assert sent["times"] == 1, "the server's default may be another: what the caller wrote must travel"


def test_a_changeable_default_is_made_anew_for_each_call() -> None:
    c = codec(many)
    body = c.encode_args((1,), {})
    c.decode_args(body, False)[3].append(2)
    assert c.decode_args(body, False)[3] == [1]


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "message"),
    [
        (place, (), {}, "shop.place(): missing argument 'order'; the signature is place(order: Order) -> str"),
        (place, (Order("a", 1), 2), {}, "shop.place() takes 1 positional arguments, got 2; the signature is place(order: Order) -> str"),
        (place, (), {"ordr": 1}, "shop.place(): unknown argument 'ordr'; the signature is place(order: Order) -> str"),
        (
            place,
            (Order("a", 1),),
            {"order": 1},
            "shop.place(order): given twice, by place and by name; the signature is place(order: Order) -> str",
        ),
        (place, (Order("a", cast(Any, "x")),), {}, "shop.place(order.qty): expected int, got str"),
        (place, (5,), {}, "shop.place(order): expected object, got int"),
        (place, ({"id": "a"},), {}, "shop.place(order): missing field 'qty'"),
        (place, (None,), {}, "shop.place(order): expected object, got None"),
        (place, (Order("a", 2**70),), {}, "shop.place(order): can't serialize ints < -2**63 or > 2**64 - 1"),
        (two, (Order("a", 1), "3"), {}, "shop.two(times): expected int, got str"),
        (two, (Order("a", 1), True), {}, "shop.two(times): expected int, got bool"),
        (two, (Order("a", 1), object()), {}, "shop.two(times): encoding objects of type object is unsupported"),
        (nothing, (1,), {}, "shop.nothing() takes 0 positional arguments, got 1; the signature is nothing() -> None"),
        (put, ("text",), {}, "shop.put(data): expected bytes, got str"),
        (put, (), {}, "shop.put(): missing argument 'data'; the signature is put(data: bytes) -> bytes"),
        (put, (b"", b""), {}, "shop.put() takes 1 positional arguments, got 2; the signature is put(data: bytes) -> bytes"),
        (put, (b"",), {"data": b""}, "shop.put(data): given twice, by place and by name; the signature is put(data: bytes) -> bytes"),
        (
            anything,
            ("\ud800",),
            {},
            "shop.anything(value): 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed",
        ),
    ],
)
def test_the_caller_is_told_before_anything_is_sent(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec(fn).encode_args(args, kwargs)
    assert str(caught.value) == message
    assert caught.value.executed == "no"


def test_an_argument_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument, match=r"shop\.anything\(value\): nested too deeply"):
        codec(anything).encode_args((loop,), {})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "shop.place(): input data was truncated"),
        (b"\x80", "shop.place(): missing argument 'order'; the signature is place(order: Order) -> str"),
        (b"\xc1", "shop.place(): invalid opcode '\\xc1' (byte 0)"),
        (b"\x90", "shop.place(): expected object, got array"),
        (
            b"\x81\xa5order\x82\xa2id\xa1\xff\xa3qty\x01",
            "shop.place(): 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (plain_encode({"order": {"id": "a", "qty": "b"}}), "shop.place(order.qty): expected int, got str"),
        (
            plain_encode({"order": {"id": "a", "qty": 1}, "x": 1}),
            "shop.place(): unknown argument 'x'; the signature is place(order: Order) -> str",
        ),
        (plain_encode({"order": {"id": "a", "qty": 1}}) + b"\x00", "shop.place(): trailing characters (byte 18)"),
    ],
)
def test_the_server_refuses_before_the_handler_runs(body: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec(place).decode_args(body, False)
    assert str(caught.value) == message


def test_a_field_the_server_does_not_know_is_skipped() -> None:
    body = plain_encode({"order": {"id": "a", "qty": 1, "colour": ["red", {"x": None}]}})
    assert codec(place).decode_args(body, False) == (Order("a", 1),)


# --- bombs -------------------------------------------------------------------------------------------------------------------------------

DEEP = b"\x91" * 100_000 + b"\xc0"
DEEP_MAP = b"\x81\xa1a" * 100_000 + b"\xc0"


@pytest.mark.parametrize("nested", [DEEP, DEEP_MAP, b"\x91" * 100_000], ids=["arrays", "maps", "arrays cut"])
def test_nesting_bombs_are_refused(nested: bytes) -> None:
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        codec(anything).decode_args(b"\x81\xa5value" + nested, False)
    with pytest.raises(InvalidArgument):
        codec(place).decode_args(b"\x81\xa5order\x83\xa1x" + nested + b"\xa2id\xa1a\xa3qty\x01", False)
    with pytest.raises(InvalidArgument):
        codec(place).decode_args(nested, False)
    with pytest.raises(BadReply):
        codec(anything).decode_result(nested, False)
    with pytest.raises(BadReply):
        plain_decode(nested)


def test_a_recursive_type_is_no_way_around() -> None:
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        codec(grow).decode_args(b"\x81\xa4tree" + b"\x81\xa8children\x91" * 50_000 + b"\x80", False)


@pytest.mark.parametrize(
    "header",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05"],
)
def test_a_count_without_the_data_allocates_nothing(header: bytes) -> None:
    with pytest.raises(InvalidArgument, match="truncated"):
        codec(anything).decode_args(b"\x81\xa5value" + header, False)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for fn in (place, many, anything, put, nothing):
        for raw in (False, True):
            try:
                values = codec(fn).decode_args(body, raw)
            except InvalidArgument:
                continue
            assert isinstance(values, tuple)


# --- versions of one method --------------------------------------------------------------------------------------------------------------


def test_raw_arguments_reach_a_newer_method() -> None:
    assert codec(put_more).decode_args(codec(put).encode_args((b"x",), {}), True) == (b"x", "n", [])
    assert codec(put_any).decode_args(b"x", True) == (bytearray(b"x"),)


def test_named_arguments_reach_an_older_method() -> None:
    assert codec(put).decode_args(codec(put_more).encode_args((b"x",), {}), False) == (b"x",)
    with pytest.raises(InvalidArgument, match="unknown argument 'name'"):
        codec(put).decode_args(codec(put_more).encode_args((b"x", "other"), {}), False)


def test_raw_arguments_for_a_method_that_takes_none_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"shop\.place\(\): got bare bytes, expected named arguments"):
        codec(place).decode_args(b"x", True)


# --- results and items -------------------------------------------------------------------------------------------------------------------

NOW = dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Point, Point(1.0, 2.0)),
        (Row, {"key": "a", "note": "b"}),
        (dt.datetime, NOW),
        (dt.datetime, dt.datetime(2025, 3, 1)),  # noqa: DTZ001, RUF100 (without a zone on purpose)
        (dt.date, dt.date(2025, 3, 1)),
        (dt.timedelta, dt.timedelta(seconds=1.5)),
        (uuid.UUID, uuid.UUID(int=7)),
        (Colour, Colour.BLUE),
        (decimal.Decimal, decimal.Decimal("1.10")),
        (int | None, None),
        (Literal["a", "b"], "b"),
        (Annotated[int, msgspec.Meta(ge=1)], 1),
        (frozenset[int], frozenset({1, 2})),
        (dict[int, tuple[str, ...]], {1: ("a", "b")}),
        (Cat | Dog, Dog("rex")),
        (None, None),
        (bytes, b"\x00\xff"),
        (bytes | None, b"x"),
        (float, 3.0),
    ],
    ids=str,
)
def test_all_kinds_of_types_round_trip(hint: Any, value: Any) -> None:
    c = MethodCodec(Contract(name="t.f", params=(Param("v", hint),), order=("v",), result=hint, item_in=hint, item_out=hint))
    assert c.decode_args(memoryview(c.encode_args((value,), {})), c.raw_args) == (value,)
    assert c.decode_result(memoryview(c.encode_result(value)), c.raw_result) == value
    assert c.decode_item_in(memoryview(c.encode_item_in(value)), c.raw_item_in) == value
    assert c.decode_item_out(memoryview(c.encode_item_out(value)), c.raw_item_out) == value


def test_limits_of_values_hold_on_both_sides() -> None:
    c = MethodCodec(Contract(name="t.buy", params=(Param("count", Annotated[int, msgspec.Meta(ge=1)]),), order=("count",)))
    with pytest.raises(InvalidArgument, match=r"t\.buy\(count\): expected int >= 1"):
        c.encode_args((0,), {})
    with pytest.raises(InvalidArgument, match=r"t\.buy\(count\): expected int >= 1"):
        c.decode_args(plain_encode({"count": 0}), False)


def test_a_reply_that_does_not_fit_its_type() -> None:
    c = codec(two)
    with pytest.raises(BadReply, match=r"^the reply of shop\.two is not list\[Order\]: expected int, got str at \[0\]\.qty$") as caught:
        c.decode_result(plain_encode([{"id": "a", "qty": "x"}]), False)
    assert caught.value.executed == "yes"
    with pytest.raises(BadReply, match="got bytes"):
        c.decode_result(b"raw", True)
    with pytest.raises(BadReply, match="unsupported"):
        c.encode_result(object())
    with pytest.raises(BadReply, match="expected bytes, got str"):
        codec(put).encode_result("x")


def test_a_raw_flag_is_believed_over_the_contract() -> None:
    assert codec(put).decode_result(plain_encode(b"x"), False) == b"x"
    assert codec(put_any).decode_result(b"x", True) == bytearray(b"x")
    assert codec(anything).decode_result(b"x", True) == b"x"


def test_items_are_checked_where_they_enter_and_where_they_arrive() -> None:
    out, into = codec(watch), codec(send)
    assert out.decode_item_out(out.encode_item_out(Order("a", 1)), False) == Order("a", 1)
    with pytest.raises(BadReply, match=r"an item of shop\.watch is not Order: expected object, got int"):
        out.decode_item_out(b"\x01", False)
    with pytest.raises(InvalidArgument, match=r"shop\.send\(items\[\]\): an item is not Order: expected object, got int"):
        into.encode_item_in(1)
    with pytest.raises(InvalidArgument, match=r"an item is not Order: nested too deeply|expected object"):
        into.decode_item_in(DEEP, False)
    assert codec(upload).raw_item_in


def test_nothing_decoded_points_into_the_buffer() -> None:
    buffer = bytearray(plain_encode([b"secret", {"a": b"secret"}]))
    got = codec(anything).decode_result(memoryview(buffer), False)
    raw = codec(put).decode_args(memoryview(buffer), True)
    item = codec(upload).decode_item_in(memoryview(buffer), True)
    before = bytes(buffer)
    buffer[:] = bytes(len(buffer))
    assert got == [b"secret", {"a": b"secret"}]
    assert raw == (before,)
    assert item == before


# --- streams among the arguments ---------------------------------------------------------------------------------------------------------


async def chunks() -> AsyncIterator[bytes]:
    yield b""


def test_the_stream_is_parted_from_the_arguments() -> None:
    c, stream = codec(upload), chunks()
    assert c.take_stream(("a", stream, 5), {}) == (("a", 5), {}, stream)
    assert c.take_stream(("a",), {"chunks": stream, "size": 5}) == (("a",), {"size": 5}, stream)
    assert c.take_stream((), {"chunks": stream, "name": "a"}) == ((), {"name": "a"}, stream)
    assert codec(send).take_stream((), {"items": stream}) == ((), {}, stream)
    assert codec(place).take_stream((1,), {"a": 2}) == ((1,), {"a": 2}, None)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "message"),
    [
        (upload, ("a",), {}, r"shop\.upload\(chunks\): missing"),
        (upload, ("a", [b"x"]), {}, r"shop\.upload\(chunks\): expected an async iterator of bytes, got list"),
        (upload, ("a", 1), {"chunks": 2}, r"shop\.upload\(chunks\): given twice"),
        (send, (1,), {}, r"shop\.send\(items\): missing"),
    ],
)
def test_a_stream_that_is_none(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        codec(fn).take_stream(args, kwargs)


# --- without local types -----------------------------------------------------------------------------------------------------------------


def test_plain_data() -> None:
    assert plain_decode(memoryview(plain_encode({"a": Order("x", 1)}))) == {"a": {"id": "x", "qty": 1}}
    with pytest.raises(InvalidArgument, match="a value of type object cannot be sent"):
        plain_encode(object())
    with pytest.raises(BadReply, match="the reply cannot be decoded: invalid opcode"):
        plain_decode(b"\xc1")


def test_decode_as_is_the_answer_of_returns() -> None:
    assert decode_as(Order)(plain_encode({"id": "a", "qty": 1}), False) == Order("a", 1)
    assert decode_as(bytes)(b"x", True) == b"x"
    assert decode_as(Order) is decode_as(Order)
    unhashable = Annotated[int, msgspec.Meta(ge=1, extra={"a": []})]
    assert decode_as(unhashable)(b"\x05", False) == 5
    with pytest.raises(BadReply, match="the reply is not Order: expected object, got int"):
        decode_as(Order)(b"\x01", False)
    with pytest.raises(ConfigError, match=r"returns=.* is not a type"):
        decode_as(Cat | Dog | Order)  # type: ignore[arg-type]


def test_a_stub_s_unknown_default_is_left_to_the_server() -> None:
    class Shop:
        async def two(self, order: Order, times: int = ...) -> list[Order]: ...

    stub = MethodCodec(contracts_of(Shop, "shop")[0])
    assert codec(two).decode_args(stub.encode_args((Order("a", 1),), {}), False) == (Order("a", 1), 1)
    with pytest.raises(InvalidArgument, match=r"shop\.two\(times\): expected int, got ellipsis|unsupported"):
        stub.encode_args((Order("a", 1), ...), {})


def test_names_that_cannot_be_parameters() -> None:
    with pytest.raises(ConfigError, match=r"t\.f: the arguments cannot be described"):
        MethodCodec(Contract(name="t.f", params=(Param("not a name", int),), order=("not a name",)))


# --- properties --------------------------------------------------------------------------------------------------------------------------

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(plain_values)
def test_plain_data_round_trips(value: object) -> None:
    assert plain_decode(plain_encode(value)) == value
    assert through(anything, value) == (value,)


@given(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.none() | st.integers(0, 100))
def test_typed_arguments_round_trip(id_: str, qty: int, times: int | None) -> None:
    order = Order(id_, qty)
    if times is None:
        assert through(two, order) == (order, 1)
    else:
        assert through(two, order, times) == through(two, order=order, times=times) == (order, times)


@given(st.binary(max_size=300))
def test_raw_round_trips(data: bytes) -> None:
    assert through(put, data) == (data,)
    assert through(put_any, bytearray(data)) == (bytearray(data),)
