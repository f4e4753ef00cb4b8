"""The judge of the shrinker, and of the climate: five planted mistakes are found, made small, and fail the same way in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.sim import Corpus, Scenario, explore

from . import planted

PLACE = str(Path(__file__).with_name("planted.py"))
SEEDS = 300
SMALL_EVENTS = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

SIGNATURES = {
    "lost_ack": "every effect exactly once",
    "new_id": "every effect exactly once",
    "check_then_await": "linearizable",
    "held_lock": "converges",
    "wrong_place": "each session in order, without gap or repeat",
}


def replayed(name: str, seed: int, hash_seed: str) -> dict[str, Any]:
    """The failure that a fresh process shows when it is given the replay command."""
    command = [sys.executable, "-m", "holdfast", "sim", f"{PLACE}::{name}", "--seed", str(seed), "--shrink", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    (failure,) = json.loads(done.stdout)["failures"]
    found: dict[str, Any] = failure
    return found


@pytest.mark.parametrize("scenario", planted.PLANTED, ids=lambda each: each.name)
def test_a_planted_mistake_is_found_made_small_and_fails_the_same_way_in_a_fresh_process(scenario: Scenario, tmp_path: Path) -> None:
    report = explore(scenario, seeds=SEEDS, stop_at_first=True)
    assert report.found, f"{scenario.name} was not found in {SEEDS} worlds"
    found = report.found[0]
    assert found.failure.signature == SIGNATURES[scenario.name]
    assert found.shrunk is not None
    small = found.shrunk.outcome
    assert small.failure is not None
    assert found.shrunk.events <= SMALL_EVENTS
    assert found.shrunk.events < found.shrunk.events_before

    assert scenario.run(small.case) == small

    first, second = replayed(scenario.name, found.seeds[0], "1"), replayed(scenario.name, found.seeds[0], "random")
    assert first == second
    assert (first["digest"], first["message"], first["at_s"]) == (small.digest, small.failure.message, small.failure.at_s)

    corpus = Corpus(tmp_path / "corpus.json")
    corpus.add(scenario.name, small.case, found.failure.signature)
    corpus.save()
    (kept,) = Corpus(tmp_path / "corpus.json").cases(scenario.name)
    assert scenario.run(kept) == small


@pytest.mark.parametrize("scenario", planted.MENDED, ids=lambda each: each.name)
def test_without_its_mistake_it_stands_the_same_climate(scenario: Scenario) -> None:
    report = explore(scenario, seeds=SEEDS)
    assert report.ok, report.found[0].failure.details


def test_what_needs_a_fault_is_found_with_faults_and_not_without() -> None:
    need_faults = [each for each in planted.PLANTED if each.name != "check_then_await"]
    stormy = {each.name: len(explore(each, seeds=60, shrinking=False).failed_seeds) for each in need_faults}
    calm = {each.name: len(explore(replace(each, climate=None), seeds=60, shrinking=False).failed_seeds) for each in need_faults}
    assert min(stormy.values()) >= 5, stormy
    assert not any(calm.values()), calm
