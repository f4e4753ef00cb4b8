"""A base for protocols that speak in messages: whole messages come in, whole messages go out.

Owns: bytes between a transport and a framing, in both directions, and the bound on what waits for a peer that does not read.
What may never happen here: a message after the end; a buffer without a bound; a decision about what a message means.
"""

from __future__ import annotations

import asyncio
from typing import cast

from ..framing import Bytes, Framing, FramingError

SEND_MAX_BYTES = 1024 * 1024
"""What may wait for one peer: four times what makes a link say pause, and 1,000 peers that do not read hold 1 GiB."""


class Framed(asyncio.Protocol):
    """One connection that carries messages. Derive from it, and give it a framing of its own; it works on any asyncio transport.

        class Echo(Framed):
            def __init__(self) -> None:
                super().__init__(Lines())

            def message_received(self, message: bytes) -> None:
                self.send(message)

    Args:
        framing: one object for each connection.
        send_max_bytes: what may wait to be sent; see `overflowed`.

    Attributes:
        transport: from `connection_made` on.
    """

    def __init__(self, framing: Framing, *, send_max_bytes: int = SEND_MAX_BYTES) -> None:
        self.framing = framing
        self.send_max_bytes = send_max_bytes
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    # -------------------------------------------------------------------------------------------------------------- to be overridden

    def message_received(self, message: bytes) -> None:
        """A whole message came. After `transport.close()` none comes any more."""

    def framing_failed(self, error: FramingError) -> None:
        """The peer sent what is no message; no other one will come. Unless overridden, the connection is closed after what was written."""
        self.transport.close()

    def overflowed(self) -> None:
        """`send` would have more than `send_max_bytes` wait for a peer that does not read. Unless overridden, the connection is cut."""
        self.transport.abort()

    # ------------------------------------------------------------------------------------------------------------------------- to use

    def send(self, message: Bytes) -> bool:
        """Send one message. Never blocks.

        Returns: False when it was dropped: the connection is closing, or its peer does not read (then `overflowed` was called).
        Raises: InvalidArgument when this framing cannot carry it.
        """
        data = self.framing.encode(message)
        transport = self.transport
        if transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(data) > self.send_max_bytes:
            self.overflowed()
            return False
        transport.write(data)
        return True

    # ------------------------------------------------------------------------------------------------------------ from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. Whoever overrides this calls it first."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Make messages of what came, and give them one after the other."""
        failed: FramingError | None = None
        try:
            messages = self.framing.feed(data)
        except FramingError as error:
            messages, failed = error.messages, error
        for message in messages:
            if self.transport.is_closing():
                return
            self.message_received(message)
        if failed is not None and not self.transport.is_closing():
            self.framing_failed(failed)

    def eof_received(self) -> bool | None:
        """The peer will send no more; the connection closes after this. `framing_failed` is told when it stopped inside a message."""
        try:
            self.framing.eof()
        except FramingError as error:
            if not self.transport.is_closing():
                self.framing_failed(error)
        return None
