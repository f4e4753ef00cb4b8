"""A minute of fuzzing with every run of all tests, spread over the harnesses and the cores.

It is a time and not a number of runs, so that a slow machine takes no longer. Seeds are fixed: what fails, fails again.
"""

from __future__ import annotations

import time

import pytest

from tests.fuzz import engine

SHARE_S = 6.0
SHARES = [("connection", seed) for seed in ("north", "east", "south", "west")] + [(name, "one") for name in engine.NAMES[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), SHARES)
def test_a_share_of_the_minute(name: str, seed: str) -> None:
    watch = engine.Watch(engine.harness(name))
    ends_at = time.monotonic() + SHARE_S
    engine.wander(watch.harness, f"minute/{name}/{seed}", lambda _: time.monotonic() >= ends_at, watch)
    assert watch.executions
    assert watch.complaints() == []
