"""Worker processes: the same outcomes as in this one, whatever dies or hangs, and none of them left behind."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ConfigError
from holdfast.sim import crew as crew_module
from holdfast.sim.crew import DEATHS_MAX, HANGS, WORKER_DIED, Crew
from holdfast.sim.explore import Interrupted, explore
from holdfast.sim.scenario import Case, Outcome, Scenario

from . import campaigns

PLACE = str(Path(__file__).with_name("campaigns.py"))

pytestmark = pytest.mark.slow


def cases(count: int) -> list[Case]:
    return [Case(seed=seed) for seed in range(count)]


def place(name: str) -> str:
    return f"{PLACE}::{name}"


def run(name: str, count: int, *, workers: int = 2, case_max_s: float = 60.0) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    with closing(Crew(place(name), workers, case_max_s=case_max_s)(cases(count))) as outcomes:
        for each in outcomes:
            assert each.case.seed not in found, "a case was run twice"
            found[each.case.seed] = each
    return found


def test_outcomes_are_those_of_this_process_to_the_byte() -> None:
    there = run("fails_now_and_then", 30)
    here = {seed: campaigns.fails_now_and_then.run(Case(seed=seed)) for seed in range(30)}
    assert {seed: each.digest for seed, each in there.items()} == {seed: each.digest for seed, each in here.items()}
    assert there == here
    assert [seed for seed in range(30) if there[seed].failure is not None] == [3, 13, 23]


def test_a_campaign_over_two_processes_is_the_campaign_of_one() -> None:
    scenario = replace(campaigns.fails_now_and_then, place=place("fails_now_and_then"))
    one, two = explore(scenario, seeds=60), explore(scenario, seeds=60, workers=2)
    assert (one.found, one.sometimes, one.seeds, one.steps) == (two.found, two.sometimes, two.seeds, two.steps)
    assert two.found[0].shrunk is not None
    assert [each.text for each in two.found[0].shrunk.outcome.operations] == ["put 5"]


def test_a_process_that_dies_costs_its_case_and_no_other() -> None:
    found = run("dies", 12)
    assert sorted(found) == list(range(12))
    failures = {seed: each.failure for seed, each in found.items() if each.failure is not None}
    assert list(failures) == [2]
    assert failures[2].signature == WORKER_DIED
    assert "ended with 7\nmy last words" in failures[2].message


def test_a_world_that_hangs_in_real_time_is_ended_and_told() -> None:
    found = run("hangs", 8, case_max_s=3.0)
    assert sorted(found) == list(range(8))
    assert [(seed, each.failure.signature) for seed, each in found.items() if each.failure is not None] == [(2, HANGS)]


def test_time_in_which_the_campaign_itself_stood_still_is_no_worlds_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z, and an hour later `fg`: whatever world was under way has not computed for an hour."""
    ahead_s = 0.0

    class Clock(SystemClock):
        @staticmethod
        def now() -> float:
            nonlocal ahead_s
            ahead_s += 3600.0
            return SystemClock.now() + ahead_s

    monkeypatch.setattr(crew_module, "SystemClock", Clock)
    assert [each.failure for each in run("fine", 8, case_max_s=30.0).values()] == [None] * 8


def test_what_kills_a_process_is_not_shrunk_in_ours() -> None:
    report = explore(replace(campaigns.dies, place=place("dies")), seeds=6, workers=2)
    assert report.failed_seeds == (2,)
    assert report.found[0].shrunk is None


def test_a_campaign_that_loses_every_process_ends_early_and_says_how_far_it_was(tmp_path: Path) -> None:
    file = tmp_path / "fatal.py"
    file.write_text(
        "import os\nfrom holdfast.sim import Scenario\nasync def body(world): os._exit(3)\nfatal = Scenario(name='fatal', body=body)\n"
    )
    report = explore(Scenario(name="fatal", body=campaigns.bare_assert, place=f"{file}::fatal"), seeds=1000, workers=2)
    assert DEATHS_MAX <= report.seeds <= DEATHS_MAX + 4
    assert [each.failure.signature for each in report.found] == [WORKER_DIED]
    assert not report.ok


@pytest.mark.parametrize("ending", ["closed early", "interrupted"])
def test_no_process_is_left_behind(ending: str) -> None:
    crew = Crew(place("fine"), 2)
    if ending == "closed early":
        with closing(crew(cases(500))) as outcomes:
            next(outcomes)
            processes = [each.process for each in crew._crew]
    else:
        processes = []

        def watch(done: int, asked: int, failed: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(Interrupted):
            explore(replace(campaigns.fine, place=place("fine")), seeds=500, workers=2, watch=watch)
    assert all(each.returncode is not None for each in processes)
    assert crew._crew == []


def test_a_scenario_that_workers_cannot_find_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a worker process cannot run .*not_there"):
        run("not_there", 5)
