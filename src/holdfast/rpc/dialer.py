"""Keeps one connection to one address: connects when a call needs it (or always), and again after it was lost.

Owns: the current CallerSession, the one attempt to make it (shared by all who wait), the back-off between attempts, what can be said about
all that (`state`, `since`, `last_error`, `next_attempt_at`; algorithms.md 2.30), and the catalogue.
A session is handed out only when its catalogue is known, so no call leaves whose retry class is unknown.

What may never happen: two attempts at once; an attempt that dies with the caller who happened to start it.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol

import msgspec

from ..clock import Rng
from ..control.backoff import equal_jitter
from ..control.wheel import Timer
from ..errors import DeadlineExceeded, HoldfastError, Unavailable
from ..facts import ConnectFailed
from ..handler import MethodInfo, Request
from ..net.address import Address
from ..net.link import Network
from ..wire import Replied
from .caller import CallerSession
from .catalogue import Catalogue
from .codec import decode_as
from .outcall import Outcall
from .session import SessionShared

DialState = Literal["idle", "connecting", "ready", "draining", "down", "gone"]
CATALOGUE_METHOD = "holdfast.catalogue"
CATALOGUES_MAX = 64
EARLY_S = 0.005
"""Who was told to come back in a while may come this much too early, as timers do; the attempt waits for the rest."""
_catalogues: OrderedDict[bytes, Catalogue] = OrderedDict()
"""Catalogues by digest, for all clients of the process: a digest names its content."""


class Rules(Protocol):
    """How many connections there are to be, and for how long: `balance.pool.PoolRules`."""

    def retire_at(self, opened_at: float) -> float: ...
    def decide(self, now: float, sessions: Sequence[Any], *, opening: int = 0, waiting: int = 0) -> Sequence[Any]: ...
    def next_at(self, now: float, sessions: Sequence[Any]) -> float: ...


class DialConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. Back-off between failed attempts: equal jitter from `base_s` to `cap_s`; reset after a useful session."""

    connect_s: float = 2.0
    base_s: float = 0.1
    cap_s: float = 30.0
    useful_s: float = 10.0


