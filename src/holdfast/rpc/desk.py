"""What the answering sides of all connections of a server share, and the record of a call they answer.

Owns: the count of running handlers and of busy threads, and the thread pool. What may never happen: a slot given back by anybody but the
handler that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from ..clock import Clock, Rng
from ..context import NO_METADATA, Context, Peer, Trace
from ..control.bucket import TokenBucket
from ..errors import ConfigError, MethodNotFound
from ..facts import CallEnded, Emit, wants
from ..handler import CallRecord
from ..net.address import parse_address
from ..tasks import Scope
from ..wire import IncomingCall, Status, Trailers, encode_trailers
from .hops import ExplainTo, encode_hops
from .router import Route, Router
from .streams import ItemBuffer

SUGGESTIONS_PER_S = 10.0
"""How often we look for the name somebody may have meant. It is for people; who asks for wrong names in a loop is none."""

ATTEMPTS = ("original", "retry", "hedge")


class Incall(IncomingCall, eq=False):
    """A call of theirs. Also the Ambient of the calls its handler makes."""

    deadline_at: float | None = None
    started_at: float = 0.0
    route: Route | None = None
    task: asyncio.Task[Any] | None = None
    buffer: ItemBuffer | None = None
    gone: bool = False
    read_at: float = 0.0
    hops: list[CallRecord] | None = None


class Desk:
    """What all responders of a server share: the router, the handlers' slots, the threads, and whether the server still takes calls.

    Attributes:
        running: handlers that hold a slot.
        threads_busy: blocking handlers whose thread has not come back, cancelled or not.
        draining: nobody new is let in.
        serving, message: what the server says of itself to its clients.
    """

    def __init__(
        self,
        router: Router,
        states: Callable[[str], Any],
        scope: Scope,
        clock: Clock,
        emit: Emit,
        rng: Rng,
        *,
        handlers_max: int,
        threads_max: int,
        threads_queue_max: int,
        debug: bool,
        explain_to: ExplainTo = "local",
    ) -> None:
        self.router = router
        self.find = router.find
        self.now = clock.now
        self.states = states
        self.scope = scope
        self.clock = clock
        self.emit = emit
        self.tells_calls = wants(emit, CallEnded)
        self.rng = rng
        self.handlers_max = handlers_max
        self.threads_room = threads_max + threads_queue_max
        self.debug = debug
        self.explain_to = explain_to
        self.running = 0
        self.threads_busy = 0
        self.draining = False
        self.serving = True
        self.message = ""
        self.idle: asyncio.Future[None] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._threads_max = threads_max
        self._suggestions = TokenBucket(SUGGESTIONS_PER_S, 2 * SUGGESTIONS_PER_S)

    def pool(self) -> ThreadPoolExecutor:
        """Return the threads for blocking handlers; they are made when the first one is called."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads_max, thread_name_prefix="holdfast-blocking")
        return self._pool

    def context(self, call: Incall, route: Route, peer: Peer | None) -> Context:
        """Make what a handler gets that asks for a Context."""
        assert peer is not None  # calls come after the handshake
        metadata = NO_METADATA
        if call.metadata is not None:
            try:
                metadata = msgspec.msgpack.decode(call.metadata, type=dict[str, str])
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                metadata = NO_METADATA
        trace = call.trace
        return Context(
            method=route.name,
            peer=peer,
            clock=self.clock,
            deadline_at=call.deadline_at,
            call_number=call.number,
            attempt=ATTEMPTS[call.attempt],
            metadata=metadata,
            trace=Trace(trace[:16], trace[16:24], trace[24]) if trace is not None else None,
            states=self.states(route.name),
        )

    def not_found(self, method: bytes, now: float) -> MethodNotFound:
        """Return what a call of a method that is not there ends with. Looking for a near name takes milliseconds: not for everybody."""
        return MethodNotFound(self.router.suggest(method.decode("utf-8", "replace"), look=self._suggestions.take(now)))

    @property
    def load(self) -> float:
        """How much of the handlers' room is taken, 0 to 1."""
        return min(1.0, self.running / self.handlers_max)

    def status(self) -> Status:
        """Return what the server tells its clients about itself."""
        return Status(serving=self.serving, draining=self.draining, load=self.load, message=self.message)

    def trailers(self, call: Incall, room_bytes: int) -> bytes:
        """Return what is said beside the answer of a call that asked for it; at most `room_bytes` of it about calls it led to."""
        if not call.started_at:  # refused before it began
            return encode_trailers(Trailers(load=self.load))
        queue_us = max(0, int((call.started_at - call.read_at) * 1e6))
        run_us = max(0, int((self.now() - call.started_at) * 1e6))
        hops = encode_hops(call.hops, call.read_at, room_bytes) if call.hops else b""
        return encode_trailers(Trailers(queue_us=queue_us, run_us=run_us, load=self.load, hops=hops))

    def explains_to(self, peer: str) -> bool:
        """Whether a peer may know which calls its call led to: the addresses of what stands behind us are nobody else's business."""
        return self.explain_to == "all" or (self.explain_to == "local" and _is_local(peer))

    def release(self) -> None:
        """A handler that held a slot has really ended."""
        self.running -= 1
        if not self.running and self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    def close(self) -> None:
        """Let the threads go; those that are busy end when their work does."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _is_local(peer: str) -> bool:
    """Whether a peer is on this machine. A Unix peer may have given itself any name, one that is no address of ours as well."""
    if peer.startswith("unix:"):
        return True
    try:
        return parse_address(peer).is_local
    except ConfigError:  # it had no name any more when it was accepted
        return False
