"""What a connection has to say to the layer above: a closed union of frozen records, in the order things happened.

`call` is always the object the layer above handed in (or had made by its factory): nobody looks ids up twice.
Bodies are `bytes` of their own; they outlive the buffer they came in.
"""

from __future__ import annotations

import msgspec

from ..errors import ProtocolError
from .flow import CallState, IncomingCall
from .settings import Settings
from .status import Status


class Event(msgspec.Struct, frozen=True, gc=False):
    """The root."""


class HelloReceived(Event, frozen=True, gc=False):
    """Server: a client introduced itself. Answer with `send_welcome`, or `fail`."""

    settings: Settings


class Opened(Event, frozen=True, gc=False):
    """Client: the server welcomed us; calls may go."""

    settings: Settings


class Called(Event, frozen=True, gc=False):
    """Server: a whole call arrived (its items, if it streams, follow)."""

    call: IncomingCall


class Replied(Event, frozen=True, gc=False):
    """Client: the call is over, and this is its result."""

    call: CallState
    body: bytes
    raw: bool
    trailers: bytes = b""


class Failed(Event, frozen=True, gc=False):
    """Client: the call is over with an error; `body` is what `rpc/codes.py` decodes."""

    call: CallState
    body: bytes
    trailers: bytes = b""


class ItemReceived(Event, frozen=True, gc=False):
    """An item of a stream. Hand the event back to `consume` when it has been used: only then may the peer send more.

    `held` is the assembly budget it holds, for an item that came in pieces.
    """

    call: CallState
    body: bytes
    raw: bool
    cost: int
    held: int


class Ended(Event, frozen=True, gc=False):
    """No more items. For a client this ends the call."""

    call: CallState
    trailers: bytes = b""


class CancelReceived(Event, frozen=True, gc=False):
    """Server: the caller gave up. The call stays open until `finish`, `send_reply`, `send_end` or `send_error`.

    A peer may say so twice. Items that were on their way still arrive.
    """

    call: CallState


class Unusable(Event, frozen=True, gc=False):
    """A call, reply or item that we cannot take: too large, or there is no room. The connection lives on.

    Server: answer with `send_error`; it may come without a Called before it (the arguments themselves could not be taken), and what
    else the peer had sent for the call is skipped. Client: the call is over; the server has been sent a CANCEL.
    """

    call: CallState
    message: str
    too_large: bool


class Drained(Event, frozen=True, gc=False):
    """The item that `send_item` had to queue has been handed out; the next one may come. It never comes for a call that ended first."""

    call: CallState


class Ponged(Event, frozen=True, gc=False):
    """The peer answered a ping."""

    payload: bytes


class StatusReceived(Event, frozen=True, gc=False):
    """Client: how the server says it is."""

    status: Status


class GoneAway(Event, frozen=True, gc=False):
    """The peer wants no more calls. Those above `last_call_id` were surely not executed, and will not be.

    A server says it twice: first with the highest id there can be, then, when it has heard all that was on its way, with the real one.
    """

    last_call_id: int
    reason: int
    message: str


class Errored(Event, frozen=True, gc=False):
    """The peer broke the protocol. Nothing more is parsed; write what is left (the peer is told why) and close."""

    error: ProtocolError
