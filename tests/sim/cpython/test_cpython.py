"""CPython's own tests of asyncio pass on simulated loops, but for the listed ones, each of which fails for its listed reason."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sim.cpython.table import COUNTS, LISTED, MODULES, SKIPPED, Listed

ROOT = Path(__file__).resolve().parents[3]
RUN_MAX_S = 150
HERE = sys.version_info[:2]
PRESENT = [module for module, since in MODULES.items() if since <= HERE]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the simulated kernel is Linux, and some of these tests ask which system it is"
)


@functools.cache
def run(module: str) -> dict[str, Any]:
    """What `tests.sim.cpython.run` says of a module."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.sim.cpython.run", module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=RUN_MAX_S)
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def entry(table: dict[str, Any], test: str) -> Any:
    """What a table has for `Class.method`: by its method, or by its class."""
    owner, _, method = test.rpartition(".")
    return table.get(method, table.get(owner))


@pytest.mark.slow
@pytest.mark.timeout(RUN_MAX_S + 10)
@pytest.mark.parametrize("module", PRESENT)
def test_it_passes_or_is_listed(module: str) -> None:
    said, listed = run(module), LISTED.get(module, {})
    wrong = []
    for test, outcome in said["outcomes"].items():
        exception, words = entry(listed, test), said["words"].get(test, "")
        if outcome == "failed" and exception is None:
            wrong.append(f"{test} fails and is not listed:\n{words}")
        elif outcome == "failed" and exception.words not in words:
            wrong.append(f"{test} fails, but not because {exception.reason}:\n{words}")
        elif outcome == "passed" and exception is not None:
            wrong.append(f"{test} passes: take it out of the table")
        elif outcome == "skipped" and (entry(SKIPPED, test) or "?") not in words:
            wrong.append(f"{test} is skipped, and nobody expects it: {words}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(RUN_MAX_S + 10)
@pytest.mark.parametrize("module", PRESENT)
def test_as_many_ran_as_there_are(module: str) -> None:
    said = run(module)
    count = Counter(said["outcomes"].values())
    known = [(version, counts[module]) for version, counts in COUNTS.items() if version[:2] == HERE and module in counts]
    assert known, f"no counts for {HERE}: put {count} into the table"
    version, expected = known[0]
    found = (count["passed"], count["failed"], count["skipped"])
    if version == sys.version_info[:3]:
        assert found == (expected.passed, expected.listed, expected.skipped)
    else:
        assert found[0] >= expected.passed, f"{module}: fewer pass than with {version}: {count}"
    assert said["loops"] > 0, "no loop was simulated"


@pytest.mark.slow
@pytest.mark.timeout(RUN_MAX_S + 10)
@pytest.mark.parametrize("module", [module for module in PRESENT if module in LISTED])
def test_every_listed_test_exists(module: str) -> None:
    there = {test.rpartition(".")[2] for test in run(module)["outcomes"]}
    gone = [name for name, listed in LISTED[module].items() if listed.since <= HERE and name not in there]
    assert gone == []


def test_modules_that_are_not_run_are_not_there() -> None:
    there = {module for module in MODULES if importlib.util.find_spec(f"test.test_asyncio.{module}") is not None}
    assert there == set(PRESENT)


def test_every_exception_has_its_reason() -> None:
    entries = [listed for module in LISTED.values() for listed in module.values()]
    assert all(isinstance(each, Listed) and each.reason and each.words for each in entries)
    assert set(LISTED) <= set(MODULES)
