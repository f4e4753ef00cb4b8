"""What a call brought, as bytes for stdout: JSON for values, bytes as they are unless a terminal would suffer.

Owned here: the forms of results, listings and errors. Pure: it makes bytes, the verb writes them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ..errors import HoldfastError
from .text import printable


class Form(NamedTuple):
    """How to print results.

    Attributes:
        json: nothing but JSON, bytes as base64.
        raw: bytes and text as they are.
        terminal: a person looks: indent, escape, and never send binary.
    """

    json: bool = False
    raw: bool = False
    terminal: bool = False


def result_bytes(value: object, form: Form, *, item: bool = False) -> bytes:
    """The bytes of one result. `item`: it is one of a stream and must stay on one line."""
    if isinstance(value, bytes) and not form.json and (form.raw or not form.terminal):
        return value
    if isinstance(value, str) and form.raw and not form.json:
        return (value + "\n").encode()
    if isinstance(value, bytes) and not form.json:
        return (_short(value) + "\n").encode()
    encoded = _json(value)
    if form.terminal and not form.json:
        if not item and isinstance(value, dict | list):
            encoded = msgspec.json.format(encoded, indent=2)
        encoded = _for_terminal(encoded.decode()).encode()
    return encoded + b"\n"


def error_bytes(error: HoldfastError) -> bytes:
    """`{"error": {…}}`: what a program needs to decide what to do next."""
    facts: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "fault": error.fault,
        "executed": error.executed,
        "retry": error.retry,
    }
    if error.retry_after_s is not None:
        facts["retry_after_s"] = error.retry_after_s
    details = getattr(error, "details", None)
    if details is not None:
        facts["details"] = details
    return _json({"error": facts}) + b"\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, by the width a terminal gives each character (two for 中文)."""
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*safe, strict=True)]
    lines = ["  ".join(cell + " " * (w - display_width(cell)) for cell, w in zip(row, widths, strict=True)).rstrip() for row in safe]
    return "\n".join(lines)


def display_width(text: str) -> int:
    """How many columns a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=_unknown)


def _unknown(value: Any) -> object:
    return repr(value)


def _short(value: bytes) -> str:
    head = repr(value[:32])
    return f"{head if len(value) <= 32 else head + '…'} ({len(value):,} bytes; --raw or -o FILE writes them)"


def _for_terminal(text: str) -> str:
    """JSON with everything escaped that a terminal would obey; line breaks of our own indentation stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
