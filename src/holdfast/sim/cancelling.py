"""A cancel at every suspension: the k-th, for every k, each in a world of its own.

Owns: `Cut`, which drives a coroutine and cancels it at one of its suspensions, and `cancel_everywhere`, which goes through all of them. At
each there are two moments: when the coroutine has just begun to wait, and when what it waits for has happened and it has not run on yet.
The second is where results and locks get lost.

What may never happen here: a suspension that is left out, or one world that knows of another.
"""

from __future__ import annotations

import asyncio
import os
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from .history import InvariantBroken
from .options import WorldOptions
from .scenario import Case, Scenario
from .world import World

T = TypeVar("T")

SUSPENSIONS_MAX = 2000
"""A coroutine with more is one that never ends."""

UNDISTURBED = 0
DEFAULT_OPTIONS = WorldOptions()


class Cut(Generic[T]):
    """What a scenario of `cancel_everywhere` gets: `await cut(coroutine)` runs the coroutine, and cancels it at one suspension.

    Attributes:
        happened: whether the coroutine was cancelled, and ended by it.
        suspensions: how many it had until it ended.
        where: the line it stood at when it was cancelled.
        used: whether it was given anything to run.
    """

    def __init__(self, at: int, *, woken: bool) -> None:
        self.happened = False
        self.suspensions = 0
        self.where = ""
        self.used = False
        self._at = at
        self._woken = woken
        self._asked = False

    async def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """Run it, here in this task.

        Returns: its result, or None when it was cancelled.
        Raises: what it raised; InvariantBroken when it was cancelled and went on.
        Cancel: a cancel from elsewhere reaches the coroutine, and goes on from here.
        """
        self.used = True
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            result = await self._drive(coroutine, task)
        except asyncio.CancelledError:
            if not self._asked or task.cancelling() != before + 1:
                raise
            task.uncancel()
            self.happened = True
            return None
        if self._asked:
            task.uncancel()
            raise InvariantBroken("a cancel ends it", f"it was cancelled and went on to its end, with the result {result!r}")
        return result

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, T], task: asyncio.Task[Any]) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            error = None
            self.suspensions += 1
            if self.suspensions == self._at:
                self.where = _where(coroutine)
                self._cancel(waits_for, task)
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown

    def _cancel(self, waits_for: Any, task: asyncio.Task[Any]) -> None:
        def cancel(_: object = None) -> None:
            self._asked = True
            task.cancel()

        if self._woken and waits_for is not None:
            waits_for.add_done_callback(cancel)  # in front of the task's own wake-up
        else:
            cancel()


def _where(coroutine: Any) -> str:
    """`shop.py:42 in get`: the innermost line of somebody's code that waits."""
    place = ""
    inner: Any = coroutine
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None) or getattr(inner, "ag_frame", None)
        if frame is None:
            break
        if os.sep + "asyncio" + os.sep not in frame.f_code.co_filename:
            place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None) or getattr(inner, "ag_await", None)
    return place


def cancel_everywhere(
    scenario: Callable[[World, Cut[Any]], Awaitable[None]], *, seed: int = 0, options: WorldOptions = DEFAULT_OPTIONS
) -> int:
    """Run a scenario again and again, with what it cuts cancelled at its 1st, 2nd, … suspension, in both ways, until it is not reached.

    Args:
        scenario: sets up, does `await cut(what(…))` once, and then looks whether all is as it should be, whether or not `cut.happened`.
        seed: of every world.
        options: the physics of every world.
    Returns: how many suspensions what was cut has, undisturbed.
    Raises: InvariantBroken, saying at which suspension what went wrong. ValueError when the scenario cuts nothing.
    """
    undisturbed = _run(scenario, Cut(UNDISTURBED, woken=False), seed, options)
    if not undisturbed.used:
        raise ValueError("the scenario never did `await cut(…)`; give it the coroutine that is to be cancelled")
    for woken in (False, True):
        for at in range(1, SUSPENSIONS_MAX):
            cut = _run(scenario, Cut(at, woken=woken), seed, options)
            if not cut.happened:
                break
        else:
            raise InvariantBroken("it ends", f"it has not ended after {SUSPENSIONS_MAX} suspensions")
    return undisturbed.suspensions


def _run(scenario: Callable[[World, Cut[Any]], Awaitable[None]], cut: Cut[Any], seed: int, options: WorldOptions) -> Cut[Any]:
    async def body(world: World) -> None:
        await scenario(world, cut)

    outcome = Scenario(name=getattr(scenario, "__name__", "scenario"), body=body, options=options).run(Case(seed=seed))
    if outcome.failure is not None:
        when = f"cancelled at suspension {cut._at} ({cut.where}), {'just woken' if cut._woken else 'beginning to wait'}"
        story = f"{when if cut._asked else 'undisturbed'}: {outcome.failure.message}\n{outcome.failure.details}"
        raise InvariantBroken(outcome.failure.signature, story)
    return cut
