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

from .errors import ConfigError, HoldfastError, Overloaded

Shape = Literal["unary", "server_stream", "client_stream", "duplex"]
Attempt = Literal["original", "retry", "hedge"]


class MethodInfo(msgspec.Struct, frozen=True):
    """What everybody may know about a method: the catalogue's row, without the schemas."""

    name: str
    shape: Shape = "unary"
    idempotent: bool = False


Mode = Literal["off", "shadow", "enforce"]
"""Of a policy: not there, deciding but not acting (what it would have done is counted), or acting."""


class AttemptRecord(msgspec.Struct):
    """One sending of a call, as the record tells it. Times are seconds since the call began.

    Attributes:
        node: where it went; empty when it went nowhere.
        compared: the nodes that were looked at, with their loads when they were.
        why: why this one: `only`, `p2c`, `probe`, `panic`, the picker's name, or `waited` for a connection.
        sent_s: when it was handed to the connection; None when it never was.
        queue_s: of that, how long it waited for a connection or for room on one.
        backoff_s: how long the call paused before it.
        left_s: what was left of the deadline when it was sent; None when there is none.
        outcome: `ok`, a code, `cancelled`, `superseded`; empty while it is under way.
    """

    kind: Attempt
    began_s: float
    node: str = ""
    compared: tuple[tuple[str, float], ...] = ()
    why: str = ""
    sent_s: float | None = None
    queue_s: float = 0.0
    backoff_s: float = 0.0
    left_s: float | None = None
    ended_s: float | None = None
    outcome: str = ""
    executed: str = ""
    message: str = ""


class CallRecord(msgspec.Struct):
    """What explains one call: where it went, what it waited for, and why it ended as it did.

    Attributes:
        began_at: when, on the client's monotonic clock.
        deadline_s: seconds the caller gave it; None for ever.
        attempts: in the order they began.
        denied: why no further attempt was made: `budget`, `attempts`, `deadline`, `not_idempotent`, `never`; empty when none was wanted.
        hedging: why it was not hedged when it was slow, or empty: `no_history`, `too_slow`, `too_many_methods`, `panic`, `deadline`,
            `budget`, `strained`, `shadow`.
        budget: what the retry budget held when it was last asked, in retries.
        code: `ok`, a code, or `cancelled`; empty while it is under way.
        hops: what the server says of the calls it made to answer, when it was asked.
    """

    method: str
    number: int
    began_at: float
    deadline_s: float | None
    attempts: list[AttemptRecord] = []
    denied: str = ""
    hedging: str = ""
    budget: float | None = None
    code: str = ""
    duration_s: float | None = None
    queue_us: int | None = None
    run_us: int | None = None
    hops: list[CallRecord] = []


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
        waiting_max: how many calls may wait for a connection with it; None for as many as configured.
        hedge: whether it may be sent a second time beside a slow first one, if its method may.
        key: what a picker that hashes goes by; None when the call has none.
        tried: the nodes its attempts went to, newest last, the same list for all of them; another node is preferred.
        fallback: what its caller is given when it cannot be made; None for the error.
        on_record: told the record when the call is over.
        hops: of the call being answered, where the record goes too; None when nobody asked.
        record: what explains the call; None when nobody will ask.
        trial: of that, the attempt under way.
        maybe: whether an earlier attempt may have been executed, or is under way: only where it is idempotent may another one run.
        once: the nodes it was sent to that do not call it idempotent, the same list for all its attempts; then no further one may run.
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
    waiting_max: int | None = None
    hedge: bool = True
    key: str | None = None
    tried: list[Any] = []
    fallback: Any = None
    on_record: Any = None
    hops: list[Any] | None = None
    record: CallRecord | None = None
    trial: AttemptRecord | None = None
    maybe: bool = False
    once: list[str] = []

    @property
    def may_repeat(self) -> bool:
        """Whether it may be executed again: by the word of its method, and of every node that has had it."""
        return self.idempotent and not self.once


class Judged:
    """What a server has made of a stream, once that is known: with its first item, with its end, or with what it failed with before.

    Until then nobody knows whether the server took it on, for a stream is open as soon as it was sent.
    """

    __slots__ = ("_listeners", "_outcome")

    def __init__(self) -> None:
        self._outcome: Any = None
        self._listeners: list[Callable[[Any], None]] = []

    def tell(self, listener: Callable[[Any], None]) -> None:
        """Tell somebody the outcome, a row of `policy.classify`, as soon as there is one."""
        if self._outcome is not None:
            listener(self._outcome)
        else:
            self._listeners.append(listener)

    def settle(self, outcome: Any) -> None:
        """This it is. What comes later says something of the stream, and nothing of whether it was taken on."""
        if self._outcome is None:
            self._outcome = outcome
            for listener in self._listeners:
                listener(outcome)
            self._listeners.clear()


class Reply(msgspec.Struct):
    """The answer to a Request: a body, or a stream that has been opened, and then who can tell what becomes of it."""

    body: bytes
    raw: bool = False
    stream: Any = None
    judged: Judged | None = None


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

    def before(self, role: str, placed: Placed) -> Stack:
        """Return the stack with one more layer, right outside of that role: calls come to it first."""
        at = self._require(role)
        return Stack((*self._placed[:at], placed, *self._placed[at:]))

    def after(self, role: str, placed: Placed) -> Stack:
        """Return the stack with one more layer, right inside of that role: what that lets through comes to it."""
        at = self._require(role) + 1
        return Stack((*self._placed[:at], placed, *self._placed[at:]))

    def around(self, handler: Handler) -> Handler:
        """Return `handler` with every layer around it."""
        for placed in reversed(self._placed):
            handler = placed.layer(handler)
        return handler

    def describe(self) -> str:
        """One line per layer, in request order: the role and why it stands there."""
        return "\n".join(f"{p.role:<12} {p.why}" for p in self._placed)

    def _require(self, role: str) -> int:
        """Return where that role stands."""
        for at, placed in enumerate(self._placed):
            if placed.role == role:
                return at
        known = ", ".join(p.role for p in self._placed) or "none"
        raise ConfigError(f"the stack has no role {role!r}; it has {known}")


def held_back(message: str) -> Overloaded:
    """Return the error for a call that our own client does not send, for it has enough to do."""
    error = Overloaded(message)
    error.held = True
    return error


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
