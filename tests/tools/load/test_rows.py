"""Files of rows: text, CSV and JSON lines, and each way they can be wrong."""

from __future__ import annotations

import pytest

from holdfast.errors import InvalidArgument
from holdfast.tools.load.rows import Rows, column_of, read_rows


@pytest.mark.parametrize(
    ("content", "path", "column", "rows"),
    [
        (b"a\n\nb\r\n", "w.txt", "", Rows(["a", "b"], ["a", "b"])),
        (b"\xef\xbb\xbfa", "w", "", Rows(["a"], ["a"])),
        (b'sku,qty\nA,1\n"B,b",2\n', "o.csv", "sku", Rows(["A", "B,b"], ["A", "B,b"])),
        (b'sku,qty\nA,1\n"B\nb",2\n', "o.CSV", "qty", Rows(["1", "2"], ["1", "2"])),
        (b'"a"\n\n2\n{"x":[1]}\n', "v.jsonl", "", Rows(["a", "2", '{"x":[1]}'], ['"a"', "2", '{"x":[1]}'])),
        (b'{"sku":"A","qty":1}\n{"sku":null,"qty":2}', "o.ndjson", "sku", Rows(["A", "null"], ['"A"', "null"])),
    ],
)
def test_rows(content: bytes, path: str, column: str, rows: Rows) -> None:
    assert read_rows(content, path, column) == rows


@pytest.mark.parametrize(
    ("content", "path", "column", "message"),
    [
        (b"", "w.txt", "", "w.txt has no rows"),
        (b"a", "w.txt", "sku", "w.txt has no columns: write {file:w.txt}"),
        (b"\xff", "w.txt", "", "w.txt: expected UTF-8"),
        (b"sku\nA", "o.csv", "", "say which one: {file:o.csv:sku}"),
        (b"sku\nA", "o.csv", "qty", "no column 'qty'; its columns are sku"),
        (b"", "o.csv", "qty", "it has no columns"),
        (b"sku\n", "o.csv", "sku", "o.csv has no rows"),
        (b"sku,qty\nA,1\nB\n", "o.csv", "qty", "o.csv line 3 has no 'qty'"),
        (b'sku\n"A', "o.csv", "sku", "o.csv line 2: expected CSV"),
        (b'{"a":1}\n{', "o.jsonl", "a", "o.jsonl line 2: expected JSON"),
        (b'{"a":1}\n{"b":1}', "o.jsonl", "a", "o.jsonl line 2 has no column 'a'; its columns are b"),
        (b"1", "o.jsonl", "a", "it has no columns"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_line(content: bytes, path: str, column: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_rows(content, path, column)
    assert message in str(caught.value)


@pytest.mark.parametrize(("spec", "parts"), [("a.csv:sku", ("a.csv", "sku")), ("a.txt", ("a.txt", "")), (":x", (":x", ""))])
def test_the_column_stands_behind_the_path(spec: str, parts: tuple[str, str]) -> None:
    assert column_of(spec) == parts
