"""The transport a hosted protocol talks to.

Owns: what a protocol may ask of its connection, said to a link. A protocol cannot tell it from the loop's own, but for what stands on
docs/en/howto/protocols.md: it cannot close one direction alone, and gives no socket.

What may never happen here: a callback of the protocol; those are `hosted.py`'s, and come from the loop.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import constants, transports
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from ..context import Peer
from ..errors import ConfigError
from .address import parse_address
from .link import HIGH_WATER_BYTES, LOW_WATER_BYTES, Link
from .tls import TlsLink

if TYPE_CHECKING:
    _Base = asyncio.Transport
else:  # `loop.sendfile` of asyncio asks for this class before it falls back to reading and writing
    _Base = getattr(transports, "_FlowControlMixin", asyncio.Transport)


class LinkTransport(_Base):
    """What a hosted protocol writes to.

    `get_extra_info` knows `holdfast.peer` (a `context.Peer`), and `peername` and `sockname` as a socket has them; over TLS `ssl_object`,
    `sslcontext`, `peercert`, `cipher` and `compression` too. `socket` is None, because nobody else may read from or write to it.

    Args:
        on_close: called when somebody asks for the end by `close` or `abort`, each time.
    """

    __slots__ = ("_buffered", "_high_bytes", "_link", "_low_bytes", "_on_close", "_protocol", "_protocol_paused", "_reading", "__weakref__")
    _sendfile_compatible = constants._SendfileMode.FALLBACK
    _start_tls_compatible = False

    def __init__(self, link: Link, protocol: asyncio.BaseProtocol, on_close: Callable[[], None]) -> None:
        self._link = link
        self._on_close = on_close
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._protocol_paused = False
        self._reading = True
        self._high_bytes, self._low_bytes = HIGH_WATER_BYTES, LOW_WATER_BYTES

    def __repr__(self) -> str:
        return f"<LinkTransport {self._link.local} to {self._link.peer}{' closing' if self._link.is_closing() else ''}>"

    # -------------------------------------------------------------------------------------------------------------------- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; they are copied, unless they are `bytes`. Never blocks; dropped once the transport is closing.

        Raises: TypeError for what is no bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"expected bytes to write, and got {type(data).__name__}")
        self._link.write(data if type(data) is bytes else bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of them with one write."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """How many written bytes have not left the process."""
        return self._link.write_buffer_bytes()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark, in bytes."""
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Move the marks of `pause_writing` (above `high` bytes) and `resume_writing` (at `low`).

        One mark gives the other, a quarter or four times as much; without any they are what links have, 256 and 64 KiB.
        Raises: ValueError unless high >= low >= 0.
        """
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high={high} and low={low}: expected high >= low >= 0")
        self._high_bytes, self._low_bytes = high, low
        self._link.set_write_limits(high, low)

    def can_write_eof(self) -> bool:
        """No: a link is closed in both directions at once, as TLS is."""
        return False

    def write_eof(self) -> None:
        """Raises: NotImplementedError, as on TLS; ask `can_write_eof` first."""
        raise NotImplementedError("a link cannot close one direction alone; can_write_eof() says so")

    # -------------------------------------------------------------------------------------------------------------------- reading

    def pause_reading(self) -> None:
        """Give the protocol no more data; the peer will be slowed down. Idempotent."""
        self._reading = False
        self._link.pause_reading()

    def resume_reading(self) -> None:
        """Give the protocol data again. Idempotent."""
        self._reading = True
        self._link.resume_reading()

    def is_reading(self) -> bool:
        """Whether the protocol gets data that comes."""
        return self._reading and not self._link.is_closing()

    # ------------------------------------------------------------------------------------------------------------------------ end

    def close(self) -> None:
        """Take no more data, send what is written, then close; `connection_lost(None)` follows."""
        self._on_close()
        self._link.close()

    def abort(self) -> None:
        """Close now and drop what is written; over TCP the peer sees a reset. `connection_lost(None)` follows."""
        self._on_close()
        self._link.abort()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is lost."""
        return self._link.is_closing()

    # --------------------------------------------------------------------------------------------------------------- who, and what

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes from now on to another protocol. It is not told `connection_made`; whoever switches says what it must know."""
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that gets the data; None once the connection is lost."""
        return cast("asyncio.BaseProtocol", self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection; see the class."""
        if name == "holdfast.peer":
            return Peer(self._link.peer, certificate=self._link.certificate)
        found: Any = None
        if name == "peername":
            found = _socket_name(self._link.peer)
        elif name == "sockname":
            found = _socket_name(self._link.local)
        elif isinstance(self._link, TlsLink) and self._link.ssl_object is not None:
            found = _ssl_info(self._link.ssl_object, name)
        return default if found is None else found


def _ssl_info(ssl_object: ssl.SSLObject, name: str) -> Any:
    """What the loop's own TLS transports tell under that name."""
    if name == "ssl_object":
        return ssl_object
    if name == "sslcontext":
        return ssl_object.context
    if name == "peercert":
        return ssl_object.getpeercert()
    return ssl_object.cipher() if name == "cipher" else ssl_object.compression() if name == "compression" else None


def _socket_name(printed: str) -> tuple[str, int] | tuple[str, int, int, int] | str | None:
    """A link's end as a socket would give it: (host, port), four parts for IPv6, a path for Unix, None for what has no such name."""
    try:
        address = parse_address(printed)
    except ConfigError:
        return None
    if address.scheme == "unix":
        return address.path
    if address.scheme == "memory":
        return None
    return (address.host, address.port, 0, 0) if ":" in address.host else (address.host, address.port)
