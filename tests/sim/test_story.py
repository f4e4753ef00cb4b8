"""The words about a campaign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.sim.explore import Found, Report
from holdfast.sim.faults import Fault, FaultPlan
from holdfast.sim.scenario import Case, Failure, Outcome, Step
from holdfast.sim.shrink import Shrunk
from holdfast.sim.story import told

PLAN = FaultPlan.of([Fault(0.512, "kill", "server"), Fault(0.75, "restart", "server"), Fault(0.25, "partition", "a", ("b", True))])
FAILURE = Failure(signature="every effect exactly once", message="every effect exactly once: 'k' was lost", at_s=12.1134)
OUTCOME = Outcome(case=Case(seed=733, plan=PLAN), digest="d", failure=FAILURE, operations=(Step("c1", 3, "put k 7"),))
REPORT = Report(scenario="test_orders", place="sim_orders.py::test_orders", seeds=1000, asked=1000, virtual_s=12000.0, real_s=40.0)


def replay(seed: int) -> str:
    return f"holdfast sim sim_orders.py --seed {seed} --shrink"


def with_(**changes: object) -> Report:
    return Report(**{**{name: getattr(REPORT, name) for name in REPORT.__dataclass_fields__}, **changes})  # type: ignore[arg-type]


def test_a_failing_seed_has_its_invariant_its_shrunken_story_and_its_command() -> None:
    other = Failure(signature=FAILURE.signature, message="every effect exactly once: 'j' was lost", at_s=1.25)
    shrunk = Shrunk(outcome=replace(OUTCOME, failure=other), events_before=214, runs=87, complete=True)
    report = with_(found=(Found(outcome=OUTCOME, seeds=(733, 801, 950), shrunk=shrunk),))
    assert told(report, replay).splitlines() == [
        "test_orders: 1000 worlds, 12.0 s simulated each, in 40.0 s (300 times real time)",
        "FAIL seed 733 (and 2 more: 801, 950): every effect exactly once: 'k' was lost, at t=12.113 s",
        "  shrunk from 214 to 4 events (87 worlds tried):",
        "              c1  put k 7",
        "         0.250 s  partition a, b one way",
        "         0.512 s  kill server",
        "         0.750 s  restart server",
        "  in this small world: every effect exactly once: 'j' was lost, at t=1.250 s",
        "  replay: holdfast sim sim_orders.py --seed 733 --shrink",
    ]


def test_what_was_not_shrunk_shows_its_beginning() -> None:
    many = FaultPlan.of([Fault(at, "kill", "server") for at in range(100)])
    outcome = Outcome(case=Case(seed=1, plan=many), digest="d", failure=FAILURE)
    text = told(with_(found=(Found(outcome=outcome, seeds=(1,)),)), replay)
    assert "FAIL seed 1: every" in text
    assert "and 60 more" in text
    assert "shrunk" not in text


def test_a_budget_that_ended_is_told() -> None:
    shrunk = Shrunk(outcome=OUTCOME, events_before=214, runs=400, complete=False)
    assert "400 worlds tried; more might go, the budget ended" in told(
        with_(found=(Found(outcome=OUTCOME, seeds=(1,), shrunk=shrunk),)), replay
    )


def test_a_point_never_reached_fails_by_name_and_a_good_campaign_says_what_it_reached() -> None:
    assert "FAIL never reached: 'a retry' in 1000 worlds" in told(with_(missing=("a retry",)), replay)
    assert told(with_(sometimes={"a retry": 12}), replay).splitlines()[1:] == ["ok · reached: a retry in 12"]
    assert told(with_(faults=9120), replay).splitlines()[1:] == ["ok · 9120 faults"]


@pytest.mark.parametrize(
    ("seeds", "ordinal"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (10, "10th"), (11, "11th"), (112, "112th"), (121, "121st")]
)
def test_a_campaign_that_stopped_says_where(seeds: int, ordinal: str) -> None:
    assert told(with_(seeds=seeds), replay).startswith(f"test_orders: stopped at the {ordinal} of 1000 worlds, ")
