"""Programs give the same log on asyncio's own loop and in the simulation, in one process and on two hosts, whatever the seed."""

from __future__ import annotations

import functools
import sys
from collections import Counter

import pytest

from tests.sim.parity.catalogue import PROGRAMS
from tests.sim.parity.real import run_real
from tests.sim.parity.sim import run_simulated
from tests.sim.parity.stage import FAMILIES, Log

SEEDS = 10

CASES = [
    (name, place, seed)
    for name, program in PROGRAMS.items()
    for place in (("one process", "two hosts") if program.two_hosts else ("one process",))
    for seed in range(SEEDS)
]

linux = pytest.mark.skipif(sys.platform != "linux", reason="the simulated kernel is Linux; others end connections in other ways")


@functools.cache
def the_truth(name: str) -> Log:
    """What the program says on this machine's own kernel."""
    return run_real(PROGRAMS[name])


@linux
@pytest.mark.parametrize(("name", "place", "seed"), CASES, ids=[f"{name}-{place.replace(' ', '-')}-{seed}" for name, place, seed in CASES])
def test_a_program_cannot_tell_the_simulation_from_a_kernel(name: str, place: str, seed: int) -> None:
    assert run_simulated(PROGRAMS[name], seed, place) == the_truth(name)


@linux
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_the_same_every_time(name: str) -> None:
    assert run_real(PROGRAMS[name]) == the_truth(name)
    assert any(the_truth(name).values()), "a program that says nothing compares nothing"


def test_every_family_has_its_programs() -> None:
    count = Counter(program.family for program in PROGRAMS.values())
    assert sorted(count) == sorted(FAMILIES)
    assert min(count.values()) >= 6, count
    assert count.total() >= 60, count
