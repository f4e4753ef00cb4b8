"""`FILE::NAME` made into a Scenario, or into one line that says why not.

Owns: importing somebody's file by its path. A file below the current directory gets its dotted name, so that `from .helpers import …` works
in it as under pytest; any other one gets its stem. Its own folder is on the path in any case.

What may never happen here: a file imported twice in one process: a scenario would then not be the one its module knows.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from ..errors import ConfigError
from .scenario import Scenario

SEPARATOR = "::"


def scenarios_in(path: str) -> dict[str, Scenario]:
    """Every scenario a file defines, in its order; each with the place it was found at.

    Raises: ConfigError when there is no such file, or it cannot be imported (`__cause__` is its own error), or it has none.
    """
    module = _import(path)
    found: dict[str, Scenario] = {}
    fixtures: list[str] = []
    for name, value in vars(module).items():
        scenario = value if isinstance(value, Scenario) else getattr(value, "scenario", None)
        if isinstance(scenario, Scenario):
            found.setdefault(scenario.name, replace(scenario, place=f"{path}{SEPARATOR}{scenario.name}"))
        elif hasattr(value, "needs_fixtures"):
            fixtures.append(name)
    if not found and fixtures:
        raise ConfigError(f"the scenarios of {path} ({', '.join(fixtures)}) need fixtures, which pytest has: run pytest {path}")
    if not found:
        raise ConfigError(f"{path} has no scenario; put @sim_test(seeds=200) over an `async def test_…(world: World)` in it")
    return found


def chosen(place: str) -> list[Scenario]:
    """The scenario at `FILE::NAME`, or all of `FILE`.

    Raises: ConfigError, see `scenarios_in`; also for a name that is not there.
    """
    path, _, name = place.partition(SEPARATOR)
    found = scenarios_in(path)
    if name and name not in found:
        raise ConfigError(f"{path} has no scenario {name!r}; it has {', '.join(found)}")
    return [found[name]] if name else list(found.values())


def _import(path: str) -> ModuleType:
    file = Path(path).resolve()
    if not file.is_file():
        raise ConfigError(f"there is no file {path}")
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if known is not None and module.__name__ != "__main__" and Path(known) == file:
            return module
    for folder in (str(Path.cwd()), str(file.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        return _by_name(file) or _by_path(file)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}{_line_in(error, file)}") from error


def _by_name(file: Path) -> ModuleType | None:
    """Import by the dotted name it has below the current directory; None when it has none, or the name leads elsewhere."""
    try:
        parts = file.relative_to(Path.cwd()).with_suffix("").parts
    except ValueError:
        return None
    name = ".".join(parts)
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or Path(spec.origin) != file:
        return None
    return importlib.import_module(name)


def _by_path(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module


def _line_in(error: BaseException, file: Path) -> str:
    """` (line 7: import foo)`, the last line of that file the error went through."""
    trace = error.__traceback__
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    if not line:
        return ""
    return f" (line {line}: {file.read_text('utf-8').splitlines()[line - 1].strip()})"
