"""Arguments, results, items and catalogues from an enemy: a value of the type that was promised, or an error of the documented family.

first byte: what is decoded · second: raw or not · the rest: the body
"""

# The functions here are stubs: their hints are what is decoded.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from holdfast.errors import BadReply, ConfigError, HoldfastError, InvalidArgument, ProtocolError
from holdfast.rpc.catalogue import Catalogue
from holdfast.rpc.codec import MethodCodec, decode_as, plain_decode, plain_encode
from holdfast.rpc.contract import contract_of


class Order(msgspec.Struct):
    id: str
    qty: Annotated[int, msgspec.Meta(ge=0)] = 1


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


async def place(order: Order, times: int = 1) -> list[Order]: ...
async def many(a: int, b: str = "b", *, c: float = 1.5, d: list[int] = [1]) -> Row: ...  # noqa: B006
async def nothing() -> None: ...
async def put(data: bytes) -> bytes: ...
async def put_more(data: bytes, name: str = "n", tags: list[str] = []) -> bytearray: ...  # noqa: B006
async def anything(value: Any) -> Any: ...
async def grow(tree: Tree) -> Tree: ...
async def pets(pet: Cat | Dog, home: Point | None = None) -> dict[str, Cat | Dog]: ...
async def times(at: dt.datetime, day: dt.date, for_s: dt.timedelta) -> tuple[dt.datetime, dt.time]: ...
async def exact(price: decimal.Decimal, id: uuid.UUID, colour: Colour) -> Literal["yes", "no", 3]: ...
async def bounded(name: Annotated[str, msgspec.Meta(max_length=8, pattern="^[a-z]*$")], keys: dict[int, str]) -> list[int]: ...
async def upload(name: str, chunks: AsyncIterator[bytes], size: int = 0) -> int: ...
async def send(*, items: AsyncIterator[Order]) -> int: ...
async def watch(since: int) -> AsyncIterator[Order]:
    yield Order("a", since)


STUBS: tuple[Callable[..., Any], ...] = (
    *(place, many, nothing, put, put_more, anything, grow, pets, times, exact, bounded),
    *(upload, send, watch),
)
CODECS = tuple(MethodCodec(contract_of(each, f"shop.{each.__name__}")) for each in STUBS)
RETURNS = tuple(decode_as(each) for each in (int, str, bytes, list[Order], dict[str, Any], Tree, frozenset[int], dt.datetime))  # type: ignore[type-abstract]
written_down = msgspec.msgpack.encode
"""Values as bytes, to compare them: NaN is not equal to itself."""
OURS = Catalogue.of(each.contract for each in CODECS)


