"""A scenario, one case of it, and what running that case gave.

Owns: the vocabulary of campaigns. A *scenario* is a function of a world. A *case* says which world: a seed, and, once they are known, which
faults and which operations; without those the seed draws all of them. An *outcome* has the case as it was, complete, so that it can be run
again to the byte, or shrunk. Also the liveness phase: when the faults are over, a scenario must end within a given virtual time.

What may never happen here: a case that gives two outcomes, or a failure without a signature that is the same wherever it fails this way.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from weakref import WeakKeyDictionary

from ..errors import ConfigError
from .climate import Climate, in_words
from .faults import FaultPlan
from .happenings import NoSuchHost
from .history import InvariantBroken
from .options import WorldOptions
from .process import Process
from .reasons import is_theirs, pending, raised_at
from .world import World, WorldRun, run_world

T = TypeVar("T")

Body = Callable[[World], Awaitable[None]]

_ADDRESS = re.compile("0x[0-9a-f]{6,}")
"""Where an object happened to lie: not the same twice."""

WITHIN_S = 300.0
"""Virtual time to converge in: longer than any back-off, and nothing to a simulation."""

LOOKED_AT_WITHIN_S = 1.0
"""How long a program that raised at once may be unheeded: a scenario that expects its error looks at it by then."""


class NotConverged(InvariantBroken):
    """The faults were over, and the scenario did not end."""


# ------------------------------------------------------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Step:
    """One operation of a workload: which one, and what it is."""

    workload: str
    number: int
    text: str


@dataclass
class _Workloads:
    kept: frozenset[tuple[str, int]] | None
    steps: list[Step] = field(default_factory=list)


_workloads: WeakKeyDictionary[World, _Workloads] = WeakKeyDictionary()


def operations(world: World, items: Sequence[T], name: str = "op") -> list[T]:
    """The operations a scenario is about to do, made known, so that a failing case can be shrunk to the few that matter.

    Draw all of them first, then pass them through here and do what comes back: everything, or, when a case is shrunk, a part.

    Args:
        items: the operations: anything whose `str` says what it is.
        name: of the workload; each client has one of its own.
    """
    here = _workloads.get(world)
    if here is None:  # a world that no campaign runs
        return list(items)
    chosen = [(number, item) for number, item in enumerate(items) if here.kept is None or (name, number) in here.kept]
    here.steps += [Step(name, number, str(item)) for number, item in chosen]
    return [item for _, item in chosen]


# ------------------------------------------------------------------------------------------------------------- cases and outcomes


@dataclass(frozen=True, kw_only=True)
class Case:
    """Which world.

    Attributes:
        seed: decides everything that is not written out here.
        plan: the faults; None: the climate draws them.
        calm: whether the physics are the scenario's own; False: the climate draws them.
        kept: of the operations, which ones are done, by workload and number; None: all.
    """

    seed: int
    plan: FaultPlan | None = None
    calm: bool = False
    kept: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a case failed.

    Attributes:
        signature: the same wherever it fails this way: the invariant's name, or the error's type and place.
        message: what was wrong this time.
        at_s: when, in virtual seconds.
        details: the traceback through somebody's own code.
    """

    signature: str
    message: str
    at_s: float
    details: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What running a case gave.

    Attributes:
        case: with its faults and operations written out.
        digest: of the whole trace.
        failure: None when all is well.
        operations: what the scenario made known, in order.
        sometimes: how often each point was reached.
        virtual_s, steps: how far it went.
        weather: the physics the climate drew, in words; empty for the scenario's own.
    """

    case: Case
    digest: str
    failure: Failure | None = None
    operations: tuple[Step, ...] = ()
    sometimes: dict[str, int] = field(default_factory=dict)
    virtual_s: float = 0.0
    steps: int = 0
    weather: str = ""

    @property
    def events_of_case(self) -> int:
        """How many faults and operations there are: what shrinking makes fewer."""
        return len(self.case.plan or ()) + len(self.operations)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A function of a world, and what is asked of it.

    Args:
        name: what it is called, in messages and in a corpus.
        body: the function. Raising is failing.
        place: what `holdfast sim` takes to find it: `FILE::NAME`.
        climate: the faults it must stand; None for a calm world.
        sometimes: points (`world.reached`) that some world of every campaign must reach: a test that never gets there tests nothing.
        within_s: virtual time in which it must end once the faults are over.
        options: the physics of its worlds, as far as the climate leaves them.
    """

    name: str
    body: Body
    place: str = ""
    climate: Climate | None = None
    sometimes: tuple[str, ...] = ()
    within_s: float = WITHIN_S
    options: WorldOptions = field(default_factory=WorldOptions)

    def run(self, case: Case) -> Outcome:
        """Run one case in a new world, to its end."""
        return self.trace(case)[0]

    def trace(self, case: Case) -> tuple[Outcome, WorldRun]:
        """Run one case, and keep the whole run with its events."""
        plan, options = case.plan, self.options
        if self.climate is not None:
            plan = self.climate.draw(case.seed) if plan is None else plan
            options = options if case.calm else self.climate.weather(case.seed, options)
        here = _Workloads(None if case.kept is None else frozenset(case.kept))

        async def bounded(world: World) -> None:
            _workloads[world] = here
            await self._until_converged(world)

        run = run_world(bounded, case.seed, plan=plan, options=options)
        outcome = Outcome(
            case=replace(case, plan=run.plan),
            digest=run.digest,
            failure=None if run.failure is None else _failure(self._in_its_words(run.failure, run.virtual_s), run.virtual_s),
            operations=tuple(here.steps),
            sometimes=dict(run.sometimes),
            virtual_s=run.virtual_s,
            steps=run.steps,
            weather="" if options == self.options else in_words(options),
        )
        return outcome, run

    def _in_its_words(self, failure: BaseException, at_s: float) -> BaseException:
        """A host that only the climate knows is the climate's mistake."""
        by = self.climate.which_names(failure.name) if isinstance(failure, NoSuchHost) and self.climate is not None else ""
        if not by or not isinstance(failure, NoSuchHost):
            return failure
        made = ", ".join(failure.made) or "no host"
        return ConfigError(f"climate: {by} names {failure.name!r}, but the scenario made {made} (until {at_s:.3g} s)")

    async def _until_converged(self, world: World) -> None:
        calm_at_s = self.climate.calm_at_s if self.climate is not None else 0.0
        stillborn: list[Process] = []
        try:
            async with asyncio.timeout(calm_at_s + self.within_s) as bound:
                _end_at_once(world, bound, stillborn)
                await self.body(world)
        except TimeoutError as timeout:
            if not bound.expired():
                raise
            if stillborn:
                failed = stillborn[0]
                assert failed.failure is not None
                failed.failure.add_note(f"program {failed.name!r} of host {failed.host!r} raised at once, before any fault")
                raise failed.failure from None
            ended = f"{self.within_s:g} s after the faults had stopped (at {calm_at_s:g} s)" if calm_at_s else f"{self.within_s:g} s"
            late = f"the scenario had not ended {ended}; if it may take longer, say so with within_s"
            error = NotConverged("converges", "; ".join([*world._went_wrong(), late]))
            at = raised_at(timeout.__cause__)
            error.add_note(f"the scenario waited at {at}" if at else "the scenario waited")
            error.add_note(pending(each for each in world._processes if each is not world._driver))
            raise error from None


