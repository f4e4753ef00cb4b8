"""Linearizability: is there one order of the operations that explains every answer?

Owns: the search (Wing and Gong's, with a memo of the configurations seen, key by key) and three models to search with: register, counter,
set. An order must respect time: what returned before another was called stands before it. An operation of unknown outcome may stand
anywhere after its call, or nowhere.

Theory. A configuration is the state of the model and which operations stand in the order already. From one, any operation may come next
that was called before the earliest return of those that do not stand yet. Two ways to the same configuration have the same future, so each
is visited once. Keys do not affect each other, so each key is searched alone: sums instead of products.
The operation to blame is the one whose return makes the shortest prefix of the history impossible; impossible stays impossible, so it is
found by halving.

What may never happen here: a search without bound (a history that is too wide is an error that says so), or a verdict that only says no.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from .history import FOR_EVER, UNSEEN, Operation, Verdict

CONFIGURATIONS_MAX = 1_000_000
"""A few seconds, and some hundred MB at the very most. A history within this is decided; most need a few per operation."""

NEIGHBOURS_SHOWN = 6
ALLOWED_TRIED_MAX = 8


class TooWide(RuntimeError):
    """Too many operations of one key overlap for the search to end in bounded time."""


class Model(Protocol):
    """A sequential thing: what it does with one operation at a time. State must be hashable and is never changed in place."""

    def initial(self) -> Hashable:
        """The state before the first operation."""
        ...

    def step(self, state: Any, name: str, args: tuple[Any, ...]) -> tuple[Hashable, Any]:
        """The state after the operation, and what it answers. Raises: ValueError for an operation it does not know."""
        ...


def _unknown(model: object, name: str, known: str) -> ValueError:
    return ValueError(f"{type(model).__name__} has no operation {name!r}; it knows {known}")


class Register(NamedTuple):
    """A variable: `read()` → value, `write(value)` → None, `cas(old, new)` → whether it was swapped. `value` is what it begins with."""

    value: Hashable = None

    def initial(self) -> Hashable:
        return self.value

    def step(self, state: Any, name: str, args: tuple[Any, ...]) -> tuple[Hashable, Any]:
        if name == "read":
            return state, state
        if name == "write":
            return args[0], None
        if name == "cas":
            return (args[1], True) if state == args[0] else (state, False)
        raise _unknown(self, name, "read, write and cas")


class Counter(NamedTuple):
    """A number: `add(n)` → the new total, `read()` → the total. `value` is what it begins with."""

    value: int = 0

    def initial(self) -> Hashable:
        return self.value

    def step(self, state: Any, name: str, args: tuple[Any, ...]) -> tuple[Hashable, Any]:
        if name == "read":
            return state, state
        if name == "add":
            return state + args[0], state + args[0]
        raise _unknown(self, name, "add and read")


class Members(NamedTuple):
    """A set: `add(x)` → whether it was new, `remove(x)` → whether it was there, `has(x)` → bool, `read()` → a frozenset of all."""

    members: frozenset[Hashable] = frozenset()

    def initial(self) -> Hashable:
        return self.members

    def step(self, state: Any, name: str, args: tuple[Any, ...]) -> tuple[Hashable, Any]:
        if name == "read":
            return state, state
        if name == "has":
            return state, args[0] in state
        if name == "add":
            return state | {args[0]}, args[0] not in state
        if name == "remove":
            return state - {args[0]}, args[0] in state
        raise _unknown(self, name, "add, remove, has and read")


def linearizable(
    operations: Iterable[Operation],
    model: Model,
    *,
    invariant: str = "linearizable",
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Verdict:
    """Check a history against a model, each key by itself.

    Args:
        operations: a history's; failed ones had no effect and are left out.
        model: what one key is.
        configurations_max: how much may be searched for one key.
    Returns: a verdict that names, per key that is wrong, the operation that cannot be explained, what it could have answered, and the
        operations around it.
    Raises: TooWide when the search would not end.
    """
    keys: dict[Hashable, list[Operation]] = {}
    for each in operations:
        if each.ending != "failed":
            keys.setdefault(each.key, []).append(each)
    problems = [problem for key, history in keys.items() if (problem := _problem(key, history, model, configurations_max))]
    return Verdict(invariant=invariant, problems=tuple(problems))


def _problem(key: Hashable, history: list[Operation], model: Model, limit: int) -> str:
    history = sorted(history, key=lambda each: each.invoked)
    if _explained(history, model, limit):
        return ""
    returns = sorted(each.returned for each in history if each.ending == "ok")
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        if _explained(_prefix(history, returns[middle]), model, limit):
            low = middle + 1
        else:
            high = middle
    prefix = _prefix(history, returns[low])
    blamed = next(each for each in prefix if each.returned == returns[low])
    allowed = _allowed(prefix, blamed, model, limit)
    could = f"; it could have answered {' or '.join(allowed)}" if allowed else "; no answer of it explains the others"
    around = [each for each in prefix if each is not blamed][-NEIGHBOURS_SHOWN:]
    before = "; ".join(str(each) for each in around)
    return f"no order of the operations on {key!r} explains {blamed}{could}" + (f" (before it: {before})" if before else "")


def _prefix(history: Sequence[Operation], end: int) -> list[Operation]:
    """The history up to a return: what was called by then, and what had not returned is unknown."""
    called = [each for each in history if each.invoked < end]
    return [each if each.returned <= end else replace(each, ending="unknown", returned=FOR_EVER, result=UNSEEN) for each in called]


def _allowed(prefix: Sequence[Operation], blamed: Operation, model: Model, limit: int) -> list[str]:
    """What the blamed operation could have answered, so that everything is explained."""
    place = next(number for number, each in enumerate(prefix) if each is blamed)
    open_ = [*prefix[:place], replace(blamed, result=UNSEEN), *prefix[place + 1 :]]
    answers: dict[Any, None] = {}
    _explained(open_, model, limit, watched=place, answers=answers)
    allowed = []
    for answer in list(answers)[:ALLOWED_TRIED_MAX]:
        open_[place] = replace(blamed, result=answer)
        if _explained(open_, model, limit):
            allowed.append(repr(answer))
    return allowed


def _explained(
    history: Sequence[Operation], model: Model, limit: int, *, watched: int = -1, answers: dict[Any, None] | None = None
) -> bool:
    """Whether an order exists. With `answers`, every configuration is visited, and what operation `watched` answered is noted there."""
    must = sum(1 << number for number, each in enumerate(history) if each.ending == "ok")
    start = (0, model.initial())
    seen = {start}
    stack = [start]
    found = False
    while stack:
        done, state = stack.pop()
        if done & must == must:
            found = True
            if answers is None:
                return True
        for number in _next(history, done):
            after, answer = model.step(state, history[number].name, history[number].args)
            if number == watched and answers is not None:
                answers[answer] = None
            expected = history[number].result
            if expected is not UNSEEN and answer != expected:
                continue
            if history[number].ending == "unknown" and after == state:
                continue  # to leave it out is the same, and there is less to try
            configuration = (done | 1 << number, after)
            if configuration not in seen:
                seen.add(configuration)
                stack.append(configuration)
                if len(seen) > limit:
                    raise TooWide(
                        f"{len(history)} operations on {history[0].key!r} overlap too widely: over {limit} configurations;"
                        " use more keys, fewer clients at a time, or fewer operations with an unknown outcome"
                    )
    return found


def _next(history: Sequence[Operation], done: int) -> list[int]:
    """Which operations may come next, newest last: those that were called before the first return of what is not done yet."""
    candidates = []
    first_return = FOR_EVER
    for number in range((~done & (done + 1)).bit_length() - 1, len(history)):  # from the first that is not done
        each = history[number]
        if each.invoked > first_return:
            break  # by call, so the rest was called later still
        if not done >> number & 1:
            candidates.append(number)
            first_return = min(first_return, each.returned)
    return [number for number in reversed(candidates) if history[number].invoked < first_return]
