"""Generators in words: each kind in each place, by the types that a method takes."""

from __future__ import annotations

import random
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.arguments import Parameter, Signature, parse_arguments
from holdfast.errors import InvalidArgument
from holdfast.tools.load.generate import ALPHABET, make_arguments, sample_words

STRING, INTEGER = {"type": "string"}, {"type": "integer"}
BYTES = {"type": "string", "contentEncoding": "base64"}
ORDER = {"type": "object", "properties": {"id": STRING, "qty": INTEGER, "note": STRING}}
TAKES = Signature(
    "shop.place(…)",
    tuple(
        Parameter(name, schema, False)
        for name, schema in (
            ("sku", STRING),
            ("qty", INTEGER),
            ("blob", BYTES),
            ("order", ORDER),
            ("tags", {"type": "array", "items": STRING}),
            ("blobs", {"type": "array", "items": BYTES}),
        )
    ),
)

FILES = {
    "skus.txt": b"A\nB\nC\n",
    "orders.csv": b'sku,qty\nA,1\n"B ""b""",22\n',
    "orders.jsonl": b'{"sku":"A","qty":1,"all":{"id":"a","qty":5}}\n{"sku":"B","qty":2,"all":{"id":"b","qty":6}}\n',
    "bad.csv": b"qty\n1\nx\n",
    "blob.bin": b"{i}",
}


def arguments(*words: str, seed: int = 1) -> Any:
    """The function from call number to arguments, made the way the verb makes it."""
    sample = parse_arguments(sample_words(words, FILES.__getitem__), TAKES, FILES.__getitem__).values
    return make_arguments(words, sample, FILES.__getitem__, random.Random(seed))


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (["sku=A-{i}"], {"sku": "A-0"}, {"sku": "A-1"}),
        (["sku={i}"], {"sku": "0"}, {"sku": "1"}),
        (["sku={i}-{i}."], {"sku": "0-0."}, {"sku": "1-1."}),
        (["qty={i}"], {"qty": 0}, {"qty": 1}),
        (["qty:={i}"], {"qty": 0}, {"qty": 1}),
        (["qty=1{i}"], {"qty": 10}, {"qty": 11}),
        (["blob=x{i}"], {"blob": b"x0"}, {"blob": b"x1"}),
        (["sku=A", "qty={i}"], {"sku": "A", "qty": 0}, {"sku": "A", "qty": 1}),
        (["order.id=o-{i}", "order.qty=2"], {"order": {"id": "o-0", "qty": 2}}, {"order": {"id": "o-1", "qty": 2}}),
        (['order:={"id":"o-{i}","qty":{i}}'], {"order": {"id": "o-0", "qty": 0}}, {"order": {"id": "o-1", "qty": 1}}),
        (['order:={"id":"{{i}}","qty":{i}}'], {"order": {"id": "{i}", "qty": 0}}, {"order": {"id": "{i}", "qty": 1}}),
        (['tags:=["{i}", "\\"{i}"]'], {"tags": ["0", '"0']}, {"tags": ["1", '"1']}),
        (["sku={file:skus.txt}"], {"sku": "A"}, {"sku": "B"}),
        (["sku={file:orders.csv:sku}", "qty={file:orders.csv:qty}"], {"sku": "A", "qty": 1}, {"sku": 'B "b"', "qty": 22}),
        (['tags:=["{file:orders.csv:sku}"]'], {"tags": ["A"]}, {"tags": ['B "b"']}),
        (["qty:={file:orders.jsonl:qty}"], {"qty": 1}, {"qty": 2}),
        (["order:={file:orders.jsonl:all}"], {"order": {"id": "a", "qty": 5}}, {"order": {"id": "b", "qty": 6}}),
        (["sku={{i}}"], {"sku": "{i}"}, {"sku": "{i}"}),
        (['order:={"id":"a","qty":{"x":{}}}'], {"order": {"id": "a", "qty": {"x": {}}}}, {"order": {"id": "a", "qty": {"x": {}}}}),
        (["blob=@blob.bin"], {"blob": b"{i}"}, {"blob": b"{i}"}),
    ],
)
def test_the_arguments_of_two_calls(words: list[str], first: object, second: object) -> None:
    make = arguments(*words)
    assert make(0) == first
    assert make(1) == second
    assert make(0) == first  # no call changes what another one gets


