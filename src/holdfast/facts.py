"""Everything the system can say about itself, as frozen records.

Mechanisms emit facts, never strings: `observe` turns them into metrics, logs and alerts, tests assert on them. An Emit must not raise,
block or await; it is called on the hot path. Nothing else in holdfast logs or counts.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .errors import CodeName


class Fact(msgspec.Struct, frozen=True, gc=False):
    """The root. `at` of a fact is the moment it is emitted; whoever keeps it stamps it."""


class Listening(Fact, frozen=True, gc=False):
    """A listener is open. `address` carries the port the kernel chose."""

    address: str


class ConnectionOpened(Fact, frozen=True, gc=False):
    """A peer finished the handshake. `side` is ours: `client` or `server`."""

    side: str
    peer: str


class ConnectionClosed(Fact, frozen=True, gc=False):
    """A connection ended. `reason` is for people; `open_calls` is how many calls it took down."""

    side: str
    peer: str
    reason: str
    open_calls: int = 0


class ConnectionRefused(Fact, frozen=True, gc=False):
    """A peer was turned away before it became a session: wrong protocol, too slow, too many.

    At most one per second, reason and server; `count` is how many it stands for, and `peer` the last of them.
    """

    peer: str
    reason: str
    count: int = 1


class ConnectFailed(Fact, frozen=True, gc=False):
    """An attempt to connect failed; the next one comes after `retry_in_s`."""

    address: str
    reason: str
    retry_in_s: float


class TlsReloaded(Fact, frozen=True, gc=False):
    """The files of TLS were read again; new handshakes use what is in them. `certificate` is ours, empty when we show none."""

    certificate: str


class TlsReloadFailed(Fact, frozen=True, gc=False):
    """The files of TLS were read again and cannot be used; what was there before stays in use."""

    reason: str


class CertificateExpiring(Fact, frozen=True, gc=False):
    """A certificate of ours ends within 14 days. Told at start, after a reload, and once a day."""

    certificate: str
    ends_in_s: float


class CallEnded(Fact, frozen=True, gc=False):
    """A call is over, on the side that says so. `code` is `ok` or one of the sixteen names."""

    side: str
    method: str
    code: CodeName | str
    duration_s: float


class CallRetried(Fact, frozen=True, gc=False):
    """An attempt failed and another follows after `backoff_s`."""

    method: str
    attempt: int
    code: CodeName | str
    backoff_s: float


class CallHedged(Fact, frozen=True, gc=False):
    """A call was sent a second time beside the first, which was slow. `after_s` is how long the first had been under way."""

    method: str
    after_s: float


class RetryDenied(Fact, frozen=True, gc=False):
    """An attempt failed, or was slow, and was not followed by another, though its kind of failure may be tried again.

    `reason`: attempts, deadline, budget, not_idempotent; of a slow one also no_history, too_slow, too_many_methods, panic, shadow. With
    `enforced` False it is what would have been: the policy is in shadow.
    """

    method: str
    reason: str
    enforced: bool = True


class CallHeldBack(Fact, frozen=True, gc=False):
    """A call was refused by the client itself, before it left. `by`: throttle, limit, bulkhead, breaker, queue.

    With `enforced` False it went all the same: the policy is in shadow.
    """

    method: str
    by: str
    enforced: bool = True


class CallExplained(Fact, frozen=True):
    """One call, with all that explains it: a `handler.CallRecord`. Told of one call in many, and of those that failed."""

    record: object


class FallbackUsed(Fact, frozen=True, gc=False):
    """A call failed with `code`, and its caller was given the fallback value instead.

    With `enforced` False the caller had the error: the policy is in shadow.
    """

    method: str
    code: CodeName | str
    enforced: bool = True


class BreakerChanged(Fact, frozen=True, gc=False):
    """A node's breaker is now `open`, `probing` or `closed`. `reason` says why; `open_s` how long it stays open.

    With `enforced` False nothing is kept from the node: the policy is in shadow, or the node is the only one.
    """

    node: str
    state: str
    reason: str
    open_s: float = 0.0
    enforced: bool = True


class NodeChanged(Fact, frozen=True, gc=False):
    """A node is now `idle`, `connecting`, `ready`, `draining`, `down` or `gone`. `reason` is for people."""

    node: str
    state: str
    reason: str = ""


class NodeEjected(Fact, frozen=True, gc=False):
    """A node does so much worse than the others that it gets no calls for `for_s` seconds. With `enforced` False it still does."""

    node: str
    reason: str
    for_s: float
    enforced: bool = True


class NodesChanged(Fact, frozen=True, gc=False):
    """The set of nodes is another one. `held` of those that are gone by the source's word are kept for now: too many went at once."""

    nodes: int
    added: int
    removed: int
    held: int = 0


