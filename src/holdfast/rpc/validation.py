"""What does not fit, in words a caller can act on: which method, which field by its path, what was expected, what came.

msgspec says `Expected `int`, got `str` - at `$.order.qty``; people should read `shop.place(order.qty): expected int, got str`. Owns that
translation and nothing else: no encoding, no decision about who sees it. The text may hold names a peer made up; whoever sends it on
cuts it (`codes.cut_message`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..errors import HoldfastError, InvalidArgument
from .contract import Contract

Fail = Callable[[Exception], HoldfastError]

# Everything msgspec raises for bytes or values it does not like: every MsgspecError and every Unicode error is a ValueError, deep nesting
# is a RecursionError, integers beyond 64 bits an OverflowError, objects it cannot encode a TypeError.
MISFITS = (ValueError, TypeError, OverflowError, RecursionError, MemoryError)


def explain(error: Exception) -> str:
    """Say in our words what msgspec did not like, without a path: `expected int, got str`."""
    return parse_misfit(error)[0]


def argument_error(contract: Contract, error: Exception) -> InvalidArgument:
    """Turn a failure of msgspec over a method's arguments into an error that names method, path and what to write."""
    what, path = parse_misfit(error)
    names = [p.name for p in contract.params]
    takes = f"the signature is {contract.signature}" if contract.signature else f"it takes {', '.join(names) or 'no arguments'}"
    if not path and what.startswith("missing field "):
        return InvalidArgument(f"{contract.name}(): missing argument {what.removeprefix('missing field ')}; {takes}")
    if not path and what.startswith("unknown field "):
        return InvalidArgument(f"{contract.name}(): unknown argument {what.removeprefix('unknown field ')}; {takes}")
    return InvalidArgument(f"{contract.name}({path}): {what}")


def binding_error(contract: Contract, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InvalidArgument:
    """Say why these arguments do not fit the parameters, the way Python would."""
    label, signature = contract.name, f"the signature is {contract.signature}"
    by_place = [p.name for p in contract.params if not p.keyword_only]
    if len(args) > len(by_place):
        return InvalidArgument(f"{label}() takes {len(by_place)} positional arguments, got {len(args)}; {signature}")
    given = by_place[: len(args)]
    known = [p.name for p in contract.params]
    for name in kwargs:
        if name in given:
            return InvalidArgument(f"{label}({name}): given twice, by place and by name; {signature}")
        if name not in known:
            return InvalidArgument(f"{label}(): unknown argument {name!r}; {signature}")
    for param in contract.params:
        if param.required and param.name not in given and param.name not in kwargs:
            return InvalidArgument(f"{label}(): missing argument {param.name!r}; {signature}")
    return InvalidArgument(f"{label}(): the arguments do not fit; {signature}")


def blame(kind: type[HoldfastError], prefix: str) -> Fail:
    """Return what makes the error: `prefix: expected int, got str at qty`."""

    def fail(error: Exception) -> HoldfastError:
        what, path = parse_misfit(error)
        return kind(f"{prefix}: {what} at {path}" if path else f"{prefix}: {what}")

    return fail


_WITH_PATH = re.compile(r"^(?P<what>.*) - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`$", re.DOTALL)


def parse_misfit(error: Exception) -> tuple[str, str]:
    """Part msgspec's message into what was wrong and the path: `("expected int, got str", "order.qty")`."""
    if isinstance(error, RecursionError):
        return "nested too deeply", ""
    if isinstance(error, MemoryError):
        return "too large for the memory there is", ""
    text = str(error)
    path = ""
    if isinstance(error, msgspec.ValidationError) and (match := _WITH_PATH.match(text)):
        text = match["what"]
        path = match["path"].removeprefix(".") + (" (a key)" if match["key"] else "")
    for opening, ours in (("Object missing required field ", "missing field "), ("Object contains unknown field ", "unknown field ")):
        if text.startswith(opening):
            return ours + repr(text.removeprefix(opening).strip("`")), path
    text = text.replace("`", "").removeprefix("MessagePack data is malformed: ")
    return text[:1].lower() + text[1:], path
