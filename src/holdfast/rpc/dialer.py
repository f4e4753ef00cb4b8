"""Keeps one connection to one address: connects when a call needs it, and again after it was lost.

Owns: the current CallerSession, the one attempt to make it (shared by all who wait), the back-off between attempts, and the catalogue.
A session is handed out only when its catalogue is known, so no call leaves whose retry class is unknown.

What may never happen: two attempts at once; an attempt that dies with the caller who happened to start it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from ..clock import Rng
from ..control.backoff import equal_jitter
from ..errors import DeadlineExceeded, HoldfastError, Unavailable
from ..facts import ConnectFailed
from ..handler import MethodInfo, Request
from ..net.address import Address
from ..net.link import Network
from ..wire import Replied
from .caller import CallerSession, Outcall
from .catalogue import Catalogue
from .codec import decode_as
from .session import SessionShared

CATALOGUE_METHOD = "holdfast.catalogue"
CATALOGUES_MAX = 64
EARLY_S = 0.005
"""Who was told to come back in a while may come this much too early, as timers do; the attempt waits for the rest."""
_catalogues: OrderedDict[bytes, Catalogue] = OrderedDict()
"""Catalogues by digest, for all clients of the process: a digest names its content."""


class DialConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. Back-off between failed attempts: equal jitter from `base_s` to `cap_s`; reset after a useful session."""

    connect_s: float = 2.0
    base_s: float = 0.1
    cap_s: float = 30.0
    useful_s: float = 10.0


class Dialer:
    """One address, one session at a time.

    Attributes:
        session: the one for new calls.
        sessions: it, and those that still have open calls.
    """

    def __init__(
        self,
        address: Address,
        network: Network,
        shared: SessionShared,
        config: DialConfig,
        rng: Rng,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
    ) -> None:
        self._address = address
        self._network = network
        self._shared = shared
        self._config = config
        self._rng = rng
        self._spawn = spawn
        self._attempt: asyncio.Future[CallerSession] | None = None
        self._failures = 0
        self._next_at = 0.0
        self._useful_at = 0.0
        self._last_error: HoldfastError | None = None
        self.sessions: dict[CallerSession, None] = {}
        self.session: CallerSession | None = None
        self.catalogue: Catalogue | None = None
        self.closed = False

    # ------------------------------------------------------------------ a session, now

    async def ready(self, deadline_at: float | None, *, wait: bool) -> CallerSession:
        """Return a session that takes calls.

        Args:
            wait: go on trying until the deadline; otherwise the first failure is told, and during back-off the last one.
        Raises: Unavailable, ProtocolError, DeadlineExceeded; all surely not executed. Cancel: the attempt goes on for others.
        """
        while True:
            session = self.session
            if session is not None and session.usable:
                return session
            if self.closed:
                raise Unavailable("the client is closed")
            now = self._shared.wheel.now()
            if session is not None:
                self._judge(session, now)
            if now < self._next_at - EARLY_S and not wait:
                assert self._last_error is not None
                retry_in_s = self._next_at - now
                raise Unavailable(f"{self._last_error} (next attempt in {retry_in_s:.1f} s)", retry_after_s=retry_in_s)
            if self._attempt is None:
                self._attempt = self._shared.loop.create_future()
                self._spawn(self._connect(self._attempt))
            try:
                async with asyncio.timeout_at(deadline_at):
                    await asyncio.shield(self._attempt)
            except TimeoutError:
                raise DeadlineExceeded(f"no connection to {self._address} before the deadline", executed="no") from self._last_error
            except HoldfastError:
                if not wait:
                    raise

    async def _connect(self, attempt: asyncio.Future[CallerSession]) -> None:
        """Make one attempt and tell whoever waits; the attempt is over before anybody can start another."""
        try:
            now = self._shared.wheel.now()
            if now < self._next_at:
                await asyncio.sleep(self._next_at - now)
            session = await self._open()
        except BaseException as error:
            self._attempt = None
            if isinstance(error, HoldfastError):
                self._failed(error)
                _refuse(attempt, error)
                return
            why = "the client is closed" if isinstance(error, asyncio.CancelledError) else f"cannot connect: {error!r}"
            _refuse(attempt, Unavailable(why))
            raise
        self._attempt = None
        self.session = session
        self._useful_at = self._shared.wheel.now() + self._config.useful_s
        if not attempt.done():
            attempt.set_result(session)

    def _failed(self, error: HoldfastError) -> None:
        config = self._config
        self._last_error = error
        backoff_s = equal_jitter(self._rng, self._failures, base_s=config.base_s, cap_s=config.cap_s)
        if error.retry_after_s is None:
            error.retry_after_s = backoff_s  # sooner there is no attempt, and a retry would be wasted
        self._failures += 1
        self._next_at = self._shared.wheel.now() + backoff_s
        self._shared.emit(ConnectFailed(str(self._address), str(error), backoff_s))

    async def _open(self) -> CallerSession:
        session = CallerSession(self._shared, str(self._address))
        try:
            async with asyncio.timeout(self._config.connect_s + self._shared.handshake_s):
                await self._network.connect(self._address, lambda: session, timeout_s=self._config.connect_s)
                self.sessions[session] = None
                await session.opened()
                await self._learn(session)
                session.answered = False  # the catalogue is no use to anybody by itself
        except BaseException as error:
            self.sessions.pop(session, None)
            if session.link is not None:
                session.link.abort()
            if isinstance(error, TimeoutError) and not isinstance(error, HoldfastError):
                raise Unavailable(f"{self._address} accepted the connection and did not greet us in time") from None
            raise
        self._forget_closed()
        return session

    def _forget_closed(self) -> None:
        for old in [s for s in self.sessions if s.closed]:
            del self.sessions[old]

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
            reply: Replied = await future
            found = Catalogue.decode(decode_as(bytes)(reply.body, reply.raw))
            if found.digest == digest:  # or any server could say for another what that one can do
                _catalogues[digest] = found
                while len(_catalogues) > CATALOGUES_MAX:
                    _catalogues.popitem(last=False)
        self.catalogue = found

    def _judge(self, session: CallerSession, now: float) -> None:
        """A session is over. One that was of no use counts as a failure, or a server that only accepts would be hammered."""
        self.session = None
        if session.answered or now >= self._useful_at:
            self._failures = 0
        else:
            self._failed(Unavailable(f"{self._address} closed the connection before it answered a call"))

    # ------------------------------------------------------------------ the end

    async def close(self, *, within_s: float) -> None:
        """Close every session and wait, at most `within_s` seconds, until what was written has left; then cut. Open calls end as lost.

        Cancel: what is still open is cut at once.
        """
        self._close()
        try:
            async with asyncio.timeout(within_s):
                for session in list(self.sessions):
                    await session.gone()
        except TimeoutError:
            pass
        finally:
            for session in self.sessions:
                if session.link is not None and not session.closed:
                    session.link.abort()

    def _close(self) -> None:
        self.closed = True
        if self._attempt is not None:
            _refuse(self._attempt, Unavailable("the client is closed"))  # its task may be cancelled before its first step
        for session in self.sessions:
            session.going = True
            if session.link is not None:
                session.flush()
                session.link.close()


def _refuse(attempt: asyncio.Future[CallerSession], error: HoldfastError) -> None:
    if not attempt.done():
        attempt.set_exception(error)
        attempt.exception()  # nobody may be left to hear it
