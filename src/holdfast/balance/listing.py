"""What a file of nodes may say, and what is wrong with one that says something else.

Owns: the two forms such a file may have, lines for people and JSON for programs. What may never happen here: a file, a name lookup; half
of a list taken because the other half is wrong; a complaint without the line it is about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import ConfigError
from .endpoint import Endpoint

FILE_MAX_BYTES = 1024 * 1024
NODES_MAX = 10_000
WEIGHT_MIN, WEIGHT_MAX = 1e-6, 1e6
"""Beyond that pickers that add weights up, or divide by them, would come to infinity or to nothing."""

SHOWN_CHARS_MAX = 100
"""Of what stands in a file, in a complaint about it: whoever wrote it may have written a megabyte of it."""

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#")
_JSON = re.compile(rb"\s*\[\s*[{\]]")  # a line may begin with [ too: [::1]:7000


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node in JSON."""

    address: str
    weight: float = 1.0
    labels: dict[str, str] = {}


_entries = msgspec.json.Decoder(list[msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)


def parse_nodes(content: bytes, address: Callable[[str], str] = str) -> list[Endpoint]:
    """Read the nodes of a file. At least one, at most `NODES_MAX`, in at most `FILE_MAX_BYTES`.

    Either a line each, `tcp://10.0.0.7:7000 weight=2 zone=a # a comment`, where all but `weight` are labels; or a JSON array of
    `{"address": "tcp://10.0.0.7:7000", "weight": 2, "labels": {"zone": "a"}}`.

    Args:
        address: turns the text of an address into the key of a node; raises ValueError or ConfigError for one that is none.
    Raises: ValueError naming the line, what was expected there, and what came.
    """
    if len(content) > FILE_MAX_BYTES:
        raise ValueError(f"it is longer than {FILE_MAX_BYTES} bytes; expected a list of nodes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {_line_of(content, error.start)}: expected UTF-8, got the byte {content[error.start]:#04x}") from None
    found = _parse_json(text.encode(), address) if _JSON.match(text.encode()) else _parse_lines(text, address)
    if not found:
        raise ValueError("it names no node; expected at least one address")
    if len(found) > NODES_MAX:
        raise ValueError(f"it names {len(found)} nodes; expected at most {NODES_MAX}")
    return found


def _parse_lines(text: str, address: Callable[[str], str]) -> list[Endpoint]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        words = (_COMMENT.split(line, maxsplit=1)[0] if "#" in line else line).split()
        if words:
            try:
                found.append(_endpoint(words[0], *_attributes(words[1:]), address))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return found


def _attributes(words: list[str]) -> tuple[Any, dict[str, str]]:
    """The weight and the labels at the end of a line."""
    named: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _LABEL.fullmatch(name) or not value:
            raise ValueError(f"expected name=value after the address, such as weight=2 or zone=a, got {_shown(word)}")
        if name in named:
            raise ValueError(f"expected {name[:SHOWN_CHARS_MAX]} once, got it twice")
        named[name] = value
    weight = named.pop("weight", "1")
    try:
        return float(weight), named
    except ValueError:
        return weight, named


def _parse_json(content: bytes, address: Callable[[str], str]) -> list[Endpoint]:
    try:
        entries = _entries.decode(content)
    except msgspec.DecodeError as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        number = _line_of(content, int(place[1]) if place else len(content))
        raise ValueError(f"line {number}: expected a JSON array of objects with an address; {error}") from None
    except RecursionError:
        raise ValueError("expected a JSON array of objects with an address; it is nested too deep") from None
    found, at = [], 0
    for entry in entries:
        raw = bytes(entry)
        at = content.index(raw, at)
        try:
            node = _entry.decode(raw)
            found.append(_endpoint(node.address, node.weight, node.labels, address))
        except msgspec.MsgspecError as error:
            raise ValueError(
                f"line {_line_of(content, at)}: expected an object with address, weight and labels; {str(error)[:SHOWN_CHARS_MAX]}"
            ) from None
        except ValueError as error:
            raise ValueError(f"line {_line_of(content, at)}: {error}") from None
        at += len(raw)
    return found


def _endpoint(text: str, weight: Any, labels: dict[str, str], address: Callable[[str], str]) -> Endpoint:
    if not isinstance(weight, float) or not 0 < weight < math.inf:
        raise ValueError(f"expected a weight above 0, such as 2 or 0.5, got {_shown(weight)}")
    if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
        raise ValueError(f"expected a weight from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}, such as 2 or 0.5, got {weight!r}")
    try:
        return Endpoint(address(text), weight, labels)
    except (ValueError, ConfigError) as error:
        raise ValueError(f"expected an address such as tcp://10.0.0.7:7000, got {_shown(text)}; {error}") from None


def _shown(value: object) -> str:
    quoted = repr(value)
    return quoted if len(quoted) <= SHOWN_CHARS_MAX else quoted[:SHOWN_CHARS_MAX] + "…"


def _line_of(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1
