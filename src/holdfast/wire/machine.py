"""The state of one connection, and what receiving and commanding share. `connection.py` is the class to use; read that first.

Owns: the state, the table of open calls, how a call gives back what it holds, how a connection ends.

    OPENING ──HELLO──► GREETED ──send_welcome──► OPEN ──fail──► ERROR            (server)
    OPENING ──WELCOME───────────────────────────► OPEN ──fail──► ERROR            (client)

What may never happen here: a call that ends twice, budget or credit given back twice, anything but silence after ERROR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..errors import Executed, ProtocolError
from . import frames
from .checksum import seal
from .events import Errored, Event, Unusable
from .flow import ByteBudget, CallState, Flow, IncomingCall
from .inbox import Inbox
from .outbox import Outbox
from .settings import FRAME_LIMIT_LEAST, Settings, encode_settings

Role = Literal["client", "server"]
State = Literal["OPENING", "GREETED", "OPEN", "ERROR"]


class Machine:
    """What every part of a connection works on. See `Connection` for the arguments.

    Attributes:
        calls: what is open, by id.
        cancels, pings: how many open calls the peer cancelled and how often it pinged since somebody set these back to 0. Either makes
            work and is of no use in great numbers; the layer above, which has a clock, judges how many are too many.
        ready: what is to be written, in chunks; always the same list. To look at, not to touch: `take_output` takes it.
        outbox: what else waits to be written (`outbox.special`); inbox: what the peer may still send (`inbox.credit`). To look at, too.
    """

    __slots__ = (
        "_checked",
        "_final_id",
        "_last_id",
        "_last_words",
        "_lone_max_bytes",
        "_make_call",
        "_pongs",
        "_role",
        "_seen",
        "_sent_before",
        "_sent_id",
        "_settled",
        "calls",
        "cancels",
        "events",
        "inbox",
        "local",
        "outbox",
        "pings",
        "ready",
        "remote",
        "state",
    )

    def __init__(
        self,
        role: Role,
        settings: Settings,
        *,
        budget: ByteBudget,
        make_call: Callable[..., IncomingCall] = IncomingCall,
    ) -> None:
        self._role: Role = role
        self._make_call = make_call
        self.local = settings
        self.remote: Settings | None = None
        self.state: State = "OPENING"
        self.calls: dict[int, CallState] = {}
        self.events: list[Event] = []
        self._last_id = 0
        self._final_id = -1  # below 0: calls are taken
        self._sent_id = self._sent_before = 0
        self._settled = 0
        self._checked = False
        self._lone_max_bytes = 0  # how long a frame may be to go the short way (`lone.py`); 0 while none may
        self._last_words = b""  # in state ERROR, what is still to be written; whatever else is said then is not
        self._seen = b""
        self.cancels = self.pings = 0
        self._pongs = 0  # answers to pings that nobody has taken yet
        self.outbox = Outbox(budget)
        self.ready = self.outbox.ready
        self.inbox = Inbox(settings, budget, self.outbox)
        if role == "client":
            self.ready.append(frames.PREFACE)
            self.ready.append(frames.pack_frame(frames.HELLO, 0, 0, encode_settings(settings)))

    @property
    def last_id(self) -> int:
        """The id of the newest call that was opened; 0 when there was none."""
        return self._last_id

    @property
    def sent_id(self) -> int:
        """The id of the newest call of which the peer may have a byte."""
        return self._sent_id

    @property
    def settled(self) -> int:
        """Every call number of this client below it is over for good: the client has said so, and may not use them again."""
        return self._settled

    @property
    def checked(self) -> bool:
        """Whether every frame has a check sum: both sides asked for it."""
        return self._checked

    def _allow_lone(self) -> None:
        """The connection is open: small frames may go the short way, unless each has a check sum."""
        if not self._checked:
            self._lone_max_bytes = frames.HEADER_BYTES + min(FRAME_LIMIT_LEAST, self.local.frame_max_bytes)

    # ------------------------------------------------------------------ the end

    def fail(self, reason: int, message: str, *, executed: Executed = "maybe") -> None:
        """End the connection for a reason the peer is told. Idempotent."""
        if self.state == "ERROR":
            return
        self._lone_max_bytes = 0
        early = self.state != "OPEN"
        unheard = (early and self._role == "server") or (bool(self.ready) and self.ready[0] is frames.PREFACE)
        self.state = "ERROR"
        self.outbox.clear()
        goaway = self._goaway(reason, message)
        self._last_words = frames.PREFACE + goaway if unheard else seal(goaway) if self._checked else goaway
        self.events.append(Errored(ProtocolError(message, executed="no" if early else executed)))

    def lost(self) -> list[CallState]:
        """The link is gone. Every open call is over and gives back what it holds; they are returned, oldest first. Idempotent.

        What ended before, with items that nobody has used yet, still wants its `consume` or `forget`.
        """
        self.state = "ERROR"
        self._lone_max_bytes = 0
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            self._release(call)
        self.outbox.clear()
        self._last_words = b""
        return calls

    def _over(self) -> bool:
        return self.state == "ERROR"

    def _goaway(self, reason: int, message: str, last_id: int | None = None) -> bytes:
        if last_id is None:
            last_id = 0 if self._role == "client" else self._last_id if self._final_id < 0 else self._final_id
        return frames.pack_goaway(last_id, reason, message)

    # ------------------------------------------------------------------ what a call holds

    def _flow_of(self, call: CallState) -> Flow:
        """Return the call's flow; make it if there is none. A server may always send items, and gets them when the call said STREAM."""
        flow = call.flow
        if flow is None:
            assert self.remote is not None  # in state OPEN it is there
            flow = call.flow = Flow(self.remote.stream_window_bytes, self.local.stream_window_bytes)
            if isinstance(call, IncomingCall):
                flow.sending = True
                flow.receiving = call.streams
        return flow

    def _release(self, call: CallState) -> None:
        """Give back all that a call holds of the connection. Idempotent."""
        flow = call.flow
        if flow is None:
            return
        if flow.assembly is not None:
            self.inbox.budget.give(flow.assembly.charged)
            flow.assembly = None
        if flow.held:
            self.inbox.budget.give(flow.held)
            flow.held = 0
        if flow.unused:
            unused, flow.unused = flow.unused, 0
            self.inbox.used(unused)
        flow.receiving = flow.sending = False
        if flow.outgoing is not None:
            self.outbox.drop(flow)

    def _give_up(self, call: CallState) -> None:
        """Client: tell the server that nobody waits for this call, which has left the table already."""
        self._release(call)
        if self.state == "OPEN":
            self.ready.append(frames.pack_frame(frames.CANCEL, 0, call.id))

    def _unusable(self, call: CallState, message: str, *, too_large: bool) -> None:
        """Refuse one message; the connection lives on. A server's call stays in the table until it is answered."""
        self.events.append(Unusable(call, message, too_large))
        if self._role == "client":
            del self.calls[call.id]
            self._give_up(call)
            return
        # The rest of the message, and items sent before the refusal arrives, are on their way: they are skipped, not held against the peer.
        self._flow_of(call).refused = True
        self._release(call)

    def _send_credit(self, call_id: int, amount: int) -> None:
        self.ready.append(frames.pack_frame(frames.CREDIT, 0, call_id, frames.CREDIT_PAYLOAD.pack(amount)))

    # ------------------------------------------------------------------ what a peer did wrong

    def _check_known_id(self, kind: int, call_id: int) -> None:
        """A frame of a call that is over may still arrive; one of a call that never was may not."""
        if not 0 < call_id <= self._last_id:
            self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} for call {call_id}, which was never opened")

    def _unknown_flags(self, kind: int, flags: int) -> None:
        known = frames.KNOWN_FLAGS[kind]
        self.fail(frames.PROTOCOL, f"{frames.name_of(kind)} with flags 0x{flags:02x}; version {frames.VERSION} knows 0x{known:02x}")

    def _wrong_length(self, kind: int, size: int) -> None:
        self.fail(frames.PROTOCOL, f"a {frames.name_of(kind)} frame whose payload of {size} bytes does not have the length it must have")

    def _overdrawn(self, call_id: int, cost: int, window: str) -> None:
        self.fail(frames.FLOW, f"call {call_id} sent what costs {cost} bytes of credit; the {window} had less left")