class ResolveFailed(Fact, frozen=True, gc=False):
    """The nodes of a name could not be found; the last good set stays in use, and we ask again after `retry_in_s`."""

    source: str
    reason: str
    retry_in_s: float


class PanicChanged(Fact, frozen=True, gc=False):
    """Fewer than half of the nodes are usable (`on`), so all that are connected get calls; or that is over."""

    on: bool
    usable: int
    nodes: int


class StrainChanged(Fact, frozen=True, gc=False):
    """Most nodes are too slow at once (`on`), so it is the load: none is kept out for it, and no retries are earned; or that is over."""

    on: bool
    nodes: int
    enforced: bool = True


class LimitChanged(Fact, frozen=True, gc=False):
    """The adaptive limit of calls in flight moved. With `enforced` False it holds nobody back."""

    limit: int
    enforced: bool = True


class CallShed(Fact, frozen=True, gc=False):
    """A call was refused before any work was done for it. `reason`: expired, handlers_full, draining, threads_full."""

    method: str
    reason: str


class HandlerFailed(Fact, frozen=True):
    """A handler raised something it did not mean for callers. `incident` is the id the caller was given."""

    method: str
    incident: str
    error: BaseException


class HandlerOverran(Fact, frozen=True, gc=False):
    """A handler was still running when its caller's deadline passed, and was cancelled."""

    method: str


class ProtocolFailed(Fact, frozen=True):
    """A hosted protocol raised in a callback. Its connection was cut; an endpoint of datagrams lives on.

    `address` is the peer's, or the endpoint's; `callback` is the method that raised.
    """

    address: str
    callback: str
    error: BaseException


class StreamAbandoned(Fact, frozen=True, gc=False):
    """A stream was left without being closed; its finaliser cancelled it."""

    method: str


class Draining(Fact, frozen=True, gc=False):
    """A server stopped accepting and waits for what is in flight."""

    open_calls: int
    within_s: float


class Stopped(Fact, frozen=True, gc=False):
    """A server is down. `cut` counts calls that did not finish in time."""

    cut: int


class DatagramsDropped(Fact, frozen=True, gc=False):
    """A UDP endpoint threw datagrams away: `count` of them since the last such fact, of which there is at most one per second and reason.

    `reason`: kernel, source_limit, too_large, receiver_failed when receiving; send_full, send_failed, send_too_large, closed when sending.
    """

    address: str
    reason: str
    count: int


class ServerStatus(Fact, frozen=True, gc=False):
    """A server said how it is: whether it can do its work, is going down, and how full it is (0 to 1)."""

    peer: str
    serving: bool
    draining: bool
    load: float
    message: str = ""


class SignalReceived(Fact, frozen=True, gc=False):
    """The process was told something by a signal."""

    name: str


Emit = Callable[[Fact], None]
"""Where a mechanism sends what it has to say. Must not raise, block or await."""


def discard(fact: Fact) -> None:
    """The Emit for whoever does not listen."""


def wants(emit: Emit, kind: type[Fact]) -> bool:
    """Whether an Emit does anything with facts of that kind.

    Asked once, for the facts of every call: what nobody hears need not be said. An Emit that can tell has a method `wants(kind)`.
    """
    if emit is discard:
        return False
    asked = getattr(emit, "wants", None)
    return True if asked is None else bool(asked(kind))
