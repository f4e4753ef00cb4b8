"""A campaign: many seeds of one scenario, and what came of it.

Owns: `explore`, the report it gives, the self-check (some seeds run twice, and must be the same to the byte), and the judgement over
"sometimes" points, which is of the campaign and not of a world.

What may never happen here: a campaign that passes without having reached what it says it must, or a seed that failed and is not in the
report.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

from ..clock import SystemClock
from ..errors import ConfigError
from .crew import HANGS, WORKER_DIED, Crew
from .divergence import first_divergence
from .scenario import Body, Case, Failure, Outcome, Scenario, as_scenario
from .shrink import RUNS_MAX, Shrunk, shrink

SELF_CHECK_EVERY = 50
"""Every so many seeds, beginning with the first, one is run twice: 2 % more work for the promise everything else stands on."""

DETERMINISM = "same seed, same world"
UNSHRINKABLE = (DETERMINISM, WORKER_DIED, HANGS)
"""What cannot be shrunk here: the first is not the same twice, the others would end or hang this process."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A way to fail, and the seeds that do.

    Attributes:
        outcome: of the first such seed.
        seeds: all of them, ascending.
        shrunk: the first one made small, if that was asked for.
    """

    outcome: Outcome
    seeds: tuple[int, ...]
    shrunk: Shrunk | None = None

    @property
    def failure(self) -> Failure:
        assert self.outcome.failure is not None
        return self.outcome.failure


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a campaign came to.

    Attributes:
        scenario: its name; `place` is how to find it.
        seeds: how many worlds were run; `asked` how many should have been.
        found: each way to fail once, by its first seed.
        missing: "sometimes" points that no world reached.
        sometimes: how many worlds reached each point.
        virtual_s, steps: of all worlds together, as `faults`; `real_s` is how long it took.
    """

    scenario: str
    place: str
    seeds: int
    asked: int
    found: tuple[Found, ...] = ()
    missing: tuple[str, ...] = ()
    sometimes: dict[str, int] = field(default_factory=dict)
    virtual_s: float = 0.0
    steps: int = 0
    faults: int = 0
    real_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.found and not self.missing

    @property
    def failed_seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for each in self.found for seed in each.seeds}))


class Watcher(Protocol):
    """Told how far a campaign is."""

    def __call__(self, done: int, asked: int, failed: int) -> None: ...


class Runner(Protocol):
    """Runs cases, maybe elsewhere; gives outcomes in any order. Closing the generator ends it early."""

    def __call__(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]: ...


def checked(scenario: Scenario, case: Case, *, twice: bool) -> Outcome:
    """Run a case; `twice` runs it again and makes a difference between the two a failure that shows where they part."""
    outcome, run = scenario.trace(case)
    if not twice:
        return outcome
    again, other = scenario.trace(case)
    if again.digest == outcome.digest:
        return outcome
    parting = first_divergence(run.events, other.events)
    message = f"run twice it was two worlds; {parting if parting is not None else 'their digests differ and their events do not'}"
    return Outcome(
        case=outcome.case,
        digest=outcome.digest,
        failure=Failure(signature=DETERMINISM, message=message, at_s=outcome.virtual_s),
        operations=outcome.operations,
        sometimes=outcome.sometimes,
        virtual_s=outcome.virtual_s,
        steps=outcome.steps,
    )


def is_self_checked(seed: int) -> bool:
    """Whether this seed is run twice."""
    return seed % SELF_CHECK_EVERY == 0


