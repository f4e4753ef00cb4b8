"""The campaign over clients of many nodes holds, reaches what it must, and is the same world in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.sim import Case, Report, World, explore

from .campaign import fleet
from .drawing import Draw, draw
from .truth import SOMETIMES

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK_SEEDS = 12
SEEDS = 300
HALVES = 2

RARE = replace(fleet, sometimes=())
"""Without the points: a part of the seeds need not reach them."""


def told(report: Report) -> str:
    return "; ".join(f"{each.failure.signature} in worlds {each.seeds[:5]}: {each.failure.message}" for each in report.found)


def test_clients_of_many_nodes_stand_a_dozen_worlds() -> None:
    points: Counter[str] = Counter()
    for seed in range(QUICK_SEEDS):
        outcome = fleet.run(Case(seed=seed))
        assert outcome.failure is None, f"seed {seed}: {outcome.failure.signature}: {outcome.failure.message}"
        points.update(dict.fromkeys(outcome.sometimes, 1))
    assert len(points) >= len(SOMETIMES) // 2, f"a dozen worlds are too calm: {dict(points)}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("half", range(HALVES))
def test_clients_of_many_nodes_stand_hundreds_of_worlds(half: int) -> None:
    """Both halves run beside each other where there are two cores; each must reach every point by itself."""
    report = explore(fleet, seeds=SEEDS, first=half * SEEDS, shrinking=False)
    assert not report.found, told(report)
    assert not report.missing, f"never reached: {report.missing}; reached: {report.sometimes}"


def digests(seeds: range) -> dict[str, str]:
    return {str(seed): fleet.run(Case(seed=seed)).digest for seed in seeds}


ELSEWHERE = """
import json, sys
from holdfast.sim import Case
from tests.sim.fleet.campaign import fleet
print(json.dumps({str(seed): fleet.run(Case(seed=seed)).digest for seed in range(int(sys.argv[1]), int(sys.argv[2]))}))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_seed_is_the_same_world_twice_and_in_other_processes() -> None:
    seeds = range(1000, 1010)
    ours = digests(seeds)
    assert len(set(ours.values())) == len(ours)
    assert digests(seeds) == ours
    for hash_seed in ("0", "random"):
        command = [sys.executable, "-c", ELSEWHERE, str(seeds.start), str(seeds.stop)]
        path = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert json.loads(done.stdout) == ours, f"PYTHONHASHSEED={hash_seed}"


@pytest.mark.parametrize("source", ["list", "file", "dns"])
def test_a_seed_is_the_same_world_twice(source: str) -> None:
    seed = next(seed for seed in range(100) if draw(World(seed)).source == source)
    first = RARE.run(Case(seed=seed))
    assert first.failure is None, first.failure
    assert RARE.run(Case(seed=seed)).digest == first.digest


def test_policies_are_drawn_in_all_their_modes_and_kinds() -> None:
    drawn: list[Draw] = [draw(World(seed)) for seed in range(200)]
    configs = [party.config for each in drawn for party in each.parties]
    for name in ("budget", "hedge", "breaker", "throttle", "limit", "eject"):
        assert {getattr(config, name).mode for config in configs} == {"off", "shadow", "enforce"}, name
    assert len({config.balance.picker for config in configs}) == 7
    assert {config.limit.kind for config in configs} == {"fixed", "aimd", "gradient", "vegas"}
    assert {len(each.nodes) for each in drawn} >= {1, 2, 3, 5}


def test_the_command_line_names_the_invariant_and_the_seed() -> None:
    command = [sys.executable, "-m", "tests.sim.fleet", "--seeds", "3", "--first", "7", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=60)
    found = json.loads(done.stdout)
    assert (done.returncode, found["worlds"], found["ok"], found["failures"]) == (0, 3, True, [])
