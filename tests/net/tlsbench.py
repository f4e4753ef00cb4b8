"""A TlsLink between a link below that does what the test says and, at the other end, Python's own SSLObject. No loop, no socket."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.control.wheel import Wheel
from holdfast.net.tls import Opening, TlsLink
from tests.control.test_wheel import FakeLoop
from tests.net.helpers import Recorder
from tests.net.papers import HOLDFAST, papers


class Below:
    """Keeps what is written, and what was asked of it."""

    local = "tcp://127.0.0.1:1"
    peer = "tcp://127.0.0.1:2"
    certificate = None

    def __init__(self) -> None:
        self.out = bytearray()
        self.writes: list[int] = []
        self.calls: list[str] = []
        self.limits = (0, 0)

    def write(self, data: bytes) -> bool:
        if {"close", "abort"} & set(self.calls):
            return False
        if data:
            self.writes.append(len(data))
            self.out += data
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return len(self.out)

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        self.limits = (high_bytes, low_bytes)

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.calls))

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


class Asked(Opening):
    """Writes down how the handshake went."""

    def __init__(self, make: Callable[[], Any], wheel: Wheel, *, server_side: bool, protocols: tuple[str, ...], contexts: Any) -> None:
        super().__init__(make, wheel, 5.0, protocols)
        self.waits_for_hello = server_side
        self.contexts = contexts
        self.told: list[str] = []

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        self.told.append("begin")
        if self.waits_for_hello:
            return self.contexts.current.wrap_bio(incoming, outgoing, server_side=True)
        return self.contexts.current.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def began(self, link: TlsLink) -> bool:
        self.told.append("began")
        return True

    def opened(self, link: TlsLink) -> None:
        self.told.append("opened")

    def heard(self, sslobj: ssl.SSLObject) -> None:
        self.told.append("heard")

    def refused(self, link: TlsLink, error: Exception) -> None:
        self.told.append(f"refused: {error}")


class Bench:
    """One connection; ours is the server unless said otherwise.

    Attributes:
        link, receiver: ours. sslobj: the other end. rest: what our link left unused.
    """

    def __init__(
        self,
        receiver: Recorder | None = None,
        *,
        ours: str = "server",
        protocols: tuple[str, ...] = HOLDFAST,
        theirs: ssl.SSLContext | None = None,
        **config: Any,
    ) -> None:
        self.loop = FakeLoop()
        self.receiver = receiver if receiver is not None else Recorder()
        self.below = Below()
        self.rest = b""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wheel = self.wheel = Wheel(self.loop.now, self.loop.call_at)
        server_side = ours == "server"
        contexts = papers().server_contexts(protocols, **config) if server_side else papers().client_contexts(protocols, **config)
        self.asked = Asked(lambda: self.receiver, wheel, server_side=server_side, protocols=protocols, contexts=contexts)
        self.link = TlsLink(self.asked)
        if server_side:
            context = theirs or papers().plain_client(*HOLDFAST)
            self.sslobj = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        else:
            context = theirs or papers().plain_server(*HOLDFAST)
            self.sslobj = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.link.link_made(self.below)

    def deliver(self, data: bytes) -> None:
        """What a link does with bytes from the kernel: what was left goes in front, and nobody may keep a view."""
        if self.below.is_closing():
            return
        piece = bytearray(self.rest + data)
        try:
            used = self.link.bytes_received(memoryview(piece))
        except Exception as error:
            self.below.calls.append("abort")
            self.lose(error)
            return
        assert 0 <= used <= len(piece)
        self.rest = bytes(piece[used:])
        piece[:] = b"\xdd" * len(piece)

    def lose(self, error: Exception | None = None) -> None:
        """The link below is over."""
        self.link.link_lost(error)

    def end(self) -> None:
        """The stream below ended, as TCP ends."""
        if not self.below.is_closing():
            self.link.eof_received()
        self.lose()

    def taken(self) -> bytes:
        """What our link wrote since the last look."""
        data, self.below.out = bytes(self.below.out), bytearray()
        return data

    def theirs(self) -> bytes:
        """What the other end has written since the last look."""
        return self.outgoing.read()

    def shake(self, *, deliver: Callable[[bytes], None] | None = None) -> Bench:
        """Go on until neither side has anything to say; errors of the other end are for the test."""
        deliver = deliver or self.deliver
        for _ in range(10):
            try:
                self.sslobj.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if self.outgoing.pending:
                deliver(self.outgoing.read())
            if not self.below.out:
                break
            self.incoming.write(self.taken())
        return self

    def shake_quietly(self) -> Bench:
        """As `shake`, where the other end may give up; `alerts` has what our link sent in the clear."""
        self.alerts: list[int] = []
        try:
            self.shake(deliver=self._noting)
        except ssl.SSLError:
            if self.outgoing.pending:
                self.deliver(self.outgoing.read())
        return self

    def _noting(self, data: bytes) -> None:
        self.deliver(data)
        found = self.alert()
        if found is not None:
            self.alerts.append(found)

    def send(self, data: bytes) -> None:
        """The other end writes, and ours gets it."""
        self.sslobj.write(data)
        self.deliver(self.theirs())

    def read(self) -> bytes:
        """What the other end reads of what our link wrote."""
        self.incoming.write(self.taken())
        data = bytearray()
        try:
            while part := self.sslobj.read(65536):
                data += part
        except ssl.SSLWantReadError:
            pass
        return bytes(data)

    def alert(self) -> int | None:
        """The alert that our link sent in the clear, as a number; None without one."""
        out = bytes(self.below.out)
        at = 0
        while at + 5 <= len(out):
            size = int.from_bytes(out[at + 3 : at + 5])
            if out[at] == 0x15 and size == 2:
                return out[at + 6]
            at += 5 + size
        return None