class Dialer:
    """One address, and the sessions to it. One task connects; it never overlaps itself.

    Attributes:
        session: the one for new calls.
        sessions: it, and those that still have open calls, with what each can do.
        state: `idle` before anybody asked, `connecting`, `ready`, `draining` (the server takes no new calls, and its successor is not there
            yet), `down` between two attempts, `gone` when closed.
        since: when it came into that state.
        last_error: why the last attempt, or session, came to nothing.
        next_attempt_at: when the next attempt begins; None unless it is down.
        on_change: called with `owner` after each change of those, and when the server says how it is.
        owner: whose connection it is, to whoever set `on_change`.
    """

    def __init__(
        self,
        address: Address,
        network: Network,
        shared: SessionShared,
        config: DialConfig,
        rng: Rng,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
        *,
        keep: bool = False,
        charge: Callable[[float], bool] | None = None,
        rules: Rules | None = None,
    ) -> None:
        """`keep`: stay connected without being asked. `charge`: takes a retry from the budget, if there is one, for connecting again.

        `rules`: how many connections there are, and for how long; without them one, for as long as it lasts.
        """
        self.address = address
        self._network = network
        self._shared = shared
        self._config = config
        self._rng = rng
        self._spawn = spawn
        self._keep = keep
        self._charge = charge
        self._rules = rules
        self._tend_timer: Timer | None = None
        self._attempt: asyncio.Future[CallerSession] | None = None
        self._pause: asyncio.Future[None] | None = None
        self._failures = 0
        self._next_at = 0.0
        self.sessions: dict[CallerSession, Catalogue | None] = {}
        self.session: CallerSession | None = None
        self.catalogue: Catalogue | None = None
        self.closed = False
        self._closed_why = ""
        self.state: DialState = "idle"
        self.since = shared.wheel.now()
        self.last_error: HoldfastError | None = None
        self.on_change: Callable[[Any], None] = _nobody
        self.owner: Any = None

    @property
    def next_attempt_at(self) -> float | None:
        """When the next attempt begins; None unless it is down."""
        return self._next_at if self.state == "down" else None

    # ------------------------------------------------------------------ a session, now

    async def ready(self, deadline_at: float | None, *, wait: bool) -> CallerSession:
        """Return a session that takes calls.

        Args:
            wait: go on trying until the deadline; otherwise the first failure is told, and during back-off the last one.
        Raises: Unavailable, ProtocolError, DeadlineExceeded; all surely not executed. Cancel: the attempt goes on for others.
        """
        while True:
            session = self.roomy()
            if session is not None and session.usable:
                return session
            if self.closed:
                raise Unavailable(self._closed_why)
            if not wait:
                self.refuse_if_down()
            attempt = self.begin()
            try:
                async with asyncio.timeout_at(deadline_at):
                    await asyncio.shield(attempt)
            except TimeoutError:
                raise DeadlineExceeded(f"no connection to {self.address} before the deadline", executed="no") from self.last_error
            except HoldfastError:
                if not wait:
                    raise

    def refuse_if_down(self) -> None:
        """Tell why there is no connection, between two attempts to make one. Raises: Unavailable that says when the next one is."""
        retry_in_s = self._next_at - self._shared.wheel.now()
        if retry_in_s > EARLY_S:
            assert self.last_error is not None
            refused = Unavailable(f"{self.last_error} (next attempt in {retry_in_s:.1f} s)", retry_after_s=retry_in_s)
            refused.connecting = True
            raise refused

    def begin(self) -> asyncio.Future[CallerSession]:
        """Connect, if nobody does already; the future hears how the attempt ends."""
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = self._shared.loop.create_future()
            self._spawn(self._connect(attempt))
        return attempt

    def stay(self) -> None:
        """Stay connected from now on, without being asked."""
        self._keep = True
        if self.session is None and not self.closed:
            self.begin()

    def poke(self) -> None:
        """Do not wait for the next attempt, make it now: somebody knows that the network, or the node, is another one."""
        self._next_at = 0.0
        if self.state == "down":
            self.begin()
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

    async def _connect(self, attempt: asyncio.Future[CallerSession]) -> None:
        """Make one attempt and tell whoever waits; the attempt is over before anybody can start another."""
        try:
            await self._back_off()
            if self.closed:
                raise Unavailable("nobody wants this connection any more")
            if self.session is None:
                self._change("connecting")
            session = await self._open()
            if self.closed:  # retired meanwhile
                session.retire()
                raise Unavailable("nobody wants this connection any more")
        except BaseException as error:
            self._attempt = None
            if isinstance(error, HoldfastError):
                if not self.closed:
                    self._failed(error)
                _refuse(attempt, error)
                self._go_on()
                return
            why = "the client is closed" if isinstance(error, asyncio.CancelledError) else f"cannot connect: {error!r}"
            _refuse(attempt, Unavailable(why))
            raise
        self._attempt = None
        self._use(session)
        now = session.opened_at = session.last_used_at = self._shared.wheel.now()
        if self._rules is not None:
            session.retire_at = self._rules.retire_at(now)
        if not attempt.done():
            attempt.set_result(session)
        self._change("ready")
        self.tend()

    async def _back_off(self) -> None:
        """Wait for the next attempt's time. Connecting again draws on the retry budget: when that is empty, once more as long."""
        wait_s = self._next_at - self._shared.wheel.now()
        if wait_s <= 0:
            return
        await self._wait(wait_s)
        if self._next_at and self._charge is not None and not self._charge(self._shared.wheel.now()):
            self._next_at += wait_s
            await self._wait(wait_s)

    async def _wait(self, wait_s: float) -> None:
        pause = self._pause = self._shared.loop.create_future()
        timer = self._shared.loop.call_later(wait_s, _release, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pause = None

    def _go_on(self) -> None:
        """Whoever keeps connected connects again by itself."""
        if self._keep and not self.closed:
            self.begin()

    def _failed(self, error: HoldfastError) -> None:
        config = self._config
        self.last_error = error
        error.connecting = True
        backoff_s = equal_jitter(self._rng, self._failures, base_s=config.base_s, cap_s=config.cap_s)
        if error.retry_after_s is None:
            error.retry_after_s = backoff_s  # sooner there is no attempt, and a retry would be wasted
        self._failures += 1
        self._next_at = self._shared.wheel.now() + backoff_s
        self._shared.emit(ConnectFailed(str(self.address), str(error), backoff_s))
        if self.session is None:
            self._change("down")

    def _change(self, state: DialState) -> None:
        if state != self.state and self.state != "gone":
            self.state, self.since = state, self._shared.wheel.now()
            self.on_change(self.owner)

    def _use(self, session: CallerSession | None) -> None:
        """New calls go over this one. Behind one address there may be servers of different versions, each with a catalogue of its own."""
        self.session = session
        if session is not None:
            self.catalogue = self.sessions.get(session, self.catalogue)

    async def _open(self) -> CallerSession:
        session = CallerSession(self._shared, str(self.address))
        try:
            async with asyncio.timeout(self._config.connect_s + self._shared.handshake_s):
                await self._network.connect(self.address, lambda: session, timeout_s=self._config.connect_s)
                self.sessions[session] = None
                await session.opened()
                await self._learn(session)
                session.answered = False  # the catalogue is no use to anybody by itself
        except BaseException as error:
            self.sessions.pop(session, None)
            if session.link is not None:
                session.link.abort()
            if isinstance(error, TimeoutError) and not isinstance(error, HoldfastError):
                raise Unavailable(f"{self.address} accepted the connection and did not greet us in time") from None
            raise
        for old in [s for s in self.sessions if s.closed]:
            del self.sessions[old]
        session.on_change = self._session_changed
        return session

    # ------------------------------------------------------------------ what the server can do

    async def _learn(self, session: CallerSession) -> None:
        """Fetch the server's catalogue, unless we have the one with this digest."""
        assert session.conn.remote is not None
        digest = session.conn.remote.catalogue
        found = _catalogues.get(digest) if digest else None
        if found is None:
            future = self._shared.loop.create_future()
            call = Outcall(future=future, method=CATALOGUE_METHOD)
            request = Request(MethodInfo(CATALOGUE_METHOD, "unary", True), b"\x80", False, None, 0, wire_name=CATALOGUE_METHOD.encode())
            session.open(request, call, self._shared.wheel.now())
            try:
                reply: Replied = await future
            except HoldfastError as error:
                if error.executed == "no":
                    raise
                raise Unavailable(f"{error}, and that was no call of anybody's") from error  # theirs have not been sent
            found = Catalogue.decode(decode_as(bytes)(reply.body, reply.raw))
            if found.digest == digest:  # or any server could say for another what that one can do
                _catalogues[digest] = found
                while len(_catalogues) > CATALOGUES_MAX:
                    _catalogues.popitem(last=False)
        self.sessions[session] = found

    # ------------------------------------------------------------------ after it was made

    def _session_changed(self, session: CallerSession) -> None:
        """The server said how it is, or that it takes no new calls, or the connection is lost."""
        if self.closed:
            return
        if session.usable:
            if session is self.session:
                self.on_change(self.owner)
            return
        if session.closed or session.draining_at == math.inf:  # what `tend` itself lets go of is no news to it
            self._shared.loop.call_soon(self.tend)
        if session is self.session:
            self._use(next((other for other, known in self.sessions.items() if known is not None and other.usable), None))
        if session.draining_at == math.inf:
            session.draining_at = self._shared.wheel.now()
            self._judge(session)
        if self.session is not None:
            self.on_change(self.owner)
            return
        if self.state != "down" and self.state != "connecting":
            self._change("draining" if not session.closed else "idle")
        self._go_on()

    def _judge(self, session: CallerSession) -> None:
        """A session is over. One that was of no use counts as a failure, or a server that only accepts would be hammered."""
        if session.answered or self._shared.wheel.now() >= session.opened_at + self._config.useful_s:
            self._failures = 0
            self._next_at = 0.0
        else:
            self._failed(Unavailable(f"{self.address} closed the connection before it answered a call"))

    def roomy(self) -> CallerSession | None:
        """The current session, or if that is full another that is not; it is the current one then."""
        session = self.session
        if session is None or not session.full:
            return session
        found = next((other for other, known in self.sessions.items() if known is not None and other.usable and not other.full), None)
        if found is not None:
            session = found
            self._use(found)
        else:
            self.tend()  # perhaps there may be one more
        return session

    def tend(self) -> None:
        """Do what the rules want done about the connections, if there are rules and connections."""
        rules, now = self._rules, self._shared.wheel.now()
        if self._tend_timer is not None:
            self._tend_timer.cancel()
        if rules is None or self.closed or not (self._keep or self.session is not None):
            return
        sessions = [session for session in self.sessions if not session.closed and session.opened_at]
        for session in sessions:
            if session.open_calls or session.conn.sent_id != session.used_id:
                session.used_id, session.last_used_at = session.conn.sent_id, now
        for action in rules.decide(now, sessions, opening=int(self._attempt is not None)):
            if action.do == "open":
                self.begin()
            elif action.do == "retire":
                action.session.draining_at = now
                action.session.retire()
            elif action.session.open_calls:
                action.session.end(Unavailable(f"the connection was let go: {action.reason}", executed="maybe"), tell=False)
            else:
                action.session.draining_at = min(action.session.draining_at, now)
                action.session.retire()
        due = rules.next_at(now, [session for session in sessions if not session.closed])
        if due < math.inf and not self.closed:
            self._tend_timer = self._shared.wheel.at(due, self.tend)

    # ------------------------------------------------------------------ the end

    async def close(self, *, within_s: float) -> None:
        """Close every session and wait, at most `within_s` seconds, until what was written has left; then cut. Open calls end as lost.

        Cancel: what is still open is cut at once.
        """
        await close_all([self], within_s=within_s)

    def retire(self) -> None:
        """The node is no longer one of ours: no new calls, and each connection is closed when those that are open have been answered."""
        self._end(Unavailable(f"{self.address} is no longer one of the nodes"))
        for session in list(self.sessions):
            session.retire()

    def _end(self, why: HoldfastError) -> None:
        self.closed, self._closed_why = True, str(why)
        self._change("gone")
        if self._attempt is not None:
            _refuse(self._attempt, why)  # its task may be cancelled before its first step
        if self._pause is not None:
            _release(self._pause)
        if self._tend_timer is not None:
            self._tend_timer.cancel()

    def _close(self) -> None:
        self._end(Unavailable("the client is closed"))
        for session in self.sessions:
            session.going = True
            if session.link is not None:
                session.flush()
                session.link.close()


async def close_all(dialers: Sequence[Dialer], *, within_s: float) -> None:
    """Close them all at once; see `Dialer.close`. Cancel: what is still open is cut at once."""
    for dialer in dialers:
        dialer._close()
    sessions = [session for dialer in dialers for session in dialer.sessions]
    try:
        async with asyncio.timeout(within_s):
            for session in sessions:
                await session.gone()
    except TimeoutError:
        pass
    finally:
        for session in sessions:
            if session.link is not None and not session.closed:
                session.link.abort()


def _nobody(owner: Any) -> None:
    """Who hears of changes while nobody listens."""


def _release(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def _refuse(attempt: asyncio.Future[CallerSession], error: HoldfastError) -> None:
    if not attempt.done():
        attempt.set_exception(error)
        attempt.exception()  # nobody may be left to hear it
