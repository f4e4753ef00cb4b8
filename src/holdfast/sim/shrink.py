"""Make a failing case small: calm the physics, leave out faults, then operations, as long as it fails in the same way.

Owns: `minimise` (delta debugging over any list) and the order in which the parts of a case are tried. A case is run again from its seed
each time, so the same case always shrinks to the same one, and the replay command needs nothing but the seed.

What may never happen here: a smaller case that fails for another reason; a search without bound; a dice throw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from msgspec import structs

from .climate import units
from .faults import Fault, FaultPlan
from .scenario import Case, Failure, Outcome

T = TypeVar("T")

RUNS_MAX = 600
"""Worlds that may be run to shrink one case: some seconds. Most need a hundred."""


FEW = (1, 2, 4)
"""How many operations are tried with faults that come sooner, and at how many moments, twice."""

MOMENTS = 20


LARGE = 8
"""A case with more events than this is worth looking for a small one from scratch."""

ALONE_RUNS_MAX = 240
"""Worlds that may be run for that; each has one operation, so they are short."""

ALONE_AT_S = (*(0.002 * number for number in range(16)), 0.05, 0.1, 0.2, 0.5, 1.0)
"""When the one fault comes there: closely while a request and its answer are on their way, then widely."""


class Spent(Exception):
    """The budget of runs is used up; what is smallest so far is the answer."""


def minimise(items: Sequence[T], still_fails: Callable[[list[T]], bool]) -> list[T]:
    """Leave out as many items as possible, in order, so that `still_fails` holds; it is taken to hold for all of them.

    Zeller's ddmin: halves, then quarters, down to single items, until no single one can be left out.
    """
    kept = list(items)
    if kept and still_fails([]):
        return []
    chunk = max(1, len(kept) // 2)
    while kept:
        start, shrunk = 0, False
        while start < len(kept):
            without = kept[:start] + kept[start + chunk :]
            if without and len(without) < len(kept) and still_fails(without):
                kept, shrunk = without, True
            else:
                start += chunk
        if chunk > 1:
            chunk = max(1, chunk // 2)
        elif not shrunk:
            return kept
    return kept


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A failing case and how it became small.

    Attributes:
        outcome: of the small case: it fails as the first one did.
        events_before: faults and operations of the case it began with.
        runs: worlds that were run.
        complete: whether nothing more could be left out; False when the budget ended first.
    """

    outcome: Outcome
    events_before: int
    runs: int
    complete: bool

    @property
    def case(self) -> Case:
        return self.outcome.case

    @property
    def events(self) -> int:
        """Faults and operations that are left."""
        return self.outcome.events_of_case


class _Search:
    def __init__(self, run: Callable[[Case], Outcome], failing: Outcome, failure: Failure, runs_max: int) -> None:
        self.run = run
        self.best = failing
        self.signature = failure.signature
        self.left = runs_max
        self.runs = 0
        self._tried: dict[Case, bool] = {failing.case: True}

    def fails(self, case: Case) -> bool:
        """Whether this smaller case fails in the same way; then it is the best so far."""
        if case in self._tried:
            return self._tried[case]
        if self.left == 0:
            raise Spent
        self.left -= 1
        self.runs += 1
        outcome = self.run(case)
        same = outcome.failure is not None and outcome.failure.signature == self.signature
        self._tried[case] = same
        if same:
            self.best = outcome
        return same

    def physics(self) -> None:
        if not self.best.case.calm:
            self.fails(replace(self.best.case, calm=True))

    def faults(self) -> None:
        plan = self.best.case.plan
        if plan is None:
            return

        def still_fails(some: list[tuple[int, ...]]) -> bool:
            return self.fails(replace(self.best.case, plan=plan.only(sorted(number for unit in some for number in unit))))

        minimise(units(plan.faults), still_fails)

    def idle(self) -> None:
        """Leave out, all at once, what did nothing: most of a rough plan hits a host that is down already."""
        plan = self.best.case.plan
        idle = idle_faults(plan.faults) if plan is not None else []
        if plan is not None and idle:
            self.fails(replace(self.best.case, plan=plan.only([number for number in range(len(plan)) if number not in idle])))

    def alone(self, failing: Outcome) -> None:
        """One fault and one operation, from scratch: what cannot be reached by leaving out, because the timing would change on the way."""
        plan, steps = failing.case.plan, failing.operations
        if plan is None or not steps or self.best.events_of_case <= LARGE:
            return
        distinct = {_place(plan.faults[unit[0]]): unit for unit in reversed(units(plan.faults))}
        last = min(ALONE_RUNS_MAX, self.left)
        for calm in dict.fromkeys([True, self.best.case.calm]):
            for step in dict.fromkeys([steps[-1], steps[0]]):
                for unit in reversed(distinct.values()):
                    begins_at = plan.faults[unit[0]].at_s
                    for at_s in ALONE_AT_S:
                        if last == 0:
                            return
                        last -= 1
                        only = _moved(plan.only(list(unit)), at_s - begins_at)
                        kept = ((step.workload, step.number),)
                        if self.fails(replace(failing.case, plan=only, kept=kept, calm=calm)):
                            return

    def operations(self) -> None:
        kept = [(each.workload, each.number) for each in self.best.operations]
        minimise(kept, lambda some: self.fails(replace(self.best.case, kept=tuple(some))))

    def sooner(self) -> None:
        """Few operations, and the faults as much sooner: often the many are only there to fill the time until a fault."""
        case, steps = self.best.case, self.best.operations
        if case.plan is None or not steps:
            return
        begins_at = min((each.at_s for each in case.plan if each.call is None), default=0.0)
        for few in (each for each in FEW if each < len(steps)):
            for some in dict.fromkeys([steps[-few:], steps[:few]]):
                kept = tuple((each.workload, each.number) for each in some)
                for at_s in _moments(begins_at, len(steps)):
                    if self.fails(replace(case, plan=_moved(case.plan, at_s - begins_at), kept=kept)):
                        return


