"""What the three parts of this package promise one another and everybody above: Receiver, Link, Listening, Network.

Owns: the protocols, and the options of a listener. What may never happen here: anything at all; it is vocabulary.

The order of calls on a Receiver, which every link keeps to:

    link_made  ( bytes_received | pause_writing | resume_writing )*  eof_received?  link_lost

`link_lost` comes exactly once if `link_made` came, and last. Every call comes from the loop, never from inside `connect` of another
link or from inside a method of the link itself; only `pause_writing` may come from inside `write`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ..facts import Emit
from .address import Address

HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
SEND_STALL_S = 10.0
REST_MAX_BYTES = 32 * 1024 * 1024
"""What a link keeps at most of bytes its receiver has not used. Receivers know their own limits and give up long before this."""


class Receiver(Protocol):
    """What sits above a link."""

    def link_made(self, link: Link) -> None:
        """The link is there. Writing is allowed from here on."""

    def bytes_received(self, data: memoryview) -> int:
        """Take bytes; return how many were used. The link keeps the rest and puts it in front of what comes next.

        `data` is valid only until this returns: the next read of *any* link of this thread writes over it. Copy what is kept.
        What it raises ends this link, and no other: the error comes back in `link_lost`.
        """

    def eof_received(self) -> None:
        """The peer will send no more. The link closes itself (flushing what is written) after this returns."""

    def link_lost(self, error: Exception | None) -> None:
        """The link is gone; exactly once, last. None when it was closed by either side in the ordinary way, or by our `abort`."""

    def pause_writing(self) -> None:
        """More than the high water mark waits to be sent. Write no more until `resume_writing`."""

    def resume_writing(self) -> None:
        """What waits to be sent fell to the low water mark."""


class Link(Protocol):
    """Two directions of bytes to one peer. Every method returns at once and none raises, in any state.

    Attributes:
        local: our end, printable.
        peer: their end, printable; a Unix peer has no name of its own and bears that of the socket.
    """

    @property
    def local(self) -> str: ...
    @property
    def peer(self) -> str: ...

    def write(self, data: bytes) -> None:
        """Send bytes, in order. Never blocks; whoever ignores `pause_writing` grows the buffer. Dropped after `close` and `abort`."""

    def write_buffer_bytes(self) -> int:
        """How many written bytes have not left the process."""

    def pause_reading(self) -> None:
        """Take no more bytes from the peer; the kernel will slow it down. Idempotent."""

    def resume_reading(self) -> None:
        """Take bytes again. What the receiver left unused is offered to it once more, from the loop, even if nothing new has come."""

    def close(self) -> None:
        """Read no more, send what is written, then close. Bounded: what has not left within the send stall deadline is dropped."""

    def abort(self) -> None:
        """Close now and drop what is written. Over TCP the peer sees a reset, so it cannot take this for an orderly end."""

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the link is lost."""


class Listening(Protocol):
    """A listener that is open."""

    @property
    def address(self) -> Address:
        """Where, with the port the kernel chose."""

    def close(self) -> None:
        """Stop accepting. Links accepted before live on. Idempotent."""


class ListenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a listener accepts.

    Attributes:
        backlog: connections the kernel holds for us while we are busy.
        accepts_per_turn: how many are taken in one turn of the loop, so that a flood of them does not starve those that are there.
        unix_mode: permissions of a socket file. Whoever may write it may connect.
        nodelay: send small writes at once (TCP_NODELAY). We collect writes ourselves; Nagle would add 40 ms.
    """

    backlog: int = 1024
    accepts_per_turn: int = 64
    unix_mode: int = 0o600
    nodelay: bool = True


class Network(Protocol):
    """Makes links. The kernel's is in `network.py`, one inside the process in `memory.py`."""

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link; its receiver has had `link_made` when this returns.

        Raises: Unavailable naming the address and the reason. ConfigError for an address this network cannot reach by its nature.
        Cancel: loses nothing. No socket stays open; a receiver that had `link_made` gets `link_lost`.
        """

    async def listen(self, address: Address, make_receiver: Callable[[], Receiver], options: ListenOptions, emit: Emit) -> Listening:
        """Accept links at `address`, each with a receiver of its own, until closed.

        Raises: ConfigError saying why not, and what to do: port in use, no such interface, path taken.
        Cancel: loses nothing; before the return nothing is open.
        """
