"""The campaign over holdfast itself holds, reaches what it must, and is the same world in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.sim import Case, Failure, Report, World, explore
from holdfast.sim.explore import Found, checked

from .campaign import spine
from .drawing import draw
from .soak import State, code_digest
from .truth import SOMETIMES

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK_SEEDS = 50
SEEDS = 2000
HALVES = 2

RARE = replace(spine, sometimes=())
"""Without the points: a part of the seeds need not reach them."""


def told(report: Report) -> str:
    return "; ".join(f"{each.failure.signature} in worlds {each.seeds[:5]}: {each.failure.message}" for each in report.found)


def test_holdfast_stands_fifty_worlds() -> None:
    points: Counter[str] = Counter()
    for seed in range(QUICK_SEEDS):
        outcome = spine.run(Case(seed=seed))
        assert outcome.failure is None, f"seed {seed}: {outcome.failure.signature}: {outcome.failure.message}"
        points.update(dict.fromkeys(outcome.sometimes, 1))
    assert len(points) >= len(SOMETIMES) // 2, f"fifty worlds are too calm: {dict(points)}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("half", range(HALVES))
def test_holdfast_stands_two_thousand_worlds(half: int) -> None:
    """Both halves run beside each other where there are two cores; each must reach every point by itself."""
    report = explore(spine, seeds=SEEDS // HALVES, first=half * SEEDS // HALVES, shrinking=False)
    assert not report.found, told(report)
    assert not report.missing, f"never reached: {report.missing}; reached: {report.sometimes}"


def digests(seeds: range) -> dict[str, str]:
    return {str(seed): spine.run(Case(seed=seed)).digest for seed in seeds}


ELSEWHERE = """
import json, sys
from holdfast.sim import Case
from tests.sim.spine.campaign import spine
print(json.dumps({str(seed): spine.run(Case(seed=seed)).digest for seed in range(int(sys.argv[1]), int(sys.argv[2]))}))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_seed_is_the_same_world_twice_and_in_other_processes() -> None:
    seeds = range(400, 412)
    ours = digests(seeds)
    assert len(set(ours.values())) == len(ours)
    assert digests(seeds) == ours
    for hash_seed in ("0", "1", "random"):
        command = [sys.executable, "-c", ELSEWHERE, str(seeds.start), str(seeds.stop)]
        path = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert json.loads(done.stdout) == ours, f"PYTHONHASHSEED={hash_seed}"


def test_a_world_over_tls_is_the_same_world_twice() -> None:
    seed = next(seed for seed in range(100) if draw(World(seed)).tls_server is not None)
    outcome = checked(RARE, Case(seed=seed), twice=True)
    assert outcome.failure is None, outcome.failure
    assert "everything over TLS" in outcome.sometimes


def test_the_command_line_names_the_invariant_and_the_seed() -> None:
    command = [sys.executable, "-m", "tests.sim.spine", "--seeds", "3", "--first", "7", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=60)
    found = json.loads(done.stdout)
    assert (done.returncode, found["worlds"], found["ok"], found["failures"]) == (0, 3, True, [])
    assert set(found["sometimes"]) <= set(SOMETIMES)


def test_a_soak_counts_slices_together_and_keeps_what_failed() -> None:
    outcome = spine.run(Case(seed=0))
    failed = replace(outcome, failure=Failure(signature="once", message="twice\nmore", at_s=1.0))
    report = Report(
        scenario="spine", place="", seeds=10, asked=10, found=(Found(outcome=failed, seeds=(3, 4)),), sometimes={SOMETIMES[0]: 2}
    )
    state = State(code=code_digest())
    state.add(report, 10)
    state.add(report, 10)
    assert (state.done, state.sometimes[SOMETIMES[0]], state.failures["once"]["worlds"]) == (20, 4, 4)
    assert state.failures["once"]["seeds"] == [3, 4, 3, 4]
    assert not state.missing(), "twenty worlds say nothing"
    state.done = SEEDS
    assert state.missing() == list(SOMETIMES[1:])
    assert "FAIL once: 4 worlds, the first 3: twice\n" in state.text()
