"""One process from its first line to its exit: which loop it runs on, and what a signal makes of it.

Owned here: the choice of the loop, and the rule that the second signal cancels the program. What may never happen: knowing what the
program does. A program that returns after the first signal ended gracefully; one that is cancelled by the second ends in
KeyboardInterrupt, which the command line turns into exit code 130.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

from ..errors import ConfigError
from ..facts import Emit, discard
from .signals import Signals

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LoopName = Literal["auto", "uvloop", "asyncio"]


class Program(Protocol[T_co]):
    """What runtime knows of the thing it runs: given the signals, it is a coroutine that ends some time after `signals.stop()`."""

    def __call__(self, signals: Signals, /) -> Coroutine[Any, Any, T_co]: ...


def loop_factory(name: LoopName = "auto") -> tuple[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop's name and what makes one: uvloop when it can be imported, else asyncio's.

    Raises: ConfigError when uvloop is asked for by name and is not installed.
    """
    if name != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if name == "uvloop":
                raise ConfigError("the loop uvloop is not installed: pip install uvloop, or ask for the loop asyncio") from error
        else:
            return "uvloop", uvloop.new_event_loop
    return "asyncio", asyncio.new_event_loop


def run_until_signal(main: Program[T], *, loop: LoopName = "auto", emit: Emit = discard) -> T:
    """Run a program on a fresh loop; SIGINT and SIGTERM reach it through the Signals it is given.

    Raises: KeyboardInterrupt after a hard stop (the second signal cancelled the program), ConfigError for a loop that is not there,
        RuntimeError outside the main thread, and what the program raises.
    """
    hard: list[Signals] = []

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        async with Signals(emit=emit, on_hard=task.cancel) as signals:
            hard.append(signals)
            return await main(signals)

    with asyncio.Runner(loop_factory=loop_factory(loop)[1]) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if hard and hard[0].hard:
                raise KeyboardInterrupt from None
            raise
