"""What the three parts of this package promise one another and everybody above: Receiver, Link, Listening, Network.

Owns: the protocols, and the options of listeners and of datagram endpoints. What may never happen here: anything at all; it is vocabulary.

The order of calls on a Receiver, which every link keeps to:

    link_made  ( bytes_received | pause_writing | resume_writing )*  ( eof_received  ( pause_writing | resume_writing )* )?  link_lost

`link_lost` comes exactly once if `link_made` came, and last. Every call comes from the loop, never from inside `connect` of another
link or from inside a method of the link itself; only `pause_writing` may come from inside `write` and `set_write_limits`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from ..context import PeerCertificate
from ..errors import ConfigError
from ..facts import Emit
from .address import Address
from .options import ListenOptions as ListenOptions

HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
SEND_STALL_S = 10.0
REST_MAX_BYTES = 32 * 1024 * 1024
"""What a link keeps at most of bytes its receiver has not used. Receivers know their own limits and give up long before this."""
UDP_PAYLOAD_MAX_BYTES = 65_507
"""65,535 bytes of an IPv4 packet less the headers of IP and UDP. IPv6 could carry 20 more; one number for both is easier to keep to."""


class Receiver(Protocol):
    """What sits above a link."""

    def link_made(self, link: Link) -> None:
        """The link is there. Writing is allowed from here on."""

    def bytes_received(self, data: memoryview | bytes) -> int:
        """Take bytes; return how many were used. The link keeps the rest and puts it in front of what comes next.

        A view is valid only until this returns: the next read of *any* link of this thread writes over it. Copy what is kept.
        What it raises ends this link, and no other: the error comes back in `link_lost`.
        """

    def eof_received(self) -> bool | None:
        """The peer will send no more. The link closes itself (flushing what is written) after this returns.

        A true answer keeps it open for writing, until the receiver closes it; over TLS, which has no such half, it changes nothing.
        """

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
        certificate: what the peer proved by TLS; None on a link without it.
    """

    @property
    def local(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def certificate(self) -> PeerCertificate | None: ...

    def write(self, data: bytes) -> bool:
        """Send bytes, in order. Never blocks; whoever ignores `pause_writing` grows the buffer.

        Returns: False when the link is closing or lost, and nothing of them will leave.
        """

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        """As `write`, for bytes in several chunks; large ones are not copied where that can be helped. Nobody may change them later."""

    def write_buffer_bytes(self) -> int:
        """How many written bytes have not left the process."""

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        """Move the marks of `pause_writing` and `resume_writing`; high >= low >= 0."""

    def pause_reading(self) -> None:
        """Take no more bytes from the peer; the kernel will slow it down. Idempotent."""

    def resume_reading(self) -> None:
        """Take bytes again. What the receiver left unused is offered to it once more, from the loop, even if nothing new has come."""

    def close(self) -> None:
        """Send what is written, then close; the receiver hears nothing more but `link_lost`.

        A kernel link waits for the peer's end, up to a second, so that a reset does not take from the peer what was written last. What
        has not left within the send stall deadline is dropped.
        """

    def abort(self) -> None:
        """Close now and drop what is written. Over TCP the peer sees a reset, so it cannot take this for an orderly end."""

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the link is lost."""


class Listening(Protocol):
    """A listener that is open."""

    @property
    def address(self) -> Address:
        """Where, with the port the kernel chose."""

    @property
    def options(self) -> Mapping[str, object]:
        """How it accepts, by the names of ListenOptions, as read back from the kernel; what this system has not is missing.

        `bound` are the addresses a name stands for, `connections_max` is the limit that holds.
        """

    def close(self) -> None:
        """Stop accepting. Links accepted before live on. Idempotent."""


class WhenFull(msgspec.Struct, frozen=True):
    """What a listener that is full can do beside closing the door.

    Attributes:
        make_room: cuts a connection that is worth less than a new one, and says whether there was any.
        refusal: the bytes that tell a peer why it is turned away, from the reason in words.
    """

    make_room: Callable[[], bool] | None = None
    refusal: Callable[[str], bytes] | None = None


# ------------------------------------------------------------------------------------------------------------------ datagrams

DropReason = Literal["kernel", "source_limit", "too_large", "receiver_failed", "send_full", "send_failed", "send_too_large", "closed"]
"""Why a datagram was dropped: the first four when receiving, the others when sending."""


class DatagramOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a UDP endpoint. Beyond each of them datagrams are dropped and counted.

    Attributes:
        datagram_max_bytes: the largest datagram that is taken or sent.
        datagrams_per_turn: how many are received, and sent from the queue, in one turn of the loop.
        receive_buffer_bytes: asked of the kernel, which may give less (`DatagramStats` says what it gave); None leaves its own.
        send_queue_max_bytes, send_queue_max: what waits here while the kernel has no room, in bytes and in datagrams.
        source_rate_per_s, source_burst: how many are taken from one source (an IPv4 address, an IPv6 /64) in the long run and at once.
        sources_max: how many sources are told apart; see `SourceBuckets` for what happens to the others.
    Raises: ConfigError naming the option that makes no sense.
    """

    datagram_max_bytes: int = 65_507
    datagrams_per_turn: int = 64
    receive_buffer_bytes: int | None = 1024 * 1024
    send_queue_max_bytes: int = 1024 * 1024
    send_queue_max: int = 1024
    source_rate_per_s: float = 50_000.0
    source_burst: float = 50_000.0
    sources_max: int = 4096

    def __post_init__(self) -> None:
        if not 1 <= self.datagram_max_bytes <= UDP_PAYLOAD_MAX_BYTES:
            raise ConfigError(
                f"datagram_max_bytes={self.datagram_max_bytes}: expected 1 to {UDP_PAYLOAD_MAX_BYTES}, the most UDP can carry"
            )
        for name in ("datagrams_per_turn", "receive_buffer_bytes", "send_queue_max", "sources_max", "source_burst"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise ConfigError(f"{name}={value}: expected at least 1, and less than 2**31")
        if not 0 < self.source_rate_per_s < math.inf:
            raise ConfigError(f"source_rate_per_s={self.source_rate_per_s}: expected a positive number of datagrams per second")
        if self.send_queue_max_bytes < self.datagram_max_bytes:
            raise ConfigError(
                f"send_queue_max_bytes={self.send_queue_max_bytes} must hold one datagram of datagram_max_bytes={self.datagram_max_bytes}"
            )


class DatagramStats(msgspec.Struct, frozen=True):
    """A UDP endpoint at one moment, counted since it was opened.

    Attributes:
        received: given to the protocol. received_bytes: their payload.
        sent: taken by the kernel. sent_bytes: their payload.
        dropped: how many by reason; without `kernel` where the kernel cannot tell.
        protocol_failures: how often a callback of the protocol raised.
        queued: datagrams that wait for the kernel to have room. queued_bytes: their payload.
        sources: how many sources have a limit of their own at this moment.
        receive_buffer_bytes, send_buffer_bytes: what the kernel gave, as it says it; Linux counts its overhead and says double.
    """

    received: int
    received_bytes: int
    sent: int
    sent_bytes: int
    dropped: Mapping[DropReason, int]
    protocol_failures: int
    queued: int
    queued_bytes: int
    sources: int
    receive_buffer_bytes: int
    send_buffer_bytes: int


class DatagramEndpoint(Protocol):
    """A UDP endpoint that is open, and the protocol it hosts.

    The order of calls on the protocol, which every endpoint keeps to:

        connection_made  ( datagram_received | error_received | pause_writing | resume_writing )*  connection_lost

    `connection_lost(None)` comes exactly once if `connection_made` came, and last, from the loop. What a callback raises is a fact, and
    the endpoint lives; only `connection_made` may refuse, which closes it.
    """

    @property
    def address(self) -> Address:
        """Where it is bound, with the port the kernel chose; of a connected one, its peer."""

    @property
    def transport(self) -> asyncio.DatagramTransport:
        """What the protocol was given in `connection_made`."""

    @property
    def protocol(self) -> asyncio.DatagramProtocol:
        """What `make_protocol` made, unless `set_protocol` put another in its place."""

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done when it is over: `connection_lost` has been called."""

    def stats(self) -> DatagramStats:
        """What has come, gone and been dropped."""

    def close(self) -> None:
        """Receive no more, send what is queued, then close; bounded in time. Idempotent."""

    def abort(self) -> None:
        """Close now, and drop what is queued. Idempotent."""


class Network(Protocol):
    """Makes links. The kernel's is in `network.py`, one inside the process in `memory.py`."""

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        """Open a link; its receiver has had `link_made` when this returns.

        Raises: Unavailable naming the address and the reason. ConfigError for an address this network cannot reach by its nature.
        Cancel: loses nothing. No socket stays open; a receiver that had `link_made` gets `link_lost`.
        """

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        """Accept links at `address`, each with a receiver of its own, until closed. `when_full`: what to do beside turning peers away.

        Raises: ConfigError saying why not, and what to do: port in use, no such interface, path taken.
        Cancel: loses nothing; before the return nothing is open.
        """

    async def datagrams(
        self,
        address: Address,
        make_protocol: Callable[[], asyncio.DatagramProtocol],
        options: DatagramOptions,
        emit: Emit,
        *,
        connect: bool,
    ) -> DatagramEndpoint:
        """Open a UDP endpoint: connected to `address`, or bound to it. Its protocol has had `connection_made` when this returns.

        Raises: ConfigError for an address this network cannot use, or cannot bind to. Unavailable when a connected one has no way there.
            What `make_protocol` or its `connection_made` raises.
        Cancel: loses nothing; before the return nothing is open.
        """

    async def lookup(self, address: Address) -> list[Address]:
        """What an address stands for at the moment, as addresses of the same scheme without names; itself where there is no name.

        Raises: OSError with a message for people. Cancel: loses nothing.
        """