def one(data: bytes) -> None:
    """Run one input."""
    which = data[0] if data else 0
    raw = bool(data[1] & 1) if len(data) > 1 else False
    body = memoryview(bytearray(data[2:]))
    if which >= 0xF0:
        catalogue(bytes(body))
    elif which >= 0xE0:
        plain(bytes(body))
    elif which >= 0xD0:
        expect(BadReply, lambda: RETURNS[which & 7](body, raw))
    else:
        method(CODECS[which % len(CODECS)], which // len(CODECS) % 4, body, raw)


def expect(family: type[HoldfastError], decode: Callable[[], object]) -> object:
    """Decode. An error of the family is an answer; anything else is a finding."""
    try:
        return decode()
    except family as error:
        assert str(error)
        return None


def method(codec: MethodCodec, which: int, body: memoryview, raw: bool) -> None:
    if which == 0:
        values = expect(InvalidArgument, lambda: codec.decode_args(body, raw))
        if values is not None:
            arguments(codec, values)  # type: ignore[arg-type]
    elif which == 1:
        value = expect(BadReply, lambda: codec.decode_result(body, raw))
        if value is not None:
            there_and_back(codec.encode_result, codec.decode_result, value, codec.raw_result)
    elif which == 2:
        expect(BadReply, lambda: codec.decode_item_out(body, raw))
    else:
        value = expect(InvalidArgument, lambda: codec.decode_item_in(body, raw))
        if value is not None and codec.contract.stream_param is not None:
            there_and_back(codec.encode_item_in, codec.decode_item_in, value, codec.raw_item_in)


def arguments(codec: MethodCodec, values: tuple[Any, ...]) -> None:
    """What a server took in, a client could have sent."""
    params = codec.contract.params
    assert len(values) == len(params)
    named = {param.name: value for param, value in zip(params, values, strict=True)}
    again = codec.decode_args(codec.encode_args((), named), codec.raw_args)
    assert written_down(again) == written_down(values)


def there_and_back(encode: Callable[[Any], bytes], decode: Callable[[Any, bool], Any], value: Any, raw: bool) -> None:
    assert written_down(decode(encode(value), raw)) == written_down(value)


def plain(body: bytes) -> None:
    value = expect(BadReply, lambda: plain_decode(body))
    if value is not None:
        expect(InvalidArgument, lambda: plain_encode(value))


def catalogue(body: bytes) -> None:
    """A server's catalogue: read, looked through, and compared with what we know."""
    try:
        found = Catalogue.decode(body)
    except ProtocolError as error:
        assert str(error)
        return
    assert Catalogue.decode(found.encode()).encode() == found.encode()
    assert len(found.digest) == 16
    found.suggest("shop.place")
    expect(ConfigError, lambda: found.check(CODECS[0].contract))
    for entry in found.entries[:3]:
        assert entry.info.name == entry.name
        assert found.find(entry.name) is not None
        found.only(lambda name, wanted=entry.name: name == wanted)  # type: ignore[misc]
        try:
            contract = entry.contract()
        except ProtocolError as error:
            assert str(error)
            continue
        expect(ConfigError, lambda known=contract: MethodCodec(known))  # type: ignore[misc]
        expect(ConfigError, lambda known=contract: OURS.check(known))  # type: ignore[misc]
    for each in CODECS[:8]:
        expect(ConfigError, lambda known=each.contract: found.check(known))  # type: ignore[misc]


def seeds() -> list[bytes]:
    """Each method's arguments and results as they are sent, and catalogues."""
    plain_ = msgspec.msgpack.encode
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    order, id_ = Order("a", 2), uuid.UUID(int=5)
    args: list[tuple[Any, ...]] = [
        (order, 3),
        (1, "x"),
        (),
        (b"raw",),
        (b"raw", "n"),
        ({"a": [1, None, b"x", 1.5, at]},),
        (Tree([Tree()]),),
    ]
    args += [(Cat(9), Point(1.0)), (at, at.date(), dt.timedelta(seconds=1)), (decimal.Decimal("1.5"), id_, Colour.RED), ("abc", {1: "x"})]
    args += [("n",), (), (1,)]
    results: list[Any] = [[order], {"key": "k"}, None, b"raw", bytearray(b"raw"), [1, {}], Tree([Tree([Tree()])]), {"a": Dog("rex")}]
    results += [(at, at.time()), "yes", [1, 2], 5, 6, None]
    found = []
    for index, codec in enumerate(CODECS):
        found.append(bytes((index, codec.raw_args)) + codec.encode_args(args[index], {}))
        if codec.contract.shape in ("unary", "client_stream"):
            found.append(bytes((index + len(CODECS), codec.raw_result)) + codec.encode_result(results[index]))
        found += [bytes((index, 1)) + b"bare", bytes((index, 0)) + plain_({"zzz": 1}), bytes((index, 0)) + b"\x91" * 2000]
    found += [bytes((2 * len(CODECS) + 13, 0)) + plain_(order), bytes((3 * len(CODECS) + 12, 0)) + plain_(order)]
    found += [bytes((0xD0 + index, 0)) + plain_(each) for index, each in enumerate((1, "x", b"b", [order], {"a": 1}, Tree(), [3, 3], at))]
    found += [b"\xe0\0" + plain_(each) for each in ({"a": [1, -1, 2**63, 1.5, None, True]}, [b"x" * 300], {1: {2: 3}}, at)]
    found += [
        b"\xe0\0\xc7\x05\x07abcde",
        b"\xe0\0\xdd\xff\xff\xff\xff",
        b"\xe0\0\xdf\xff\xff\xff\xff",
        b"\xe0\0" + b"\x81\x90\x01",
        b"\xe0\0\xc1",
    ]
    alone = [Catalogue.of([each.contract]).encode() for each in CODECS]
    return found + [b"\xf0\0" + each for each in (*alone, Catalogue.of([CODECS[0].contract, CODECS[7].contract]).encode())]