def test_rows_begin_again() -> None:
    make = arguments("sku={file:skus.txt}")
    assert [make(n)["sku"] for n in range(7)] == list("ABCABCA")


def test_two_generators_in_the_same_argument_object() -> None:
    make = arguments("order.id={i}", "order.note=n{i}", "order.qty=1", "sku=x")
    assert make(3) == {"order": {"id": "3", "note": "n3", "qty": 1}, "sku": "x"}


def test_without_generators_nothing_is_copied() -> None:
    make = arguments("sku=A")
    assert make(0) is make(1)


def test_random_characters_come_from_the_alphabet_and_repeat_with_the_seed() -> None:
    make, again, other = (arguments("sku={rand:64}", seed=seed) for seed in (1, 1, 2))
    texts = [make(n)["sku"] for n in range(200)]
    assert {len(text) for text in texts} == {64}
    assert set("".join(texts)) == set(ALPHABET)
    assert len({*texts}) == 200
    assert [again(n)["sku"] for n in range(200)] == texts
    assert other(0)["sku"] != texts[0]


def test_uuids_are_random_ones() -> None:
    make = arguments("sku={uuid}", "tags:=[{uuid}, {rand:3}]")
    made = [make(n) for n in range(100)]
    for each in made:
        for text in (each["sku"], each["tags"][0]):
            assert uuid.UUID(text).version == 4
            assert uuid.UUID(text).variant == uuid.RFC_4122
            assert str(uuid.UUID(text)) == text
        assert re.fullmatch("[0-9a-f]{3}", each["tags"][1])
    assert len({each["sku"] for each in made}) == 100


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sku={x}", "sku: there is no generator {x}; there are {i}, {uuid}"),
        ("sku={}", "there is no generator {}"),
        ("sku={i:3}", "there is no generator {i:3}"),
        ("sku=a{b", "a single '{'; write it twice"),
        ("sku=a}b", "a single '}'; write it twice"),
        ("sku={rand}", "write how many characters"),
        ("sku={rand:0}", "write how many characters"),
        ("sku={rand:9999999}", "from 1 to 1,048,576"),
        ("sku={file:}", "there is no generator {file:}"),
        ("sku={file:skus.txt:a}", "skus.txt has no columns"),
        ("qty={uuid}", "qty: expected integer, got '0"),
        ("qty={file:bad.csv:qty}", "qty: call 1 would have 'x', which is not JSON"),
        ('blobs:=["{i}AAA"]', "blobs has bytes inside its JSON"),
        ('tags:=["{x}"]', "there is no generator {x}"),
        ('tags:=["a', "expected JSON"),
    ],
)
def test_what_is_no_generator_is_refused(word: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        arguments(word)
    assert message in str(caught.value)


@given(
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=30).filter(lambda text: not text.startswith("@")), st.integers(0, 10**9)
)
def test_any_text_with_its_braces_doubled_comes_out_as_it_was(text: str, number: int) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert arguments(f"sku={doubled}")(number) == {"sku": text}
    assert arguments(f"sku={doubled}{{i}}")(number) == {"sku": f"{text}{number}"}


@given(
    st.recursive(
        st.text('{}i"\\a:', max_size=5), lambda inner: st.dictionaries(st.text("ab{}", max_size=3), inner, max_size=3), max_leaves=6
    )
)
def test_any_json_object_keeps_its_braces(value: Any) -> None:
    import json

    def doubled(part: Any) -> Any:
        if isinstance(part, str):
            return part.replace("{", "{{").replace("}", "}}")
        return {doubled(key): doubled(each) for key, each in part.items()}

    make = arguments("tags:=" + json.dumps([doubled(value)]))
    assert make(0) == {"tags": [value]}
