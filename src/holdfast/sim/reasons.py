"""Why a scenario does not end: what went wrong before, and the line at which every task waits.

Owns: the sentences that `NotConverged` and `Deadlock` carry, and what counts as somebody's own code in them. A world that hangs has often
said why long ago, in a handler that raised or a name nobody has: that is what its reader needs first.

What may never happen here: a change of the world that is looked at, or a sentence that is not the same in two runs of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

from .kernel import LOOPBACK
from .listening import hears
from .machine import Host
from .names import Names
from .process import Process

NOT_THEIRS = (os.path.dirname(os.path.abspath(__file__)), os.path.dirname(asyncio.__file__))
"""A line of somebody's own code is not in these folders."""

TOLD_MAX = 3
"""Reasons in one message; the first of each kind say it, the rest repeat them."""

_LINE = re.compile(r'  File "(.+)", line (\d+), in (\S+)')


def is_theirs(filename: str) -> bool:
    """Whether a line of this file is somebody's own code: neither the simulator's nor asyncio's."""
    return os.path.dirname(filename) not in NOT_THEIRS


def where(filename: str, line: int, function: str) -> str:
    """`tickets.py:12 in talk`."""
    return f"{os.path.basename(filename)}:{line} in {function}"


# ------------------------------------------------------------------------------------------------------------------ who waits


def pending(processes: Iterable[Process]) -> str:
    """Every task that has not ended, with the innermost line of somebody's own code it waits at."""
    told = [
        f"{process.host}: {task.get_name()} at {_waits_at(task.get_coro())}"
        for process in processes
        if process.alive
        for task in sorted(asyncio.all_tasks(process.loop), key=hash)
    ]
    return "pending: " + ("; ".join(told) or "no task at all")


def _waits_at(coroutine: Any) -> str:
    lines = [(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) for frame in _frames(coroutine)]
    theirs = [each for each in lines if is_theirs(each[0])]
    return where(*(theirs or lines)[-1]) if lines else str(getattr(coroutine, "__qualname__", "?"))


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, the outermost first."""
    while awaited is not None:
        for prefix, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if hasattr(awaited, inner):
                frame = getattr(awaited, f"{prefix}_frame")
                if frame is not None:
                    yield frame
                awaited = getattr(awaited, inner)
                break
        else:
            return


def raised_at(error: BaseException | None) -> str:
    """The innermost line of somebody's own code that an error went through; nothing when there is none."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    theirs = [each for each in frames if is_theirs(each.filename)]
    return where(theirs[-1].filename, theirs[-1].lineno or 0, theirs[-1].name) if theirs else ""


# ------------------------------------------------------------------------------------------------------------ what went wrong


def went_wrong(processes: Iterable[Process], unhandled: Iterable[str], names: Names, hosts: Sequence[Host]) -> list[str]:
    """What is known to have gone wrong by now, one sentence each, programs that ended first.

    Args:
        unhandled: of the world; see there.
        hosts: all but the scenario's own.
    """
    ended = Counter(_ended(each) for each in processes if isinstance(each.failure, Exception) and not each.looked_at)
    raised = Counter(_unhandled(each) for each in unhandled)
    made = ", ".join(host.name for host in hosts)
    unknown = [f"no host is called {name!r}; there are {made}" for name in names.missed if not names.addresses(name)]
    reasons = [*_counted(ended), *_counted(raised), *unknown, *_unreachable(hosts)]
    more = len(reasons) - TOLD_MAX
    return reasons if more <= 0 else [*reasons[:TOLD_MAX], f"and {more} more"]


def _counted(sentences: Counter[str]) -> list[str]:
    return [each if times == 1 else f"{each} ({times} times)" for each, times in sentences.items()]


def _ended(process: Process) -> str:
    at = raised_at(process.failure)
    return f"{process.host}: program {process.name!r} ended with {_short(process.failure)}" + (f" at {at}" if at else "")


def _short(error: BaseException | None) -> str:
    return traceback.format_exception_only(error)[-1].strip() if error is not None else ""


def _unhandled(text: str) -> str:
    """`office: AttributeError: … at tickets.py:12 in talk`, of an entry of `World.unhandled`."""
    first, *rest = text.splitlines()
    if not rest:
        return first
    lines = [each.groups() for each in map(_LINE.match, rest) if each is not None]
    theirs = [each for each in lines if is_theirs(each[0])]
    at = f" at {where(theirs[-1][0], int(theirs[-1][1]), theirs[-1][2])}" if theirs else ""
    return f"{first.partition(': ')[0]}: {rest[-1].strip()}{at}"


def _unreachable(hosts: Sequence[Host]) -> list[str]:
    """Listeners that no other host can reach, by a mistake that is easily made."""
    found: list[str] = []
    for host in hosts:
        for (_, port), bound in host.kernel._bound.items():
            heard = [ip for ip, what in bound if hears(what)]
            if heard and all(ip in LOOPBACK for ip in heard):
                found.append(f"{host.name} listens on {heard[0]}:{port}, where no other host reaches it; listen on 0.0.0.0")
    return found