def _end_at_once(world: World, bound: asyncio.Timeout, stillborn: list[Process]) -> None:
    """See to it that a world ends whose program raises before anything happened to it, unless the scenario looks at that program."""

    def look(process: Process) -> None:
        if not process.looked_at and not stillborn and not bound.expired():
            stillborn.append(process)
            bound.reschedule(0.0)

    def lost(process: Process) -> None:
        world._engine.at(world.now() + LOOKED_AT_WITHIN_S, world._driver.loop.call_soon, look, process)

    world._stillborn = lost


def as_scenario(value: object) -> Scenario:
    """The scenario that an object is, carries (what `sim_test` decorated does), or, for a function of a world, can be made into.

    Raises: TypeError for anything else.
    """
    if isinstance(value, Scenario):
        return value
    carried = getattr(value, "scenario", None)
    if isinstance(carried, Scenario):
        return carried
    if inspect.iscoroutinefunction(value):
        return Scenario(name=value.__name__, body=value, place=place_of(value))
    raise TypeError(f"{value!r} is no scenario; expected an `async def` function of a world, or one under @sim_test")


def place_of(body: Callable[..., object]) -> str:
    """`FILE::NAME` of a function at the top of a file, or nothing for one that cannot be imported from there."""
    name, file = body.__qualname__, inspect.getsourcefile(body) or ""
    if "." in name or not os.path.isfile(file):
        return ""
    near = os.path.relpath(file)
    return f"{file if near.startswith(os.pardir) else near}::{name}"


def _in_their_code(told: traceback.TracebackException | None) -> None:
    """Leave out the frames of the simulator and of asyncio, of everything that led to an error too."""
    if told is None:
        return
    theirs = [each for each in told.stack if is_theirs(each.filename)]
    told.stack = traceback.StackSummary.from_list(theirs)
    for each in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        _in_their_code(each)


def _failure(error: BaseException, at_s: float) -> Failure:
    told = traceback.TracebackException.from_exception(error)
    _in_their_code(told)
    details = "".join(told.format())
    message = _ADDRESS.sub("0x…", " ".join(str(error).split())) or type(error).__name__
    if isinstance(error, InvariantBroken):
        return Failure(signature=error.invariant, message=message, at_s=at_s, details=details)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [each for each in frames if is_theirs(each.filename)] or frames
    kind, place = type(error).__name__, ""
    if theirs:
        place = f" at {os.path.basename(theirs[-1].filename)}:{theirs[-1].lineno}"
    if isinstance(error, AssertionError):
        if not str(error) and theirs:
            message = f"assert failed: {theirs[-1].line}"
    elif message != kind:
        message = f"{kind}: {message}"
    return Failure(signature=f"{kind}{place}", message=message, at_s=at_s, details=details)
