"""A call as a value, and the shape that every layer shares: a function from Handler to Handler.

A Handler is `async (Request) -> Reply`. A Layer takes a Handler and gives one back. A Stack is the printable list of the layers around
a handler, outermost first: `(role, layer, why)`. Capacity is said by awaiting or by raising Overloaded; there is no `poll_ready`
(tower #626). Nothing here knows frames, addresses or sockets.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

from .errors import ConfigError, HoldfastError

Shape = Literal["unary", "server_stream", "client_stream", "duplex"]
Attempt = Literal["original", "retry", "hedge"]


class MethodInfo(msgspec.Struct, frozen=True):
    """What everybody may know about a method: the catalogue's row, without the schemas."""

    name: str
    shape: Shape = "unary"
    idempotent: bool = False


class Request(msgspec.Struct):
    """One logical call on its way out. Arguments are encoded once, above the stack; retries and hedges re-send these bytes.

    Attributes:
        info: the method.
        body: the encoded arguments.
        raw: the body is the single bytes argument itself, not msgpack.
        deadline_at: when the caller stops waiting (our monotonic clock); None means never.
        number: the call number, unchanged over retries.
        wait_for_ready: wait for a connection until the deadline instead of failing when there is none.
        attempt: what this sending of it is.
        attempts_max: how often it may be sent in all.
        idempotent: whether it may be sent again when it may have been executed.
        wire_name: the method's name as it travels.
        extra: what the terminal handler needs and no layer reads: metadata and trace as they travel.
        stream: how the terminal handler opens it, when it streams; None for a unary call.
        on_trailers: told what the server says beside its answer, for the terminal handler.
    """

    info: MethodInfo
    body: bytes
    raw: bool
    deadline_at: float | None
    number: int
    attempt: Attempt = "original"
    attempts_max: int = 1
    idempotent: bool = False
    wait_for_ready: bool = False
    wire_name: bytes = b""
    extra: Any = None
    stream: Any = None
    on_trailers: Any = None


class Reply(msgspec.Struct):
    """The answer to a Request: a body, or a stream that has started."""

    body: bytes
    raw: bool = False
    stream: Any = None


Handler = Callable[[Request], Awaitable[Reply]]
Layer = Callable[[Handler], Handler]


class Placed(msgspec.Struct, frozen=True):
    """A layer at its place: its role, itself, and the constraint that put it there."""

    role: str
    layer: Layer
    why: str


class Stack:
    """The layers around a handler, in request order, outermost first. A value: edits give a new stack.

    Raises: ConfigError for a role that is not there, or one placed twice.
    """

    def __init__(self, placed: Iterable[Placed] = ()) -> None:
        self._placed = tuple(placed)
        roles = [p.role for p in self._placed]
        for role in roles:
            if roles.count(role) > 1:
                raise ConfigError(f"the stack has two layers of the role {role!r}; each role stands once")

    def __iter__(self) -> Iterator[Placed]:
        return iter(self._placed)

    def replace(self, role: str, layer: Layer) -> Stack:
        """Return the stack with another layer in that role."""
        self._require(role)
        return Stack(Placed(p.role, layer, p.why) if p.role == role else p for p in self._placed)

    def without(self, role: str) -> Stack:
        """Return the stack without that role."""
        self._require(role)
        return Stack(p for p in self._placed if p.role != role)

    def around(self, handler: Handler) -> Handler:
        """Return `handler` with every layer around it."""
        for placed in reversed(self._placed):
            handler = placed.layer(handler)
        return handler

    def describe(self) -> str:
        """One line per layer, in request order: the role and why it stands there."""
        return "\n".join(f"{p.role:<12} {p.why}" for p in self._placed)

    def _require(self, role: str) -> None:
        if all(p.role != role for p in self._placed):
            known = ", ".join(p.role for p in self._placed) or "none"
            raise ConfigError(f"the stack has no role {role!r}; it has {known}")


def maybe_executed(error: HoldfastError, why: str) -> HoldfastError:
    """Return a copy of an error that says "surely not", for a call of which another part may have been executed.

    A copy, because others may hold the same one: all who waited for a connection that did not come about.
    """
    said = copy.copy(error)
    said.message = f"{error}; {why}"
    said.args = (said.message,)
    said.executed = "maybe"
    if said.retry == "safe":
        said.retry = "if_idempotent"
    return said
