"""`MODULE:ATTR` made into a Service, into what makes a protocol, or into a config; or into one line that says why not.

Owned here: importing somebody's module. What may never happen: a traceback of ours for a mistake of theirs; the line that is shown is the
line of *their* file that failed.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
import traceback
import typing
from collections.abc import Iterable
from types import ModuleType
from typing import cast

from ..config import ClientConfig, ServerConfig
from ..errors import ConfigError
from ..net.hosted import ProtocolFactory
from ..service import Service
from .text import suggestion


def load_target(target: str, app_dir: str = ".") -> Service | ProtocolFactory:
    """Import `module` or `module:attribute` (dots allowed in both) with `app_dir` first on the path, and return what can be served.

    That is a Service; or, named by its attribute, a protocol class, or a function annotated to return a protocol.
    Raises: ConfigError, one line: the form is wrong, no such module or attribute (with the nearest name), nothing that can be served, more
        than one Service to choose from, or the module's own error with its file, line and text.
    """
    module, name, attribute = _module(target, app_dir, "svc")
    return _served(module, name, attribute) if attribute else _only_service(module, name)


def load_config(target: str, app_dir: str = ".") -> ClientConfig | ServerConfig:
    """Import `module:attribute` as `load_target` does, and return the config that it names.

    Raises: ConfigError, one line, as there; also for what is no config.
    """
    module, name, attribute = _module(target, app_dir, "config")
    if not attribute:
        raise ConfigError(f"{target!r} names no config; write {name}:config, as it is called there")
    value = _attribute(module, name, attribute, [])
    if not isinstance(value, ClientConfig | ServerConfig):
        raise ConfigError(f"{target} is of type {type(value).__name__}, not a ClientConfig or a ServerConfig")
    return value


def _module(target: str, app_dir: str, usual: str) -> tuple[ModuleType, str, str]:
    """What `MODULE:ATTR` names: the module, imported, its name, and the attribute's, empty if there is none."""
    name, colon, attribute = target.partition(":")
    if target.endswith(".py") or "/" in target:
        name = re.sub(r"\.py$", "", name).replace("/", ".").strip(".")
        raise ConfigError(f"{target!r} is a file; write the module's name: {name}:{attribute or usual} (--app-dir says where it is)")
    if not re.fullmatch(r"\w+(\.\w+)*", name) or (colon and not re.fullmatch(r"\w+(\.\w+)*", attribute)):
        raise ConfigError(f"{target!r} is not MODULE:ATTR; write something like shop:{usual}")
    return _import(name, os.path.abspath(app_dir)), name, attribute


def _import(name: str, app_dir: str) -> ModuleType:
    if not os.path.isdir(app_dir):
        raise ConfigError(f"the app directory {app_dir} does not exist")
    if app_dir not in sys.path:
        sys.path.insert(0, app_dir)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            near = suggestion(error.name, _modules_in(app_dir))
            raise ConfigError(f"there is no module {error.name!r} in {app_dir} or on the path{near}") from error
        raise ConfigError(_their_error(name, error, app_dir)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_their_error(name, error, app_dir)) from error


def _modules_in(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        names = [e.name.removesuffix(".py") for e in entries if e.name.endswith(".py") or e.is_dir()]
    return sorted(n for n in names if n.isidentifier())


def _their_error(name: str, error: BaseException, app_dir: str) -> str:
    """`module 'shop' cannot be imported: shop.py line 3: import foo: ModuleNotFoundError: No module named 'foo'`."""
    what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        place = _place(error.filename, error.lineno, error.text, app_dir)
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_theirs(f.filename, app_dir)]
        place = _place(frames[-1].filename, frames[-1].lineno, frames[-1].line, app_dir) if frames else ""
    return f"module {name!r} cannot be imported: {place}{what}"


def _is_theirs(filename: str, app_dir: str) -> bool:
    """A frame of the user's own code: below the app directory, and neither ours, frozen nor installed."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.abspath(filename)
    inside = path.startswith(app_dir.rstrip(os.sep) + os.sep)
    return inside and not filename.startswith("<") and not path.startswith(ours + os.sep) and "site-packages" not in path


def _place(filename: str, line: int | None, text: str | None, app_dir: str) -> str:
    source = f" {text.strip()}" if text and text.strip() else ""
    return f"{os.path.relpath(filename, app_dir)} line {line}:{source}: "


def _services(module: ModuleType) -> list[str]:
    """The names of the module's Services; one Service under two names counts once."""
    seen: dict[int, str] = {}
    for name, value in vars(module).items():
        if isinstance(value, Service):
            seen.setdefault(id(value), name)
    return list(seen.values())


def _only_service(module: ModuleType, name: str) -> Service | ProtocolFactory:
    names = _services(module)
    if len(names) == 1:
        return _served(module, name, names[0])
    if not names:
        raise ConfigError(f"the module {name!r} has no Service; write svc = Service({name.rpartition('.')[2]!r}) in it")
    raise ConfigError(f"the module {name!r} has {len(names)} Services; choose one: {_join(f'{name}:{n}' for n in names)}")


def _attribute(module: ModuleType, module_name: str, attribute: str, likely: list[str], otherwise: str = "") -> object:
    """What the attribute is. Raises: ConfigError with the nearest of the `likely` names and of all, or `otherwise`."""
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [n for n in vars(value) if not n.startswith("_")] if hasattr(value, "__dict__") else []
            near = suggestion(part, [*likely, *known])
            raise ConfigError(f"the module {module_name!r} has no {attribute!r}{near or otherwise}")
        value = getattr(value, part)
    return value


def _served(module: ModuleType, module_name: str, attribute: str) -> Service | ProtocolFactory:
    value = _attribute(module, module_name, attribute, _services(module), _has(module))
    if isinstance(value, Service):
        return value
    if _makes_protocols(value):
        return cast("ProtocolFactory", value)
    kind = "a function" if callable(value) and not isinstance(value, type) else f"of type {type(value).__name__}"
    raise ConfigError(f"{module_name}:{attribute} is {kind}, not a Service{_has(module)}")


def _makes_protocols(value: object) -> bool:
    """Whether it is a protocol class, or a function that says it returns a protocol: what it does otherwise, nobody knows before it ran."""
    if not isinstance(value, type) and callable(value):
        try:
            value = typing.get_type_hints(value).get("return")
        except (NameError, TypeError):
            return False
    return isinstance(value, type) and issubclass(value, asyncio.BaseProtocol)


def _has(module: ModuleType) -> str:
    names = _services(module)
    return f"; the module's Services are {_join(names)}" if names else "; the module has no Service"


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
