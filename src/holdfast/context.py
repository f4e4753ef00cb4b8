"""What travels with a call: its deadline, its trace, its number, who sent it.

Two things live here and must not be mixed up. `Ambient` is what the context variable holds while a handler runs: calls made inside it
inherit the deadline and the trace from there, and nothing else. `Context` is what a handler is given when it asks for one.
A Context never changes; a hop narrows it (`remaining` only shrinks) and never widens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import msgspec

from .clock import Clock

T = TypeVar("T")

NO_METADATA: Mapping[str, str] = {}


class Trace(msgspec.Struct, frozen=True, gc=False):
    """W3C trace context: 16 bytes of trace id, 8 of span id, one flag byte (bit 0: sampled)."""

    trace_id: bytes
    span_id: bytes
    flags: int = 0


class PeerCertificate(msgspec.Struct, frozen=True):
    """What a peer proved about itself in the TLS handshake. It was verified, or it would not be here.

    Attributes:
        subject, issuer: as `CN=payments, O=Example`; either may be empty.
        names: whom it is for: `DNS:…`, `URI:…` (SPIFFE), `IP:…`, `email:…`.
        serial: in hex.
        not_before, not_after: when it is valid, in seconds since 1970.
        sha256: the digest of the whole certificate, in hex.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    sha256: str


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end of a connection, as far as it is known.

    Attributes:
        address: where it connects from (`tcp://127.0.0.1:51234`, `unix:///run/x`, `memory://1`).
        instance: the client instance id it gave in HELLO, as hex; call numbers are unique within it.
        name: what the peer calls itself; unverified.
        certificate: what it proved by TLS; None where it was not asked to, or had none to show.
    """

    address: str
    instance: str = ""
    name: str = ""
    certificate: PeerCertificate | None = None


class Ambient(Protocol):
    """What a call leaves in the context variable for the calls made inside it. `trace` is 25 bytes as they travel.

    `hops` is where they leave what explains them, when somebody asked; None when nobody did.
    """

    deadline_at: float | None
    trace: bytes | None
    hops: list[Any] | None


CURRENT: ContextVar[Ambient | None] = ContextVar("holdfast.current", default=None)
"""The call whose handler is running, or None. Set by the responder, read by the caller; user code uses `detached()`."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler may know about the call it answers. Ask for it with a parameter annotated `Context`.

    Attributes:
        method: the full name, `shop.place`.
        peer: who is calling.
        deadline_at: when the caller stops waiting, on the server's monotonic clock; None when it never does.
        call_number: the caller's number for this call, the same over all its retries; with `peer.instance` it names the call for ever.
        attempt: `original`, `retry` or `hedge`.
        metadata: what the caller sent along; unverified strings.
        trace: the caller's trace context, or None.
    """

    method: str
    peer: Peer
    clock: Clock
    deadline_at: float | None = None
    call_number: int = 0
    attempt: str = "original"
    metadata: Mapping[str, str] = NO_METADATA
    trace: Trace | None = None
    states: Mapping[type, Any] = {}

    def remaining(self) -> float | None:
        """Seconds until the caller stops waiting, never below 0; None when it waits for ever."""
        if self.deadline_at is None:
            return None
        return max(0.0, self.deadline_at - self.clock.now())

    def state(self, type_: type[T]) -> T:
        """Return what the service's lifespan yielded, by its type.

        Raises: LookupError naming the types there are.
        """
        found = self.states.get(type_)
        if found is None:
            for candidate in self.states.values():
                if isinstance(candidate, type_):
                    return candidate
            known = ", ".join(sorted(t.__name__ for t in self.states)) or "nothing"
            raise LookupError(f"the lifespan of this service yielded no {type_.__name__}; it yielded {known}")
        return found  # type: ignore[no-any-return]


@contextmanager
def detached() -> Iterator[None]:
    """Calls made in this block do not inherit the deadline and the trace of the call being answered.

    For work that must go on after the answer: audit records, cache fills. Give such calls a deadline of their own.
    """
    token = CURRENT.set(None)
    try:
        yield
    finally:
        CURRENT.reset(token)
