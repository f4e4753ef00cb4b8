"""Words become arguments by schema: what reads as what, and what is refused with the words to write."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.arguments import Arguments, Parameter, Signature, from_json, is_bytes, parse_arguments
from holdfast.errors import InvalidArgument


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Line(msgspec.Struct):
    sku: str
    qty: int = 1


class Order(msgspec.Struct):
    id: str
    qty: int
    note: str | None = None
    ratio: float = 0.5
    gift: bool = False
    lines: list[Line] = []
    extra: dict[str, int] = {}
    photo: bytes = b""
    parent: Order | None = None


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    tricks: list[str]


@dataclass
class Point:
    x: int
    y: int


def signature(stream: str | None = None, items: Any = None, /, **types: Any) -> Signature:
    names = list(types)
    everything = [*types.values(), *([items] if items is not None else [])]
    schemas, components = msgspec.json.schema_components(everything)
    parameters = tuple(Parameter(n, s) for n, s in zip(names, schemas, strict=False))
    text = f"shop.m({', '.join(names)})"
    return Signature(text, parameters, stream, schemas[-1] if items is not None else {}, components)


FILES: Mapping[str, bytes] = {
    "bin": b"\x00\xff\xfe",
    "text": "grüße\n".encode(),
    "n": b" 42\n",
    "order": b'{"id":"o-1","qty":2,"photo":"AP8="}',
    "args": b'{"order":{"id":"o-1","qty":2,"photo":"AP8="},"n":1}',
    "list": b"[1]",
    "bad": b"{",
    "-": b'{"n": 7}',
}


def values(words: Sequence[str], sig: Signature) -> dict[str, object]:
    return parse_arguments(words, sig, FILES.__getitem__).values


@pytest.mark.parametrize(
    ("type_", "word", "expected"),
    [
        (str, "x=ann", "ann"),
        (str, "x=2", "2"),
        (str, "x=true", "true"),
        (str, "x=", ""),
        (str, "x=a=b", "a=b"),
        (str, "x=a:=b", "a:=b"),
        (str, 'x:="q"', "q"),
        (str, 'x:="@home"', "@home"),
        (str, "x=@text", "grüße\n"),
        (str, "x=中文", "中文"),
        (int, "x=2", 2),
        (int, "x=-2", -2),
        (int, "x:=2", 2),
        (int, "x=@n", 42),
        (float, "x=2", 2),
        (float, "x=2.5", 2.5),
        (bool, "x=true", True),
        (bool, "x=false", False),
        (None, "x=null", None),
        (Any, "x=2", "2"),
        (Any, "x:=2", 2),
        (bytes, "x=hi", b"hi"),
        (bytes, "x=@bin", b"\x00\xff\xfe"),
        (bytes, "x=\udcff", b"\xff"),
        (bytes, 'x:="AP8="', b"\x00\xff"),
        (bytes | None, "x=hi", b"hi"),
        (str | None, "x=null", "null"),
        (str | None, "x:=null", None),
        (int | None, "x=null", None),
        (int | None, "x=3", 3),
        (int | str, "x=3", "3"),
        (list[int], "x=[1,2]", [1, 2]),
        (list[bytes], 'x:=["AP8=","AA=="]', [b"\x00\xff", b"\x00"]),
        (dict[str, bytes], 'x:={"a":"AP8="}', {"a": b"\x00\xff"}),
        (tuple[int, bytes], 'x:=[1,"AP8="]', [1, b"\x00\xff"]),
        (Order, "x=@order", {"id": "o-1", "qty": 2, "photo": b"\x00\xff"}),
        (Order, "x:=@order", {"id": "o-1", "qty": 2, "photo": b"\x00\xff"}),
        (Colour, "x=red", "red"),
        (Level, "x=2", 2),
        (Literal["a", "b"], "x=b", "b"),
        (Literal["a", 1], "x=1", 1),
        (datetime.datetime, "x=2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        (uuid.UUID, "x=8e5f5d6c-6a5d-4c0b-a6f5-000000000000", "8e5f5d6c-6a5d-4c0b-a6f5-000000000000"),
        (decimal.Decimal, "x=1.50", "1.50"),
        (Annotated[int, msgspec.Meta(ge=1)], "x=3", 3),
        (Order, "x.id=o-1", {"id": "o-1"}),
        (Order, "x.qty=2", {"qty": 2}),
        (Order, "x.note=2", {"note": "2"}),
        (Order, "x.photo=@bin", {"photo": b"\x00\xff\xfe"}),
        (Order, "x.extra.a=2", {"extra": {"a": 2}}),
        (Order, "x.parent.parent.id=o", {"parent": {"parent": {"id": "o"}}}),
        (Order, 'x.lines=[{"sku":"A"}]', {"lines": [{"sku": "A"}]}),
        (Cat | Dog, "x.lives=9", {"lives": 9}),
        (Cat | Dog, "x.type=cat", {"type": "cat"}),
        (Point, "x.y=1", {"y": 1}),
        (dict[str, Any], "x.a=1", {"a": "1"}),
        (Any, "x.a.b:=1", {"a": {"b": 1}}),
    ],
)
def test_one_word(type_: Any, word: str, expected: object) -> None:
    got = values([word], signature(x=type_))["x"]
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("type_", "words", "message"),
    [
        (int, ["x=abc"], "x: expected integer, got 'abc'"),
        (int, ["x=2.5"], "x: expected integer, got '2.5'"),
        (int, ["x=true"], "expected integer"),
        (int, ["x="], "expected integer, got ''"),
        (int, ['x="2"'], "expected integer"),
        (bool, ["x=yes"], "x: expected boolean, got 'yes'"),
        (int | None, ["x=a"], "expected integer or null"),
        (list[int], ["x=1"], "expected array"),
        (Colour, ["x=green"], "expected one of 'blue', 'red', got 'green'"),
        (Level, ["x=3"], "expected one of 1, 2"),
        (int, ["x:={"], "x: expected JSON, got '{'"),
        (bytes, ['x:="%%"'], "expected bytes as base64"),
        (list[bytes], ['x:=["%"]'], r"x\[0\]: expected bytes"),
        (str, ["x=@bin"], "not UTF-8"),
        (str, ["x=\udcff"], "not UTF-8"),
        (str, ["x=@"], "needs a file name"),
        (str, ["y=1"], r"shop.m\(x\) takes no 'y'"),
        (Order, ["id=1"], "did you mean 'x.id'"),
        (Order, ["x.qnt=1"], "x has no field 'qnt', did you mean 'qty'"),
        (Order, ["x.zzz=1"], "it has id, qty, note"),
        (Order, ["x.lines.sku=1"], r"x.lines is array and has no field 'sku'; write x.lines:='\[…\]'"),
        (str, ["x.y=1"], "x is string and has no field 'y'"),
        (str, ["x"], "'x' is not an argument; write name=value"),
        (str, ["=1"], "is not an argument"),
        (str, ["x.=1"], "is not an argument"),
        (str, ["x=1", "x=2"], "x is given twice"),
        (Order, ["x.id=1", "x.id=2"], "x.id is given twice"),
        (Order, ["x.id=1", "x:={}"], "x is given twice"),
        (Order, ["x:={}", "x.id=1", "x.id=2"], "x.id is given twice"),
        (Order, ["x:=1", "x.id=1"], "x is given as a whole"),
        (str, [], r"shop.m\(x\) needs x; write x="),
        (str, ["@list"], "list: expected a JSON object with the arguments by name, got array"),
        (str, ["@bad"], "bad: expected JSON"),
        (str, ["@"], "needs a file name"),
        (str, ["@list", "-"], "there can be one"),
        (str, ["-"], "takes no 'n'"),
    ],
)
def test_refusals_say_what_to_write(type_: Any, words: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        values(words, signature(x=type_))


def test_words_build_one_object() -> None:
    got = values(["order.id=o-1", "order.qty=2", "order.extra.a=1", "order.extra.b=2", "n=3"], signature(order=Order, n=int))
    assert got == {"order": {"id": "o-1", "qty": 2, "extra": {"a": 1, "b": 2}}, "n": 3}


def test_a_whole_object_from_a_file_with_words_over_it() -> None:
    sig = signature(order=Order, n=int)
    assert values(["@args"], sig) == {"order": {"id": "o-1", "qty": 2, "photo": b"\x00\xff"}, "n": 1}
    got = values(["n=5", "@args", "order.qty=9"], sig)
    assert got == {"order": {"id": "o-1", "qty": 9, "photo": b"\x00\xff"}, "n": 5}
    with pytest.raises(InvalidArgument, match="n is given twice"):
        values(["@args", "n=5", "n=6"], sig)


def test_standard_input_as_the_whole_object() -> None:
    assert parse_arguments(["-"], signature(n=int), FILES.__getitem__) == Arguments({"n": 7}, None)


@pytest.mark.parametrize(("word", "source"), [("-", "-"), ("@-", "-"), ("@a.bin", "a.bin")])
def test_a_stream_comes_from_a_source_that_is_not_read_yet(word: str, source: str) -> None:
    sig = signature("chunks", bytes, name=str)
    assert parse_arguments(["name=a", word], sig, FILES.__getitem__) == Arguments({"name": "a"}, source)


def test_a_stream_method_wants_its_stream() -> None:
    sig = signature("chunks", bytes, name=str)
    with pytest.raises(InvalidArgument, match="takes a stream of chunks; add @file or -"):
        values(["name=a"], sig)
    with pytest.raises(InvalidArgument, match="chunks is the stream"):
        values(["name=a", "chunks=x"], sig)


def test_defaults_may_be_left_out() -> None:
    sig = Signature("shop.m(a, b=1)", (Parameter("a", {"type": "string"}), Parameter("b", {"type": "integer"}, required=False)))
    assert values(["a=1"], sig) == {"a": "1"}


def test_bytes_are_known_by_their_schema() -> None:
    sig = signature("s", bytes, a=str, o=Order)
    assert is_bytes(sig.items, sig.components)
    assert not is_bytes(sig.parameters[0].schema, sig.components)
    assert not is_bytes(sig.parameters[1].schema, sig.components)


@pytest.mark.parametrize(
    "components",
    [
        {"A": {"$ref": "#/$defs/A"}},
        {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]}},
        {"A": {"anyOf": [{"$ref": "#/$defs/B"}, {"$ref": "#/$defs/B"}]}, "B": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]}},
        {},
    ],
)
def test_a_catalogue_that_refers_in_circles_ends(components: dict[str, Any]) -> None:
    sig = Signature("m(x)", (Parameter("x", {"$ref": "#/$defs/A"}),), None, {}, components)
    with pytest.raises(InvalidArgument) if components else nothing():
        values(["x=text"], sig)


def test_json_that_nests_too_deep_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected JSON"):
        from_json("[" * 100_000, {}, {}, "x")


@given(st.lists(st.text(), max_size=4))
def test_any_words_give_arguments_or_a_refusal(words: list[str]) -> None:
    sig = signature(order=Order, n=int, name=str, data=bytes)

    def read(path: str) -> bytes:
        return path.encode("utf-8", "replace")

    try:
        got = parse_arguments(words, sig, read)
    except InvalidArgument:
        return
    assert sorted(got.values) == ["data", "n", "name", "order"]


class nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...
