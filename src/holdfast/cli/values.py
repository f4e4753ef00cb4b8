"""Durations, sizes and rates as people write them: `250ms 5s 2m`, `64k 2M`, `500/s`.

Owned here: the one grammar of each, as plain functions and as click types. What may never happen: a value without a unit that means
something else to its reader; a bare number is refused, except 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click

_DURATION_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_RATE_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"


def parse_duration(text: str) -> float:
    """Return the seconds in `250ms`, `5s`, `1.5m`, `1m30s`.

    Raises: ValueError that says what to write.
    """
    word = text.strip().lower()
    if word == "0":
        return 0.0
    parts = re.findall(rf"{_NUMBER}(us|ms|s|m|h|d)", word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 250ms, 5s, 2m or 1m30s")
    return _finite(sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts), text)


def parse_size(text: str) -> int:
    """Return the bytes in `64k`, `2M`, `512`; k is 1,024.

    Raises: ValueError that says what to write.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a size; write bytes with k, M or G, such as 512, 64k or 2M")
    number = _finite(float(found[1]) * _SIZE_UNITS[found[2]], text)
    if number != int(number):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(number)


def parse_rate(text: str) -> float:
    """Return the events per second in `500/s`, `30/m`.

    Raises: ValueError that says what to write.
    """
    found = re.fullmatch(rf"{_NUMBER}([km]?)/(s|m|h)", text.strip().lower())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is not a rate; write how many per second, minute or hour, such as 500/s, 2k/s or 30/m")
    return _finite(float(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2]] / _RATE_UNITS_S[found[3]], text)


def format_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them, three figures: `250ms`, `5s`, `2m`."""
    for unit, floor in (("us", 0.0), ("ms", 1e-3), ("s", 1.0), ("m", 120.0), ("h", 7200.0)):
        if seconds >= floor:
            best = unit
    return f"{seconds / _DURATION_UNITS_S[best]:.3g}{best}" if seconds else "0s"


def _finite(number: float, text: str) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is too large")
    return number


class _Value(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on; 8.1 cannot be subscripted
    """A click type around one of the parsers above."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default that is already converted
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Value("duration", parse_duration)
SIZE = _Value("size", parse_size)
RATE = _Value("rate", parse_rate)
