"""The pytest plugin: `--sim-seeds` and `--sim-replay`, for every `sim_test` of a run.

Owns: the two options, and nothing else. `sim_test` makes plain functions, so there is nothing to collect and nothing to run for it: it
needs this plugin only to be told about the command line, and stands beside pytest-asyncio, anyio and any fixture as any test does.

What may never happen here: a hook that touches a test which is not ours.
"""

from __future__ import annotations

import pytest

from .doors import asked


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("holdfast.sim", "simulated worlds")
    group.addoption("--sim-seeds", type=int, metavar="N", help="run every sim_test in N worlds")
    group.addoption("--sim-replay", type=int, metavar="SEED", help="run every sim_test in this one world, and shrink it if it fails")


def pytest_configure(config: pytest.Config) -> None:
    """Hand them on; each process of pytest-xdist does so for itself."""
    seeds: int | None = config.getoption("--sim-seeds")
    if seeds is not None and seeds < 1:
        raise pytest.UsageError(f"--sim-seeds {seeds}: expected at least one world")
    asked.seeds = seeds
    asked.replay = config.getoption("--sim-replay")


def pytest_unconfigure() -> None:
    """Leave nothing behind for the next run in this process."""
    asked.seeds = asked.replay = None
