"""Shrinking, on made-up worlds: what it leaves, that it never changes the failure, and that it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim.faults import Fault, FaultPlan
from holdfast.sim.scenario import Case, Failure, Outcome, Step
from holdfast.sim.shrink import idle_faults, minimise, shrink

OPERATIONS = tuple(Step("c", number, f"op {number}") for number in range(40))
PLAN = FaultPlan.of([Fault(at, "reset", "a", (f"h{at}",)) for at in range(30)])


def made_up(why: Callable[[frozenset[str], frozenset[int], bool], str]) -> tuple[Callable[[Case], Outcome], Outcome]:
    """A world that fails by a rule over the faults' hosts, the operations' numbers and the physics; and its first, whole outcome."""

    def run(case: Case) -> Outcome:
        plan = PLAN if case.plan is None else case.plan
        kept = OPERATIONS if case.kept is None else tuple(each for each in OPERATIONS if (each.workload, each.number) in case.kept)
        signature = why(frozenset(str(each.args[0]) for each in plan), frozenset(each.number for each in kept), case.calm)
        failure = Failure(signature=signature, message=f"{signature} {len(plan)}", at_s=1.0) if signature else None
        whole = Case(seed=case.seed, plan=plan, calm=case.calm, kept=case.kept)
        return Outcome(case=whole, digest=f"{len(plan)}/{len(kept)}", failure=failure, operations=kept)

    return run, run(Case(seed=1))


@given(st.lists(st.integers(0, 9), max_size=20), st.frozensets(st.integers(0, 9), max_size=4))
def test_minimise_leaves_what_is_needed_and_nothing_that_could_go(items: list[int], needed: frozenset[int]) -> None:
    needed &= frozenset(items)
    smallest = minimise(items, lambda some: needed <= set(some))
    assert sorted(smallest) == sorted(needed)


def test_minimise_finds_a_pair_among_many_in_few_tries() -> None:
    tries = 0

    def still_fails(some: list[int]) -> bool:
        nonlocal tries
        tries += 1
        return 17 in some and 402 in some

    assert minimise(range(500), still_fails) == [17, 402]
    assert tries < 60


def test_faults_and_operations_that_do_not_matter_go() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "lost" if {"h3", "h21"} <= hosts and {7, 30} <= numbers else "")
    shrunk = shrink(run, failing)
    assert [str(each.args[0]) for each in shrunk.case.plan or ()] == ["h3", "h21"]
    assert [each.number for each in shrunk.outcome.operations] == [7, 30]
    assert (shrunk.events_before, shrunk.events, shrunk.complete) == (70, 4, True)
    assert shrunk.case.calm
    assert run(shrunk.case) == shrunk.outcome


def test_physics_that_matter_stay() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "" if calm else "slow")
    shrunk = shrink(run, failing)
    assert not shrunk.case.calm
    assert shrunk.events == 0


def test_a_smaller_world_that_fails_for_another_reason_is_not_taken() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "doubled" if "h9" in hosts else "lost")
    shrunk = shrink(run, failing)
    assert shrunk.outcome.failure is not None
    assert shrunk.outcome.failure.signature == "doubled"
    assert [str(each.args[0]) for each in shrunk.case.plan or ()] == ["h9"]


def test_leaving_out_operations_can_make_more_faults_superfluous() -> None:
    # With all forty operations the fault is needed, with two of them it is not.
    run, failing = made_up(lambda hosts, numbers, calm: "lost" if {1, 2} <= numbers and ("h5" in hosts or len(numbers) < 4) else "")
    assert shrink(run, failing).events == 2


def test_it_ends_with_its_budget_and_says_so() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "lost" if len(numbers) >= 20 else "")
    shrunk = shrink(run, failing, runs_max=10)
    assert (shrunk.runs, shrunk.complete) == (10, False)
    assert shrunk.events < failing.events_of_case


def test_no_world_is_run_twice() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "lost" if {"h3", "h21"} <= hosts and {7, 30} <= numbers else "")
    seen: list[Case] = []

    def noted(case: Case) -> Outcome:
        seen.append(case)
        return run(case)

    shrink(noted, failing)
    assert len(set(seen)) == len(seen)


def test_the_same_case_always_shrinks_to_the_same_one() -> None:
    run, failing = made_up(lambda hosts, numbers, calm: "lost" if len(hosts) % 3 == 0 and len(numbers) > 4 else "")
    assert shrink(run, failing) == shrink(run, failing)


def test_what_mends_a_fault_goes_with_it_and_not_alone() -> None:
    plan = FaultPlan.of([Fault(1, "kill", "a"), Fault(2, "restart", "a"), Fault(3, "kill", "b"), Fault(4, "restart", "b")])
    tried: list[str] = []

    def run(case: Case) -> Outcome:
        tried.append(" ".join(f"{each.kind} {each.target}" for each in case.plan or ()))
        failed = any(each.kind == "kill" and each.target == "b" for each in case.plan or ())
        return Outcome(case=case, digest="", failure=Failure(signature="down", message="down", at_s=0.0) if failed else None)

    shrunk = shrink(run, run(Case(seed=0, plan=plan)))
    assert shrunk.case.plan == plan.only([2, 3])
    assert all(each.count("kill") == each.count("restart") for each in tried)


def test_what_did_not_fail_is_not_shrunk() -> None:
    run, passing = made_up(lambda hosts, numbers, calm: "")
    with pytest.raises(ValueError, match="did not fail"):
        shrink(run, passing)


def test_faults_that_did_nothing_are_known_by_the_plan() -> None:
    told = (
        Fault(1, "kill", "a"), Fault(2, "kill", "a"), Fault(3, "power_loss", "a"), Fault(4, "kill", "a"),
        Fault(5, "restart", "a"), Fault(6, "restart", "a"), Fault(7, "kill", "a"), Fault(8, "partition", "a", ("b",)),
        Fault(9, "partition", "a", ("b",)),
        Fault(10, "hold", "b", ("a",)),
        Fault(11, "repair", "b", ("a",)), Fault(12, "release", "a", ("b",)), Fault(13, "reset", "a", ("b",)),
    )  # fmt: skip
    assert [told[number].at_s for number in idle_faults(told)] == [2, 4, 9, 12]


def test_what_did_nothing_goes_first_and_at_once() -> None:
    pairs = [Fault(1, "kill", "a")] + [Fault(1 + at / 100, "kill", "a") for at in range(1, 20)] + [Fault(2, "restart", "a")]
    tried: list[int] = []

    def run(case: Case) -> Outcome:
        tried.append(len(case.plan or ()))
        failed = any(each.kind == "kill" for each in case.plan or ())
        return Outcome(case=case, digest="", failure=Failure(signature="down", message="down", at_s=0.0) if failed else None)

    shrunk = shrink(run, run(Case(seed=0, plan=FaultPlan.of(pairs), calm=True)))
    assert tried[:2] == [21, 2]
    assert shrunk.case.plan == FaultPlan.of([pairs[0], pairs[-1]])


def test_one_fault_at_the_right_moment_is_found_from_scratch_where_leaving_out_leads_nowhere() -> None:
    plan = FaultPlan.of([Fault(5 + at, "reset", "a", (f"h{at}",)) for at in range(10)])

    def run(case: Case) -> Outcome:
        kept = OPERATIONS if case.kept is None else tuple(each for each in OPERATIONS if (each.workload, each.number) in case.kept)
        faults = tuple(case.plan or ())
        whole = len(faults) == 10 and len(kept) == 40
        small = len(faults) == 1 and faults[0].args == ("h4",) and 0.003 < faults[0].at_s < 0.005 and [each.number for each in kept] == [39]
        failure = Failure(signature="lost", message="lost", at_s=1.0) if whole or small else None
        return Outcome(case=case, digest="", failure=failure, operations=kept)

    shrunk = shrink(run, run(Case(seed=1, plan=plan)), runs_max=2000)
    assert (shrunk.events, shrunk.complete) == (2, True)
    assert shrunk.runs < 600
