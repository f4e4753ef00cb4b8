"""What was seen from outside, and whether it may have happened: exactly-once effects, order within a session.

Owns: the record of operations (who asked what, when it was asked, when and how it ended) and the two checkers that read a record in one
pass. `linear.py` has the third, linearizability, which has to search.

An operation ends in one of three ways. *ok*: it took effect, once, between its call and its return. *failed*: it surely did not. *unknown*
(a timeout, a lost connection): it may take effect at any later time, or never; a checker that takes "no answer" for "did not happen" finds
bugs that are none, and misses the ones that are.

What may never happen here: a verdict without the operations it is about, in words; a guess at what an error means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

SHOWN_MAX = 5
"""Problems of one kind that are told in full: with the sixth a reader has the idea, and a broken server makes thousands."""

FOR_EVER = 1 << 62
"""The place in the history where an operation of unknown outcome returns: behind everything."""

Ending = Literal["ok", "failed", "unknown"]


class _Unseen(Enum):
    UNSEEN = "unseen"

    def __repr__(self) -> str:
        return "UNSEEN"


UNSEEN: Final = _Unseen.UNSEEN
"""The result of an operation nobody looked at: a checker compares it with nothing."""


class InvariantBroken(AssertionError):
    """What must always hold did not.

    Attributes:
        invariant: its name, the same in every world where it breaks; the shrinker goes by it.
    """

    def __init__(self, invariant: str, story: str) -> None:
        super().__init__(f"{invariant}: {story}")
        self.invariant = invariant


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a checker found. Empty `problems` means that all is well.

    Attributes:
        invariant: what was checked, in a few words.
        problems: one sentence each, with the operations it is about.
    """

    invariant: str
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def require(self) -> None:
        """Raise InvariantBroken with everything that is wrong, or return."""
        if self.problems:
            raise InvariantBroken(self.invariant, "; ".join(self.problems))

    def __str__(self) -> str:
        return f"{self.invariant}: {'; '.join(self.problems) or 'holds'}"