def _moments(begins_at: float, operations: int) -> list[float]:
    """When the first fault could come instead: closely over the time that two operations took, then widely over all of it."""
    two_s = min(2 * begins_at / operations, begins_at)
    close = [two_s * number / MOMENTS for number in range(MOMENTS)]
    return close + [at_s for number in range(MOMENTS) if (at_s := begins_at * number / MOMENTS) >= two_s]


def _place(fault: Fault) -> tuple[str, str, tuple[str, ...]]:
    return fault.kind, fault.target, tuple(each for each in fault.args if isinstance(each, str))


def idle_faults(faults: Sequence[Fault]) -> list[int]:
    """The numbers of the faults that did nothing, as far as the plan tells: kills of the dead, cuts of the cut, repairs of neither."""
    on: dict[tuple[object, ...], None] = {}
    idle: list[int] = []
    for number, each in enumerate(faults):
        way = (each.target, *each.args[:1])
        if each.kind in ("kill", "power_loss", "partition", "hold"):
            place = (each.kind, each.target, *each.args)
            dead = each.kind == "kill" and ("power_loss", each.target) in on
            if place in on or dead:
                idle.append(number)
            on[place] = None
        elif each.kind in ("restart", "repair", "release"):
            ended = [place for place in on if _ends(each.kind, place, way)]
            if not ended and each.kind != "restart":
                idle.append(number)
            for gone in ended:
                del on[gone]
    return idle


def _ends(kind: str, place: tuple[object, ...], way: tuple[object, ...]) -> bool:
    """Whether a fault that mends ends what is wrong at this place."""
    if kind == "restart":
        return place[0] in ("kill", "power_loss") and place[1] == way[0]
    there = set(place[1:3]) == set(way)
    return there and (place[0] == "hold" or (kind == "repair" and place[0] == "partition"))


def _moved(plan: FaultPlan, by_s: float) -> FaultPlan:
    """The plan, with the faults that come by themselves moved in time."""
    moved = [each if each.call is not None else structs.replace(each, at_s=max(0.0, each.at_s + by_s)) for each in plan]
    return structs.replace(plan, faults=tuple(moved))


def shrink(run: Callable[[Case], Outcome], failing: Outcome, *, runs_max: int = RUNS_MAX) -> Shrunk:
    """Shrink a failing case: its physics, its faults, then its operations, and again while that helps.

    Args:
        run: runs a case in a new world.
        failing: what a run of it gave; its case says which faults there were.
        runs_max: how many worlds may be run.
    Raises: ValueError when it did not fail.
    """
    if failing.failure is None:
        raise ValueError(f"seed {failing.case.seed} did not fail; there is nothing to shrink")
    search = _Search(run, failing, failing.failure, runs_max)
    complete = True
    try:
        before = None
        while before != search.best.case:
            before = search.best.case
            search.physics()
            search.idle()
            search.faults()
            search.operations()
            search.sooner()
            if before == search.best.case:
                search.alone(failing)
    except Spent:
        complete = False
    return Shrunk(outcome=search.best, events_before=failing.events_of_case, runs=search.runs, complete=complete)