def here(scenario: Scenario) -> Runner:
    """A runner in this process."""

    def run(cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        for case in cases:
            yield checked(scenario, case, twice=is_self_checked(case.seed))

    return run


def explore(
    scenario: Scenario | Body,
    *,
    seeds: int = 200,
    first: int = 0,
    cases: Iterable[Case] = (),
    stop_at_first: bool = False,
    shrinking: bool = True,
    runs_max: int = RUNS_MAX,
    workers: int = 1,
    watch: Watcher | None = None,
) -> Report:
    """Run a scenario in many worlds.

    Args:
        seeds: how many, from `first` on.
        cases: run before them: a corpus.
        stop_at_first: end at the first failure; without it every seed is run.
        shrinking: make the first case of each way to fail small.
        runs_max: worlds that may be run to shrink one case.
        workers: processes that run the worlds; 1 is this one. With more, each imports the scenario from its file, by its name.
        watch: told after each world.
    Returns: a report. Points of `scenario.sometimes` are judged only when every seed was run.
    Raises: ConfigError for workers that cannot find the scenario; KeyboardInterrupt with the report so far as `report` (see `Interrupted`).
    """
    scenario = as_scenario(scenario)
    kept = list(cases)
    todo = chain(kept, (Case(seed=seed) for seed in range(first, first + seeds)))
    tally = _Tally(scenario, len(kept) + seeds)
    run = Crew(require_place(scenario), workers) if workers > 1 else here(scenario)
    try:
        with closing(run(todo)) as outcomes:
            for outcome in outcomes:
                tally.add(outcome)
                if watch is not None:
                    watch(tally.seeds, tally.asked, tally.failed)
                if stop_at_first and outcome.failure is not None:
                    break
        return tally.report(shrinking, runs_max)
    except KeyboardInterrupt:
        raise Interrupted(tally.report(False, 0)) from None


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def silenced() -> Iterator[None]:
    """What scenarios print goes nowhere, and `breakpoint()` stops nobody: hundreds of worlds would do it hundreds of times."""
    hook = sys.breakpointhook
    sys.breakpointhook = lambda *_, **__: None
    try:
        with redirect_stdout(_Nowhere()):
            yield
    finally:
        sys.breakpointhook = hook


def replay(scenario: Scenario, seed: int, *, shrinking: bool = True, runs_max: int = RUNS_MAX, speaking: bool = True) -> Report:
    """Run one world, make it small if it fails, and then run the one that is shown once more: what that one prints is seen.

    Args:
        speaking: False to see nothing of what it prints.
    """
    few = replace(scenario, sometimes=())  # what one world does not reach says nothing
    with silenced():
        report = explore(few, seeds=1, first=seed, shrinking=shrinking, runs_max=runs_max)
    if speaking:
        last = [each.shrunk.outcome if each.shrunk is not None else each.outcome for each in report.found]
        scenario.run(last[0].case if last else Case(seed=seed))
    return report


def require_place(scenario: Scenario) -> str:
    """Where other processes find a scenario. Raises: ConfigError when they cannot."""
    if not scenario.place:
        raise ConfigError(f"{scenario.name} cannot be imported by worker processes: define it at the top of a file, or use workers=1")
    return scenario.place


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a campaign. Attribute `report`: what was found until then, not shrunk."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"interrupted after {report.seeds} of {report.asked} worlds")
        self.report = report


class _Tally:
    def __init__(self, scenario: Scenario, asked: int) -> None:
        self.scenario = scenario
        self.asked = asked
        self.seeds = self.failed = self.steps = self.faults = 0
        self.virtual_s = 0.0
        self.began_at = SystemClock.now()
        self.sometimes: Counter[str] = Counter()
        self.ways: dict[str, tuple[Outcome, list[int]]] = {}

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.steps += outcome.steps
        self.faults += len(outcome.case.plan or ())
        self.virtual_s += outcome.virtual_s
        self.sometimes.update(dict.fromkeys(outcome.sometimes, 1))
        if outcome.failure is not None:
            self.failed += 1
            first, seeds = self.ways.setdefault(outcome.failure.signature, (outcome, []))
            seeds.append(outcome.case.seed)
            if outcome.case.seed < first.case.seed:
                self.ways[outcome.failure.signature] = (outcome, seeds)

    def report(self, shrinking: bool, runs_max: int) -> Report:
        real_s = SystemClock.now() - self.began_at
        found = [self._found(first, seeds, shrinking, runs_max) for first, seeds in self.ways.values()]
        whole = self.seeds == self.asked
        return Report(
            scenario=self.scenario.name,
            place=self.scenario.place,
            seeds=self.seeds,
            asked=self.asked,
            found=tuple(sorted(found, key=lambda each: each.seeds)),
            missing=tuple(each for each in self.scenario.sometimes if not self.sometimes[each]) if whole else (),
            sometimes=dict(sorted(self.sometimes.items())),
            virtual_s=self.virtual_s,
            steps=self.steps,
            faults=self.faults,
            real_s=real_s,
        )

    def _found(self, first: Outcome, seeds: list[int], shrinking: bool, runs_max: int) -> Found:
        assert first.failure is not None
        small = shrinking and first.failure.signature not in UNSHRINKABLE
        shrunk = shrink(self.scenario.run, first, runs_max=runs_max) if small else None
        return Found(outcome=first, seeds=tuple(sorted(seeds)), shrunk=shrunk)
