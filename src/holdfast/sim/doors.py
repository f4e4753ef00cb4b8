"""`sim_test`: a pytest test that is a campaign.

Owns: the decorator, and what the command line of pytest may change about it (`plugin.py` writes that into `asked`). What it makes is a
plain function without the world among its parameters. So pytest hands it its fixtures, and no plugin for async tests takes it for one of
its own.

What may never happen here: an import of pytest: a scenario must run where pytest is not.
"""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Concatenate, ParamSpec

from .climate import Climate
from .corpus import Corpus
from .explore import Report, explore, replay
from .history import InvariantBroken
from .options import WorldOptions
from .scenario import WITHIN_S, Scenario, place_of
from .shrink import RUNS_MAX
from .story import told
from .world import World

P = ParamSpec("P")

SEEDS = 200
"""Two hundred worlds of a small service take about a second."""

DEFAULT_OPTIONS = WorldOptions()

_COPIED = ("__module__", "__name__", "__qualname__", "__doc__")
"""Not `functools.wraps`: whoever follows `__wrapped__` finds a coroutine function with a parameter no fixture gives."""


class CampaignFailed(InvariantBroken):
    """A `sim_test` failed. Its text is the whole story, the replay command in it."""

    def __init__(self, invariant: str, story: str) -> None:
        AssertionError.__init__(self, story)
        self.invariant = invariant


@dataclass
class Asked:
    """What pytest's command line asked for: `--sim-seeds` and `--sim-replay`; None: nothing."""

    seeds: int | None = None
    replay: int | None = None


asked = Asked()


def sim_test(
    *,
    seeds: int = SEEDS,
    climate: Climate | None = None,
    sometimes: Sequence[str] = (),
    corpus: str | os.PathLike[str] | None = None,
    within_s: float = WITHIN_S,
    runs_max: int = RUNS_MAX,
    options: WorldOptions = DEFAULT_OPTIONS,
) -> Callable[[Callable[Concatenate[World, P], Awaitable[None]]], Callable[P, None]]:
    """Make a test of an `async def test_…(world, …)`: it runs in `seeds` worlds, and the first that fails fails the test, made small.

    Other parameters are fixtures. A fixture is made once, and all worlds share it.

    Args:
        seeds: how many worlds; `pytest --sim-seeds N` changes it, `pytest --sim-replay K` runs world K alone.
        climate: the faults the worlds have; None for calm ones.
        sometimes: points that some world must reach (`world.reached`), or the test fails.
        corpus: a file of cases that failed once (`holdfast sim --corpus`), run before the seeds; relative to the test's own file.
        within_s: virtual seconds the scenario may take, from when the faults have stopped.
        runs_max: worlds that may be run to shrink a failing one.
        options: the physics of the worlds, as far as the climate leaves them.
    """

    def decorate(body: Callable[Concatenate[World, P], Awaitable[None]]) -> Callable[P, None]:
        fixtures = _without_world(body)
        name = getattr(body, "__name__", "scenario")
        kept = None if corpus is None else Path(inspect.getsourcefile(body) or ".").parent / corpus
        plain = Scenario(
            name=name,
            body=body,
            climate=climate,
            sometimes=tuple(sometimes),
            within_s=within_s,
            options=options,
        )

        def test(*args: P.args, **kwargs: P.kwargs) -> None:
            __tracebackhide__ = True  # pytest: the story says it all
            bound = replace(plain, body=lambda world: body(world, *args, **kwargs), place=place_of(body))
            _campaign(bound, seeds, kept, runs_max, needs_fixtures=bool(fixtures.parameters))

        for each in _COPIED:
            setattr(test, each, getattr(body, each))
        # So that pytest, and whoever clicks on what it prints, finds the test where it was written.
        test.__code__ = test.__code__.replace(co_filename=body.__code__.co_filename, co_firstlineno=body.__code__.co_firstlineno)
        test.__dict__.update(body.__dict__)  # pytest's marks
        test.__signature__ = fixtures  # type: ignore[attr-defined]
        if fixtures.parameters:
            test.needs_fixtures = True  # type: ignore[attr-defined]
        else:
            test.scenario = replace(plain, place=place_of(body))  # type: ignore[attr-defined]
        return test

    return decorate


def _without_world(body: Callable[..., object]) -> inspect.Signature:
    """The signature pytest gets to see. Raises: TypeError for a function that is no scenario."""
    signature = inspect.signature(body)
    names = list(signature.parameters)
    if not inspect.iscoroutinefunction(body) or not names or names[0] == "self":
        raise TypeError(
            f"@sim_test over {getattr(body, '__qualname__', body)!r}: expected an `async def test_…(world: World, …)` outside of any class"
        )
    return signature.replace(parameters=[signature.parameters[name] for name in names[1:]], return_annotation=None)


def _campaign(scenario: Scenario, seeds: int, corpus: Path | None, runs_max: int, *, needs_fixtures: bool) -> None:
    """Run it as pytest's command line wants it. Raises: CampaignFailed with the story of what failed."""
    __tracebackhide__ = True
    if asked.replay is not None:
        report = replay(scenario, asked.replay, runs_max=runs_max)
    else:
        few = replace(scenario, sometimes=())  # what a few worlds do not reach says nothing
        cases = Corpus(corpus).cases(scenario.name) if corpus is not None else []
        many = seeds if asked.seeds is None else asked.seeds
        report = explore(few if many < seeds else scenario, seeds=many, cases=cases, stop_at_first=True, runs_max=runs_max)
    if not report.ok:
        story = told(report, lambda seed: _replay(scenario, seed, needs_fixtures))
        raise CampaignFailed(*_broken(report, story))


def _broken(report: Report, story: str) -> tuple[str, str]:
    if not report.found:
        return "reached at least once", story
    found = report.found[0]
    last = found.shrunk.outcome if found.shrunk is not None else found.outcome
    assert last.failure is not None
    return found.failure.signature, f"{story}\n\n{last.failure.details}"


def _replay(scenario: Scenario, seed: int, needs_fixtures: bool) -> str:
    """The command for whoever runs this: pytest's in pytest, ours elsewhere."""
    node = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    if node or needs_fixtures:
        return f"pytest {shlex.quote(node or scenario.place)} --sim-replay {seed}"
    return f"holdfast sim {shlex.quote(scenario.place)} --seed {seed} --shrink"
