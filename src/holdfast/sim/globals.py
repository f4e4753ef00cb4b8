"""Module globals that are one per process in the real world, and would be one for all hosts here.

Owns: `PerProcess`, which stands in for such a dict, list or set and passes everything on to the one of the process that asks. Each process
begins with a copy of what was there before the world began; of the caches of holdfast itself with nothing, as a new process does.

What may never happen here: a process that sees what another one has put there.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError
from .here import engine_here

OF_HOLDFAST = ("holdfast.rpc.dialer:_catalogues",)
"""What holdfast itself keeps once per process: caches. By name: rpc and sim stand on one floor and do not import one another."""


class PerProcess:
    """A container in a module, one for each simulated process."""

    def __init__(self, name: str, before: Any) -> None:
        self._name = name
        self._before = before

    def _mine(self) -> Any:
        engine = engine_here()
        process: Any = engine.current if engine is not None else None
        if process is None:
            return self._before
        mine = process.globals.get(self._name)
        if mine is None:
            mine = process.globals[self._name] = copy.copy(self._before)
        return mine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mine(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._mine()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._mine()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._mine()[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._mine()

    def __len__(self) -> int:
        return len(self._mine())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mine())


def per_process(names: tuple[str, ...]) -> list[tuple[Any, str, Any]]:
    """What to replace: module, attribute, stand-in. Raises: ConfigError for a name that is not `module:ATTRIBUTE` of a container."""
    found: list[tuple[Any, str, Any]] = []
    for name in names:
        module_name, _, attribute = name.partition(":")
        try:
            module = importlib.import_module(module_name)
            before = module.__dict__[attribute]
        except (ImportError, KeyError) as error:
            raise ConfigError(f"per_process={name!r}: expected `module:ATTRIBUTE` of something that is there ({error!r})") from error
        if not isinstance(before, dict | list | set):
            raise ConfigError(f"per_process={name!r}: expected a dict, list or set, found a {type(before).__name__}")
        found.append((module, attribute, PerProcess(name, type(before)() if name in OF_HOLDFAST else before)))
    return found
