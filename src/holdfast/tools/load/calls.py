"""The calls of a run, over its connections: a method with arguments that differ, or the functions of a scenario.

Owned here: how one call of each shape is made through the public Client, and what of it is measured. What may never happen: work on
the way of a call that could have been done once before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ...client import Client
from ...errors import ConfigError
from ...handler import Shape
from .run import Action, Task
from .scenario import Part
from .tally import Tally

STREAMS_IN = ("client_stream", "duplex")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The method that is called.

    Attributes:
        words: the arguments as typed, with generators; sample: what they are for call 0.
        metadata: travels with every call.
    """

    method: str
    shape: Shape
    words: tuple[str, ...] = ()
    sample: dict[str, Any] = {}
    metadata: dict[str, str] = {}


def check_shape(method: str, shape: Shape) -> None:
    """Raises: ConfigError for a method that takes a stream, for which there is no one way to send it."""
    if shape in STREAMS_IN:
        raise ConfigError(f"{method} takes a stream, and bench cannot know what to send and how fast; write a --scenario that does")


def method_task(target: Target, make: Callable[[int], Mapping[str, Any]], clients: Sequence[Client], deadline_s: float) -> Task:
    """Return the one task of a run that calls one method.

    Args:
        make: the arguments of a call, from its number.
        clients: views with the deadline and attempts of the run.
    Raises: ConfigError for a method that takes a stream.
    """
    check_shape(target.method, target.shape)
    beside: dict[str, Any] = {"metadata": target.metadata} if target.metadata else {}
    if target.shape == "unary":
        return Task(1.0, Tally(target.method), [_unary(client, target.method, make, beside) for client in clients])
    tally = Tally(target.method, stream=True)
    beside["deadline_total"] = deadline_s
    return Task(1.0, tally, [_stream(client, target.method, make, beside, tally) for client in clients])


def scenario_tasks(parts: Sequence[Part], clients: Sequence[Client]) -> list[Task]:
    """Return a task for each function of a mix."""
    return [Task(part.weight, Tally(part.name), [_function(part, client) for client in clients]) for part in parts]


def _unary(client: Client, method: str, make: Callable[[int], Mapping[str, Any]], beside: dict[str, Any]) -> Action:
    call = client.call
    if beside:
        return lambda number, _: call(method, **make(number), **beside)
    return lambda number, _: call(method, **make(number))


def _stream(client: Client, method: str, make: Callable[[int], Mapping[str, Any]], beside: dict[str, Any], tally: Tally) -> Action:
    clock = time.monotonic
    first_items = tally.first_item
    assert first_items is not None

    async def read(number: int, due_at: float) -> None:
        waiting = True
        async with client.stream(method, **make(number), **beside) as items:
            async for _ in items:
                if waiting:
                    waiting = False
                    if tally.measuring_from <= due_at:
                        first_items.record(clock() - due_at)

    return read


def _function(part: Part, client: Client) -> Action:
    function = part.function
    return lambda number, _: function(client, number)
