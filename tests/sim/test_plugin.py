"""The pytest plugin in a pytest of its own: its options, and that it stands beside fixtures and the plugins for async tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = """
import asyncio
import pytest
from holdfast.sim import InvariantBroken, World, operations, sim_test

worlds = []

@pytest.fixture
def greeting():
    return "hello"

@pytest.fixture(params=[1, 2])
def number(request):
    return request.param

@sim_test(seeds=12)
async def test_fine(world: World) -> None:
    await asyncio.sleep(240)

@sim_test(seeds=3)
async def test_fixtures(world: World, greeting: str, number: int, tmp_path, monkeypatch) -> None:
    assert greeting == "hello" and number in (1, 2) and tmp_path.exists()
    worlds.append((number, world.seed))

def test_after():
    print("worlds", sorted(set(worlds)))

@pytest.mark.parametrize("size", [1, 2])
@sim_test(seeds=2)
async def test_parametrized(world: World, size: int) -> None:
    await asyncio.sleep(size)

@pytest.mark.skip(reason="its mark stays")
@sim_test(seeds=2)
async def test_skipped(world: World) -> None: ...

@sim_test(seeds=20)
@pytest.mark.broken
async def test_broken(world: World) -> None:
    for each in operations(world, ["a", "b", "c"], "client"):
        await asyncio.sleep(0.5)
        if each == "b" and world.seed in (7, 25):
            raise InvariantBroken("no b", f"seed {world.seed}")
"""

ANYIO = """
@pytest.mark.anyio
async def test_real_loop_under_anyio():
    await asyncio.sleep(0)

@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param
"""

ASYNCIO = """
import pytest_asyncio

@pytest_asyncio.fixture
async def async_greeting():
    await asyncio.sleep(0)
    return "hello"

async def test_real_loop_under_pytest_asyncio(async_greeting):
    await asyncio.sleep(0)
    assert async_greeting == "hello"

@sim_test(seeds=2)
async def test_world_with_an_async_fixture(world: World, async_greeting: str) -> None:
    assert async_greeting == "hello"
"""


def run_pytest(folder: Path, *words: str, tests: str = TESTS, name: str = "test_them.py") -> str:
    """A pytest of its own over these tests; what it printed."""
    (folder / name).write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    broken: it fails\n")
    installed = any(each.value == "holdfast.sim.plugin" for each in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "holdfast.sim.plugin"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *plugin, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=55, check=False)
    return done.stdout + done.stderr


def test_fixtures_marks_and_parameters_work_and_a_failure_tells_its_story(tmp_path: Path) -> None:
    text = run_pytest(tmp_path, tests=TESTS + ANYIO)
    for line in (
        "PASSED test_them.py::test_fine",
        "PASSED test_them.py::test_fixtures[1]",
        "PASSED test_them.py::test_fixtures[2]",
        "PASSED test_them.py::test_parametrized[2]",
        "PASSED test_them.py::test_real_loop_under_anyio[asyncio]",
        "SKIPPED [1] test_them.py:",
        "worlds [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]",
        "FAIL seed 7: no b: seed 7, at t=",
        "shrunk from 3 to 1 events",
        "replay: pytest test_them.py::test_broken --sim-replay 7",
        "FAILED test_them.py::test_broken - ",
    ):
        assert line in text, text
    assert "1 failed, 7 passed, 1 skipped" in text
    assert "_campaign(bound" not in text, "our own frames are nobody's business"


def test_a_replay_runs_that_world_alone(tmp_path: Path) -> None:
    text = run_pytest(tmp_path, "test_them.py::test_broken", "--sim-replay", "25")
    assert "test_broken: 1 world, " in text
    assert "FAIL seed 25: no b: seed 25" in text
    assert "1 passed" in run_pytest(tmp_path, "test_them.py::test_broken", "--sim-replay", "24")


@pytest.mark.parametrize(("seeds", "passes"), [("7", True), ("8", False)])
def test_the_number_of_worlds_is_changed(tmp_path: Path, seeds: str, passes: bool) -> None:
    text = run_pytest(tmp_path, "-m", "broken", "--sim-seeds", seeds)
    assert ("1 passed" in text) == passes


def test_a_number_of_worlds_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "--sim-seeds 0: expected at least one world" in run_pytest(tmp_path, "--sim-seeds", "0")


def test_processes_of_xdist_get_the_options_too(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, "-m", "broken", "--sim-seeds", "7", "-n", "1")
    assert "1 failed" in run_pytest(tmp_path, "-m", "broken", "--sim-replay", "7", "-n", "1")


if find_spec("pytest_asyncio") is not None:  # not among what the tests install: its place is in somebody else's project

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_it_stands_beside_pytest_asyncio(tmp_path: Path, mode: str) -> None:
        tests = TESTS + (ASYNCIO if mode == "auto" else ASYNCIO.replace("async def test_real", "@pytest.mark.asyncio\nasync def test_real"))
        text = run_pytest(tmp_path, "-o", f"asyncio_mode={mode}", "-m", "not broken", tests=tests)
        assert "failed" not in text
        for name in ("test_real_loop_under_pytest_asyncio", "test_world_with_an_async_fixture", "test_fixtures[1]", "test_fine"):
            assert f"PASSED test_them.py::{name}" in text, text