# ----------------------------------------------------------------------------------------------------------------- the record


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as its caller saw it.

    Attributes:
        process: who asked; one process waits for an operation to end before it begins the next.
        name: what was asked (`write`), of which `key`, with which `args`.
        ending: see the top of this file.
        result: what came back; UNSEEN is compared with nothing.
        invoked, returned: places in the order of all calls and returns; an unknown operation returns at FOR_EVER.
        invoked_at, returned_at: the same in virtual seconds, for people.
    """

    process: str
    name: str
    key: Hashable = None
    args: tuple[Any, ...] = ()
    ending: Ending = "ok"
    result: Any = UNSEEN
    invoked: int
    returned: int
    invoked_at: float = 0.0
    returned_at: float = math.inf

    def __str__(self) -> str:
        words = [] if self.key is None else [repr(self.key)]
        words += [repr(each) for each in self.args]
        asked = f"{self.name}({', '.join(words)}) by {self.process} at {self.invoked_at:.3f} s"
        if self.ending == "failed":
            return f"{asked}, which failed"
        if self.ending == "unknown":
            return f"{asked}, which never returned"
        answer = "" if self.result is UNSEEN else f" → {self.result!r}"
        return f"{asked}{answer} (returned at {self.returned_at:.3f} s)"


@dataclass
class Call:
    """An operation under way, as `History.call` gives it.

    Attributes:
        result: set it to what came back, if a checker is to compare it.
    """

    result: Any = UNSEEN
    _failed: bool = False

    def failed(self) -> None:
        """Say that this operation surely had no effect: the server said so, or it never left."""
        self._failed = True


@dataclass
class History:
    """Records operations in the order they happen; every process of a world writes into the same one.

    Args:
        now: the time, in seconds: `world.now`.
    """

    now: Callable[[], float]
    _ended: list[Operation] = field(default_factory=list)
    _open: dict[int, Callable[[], Operation]] = field(default_factory=dict)
    _events: int = 0

    def __len__(self) -> int:
        return len(self._ended) + len(self._open)

    @contextmanager
    def call(self, process: str, name: str, key: Hashable = None, *args: Any) -> Iterator[Call]:
        """Record one operation: `with history.call("c1", "write", "k", 7) as call: call.result = await …`.

        Left normally it is ok; left by an exception (a cancel too) its outcome is unknown, unless `call.failed()` was said. The exception
        goes on to the caller. One that is never left, because its host died, is unknown as well.
        """
        call = Call()
        invoked, invoked_at = self._place(), self.now()

        def operation(ending: Ending, returned: int = FOR_EVER, returned_at: float = math.inf) -> Operation:
            return Operation(
                process=process,
                name=name,
                key=key,
                args=args,
                ending=ending,
                result=call.result if ending == "ok" else UNSEEN,
                invoked=invoked,
                returned=returned,
                invoked_at=invoked_at,
                returned_at=returned_at,
            )

        self._open[invoked] = lambda: operation("unknown")
        try:
            yield call
        except BaseException:
            self._close(invoked, operation("failed" if call._failed else "unknown"))
            raise
        self._close(invoked, operation("failed" if call._failed else "ok", self._place(), self.now()))

    def _close(self, invoked: int, operation: Operation) -> None:
        del self._open[invoked]
        self._ended.append(operation)

    def _place(self) -> int:
        self._events += 1
        return self._events

    @property
    def operations(self) -> list[Operation]:
        """Everything so far, by when it was called; what has not returned is unknown."""
        return sorted([*self._ended, *(make() for make in self._open.values())], key=lambda each: each.invoked)


# ----------------------------------------------------------------------------------------------------------------- exactly once


def exactly_once(
    *,
    acked: Iterable[Hashable],
    applied: Iterable[Hashable],
    unknown: Iterable[Hashable] = (),
    failed: Iterable[Hashable] = (),
    invariant: str = "every effect exactly once",
) -> Verdict:
    """Check the effects that are there against what callers were told.

    Args:
        acked: ids of operations whose caller was told "done": applied exactly once.
        applied: ids of the effects, as often as they are there, in any order.
        unknown: ids of operations whose caller was told nothing: applied once or not at all.
        failed: ids of operations whose caller was told "surely not": not applied.
    """
    times: dict[Hashable, int] = {}
    for each in applied:
        times[each] = times.get(each, 0) + 1
    done, open_, refused = dict.fromkeys(acked), dict.fromkeys(unknown), dict.fromkeys(failed)
    lost = [each for each in done if each not in times]
    doubled = [each for each in times if times[each] > 1]
    undone = [each for each in refused if each in times and each not in done and each not in open_]
    invented = [each for each in times if each not in done and each not in open_ and each not in refused]
    problems = [
        *_told(lost, "{} was acknowledged and is not there"),
        *_told(doubled, "{} was applied more than once", lambda each: f" ({times[each]} times)"),
        *_told(undone, "{} was refused and is there all the same"),
        *_told(invented, "{} is there and nobody asked for it"),
    ]
    return Verdict(invariant=invariant, problems=tuple(problems))


def _told(items: Sequence[Hashable], sentence: str, more: Callable[[Hashable], str] = lambda _: "") -> list[str]:
    told = [sentence.format(repr(each)) + more(each) for each in items[:SHOWN_MAX]]
    if len(items) > SHOWN_MAX:
        told.append(f"and {len(items) - SHOWN_MAX} more like it")
    return told


# --------------------------------------------------------------------------------------------------------------------- sessions


def sessions(
    sent: Mapping[str, Sequence[Hashable]],
    received: Mapping[str, Sequence[Hashable]],
    *,
    complete: bool = True,
    invariant: str = "each session in order, without gap or repeat",
) -> Verdict:
    """Check that each session's receiver saw what its sender sent: in order, nothing twice, nothing left out.

    Args:
        sent: per session, the items in the order they were sent; items of one session differ from each other.
        received: per session, the items in the order they came, over all resumptions.
        complete: whether everything must have come by now; without it the end may be missing, and only the end.
    Raises: ValueError when a session sent an item twice: nobody could tell a repeat then.
    """
    problems: list[str] = []
    for session in dict.fromkeys([*sent, *received]):
        problems += _session_problems(session, sent.get(session, ()), received.get(session, ()), complete)
    return Verdict(invariant=invariant, problems=tuple(problems))


def _session_problems(session: str, sent: Sequence[Hashable], received: Sequence[Hashable], complete: bool) -> Iterator[str]:
    place = {item: number for number, item in enumerate(sent)}
    if len(place) != len(sent):
        raise ValueError(f"session {session!r} sent an item twice; number the items, or a repeat cannot be told from the item itself")
    told = 0
    seen: dict[Hashable, int] = {}
    expected = 0
    for at, item in enumerate(received):
        problem = ""
        if item not in place:
            problem = f"{item!r} came at place {at}, and was never sent"
        elif item in seen:
            problem = f"{item!r} came twice, at places {seen[item]} and {at}"
        elif place[item] < expected:
            problem = f"{item!r} came at place {at}, after {received[at - 1]!r}, which was sent after it"
        elif place[item] > expected:
            missing = sent[expected : place[item]]
            before = f"after {received[at - 1]!r}" if at else "first"
            problem = f"{before} came {item!r}: {', '.join(repr(each) for each in missing[:3])}{' …' if len(missing) > 3 else ''} left out"
        if item in place:
            expected = max(expected, place[item] + 1)
            seen.setdefault(item, at)
        if problem:
            told += 1
            if told <= SHOWN_MAX:
                yield f"session {session!r}: {problem}"
    if told > SHOWN_MAX:
        yield f"session {session!r}: and {told - SHOWN_MAX} more like it"
    if complete and expected < len(sent):
        yield f"session {session!r}: the last {len(sent) - expected} of {len(sent)} items never came, from {sent[expected]!r} on"
