"""The server's side of a connection without its calls: a client is let in, told how we are, and sent away.

Owns: the welcome, STATUS, and the two steps of a goodbye. What may never happen here: a call that was on its way when we said goodbye and
that is neither executed nor known by its caller not to be.

Theory of the goodbye. GOAWAY with the highest id there can be asks for no new calls; a PING follows it. The client stops opening calls
when it reads the one and answers the other, so whatever it sent before has arrived when the PONG has, and is executed like any call.
Then the second GOAWAY names the last call there was; nothing lies above it, unless the client did not listen. The connection is closed
when all is answered. Source: RFC 9113 6.8, gRFC A9.
"""

from __future__ import annotations

import math

import msgspec

from ..context import Peer
from ..errors import Overloaded, ProtocolError
from ..facts import ConnectionOpened, ConnectionRefused
from ..wire import Connection, Errored, Event, GoneAway, HelloReceived, Ponged, Settings, frames
from .desk import Desk, Incall
from .session import Session, SessionShared, wants_checksum

_GOODBYE = b"goodbye\0"
_GOING_DOWN = "the server is going down"


class Reception(Session):
    """What a responder does beside answering calls.

    Attributes:
        peer: who it is; None before the handshake.
    """

    __slots__ = ("_desk", "_evicted", "_final_at", "_refused", "peer")
    side = "server"

    def __init__(self, shared: SessionShared, desk: Desk) -> None:
        super().__init__(shared, Connection("server", shared.settings, budget=shared.budget, make_call=Incall))
        self._desk = desk
        self._evicted = False
        self._final_at = math.inf
        self._refused = False
        self.peer: Peer | None = None

    def _on_its_own_event(self, event: Event, now: float) -> None:
        """What is about the connection and no call."""
        if isinstance(event, HelloReceived):
            self._greet(event.settings, now)
        elif isinstance(event, Ponged):
            if event.payload == _GOODBYE and self._final_at < math.inf:
                self._say_last_goodbye()
        elif isinstance(event, GoneAway):
            self._reason = self._reason or ProtocolError(f"the client ended the connection: {event.message}")
        elif isinstance(event, Errored):
            self._reason = self._reason or event.error
            if self.peer is None and self.link is not None and not self._refused:
                self._refused = True
                self._shared.emit(ConnectionRefused(self.link.peer, str(event.error)))

    # ------------------------------------------------------------------ hello

    def _greet(self, settings: Settings, now: float) -> None:
        if self.conn.state != "GREETED":
            return  # it went on talking before it was welcomed: the reason for the end is written already
        link = self.link
        assert link is not None
        desk = self._desk
        if desk.draining:
            self.conn.fail(frames.GOING, _GOING_DOWN)
            return
        self.peer = Peer(link.peer, settings.instance.hex(), settings.name, link.certificate)
        ours = self._shared.settings
        features = (*ours.features, frames.CHECKED) if wants_checksum(self._shared.checksum, link.peer) else ours.features
        self.conn.send_welcome(msgspec.structs.replace(ours, catalogue=desk.router.catalogue.digest, features=features))
        self._shared.emit(ConnectionOpened(self.side, link.peer))
        self.wake_at(now + self._shared.settings.heartbeat_s)
        if not desk.serving:
            self.conn.send_status(desk.status())

    def _tell_lost(self, peer: str, reason: str, calls: int) -> None:
        """As in Session; who was never let in is a refusal and no connection, and is told once."""
        if self.peer is not None:
            super()._tell_lost(peer, reason, calls)
        elif not self._refused:
            self._shared.emit(ConnectionRefused(peer, reason))

    def evict(self) -> bool:
        """Cut a client that has not said hello yet, for one that may; also one that was turned away and does not leave.

        Returns False when there is none to cut.
        """
        if self.peer is not None or self.link is None or self.closed or self._evicted:
            return False
        self._evicted = True
        self.end(Overloaded("cut to make room: it had not said hello yet"), tell=False)
        return True

    # ------------------------------------------------------------------ how we are

    def tell_status(self) -> None:
        """Tell the client how we are now."""
        if self.conn.state == "OPEN":
            self.conn.send_status(self._desk.status())
            self.flush_soon()

    # ------------------------------------------------------------------ goodbye

    def say_goodbye(self) -> None:
        """Ask the client for no more calls; the connection closes when those it has sent have been answered."""
        conn = self.conn
        if conn.state != "OPEN":
            conn.fail(frames.GOING, _GOING_DOWN)
        elif self._final_at == math.inf:
            now = self._shared.wheel.now()
            conn.send_status(self._desk.status())
            conn.announce_goaway(_GOING_DOWN)
            conn.send_ping(_GOODBYE)
            self._final_at = now + self._shared.suspect_s
            self.wake_at(self._final_at)
        self.flush_soon()

    def _say_last_goodbye(self) -> None:
        if not self.going and self.conn.state == "OPEN":
            self.going = True
            self._final_at = min(self._final_at, self._shared.wheel.now())
            self.conn.send_goaway(_GOING_DOWN)
            self.flush_soon()

    def _liveness(self, now: float) -> float:
        """As in Session; a client that does not answer our goodbye is not waited for."""
        if now >= self._final_at:
            self._say_last_goodbye()
        next_at = super()._liveness(now)
        return next_at if self.going else min(next_at, self._final_at)

    def _close_if_done(self) -> None:
        conn = self.conn
        if not conn.calls and self.link is not None and not self.paused and not conn.busy:
            self.link.close()

    # ------------------------------------------------------------------ a client that does not read

    def pause_writing(self) -> None:
        """A peer that does not read its answers asks no more questions: what waits for it stays bounded."""
        super().pause_writing()
        if self.link is not None:
            self.link.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._heard_at = self._shared.wheel.now()  # nothing was read meanwhile: that silence was ours
        super().resume_writing()
        if self.link is not None and not self.paused:  # what was waiting may have been enough to pause again
            self.link.resume_reading()
