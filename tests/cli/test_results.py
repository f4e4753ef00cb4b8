"""Results as bytes: JSON for values, bytes untouched unless a terminal would suffer."""

from __future__ import annotations

import json

import pytest

from holdfast.cli.results import Form, display_width, error_bytes, result_bytes, table
from holdfast.errors import Overloaded, Refused

PIPE, TTY, JSON, RAW = Form(), Form(terminal=True), Form(json=True), Form(raw=True, terminal=True)
BINARY = bytes(range(256))


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ({"a": 1}, PIPE, b'{"a":1}\n'),
        ({"a": 1}, JSON, b'{"a":1}\n'),
        ({"a": 1}, TTY, b'{\n  "a": 1\n}\n'),
        ("text", PIPE, b'"text"\n'),
        ("text", RAW, b"text\n"),
        (None, JSON, b"null\n"),
        (BINARY, PIPE, BINARY),
        (BINARY, RAW, BINARY),
        (b"\x00\xff", JSON, b'"AP8="\n'),
        (b"hi", TTY, b"b'hi' (2 bytes; --raw or -o FILE writes them)\n"),
        ("中文", TTY, '"中文"\n'.encode()),
        ("\x9b2J\U000e0001", TTY, b'"\\u009b2J\\udb40\\udc01"\n'),
    ],
)
def test_a_result(value: object, form: Form, expected: bytes) -> None:
    assert result_bytes(value, form) == expected


def test_an_item_stays_on_one_line_on_a_terminal_too() -> None:
    assert result_bytes({"a": [1]}, TTY, item=True) == b'{"a":[1]}\n'


def test_long_bytes_are_shown_short_on_a_terminal() -> None:
    assert len(result_bytes(BINARY * 100, TTY)) < 250
    assert b"25,600 bytes" in result_bytes(BINARY * 100, TTY)


def test_what_a_terminal_shows_is_still_the_same_json() -> None:
    value = {"a": "\x1b[2J\x7f\u202e", "b": ["ok"]}
    shown = result_bytes(value, TTY)
    assert b"\x1b" not in shown
    assert json.loads(shown) == value


def test_an_error_carries_what_a_program_needs() -> None:
    error = Refused("sold out", code="aborted", details={"left": 0})
    assert json.loads(error_bytes(error)) == {
        "error": {"code": "aborted", "message": "sold out", "fault": "caller", "executed": "yes", "retry": "never", "details": {"left": 0}}
    }
    assert json.loads(error_bytes(Overloaded("full", retry_after_s=0.5)))["error"]["retry_after_s"] == 0.5


def test_columns_line_up_with_wide_characters() -> None:
    text = table([("shop.中文(a)", "x"), ("shop.ab(c: int)", "y"), ("bad\x1bname", "")])
    first, second, third = text.splitlines()
    assert display_width(first[: first.index("  x")]) + 2 <= display_width(second) - 1
    assert first.endswith("x")
    assert display_width(first) == display_width(second)
    assert third == "bad\\x1bname"
