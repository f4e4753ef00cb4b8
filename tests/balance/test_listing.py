"""Files of nodes: both forms, and a complaint with its line for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint
from holdfast.balance.listing import FILE_MAX_BYTES, NODES_MAX, parse_nodes
from holdfast.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "nodes"),
    [
        (b"tcp://a:1", [Endpoint("tcp://a:1")]),
        (b"tcp://a:1\r\n\r\n  tcp://b:2  \r\n", [Endpoint("tcp://a:1"), Endpoint("tcp://b:2")]),
        (b"# all of them\na:1 weight=2 zone=a # the big one\n\t#b:1\n", [Endpoint("a:1", 2.0, {"zone": "a"})]),
        (b"\xef\xbb\xbfa:1 weight=0.5", [Endpoint("a:1", 0.5)]),
        (b"[::1]:7000 zone=a\nunix:///run/a#b", [Endpoint("[::1]:7000", 1.0, {"zone": "a"}), Endpoint("unix:///run/a#b")]),
        (b"a:1 version=1=2", [Endpoint("a:1", 1.0, {"version": "1=2"})]),
        (b'[{"address": "a:1"}]', [Endpoint("a:1")]),
        (
            b'\n [\n{"address": "a:1", "weight": 2, "labels": {"zone": "a"}},\n{"address": "a:1"}]\n',
            [Endpoint("a:1", 2.0, {"zone": "a"}), Endpoint("a:1")],
        ),
    ],
)
def test_what_may_stand_there(content: bytes, nodes: list[Endpoint]) -> None:
    assert parse_nodes(content) == nodes


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "it names no node; expected at least one address"),
        (b"# nothing\n\n", "it names no node; expected at least one address"),
        (b"[]", "it names no node; expected at least one address"),
        (b"a:1\nb:1 heavy", "line 2: expected name=value after the address, such as weight=2 or zone=a, got 'heavy'"),
        (b"a:1 zone=", "line 1: expected name=value after the address, such as weight=2 or zone=a, got 'zone='"),
        (b"a:1 =a", "line 1: expected name=value after the address, such as weight=2 or zone=a, got '=a'"),
        (b"a:1 zone=a zone=b", "line 1: expected zone once, got it twice"),
        (b"a:1\n\n# x\nb:1 weight=much", "line 4: expected a weight above 0, such as 2 or 0.5, got 'much'"),
        (b"a:1 weight=0", "line 1: expected a weight above 0, such as 2 or 0.5, got 0.0"),
        (b"a:1 weight=-1", "line 1: expected a weight above 0, such as 2 or 0.5, got -1.0"),
        (b"a:1 weight=nan", "line 1: expected a weight above 0, such as 2 or 0.5, got nan"),
        (b"a:1 weight=inf", "line 1: expected a weight above 0, such as 2 or 0.5, got inf"),
        (b"a:1 weight=5e-324", "line 1: expected a weight from 1e-06 to 1e+06, such as 2 or 0.5, got 5e-324"),
        (b'[{"address": "a:1", "weight": 1e308}]', "line 1: expected a weight from 1e-06 to 1e+06, such as 2 or 0.5, got 1e+308"),
        (b'[{"address": "a:1", "labels": ' + b"[" * 100_000, "expected a JSON array of objects with an address; it is nested too deep"),
        (b"a:1\n\xff", "line 2: expected UTF-8, got the byte 0xff"),
        (b'[{"address": "a:1"},\n{"address": 3}]', "line 2: expected an object with address, weight and labels; Expected `str`, got `int`"),
        (
            b'[{"address": "a:1"},\n{"adress": "b:1"}]',
            "line 2: expected an object with address, weight and labels; Object contains unknown",
        ),
        (b'[{"address": "a:1"},\n"b:1"]', "line 2: expected an object with address, weight and labels; Expected `object`, got `str`"),
        (b'[{"address": "a:1", "weight": 0}]', "line 1: expected a weight above 0, such as 2 or 0.5, got 0.0"),
        (b'[{"address": "a:1"},\n{"address": }]', "line 2: expected a JSON array of objects with an address; JSON is malformed"),
        (b'[\n{"address": "a:1"}', "line 2: expected a JSON array of objects with an address; Input data was truncated"),
        (b'[{"address": "a:1"}]\n\nb', "line 3: expected a JSON array of objects with an address; JSON is malformed"),
        (b"a:1\n" * (NODES_MAX + 1), f"it names {NODES_MAX + 1} nodes; expected at most {NODES_MAX}"),
        (b"#" * (FILE_MAX_BYTES + 1), f"it is longer than {FILE_MAX_BYTES} bytes; expected a list of nodes"),
    ],
    ids=range(25),
)
def test_what_may_not(content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=".") as raised:
        parse_nodes(content)
    assert str(raised.value).startswith(complaint)


@pytest.mark.parametrize("content", [b"a:1\nhttp://b", b'[{"address": "a:1"},\n{"address": "http://b"}]'])
@pytest.mark.parametrize("kind", [ValueError, ConfigError])
def test_an_address_is_spelled_as_the_one_who_knows_spells_it(content: bytes, kind: type[Exception]) -> None:
    def address(text: str) -> str:
        if text.startswith("http"):
            raise kind("that is no scheme of ours")
        return f"tcp://{text}"

    assert parse_nodes(content.replace(b"http://b", b"b:1"), address) == [Endpoint("tcp://a:1"), Endpoint("tcp://b:1")]
    with pytest.raises(ValueError, match="line 2: expected an address such as .*, got 'http://b'; that is no scheme of ours"):
        parse_nodes(content, address)


@pytest.mark.parametrize(
    "content",
    [b"a" * 500_000, b"a:1 " + b"b" * 500_000, b"a:1 weight=" + b"c" * 500_000, b'[{"address": "a:1", "' + b"d" * 500_000 + b'": 1}]'],
)
def test_a_complaint_is_short_however_long_what_it_is_about(content: bytes) -> None:
    def address(text: str) -> str:
        if len(text) > 300:
            raise ConfigError("too long")
        return text

    with pytest.raises(ValueError, match="^line 1: expected") as raised:
        parse_nodes(content, address)
    assert len(str(raised.value)) < 500


@given(st.one_of(st.binary(max_size=200), st.text('[]{}":, aw=1.#\n\\', max_size=60).map(str.encode)))
def test_whatever_stands_there_it_is_nodes_or_a_complaint(content: bytes) -> None:
    complaint = ""
    try:
        nodes = parse_nodes(content)
    except ValueError as error:
        complaint = str(error)
    assert "expected" in complaint or (nodes and all(node.key and node.weight > 0 for node in nodes))
