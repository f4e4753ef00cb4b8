"""A scenario: a Python file that says which calls a mix consists of, and in which shares.

    from holdfast import Client

    async def look(client: Client, number: int) -> None:
        await client.call("shop.price", f"sku-{number % 1000}", returns=float)

    async def buy(client: Client, number: int) -> None:
        await client.call("shop.place", {"id": f"o-{number}", "qty": 1})

    mix = {look: 9, buy: 1}

`mix` gives each function its weight. A function is one call as far as the figures go: it is timed as a whole, whatever it does inside.
`number` is different for every call of a run.

Owned here: reading such a file. What may never happen: a traceback of ours for a mistake of theirs.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from ...client import Client
from ...errors import ConfigError

Function = Callable[[Client, int], Awaitable[object]]

FORM = "mix = {function: weight, …}"


class Part(NamedTuple):
    """One function of a mix."""

    name: str
    weight: float
    function: Function


def load_scenario(path: str) -> list[Part]:
    """Run the file and return its mix.

    Raises: ConfigError, one line: no such file, its own error with the line, or a `mix` that is not one.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"there is no scenario {path}; expected a Python file with {FORM}")
    directory = os.path.dirname(os.path.abspath(path))
    if directory not in sys.path:
        sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location("holdfast_scenario", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the scenario {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # types resolve their annotations through it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the scenario {path} cannot be read: {_place(error, path)}{type(error).__name__}: {error}") from error
    return _mix(getattr(module, "mix", None), path)


def _mix(mix: object, path: str) -> list[Part]:
    if not isinstance(mix, Mapping) or not mix:
        raise ConfigError(f"the scenario {path} has no mix; write {FORM} at its end")
    parts: list[Part] = []
    for function, weight in mix.items():
        name = getattr(function, "__name__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise ConfigError(f"the scenario {path}: {name} is not an async function; expected async def {name}(client, number)")
        try:
            inspect.signature(function).bind(None, 0)
        except TypeError as error:
            raise ConfigError(f"the scenario {path}: {name} must take (client, number): {error}") from error
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight > 0 and math.isfinite(weight)):
            raise ConfigError(f"the scenario {path}: {name} has the weight {weight!r}; expected a number above 0")
        if name in [part.name for part in parts]:
            raise ConfigError(f"the scenario {path} has two functions called {name}; the figures could not tell them apart")
        parts.append(Part(name, float(weight), function))
    return parts


def _place(error: BaseException, path: str) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    return f"line {line}: " if line else ""
